//! Largest value of each channel over the whole map.

use super::{Inferred, Operation};
use crate::autodiff::Backward;
use crate::error::Result;
use crate::execute::{Memory, Step};
use crate::instruction::{Call, Instruction};
use crate::lower::{Lower, one};
use crate::network::Building;
use crate::onnx::export::{Export, Exported, Value};
use crate::operand::{Operands, Reach};
use crate::program::ValueId;
use fovea_kernels::pool2d;
use serde::{Deserialize, Serialize};

/// Hyperparameters of global max pooling: none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalMaxPool {}

impl Operation for GlobalMaxPool {
    fn infer(&self, _: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        Ok(Inferred::plain([1, 1, inputs[0][2]]))
    }

    fn layer(&self, _: &mut Building) -> Result<Lower> {
        one(|x, y| Instruction::other(Forward { x, y }))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let map = export.map(node.first(), node.name);
        Ok(export.push(node.name, "GlobalMaxPool", vec![map.name], vec![], false))
    }
}

/// y = largest value of each channel of x.
struct Forward {
    x: ValueId,
    y: ValueId,
}

impl Call for Forward {
    fn name(&self) -> &'static str {
        "globalMaxPool"
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.x, Reach::Neighbourhood).write(self.y, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        pool2d::global_max_pool(step.context, memory.view(self.x), memory.view_mut(self.y));
    }

    fn backward(&mut self, backward: &mut Backward) {
        let &mut Self { x, y } = self;
        let Some(dy) = backward.gradient(y) else { return };
        backward.contribute(x, |backward, dx| backward.emit(Instruction::other(Gradient { x, y, dy, dx })));
    }
}

struct Gradient {
    x: ValueId,
    y: ValueId,
    dy: ValueId,
    dx: ValueId,
}

impl Call for Gradient {
    fn name(&self) -> &'static str {
        "globalMaxPoolBackward"
    }

    fn operands(&self) -> Operands {
        Operands::default()
            .read(self.dy, Reach::Whole)
            .read(self.x, Reach::Neighbourhood)
            .read(self.y, Reach::Whole)
            .write(self.dx, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let [x, y, dy] = [self.x, self.y, self.dy].map(|value| memory.view(value));
        pool2d::global_max_pool_backward(step.context, x, y, dy, memory.view_mut(self.dx));
    }
}
