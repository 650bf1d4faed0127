//! The implicit GEMM that forward and input gradient share.
//!
//! Output pixels on a grid each read the input at a list of taps. Tiles of consecutive pixels, across rows and
//! images, go through the register tile; the addresses of a block of tiles are computed once and serve all
//! panels of weights. How a tile finds its floats depends on the padding:
//!
//! - no tap leaves the input: one pointer a pixel, one offset a tap. Where the taps of a kernel row stand side
//!   by side (dense pixels, no dilation), they are one tap with a run of `kernel width x channels` floats;
//! - few channels, padded: the image is first copied between zeros, then as above, in tiles that stay within a
//!   row, whose pixels need one pointer in all. A run of one to eight floats would leave the tile idle most of
//!   the time. Where tiles have more pixels than there are registers for pointers, it is copied without
//!   padding, too;
//! - otherwise one pointer for each tap and pixel, those outside the input pointing to zeros.

mod tiles;
mod worker;

pub(super) use tiles::{Epilogue, Lines};

use super::layout::Panels;
use super::moments::{self, Records};
use super::scratch;
use super::taps::Tap;
use super::tile::{self, LINE};
use super::{Forward, Isa, border};
use crate::threads::Shareable;
use crate::{Activation, Context, ViewMut4};
use std::ops::Range;
use tiles::{CHUNK, Tiling};
use worker::Worker;

/// One pass, described by where it reads and writes.
pub(super) struct Gather<'a> {
    pub isa: Isa,
    pub panels: &'a Panels,
    pub taps: &'a [Tap],
    /// Row of the panels where the taps' weights begin.
    pub first_row: usize,
    /// Rows and columns of the input.
    pub input: [usize; 2],
    /// Input channels of a group.
    pub channels: usize,
    /// Output channels of a group.
    pub outputs: usize,
    pub groups: usize,
    /// Rows and columns of output pixels.
    pub grid: [usize; 2],
    /// Input pixels from one grid pixel to the next.
    pub stride: [usize; 2],
    /// Rows and columns of the output, of which the grid covers every `output_step`th from `output_offset` on.
    pub output: [usize; 2],
    pub output_step: [usize; 2],
    pub output_offset: [usize; 2],
    /// Kernel columns, if the taps of a kernel row are neighbours.
    pub row_taps: Option<usize>,
    /// How far the taps reach outside the input: top, right, bottom, left.
    pub padding: [usize; 4],
}

/// Where a part's input is, and how its taps lie in it.
#[derive(Clone, Copy)]
pub(super) struct Source {
    /// The first pixel that is there.
    pub pointer: *const f32,
    /// Rows and columns of an image, padding included where it was copied.
    pub size: [usize; 2],
    pub ld: usize,
    /// Rows and columns of padding before an image's first pixel, where it was copied.
    pub origin: [usize; 2],
    /// The row that the first pixel is in, counted over all images, where only a band was copied.
    pub first_row: usize,
}

/// How the work is cut. Every output is summed by one thread in one order, so no result depends on it.
#[derive(Clone, Copy)]
struct Cut {
    /// Bands of rows that an image is copied in, or blocks of tiles of all images.
    blocks: usize,
    /// Ranges that the panels are cut into.
    panel_ranges: usize,
    /// Parts of each range and group: runs of blocks.
    parts: usize,
    /// Tiles that stay together in a part.
    tiles_together: usize,
}

/// A vector multiply-add is about half a cycle; a part should be worth more than the half microsecond that a
/// region costs.
const MULTIPLY_ADDS_A_PART: usize = 1 << 13;

/// Pixels of a tile whose pointers stay in registers; those of more are loaded before each use.
const MOST_POINTERS: usize = 14;

/// Taps of a kernel that make the copy of an image small beside its products.
const TAPS_WORTH_A_COPY: usize = 9;

/// Bytes of input that a block may cover: it is read once for each panel, from the second-level cache.
const BLOCK_BYTES: usize = 128 << 10;

/// The most tiles of a block.
const MOST_TILES: usize = 64;

/// What a tile's product with a panel costs, and what it costs to fetch a panel's weights once and a tile's
/// input once, in quarters of a product.
const MULTIPLYING: usize = 4;
const FETCHING_WEIGHTS: usize = 2;
const FETCHING_INPUT: usize = 1;

impl Gather<'_> {
    fn is_padded(&self) -> bool {
        self.padding != [0; 4]
    }

    /// Whether the input is copied between zeros: kernel rows become runs worth a register tile.
    fn copies(&self) -> bool {
        let few = self.groups == 1 && self.channels < 8 && self.row_taps.is_some();
        let needs_a_step = self.tile_rows() > MOST_POINTERS && self.taps.len() >= TAPS_WORTH_A_COPY;
        few && (self.is_padded() || needs_a_step && self.has_step())
    }

    /// Whether there are tiles whose pixels stand as far apart as a row's do.
    fn has_step(&self) -> bool {
        tile::PIXEL_STEPS.contains(&(self.channels * self.stride[1]))
    }

    /// Floats between neighbouring pixels of a tile that stays within a row of the copy, if there are such
    /// tiles.
    fn pixel_step(&self) -> Option<usize> {
        (self.copies() && self.has_step()).then_some(self.channels * self.stride[1])
    }

    /// How `count` pixels from the beginning of a row on are cut into tiles.
    fn tiling(&self, count: usize) -> Tiling {
        let tile = self.tile_rows();
        let Some(step) = self.pixel_step() else {
            return Tiling {
                line: count,
                tiles_a_line: count.div_ceil(tile),
                pixels_a_tile: tile,
                step: None,
            };
        };
        let tiles_a_line = self.grid[1].div_ceil(tile);
        let pixels_a_tile = self.grid[1].div_ceil(tiles_a_line);
        Tiling { line: self.grid[1], tiles_a_line, pixels_a_tile, step: Some(step) }
    }

    /// The copied image's rows and columns.
    fn padded_size(&self) -> [usize; 2] {
        border::padded_size(self.input, self.padding)
    }

    fn tile_rows(&self) -> usize {
        tile::rows(self.isa, self.panels.width / self.isa.lanes())
    }

    /// Cuts a batch for a number of threads, each of which takes the same number of parts. With moments, a
    /// group of pixels is not cut.
    fn cut(&self, batch: usize, threads: usize, moments: bool) -> Cut {
        let total = self.tiles(batch).max(1);
        let work = total.saturating_mul(self.tile_work()).saturating_mul(self.groups);
        let threads = (work / MULTIPLY_ADDS_A_PART).clamp(1, threads);
        if self.copies() {
            // As few bands as allow even shares.
            let even = |bands: &usize| moments || (batch * bands).is_multiple_of(threads);
            let bands = self.bands();
            let bands = (bands..bands + threads).find(even).unwrap_or(bands).min(self.grid[0]);
            let parts = threads.min(batch * bands);
            return Cut { blocks: bands, panel_ranges: 1, parts, tiles_together: 1 };
        }
        let tiles_together = if moments { self.tiles_a_group(batch) } else { 1 };
        let cut_in = |panel_ranges: usize| {
            let shares = threads.div_ceil(panel_ranges).div_ceil(self.groups);
            let blocks = total.div_ceil(self.most_tiles()).next_multiple_of(shares).min(total);
            let parts = shares.min(blocks).min(total.div_ceil(tiles_together));
            Cut { blocks, panel_ranges, parts, tiles_together }
        };
        let cost = |cut: &Cut| {
            let tiles = total.div_ceil(cut.blocks) * cut.blocks.div_ceil(cut.parts);
            let parts = (cut.parts * cut.panel_ranges * self.groups).div_ceil(threads);
            let panels = self.panels.count.div_ceil(cut.panel_ranges);
            let fetches = cut.blocks.div_ceil(cut.parts);
            parts * (panels * (MULTIPLYING * tiles + FETCHING_WEIGHTS * fetches) + FETCHING_INPUT * tiles)
        };
        let ranges = 1..=threads.min(self.panels.count);
        let whole = Cut { blocks: 1, panel_ranges: 1, parts: 1, tiles_together };
        ranges.map(cut_in).min_by_key(cost).unwrap_or(whole)
    }

    /// Tiles of a batch, where they run across rows and images.
    fn tiles(&self, batch: usize) -> usize {
        (batch * self.grid[0] * self.grid[1]).div_ceil(self.tile_rows())
    }

    /// Tiles whose results one record of moments sums.
    fn tiles_a_group(&self, batch: usize) -> usize {
        moments::tiles_a_group(self.tiles(batch), self.tile_rows())
    }

    /// Floats of the moments of a batch's results: a record for each band where images are copied.
    pub(super) fn moments_len(&self, batch: usize) -> usize {
        let groups = match self.copies() {
            true => batch * self.bands(),
            false => self.tiles(batch).div_ceil(self.tiles_a_group(batch)),
        };
        moments::moments_len(groups, self.outputs)
    }

    /// The records of a batch's moments.
    fn records(&self, batch: usize, moments: &mut [f32]) -> Records {
        let (columns, bands) = (self.grid[1], self.bands());
        if self.copies() {
            let pixels = |unit: usize| self.band(unit % bands, bands).len() * columns;
            return Records::new(moments, self.outputs, (0..batch * bands).map(pixels));
        }
        let (all, each) = (batch * self.grid[0] * columns, self.tiles_a_group(batch) * self.tile_rows());
        let pixels = |group: usize| (all - group * each).min(each);
        Records::new(moments, self.outputs, (0..all.div_ceil(each)).map(pixels))
    }

    /// The most tiles of a block.
    fn most_tiles(&self) -> usize {
        let bytes = self.tile_rows() * self.channels * self.stride[0] * self.stride[1] * size_of::<f32>();
        (BLOCK_BYTES / bytes.max(1)).clamp(2, MOST_TILES)
    }

    /// Bands that an image is copied in, so that the copy stays in the second-level cache.
    fn bands(&self) -> usize {
        let [h, w] = self.padded_size();
        (h * w * self.channels * size_of::<f32>()).div_ceil(BLOCK_BYTES).min(self.grid[0])
    }

    /// Rows of the grid in a band.
    fn band(&self, band: usize, bands: usize) -> Range<usize> {
        self.grid[0] * band / bands..self.grid[0] * (band + 1) / bands
    }

    /// Rows of the padded image that `rows` rows of the grid read.
    fn rows_read(&self, rows: usize) -> usize {
        let [first, last] = [self.taps.first(), self.taps.last()].map(|tap| tap.map_or(0, |tap| tap.row));
        rows.saturating_sub(1) * self.stride[0] + 1 + last.abs_diff(first)
    }

    /// Multiply-adds of a tile over all panels.
    fn tile_work(&self) -> usize {
        let vectors = self.panels.width / self.isa.lanes() * self.panels.count;
        (self.tile_rows() * self.taps.len() * self.channels * vectors).max(1)
    }

    /// Whether the inner dimension is cut into chunks, whose sums wait in scratch memory.
    fn is_chunked(&self) -> bool {
        !self.copies() && self.taps.len() * self.channels > CHUNK + CHUNK / 2
    }

    /// Floats of each piece of a thread's scratch memory: zeros, tap offsets, pixel pointers, output pointers,
    /// copy, sums.
    fn scratch_pieces(&self) -> [usize; 6] {
        let (tile, taps, copies) = (self.tile_rows(), self.taps.len().max(1), self.copies());
        let indirect = self.is_padded() && !copies;
        let rows = self.grid[0].div_ceil(self.bands().max(1));
        let tiles = if copies {
            self.tiling(rows * self.grid[1]).tiles(rows * self.grid[1])
        } else {
            self.most_tiles()
        };
        let copy = self.rows_read(rows) * self.padded_size()[1] * self.channels;
        // A tile that is not full reads what its other pixels would have, behind the last row too.
        let behind = self.pixel_step().map_or(0, |step| tile * step);
        [
            if indirect { self.channels.next_multiple_of(LINE) } else { 0 },
            scratch::pointers(taps),
            scratch::pointers(tiles * tile * if indirect { taps } else { 1 }),
            scratch::pointers(tiles * tile),
            if copies { (copy + behind).next_multiple_of(LINE) } else { 0 },
            if self.is_chunked() { tiles * tile * self.panels.width } else { 0 },
        ]
    }

    pub(super) fn scratch_len(&self, threads: usize) -> usize {
        threads * self.scratch_pieces().iter().sum::<usize>()
    }

    /// Computes every grid pixel of `output` from `input`. The caller has checked shapes and weight length. The
    /// `moments` are [`Self::moments_len`] floats, for one group of channels without residual and activation.
    pub(super) fn run(
        &self,
        context: Context,
        forward: Forward,
        output: &ViewMut4,
        moments: Option<&mut [f32]>,
        scratch: &mut [f32],
    ) {
        let Forward { x: input, residual, activation, .. } = forward;
        if input.n() == 0 {
            return;
        }
        assert!(
            moments.is_none() || self.groups == 1 && residual.is_none() && activation == Activation::None
        );
        let pieces = self.scratch_pieces();
        let (a_thread, threads) = (pieces.iter().sum::<usize>(), context.pool.at_once());
        scratch::check(scratch, a_thread * threads);
        let moments = moments.map(|moments| self.records(input.n(), moments));
        let epilogue = Epilogue { moments, ..self.epilogue(forward, output) };
        let cut = self.cut(input.n(), threads, moments.is_some());
        let scratch = Shareable::new(scratch);
        context.pool.run(cut.parts * cut.panel_ranges * self.groups, |thread, part| {
            // SAFETY: each thread has its own range of the scratch memory, whose length is checked above.
            let scratch = unsafe { scratch.slice(thread * a_thread, a_thread) };
            Worker { gather: self, output, epilogue, scratch, pieces }.run_part(input, cut, part);
        });
    }

    /// What all tiles of a pass share.
    pub(super) fn epilogue<'e>(&self, forward: Forward<'e>, output: &ViewMut4) -> Epilogue<'e> {
        let Forward { weight, bias, residual, activation, .. } = forward;
        let in_place = residual.is_some_and(|residual| residual.pointer() == output.pointer().cast_const());
        let residual = residual.map(|residual| output.distance_to(residual));
        // A late activation reads what was stored.
        let streams = output.streams() && !in_place && !activation.is_late();
        let stream = streams && self.panels.width.is_multiple_of(LINE);
        Epilogue { weight, bias, residual, activation, stream, moments: None }
    }

    /// Computes some rows of the grid, counted over all images, on this thread, from a source in a near cache
    /// that has what they read: no group, no padding. Meanwhile it asks for what will be read later. `scratch`
    /// is [`Self::scratch_len`] for one thread.
    pub(super) fn run_rows(
        &self,
        source: Source,
        later: Lines,
        epilogue: Epilogue,
        rows: Range<usize>,
        output: &ViewMut4,
        scratch: &mut [f32],
    ) {
        let pieces = self.scratch_pieces();
        let mut worker = Worker { gather: self, output, epilogue, scratch, pieces };
        let pixels = rows.start * self.grid[1]..rows.end * self.grid[1];
        let blocks = pixels.len().div_ceil(self.tile_rows()).div_ceil(self.most_tiles());
        for index in 0..blocks {
            let block = self.block(&pixels, index, blocks);
            worker.run_block(source, later.share(index, blocks), block, 0, &(0..self.panels.count), None);
        }
    }

    /// The first pixel of a block of whole tiles, one of `blocks` even ones, and how many it has.
    fn block(&self, pixels: &Range<usize>, index: usize, blocks: usize) -> [usize; 2] {
        let tile = self.tile_rows();
        let tiles = pixels.len().div_ceil(tile);
        let [first, end] = [index, index + 1].map(|index| (tiles * index / blocks * tile).min(pixels.len()));
        [pixels.start + first, end - first]
    }
}
