//! Dropout.

use super::bounds::check_number;
use super::{Inferred, Operation};
use crate::autodiff::Backward;
use crate::error::Result;
use crate::execute::{Memory, Step};
use crate::instruction::{Call, Instruction};
use crate::lower::Lower;
use crate::network::Building;
use crate::onnx::export::{Export, Exported, Value};
use crate::operand::{Operands, Reach};
use crate::program::{Mode, ValueId};
use fovea_kernels::dropout::dropout;
use serde::{Deserialize, Serialize};

/// Hyperparameters of dropout.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Dropout {
    /// Probability of a zero, from 0 to below 1.
    pub rate: f32,
}

impl Operation for Dropout {
    fn check(&self, node: &str) -> Result<()> {
        check_number(node, "a rate from 0 to below 1", self.rate, (0.0..1.0).contains(&self.rate))
    }

    fn infer(&self, _: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        Ok(Inferred::plain(inputs[0]))
    }

    fn layer(&self, building: &mut Building) -> Result<Lower> {
        let (rate, node) = (self.rate, building.index());
        Ok(Box::new(move |lowering, inputs| {
            let x = inputs[0];
            if lowering.mode != Mode::Train || rate == 0.0 {
                return Ok(x);
            }
            let y = lowering.output();
            lowering.emit(Instruction::other(Dropping {
                rate,
                node,
                x,
                y,
                names: ["dropout", "dropoutBackward"],
            }));
            Ok(y)
        }))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let x = node.first();
        let ratio = export.constant(node.name, "ratio", &[], &[self.rate]);
        Ok(export.push(node.name, "Dropout", vec![x.name, ratio], vec![], x.row))
    }
}

/// y = x, with zeros at random places and larger values elsewhere; the places belong to the node and the step,
/// so that the gradient passes the same ones.
struct Dropping {
    rate: f32,
    node: usize,
    x: ValueId,
    y: ValueId,
    /// Its own, and that of its backward pass.
    names: [&'static str; 2],
}

impl Call for Dropping {
    fn name(&self) -> &'static str {
        self.names[0]
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.x, Reach::Pixel).write(self.y, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let random = step.dropout(self.node);
        dropout(step.context, memory.view(self.x), self.rate, random, memory.view_mut(self.y));
    }

    fn backward(&mut self, backward: &mut Backward) {
        let &mut Self { rate, node, x, y, names } = self;
        let Some(dy) = backward.gradient(y) else { return };
        backward.contribute(x, |backward, dx| {
            let names = [names[1]; 2];
            backward.emit(Instruction::other(Self { rate, node, x: dy, y: dx, names }));
        });
    }
}
