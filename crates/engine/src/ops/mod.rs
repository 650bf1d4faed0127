//! The operations of a graph, one file each: definition and bounds, shape and counts, tensors, forward and
//! backward instructions with their calls of the kernels, row in `explain`, ONNX form.
//!
//! An operation is added by a file with an [`Operation`] (or a [`Function`](function::Function), if it keeps
//! the shape and has nothing to learn) and its instructions, each a [`Call`](crate::instruction::Call), and by
//! a line in the list below. Nothing else of the engine names it, unless it is fused with others
//! ([`fuse`](crate::fuse)) or read from ONNX ([`onnx`](crate::onnx)).

use crate::error::Result;
use crate::lower::Lower;
use crate::network::Building;
use crate::onnx::export::{Export, Exported, Value};
use crate::order::Order;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

pub(crate) mod adaptive_avg_pool;
pub(crate) mod add;
pub(crate) mod affine;
pub(crate) mod arithmetic;
pub(crate) mod average;
pub(crate) mod avg_pool;
pub(crate) mod batch_norm;
pub(crate) mod bounds;
pub(crate) mod clip;
pub(crate) mod concat;
pub(crate) mod conv;
pub(crate) mod conv_transpose;
pub(crate) mod convolution;
pub(crate) mod dense;
pub(crate) mod divide;
pub(crate) mod dropout;
pub(crate) mod flatten;
pub(crate) mod function;
pub(crate) mod gelu;
pub(crate) mod global_avg_pool;
pub(crate) mod global_max_pool;
pub(crate) mod group_norm;
pub(crate) mod hard_sigmoid;
pub(crate) mod hard_swish;
pub(crate) mod layer_norm;
pub(crate) mod leaky_relu;
pub(crate) mod local_response_norm;
pub(crate) mod log_softmax;
pub(crate) mod max_pool;
pub(crate) mod multiply;
pub(crate) mod pad;
pub(crate) mod prelu;
pub(crate) mod radial_basis;
pub(crate) mod relu;
pub(crate) mod relu6;
pub(crate) mod scale;
pub(crate) mod separable;
pub(crate) mod sigmoid;
pub(crate) mod silu;
pub(crate) mod softmax;
pub(crate) mod subtract;
pub(crate) mod tanh;
pub(crate) mod upsample;
pub(crate) mod window;

pub use convolution::Init;
pub use window::Padding;

/// Declares [`Op`] from a list of names in definitions and types.
macro_rules! operations {
    ($($(#[$documentation:meta])* $name:literal => $module:ident::$operation:ident,)*) => {
        $(pub use $module::$operation;)*

        /// What a node computes, and its hyperparameters.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "op", deny_unknown_fields)]
        pub enum Op {
            $($(#[$documentation])* #[serde(rename = $name)] $operation($module::$operation),)*
        }

        /// Names of the operations.
        pub(crate) const OPS: &[&str] = &[$($name),*];

        impl Op {
            /// Its name in a definition.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$operation(_) => $name,)*
                }
            }

            /// What the engine knows of it.
            pub(crate) fn operation(&self) -> &dyn Operation {
                match self {
                    $(Self::$operation(operation) => operation,)*
                }
            }
        }
    };
}

operations! {
    /// Convolution.
    "conv" => conv::Conv,
    /// Transposed convolution: what a convolution's input gradient computes, which enlarges where that one has
    /// a stride.
    "convTranspose" => conv_transpose::ConvTranspose,
    /// Fully connected layer: every unit sees the whole flat input.
    "dense" => dense::Dense,
    /// Batch normalization (Ioffe and Szegedy 2015, arXiv:1502.03167): every channel with mean 0 and variance 1
    /// over the batch, then scaled and shifted.
    "batchNorm" => batch_norm::BatchNorm,
    /// Group normalization (Wu and He 2018, arXiv:1803.08494): groups of channels of each image with mean 0 and
    /// variance 1, then scaled and shifted.
    "groupNorm" => group_norm::GroupNorm,
    /// Layer normalization (Ba et al. 2016, arXiv:1607.06450) over the channels of each pixel.
    "layerNorm" => layer_norm::LayerNorm,
    /// A learned factor for each channel, and perhaps a learned summand.
    "scale" => scale::Scale,
    /// Largest value of each window.
    "maxPool" => max_pool::MaxPool,
    /// Mean of each window.
    "avgPool" => avg_pool::AvgPool,
    /// Mean of each channel over the whole map.
    "globalAvgPool" => global_avg_pool::GlobalAvgPool,
    /// Largest value of each channel over the whole map.
    "globalMaxPool" => global_max_pool::GlobalMaxPool,
    /// Means of windows of such sizes that the result has a given one.
    "adaptiveAvgPool" => adaptive_avg_pool::AdaptiveAvgPool,
    /// Each pixel many times.
    "upsample" => upsample::Upsample,
    /// Each value over a power of its neighbours in the channels (Krizhevsky et al. 2012, section 3.3).
    "localResponseNorm" => local_response_norm::LocalResponseNorm,
    /// In training, zeros at random and the other values larger, so that the mean stays.
    "dropout" => dropout::Dropout,
    /// Sum of two maps of the same shape.
    "add" => add::Add,
    /// Difference of two maps of the same shape.
    "subtract" => subtract::Subtract,
    /// Product of two maps of the same shape, or of a map and `[1, 1, channels]`, a factor for each channel of
    /// an image.
    "multiply" => multiply::Multiply,
    /// Quotient of two maps of the same shape.
    "divide" => divide::Divide,
    /// Channels of two or more maps, one map after the other.
    "concat" => concat::Concat,
    /// Zeros around a map.
    "pad" => pad::Pad,
    /// max(0, x).
    "relu" => relu::Relu,
    /// min(max(0, x), 6).
    "relu6" => relu6::Relu6,
    /// min(max(min, x), max).
    "clip" => clip::Clip,
    /// x where it is positive, else a fraction of it.
    "leakyRelu" => leaky_relu::LeakyRelu,
    /// x where it is positive, else a learned multiple of it (He et al. 2015, arXiv:1502.01852).
    "prelu" => prelu::Prelu,
    /// min(max(0, alpha x + beta), 1).
    "hardSigmoid" => hard_sigmoid::HardSigmoid,
    /// x min(max(0, x / 6 + 1 / 2), 1) (Howard et al. 2019, arXiv:1905.02244).
    "hardSwish" => hard_swish::HardSwish,
    /// x / (1 + exp(-x)), also called swish (Hendrycks and Gimpel 2016, arXiv:1606.08415).
    "silu" => silu::Silu,
    /// x times the share of a normal distribution that is below x (Hendrycks and Gimpel 2016,
    /// arXiv:1606.08415).
    "gelu" => gelu::Gelu,
    /// 1 / (1 + exp(-x)).
    "sigmoid" => sigmoid::Sigmoid,
    /// Hyperbolic tangent.
    "tanh" => tanh::Tanh,
    /// scale x + shift.
    "affine" => affine::Affine,
    /// A feature map as one row `[1, 1, height * width * channels]`.
    "flatten" => flatten::Flatten,
    /// Probabilities over the channels of each pixel.
    "softmax" => softmax::Softmax,
    /// Their logarithms.
    "logSoftmax" => log_softmax::LogSoftmax,
    /// How near a vector is to each of some codes: `-sum (x - code)^2`.
    "radialBasis" => radial_basis::RadialBasis,
}

/// What the engine knows of an operation. Shapes are `[height, width, channels]`.
pub(crate) trait Operation {
    /// How many nodes it reads; no more than `usize::MAX`.
    fn input_count(&self) -> RangeInclusive<usize> {
        1..=1
    }

    /// Checks the hyperparameters that have bounds whatever the input is.
    fn check(&self, _node: &str) -> Result<()> {
        Ok(())
    }

    /// What it makes of inputs of these shapes; its hyperparameters have been checked and its inputs counted.
    fn infer(&self, node: &str, inputs: &[[usize; 3]]) -> Result<Inferred>;

    /// The order of the vector that it writes, from those that it reads, where these are made of flattened
    /// maps: by default that of the first, as every channel is treated alike.
    fn order(
        &self,
        _node: &str,
        _inputs: &[[usize; 3]],
        orders: Vec<Option<Order>>,
    ) -> Result<Option<Order>> {
        Ok(orders.into_iter().next().flatten())
    }

    /// Builds its kernel and gives its tensors their places; the result appends its instructions to programs.
    fn layer(&self, building: &mut Building) -> Result<Lower>;

    /// Adds its operators to an ONNX graph.
    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value>;
}

/// What an operation makes of its inputs.
pub(crate) struct Inferred {
    pub output: [usize; 3],
    /// What it learns: names behind the node's, and shapes in PyTorch's order; as [`Operation::layer`] places
    /// them.
    pub tensors: Vec<(&'static str, Vec<usize>)>,
    /// Learned numbers.
    pub parameters: u64,
    /// Multiply-adds for one image, of convolutions and dense layers.
    pub mult_adds: u64,
}

impl Inferred {
    /// An output of this shape, without parameters.
    pub fn plain(output: [usize; 3]) -> Self {
        Self::learned(output, Vec::new())
    }

    /// An output of this shape, with these parameters.
    pub fn learned(output: [usize; 3], tensors: Vec<(&'static str, Vec<usize>)>) -> Self {
        let elements = |(_, shape): &(_, Vec<usize>)| shape.iter().product::<usize>() as u64;
        let parameters = tensors.iter().map(elements).sum();
        Self { output, tensors, parameters, mult_adds: 0 }
    }
}
