//! Transposed convolution.

use super::bounds::{check_elements, check_size, misfit, refused};
use super::convolution::{
    BackwardInput, ConvolutionRole, Init, PackGradientWeight, Placing, tensors, weight_shape,
};
use super::scale::ScaleLayer;
use super::window::{Padding, Sliding};
use super::{Inferred, Operation};
use crate::error::Result;
use crate::lower::Lower;
use crate::network::Building;
use crate::onnx::attributes::{ints, sliding};
use crate::onnx::export::{Export, Exported, Value, weights};
use crate::order::{Order, unordered};
use fovea_kernels::conv2d::Conv2dShape;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Hyperparameters of a transposed convolution: those of the convolution whose input has the size of its
/// output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConvTranspose {
    /// Output channels.
    pub filters: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Output pixels from one input pixel to the next.
    pub stride: [usize; 2],
    /// Pixels taken away from the output's sides; `"same"` as many as leave `input * stride`.
    pub padding: Padding,
    /// Pixels added to the output at the bottom and right, fewer than the stride.
    pub output_padding: [usize; 2],
    /// Vertical and horizontal distance between taps; 1 is a dense kernel.
    pub dilation: [usize; 2],
    /// Channel groups that do not see each other.
    pub groups: usize,
    /// Whether a constant is added to each filter's result.
    pub bias: bool,
    /// How the weight begins.
    pub init: Init,
}

impl ConvTranspose {
    fn sliding(&self) -> Sliding {
        let Self { filters, groups, kernel, stride, dilation, padding, .. } = *self;
        Sliding { filters, groups, kernel, stride, dilation, padding }
    }

    /// The convolution that reads a map of the output's size and writes one of the input's.
    fn over(&self, node: &str, input: [usize; 3]) -> Result<Conv2dShape> {
        let Self { filters, kernel, stride, output_padding, dilation, groups, .. } = *self;
        self.sliding().check_groups(node, input)?;
        // Where every kernel's last tap falls, and what is added behind it.
        let whole = [0, 1].map(|axis| {
            (input[axis] - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1 + output_padding[axis]
        });
        let padding = match self.padding {
            Padding::Explicit(sides) => sides,
            Padding::Valid => [0; 4],
            Padding::Same => {
                let surplus = [0, 1].map(|axis| whole[axis].checked_sub(input[axis] * stride[axis]));
                let [Some(vertical), Some(horizontal)] = surplus else {
                    let expected = "a kernel that reaches as far as the stride, for padding \"same\"";
                    return Err(misfit(node, expected, format!("{}x{}", kernel[0], kernel[1]), input));
                };
                [vertical / 2, horizontal.div_ceil(2), vertical.div_ceil(2), horizontal / 2]
            }
        };
        let [top, right, bottom, left] = padding;
        let sides = [whole[0].checked_sub(top + bottom), whole[1].checked_sub(left + right)];
        let [Some(height @ 1..), Some(width @ 1..)] = sides else {
            let expected = format!("padding that leaves some of {}x{} pixels", whole[0], whole[1]);
            return Err(misfit(node, expected, format!("{padding:?}"), input));
        };
        let output = [height, width, filters];
        check_elements(node, "output", &output)?;
        let filters = input[2];
        let shape = Conv2dShape { input: output, filters, kernel, stride, padding, dilation, groups };
        check_elements(node, "weight", &weight_shape(&shape))?;
        match shape.output().map_err(|error| refused(node, error, input))? {
            reached if reached == input => Ok(shape),
            // Unreachable: the output padding is smaller than the stride.
            reached => {
                let expected = format!("an output that reaches {input:?}");
                Err(misfit(node, expected, format!("{reached:?}"), input))
            }
        }
    }
}

impl Operation for ConvTranspose {
    fn check(&self, node: &str) -> Result<()> {
        self.sliding().check(node)?;
        self.output_padding.iter().zip(self.stride).try_for_each(|(&size, stride)| {
            check_size(node, "an output padding below the stride,", size, 0..=stride - 1)
        })
    }

    fn infer(&self, node: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        let shape = self.over(node, inputs[0])?;
        let tensors = tensors(weight_shape(&shape).to_vec(), self.bias.then_some(self.filters));
        Ok(Inferred { mult_adds: shape.mult_adds(), ..Inferred::learned(shape.input, tensors) })
    }

    fn order(&self, node: &str, inputs: &[[usize; 3]], orders: Vec<Option<Order>>) -> Result<Option<Order>> {
        unordered(node, inputs, &orders)
    }

    /// The input gradient of its convolution, and then its bias.
    fn layer(&self, building: &mut Building) -> Result<Lower> {
        let shape = self.over(building.name(), building.shape().inputs[0])?;
        let (role, init) = (ConvolutionRole::Transposed, self.init);
        let placing = Placing { role, bias: false, init, connections: None, order: None };
        let layer = building.convolution(shape, placing)?;
        let bias = self.bias.then(|| Arc::new(ScaleLayer::bias(building, self.filters)));
        Ok(Box::new(move |lowering, inputs| {
            let y = lowering.output();
            let biased = bias.as_ref().map(|bias| (bias, lowering.output()));
            let packed = PackGradientWeight::emit(&mut lowering.program, &layer);
            lowering.emit(BackwardInput::instruction(Arc::clone(&layer), inputs[0], packed, y));
            Ok(match biased {
                None => y,
                Some((bias, biased)) => {
                    lowering.emit(bias.forward(y, biased));
                    biased
                }
            })
        }))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let shape = self.over(node.name, node.shape.inputs[0])?;
        let map = export.map(node.first(), node.name);
        let inputs = export.with_tensors(map, node.name, weights(self.bias));
        let mut attributes = sliding(&shape);
        attributes.push(ints("output_padding", &self.output_padding));
        Ok(export.push(node.name, "ConvTranspose", inputs, attributes, false))
    }
}
