//! Winograd's F(4x4, 3x3): sixteen outputs of a 3 x 3 convolution for 36 multiplications instead of 144.
//!
//! A tile of 4 x 4 outputs reads 6 x 6 inputs d. With U = G g G' of the weights and V = B' d B of the input, each of the 36
//! frequencies is a matrix product M = V U over the channels, and A' M A are the outputs (Winograd 1980; Lavin and Gray
//! 2015, arXiv:1509.09308). The interpolation points 0, +-3/4, +-3/2 and infinity cost as much as the customary 0, +-1,
//! +-2 and leave a third of their rounding error: 1 to 3 millionths of the largest output.
//!
//! The work is cut into blocks of tiles whose V and M stay in the second-level cache: a block is transformed, multiplied,
//! and transformed back by the same thread. The input gradient is the same with flipped, transposed weights.
//!
//! Shapes: x `[n, h, w, c]`, U `[frequency][panel][c][width]`, y `[n, h', w', k]`; c and k are multiples of 16.

pub use super::winograd_weight_gradient::WeightGradient;

use super::layout::Panels;
use super::moments::{self, Group, Records, Running};
use super::scratch;
use super::tile::{self, Addresses, ProductJob};
use super::winograd_transform::{FREQUENCIES, INPUTS, OUTPUTS, input_line, output_line, weight_line};
use super::{Algorithm, Conv2d, Conv2dShape, InputGradient, Pass};
use crate::simd::{Kernel, Simd};
use crate::threads::Shareable;
use crate::{Activation, Context, Isa, View4, ViewMut4};
use std::ops::Range;

/// How often the weights change, and so are transformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Before each run, as in training.
    Change,
    /// Seldom, as in inference.
    Stay,
}

/// Floats between the frequencies of U, V and M, so that their lines fall into different sets of the cache.
const GAP: usize = 16;

/// Time in which a block reads the weights, in tiles multiplied with them.
const WEIGHTS_IN_TILES: usize = 3;

/// Tiles whose inputs are transformed while one is multiplied with a panel.
const TILES_TRANSFORMED: usize = 4;

/// Channels from which on U comes from the third-level cache, and the processor's own prefetching, which starts anew with
/// each page, is too late.
const CHANNELS_TO_FETCH: usize = 256;

/// Floats of a part of the weights' transform.
const WEIGHTS_A_PART: usize = 1 << 12;

/// A pass of a convolution as Winograd's algorithm computes it.
#[derive(Clone, Debug)]
pub struct Winograd {
    isa: Isa,
    pass: Pass,
    panels: Panels,
    /// Input and output channels of this pass.
    channels: [usize; 2],
    input: [usize; 2],
    output: [usize; 2],
    /// Zeros before the first row and column.
    origin: [usize; 2],
}

impl Winograd {
    /// The pass in this form, if it has one and if it is the way to compute a batch ([`Conv2d::choice`]).
    pub fn choose(convolution: &Conv2d, pass: Pass, batch: usize, weights: Weights) -> Option<Self> {
        let chosen = convolution.choice(pass, batch, weights) == Algorithm::Winograd;
        chosen.then(|| Self::new(convolution, pass)).flatten()
    }

    /// The pass in this form, if it has one: forward or input gradient of a 3 x 3 kernel of stride 1 with a multiple of 16
    /// channels on both sides.
    pub fn new(convolution: &Conv2d, pass: Pass) -> Option<Self> {
        let Conv2dShape { input: [h, w, c], filters, kernel, stride, padding, dilation, groups } =
            convolution.shape;
        let [oh, ow, _] = convolution.output;
        let fits = kernel == [3, 3] && stride == [1, 1] && dilation == [1, 1] && groups == 1;
        let whole = |channels: usize| channels.is_multiple_of(16);
        if !fits || !whole(c) || !whole(filters) || padding.iter().any(|&side| side > 2) {
            return None;
        }
        let (isa, [top, _, _, left]) = (convolution.isa, padding);
        match pass {
            Pass::Forward => Some(Self {
                isa,
                pass,
                panels: convolution.panels,
                channels: [c, filters],
                input: [h, w],
                output: [oh, ow],
                origin: [top, left],
            }),
            Pass::BackwardInput if convolution.input_gradient == InputGradient::Gather => Some(Self {
                isa,
                pass,
                panels: convolution.gradient_panels,
                channels: [filters, c],
                input: [oh, ow],
                output: [h, w],
                origin: [2 - top, 2 - left],
            }),
            _ => None,
        }
    }

    /// Input and output channels of this pass.
    pub(super) fn channels(&self) -> [usize; 2] {
        self.channels
    }

    /// Rows and columns of tiles.
    fn grid(&self) -> [usize; 2] {
        self.output.map(|size| size.div_ceil(OUTPUTS))
    }

    /// Tiles of a batch.
    pub(super) fn tiles(&self, batch: usize) -> usize {
        let [rows, columns] = self.grid();
        batch * rows * columns
    }

    /// Floats of the transformed weights.
    pub fn weight_len(&self) -> usize {
        FREQUENCIES * self.frequency_len()
    }

    /// Floats from one frequency of U to the next.
    fn frequency_len(&self) -> usize {
        self.panels.count * self.channels[0] * self.panels.width + GAP
    }

    /// U from the weights: for the forward pass the convolution's own, for the input gradient the packed ones.
    ///
    /// # Panics
    /// When a slice has another length than the convolution's and [`Self::weight_len`].
    pub fn transform_weight(&self, context: Context, weight: &[f32], transformed: &mut [f32]) {
        assert_eq!((weight.len(), transformed.len()), (self.panels.len(), self.weight_len()));
        let (width, channels) = (self.panels.width, self.channels[0]);
        let rows = self.panels.count * channels;
        let rows_a_part = WEIGHTS_A_PART.div_ceil(width);
        let transformed = Shareable::new(transformed);
        context.pool.run(rows.div_ceil(rows_a_part), |_, part| {
            context.isa.run(TransformWeight {
                weight,
                transformed,
                rows: [part * rows_a_part, ((part + 1) * rows_a_part).min(rows)],
                width,
                channels,
                frequency_len: self.frequency_len(),
                flip: self.pass == Pass::BackwardInput,
            });
        });
    }

    /// The most tiles of a block: more where the weights are large, since each block reads all of them; few enough that
    /// V and M pass through the second-level cache.
    pub(super) fn most_tiles(&self) -> usize {
        match self.channels[0].max(self.channels[1]) {
            ..128 => 14,
            128..256 => 28,
            _ => 32,
        }
    }

    /// Tiles of a block, as many as allow full register tiles and even shares for the threads, and ranges that the panels
    /// are cut into: each range transforms a block's inputs again, but reads only its own weights. No result depends on it,
    /// but moments do on the blocks, which then are those of one thread.
    fn cut(&self, total: usize, threads: usize, moments: bool) -> [usize; 2] {
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
    fn records(&self, batch: usize, moments: &mut [f32]) -> Records {
        let total = self.tiles(batch);
        let each = self.tiles_a_group(total);
        let ([oh, ow], [_, columns]) = (self.output, self.grid());
        let pixels = |tile: usize| {
            let [row, column] = [tile / columns % self.grid()[0], tile % columns].map(|at| at * OUTPUTS);
            (oh - row).min(OUTPUTS) * (ow - column).min(OUTPUTS)
        };
        let of_group = |group: usize| (group * each..total.min((group + 1) * each)).map(pixels).sum();
        Records::new(moments, self.channels[1], (0..total.div_ceil(each)).map(of_group))
    }

    /// Tiles of one matrix product, so that those of a block need few products of full height.
    fn tiles_a_product(&self, tiles: usize) -> usize {
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
    fn scratch_pieces(&self) -> [usize; 4] {
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

    /// The algorithm and its register tile, for people: `Winograd F(4x4, 3x3) 14x32`.
    pub fn algorithm(&self) -> String {
        format!("Winograd F(4x4, 3x3) {}x{}", self.tile_rows(), self.panels.width)
    }

    fn tile_rows(&self) -> usize {
        tile::rows(self.isa, self.panels.width / self.isa.lanes())
    }

    /// y = activation(convolution of x + bias + residual), or dx from dy. The residual has y's shape and pixel distance, and
    /// may be y's memory.
    ///
    /// # Panics
    /// When a shape or length is not the pass's, or the scratch memory too short or not aligned to 8 bytes.
    #[allow(clippy::too_many_arguments)] // the tensors of a pass
    pub fn run(
        &self,
        context: Context,
        x: View4,
        transformed: &[f32],
        bias: Option<&[f32]>,
        residual: Option<View4>,
        activation: Activation,
        y: ViewMut4,
        scratch: &mut [f32],
    ) {
        let relu = activation == Activation::Relu;
        self.compute(context, x, transformed, Epilogue { bias, residual, relu, moments: None }, y, scratch);
    }

    /// y = convolution of x + bias; besides, takes the moments of y's channels, from which
    /// [`statistics_from_moments`](crate::batch_norm::statistics_from_moments) follow.
    ///
    /// # Panics
    /// As [`Self::run`], and unless there are [`Self::moments_len`] moments.
    #[allow(clippy::too_many_arguments)] // the tensors of a pass
    pub fn run_with_moments(
        &self,
        context: Context,
        x: View4,
        transformed: &[f32],
        bias: Option<&[f32]>,
        y: ViewMut4,
        moments: &mut [f32],
        scratch: &mut [f32],
    ) {
        let moments = Some(self.records(x.n(), moments));
        self.compute(
            context,
            x,
            transformed,
            Epilogue { bias, residual: None, relu: false, moments },
            y,
            scratch,
        );
    }

    fn compute(
        &self,
        context: Context,
        x: View4,
        transformed: &[f32],
        epilogue: Epilogue,
        y: ViewMut4,
        scratch: &mut [f32],
    ) {
        let Epilogue { bias, residual, relu, moments } = epilogue;
        let ([h, w], [oh, ow], [c, k]) = (self.input, self.output, self.channels);
        assert_eq!(context.isa, self.isa, "weights are laid out for one instruction set");
        assert_eq!((x.shape(), y.shape()), ([x.n(), h, w, c], [x.n(), oh, ow, k]));
        assert_eq!(transformed.len(), self.weight_len());
        assert!(bias.is_none_or(|bias| bias.len() == k));
        let pieces = self.scratch_pieces();
        let a_thread = pieces.iter().sum::<usize>();
        scratch::check(scratch, a_thread * context.pool.at_once());
        let total = self.tiles(x.n());
        let [tiles, ranges] = self.cut(total, context.pool.at_once(), moments.is_some());
        let blocks = total.div_ceil(tiles);
        let scratch = Shareable::new(scratch);
        context.pool.run(blocks * ranges, |thread, part| {
            let (range, block) = (part / blocks, part % blocks);
            // SAFETY: each thread has its own range of the scratch memory, whose length is checked above.
            let scratch = unsafe { scratch.slice(thread * a_thread, a_thread) };
            let (v, rest) = scratch.split_at_mut(pieces[0]);
            let (m, rest) = rest.split_at_mut(pieces[1]);
            let (tables, zeros) = rest.split_at_mut(pieces[2]);
            let (inputs, outputs) = tables.split_at_mut(pieces[2] / 2);
            zeros.fill(0.0);
            context.isa.run(Block {
                winograd: self,
                x,
                transformed,
                bias,
                residual: residual.map(|residual| y.distance_to(residual)),
                relu,
                moments: moments.map(|records| records.group(block)),
                y: &y,
                panels: self.panels.count * range / ranges..self.panels.count * (range + 1) / ranges,
                fetches: self.channels[0] >= CHANNELS_TO_FETCH || blocks <= context.pool.at_once(),
                first: block * tiles,
                count: (total - block * tiles).min(tiles),
                v: v.as_mut_ptr(),
                v_step: tiles * c + GAP,
                m: m.as_mut_ptr(),
                m_step: tiles * self.panels.count * self.panels.width + GAP,
                inputs: inputs.as_mut_ptr().cast(),
                outputs: outputs.as_mut_ptr().cast(),
                zeros: zeros.as_ptr(),
            });
        });
    }
}

/// What happens to the results.
struct Epilogue<'a> {
    bias: Option<&'a [f32]>,
    residual: Option<View4<'a>>,
    relu: bool,
    /// Only without residual and ReLU.
    moments: Option<Records>,
}

/// U of some rows (panel, channel) of the weights.
struct TransformWeight<'a> {
    weight: &'a [f32],
    transformed: Shareable<f32>,
    rows: [usize; 2],
    width: usize,
    channels: usize,
    frequency_len: usize,
    /// The input gradient's weights are read in reverse.
    flip: bool,
}

impl Kernel for TransformWeight<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { weight, transformed, rows, width, channels, frequency_len, flip } = self;
        for row in rows[0]..rows[1] {
            let (panel, channel) = (row / channels, row % channels);
            for lane in (0..width).step_by(S::LANES) {
                let at = |tap: usize| (panel * 9 + tap) * channels * width + channel * width + lane;
                let mut g = [[simd.zero(); 3]; 3];
                for tap in 0..9 {
                    let from = at(if flip { 8 - tap } else { tap });
                    // SAFETY: a panel has nine taps of `channels` rows of `width` floats.
                    g[tap / 3][tap % 3] = unsafe { simd.load(weight.as_ptr().add(from)) };
                }
                let columns = [0, 1, 2].map(|j| weight_line(simd, [g[0][j], g[1][j], g[2][j]]));
                for i in 0..INPUTS {
                    let line = weight_line(simd, [columns[0][i], columns[1][i], columns[2][i]]);
                    for j in 0..INPUTS {
                        let to = (i * INPUTS + j) * frequency_len + row * width + lane;
                        // SAFETY: a frequency has `width` floats for each row, and each row belongs to one part.
                        unsafe { simd.store(transformed.pointer().add(to), line[j]) };
                    }
                }
            }
        }
    }
}

/// A block of tiles: transformed, multiplied, transformed back.
struct Block<'a> {
    winograd: &'a Winograd,
    x: View4<'a>,
    transformed: &'a [f32],
    bias: Option<&'a [f32]>,
    /// Floats from an output to its residual.
    residual: Option<isize>,
    relu: bool,
    /// The group to which the block's results are added.
    moments: Option<Group>,
    y: &'a ViewMut4<'a>,
    /// The panels of U that are multiplied, and whether they must be asked for.
    panels: Range<usize>,
    fetches: bool,
    /// The first tile, and how many.
    first: usize,
    count: usize,
    /// V, `[frequency][tile][channel]`, and the floats from one frequency to the next.
    v: *mut f32,
    v_step: usize,
    /// M, `[frequency][tile][output channel]`.
    m: *mut f32,
    m_step: usize,
    /// Tables with room for a pointer a tile.
    inputs: *mut *const f32,
    outputs: *mut *mut f32,
    /// As many as channels.
    zeros: *const f32,
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for place in 0..self.count {
            simd.enter(TransformInput { block: &self, place });
        }
        match self.winograd.panels.width / S::LANES {
            1 => self.multiply::<S, 1>(simd),
            2 => self.multiply::<S, 2>(simd),
            _ => self.multiply::<S, 3>(simd),
        }
        for place in 0..self.count {
            match self.moments {
                None => simd.enter(TransformOutput::<false> { block: &self, place }),
                Some(_) => simd.enter(TransformOutput::<true> { block: &self, place }),
            }
        }
    }
}

impl Block<'_> {
    /// Image, row and column of the tile at a place of the block.
    #[inline(always)]
    fn tile(&self, place: usize) -> [usize; 3] {
        let [rows, columns] = self.winograd.grid();
        let tile = self.first + place;
        [tile / (rows * columns), tile / columns % rows * OUTPUTS, tile % columns * OUTPUTS]
    }

    /// M = V U for every frequency.
    #[inline(always)]
    fn multiply<S: Simd, const NV: usize>(&self, simd: S) {
        let Winograd { panels, channels: [c, _], .. } = self.winograd;
        let (rows, k) = (tile::rows_for(S::REGISTERS, NV), panels.count * panels.width);
        let height = self.winograd.tiles_a_product(self.count);
        for place in 0..self.count.div_ceil(height) * rows {
            // A register tile that is not full computes its last tile more than once.
            let tile = (place / rows * height + (place % rows).min(height - 1)).min(self.count - 1);
            // SAFETY: the tables have room for a block's tiles, a multiple of `rows`.
            unsafe {
                *self.inputs.add(place) = self.v.wrapping_add(tile * c);
                *self.outputs.add(place) = self.m.wrapping_add(tile * k);
            }
        }
        let panel_len = c * panels.width;
        let mut later = self.needed_later();
        for frequency in 0..FREQUENCIES {
            let offset = (frequency * self.v_step) as isize;
            let weight = self.transformed.as_ptr().wrapping_add(frequency * self.winograd.frequency_len());
            for panel in self.panels.clone() {
                let weight = weight.wrapping_add(panel * panel_len);
                for (index, first) in (0..self.count).step_by(height).enumerate() {
                    // Each tile asks for `c` lines: the first ones for the next panel, which has NV times as many.
                    let ahead = if index < panels.width / tile::LINE && self.fetches {
                        weight.wrapping_add(panel_len + index * c * tile::LINE)
                    } else {
                        later.next(c * tile::LINE)
                    };
                    let job = ProductJob {
                        pixels: self.inputs.wrapping_add(index * rows),
                        addresses: Addresses::Offsets(&offset),
                        pitch: rows,
                        taps: 1,
                        start: 0,
                        run: *c,
                        weight,
                        outputs: self.outputs.wrapping_add(index * rows),
                        next_outputs: self.outputs.wrapping_add(index * rows),
                        output_step: 0,
                        column: frequency * self.m_step + panel * panels.width,
                        pixel_count: (self.count - first).min(height),
                        channel_count: panels.width,
                        bias: std::ptr::null(),
                        sums: std::ptr::null(),
                        keep: std::ptr::null_mut(),
                        residual: None,
                        relu: false,
                        stream: false,
                        moments: None,
                        ahead: [ahead; 2],
                    };
                    // SAFETY: a tile of pointers to `c` floats of V, a whole panel of U, and room in M for every
                    // panel of every tile.
                    unsafe { tile::product::<S, NV>(simd, &job) };
                }
            }
        }
    }

    /// The memory that comes after the products: the outputs of this block and the inputs of the next. A row of tiles
    /// is a stretch of whole pixel rows, so stretches in proportion to the tiles cover nearly all of it.
    fn needed_later(&self) -> Later {
        let Winograd { input: [h, w], output: [oh, ow], channels: [c, k], .. } = *self.winograd;
        let tiles = self.winograd.tiles(1);
        let pixel = |place: usize, pixels: usize| (self.first + place) * pixels / tiles;
        let (x, y) = (self.x.pixel(0), self.y.pointer().cast_const());
        let [from, to] = [self.count, 2 * self.count].map(|place| pixel(place, h * w) + w);
        let [out_from, out_to] = [0, self.count].map(|place| pixel(place, oh * ow));
        let at = |x: *const f32, pixel: usize, ld: usize| x.wrapping_add(pixel * ld);
        let (x_ld, y_ld) = (self.x.ld().max(c), self.y.ld().max(k));
        Later {
            stretches: [[at(x, from, x_ld), at(x, to, x_ld)], [at(y, out_from, y_ld), at(y, out_to, y_ld)]],
        }
    }
}

/// Stretches of memory to ask for, one after the other.
struct Later {
    stretches: [[*const f32; 2]; 2],
}

impl Later {
    /// The next `floats` of them; the end of the last when all have been given.
    fn next(&mut self, floats: usize) -> *const f32 {
        let [first, second] = &mut self.stretches;
        let stretch = if first[0] < first[1] { first } else { second };
        let next = stretch[0];
        if next < stretch[1] {
            stretch[0] = next.wrapping_add(floats);
        }
        next
    }
}

/// V of one tile.
struct TransformInput<'a> {
    block: &'a Block<'a>,
    place: usize,
}

impl Kernel for TransformInput<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let block = self.block;
        let ([h, w], origin, c) = (block.winograd.input, block.winograd.origin, block.winograd.channels[0]);
        let [image, row, column] = block.tile(self.place);
        let mut pixels = [[block.zeros; INPUTS]; INPUTS];
        for i in 0..INPUTS {
            for j in 0..INPUTS {
                // A position before the first is a huge number.
                let at = [(row + i).wrapping_sub(origin[0]), (column + j).wrapping_sub(origin[1])];
                if at[0] < h && at[1] < w {
                    pixels[i][j] = block.x.pixel((image * h + at[0]) * w + at[1]);
                }
            }
        }
        let to = block.v.wrapping_add(self.place * c);
        for channel in (0..c).step_by(S::LANES) {
            let mut columns = [[simd.zero(); INPUTS]; INPUTS];
            for j in 0..INPUTS {
                // SAFETY: each pointer is to a pixel of x or to zeros, both of `c` floats, a multiple of LANES.
                let d = [0, 1, 2, 3, 4, 5].map(|i| unsafe { simd.load(pixels[i][j].add(channel)) });
                columns[j] = input_line(simd, d);
            }
            for i in 0..INPUTS {
                let line = input_line(simd, [0, 1, 2, 3, 4, 5].map(|j| columns[j][i]));
                for j in 0..INPUTS {
                    // SAFETY: V has `c` floats for each tile of each frequency.
                    unsafe { simd.store(to.add((i * INPUTS + j) * block.v_step + channel), line[j]) };
                }
            }
        }
    }
}

/// The outputs of one tile from M, and their `MOMENTS`.
struct TransformOutput<'a, const MOMENTS: bool> {
    block: &'a Block<'a>,
    place: usize,
}

impl<const MOMENTS: bool> Kernel for TransformOutput<'_, MOMENTS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let block = self.block;
        let Winograd { panels, output: [oh, ow], channels: [_, k], .. } = *block.winograd;
        let (first, end) = (block.panels.start * panels.width, (block.panels.end * panels.width).min(k));
        let [image, row, column] = block.tile(self.place);
        let (rows, columns) = ((oh - row).min(OUTPUTS), (ow - column).min(OUTPUTS));
        let from = block.m.cast_const().wrapping_add(self.place * panels.count * panels.width);
        for channel in (first..end).step_by(S::LANES) {
            let bias = match block.bias {
                // SAFETY: the bias has k floats, a multiple of LANES.
                Some(bias) => unsafe { simd.load(bias.as_ptr().add(channel)) },
                None => simd.zero(),
            };
            let mut lines = [[simd.zero(); OUTPUTS]; INPUTS];
            for j in 0..INPUTS {
                let at = |i: usize| (i * INPUTS + j) * block.m_step + channel;
                // SAFETY: M has k floats for each tile of each frequency.
                lines[j] =
                    output_line(simd, [0, 1, 2, 3, 4, 5].map(|i| unsafe { simd.load(from.add(at(i))) }));
            }
            let mut running = block.moments.filter(|_| MOMENTS).map(|group| {
                let first = output_line(simd, [0, 1, 2, 3, 4, 5].map(|j| lines[j][0]))[0];
                // SAFETY: the group has k channels, and is this thread's at those of its panels.
                unsafe { Running::new(simd, group, channel, self.place == 0, simd.add(first, bias)) }
            });
            for i in 0..OUTPUTS {
                if i >= rows {
                    break;
                }
                let line = output_line(simd, [0, 1, 2, 3, 4, 5].map(|j| lines[j][i]));
                for j in 0..OUTPUTS {
                    if j >= columns {
                        break;
                    }
                    let to = block.y.pixel((image * oh + row + i) * ow + column + j).wrapping_add(channel);
                    let mut value = simd.add(line[j], bias);
                    if let Some(residual) = block.residual {
                        // SAFETY: the residual has the shape and pixel distance of y.
                        value = simd.add(value, unsafe { simd.load(to.wrapping_offset(residual)) });
                    }
                    if let Some(running) = &mut running {
                        running.add(simd, j, value);
                    }
                    let value = if block.relu { simd.max(simd.zero(), value) } else { value };
                    // SAFETY: the pixel lies in y, and each tile belongs to one part.
                    unsafe { simd.store(to, value) };
                }
            }
            if let Some(running) = running {
                // SAFETY: as above.
                unsafe { running.end(simd) };
            }
        }
    }
}
