//! The instructions of a [`Program`](crate::program::Program).
//!
//! What a new instruction needs stands in this file: the variant, its name, its operands, and which of them may share
//! memory; then an arm in [`execute`](crate::execute).

use crate::graph::OutputLoss;
use crate::network::{Averages, BatchNormLayer, ChannelLayer, ConvolutionLayer, ConvolutionRole};
use crate::op::{Arithmetic, Function};
use crate::program::ValueId;
use fovea_kernels::Activation;
use fovea_kernels::conv2d::Separable;
use fovea_kernels::conv2d::winograd::{WeightGradient, Winograd};
use fovea_kernels::local_response_norm::LocalResponseNorm;
use fovea_kernels::pool2d::MaxPool2d;
use std::ops::Range;
use std::sync::Arc;

/// How a convolution is computed.
#[derive(Clone, Default)]
pub(crate) enum Algorithm {
    /// Direct summation.
    #[default]
    Direct,
    /// Winograd's, with the transformed weight that the step wrote.
    Winograd(Arc<Winograd>, ValueId),
    /// Winograd's, with the transformed weight that the session keeps while its parameters stay the same.
    WinogradKept(Arc<Winograd>),
}

/// One call of a kernel. In a name, `d` stands before the gradient of what follows.
#[derive(Clone)]
pub(crate) enum Instruction {
    /// y = activation(convolution(x, weight) + bias + residual); with a batch normalization that is part of weight and
    /// bias where one is folded into it. The moments of y are taken for a batch normalization that reads it.
    Convolution {
        layer: Arc<ConvolutionLayer>,
        folded: Option<Arc<BatchNormLayer>>,
        x: ValueId,
        residual: Option<ValueId>,
        y: ValueId,
        moments: Option<ValueId>,
        activation: Activation,
        algorithm: Algorithm,
    },
    /// y = a 1 x 1 convolution of a depthwise convolution of x, each as [`Self::Convolution`], the residual added by the
    /// second; the map between is never written to memory.
    SeparableConvolution {
        stages: [Stage; 2],
        x: ValueId,
        residual: Option<ValueId>,
        y: ValueId,
    },
    /// The gradients of weight and bias, directly or by Winograd's algorithm.
    ConvolutionBackwardWeight {
        layer: Arc<ConvolutionLayer>,
        x: ValueId,
        dy: ValueId,
        winograd: Option<Arc<WeightGradient>>,
    },
    /// The weight in the order that the next instruction reads.
    PackGradientWeight {
        layer: Arc<ConvolutionLayer>,
        packed: ValueId,
    },
    /// The gradient of x, by the packed weight if there is one, else by the weight itself; and the residual: the share of
    /// those who read x, too.
    ConvolutionBackwardInput {
        layer: Arc<ConvolutionLayer>,
        dy: ValueId,
        packed: Option<ValueId>,
        residual: Option<ValueId>,
        dx: ValueId,
        algorithm: Algorithm,
    },
    /// The weight, or its packed form, in the frequencies that the next convolution multiplies.
    TransformWeight {
        layer: Arc<ConvolutionLayer>,
        winograd: Arc<Winograd>,
        packed: Option<ValueId>,
        transformed: ValueId,
    },
    /// y = activation(largest of each window of x); argmax only where a backward pass follows.
    MaxPool {
        layer: Arc<MaxPool2d>,
        x: ValueId,
        y: ValueId,
        argmax: Option<ValueId>,
        activation: Activation,
    },
    /// With y, the gradient passes only where y > 0: the backward of a fused ReLU.
    MaxPoolBackward {
        layer: Arc<MaxPool2d>,
        dy: ValueId,
        argmax: ValueId,
        y: Option<ValueId>,
        dx: ValueId,
    },
    /// y = largest value of each channel of x.
    GlobalMaxPool {
        x: ValueId,
        y: ValueId,
    },
    GlobalMaxPoolBackward {
        x: ValueId,
        y: ValueId,
        dy: ValueId,
        dx: ValueId,
    },
    /// y = mean of each window of x, or as the layer says.
    AvgPool {
        layer: Arc<Averages>,
        x: ValueId,
        y: ValueId,
    },
    AvgPoolBackward {
        layer: Arc<Averages>,
        dy: ValueId,
        dx: ValueId,
    },
    /// y = activation(x * scale + shift [+ residual]). Statistics are those of the batch, or of a frozen layer the running
    /// ones, kept in `saved`, or the running ones without it; scale and shift are left in `affine`. Those of the batch follow
    /// from the moments of x where they have been taken. With a pool, y is the largest of each window of what otherwise were
    /// y, and there is no residual.
    BatchNorm {
        layer: Arc<BatchNormLayer>,
        x: ValueId,
        moments: Option<ValueId>,
        residual: Option<ValueId>,
        pool: Option<Arc<MaxPool2d>>,
        argmax: Option<ValueId>,
        y: ValueId,
        saved: Option<ValueId>,
        frozen: bool,
        affine: ValueId,
        activation: Activation,
    },
    /// The gradients of weight and bias, and of the residual: dy where the mask lets it pass. With a pool, dy is the gradient of
    /// what was pooled.
    BatchNormBackwardWeight {
        layer: Arc<BatchNormLayer>,
        pool: Option<Pooled>,
        x: ValueId,
        dy: ValueId,
        mask: Mask,
        statistics: [ValueId; 2],
        dresidual: Option<ValueId>,
    },
    /// The gradient of x, once those of weight and bias are known; those of a frozen layer are zero, as if its statistics
    /// did not depend on x.
    BatchNormBackwardInput {
        layer: Arc<BatchNormLayer>,
        pool: Option<Pooled>,
        x: ValueId,
        dy: ValueId,
        mask: Mask,
        statistics: [ValueId; 2],
        dx: ValueId,
    },
    /// y = x scaled, or bent, by numbers of each channel.
    Channel {
        layer: Arc<ChannelLayer>,
        x: ValueId,
        y: ValueId,
    },
    /// The gradients of these numbers; a bias alone needs no x.
    ChannelBackwardWeight {
        layer: Arc<ChannelLayer>,
        x: Option<ValueId>,
        dy: ValueId,
    },
    /// The gradient of x, which a factor alone does not need.
    ChannelBackwardInput {
        layer: Arc<ChannelLayer>,
        x: Option<ValueId>,
        dy: ValueId,
        dx: ValueId,
    },
    /// y = x over a power of its neighbours in the channels.
    LocalResponseNorm {
        norm: LocalResponseNorm,
        x: ValueId,
        y: ValueId,
    },
    LocalResponseNormBackward {
        norm: LocalResponseNorm,
        x: ValueId,
        dy: ValueId,
        dx: ValueId,
    },
    /// y = x, with zeros at random places and larger values elsewhere; the places belong to the node and the step.
    Dropout {
        rate: f32,
        node: usize,
        x: ValueId,
        y: ValueId,
    },
    /// The same for gradients: the same places.
    DropoutBackward {
        rate: f32,
        node: usize,
        dy: ValueId,
        dx: ValueId,
    },
    /// y = activation(a + b): also the gradient of a value that several nodes read, the sum of theirs.
    Add {
        a: ValueId,
        b: ValueId,
        y: ValueId,
        activation: Activation,
    },
    /// y = a and b joined, value by value.
    Arithmetic {
        operation: Arithmetic,
        a: ValueId,
        b: ValueId,
        y: ValueId,
    },
    /// y = a times the factors b of each image's channels; `sums` are for the gradient of b.
    MultiplyChannels {
        sums: Arc<Averages>,
        a: ValueId,
        b: ValueId,
        y: ValueId,
    },
    /// y = x: channels of a concatenation that their layer could not write there itself, and gradients from there.
    Copy {
        x: ValueId,
        y: ValueId,
    },
    /// y = x with zeros around: top, right, bottom, left; and channels before and after.
    Pad {
        padding: [usize; 4],
        channels: [usize; 2],
        x: ValueId,
        y: ValueId,
    },
    PadBackward {
        padding: [usize; 4],
        channels: [usize; 2],
        dy: ValueId,
        dx: ValueId,
    },
    /// y = function(x).
    Function {
        function: Function,
        x: ValueId,
        y: ValueId,
    },
    /// dx = dy times the derivative, which follows from the result or the operand, or is the same everywhere.
    FunctionBackward {
        function: Function,
        dy: ValueId,
        of: Option<ValueId>,
        dx: ValueId,
    },
    /// y = the negative squared distances of x from each code.
    RadialBasis {
        codes: Arc<[f32]>,
        x: ValueId,
        y: ValueId,
    },
    RadialBasisBackward {
        codes: Arc<[f32]>,
        x: ValueId,
        dy: ValueId,
        dx: ValueId,
    },
    /// y = softmax of each pixel's channels.
    Softmax {
        x: ValueId,
        y: ValueId,
    },
    /// The loss of an output, its gradient times `weight` where one is wanted.
    Loss {
        output: usize,
        loss: OutputLoss,
        logits: ValueId,
        dlogits: Option<ValueId>,
        weight: f32,
    },
    /// Whether every gradient of a parameter is finite.
    CheckGradients,
    /// The optimizer's step over all parameters.
    Update,
}

/// A convolution that another instruction has inside, with the batch normalization that is folded into it.
#[derive(Clone)]
pub(crate) struct Stage {
    pub layer: Arc<ConvolutionLayer>,
    pub folded: Option<Arc<BatchNormLayer>>,
    pub activation: Activation,
}

/// The kernel of two stages; none only where [`fuse`](crate::fuse) would not have joined them.
pub(crate) fn separable([depthwise, pointwise]: &[Stage; 2]) -> Option<Separable<'_>> {
    Separable::new(&depthwise.layer.kernel, &pointwise.layer.kernel)
}

/// Where the gradient of a batch normalization passes its activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    /// Everywhere: it has none.
    None,
    /// Where x * scale + shift is positive.
    Recompute,
    /// Where this result is positive.
    Output(ValueId),
}

/// How the result of a batch normalization was pooled.
#[derive(Clone)]
pub(crate) struct Pooled {
    pub layer: Arc<MaxPool2d>,
    /// The winners of its windows.
    pub argmax: ValueId,
    /// Its result, if the gradient passes only where that is positive.
    pub y: Option<ValueId>,
}

impl Mask {
    /// The result that says where, and what a pool says.
    fn operands(self, pool: Option<&Pooled>) -> [Option<ValueId>; 2] {
        match (self, pool) {
            (_, Some(&Pooled { argmax, y, .. })) => [y, Some(argmax)],
            (Self::Output(y), None) => [Some(y), None],
            (Self::None | Self::Recompute, None) => [None; 2],
        }
    }
}

impl Algorithm {
    /// The transformed weight among the program's values.
    pub fn weight(&self) -> Option<ValueId> {
        match *self {
            Self::Winograd(_, weight) => Some(weight),
            Self::Direct | Self::WinogradKept(_) => None,
        }
    }

    /// Winograd's algorithm, wherever its weight is.
    pub fn winograd(&self) -> Option<&Arc<Winograd>> {
        match self {
            Self::Winograd(winograd, _) | Self::WinogradKept(winograd) => Some(winograd),
            Self::Direct => None,
        }
    }
}

/// How an instruction touches an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// Every element is overwritten.
    Write,
}

impl Instruction {
    /// Its name in `explain`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Convolution { layer, .. } => match layer.role {
                ConvolutionRole::Convolution => "conv",
                ConvolutionRole::Dense => "dense",
                ConvolutionRole::Transposed => "convTransposeBackwardInput",
            },
            Self::SeparableConvolution { .. } => "separableConv",
            Self::ConvolutionBackwardWeight { layer, .. } => match layer.role {
                ConvolutionRole::Convolution => "convBackwardWeight",
                ConvolutionRole::Dense => "denseBackwardWeight",
                ConvolutionRole::Transposed => "convTransposeBackwardWeight",
            },
            Self::ConvolutionBackwardInput { layer, .. } => match layer.role {
                ConvolutionRole::Convolution => "convBackwardInput",
                ConvolutionRole::Dense => "denseBackwardInput",
                ConvolutionRole::Transposed => "convTranspose",
            },
            Self::PackGradientWeight { .. } => "packGradientWeight",
            Self::TransformWeight { .. } => "transformWeight",
            Self::MaxPool { .. } => "maxPool",
            Self::MaxPoolBackward { .. } => "maxPoolBackward",
            Self::GlobalMaxPool { .. } => "globalMaxPool",
            Self::GlobalMaxPoolBackward { .. } => "globalMaxPoolBackward",
            Self::AvgPool { layer, .. } => layer.names()[0],
            Self::AvgPoolBackward { layer, .. } => layer.names()[1],
            Self::Channel { layer, .. } => layer.names()[0],
            Self::ChannelBackwardWeight { layer, .. } => layer.names()[1],
            Self::ChannelBackwardInput { layer, .. } => layer.names()[2],
            Self::BatchNorm { .. } => "batchNorm",
            Self::BatchNormBackwardWeight { .. } => "batchNormBackwardWeight",
            Self::BatchNormBackwardInput { .. } => "batchNormBackwardInput",
            Self::LocalResponseNorm { .. } => "localResponseNorm",
            Self::LocalResponseNormBackward { .. } => "localResponseNormBackward",
            Self::Dropout { .. } => "dropout",
            Self::DropoutBackward { .. } => "dropoutBackward",
            Self::Add { .. } => "add",
            Self::Arithmetic { operation, .. } => match operation {
                Arithmetic::Subtract => "subtract",
                Arithmetic::Multiply => "multiply",
                Arithmetic::Divide => "divide",
                Arithmetic::NegativeProduct => "negativeProduct",
            },
            Self::MultiplyChannels { .. } => "multiplyChannels",
            Self::Copy { .. } => "copy",
            Self::Pad { .. } => "pad",
            Self::PadBackward { .. } => "padBackward",
            Self::Function { function, .. } => function.names()[0],
            Self::FunctionBackward { function, .. } => function.names()[1],
            Self::RadialBasis { .. } => "radialBasis",
            Self::RadialBasisBackward { .. } => "radialBasisBackward",
            Self::Softmax { .. } => "softmax",
            Self::Loss { loss: OutputLoss::CrossEntropy {}, .. } => "softmaxCrossEntropy",
            Self::Loss { loss, .. } => loss.name(),
            Self::CheckGradients => "checkGradients",
            Self::Update => "update",
        }
    }

    /// How it computes, if it is a convolution that has a choice.
    pub fn algorithm(&self) -> Option<&Algorithm> {
        match self {
            Self::Convolution { algorithm, .. } | Self::ConvolutionBackwardInput { algorithm, .. } => {
                Some(algorithm)
            }
            _ => None,
        }
    }

    /// Places of weight and bias that a forward instruction computes with.
    pub fn parameters(&self) -> [Option<&Range<usize>>; 2] {
        match self {
            // A transposed convolution is an input gradient.
            Self::Convolution { layer, .. } | Self::ConvolutionBackwardInput { layer, .. } => {
                layer.parameters()
            }
            Self::BatchNorm { layer, .. } => layer.parameters(),
            Self::Channel { layer, .. } => layer.parameters(),
            _ => [None, None],
        }
    }

    /// Calls `visit` for every value it touches: those read first, the principal one of each kind before the others.
    pub fn operands(&self, mut visit: impl FnMut(Access, ValueId)) {
        use Access::{Read, Write};
        let mut visit_all = |access, values: &[Option<ValueId>]| {
            values.iter().flatten().for_each(|&value| visit(access, value));
        };
        let (read, written): ([Option<ValueId>; 6], [Option<ValueId>; 4]) = match *self {
            Self::Convolution { x, residual, y, moments, ref algorithm, .. } => {
                (operands([x], [residual, algorithm.weight()]), operands([y], [moments]))
            }
            Self::SeparableConvolution { x, residual, y, .. } => {
                (operands([x], [residual]), operands([y], []))
            }
            Self::AvgPool { x, y, .. }
            | Self::GlobalMaxPool { x, y }
            | Self::RadialBasis { x, y, .. }
            | Self::Channel { x, y, .. }
            | Self::LocalResponseNorm { x, y, .. }
            | Self::Dropout { x, y, .. }
            | Self::Copy { x, y }
            | Self::Pad { x, y, .. }
            | Self::Function { x, y, .. }
            | Self::Softmax { x, y } => (operands([x], []), operands([y], [])),
            Self::ConvolutionBackwardWeight { x, dy, .. } => (operands([x, dy], []), operands([], [])),
            Self::PackGradientWeight { packed, .. } => (operands([], []), operands([packed], [])),
            Self::ConvolutionBackwardInput { dy, packed, residual, dx, ref algorithm, .. } => {
                (operands([dy], [algorithm.weight().or(packed), residual]), operands([dx], []))
            }
            Self::TransformWeight { packed, transformed, .. } => {
                (operands([], [packed]), operands([transformed], []))
            }
            Self::BatchNorm { x, moments, residual, argmax, y, saved, affine, .. } => {
                (operands([x], [residual, moments]), operands([y, affine], [saved, argmax]))
            }
            Self::BatchNormBackwardWeight {
                ref pool,
                x,
                dy,
                mask,
                statistics: [saved, affine],
                dresidual,
                ..
            } => {
                let masks = mask.operands(pool.as_ref());
                (operands([dy, x, saved, affine], masks), operands([], [dresidual]))
            }
            Self::BatchNormBackwardInput {
                ref pool, x, dy, mask, statistics: [saved, affine], dx, ..
            } => (operands([dy, x, saved, affine], mask.operands(pool.as_ref())), operands([dx], [])),
            Self::MaxPool { x, y, argmax, .. } => (operands([x], []), operands([y], [argmax])),
            Self::MaxPoolBackward { dy, argmax, y, dx, .. } => {
                (operands([dy, argmax], [y]), operands([dx], []))
            }
            Self::LocalResponseNormBackward { x, dy, dx, .. }
            | Self::RadialBasisBackward { x, dy, dx, .. } => (operands([dy, x], []), operands([dx], [])),
            Self::AvgPoolBackward { dy, dx, .. }
            | Self::DropoutBackward { dy, dx, .. }
            | Self::PadBackward { dy, dx, .. } => (operands([dy], []), operands([dx], [])),
            Self::FunctionBackward { dy, of, dx, .. } => (operands([dy], [of]), operands([dx], [])),
            Self::GlobalMaxPoolBackward { x, y, dy, dx } => (operands([dy, x, y], []), operands([dx], [])),
            Self::ChannelBackwardWeight { x, dy, .. } => (operands([dy], [x]), operands([], [])),
            Self::ChannelBackwardInput { x, dy, dx, .. } => (operands([dy], [x]), operands([dx], [])),
            Self::Add { a, b, y, .. }
            | Self::Arithmetic { a, b, y, .. }
            | Self::MultiplyChannels { a, b, y, .. } => (operands([a, b], []), operands([y], [])),
            Self::Loss { logits, dlogits, .. } => (operands([logits], []), operands([], [dlogits])),
            Self::CheckGradients | Self::Update => (operands([], []), operands([], [])),
        };
        visit_all(Read, &read);
        visit_all(Write, &written);
    }

    /// Pairs of an operand read and the one written that may share memory, when the one read is not needed afterwards;
    /// the better one first.
    pub fn in_place(&self) -> impl Iterator<Item = (ValueId, ValueId)> {
        let pairs = match *self {
            Self::Function { x, y, .. }
            | Self::Channel { x, y, .. }
            | Self::Dropout { x, y, .. }
            | Self::Softmax { x, y } => [Some((x, y)), None],
            Self::MultiplyChannels { a, y, .. } => [Some((a, y)), None],
            // The residual of a separable convolution is not its x, which it reads until the end.
            Self::Convolution { residual, y, .. }
            | Self::ConvolutionBackwardInput { residual, dx: y, .. }
            | Self::SeparableConvolution { residual, y, .. } => {
                [residual.map(|residual| (residual, y)), None]
            }
            Self::BatchNorm { pool: Some(_), .. } => [None, None],
            Self::BatchNorm { x, residual, y, .. } => [Some((x, y)), residual.map(|residual| (residual, y))],
            Self::BatchNormBackwardInput { pool: Some(_), x, dx, .. } => [Some((x, dx)), None],
            Self::BatchNormBackwardInput { x, dy, dx, .. } => [Some((dy, dx)), Some((x, dx))],
            Self::BatchNormBackwardWeight { dy, dresidual, .. } => {
                [dresidual.map(|dresidual| (dy, dresidual)), None]
            }
            Self::Add { a, b, y, .. } | Self::Arithmetic { a, b, y, .. } => [Some((a, y)), Some((b, y))],
            Self::Loss { logits, dlogits, .. } => [dlogits.map(|dlogits| (logits, dlogits)), None],
            Self::FunctionBackward { dy, dx, .. }
            | Self::ChannelBackwardInput { dy, dx, .. }
            | Self::LocalResponseNormBackward { dy, dx, .. }
            | Self::DropoutBackward { dy, dx, .. } => [Some((dy, dx)), None],
            _ => [None, None],
        };
        pairs.into_iter().flatten()
    }
}

/// Operands that are always there, then those that may be.
fn operands<const ALWAYS: usize, const MAYBE: usize, const ALL: usize>(
    always: [ValueId; ALWAYS],
    maybe: [Option<ValueId>; MAYBE],
) -> [Option<ValueId>; ALL] {
    let mut all = [None; ALL];
    let operands = always.into_iter().map(Some).chain(maybe);
    all.iter_mut().zip(operands).for_each(|(slot, operand)| *slot = operand);
    all
}
