//! The implicit GEMM that forward and input gradient share.
//!
//! Output pixels on a grid each read the input at a list of taps. Tiles of consecutive pixels, across rows and images,
//! go through the register tile; the addresses of a block of tiles are computed once and serve all panels of weights.
//! How a tile finds its floats depends on the padding:
//!
//! - no tap leaves the input: one pointer a pixel, one offset a tap. Where the taps of a kernel row stand side by side
//!   (dense pixels, no dilation), they are one tap with a run of `kernel width x channels` floats;
//! - few channels, padded: the image is first copied between zeros, then as above, in tiles that stay within a row, whose
//!   pixels need one pointer in all. A run of one to eight floats would leave the tile idle most of the time;
//! - otherwise one pointer for each tap and pixel, those outside the input pointing to zeros.

use super::layout::Panels;
use super::tile::{self, Addresses, ProductJob};
use super::{Conv2dShape, Isa, border};
use crate::simd::{Kernel, Simd};
use crate::threads::Shareable;
use crate::{Activation, Context, View4, ViewMut4};

/// A tap: the input pixel read by grid pixel (i, j) is (i stride + row, j stride + column).
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    pub row: isize,
    pub column: isize,
}

/// The pixels of dx whose position modulo the stride is the same: they meet the same taps of the kernel, so they are a
/// convolution of stride 1 over dy.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    /// First row and column of dx.
    pub offset: [usize; 2],
    /// Rows and columns of dx, a stride apart.
    pub grid: [usize; 2],
    pub taps: Vec<Tap>,
    /// For each tap, its place in the kernel (row x kernel width + column).
    pub kernel_taps: Vec<usize>,
    /// Taps of the phases before.
    pub first_tap: usize,
}

/// The taps of the forward pass, in the kernel's order.
pub(super) fn forward_taps(shape: &Conv2dShape) -> Vec<Tap> {
    let ([kh, kw], [dh, dw]) = (shape.kernel, shape.dilation);
    let [top, _, _, left] = shape.padding;
    let tap = |row: usize, column: usize| Tap {
        row: (row * dh) as isize - top as isize,
        column: (column * dw) as isize - left as isize,
    };
    (0..kh * kw).map(|index| tap(index / kw, index % kw)).collect()
}

/// The phases of the input gradient: stride height x stride width of them, fewer where dx is smaller than the stride.
pub(super) fn input_gradient_phases(shape: &Conv2dShape) -> Vec<Phase> {
    let [top, _, _, left] = shape.padding;
    // On one axis: the kernel's taps a with (position + padding - a dilation) divisible by the stride, and the quotients.
    let taps_of = |axis: usize, position: usize, padding: usize| -> Vec<(usize, isize)> {
        let (dilation, stride) = (shape.dilation[axis], shape.stride[axis] as isize);
        let reach = |tap: usize| (position + padding) as isize - (tap * dilation) as isize;
        let meets = |&tap: &usize| reach(tap) % stride == 0;
        (0..shape.kernel[axis]).filter(meets).map(|tap| (tap, reach(tap) / stride)).collect()
    };
    let [h, w, _] = shape.input;
    let mut phases = Vec::new();
    let mut first_tap = 0;
    for row in 0..shape.stride[0].min(h) {
        for column in 0..shape.stride[1].min(w) {
            let rows = taps_of(0, row, top);
            let columns = taps_of(1, column, left);
            let pairs = rows.iter().flat_map(|row| columns.iter().map(move |column| (*row, *column)));
            let (kernel_taps, taps) = pairs
                .map(|((a, row), (b, column))| (a * shape.kernel[1] + b, Tap { row, column }))
                .unzip::<_, _, Vec<_>, Vec<_>>();
            let grid = [(h - row).div_ceil(shape.stride[0]), (w - column).div_ceil(shape.stride[1])];
            let count = taps.len();
            phases.push(Phase { offset: [row, column], grid, taps, kernel_taps, first_tap });
            first_tap += count;
        }
    }
    phases
}

/// How far the taps reach outside an input from a grid of stride 1: top, right, bottom, left.
pub(super) fn reach(taps: &[Tap], grid: [usize; 2], input: [usize; 2]) -> [usize; 4] {
    let beyond = |place: isize, size: usize| (place + 1 - size as isize).max(0) as usize;
    taps.iter().fold([0; 4], |[top, right, bottom, left], tap| {
        [
            top.max((-tap.row).max(0) as usize),
            right.max(beyond(tap.column + grid[1] as isize - 1, input[1])),
            bottom.max(beyond(tap.row + grid[0] as isize - 1, input[0])),
            left.max((-tap.column).max(0) as usize),
        ]
    })
}

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
struct Source {
    /// The first image's first pixel.
    pointer: *const f32,
    /// Rows and columns, padding included where it was copied.
    size: [usize; 2],
    ld: usize,
    /// Rows and columns of padding before the first pixel, where it was copied.
    origin: [usize; 2],
}

/// The weights and epilogue of a pass.
#[derive(Clone, Copy)]
struct Epilogue<'a> {
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    /// Floats from an output to its residual.
    residual: Option<isize>,
    relu: bool,
    stream: bool,
}

/// How the work is cut, by shape alone.
struct Cut {
    /// Images of a block where the input is copied between zeros, else 0.
    images: usize,
    /// Tiles of a block.
    tiles: usize,
    blocks: usize,
    /// Ranges that the panels are cut into.
    panel_ranges: usize,
}

/// The tiles of a block. A line is a row of the grid where tiles stay within one, else the whole block.
#[derive(Clone, Copy)]
struct Tiling {
    /// Pixels of a line.
    line: usize,
    tiles_a_line: usize,
    /// Pixels of a tile; a line's last has what is left.
    pixels_a_tile: usize,
    /// Floats between neighbouring pixels of a tile, where one pointer serves all.
    step: Option<usize>,
}

impl Tiling {
    /// Tiles of `count` pixels, which are whole lines.
    fn tiles(&self, count: usize) -> usize {
        count / self.line.max(1) * self.tiles_a_line
    }

    /// The first pixel of a tile, and how many it has.
    fn pixels_of(&self, tile: usize) -> [usize; 2] {
        let (line, place) = (tile / self.tiles_a_line, tile % self.tiles_a_line * self.pixels_a_tile);
        [line * self.line + place, (self.line - place).min(self.pixels_a_tile)]
    }
}

/// A vector multiply-add is about half a cycle; a part should be worth some microseconds.
const MULTIPLY_ADDS_A_PART: usize = 1 << 15;

/// Bytes of input that a block of tiles may cover: it is read once for each panel, from the second-level cache.
const BLOCK_BYTES: usize = 128 << 10;

/// The most tiles of a block that the cache and sharing ask for.
const MOST_TILES: usize = 64;

/// Enough parts for sixteen threads to share evenly.
const PARTS_WANTED: usize = 64;

/// Alignment of the pieces of a thread's scratch memory, in floats.
const ALIGNMENT: usize = 16;

impl Gather<'_> {
    fn is_padded(&self) -> bool {
        self.padding != [0; 4]
    }

    /// Whether the input is copied between zeros: kernel rows become runs worth a register tile.
    fn copies(&self) -> bool {
        self.is_padded() && self.groups == 1 && self.channels < 8 && self.row_taps.is_some()
    }

    /// Floats between neighbouring pixels of a tile that stays within a row of the copy, if there are such tiles.
    fn pixel_step(&self) -> Option<usize> {
        let step = self.channels * self.stride[1];
        (self.copies() && tile::PIXEL_STEPS.contains(&step)).then_some(step)
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

    fn cut(&self, batch: usize) -> Cut {
        let pixels = self.grid[0] * self.grid[1];
        let (tile, work) = (self.tile_rows(), self.tile_work());
        if self.copies() {
            let tiles = self.tiling(pixels).tiles(pixels);
            let images = MULTIPLY_ADDS_A_PART.div_ceil(work * tiles).min(batch.max(1));
            return Cut { images, tiles, blocks: batch.div_ceil(images), panel_ranges: 1 };
        }
        let total = (batch * pixels).div_ceil(tile).max(1);
        let bytes = tile * self.channels * self.stride[0] * self.stride[1] * size_of::<f32>();
        let for_cache = (BLOCK_BYTES / bytes.max(1)).clamp(2, MOST_TILES);
        let for_sharing = total.div_ceil(PARTS_WANTED);
        let for_work = MULTIPLY_ADDS_A_PART.div_ceil(work);
        let tiles = for_cache.min(for_sharing).max(for_work).min(total);
        let blocks = total.div_ceil(tiles);
        let ranges_for_work = work * tiles / MULTIPLY_ADDS_A_PART;
        let ranges_for_sharing = PARTS_WANTED / (blocks * self.groups);
        let panel_ranges = ranges_for_work.min(ranges_for_sharing).clamp(1, self.panels.count);
        Cut { images: 0, tiles, blocks, panel_ranges }
    }

    /// Multiply-adds of a tile over all panels.
    fn tile_work(&self) -> usize {
        let vectors = self.panels.width / self.isa.lanes() * self.panels.count;
        (self.tile_rows() * self.taps.len() * self.channels * vectors).max(1)
    }

    /// Floats of each piece of a thread's scratch memory: zeros, tap offsets, pixel pointers, output pointers, copy.
    fn scratch_pieces(&self) -> [usize; 5] {
        let words =
            |count: usize| (count * size_of::<usize>() / size_of::<f32>()).next_multiple_of(ALIGNMENT);
        let (tile, taps, copies) = (self.tile_rows(), self.taps.len().max(1), self.copies());
        let indirect = self.is_padded() && !copies;
        // No batch leads to a larger block.
        let tiles = match copies {
            true => self.tiling(self.grid[0] * self.grid[1]).tiles(self.grid[0] * self.grid[1]),
            false => MULTIPLY_ADDS_A_PART.div_ceil(self.tile_work()).max(MOST_TILES),
        };
        let [h, w] = self.padded_size();
        // A tile that is not full reads what its other pixels would have, behind the last row too.
        let behind = self.pixel_step().map_or(0, |step| tile * step);
        [
            if indirect { self.channels.next_multiple_of(ALIGNMENT) } else { 0 },
            words(taps),
            words(tiles * tile * if indirect { taps } else { 1 }),
            words(tiles * tile),
            if copies { (h * w * self.channels + behind).next_multiple_of(ALIGNMENT) } else { 0 },
        ]
    }

    pub(super) fn scratch_len(&self, threads: usize) -> usize {
        threads * self.scratch_pieces().iter().sum::<usize>()
    }

    /// Computes every grid pixel of `output` from `input`. The caller has checked shapes and weight length.
    #[allow(clippy::too_many_arguments)] // the tensors of a pass
    pub(super) fn run(
        &self,
        context: Context,
        input: View4,
        weight: &[f32],
        bias: Option<&[f32]>,
        residual: Option<View4>,
        activation: Activation,
        output: &ViewMut4,
        scratch: &mut [f32],
    ) {
        let pieces = self.scratch_pieces();
        let a_thread = pieces.iter().sum::<usize>();
        assert!(scratch.len() >= a_thread * context.pool.threads(), "the scratch memory is too short");
        assert!(scratch.as_ptr().cast::<usize>().is_aligned(), "the scratch memory is not aligned");
        let relu = activation == Activation::Relu;
        let in_place = residual.is_some_and(|residual| residual.pointer() == output.pointer().cast_const());
        let residual = residual.map(|residual| output.distance_to(residual));
        let stream = output.streams() && !in_place && self.panels.width.is_multiple_of(tile::LINE);
        let epilogue = Epilogue { weight, bias, residual, relu, stream };
        let cut = self.cut(input.n());
        let scratch = Shareable::new(scratch);
        let parts = cut.blocks * cut.panel_ranges * self.groups;
        context.pool.run(parts, |thread, part| {
            // SAFETY: each thread has its own range of the scratch memory, whose length is checked above.
            let scratch = unsafe { scratch.slice(thread * a_thread, a_thread) };
            let worker = Worker { gather: self, input, output, epilogue, cut: &cut, scratch, pieces };
            worker.run_part(part);
        });
    }
}

/// A thread's view of the work.
struct Worker<'a> {
    gather: &'a Gather<'a>,
    input: View4<'a>,
    output: &'a ViewMut4<'a>,
    epilogue: Epilogue<'a>,
    cut: &'a Cut,
    scratch: &'a mut [f32],
    pieces: [usize; 5],
}

impl Worker<'_> {
    fn run_part(mut self, part: usize) {
        let Cut { images, tiles, blocks, panel_ranges } = *self.cut;
        let (group, rest) = (part % self.gather.groups, part / self.gather.groups);
        let (range, block) = (rest % panel_ranges, rest / panel_ranges);
        let count = self.gather.panels.count;
        let panels = [count * range / panel_ranges, count * (range + 1) / panel_ranges];
        debug_assert!(block < blocks);
        let pixels_an_image = self.gather.grid[0] * self.gather.grid[1];
        if images > 0 {
            for image in block * images..((block + 1) * images).min(self.input.n()) {
                let source = self.copy_between_zeros(image);
                self.run_block(source, [image * pixels_an_image, pixels_an_image], group, panels);
            }
            return;
        }
        let tile = self.gather.tile_rows();
        let total = self.input.n() * pixels_an_image;
        let first = block * tiles * tile;
        let source = Source {
            pointer: self.input.pixel(0).wrapping_add(group * self.gather.channels),
            size: self.gather.input,
            ld: self.input.ld(),
            origin: [0, 0],
        };
        self.run_block(source, [first, (tiles * tile).min(total - first)], group, panels);
    }

    /// The thread's scratch pieces: zeros, tap offsets, pixel pointers, output pointers, copy.
    fn scratch_pointers(&mut self) -> [*mut f32; 5] {
        let mut start = 0;
        self.pieces.map(|length| {
            let pointer = self.scratch.as_mut_ptr().wrapping_add(start);
            start += length;
            pointer
        })
    }

    /// Copies an image into scratch memory with zeros around it; returns it as a source of one image.
    fn copy_between_zeros(&mut self, image: usize) -> Source {
        let (size, ld) = (self.gather.padded_size(), self.gather.channels);
        let copy = self.scratch_pointers()[4];
        // SAFETY: the piece has room for the padded image, and is this thread's alone.
        let to = unsafe { std::slice::from_raw_parts_mut(copy, size[0] * size[1] * ld) };
        border::copy_between_zeros(self.input, image, self.gather.padding, to);
        let [top, _, _, left] = self.gather.padding;
        Source { pointer: copy, size, ld, origin: [top, left] }
    }

    /// Computes `count` grid pixels from `first` on, for a range of panels.
    fn run_block(&mut self, source: Source, [first, count]: [usize; 2], group: usize, panels: [usize; 2]) {
        let gather = self.gather;
        let copied = self.cut.images > 0;
        let indirect = gather.is_padded() && !copied;
        let [zeros, offsets, pixels, outputs, _] = self.scratch_pointers();
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
            self.addresses(source, [first, count], copied, group, zeros, pixels, outputs);
        }
        gather.isa.run(Tiles {
            job: ProductJob {
                pixels,
                addresses: if indirect { Addresses::Indirect } else { Addresses::Offsets(offsets) },
                pitch: tile,
                taps,
                run,
                weight: std::ptr::null(),
                outputs,
                output_step: gather.output_step[1] * self.output.ld(),
                column: 0,
                pixel_count: tile,
                channel_count: 0,
                bias: std::ptr::null(),
                sums: std::ptr::null(),
                residual: self.epilogue.residual,
                relu: self.epilogue.relu,
                stream: self.epilogue.stream,
                ahead: std::ptr::null(),
            },
            tiling: gather.tiling(count),
            pixels: count,
            pointers_a_tile: if indirect { taps * tile } else { tile },
            panels: gather.panels,
            group,
            range: panels,
            first_row: gather.first_row,
            epilogue: self.epilogue,
        });
    }

    /// Writes the addresses of a block's pixels: inputs `[tile][tap][pixel]` or `[tile][pixel]`, outputs `[tile][pixel]`.
    /// A tile that is not full is filled up with its last pixel.
    ///
    /// # Safety
    /// `pixels` and `outputs` have room for the block's tiles; the pixels lie in the input and output views.
    #[allow(clippy::too_many_arguments)]
    unsafe fn addresses(
        &self,
        source: Source,
        [first, count]: [usize; 2],
        copied: bool,
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
                // A copied source holds one image.
                let source_image = if copied { 0 } else { image };
                let corner = [row * gather.stride[0], column * gather.stride[1]];
                let at = [0, 1]
                    .map(|axis| [row, column][axis] * gather.output_step[axis] + gather.output_offset[axis]);
                let output = (image * gather.output[0] + at[0]) * gather.output[1] + at[1];
                // SAFETY: tile and place are within the block; the caller vouches for the room.
                unsafe {
                    *outputs.add(tile_index * tile + place) = base.wrapping_add(output * self.output.ld());
                    if let Some(zeros) = zeros {
                        let table = pixels.add(tile_index * taps * tile + place);
                        self.tap_addresses(source, source_image, corner, zeros, table);
                    } else {
                        let pixel = (source_image * source.size[0] + corner[0]) * source.size[1] + corner[1];
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

/// The tiles of a block, for each panel of a range.
struct Tiles<'a> {
    /// The parts of a job that are the same for all.
    job: ProductJob,
    tiling: Tiling,
    pixels: usize,
    pointers_a_tile: usize,
    panels: &'a Panels,
    group: usize,
    range: [usize; 2],
    first_row: usize,
    epilogue: Epilogue<'a>,
}

impl Kernel for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
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
    fn each<S: Simd, const NV: usize>(&self, simd: S) {
        let tile = tile::rows_for(S::REGISTERS, NV);
        let first_column = self.group * self.panels.columns;
        for panel in self.range[0]..self.range[1] {
            let column = panel * self.panels.width;
            let mut job = self.job;
            let row = self.panels.start(self.group, panel) + self.first_row * self.panels.width;
            job.weight = self.epilogue.weight.as_ptr().wrapping_add(row);
            job.channel_count = self.panels.columns_of(panel);
            if let Some(bias) = self.epilogue.bias {
                job.bias = bias.as_ptr().wrapping_add(first_column + column);
            }
            job.column = column;
            let tiles = self.tiling.tiles(self.pixels);
            for index in 0..tiles {
                job.pixels = self.job.pixels.wrapping_add(index * self.pointers_a_tile);
                // Only the first panel meets pixels that are not in the second-level cache yet.
                job.ahead = if panel == self.range[0] && index + 1 < tiles {
                    // SAFETY: the next tile has a pointer for each tap and pixel, or for each pixel.
                    unsafe { *job.pixels.add(self.pointers_a_tile + self.pointers_a_tile / 2 / tile * tile) }
                } else {
                    job.weight
                };
                job.outputs = self.job.outputs.wrapping_add(index * tile);
                job.pixel_count = self.tiling.pixels_of(index)[1];
                // SAFETY: `run_block` wrote the addresses of every tile; the weights' length and the views' shapes were
                // checked by the public function, so panel, bias and outputs are in bounds; a copy ends in as many
                // floats as a full tile reads.
                unsafe {
                    match self.tiling.step {
                        Some(step) => tile::product_row::<S, NV>(simd, job, step),
                        None => tile::product::<S, NV>(simd, job),
                    }
                }
            }
        }
    }
}
