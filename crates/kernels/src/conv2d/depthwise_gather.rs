//! Forward pass and input gradient of a depthwise convolution.
//!
//! Both compute output pixels from windows of an input. A tile is a row of seven or eight pixels; the addresses
//! of the input pixels that it sees are computed once and serve all its channels, those outside the input
//! pointing to zeros, and those of output pixels behind the end of a row to memory that nobody reads.
//!
//! | windows | tile | loads for 63 multiply-adds |
//! |---|---|---|
//! | 3 x 3, side by side, 32 registers | 3 x 7 sums of the rows that an input row reaches, 9 weights | 9 |
//! | 3 x 3, side by side, 16 registers | 1 x 7 sums, 3 weights | 27 |
//! | 3 x 3, two apart | 1 x 7 sums, 9 or 3 weights | 45 |
//! | any taps | 1 x 7 sums | 63 |
//!
//! The first walks down a strip of rows and loads each input pixel once. That counts where a pixel's channels
//! are a multiple of a kilobyte: then all pixels compete for a few sets of the first-level cache, and none
//! stays there. While a strip is computed, what it or the strip below reads later is prefetched; without it,
//! 112 x 112 x 32 takes 1.4 times as long.

use super::depthwise::{Image, MOST_SIDE, ahead, corner_of_3x3, is_crowded, tile_side, unroll};
use super::taps::{Phase, Tap};
use super::{Forward, scratch, tile};
use crate::activation::finish;
use crate::parts::Parts;
use crate::simd::{Kernel, Simd};
use crate::threads::Shareable;
use crate::{Activation, Context, Isa, View4, ViewMut4};
use std::ops::Range;
use std::ptr::{null, null_mut};
use std::slice;

/// One pass, described by where it reads and writes.
pub(super) struct Gather<'a> {
    pub isa: Isa,
    pub channels: usize,
    /// Floats of a tap's weights: the channels, padded to whole vectors.
    pub width: usize,
    /// What output pixels see; each phase covers every `output_step`th row and column from its offset on.
    pub phases: &'a [Phase],
    /// Rows and columns of the input.
    pub input: [usize; 2],
    /// Input pixels from one window to the next.
    pub stride: [usize; 2],
    /// Rows and columns of the output.
    pub output: [usize; 2],
    pub output_step: [usize; 2],
}

/// Rows of a strip in a crowded cache: with more, the outputs drive out the inputs.
const CROWDED_ROWS: usize = 2;

/// Whether the registers hold the sums of three rows.
pub(super) const fn streams(registers: usize) -> bool {
    registers >= 32
}

impl Gather<'_> {
    /// Rows of a strip, and columns of its tiles.
    pub fn tile(&self) -> [usize; 2] {
        let largest =
            |axis: usize| self.phases.iter().map(|phase| phase.grid[axis]).max().unwrap_or_default();
        let squares = self.phases.iter().all(|phase| corner_of_3x3(&phase.taps).is_some());
        let streams = squares && self.stride == [1, 1] && streams(tile::registers(self.isa));
        let rows = match streams {
            true if is_crowded(self.channels) => CROWDED_ROWS,
            true => tile_side(largest(0)),
            false => 1,
        };
        [rows, tile_side(largest(1))]
    }

    /// Floats of zeros, which all threads read.
    pub fn zeros_len(&self) -> usize {
        self.width.next_multiple_of(16)
    }

    /// Floats of a thread's scratch memory: what surplus pixels write, and the generic tile's addresses.
    fn scratch_pieces(&self) -> [usize; 2] {
        let taps = self.phases.iter().map(|phase| phase.taps.len()).max().unwrap_or_default();
        let words = taps * MOST_SIDE * size_of::<usize>() / size_of::<f32>();
        [self.width.next_multiple_of(16), words.next_multiple_of(16)]
    }

    /// Floats of a thread's scratch memory in all.
    pub fn thread_len(&self) -> usize {
        self.scratch_pieces().iter().sum()
    }

    /// The zeros come first, and each thread's own pieces follow.
    pub fn scratch_len(&self, threads: usize) -> usize {
        self.zeros_len() + threads * self.thread_len()
    }

    /// Computes every pixel of `output`, without residual. The caller has checked shapes and weight length.
    pub fn run(&self, context: Context, forward: Forward, output: &ViewMut4, scratch: &mut [f32]) {
        let Forward { x: input, weight, bias, activation, .. } = forward;
        scratch::check(scratch, self.scratch_len(context.pool.at_once()));
        let (zeros, scratch) = scratch.split_at_mut(self.zeros_len());
        zeros.fill(0.0);
        let filter = Filter { weight, bias, activation, zeros };
        let ([tile_rows, _], height) = (self.tile(), self.height());
        let groups = height.div_ceil(tile_rows);
        let a_group = tile_rows * self.output_step[0] * self.output[1] * self.channels;
        let parts = Parts::new(input.n() * groups, a_group);
        let (a_thread, scratch) = (self.thread_len(), Shareable::new(scratch));
        context.pool.run(parts.count(), |thread, part| {
            // SAFETY: each thread has its own range of the scratch memory, whose length is checked above.
            let scratch = unsafe { scratch.slice(thread * a_thread, a_thread) };
            let row = |group: usize| group / groups * height + group % groups * tile_rows;
            let groups = parts.range(part);
            self.run_rows(
                input,
                filter,
                row(groups.start)..row(groups.end),
                Place { output, first: 0 },
                scratch,
            );
        });
    }

    /// Rows of an image in the phase that has most of them.
    fn height(&self) -> usize {
        self.phases.iter().map(|phase| phase.grid[0]).max().unwrap_or_default()
    }

    /// Computes some rows of each phase on this thread, counted over all images, each of which has as many as
    /// the phase with the most. `scratch` is [`Self::thread_len`] floats.
    pub fn run_rows(
        &self,
        input: View4,
        filter: Filter,
        rows: Range<usize>,
        place: Place,
        scratch: &mut [f32],
    ) {
        let (surplus, addresses) = scratch.split_at_mut(self.scratch_pieces()[0]);
        let (surplus, addresses) = (surplus.as_mut_ptr(), addresses.as_mut_ptr().cast());
        self.isa.run(Rows { gather: self, input, filter, rows, place, surplus, addresses });
    }
}

/// What windows are multiplied with.
#[derive(Clone, Copy)]
pub(super) struct Filter<'a> {
    pub weight: &'a [f32],
    pub bias: Option<&'a [f32]>,
    pub activation: Activation,
    /// [`Gather::zeros_len`] of them: what windows see outside the input.
    pub zeros: &'a [f32],
}

/// Where output pixels are written.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub output: &'a ViewMut4<'a>,
    /// Pixels of the whole output before the first of this view.
    pub first: usize,
}

/// Some rows of each phase.
struct Rows<'a> {
    gather: &'a Gather<'a>,
    input: View4<'a>,
    filter: Filter<'a>,
    /// Counted over all images.
    rows: Range<usize>,
    place: Place<'a>,
    /// A pixel of this thread's, written by pixels that do not exist.
    surplus: *mut f32,
    /// This thread's room for the addresses of the generic tile.
    addresses: *mut *const f32,
}

/// The rows of a phase that one row of tiles computes.
#[derive(Clone, Copy)]
struct Strip<'a> {
    phase: &'a Phase,
    image: usize,
    first_row: usize,
}

/// What a tile reads and writes. Plain pointers: the driver has checked the geometry once.
struct Tile {
    /// The input pixels; how many and in which order is the tile's own.
    inputs: *const *const f32,
    /// The output pixels, row by row.
    outputs: *const *mut f32,
    /// The first tap's weights.
    weight: *const f32,
    /// Floats from a tap's weights to the next tap's.
    width: usize,
    /// Null for none.
    bias: *const f32,
    activation: Activation,
    channels: usize,
    /// How many floats behind an input that is read another is prefetched.
    ahead: usize,
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let ([tile_rows, _], height) = (self.gather.tile(), self.gather.height());
        let mut row = self.rows.start;
        while row < self.rows.end {
            let (image, first_row) = (row / height, row % height);
            let rows = tile_rows.min(height - first_row).min(self.rows.end - row);
            for phase in self.gather.phases {
                let rows = phase.grid[0].saturating_sub(first_row).min(rows);
                if rows > 0 {
                    self.strip(simd, Strip { phase, image, first_row }, rows);
                }
            }
            row += rows;
        }
    }
}

impl Rows<'_> {
    /// A strip of some rows, as many as a tile has at most.
    #[inline(always)]
    fn strip<S: Simd>(&self, simd: S, strip: Strip, rows: usize) {
        let (corner, columns) = (corner_of_3x3(&strip.phase.taps), tile_side(strip.phase.grid[1]));
        match (corner, self.gather.stride, columns) {
            (Some(corner), [1, 1], 7) if streams(S::REGISTERS) => {
                self.stream::<S, 7>(simd, strip, rows, corner);
            }
            (Some(corner), [1, 1], _) if streams(S::REGISTERS) => {
                self.stream::<S, 8>(simd, strip, rows, corner);
            }
            (Some(corner), [1, 1], 7) => self.squares::<S, 7, 1>(simd, strip, corner),
            (Some(corner), [1, 1], _) => self.squares::<S, 8, 1>(simd, strip, corner),
            (Some(corner), [2, 2], 7) => self.squares::<S, 7, 2>(simd, strip, corner),
            (Some(corner), [2, 2], _) => self.squares::<S, 8, 2>(simd, strip, corner),
            (_, _, 7) => self.any_taps::<S, 7>(simd, strip),
            _ => self.any_taps::<S, 8>(simd, strip),
        }
    }

    /// A strip of some rows whose pixels see neighbouring 3 x 3 windows.
    #[inline(always)]
    fn stream<S: Simd, const COLUMNS: usize>(&self, simd: S, strip: Strip, rows: usize, corner: Tap) {
        let seen = [rows + 2, COLUMNS + 2];
        let mut inputs = [null(); (MOST_SIDE + 2) * (MOST_SIDE + 2)];
        let mut outputs = [null_mut(); MOST_SIDE * MOST_SIDE];
        let image = self.image(strip.image);
        for column in (0..strip.phase.grid[1]).step_by(COLUMNS) {
            let first =
                [strip.first_row.wrapping_add_signed(corner.row), column.wrapping_add_signed(corner.column)];
            image.window(first, seen, &mut inputs);
            for row in 0..rows {
                let outputs = &mut outputs[row * COLUMNS..][..COLUMNS];
                self.outputs(Strip { first_row: strip.first_row + row, ..strip }, column, outputs);
            }
            let below = rows * self.gather.input[1] * self.input.ld();
            let ahead = ahead(self.gather.channels, below);
            let tile = self.tile(strip.phase, inputs.as_ptr(), outputs.as_ptr(), ahead);
            let whole = tile.channels / S::LANES * S::LANES;
            // SAFETY: the tables have an address for each pixel that the tile sees and writes, each with all
            // channels; weights and bias are those of the convolution.
            unsafe {
                for at in (0..whole).step_by(S::LANES) {
                    stream::<S, COLUMNS>(simd, &tile, rows, at, S::LANES);
                }
                if whole < tile.channels {
                    stream::<S, COLUMNS>(simd, &tile, rows, whole, tile.channels - whole);
                }
                tile.finish(simd, rows * COLUMNS);
            }
        }
    }

    /// A strip of one row whose pixels see 3 x 3 windows, STRIDE apart.
    #[inline(always)]
    fn squares<S: Simd, const COLUMNS: usize, const STRIDE: usize>(
        &self,
        simd: S,
        strip: Strip,
        corner: Tap,
    ) {
        let seen = [3, (COLUMNS - 1) * STRIDE + 3];
        let mut inputs = [null(); 3 * (2 * MOST_SIDE + 1)];
        let mut outputs = [null_mut(); MOST_SIDE];
        let image = self.image(strip.image);
        for column in (0..strip.phase.grid[1]).step_by(COLUMNS) {
            let at = [strip.first_row * STRIDE, column * STRIDE];
            let first = [at[0].wrapping_add_signed(corner.row), at[1].wrapping_add_signed(corner.column)];
            image.window(first, seen, &mut inputs);
            self.outputs(strip, column, &mut outputs[..COLUMNS]);
            let below = STRIDE * self.gather.input[1] * self.input.ld();
            let ahead = ahead(self.gather.channels, below);
            let tile = self.tile(strip.phase, inputs.as_ptr(), outputs.as_ptr(), ahead);
            let whole = tile.channels / S::LANES * S::LANES;
            // SAFETY: as in `stream`.
            unsafe {
                for at in (0..whole).step_by(S::LANES) {
                    square::<S, COLUMNS, STRIDE>(simd, &tile, at, S::LANES);
                }
                if whole < tile.channels {
                    square::<S, COLUMNS, STRIDE>(simd, &tile, whole, tile.channels - whole);
                }
                tile.finish(simd, COLUMNS);
            }
        }
    }

    /// A strip of one row whose pixels see any taps.
    #[inline(always)]
    fn any_taps<S: Simd, const COLUMNS: usize>(&self, simd: S, strip: Strip) {
        let (taps, stride) = (&strip.phase.taps, self.gather.stride);
        // SAFETY: the scratch memory has room for MOST_SIDE addresses of each tap, and is this thread's alone.
        let inputs = unsafe { slice::from_raw_parts_mut(self.addresses, taps.len() * COLUMNS) };
        let mut outputs = [null_mut(); MOST_SIDE];
        let image = self.image(strip.image);
        for column in (0..strip.phase.grid[1]).step_by(COLUMNS) {
            for (tap, inputs) in taps.iter().zip(inputs.chunks_exact_mut(COLUMNS)) {
                let row = (strip.first_row * stride[0]).wrapping_add_signed(tap.row);
                for (place, input) in inputs.iter_mut().enumerate() {
                    let column = ((column + place) * stride[1]).wrapping_add_signed(tap.column);
                    *input = image.pixel(row, column);
                }
            }
            self.outputs(strip, column, &mut outputs[..COLUMNS]);
            let tile = self.tile(strip.phase, inputs.as_ptr(), outputs.as_ptr(), 0);
            let whole = tile.channels / S::LANES * S::LANES;
            // SAFETY: as in `stream`.
            unsafe {
                for at in (0..whole).step_by(S::LANES) {
                    any::<S, COLUMNS>(simd, &tile, taps.len(), at, S::LANES);
                }
                if whole < tile.channels {
                    any::<S, COLUMNS>(simd, &tile, taps.len(), whole, tile.channels - whole);
                }
                tile.finish(simd, COLUMNS);
            }
        }
    }

    fn image(&self, image: usize) -> Image {
        let size = self.gather.input;
        let pointer = self.input.pixel(image * size[0] * size[1]);
        Image { pointer, size, ld: self.input.ld(), zeros: self.filter.zeros.as_ptr() }
    }

    /// The addresses of a row of output pixels from a column of the phase's grid on.
    #[inline(always)]
    fn outputs(&self, Strip { phase, image, first_row }: Strip, column: usize, outputs: &mut [*mut f32]) {
        let Gather { output: [h, w], output_step: step, .. } = *self.gather;
        let row = image * h + first_row * step[0] + phase.offset[0];
        let Place { output: view, first } = self.place;
        let first = view.pixel(row * w + column * step[1] + phase.offset[1] - first);
        let exist = phase.grid[1] - column;
        for (place, output) in outputs.iter_mut().enumerate() {
            let pixel = first.wrapping_add(place * step[1] * view.ld());
            *output = if place < exist { pixel } else { self.surplus };
        }
    }

    fn tile(&self, phase: &Phase, inputs: *const *const f32, outputs: *const *mut f32, ahead: usize) -> Tile {
        let Gather { channels, width, .. } = *self.gather;
        let Filter { weight, bias, activation, .. } = self.filter;
        let weight = weight.as_ptr().wrapping_add(phase.first_tap * width);
        let bias = bias.map_or(null(), <[f32]>::as_ptr);
        Tile { inputs, outputs, weight, width, bias, activation, channels, ahead }
    }
}

/// One vector of channels of `rows` x COLUMNS pixels that see neighbouring 3 x 3 windows.
///
/// # Safety
/// The tile's tables have the addresses of all input pixels, row by row, and of all output pixels; they, the
/// bias and each tap's weights have `at + lanes` floats, the weights a whole vector at `at`.
#[inline(always)]
unsafe fn stream<S: Simd, const COLUMNS: usize>(simd: S, tile: &Tile, rows: usize, at: usize, lanes: usize) {
    // SAFETY: the caller vouches for every address.
    unsafe {
        let weights = tile.weights(simd, at);
        let start = [tile.bias(simd, at, lanes); COLUMNS];
        // The sums of the output rows that see an input row with the last, the middle and the first kernel row.
        let [mut last, mut middle] = [start; 2];
        for row_seen in 0..rows + 2 {
            let mut first = start;
            let inputs = tile.inputs.add(row_seen * (COLUMNS + 2));
            unroll!(column_seen < COLUMNS + 2, {
                let pointer = (*inputs.add(column_seen)).add(at);
                if 0 < column_seen && column_seen <= COLUMNS {
                    simd.prefetch(pointer.wrapping_add(tile.ahead));
                }
                let value = simd.load_up_to(pointer, lanes);
                for tap in 0..3 {
                    let column = column_seen.wrapping_sub(tap);
                    if column < COLUMNS {
                        last[column] = simd.mul_add(value, weights[6 + tap], last[column]);
                        middle[column] = simd.mul_add(value, weights[3 + tap], middle[column]);
                        first[column] = simd.mul_add(value, weights[tap], first[column]);
                    }
                }
            });
            if row_seen >= 2 {
                tile.store(simd, (row_seen - 2) * COLUMNS, last, at, lanes);
            }
            (last, middle) = (middle, first);
        }
    }
}

/// One vector of channels of COLUMNS pixels that see 3 x 3 windows, STRIDE apart.
///
/// # Safety
/// As [`stream`].
#[inline(always)]
unsafe fn square<S: Simd, const COLUMNS: usize, const STRIDE: usize>(
    simd: S,
    tile: &Tile,
    at: usize,
    lanes: usize,
) {
    let columns_seen = (COLUMNS - 1) * STRIDE + 3;
    // SAFETY: the caller vouches for every address.
    unsafe {
        let weights = tile.weights(simd, at);
        let mut sums = [tile.bias(simd, at, lanes); COLUMNS];
        unroll!(row < 3, {
            unroll!(column_seen < columns_seen, {
                let pointer = (*tile.inputs.add(row * columns_seen + column_seen)).add(at);
                if row + STRIDE >= 3 {
                    simd.prefetch(pointer.wrapping_add(tile.ahead));
                }
                let value = simd.load_up_to(pointer, lanes);
                for tap in 0..3 {
                    let right = column_seen.wrapping_sub(tap);
                    if right.is_multiple_of(STRIDE) && right / STRIDE < COLUMNS {
                        let sum = &mut sums[right / STRIDE];
                        *sum = simd.mul_add(value, weights[row * 3 + tap], *sum);
                    }
                }
            });
        });
        tile.store(simd, 0, sums, at, lanes);
    }
}

/// One vector of channels of COLUMNS pixels that see any number of taps.
///
/// # Safety
/// As [`square`], with an address for each tap and pixel.
#[inline(always)]
unsafe fn any<S: Simd, const COLUMNS: usize>(simd: S, tile: &Tile, taps: usize, at: usize, lanes: usize) {
    // SAFETY: the caller vouches for every address.
    unsafe {
        let mut sums = [tile.bias(simd, at, lanes); COLUMNS];
        for tap in 0..taps {
            let weight = simd.load(tile.weight.add(tap * tile.width + at));
            unroll!(column < COLUMNS, {
                let pointer = (*tile.inputs.add(tap * COLUMNS + column)).add(at);
                sums[column] = simd.mul_add(simd.load_up_to(pointer, lanes), weight, sums[column]);
            });
        }
        tile.store(simd, 0, sums, at, lanes);
    }
}

/// Applies a late activation to the first pixels of a tile, which have just been stored.
struct FinishTile<'a> {
    tile: &'a Tile,
    pixels: usize,
}

impl Kernel for FinishTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { tile, pixels } = self;
        // SAFETY: `Tile::finish` vouches for the outputs.
        unsafe {
            let outputs = (0..pixels).map(|pixel| *tile.outputs.add(pixel));
            finish(simd, tile.activation, outputs, tile.channels);
        }
    }
}

impl Tile {
    /// Applies a late activation to all channels of the first pixels.
    ///
    /// # Safety
    /// The table has addresses of so many output pixels.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, simd: S, pixels: usize) {
        if self.activation.is_late() {
            simd.enter(FinishTile { tile: self, pixels });
        }
    }

    /// Some channels of nine taps' weights.
    ///
    /// # Safety
    /// Each tap's weights have a whole vector at `at`.
    #[inline(always)]
    unsafe fn weights<S: Simd>(&self, simd: S, at: usize) -> [S::Vector; 9] {
        let mut weights = [simd.zero(); 9];
        unroll!(tap < 9, {
            // SAFETY: the caller vouches for it.
            weights[tap] = unsafe { simd.load(self.weight.add(tap * self.width + at)) };
        });
        weights
    }

    /// Some channels of the bias.
    ///
    /// # Safety
    /// The bias, if there is one, has `at + lanes` floats.
    #[inline(always)]
    unsafe fn bias<S: Simd>(&self, simd: S, at: usize, lanes: usize) -> S::Vector {
        match self.bias.is_null() {
            true => simd.zero(),
            // SAFETY: the caller vouches for it.
            false => unsafe { simd.load_up_to(self.bias.add(at), lanes) },
        }
    }

    /// Stores some channels of a row of output pixels, the first of which is `first` in the table.
    ///
    /// # Safety
    /// The table has COLUMNS addresses from `first` on, each with `at + lanes` floats.
    #[inline(always)]
    unsafe fn store<S: Simd, const COLUMNS: usize>(
        &self,
        simd: S,
        first: usize,
        mut sums: [S::Vector; COLUMNS],
        at: usize,
        lanes: usize,
    ) {
        if self.activation == Activation::Relu {
            unroll!(column < COLUMNS, { sums[column] = simd.max(simd.zero(), sums[column]) });
        }
        unroll!(column < COLUMNS, {
            // SAFETY: the caller vouches for the addresses.
            unsafe { simd.store_up_to((*self.outputs.add(first + column)).add(at), sums[column], lanes) };
        });
    }
}
