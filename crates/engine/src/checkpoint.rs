//! Weights and checkpoints as safetensors files, written whole or not at all.
//!
//! A weights file holds parameters, running statistics and the counts of the batches that these have seen, all that is in a
//! PyTorch `state_dict`, in PyTorch's layout. A checkpoint holds, besides them, one
//! `optimizer.velocity.NAME` for each parameter and, in the metadata, the graph, the step, the seed and a JSON text that
//! belongs to the caller: a session that loads it continues as if it had never stopped, to the bit. A checkpoint is a
//! weights file too: its optimizer state is skipped.

use crate::error::{EngineError, Result};
use crate::graph::{Graph, OPTIMIZER};
use crate::parameters::{batches_name, check, export, import};
use crate::session::Session;
use fovea_formats::FormatError;
use fovea_formats::safetensors::{Count, SafeTensors, Tensor, write};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Begins the names of velocities.
const VELOCITY: &str = "optimizer.velocity.";

/// What readers of PyTorch weights look for: tensors are in PyTorch's layout.
const FORMAT: (&str, &str) = ("format", "pt");

impl Session {
    /// Writes parameters and running statistics to a safetensors file and returns its length in bytes.
    ///
    /// Errors: what the operating system refuses; an earlier file then stays as it was.
    pub fn save_weights(&self, path: &Path) -> Result<u64> {
        let weights = self.weights();
        let tensors: Vec<Tensor> = weights.iter().map(|tensor| tensor.as_tensor()).collect();
        self.write(path, &tensors, &[FORMAT])
    }

    /// Writes tensors and the counts of batches.
    fn write(&self, path: &Path, tensors: &[Tensor], metadata: &[(&str, &str)]) -> Result<u64> {
        let names: Vec<_> = self.network.norms().map(batches_name).collect();
        let counts = names.iter().zip(&self.batches).map(|(name, &value)| Count { name, value });
        Ok(write(path, tensors, &counts.collect::<Vec<_>>(), metadata)?)
    }

    /// Replaces all parameters and running statistics by those given, in PyTorch's layout; batches are counted from 0.
    ///
    /// Errors: one that lists every tensor that is missing, extra or misshapen; nothing is replaced then.
    pub fn load_weights(&mut self, tensors: &[Tensor]) -> Result<()> {
        // Values that do not fill their shape are told as a shape of one dimension.
        let lengths: Vec<_> = tensors.iter().map(|tensor| [tensor.values.len()]).collect();
        let shapes = tensors.iter().zip(&lengths).map(|(tensor, length)| {
            let elements = tensor.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
            (tensor.name, if elements == Some(length[0]) { tensor.shape } else { &length[..] })
        });
        check(&self.network, None, shapes)?;
        let by_name: HashMap<&str, &[f32]> =
            tensors.iter().map(|tensor| (tensor.name, tensor.values)).collect();
        self.import_weights(|name| Ok(by_name.get(name).copied().unwrap_or_default()))?;
        self.batches.fill(0);
        Ok(())
    }

    /// Replaces all parameters and running statistics by those of a safetensors file, a checkpoint among them; a batch
    /// normalization without a count of its batches begins at 0.
    ///
    /// Errors: as [`Session::load_weights`], and a file that cannot be read; nothing is replaced then.
    pub fn load_weights_file(&mut self, path: &Path) -> Result<()> {
        let file = SafeTensors::open(path)?;
        let names = file.names().iter().map(String::as_str).filter(|name| !name.starts_with(OPTIMIZER));
        check(&self.network, None, shapes(&file, names)?.into_iter())?;
        let batches = self.read_batches(&file)?;
        self.import_weights(|name| values(&file, name))?;
        self.batches = batches;
        Ok(())
    }

    /// The counts of batches that a file has, 0 where it has none.
    fn read_batches(&self, file: &SafeTensors) -> Result<Vec<i64>> {
        let found: HashSet<&str> = file.names().iter().map(String::as_str).collect();
        let counts = self.network.norms().map(batches_name).map(|name| match found.contains(name.as_str()) {
            true => Ok(file.count(&name)?),
            false => Ok(0),
        });
        counts.collect()
    }

    /// Replaces all parameters and running statistics by what `read` gives for their names, or nothing if it fails.
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
        self.prepare_training()?;
        let weights = self.weights();
        let velocities = export(&self.network.parameters, self.velocities.as_slice(), VELOCITY);
        let tensors: Vec<Tensor> =
            weights.iter().chain(&velocities).map(|tensor| tensor.as_tensor()).collect();
        let (graph, step, seed) = (self.graph().to_json(), self.step.to_string(), self.seed.to_string());
        let metadata = [FORMAT, ("graph", &graph), ("step", &step), ("seed", &seed), ("metadata", metadata)];
        self.write(path, &tensors, &metadata)
    }

    /// Continues from a checkpoint: parameters, velocities, step and seed. Returns the caller's metadata.
    ///
    /// Errors: a file that is no checkpoint, or one of another graph (the network's name may differ); nothing is replaced
    /// then.
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
        let names = file.names().iter().map(String::as_str);
        check(&self.network, Some(VELOCITY), shapes(&file, names)?.into_iter())?;
        let velocities = import(&self.network.parameters, VELOCITY, |name| values(&file, name))?;
        let batches = self.read_batches(&file)?;
        self.prepare_training()?;
        self.import_weights(|name| values(&file, name))?;
        (self.velocities, self.batches, self.step, self.seed) = (velocities, batches, step, seed);
        Ok(metadata)
    }
}

fn shapes<'a>(
    file: &'a SafeTensors,
    names: impl Iterator<Item = &'a str>,
) -> std::result::Result<Vec<(&'a str, &'a [usize])>, FormatError> {
    names.map(|name| Ok((name, file.shape(name)?))).collect()
}

fn values<'a>(file: &'a SafeTensors, name: &str) -> Result<Cow<'a, [f32]>> {
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
