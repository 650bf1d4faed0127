//! Two-dimensional convolution.
//!
//! Every pass is a matrix product over a matrix that is never built (implicit GEMM): the rows are output
//! pixels, the columns output channels, and the inner dimension runs over the kernel's taps and the input's
//! channels, which in NHWC stand side by side in memory.
//!
//! | pass | file | what it is |
//! |---|---|---|
//! | forward | `gather` | y[p, k] = sum over taps t, channels c of x[p at t, c] w[t, c, k] |
//! | input gradient | `gather` | the same with flipped, transposed weights, for each phase of the stride |
//! | input gradient, few channels | `scatter` | dx rows gather over kernel rows, whose products are scattered |
//! | weight gradient | `weight_gradient` | dw[t, c, k] = sum over pixels p of x[p at t, c] dy[p, k] |
//! | weight gradient, many channels | `packed_weight_gradient` | the same from packed copies of x and dy |
//! | forward and weight gradient, few filters | `abreast` | both of the above, several pixels taken as one |
//! | all, every channel by itself | `depthwise` | no matrix product: the lanes are channels |
//! | forward of the latter and a 1 x 1 convolution | `separable` | both, band by band |
//!
//! Shapes: x `[n, h, w, c]`, y `[n, h', w', filters]`, weights as [`layout`] says. A dense layer is a
//! convolution of a 1 x 1 map with a 1 x 1 kernel: one code path serves both.

mod abreast;
mod ahead;
mod border;
mod choice;
mod dense;
mod depthwise;
mod depthwise_gather;
mod depthwise_weight_gradient;
mod gather;
mod layout;
pub(crate) mod moments;
mod packed_weight_gradient;
mod scatter;
mod scratch;
mod separable;
mod shape;
mod taps;
mod tile;
mod weight_gradient;
pub mod winograd;
mod winograd_transform;
mod winograd_weight_gradient;

#[cfg(test)]
mod tests;

pub use choice::{Algorithm, Candidate};
pub use separable::{Separable, Stage};
pub use shape::{Conv2dShape, ShapeError};

use crate::{Activation, Context, Isa, View4, ViewMut4};
use abreast::Abreast;
use dense::Dense;
use depthwise::Depthwise;
use gather::Gather;
use layout::Panels;
use taps::{Phase, Tap};

/// One of the three passes of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// y from x.
    Forward,
    /// dx from dy.
    BackwardInput,
    /// dw and db from x and dy.
    BackwardWeight,
}

/// What a convolution computes with, and what its sums go through: y = activation(convolution of x + bias +
/// residual).
#[derive(Clone, Copy, Debug)]
pub struct Forward<'a> {
    /// `[n, h, w, c]`.
    pub x: View4<'a>,
    /// In the layout of what computes.
    pub weight: &'a [f32],
    /// `[filters]`.
    pub bias: Option<&'a [f32]>,
    /// What is added to the sums: shape and pixel distance of y, and perhaps its memory.
    pub residual: Option<View4<'a>>,
    /// What is applied last.
    pub activation: Activation,
}

impl<'a> Forward<'a> {
    /// The convolution alone: no bias, no residual, no activation.
    pub fn new(x: View4<'a>, weight: &'a [f32]) -> Self {
        Self { x, weight, bias: None, residual: None, activation: Activation::None }
    }
}

/// How the input gradient is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputGradient {
    Gather,
    Scatter,
    Dense,
}

/// A convolution prepared for an instruction set: its geometry is checked, its weight layout chosen.
#[derive(Clone, Debug)]
pub struct Conv2d {
    shape: Conv2dShape,
    output: [usize; 3],
    isa: Isa,
    /// Layout of the weights: forward reads them, the weight gradient writes its like.
    panels: Panels,
    /// Layout of what the input gradient reads.
    gradient_panels: Panels,
    input_gradient: InputGradient,
    forward_taps: Vec<Tap>,
    phases: Vec<Phase>,
    /// Takes over every pass where each channel is a group of its own.
    depthwise: Option<Depthwise>,
    /// Takes over forward pass and weight gradient of few filters, where their maps are dense.
    abreast: Option<Abreast>,
    /// Whether the weight gradient packs x and dy.
    packs: bool,
    /// What each pass must be computed by, if somebody said so; by the number of the pass.
    held: [Option<Algorithm>; 3],
}

impl Conv2d {
    /// Checks the geometry and chooses layouts and algorithms for `isa`.
    pub fn new(shape: Conv2dShape, isa: Isa) -> Result<Self, ShapeError> {
        let mut convolution = Self::plain(shape, isa)?;
        convolution.abreast = Abreast::choose(&convolution);
        Ok(convolution)
    }

    /// As [`Self::new`], each pixel by itself.
    fn plain(shape: Conv2dShape, isa: Isa) -> Result<Self, ShapeError> {
        let output = shape.output()?;
        let [kh, kw] = shape.kernel;
        let (c, k) = (shape.input[2] / shape.groups, shape.filters / shape.groups);
        let depthwise = Depthwise::choose(&shape, output, isa);
        let panels = match depthwise {
            Some(_) => Depthwise::panels(&shape, isa),
            None => Panels::new(isa, shape.groups, kh * kw * c, k),
        };
        let input_gradient =
            if dense::is_dense(&shape) { InputGradient::Dense } else { InputGradient::Gather };
        let gradient_panels =
            if depthwise.is_some() { panels } else { Panels::new(isa, shape.groups, kh * kw * k, c) };
        let forward_taps = taps::forward_taps(&shape);
        let phases = taps::input_gradient_phases(&shape);
        let (packs, held) = (false, [None; 3]);
        let mut convolution = Self {
            shape,
            output,
            isa,
            panels,
            gradient_panels,
            input_gradient,
            forward_taps,
            phases,
            depthwise,
            abreast: None,
            packs,
            held,
        };
        convolution.choose_direct_ways();
        Ok(convolution)
    }

    /// Computes the input gradient in one of the ways that matrix products have, with weights packed for it.
    fn set_input_gradient(&mut self, way: InputGradient) {
        let Conv2dShape { input, filters, kernel: [kh, kw], groups, .. } = self.shape;
        let (c, k) = (input[2] / groups, filters / groups);
        self.input_gradient = way;
        self.gradient_panels = match way {
            InputGradient::Gather | InputGradient::Dense => Panels::new(self.isa, groups, kh * kw * k, c),
            // k rows for each kernel row, one column for each of its taps and channels.
            InputGradient::Scatter => Panels::new(self.isa, groups, kh * k, kw * c),
        };
    }

    /// The geometry.
    pub fn shape(&self) -> &Conv2dShape {
        &self.shape
    }

    /// Output height, width and channels.
    pub fn output(&self) -> [usize; 3] {
        self.output
    }

    /// Floats of the weights in the kernels' layout; more than [`Conv2dShape::parameters`] where panels are
    /// padded with zeros. The weight gradient has the same layout, zeros included, so an elementwise optimizer
    /// keeps them zero.
    pub fn weight_len(&self) -> usize {
        self.panels.len()
    }

    /// Converts weights from PyTorch's layout `[filters, channels / groups, kernel height, kernel width]`.
    ///
    /// # Panics
    /// When a slice has another length than [`Conv2dShape::parameters`] and [`Self::weight_len`].
    pub fn pack_weight(&self, oihw: &[f32], weight: &mut [f32]) {
        assert_eq!((oihw.len(), weight.len()), (self.shape.parameters(), self.weight_len()));
        weight.fill(0.0);
        layout::for_each_weight(&self.shape, &self.panels, |at_oihw, at_panel| {
            weight[at_panel] = oihw[at_oihw]
        });
    }

    /// Converts weights, or their gradient, to PyTorch's layout.
    ///
    /// # Panics
    /// As [`Self::pack_weight`].
    pub fn unpack_weight(&self, weight: &[f32], oihw: &mut [f32]) {
        assert_eq!((oihw.len(), weight.len()), (self.shape.parameters(), self.weight_len()));
        layout::for_each_weight(&self.shape, &self.panels, |at_oihw, at_panel| {
            oihw[at_oihw] = weight[at_panel]
        });
    }

    /// Whether [`Self::backward_input`] reads packed weights; if not, it reads the weights as they are, and
    /// packing only copies them.
    pub fn packs_gradient_weight(&self) -> bool {
        self.input_gradient != InputGradient::Dense
    }

    /// Floats of what [`Self::pack_gradient_weight`] writes.
    pub fn gradient_weight_len(&self) -> usize {
        match self.input_gradient {
            InputGradient::Dense => self.weight_len(),
            InputGradient::Gather | InputGradient::Scatter => self.gradient_panels.len(),
        }
    }

    /// Rearranges the weights into what [`Self::backward_input`] reads; needed after each change of the
    /// weights.
    ///
    /// # Panics
    /// When a slice has another length than [`Self::weight_len`] and [`Self::gradient_weight_len`].
    pub fn pack_gradient_weight(&self, context: Context, weight: &[f32], packed: &mut [f32]) {
        assert_eq!((weight.len(), packed.len()), (self.weight_len(), self.gradient_weight_len()));
        let Self { shape, panels, gradient_panels, .. } = self;
        if let Some(depthwise) = &self.depthwise {
            return depthwise.pack_gradient_weight(weight, packed);
        }
        match self.input_gradient {
            InputGradient::Dense => packed.copy_from_slice(weight),
            InputGradient::Gather => {
                layout::pack_transposed(
                    context,
                    shape,
                    panels,
                    gradient_panels,
                    &self.phases,
                    weight,
                    packed,
                );
            }
            InputGradient::Scatter => {
                layout::pack_kernel_rows(context, shape, panels, gradient_panels, weight, packed);
            }
        }
    }

    /// Floats of scratch memory that a pass needs, for a batch and a number of threads.
    pub fn scratch_len(&self, pass: Pass, batch: usize, threads: usize) -> usize {
        if let Some(depthwise) = &self.depthwise {
            return depthwise.scratch_len(pass, batch, threads);
        }
        let abreast = match (pass, &self.abreast) {
            (Pass::Forward | Pass::BackwardWeight, Some(abreast)) => {
                abreast.scratch_len(pass, batch, threads)
            }
            _ => 0,
        };
        let plain = match (pass, self.input_gradient) {
            (Pass::Forward | Pass::BackwardInput, InputGradient::Dense) => {
                Dense::new(self, pass).scratch_len(batch, threads)
            }
            (Pass::Forward, _) => self.forward_gather().scratch_len(threads),
            (Pass::BackwardInput, InputGradient::Gather) => {
                let of_phase = |phase| self.input_gradient_gather(phase).scratch_len(threads);
                self.phases.iter().map(of_phase).max().unwrap_or(0)
            }
            (Pass::BackwardInput, InputGradient::Scatter) => scatter::scratch_len(self, threads),
            (Pass::BackwardWeight, _) => weight_gradient::scratch_len(self, batch, threads),
        };
        plain.max(abreast)
    }

    /// The algorithm of a pass and its register tile, for people: `implicit GEMM 14x32`.
    pub fn algorithm(&self, pass: Pass) -> String {
        if let Some(depthwise) = &self.depthwise {
            return depthwise.algorithm(pass);
        }
        if let (Pass::Forward | Pass::BackwardWeight, Some(abreast)) = (pass, &self.abreast) {
            return format!("{}, {} pixels abreast", abreast.convolution.algorithm(pass), abreast.pixels);
        }
        let lanes = self.isa.lanes();
        let tile = |panels: &Panels| {
            let vectors = panels.width / lanes;
            format!("{}x{}", tile::rows(self.isa, vectors), panels.width)
        };
        match (pass, self.input_gradient) {
            (Pass::Forward, InputGradient::Dense) => format!("GEMM {}", tile(&self.panels)),
            (Pass::BackwardInput, InputGradient::Dense) => {
                format!("GEMM {}, transposing", tile(&self.gradient_panels))
            }
            (Pass::Forward, _) => format!("implicit GEMM {}", tile(&self.panels)),
            (Pass::BackwardInput, InputGradient::Gather) => {
                format!("implicit GEMM {}, transposed", tile(&self.gradient_panels))
            }
            (Pass::BackwardInput, InputGradient::Scatter) => {
                format!("kernel-row scatter {}", tile(&self.gradient_panels))
            }
            (Pass::BackwardWeight, _) => {
                let packed = if self.packs { "packed " } else { "" };
                format!("{packed}pixel reduction x{}", self.panels.width)
            }
        }
    }

    /// Whether [`Self::forward`] can add a residual: neither depthwise nor dense layers can.
    pub fn adds_residual(&self) -> bool {
        self.depthwise.is_none() && self.input_gradient != InputGradient::Dense
    }

    /// y = activation(convolution of x + bias + residual), with weights in the kernels' layout.
    ///
    /// Shapes: x `[n, h, w, c]`, y `[n, h', w', filters]`.
    ///
    /// # Panics
    /// When there is a residual without [`Self::adds_residual`], when a shape or length is not the one said
    /// here or by [`Forward`], or the scratch memory is shorter than [`Self::scratch_len`] or not aligned to 8
    /// bytes.
    pub fn forward(&self, context: Context, forward: Forward, y: ViewMut4, scratch: &mut [f32]) {
        self.check_forward(context, forward, &y);
        match &self.depthwise {
            Some(depthwise) => depthwise.forward().run(context, forward, &y, scratch),
            None if self.input_gradient == InputGradient::Dense => {
                Dense::new(self, Pass::Forward).run(context, forward, &y, scratch);
            }
            None => match &self.abreast {
                Some(abreast) if abreast.fits(y.ld()) => abreast.forward(context, forward, &y, scratch),
                _ => self.forward_gather().run(context, forward, &y, None, scratch),
            },
        }
    }

    fn check_forward(&self, context: Context, forward: Forward, y: &ViewMut4) {
        let Forward { x, weight, bias, residual, .. } = forward;
        self.check(context, x.shape(), y.shape());
        assert_eq!(weight.len(), self.weight_len());
        assert!(bias.is_none_or(|bias| bias.len() == self.shape.filters));
        assert!(residual.is_none() || self.adds_residual(), "depthwise and dense layers add no residual");
    }

    /// Floats of the moments of a batch's results, if [`Self::forward_with_moments`] can take them.
    pub fn moments_len(&self, batch: usize) -> Option<usize> {
        let possible = self.adds_residual() && self.shape.groups == 1;
        possible.then(|| self.forward_gather().moments_len(batch))
    }

    /// As [`Self::forward`] without residual and activation; besides, takes the moments of y's channels, from
    /// which [`statistics_from_moments`](crate::batch_norm::statistics_from_moments) follow.
    ///
    /// # Panics
    /// As [`Self::forward`], when there is a residual or an activation, and unless there are
    /// [`Self::moments_len`] moments.
    pub fn forward_with_moments(
        &self,
        context: Context,
        forward: Forward,
        y: ViewMut4,
        moments: &mut [f32],
        scratch: &mut [f32],
    ) {
        self.check_forward(context, forward, &y);
        assert_eq!(Some(moments.len()), self.moments_len(forward.x.n()), "length of the moments");
        self.forward_gather().run(context, forward, &y, Some(moments), scratch);
    }

    /// Whether [`Self::backward_input`] can add a residual: matrix products of gathered pixels can.
    pub fn adds_residual_to_gradient(&self) -> bool {
        self.depthwise.is_none() && self.input_gradient == InputGradient::Gather
    }

    /// dx, overwritten: the gradient of the loss by x, and the residual, where x is read elsewhere, too.
    ///
    /// Shapes: dy `[n, h', w', filters]`, `gradient_weight` from [`Self::pack_gradient_weight`] where
    /// [`Self::packs_gradient_weight`], dx `[n, h, w, c]`; the residual has dx's shape and pixel distance, and
    /// may be dx's memory.
    ///
    /// # Panics
    /// As [`Self::forward`], for [`Self::adds_residual_to_gradient`].
    pub fn backward_input(
        &self,
        context: Context,
        dy: View4,
        gradient_weight: &[f32],
        residual: Option<View4>,
        dx: ViewMut4,
        scratch: &mut [f32],
    ) {
        self.check(context, dx.shape(), dy.shape());
        assert_eq!(gradient_weight.len(), self.gradient_weight_len());
        assert!(
            residual.is_none() || self.adds_residual_to_gradient(),
            "only gathered gradients add a residual"
        );
        let product = Forward { residual, ..Forward::new(dy, gradient_weight) };
        if let Some(depthwise) = &self.depthwise {
            return depthwise.backward_input().run(context, product, &dx, scratch);
        }
        match self.input_gradient {
            InputGradient::Dense => {
                Dense::new(self, Pass::BackwardInput).run(context, product, &dx, scratch);
            }
            InputGradient::Scatter => scatter::run(self, context, dy, gradient_weight, &dx, scratch),
            InputGradient::Gather => {
                let in_place =
                    residual.is_some_and(|residual| residual.pointer() == dx.pointer().cast_const());
                // Pixels that no tap meets have the residual already where it is dx's memory.
                for phase in self.phases.iter().filter(|phase| !(in_place && phase.taps.is_empty())) {
                    self.input_gradient_gather(phase).run(context, product, &dx, None, scratch);
                }
            }
        }
    }

    /// dweight and dbias, overwritten: the gradients of the loss by the weights, in the kernels' layout, and by
    /// the bias `[filters]`.
    ///
    /// Shapes: x `[n, h, w, c]`, dy `[n, h', w', filters]`.
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn backward_weight(
        &self,
        context: Context,
        x: View4,
        dy: View4,
        dweight: &mut [f32],
        dbias: Option<&mut [f32]>,
        scratch: &mut [f32],
    ) {
        self.check(context, x.shape(), dy.shape());
        assert_eq!(dweight.len(), self.weight_len());
        assert!(dbias.as_ref().is_none_or(|dbias| dbias.len() == self.shape.filters));
        match (&self.depthwise, &self.abreast) {
            (Some(depthwise), _) => {
                depthwise_weight_gradient::run(depthwise, context, x, dy, dweight, dbias, scratch);
            }
            (None, Some(abreast)) if abreast.fits(dy.ld()) => {
                abreast.backward_weight(context, x, dy, dweight, dbias, scratch);
            }
            (None, _) => weight_gradient::run(self, context, x, dy, dweight, dbias, scratch),
        }
    }

    fn check(&self, context: Context, input: [usize; 4], output: [usize; 4]) {
        let ([h, w, c], [oh, ow, k]) = (self.shape.input, self.output);
        assert_eq!(context.isa, self.isa, "weights are laid out for one instruction set");
        assert_eq!((input, output), ([input[0], h, w, c], [input[0], oh, ow, k]));
    }

    /// Output pixels read x at the kernel's taps.
    fn forward_gather(&self) -> Gather<'_> {
        let Conv2dShape { input: [h, w, c], filters, kernel, stride, groups, dilation, padding } = self.shape;
        let [oh, ow, _] = self.output;
        Gather {
            isa: self.isa,
            panels: &self.panels,
            taps: &self.forward_taps,
            first_row: 0,
            input: [h, w],
            channels: c / groups,
            outputs: filters / groups,
            groups,
            grid: [oh, ow],
            stride,
            output: [oh, ow],
            output_step: [1, 1],
            output_offset: [0, 0],
            row_taps: (dilation[1] == 1).then_some(kernel[1]),
            padding,
        }
    }

    /// Pixels of dx in one phase of the stride read dy at that phase's taps.
    fn input_gradient_gather<'a>(&'a self, phase: &'a Phase) -> Gather<'a> {
        let Conv2dShape { input: [h, w, c], filters, stride, groups, .. } = self.shape;
        let [oh, ow, _] = self.output;
        Gather {
            isa: self.isa,
            panels: &self.gradient_panels,
            taps: &phase.taps,
            first_row: phase.first_tap * (filters / groups),
            input: [oh, ow],
            channels: filters / groups,
            outputs: c / groups,
            groups,
            grid: phase.grid,
            stride: [1, 1],
            output: [h, w],
            output_step: stride,
            output_offset: phase.offset,
            row_taps: None,
            padding: taps::reach(&phase.taps, phase.grid, [oh, ow]),
        }
    }
}
