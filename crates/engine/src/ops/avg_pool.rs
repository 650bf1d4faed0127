//! Average pooling.

use super::average::Averages;
use super::window::{Padding, Windows, pooled};
use super::{Inferred, Operation};
use crate::error::Result;
use crate::lower::Lower;
use crate::network::Building;
use crate::onnx::export::{Export, Exported, Value};
use fovea_kernels::pool2d::AvgPool2d;
use serde::{Deserialize, Serialize};

/// Hyperparameters of average pooling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AvgPool {
    /// Window height and width.
    pub size: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub padding: Padding,
    /// Rounds the output's size up, as PyTorch's `ceil_mode`.
    pub ceil_mode: bool,
    /// Whether padding counts in the divisor, as PyTorch's `count_include_pad`.
    pub count_include_pad: bool,
}

impl AvgPool {
    fn windows(&self) -> Windows {
        let Self { size, stride, padding, ceil_mode, .. } = *self;
        Windows { size, stride, padding, ceil_mode }
    }
}

impl Operation for AvgPool {
    fn check(&self, node: &str) -> Result<()> {
        self.windows().check(node)
    }

    fn infer(&self, node: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        Ok(Inferred::plain(pooled(node, &self.windows().over(node, inputs[0])?)?))
    }

    fn layer(&self, building: &mut Building) -> Result<Lower> {
        let shape = self.windows().over(building.name(), building.shape().inputs[0])?;
        let kernel = AvgPool2d::new(shape, self.count_include_pad);
        Averages::Windows(kernel.map_err(|error| building.refused(error))?).layer()
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let shape = self.windows().over(node.name, node.shape.inputs[0])?;
        Ok(export.pool(node, &shape, Some(self.count_include_pad)))
    }
}
