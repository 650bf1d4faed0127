//! The weight gradient by Winograd's F(4x4, 3x3): 36 multiplications instead of 144 for each tile of 4 x 4 outputs.
//!
//! The forward pass is y = A' (G g G' . V) A with V = B' d B; its transpose by g is dg = G' (V . Z) G with Z = A dy A',
//! where the products are summed over all tiles: 36 matrix products, one for each frequency, whose inner dimension
//! runs over tiles. (Lavin and Gray 2015, arXiv:1509.09308; the points are those of [`super::winograd`].)
//!
//! A block of tiles is transformed into V and Z; then, for each cell of 16 input channels by a panel of output channels,
//! the 36 sums over the block are gathered in a buffer that stays in the cache, transformed by G and added to dw.
//!
//! V and Z are `[channels / width][frequency][tile][width]` with width 16 or the panel's, so that a cell reads both as
//! streams.
//!
//! Small weights are cut by chunks of the tiles: a part transforms and multiplies alone, into its own copy of dw, and the
//! copies are added in order. Large ones are cut by channels: all threads transform a block together, then share its
//! cells. Both by shape alone, so the bits do not depend on the number of threads.

use super::layout::Panels;
use super::tile::{Reduction, ReductionJob};
use super::weight_gradient::add_chunks;
use super::winograd_transform::{
    FREQUENCIES, INPUTS, OUTPUTS, input_line, output_gradient_line, weight_gradient_line,
};
use super::{Conv2d, Conv2dShape};
use crate::simd::{Kernel, Simd};
use crate::threads::Shareable;
use crate::{Context, Isa, View4};
use std::ops::Range;

/// Input channels of a cell.
const GROUP: usize = 16;

/// Floats between the frequencies of V, Z and the sums, so that their lines fall into different sets of the cache.
const GAP: usize = 16;

/// Floats of a cache line.
const LINE: usize = 16;

/// Channels below which transforming costs more than multiplying.
const FEWEST_CHANNELS: usize = 32;

/// Tiles below which direct summation is faster.
const FEWEST_TILES: usize = 64;

/// Chunks, each with its own copy of dw: enough for as many threads, few enough to be added quickly.
const CHUNKS: Range<usize> = 8..17;

/// Floats of all copies of dw together.
const COPIES_LEN: usize = 1 << 20;

/// Tiles of a block, at most: the more, the fewer times the sums are transformed, the fewer, the more of V and Z stays
/// in the second-level cache.
const TILES: usize = 64;

/// Floats of Z that are read again and again, once for each group of input channels: half of a second-level cache.
const Z_LEN: usize = 1 << 17;

/// Groups of input channels, or panels of output channels, that are transformed together: few, so that the lines of
/// all frequencies stay in the first-level cache, but not one, since a tile's pixels must be found first.
const UNITS_A_TRANSFORM: usize = 2;

/// The weight gradient of a convolution as Winograd's algorithm computes it.
#[derive(Clone, Debug)]
pub struct WeightGradient {
    isa: Isa,
    panels: Panels,
    /// Input and output channels.
    channels: [usize; 2],
    input: [usize; 2],
    output: [usize; 2],
    /// Zeros before the first row and column.
    origin: [usize; 2],
}

/// How the work is cut, by shape alone.
#[derive(Clone, Copy)]
struct Cut {
    /// Chunks of the tiles, each with its own copy of dw; one where the channels are cut instead.
    chunks: usize,
    /// Tiles of a block.
    tiles: usize,
    /// Panels whose Z stays in the cache while all of V passes.
    panels: usize,
}

/// Floats of the pieces of the scratch memory.
#[derive(Clone, Copy)]
struct Pieces {
    zeros: usize,
    v: usize,
    z: usize,
    sums: usize,
    copy: usize,
}

impl WeightGradient {
    /// The weight gradient in this form, if it has one and if it pays for a batch: 3 x 3 kernels of stride 1 with
    /// channels enough, a multiple of 16 on both sides, and tiles enough.
    pub fn choose(convolution: &Conv2d, batch: usize) -> Option<Self> {
        let Conv2dShape { input: [h, w, c], filters, kernel, stride, padding, dilation, groups } =
            convolution.shape;
        let [oh, ow, _] = convolution.output;
        let fits = kernel == [3, 3] && stride == [1, 1] && dilation == [1, 1] && groups == 1;
        let whole = |channels: usize| channels >= FEWEST_CHANNELS && channels.is_multiple_of(GROUP);
        if !fits || !whole(c) || !whole(filters) {
            return None;
        }
        let [top, _, _, left] = padding;
        let gradient = Self {
            isa: convolution.isa,
            panels: convolution.panels,
            channels: [c, filters],
            input: [h, w],
            output: [oh, ow],
            origin: [top, left],
        };
        (gradient.total(batch) >= FEWEST_TILES).then_some(gradient)
    }

    /// Rows and columns of tiles.
    fn grid(&self) -> [usize; 2] {
        self.output.map(|size| size.div_ceil(OUTPUTS))
    }

    /// Tiles of a batch.
    fn total(&self, batch: usize) -> usize {
        let [rows, columns] = self.grid();
        batch * rows * columns
    }

    fn cut(&self, batch: usize) -> Cut {
        let (total, [c, k]) = (self.total(batch), self.channels);
        let chunks = (COPIES_LEN / (9 * c * k)).min(total / TILES).min(CHUNKS.end - 1);
        let chunks = if CHUNKS.contains(&chunks) { 1 << chunks.ilog2() } else { 1 };
        let tiles = total.div_ceil(chunks).max(1); // of a chunk
        let tiles = tiles.div_ceil(tiles.div_ceil(TILES));
        let panels = (Z_LEN / (FREQUENCIES * tiles * self.panels.width)).clamp(1, self.panels.count);
        Cut { chunks, tiles, panels }
    }

    fn pieces(&self, cut: Cut) -> Pieces {
        let [c, k] = self.channels;
        Pieces {
            zeros: c.max(k).next_multiple_of(16),
            v: c / GROUP * FREQUENCIES * (cut.tiles * GROUP + GAP),
            z: self.panels.count * FREQUENCIES * (cut.tiles * self.panels.width + GAP),
            sums: FREQUENCIES * (GROUP * self.panels.width + GAP),
            copy: if cut.chunks > 1 { (self.panels.len() + k).next_multiple_of(16) } else { 0 },
        }
    }

    /// Floats of scratch memory for a batch and a number of threads; not more for a smaller batch.
    pub fn scratch_len(&self, batch: usize, threads: usize) -> usize {
        // Blocks are as even as can be, so a larger batch may have smaller ones.
        let largest = Cut { tiles: self.total(batch).min(TILES), ..self.cut(batch) };
        let Pieces { zeros, v, z, sums, copy } = self.pieces(largest);
        let blocks = if largest.chunks > 1 { threads } else { 1 };
        zeros + blocks * (v + z) + threads * sums + largest.chunks * copy
    }

    /// The algorithm and its cell, for people: `Winograd F(4x4, 3x3) 16x32`.
    pub fn algorithm(&self) -> String {
        format!("Winograd F(4x4, 3x3) {GROUP}x{}", self.panels.width)
    }

    /// dweight and dbias, overwritten: the gradients of the loss by the weights, in the kernels' layout, and by the
    /// bias `[filters]`.
    ///
    /// Shapes: x `[n, h, w, c]`, dy `[n, h', w', filters]`.
    ///
    /// # Panics
    /// When a shape or length is not the convolution's, or the scratch memory is shorter than [`Self::scratch_len`].
    pub fn run(
        &self,
        context: Context,
        x: View4,
        dy: View4,
        dweight: &mut [f32],
        dbias: Option<&mut [f32]>,
        scratch: &mut [f32],
    ) {
        let ([h, w], [oh, ow], [c, k], n) = (self.input, self.output, self.channels, x.n());
        assert_eq!(context.isa, self.isa, "weights are laid out for one instruction set");
        assert_eq!((x.shape(), dy.shape()), ([n, h, w, c], [n, oh, ow, k]));
        assert_eq!(dweight.len(), self.panels.len());
        assert!(dbias.as_ref().is_none_or(|dbias| dbias.len() == k));
        let needed = self.scratch_len(n, context.pool.threads());
        assert!(scratch.len() >= needed, "the scratch memory is too short");
        if n == 0 {
            dweight.fill(0.0);
            dbias.unwrap_or_default().fill(0.0);
            return;
        }
        let cut = self.cut(n);
        let pieces = self.pieces(cut);
        let (zeros, scratch) = scratch.split_at_mut(pieces.zeros);
        zeros.fill(0.0);
        let with_bias = dbias.is_some();
        let pass = Pass {
            gradient: self,
            context,
            cut,
            pieces,
            x,
            dy,
            zeros,
            scratch: Shareable::new(scratch),
            dweight: Shareable::new(dweight),
            dbias: with_bias.then_some(Shareable::new(dbias.unwrap_or_default())),
        };
        if cut.chunks > 1 { pass.by_chunks() } else { pass.by_channels() }
    }
}

/// One call of [`WeightGradient::run`].
struct Pass<'a> {
    gradient: &'a WeightGradient,
    context: Context<'a>,
    cut: Cut,
    pieces: Pieces,
    x: View4<'a>,
    dy: View4<'a>,
    /// As many as channels.
    zeros: &'a [f32],
    scratch: Shareable<f32>,
    dweight: Shareable<f32>,
    dbias: Option<Shareable<f32>>,
}

impl Pass<'_> {
    /// Each part transforms and multiplies a chunk of the tiles into its own copy of the gradients.
    fn by_chunks(&self) {
        let Self { gradient, context, cut, pieces, .. } = self;
        let (total, [_, k]) = (gradient.total(self.x.n()), gradient.channels);
        let a_thread = pieces.v + pieces.z + pieces.sums;
        let copies = self.scratch.pointer().wrapping_add(context.pool.threads() * a_thread);
        let copies = Shareable::from_pointer(copies);
        let weight_len = gradient.panels.len();
        context.pool.run(cut.chunks, |thread, chunk| {
            let own = self.scratch.pointer().wrapping_add(thread * a_thread);
            let copy = copies.pointer().wrapping_add(chunk * pieces.copy);
            let end = total * (chunk + 1) / cut.chunks;
            let mut block = self.block(own, total * chunk / cut.chunks, end);
            block.dweight = copy;
            block.dbias = self.dbias.is_some().then_some(copy.wrapping_add(weight_len));
            while block.count > 0 {
                for part in 0..gradient.transforms() {
                    context.isa.run(Transform { block: &block, units: gradient.units_of(part) });
                }
                let sums = own.wrapping_add(pieces.v + pieces.z);
                context.isa.run(Multiply { block: &block, cells: 0..block.cells(), sums });
                block.advance(end);
            }
        });
        let from = copies.pointer().cast_const();
        // SAFETY: every chunk has written its weights and, if asked for, its bias behind them.
        unsafe {
            add_chunks(*context, (from, pieces.copy, cut.chunks), &self.dweight, weight_len);
            if let Some(dbias) = &self.dbias {
                let from = from.wrapping_add(weight_len);
                add_chunks(*context, (from, pieces.copy, cut.chunks), dbias, k);
            }
        }
    }

    /// All threads transform a block of tiles, each some channels, then multiply it, each some cells.
    fn by_channels(&self) {
        let Self { gradient, context, pieces, .. } = self;
        let total = gradient.total(self.x.n());
        let mut block = self.block(self.scratch.pointer(), 0, total);
        while block.count > 0 {
            context.pool.run(gradient.transforms(), |_, part| {
                context.isa.run(Transform { block: &block, units: gradient.units_of(part) });
            });
            context.pool.run(block.cells(), |thread, cell| {
                let sums = pieces.v + pieces.z + thread * pieces.sums;
                let sums = self.scratch.pointer().wrapping_add(sums);
                context.isa.run(Multiply { block: &block, cells: cell..cell + 1, sums });
            });
            block.advance(total);
        }
    }

    /// The first block of a range of tiles, its V and Z in `memory`, for the results of the whole pass.
    fn block(&self, memory: *mut f32, first: usize, end: usize) -> Block<'_> {
        Block {
            pass: self,
            first,
            count: (end - first).min(self.cut.tiles),
            accumulate: false,
            v: memory,
            v_step: self.cut.tiles * GROUP + GAP,
            z: memory.wrapping_add(self.pieces.v),
            z_step: self.cut.tiles * self.gradient.panels.width + GAP,
            dweight: self.dweight.pointer(),
            dbias: self.dbias.as_ref().map(Shareable::pointer),
        }
    }
}

impl WeightGradient {
    /// Groups of input channels and panels of output channels, together.
    fn units(&self) -> usize {
        self.channels[0] / GROUP + self.panels.count
    }

    /// Parts of a block's transforms.
    fn transforms(&self) -> usize {
        self.units().div_ceil(UNITS_A_TRANSFORM)
    }

    fn units_of(&self, part: usize) -> Range<usize> {
        part * UNITS_A_TRANSFORM..self.units().min((part + 1) * UNITS_A_TRANSFORM)
    }
}

/// A block of tiles.
struct Block<'a> {
    pass: &'a Pass<'a>,
    /// The first tile, and how many.
    first: usize,
    count: usize,
    /// Whether to add to the gradients.
    accumulate: bool,
    /// V, and the floats from one frequency to the next.
    v: *mut f32,
    v_step: usize,
    /// Z, likewise.
    z: *mut f32,
    z_step: usize,
    dweight: *mut f32,
    dbias: Option<*mut f32>,
}

// SAFETY: the parts of a region write disjoint channels of V, Z and the bias, or disjoint cells of the weights, and read
// what the region before has written.
unsafe impl Sync for Block<'_> {}

impl Block<'_> {
    /// Goes on to the next block before `end`.
    fn advance(&mut self, end: usize) {
        self.first += self.count;
        self.count = (end - self.first).min(self.pass.cut.tiles);
        self.accumulate = true;
    }

    /// Steps of the multiplication: some panels for a group of input channels.
    fn cells(&self) -> usize {
        let WeightGradient { panels, channels: [c, _], .. } = self.pass.gradient;
        panels.count.div_ceil(self.pass.cut.panels) * (c / GROUP)
    }

    /// What to fetch of x and dy during a cell: about as many pixels after this block's as the next block reads.
    fn ahead(&self, cell: usize) -> [Ahead; 2] {
        let Pass { gradient, cut, x, dy, .. } = self.pass;
        let tiles = gradient.total(1);
        let first = self.first + self.count;
        [x, dy].map(|view| {
            let pixels = view.h() * view.w();
            let end = ((first + cut.tiles) * pixels / tiles).min(view.pixels());
            let cell = [cell, self.cells()];
            Ahead::new(view, first * pixels / tiles..end, cell, FREQUENCIES * cut.panels)
        })
    }

    /// Image, row and column of the tile at a place of the block.
    #[inline(always)]
    fn tile(&self, place: usize) -> [usize; 3] {
        let [rows, columns] = self.pass.gradient.grid();
        let tile = self.first + place;
        [tile / (rows * columns), tile / columns % rows * OUTPUTS, tile % columns * OUTPUTS]
    }
}

/// Cache lines of a tensor that the next block reads, fetched while this one is multiplied: its transforms would wait
/// for each line, since they jump from row to row.
struct Ahead {
    next: *const f32,
    /// Lines of a pixel, and those from `next` to the pixel's end.
    lines: usize,
    rest: usize,
    /// Floats from a pixel's end to the next pixel.
    skip: usize,
    /// Lines to fetch, and how many of them at once.
    count: usize,
    step: usize,
}

impl Ahead {
    /// The share of one of `cells` cells in some pixels, to be fetched in `steps` steps.
    fn new(view: &View4, pixels: Range<usize>, [cell, cells]: [usize; 2], steps: usize) -> Self {
        let lines = view.c() / LINE;
        let all = pixels.len() * lines;
        let (first, end) = (all * cell / cells, all * (cell + 1) / cells);
        Self {
            next: view.pixel(pixels.start + first / lines).wrapping_add(first % lines * LINE),
            lines,
            rest: lines - first % lines,
            skip: view.ld() - view.c(),
            count: end - first,
            step: (end - first).div_ceil(steps),
        }
    }

    #[inline(always)]
    fn fetch<S: Simd>(&mut self, simd: S) {
        let now = self.count.min(self.step);
        self.count -= now;
        for _ in 0..now {
            simd.prefetch(self.next);
            self.next = self.next.wrapping_add(LINE);
            self.rest -= 1;
            if self.rest == 0 {
                self.next = self.next.wrapping_add(self.skip);
                self.rest = self.lines;
            }
        }
    }
}

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
struct Transform<'a> {
    block: &'a Block<'a>,
    units: Range<usize>,
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
                simd.enter(TransformGradient { block, place, channels: outputs.clone() });
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
struct TransformGradient<'a> {
    block: &'a Block<'a>,
    place: usize,
    channels: Range<usize>,
}

impl Kernel for TransformGradient<'_> {
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
                // SAFETY: each pointer is to a pixel of dy or to zeros, both of `k` floats, a multiple of LANES.
                let z = [0, 1, 2, 3].map(|i| unsafe { simd.load(pixels[i][j].add(channel)) });
                sum = simd.add(sum, simd.add(simd.add(z[0], z[1]), simd.add(z[2], z[3])));
                columns[j] = output_gradient_line(simd, z);
            }
            if let Some(dbias) = block.dbias {
                // SAFETY: the bias has k floats, a multiple of LANES, and these belong to this part.
                unsafe { simd.store(dbias.add(channel), simd.add(simd.load(dbias.add(channel)), sum)) };
            }
            let to = channel / width * FREQUENCIES * block.z_step + place * width + channel % width;
            for i in 0..INPUTS {
                let line = output_gradient_line(simd, [0, 1, 2, 3].map(|j| columns[j][i]));
                for j in 0..INPUTS {
                    // SAFETY: Z has a panel's width of floats for each tile of each frequency of each panel.
                    unsafe { simd.store(block.z.add(to + (i * INPUTS + j) * block.z_step), line[j]) };
                }
            }
        }
    }
}

/// Some cells of the weight gradient, from V and Z of a block.
struct Multiply<'a> {
    block: &'a Block<'a>,
    cells: Range<usize>,
    /// The sums of a cell, `[frequency][input channel][output channel]`.
    sums: *mut f32,
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
                simd.enter(TransformSums { block: self.block, group, panel, sums: self.sums });
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
            let mut job = ReductionJob {
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
            macro_rules! tiles {
                ($($elements:literal)*) => {{
                    $(simd.enter(Reduction::<1, $elements, NV>(job));
                    job.x = job.x.wrapping_add($elements);
                    job.sums = job.sums.wrapping_add($elements * width);)*
                    let _ = job;
                }};
            }
            match (S::REGISTERS, NV) {
                (32, 1) => tiles!(16),
                (32, _) => tiles!(8 8),
                (_, 1) => tiles!(8 8),
                (_, _) => tiles!(6 5 5),
            }
        }
    }
}

/// dw of a cell from its sums.
struct TransformSums<'a> {
    block: &'a Block<'a>,
    group: usize,
    panel: usize,
    sums: *const f32,
}

impl Kernel for TransformSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { block, group, panel, sums } = self;
        let WeightGradient { panels, channels: [c, _], .. } = block.pass.gradient;
        let step = GROUP * panels.width + GAP;
        let cell = block.dweight.wrapping_add(panels.start(0, panel) + group * GROUP * panels.width);
        for at in (0..GROUP * panels.width).step_by(S::LANES) {
            let mut columns = [[simd.zero(); 3]; INPUTS];
            for j in 0..INPUTS {
                // SAFETY: the sums have a cell's floats for each frequency.
                let u =
                    [0, 1, 2, 3, 4, 5].map(|i| unsafe { simd.load(sums.add((i * INPUTS + j) * step + at)) });
                columns[j] = weight_gradient_line(simd, u);
            }
            for i in 0..3 {
                let line = weight_gradient_line(simd, [0, 1, 2, 3, 4, 5].map(|j| columns[j][i]));
                for j in 0..3 {
                    let to = cell.wrapping_add((i * 3 + j) * c * panels.width + at);
                    // SAFETY: a panel has nine taps of `c` rows of its width, and each cell belongs to one part.
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
