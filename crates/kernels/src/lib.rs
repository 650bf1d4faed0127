//! Compute kernels: SIMD, multithreaded, no graph, no I/O, no allocation in a hot call.
//!
//! Everything here works on views of NHWC `f32` memory that the caller owns ([`View4`], [`ViewMut4`]) and runs
//! on the instruction set ([`Isa`]) and the threads ([`Pool`]) that a [`Context`] names. Forward and backward
//! of an operation stand beside each other in one file. Work is cut by shape, never by the number of threads,
//! and every reduction is a tree of fixed shape, so the same input gives the same bits on 1, 2 or 16 threads.
//!
//! An inner loop is written once, generic over [`simd::Simd`], and compiled once per instruction set; only what
//! differs in kind, the size of a register tile for example, is chosen per set.

pub mod activation;
pub mod arithmetic;
pub mod batch_norm;
mod channelwise;
pub mod conv2d;
pub mod dropout;
pub mod elementwise;
pub mod group_norm;
pub mod isa;
pub mod local_response_norm;
pub mod loss;
pub mod optimizer;
mod parts;
pub mod peak;
pub mod pool2d;
pub mod prelu;
pub mod radial_basis;
pub mod random;
pub mod reorder;
pub mod scale;
pub mod simd;
pub mod softmax;
mod subnormals;
#[cfg(test)]
mod testing;
pub mod threads;
pub mod view;

pub use activation::Activation;
pub use isa::{Context, Isa, IsaError};
pub use threads::Pool;
pub use view::{View4, ViewError, ViewMut4};
