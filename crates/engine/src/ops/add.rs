//! Sum of two maps of the same shape.

use super::bounds::check_common;
use super::function::Fused;
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
use fovea_kernels::elementwise;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Hyperparameters of a sum: none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {}

impl Operation for Add {
    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, node: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        check_common(node, "equal shapes", inputs, |shape| shape)?;
        Ok(Inferred::plain(inputs[0]))
    }

    fn order(&self, node: &str, _: &[[usize; 3]], orders: Vec<Option<Order>>) -> Result<Option<Order>> {
        common_order(node, orders)
    }

    fn layer(&self, _: &mut Building) -> Result<Lower> {
        two(|a, b, y| Instruction::Add(Forward { a, b, y, function: Fused::default() }))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        Ok(export.elementwise(node, "Add"))
    }
}

/// y = function(a + b): also the gradient of a value that several nodes read, the sum of theirs.
pub(crate) struct Forward {
    pub a: ValueId,
    pub b: ValueId,
    pub y: ValueId,
    pub function: Fused,
}

impl Call for Forward {
    fn name(&self) -> &'static str {
        "add"
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.a, Reach::Pixel).read(self.b, Reach::Pixel).write(self.y, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let [a, b] = [self.a, self.b].map(|value| memory.view(value));
        elementwise::add(step.context, a, b, self.function.activation(), memory.view_mut(self.y));
    }

    fn backward(&mut self, backward: &mut Backward) {
        let Some(dy) = backward.masked_gradient(self.y, &self.function) else { return };
        backward.hand_on(self.a, dy);
        backward.hand_on(self.b, dy);
    }

    fn remarks(&self) -> Vec<String> {
        self.function.remark().into_iter().collect()
    }
}
