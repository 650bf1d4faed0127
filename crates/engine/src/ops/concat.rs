//! Channels of two or more maps, one map after the other. Copies are a last resort: a layer that feeds a
//! concatenation mostly writes its channels there itself ([`concatenate`](crate::concatenate)).

use super::bounds::check_common;
use super::{Inferred, Operation};
use crate::autodiff::Backward;
use crate::error::Result;
use crate::execute::{Memory, Step};
use crate::instruction::{Call, Instruction};
use crate::lower::Lower;
use crate::network::Building;
use crate::onnx::attributes::int;
use crate::onnx::export::{Export, Exported, Value};
use crate::operand::{Operands, Reach};
use crate::order::{Order, joined};
use crate::program::ValueId;
use fovea_kernels::elementwise;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Hyperparameters of a concatenation: none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {}

impl Operation for Concat {
    fn input_count(&self) -> RangeInclusive<usize> {
        2..=usize::MAX
    }

    fn infer(&self, node: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        check_common(node, "equal height and width", inputs, |[height, width, _]| [height, width])?;
        let channels = inputs.iter().try_fold(0usize, |sum, shape| sum.checked_add(shape[2]));
        Ok(Inferred::plain([inputs[0][0], inputs[0][1], channels.unwrap_or(usize::MAX)]))
    }

    fn order(&self, node: &str, inputs: &[[usize; 3]], orders: Vec<Option<Order>>) -> Result<Option<Order>> {
        joined(node, inputs, orders)
    }

    /// Copies every input to its channels.
    fn layer(&self, _: &mut Building) -> Result<Lower> {
        Ok(Box::new(|lowering, inputs| {
            let (all, name) = (lowering.output(), lowering.name().to_owned());
            let mut first = 0;
            for &x in inputs {
                let channels = lowering.program.shape(x)[2];
                let y = lowering.program.slice(all, first..first + channels, &name);
                lowering.emit(Instruction::Copy(Copy { x, y }));
                first += channels;
            }
            Ok(all)
        }))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let inputs = export.alike(node.inputs.clone(), node.name);
        let row = inputs[0].row;
        let names = inputs.into_iter().map(|value| value.name).collect();
        Ok(export.push(node.name, "Concat", names, vec![int("axis", 1)], row))
    }
}

/// y = x: channels of a concatenation that their layer could not write there itself, and gradients from there.
pub(crate) struct Copy {
    pub x: ValueId,
    pub y: ValueId,
}

impl Call for Copy {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.x, Reach::Neighbourhood).write(self.y, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        elementwise::copy(step.context, memory.view(self.x), memory.view_mut(self.y));
    }

    fn backward(&mut self, backward: &mut Backward) {
        let Some(dy) = backward.gradient(self.y) else { return };
        backward.hand_on(self.x, dy);
    }
}
