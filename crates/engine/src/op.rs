//! The operations of a graph: hyperparameters, their names and bounds.
//!
//! An operation is added by a variant of [`Op`] and an arm in each of its functions.

use crate::error::{GraphError, Result};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use std::ops::RangeInclusive;

/// Largest height, width or number of channels: products of a few of them stay far from overflow.
pub(crate) const MAX_SIZE: usize = 1 << 20;

/// Largest side of a kernel or window, stride, padding or dilation: kernels keep a table of taps.
pub(crate) const MAX_WINDOW: usize = 1 << 10;

// No window that a graph may have is too large for its kernel.
const _: () = assert!(MAX_WINDOW <= fovea_kernels::local_response_norm::LocalResponseNorm::LARGEST_SIZE);

/// Names of the operations.
pub(crate) const OPS: [&str; 33] = [
    "conv",
    "convTranspose",
    "dense",
    "batchNorm",
    "scale",
    "maxPool",
    "avgPool",
    "globalAvgPool",
    "globalMaxPool",
    "adaptiveAvgPool",
    "upsample",
    "localResponseNorm",
    "dropout",
    "add",
    "subtract",
    "multiply",
    "divide",
    "concat",
    "pad",
    "relu",
    "relu6",
    "clip",
    "leakyRelu",
    "prelu",
    "hardSigmoid",
    "hardSwish",
    "sigmoid",
    "tanh",
    "affine",
    "flatten",
    "softmax",
    "logSoftmax",
    "radialBasis",
];

/// What a node computes, and its hyperparameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase", deny_unknown_fields)]
pub enum Op {
    /// Convolution.
    Conv(Conv),
    /// Transposed convolution: what a convolution's input gradient computes, which enlarges where that one has a stride.
    ConvTranspose(ConvTranspose),
    /// Fully connected layer: every unit sees the whole flat input.
    Dense(Dense),
    /// Batch normalization (Ioffe and Szegedy 2015, arXiv:1502.03167): every channel with mean 0 and variance 1 over the
    /// batch, then scaled and shifted.
    BatchNorm(BatchNorm),
    /// A learned factor for each channel, and perhaps a learned summand.
    Scale(Scale),
    /// Largest value of each window.
    MaxPool(MaxPool),
    /// Mean of each window.
    AvgPool(AvgPool),
    /// Mean of each channel over the whole map.
    GlobalAvgPool {},
    /// Largest value of each channel over the whole map.
    GlobalMaxPool {},
    /// Means of windows of such sizes that the result has a given one.
    AdaptiveAvgPool(AdaptiveAvgPool),
    /// Each pixel many times.
    Upsample(Upsample),
    /// Each value over a power of its neighbours in the channels (Krizhevsky et al. 2012, section 3.3).
    LocalResponseNorm(LocalResponseNorm),
    /// In training, zeros at random and the other values larger, so that the mean stays.
    Dropout(Dropout),
    /// Sum of two maps of the same shape.
    Add {},
    /// Difference of two maps of the same shape.
    Subtract {},
    /// Product of two maps of the same shape, or of a map and `[1, 1, channels]`, a factor for each channel of an image.
    Multiply {},
    /// Quotient of two maps of the same shape.
    Divide {},
    /// Channels of two or more maps, one map after the other.
    Concat {},
    /// Zeros around a map.
    Pad(Pad),
    /// max(0, x).
    Relu {},
    /// min(max(0, x), 6).
    Relu6 {},
    /// min(max(min, x), max).
    Clip(Clip),
    /// x where it is positive, else a fraction of it.
    LeakyRelu(LeakyRelu),
    /// x where it is positive, else a learned multiple of it (He et al. 2015, arXiv:1502.01852).
    Prelu(Prelu),
    /// min(max(0, alpha x + beta), 1).
    HardSigmoid(HardSigmoid),
    /// x min(max(0, x / 6 + 1 / 2), 1) (Howard et al. 2019, arXiv:1905.02244).
    HardSwish {},
    /// 1 / (1 + exp(-x)).
    Sigmoid {},
    /// Hyperbolic tangent.
    Tanh {},
    /// scale x + shift.
    Affine(Affine),
    /// A feature map as one row `[1, 1, height * width * channels]`.
    Flatten {},
    /// Probabilities over the channels of each pixel.
    Softmax {},
    /// Their logarithms.
    LogSoftmax {},
    /// How near a vector is to each of some codes: `-sum (x - code)^2`.
    RadialBasis(RadialBasis),
}

/// A function that keeps the shape and has nothing to learn: of single values, or of the channels of a pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Function {
    Relu,
    Relu6,
    /// To at least and at most.
    Clip([f32; 2]),
    /// With the slope for negative values.
    LeakyRelu(f32),
    HardSigmoid(HardSigmoid),
    HardSwish,
    Sigmoid,
    Tanh,
    Affine(Affine),
    LogSoftmax,
}

/// What the derivative of a function follows from, besides the gradient of its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Derivative {
    Operand,
    Result,
    /// The derivative is the same everywhere.
    Nothing,
}

impl Function {
    /// Its name in `explain`, and that of its backward pass.
    pub fn names(self) -> [&'static str; 2] {
        match self {
            Self::Relu => ["relu", "reluBackward"],
            Self::Relu6 => ["relu6", "relu6Backward"],
            Self::Clip(_) => ["clip", "clipBackward"],
            Self::LeakyRelu(_) => ["leakyRelu", "leakyReluBackward"],
            Self::HardSigmoid(_) => ["hardSigmoid", "hardSigmoidBackward"],
            Self::HardSwish => ["hardSwish", "hardSwishBackward"],
            Self::Sigmoid => ["sigmoid", "sigmoidBackward"],
            Self::Tanh => ["tanh", "tanhBackward"],
            Self::Affine(_) => ["affine", "affineBackward"],
            Self::LogSoftmax => ["logSoftmax", "logSoftmaxBackward"],
        }
    }

    /// What its backward pass reads.
    pub fn derivative(self) -> Derivative {
        match self {
            Self::HardSwish => Derivative::Operand,
            Self::Affine(_) => Derivative::Nothing,
            _ => Derivative::Result,
        }
    }
}

/// What two maps of the same shape are joined by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Subtract,
    Multiply,
    Divide,
    /// -a b, which only gradients need.
    NegativeProduct,
}

/// Hyperparameters of a convolution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Conv {
    /// Output channels.
    pub filters: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub padding: Padding,
    /// Vertical and horizontal distance between taps; 1 is a dense kernel.
    pub dilation: [usize; 2],
    /// Channel groups that do not see each other.
    pub groups: usize,
    /// Whether a constant is added to each filter's result.
    pub bias: bool,
    /// How the weight begins.
    pub init: Init,
    /// The input channels of each filter, in ascending order; all of them where there is no list. Other weights are 0 and stay 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Vec<Vec<usize>>>,
}

/// Hyperparameters of a transposed convolution: those of the convolution whose input has the size of its output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConvTranspose {
    /// Output channels.
    pub filters: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Output pixels from one input pixel to the next.
    pub stride: [usize; 2],
    /// Pixels taken away from the output's sides; `"same"` as many as leave `input * stride`.
    pub padding: Padding,
    /// Pixels added to the output at the bottom and right, fewer than the stride.
    pub output_padding: [usize; 2],
    /// Vertical and horizontal distance between taps; 1 is a dense kernel.
    pub dilation: [usize; 2],
    /// Channel groups that do not see each other.
    pub groups: usize,
    /// Whether a constant is added to each filter's result.
    pub bias: bool,
    /// How the weight begins.
    pub init: Init,
}

/// Hyperparameters of a fully connected layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Dense {
    /// Output channels.
    pub units: usize,
    /// Whether a constant is added to each unit's result.
    pub bias: bool,
    /// How the weight begins.
    pub init: Init,
}

/// Hyperparameters of max pooling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MaxPool {
    /// Window height and width.
    pub size: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Pixels around the input, which never win.
    pub padding: Padding,
    /// Rounds the output's size up, as PyTorch's `ceil_mode`.
    pub ceil_mode: bool,
}

/// Hyperparameters of average pooling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AvgPool {
    /// Window height and width.
    pub size: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub padding: Padding,
    /// Rounds the output's size up, as PyTorch's `ceil_mode`.
    pub ceil_mode: bool,
    /// Whether padding counts in the divisor, as PyTorch's `count_include_pad`.
    pub count_include_pad: bool,
}

/// Hyperparameters of batch normalization, in PyTorch's meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BatchNorm {
    /// Added to the variance; above 0.
    pub epsilon: f32,
    /// Share of the batch in the running statistics, 0 to 1.
    pub momentum: f32,
}

/// Hyperparameters of a factor for each channel, which begins as 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Scale {
    /// Whether a constant, which begins as 0, is added to each channel.
    pub bias: bool,
}

/// Hyperparameters of average pooling to a given size, in PyTorch's meaning: windows of several sizes that overlap where
/// the size does not divide the input's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AdaptiveAvgPool {
    /// Output height and width.
    pub size: [usize; 2],
}

/// Hyperparameters of enlarging by repeating pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Upsample {
    /// How many times as high and as wide.
    pub factor: [usize; 2],
}

/// Hyperparameters of local response normalization, in PyTorch's meaning: `x / (k + alpha / size * sum)^beta`, the sum
/// being that of x^2 over `size` neighbouring channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LocalResponseNorm {
    /// Channels of a window.
    pub size: usize,
    /// Factor of the mean square; at least 0.
    pub alpha: f32,
    /// Exponent; at least 0.
    pub beta: f32,
    /// What is added to the mean square; above 0.
    pub k: f32,
}

/// Hyperparameters of dropout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Dropout {
    /// Probability of a zero, from 0 to below 1.
    pub rate: f32,
}

/// Hyperparameters of a leaky ReLU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LeakyRelu {
    /// Slope for negative values; at least 0.
    pub slope: f32,
}

/// Hyperparameters of a leaky ReLU whose slope is learned; it begins as 0.25.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Prelu {
    /// Whether all channels have one slope.
    pub shared: bool,
}

/// Hyperparameters of a clipping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Clip {
    /// The smallest result.
    pub min: f32,
    /// The largest result, at least the smallest.
    pub max: f32,
}

/// Hyperparameters of a sigmoid of straight lines.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HardSigmoid {
    /// Slope.
    pub alpha: f32,
    /// Value at zero.
    pub beta: f32,
}

/// Hyperparameters of a constant affine function.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Affine {
    /// Factor.
    pub scale: f32,
    /// What is added to the product.
    pub shift: f32,
}

/// Constants of units that measure distances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RadialBasis {
    /// For each unit the vector that it measures the distance from.
    pub codes: Vec<Vec<f32>>,
}

/// How many zeros a padding puts where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Pad {
    /// Pixels at the top, right, bottom and left.
    pub padding: [usize; 4],
    /// Channels before and after.
    pub channels: [usize; 2],
}

/// Pixels added around an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// As many as give `ceil(input / stride)` outputs, an odd one at the bottom and right.
    Same,
    /// None.
    Valid,
    /// Top, right, bottom, left.
    Explicit([usize; 4]),
}

/// Distribution of a layer's first weight; biases begin at zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Init {
    /// He et al. 2015 (arXiv:1502.01852): uniform within `sqrt(6 / fan_in)`; keeps the variance through ReLUs.
    Kaiming,
    /// Glorot and Bengio 2010: uniform within `sqrt(6 / (fan_in + fan_out))`.
    Xavier,
    /// LeCun et al. 1998, appendix A: uniform within `2.4 / fan_in`, for a tanh scaled to gain 1 between -1 and 1.
    Lecun,
}

impl Serialize for Padding {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Same => "same".serialize(serializer),
            Self::Valid => "valid".serialize(serializer),
            Self::Explicit(sides) => sides.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Padding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match value.as_str() {
            Some("same") => Ok(Self::Same),
            Some("valid") => Ok(Self::Valid),
            _ => <[usize; 4]>::deserialize(&value).map(Self::Explicit).map_err(|_| {
                D::Error::custom(format!(
                    "padding is \"same\", \"valid\" or [top, right, bottom, left], not {value}"
                ))
            }),
        }
    }
}

impl Op {
    /// Its name in a definition.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv(_) => "conv",
            Self::ConvTranspose(_) => "convTranspose",
            Self::Dense(_) => "dense",
            Self::BatchNorm(_) => "batchNorm",
            Self::Scale(_) => "scale",
            Self::MaxPool(_) => "maxPool",
            Self::AvgPool(_) => "avgPool",
            Self::GlobalAvgPool {} => "globalAvgPool",
            Self::GlobalMaxPool {} => "globalMaxPool",
            Self::AdaptiveAvgPool(_) => "adaptiveAvgPool",
            Self::Upsample(_) => "upsample",
            Self::LocalResponseNorm(_) => "localResponseNorm",
            Self::Dropout(_) => "dropout",
            Self::Add {} => "add",
            Self::Subtract {} => "subtract",
            Self::Multiply {} => "multiply",
            Self::Divide {} => "divide",
            Self::Concat {} => "concat",
            Self::Pad(_) => "pad",
            Self::Relu {} => "relu",
            Self::Relu6 {} => "relu6",
            Self::Clip(_) => "clip",
            Self::LeakyRelu(_) => "leakyRelu",
            Self::Prelu(_) => "prelu",
            Self::HardSigmoid(_) => "hardSigmoid",
            Self::HardSwish {} => "hardSwish",
            Self::Sigmoid {} => "sigmoid",
            Self::Tanh {} => "tanh",
            Self::Affine(_) => "affine",
            Self::Flatten {} => "flatten",
            Self::Softmax {} => "softmax",
            Self::LogSoftmax {} => "logSoftmax",
            Self::RadialBasis(_) => "radialBasis",
        }
    }

    /// How many nodes it reads; no more than `usize::MAX`.
    pub(crate) fn input_count(&self) -> RangeInclusive<usize> {
        match self {
            Self::Add {} | Self::Subtract {} | Self::Multiply {} | Self::Divide {} => 2..=2,
            Self::Concat {} => 2..=usize::MAX,
            _ => 1..=1,
        }
    }

    /// Checks the hyperparameters that have bounds whatever the input is.
    pub(crate) fn check(&self, node: &str) -> Result<()> {
        let check = |what, sizes: &[usize], limit| {
            sizes.iter().try_for_each(|&size| check_size(node, what, size, 1..=limit))
        };
        let sides = |sides: &[usize]| {
            sides.iter().try_for_each(|&side| check_size(node, "padding", side, 0..=MAX_WINDOW))
        };
        let padding = |padding: &Padding| match padding {
            Padding::Explicit(explicit) => sides(explicit),
            Padding::Same | Padding::Valid => Ok(()),
        };
        match self {
            Self::Conv(conv) => {
                check("filters", &[conv.filters], MAX_SIZE)?;
                check("groups", &[conv.groups], MAX_SIZE)?;
                check("a kernel", &conv.kernel, MAX_WINDOW)?;
                check("a stride", &conv.stride, MAX_WINDOW)?;
                check("a dilation", &conv.dilation, MAX_WINDOW)?;
                padding(&conv.padding)
            }
            Self::ConvTranspose(conv) => {
                check("filters", &[conv.filters], MAX_SIZE)?;
                check("groups", &[conv.groups], MAX_SIZE)?;
                check("a kernel", &conv.kernel, MAX_WINDOW)?;
                check("a stride", &conv.stride, MAX_WINDOW)?;
                check("a dilation", &conv.dilation, MAX_WINDOW)?;
                padding(&conv.padding)?;
                conv.output_padding.iter().zip(conv.stride).try_for_each(|(&size, stride)| {
                    check_size(node, "an output padding below the stride,", size, 0..=stride - 1)
                })
            }
            Self::Dense(dense) => check("units", &[dense.units], MAX_SIZE),
            Self::BatchNorm(BatchNorm { epsilon, momentum }) => {
                check_number(node, "an epsilon above 0", *epsilon, *epsilon > 0.0)?;
                check_number(node, "a momentum of 0 to 1", *momentum, (0.0..=1.0).contains(momentum))
            }
            Self::MaxPool(MaxPool { size, stride, padding: sides, .. })
            | Self::AvgPool(AvgPool { size, stride, padding: sides, .. }) => {
                check("a window", size, MAX_WINDOW)?;
                check("a stride", stride, MAX_WINDOW)?;
                padding(sides)
            }
            Self::LocalResponseNorm(LocalResponseNorm { size, alpha, beta, k }) => {
                check("a window", &[*size], MAX_WINDOW)?;
                check_number(node, "an alpha of at least 0", *alpha, *alpha >= 0.0)?;
                check_number(node, "a beta of at least 0", *beta, *beta >= 0.0)?;
                check_number(node, "a k above 0", *k, *k > 0.0)
            }
            Self::Dropout(Dropout { rate }) => {
                check_number(node, "a rate from 0 to below 1", *rate, (0.0..1.0).contains(rate))
            }
            Self::Pad(Pad { padding, channels }) => {
                sides(padding)?;
                channels.iter().try_for_each(|&side| check_size(node, "channels", side, 0..=MAX_SIZE))
            }
            Self::LeakyRelu(LeakyRelu { slope }) => {
                check_number(node, "a slope of at least 0", *slope, *slope >= 0.0)
            }
            Self::AdaptiveAvgPool(AdaptiveAvgPool { size }) => check("a size", size, MAX_SIZE),
            Self::RadialBasis(RadialBasis { codes }) => {
                check("codes", &[codes.len()], MAX_SIZE)?;
                codes.iter().flatten().try_for_each(|&value| check_number(node, "finite codes", value, true))
            }
            Self::Upsample(Upsample { factor }) => check("a factor", factor, MAX_WINDOW),
            Self::Clip(Clip { min, max }) => {
                check_number(node, "a finite min", *min, true)?;
                check_number(node, "a finite max of at least min", *max, max >= min)
            }
            Self::HardSigmoid(HardSigmoid { alpha, beta }) => {
                check_number(node, "a finite alpha", *alpha, true)?;
                check_number(node, "a finite beta", *beta, true)
            }
            Self::Affine(Affine { scale, shift }) => {
                check_number(node, "a finite scale", *scale, true)?;
                check_number(node, "a finite shift", *shift, true)
            }
            Self::Scale(_)
            | Self::Prelu(_)
            | Self::GlobalAvgPool {}
            | Self::GlobalMaxPool {}
            | Self::Add {}
            | Self::Subtract {}
            | Self::Multiply {}
            | Self::Divide {}
            | Self::HardSwish {}
            | Self::LogSoftmax {}
            | Self::Concat {}
            | Self::Relu {}
            | Self::Relu6 {}
            | Self::Sigmoid {}
            | Self::Tanh {}
            | Self::Flatten {}
            | Self::Softmax {} => Ok(()),
        }
    }
}

/// Checks that a size is within its bounds.
pub(crate) fn check_size(
    node: &str,
    what: &'static str,
    received: usize,
    range: RangeInclusive<usize>,
) -> Result<()> {
    if range.contains(&received) {
        return Ok(());
    }
    Err(GraphError::Size { node: node.to_owned(), what, range, received }.into())
}

/// Refuses a hyperparameter that is not finite or does not do what `expected` says.
fn check_number(node: &str, expected: &'static str, received: f32, holds: bool) -> Result<()> {
    if holds && received.is_finite() {
        return Ok(());
    }
    Err(GraphError::Number { node: node.to_owned(), expected, received }.into())
}
