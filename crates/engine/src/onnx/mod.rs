//! ONNX models as graphs with weights, and back.
//!
//! ONNX keeps channels before pixels, `[batch, channels, height, width]`, and lets any operator see any
//! dimension; a graph here has `[height, width, channels]` and layers that know which is which. So `import`
//! follows what each dimension of each value stands for, transposes and reshapes only rename, and what remains
//! is one layer an operator, with its weights in PyTorch's layout. [`Layout`] carries arrays over the border;
//! `export` writes a graph the other way.
//!
//! Source of the operators' meanings: <https://onnx.ai/onnx/operators/>, versions 7 to 22.

use crate::error::Result;
use crate::graph::Graph;
use crate::parameters::NamedTensor;
use crate::session::Session;
use fovea_formats::onnx::{self, File};
use fovea_formats::safetensors::Tensor;
use std::path::Path;

pub(crate) mod attributes;
pub(crate) mod export;
mod import;
mod layout;
pub(crate) mod means;

pub use layout::Layout;

/// What an ONNX file leaves open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Height, width and channels of an image, where the file does not state them.
    pub input: Option<[usize; 3]>,
    /// Name of the value to compute; by default the file's first output.
    pub output: Option<String>,
}

/// A network that came from an ONNX file.
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxModel {
    /// Its definition.
    pub graph: Graph,
    /// Parameters and running statistics in PyTorch's layout, for [`Session::load_weights`].
    pub weights: Vec<NamedTensor>,
    /// The image as ONNX sees it.
    pub input: Port,
    /// The first output as ONNX sees it.
    pub output: Port,
    /// Version of ONNX's operators that the file was written for.
    pub opset: i64,
}

/// An input or output of an ONNX model.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Its name in the file.
    pub name: String,
    /// How its elements lie in the network's.
    pub layout: Layout,
}

impl OnnxModel {
    /// Reads a network from a file and the external files that it names.
    ///
    /// Errors: a file that is no ONNX model, an operator or hyperparameter that has no layer here, told with
    /// its node, and a graph whose parts do not fit each other.
    pub fn open(path: &Path, options: &ImportOptions) -> Result<Self> {
        import::import(&File::open(path)?, options)
    }

    /// Reads a network from bytes as [`OnnxModel::open`] does; `file` names them in errors.
    pub fn parse(file: &str, bytes: Vec<u8>, options: &ImportOptions) -> Result<Self> {
        import::import(&File::parse(file, bytes)?, options)
    }
}

impl Session {
    /// Replaces all parameters and running statistics by those of an ONNX model of the same graph.
    ///
    /// Errors: as [`Session::load_weights`].
    pub fn load_onnx(&mut self, model: &OnnxModel) -> Result<()> {
        let tensors: Vec<Tensor> = model.weights.iter().map(NamedTensor::as_tensor).collect();
        self.load_weights(&tensors)
    }

    /// Writes the network for inference as an ONNX file: the first output, what leads to it, and the weights.
    /// Returns the file's length in bytes.
    ///
    /// Errors: a network of 2 GiB or more, a layer that ONNX has no operator for, and what the operating system
    /// refuses.
    pub fn save_onnx(&self, path: &Path) -> Result<u64> {
        Ok(onnx::write(path, &export::export(&self.network, &self.export_weights()?)?)?)
    }
}
