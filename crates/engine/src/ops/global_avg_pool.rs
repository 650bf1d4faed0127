//! Mean of each channel over the whole map.

use super::average::Averages;
use super::window::{Windows, pooled};
use super::{Inferred, Operation};
use crate::error::Result;
use crate::lower::Lower;
use crate::network::Building;
use crate::onnx::export::{Export, Exported, Value};
use fovea_kernels::pool2d::AvgPool2d;
use serde::{Deserialize, Serialize};

/// Hyperparameters of global average pooling: none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalAvgPool {}

impl Operation for GlobalAvgPool {
    fn infer(&self, node: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        let [height, width, _] = inputs[0];
        Ok(Inferred::plain(pooled(node, &Windows::tiles([height, width]).over(node, inputs[0])?)?))
    }

    fn layer(&self, building: &mut Building) -> Result<Lower> {
        let input = building.shape().inputs[0];
        let shape = Windows::tiles([input[0], input[1]]).over(building.name(), input)?;
        Averages::Windows(AvgPool2d::new(shape, true).map_err(|error| building.refused(error))?).layer()
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let map = export.map(node.first(), node.name);
        Ok(export.push(node.name, "GlobalAveragePool", vec![map.name], vec![], false))
    }
}
