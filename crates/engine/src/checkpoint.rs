//! Weights and checkpoints as safetensors files, written whole or not at all.
//!
//! A weights file holds parameters, running statistics and the counts of the batches that these have seen, all
//! that is in a PyTorch `state_dict`, in PyTorch's layout. A checkpoint holds, besides them, an
//! `optimizer.STATE.NAME` for each parameter and each state of the optimizer, `optimizer.average.NAME` for
//! averaged weights and, in the metadata, the graph, the step, the seed, the optimizer with its count of steps,
//! and a JSON text that belongs to the caller: a session that loads it continues as if it had never stopped, to
//! the bit. A checkpoint is a weights file too: its optimizer state is skipped.

use crate::error::{EngineError, Result};
use crate::graph::{Graph, OPTIMIZER};
use crate::network::Network;
use crate::parameters::{Copied, batches_name, check, export, goes_by, import};
use crate::session::Session;
use crate::update::{Averaged, KINDS, OptimizerState};
use fovea_formats::FormatError;
use fovea_formats::safetensors::{Count, SafeTensors, Tensor, write};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Begins the names of averaged weights.
const AVERAGE: &str = "optimizer.average.";

/// What readers of PyTorch weights look for: tensors are in PyTorch's layout.
const FORMAT: (&str, &str) = ("format", "pt");

impl Session {
    /// Writes parameters and running statistics to a safetensors file and returns its length in bytes.
    ///
    /// Errors: what the operating system refuses; an earlier file then stays as it was.
    pub fn save_weights(&self, path: &Path) -> Result<u64> {
        let weights = self.export_weights()?;
        let tensors: Vec<Tensor> = weights.iter().map(|tensor| tensor.as_tensor()).collect();
        self.write(path, &tensors, &[FORMAT])
    }

    /// Writes tensors and the counts of batches.
    fn write(&self, path: &Path, tensors: &[Tensor], metadata: &[(&str, &str)]) -> Result<u64> {
        let names: Vec<_> = self.network.norms.iter().map(|norm| batches_name(norm)).collect();
        let counts = names.iter().zip(&self.batches).map(|(name, &value)| Count { name, value });
        Ok(write(path, tensors, &counts.collect::<Vec<_>>(), metadata)?)
    }

    /// Replaces all parameters and running statistics by those given, in PyTorch's layout; batches are counted
    /// from 0.
    ///
    /// Errors: one that lists every tensor that is missing, extra or misshapen; nothing is replaced then.
    pub fn load_weights(&mut self, tensors: &[Tensor]) -> Result<()> {
        // Values that do not fill their shape are told as a shape of one dimension.
        let lengths: Vec<_> = tensors.iter().map(|tensor| [tensor.values.len()]).collect();
        let shapes = tensors.iter().zip(&lengths).map(|(tensor, length)| {
            let elements = tensor.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
            (tensor.name, if elements == Some(length[0]) { tensor.shape } else { &length[..] })
        });
        check(&self.network, &[], &[], shapes)?;
        let by_name: HashMap<&str, &[f32]> =
            tensors.iter().map(|tensor| (tensor.name, tensor.values)).collect();
        self.import_weights(|name| Ok(by_name.get(name).copied().unwrap_or_default()))?;
        self.batches.fill(0);
        Ok(())
    }

    /// Replaces all parameters and running statistics by those of a safetensors file, a checkpoint among them;
    /// without those that go by a name of `except`, of a tensor, layer or block of layers, which stay as they
    /// are. A batch normalization without a count of its batches begins at 0.
    ///
    /// Errors: as [`Session::load_weights`], a file that cannot be read, a name by which nothing goes; nothing
    /// is replaced then.
    pub fn load_weights_file(&mut self, path: &Path, except: &[String]) -> Result<()> {
        let file = SafeTensors::open(path)?;
        let names = || file.names().iter().map(String::as_str).filter(|name| !name.starts_with(OPTIMIZER));
        let weights = if except.is_empty() { Vec::new() } else { self.export_weights()? };
        let mut kept = HashMap::new();
        for name in except {
            let own = weights.iter().filter(|tensor| goes_by(&tensor.name, name));
            kept.extend(own.map(|tensor| (tensor.name.as_str(), &tensor.values[..])));
            let known =
                kept.keys().any(|tensor| goes_by(tensor, name)) || names().any(|other| goes_by(other, name));
            if !known {
                let expected = "names of layers or tensors of the network or the file";
                return Err(EngineError::argument("except", expected, format_args!("\"{name}\"")));
            }
        }
        check(&self.network, &[], except, shapes(&file, names())?.into_iter())?;
        let batches = self.read_batches(&file, except)?;
        self.import_weights(|name| match kept.get(name) {
            Some(values) => Ok(Cow::Borrowed(*values)),
            None => Ok(Cow::Owned(values(&file, name)?)),
        })?;
        self.batches = batches;
        Ok(())
    }

    /// The counts of batches that a file has, 0 where it has none; those that go by a name of `except` are the
    /// session's.
    fn read_batches(&self, file: &SafeTensors, except: &[String]) -> Result<Vec<i64>> {
        let found: HashSet<&str> = file.names().iter().map(String::as_str).collect();
        let names = self.network.norms.iter().map(|norm| batches_name(norm)).zip(&self.batches);
        let counts = names.map(|(name, &own)| match found.contains(name.as_str()) {
            _ if except.iter().any(|other| goes_by(&name, other)) => Ok(own),
            true => Ok(file.count(&name)?),
            false => Ok(0),
        });
        counts.collect()
    }

    /// Replaces all parameters and running statistics by what `read` gives for their names, or nothing if it
    /// fails.
    fn import_weights<'a, Values: AsRef<[f32]> + 'a>(
        &mut self,
        read: impl Fn(&str) -> Result<Values>,
    ) -> Result<()> {
        let parameters = import(&self.network.parameters, "", &read)?;
        let state = import(&self.network.state, "", &read)?;
        self.set_parameters(parameters, state);
        Ok(())
    }

    /// Writes everything that training needs to go on to a safetensors file and returns its length in bytes;
    /// `metadata` is the caller's and comes back from [`Session::load_checkpoint`].
    ///
    /// Errors: what the operating system refuses; an earlier file then stays as it was.
    pub fn save_checkpoint(&mut self, path: &Path, metadata: &str) -> Result<u64> {
        let mut all = self.export_weights()?;
        let parameters = &self.network.parameters;
        for (prefix, state) in self.optimizer.prefixes().iter().zip(&self.optimizer.states) {
            if state.len() > 0 {
                all.extend(export(parameters, state.as_slice(), prefix)?);
            }
        }
        if self.averaged.exist {
            all.extend(export(parameters, self.averaged.parameters.as_slice(), AVERAGE)?);
            all.extend(export(&self.network.state, self.averaged.state.as_slice(), AVERAGE)?);
        }
        let tensors: Vec<Tensor> = all.iter().map(|tensor| tensor.as_tensor()).collect();
        let (graph, kind) = (self.graph().to_json(), self.optimizer.kind.unwrap_or_default());
        let [step, seed, updates] = [self.step, self.seed, self.optimizer.updates].map(|n| n.to_string());
        let metadata = [
            FORMAT,
            ("graph", &graph),
            ("step", &step),
            ("seed", &seed),
            ("optimizer", kind),
            ("updates", &updates),
            ("metadata", metadata),
        ];
        self.write(path, &tensors, &metadata)
    }

    /// Continues from a checkpoint: parameters, the optimizer's state, averaged weights, step and seed. Returns
    /// the caller's metadata.
    ///
    /// Errors: a file that is no checkpoint, or one of another graph (the network's name may differ); nothing
    /// is replaced then.
    pub fn load_checkpoint(&mut self, path: &Path) -> Result<String> {
        let file = SafeTensors::open(path)?;
        let wrong = |problem: String| EngineError::Checkpoint { file: path.display().to_string(), problem };
        let text = |key: &str| {
            file.metadata(key)
                .ok_or_else(|| wrong(format!("received a file without \"{key}\" in its metadata")))
        };
        let number = |key: &str| {
            let text = text(key)?;
            text.parse::<u64>().map_err(|_| wrong(format!("received the {key} \"{text}\"")))
        };
        let graph = Graph::from_json(text("graph")?)?;
        if let Some(difference) = difference(self.graph(), &graph) {
            return Err(wrong(difference));
        }
        let (step, seed, metadata) = (number("step")?, number("seed")?, text("metadata")?.to_owned());
        let mut optimizer = OptimizerState { loaded: true, ..OptimizerState::default() };
        match file.metadata("optimizer") {
            Some("") => {}
            Some(name) => {
                let known = KINDS.iter().find(|(kind, _)| *kind == name).map(|&(kind, _)| kind);
                optimizer.kind =
                    Some(known.ok_or_else(|| wrong(format!("received the optimizer \"{name}\"")))?);
                optimizer.updates = number("updates")?;
            }
            // There was but one when checkpoints did not say which.
            None => (optimizer.kind, optimizer.updates) = (Some("sgd"), step),
        }
        let begins = |prefix: &str| file.names().iter().any(|name| name.starts_with(prefix));
        let prefixes = optimizer.prefixes();
        let there = prefixes.each_ref().map(|prefix| !prefix.is_empty() && begins(prefix));
        let Network { parameters, state, .. } = &self.network;
        let states = prefixes.iter().zip(there).filter(|(_, there)| *there);
        let mut copied: Vec<_> = states.map(|(prefix, _)| Copied { prefix, tensors: parameters }).collect();
        if begins(AVERAGE) {
            copied.extend([parameters, state].map(|tensors| Copied { prefix: AVERAGE, tensors }));
        }
        let names = file.names().iter().map(String::as_str);
        check(&self.network, &copied, &[], shapes(&file, names)?.into_iter())?;
        for ((buffer, prefix), there) in optimizer.states.iter_mut().zip(&prefixes).zip(there) {
            if there {
                *buffer = import(parameters, prefix, |name| values(&file, name))?;
            }
        }
        let mut averaged = Averaged::default();
        if begins(AVERAGE) {
            averaged.parameters = import(parameters, AVERAGE, |name| values(&file, name))?;
            averaged.state = import(state, AVERAGE, |name| values(&file, name))?;
            averaged.exist = true;
        }
        let batches = self.read_batches(&file, &[])?;
        self.import_weights(|name| values(&file, name))?;
        (self.optimizer, self.averaged, self.batches) = (optimizer, averaged, batches);
        (self.step, self.seed) = (step, seed);
        Ok(metadata)
    }
}

fn shapes<'a>(
    file: &'a SafeTensors,
    names: impl Iterator<Item = &'a str>,
) -> std::result::Result<Vec<(&'a str, &'a [usize])>, FormatError> {
    names.map(|name| Ok((name, file.shape(name)?))).collect()
}

fn values(file: &SafeTensors, name: &str) -> Result<Vec<f32>> {
    Ok(file.values(name)?)
}

/// The first difference between two graphs besides their names, in words that follow "but".
fn difference(expected: &Graph, received: &Graph) -> Option<String> {
    if expected.input != received.input {
        return Some(format!(
            "received one whose input is {:?} instead of {:?}",
            received.input, expected.input
        ));
    }
    for (mine, other) in expected.nodes.iter().zip(&received.nodes) {
        if mine != other {
            let json = |node| serde_json::to_string(node).unwrap_or_default();
            return Some(format!("received one with the node {} instead of {}", json(other), json(mine)));
        }
    }
    if expected.nodes.len() != received.nodes.len() {
        let (received, expected) = (received.nodes.len(), expected.nodes.len());
        return Some(format!("received one of {received} nodes instead of {expected}"));
    }
    if expected.outputs != received.outputs {
        let names = |graph: &Graph| {
            let output = |output: &crate::graph::Output| format!("{} x {}", output.node, output.loss_weight);
            graph.outputs.iter().map(output).collect::<Vec<_>>().join(", ")
        };
        return Some(format!(
            "received one with the outputs {} instead of {}",
            names(received),
            names(expected)
        ));
    }
    None
}
