//! The tiles of a block of the implicit GEMM: for each panel of weights, every tile.
//!
//! Where the inner dimension is long, a panel does not stay in the cache while the tiles pass, so it is cut
//! into chunks: all tiles meet one before any goes on to the next, and their sums wait in scratch memory.
//! Meanwhile the tiles ask for what comes next, a cache line a step: the inputs of the next tile, which the
//! first panel meets for the first time, and the next chunk of weights. With the weights of an image's network
//! in memory, not in a cache, this is what the time of small maps depends on: 512 > 2048 channels at 7 x 7, one
//! image, took 1.7 times as long.

use super::super::layout::Panels;
use super::super::moments::{Group, Records};
use super::super::tile::{self, Addresses, LINE, ProductJob};
use crate::Activation;
use crate::simd::{Kernel, Simd};
use std::ops::Range;

/// Steps of the inner dimension that a panel's tiles walk before any goes on: their weights stay in the
/// second-level cache, or even the first, while the next ones are asked for.
pub(super) const CHUNK: usize = 512;

/// The weights and epilogue of a pass.
#[derive(Clone, Copy)]
pub(in crate::conv2d) struct Epilogue<'a> {
    pub weight: &'a [f32],
    pub bias: Option<&'a [f32]>,
    /// Floats from an output to its residual.
    pub residual: Option<isize>,
    pub activation: Activation,
    pub stream: bool,
    pub moments: Option<Records>,
}

/// The tiles of a block. A line is a row of the grid where tiles stay within one, else the whole block.
#[derive(Clone, Copy)]
pub(super) struct Tiling {
    /// Pixels of a line.
    pub line: usize,
    pub tiles_a_line: usize,
    /// Pixels of a tile; a line's last has what is left.
    pub pixels_a_tile: usize,
    /// Floats between neighbouring pixels of a tile, where one pointer serves all.
    pub step: Option<usize>,
}

impl Tiling {
    /// Tiles of `count` pixels, which are whole lines.
    pub fn tiles(&self, count: usize) -> usize {
        count / self.line.max(1) * self.tiles_a_line
    }

    /// The first pixel of a tile, and how many it has.
    pub fn pixels_of(&self, tile: usize) -> [usize; 2] {
        let (line, place) = (tile / self.tiles_a_line, tile % self.tiles_a_line * self.pixels_a_tile);
        [line * self.line + place, (self.line - place).min(self.pixels_a_tile)]
    }
}

/// The tiles of a block, for each panel of a range.
pub(super) struct Tiles<'a> {
    /// The parts of a job that are the same for all.
    pub job: ProductJob,
    pub tiling: Tiling,
    pub pixels: usize,
    pub pointers_a_tile: usize,
    pub panels: &'a Panels,
    pub group: usize,
    pub range: Range<usize>,
    pub first_row: usize,
    pub epilogue: Epilogue<'a>,
    /// Room for every tile's sums, where the inner dimension is cut into chunks.
    pub sums: Option<*mut f32>,
    /// What will be read after this block, where its own inputs are near.
    pub later: Lines,
    /// Where the moments of the results go, if they are wanted.
    pub moments: Option<GroupedTiles>,
}

/// The groups of a block's tiles.
#[derive(Clone, Copy)]
pub(super) struct GroupedTiles {
    pub records: Records,
    /// The first tile's group, and how many tiles of that stand before it.
    pub group: usize,
    pub first: usize,
    pub tiles_a_group: usize,
}

impl GroupedTiles {
    /// The group of a tile of the block, and whether it begins there.
    fn of(&self, tile: usize) -> (Group, bool) {
        let place = self.first + tile;
        let group = self.records.group(self.group + place / self.tiles_a_group);
        (group, place.is_multiple_of(self.tiles_a_group))
    }
}

/// A piece of the inner dimension: some whole taps, or a stretch of one.
#[derive(Clone, Copy)]
struct Chunk {
    first_tap: usize,
    taps: usize,
    start: usize,
    run: usize,
}

impl Kernel for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        match self.panels.width / S::LANES {
            1 => self.each::<S, 1>(simd),
            2 => self.each::<S, 2>(simd),
            _ => self.each::<S, 3>(simd),
        }
        if self.job.stream {
            simd.finish_streams();
        }
    }
}

impl Tiles<'_> {
    #[inline(always)]
    fn each<S: Simd, const NV: usize>(&mut self, simd: S) {
        let chunks = self.chunks();
        for panel in self.range.clone() {
            let start = self.panels.start(self.group, panel) + self.first_row * self.panels.width;
            let mut weight = self.epilogue.weight.as_ptr().wrapping_add(start);
            for chunk in 0..chunks {
                weight = self.chunk::<S, NV>(simd, panel, weight, [chunk, chunks]);
            }
        }
    }

    /// Pieces of the inner dimension.
    fn chunks(&self) -> usize {
        let ProductJob { taps, run, .. } = self.job;
        match self.sums {
            Some(_) if run > CHUNK => taps * run.div_ceil(CHUNK),
            Some(_) => taps.div_ceil(CHUNK / run),
            None => 1,
        }
    }

    /// One of them, all about as long.
    fn chunk_at(&self, [index, count]: [usize; 2]) -> Chunk {
        let ProductJob { taps, run, .. } = self.job;
        if count <= taps.max(1) {
            let first_tap = taps * index / count;
            return Chunk { first_tap, taps: taps * (index + 1) / count - first_tap, start: 0, run };
        }
        let pieces = count / taps;
        let (first_tap, piece) = (index / pieces, index % pieces);
        let start = run * piece / pieces;
        Chunk { first_tap, taps: 1, start, run: run * (piece + 1) / pieces - start }
    }

    /// Computes a chunk of a panel, whose weights begin at `weight`, for all tiles; returns where they end.
    #[inline(always)]
    fn chunk<S: Simd, const NV: usize>(
        &mut self,
        simd: S,
        panel: usize,
        weight: *const f32,
        place: [usize; 2],
    ) -> *const f32 {
        let (tile, width) = (tile::rows_for(S::REGISTERS, NV), self.panels.width);
        let (column, chunk) = (panel * width, self.chunk_at(place));
        let (is_first, is_last) = (place[0] == 0, place[0] + 1 == place[1]);
        let mut job = self.job;
        (job.taps, job.start, job.run, job.weight) = (chunk.taps, chunk.start, chunk.run, weight);
        let first_pointer = match &mut job.addresses {
            Addresses::Indirect => chunk.first_tap * tile,
            Addresses::Offsets(offsets) => {
                *offsets = offsets.wrapping_add(chunk.first_tap);
                0
            }
        };
        job.channel_count = self.panels.columns_of(panel);
        job.column = column;
        if let (true, Some(bias)) = (is_first, self.epilogue.bias) {
            job.bias = bias.as_ptr().wrapping_add(self.group * self.panels.columns + column);
        }
        let steps = chunk.taps * chunk.run;
        let end = weight.wrapping_add(steps * width);
        // The next chunk is about as long.
        let mut next = Lines::new(end, steps * width);
        let tiles = self.tiling.tiles(self.pixels);
        let tiles_a_chunk = width.div_ceil(LINE);
        for index in 0..tiles {
            job.pixels = self.job.pixels.wrapping_add(index * self.pointers_a_tile + first_pointer);
            // Only the first panel meets pixels that are not in the second-level cache yet.
            let input = (panel == self.range.start && index + 1 < tiles).then(|| {
                let middle = job.taps / 2 * tile * usize::from(self.pointers_a_tile > tile);
                // SAFETY: the next tile has a pointer for each tap and pixel, or for each pixel.
                unsafe { *job.pixels.add(self.pointers_a_tile + middle) }.wrapping_add(chunk.start)
            });
            let rest = steps - chunk.run.min(steps);
            job.ahead = match input {
                _ if self.later.rest > 0 && index + tiles_a_chunk < tiles => {
                    [self.later.take(chunk.run), next.take(rest)]
                }
                Some(input) if chunk.taps > 1 || index + tiles_a_chunk < tiles => [input, next.take(rest)],
                _ => [next.take(chunk.run), next.take(rest)],
            };
            job.outputs = self.job.outputs.wrapping_add(index * tile);
            job.next_outputs = job.outputs.wrapping_add(if index + 1 < tiles { tile } else { 0 });
            job.pixel_count = self.tiling.pixels_of(index)[1];
            if let Some(sums) = self.sums {
                let sums = sums.wrapping_add(index * tile * width);
                job.sums = if is_first { std::ptr::null() } else { sums };
                job.keep = if is_last { std::ptr::null_mut() } else { sums };
            }
            job.moments = self.moments.map(|moments| moments.of(index));
            // SAFETY: `run_block` wrote the addresses of every tile; the weights' length and the views' shapes
            // were checked by the public function, so panel, bias and outputs are in bounds; a copy ends in as
            // many floats as a full tile reads, and there is room for the sums of all tiles.
            unsafe {
                match self.tiling.step {
                    Some(step) => tile::product_row::<S, NV>(simd, &job, step),
                    None => tile::product::<S, NV>(simd, &job),
                }
            }
        }
        end
    }
}

/// Cache lines to ask for, some at a time.
#[derive(Clone, Copy)]
pub(in crate::conv2d) struct Lines {
    next: *const f32,
    rest: usize,
}

impl Lines {
    /// Those of some floats.
    pub fn new(first: *const f32, floats: usize) -> Self {
        Self { next: first, rest: floats.div_ceil(LINE) }
    }

    /// One of `count` even shares.
    pub fn share(&self, index: usize, count: usize) -> Self {
        let bound = |index: usize| self.rest * index / count;
        Self { next: self.next.wrapping_add(bound(index) * LINE), rest: bound(index + 1) - bound(index) }
    }

    /// None.
    pub fn none() -> Self {
        Self::new(std::ptr::null(), 0)
    }

    /// The next `count` of them; where none are left, one that was asked for.
    fn take(&mut self, count: usize) -> *const f32 {
        let next = self.next;
        let count = count.min(self.rest);
        self.rest -= count;
        self.next = next.wrapping_add(count * LINE);
        next
    }
}
