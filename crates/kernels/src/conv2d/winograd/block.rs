//! What happens to a block of tiles: transforms into V, products, and the transform of M into outputs.

use super::super::moments::{Group, Running};
use super::super::tile::{self, Addresses, ProductJob};
use super::super::winograd_transform::{FREQUENCIES, Form, INPUTS, input_line, output_line};
use super::Winograd;
use crate::activation::finish;
use crate::simd::{Kernel, Simd};
use crate::{Activation, View4, ViewMut4};
use std::ops::Range;

/// A block of tiles: transformed, multiplied, transformed back.
pub(super) struct Block<'a> {
    pub winograd: &'a Winograd,
    pub x: View4<'a>,
    pub transformed: &'a [f32],
    pub bias: Option<&'a [f32]>,
    /// Floats from an output to its residual.
    pub residual: Option<isize>,
    pub activation: Activation,
    /// The group to which the block's results are added.
    pub moments: Option<Group>,
    pub y: &'a ViewMut4<'a>,
    /// The panels of U that are multiplied, and whether they must be asked for.
    pub panels: Range<usize>,
    pub fetches: bool,
    /// The first tile, and how many.
    pub first: usize,
    pub count: usize,
    /// V, `[frequency][tile][channel]`, and the floats from one frequency to the next.
    pub v: *mut f32,
    pub v_step: usize,
    /// M, `[frequency][tile][output channel]`.
    pub m: *mut f32,
    pub m_step: usize,
    /// Tables with room for a pointer a tile.
    pub inputs: *mut *const f32,
    pub outputs: *mut *mut f32,
    /// As many as channels.
    pub zeros: *const f32,
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for place in 0..self.count {
            simd.enter(TransformInput { block: &self, place });
        }
        match self.winograd.panels.width / S::LANES {
            1 => self.multiply::<S, 1>(simd),
            2 => self.multiply::<S, 2>(simd),
            _ => self.multiply::<S, 3>(simd),
        }
        match (self.winograd.form, self.moments.is_some()) {
            (Form::Kernel3, false) => self.transform_outputs::<S, 4, false>(simd),
            (Form::Kernel3, true) => self.transform_outputs::<S, 4, true>(simd),
            (Form::Kernel5, false) => self.transform_outputs::<S, 2, false>(simd),
            (Form::Kernel5, true) => self.transform_outputs::<S, 2, true>(simd),
        }
    }
}

impl Block<'_> {
    /// Image, row and column of the tile at a place of the block.
    #[inline(always)]
    fn tile(&self, place: usize) -> [usize; 3] {
        let [rows, columns] = self.winograd.grid();
        let (tile, outputs) = (self.first + place, self.winograd.form.outputs());
        [tile / (rows * columns), tile / columns % rows * outputs, tile % columns * outputs]
    }

    /// The outputs of every tile.
    #[inline(always)]
    fn transform_outputs<S: Simd, const OUTPUTS: usize, const MOMENTS: bool>(&self, simd: S) {
        for place in 0..self.count {
            simd.enter(TransformOutput::<OUTPUTS, MOMENTS> { block: self, place });
            if self.activation.is_late() {
                simd.enter(FinishTile { block: self, place });
            }
        }
    }

    /// M = V U for every frequency.
    #[inline(always)]
    fn multiply<S: Simd, const NV: usize>(&self, simd: S) {
        let Winograd { panels, channels: [c, _], .. } = self.winograd;
        let (rows, k) = (tile::rows_for(S::REGISTERS, NV), panels.count * panels.width);
        let height = self.winograd.tiles_a_product(self.count);
        for place in 0..self.count.div_ceil(height) * rows {
            // A register tile that is not full computes its last tile more than once.
            let tile = (place / rows * height + (place % rows).min(height - 1)).min(self.count - 1);
            // SAFETY: the tables have room for a block's tiles, a multiple of `rows`.
            unsafe {
                *self.inputs.add(place) = self.v.wrapping_add(tile * c);
                *self.outputs.add(place) = self.m.wrapping_add(tile * k);
            }
        }
        let panel_len = c * panels.width;
        let mut later = self.needed_later();
        for frequency in 0..FREQUENCIES {
            let offset = (frequency * self.v_step) as isize;
            let weight = self.transformed.as_ptr().wrapping_add(frequency * self.winograd.frequency_len());
            for panel in self.panels.clone() {
                let weight = weight.wrapping_add(panel * panel_len);
                for (index, first) in (0..self.count).step_by(height).enumerate() {
                    // Each tile asks for `c` lines: the first ones for the next panel, which has NV times as
                    // many.
                    let ahead = if index < panels.width / tile::LINE && self.fetches {
                        weight.wrapping_add(panel_len + index * c * tile::LINE)
                    } else {
                        later.next(c * tile::LINE)
                    };
                    let (inputs, outputs) =
                        (self.inputs.wrapping_add(index * rows), self.outputs.wrapping_add(index * rows));
                    let job = ProductJob {
                        run: *c,
                        weight,
                        column: frequency * self.m_step + panel * panels.width,
                        pixel_count: (self.count - first).min(height),
                        channel_count: panels.width,
                        ahead: [ahead; 2],
                        ..ProductJob::new(inputs, Addresses::Offsets(&offset), rows, outputs)
                    };
                    // SAFETY: a tile of pointers to `c` floats of V, a whole panel of U, and room in M for
                    // every panel of every tile.
                    unsafe { tile::product::<S, NV>(simd, &job) };
                }
            }
        }
    }

    /// The memory that comes after the products: the outputs of this block and the inputs of the next. A row of
    /// tiles is a stretch of whole pixel rows, so stretches in proportion to the tiles cover nearly all of it.
    fn needed_later(&self) -> Later {
        let Winograd { input: [h, w], output: [oh, ow], channels: [c, k], .. } = *self.winograd;
        let tiles = self.winograd.tiles(1);
        let pixel = |place: usize, pixels: usize| (self.first + place) * pixels / tiles;
        let (x, y) = (self.x.pixel(0), self.y.pointer().cast_const());
        let [from, to] = [self.count, 2 * self.count].map(|place| pixel(place, h * w) + w);
        let [out_from, out_to] = [0, self.count].map(|place| pixel(place, oh * ow));
        let at = |x: *const f32, pixel: usize, ld: usize| x.wrapping_add(pixel * ld);
        let (x_ld, y_ld) = (self.x.ld().max(c), self.y.ld().max(k));
        Later {
            stretches: [[at(x, from, x_ld), at(x, to, x_ld)], [at(y, out_from, y_ld), at(y, out_to, y_ld)]],
        }
    }
}

/// Stretches of memory to ask for, one after the other.
struct Later {
    stretches: [[*const f32; 2]; 2],
}

impl Later {
    /// The next `floats` of them; the end of the last when all have been given.
    fn next(&mut self, floats: usize) -> *const f32 {
        let [first, second] = &mut self.stretches;
        let stretch = if first[0] < first[1] { first } else { second };
        let next = stretch[0];
        if next < stretch[1] {
            stretch[0] = next.wrapping_add(floats);
        }
        next
    }
}

/// V of one tile.
struct TransformInput<'a> {
    block: &'a Block<'a>,
    place: usize,
}

impl Kernel for TransformInput<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let block = self.block;
        let ([h, w], origin, c) = (block.winograd.input, block.winograd.origin, block.winograd.channels[0]);
        let [image, row, column] = block.tile(self.place);
        let mut pixels = [[block.zeros; INPUTS]; INPUTS];
        for i in 0..INPUTS {
            for j in 0..INPUTS {
                // A position before the first is a huge number.
                let at = [(row + i).wrapping_sub(origin[0]), (column + j).wrapping_sub(origin[1])];
                if at[0] < h && at[1] < w {
                    pixels[i][j] = block.x.pixel((image * h + at[0]) * w + at[1]);
                }
            }
        }
        let to = block.v.wrapping_add(self.place * c);
        for channel in (0..c).step_by(S::LANES) {
            let mut columns = [[simd.zero(); INPUTS]; INPUTS];
            for j in 0..INPUTS {
                // SAFETY: each pointer is to a pixel of x or to zeros, both of `c` floats, a multiple of LANES.
                let d = [0, 1, 2, 3, 4, 5].map(|i| unsafe { simd.load(pixels[i][j].add(channel)) });
                columns[j] = input_line(simd, d);
            }
            for i in 0..INPUTS {
                let line = input_line(simd, [0, 1, 2, 3, 4, 5].map(|j| columns[j][i]));
                for j in 0..INPUTS {
                    // SAFETY: V has `c` floats for each tile of each frequency.
                    unsafe { simd.store(to.add((i * INPUTS + j) * block.v_step + channel), line[j]) };
                }
            }
        }
    }
}

/// The outputs of one tile from M, and their `MOMENTS`.
struct TransformOutput<'a, const OUTPUTS: usize, const MOMENTS: bool> {
    block: &'a Block<'a>,
    place: usize,
}

impl<const OUTPUTS: usize, const MOMENTS: bool> Kernel for TransformOutput<'_, OUTPUTS, MOMENTS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let block = self.block;
        let Winograd { panels, output: [oh, ow], channels: [_, k], .. } = *block.winograd;
        let (first, end) = (block.panels.start * panels.width, (block.panels.end * panels.width).min(k));
        let [image, row, column] = block.tile(self.place);
        let (rows, columns) = ((oh - row).min(OUTPUTS), (ow - column).min(OUTPUTS));
        let from = block.m.cast_const().wrapping_add(self.place * panels.count * panels.width);
        for channel in (first..end).step_by(S::LANES) {
            let bias = match block.bias {
                // SAFETY: the bias has k floats, a multiple of LANES.
                Some(bias) => unsafe { simd.load(bias.as_ptr().add(channel)) },
                None => simd.zero(),
            };
            let mut lines = [[simd.zero(); OUTPUTS]; INPUTS];
            for j in 0..INPUTS {
                let at = |i: usize| (i * INPUTS + j) * block.m_step + channel;
                // SAFETY: M has k floats for each tile of each frequency.
                lines[j] =
                    output_line(simd, [0, 1, 2, 3, 4, 5].map(|i| unsafe { simd.load(from.add(at(i))) }));
            }
            let mut running = block.moments.filter(|_| MOMENTS).map(|group| {
                let line: [_; OUTPUTS] = output_line(simd, [0, 1, 2, 3, 4, 5].map(|j| lines[j][0]));
                let first = line[0];
                // SAFETY: the group has k channels, and is this thread's at those of its panels.
                unsafe { Running::new(simd, group, channel, self.place == 0, simd.add(first, bias)) }
            });
            for i in 0..OUTPUTS {
                if i >= rows {
                    break;
                }
                let line: [_; OUTPUTS] = output_line(simd, [0, 1, 2, 3, 4, 5].map(|j| lines[j][i]));
                for j in 0..OUTPUTS {
                    if j >= columns {
                        break;
                    }
                    let to = block.y.pixel((image * oh + row + i) * ow + column + j).wrapping_add(channel);
                    let mut value = simd.add(line[j], bias);
                    if let Some(residual) = block.residual {
                        // SAFETY: the residual has the shape and pixel distance of y.
                        value = simd.add(value, unsafe { simd.load(to.wrapping_offset(residual)) });
                    }
                    if let Some(running) = &mut running {
                        running.add(simd, j, value);
                    }
                    let value = if block.activation == Activation::Relu {
                        simd.max(simd.zero(), value)
                    } else {
                        value
                    };
                    // SAFETY: the pixel lies in y, and each tile belongs to one part.
                    unsafe { simd.store(to, value) };
                }
            }
            if let Some(running) = running {
                // SAFETY: as above.
                unsafe { running.end(simd) };
            }
        }
    }
}

/// Applies a late activation to the outputs of one tile, which have just been stored.
struct FinishTile<'a> {
    block: &'a Block<'a>,
    place: usize,
}

impl Kernel for FinishTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let block = self.block;
        let Winograd { panels, output: [oh, ow], channels: [_, k], form, .. } = *block.winograd;
        let (first, end) = (block.panels.start * panels.width, (block.panels.end * panels.width).min(k));
        let [image, row, column] = block.tile(self.place);
        let (rows, columns) = ((oh - row).min(form.outputs()), (ow - column).min(form.outputs()));
        let outputs = (0..rows * columns).map(|pixel| {
            let at = (image * oh + row + pixel / columns) * ow + column + pixel % columns;
            block.y.pixel(at).wrapping_add(first)
        });
        // SAFETY: the pixels lie in y, and their channels of these panels belong to this part.
        unsafe { finish(simd, block.activation, outputs, end - first) };
    }
}
