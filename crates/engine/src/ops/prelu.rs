//! Leaky ReLU whose slope is learned.

use super::{Inferred, Operation};
use crate::autodiff::Backward;
use crate::error::Result;
use crate::execute::{Memory, Step};
use crate::explain::{About, PlanRow};
use crate::instruction::{Call, Instruction};
use crate::lower::{Lower, one};
use crate::network::Building;
use crate::onnx::export::{Export, Exported, Value};
use crate::operand::{Operands, Reach};
use crate::program::{Program, ValueId};
use fovea_kernels::prelu;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Hyperparameters of a leaky ReLU whose slope is learned; it begins as 0.25.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Prelu {
    /// Whether all channels have one slope.
    pub shared: bool,
}

impl Prelu {
    fn slopes(&self, channels: usize) -> usize {
        if self.shared { 1 } else { channels }
    }
}

impl Operation for Prelu {
    fn infer(&self, _: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        Ok(Inferred::learned(inputs[0], vec![("weight", vec![self.slopes(inputs[0][2])])]))
    }

    fn layer(&self, building: &mut Building) -> Result<Lower> {
        let slopes = self.slopes(building.shape().output[2]);
        let order = building.order.clone().filter(|_| slopes > 1);
        let weight = building.parameter("weight", slopes, 0.25, order);
        let layer = Arc::new(Slopes { name: building.name().to_owned(), weight });
        one(move |x, y| Instruction::other(Forward { layer: Arc::clone(&layer), x, y }))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let x = node.first();
        let slope = export.channels(node.name, "weight", x.row || self.shared);
        Ok(export.push(node.name, "PRelu", vec![x.name, slope], vec![], x.row))
    }
}

/// A layer and the place of its slopes.
struct Slopes {
    name: String,
    weight: Range<usize>,
}

/// y = x where it is positive, otherwise x times the slope of its channel.
struct Forward {
    layer: Arc<Slopes>,
    x: ValueId,
    y: ValueId,
}

impl Call for Forward {
    fn name(&self) -> &'static str {
        "prelu"
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.x, Reach::Pixel).write(self.y, Reach::Pixel)
    }

    fn parameters(&self) -> [Option<&Range<usize>>; 2] {
        [Some(&self.layer.weight), None]
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let slopes = &step.parameters[self.layer.weight.clone()];
        prelu::prelu(step.context, memory.view(self.x), slopes, memory.view_mut(self.y));
    }

    fn backward(&mut self, backward: &mut Backward) {
        let &mut Self { ref layer, x, y } = self;
        let Some(dy) = backward.gradient(y) else { return };
        if backward.network.trains([Some(&layer.weight), None]) {
            backward.emit(Instruction::other(BackwardWeight { layer: Arc::clone(layer), x, dy }));
        }
        backward.contribute(x, |backward, dx| {
            backward.emit(Instruction::other(BackwardInput { layer: Arc::clone(layer), x, dy, dx }));
        });
    }

    fn explain(&self, _: &About, row: &mut PlanRow) {
        row.name = self.layer.name.clone();
    }
}

/// The gradients of the slopes.
struct BackwardWeight {
    layer: Arc<Slopes>,
    x: ValueId,
    dy: ValueId,
}

impl Call for BackwardWeight {
    fn name(&self) -> &'static str {
        "preluBackwardWeight"
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.dy, Reach::Whole).read(self.x, Reach::Whole)
    }

    fn scratch_len(&self, program: &Program, batch: usize, _: usize) -> usize {
        let [h, w, c] = program.shape(self.dy);
        prelu::scratch_len([batch, h, w, c])
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let (x, dy) = (memory.view(self.x), memory.view(self.dy));
        let dslopes = &mut step.gradients[self.layer.weight.clone()];
        prelu::prelu_backward_weight(step.context, x, dy, dslopes, memory.scratch());
    }

    fn explain(&self, _: &About, row: &mut PlanRow) {
        row.name = self.layer.name.clone();
    }
}

/// The gradient of x.
struct BackwardInput {
    layer: Arc<Slopes>,
    x: ValueId,
    dy: ValueId,
    dx: ValueId,
}

impl Call for BackwardInput {
    fn name(&self) -> &'static str {
        "preluBackwardInput"
    }

    fn operands(&self) -> Operands {
        Operands::default()
            .read(self.dy, Reach::Pixel)
            .read(self.x, Reach::Pixel)
            .write(self.dx, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let (x, dy, dx) = (memory.view(self.x), memory.view(self.dy), memory.view_mut(self.dx));
        let slopes = &step.parameters[self.layer.weight.clone()];
        prelu::prelu_backward_input(step.context, x, dy, slopes, dx);
    }

    fn explain(&self, _: &About, row: &mut PlanRow) {
        row.name = self.layer.name.clone();
    }
}
