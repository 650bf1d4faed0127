//! LeNet-5 against PyTorch: ten training losses, and the parameters after them, from the same weights and batches.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

mod common;

use common::graphs::lenet5;
use common::{load, session};
use fovea_engine::{NamedTensor, SgdOptions};
use fovea_kernels::Isa;
use fovea_reference::check::{relative_error, uniform, widen};
use fovea_reference::golden::Golden;
use serde::Deserialize;

#[derive(Deserialize)]
struct Options {
    learning_rate: f32,
    momentum: f32,
    weight_decay: f32,
    nesterov: bool,
    label_smoothing: f32,
}

/// The recipe of tests/golden/make.py.
fn initial(mut tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
    let mut fan_in = 1.0;
    for (index, tensor) in tensors.iter_mut().enumerate() {
        let is_weight = tensor.name.ends_with("weight");
        if is_weight {
            fan_in = tensor.shape[1..].iter().product::<usize>() as f64;
        }
        let bound = (if is_weight { 6.0 } else { 1.0 } / fan_in).sqrt() as f32;
        let values = uniform(index as u64, tensor.values.len());
        tensor.values = values.into_iter().map(|value| value * bound).collect();
    }
    tensors
}

/// Names in the golden file, whose network calls its layers so, and in the test's graph.
const NAMES: [(&str, &str); 5] =
    [("node0", "conv1"), ("node3", "conv2"), ("node7", "fc1"), ("node9", "fc2"), ("node11", "fc3")];

#[test]
fn ten_losses_and_the_parameters_after_them_equal_pytorch_on_every_instruction_set() {
    let golden = Golden::open("lenet5_losses");
    let batch = golden.shape("labels")[1];
    let images: Vec<f32> = golden.values("images").iter().map(|byte| byte / 255.0).collect();
    let labels = golden.integers("labels");
    for isa in Isa::available() {
        for (case, options) in golden.cases::<Options>() {
            let Options { learning_rate, momentum, weight_decay, nesterov, label_smoothing } = options;
            let options = SgdOptions { learning_rate, momentum, weight_decay, nesterov, label_smoothing };
            let mut session = session(&lenet5(), 2, isa);
            let weights = initial(session.weights());
            load(&mut session, &weights);
            let batches = images.chunks_exact(batch * 28 * 28).zip(labels.chunks_exact(batch));
            for ((images, labels), &expected) in batches.zip(golden.values(&format!("{case}.losses"))) {
                let loss = session.train_step(images, labels, &options).unwrap().loss;
                assert!(
                    (loss - expected).abs() < 1e-5 * expected,
                    "{} {case}: {loss} {expected}",
                    isa.name()
                );
            }
            let finals = format!("{case}.final.");
            if golden.names(&finals).is_empty() {
                continue;
            }
            for tensor in session.weights() {
                let (node, parameter) = tensor.name.split_once('.').unwrap();
                let layer = NAMES.iter().find(|(name, _)| *name == node).unwrap().1;
                let expected = widen(golden.values(&format!("{finals}{layer}.{parameter}")));
                let error = relative_error(&tensor.values, &expected);
                assert!(error < 1e-5, "{} {case}: {layer}.{parameter} is wrong by {error:e}", isa.name());
            }
        }
    }
}
