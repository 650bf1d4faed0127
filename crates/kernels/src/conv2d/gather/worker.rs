//! A thread's share of the implicit GEMM: the copy or the addresses of a block, and its tiles.

use super::super::border;
use super::super::tile::{Addresses, ProductJob};
use super::tiles::{Epilogue, GroupedTiles, Lines, Tiles};
use super::{Cut, Gather, Source};
use crate::{View4, ViewMut4};
use std::ops::Range;

/// A thread's view of the work.
pub(super) struct Worker<'a> {
    pub gather: &'a Gather<'a>,
    pub output: &'a ViewMut4<'a>,
    pub epilogue: Epilogue<'a>,
    pub scratch: &'a mut [f32],
    pub pieces: [usize; 6],
}

impl Worker<'_> {
    pub fn run_part(mut self, input: View4, cut: Cut, part: usize) {
        let (gather, Cut { blocks, panel_ranges, parts, tiles_together }) = (self.gather, cut);
        let (group, rest) = (part % gather.groups, part / gather.groups);
        // Threads have neighbouring parts: first all blocks, for which a range of panels stays in the cache.
        let (run, range) = (rest % parts, rest / parts);
        let share = |of: usize, index: usize, count: usize| of * index / count..of * (index + 1) / count;
        let panels = share(gather.panels.count, range, panel_ranges);
        let columns = gather.grid[1];
        let pixels = gather.grid[0] * columns;
        if gather.copies() {
            for unit in share(input.n() * blocks, run, parts) {
                let (image, band) = (unit / blocks, gather.band(unit % blocks, blocks));
                let source = self.copy_between_zeros(input, image, &band);
                let block = [image * pixels + band.start * columns, band.len() * columns];
                let moments = self.epilogue.moments.map(|records| GroupedTiles {
                    records,
                    group: unit,
                    first: 0,
                    tiles_a_group: usize::MAX,
                });
                self.run_block(source, Lines::none(), block, group, &panels, moments);
            }
            return;
        }
        let (tile, pixels) = (gather.tile_rows(), input.n() * pixels);
        let total = pixels.div_ceil(tile);
        let source = Source {
            pointer: input.pixel(0).wrapping_add(group * gather.channels),
            size: gather.input,
            ld: input.ld(),
            origin: [0, 0],
            first_row: 0,
        };
        let together = share(total.div_ceil(tiles_together), run, parts);
        let own = together.start * tiles_together..total.min(together.end * tiles_together);
        let blocks = blocks.div_ceil(parts).max(own.len().div_ceil(gather.most_tiles()));
        for block in 0..blocks {
            let tiles = share(own.len(), block, blocks);
            let first_tile = own.start + tiles.start;
            let first = first_tile * tile;
            let moments = self.epilogue.moments.map(|records| GroupedTiles {
                records,
                group: first_tile / tiles_together,
                first: first_tile % tiles_together,
                tiles_a_group: tiles_together,
            });
            let count = (tiles.len() * tile).min(pixels - first);
            self.run_block(source, Lines::none(), [first, count], group, &panels, moments);
        }
    }

    /// The thread's scratch pieces: zeros, tap offsets, pixel pointers, output pointers, copy, sums.
    fn scratch_pointers(&mut self) -> [*mut f32; 6] {
        let mut start = 0;
        self.pieces.map(|length| {
            let pointer = self.scratch.as_mut_ptr().wrapping_add(start);
            start += length;
            pointer
        })
    }

    /// Copies what a band of an image reads into scratch memory, with zeros around it; returns it as a source.
    fn copy_between_zeros(&mut self, input: View4, image: usize, band: &Range<usize>) -> Source {
        let gather = self.gather;
        let (size, ld) = (gather.padded_size(), gather.channels);
        let (first_row, rows) = (band.start * gather.stride[0], gather.rows_read(band.len()));
        let copy = self.scratch_pointers()[4];
        // SAFETY: the piece has room for the rows of a band, and is this thread's alone.
        let to = unsafe { std::slice::from_raw_parts_mut(copy, rows * size[1] * ld) };
        border::copy_between_zeros(input, image, gather.padding, first_row..first_row + rows, to);
        let [top, _, _, left] = gather.padding;
        Source { pointer: copy, size, ld, origin: [top, left], first_row: image * size[0] + first_row }
    }

    /// Computes `count` grid pixels from `first` on, for a range of panels.
    pub fn run_block(
        &mut self,
        source: Source,
        later: Lines,
        [first, count]: [usize; 2],
        group: usize,
        panels: &Range<usize>,
        moments: Option<GroupedTiles>,
    ) {
        let gather = self.gather;
        let indirect = gather.is_padded() && !gather.copies();
        let [zeros, offsets, pixels, outputs, _, sums] = self.scratch_pointers();
        let (offsets, pixels, outputs) =
            (offsets.cast::<isize>(), pixels.cast::<*const f32>(), outputs.cast::<*mut f32>());
        let merged =
            gather.row_taps.filter(|_| gather.groups == 1 && source.ld == gather.channels && !indirect);
        let taps_a_run = merged.unwrap_or(1);
        let (taps, run) = (gather.taps.len() / taps_a_run, gather.channels * taps_a_run);
        let tile = gather.tile_rows();
        // SAFETY: the pieces have room for the taps, and for the pointers of the largest block's tiles.
        unsafe {
            if indirect {
                std::slice::from_raw_parts_mut(zeros, gather.channels).fill(0.0);
            } else {
                for (index, tap) in gather.taps.iter().step_by(taps_a_run).enumerate() {
                    let row = tap.row + source.origin[0] as isize;
                    let column = tap.column + source.origin[1] as isize;
                    let offset = (row * source.size[1] as isize + column) * source.ld as isize;
                    *offsets.add(index) = offset;
                }
            }
            let zeros = indirect.then_some(zeros.cast_const());
            self.addresses(source, [first, count], group, zeros, pixels, outputs);
        }
        let addresses = if indirect { Addresses::Indirect } else { Addresses::Offsets(offsets) };
        gather.isa.run(Tiles {
            job: ProductJob {
                taps,
                run,
                output_step: gather.output_step[1] * self.output.ld(),
                residual: self.epilogue.residual,
                activation: self.epilogue.activation,
                stream: self.epilogue.stream,
                ..ProductJob::new(pixels, addresses, tile, outputs)
            },
            tiling: gather.tiling(count),
            pixels: count,
            pointers_a_tile: if indirect { taps * tile } else { tile },
            panels: gather.panels,
            group,
            range: panels.clone(),
            first_row: gather.first_row,
            epilogue: self.epilogue,
            sums: gather.is_chunked().then_some(sums),
            later,
            moments,
        });
    }

    /// Writes the addresses of a block's pixels: inputs `[tile][tap][pixel]` or `[tile][pixel]`, outputs
    /// `[tile][pixel]`. A tile that is not full is filled up with its last pixel.
    ///
    /// # Safety
    /// `pixels` and `outputs` have room for the block's tiles; the pixels lie in the input and output views.
    unsafe fn addresses(
        &self,
        source: Source,
        [first, count]: [usize; 2],
        group: usize,
        zeros: Option<*const f32>,
        pixels: *mut *const f32,
        outputs: *mut *mut f32,
    ) {
        let gather = self.gather;
        let ([rows, columns], taps, tile) = (gather.grid, gather.taps.len(), gather.tile_rows());
        let tiling = gather.tiling(count);
        let base = self.output.pointer().wrapping_add(group * gather.outputs);
        for tile_index in 0..tiling.tiles(count) {
            let [start, tile_count] = tiling.pixels_of(tile_index);
            let pixel = first + start;
            let (mut image, mut row, mut column) =
                (pixel / (rows * columns), pixel / columns % rows, pixel % columns);
            // The pixels of a tile with a step follow from its first.
            for place in 0..if tiling.step.is_some() { 1 } else { tile } {
                let corner = [row * gather.stride[0], column * gather.stride[1]];
                let at = [0, 1]
                    .map(|axis| [row, column][axis] * gather.output_step[axis] + gather.output_offset[axis]);
                let output = (image * gather.output[0] + at[0]) * gather.output[1] + at[1];
                // SAFETY: tile and place are within the block; the caller vouches for the room.
                unsafe {
                    *outputs.add(tile_index * tile + place) = base.wrapping_add(output * self.output.ld());
                    if let Some(zeros) = zeros {
                        let table = pixels.add(tile_index * taps * tile + place);
                        self.tap_addresses(source, image, corner, zeros, table);
                    } else {
                        let row = image * source.size[0] + corner[0] - source.first_row;
                        let pixel = row * source.size[1] + corner[1];
                        *pixels.add(tile_index * tile + place) =
                            source.pointer.wrapping_add(pixel * source.ld);
                    }
                }
                if place + 1 < tile_count {
                    column += 1;
                    if column == columns {
                        (column, row) = (0, row + 1);
                    }
                    if row == rows {
                        (row, image) = (0, image + 1);
                    }
                }
            }
        }
    }

    /// Writes the address of each tap of a pixel, a tile's pixels apart; those outside the input are `zeros`.
    ///
    /// # Safety
    /// `table` has room for every tap.
    #[inline(always)]
    unsafe fn tap_addresses(
        &self,
        source: Source,
        image: usize,
        corner: [usize; 2],
        zeros: *const f32,
        table: *mut *const f32,
    ) {
        let ([h, w], tile) = (source.size, self.gather.tile_rows());
        for (index, tap) in self.gather.taps.iter().enumerate() {
            // A negative position becomes a huge one, so one comparison checks both ends.
            let row = corner[0].wrapping_add_signed(tap.row);
            let column = corner[1].wrapping_add_signed(tap.column);
            let pixel = (image * h).wrapping_add(row).wrapping_mul(w).wrapping_add(column);
            let inside = source.pointer.wrapping_add(pixel.wrapping_mul(source.ld));
            // SAFETY: the caller vouches for the room.
            unsafe { *table.add(index * tile) = if row < h && column < w { inside } else { zeros } };
        }
    }
}
