//! Fully connected layer.

use super::bounds::{MAX_SIZE, check_elements, check_flat, check_sizes};
use super::convolution::{ConvolutionRole, Forward, Init, Placing, tensors, weight_shape};
use super::{Inferred, Operation};
use crate::error::Result;
use crate::lower::{Lower, one};
use crate::network::Building;
use crate::onnx::attributes::int;
use crate::onnx::export::{Export, Exported, Value, weights};
use crate::order::Order;
use fovea_kernels::conv2d::Conv2dShape;
use serde::{Deserialize, Serialize};

/// Hyperparameters of a fully connected layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Dense {
    /// Output channels.
    pub units: usize,
    /// Whether a constant is added to each unit's result.
    pub bias: bool,
    /// How the weight begins.
    pub init: Init,
}

impl Dense {
    /// The 1 x 1 convolution of a map of one pixel that it is.
    fn over(&self, node: &str, input: [usize; 3]) -> Result<Conv2dShape> {
        check_flat(node, input)?;
        let shape = Conv2dShape {
            input,
            filters: self.units,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0; 4],
            dilation: [1, 1],
            groups: 1,
        };
        check_elements(node, "weight", &weight_shape(&shape))?;
        Ok(shape)
    }
}

impl Operation for Dense {
    fn check(&self, node: &str) -> Result<()> {
        check_sizes(node, "units", &[self.units], MAX_SIZE)
    }

    fn infer(&self, node: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        let shape = self.over(node, inputs[0])?;
        let tensors = tensors(vec![self.units, inputs[0][2]], self.bias.then_some(self.units));
        Ok(Inferred { mult_adds: shape.mult_adds(), ..Inferred::learned([1, 1, self.units], tensors) })
    }

    fn order(&self, _: &str, _: &[[usize; 3]], _: Vec<Option<Order>>) -> Result<Option<Order>> {
        Ok(None)
    }

    fn layer(&self, building: &mut Building) -> Result<Lower> {
        let shape = self.over(building.name(), building.shape().inputs[0])?;
        let (bias, init, order) = (self.bias, self.init, building.order.clone());
        let placing = Placing { role: ConvolutionRole::Dense, bias, init, connections: None, order };
        let layer = building.convolution(shape, placing)?;
        one(move |x, y| Forward::instruction(&layer, x, y))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let row = export.row(node.first(), node.name);
        let inputs = export.with_tensors(row, node.name, weights(self.bias));
        Ok(export.push(node.name, "Gemm", inputs, vec![int("transB", 1)], true))
    }
}
