//! What can be wrong with a dataset or with the way it is asked for.

use std::path::{Path, PathBuf};

use fovea_formats::FormatError;

use crate::decode::Flaw;

/// Why there is no dataset or no batch; one sentence when displayed. `name` is a file's path, or the argument's
/// name.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the fields are the numbers of the sentence above them
pub enum DataError {
    /// A file could not be read.
    #[error(transparent)]
    Format(#[from] FormatError),

    #[error(
        "Expected a shape [images, height, width, channels] or [images, height, width] of at least 1 each for \
         \"{name}\" but received {shape:?}."
    )]
    Shape { name: String, shape: Vec<usize> },

    #[error("Expected the values of the shape {shape:?} for \"{name}\" but received {received}.")]
    Length { name: String, shape: Vec<usize>, received: usize },

    #[error("Expected {expected} for \"{name}\" but received {received}.")]
    ElementType { name: String, expected: &'static str, received: &'static str },

    #[error("Expected at most 4294967295 images for \"{name}\" but received {received}.")]
    TooManyImages { name: String, received: usize },

    #[error("Expected labels of rank 1 for \"{name}\" but received the shape {shape:?}.")]
    LabelRank { name: String, shape: Vec<usize> },

    #[error("Expected {images} labels, one for each image, for \"{name}\" but received {labels}.")]
    LabelCount { name: String, images: usize, labels: usize },

    #[error("Expected labels from 0 to {largest} for \"{name}\" but received {label} at index {index}.")]
    Label { name: String, largest: u32, label: i128, index: usize },

    #[error("Expected labels below {classes}, the network's classes, but received {label}.")]
    NotAClass { classes: usize, label: u32 },

    #[error("Expected from 1 to 4294967295 classes for \"{name}\" but received {received}.")]
    Classes { name: String, received: usize },

    #[error("Expected finite numbers for \"{name}\" but received {value} in image {image}.")]
    NotFinite { name: String, value: f32, image: usize },

    #[error("Expected at least 1 image for \"images\" but received 0.")]
    NoImages,

    #[error("Expected at least 1 image in a batch for \"batchSize\" but received {received}.")]
    BatchSize { received: usize },

    #[error(
        "Expected at least {batch_size} images, one whole batch, for \"dropLast\" to leave any but received {count}."
    )]
    NoWholeBatch { batch_size: usize, count: usize },

    #[error("Expected image indices below {count} for \"indices\" but received {index}.")]
    Index { index: u32, count: usize },

    #[error("Expected a sampler over {images} images for \"sampler\" but received one over {count}.")]
    SamplerCount { images: usize, count: usize },

    #[error(
        "Expected enough free memory for batches of {values} values for \"batchSize\" but received too little."
    )]
    Memory { values: usize },

    #[error("Expected {expected} for \"{}\" but received {received}.", file.display())]
    Image { file: PathBuf, expected: String, received: String },

    #[error(
        "Expected from 1 to 16384 pixels a side and 1 or 3 channels for images from files but received {shape:?}."
    )]
    FileShape { shape: [usize; 3] },

    #[error("Expected a folder for each class in \"{directory}\" but found none.")]
    NoClassFolder { directory: String },

    #[error("Expected JPEG, PNG or WebP files in the folders of \"{directory}\" but found none.")]
    NoImageFile { directory: String },

    #[error("Expected an image that can be read in \"{directory}\" but found none.")]
    NoReadableImage { directory: String },

    #[error("Expected one of the known classes for a folder of \"{directory}\" but found \"{class}\".")]
    UnknownClass { directory: String, class: String },

    #[error("Expected {classes} class names for \"classNames\" but received {received}.")]
    ClassNames { classes: usize, received: usize },

    #[error("Expected CIFAR-10 in \"{directory}\" but it has neither data_batch_1.bin nor data_batch_1.png.")]
    NoCifar10 { directory: String },

    #[error(
        "Expected a fraction that leaves images on both sides of {count} for \"fraction\" but received {fraction}."
    )]
    Fraction { fraction: f64, count: usize },

    #[error("Expected {expected} for \"{name}\" but received {received}.")]
    Augmentation { name: String, expected: String, received: String },

    #[error("Expected an image to be resized but it was not: {reason}.")]
    Resize { reason: String },

    #[error("Expected the operating system to start the prefetch thread but it refused: {0}.")]
    Thread(std::io::Error),

    #[error("Expected the prefetch thread to deliver step {step} but it has stopped.")]
    Stopped { step: u64 },
}

impl DataError {
    /// A file that is no image, or not the one that it should be.
    pub(crate) fn image(file: &Path, Flaw { expected, received }: Flaw) -> DataError {
        DataError::Image { file: file.to_owned(), expected, received }
    }
}
