//! Datasets, decoding, augmentation, shuffling and prefetch: bytes on disk become batches.
//!
//! A [`Dataset`] holds checked images and labels, or the names of image files; a [`Sampler`] says which of them
//! a step takes, [`Augment`] how they are varied, and a [`Prefetcher`] makes [`Batch`]es of them on threads of
//! its own, ahead of the step that needs them. What a batch holds is a function of the data, the seed and the
//! step alone.

mod augment;
mod batch;
mod cifar10;
mod dataset;
mod decode;
mod error;
mod exif;
mod folder;
mod loader;
mod prefetch;
mod resize;
mod sampler;
mod split;
mod statistics;

pub use augment::{Augment, Augmentation, Fill};
pub use batch::{Batch, Mix};
pub use dataset::{Dataset, Images};
pub use error::DataError;
pub use folder::{FolderOptions, Resize, Skipped, Unreadable};
pub use loader::{decode_files, decode_image};
pub use prefetch::Prefetcher;
pub use sampler::{Sampler, SamplerOptions};
pub use statistics::Statistics;
