//! The graph definition: what a user's model is, before anything is known of kernels or memory.
//!
//! It travels as JSON: the builder writes it, [`Graph::from_json`] reads it, and a checkpoint keeps it. Every
//! key is always written, unknown keys and ops are refused by name, and [`Graph::validate`] proves what the
//! rest of the engine relies on: unique names, inputs defined before they are read, hyperparameters within
//! bounds, and a path from every node to an output.

use crate::error::{GraphError, Result};
use crate::ops::bounds::{MAX_SIZE, check_size};
use crate::ops::{OPS, Op};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Name by which nodes read the network's input.
pub(crate) const INPUT: &str = "input";

/// How a checkpoint's names of optimizer state begin; no node may have such a name.
pub(crate) const OPTIMIZER: &str = "optimizer.";

/// A network: nodes in topological order from one input to one or more outputs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Graph {
    /// Name of the network.
    pub name: String,
    /// Shape of an image, `[height, width, channels]`.
    pub input: [usize; 3],
    /// Layers; each reads the input or nodes before it.
    pub nodes: Vec<Node>,
    /// The first output is the network's prediction; further ones (auxiliary heads) exist for training only.
    pub outputs: Vec<Output>,
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    /// Unique name; its parameters are called `NAME.weight` and `NAME.bias`.
    pub name: String,
    /// Names of the nodes it reads, or `input`.
    pub inputs: Vec<String>,
    /// What it computes.
    #[serde(flatten)]
    pub op: Op,
}

/// What training minimises: the sum of the outputs' losses, each times its weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Output {
    /// Name of the node.
    pub node: String,
    /// Factor of its loss.
    pub loss_weight: f32,
    /// How it is judged; cross-entropy in files that are older than the choice.
    #[serde(default)]
    pub loss: OutputLoss,
}

/// How an output is judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields, rename_all = "camelCase")]
pub enum OutputLoss {
    /// Softmax cross-entropy with a class, or with a probability for each.
    CrossEntropy {},
    /// Cross-entropy of each output's sigmoid by itself, with 1 for the class and 0 for the others, or with
    /// given values.
    BinaryCrossEntropy {},
    /// Mean of the squared differences from 1 for the class and 0 for the others, or from given values.
    MeanSquaredError {},
    /// Equation 9 of LeCun et al. 1998 on the negative distances of a radial basis output.
    MaximumAPosteriori {
        /// Minus the score of the class of everything that is none.
        rejection: f32,
    },
}

impl Default for OutputLoss {
    fn default() -> Self {
        Self::CrossEntropy {}
    }
}

impl OutputLoss {
    /// Its name in definitions.
    pub fn name(self) -> &'static str {
        match self {
            Self::CrossEntropy {} => "crossEntropy",
            Self::BinaryCrossEntropy {} => "binaryCrossEntropy",
            Self::MeanSquaredError {} => "meanSquaredError",
            Self::MaximumAPosteriori { .. } => "maximumAPosteriori",
        }
    }

    /// Whether it compares classes: it then wants one row of scores an image.
    pub(crate) fn is_of_classes(self) -> bool {
        matches!(self, Self::CrossEntropy {} | Self::MaximumAPosteriori { .. })
    }
}

/// A graph whose nodes and outputs have not been read yet, so that a mistake in one can be told by its name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outline {
    name: String,
    input: [usize; 3],
    nodes: Vec<Map<String, Value>>,
    outputs: Vec<Map<String, Value>>,
}

impl Graph {
    /// Reads and validates a definition.
    ///
    /// Errors: [`GraphError`] for text that is no graph, unknown keys and ops, and all that [`Graph::validate`]
    /// finds.
    pub fn from_json(json: &str) -> Result<Self> {
        let outline: Outline =
            serde_json::from_str(json).map_err(|error| GraphError::Definition(error.to_string()))?;
        let Outline { name, input, nodes, outputs } = outline;
        let nodes = nodes.into_iter().enumerate().map(|(index, keys)| Node::from_keys(index, keys));
        let nodes = nodes.collect::<std::result::Result<_, _>>()?;
        let outputs = outputs.into_iter().enumerate().map(|(index, keys)| Output::from_keys(index, keys));
        let graph = Self { name, input, nodes, outputs: outputs.collect::<std::result::Result<_, _>>()? };
        graph.validate()?;
        Ok(graph)
    }

    /// The definition as JSON, which [`Graph::from_json`] reads back to an equal graph.
    pub fn to_json(&self) -> String {
        // The derived serializers cannot fail: no maps with other keys than strings, no floats but finite ones.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Proves what the rest of the engine relies on; shapes are the business of [`Graph::shapes`].
    pub fn validate(&self) -> Result<()> {
        for (&size, what) in self.input.iter().zip(["a height", "a width", "channels"]) {
            check_size(INPUT, what, size, 1..=MAX_SIZE)?;
        }
        let sources = self.sources()?;
        for (node, sources) in self.nodes.iter().zip(&sources) {
            node.check(sources.len())?;
        }
        let outputs = self.output_nodes()?;
        for output in &self.outputs {
            if !(output.loss_weight.is_finite() && output.loss_weight >= 0.0) {
                let (node, received) = (output.node.clone(), output.loss_weight);
                return Err(GraphError::LossWeight { node, received }.into());
            }
            if let OutputLoss::MaximumAPosteriori { rejection } = output.loss
                && !rejection.is_finite()
            {
                let (node, expected) = (output.node.clone(), "a finite rejection");
                return Err(GraphError::Number { node, expected, received: rejection }.into());
            }
        }
        let needed = needed(&sources, &outputs);
        match needed.iter().position(|needed| !needed) {
            Some(unused) => Err(GraphError::Unused(self.nodes[unused].name.clone()).into()),
            None => Ok(()),
        }
    }

    /// What each node reads.
    pub(crate) fn sources(&self) -> Result<Vec<Vec<Source>>> {
        let mut known = HashMap::from([(INPUT, Source::Input)]);
        let mut sources = Vec::with_capacity(self.nodes.len());
        for (index, node) in self.nodes.iter().enumerate() {
            let read = |input: &String| {
                known
                    .get(input.as_str())
                    .copied()
                    .ok_or_else(|| GraphError::UnknownInput { node: node.name.clone(), input: input.clone() })
            };
            sources.push(node.inputs.iter().map(read).collect::<std::result::Result<Vec<_>, _>>()?);
            let reserved = node.name.is_empty() || node.name.starts_with(OPTIMIZER);
            if reserved || known.insert(&node.name, Source::Node(index)).is_some() {
                return Err(GraphError::Name { index, name: node.name.clone() }.into());
            }
        }
        Ok(sources)
    }

    /// Positions of the output nodes.
    pub(crate) fn output_nodes(&self) -> Result<Vec<usize>> {
        let mut positions = Vec::with_capacity(self.outputs.len());
        for output in &self.outputs {
            let position = self.nodes.iter().position(|node| node.name == output.node);
            match position {
                Some(position) if !positions.contains(&position) => positions.push(position),
                _ => return Err(GraphError::Output(output.node.clone()).into()),
            }
        }
        if positions.is_empty() { Err(GraphError::NoOutput.into()) } else { Ok(positions) }
    }
}

/// What a node reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// The network's input.
    Input,
    /// The node at this position.
    Node(usize),
}

/// Which nodes lead to one of `outputs`.
pub(crate) fn needed(sources: &[Vec<Source>], outputs: &[usize]) -> Vec<bool> {
    let mut needed = vec![false; sources.len()];
    for &output in outputs {
        needed[output] = true;
    }
    for index in (0..sources.len()).rev() {
        for source in &sources[index] {
            if let (true, &Source::Node(source)) = (needed[index], source) {
                needed[source] = true;
            }
        }
    }
    needed
}

impl Node {
    /// Reads the definition of one node.
    ///
    /// Errors: text that is no node, unknown keys and ops.
    pub fn from_json(json: &str) -> Result<Self> {
        let keys = serde_json::from_str(json).map_err(|error| GraphError::Definition(error.to_string()))?;
        Ok(Self::from_keys(0, keys)?)
    }

    /// Checks the hyperparameters that have bounds whatever the input is, and the number of nodes that it
    /// reads.
    pub(crate) fn check(&self, inputs: usize) -> Result<()> {
        let (expected, received) = (self.op.operation().input_count(), inputs);
        if !expected.contains(&received) {
            return Err(GraphError::InputCount { node: self.name.clone(), expected, received }.into());
        }
        self.op.operation().check(&self.name)
    }

    fn from_keys(index: usize, mut keys: Map<String, Value>) -> std::result::Result<Self, GraphError> {
        let name = match keys.remove("name") {
            Some(Value::String(name)) => name,
            _ => {
                let (node, problem) = (format!("node {index}"), "it has no name".to_owned());
                return Err(GraphError::Node { node, problem });
            }
        };
        let broken = |problem: String| GraphError::Node { node: name.clone(), problem };
        let inputs = keys.remove("inputs").unwrap_or_default();
        let inputs = Vec::<String>::deserialize(inputs)
            .map_err(|_| broken("\"inputs\" is not a list of names".to_owned()))?;
        match keys.get("op") {
            Some(Value::String(op)) if !OPS.contains(&op.as_str()) => {
                return Err(GraphError::UnknownOp { node: name, op: op.clone() });
            }
            _ => {}
        }
        let op = read(&name, &keys, "op")?;
        Ok(Self { name, inputs, op })
    }
}

impl Output {
    fn from_keys(index: usize, keys: Map<String, Value>) -> std::result::Result<Self, GraphError> {
        let name = keys.get("node").and_then(Value::as_str);
        read(&name.map_or_else(|| format!("output {index}"), str::to_owned), &keys, "node")
    }
}

/// Reads the keys of a node or output.
///
/// - `kind`: the key without which the others cannot be read.
fn read<T: DeserializeOwned>(
    node: &str,
    keys: &Map<String, Value>,
    kind: &str,
) -> std::result::Result<T, GraphError> {
    T::deserialize(&Value::Object(keys.clone())).map_err(|error| {
        let problem = error.to_string();
        misread::<T>(node, keys, kind, &problem)
            .unwrap_or_else(|| GraphError::Node { node: node.to_owned(), problem })
    })
}

/// The key that cannot be read, where it is a single one, and what it may be in words of users.
///
/// - `problem`: what the JSON reader says of all keys; it names one only where it is missing.
fn misread<T: DeserializeOwned>(
    node: &str,
    keys: &Map<String, Value>,
    kind: &str,
    problem: &str,
) -> Option<GraphError> {
    if let Some(missing) = problem.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        let (node, key, expected) = (node.to_owned(), missing.to_owned(), "a value".to_owned());
        return Some(GraphError::Hyperparameter { node, key, expected, received: "none".to_owned() });
    }
    // One key alone misses the others, unless it is this one that cannot be read.
    let (key, value, problem) = keys.iter().filter(|(key, _)| *key != kind).find_map(|(key, value)| {
        let alone = keys.iter().filter(|(other, _)| [kind, key].contains(&other.as_str()));
        let alone: Map<_, _> = alone.map(|(key, value)| (key.clone(), value.clone())).collect();
        let problem = T::deserialize(&Value::Object(alone)).err()?.to_string();
        (!problem.contains(" field `")).then_some((key, value, problem))
    })?;
    let expected = match problem.rsplit_once("expected ")?.1 {
        "usize" if value.is_array() => "whole numbers of at least 0",
        "usize" => "a whole number of at least 0",
        "f32" if value.is_array() => "numbers",
        "f32" => "a number",
        "a sequence" => "a list",
        other => other,
    };
    Some(GraphError::hyperparameter(node, key, expected, value))
}
