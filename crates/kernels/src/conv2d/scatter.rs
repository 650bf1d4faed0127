//! The input gradient of a convolution with few input channels.
//!
//! With six channels the `gather` would fill six of sixteen lanes. Here the columns of the product are a whole kernel
//! row, kernel width x channels floats that stand side by side in dx: for each dy pixel and kernel row, the product of
//! its channels with that row's weights is added to dx. Small maps gain once more: `gather` walks all taps of every dx
//! pixel, of which those near the border meet only zeros.

use super::scratch;
use super::tile::{self, Addresses, ProductJob};
use super::{Conv2d, Conv2dShape};
use crate::simd::{Kernel, Simd};
use crate::threads::Shareable;
use crate::{Context, View4, ViewMut4};

/// Whether the input gradient can be computed this way.
pub(super) fn is_possible(shape: &Conv2dShape) -> bool {
    shape.dilation[1] == 1 && shape.kernel[1] * shape.input[2] / shape.groups <= LONGEST_ROW
}

/// Longer kernel rows have channels enough to fill the lanes of `gather`.
const LONGEST_ROW: usize = 128;

/// Vector multiply-adds worth a part.
const MULTIPLY_ADDS_A_PART: usize = 1 << 15;

fn tile_rows(convolution: &Conv2d) -> usize {
    tile::rows(convolution.isa, convolution.gradient_panels.width / convolution.isa.lanes())
}

/// Floats of a dy pixel's products: every kernel row, padded to whole panels.
fn products_len(convolution: &Conv2d) -> usize {
    let panels = &convolution.gradient_panels;
    convolution.shape.kernel[0] * panels.count * panels.width
}

/// Floats of a thread's products, and of its two tables of pointers.
fn scratch_pieces(convolution: &Conv2d) -> [usize; 3] {
    let rows = tile_rows(convolution);
    [rows * products_len(convolution), scratch::pointers(rows), scratch::pointers(rows)]
}

pub(super) fn scratch_len(convolution: &Conv2d, threads: usize) -> usize {
    threads * scratch_pieces(convolution).iter().sum::<usize>()
}

/// dx from dy; the public function has checked shapes and lengths.
pub(super) fn run(
    convolution: &Conv2d,
    context: Context,
    dy: View4,
    weight: &[f32],
    dx: &ViewMut4,
    scratch: &mut [f32],
) {
    let pieces = scratch_pieces(convolution);
    let a_thread = pieces.iter().sum::<usize>();
    scratch::check(scratch, a_thread * context.pool.at_once());
    let scratch = Shareable::new(scratch);
    let Conv2dShape { filters, groups, .. } = convolution.shape;
    let [oh, ow, _] = convolution.output;
    let an_image = oh * ow * groups * products_len(convolution) / context.isa.lanes() * (filters / groups);
    let images = MULTIPLY_ADDS_A_PART.div_ceil(an_image.max(1)).min(dy.n().max(1));
    context.pool.run(dy.n().div_ceil(images), |thread, part| {
        // SAFETY: each thread has its own range of the scratch memory, whose length is checked above.
        let scratch = unsafe { scratch.slice(thread * a_thread, a_thread) };
        let (products, pointers) = scratch.split_at_mut(pieces[0]);
        let (inputs, outputs) = pointers.split_at_mut(pieces[1]);
        context.isa.run(Images {
            convolution,
            range: [part * images, ((part + 1) * images).min(dy.n())],
            dy,
            weight,
            dx,
            products: products.as_mut_ptr(),
            inputs: inputs.as_mut_ptr().cast(),
            outputs: outputs.as_mut_ptr().cast(),
        });
    });
}

/// Some images of the batch.
struct Images<'a> {
    convolution: &'a Conv2d,
    range: [usize; 2],
    dy: View4<'a>,
    weight: &'a [f32],
    dx: &'a ViewMut4<'a>,
    /// `[pixel of the tile][kernel row][panels]`.
    products: *mut f32,
    inputs: *mut *const f32,
    outputs: *mut *mut f32,
}

impl Kernel for Images<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.convolution.gradient_panels.width / S::LANES {
            1 => self.each::<S, 1>(simd),
            2 => self.each::<S, 2>(simd),
            _ => self.each::<S, 3>(simd),
        }
    }
}

impl Images<'_> {
    #[inline(always)]
    fn each<S: Simd, const NV: usize>(&self, simd: S) {
        let [oh, ow, _] = self.convolution.output;
        let tile = tile::rows_for(S::REGISTERS, NV);
        for image in self.range[0]..self.range[1] {
            self.clear(image);
            for group in 0..self.convolution.shape.groups {
                for row in 0..oh {
                    for column in (0..ow).step_by(tile) {
                        let count = (ow - column).min(tile);
                        let first = (image * oh + row) * ow + column;
                        self.multiply::<S, NV>(simd, first, count, group);
                        self.add(simd, [image, row, column], count, group);
                    }
                }
            }
        }
    }

    /// Sets an image of dx to zero.
    #[inline(always)]
    fn clear(&self, image: usize) {
        let (dx, pixels) = (self.dx, self.dx.h() * self.dx.w());
        let (runs, run) = if dx.is_dense() { (1, pixels * dx.c()) } else { (pixels, dx.c()) };
        for index in 0..runs {
            let start = dx.pixel(image * pixels).wrapping_add(index * dx.ld());
            // SAFETY: the run lies in dx, and its image belongs to this part.
            unsafe { std::slice::from_raw_parts_mut(start, run) }.fill(0.0);
        }
    }

    /// The products of `count` dy pixels from `first` on with every kernel row.
    #[inline(always)]
    fn multiply<S: Simd, const NV: usize>(&self, simd: S, first: usize, count: usize, group: usize) {
        let panels = &self.convolution.gradient_panels;
        let products_len = products_len(self.convolution);
        let (tile, no_offset) = (tile::rows_for(S::REGISTERS, NV), 0isize);
        for place in 0..tile {
            let pixel = self.dy.pixel(first + place.min(count - 1)).wrapping_add(group * panels.rows);
            // SAFETY: the tables have room for a tile of pointers.
            unsafe {
                *self.inputs.add(place) = pixel;
                *self.outputs.add(place) = self.products.wrapping_add(place * products_len);
            }
        }
        let kh = self.convolution.shape.kernel[0];
        for panel in 0..kh * panels.count {
            let start = panels.start(group * kh, panel);
            let job = ProductJob {
                pixels: self.inputs,
                addresses: Addresses::Offsets(&no_offset),
                pitch: tile,
                taps: 1,
                start: 0,
                run: panels.rows,
                weight: self.weight.as_ptr().wrapping_add(start),
                outputs: self.outputs,
                next_outputs: self.outputs,
                output_step: 0,
                column: panel * panels.width,
                pixel_count: count,
                channel_count: panels.width,
                bias: std::ptr::null(),
                sums: std::ptr::null(),
                keep: std::ptr::null_mut(),
                residual: None,
                relu: false,
                stream: false,
                moments: None,
                ahead: [self.weight.as_ptr().wrapping_add(start); 2],
            };
            // SAFETY: a tile of dy pixels of `rows` channels, a whole panel of weights, and products with room for
            // every panel of every kernel row.
            unsafe { tile::product::<S, NV>(simd, &job) };
        }
    }

    /// Adds the products of `count` pixels to dx, leaving out what falls into the padding.
    #[inline(always)]
    fn add<S: Simd>(&self, simd: S, [image, row, column]: [usize; 3], count: usize, group: usize) {
        let Conv2dShape {
            input: [h, w, channels], kernel: [kh, kw], stride, padding, dilation, groups, ..
        } = self.convolution.shape;
        let c = channels / groups;
        let panels = &self.convolution.gradient_panels;
        let products_len = products_len(self.convolution);
        let is_run = self.dx.ld() == c;
        for place in 0..count {
            let left = ((column + place) * stride[1]) as isize - padding[3] as isize;
            let first_tap = (-left).max(0) as usize;
            let end_tap = (w as isize - left).clamp(0, kw as isize) as usize;
            if first_tap >= end_tap {
                continue;
            }
            let first_column = (left + first_tap as isize) as usize;
            for kernel_row in 0..kh {
                let at = (row * stride[0] + kernel_row * dilation[0]).wrapping_sub(padding[0]);
                if at >= h {
                    continue;
                }
                let from = place * products_len + kernel_row * panels.count * panels.width + first_tap * c;
                let from = self.products.cast_const().wrapping_add(from);
                let to = self.dx.pixel((image * h + at) * w + first_column).wrapping_add(group * c);
                // SAFETY: taps first_tap..end_tap of this kernel row lie in dx's row `at`, which belongs to this part;
                // the products have c floats for each.
                unsafe {
                    if is_run {
                        add_run(simd, from, to, (end_tap - first_tap) * c);
                    } else {
                        for tap in 0..end_tap - first_tap {
                            add_run(simd, from.add(tap * c), to.add(tap * self.dx.ld()), c);
                        }
                    }
                }
            }
        }
    }
}

/// to[i] += from[i]
///
/// # Safety
/// Both are valid for `count` floats and do not overlap.
#[inline(always)]
unsafe fn add_run<S: Simd>(simd: S, from: *const f32, to: *mut f32, count: usize) {
    let whole = count / S::LANES * S::LANES;
    // SAFETY: the caller vouches for `count` floats.
    unsafe {
        for at in (0..whole).step_by(S::LANES) {
            simd.store(to.add(at), simd.add(simd.load(to.add(at)), simd.load(from.add(at))));
        }
        let (rest, at) = (count - whole, whole);
        if rest > 0 {
            let sum = simd.add(simd.load_partial(to.add(at), rest), simd.load_partial(from.add(at), rest));
            simd.store_partial(to.add(at), sum, rest);
        }
    }
}
