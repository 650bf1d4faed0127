//! Training steps of a session.

use crate::error::{EngineError, GraphError, Result};
use crate::execute::{Step, execute};
use crate::graph::OutputLoss;
use crate::program::Mode;
use crate::session::Session;
use fovea_kernels::Context;
use fovea_kernels::loss::Targets;
use fovea_kernels::optimizer::Sgd;
use std::ops::Range;
use std::time::Duration;

/// How gradients become updates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// As `torch.optim.SGD` without dampening.
    Sgd {
        /// Share of the velocity kept from step to step, from 0 to below 1.
        momentum: f32,
        /// Looks ahead along the velocity; needs momentum.
        nesterov: bool,
    },
}

/// Hyperparameters of a training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions<'a> {
    /// Step size, at least 0.
    pub learning_rate: f32,
    /// How gradients become updates.
    pub optimizer: Optimizer,
    /// Share of each parameter that the optimizer takes away; at least 0.
    pub weight_decay: f32,
    /// Share of the target probability that all classes have in common, from 0 to below 1; of cross-entropy losses.
    pub label_smoothing: f32,
    /// A factor of each class's loss, at least 0; of cross-entropy losses.
    pub class_weights: Option<&'a [f32]>,
}

impl Default for StepOptions<'_> {
    fn default() -> Self {
        Self {
            learning_rate: 0.01,
            optimizer: Optimizer::Sgd { momentum: 0.9, nesterov: false },
            weight_decay: 0.0,
            label_smoothing: 0.0,
            class_weights: None,
        }
    }
}

/// What a training step tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepResult {
    /// Mean loss over the batch; with several outputs, their weighted sum.
    pub loss: f32,
    /// Images whose largest value of the first output was the label's, or where the largest target was.
    pub correct: u32,
}

/// A batch and what is done with it.
pub(crate) struct Batch<'a> {
    pub images: &'a [f32],
    pub targets: Targets<'a>,
    pub options: StepOptions<'a>,
}

impl<'a> Batch<'a> {
    /// One that changes no parameter.
    pub fn new(images: &'a [f32], labels: &'a [u32]) -> Self {
        let options = StepOptions { learning_rate: 0.0, ..StepOptions::default() };
        Self { images, targets: Targets::Labels(labels), options }
    }
}

impl Session {
    /// One step of training: forward, loss, backward, update.
    ///
    /// - `images`: `[n, height, width, channels]`.
    /// - `targets`: labels `[n]`, classes of the outputs, or values `[n, ..]` in the shape of every output.
    ///
    /// Errors: wrong lengths, labels or options; [`EngineError::NotFinite`] when the loss or a gradient is infinite or NaN.
    /// After an error parameters and running statistics are those of before.
    pub fn train_step<'a>(
        &mut self,
        images: &[f32],
        targets: impl Into<Targets<'a>>,
        options: &StepOptions,
    ) -> Result<StepResult> {
        let targets = targets.into();
        self.check_options(options)?;
        let count = self.check_batch(images, targets, self.network.outputs.len())?;
        let index = self.plan(Mode::Train, count)?;
        let batch = Batch { images, targets, options: *options };
        self.next_state.as_mut_slice().copy_from_slice(self.state.as_slice());
        let program = &self.plan_at(index).program;
        let [forward, backward, update] =
            [program.forward_range(), program.backward_range(), program.update_range()];
        self.run(index, forward, &batch, None);
        let loss = self.mean_loss();
        if !loss.is_finite() {
            return Err(self.not_finite("loss", loss));
        }
        if !self.run(index, backward, &batch, None) {
            return Err(self.not_finite("gradient", f64::NAN));
        }
        self.run(index, update, &batch, None);
        std::mem::swap(&mut self.state, &mut self.next_state);
        self.batches.iter_mut().for_each(|batches| *batches = batches.saturating_add(1));
        self.version += 1;
        self.step += 1;
        Ok(StepResult { loss: loss as f32, correct: self.losses[0].correct })
    }

    /// Runs instructions of a plan; returns whether the gradients, if they were checked, are finite.
    pub(crate) fn run(
        &mut self,
        plan: usize,
        range: Range<usize>,
        batch: &Batch,
        durations: Option<&mut [Duration]>,
    ) -> bool {
        let StepOptions { learning_rate, optimizer, weight_decay, label_smoothing, class_weights } =
            batch.options;
        let Optimizer::Sgd { momentum, nesterov } = optimizer;
        let context = Context { isa: self.isa, pool: &self.pool };
        let plan = &self.plans[plan];
        let [parameters, state] = [self.parameters.as_slice(), self.state.as_slice()];
        self.kept.refresh(context, plan, parameters, state, self.version);
        let state = if plan.mode == Mode::Train { &mut self.next_state } else { &mut self.state };
        let mut step = Step {
            context,
            images: batch.images,
            targets: batch.targets,
            kept: &self.kept,
            state: state.as_mut_slice(),
            seed: self.seed,
            number: self.step,
            nodes: self.network.layers.len(),
            parameters: self.parameters.as_mut_slice(),
            gradients: self.gradients.as_mut_slice(),
            velocities: self.velocities.as_mut_slice(),
            optimizer: Sgd { learning_rate, momentum, weight_decay, nesterov },
            label_smoothing,
            class_weights,
            losses: &mut self.losses,
            finite: true,
        };
        execute(plan, range, self.arena.as_mut_slice(), &mut step, durations);
        step.finite
    }

    /// Runs a whole plan on a batch without changing the parameters, and notes how long each instruction took.
    pub(crate) fn time(&mut self, plan: usize, images: &[f32], labels: &[u32], durations: &mut [Duration]) {
        self.run(plan, 0..durations.len(), &Batch::new(images, labels), Some(durations));
    }

    /// The weighted sum of the outputs' mean losses.
    fn mean_loss(&self) -> f64 {
        let outputs = self.network.graph.outputs.iter().zip(&self.losses);
        outputs.map(|(output, loss)| f64::from(output.loss_weight) * loss.mean()).sum()
    }

    fn not_finite(&self, quantity: &'static str, value: f64) -> EngineError {
        EngineError::NotFinite { quantity, step: self.step + 1, value }
    }

    /// Checks the lengths of a batch, and that its targets fit the first `outputs` outputs; returns its images.
    pub(crate) fn check_batch(&self, images: &[f32], targets: Targets, outputs: usize) -> Result<usize> {
        let count = match targets {
            Targets::Labels(labels) => labels.len(),
            Targets::Values(_) => images.len() / self.image_len(),
        };
        self.check_length("images", count, self.image_len(), images.len())?;
        let shapes = (0..outputs).map(|output| self.output_shape(output));
        match targets {
            Targets::Values(values) => {
                let mut lengths = shapes.map(|shape| shape.iter().product());
                lengths.try_for_each(|length| self.check_length("targets", count, length, values.len()))?;
            }
            Targets::Labels(labels) => {
                if let Some(output) = shapes.clone().position(|shape| shape[..2] != [1, 1]) {
                    let node = self.graph().outputs[output].node.clone();
                    return Err(GraphError::NotLogits { node, received: self.output_shape(output) }.into());
                }
                let classes = shapes.map(|shape| shape[2]).min().unwrap_or(0);
                if let Some(image) = labels.iter().position(|&label| label as usize >= classes) {
                    return Err(EngineError::Label { classes, label: labels[image], image });
                }
            }
        }
        Ok(count)
    }

    pub(crate) fn check_length(
        &self,
        name: &'static str,
        images: usize,
        each: usize,
        received: usize,
    ) -> Result<()> {
        match images.checked_mul(each) {
            Some(expected) if expected == received => Ok(()),
            expected => {
                Err(EngineError::Length { name, images, expected: expected.unwrap_or(usize::MAX), received })
            }
        }
    }

    /// Checks hyperparameters by themselves, and those of cross-entropy against the outputs.
    fn check_options(&self, options: &StepOptions) -> Result<()> {
        options.check()?;
        let outputs = self.graph().outputs.iter().enumerate();
        let mut entropies = outputs.filter(|(_, output)| output.loss == OutputLoss::CrossEntropy {});
        let StepOptions { label_smoothing, class_weights, .. } = *options;
        if entropies.clone().next().is_none() {
            let none = "nothing, as no output has the cross-entropy loss,";
            if label_smoothing != 0.0 {
                return Err(EngineError::argument("labelSmoothing", none, label_smoothing));
            }
            if let Some(weights) = class_weights {
                return Err(EngineError::argument(
                    "classWeights",
                    none,
                    format!("{} weights", weights.len()),
                ));
            }
        }
        let Some(weights) = class_weights else { return Ok(()) };
        if let Some(weight) = weights.iter().find(|weight| !at_least_zero(**weight)) {
            return Err(EngineError::argument("classWeights", "finite numbers of at least 0", weight));
        }
        let other = entropies.find(|&(output, _)| self.output_shape(output)[2] != weights.len());
        match other.map(|(output, _)| self.output_shape(output)[2]) {
            Some(classes) => {
                Err(EngineError::argument("classWeights", format!("{classes} weights"), weights.len()))
            }
            None => Ok(()),
        }
    }
}

fn at_least_zero(value: f32) -> bool {
    value >= 0.0 && value.is_finite()
}

/// `Expected {expected} for "{name}" but received {received}.`, unless it is valid.
fn ensure(name: &'static str, valid: bool, expected: &str, received: f32) -> Result<()> {
    if valid { Ok(()) } else { Err(EngineError::argument(name, expected, received)) }
}

/// A number from 0 to below 1.
fn share(name: &'static str, value: f32) -> Result<()> {
    ensure(name, (0.0..1.0).contains(&value), "a number from 0 to below 1", value)
}

/// A finite number of at least 0.
fn amount(name: &'static str, value: f32) -> Result<()> {
    ensure(name, at_least_zero(value), "a finite number of at least 0", value)
}

impl StepOptions<'_> {
    fn check(&self) -> Result<()> {
        amount("learningRate", self.learning_rate)?;
        amount("weightDecay", self.weight_decay)?;
        share("labelSmoothing", self.label_smoothing)?;
        match self.optimizer {
            Optimizer::Sgd { momentum, nesterov } => {
                share("momentum", momentum)?;
                let valid = !nesterov || momentum > 0.0;
                ensure("momentum", valid, "a number above 0, as nesterov needs,", momentum)
            }
        }
    }
}
