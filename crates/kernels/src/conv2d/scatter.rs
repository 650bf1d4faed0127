//! The input gradient of a convolution with few input channels.
//!
//! With six channels the `gather` would fill six of sixteen lanes. Here the columns of the product are a whole
//! kernel row, kernel width x channels floats that stand side by side in dx. A dx row gathers over the kernel's
//! rows: the product of each dy column with all weights that meet this row, one long sum. Over the kernel's
//! columns the products, which overlap, are scattered: each is added to dx. Small maps gain once more: `gather`
//! walks all taps of every dx pixel, of which those near the border meet only zeros.
//!
//! The pixels of a tile are the same column of several images, then the next: a product that is added where the
//! one before it was added would wait until that has left the store buffer.

use super::scratch;
use super::tile::{self, Addresses, ProductJob};
use super::{Conv2d, Conv2dShape};
use crate::simd::{Kernel, Simd};
use crate::threads::Shareable;
use crate::{Context, View4, ViewMut4};
use std::ops::Range;

/// Whether the input gradient can be computed this way.
pub(super) fn is_possible(shape: &Conv2dShape) -> bool {
    shape.dilation[1] == 1 && shape.kernel[1] * shape.input[2] / shape.groups <= LONGEST_ROW
}

/// Longer kernel rows have channels enough to fill the lanes of `gather`.
const LONGEST_ROW: usize = 128;

/// Vector multiply-adds worth a part.
const MULTIPLY_ADDS_A_PART: usize = 1 << 15;

/// Images whose columns take turns, where there are so many for each thread.
const IMAGES_IN_TURN: usize = 8;

fn tile_rows(convolution: &Conv2d) -> usize {
    tile::rows(convolution.isa, convolution.gradient_panels.width / convolution.isa.lanes())
}

/// Floats of a dy pixel's products: a kernel row, padded to whole panels.
fn products_len(convolution: &Conv2d) -> usize {
    let panels = &convolution.gradient_panels;
    panels.count * panels.width
}

/// Floats of a thread's products, of its two tables of pointers, and of the offsets of kernel rows.
fn scratch_pieces(convolution: &Conv2d) -> [usize; 4] {
    let (rows, kernel_rows) = (tile_rows(convolution), convolution.shape.kernel[0]);
    [
        rows * products_len(convolution),
        scratch::pointers(rows),
        scratch::pointers(rows),
        scratch::pointers(kernel_rows),
    ]
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
    let Conv2dShape { kernel: [kh, _], filters, groups, .. } = convolution.shape;
    let [oh, ow, _] = convolution.output;
    let an_image = oh * ow * kh * filters * products_len(convolution) / context.isa.lanes();
    let in_turn = (dy.n() / (2 * context.pool.at_once())).min(IMAGES_IN_TURN);
    let images = MULTIPLY_ADDS_A_PART.div_ceil(an_image.max(1)).max(in_turn).min(dy.n().max(1));
    context.pool.run(dy.n().div_ceil(images), |thread, part| {
        // SAFETY: each thread has its own range of the scratch memory, whose length is checked above.
        let scratch = unsafe { scratch.slice(thread * a_thread, a_thread) };
        let (products, pointers) = scratch.split_at_mut(pieces[0]);
        let (inputs, pointers) = pointers.split_at_mut(pieces[1]);
        let (outputs, offsets) = pointers.split_at_mut(pieces[2]);
        let range = [part * images, ((part + 1) * images).min(dy.n())];
        for group in 0..groups {
            context.isa.run(Images {
                convolution,
                range,
                group,
                dy,
                weight,
                dx,
                products: products.as_mut_ptr(),
                inputs: inputs.as_mut_ptr().cast(),
                outputs: outputs.as_mut_ptr().cast(),
                offsets: offsets.as_mut_ptr().cast(),
            });
        }
    });
}

/// The kernel rows in the order of the packed weights: those that meet the same dx rows follow each other.
pub(super) fn kernel_rows(shape: &Conv2dShape) -> impl Iterator<Item = usize> {
    let (kh, apart) = (shape.kernel[0], rows_apart(shape));
    (0..apart).flat_map(move |first| (first..kh).step_by(apart))
}

/// Kernel rows from one that meets a dx row to the next: their distance is a multiple of the stride.
fn rows_apart(shape: &Conv2dShape) -> usize {
    let (stride, dilation) = (shape.stride[0], shape.dilation[0]);
    (1..=stride).find(|rows| (rows * dilation).is_multiple_of(stride)).unwrap_or(stride)
}

/// The kernel rows that a dx row meets.
struct Meeting {
    /// Place of the first among the packed ones.
    place: usize,
    /// The dy row that it meets.
    dy_row: usize,
    count: usize,
}

impl Meeting {
    /// Those of dx row `at`, if there are any.
    fn of(shape: &Conv2dShape, dy_rows: usize, at: usize) -> Option<Self> {
        let dy_row = |kernel_row: usize| {
            let down = (at + shape.padding[0]).checked_sub(kernel_row * shape.dilation[0])?;
            let row = down / shape.stride[0];
            (down.is_multiple_of(shape.stride[0]) && row < dy_rows).then_some(row)
        };
        let met = || kernel_rows(shape).enumerate().filter_map(|(place, row)| Some((place, dy_row(row)?)));
        let (place, dy_row) = met().next()?;
        Some(Self { place, dy_row, count: met().count() })
    }
}

/// Some images of the batch, a group of channels.
struct Images<'a> {
    convolution: &'a Conv2d,
    range: [usize; 2],
    group: usize,
    dy: View4<'a>,
    weight: &'a [f32],
    dx: &'a ViewMut4<'a>,
    /// `[pixel of the tile][panels]`.
    products: *mut f32,
    inputs: *mut *const f32,
    outputs: *mut *mut f32,
    offsets: *mut isize,
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
        let shape = &self.convolution.shape;
        let [oh, ow, _] = self.convolution.output;
        let tile = tile::rows_for(S::REGISTERS, NV);
        let images = self.range[1] - self.range[0];
        for row in 0..shape.input[0] {
            self.clear(row);
            let Some(meeting) = Meeting::of(shape, oh, row) else { continue };
            self.write_offsets(&meeting);
            for first in (0..images * ow).step_by(tile) {
                let pixels = first..(first + tile).min(images * ow);
                self.multiply::<S, NV>(simd, &meeting, pixels.clone());
                self.add(simd, row, pixels);
            }
        }
    }

    /// The images and columns of the pixels from `first` on: a column of each image, then the next.
    #[inline(always)]
    fn places(&self, first: usize) -> impl Iterator<Item = [usize; 2]> {
        let [begin, end] = self.range;
        let (image, column) = (begin + first % (end - begin), first / (end - begin));
        std::iter::successors(Some([image, column]), move |&[image, column]| match image + 1 {
            next if next < end => Some([next, column]),
            _ => Some([begin, column + 1]),
        })
    }

    /// Sets a row of each image of dx to zero, for this group of channels.
    #[inline(always)]
    fn clear(&self, row: usize) {
        let (dx, groups) = (self.dx, self.convolution.shape.groups);
        let c = dx.c() / groups;
        let (runs, run) = if dx.ld() == c { (1, dx.w() * c) } else { (dx.w(), c) };
        for image in self.range[0]..self.range[1] {
            let start = dx.pixel((image * dx.h() + row) * dx.w()).wrapping_add(self.group * c);
            for index in 0..runs {
                let start = start.wrapping_add(index * dx.ld());
                // SAFETY: the run lies in dx, and its image belongs to this part.
                unsafe { std::slice::from_raw_parts_mut(start, run) }.fill(0.0);
            }
        }
    }

    /// Where the dy rows are that the kernel rows meet, from the first.
    #[inline(always)]
    fn write_offsets(&self, meeting: &Meeting) {
        let shape = &self.convolution.shape;
        let rows_up = rows_apart(shape) * shape.dilation[0] / shape.stride[0];
        let step = rows_up * self.convolution.output[1] * self.dy.ld();
        for index in 0..meeting.count {
            // SAFETY: there is an offset for each kernel row.
            unsafe { *self.offsets.add(index) = -((index * step) as isize) };
        }
    }

    /// The products of some dy pixels with the kernel rows that a dx row meets.
    #[inline(always)]
    fn multiply<S: Simd, const NV: usize>(&self, simd: S, meeting: &Meeting, pixels: Range<usize>) {
        let panels = &self.convolution.gradient_panels;
        let Conv2dShape { filters, groups, .. } = self.convolution.shape;
        let ([oh, ow, _], channels) = (self.convolution.output, filters / groups);
        let (tile, products_len) = (tile::rows_for(S::REGISTERS, NV), products_len(self.convolution));
        let mut places = self.places(pixels.start);
        let mut pixel = std::ptr::null();
        for index in 0..tile {
            // A tile that is not full computes the rest on copies of its last pixel.
            if let (true, Some([image, column])) = (index < pixels.len(), places.next()) {
                pixel = self.dy.pixel((image * oh + meeting.dy_row) * ow + column);
                pixel = pixel.wrapping_add(self.group * channels);
            }
            // SAFETY: the tables have room for a tile of pointers.
            unsafe {
                *self.inputs.add(index) = pixel;
                *self.outputs.add(index) = self.products.wrapping_add(index * products_len);
            }
        }
        for panel in 0..panels.count {
            let start = panels.start(self.group, panel) + meeting.place * channels * panels.width;
            let weight = self.weight.as_ptr().wrapping_add(start);
            let job = ProductJob {
                taps: meeting.count,
                run: channels,
                weight,
                column: panel * panels.width,
                pixel_count: pixels.len(),
                channel_count: panels.width,
                ahead: [weight; 2],
                ..ProductJob::new(self.inputs, Addresses::Offsets(self.offsets), tile, self.outputs)
            };
            // SAFETY: a tile of dy pixels of `channels` floats in each row met, the weights of as many kernel
            // rows, and products with room for every panel.
            unsafe { tile::product::<S, NV>(simd, &job) };
        }
    }

    /// Adds the products of some pixels to a row of dx, leaving out what falls into the padding.
    #[inline(always)]
    fn add<S: Simd>(&self, simd: S, row: usize, pixels: Range<usize>) {
        let Conv2dShape { input: [h, w, channels], kernel: [_, kw], stride, padding, groups, .. } =
            self.convolution.shape;
        let (c, products_len) = (channels / groups, products_len(self.convolution));
        let is_run = self.dx.ld() == c;
        for (index, [image, column]) in self.places(pixels.start).take(pixels.len()).enumerate() {
            let left = (column * stride[1]) as isize - padding[3] as isize;
            let first_tap = (-left).max(0) as usize;
            let end_tap = (w as isize - left).clamp(0, kw as isize) as usize;
            if first_tap >= end_tap {
                continue;
            }
            let first_column = (left + first_tap as isize) as usize;
            let from = self.products.cast_const().wrapping_add(index * products_len + first_tap * c);
            let to = self.dx.pixel((image * h + row) * w + first_column).wrapping_add(self.group * c);
            // SAFETY: taps first_tap..end_tap of a kernel row lie in this row of dx, which belongs to this
            // part; the products have c floats for each.
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
