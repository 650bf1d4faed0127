//! Max pooling.

use super::function::Fused;
use super::window::{Padding, Windows, pooled};
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
use fovea_kernels::pool2d::MaxPool2d;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Hyperparameters of max pooling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MaxPool {
    /// Window height and width.
    pub size: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Pixels around the input, which never win.
    pub padding: Padding,
    /// Rounds the output's size up, as PyTorch's `ceil_mode`.
    pub ceil_mode: bool,
}

impl MaxPool {
    fn windows(&self) -> Windows {
        let Self { size, stride, padding, ceil_mode } = *self;
        Windows { size, stride, padding, ceil_mode }
    }
}

impl Operation for MaxPool {
    fn check(&self, node: &str) -> Result<()> {
        self.windows().check(node)
    }

    fn infer(&self, node: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        Ok(Inferred::plain(pooled(node, &self.windows().over(node, inputs[0])?)?))
    }

    fn layer(&self, building: &mut Building) -> Result<Lower> {
        let shape = self.windows().over(building.name(), building.shape().inputs[0])?;
        let layer = Arc::new(MaxPool2d::new(shape).map_err(|error| building.refused(error))?);
        one(move |x, y| {
            let (layer, argmax, function) = (Arc::clone(&layer), None, Fused::default());
            Instruction::MaxPool(Forward { layer, x, y, argmax, function })
        })
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let shape = self.windows().over(node.name, node.shape.inputs[0])?;
        Ok(export.pool(node, &shape, None))
    }
}

/// y = function(largest of each window of x); argmax only where a backward pass follows.
pub(crate) struct Forward {
    pub layer: Arc<MaxPool2d>,
    pub x: ValueId,
    pub y: ValueId,
    pub argmax: Option<ValueId>,
    /// A ReLU or nothing.
    pub function: Fused,
}

impl Call for Forward {
    fn name(&self) -> &'static str {
        "maxPool"
    }

    fn operands(&self) -> Operands {
        Operands::default()
            .read(self.x, Reach::Neighbourhood)
            .write(self.y, Reach::Pixel)
            .write(self.argmax, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let argmax = self.argmax.map(|argmax| memory.bytes_mut(argmax));
        let (x, y) = (memory.view(self.x), memory.view_mut(self.y));
        self.layer.forward(step.context, x, self.function.activation(), y, argmax);
    }

    fn backward(&mut self, backward: &mut Backward) {
        let (x, y) = (self.x, self.y);
        let Some(dy) = backward.gradient(y).filter(|_| backward.learns(x)) else { return };
        let argmax = backward.winners(y);
        self.argmax = Some(argmax);
        let (layer, mask) = (Arc::clone(&self.layer), (!self.function.is_none()).then_some(y));
        backward.contribute(x, |backward, dx| {
            backward.emit(Instruction::other(Gradient { layer, dy, argmax, y: mask, dx }));
        });
    }

    fn remarks(&self) -> Vec<String> {
        self.function.remark().into_iter().collect()
    }
}

/// With y, the gradient passes only where y > 0: the backward of a fused ReLU.
struct Gradient {
    layer: Arc<MaxPool2d>,
    dy: ValueId,
    argmax: ValueId,
    y: Option<ValueId>,
    dx: ValueId,
}

impl Call for Gradient {
    fn name(&self) -> &'static str {
        "maxPoolBackward"
    }

    fn operands(&self) -> Operands {
        Operands::default()
            .read(self.dy, Reach::Neighbourhood)
            .read(self.argmax, Reach::Neighbourhood)
            .read(self.y, Reach::Neighbourhood)
            .write(self.dx, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let (y, argmax) = (self.y.map(|y| memory.view(y)), memory.bytes(self.argmax));
        self.layer.backward(step.context, memory.view(self.dy), argmax, y, memory.view_mut(self.dx));
    }

    fn remarks(&self) -> Vec<String> {
        self.y.map(|_| "with relu".to_owned()).into_iter().collect()
    }
}
