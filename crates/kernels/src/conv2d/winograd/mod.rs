//! Winograd's F(4x4, 3x3) and F(2x2, 5x5): sixteen outputs of a 3 x 3 convolution for 36 multiplications
//! instead of 144, or four of a 5 x 5 one instead of 100.
//!
//! A tile of 4 x 4 or 2 x 2 outputs reads 6 x 6 inputs d. With U = G g G' of the weights and V = B' d B of the
//! input, each of the 36 frequencies is a matrix product M = V U over the channels, and A' M A are the outputs
//! (Winograd 1980; Lavin and Gray 2015, arXiv:1509.09308). The interpolation points 0, +-3/4, +-3/2 and
//! infinity cost as much as the customary 0, +-1, +-2 and leave a third of their rounding error: 1 to 3
//! millionths of the largest output.
//!
//! The work is cut into blocks of tiles whose V and M stay in the second-level cache: a block is transformed,
//! multiplied, and transformed back by the same thread. The input gradient is the same with flipped, transposed
//! weights.
//!
//! Shapes: x `[n, h, w, c]`, U `[frequency][panel][c][width]`, y `[n, h', w', k]`; c and k are multiples of 16.

mod block;
mod cut;
mod weight;

pub use super::winograd_weight_gradient::WeightGradient;

use super::layout::Panels;
use super::moments::Records;
use super::winograd_transform::Form;
use super::{Algorithm, Conv2d, Conv2dShape, Forward, InputGradient, Pass, scratch};
use crate::threads::Shareable;
use crate::{Activation, Context, Isa, ViewMut4};
use block::Block;

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

/// Channels from which on U comes from the third-level cache, and the processor's own prefetching, which starts
/// anew with each page, is too late.
const CHANNELS_TO_FETCH: usize = 256;

/// A pass of a convolution as Winograd's algorithm computes it.
#[derive(Clone, Debug)]
pub struct Winograd {
    isa: Isa,
    form: Form,
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

    /// The pass in this form, if it has one: forward or input gradient of a 3 x 3 or 5 x 5 kernel of stride 1
    /// with a multiple of 16 channels on both sides, and less padding than the kernel has rows.
    pub fn new(convolution: &Conv2d, pass: Pass) -> Option<Self> {
        let form = Form::of(&convolution.shape)?;
        let Conv2dShape { input: [h, w, c], filters, padding, .. } = convolution.shape;
        let (isa, [oh, ow, _], last_tap) = (convolution.isa, convolution.output, form.kernel() - 1);
        if padding.iter().any(|&side| side > last_tap) {
            return None;
        }
        let [top, _, _, left] = padding;
        match pass {
            Pass::Forward => Some(Self {
                isa,
                form,
                pass,
                panels: convolution.panels,
                channels: [c, filters],
                input: [h, w],
                output: [oh, ow],
                origin: [top, left],
            }),
            Pass::BackwardInput if convolution.input_gradient == InputGradient::Gather => Some(Self {
                isa,
                form,
                pass,
                panels: convolution.gradient_panels,
                channels: [filters, c],
                input: [oh, ow],
                output: [h, w],
                origin: [last_tap - top, last_tap - left],
            }),
            _ => None,
        }
    }

    /// How many outputs a tile has.
    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// Input and output channels of this pass.
    pub(super) fn channels(&self) -> [usize; 2] {
        self.channels
    }

    /// Rows and columns of tiles.
    fn grid(&self) -> [usize; 2] {
        self.output.map(|size| size.div_ceil(self.form.outputs()))
    }

    /// Tiles of a batch.
    pub(super) fn tiles(&self, batch: usize) -> usize {
        let [rows, columns] = self.grid();
        batch * rows * columns
    }

    /// The algorithm and its register tile, for people: `Winograd F(4x4, 3x3) 14x32`.
    pub fn algorithm(&self) -> String {
        format!("Winograd {} {}x{}", self.form, self.tile_rows(), self.panels.width)
    }

    /// y = activation(convolution of x + bias + residual), or dx from dy, with weights from
    /// [`Self::transform_weight`].
    ///
    /// # Panics
    /// When a shape or length is not the pass's, or the scratch memory too short or not aligned to 8 bytes.
    pub fn run(&self, context: Context, forward: Forward, y: ViewMut4, scratch: &mut [f32]) {
        self.compute(context, forward, None, y, scratch);
    }

    /// y = convolution of x + bias; besides, takes the moments of y's channels, from which
    /// [`statistics_from_moments`](crate::batch_norm::statistics_from_moments) follow.
    ///
    /// # Panics
    /// As [`Self::run`], when there is a residual or an activation, and unless there are [`Self::moments_len`]
    /// moments.
    pub fn run_with_moments(
        &self,
        context: Context,
        forward: Forward,
        y: ViewMut4,
        moments: &mut [f32],
        scratch: &mut [f32],
    ) {
        assert!(forward.residual.is_none() && forward.activation == Activation::None, "moments of the sums");
        let moments = Some(self.records(forward.x.n(), moments));
        self.compute(context, forward, moments, y, scratch);
    }

    fn compute(
        &self,
        context: Context,
        forward: Forward,
        moments: Option<Records>,
        y: ViewMut4,
        scratch: &mut [f32],
    ) {
        let Forward { x, weight: transformed, bias, residual, activation } = forward;
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
                activation,
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
