//! Layer normalization over the channels of each pixel.

use super::bounds::check_number;
use super::group_norm::Layer;
use super::{Inferred, Operation};
use crate::error::Result;
use crate::lower::Lower;
use crate::network::Building;
use crate::onnx::attributes::{float, int, ints};
use crate::onnx::export::{Export, Exported, Value};
use fovea_kernels::group_norm::GroupNorm as Kernel;
use serde::{Deserialize, Serialize};

/// Hyperparameters of layer normalization: the channels of each pixel with mean 0 and variance 1, then scaled
/// and shifted; PyTorch's `LayerNorm(channels)` of maps whose channels are last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LayerNorm {
    /// Added to the variance; above 0.
    pub epsilon: f32,
}

impl Operation for LayerNorm {
    fn check(&self, node: &str) -> Result<()> {
        check_number(node, "an epsilon above 0", self.epsilon, self.epsilon > 0.0)
    }

    fn infer(&self, _: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        let channels = inputs[0][2];
        Ok(Inferred::learned(inputs[0], vec![("weight", vec![channels]), ("bias", vec![channels])]))
    }

    fn layer(&self, building: &mut Building) -> Result<Lower> {
        Ok(Layer::build(building, Kernel { groups: 1, epsilon: self.epsilon }, true))
    }

    /// ONNX normalizes the last dimensions, so that the channels of a map go there and back.
    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let (name, mut x) = (node.name, node.first());
        let row = x.row;
        if !row {
            let last = vec![ints("perm", &[0, 2, 3, 1])];
            x = export.push(&format!("{name}.channels_last"), "Transpose", vec![x.name], last, false);
        }
        let inputs = export.with_tensors(x, name, &["weight", "bias"]);
        let attributes = vec![float("epsilon", self.epsilon), int("axis", -1)];
        let normalized = export.push(name, "LayerNormalization", inputs, attributes, row);
        if row {
            return Ok(normalized);
        }
        let first = vec![ints("perm", &[0, 3, 1, 2])];
        let back = format!("{name}.channels_first");
        Ok(export.push(&back, "Transpose", vec![normalized.name], first, false))
    }
}
