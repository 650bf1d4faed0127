//! Random graphs, run on the engine in every way and compared with the oracle.

mod compare;
mod draw;
mod operations;

pub use compare::{Failure, Tally};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Longest search for a smaller graph that is wrong in the same way.
const SHRINKING: Duration = Duration::from_secs(60);

/// A graph and how it is run; as JSON what replays it.
#[derive(Clone, Debug)]
pub struct Case {
    pub graph: Value,
    pub batch: usize,
    /// Of images, targets, weights.
    pub seed: u64,
    /// Whether targets are values in the shape of the outputs instead of labels.
    pub values: bool,
    pub label_smoothing: f32,
    /// What every convolution that can is held to; empty for what the engine chooses.
    pub algorithm: String,
}

impl Case {
    /// Everything that replays it, as one line.
    pub fn to_json(&self) -> String {
        let Self { graph, batch, seed, values, label_smoothing, algorithm } = self;
        json!({
            "batch": batch, "seed": seed, "values": values, "labelSmoothing": label_smoothing,
            "algorithm": algorithm, "graph": graph,
        })
        .to_string()
    }

    /// What [`Case::to_json`] has written.
    pub fn from_json(text: &str) -> Self {
        let case: Value = serde_json::from_str(text).unwrap();
        Self {
            graph: case["graph"].clone(),
            batch: case["batch"].as_u64().unwrap() as usize,
            seed: case["seed"].as_u64().unwrap(),
            values: case["values"].as_bool().unwrap(),
            label_smoothing: case["labelSmoothing"].as_f64().unwrap() as f32,
            algorithm: case["algorithm"].as_str().unwrap().to_owned(),
        }
    }
}

/// The choices of a number among those of a seed.
fn tree(seed: u64, number: u64) -> impl ValueTree<Value = draw::Choices> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    draw::choices().new_tree(&mut TestRunner::new_with_rng(Config::default(), random)).unwrap()
}

/// Runs a case in every way; a panic is a failure.
pub fn check(case: &Case, tally: &mut Tally) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(|| compare::compare(case, tally))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
        Err(Failure { kind: "panic", text: text.to_owned() })
    })
}

/// Runs the case of a number; a failure comes with the smallest case that was found to fail in the same way.
pub fn run(seed: u64, number: u64, tally: &mut Tally) -> Result<(), (Case, Failure)> {
    let mut tree = tree(seed, number);
    let case = tree.current().case();
    let Err(failure) = check(&case, tally) else { return Ok(()) };
    let mut smallest = (case, failure);
    let started = Instant::now();
    let mut smaller = tree.simplify();
    while smaller && started.elapsed() < SHRINKING {
        let case = tree.current().case();
        smaller = match check(&case, &mut Tally::default()) {
            Err(failure) if failure.kind == smallest.1.kind => {
                smallest = (case, failure);
                tree.simplify()
            }
            _ => tree.complicate(),
        };
    }
    Err(smallest)
}
