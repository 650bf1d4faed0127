//! Images and labels in native memory, shared by the sessions that read them.

use std::path::Path;
use std::sync::Arc;

use fovea_data::{DataError, Images};
use napi::bindgen_prelude::{AsyncTask, Either, Float32Array, Uint8Array, Uint32Array};
use napi_derive::napi;

use crate::background::{Background, background};
use crate::error::{Result, from_data};
use crate::options;

/// Images and labels in native memory; immutable, shared by the sessions that read it.
#[napi]
pub struct Dataset {
    pub(crate) data: Arc<fovea_data::Dataset>,
}

#[napi]
impl Dataset {
    /// Reads two IDX files, as MNIST has them.
    ///
    /// @param images u8, `N x H x W`
    /// @param labels u8, `N`
    /// @throws `IO` when a file cannot be read, `INVALID_DATA` when it is damaged or the counts differ
    #[napi(catch_unwind, ts_return_type = "Promise<Dataset>")]
    pub fn from_idx(images: String, labels: String) -> AsyncTask<Background<Dataset>> {
        read(move || fovea_data::Dataset::from_idx(Path::new(&images), Path::new(&labels), None))
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
