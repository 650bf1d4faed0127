//! Probabilities over the channels of each pixel. There is no derivative: cross-entropy takes what stands
//! before it.

use super::{Inferred, Operation};
use crate::error::{GraphError, Result};
use crate::execute::{Memory, Step};
use crate::instruction::{Call, Instruction};
use crate::lower::Lower;
use crate::network::Building;
use crate::onnx::attributes::int;
use crate::onnx::export::{Export, Exported, Value};
use crate::operand::{Operands, Reach};
use crate::program::{Mode, ValueId};
use fovea_kernels::softmax;
use serde::{Deserialize, Serialize};

/// Hyperparameters of a softmax: none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {}

impl Operation for Softmax {
    fn infer(&self, _: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        Ok(Inferred::plain(inputs[0]))
    }

    fn layer(&self, _: &mut Building) -> Result<Lower> {
        Ok(Box::new(|lowering, inputs| {
            if lowering.mode == Mode::Train {
                return Err(GraphError::Softmax(lowering.name().to_owned()).into());
            }
            let (x, y) = (inputs[0], lowering.output());
            lowering.emit(Instruction::other(Forward { x, y }));
            Ok(y)
        }))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        Ok(export.function(node.name, "Softmax", node.first(), vec![int("axis", 1)]))
    }
}

/// y = softmax of each pixel's channels.
struct Forward {
    x: ValueId,
    y: ValueId,
}

impl Call for Forward {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.x, Reach::Pixel).write(self.y, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        softmax::softmax(step.context, memory.view(self.x), memory.view_mut(self.y));
    }
}
