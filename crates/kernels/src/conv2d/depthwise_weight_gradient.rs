//! The weight gradient of a depthwise convolution: dw[t, c] = sum over pixels p of x[p at t, c] dy[p, c], and
//! db[c] = sum over p of dy[p, c].
//!
//! A tile is a row of seven or eight pixels of dy and one vector of channels. Their gradients stay in registers
//! while the input pixels that their windows see pass by, a kernel row after the other; an input pixel is
//! loaded once for all windows of the tile that see it. Where there are registers for three such rows, a tile
//! walks down a strip of rows, and each input pixel is loaded once in all. The sums, few enough for the
//! first-level cache, are loaded and stored by each tile.
//!
//! The rows of the batch are cut into chunks by shape alone; each chunk has its own sums, which are added in
//! order. So the bits do not depend on the number of threads.

use super::depthwise::{Depthwise, Image, MOST_SIDE, ahead, corner_of_3x3, tile_side, unroll};
use super::depthwise_gather::streams;
use super::taps::Tap;
use super::weight_gradient::add_chunks;
use super::{scratch, tile};
use crate::simd::{Kernel, Simd};
use crate::threads::Shareable;
use crate::{Context, View4};
use std::ops::Range;
use std::ptr::null;
use std::slice;

/// Floats of x and dy worth a part.
const FLOATS_A_PART: usize = 1 << 15;

/// Enough chunks for sixteen threads.
const MOST_CHUNKS: usize = 16;

/// What all chunks' sums may take, as a fraction of x and dy: they are written and read once more.
const SUMS_FRACTION: usize = 8;

/// Channels of a part: its ten sums of each take ten kilobytes.
const CHANNELS_A_PART: usize = 256;

/// How the work is cut, by shape alone.
#[derive(Clone, Copy)]
struct Cut {
    chunks: usize,
    /// Ranges of [`CHANNELS_A_PART`] channels.
    channel_ranges: usize,
}

/// Whether a tile walks down a strip of rows.
fn walks_down(depthwise: &Depthwise) -> bool {
    let squares = corner_of_3x3(&depthwise.forward[0].taps).is_some();
    squares && depthwise.shape.stride == [1, 1] && streams(tile::registers(depthwise.isa))
}

/// Rows of a strip, and columns of its tiles.
pub(super) fn tile(depthwise: &Depthwise) -> [usize; 2] {
    let [rows, columns] = depthwise.output.map(tile_side);
    [if walks_down(depthwise) { rows } else { 1 }, columns]
}

/// Floats of one chunk's sums: those of the taps, then that of the bias.
fn sums_len(depthwise: &Depthwise) -> usize {
    let [kh, kw] = depthwise.shape.kernel;
    ((kh * kw + 1) * depthwise.width()).next_multiple_of(16)
}

fn cut(depthwise: &Depthwise, batch: usize) -> Cut {
    let ([h, w, c], [oh, ow]) = (depthwise.shape.input, depthwise.output);
    let floats = batch * (h * w + oh * ow) * c;
    let for_memory = floats / (SUMS_FRACTION * sums_len(depthwise));
    let chunks = (floats / FLOATS_A_PART).min(for_memory).min(batch * oh).clamp(1, MOST_CHUNKS);
    // Powers of two share evenly among most numbers of threads.
    Cut { chunks: 1 << chunks.ilog2(), channel_ranges: c.div_ceil(CHANNELS_A_PART) }
}

/// Floats of the zeros, of the sums of all chunks, and of a thread's addresses.
fn scratch_pieces(depthwise: &Depthwise, batch: usize) -> [usize; 3] {
    let words = depthwise.forward[0].taps.len() * MOST_SIDE * size_of::<usize>() / size_of::<f32>();
    let sums = cut(depthwise, batch).chunks * sums_len(depthwise);
    [depthwise.width().next_multiple_of(16), sums, words.next_multiple_of(16)]
}

pub(super) fn scratch_len(depthwise: &Depthwise, batch: usize, threads: usize) -> usize {
    let [zeros, sums, addresses] = scratch_pieces(depthwise, batch);
    zeros + sums + threads * addresses
}

/// dweight and dbias; the public function has checked shapes and lengths.
pub(super) fn run(
    depthwise: &Depthwise,
    context: Context,
    x: View4,
    dy: View4,
    dweight: &mut [f32],
    dbias: Option<&mut [f32]>,
    scratch: &mut [f32],
) {
    let [zeros_len, all_sums_len, addresses_len] = scratch_pieces(depthwise, x.n());
    scratch::check(scratch, scratch_len(depthwise, x.n(), context.pool.at_once()));
    let (zeros, scratch) = scratch.split_at_mut(zeros_len);
    let (sums, addresses) = scratch.split_at_mut(all_sums_len);
    zeros.fill(0.0);
    let cut = cut(depthwise, x.n());
    let (rows, sums_len) = (x.n() * depthwise.output[0], sums_len(depthwise));
    let (zeros, sums, addresses) = (&*zeros, Shareable::new(sums), Shareable::new(addresses));
    context.pool.run(cut.chunks * cut.channel_ranges, |thread, part| {
        let (chunk, range) = (part / cut.channel_ranges, part % cut.channel_ranges);
        let channels = range * CHANNELS_A_PART..((range + 1) * CHANNELS_A_PART).min(x.c());
        context.isa.run(Rows {
            depthwise,
            rows: rows * chunk / cut.chunks..rows * (chunk + 1) / cut.chunks,
            channels,
            x,
            dy,
            zeros: zeros.as_ptr(),
            sums: sums.pointer().wrapping_add(chunk * sums_len),
            addresses: addresses.pointer().wrapping_add(thread * addresses_len).cast(),
        });
    });
    let (from, bias_at, filters) = (sums.pointer().cast_const(), dweight.len(), x.c());
    // SAFETY: every chunk has written the sums of every tap, and behind them the bias's.
    unsafe {
        add_chunks(context, (from, sums_len, cut.chunks), &Shareable::new(dweight), bias_at);
        if let Some(dbias) = dbias {
            let from = from.wrapping_add(bias_at);
            add_chunks(context, (from, sums_len, cut.chunks), &Shareable::new(dbias), filters);
        }
    }
}

/// Some rows of dy, counted over all images, and some channels.
struct Rows<'a> {
    depthwise: &'a Depthwise,
    rows: Range<usize>,
    channels: Range<usize>,
    x: View4<'a>,
    dy: View4<'a>,
    /// As many zeros as there are channels.
    zeros: *const f32,
    /// This chunk's sums: `[tap][width]`, then `[width]` of the bias.
    sums: *mut f32,
    /// This thread's room for the addresses of the generic tile.
    addresses: *mut *const f32,
}

/// What a tile reads and writes. Plain pointers: the driver has checked the geometry once.
struct Tile {
    /// The input pixels; how many and in which order is the tile's own.
    x: *const *const f32,
    /// The pixels of dy, row by row.
    dy: *const *const f32,
    /// The first tap's sums.
    sums: *mut f32,
    /// Floats from a tap's sums to the next tap's.
    width: usize,
    /// How many floats behind a pixel of x, and of dy, that is read another is prefetched.
    ahead: [usize; 2],
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (shape, width) = (&self.depthwise.shape, self.depthwise.width());
        let taps = &self.depthwise.forward[0].taps;
        for tap in 0..=taps.len() {
            let first = self.sums.wrapping_add(tap * width + self.channels.start);
            let len = self.channels.len().next_multiple_of(S::LANES);
            // SAFETY: the sums of these channels are this part's, padded to whole vectors.
            unsafe { slice::from_raw_parts_mut(first, len) }.fill(0.0);
        }
        let columns = tile_side(self.depthwise.output[1]);
        match (corner_of_3x3(taps), shape.stride, columns) {
            (Some(corner), [1, 1], 7) if streams(S::REGISTERS) => self.stream::<S, 7>(simd, corner),
            (Some(corner), [1, 1], _) if streams(S::REGISTERS) => self.stream::<S, 8>(simd, corner),
            (Some(corner), [1, 1], 7) => self.squares::<S, 7, 1>(simd, corner),
            (Some(corner), [1, 1], _) => self.squares::<S, 8, 1>(simd, corner),
            (Some(corner), [2, 2], 7) => self.squares::<S, 7, 2>(simd, corner),
            (Some(corner), [2, 2], _) => self.squares::<S, 8, 2>(simd, corner),
            (_, _, 7) => self.any_taps::<S, 7>(simd, taps),
            _ => self.any_taps::<S, 8>(simd, taps),
        }
    }
}

impl Rows<'_> {
    /// All rows, where the windows are 3 x 3, side by side.
    #[inline(always)]
    fn stream<S: Simd, const COLUMNS: usize>(&self, simd: S, corner: Tap) {
        let mut inputs = [null(); (MOST_SIDE + 2) * (MOST_SIDE + 2)];
        let mut gradients = [null(); MOST_SIDE * MOST_SIDE];
        let [oh, ow] = self.depthwise.output;
        let (width, most_rows) = (self.depthwise.width(), tile_side(oh));
        let mut next = self.rows.start;
        while next < self.rows.end {
            let (image, row) = (next / oh, next % oh);
            let rows = (self.rows.end - next).min(oh - row).min(most_rows);
            next += rows;
            let [x, dy] = self.images(image);
            let below = [rows * self.x.w() * self.x.ld(), rows * ow * self.dy.ld()];
            let ahead = below.map(|below| ahead(self.x.c(), below));
            for column in (0..ow).step_by(COLUMNS) {
                let first = [row.wrapping_add_signed(corner.row), column.wrapping_add_signed(corner.column)];
                x.window(first, [rows + 2, COLUMNS + 2], &mut inputs);
                dy.window([row, column], [rows, COLUMNS], &mut gradients);
                let tile = Tile { x: inputs.as_ptr(), dy: gradients.as_ptr(), sums: self.sums, width, ahead };
                let Range { start, end } = self.channels;
                let whole = start + (end - start) / S::LANES * S::LANES;
                // SAFETY: the tables have an address for each pixel, each with all channels, and so have the
                // sums.
                unsafe {
                    for at in (start..whole).step_by(S::LANES) {
                        stream::<S, COLUMNS>(simd, &tile, rows, at, S::LANES);
                    }
                    if whole < end {
                        stream::<S, COLUMNS>(simd, &tile, rows, whole, end - whole);
                    }
                }
            }
        }
    }

    /// All rows, where the windows are 3 x 3, STRIDE apart.
    #[inline(always)]
    fn squares<S: Simd, const COLUMNS: usize, const STRIDE: usize>(&self, simd: S, corner: Tap) {
        let seen = [3, (COLUMNS - 1) * STRIDE + 3];
        let mut inputs = [null(); 3 * (2 * MOST_SIDE + 1)];
        let mut gradients = [null(); MOST_SIDE];
        let [oh, ow] = self.depthwise.output;
        let width = self.depthwise.width();
        let below = [STRIDE * self.x.w() * self.x.ld(), ow * self.dy.ld()];
        let ahead = below.map(|below| ahead(self.x.c(), below));
        for row in self.rows.clone() {
            let (image, row) = (row / oh, row % oh);
            let [x, dy] = self.images(image);
            for column in (0..ow).step_by(COLUMNS) {
                let first = [
                    (row * STRIDE).wrapping_add_signed(corner.row),
                    (column * STRIDE).wrapping_add_signed(corner.column),
                ];
                x.window(first, seen, &mut inputs);
                dy.window([row, column], [1, COLUMNS], &mut gradients);
                let tile = Tile { x: inputs.as_ptr(), dy: gradients.as_ptr(), sums: self.sums, width, ahead };
                let Range { start, end } = self.channels;
                let whole = start + (end - start) / S::LANES * S::LANES;
                // SAFETY: as in `stream`.
                unsafe {
                    for at in (start..whole).step_by(S::LANES) {
                        square::<S, COLUMNS, STRIDE>(simd, &tile, at, S::LANES);
                    }
                    if whole < end {
                        square::<S, COLUMNS, STRIDE>(simd, &tile, whole, end - whole);
                    }
                }
            }
        }
    }

    /// All rows, where the windows are any taps.
    #[inline(always)]
    fn any_taps<S: Simd, const COLUMNS: usize>(&self, simd: S, taps: &[Tap]) {
        // SAFETY: the scratch memory has room for MOST_SIDE addresses of each tap, and is this thread's alone.
        let inputs = unsafe { slice::from_raw_parts_mut(self.addresses, taps.len() * COLUMNS) };
        let mut gradients = [null(); MOST_SIDE];
        let ([oh, ow], stride) = (self.depthwise.output, self.depthwise.shape.stride);
        let width = self.depthwise.width();
        for row in self.rows.clone() {
            let (image, row) = (row / oh, row % oh);
            let [x, dy] = self.images(image);
            for column in (0..ow).step_by(COLUMNS) {
                for (tap, inputs) in taps.iter().zip(inputs.chunks_exact_mut(COLUMNS)) {
                    let row = (row * stride[0]).wrapping_add_signed(tap.row);
                    for (place, input) in inputs.iter_mut().enumerate() {
                        let column = ((column + place) * stride[1]).wrapping_add_signed(tap.column);
                        *input = x.pixel(row, column);
                    }
                }
                dy.window([row, column], [1, COLUMNS], &mut gradients);
                let (x, dy) = (inputs.as_ptr(), gradients.as_ptr());
                let tile = Tile { x, dy, sums: self.sums, width, ahead: [0, 0] };
                for at in self.channels.clone().step_by(S::LANES) {
                    let lanes = (self.channels.end - at).min(S::LANES);
                    // SAFETY: as in `stream`.
                    unsafe { any::<S, COLUMNS>(simd, &tile, taps.len(), at, lanes) };
                }
            }
        }
    }

    /// An image of x and of dy.
    #[inline(always)]
    fn images(&self, image: usize) -> [Image; 2] {
        [self.x, self.dy].map(|view| {
            let size = [view.h(), view.w()];
            Image { pointer: view.pixel(image * size[0] * size[1]), size, ld: view.ld(), zeros: self.zeros }
        })
    }
}

/// Adds one vector of channels of `rows` x COLUMNS pixels, whose windows are side by side, to the sums of nine
/// taps and of the bias.
///
/// # Safety
/// The tile's tables have the addresses of all input pixels that the windows see, row by row, and of all pixels
/// of dy, each with `at + lanes` floats; each tap's sums and the bias's have a whole vector at `at`.
#[inline(always)]
unsafe fn stream<S: Simd, const COLUMNS: usize>(simd: S, tile: &Tile, rows: usize, at: usize, lanes: usize) {
    // SAFETY: the caller vouches for every address.
    unsafe {
        let mut sums = [simd.zero(); 9];
        unroll!(tap < 9, { sums[tap] = simd.load(tile.sums.add(tap * tile.width + at)) });
        // The gradients of the rows that see an input row with the last, the middle and the first kernel row.
        let [mut last, mut middle] = [[simd.zero(); COLUMNS]; 2];
        for row_seen in 0..rows + 2 {
            let mut first = [simd.zero(); COLUMNS];
            if row_seen < rows {
                first = tile.gradients::<S, COLUMNS>(simd, row_seen, at, lanes);
                tile.add_bias(simd, 9, first, at);
            }
            let inputs = tile.x.add(row_seen * (COLUMNS + 2));
            unroll!(column_seen < COLUMNS + 2, {
                let pointer = (*inputs.add(column_seen)).add(at);
                if 0 < column_seen && column_seen <= COLUMNS {
                    simd.prefetch(pointer.wrapping_add(tile.ahead[0]));
                }
                let value = simd.load_up_to(pointer, lanes);
                for tap in 0..3 {
                    let column = column_seen.wrapping_sub(tap);
                    if column < COLUMNS {
                        sums[tap] = simd.mul_add(value, first[column], sums[tap]);
                        sums[3 + tap] = simd.mul_add(value, middle[column], sums[3 + tap]);
                        sums[6 + tap] = simd.mul_add(value, last[column], sums[6 + tap]);
                    }
                }
            });
            (last, middle) = (middle, first);
        }
        unroll!(tap < 9, { simd.store(tile.sums.add(tap * tile.width + at), sums[tap]) });
    }
}

/// Adds one vector of channels of COLUMNS pixels, whose windows are STRIDE apart, to the sums of nine taps and
/// of the bias.
///
/// # Safety
/// As [`stream`], for one row.
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
        let gradients = tile.gradients::<S, COLUMNS>(simd, 0, at, lanes);
        tile.add_bias(simd, 9, gradients, at);
        unroll!(row < 3, {
            let mut sums = [simd.zero(); 3];
            for tap in 0..3 {
                sums[tap] = simd.load(tile.sums.add((row * 3 + tap) * tile.width + at));
            }
            unroll!(column_seen < columns_seen, {
                let pointer = (*tile.x.add(row * columns_seen + column_seen)).add(at);
                if row + STRIDE >= 3 {
                    simd.prefetch(pointer.wrapping_add(tile.ahead[0]));
                }
                let value = simd.load_up_to(pointer, lanes);
                for tap in 0..3 {
                    let right = column_seen.wrapping_sub(tap);
                    if right.is_multiple_of(STRIDE) && right / STRIDE < COLUMNS {
                        sums[tap] = simd.mul_add(value, gradients[right / STRIDE], sums[tap]);
                    }
                }
            });
            for tap in 0..3 {
                simd.store(tile.sums.add((row * 3 + tap) * tile.width + at), sums[tap]);
            }
        });
    }
}

/// Adds one vector of channels of COLUMNS pixels to the sums of any number of taps and of the bias.
///
/// # Safety
/// As [`square`], with an input address for each tap and pixel.
#[inline(always)]
unsafe fn any<S: Simd, const COLUMNS: usize>(simd: S, tile: &Tile, taps: usize, at: usize, lanes: usize) {
    // SAFETY: the caller vouches for every address.
    unsafe {
        let gradients = tile.gradients::<S, COLUMNS>(simd, 0, at, lanes);
        tile.add_bias(simd, taps, gradients, at);
        for tap in 0..taps {
            let to = tile.sums.add(tap * tile.width + at);
            let mut sum = simd.load(to);
            unroll!(column < COLUMNS, {
                let pointer = (*tile.x.add(tap * COLUMNS + column)).add(at);
                sum = simd.mul_add(simd.load_up_to(pointer, lanes), gradients[column], sum);
            });
            simd.store(to, sum);
        }
    }
}

impl Tile {
    /// Some channels of a row of pixels of dy.
    ///
    /// # Safety
    /// The table has the addresses of that row, each with `at + lanes` floats.
    #[inline(always)]
    unsafe fn gradients<S: Simd, const COLUMNS: usize>(
        &self,
        simd: S,
        row: usize,
        at: usize,
        lanes: usize,
    ) -> [S::Vector; COLUMNS] {
        let mut gradients = [simd.zero(); COLUMNS];
        unroll!(column < COLUMNS, {
            // SAFETY: the caller vouches for the address; a prefetch of any is harmless.
            unsafe {
                let pointer = (*self.dy.add(row * COLUMNS + column)).add(at);
                simd.prefetch(pointer.wrapping_add(self.ahead[1]));
                gradients[column] = simd.load_up_to(pointer, lanes);
            }
        });
        gradients
    }

    /// Adds the pixels of dy to the bias's sum, which stands behind those of the taps.
    ///
    /// # Safety
    /// The sums have a whole vector at `at`.
    #[inline(always)]
    unsafe fn add_bias<S: Simd, const COLUMNS: usize>(
        &self,
        simd: S,
        taps: usize,
        gradients: [S::Vector; COLUMNS],
        at: usize,
    ) {
        // SAFETY: the caller vouches for the sums.
        unsafe {
            let to = self.sums.add(taps * self.width + at);
            let mut sum = simd.load(to);
            unroll!(column < COLUMNS, { sum = simd.add(sum, gradients[column]) });
            simd.store(to, sum);
        }
    }
}
