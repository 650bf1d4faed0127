//! A session: a network with its parameters, ready to train, evaluate and predict.
//!
//! A session compiles a plan the first time it meets a mode and batch size, and keeps it. All plans share one
//! arena, since nothing in it outlives a step; a step allocates nothing once its plan exists.

use crate::algorithms;
use crate::buffer::Buffer;
use crate::error::{EngineError, Result};
use crate::graph::Graph;
use crate::kept::KeptWeights;
use crate::network::Network;
use crate::parameters::{self, NamedTensor, ParameterInfo};
use crate::plan::{Plan, PlanOptions};
use crate::program::Mode;
use crate::update::{self, Averaged, OptimizerState, ParameterGroup};
use fovea_kernels::loss::Loss;
use fovea_kernels::optimizer::Spans;
use fovea_kernels::{Isa, Pool};

/// Most images that one step takes: sizes multiplied with it stay far from overflow.
const MAX_BATCH: usize = 1 << 20;

/// Most threads of a session.
const MAX_THREADS: usize = 1024;

/// Plans kept; the oldest goes when another is compiled.
const MAX_PLANS: usize = 64;

/// How exactly convolutions are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Winograd's algorithm where it pays: 3 x 3 and 5 x 5 convolutions of stride 1 with multiples of 16
    /// channels. Its rounding error is about three times that of direct summation, a few millionths of the
    /// largest value.
    #[default]
    Fast,
    /// Direct summation only.
    Strict,
}

/// What a session runs on.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// Threads; by default as many as the process may use.
    pub threads: Option<usize>,
    /// Seed of the initial weights.
    pub seed: u64,
    /// Instruction set; by default the fastest of this machine.
    pub isa: Option<Isa>,
    /// How exactly convolutions are computed; [`Precision::Fast`] by default.
    pub precision: Precision,
    /// Algorithms to be used instead of those that the cost model chooses: pairs of a layer, or a layer with
    /// `.forward`, `.inputGradient` or `.weightGradient`, and `direct`, `scatter`, `packed` or `winograd`. A
    /// layer alone stands for all of its passes that can be computed so.
    pub algorithms: Vec<(String, String)>,
}

impl SessionOptions {
    /// Threads, as told or as many as the process may use. Errors: a number out of range.
    pub(crate) fn threads(&self) -> Result<usize> {
        let threads = self.threads.unwrap_or_else(Pool::default_threads);
        if (1..=MAX_THREADS).contains(&threads) {
            return Ok(threads);
        }
        Err(EngineError::argument("threads", format!("1 to {MAX_THREADS}"), threads))
    }
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
    pub(crate) next_state: Buffer,
    /// Training batches that each batch normalization has seen, in the graph's order.
    pub(crate) batches: Vec<i64>,
    /// Empty until the first training step.
    pub(crate) gradients: Buffer,
    /// The sum of the gradients of a batch's first parts; empty until a batch has several.
    pub(crate) accumulated: Buffer,
    pub(crate) optimizer: OptimizerState,
    pub(crate) averaged: Averaged,
    /// What [`Session::configure`] was told, and what follows from it for a step.
    pub(crate) groups: Vec<ParameterGroup>,
    pub(crate) frozen: Vec<String>,
    pub(crate) spans: Spans,
    pub(crate) arena: Buffer,
    pub(crate) kept: KeptWeights,
    /// Counts the changes of parameters and state.
    pub(crate) version: u64,
    pub(crate) plans: Vec<Plan>,
    pub(crate) losses: Vec<Loss>,
    /// False keeps every node an instruction of its own, for tests.
    pub(crate) fuse: bool,
}

impl Session {
    /// Checks the graph, starts the threads and draws the initial weights.
    ///
    /// Errors: a graph that cannot be run, threads out of range, an unknown `FOVEA_ISA`, an algorithm that
    /// cannot compute its layer, too little memory.
    pub fn new(graph: Graph, options: SessionOptions) -> Result<Self> {
        let threads = options.threads()?;
        let SessionOptions { seed, isa, precision, algorithms, .. } = options;
        let isa = isa.map_or_else(Isa::detect, Ok)?;
        let held = algorithms::understand(&algorithms, &graph.shapes()?, precision)?;
        let network = Network::holding(graph, isa, &held)?;
        let parameters = parameters::initialize(&network.parameters, seed)?;
        let state = parameters::initialize(&network.state, seed)?;
        let next_state = Buffer::new(network.state.len, "the running statistics")?;
        let losses = vec![Loss::default(); network.outputs.len()];
        let kept = KeptWeights::new(&network);
        let batches = vec![0; network.norms.len()];
        let spans = update::spans(&network, &[], &[])?;
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
            batches,
            gradients: Buffer::default(),
            accumulated: Buffer::default(),
            optimizer: OptimizerState::default(),
            averaged: Averaged::default(),
            groups: Vec::new(),
            frozen: Vec::new(),
            spans,
            arena: Buffer::default(),
            kept,
            version: 1,
            plans: Vec::new(),
            losses,
            fuse: true,
        })
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

    /// All parameters, then all running statistics, in PyTorch's layout; none where the system refuses the
    /// memory, which [`Session::save_weights`] reports.
    pub fn weights(&self) -> Vec<NamedTensor> {
        self.export_weights().unwrap_or_default()
    }

    /// As [`Session::weights`]. Errors: more memory than the system gives.
    pub(crate) fn export_weights(&self) -> Result<Vec<NamedTensor>> {
        let mut weights = parameters::export(&self.network.parameters, self.parameters.as_slice(), "")?;
        weights.extend(parameters::export(&self.network.state, self.state.as_slice(), "")?);
        Ok(weights)
    }

    /// The gradients of the last training step, named and laid out as the parameters; none before the first,
    /// and where the system refuses the memory.
    pub fn gradients(&self) -> Vec<NamedTensor> {
        match self.gradients.len() {
            0 => Vec::new(),
            _ => parameters::export(&self.network.parameters, self.gradients.as_slice(), "")
                .unwrap_or_default(),
        }
    }

    /// Position of the plan of a mode and batch size, compiled when it is not there yet.
    ///
    /// Errors: whatever prevents the plan; the session is then as it was.
    pub(crate) fn plan(&mut self, mode: Mode, batch: usize) -> Result<usize> {
        if let Some(index) = self.plans.iter().position(|plan| (plan.mode, plan.batch) == (mode, batch)) {
            return Ok(index);
        }
        if !(1..=MAX_BATCH).contains(&batch) {
            return Err(EngineError::argument("batchSize", format!("1 to {MAX_BATCH} images"), batch));
        }
        let (threads, fuse, precision) = (self.pool.at_once(), self.fuse, self.precision);
        let options = PlanOptions { mode, batch, threads, fuse, precision };
        let plan = Plan::compile(&self.network, options)?;
        let missing = self.kept.missing(&plan)?;
        self.grow_arena(plan.arena_len)?;
        self.kept.add(missing);
        if self.plans.len() == MAX_PLANS {
            self.plans.remove(0);
        }
        self.plans.push(plan);
        Ok(self.plans.len() - 1)
    }

    /// Makes the arena at least so long. Its old memory goes before the new comes, so that there are never
    /// both.
    ///
    /// Errors: more memory than the system gives; the arena is then as long as before.
    fn grow_arena(&mut self, len: usize) -> Result<()> {
        let purpose = "the feature maps";
        let before = self.arena.len();
        if len <= before {
            return Ok(());
        }
        self.arena = Buffer::default();
        let grown = Buffer::new(len, purpose);
        let (arena, result) = match grown {
            Ok(arena) => (Ok(arena), Ok(())),
            Err(refusal) => (Buffer::new(before, purpose), Err(refusal)),
        };
        match arena {
            Ok(arena) => self.arena = arena,
            // Not even the old memory came back: plans that would run in it go, and whoever needs them asks
            // anew.
            Err(_) => self.plans.clear(),
        }
        result
    }

    /// How many plans there are.
    #[cfg(test)]
    pub(crate) fn plan_count(&self) -> usize {
        self.plans.len()
    }

    /// Takes over parameters and running statistics, laid out as the network says; averages of others are given
    /// up.
    pub(crate) fn set_parameters(&mut self, parameters: Buffer, state: Buffer) {
        (self.parameters, self.state) = (parameters, state);
        self.averaged.exist = false;
        self.version += 1;
    }

    /// The plan at a position.
    pub(crate) fn plan_at(&self, index: usize) -> &Plan {
        &self.plans[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{lenet5, random_graph};
    use crate::train::StepOptions;
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
                session.train_step(&images, &[3, 0, 1], &StepOptions::default()).unwrap();
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
                session.train_step(&images, &[3, 0, 9], &StepOptions::default()).unwrap();
            }
            let unpadded = |buffer: &Buffer| {
                let tensors = parameters::export(&session.network.parameters, buffer.as_slice(), "").unwrap();
                let find = |name: &str| tensors.iter().find(|tensor| tensor.name == name).unwrap();
                let read = |name: &str| Ok(find(name).values.clone());
                parameters::import(&session.network.parameters, "", read).unwrap().as_slice().to_vec()
            };
            for buffer in [&session.parameters, &session.gradients, &session.optimizer.states[0]] {
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
}
