//! Batch normalization.

use super::bounds::check_number;
use super::function::{Fused, Gradient};
use super::{Inferred, Operation};
use crate::autodiff::Backward;
use crate::error::Result;
use crate::execute::{Memory, Step, both_mut};
use crate::explain::{About, PlanRow};
use crate::instruction::{Call, Instruction};
use crate::lower::Lower;
use crate::network::Building;
use crate::onnx::attributes::float;
use crate::onnx::export::{Export, Exported, Value};
use crate::operand::{Operands, Reach};
use crate::program::{Extent, Kind, Mode, Program, ValueId};
use fovea_kernels::batch_norm::{self, Running};
use fovea_kernels::pool2d::{MaxPool2d, NormalizedBackward, PooledGradient};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Hyperparameters of batch normalization, in PyTorch's meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BatchNorm {
    /// Added to the variance; above 0.
    pub epsilon: f32,
    /// Share of the batch in the running statistics, 0 to 1.
    pub momentum: f32,
}

impl Operation for BatchNorm {
    fn check(&self, node: &str) -> Result<()> {
        let Self { epsilon, momentum } = *self;
        check_number(node, "an epsilon above 0", epsilon, epsilon > 0.0)?;
        check_number(node, "a momentum of 0 to 1", momentum, (0.0..=1.0).contains(&momentum))
    }

    fn infer(&self, _: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        let channels = inputs[0][2];
        Ok(Inferred::learned(inputs[0], vec![("weight", vec![channels]), ("bias", vec![channels])]))
    }

    fn layer(&self, building: &mut Building) -> Result<Lower> {
        let Self { epsilon, momentum } = *self;
        let [height, width, channels] = building.shape().output;
        let order = building.order.clone();
        let layer = Arc::new(BatchNormLayer {
            name: building.name().to_owned(),
            channels,
            single: height * width == 1,
            epsilon,
            momentum,
            weight: building.parameter("weight", channels, 1.0, order.clone()),
            bias: building.parameter("bias", channels, 0.0, order.clone()),
            mean: building.state("running_mean", channels, 0.0, order.clone()),
            variance: building.state("running_var", channels, 1.0, order),
        });
        building.norm(&layer);
        Ok(Box::new(move |lowering, inputs| {
            let y = lowering.output();
            let mut statistics = || lowering.value(Kind::Statistics, Extent::Fixed(2 * layer.channels));
            let affine = statistics();
            let saved = (lowering.mode == Mode::Train)
                .then(|| lowering.value(Kind::Statistics, Extent::Fixed(2 * layer.channels)));
            let frozen = saved.is_some() && !lowering.network.trains(layer.parameters());
            lowering.emit(Instruction::BatchNorm(Forward {
                layer: Arc::clone(&layer),
                x: inputs[0],
                moments: None,
                residual: None,
                pool: None,
                argmax: None,
                y,
                saved,
                frozen,
                affine,
                function: Fused::default(),
            }));
            Ok(y)
        }))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let x = node.first();
        let row = x.row;
        let inputs = export.with_tensors(x, node.name, &["weight", "bias", "running_mean", "running_var"]);
        let attributes = vec![float("epsilon", self.epsilon), float("momentum", 1.0 - self.momentum)];
        Ok(export.push(node.name, "BatchNormalization", inputs, attributes, row))
    }
}

/// Hyperparameters and places of a layer's vectors, each with an element a channel.
pub(crate) struct BatchNormLayer {
    pub name: String,
    pub channels: usize,
    /// Whether it has one pixel of an image, so that a batch of one has no variance.
    pub single: bool,
    pub epsilon: f32,
    pub momentum: f32,
    /// Places among the parameters.
    pub weight: Range<usize>,
    pub bias: Range<usize>,
    /// Places in the state.
    pub mean: Range<usize>,
    pub variance: Range<usize>,
}

impl BatchNormLayer {
    /// Places of weight and bias.
    pub fn parameters(&self) -> [Option<&Range<usize>>; 2] {
        [Some(&self.weight), Some(&self.bias)]
    }
}

/// y = function(x * scale + shift [+ residual]). Statistics are those of the batch, or of a frozen layer the
/// running ones, kept in `saved`, or the running ones without it; scale and shift are left in `affine`. Those
/// of the batch follow from the moments of x where they have been taken. With a pool, y is the largest of each
/// window of what otherwise were y, and there is no residual.
pub(crate) struct Forward {
    pub layer: Arc<BatchNormLayer>,
    pub x: ValueId,
    pub moments: Option<ValueId>,
    pub residual: Option<ValueId>,
    pub pool: Option<Arc<MaxPool2d>>,
    pub argmax: Option<ValueId>,
    pub y: ValueId,
    pub saved: Option<ValueId>,
    pub frozen: bool,
    pub affine: ValueId,
    pub function: Fused,
}

impl Forward {
    /// Whether nothing has been fused with it.
    pub fn is_plain(&self) -> bool {
        self.residual.is_none() && self.pool.is_none() && self.function.is_none()
    }

    /// Leaves the statistics in `saved` and the factors in `affine`.
    fn statistics(&self, memory: &Memory, step: &mut Step) {
        let Self { layer, x, moments, saved, frozen, affine, .. } = self;
        let BatchNormLayer { epsilon, momentum, .. } = **layer;
        let affine = memory.floats_mut(*affine);
        let [weight, bias] = [&layer.weight, &layer.bias].map(|place| &step.parameters[place.clone()]);
        let Some(saved) = saved else {
            let [mean, variance] = [&layer.mean, &layer.variance].map(|place| &step.state[place.clone()]);
            return batch_norm::running_affine(mean, variance, epsilon, weight, bias, affine);
        };
        let (saved, scratch) = (memory.floats_mut(*saved), memory.scratch());
        let [mean, variance] = both_mut(step.state, &layer.mean, &layer.variance);
        let running = Running { mean, variance, momentum };
        match moments {
            _ if *frozen => batch_norm::running(running.mean, running.variance, epsilon, saved),
            Some(moments) => {
                let moments = memory.floats(*moments);
                batch_norm::statistics_from_moments(step.context, moments, epsilon, saved, running);
            }
            None => {
                batch_norm::statistics(step.context, memory.view(*x), epsilon, saved, running, scratch);
            }
        }
        batch_norm::affine(saved, weight, bias, affine);
    }
}

impl Call for Forward {
    fn name(&self) -> &'static str {
        "batchNorm"
    }

    fn operands(&self) -> Operands {
        // Statistics are complete before the first pixel is normalized.
        let reach = if self.pool.is_some() { Reach::Neighbourhood } else { Reach::Pixel };
        Operands::default()
            .read(self.x, reach)
            .read(self.residual, Reach::Pixel)
            .read(self.moments, Reach::Whole)
            .write(self.y, Reach::Pixel)
            .write(self.affine, Reach::Whole)
            .write(self.saved, Reach::Whole)
            .write(self.argmax, Reach::Pixel)
    }

    fn parameters(&self) -> [Option<&Range<usize>>; 2] {
        self.layer.parameters()
    }

    fn scratch_len(&self, program: &Program, batch: usize, _: usize) -> usize {
        let [h, w, c] = program.shape(self.x);
        let sums = self.saved.is_some() && self.moments.is_none();
        if sums { batch_norm::scratch_len([batch, h, w, c]) } else { 0 }
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        self.statistics(memory, step);
        let (context, activation) = (step.context, self.function.activation());
        let (x, affine, y) = (memory.view(self.x), memory.floats(self.affine), memory.view_mut(self.y));
        match &self.pool {
            Some(pool) => {
                // Nobody asks for the winners where nothing before them learns.
                let argmax = self.argmax.map(|argmax| memory.bytes_mut(argmax));
                pool.forward_normalized(context, x, affine, activation, y, argmax);
            }
            None => {
                let residual = self.residual.map(|residual| memory.view(residual));
                batch_norm::normalize(context, x, affine, residual, activation, y);
            }
        }
    }

    fn backward(&mut self, backward: &mut Backward) {
        // Only training programs, which keep the statistics, are differentiated.
        let (Some(saved), Some(mut dy)) = (self.saved, backward.gradient(self.y)) else { return };
        let (x, y) = (self.x, self.y);
        let statistics = [saved, self.affine];
        let mut mask = match (self.function.is_none(), self.residual) {
            (true, _) => Mask::None,
            (false, None) => Mask::Recompute,
            (false, Some(_)) => Mask::Output(y),
        };
        let layer = Arc::clone(&self.layer);
        let pool = self.pool.as_ref().map(|pool| {
            mask = Mask::None;
            let (layer, argmax) = (Arc::clone(pool), backward.winners(y));
            self.argmax = Some(argmax);
            Pooled { layer, argmax, y: (!self.function.is_none()).then_some(y) }
        });
        let residual = self.residual.filter(|&residual| backward.learns(residual));
        // What passes the mask is the gradient of the residual and of the normalized x alike.
        let dresidual = residual.filter(|_| mask != Mask::None).map(|value| backward.new_gradient(value));
        match (self.frozen, dresidual, self.function.function()) {
            (false, dresidual, _) => {
                let gradient =
                    Gradients { layer: Arc::clone(&layer), pool: pool.clone(), x, dy, mask, statistics };
                backward.emit(Instruction::other(BackwardWeight { gradient, dresidual }));
            }
            (true, Some(dx), Some(function)) => {
                let function = Arc::clone(function);
                backward.emit(Instruction::other(Gradient { function, dy, of: Some(y), dx }));
            }
            (true, ..) => {}
        }
        if let Some(masked) = dresidual {
            (dy, mask) = (masked, Mask::None);
        }
        if let Some(residual) = residual {
            backward.hand_on(residual, dy);
        }
        backward.contribute(x, |backward, dx| {
            let gradient = Gradients { layer, pool, x, dy, mask, statistics };
            backward.emit(Instruction::other(BackwardInput { gradient, dx }));
        });
    }

    fn explain(&self, _: &About, row: &mut PlanRow) {
        row.name = self.layer.name.clone();
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        remarks.extend(self.residual.map(|_| "with add".to_owned()));
        remarks.extend(self.function.remark());
        remarks.extend(self.pool.as_ref().map(|_| "with maxPool".to_owned()));
        remarks.extend(self.moments.map(|_| "with moments".to_owned()));
        remarks
    }
}

/// Where the gradient of a batch normalization passes its ReLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mask {
    /// Everywhere: it has none.
    None,
    /// Where x * scale + shift is positive.
    Recompute,
    /// Where this result is positive.
    Output(ValueId),
}

/// How the result of a batch normalization was pooled.
#[derive(Clone)]
struct Pooled {
    layer: Arc<MaxPool2d>,
    /// The winners of its windows.
    argmax: ValueId,
    /// Its result, if the gradient passes only where that is positive.
    y: Option<ValueId>,
}

/// What both backward passes read. With a pool, dy is the gradient of what was pooled.
struct Gradients {
    layer: Arc<BatchNormLayer>,
    pool: Option<Pooled>,
    x: ValueId,
    dy: ValueId,
    mask: Mask,
    statistics: [ValueId; 2],
}

impl Gradients {
    fn operands(&self) -> Operands {
        let (reach, masks) = match (self.mask, &self.pool) {
            (_, Some(Pooled { argmax, y, .. })) => (Reach::Neighbourhood, [*y, Some(*argmax)]),
            (Mask::Output(y), None) => (Reach::Pixel, [Some(y), None]),
            (Mask::None | Mask::Recompute, None) => (Reach::Pixel, [None; 2]),
        };
        Operands::default()
            .read(self.dy, reach)
            .read(self.x, Reach::Pixel)
            .read(self.statistics[0], Reach::Whole)
            .read(self.statistics[1], Reach::Whole)
            .read(masks[0], reach)
            .read(masks[1], reach)
    }

    /// What the kernels read where nothing was pooled.
    fn masked<'a>(&self, memory: &Memory<'a>) -> batch_norm::Backward<'a> {
        let mask = match self.mask {
            Mask::None => batch_norm::Mask::None,
            Mask::Recompute => batch_norm::Mask::Recompute,
            Mask::Output(y) => batch_norm::Mask::Output(memory.view(y)),
        };
        let [x, dy] = [self.x, self.dy].map(|value| memory.view(value));
        let [saved, affine] = self.statistics.map(|statistics| memory.floats(statistics));
        batch_norm::Backward { x, dy, mask, saved, affine }
    }

    /// What they read where it was.
    fn pooled<'a>(&self, memory: &Memory<'a>, pool: &Pooled) -> NormalizedBackward<'a> {
        let y = pool.y.map(|y| memory.view(y));
        let gradient = PooledGradient { dy: memory.view(self.dy), argmax: memory.bytes(pool.argmax), y };
        let [saved, affine] = self.statistics.map(|statistics| memory.floats(statistics));
        NormalizedBackward { x: memory.view(self.x), gradient, saved, affine }
    }

    fn explain(&self, row: &mut PlanRow) {
        row.name = self.layer.name.clone();
    }

    fn remarks(&self) -> Vec<String> {
        let masked = self.mask != Mask::None || self.pool.as_ref().is_some_and(|pool| pool.y.is_some());
        let mut remarks = Vec::new();
        remarks.extend(masked.then(|| "with relu".to_owned()));
        remarks.extend(self.pool.as_ref().map(|_| "with maxPool".to_owned()));
        remarks
    }
}

/// The gradients of weight and bias, and of the residual: dy where the mask lets it pass.
struct BackwardWeight {
    gradient: Gradients,
    dresidual: Option<ValueId>,
}

impl Call for BackwardWeight {
    fn name(&self) -> &'static str {
        "batchNormBackwardWeight"
    }

    fn operands(&self) -> Operands {
        self.gradient.operands().write(self.dresidual, Reach::Pixel)
    }

    fn scratch_len(&self, program: &Program, batch: usize, _: usize) -> usize {
        let [h, w, c] = program.shape(self.gradient.x);
        match &self.gradient.pool {
            Some(pool) => pool.layer.normalized_scratch_len(batch),
            None => batch_norm::scratch_len([batch, h, w, c]),
        }
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let Self { gradient, dresidual } = self;
        let (layer, context, scratch) = (&gradient.layer, step.context, memory.scratch());
        let [dweight, dbias] = both_mut(step.gradients, &layer.weight, &layer.bias);
        match &gradient.pool {
            Some(pool) => {
                let backward = gradient.pooled(memory, pool);
                pool.layer.normalized_sums(context, backward, dweight, dbias, scratch);
            }
            None => {
                let backward = gradient.masked(memory);
                let dresidual = dresidual.map(|dresidual| memory.view_mut(dresidual));
                batch_norm::backward_sums(context, backward, dweight, dbias, dresidual, scratch);
            }
        }
    }

    fn explain(&self, _: &About, row: &mut PlanRow) {
        self.gradient.explain(row);
    }

    fn remarks(&self) -> Vec<String> {
        self.gradient.remarks()
    }
}

/// The gradient of x, once those of weight and bias are known; those of a frozen layer are zero, as if its
/// statistics did not depend on x.
struct BackwardInput {
    gradient: Gradients,
    dx: ValueId,
}

impl Call for BackwardInput {
    fn name(&self) -> &'static str {
        "batchNormBackwardInput"
    }

    fn operands(&self) -> Operands {
        self.gradient.operands().write(self.dx, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let Self { gradient, dx } = self;
        let (layer, context) = (&gradient.layer, step.context);
        let [dweight, dbias] = [&layer.weight, &layer.bias].map(|place| &step.gradients[place.clone()]);
        let dx = memory.view_mut(*dx);
        match &gradient.pool {
            Some(pool) => {
                let backward = gradient.pooled(memory, pool);
                pool.layer.normalized_input(context, backward, dweight, dbias, dx);
            }
            None => batch_norm::backward_input(context, gradient.masked(memory), dweight, dbias, dx),
        }
    }

    fn explain(&self, _: &About, row: &mut PlanRow) {
        self.gradient.explain(row);
    }

    fn remarks(&self) -> Vec<String> {
        self.gradient.remarks()
    }
}
