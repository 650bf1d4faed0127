//! Datasets, shuffling and prefetch: bytes on disk become batches.
//!
//! A [`Dataset`] holds checked images and labels, a [`Sampler`] says which of them a step takes, and a [`Prefetcher`]
//! makes [`Batch`]es of them on a thread of its own, ahead of the step that needs them.

mod batch;
mod dataset;
mod error;
mod prefetch;
mod sampler;

pub use batch::Batch;
pub use dataset::{Dataset, Images};
pub use error::DataError;
pub use prefetch::Prefetcher;
pub use sampler::{Sampler, SamplerOptions};
