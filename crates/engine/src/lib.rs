//! Graph, shapes, autodiff, plan, steps; parameters, optimizer state, checkpoints.
//!
//! A network travels through these files in order:
//!
//! | file | does |
//! |---|---|
//! | `graph` | reads and validates the definition |
//! | `shapes` | infers shapes, parameter counts and cost |
//! | `network` | builds each layer's kernel and gives its parameters their place |
//! | `program` | says what instructions there are |
//! | `lower` | turns the graph into a forward program |
//! | `fuse` | shortens it |
//! | `autodiff` | appends the backward instructions |
//! | `plan` | gives every value its place in the arena |
//! | `execute` | runs the instructions; the only unsafe code |
//! | `session` | trains, evaluates and predicts with a plan for each mode and batch size |
//! | `buffer`, `parameters`, `checkpoint` | aligned memory; first values, PyTorch's layout, files |
//! | `explain` | shows a plan and times it |
//!
//! To add a layer: its hyperparameters as a variant of [`Op`] (`graph`), its shape (`shapes`), its kernel (`network`), its
//! instructions with their operands (`program`), forward (`lower`), backward (`autodiff`), and the calls of the kernels
//! (`execute`). The compiler names every place that a new variant misses; memory, files and `explain` follow by
//! themselves.

mod autodiff;
mod buffer;
mod checkpoint;
mod error;
mod execute;
mod explain;
mod fuse;
mod graph;
mod lower;
mod network;
mod parameters;
mod plan;
mod program;
mod select;
mod session;
mod shapes;
#[cfg(test)]
#[path = "../tests/common/graphs.rs"]
mod testing;

pub use error::{EngineError, GraphError, Misshapen, Result, WeightsError};
pub use explain::{Benchmark, PlanDescription, PlanRow};
pub use fovea_formats::safetensors::Tensor;
pub use graph::{AvgPool, Conv, Dense, Graph, Init, MaxPool, Node, Op, Output, Padding};
pub use parameters::{NamedTensor, ParameterInfo};
pub use program::Mode;
pub use session::{BatchEvaluation, Precision, Session, SessionOptions, SgdOptions, StepResult};
pub use shapes::{NodeShape, Shapes};
