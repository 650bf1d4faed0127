//! A session: a network with its parameters, ready to train, evaluate and predict.
//!
//! A session compiles a plan the first time it meets a mode and batch size, and keeps it. All plans share one arena,
//! since nothing in it outlives a step; a step allocates nothing once its plan exists.

use crate::buffer::Buffer;
use crate::error::{EngineError, Result};
use crate::execute::{Step, execute, result};
use crate::graph::Graph;
use crate::kept::KeptWeights;
use crate::network::Network;
use crate::parameters::{self, NamedTensor, ParameterInfo};
use crate::plan::{Plan, PlanOptions};
use crate::program::Mode;
use fovea_kernels::loss::Loss;
use fovea_kernels::optimizer::Sgd;
use fovea_kernels::{Context, Isa, Pool};
use std::ops::Range;
use std::time::Duration;

/// Most images that one step takes: sizes multiplied with it stay far from overflow.
const MAX_BATCH: usize = 1 << 20;

/// Most threads of a session.
const MAX_THREADS: usize = 1024;

/// Plans kept; the oldest goes when another is compiled.
const MAX_PLANS: usize = 64;

/// Floats of the largest feature map that a batch of [`Session::predict`] should have (32 MB: about what caches hold).
const PREDICT_FLOATS: usize = 1 << 23;

/// Most images that [`Session::predict`] runs at once.
const PREDICT_IMAGES: usize = 256;

/// How exactly convolutions are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Winograd's algorithm where it pays: 3 x 3 convolutions of stride 1 with 64 channels or more. Its rounding error is
    /// about three times that of direct summation, a few millionths of the largest value.
    #[default]
    Fast,
    /// Direct summation only.
    Strict,
}

/// What a session runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionOptions {
    /// Threads; by default as many as the process may use.
    pub threads: Option<usize>,
    /// Seed of the initial weights.
    pub seed: u64,
    /// Instruction set; by default the fastest of this machine.
    pub isa: Option<Isa>,
    /// How exactly convolutions are computed; [`Precision::Fast`] by default.
    pub precision: Precision,
}

/// Hyperparameters of a step of stochastic gradient descent, as `torch.optim.SGD` and
/// `torch.nn.CrossEntropyLoss`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdOptions {
    /// Step size, at least 0.
    pub learning_rate: f32,
    /// Share of the velocity kept from step to step, from 0 to below 1.
    pub momentum: f32,
    /// This times the parameter is added to the gradient; at least 0.
    pub weight_decay: f32,
    /// Looks ahead along the velocity; needs momentum.
    pub nesterov: bool,
    /// Share of the target probability that all classes have in common, from 0 to below 1.
    pub label_smoothing: f32,
}

impl Default for SgdOptions {
    fn default() -> Self {
        Self { learning_rate: 0.01, momentum: 0.9, weight_decay: 0.0, nesterov: false, label_smoothing: 0.0 }
    }
}

/// What a training step tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepResult {
    /// Mean loss over the batch; with several outputs, their weighted sum.
    pub loss: f32,
    /// Images whose most probable class, by the first output, was the label.
    pub correct: u32,
}

/// What an evaluation of a batch tells about the first output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchEvaluation {
    /// Sum of the images' cross-entropies.
    pub loss_sum: f64,
    /// Images whose most probable class was the label.
    pub correct: u32,
    /// Images whose label was among the five most probable classes.
    pub top5: u32,
}

/// A network with its parameters.
pub struct Session {
    pub(crate) network: Network,
    pub(crate) isa: Isa,
    pub(crate) pool: Pool,
    precision: Precision,
    pub(crate) seed: u64,
    /// Updates applied so far.
    pub(crate) step: u64,
    pub(crate) parameters: Buffer,
    /// Running statistics, and those of the step that is being made: they count once it has succeeded.
    pub(crate) state: Buffer,
    next_state: Buffer,
    /// Empty until the first training step.
    pub(crate) gradients: Buffer,
    pub(crate) velocities: Buffer,
    arena: Buffer,
    kept: KeptWeights,
    /// Counts the changes of parameters and state.
    version: u64,
    plans: Vec<Plan>,
    losses: Vec<Loss>,
    /// False keeps every node an instruction of its own, for tests.
    pub(crate) fuse: bool,
}

/// A batch and what is done with it.
struct Batch<'a> {
    images: &'a [f32],
    labels: &'a [u32],
    options: SgdOptions,
}

impl Session {
    /// Checks the graph, starts the threads and draws the initial weights.
    ///
    /// Errors: a graph that cannot be run, threads out of range, an unknown `FOVEA_ISA`, too little memory.
    pub fn new(graph: Graph, options: SessionOptions) -> Result<Self> {
        let SessionOptions { threads, seed, isa, precision } = options;
        let threads = threads.unwrap_or_else(Pool::default_threads);
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(EngineError::argument("threads", format!("1 to {MAX_THREADS}"), threads));
        }
        let isa = isa.map_or_else(Isa::detect, Ok)?;
        let network = Network::new(graph, isa)?;
        let parameters = parameters::initialize(&network.parameters, seed)?;
        let state = parameters::initialize(&network.state, seed)?;
        let next_state = Buffer::new(network.state.len, "the running statistics")?;
        let losses = vec![Loss::default(); network.outputs.len()];
        let kept = KeptWeights::new(&network);
        Ok(Self {
            network,
            isa,
            pool: Pool::new(threads),
            precision,
            seed,
            step: 0,
            parameters,
            state,
            next_state,
            gradients: Buffer::default(),
            velocities: Buffer::default(),
            arena: Buffer::default(),
            kept,
            version: 1,
            plans: Vec::new(),
            losses,
            fuse: true,
        })
    }

    /// One step of training: forward, loss, backward, update.
    ///
    /// - `images`: `[n, height, width, channels]`.
    /// - `labels`: `[n]`, classes of the outputs.
    ///
    /// Errors: wrong lengths, labels or options; [`EngineError::NotFinite`] when the loss or a gradient is infinite or NaN.
    /// After an error parameters and running statistics are those of before.
    pub fn train_step(&mut self, images: &[f32], labels: &[u32], options: &SgdOptions) -> Result<StepResult> {
        options.check()?;
        self.check_batch(images, labels, self.network.outputs.len())?;
        let index = self.plan(Mode::Train, labels.len())?;
        let batch = Batch { images, labels, options: *options };
        self.next_state.as_mut_slice().copy_from_slice(self.state.as_slice());
        let program = &self.plans[index].program;
        let [forward, backward, update] =
            [program.forward_range(), program.backward_range(), program.update_range()];
        self.run(index, forward, &batch, None);
        let loss = self.mean_loss(labels.len());
        if !loss.is_finite() {
            return Err(self.not_finite("loss", loss));
        }
        if !self.run(index, backward, &batch, None) {
            return Err(self.not_finite("gradient", f64::NAN));
        }
        self.run(index, update, &batch, None);
        std::mem::swap(&mut self.state, &mut self.next_state);
        self.version += 1;
        self.step += 1;
        Ok(StepResult { loss: loss as f32, correct: self.losses[0].correct })
    }

    /// Loss and accuracy of a batch by the first output; `predictions`, `[n]`, receives the most probable class of each
    /// image, the lowest among equals.
    ///
    /// Errors: wrong lengths or labels, an output that is not a row of logits.
    pub fn evaluate_batch(
        &mut self,
        images: &[f32],
        labels: &[u32],
        predictions: &mut [u32],
    ) -> Result<BatchEvaluation> {
        self.check_batch(images, labels, 1)?;
        self.check_length("predictions", labels.len(), 1, predictions.len())?;
        let index = self.plan(Mode::Evaluate, labels.len())?;
        let program = &self.plans[index].program;
        let range = program.forward_range();
        self.run(index, range, &Batch { images, labels, options: SgdOptions::default() }, None);
        let logits = result(&self.plans[index], self.arena.as_slice(), images);
        let mut evaluation = BatchEvaluation { loss_sum: self.losses[0].sum, correct: 0, top5: 0 };
        let rows = logits.chunks_exact(logits.len() / labels.len());
        for ((row, &label), prediction) in rows.zip(labels).zip(predictions) {
            *prediction = most_probable(row);
            let rank = rank(row, label as usize);
            evaluation.correct += u32::from(rank < 1);
            evaluation.top5 += u32::from(rank < 5);
        }
        Ok(evaluation)
    }

    /// The first output for any number of images.
    ///
    /// Shapes: images `[count, height, width, channels]`, output `[count, ..]` with [`Session::output_len`] values an
    /// image.
    ///
    /// Errors: wrong lengths.
    pub fn predict(&mut self, images: &[f32], count: usize, output: &mut [f32]) -> Result<()> {
        let (image_len, output_len) = (self.image_len(), self.output_len());
        self.check_length("images", count, image_len, images.len())?;
        self.check_length("output", count, output_len, output.len())?;
        let at_once = self.predict_batch();
        let parts = images.chunks(at_once * image_len).zip(output.chunks_mut(at_once * output_len));
        for (images, output) in parts {
            self.infer_batch(images, images.len() / image_len, output)?;
        }
        Ok(())
    }

    /// The first output for as many images, all at once; the lengths are right.
    pub(crate) fn infer_batch(&mut self, images: &[f32], count: usize, output: &mut [f32]) -> Result<()> {
        let index = self.plan(Mode::Infer, count)?;
        let range = self.plans[index].program.forward_range();
        self.run(index, range, &Batch { images, labels: &[], options: SgdOptions::default() }, None);
        output.copy_from_slice(result(&self.plans[index], self.arena.as_slice(), images));
        Ok(())
    }

    /// Values of an image.
    pub fn image_len(&self) -> usize {
        self.network.graph.input.iter().product()
    }

    /// Values of the first output, for one image.
    pub fn output_len(&self) -> usize {
        self.output_shape(0).iter().product()
    }

    /// Shape of an output for one image, `[height, width, channels]`.
    pub(crate) fn output_shape(&self, output: usize) -> [usize; 3] {
        self.network.shapes.nodes[self.network.outputs[output]].output
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.network.graph
    }

    /// Threads, the caller's among them.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How exactly convolutions are computed.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Seed of the initial weights.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Training steps done, those before a checkpoint included.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Names and shapes of all parameters, in the graph's order.
    pub fn parameters(&self) -> Vec<ParameterInfo> {
        let info = |parameter: &crate::network::Parameter| ParameterInfo {
            name: parameter.name.clone(),
            shape: parameter.shape.clone(),
        };
        self.network.parameters.tensors.iter().map(info).collect()
    }

    /// All parameters, then all running statistics, in PyTorch's layout.
    pub fn weights(&self) -> Vec<NamedTensor> {
        let mut weights = parameters::export(&self.network.parameters, self.parameters.as_slice(), "");
        weights.extend(parameters::export(&self.network.state, self.state.as_slice(), ""));
        weights
    }

    /// The gradients of the last training step, named and laid out as the parameters; none before the first.
    pub fn gradients(&self) -> Vec<NamedTensor> {
        match self.gradients.len() {
            0 => Vec::new(),
            _ => parameters::export(&self.network.parameters, self.gradients.as_slice(), ""),
        }
    }

    /// Images that [`Session::predict`] runs at once: a power of two, so that few plans serve every count.
    fn predict_batch(&self) -> usize {
        let outputs = self.network.shapes.nodes.iter().map(|node| node.output);
        let largest = outputs.chain([self.network.graph.input]).map(|shape| shape.iter().product()).max();
        let images = PREDICT_FLOATS / largest.unwrap_or(1).max(1);
        1 << images.clamp(1, PREDICT_IMAGES).ilog2()
    }

    /// Position of the plan of a mode and batch size, compiled when it is not there yet.
    pub(crate) fn plan(&mut self, mode: Mode, batch: usize) -> Result<usize> {
        if let Some(index) = self.plans.iter().position(|plan| (plan.mode, plan.batch) == (mode, batch)) {
            return Ok(index);
        }
        if !(1..=MAX_BATCH).contains(&batch) {
            return Err(EngineError::argument("batchSize", format!("1 to {MAX_BATCH} images"), batch));
        }
        let (threads, fuse, precision) = (self.threads(), self.fuse, self.precision);
        let options = PlanOptions { mode, batch, threads, fuse, precision };
        let plan = Plan::compile(&self.network, options)?;
        self.kept.reserve(&plan)?;
        if mode == Mode::Train {
            self.prepare_training()?;
        }
        if plan.arena_len > self.arena.len() {
            self.arena = Buffer::default(); // the old memory goes before the new comes
            self.arena = Buffer::new(plan.arena_len, "the feature maps")?;
        }
        if self.plans.len() == MAX_PLANS {
            self.plans.remove(0);
        }
        self.plans.push(plan);
        Ok(self.plans.len() - 1)
    }

    /// Takes over parameters and running statistics, laid out as the network says.
    pub(crate) fn set_parameters(&mut self, parameters: Buffer, state: Buffer) {
        (self.parameters, self.state) = (parameters, state);
        self.version += 1;
    }

    /// Makes room for gradients and velocities.
    pub(crate) fn prepare_training(&mut self) -> Result<()> {
        if self.gradients.len() < self.network.parameters.len {
            self.gradients = Buffer::new(self.network.parameters.len, "the gradients")?;
            self.velocities = Buffer::new(self.network.parameters.len, "the velocities")?;
        }
        Ok(())
    }

    /// The plan at a position.
    pub(crate) fn plan_at(&self, index: usize) -> &Plan {
        &self.plans[index]
    }

    /// Runs instructions of a plan; returns whether the gradients, if they were checked, are finite.
    fn run(
        &mut self,
        plan: usize,
        range: Range<usize>,
        batch: &Batch,
        durations: Option<&mut [Duration]>,
    ) -> bool {
        let SgdOptions { learning_rate, momentum, weight_decay, nesterov, label_smoothing } = batch.options;
        let context = Context { isa: self.isa, pool: &self.pool };
        let plan = &self.plans[plan];
        let [parameters, state] = [&self.parameters, &self.state].map(Buffer::as_slice);
        self.kept.refresh(context, plan, parameters, state, self.version);
        let state = if plan.mode == Mode::Train { &mut self.next_state } else { &mut self.state };
        let mut step = Step {
            context,
            images: batch.images,
            labels: batch.labels,
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
            losses: &mut self.losses,
            finite: true,
        };
        execute(plan, range, self.arena.as_mut_slice(), &mut step, durations);
        step.finite
    }

    /// Runs a whole plan on a batch without changing the parameters, and notes how long each instruction took.
    pub(crate) fn time(&mut self, plan: usize, images: &[f32], labels: &[u32], durations: &mut [Duration]) {
        let options = SgdOptions { learning_rate: 0.0, ..SgdOptions::default() };
        self.run(plan, 0..durations.len(), &Batch { images, labels, options }, Some(durations));
    }

    /// The weighted sum of the outputs' mean losses.
    fn mean_loss(&self, images: usize) -> f64 {
        let outputs = self.network.graph.outputs.iter().zip(&self.losses);
        outputs.map(|(output, loss)| f64::from(output.loss_weight) * loss.sum / images as f64).sum()
    }

    fn not_finite(&self, quantity: &'static str, value: f64) -> EngineError {
        EngineError::NotFinite { quantity, step: self.step + 1, value }
    }

    /// Checks the lengths of a batch, and that its labels are classes of the first `outputs` outputs.
    fn check_batch(&self, images: &[f32], labels: &[u32], outputs: usize) -> Result<()> {
        self.check_length("images", labels.len(), self.image_len(), images.len())?;
        let classes = (0..outputs).map(|output| self.output_shape(output)[2]).min().unwrap_or(0);
        match labels.iter().position(|&label| label as usize >= classes) {
            Some(image) => Err(EngineError::Label { classes, label: labels[image], image }),
            None => Ok(()),
        }
    }

    fn check_length(&self, name: &'static str, images: usize, each: usize, received: usize) -> Result<()> {
        match images.checked_mul(each) {
            Some(expected) if expected == received => Ok(()),
            expected => {
                Err(EngineError::Length { name, images, expected: expected.unwrap_or(usize::MAX), received })
            }
        }
    }
}

impl SgdOptions {
    fn check(&self) -> Result<()> {
        let share = 0.0..1.0;
        let at_least_zero = |value: f32| value >= 0.0 && value.is_finite();
        let checks = [
            (
                "learningRate",
                at_least_zero(self.learning_rate),
                "a finite number of at least 0",
                self.learning_rate,
            ),
            ("momentum", share.contains(&self.momentum), "a number from 0 to below 1", self.momentum),
            (
                "weightDecay",
                at_least_zero(self.weight_decay),
                "a finite number of at least 0",
                self.weight_decay,
            ),
            (
                "labelSmoothing",
                share.contains(&self.label_smoothing),
                "a number from 0 to below 1",
                self.label_smoothing,
            ),
            (
                "momentum",
                !self.nesterov || self.momentum > 0.0,
                "a number above 0, as nesterov needs,",
                self.momentum,
            ),
        ];
        match checks.into_iter().find(|(_, valid, ..)| !valid) {
            Some((name, _, expected, received)) => Err(EngineError::argument(name, expected, received)),
            None => Ok(()),
        }
    }
}

/// The first of the largest values.
fn most_probable(row: &[f32]) -> u32 {
    let larger = |best: usize, at: usize| if row[at] > row[best] { at } else { best };
    (0..row.len()).reduce(larger).unwrap_or(0) as u32
}

/// How many classes come before `label`: those with a larger value, or an equal one earlier in the row. A NaN comes
/// before everything as another class and after everything as the label.
fn rank(row: &[f32], label: usize) -> usize {
    if row[label].is_nan() {
        return usize::MAX;
    }
    let behind = |at: usize, value: f32| value < row[label] || (value == row[label] && at >= label);
    row.iter().enumerate().filter(|&(at, &value)| !behind(at, value)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{lenet5, random_graph};
    use fovea_reference::check::uniform;

    #[test]
    fn a_session_may_move_to_another_thread() {
        fn is_send<T: Send>() {}
        is_send::<Session>();
        is_send::<EngineError>();
    }

    #[test]
    fn no_instruction_reads_what_none_has_written_before() {
        // Memory that held garbage before a step must not show in its results.
        for (seed, isa) in (0..12).flat_map(|seed| Isa::available().into_iter().map(move |isa| (seed, isa))) {
            let outcome = |garbage: f32| {
                let options = SessionOptions { threads: Some(2), isa: Some(isa), ..Default::default() };
                let graph = Graph::from_json(&random_graph(seed)).unwrap();
                let mut session = Session::new(graph, options).unwrap();
                session.plan(Mode::Train, 3).unwrap();
                session.arena.as_mut_slice().fill(garbage);
                let images = uniform(seed, 3 * session.image_len());
                session.train_step(&images, &[3, 0, 1], &SgdOptions::default()).unwrap();
                session.weights()
            };
            assert!(outcome(f32::NAN) == outcome(1e30), "seed {seed} {}", isa.name());
        }
    }

    #[test]
    fn padding_of_the_kernels_layout_stays_zero() {
        for isa in Isa::available() {
            let options = SessionOptions { threads: Some(2), isa: Some(isa), ..Default::default() };
            let mut session = Session::new(Graph::from_json(&lenet5()).unwrap(), options).unwrap();
            let images = uniform(1, 3 * session.image_len());
            for _ in 0..3 {
                session.train_step(&images, &[3, 0, 9], &SgdOptions::default()).unwrap();
            }
            let unpadded = |buffer: &Buffer| {
                let tensors = parameters::export(&session.network.parameters, buffer.as_slice(), "");
                let find = |name: &str| tensors.iter().find(|tensor| tensor.name == name).unwrap();
                let read = |name: &str| Ok(find(name).values.clone());
                parameters::import(&session.network.parameters, "", read).unwrap().as_slice().to_vec()
            };
            for buffer in [&session.parameters, &session.gradients, &session.velocities] {
                assert_eq!(unpadded(buffer), buffer.as_slice(), "{}", isa.name());
            }
        }
    }

    #[test]
    fn plans_are_kept_and_the_oldest_goes_when_there_are_many() {
        let mut session = Session::new(Graph::from_json(&lenet5()).unwrap(), Default::default()).unwrap();
        assert_eq!([3, 4, 3].map(|batch| session.plan(Mode::Infer, batch).unwrap()), [0, 1, 0]);
        for batch in 10..10 + MAX_PLANS {
            session.plan(Mode::Infer, batch).unwrap();
        }
        assert_eq!((session.plans.len(), session.plans[0].batch), (MAX_PLANS, 10));
    }

    #[test]
    fn equal_logits_rank_by_position_and_nan_never_counts_as_right() {
        let row = [1.0, 3.0, 3.0, f32::NAN, -2.0];
        assert_eq!(most_probable(&row[..3]), 1);
        assert_eq!([0, 1, 2].map(|label| rank(&row[..3], label)), [2, 0, 1]);
        assert_eq!((rank(&row, 1), rank(&row, 3), rank(&row, 4)), (1, usize::MAX, 4));
    }
}
