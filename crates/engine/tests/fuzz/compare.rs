//! A case on the engine, on every instruction set, in both precisions, on one thread and two, in training,
//! inference and evaluation; and what the oracle says of it.
//!
//! What is right to which digit? A network may hardly enlarge a rounding error, or a thousandfold: a batch
//! normalization divides it by the deviation of a few values, a bias before one has no gradient but rounding
//! errors. So each case says itself: the oracle runs twice more with every value, of the forward and the
//! backward pass, moved at random by up to [`UNIT`] of the largest of its tensor, which is what sums in f32 and
//! Winograd's algorithm err by. A tensor may differ by [`TIMES`] what the largest of its values was moved by
//! that, and by [`FLOOR`] of its largest value. It may differ more only where a derivative jumps: a value that
//! may be on either side of a kink (of a ReLU, or between the two largest of a window), by [`NEAR`] what
//! rounding moved its map, is taken to the other side, and what that changes is allowed, twice.

use super::Case;
use crate::common::oracle::{self, Judge, Maps, Oracle, Purposes, Rounding};
use fovea_engine::{
    EngineError, Graph, GraphError, NamedTensor, Node, Op, Precision, Session, SessionOptions,
};
use fovea_engine::{StepOptions, Targets, Tensor};
use fovea_kernels::Isa;
use fovea_reference::check::{uniform, widen};
use fovea_reference::loss as reference;
use std::collections::{BTreeMap, HashMap};

/// What a value is moved by, at most, of the largest of its tensor.
const UNIT: f64 = 5e-7;

/// How often a rounded run may be exceeded: the runs draw two of many roundings.
const TIMES: f64 = 30.0;

/// How often what rounding moved a map a value may be away from a kink to be taken to its other side.
const NEAR: f64 = 10.0;

/// Share of a tensor's largest value that it may always differ by.
const FLOOR: f64 = 2e-5;

/// Largest value of a network that is compared: beyond, f32 loses what f64 keeps.
const LARGEST: f64 = 1e5;

/// A tolerance beyond this share of the tensor's largest value is counted as blurred.
const BLURRED: f64 = 0.02;

/// A case that is wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What is wrong, in a word.
    pub kind: &'static str,
    pub text: String,
}

/// What a run has seen.
#[derive(Default)]
pub struct Tally {
    pub cases: u64,
    /// Cases with a softmax or without parameters, which cannot be trained.
    pub untrained: u64,
    /// Cases whose values are too large to be compared.
    pub skipped: u64,
    /// Cases with a value near a kink.
    pub at_kink: u64,
    /// Tensors compared, and those with a tolerance so large that an error might hide in it.
    pub tensors: u64,
    pub blurred: u64,
    /// The largest share of a tolerance that a difference took.
    pub closest: f64,
    /// How many cases have an operation.
    pub operations: BTreeMap<&'static str, u64>,
}

/// A tensor and how far another may be from it.
struct Expected {
    values: Vec<f64>,
    tolerance: f64,
}

/// What the oracle says.
struct Truth {
    /// The first output, by the running statistics after the step.
    outputs: Expected,
    /// The loss of an evaluation: the sum of the first output's.
    evaluation: Expected,
    training: Option<Training>,
}

/// What the oracle says of a training step.
struct Training {
    loss: Expected,
    tensors: HashMap<String, Expected>,
}

/// What a case is run with.
struct Inputs {
    graph: Graph,
    images: Vec<f32>,
    labels: Vec<u32>,
    values: Option<Vec<f32>>,
    weights: Vec<NamedTensor>,
}

/// What a session computes.
#[derive(PartialEq)]
struct Outcome {
    outputs: Vec<f32>,
    evaluation: Option<f64>,
    loss: Option<f32>,
    tensors: Vec<NamedTensor>,
}

/// Runs a case in every way.
pub fn compare(case: &Case, tally: &mut Tally) -> Result<(), Failure> {
    let inputs = inputs(case)?;
    tally.cases += 1;
    let mut names: Vec<_> = inputs.graph.nodes.iter().map(|node| node.op.name()).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().for_each(|name| *tally.operations.entry(name).or_default() += 1);
    let Some(truth) = truth(case, &inputs, tally) else {
        tally.skipped += 1;
        return Ok(());
    };
    tally.untrained += u64::from(truth.training.is_none());
    for isa in Isa::available() {
        for precision in [Precision::Fast, Precision::Strict] {
            let at = |threads| format!("{} {precision:?} on {threads}", isa.name());
            let alone = outcome(case, &inputs, isa, precision, 1, truth.training.is_some())?;
            truth.compare(&alone, &at("1 thread"), tally)?;
            let both = outcome(case, &inputs, isa, precision, 2, truth.training.is_some())?;
            if !same_bits(&alone, &both) {
                truth.compare(&both, &at("2 threads"), tally)?;
                let text = format!("{}: bits differ from those on 1 thread", at("2 threads"));
                return Err(Failure { kind: "threads", text });
            }
        }
    }
    Ok(())
}

/// A session, held to the case's algorithm where that is possible.
fn session(
    case: &Case,
    graph: &Graph,
    isa: Isa,
    precision: Precision,
    threads: usize,
) -> Result<Session, Failure> {
    let held = !(case.algorithm.is_empty() || case.algorithm == "winograd" && precision == Precision::Strict);
    let convolves = |op: &Op| matches!(op, Op::Conv(_) | Op::ConvTranspose(_) | Op::Dense(_));
    let nodes = graph.nodes.iter().filter(|node| held && convolves(&node.op));
    let mut algorithms: Vec<_> = nodes.map(|node| (node.name.clone(), case.algorithm.clone())).collect();
    loop {
        let options = SessionOptions {
            threads: Some(threads),
            seed: case.seed,
            isa: Some(isa),
            precision,
            algorithms: algorithms.clone(),
        };
        match Session::new(graph.clone(), options) {
            Ok(session) => return Ok(session),
            // A layer that cannot be computed so.
            Err(EngineError::Algorithm { name, .. }) => algorithms.retain(|(layer, _)| *layer != name),
            Err(error) => return Err(refused(&error)),
        }
    }
}

fn refused(error: &EngineError) -> Failure {
    Failure { kind: "refused", text: error.to_string() }
}

fn inputs(case: &Case) -> Result<Inputs, Failure> {
    let graph = Graph::from_json(&case.graph.to_string()).map_err(|error| refused(&error))?;
    let session = session(case, &graph, Isa::available()[0], Precision::Strict, 1)?;
    let images = uniform(case.seed, case.batch * session.image_len());
    let shapes = graph.shapes().map_err(|error| refused(&error))?;
    let classes = |name: &str| shapes.nodes.iter().find(|node| node.name == name).unwrap().output[2];
    let classes = graph.outputs.iter().map(|output| classes(&output.node)).min().unwrap();
    let draws = uniform(case.seed + 1000, case.batch);
    let labels = draws.iter().map(|draw| ((draw + 1.0) * 1e6) as u32 % classes as u32).collect();
    let targets = || uniform(case.seed + 2000, case.batch * session.output_len());
    let values = case.values.then(|| targets().iter().map(|value| value.abs()).collect());
    let mut weights = session.weights();
    for (index, tensor) in weights.iter_mut().enumerate().filter(|(_, tensor)| tensor.shape.len() == 1) {
        let draws = uniform(case.seed + 3000 + index as u64, tensor.values.len());
        let value = |draw: &f32| match tensor.name.rsplit('.').next() {
            // Factors of both signs, away from zero.
            Some("weight") => draw.signum() * (0.5 + 0.5 * draw.abs()),
            Some("running_var") => 1.0 + 0.5 * draw,
            _ => 0.3 * draw,
        };
        tensor.values = draws.iter().map(value).collect();
    }
    Ok(Inputs { graph, images, labels, values, weights })
}

impl Expected {
    /// Values, and how far others may be from them: the runs are those with rounding.
    fn new(values: Vec<f64>, rounded: [&[f64]; 2], mirrored: &[f64]) -> Self {
        let largest = values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        let moved = |others: &[f64]| {
            let pairs = values.iter().zip(others);
            pairs.fold(0.0, |most: f64, (value, other)| most.max((value - other).abs()))
        };
        let rounding = moved(rounded[0]).max(moved(rounded[1]));
        let tolerance = TIMES * rounding + 2.0 * moved(mirrored) + FLOOR * largest + 1e-12;
        Self { values, tolerance }
    }

    /// As [`Self::new`], for what no kink moves.
    fn smooth(values: Vec<f64>, rounded: [&[f64]; 2]) -> Self {
        let mirrored = values.clone();
        Self::new(values, rounded, &mirrored)
    }

    fn compare(&self, actual: &[f32], what: &str, tally: &mut Tally) -> Result<(), String> {
        let largest = self.values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        tally.tensors += 1;
        // What should be zero, such as the gradient of a bias before a normalization, is compared with nothing
        // larger.
        tally.blurred += u64::from(self.tolerance > BLURRED * largest && self.tolerance > 1e-5);
        for (at, (&actual, &expected)) in actual.iter().zip(&self.values).enumerate() {
            let error = (f64::from(actual) - expected).abs();
            // Also for NaN.
            if error.is_nan() || error > self.tolerance {
                return Err(format!(
                    "{what}[{at}] is {actual} instead of {expected} (off by {error:.2e}, tolerance {:.2e}, largest \
                     {largest:.2e})",
                    self.tolerance
                ));
            }
            tally.closest = tally.closest.max(error / self.tolerance);
        }
        Ok(())
    }
}

/// What the oracle says; `None` where values are too large.
fn truth(case: &Case, inputs: &Inputs, tally: &mut Tally) -> Option<Truth> {
    let mut weights = oracle::wide(&inputs.weights);
    let images = widen(&inputs.images);
    let trains = !inputs.graph.nodes.iter().any(|node| matches!(node.op, Op::Softmax(_)))
        && weights.iter().any(|(name, _)| !is_statistic(name));
    let training = if trains { Some(training(case, inputs, &weights, &images, tally)?) } else { None };
    for (name, values) in &mut weights {
        if let Some(Training { tensors, .. }) = &training
            && is_statistic(name)
        {
            values.clone_from(&tensors[name].values);
        }
    }
    let oracle = Oracle { graph: &inputs.graph, weights: &weights, purpose: Purposes::Inference };
    let (maps, [first, second]) = run(&oracle, case, &images)?;
    let output = &inputs.graph.outputs[0];
    let values = |maps: &Maps| maps[&output.node].values.clone();
    let outputs = Expected::smooth(values(&maps), [&values(&first), &values(&second)]);
    let labels = reference::Targets::Labels(&inputs.labels);
    let judge = Judge { targets: labels, label_smoothing: 0.0, class_weights: None };
    let loss = |maps: &Maps| {
        let map = &maps[&output.node];
        let losses = (map.shape[..2] == [1, 1]).then(|| judge.judge(output, map).losses);
        vec![losses.into_iter().flatten().sum::<f64>()]
    };
    let mut evaluation = Expected::smooth(loss(&maps), [&loss(&first), &loss(&second)]);
    evaluation.tolerance += case.batch as f64 * of_scores(&values(&maps));
    Some(Truth { outputs, evaluation, training })
}

/// What the oracle says of a training step.
fn training(
    case: &Case,
    inputs: &Inputs,
    weights: &[(String, Vec<f64>)],
    images: &[f64],
    tally: &mut Tally,
) -> Option<Training> {
    let purpose = Purposes::Training { seed: case.seed, step: 0 };
    let oracle = Oracle { graph: &inputs.graph, weights, purpose };
    let values = inputs.values.as_deref().map(widen);
    let targets = match &values {
        Some(values) => reference::Targets::Values(values),
        None => reference::Targets::Labels(&inputs.labels),
    };
    let judge = Judge { targets, label_smoothing: case.label_smoothing.into(), class_weights: None };
    let (maps, rounded) = run(&oracle, case, images)?;
    let gradients = |at: usize| oracle.backward_rounded(&maps, &rounded[at], &judge, roundings(case)[at]);
    let [first, second] = [0, 1].map(|at| gradients(at).parameters);
    let mirrored = oracle.backward_mirrored(&maps, &judge, &oracle::margins(&maps, &rounded, NEAR));
    tally.at_kink += u64::from(mirrored.at_kink);
    let mut tensors = HashMap::new();
    for (name, values) in oracle.backward(&maps, &judge).parameters {
        let expected = Expected::new(values, [&first[&name], &second[&name]], &mirrored.parameters[&name]);
        tensors.insert(name, expected);
    }
    let [first, second] = rounded.each_ref().map(|maps| oracle.statistics(maps));
    for (name, values) in oracle.statistics(&maps) {
        let mut expected = Expected::smooth(values, [&first[&name], &second[&name]]);
        // A mean may be small, a sum of large values that cancel out.
        expected.tolerance += UNIT * largest_input(&inputs.graph, &maps, &name).max(1.0).powi(2);
        tensors.insert(name, expected);
    }
    let loss = |maps: &Maps| vec![oracle.loss_of(maps, &judge)];
    let mut loss = Expected::smooth(loss(&maps), [&loss(&rounded[0]), &loss(&rounded[1])]);
    for output in &inputs.graph.outputs {
        loss.tolerance += f64::from(output.loss_weight) * of_scores(&maps[&output.node].values);
    }
    Some(Training { loss, tensors })
}

/// The largest value of what the node of a tensor reads.
fn largest_input(graph: &Graph, maps: &Maps, tensor: &str) -> f64 {
    let of = |node: &&Node| tensor.strip_prefix(&node.name).is_some_and(|rest| rest.starts_with('.'));
    let node = graph.nodes.iter().find(of).unwrap();
    maps[&node.inputs[0]].values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()))
}

/// How far a loss may be off that is a small difference of scores such as these.
fn of_scores(scores: &[f64]) -> f64 {
    UNIT * scores.iter().fold(1.0, |largest: f64, score| largest.max(score.abs()))
}

/// The maps of a case, as they are and rounded twice; `None` where values are too large.
fn run(oracle: &Oracle, case: &Case, images: &[f64]) -> Option<(Maps, [Maps; 2])> {
    let maps = oracle.forward(images, case.batch);
    if !moderate(&maps) {
        return None;
    }
    let rounded = roundings(case).map(|rounding| oracle.forward_rounded(images, case.batch, Some(rounding)));
    Some((maps, rounded))
}

fn roundings(case: &Case) -> [Rounding; 2] {
    [1, 2].map(|number| Rounding { unit: UNIT, seed: case.seed ^ (number << 32) })
}

/// Whether a tensor is one of the running statistics.
fn is_statistic(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_var")
}

/// Whether no value is too large.
fn moderate(maps: &Maps) -> bool {
    maps.values().flat_map(|map| &map.values).all(|value| value.abs() <= LARGEST)
}

impl Truth {
    fn compare(&self, outcome: &Outcome, at: &str, tally: &mut Tally) -> Result<(), Failure> {
        let failure =
            |kind: &'static str| move |text: String| Failure { kind, text: format!("{at}: {text}") };
        if let (Some(loss), Some(training)) = (outcome.loss, &self.training) {
            training.loss.compare(&[loss], "loss", tally).map_err(failure("loss"))?;
            for tensor in &outcome.tensors {
                let kind = if is_statistic(&tensor.name) { "statistics" } else { "gradient" };
                training.tensors[&tensor.name]
                    .compare(&tensor.values, &tensor.name, tally)
                    .map_err(failure(kind))?;
            }
        }
        self.outputs.compare(&outcome.outputs, "prediction", tally).map_err(failure("prediction"))?;
        if let Some(loss) = outcome.evaluation {
            self.evaluation
                .compare(&[loss as f32], "evaluated loss", tally)
                .map_err(failure("evaluation"))?;
        }
        Ok(())
    }
}

/// A prediction that is thrown away, a step that changes statistics only, a prediction, an evaluation.
fn outcome(
    case: &Case,
    inputs: &Inputs,
    isa: Isa,
    precision: Precision,
    threads: usize,
    trains: bool,
) -> Result<Outcome, Failure> {
    let mut session = session(case, &inputs.graph, isa, precision, threads)?;
    let tensors: Vec<Tensor> = inputs.weights.iter().map(|tensor| tensor.as_tensor()).collect();
    session.load_weights(&tensors).map_err(|error| refused(&error))?;
    let mut outputs = vec![f32::NAN; case.batch * session.output_len()];
    session.predict(&inputs.images, case.batch, &mut outputs).map_err(|error| refused(&error))?;
    let targets = match &inputs.values {
        Some(values) => Targets::Values(values),
        None => Targets::Labels(&inputs.labels),
    };
    let options =
        StepOptions { learning_rate: 0.0, label_smoothing: case.label_smoothing, ..StepOptions::default() };
    let loss = match session.train_step(&inputs.images, targets, &options) {
        Ok(result) if trains => Some(result.loss),
        Err(EngineError::Graph(GraphError::Softmax(_) | GraphError::NoParameters(_))) if !trains => None,
        Err(error) => return Err(refused(&error)),
        Ok(_) => {
            let text = "a network that cannot be trained was".to_owned();
            return Err(Failure { kind: "refused", text });
        }
    };
    let mut tensors = session.gradients();
    if loss.is_some() {
        tensors.extend(session.weights().into_iter().filter(|tensor| is_statistic(&tensor.name)));
    }
    outputs.fill(f32::NAN);
    session.predict(&inputs.images, case.batch, &mut outputs).map_err(|error| refused(&error))?;
    let mut predictions = vec![0; case.batch];
    let evaluation = match session.evaluate_batch(&inputs.images, &inputs.labels, &mut predictions) {
        Ok(evaluation) => Some(evaluation.loss_sum),
        Err(EngineError::Graph(GraphError::Softmax(_) | GraphError::NotLogits { .. })) => None,
        Err(error) => return Err(refused(&error)),
    };
    Ok(Outcome { outputs, evaluation, loss, tensors })
}

fn same_bits(a: &Outcome, b: &Outcome) -> bool {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let tensors =
        |outcome: &Outcome| outcome.tensors.iter().map(|tensor| bits(&tensor.values)).collect::<Vec<_>>();
    bits(&a.outputs) == bits(&b.outputs)
        && a.evaluation.map(f64::to_bits) == b.evaluation.map(f64::to_bits)
        && a.loss.map(f32::to_bits) == b.loss.map(f32::to_bits)
        && tensors(a) == tensors(b)
}
