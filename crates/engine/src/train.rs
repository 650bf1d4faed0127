//! Training steps of a session.

use crate::buffer::Buffer;
use crate::error::{EngineError, GraphError, Result};
use crate::execute::{Step, execute};
use crate::graph::OutputLoss;
use crate::ops::batch_norm::BatchNormLayer;
use crate::program::Mode;
use crate::session::Session;
use crate::update::Updater;
use fovea_kernels::Context;
use fovea_kernels::loss::Targets;
use fovea_kernels::optimizer::{Optimizer, accumulate};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Hyperparameters of a training step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOptions<'a> {
    /// Step size, at least 0.
    pub learning_rate: f32,
    /// How gradients become updates.
    pub optimizer: Optimizer,
    /// Share of each parameter that the optimizer takes away; at least 0.
    pub weight_decay: f32,
    /// Share of the target probability that all classes have in common, from 0 to below 1; of cross-entropy
    /// losses.
    pub label_smoothing: f32,
    /// A factor of each class's loss, at least 0; of cross-entropy losses.
    pub class_weights: Option<&'a [f32]>,
    /// The gradients of all parameters together are scaled down to this norm where theirs is larger; above 0.
    pub clip_norm: Option<f32>,
    /// Parts of the batch, as equal as can be, that are computed one after the other to save memory. Their
    /// gradients are added up to that of the batch; batch normalizations see each part by itself. At least 1.
    pub accumulate: usize,
    /// Share that exponential moving averages of the weights keep of themselves in every step, from 0 to below
    /// 1; there are none without it.
    pub ema: Option<f32>,
}

impl Default for StepOptions<'_> {
    fn default() -> Self {
        Self {
            learning_rate: 0.01,
            optimizer: Optimizer::Sgd { momentum: 0.9, nesterov: false },
            weight_decay: 0.0,
            label_smoothing: 0.0,
            class_weights: None,
            clip_norm: None,
            accumulate: 1,
            ema: None,
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

/// A batch, or a part of one, and what is done with it.
pub(crate) struct Batch<'a> {
    pub images: &'a [f32],
    pub targets: Targets<'a>,
    pub options: StepOptions<'a>,
    /// Its number among all parts of all steps: the key of its dropouts.
    pub number: u64,
    /// Images and targets of the step that it is a part of.
    pub step: (usize, Targets<'a>),
}

impl<'a> Batch<'a> {
    /// A whole one, of so many images, whose update would change no parameter.
    pub fn new(images: &'a [f32], count: usize, targets: impl Into<Targets<'a>>) -> Self {
        let options = StepOptions { learning_rate: 0.0, ..StepOptions::default() };
        let targets = targets.into();
        Self { images, targets, options, number: 0, step: (count, targets) }
    }
}

impl Session {
    /// One step of training: forward, loss, backward, update.
    ///
    /// - `images`: `[n, height, width, channels]`.
    /// - `targets`: labels `[n]`, classes of the outputs, or values `[n, ..]` in the shape of every output.
    ///
    /// Errors: wrong lengths, labels or options, a batch as in [`Session::check_training`];
    /// [`EngineError::NotFinite`] when the loss or a gradient is infinite or NaN. After an error parameters and
    /// running statistics are those of before.
    pub fn train_step<'a>(
        &mut self,
        images: &[f32],
        targets: impl Into<Targets<'a>>,
        options: &StepOptions,
    ) -> Result<StepResult> {
        let targets = targets.into();
        self.check_options(options)?;
        let count = self.check_batch(images, targets, self.network.outputs.len())?;
        check_weights(targets, options)?;
        self.check_training(count, options.accumulate)?;
        let parts = options.accumulate.min(count).max(1);
        let result = self.gradients_of(images, targets, options, parts)?;
        let plan = self.plan(Mode::Train, part(count, parts, parts - 1).len())?;
        let update = self.plan_at(plan).program.update_range();
        let batch = Batch { options: *options, ..Batch::new(images, count, targets) };
        self.run(plan, update, &batch, None);
        std::mem::swap(&mut self.state, &mut self.next_state);
        for (norm, batches) in self.network.norms.iter().zip(&mut self.batches) {
            // As in PyTorch, every part is a batch, and a frozen layer sees none.
            let seen = if self.network.trains(norm.parameters()) { parts as i64 } else { 0 };
            *batches = batches.saturating_add(seen);
        }
        if let Some(decay) = options.ema {
            self.follow(decay);
        }
        self.optimizer.updates += 1;
        self.optimizer.loaded = false;
        self.version += 1;
        self.step += 1;
        Ok(result)
    }

    /// The loss of a batch and its gradients, computed in so many parts; and the running statistics after it,
    /// apart from those that count.
    fn gradients_of(
        &mut self,
        images: &[f32],
        targets: Targets,
        options: &StepOptions,
        parts: usize,
    ) -> Result<StepResult> {
        let count = images.len() / self.image_len();
        // What can be refused comes before what changes something: the plans of the smallest part and of the
        // largest, which is the last.
        self.plan(Mode::Train, part(count, parts, 0).len())?;
        self.plan(Mode::Train, part(count, parts, parts - 1).len())?;
        self.prepare_update(&options.optimizer, options.ema.is_some(), parts > 1)?;
        self.next_state.as_mut_slice().copy_from_slice(self.state.as_slice());
        let (mut loss, mut correct) = (0.0, 0);
        for index in 0..parts {
            let range = part(count, parts, index);
            let batch = Batch {
                images: of_images(images, &range, count),
                targets: match targets {
                    Targets::Labels(labels) => Targets::Labels(&labels[range.clone()]),
                    Targets::Values(values) => Targets::Values(of_images(values, &range, count)),
                },
                options: *options,
                number: self.step.wrapping_mul(parts as u64) + index as u64,
                step: (count, targets),
            };
            let plan = self.plan(Mode::Train, range.len())?;
            let program = &self.plan_at(plan).program;
            let [forward, backward] = [program.forward_range(), program.backward_range()];
            self.run(plan, forward, &batch, None);
            loss += self.mean_loss();
            if !loss.is_finite() {
                return Err(self.not_finite("loss", loss));
            }
            if !self.run(plan, backward, &batch, None) {
                return Err(self.not_finite("gradient", f64::NAN));
            }
            correct += self.losses[0].correct;
            self.accumulate(index, parts);
        }
        Ok(StepResult { loss: loss as f32, correct })
    }

    /// Checks that batches of so many images, each computed in so many parts, can be trained on.
    ///
    /// Errors: a batch normalization that learns and would see a single value of each channel, whose variance
    /// is zero.
    pub fn check_training(&self, images: usize, accumulate: usize) -> Result<()> {
        let parts = accumulate.min(images).max(1);
        let learns = |norm: &&Arc<BatchNormLayer>| norm.single && self.network.trains(norm.parameters());
        let Some(norm) = self.network.norms.iter().find(learns) else { return Ok(()) };
        match (images, parts, images / parts) {
            (1, ..) => {
                let expected = format!(
                    "more than 1 image in every batch, as \"{}\" normalizes a single pixel by the batch's statistics \
                     (dropLast leaves out a smaller last batch),",
                    norm.name
                );
                Err(EngineError::argument("batchSize", expected, "a batch of 1"))
            }
            (_, _, 1) => {
                let expected = format!(
                    "parts of more than 1 image, as \"{}\" normalizes a single pixel by the part's statistics,",
                    norm.name
                );
                Err(EngineError::argument(
                    "accumulate",
                    expected,
                    format!("{parts} parts of {images} images"),
                ))
            }
            _ => Ok(()),
        }
    }

    /// Adds the gradients of a part to those before it; those of the last stand where an update reads them.
    fn accumulate(&mut self, index: usize, parts: usize) {
        let context = Context { isa: self.isa, pool: &self.pool };
        let (mut sum, mut term) = (&mut self.accumulated, &mut self.gradients);
        match (index, index + 1 == parts) {
            (0, true) => {}
            (0, false) => std::mem::swap(sum, term),
            (_, last) => {
                if last {
                    std::mem::swap(&mut sum, &mut term);
                }
                accumulate(context, sum.as_mut_slice(), term.as_slice());
            }
        }
    }

    /// Runs instructions of a plan; returns whether the gradients, if they were checked, are finite.
    pub(crate) fn run(
        &mut self,
        plan: usize,
        range: Range<usize>,
        batch: &Batch,
        durations: Option<&mut [Duration]>,
    ) -> bool {
        let StepOptions { learning_rate, optimizer, weight_decay, clip_norm, .. } = batch.options;
        let update = Updater {
            optimizer,
            learning_rate,
            weight_decay,
            clip_norm,
            number: self.optimizer.updates + 1,
            spans: &mut self.spans,
            states: self.optimizer.states.each_mut().map(Buffer::as_mut_slice),
        };
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
            number: batch.number,
            whole: batch.step,
            nodes: self.network.layers.len(),
            parameters: self.parameters.as_mut_slice(),
            gradients: self.gradients.as_mut_slice(),
            update,
            label_smoothing: batch.options.label_smoothing,
            class_weights: batch.options.class_weights,
            losses: &mut self.losses,
            finite: true,
        };
        execute(plan, range, self.arena.as_mut_slice(), &mut step, durations);
        step.finite
    }

    /// Runs a whole plan on a batch and notes how long each instruction took. Its update writes parameters,
    /// finite or not.
    ///
    /// Errors: more memory than the system gives.
    pub(crate) fn time(&mut self, plan: usize, batch: &Batch, durations: &mut [Duration]) -> Result<()> {
        if self.plan_at(plan).mode == Mode::Train {
            self.prepare_update(&batch.options.optimizer, false, false)?;
        }
        self.run(plan, 0..durations.len(), batch, Some(durations));
        Ok(())
    }

    /// The weighted sum of the outputs' losses, or of what a part of a batch adds to their means.
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

/// A mean by class weights needs a label that has one.
fn check_weights(targets: Targets, options: &StepOptions) -> Result<()> {
    let (Targets::Labels(labels @ [_, ..]), Some(weights)) = (targets, options.class_weights) else {
        return Ok(());
    };
    if labels.iter().any(|&label| weights[label as usize] > 0.0) {
        return Ok(());
    }
    let expected = "a weight above 0 for some label of every batch";
    Err(EngineError::argument(
        "classWeights",
        expected,
        format!("{} labels that weigh nothing", labels.len()),
    ))
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

/// Nesterov's momentum is one.
fn look_ahead(momentum: f32, nesterov: bool) -> Result<()> {
    let valid = !nesterov || momentum > 0.0;
    ensure("momentum", valid, "a number above 0, as nesterov needs,", momentum)
}

impl StepOptions<'_> {
    fn check(&self) -> Result<()> {
        amount("learningRate", self.learning_rate)?;
        amount("weightDecay", self.weight_decay)?;
        share("labelSmoothing", self.label_smoothing)?;
        if let Some(norm) = self.clip_norm {
            ensure("clipNorm", norm > 0.0 && norm.is_finite(), "a finite number above 0", norm)?;
        }
        if let Some(decay) = self.ema {
            share("ema", decay)?;
        }
        if self.accumulate == 0 {
            return Err(EngineError::argument("accumulate", "a count of at least 1", 0));
        }
        match self.optimizer {
            Optimizer::Sgd { momentum, nesterov } => {
                share("momentum", momentum)?;
                look_ahead(momentum, nesterov)
            }
            Optimizer::Adam(moments) | Optimizer::AdamW(moments) | Optimizer::Lamb(moments) => {
                share("beta1", moments.beta1)?;
                share("beta2", moments.beta2)?;
                amount("epsilon", moments.epsilon)
            }
            Optimizer::RmsProp { alpha, epsilon, momentum, .. } => {
                share("alpha", alpha)?;
                share("momentum", momentum)?;
                amount("epsilon", epsilon)
            }
            Optimizer::Lars { momentum, nesterov, trust } => {
                share("momentum", momentum)?;
                look_ahead(momentum, nesterov)?;
                ensure("trust", trust > 0.0 && trust.is_finite(), "a finite number above 0", trust)
            }
        }
    }
}

/// The images of a part of a batch.
fn part(count: usize, parts: usize, index: usize) -> Range<usize> {
    index * count / parts..(index + 1) * count / parts
}

/// The values that belong to some of `count` images, of which there may be none.
fn of_images<'a>(values: &'a [f32], range: &Range<usize>, count: usize) -> &'a [f32] {
    let each = values.len() / count.max(1);
    &values[range.start * each..range.end * each]
}
