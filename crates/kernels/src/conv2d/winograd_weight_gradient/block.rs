//! What happens to a block of tiles: transforms into V and Z, products, and the transform of their sums into
//! dw.

use super::super::ahead::Ahead;
use super::super::packed_weight_gradient::{GROUP, reduce_group};
use super::super::tile::ReductionJob;
use super::super::winograd_transform::{
    FREQUENCIES, Form, INPUTS, input_line, output_gradient_line, weight_gradient_line,
};
use super::{Block, GAP, Pass, WeightGradient};
use crate::View4;
use crate::simd::{Kernel, Simd};
use std::ops::Range;

/// Pointers to SIZE x SIZE pixels of an image from `start` on, and to zeros where there is no pixel.
#[inline(always)]
fn pixels<const SIZE: usize>(
    view: &View4,
    zeros: *const f32,
    image: usize,
    start: [usize; 2],
) -> [[*const f32; SIZE]; SIZE] {
    let mut pixels = [[zeros; SIZE]; SIZE];
    for i in 0..SIZE {
        for j in 0..SIZE {
            // A position before the first is a huge number.
            let at = [start[0].wrapping_add(i), start[1].wrapping_add(j)];
            if at[0] < view.h() && at[1] < view.w() {
                pixels[i][j] = view.pixel((image * view.h() + at[0]) * view.w() + at[1]);
            }
        }
    }
    pixels
}

/// V and Z of a block for some units: first the groups of input channels, then the panels of output channels.
pub(super) struct Transform<'a> {
    pub block: &'a Block<'a>,
    pub units: Range<usize>,
}

impl Kernel for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { block, units } = self;
        let WeightGradient { panels, channels: [c, _], .. } = block.pass.gradient;
        let groups = c / GROUP;
        let inputs = units.start * GROUP..units.end.min(groups) * GROUP;
        let columns = |unit: usize| (unit.max(groups) - groups) * panels.width;
        let outputs = columns(units.start)..columns(units.end);
        if let (false, Some(dbias)) = (block.accumulate, block.dbias) {
            // SAFETY: the bias has a float for each output channel; these are this part's.
            unsafe { std::slice::from_raw_parts_mut(dbias.add(outputs.start), outputs.len()) }.fill(0.0);
        }
        for place in 0..block.count {
            if !inputs.is_empty() {
                simd.enter(TransformInput { block, place, channels: inputs.clone() });
            }
            if !outputs.is_empty() {
                let channels = outputs.clone();
                match block.pass.gradient.form {
                    Form::Kernel3 => simd.enter(TransformGradient::<4> { block, place, channels }),
                    Form::Kernel5 => simd.enter(TransformGradient::<2> { block, place, channels }),
                }
            }
        }
    }
}

/// V of one tile, for some channels.
struct TransformInput<'a> {
    block: &'a Block<'a>,
    place: usize,
    channels: Range<usize>,
}

impl Kernel for TransformInput<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { block, place, channels } = self;
        let [image, row, column] = block.tile(place);
        let [top, left] = block.pass.gradient.origin;
        let start = [row.wrapping_sub(top), column.wrapping_sub(left)];
        let pixels = pixels::<INPUTS>(&block.pass.x, block.pass.zeros.as_ptr(), image, start);
        for channel in channels.step_by(S::LANES) {
            let mut columns = [[simd.zero(); INPUTS]; INPUTS];
            for j in 0..INPUTS {
                // SAFETY: each pointer is to a pixel of x or to zeros, both of `c` floats, a multiple of LANES.
                let d = [0, 1, 2, 3, 4, 5].map(|i| unsafe { simd.load(pixels[i][j].add(channel)) });
                columns[j] = input_line(simd, d);
            }
            let to = channel / GROUP * FREQUENCIES * block.v_step + place * GROUP + channel % GROUP;
            for i in 0..INPUTS {
                let line = input_line(simd, [0, 1, 2, 3, 4, 5].map(|j| columns[j][i]));
                for j in 0..INPUTS {
                    // SAFETY: V has GROUP floats for each tile of each frequency of each group.
                    unsafe { simd.store(block.v.add(to + (i * INPUTS + j) * block.v_step), line[j]) };
                }
            }
        }
    }
}

/// Z of one tile, for some channels, and its share of the bias gradient.
struct TransformGradient<'a, const OUTPUTS: usize> {
    block: &'a Block<'a>,
    place: usize,
    channels: Range<usize>,
}

impl<const OUTPUTS: usize> Kernel for TransformGradient<'_, OUTPUTS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { block, place, channels } = self;
        let [image, row, column] = block.tile(place);
        let width = block.pass.gradient.panels.width;
        let pixels = pixels::<OUTPUTS>(&block.pass.dy, block.pass.zeros.as_ptr(), image, [row, column]);
        for channel in channels.step_by(S::LANES) {
            let mut columns = [[simd.zero(); INPUTS]; OUTPUTS];
            let mut sum = simd.zero();
            for j in 0..OUTPUTS {
                let mut z = [simd.zero(); OUTPUTS];
                for i in 0..OUTPUTS {
                    // SAFETY: each pointer is to a pixel of dy or to zeros, both of `k` floats, a multiple of
                    // LANES.
                    z[i] = unsafe { simd.load(pixels[i][j].add(channel)) };
                    sum = simd.add(sum, z[i]);
                }
                columns[j] = output_gradient_line(simd, z);
            }
            if let Some(dbias) = block.dbias {
                // SAFETY: the bias has k floats, a multiple of LANES, and these belong to this part.
                unsafe { simd.store(dbias.add(channel), simd.add(simd.load(dbias.add(channel)), sum)) };
            }
            let to = channel / width * FREQUENCIES * block.z_step + place * width + channel % width;
            for i in 0..INPUTS {
                let mut z = [simd.zero(); OUTPUTS];
                for j in 0..OUTPUTS {
                    z[j] = columns[j][i];
                }
                let line = output_gradient_line(simd, z);
                for j in 0..INPUTS {
                    // SAFETY: Z has a panel's width of floats for each tile of each frequency of each panel.
                    unsafe { simd.store(block.z.add(to + (i * INPUTS + j) * block.z_step), line[j]) };
                }
            }
        }
    }
}

/// Some cells of the weight gradient, from V and Z of a block.
pub(super) struct Multiply<'a> {
    pub block: &'a Block<'a>,
    pub cells: Range<usize>,
    /// The sums of a cell, `[frequency][input channel][output channel]`.
    pub sums: *mut f32,
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.block.pass.gradient.panels.width / S::LANES {
            1 => self.each::<S, 1>(simd),
            2 => self.each::<S, 2>(simd),
            _ => self.each::<S, 3>(simd),
        }
    }
}

impl Multiply<'_> {
    #[inline(always)]
    fn each<S: Simd, const NV: usize>(&self, simd: S) {
        let Pass { gradient, cut, .. } = self.block.pass;
        let (groups, count) = (gradient.channels[0] / GROUP, gradient.panels.count);
        for cell in self.cells.clone() {
            let (panels, group) = (cell / groups * cut.panels, cell % groups);
            let mut ahead = self.block.ahead(cell);
            for panel in panels..(panels + cut.panels).min(count) {
                self.sum::<S, NV>(simd, group, panel, &mut ahead);
                let Self { block, sums, .. } = *self;
                match gradient.form {
                    Form::Kernel3 => simd.enter(TransformSums::<3> { block, group, panel, sums }),
                    Form::Kernel5 => simd.enter(TransformSums::<5> { block, group, panel, sums }),
                }
            }
        }
    }

    /// The 36 sums over the block's tiles.
    #[inline(always)]
    fn sum<S: Simd, const NV: usize>(&self, simd: S, group: usize, panel: usize, ahead: &mut [Ahead; 2]) {
        let block = self.block;
        let width = NV * S::LANES;
        for index in 0..FREQUENCIES {
            ahead.iter_mut().for_each(|ahead| ahead.fetch(simd));
            let job = ReductionJob {
                x: block.v.wrapping_add((group * FREQUENCIES + index) * block.v_step),
                x_group: 0,
                x_step: [0, 0, GROUP],
                dy: block.z.wrapping_add((panel * FREQUENCIES + index) * block.z_step),
                dy_step: width,
                images: 1,
                rows: 1,
                columns: block.count,
                channel_count: width,
                sums: self.sums.wrapping_add(index * (GROUP * width + GAP)),
                sums_group: 0,
                accumulate: false,
            };
            // SAFETY: V and Z have a block's tiles for each frequency, the buffer a cell's sums.
            unsafe { reduce_group::<S, NV>(simd, job) };
        }
    }
}

/// dw of a cell from its sums.
struct TransformSums<'a, const KERNEL: usize> {
    block: &'a Block<'a>,
    group: usize,
    panel: usize,
    sums: *const f32,
}

impl<const KERNEL: usize> Kernel for TransformSums<'_, KERNEL> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { block, group, panel, sums } = self;
        let WeightGradient { panels, channels: [c, _], .. } = block.pass.gradient;
        let step = GROUP * panels.width + GAP;
        let cell = block.dweight.wrapping_add(panels.start(0, panel) + group * GROUP * panels.width);
        for at in (0..GROUP * panels.width).step_by(S::LANES) {
            let mut columns = [[simd.zero(); KERNEL]; INPUTS];
            for j in 0..INPUTS {
                // SAFETY: the sums have a cell's floats for each frequency.
                let u =
                    [0, 1, 2, 3, 4, 5].map(|i| unsafe { simd.load(sums.add((i * INPUTS + j) * step + at)) });
                columns[j] = weight_gradient_line(simd, u);
            }
            for i in 0..KERNEL {
                let line: [_; KERNEL] = weight_gradient_line(simd, [0, 1, 2, 3, 4, 5].map(|j| columns[j][i]));
                for j in 0..KERNEL {
                    let to = cell.wrapping_add((i * KERNEL + j) * c * panels.width + at);
                    // SAFETY: a panel has `c` rows for each tap, of its width, and each cell belongs to one
                    // part.
                    unsafe {
                        simd.store(
                            to,
                            if block.accumulate { simd.add(simd.load(to), line[j]) } else { line[j] },
                        );
                    }
                }
            }
        }
    }
}
