//! Networks against PyTorch: ten training losses, and the parameters after them, from the same weights and
//! batches.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

mod common;

use common::graphs::lenet5;
use common::{load, session};
use fovea_engine::{NamedTensor, Optimizer, StepOptions};
use fovea_kernels::Isa;
use fovea_reference::check::{relative_error, uniform, widen};
use fovea_reference::golden::Golden;
use serde::Deserialize;

#[derive(Clone, Copy, Deserialize)]
struct Options {
    learning_rate: f32,
    momentum: f32,
    weight_decay: f32,
    nesterov: bool,
    label_smoothing: f32,
}

impl From<Options> for StepOptions<'_> {
    fn from(options: Options) -> Self {
        let Options { learning_rate, momentum, weight_decay, nesterov, label_smoothing } = options;
        let optimizer = Optimizer::Sgd { momentum, nesterov };
        Self { learning_rate, optimizer, weight_decay, label_smoothing, ..Self::default() }
    }
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
            let options = StepOptions::from(options);
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

#[derive(Deserialize)]
struct Case {
    graph: serde_json::Value,
    #[serde(flatten)]
    options: Options,
}

/// The recipe of `network_weights` in tests/golden/make.py.
fn initial_by_name(mut tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
    tensors.sort_by(|one, other| one.name.cmp(&other.name));
    for (index, tensor) in tensors.iter_mut().enumerate() {
        let around_one = ["weight", "running_var"].iter().any(|end| tensor.name.ends_with(end));
        let (scale, middle) = match tensor.shape.len() {
            1 => (0.2, if around_one { 1.0 } else { 0.0 }),
            _ => ((6.0 / tensor.shape[1..].iter().product::<usize>() as f64).sqrt() as f32, 0.0),
        };
        let values = uniform(index as u64, tensor.values.len());
        tensor.values = values.into_iter().map(|value| value * scale + middle).collect();
    }
    tensors
}

#[test]
fn networks_of_every_layer_train_and_predict_as_pytorch_on_every_instruction_set() {
    let golden = Golden::open("network_losses");
    let &[_, batch, height, width, channels] = golden.shape("images") else {
        panic!("images of five dimensions")
    };
    let images: Vec<f32> = golden.values("images").iter().map(|byte| byte / 255.0).collect();
    let image_len = height * width * channels;
    let labels = golden.integers("labels");
    for (isa, (name, case)) in Isa::available()
        .into_iter()
        .flat_map(|isa| golden.cases::<Case>().into_iter().map(move |case| (isa, case)))
    {
        let mut session = session(&case.graph.to_string(), 2, isa);
        let weights = initial_by_name(session.weights());
        load(&mut session, &weights);
        let batches = images.chunks_exact(batch * image_len).zip(labels.chunks_exact(batch));
        for ((images, labels), &expected) in batches.zip(golden.values(&format!("{name}.losses"))) {
            let loss = session.train_step(images, labels, &case.options.into()).unwrap().loss;
            let error = (loss - expected).abs() / expected;
            assert!(error < 1e-5, "{} {name}: {loss} instead of {expected}", isa.name());
        }
        let trained = session.weights();
        assert_eq!(trained.len(), golden.names(&format!("{name}.final.")).len());
        for tensor in trained {
            let expected = widen(golden.values(&format!("{name}.final.{}", tensor.name)));
            let error = relative_error(&tensor.values, &expected);
            assert!(error < 1e-4, "{} {name}: {} is wrong by {error:e}", isa.name(), tensor.name);
        }
        let mut predictions = vec![0.0; batch * 10];
        session.predict(&images[..batch * image_len], batch, &mut predictions).unwrap();
        let error = relative_error(&predictions, &widen(golden.values(&format!("{name}.predictions"))));
        assert!(error < 1e-4, "{} {name}: predictions are wrong by {error:e}", isa.name());
    }
}
