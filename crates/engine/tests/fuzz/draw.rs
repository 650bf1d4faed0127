//! Graphs drawn at random, from choices that shrink: a graph is a list of steps, each an operation, what it
//! reads, counted back from the newest map that fits, and some dials for its sizes. Every list of steps is a
//! graph: what does not fit is left out, what nobody reads becomes an output. So a step that is taken away
//! leaves a smaller graph, and a smaller number is always the simpler choice.

use super::Case;
use super::operations::{OPERATIONS, PATTERNS};
use crate::common::graphs::{conv, dense, node, op};
use fovea_engine::Graph;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::Union;
use serde_json::{Value, json};

/// Multiply-adds of a case, elementwise work included at a few a value: what the oracle computes in some
/// milliseconds.
const MOST_WORK: usize = 600_000;

/// Values of one map, all images together.
const MOST_VALUES: usize = 30_000;

/// Choices of a graph and of how it is run.
#[derive(Clone, Debug)]
pub struct Choices {
    input: [usize; 3],
    batch: usize,
    seed: u64,
    steps: Vec<Vec<Step>>,
    /// How what nobody reads ends, and what the session is told.
    ending: [usize; 8],
}

/// An operation, by its position in the table, and its choices.
#[derive(Clone, Debug)]
pub struct Step {
    operation: usize,
    /// How far back the map is that it reads, among those that fit.
    pub from: usize,
    /// And the second one.
    pub other: usize,
    pub dials: [usize; 5],
}

/// A graph under way.
pub struct Draft {
    pub batch: usize,
    nodes: Vec<Value>,
    maps: Vec<Drawn>,
    work: usize,
    orders: usize,
}

/// A map that may be read.
#[derive(Clone, Debug)]
pub struct Drawn {
    name: String,
    pub shape: [usize; 3],
    /// Which flattened map it was, 0 for none: sums of vectors in different orders are refused.
    pub order: usize,
    read: bool,
}

impl Drawn {
    /// Whether its channels are in no special order, so that every layer may read it.
    pub fn is_plain(&self) -> bool {
        self.order == 0
    }

    pub fn is_flat(&self) -> bool {
        self.shape[..2] == [1, 1]
    }

    pub fn fits(&self, other: &Self) -> bool {
        (self.shape, self.order) == (other.shape, other.order)
    }
}

/// Choices of graphs of up to so many steps or patterns of steps.
pub fn choices() -> impl Strategy<Value = Choices> {
    let side = || prop_oneof![6 => 1..=8usize, 3 => 5..=14usize, 1 => 10..=40usize];
    let channels = prop_oneof![4 => 1..=4usize, 3 => Just(16usize), 1 => Just(32usize), 2 => 1..=64usize];
    let input = (side(), side(), channels).prop_map(|(height, width, channels)| [height, width, channels]);
    let batch = prop_oneof![5 => 1..=3usize, 2 => 4..=7usize];
    let single = step().prop_map(|step| vec![step]);
    let steps = vec(prop_oneof![3 => single, 2 => pattern()], 1..=7);
    (input, batch, 0..1000u64, steps, [dial(), dial(), dial(), dial(), dial(), dial(), dial(), dial()])
        .prop_map(|(input, batch, seed, steps, ending)| Choices { input, batch, seed, steps, ending })
}

fn dial() -> impl Strategy<Value = usize> + Clone {
    0..24usize
}

fn back() -> impl Strategy<Value = usize> + Clone {
    prop_oneof![5 => Just(0usize), 3 => 1..=3usize, 1 => 0..=12usize]
}

fn step() -> impl Strategy<Value = Step> {
    let operation =
        Union::new_weighted(OPERATIONS.iter().enumerate().map(|(at, row)| (row.weight, Just(at))).collect());
    (operation, back(), back(), [dial(), dial(), dial(), dial(), dial()])
        .prop_map(|(operation, from, other, dials)| Step { operation, from, other, dials })
}

/// The steps of a pattern, with dials of their own.
fn pattern() -> impl Strategy<Value = Vec<Step>> {
    let dials = vec([dial(), dial(), dial(), dial(), dial()], 6);
    (0..PATTERNS.len(), dials).prop_map(|(pattern, dials)| {
        let step = |(&(name, from, other), dials): (&(&str, usize, usize), [usize; 5])| {
            let operation = OPERATIONS.iter().position(|row| row.name == name).unwrap();
            Step { operation, from, other, dials }
        };
        PATTERNS[pattern].iter().zip(dials).map(step).collect()
    })
}

impl Choices {
    /// The graph and how it is run.
    pub fn case(&self) -> Case {
        let mut draft = Draft::new(self.input, self.batch);
        for step in self.steps.iter().flatten() {
            let _ = (OPERATIONS[step.operation].draw)(&mut draft, step); // what does not fit is left out
        }
        draft.end(&self.ending, self.seed)
    }
}

impl Draft {
    fn new([height, width, channels]: [usize; 3], batch: usize) -> Self {
        let pixels = height * width * batch;
        let channels = channels.min((MOST_VALUES / 4 / pixels).max(1));
        let input =
            Drawn { name: "input".to_owned(), shape: [height, width, channels], order: 0, read: false };
        Self { batch, nodes: Vec::new(), maps: vec![input], work: 0, orders: 0 }
    }

    /// The map that is so far back among those that fit.
    pub fn pick(&self, back: usize, fits: impl Fn(&Drawn) -> bool) -> Option<Drawn> {
        let fitting: Vec<_> = self.maps.iter().rev().filter(|map| fits(map)).collect();
        (!fitting.is_empty()).then(|| fitting[back % fitting.len()].clone())
    }

    /// As [`Self::pick`], any.
    pub fn any(&self, step: &Step) -> Option<Drawn> {
        self.pick(step.from, |_| true)
    }

    /// As [`Self::pick`], one that every layer may read.
    pub fn plain(&self, step: &Step) -> Option<Drawn> {
        self.pick(step.from, Drawn::is_plain)
    }

    /// Adds a layer that reads `x`; the engine says what shape it has. `None` if it does not fit.
    pub fn layer(&mut self, x: &Drawn, op: Value, order: usize) -> Option<()> {
        let alone = json!({
            "name": "alone", "input": x.shape, "nodes": [node("y", "input", op.clone())],
            "outputs": [{"node": "y", "lossWeight": 1}]
        });
        let graph = Graph::from_json(&alone.to_string()).ok()?;
        let shapes = graph.shapes().ok()?;
        let work = shapes.nodes[0].mult_adds as usize;
        self.put(&[x], op, shapes.nodes[0].output, order, work)
    }

    /// Adds a layer that treats all channels alike and keeps their order.
    pub fn alike(&mut self, x: &Drawn, op: Value) -> Option<()> {
        self.layer(x, op, x.order)
    }

    /// Adds a node of which everything is known.
    pub fn put(
        &mut self,
        inputs: &[&Drawn],
        mut op: Value,
        shape: [usize; 3],
        order: usize,
        mult_adds: usize,
    ) -> Option<()> {
        let values = self.batch * shape.iter().product::<usize>();
        let work = self.work + self.batch * mult_adds + 4 * values;
        if values > MOST_VALUES || work > MOST_WORK || shape[2] > 1 << 12 {
            return None;
        }
        self.work = work;
        let name = format!("n{}", self.nodes.len());
        op["name"] = json!(name);
        op["inputs"] = json!(inputs.iter().map(|map| &map.name).collect::<Vec<_>>());
        self.nodes.push(op);
        for map in &mut self.maps {
            map.read |= inputs.iter().any(|input| input.name == map.name);
        }
        self.maps.push(Drawn { name, shape, order, read: false });
        Some(())
    }

    /// An order that no other vector has.
    pub fn new_order(&mut self) -> usize {
        self.orders += 1;
        self.orders
    }

    /// The map that was added last.
    pub fn last(&self) -> Drawn {
        self.maps[self.maps.len() - 1].clone()
    }

    fn unread(&self) -> Vec<Drawn> {
        self.maps.iter().filter(|map| !map.read).cloned().collect()
    }

    /// Adds nodes whatever they cost: without them there is no graph.
    fn must(&mut self, add: impl FnOnce(&mut Self) -> Option<()>) -> Drawn {
        let work = std::mem::take(&mut self.work);
        let last = self.last();
        assert!(add(self).is_some(), "the end of a graph fits behind {last:?}");
        self.work += work;
        self.last()
    }

    /// A vector of a map, in no special order.
    fn vector(&mut self, map: &Drawn, kind: usize) -> Drawn {
        if map.is_flat() && map.is_plain() {
            return map.clone();
        }
        if !map.is_plain() {
            // It may be an output as it is.
            let stays = kind < 6 && map.shape[2] <= 64;
            return if stays { map.clone() } else { self.must(|draft| draft.layer(map, dense(3), 0)) };
        }
        let large = map.shape.iter().product::<usize>() > 1500;
        match if large { 1 + kind % 3 } else { kind % 4 } {
            0 => {
                let order = self.new_order();
                let flat = self.must(|draft| draft.layer(map, op("flatten"), order));
                self.must(|draft| draft.layer(&flat, dense(3), 0))
            }
            1 => self.must(|draft| draft.layer(map, op("globalAvgPool"), 0)),
            2 => self.must(|draft| draft.layer(map, op("globalMaxPool"), 0)),
            _ => {
                let thin = self.must(|draft| draft.layer(map, conv(map.shape[2].min(3), [1, 1]), 0));
                self.must(|draft| draft.layer(&thin, op("globalAvgPool"), 0))
            }
        }
    }

    /// A vector of a map that may be concatenated with many others.
    fn short_vector(&mut self, map: &Drawn) -> Drawn {
        let vector = self.vector(map, 1);
        if vector.shape[2] <= 64 { vector } else { self.must(|draft| draft.layer(&vector, dense(3), 0)) }
    }

    /// Makes outputs of what nobody reads.
    fn end(mut self, ending: &[usize; 8], seed: u64) -> Case {
        let mut ends = self.unread();
        if let [map] = &ends[..]
            && ending[1] % 4 == 3
            && map.name != "input"
            && map.shape.iter().product::<usize>() <= 400
        {
            let loss = LOSSES[[2, 1][ending[2] % 2]];
            let outputs = vec![output(map, 1.0, loss)];
            return self.case(outputs, ending, seed, true);
        }
        let classes = 2 + ending[0] % 4;
        if ends.len() > 3 {
            let surplus: Vec<_> = ends.split_off(2).iter().map(|map| self.short_vector(map)).collect();
            let all: Vec<_> = surplus.iter().collect();
            let shape = [1, 1, all.iter().map(|map| map.shape[2]).sum()];
            let order = if all.iter().all(|map| map.is_plain()) { 0 } else { self.new_order() };
            ends.push(self.must(|draft| draft.put(&all, op("concat"), shape, order, 0)));
        }
        let mut outputs = Vec::new();
        for (at, map) in ends.iter().enumerate() {
            let kind = ending[2 + at];
            let vector = self.vector(map, kind);
            // What has two values and more may be an output as it is.
            let logits = if vector.shape[2] > 1 && vector.name != "input" && kind < 12 {
                vector
            } else {
                self.must(|draft| draft.layer(&vector, dense(classes), 0))
            };
            outputs.push(output(&logits, [1.0, 0.5, 2.0][at], LOSSES[(ending[5] + at) % 6]));
        }
        let chosen: Vec<_> = outputs.iter().map(|output| output["node"].clone()).collect();
        let inner = |map: &Drawn| map.read && map.is_flat() && map.shape[2] > 1;
        if ending[6] % 3 == 2
            && let Some(map) = self.pick(ending[6], |map| {
                inner(map) && map.name != "input" && !chosen.contains(&json!(map.name))
            })
        {
            outputs.push(output(&map, [0.25, 0.0][ending[6] / 12], LOSSES[ending[5] % 6]));
        }
        self.case(outputs, ending, seed, false)
    }

    fn case(self, outputs: Vec<Value>, ending: &[usize; 8], seed: u64, values: bool) -> Case {
        let graph = json!({
            "name": "random", "input": self.maps[0].shape, "nodes": self.nodes, "outputs": outputs
        });
        let smooths = outputs.iter().any(|output| output["loss"]["kind"] == "crossEntropy");
        let algorithm = ["", "", "winograd", "direct", "scatter", "packed"][ending[7] % 6];
        Case {
            graph,
            batch: self.batch,
            seed,
            values,
            label_smoothing: if smooths && ending[0] >= 12 { 0.1 } else { 0.0 },
            algorithm: algorithm.to_owned(),
        }
    }
}

/// How outputs are judged, cross-entropy most often.
const LOSSES: [&str; 6] = [
    r#"{"kind": "crossEntropy"}"#,
    r#"{"kind": "binaryCrossEntropy"}"#,
    r#"{"kind": "meanSquaredError"}"#,
    r#"{"kind": "crossEntropy"}"#,
    r#"{"kind": "maximumAPosteriori", "rejection": 0.1}"#,
    r#"{"kind": "crossEntropy"}"#,
];

fn output(map: &Drawn, weight: f64, loss: &str) -> Value {
    let loss: Value = serde_json::from_str(loss).unwrap();
    json!({"node": map.name, "lossWeight": weight, "loss": loss})
}
