//! Naive f64 versions of every operation, for tests only.
//!
//! Each function is the definition of its operation written as plainly as possible: no blocking, no
//! vectors, no fusion, no threads. Fast kernels are compared with these, and these with hand-computed
//! values, with finite differences and with PyTorch.
//!
//! Layouts: activations NHWC `[batch, height, width, channels]`, convolution weights OIHW
//! `[filters, channels / groups, kernel height, kernel width]`, dense weights `[out, in]`, all dense
//! row-major slices. A `d` in front of a name is a gradient of the loss: `dx` is the gradient of `x`.
//! Geometry that makes no sense panics with a sentence: the callers are tests.

pub mod activation;
pub mod arithmetic;
pub mod batch_norm;
pub mod check;
pub mod conv2d;
pub mod conv_transpose2d;
pub mod dense;
pub mod golden;
pub mod group_norm;
pub mod layout;
pub mod local_response_norm;
pub mod loss;
pub mod optimizer;
pub mod pool2d;
pub mod radial_basis;
pub mod resize;

pub use batch_norm::BatchNorm;
pub use conv_transpose2d::ConvTranspose2d;
pub use conv2d::Conv2d;
pub use dense::Dense;
pub use golden::Golden;
pub use group_norm::GroupNorm;
pub use layout::Pad;
pub use local_response_norm::LocalResponseNorm;
pub use optimizer::Optimizer;
pub use pool2d::{AvgPool2d, MaxPool2d, Pool2d, Pooling};
pub use resize::{AdaptiveAvgPool2d, Upsample};
