//! The weight gradient by Winograd's F(4x4, 3x3) and F(2x2, 5x5): 36 multiplications for each tile of outputs,
//! instead of 144 or 100.
//!
//! The forward pass is y = A' (G g G' . V) A with V = B' d B; its transpose by g is dg = G' (V . Z) G with Z =
//! A dy A', where the products are summed over all tiles: 36 matrix products, one for each frequency, whose
//! inner dimension runs over tiles. (Lavin and Gray 2015, arXiv:1509.09308; the points are those of
//! [`super::winograd`].)
//!
//! A block of tiles is transformed into V and Z; then, for each cell of 16 input channels by a panel of output
//! channels, the 36 sums over the block are gathered in a buffer that stays in the cache, transformed by G and
//! added to dw.
//!
//! V and Z are `[channels / width][frequency][tile][width]` with width 16 or the panel's, so that a cell reads
//! both as streams.
//!
//! Small weights are cut by chunks of the tiles: a part transforms and multiplies alone, into its own copy of
//! dw, and the copies are added in order. Large ones are cut by channels: all threads transform a block
//! together, then share its cells. Both by shape alone, so the bits do not depend on the number of threads.

mod block;

use super::ahead::Ahead;
use super::layout::Panels;
use super::packed_weight_gradient::GROUP;
use super::weight_gradient::add_chunks;
use super::winograd::Weights;
use super::winograd_transform::{FREQUENCIES, Form};
use super::{Algorithm, Conv2d, Conv2dShape};
use crate::threads::Shareable;
use crate::{Context, Isa, View4};
use block::{Multiply, Transform};
use std::ops::Range;

/// Floats between the frequencies of V, Z and the sums, so that their lines fall into different sets of the
/// cache.
const GAP: usize = 16;

/// Chunks, each with its own copy of dw: enough for as many threads, few enough to be added quickly.
const CHUNKS: Range<usize> = 8..17;

/// Floats of all copies of dw together.
const COPIES_LEN: usize = 1 << 20;

/// Tiles of a chunk, at least.
const TILES_A_CHUNK: usize = 64;

/// Floats of Z that are read again and again, once for each group of input channels: half of a second-level
/// cache.
const Z_LEN: usize = 1 << 17;

/// Groups of input channels, or panels of output channels, that are transformed together: few, so that the
/// lines of all frequencies stay in the first-level cache, but not one, since a tile's pixels must be found
/// first.
const UNITS_A_TRANSFORM: usize = 2;

/// The weight gradient of a convolution as Winograd's algorithm computes it.
#[derive(Clone, Debug)]
pub struct WeightGradient {
    isa: Isa,
    form: Form,
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
    /// The weight gradient in this form, if it has one and if it is the way to compute a batch
    /// ([`Conv2d::choice`]).
    pub fn choose(convolution: &Conv2d, batch: usize) -> Option<Self> {
        let choice = convolution.choice(super::Pass::BackwardWeight, batch, Weights::Change);
        (choice == Algorithm::Winograd).then(|| Self::new(convolution)).flatten()
    }

    /// The weight gradient in this form, if it has one: of a 3 x 3 or 5 x 5 kernel of stride 1 with a multiple
    /// of 16 channels on both sides.
    pub fn new(convolution: &Conv2d) -> Option<Self> {
        let form = Form::of(&convolution.shape)?;
        let Conv2dShape { input: [h, w, c], filters, padding: [top, _, _, left], .. } = convolution.shape;
        let [oh, ow, _] = convolution.output;
        Some(Self {
            isa: convolution.isa,
            form,
            panels: convolution.panels,
            channels: [c, filters],
            input: [h, w],
            output: [oh, ow],
            origin: [top, left],
        })
    }

    /// How many outputs a tile has.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Input and output channels.
    pub(super) fn channels(&self) -> [usize; 2] {
        self.channels
    }

    /// Tiles whose sums are transformed at a time.
    pub(super) fn tiles_a_block(&self, batch: usize) -> usize {
        self.cut(batch).tiles
    }

    /// Rows and columns of tiles.
    fn grid(&self) -> [usize; 2] {
        self.output.map(|size| size.div_ceil(self.form.outputs()))
    }

    /// Tiles of a batch.
    pub(super) fn total(&self, batch: usize) -> usize {
        let [rows, columns] = self.grid();
        batch * rows * columns
    }

    /// The most tiles of a block: the more, the fewer times the sums are transformed and added to dw; the
    /// fewer, the more of V and Z stays in the second-level cache. Tiles of 2 x 2 outputs are four times as
    /// many, and have more weights to add to.
    fn most_tiles(&self) -> usize {
        match self.form {
            Form::Kernel3 => 64,
            Form::Kernel5 => 128,
        }
    }

    fn cut(&self, batch: usize) -> Cut {
        let (total, [c, k], kernel) = (self.total(batch), self.channels, self.form.kernel());
        let chunks = (COPIES_LEN / (kernel * kernel * c * k)).min(total / TILES_A_CHUNK).min(CHUNKS.end - 1);
        let chunks = if CHUNKS.contains(&chunks) { 1 << chunks.ilog2() } else { 1 };
        let tiles = total.div_ceil(chunks).max(1); // of a chunk
        let tiles = tiles.div_ceil(tiles.div_ceil(self.most_tiles()));
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
        let largest = Cut { tiles: self.total(batch).min(self.most_tiles()), ..self.cut(batch) };
        let Pieces { zeros, v, z, sums, copy } = self.pieces(largest);
        let blocks = if largest.chunks > 1 { threads } else { 1 };
        zeros + blocks * (v + z) + threads * sums + largest.chunks * copy
    }

    /// The algorithm and its cell, for people: `Winograd F(4x4, 3x3) 16x32`.
    pub fn algorithm(&self) -> String {
        format!("Winograd {} {GROUP}x{}", self.form, self.panels.width)
    }

    /// dweight and dbias, overwritten: the gradients of the loss by the weights, in the kernels' layout, and by
    /// the bias `[filters]`.
    ///
    /// Shapes: x `[n, h, w, c]`, dy `[n, h', w', filters]`.
    ///
    /// # Panics
    /// When a shape or length is not the convolution's, or the scratch memory is shorter than
    /// [`Self::scratch_len`].
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
        let needed = self.scratch_len(n, context.pool.at_once());
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
        let copies = self.scratch.pointer().wrapping_add(context.pool.at_once() * a_thread);
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

// SAFETY: the parts of a region write disjoint channels of V, Z and the bias, or disjoint cells of the weights,
// and read what the region before has written.
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

    /// What to fetch of x and dy during a cell: about as many pixels after this block's as the next block
    /// reads.
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
        let (tile, outputs) = (self.first + place, self.pass.gradient.form.outputs());
        [tile / (rows * columns), tile / columns % rows * outputs, tile % columns * outputs]
    }
}
