//! The instructions of a [`Program`](crate::program::Program).
//!
//! What a new instruction needs stands in this file: the variant, its name and its operands; then an arm in
//! [`execute`](crate::execute).

use crate::graph::OutputLoss;
use crate::network::{Averages, BatchNormLayer, ChannelLayer, ConvolutionLayer, ConvolutionRole};
use crate::op::{Arithmetic, Function};
use crate::operand::{Operands, Reach};
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
    /// The result that says where, and what a pool says; and how far these and the gradient are read.
    fn operands(self, pool: Option<&Pooled>) -> (Reach, [Option<ValueId>; 2]) {
        match (self, pool) {
            (_, Some(&Pooled { argmax, y, .. })) => (Reach::Neighbourhood, [y, Some(argmax)]),
            (Self::Output(y), None) => (Reach::Pixel, [Some(y), None]),
            (Self::None | Self::Recompute, None) => (Reach::Pixel, [None; 2]),
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

    /// What it touches, and how.
    pub fn operands(&self) -> Operands {
        use Reach::{Neighbourhood, Pixel, Whole};
        let touched = Operands::default();
        match *self {
            // A tile reads its pixels again for other filters, after the results of some have been written.
            Self::Convolution { x, residual, y, moments, ref algorithm, .. } => touched
                .read(x, Neighbourhood)
                .read(residual, Pixel)
                .read(algorithm.weight(), Whole)
                .write(y, Pixel)
                .write(moments, Whole),
            Self::SeparableConvolution { x, residual, y, .. } => {
                touched.read(x, Neighbourhood).read(residual, Pixel).write(y, Pixel)
            }
            Self::ConvolutionBackwardWeight { x, dy, .. } => touched.read(x, Whole).read(dy, Whole),
            Self::PackGradientWeight { packed, .. } => touched.write(packed, Whole),
            Self::ConvolutionBackwardInput { dy, packed, residual, dx, ref algorithm, .. } => touched
                .read(dy, Neighbourhood)
                .read(algorithm.weight().or(packed), Whole)
                .read(residual, Pixel)
                .write(dx, Pixel),
            Self::TransformWeight { packed, transformed, .. } => {
                touched.read(packed, Whole).write(transformed, Whole)
            }
            Self::AvgPool { x, y, .. }
            | Self::GlobalMaxPool { x, y }
            | Self::MaxPool { x, y, argmax: None, .. } => touched.read(x, Neighbourhood).write(y, Pixel),
            Self::MaxPool { x, y, argmax, .. } => {
                touched.read(x, Neighbourhood).write(y, Pixel).write(argmax, Pixel)
            }
            Self::MaxPoolBackward { dy, argmax, y, dx, .. } => touched
                .read(dy, Neighbourhood)
                .read(argmax, Neighbourhood)
                .read(y, Neighbourhood)
                .write(dx, Pixel),
            Self::GlobalMaxPoolBackward { x, y, dy, dx } => {
                touched.read(dy, Whole).read(x, Neighbourhood).read(y, Whole).write(dx, Pixel)
            }
            Self::AvgPoolBackward { dy, dx, .. } | Self::PadBackward { dy, dx, .. } => {
                touched.read(dy, Neighbourhood).write(dx, Pixel)
            }
            // Statistics are complete before the first pixel is normalized.
            Self::BatchNorm { x, moments, residual, ref pool, argmax, y, saved, affine, .. } => touched
                .read(x, if pool.is_some() { Neighbourhood } else { Pixel })
                .read(residual, Pixel)
                .read(moments, Whole)
                .write(y, Pixel)
                .write(affine, Whole)
                .write(saved, Whole)
                .write(argmax, Pixel),
            Self::BatchNormBackwardWeight {
                ref pool,
                x,
                dy,
                mask,
                statistics: [saved, affine],
                dresidual,
                ..
            } => {
                let (reach, masks) = mask.operands(pool.as_ref());
                touched
                    .read(dy, reach)
                    .read(x, Pixel)
                    .read(saved, Whole)
                    .read(affine, Whole)
                    .read(masks[0], reach)
                    .read(masks[1], reach)
                    .write(dresidual, Pixel)
            }
            Self::BatchNormBackwardInput {
                ref pool, x, dy, mask, statistics: [saved, affine], dx, ..
            } => {
                let (reach, masks) = mask.operands(pool.as_ref());
                touched
                    .read(dy, reach)
                    .read(x, Pixel)
                    .read(saved, Whole)
                    .read(affine, Whole)
                    .read(masks[0], reach)
                    .read(masks[1], reach)
                    .write(dx, Pixel)
            }
            Self::Channel { x, y, .. }
            | Self::Dropout { x, y, .. }
            | Self::Function { x, y, .. }
            | Self::LocalResponseNorm { x, y, .. }
            | Self::Softmax { x, y } => touched.read(x, Pixel).write(y, Pixel),
            Self::RadialBasis { x, y, .. } => touched.read(x, Whole).write(y, Whole),
            Self::Copy { x, y } | Self::Pad { x, y, .. } => touched.read(x, Neighbourhood).write(y, Pixel),
            Self::ChannelBackwardWeight { x, dy, .. } => touched.read(dy, Whole).read(x, Whole),
            Self::ChannelBackwardInput { x, dy, dx, .. } => {
                touched.read(dy, Pixel).read(x, Pixel).write(dx, Pixel)
            }
            // The other term of a channel is computed from x after the first has been written.
            Self::LocalResponseNormBackward { x, dy, dx, .. } => {
                touched.read(dy, Pixel).read(x, Neighbourhood).write(dx, Pixel)
            }
            Self::DropoutBackward { dy, dx, .. } => touched.read(dy, Pixel).write(dx, Pixel),
            Self::FunctionBackward { dy, of, dx, .. } => {
                touched.read(dy, Pixel).read(of, Pixel).write(dx, Pixel)
            }
            Self::RadialBasisBackward { x, dy, dx, .. } => {
                touched.read(dy, Whole).read(x, Whole).write(dx, Whole)
            }
            Self::Add { a, b, y, .. } | Self::Arithmetic { a, b, y, .. } => {
                touched.read(a, Pixel).read(b, Pixel).write(y, Pixel)
            }
            Self::MultiplyChannels { a, b, y, .. } => touched.read(a, Pixel).read(b, Whole).write(y, Pixel),
            Self::Loss { logits, dlogits, .. } => touched.read(logits, Pixel).write(dlogits, Pixel),
            Self::CheckGradients | Self::Update => touched,
        }
    }
}
