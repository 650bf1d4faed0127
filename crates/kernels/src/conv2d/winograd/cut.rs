//! How the work is cut: tiles of a block, of a product and of a record of moments, ranges of panels, scratch
//! memory.

use super::super::moments::{self, Records};
use super::super::winograd_transform::FREQUENCIES;
use super::super::{scratch, tile};
use super::{GAP, Winograd};

/// Time in which a block reads the weights, in tiles multiplied with them.
const WEIGHTS_IN_TILES: usize = 3;

/// Tiles whose inputs are transformed while one is multiplied with a panel.
const TILES_TRANSFORMED: usize = 4;

impl Winograd {
    /// The most tiles of a block: more where the weights are large, since each block reads all of them; few
    /// enough that V and M pass through the second-level cache.
    pub(in super::super) fn most_tiles(&self) -> usize {
        match self.channels[0].max(self.channels[1]) {
            ..128 => 14,
            128..256 => 28,
            _ => 32,
        }
    }

    /// Tiles of a block, as many as allow full register tiles and even shares for the threads, and ranges that
    /// the panels are cut into: each range transforms a block's inputs again, but reads only its own weights.
    /// No result depends on it, but moments do on the blocks, which then are those of one thread.
    pub(super) fn cut(&self, total: usize, threads: usize, moments: bool) -> [usize; 2] {
        let sizes = match moments {
            true => [self.tiles_a_group(total); 2],
            false => [1, self.most_tiles()],
        };
        let ranges = [1, threads.min(self.panels.count)];
        let cuts =
            ranges.into_iter().flat_map(|ranges| (sizes[0]..=sizes[1]).map(move |tiles| [tiles, ranges]));
        cuts.min_by_key(|&cut| self.cost(total, threads, cut)).unwrap_or([1, 1])
    }

    /// Time that a cut takes, in tiles multiplied with a panel.
    fn cost(&self, total: usize, threads: usize, [tiles, ranges]: [usize; 2]) -> usize {
        let computed = tiles.div_ceil(self.tiles_a_product(tiles)) * self.tiles_a_product(tiles);
        let panels = self.panels.count.div_ceil(ranges);
        let a_part = panels * (computed + WEIGHTS_IN_TILES) + tiles.div_ceil(TILES_TRANSFORMED);
        (total.div_ceil(tiles) * ranges).div_ceil(threads) * a_part
    }

    /// Tiles whose results one record of moments sums: those of a block.
    fn tiles_a_group(&self, total: usize) -> usize {
        (1..=self.most_tiles()).min_by_key(|&tiles| self.cost(total, 1, [tiles, 1])).unwrap_or(1)
    }

    /// Floats of the moments of a batch's results.
    pub fn moments_len(&self, batch: usize) -> usize {
        let total = self.tiles(batch);
        moments::moments_len(total.div_ceil(self.tiles_a_group(total)), self.channels[1])
    }

    /// The records of a batch's moments.
    pub(super) fn records(&self, batch: usize, moments: &mut [f32]) -> Records {
        let total = self.tiles(batch);
        let each = self.tiles_a_group(total);
        let ([oh, ow], [_, columns], outputs) = (self.output, self.grid(), self.form.outputs());
        let pixels = |tile: usize| {
            let [row, column] = [tile / columns % self.grid()[0], tile % columns].map(|at| at * outputs);
            (oh - row).min(outputs) * (ow - column).min(outputs)
        };
        let of_group = |group: usize| (group * each..total.min((group + 1) * each)).map(pixels).sum();
        Records::new(moments, self.channels[1], (0..total.div_ceil(each)).map(of_group))
    }

    /// Tiles of one matrix product, so that those of a block need few products of full height.
    pub(super) fn tiles_a_product(&self, tiles: usize) -> usize {
        let rows = self.tile_rows();
        let heights_apart = if rows.is_multiple_of(9) { 3 } else { 2 };
        let fewest = tiles.div_ceil(rows);
        let height = |products: usize| tiles.div_ceil(products).next_multiple_of(heights_apart).min(rows);
        [fewest, fewest + 1]
            .map(height)
            .into_iter()
            .min_by_key(|&height| tiles.div_ceil(height) * height)
            .unwrap_or(rows)
    }

    /// Floats of a thread's V, M and tables.
    pub(super) fn scratch_pieces(&self) -> [usize; 4] {
        let tiles = self.most_tiles();
        let products =
            (1..=tiles).map(|tiles| tiles.div_ceil(self.tiles_a_product(tiles))).max().unwrap_or(1);
        [
            FREQUENCIES * (tiles * self.channels[0] + GAP),
            FREQUENCIES * (tiles * self.panels.count * self.panels.width + GAP),
            2 * scratch::pointers(products * self.tile_rows()),
            self.channels[0],
        ]
    }

    /// Floats of scratch memory, for any batch.
    pub fn scratch_len(&self, threads: usize) -> usize {
        threads * self.scratch_pieces().iter().sum::<usize>()
    }

    /// Tiles of a register tile.
    pub(super) fn tile_rows(&self) -> usize {
        tile::rows(self.isa, self.panels.width / self.isa.lanes())
    }
}
