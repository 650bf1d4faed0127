//! A second, naive implementation of whole graphs in f64 from the reference operations, in PyTorch's meaning: a
//! flatten counts channel by channel. No plan, no fusion, nothing in place.

mod backward;
mod forward;
mod geometry;
mod rounding;

pub use backward::Gradients;
pub use rounding::{Rounding, margins};

use fovea_engine::{Graph, NamedTensor, Op, Output, OutputLoss};
use fovea_reference::check::widen;
use fovea_reference::loss::{self, Loss, Targets};
use std::collections::HashMap;

/// What the network is run for.
#[derive(Clone, Copy)]
pub enum Purposes {
    /// Statistics of the batch, dropout by the numbers of this seed and step.
    Training { seed: u64, step: u64 },
    /// Running statistics, no dropout.
    Inference,
}

/// A feature map `[n, h, w, c]`; flat ones are `[n, 1, 1, c]`.
#[derive(Clone)]
pub struct Map {
    pub values: Vec<f64>,
    pub shape: [usize; 3],
    /// Where the engine has each channel of a flattened map, which counts pixel by pixel there: dropout's
    /// numbers belong to these places.
    pub places: Option<Vec<usize>>,
}

/// Values of all nodes by name.
pub type Maps = HashMap<String, Map>;

/// A graph with its weights and what it is run for.
pub struct Oracle<'a> {
    pub graph: &'a Graph,
    pub weights: &'a [(String, Vec<f64>)],
    pub purpose: Purposes,
}

/// How outputs are judged.
#[derive(Clone, Copy)]
pub struct Judge<'a> {
    pub targets: Targets<'a>,
    pub label_smoothing: f64,
    pub class_weights: Option<&'a [f64]>,
}

impl<'a> Oracle<'a> {
    /// The weighted sum of the outputs' mean losses.
    pub fn loss(&self, images: &[f64], labels: &[u32], label_smoothing: f64) -> f64 {
        self.loss_by(images, Targets::Labels(labels), label_smoothing, None)
    }

    /// As [`Oracle::loss`], with any targets and with class weights.
    pub fn loss_by(
        &self,
        images: &[f64],
        targets: Targets,
        label_smoothing: f64,
        class_weights: Option<&[f64]>,
    ) -> f64 {
        let maps = self.forward(images, images.len() / self.graph.input.iter().product::<usize>());
        self.loss_of(&maps, &Judge { targets, label_smoothing, class_weights })
    }

    /// The weighted sum of the mean losses of outputs that have been computed.
    pub fn loss_of(&self, maps: &Maps, judge: &Judge) -> f64 {
        let weighted =
            |output: &Output| f64::from(output.loss_weight) * judge.judge(output, &maps[&output.node]).mean();
        self.graph.outputs.iter().map(weighted).sum()
    }

    fn weight(&self, node: &str, parameter: &str) -> Option<&'a [f64]> {
        let name = format!("{node}.{parameter}");
        self.weights.iter().find(|(other, _)| *other == name).map(|(_, values)| &values[..])
    }
}

impl Judge<'_> {
    /// The loss of an output.
    pub fn judge(&self, output: &Output, map: &Map) -> Loss {
        let Self { targets, label_smoothing, class_weights } = *self;
        let classes = match targets {
            Targets::Labels(_) => map.shape[2],
            Targets::Values(_) if matches!(output.loss, OutputLoss::CrossEntropy {}) => map.shape[2],
            Targets::Values(_) => map.shape.iter().product(),
        };
        let values = &map.values;
        match output.loss {
            OutputLoss::CrossEntropy {} => {
                loss::cross_entropy(values, targets, classes, label_smoothing, class_weights)
            }
            OutputLoss::BinaryCrossEntropy {} => loss::binary_cross_entropy(values, targets, classes),
            OutputLoss::MeanSquaredError {} => loss::mean_squared_error(values, targets, classes),
            OutputLoss::MaximumAPosteriori { rejection } => {
                loss::maximum_a_posteriori(values, targets, classes, rejection.into())
            }
        }
    }
}

/// Whether an operation takes means away from values and divides by deviations.
fn normalizes(op: &Op) -> bool {
    matches!(op, Op::BatchNorm(_) | Op::GroupNorm(_) | Op::LayerNorm(_))
}

pub fn wide(weights: &[NamedTensor]) -> Vec<(String, Vec<f64>)> {
    weights.iter().map(|tensor| (tensor.name.clone(), widen(&tensor.values))).collect()
}
