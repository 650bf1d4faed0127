//! Graph, shapes, autodiff, plan, steps; parameters, optimizer state, checkpoints.
//!
//! A network travels through these files in order:
//!
//! | file | does |
//! |---|---|
//! | `graph` | reads and validates the definition |
//! | `ops` | has all of each operation in a file; the others ask it |
//! | `shapes`, `order`, `describe` | infers shapes, tensors and cost; the order of flattened vectors; says what a session will be |
//! | `network` | builds each layer's kernel and gives its parameters their place |
//! | `program`, `instruction`, `operand` | say what programs are made of |
//! | `lower` | turns the graph into a forward program |
//! | `fuse`, `concatenate` | shorten it |
//! | `autodiff`, `objective` | appends the backward instructions; losses and the update |
//! | `select`, `moments` | chooses the algorithms of convolutions; takes statistics where they are at hand |
//! | `plan`, `replay` | give every value its place in the arena; prove that no two collide |
//! | `execute` | runs the instructions; the only unsafe code |
//! | `session` | holds a network with its parameters, and a plan for each mode and batch size |
//! | `update` | what training keeps besides the parameters, and which of them it changes |
//! | `train`, `evaluate` | a session's steps: training; losses, accuracies and predictions |
//! | `buffer`, `kept`, `parameters`, `checkpoint` | aligned memory; weights made from weights; first values, PyTorch's layout, files |
//! | `explain` | shows a plan and times it |
//! | `onnx` | graphs and weights from ONNX files and to them |
//!
//! To add a layer: a file in `ops` and a line in its list.

mod algorithms;
mod autodiff;
mod buffer;
mod checkpoint;
mod concatenate;
mod describe;
mod error;
mod evaluate;
mod execute;
mod explain;
mod fuse;
mod graph;
mod instruction;
mod kept;
mod lower;
mod moments;
mod network;
mod objective;
pub mod onnx;
mod operand;
mod ops;
mod order;
mod parameters;
mod plan;
mod program;
mod replay;
mod select;
mod session;
mod shapes;
#[cfg(test)]
#[path = "../tests/common/graphs.rs"]
mod testing;
mod train;
mod update;

pub use describe::{Facts, describe};
pub use error::{EngineError, GraphError, Misshapen, OnnxError, Result, WeightsError};
pub use evaluate::BatchEvaluation;
pub use explain::{Benchmark, PlanCandidate, PlanDescription, PlanRow};
pub use fovea_formats::safetensors::Tensor;
pub use fovea_kernels::loss::Targets;
pub use fovea_kernels::optimizer::{Moments, Optimizer};
pub use graph::{Graph, Node, Output, OutputLoss};
pub use ops::{
    AdaptiveAvgPool, Add, Affine, AvgPool, BatchNorm, Clip, Concat, Conv, ConvTranspose, Dense, Divide,
    Dropout, Flatten, Gelu, GlobalAvgPool, GlobalMaxPool, GroupNorm, HardSigmoid, HardSwish, Init, LayerNorm,
    LeakyRelu, LocalResponseNorm, LogSoftmax, MaxPool, Multiply, Op, Pad, Padding, Prelu, RadialBasis, Relu,
    Relu6, Scale, Sigmoid, Silu, Softmax, Subtract, Tanh, Upsample,
};
pub use parameters::{NamedTensor, ParameterInfo};
pub use program::Mode;
pub use session::{Precision, Session, SessionOptions};
pub use shapes::{NodeShape, Shapes};
pub use train::{StepOptions, StepResult};
pub use update::ParameterGroup;
