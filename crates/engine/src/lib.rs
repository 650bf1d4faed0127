//! Graph, shapes, autodiff, plan, steps; parameters, optimizer state, checkpoints.
//!
//! A network travels through these files in order:
//!
//! | file | does |
//! |---|---|
//! | `op`, `graph` | reads and validates the definition |
//! | `shapes` | infers shapes, parameter counts and cost |
//! | `network` | builds each layer's kernel and gives its parameters their place |
//! | `program`, `instruction`, `operand` | say what programs are made of |
//! | `lower` | turns the graph into a forward program |
//! | `fuse`, `concatenate` | shorten it |
//! | `autodiff` | appends the backward instructions |
//! | `select` | chooses the algorithms of convolutions |
//! | `plan`, `replay` | give every value its place in the arena; prove that no two collide |
//! | `execute` | runs the instructions; the only unsafe code |
//! | `session` | holds a network with its parameters, and a plan for each mode and batch size |
//! | `update` | what training keeps besides the parameters, and which of them it changes |
//! | `train`, `evaluate` | a session's steps: training; losses, accuracies and predictions |
//! | `buffer`, `kept`, `parameters`, `checkpoint` | aligned memory; weights made from weights; first values, PyTorch's layout, files |
//! | `explain` | shows a plan and times it |
//! | `onnx` | graphs and weights from ONNX files and to them |
//!
//! To add a layer: its hyperparameters as a variant of [`Op`] (`op`), its shape (`shapes`), its kernel (`network`), its
//! instructions with their operands (`instruction`), forward (`lower`), backward (`autodiff`), and the calls of the kernels
//! (`execute`). The compiler names every place that a new variant misses; memory, files and `explain` follow by
//! themselves.

mod algorithms;
mod autodiff;
mod buffer;
mod checkpoint;
mod concatenate;
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
pub mod onnx;
mod op;
mod operand;
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

pub use error::{EngineError, GraphError, Misshapen, OnnxError, Result, WeightsError};
pub use evaluate::BatchEvaluation;
pub use explain::{Benchmark, PlanCandidate, PlanDescription, PlanRow};
pub use fovea_formats::safetensors::Tensor;
pub use fovea_kernels::loss::Targets;
pub use fovea_kernels::optimizer::{Moments, Optimizer};
pub use graph::{Graph, Node, Output, OutputLoss};
pub use op::{
    AdaptiveAvgPool, Affine, AvgPool, BatchNorm, Clip, Conv, ConvTranspose, Dense, Dropout, HardSigmoid,
    Init, LeakyRelu, LocalResponseNorm, MaxPool, Op, Pad, Padding, Prelu, RadialBasis, Scale, Upsample,
};
pub use parameters::{NamedTensor, ParameterInfo};
pub use program::Mode;
pub use session::{Precision, Session, SessionOptions};
pub use shapes::{NodeShape, Shapes};
pub use train::{StepOptions, StepResult};
pub use update::ParameterGroup;
