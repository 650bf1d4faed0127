//! A learned factor for each channel, and perhaps a learned summand; also the bias of a transposed convolution,
//! which has a summand only.

use super::{Inferred, Operation};
use crate::autodiff::Backward;
use crate::error::Result;
use crate::execute::{Memory, Step, both_mut};
use crate::explain::{About, PlanRow};
use crate::instruction::{Call, Instruction};
use crate::lower::{Lower, one};
use crate::network::Building;
use crate::onnx::export::{Export, Exported, Value};
use crate::operand::{Operands, Reach};
use crate::program::{Program, ValueId};
use fovea_kernels::scale;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Hyperparameters of a factor for each channel, which begins as 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Scale {
    /// Whether a constant, which begins as 0, is added to each channel.
    pub bias: bool,
}

impl Operation for Scale {
    fn infer(&self, _: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        let vector = |suffix| (suffix, vec![inputs[0][2]]);
        let bias = self.bias.then(|| vector("bias"));
        Ok(Inferred::learned(inputs[0], [vector("weight")].into_iter().chain(bias).collect()))
    }

    fn layer(&self, building: &mut Building) -> Result<Lower> {
        let (channels, order) = (building.shape().output[2], building.order.clone());
        let name = building.name().to_owned();
        let weight = Some(building.parameter("weight", channels, 1.0, order.clone()));
        let bias = self.bias.then(|| building.parameter("bias", channels, 0.0, order));
        let layer = Arc::new(ScaleLayer { name, weight, bias });
        one(move |x, y| layer.forward(x, y))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let (name, x) = (node.name, node.first());
        let row = x.row;
        let weight = export.channels(name, "weight", row);
        let product = export.push(name, "Mul", vec![x.name, weight], vec![], row);
        if !self.bias {
            return Ok(product);
        }
        let bias = export.channels(name, "bias", row);
        Ok(export.push(&format!("{name}.shift"), "Add", vec![product.name, bias], vec![], row))
    }
}

/// x weight + bias, of which it has one or both.
pub(crate) struct ScaleLayer {
    name: String,
    /// Place of the weight.
    weight: Option<Range<usize>>,
    /// Place of the bias, behind the weight.
    bias: Option<Range<usize>>,
}

impl ScaleLayer {
    /// A summand for each of so many channels.
    pub fn bias(building: &mut Building, channels: usize) -> Self {
        let bias = Some(building.parameter("bias", channels, 0.0, None));
        Self { name: building.name().to_owned(), weight: None, bias }
    }

    pub fn forward(self: &Arc<Self>, x: ValueId, y: ValueId) -> Instruction {
        Instruction::other(Forward { layer: Arc::clone(self), x, y })
    }

    /// Places of weight and bias.
    fn parameters(&self) -> [Option<&Range<usize>>; 2] {
        [self.weight.as_ref(), self.bias.as_ref()]
    }

    /// Names of the instructions: forward, gradients of the numbers, gradient of x.
    fn names(&self) -> [&'static str; 3] {
        match self.weight {
            None => ["bias", "biasBackwardWeight", "biasBackwardInput"],
            Some(_) => ["scale", "scaleBackwardWeight", "scaleBackwardInput"],
        }
    }
}

/// y = x weight + bias.
struct Forward {
    layer: Arc<ScaleLayer>,
    x: ValueId,
    y: ValueId,
}

impl Call for Forward {
    fn name(&self) -> &'static str {
        self.layer.names()[0]
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.x, Reach::Pixel).write(self.y, Reach::Pixel)
    }

    fn parameters(&self) -> [Option<&Range<usize>>; 2] {
        self.layer.parameters()
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let places = self.layer.parameters();
        let [weight, bias] = places.map(|place| place.cloned().map(|place| &step.parameters[place]));
        scale::scale(step.context, memory.view(self.x), weight, bias, memory.view_mut(self.y));
    }

    fn backward(&mut self, backward: &mut Backward) {
        let &mut Self { ref layer, x, y } = self;
        let Some(dy) = backward.gradient(y) else { return };
        if backward.network.trains(layer.parameters()) {
            let x = layer.weight.is_some().then_some(x);
            backward.emit(Instruction::other(BackwardWeight { layer: Arc::clone(layer), x, dy }));
        }
        if layer.weight.is_none() {
            return backward.hand_on(x, dy);
        }
        backward.contribute(x, |backward, dx| {
            backward.emit(Instruction::other(BackwardInput { layer: Arc::clone(layer), dy, dx }));
        });
    }

    fn explain(&self, _: &About, row: &mut PlanRow) {
        row.name = self.layer.name.clone();
    }
}

/// The gradients of weight and bias; a bias alone needs no x.
struct BackwardWeight {
    layer: Arc<ScaleLayer>,
    x: Option<ValueId>,
    dy: ValueId,
}

impl Call for BackwardWeight {
    fn name(&self) -> &'static str {
        self.layer.names()[1]
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.dy, Reach::Whole).read(self.x, Reach::Whole)
    }

    fn scratch_len(&self, program: &Program, batch: usize, _: usize) -> usize {
        let [h, w, c] = program.shape(self.dy);
        scale::scratch_len([batch, h, w, c])
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let (context, dy, scratch) = (step.context, memory.view(self.dy), memory.scratch());
        let x = self.x.map_or(dy, |x| memory.view(x));
        match self.layer.parameters() {
            [Some(weight), Some(bias)] => {
                let [dweight, dbias] = both_mut(step.gradients, weight, bias);
                scale::backward_weight(context, x, dy, dweight, Some(dbias), scratch);
            }
            [Some(weight), None] => {
                let dweight = &mut step.gradients[weight.clone()];
                scale::backward_weight(context, x, dy, dweight, None, scratch);
            }
            [None, Some(bias)] => {
                scale::backward_bias(context, dy, &mut step.gradients[bias.clone()], scratch);
            }
            [None, None] => {} // nothing to learn
        }
    }

    fn explain(&self, _: &About, row: &mut PlanRow) {
        row.name = self.layer.name.clone();
    }
}

/// The gradient of x, which does not need x.
struct BackwardInput {
    layer: Arc<ScaleLayer>,
    dy: ValueId,
    dx: ValueId,
}

impl Call for BackwardInput {
    fn name(&self) -> &'static str {
        self.layer.names()[2]
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.dy, Reach::Pixel).write(self.dx, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let weight = self.layer.weight.clone().map(|place| &step.parameters[place]);
        scale::scale(step.context, memory.view(self.dy), weight, None, memory.view_mut(self.dx));
    }

    fn explain(&self, _: &About, row: &mut PlanRow) {
        row.name = self.layer.name.clone();
    }
}
