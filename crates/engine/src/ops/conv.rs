//! Convolution.

use super::bounds::{check_elements, refused};
use super::convolution::{ConvolutionRole, Forward, Init, Placing, tensors, weight_shape};
use super::window::{Padding, Sliding, check_fit};
use super::{Inferred, Operation};
use crate::error::{GraphError, Result};
use crate::lower::{Lower, one};
use crate::network::Building;
use crate::onnx::attributes::sliding;
use crate::onnx::export::{Export, Exported, Value, weights};
use crate::order::{Order, unordered};
use fovea_kernels::conv2d::Conv2dShape;
use serde::{Deserialize, Serialize};

/// Hyperparameters of a convolution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Conv {
    /// Output channels.
    pub filters: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub padding: Padding,
    /// Vertical and horizontal distance between taps; 1 is a dense kernel.
    pub dilation: [usize; 2],
    /// Channel groups that do not see each other.
    pub groups: usize,
    /// Whether a constant is added to each filter's result.
    pub bias: bool,
    /// How the weight begins.
    pub init: Init,
    /// The input channels of each filter, in ascending order; all of them where there is no list. Other weights
    /// are 0 and stay 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Vec<Vec<usize>>>,
}

impl Conv {
    fn sliding(&self) -> Sliding {
        let Self { filters, groups, kernel, stride, dilation, padding, .. } = *self;
        Sliding { filters, groups, kernel, stride, dilation, padding }
    }

    fn over(&self, node: &str, input: [usize; 3]) -> Result<Conv2dShape> {
        let Self { filters, kernel, stride, dilation, groups, .. } = *self;
        self.sliding().check_groups(node, input)?;
        let extent = [0, 1].map(|axis| dilation[axis] * (kernel[axis] - 1) + 1);
        let padding = self.padding.resolve(input, extent, stride);
        let what = if dilation == [1, 1] { "kernel" } else { "dilated kernel" };
        check_fit(node, what, input, padding, extent)?;
        let shape = Conv2dShape { input, filters, kernel, stride, padding, dilation, groups };
        check_elements(node, "weight", &weight_shape(&shape))?;
        Ok(shape)
    }

    /// Weights, an output pixel apart, where filters see some channels each.
    fn connected(&self, node: &str, channels: usize) -> Result<Option<usize>> {
        let Some(connections) = &self.connections else { return Ok(None) };
        let ascends = |list: &Vec<usize>| list.windows(2).all(|pair| pair[0] < pair[1]);
        let fits = |list: &Vec<usize>| ascends(list) && list.last().is_some_and(|&last| last < channels);
        if self.groups == 1 && connections.len() == self.filters && connections.iter().all(fits) {
            let all: usize = connections.iter().map(Vec::len).sum();
            return Ok(Some(all * self.kernel[0] * self.kernel[1]));
        }
        let expected = format!(
            "an ascending list of some of {channels} channels for each of {} filters in one group",
            self.filters
        );
        Err(GraphError::hyperparameter(node, "connections", expected, connections).into())
    }
}

impl Operation for Conv {
    fn check(&self, node: &str) -> Result<()> {
        self.sliding().check(node)
    }

    fn infer(&self, node: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        let shape = self.over(node, inputs[0])?;
        let output = shape.output().map_err(|error| refused(node, error, inputs[0]))?;
        let tensors = tensors(weight_shape(&shape).to_vec(), self.bias.then_some(self.filters));
        let inferred = Inferred { mult_adds: shape.mult_adds(), ..Inferred::learned(output, tensors) };
        let Some(weights) = self.connected(node, inputs[0][2])? else { return Ok(inferred) };
        // Weights that are zero and stay zero do not count.
        let without = (shape.parameters() - weights) as u64;
        let (parameters, mult_adds) = (inferred.parameters - without, output[0] * output[1] * weights);
        Ok(Inferred { parameters, mult_adds: mult_adds as u64, ..inferred })
    }

    fn order(&self, node: &str, inputs: &[[usize; 3]], orders: Vec<Option<Order>>) -> Result<Option<Order>> {
        unordered(node, inputs, &orders)
    }

    fn layer(&self, building: &mut Building) -> Result<Lower> {
        let shape = self.over(building.name(), building.shape().inputs[0])?;
        let (bias, init, connections) = (self.bias, self.init, self.connections.as_deref());
        let placing = Placing { role: ConvolutionRole::Convolution, bias, init, connections, order: None };
        let layer = building.convolution(shape, placing)?;
        one(move |x, y| Forward::instruction(&layer, x, y))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let shape = self.over(node.name, node.shape.inputs[0])?;
        let map = export.map(node.first(), node.name);
        let inputs = export.with_tensors(map, node.name, weights(self.bias));
        Ok(export.push(node.name, "Conv", inputs, sliding(&shape), false))
    }
}
