//! ONNX files: networks in, and arrays over the border of the layouts.

use std::path::Path;
use std::sync::Arc;

use fovea_engine::onnx::{self, ImportOptions, Layout};
use napi::bindgen_prelude::{AsyncTask, Float32Array};
use napi_derive::napi;

use crate::background::{Background, background};
use crate::error::{Result, from_engine, invalid_argument};
use crate::options;

/// What an ONNX file leaves open.
#[napi(object)]
pub struct OnnxOptions {
    /// Height, width and channels of an image, where the file does not state them.
    pub input: Option<Vec<f64>>,
    /// Name of the value to compute. Default: the file's first output.
    pub output: Option<String>,
}

/// An input or output of an ONNX model.
#[napi(object)]
pub struct OnnxPort {
    /// Its name in the file.
    pub name: String,
    /// Lengths of its dimensions without the batch, as ONNX has them: channels before pixels.
    pub shape: Vec<f64>,
}

/// A network out of an ONNX file: its definition, its weights, and how its arrays lie.
#[napi]
pub struct OnnxModel {
    pub(crate) model: Arc<onnx::OnnxModel>,
}

#[napi]
impl OnnxModel {
    /// Reads an ONNX file and the external files that it names.
    ///
    /// @throws `IO` when a file cannot be read, `INVALID_DATA` when it is no ONNX model, `INVALID_GRAPH` for an operator
    /// or hyperparameter that has no layer here
    #[napi(catch_unwind, ts_return_type = "Promise<OnnxModel>")]
    pub fn read(path: String, options: Option<OnnxOptions>) -> Result<AsyncTask<Background<OnnxModel>>> {
        let options = options.map(ImportOptions::try_from).transpose()?.unwrap_or_default();
        Ok(background(move || {
            let model = onnx::OnnxModel::open(Path::new(&path), &options).map_err(from_engine)?;
            Ok(OnnxModel { model: Arc::new(model) })
        }))
    }

    /// The graph definition, as JSON.
    #[napi(getter)]
    pub fn graph(&self) -> String {
        self.model.graph.to_json()
    }

    /// Version of ONNX's operators that the file was written for.
    #[napi(getter)]
    pub fn opset(&self) -> f64 {
        self.model.opset as f64
    }

    /// The image as ONNX sees it.
    #[napi(getter)]
    pub fn input(&self) -> OnnxPort {
        OnnxPort::from(&self.model.input)
    }

    /// The output as ONNX sees it.
    #[napi(getter)]
    pub fn output(&self) -> OnnxPort {
        OnnxPort::from(&self.model.output)
    }

    /// Images in ONNX's order as `predict` wants them.
    ///
    /// @throws `INVALID_ARGUMENT` when the values are no whole number of images
    #[napi(catch_unwind, ts_return_type = "Promise<Float32Array>")]
    pub fn to_images(&self, values: Float32Array) -> Result<AsyncTask<Background<Float32Array>>> {
        self.laid_out(|model| &model.input.layout, values, Layout::to_engine)
    }

    /// What `predict` gives, in ONNX's order.
    ///
    /// @throws `INVALID_ARGUMENT` when the values are no whole number of outputs
    #[napi(catch_unwind, ts_return_type = "Promise<Float32Array>")]
    pub fn to_outputs(&self, values: Float32Array) -> Result<AsyncTask<Background<Float32Array>>> {
        self.laid_out(|model| &model.output.layout, values, Layout::from_engine)
    }
}

impl OnnxModel {
    /// Values over the border of a layout.
    fn laid_out(
        &self,
        layout: fn(&onnx::OnnxModel) -> &Layout,
        values: Float32Array,
        convert: fn(&Layout, &[f32]) -> Vec<f32>,
    ) -> Result<AsyncTask<Background<Float32Array>>> {
        check(layout(&self.model), &values)?;
        let model = self.model.clone();
        let values = values.to_vec(); // JavaScript may change its array meanwhile
        Ok(background(move || Ok(convert(layout(&model), &values).into())))
    }
}

fn check(layout: &Layout, values: &[f32]) -> Result<()> {
    if values.len().is_multiple_of(layout.image_len().max(1)) {
        return Ok(());
    }
    let expected = format!("a multiple of {} values ({:?})", layout.image_len(), layout.dims());
    Err(invalid_argument("values", &expected, format_args!("{}", values.len())))
}

impl From<&onnx::Port> for OnnxPort {
    fn from(port: &onnx::Port) -> Self {
        let shape = port.layout.dims().iter().map(|&length| length as f64).collect();
        Self { name: port.name.clone(), shape }
    }
}

impl TryFrom<OnnxOptions> for ImportOptions {
    type Error = crate::error::Error;

    fn try_from(OnnxOptions { input, output }: OnnxOptions) -> Result<Self> {
        let input = input.map(|input| {
            let shape = options::shape(&input, 1)?;
            <[usize; 3]>::try_from(shape).map_err(|shape| {
                invalid_argument("input", "[height, width, channels]", format_args!("{shape:?}"))
            })
        });
        Ok(Self { input: input.transpose()?, output })
    }
}
