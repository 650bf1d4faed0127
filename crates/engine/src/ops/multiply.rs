//! Product of two maps of the same shape, or of a map and a factor for each channel of an image.

use super::arithmetic::{self, Arithmetic};
use super::average::{self, Averages};
use super::bounds::check_common;
use super::window::Windows;
use super::{Inferred, Operation};
use crate::autodiff::Backward;
use crate::error::Result;
use crate::execute::{Memory, Step};
use crate::instruction::{Call, Instruction};
use crate::lower::{Lower, two};
use crate::network::Building;
use crate::onnx::export::{Export, Exported, Value};
use crate::operand::{Operands, Reach};
use crate::order::{Order, common_order};
use crate::program::ValueId;
use fovea_kernels::arithmetic::multiply_channels;
use fovea_kernels::pool2d::AvgPool2d;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Hyperparameters of a product: none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Multiply {}

impl Operation for Multiply {
    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, node: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        if inputs[1] != [1, 1, inputs[0][2]] {
            let expected = "equal shapes, or a second one of [1, 1, channels],";
            check_common(node, expected, inputs, |shape| shape)?;
        }
        Ok(Inferred::plain(inputs[0]))
    }

    fn order(&self, node: &str, _: &[[usize; 3]], orders: Vec<Option<Order>>) -> Result<Option<Order>> {
        common_order(node, orders)
    }

    fn layer(&self, building: &mut Building) -> Result<Lower> {
        let [a, b] = [0, 1].map(|input| building.shape().inputs[input]);
        if a == b {
            return two(|a, b, y| arithmetic::Forward::instruction(Arithmetic::Multiply, a, b, y));
        }
        let whole = Windows::tiles([a[0], a[1]]).over(building.name(), a)?;
        let sums = Averages::Sums(AvgPool2d::sums(whole).map_err(|error| building.refused(error))?);
        let sums = Arc::new(sums);
        two(move |a, b, y| Instruction::other(ByChannels { sums: Arc::clone(&sums), a, b, y }))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        if node.shape.inputs[0] == node.shape.inputs[1] {
            return Ok(export.elementwise(node, "Mul"));
        }
        let maps = node.inputs.iter().map(|value| export.map(value.clone(), node.name).name).collect();
        Ok(export.push(node.name, "Mul", maps, vec![], false))
    }
}

/// y = a times the factors b of each image's channels; `sums` are for the gradient of b.
struct ByChannels {
    sums: Arc<Averages>,
    a: ValueId,
    b: ValueId,
    y: ValueId,
}

impl Call for ByChannels {
    fn name(&self) -> &'static str {
        "multiplyChannels"
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.a, Reach::Pixel).read(self.b, Reach::Whole).write(self.y, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        multiply_channels(step.context, memory.view(self.a), memory.view(self.b), memory.view_mut(self.y));
    }

    /// The gradient of the factors is the sum, over the pixels of each image, of the products of dy and a.
    fn backward(&mut self, backward: &mut Backward) {
        let &mut Self { ref sums, a, b, y } = self;
        let Some(dy) = backward.gradient(y) else { return };
        backward.contribute(a, |backward, da| {
            let sums = Arc::clone(sums);
            backward.emit(Instruction::other(Self { sums, a: dy, b, y: da }));
        });
        backward.contribute(b, |backward, db| {
            let products = backward.new_gradient(a);
            backward.emit(arithmetic::Forward::instruction(Arithmetic::Multiply, dy, a, products));
            backward.emit(average::Forward::instruction(sums, products, db));
        });
    }
}
