//! Images and labels in native memory, shared by the sessions that read them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fovea_data::{DataError, Images, Resize, Unreadable};
use napi::bindgen_prelude::{AsyncTask, Either, Float32Array, Uint8Array, Uint32Array};
use napi_derive::napi;

use crate::background::{Background, background};
use crate::error::{Error, Result, from_data, invalid_argument};
use crate::options;

/// Images and labels in native memory; immutable, shared by the sessions that read it.
#[napi]
pub struct Dataset {
    pub(crate) data: Arc<fovea_data::Dataset>,
}

#[napi]
impl Dataset {
    /// Reads two IDX files, as MNIST has them, plain or compressed by gzip.
    ///
    /// @param images u8, `N x H x W`
    /// @param labels u8, `N`
    /// @param classNames default: the labels' numbers
    /// @throws `IO` when a file cannot be read, `INVALID_DATA` when it is damaged or the counts differ
    #[napi(catch_unwind, ts_return_type = "Promise<Dataset>")]
    pub fn from_idx(
        images: String,
        labels: String,
        class_names: Option<Vec<String>>,
    ) -> AsyncTask<Background<Dataset>> {
        read(move || {
            let dataset = fovea_data::Dataset::from_idx(Path::new(&images), Path::new(&labels), None)?;
            class_names.into_iter().try_fold(dataset, fovea_data::Dataset::with_class_names)
        })
    }

    /// Reads CIFAR-10 from a directory with its batches, binary or as PNG.
    ///
    /// @returns the training and the test images
    /// @throws `IO` when a file cannot be read, `INVALID_DATA` when it is damaged
    #[napi(catch_unwind, ts_return_type = "Promise<[Dataset, Dataset]>")]
    pub fn from_cifar10(directory: String) -> AsyncTask<Background<Vec<Dataset>>> {
        background(move || {
            let parts = fovea_data::Dataset::from_cifar10(Path::new(&directory)).map_err(from_data)?;
            Ok(parts.map(Dataset::from).into())
        })
    }

    /// Lists a directory of one folder for each class; its files are read when a batch needs them.
    ///
    /// @throws `INVALID_ARGUMENT` for sizes that make no sense, `IO` when a directory cannot be read, `INVALID_DATA` when
    /// it has no images
    #[napi(catch_unwind, ts_return_type = "Promise<Dataset>")]
    pub fn from_folder(directory: String, options: FolderOptions) -> Result<AsyncTask<Background<Dataset>>> {
        let options = fovea_data::FolderOptions::try_from(options)?;
        Ok(read(move || fovea_data::Dataset::from_folder(Path::new(&directory), options)))
    }

    /// Reads two NumPy files.
    ///
    /// @param images `N x H x W x C`: u8, scaled to 0..1, or floats as they are
    /// @param labels `N` integers
    /// @throws `IO` when a file cannot be read, `INVALID_DATA` when it is damaged or the counts differ
    #[napi(catch_unwind, ts_return_type = "Promise<Dataset>")]
    pub fn from_npy(images: String, labels: String) -> AsyncTask<Background<Dataset>> {
        read(move || fovea_data::Dataset::from_npy(Path::new(&images), Path::new(&labels), None))
    }

    /// Copies arrays from JavaScript.
    ///
    /// @param images `N x H x W x C` values in row order: bytes, scaled to 0..1, or floats as they are
    /// @param shape `[n, height, width, channels]`
    /// @param labels one class index for each image
    /// @param classes default: the largest label and one
    /// @throws `INVALID_ARGUMENT` for a shape or number of classes that is not one, `INVALID_DATA` when lengths do
    /// not match, a label is no class index, or a value is not finite
    #[napi(catch_unwind)]
    pub fn from_arrays(
        images: Either<Uint8Array, Float32Array>,
        shape: Vec<f64>,
        labels: Uint32Array,
        classes: Option<f64>,
    ) -> Result<Self> {
        let images = match images {
            Either::A(bytes) => Images::U8(bytes.to_vec()),
            Either::B(values) => Images::F32(values.to_vec()),
        };
        let shape = options::shape(&shape, 1)?;
        let classes = classes.map(|classes| options::count("classes", classes)).transpose()?;
        fovea_data::Dataset::from_arrays(images, &shape, labels.to_vec(), classes)
            .map(Self::from)
            .map_err(from_data)
    }

    /// The images of these indices, in this order; pixels are shared, not copied.
    ///
    /// @throws `INVALID_ARGUMENT` for an index that no image has, `INVALID_DATA` when there is none
    #[napi(catch_unwind)]
    pub fn subset(&self, indices: Uint32Array) -> Result<Dataset> {
        self.data.subset(&indices).map(Dataset::from).map_err(from_data)
    }

    /// Cuts the images in two, the same share of every class; each part keeps their order.
    ///
    /// @param fraction share of the second part, between 0 and 1
    /// @param seed key of the choice
    /// @returns what is left to train with, and what is kept to validate with
    /// @throws `INVALID_ARGUMENT` when that leaves one part empty
    #[napi(catch_unwind, ts_return_type = "[Dataset, Dataset]")]
    pub fn split(&self, fraction: f64, seed: f64) -> Result<Vec<Dataset>> {
        let seed = options::whole("seed", seed, 0)?;
        let parts = self.data.split(fraction, seed).map_err(from_data)?;
        Ok(parts.map(Dataset::from).into())
    }

    /// Reads every image once: the mean and deviation of each channel, bytes being scaled to 0..1.
    #[napi(catch_unwind, ts_return_type = "Promise<Statistics>")]
    pub fn statistics(&self) -> AsyncTask<Background<Statistics>> {
        let data = self.data.clone();
        background(move || {
            let fovea_data::Statistics { mean, deviation } = data.statistics().map_err(from_data)?;
            Ok(Statistics { mean, deviation })
        })
    }

    /// Weights under which every class counts the same: images / (classes x images of the class), 0 without images.
    #[napi(catch_unwind)]
    pub fn class_weights(&self) -> Float32Array {
        self.data.class_weights().into()
    }

    /// Names of the classes, in the order of the labels.
    #[napi(getter)]
    pub fn class_names(&self) -> Vec<String> {
        (0..self.data.classes()).map(|label| self.data.class_name(label)).collect()
    }

    /// Files that could not be read until now, of a folder whose `corrupt` is `"skip"`.
    #[napi(getter)]
    pub fn skipped(&self) -> Vec<SkippedFile> {
        let skipped =
            |fovea_data::Skipped { file, reason }| SkippedFile { file: file.display().to_string(), reason };
        self.data.skipped().into_iter().map(skipped).collect()
    }

    /// `[n, height, width, channels]`.
    #[napi(getter)]
    pub fn shape(&self) -> Vec<f64> {
        self.data.shape().map(|length| length as f64).to_vec()
    }

    /// Number of classes.
    #[napi(getter)]
    pub fn classes(&self) -> f64 {
        self.data.classes() as f64
    }

    /// Number of images.
    #[napi(getter)]
    pub fn length(&self) -> f64 {
        self.data.len() as f64
    }
}

/// How image files become images of one size.
#[napi(object)]
pub struct FolderOptions {
    /// Rows of an image.
    pub height: f64,
    /// Pixels of a row.
    pub width: f64,
    /// 1 (luminance) or 3 (red, green, blue).
    pub channels: f64,
    /// `"crop"`: the shorter side fits and the middle is cut out; `"stretch"`: both sides fit. Default `"crop"`.
    #[napi(ts_type = "'crop' | 'stretch'")]
    pub resize: Option<String>,
    /// What a file that cannot be read does: `"fail"` ends the work with an error that names it, `"skip"` is remembered
    /// in `skipped`; then training takes the next image in its stead, and evaluation leaves it out. Default `"fail"`.
    #[napi(ts_type = "'fail' | 'skip'")]
    pub corrupt: Option<String>,
    /// Names of the classes in the order of their labels. Default: the folders' names, sorted.
    pub classes: Option<Vec<String>>,
}

/// How the values of each channel are spread.
#[napi(object)]
pub struct Statistics {
    /// One number for each channel.
    pub mean: Vec<f64>,
    /// One number for each channel.
    pub deviation: Vec<f64>,
}

/// A file that could not be read.
#[napi(object)]
pub struct SkippedFile {
    /// Its path.
    pub file: String,
    /// What was expected, and what was found.
    pub reason: String,
}

/// Reads JPEG, PNG and WebP files as a network takes them.
///
/// @returns `files x height x width x channels` values from 0 to 1
/// @throws `INVALID_DATA` naming a file that cannot be read, whatever `corrupt` says
#[napi(catch_unwind, ts_return_type = "Promise<Float32Array>")]
pub fn decode_images(
    files: Vec<String>,
    options: FolderOptions,
) -> Result<AsyncTask<Background<Float32Array>>> {
    let options = fovea_data::FolderOptions::try_from(options)?;
    let files: Vec<PathBuf> = files.into_iter().map(PathBuf::from).collect();
    Ok(background(move || {
        fovea_data::decode_files(&files, &options).map(Float32Array::from).map_err(from_data)
    }))
}

impl TryFrom<FolderOptions> for fovea_data::FolderOptions {
    type Error = Error;

    fn try_from(options: FolderOptions) -> Result<Self> {
        let FolderOptions { height, width, channels, resize, corrupt, classes } = options;
        let choose = |name: &str, expected: &str, received: &str| {
            Err(invalid_argument(name, expected, format_args!("\"{received}\"")))
        };
        Ok(Self {
            height: options::count("height", height)?,
            width: options::count("width", width)?,
            channels: options::count("channels", channels)?,
            resize: match resize.as_deref() {
                None | Some("crop") => Resize::Crop,
                Some("stretch") => Resize::Stretch,
                Some(other) => return choose("resize", "\"crop\" or \"stretch\"", other),
            },
            unreadable: match corrupt.as_deref() {
                None | Some("fail") => Unreadable::Fail,
                Some("skip") => Unreadable::Skip,
                Some(other) => return choose("corrupt", "\"fail\" or \"skip\"", other),
            },
            classes,
        })
    }
}

impl From<fovea_data::Dataset> for Dataset {
    fn from(data: fovea_data::Dataset) -> Self {
        Self { data: Arc::new(data) }
    }
}

fn read(
    read: impl FnOnce() -> std::result::Result<fovea_data::Dataset, DataError> + Send + 'static,
) -> AsyncTask<Background<Dataset>> {
    background(|| read().map(Dataset::from).map_err(from_data))
}
