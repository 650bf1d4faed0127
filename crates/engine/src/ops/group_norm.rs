//! Group normalization; and the instructions of [layer normalization](super::layer_norm), which is that of
//! pixels by themselves.

use super::bounds::{MAX_SIZE, check_number, check_sizes, misfit};
use super::{Inferred, Operation};
use crate::autodiff::Backward;
use crate::error::Result;
use crate::execute::{Memory, Step, both_mut};
use crate::explain::{About, PlanRow};
use crate::instruction::{Call, Instruction};
use crate::lower::Lower;
use crate::network::Building;
use crate::onnx::attributes::{float, int};
use crate::onnx::export::{Export, Exported, Value};
use crate::operand::{Operands, Reach};
use crate::order::{Order, unordered};
use crate::program::{Extent, Kind, Program, ValueId};
use fovea_kernels::group_norm::GroupNorm as Kernel;
use fovea_kernels::{View4, ViewMut4};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Hyperparameters of group normalization, in PyTorch's meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GroupNorm {
    /// Groups of neighbouring channels; they divide the channels.
    pub groups: usize,
    /// Added to the variance; above 0.
    pub epsilon: f32,
}

impl Operation for GroupNorm {
    fn check(&self, node: &str) -> Result<()> {
        check_sizes(node, "groups", &[self.groups], MAX_SIZE)?;
        check_number(node, "an epsilon above 0", self.epsilon, self.epsilon > 0.0)
    }

    fn infer(&self, node: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        let channels = inputs[0][2];
        if !channels.is_multiple_of(self.groups) {
            return Err(misfit(
                node,
                format!("groups that divide {channels} channels"),
                self.groups,
                inputs[0],
            ));
        }
        Ok(Inferred::learned(inputs[0], vec![("weight", vec![channels]), ("bias", vec![channels])]))
    }

    /// Groups of a flattened map would be others inside than outside.
    fn order(&self, node: &str, inputs: &[[usize; 3]], orders: Vec<Option<Order>>) -> Result<Option<Order>> {
        match self.groups {
            1 => Ok(orders.into_iter().next().flatten()),
            _ => unordered(node, inputs, &orders),
        }
    }

    fn layer(&self, building: &mut Building) -> Result<Lower> {
        Ok(Layer::build(building, Kernel { groups: self.groups, epsilon: self.epsilon }, false))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let x = node.first();
        let row = x.row;
        let inputs = export.with_tensors(x, node.name, &["weight", "bias"]);
        let attributes = vec![float("epsilon", self.epsilon), int("num_groups", self.groups as i64)];
        export.require(21);
        Ok(export.push(node.name, "GroupNormalization", inputs, attributes, row))
    }
}

/// A layer with the places of its vectors.
pub(crate) struct Layer {
    name: String,
    kernel: Kernel,
    /// Whether every pixel is normalized by itself, and not every image.
    by_pixel: bool,
    weight: Range<usize>,
    bias: Range<usize>,
}

impl Layer {
    pub fn build(building: &mut Building, kernel: Kernel, by_pixel: bool) -> Lower {
        let (name, order) = (building.name().to_owned(), building.order.clone());
        let [height, width, channels] = building.shape().output;
        let weight = building.parameter("weight", channels, 1.0, order.clone());
        let bias = building.parameter("bias", channels, 0.0, order);
        let sets = if by_pixel { [height, width] } else { [1, 1] };
        let statistics = Extent::PerImage([sets[0], sets[1], 2 * kernel.groups]);
        let layer = Arc::new(Self { name, kernel, by_pixel, weight, bias });
        Box::new(move |lowering, inputs| {
            let (x, y) = (inputs[0], lowering.output());
            let statistics = lowering.value(Kind::Statistics, statistics);
            lowering.emit(Instruction::other(Forward { layer: Arc::clone(&layer), x, y, statistics }));
            Ok(y)
        })
    }

    fn parameters(&self) -> [Option<&Range<usize>>; 2] {
        [Some(&self.weight), Some(&self.bias)]
    }

    fn view<'a>(&self, memory: &Memory<'a>, value: ValueId) -> View4<'a> {
        let view = memory.view(value);
        if self.by_pixel { view.by_pixel() } else { view }
    }

    fn view_mut<'a>(&self, memory: &Memory<'a>, value: ValueId) -> ViewMut4<'a> {
        let view = memory.view_mut(value);
        if self.by_pixel { view.by_pixel() } else { view }
    }
}

/// y = x with mean 0 and variance 1 in each group of each image, scaled and shifted; the statistics are kept.
struct Forward {
    layer: Arc<Layer>,
    x: ValueId,
    y: ValueId,
    statistics: ValueId,
}

impl Call for Forward {
    fn name(&self) -> &'static str {
        if self.layer.by_pixel { "layerNorm" } else { "groupNorm" }
    }

    fn operands(&self) -> Operands {
        // The statistics of a group are complete before its first pixel is written.
        Operands::default()
            .read(self.x, Reach::Pixel)
            .write(self.y, Reach::Pixel)
            .write(self.statistics, Reach::Whole)
    }

    fn parameters(&self) -> [Option<&Range<usize>>; 2] {
        self.layer.parameters()
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let Layer { kernel, weight, bias, .. } = &*self.layer;
        let [weight, bias] = [weight, bias].map(|place| &step.parameters[place.clone()]);
        let (x, y) = (self.layer.view(memory, self.x), self.layer.view_mut(memory, self.y));
        kernel.forward(step.context, x, [weight, bias], memory.floats_mut(self.statistics), y);
    }

    fn backward(&mut self, backward: &mut Backward) {
        let &mut Self { ref layer, x, y, statistics } = self;
        let Some(dy) = backward.gradient(y) else { return };
        if backward.network.trains(layer.parameters()) {
            let layer = Arc::clone(layer);
            backward.emit(Instruction::other(BackwardWeight { layer, x, dy, statistics }));
        }
        backward.contribute(x, |backward, dx| {
            let layer = Arc::clone(layer);
            backward.emit(Instruction::other(BackwardInput { layer, x, dy, statistics, dx }));
        });
    }

    fn explain(&self, _: &About, row: &mut PlanRow) {
        row.name = self.layer.name.clone();
    }
}

/// The gradients of weight and bias.
struct BackwardWeight {
    layer: Arc<Layer>,
    x: ValueId,
    dy: ValueId,
    statistics: ValueId,
}

impl Call for BackwardWeight {
    fn name(&self) -> &'static str {
        if self.layer.by_pixel { "layerNormBackwardWeight" } else { "groupNormBackwardWeight" }
    }

    fn operands(&self) -> Operands {
        Operands::default()
            .read(self.dy, Reach::Whole)
            .read(self.x, Reach::Whole)
            .read(self.statistics, Reach::Whole)
    }

    fn scratch_len(&self, program: &Program, batch: usize, _: usize) -> usize {
        let [h, w, c] = program.shape(self.x);
        let shape = if self.layer.by_pixel { [batch * h * w, 1, 1, c] } else { [batch, h, w, c] };
        self.layer.kernel.scratch_len(shape)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let Layer { kernel, weight, bias, .. } = &*self.layer;
        let gradients = both_mut(step.gradients, weight, bias);
        let operands = [self.x, self.dy].map(|value| self.layer.view(memory, value));
        let statistics = memory.floats(self.statistics);
        kernel.backward_weight(step.context, operands, statistics, gradients, memory.scratch());
    }

    fn explain(&self, _: &About, row: &mut PlanRow) {
        row.name = self.layer.name.clone();
    }
}

/// The gradient of x.
struct BackwardInput {
    layer: Arc<Layer>,
    x: ValueId,
    dy: ValueId,
    statistics: ValueId,
    dx: ValueId,
}

impl Call for BackwardInput {
    fn name(&self) -> &'static str {
        if self.layer.by_pixel { "layerNormBackwardInput" } else { "groupNormBackwardInput" }
    }

    fn operands(&self) -> Operands {
        // As forward, both are summed over the group before its first pixel is written.
        Operands::default()
            .read(self.dy, Reach::Pixel)
            .read(self.x, Reach::Pixel)
            .read(self.statistics, Reach::Whole)
            .write(self.dx, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let Layer { kernel, weight, .. } = &*self.layer;
        let operands = [self.x, self.dy].map(|value| self.layer.view(memory, value));
        let (weight, dx) = (&step.parameters[weight.clone()], self.layer.view_mut(memory, self.dx));
        kernel.backward_input(step.context, operands, weight, memory.floats(self.statistics), dx);
    }

    fn explain(&self, _: &About, row: &mut PlanRow) {
        row.name = self.layer.name.clone();
    }
}
