//! The reference against PyTorch, on the golden files. They hold exact results rounded to f32.

use std::collections::BTreeMap;

use fovea_reference::check::{relative_error, uniform, widen};
use fovea_reference::optimizer::{Optimizer, Step};
use fovea_reference::{
    AdaptiveAvgPool2d, BatchNorm, Conv2d, Golden, LocalResponseNorm, MaxPool2d, Pool2d, Pooling, Upsample,
    activation, arithmetic, loss,
};
use serde::Deserialize;

const ROUNDING: f64 = 1e-7;

#[track_caller]
fn assert_equal(what: &str, golden: &[f32], reference: &[f64]) {
    let error = relative_error(golden, reference);
    assert!(
        error <= ROUNDING,
        "Expected {what} as PyTorch has it but the relative difference is {error:.1e}."
    );
}

#[test]
fn convolutions_and_their_gradients_equal_pytorch() {
    let golden = Golden::open("conv2d");
    let cases: BTreeMap<String, Conv2d> = golden.cases();
    assert!(cases.len() >= 20);
    for (name, conv) in cases {
        let [x, dy] = ["x", "dy"].map(|tensor| widen(&golden.nhwc(&format!("{name}.{tensor}"))));
        let [w, b] = ["w", "b"].map(|tensor| widen(golden.values(&format!("{name}.{tensor}"))));
        assert_equal(&name, &golden.nhwc(&format!("{name}.y")), &conv.forward(&x, &w, Some(&b)));
        assert_equal(&name, &golden.nhwc(&format!("{name}.dx")), &conv.backward_input(&dy, &w));
        assert_equal(&name, golden.values(&format!("{name}.dw")), &conv.backward_weight(&x, &dy));
        assert_equal(&name, golden.values(&format!("{name}.db")), &conv.backward_bias(&dy));
    }
}

#[test]
fn pooling_and_its_gradient_equal_pytorch() {
    let golden = Golden::open("pool2d");
    let cases: BTreeMap<String, Pooling> = golden.cases();
    assert!(cases.len() >= 40);
    for (name, pooling) in cases {
        let tensor = |tensor: &str| golden.nhwc(&format!("{name}.{tensor}"));
        let [x, dy] = ["x", "dy"].map(|name| widen(&tensor(name)));
        let (y, dx) = match pooling {
            Pooling::Max(pool) => {
                let (y, argmax) = pool.forward(&x);
                (y, pool.backward(&dy, &argmax))
            }
            Pooling::Average(pool) => (pool.forward(&x), pool.backward(&dy)),
        };
        assert_equal(&name, &tensor("y"), &y);
        assert_equal(&name, &tensor("dx"), &dx);
    }
}

/// A layer of the file `layers`, and the hyperparameters that its tensors do not tell.
#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "camelCase")]
enum Layer {
    Clip,
    HardSigmoid,
    HardSwish,
    LogSoftmax,
    Prelu,
    GlobalMaxPool,
    Upsample { factor: [usize; 2] },
    AdaptiveAvgPool { size: [usize; 2] },
    ConvTranspose { stride: [usize; 2], padding: [usize; 4], dilation: [usize; 2], groups: usize },
}

#[test]
fn layers_and_their_gradients_equal_pytorch() {
    let golden = Golden::open("layers");
    let cases: BTreeMap<String, Layer> = golden.cases();
    assert!(cases.len() >= 18);
    for (name, layer) in cases {
        let tensor = |tensor: &str| golden.nhwc(&format!("{name}.{tensor}"));
        let values = |tensor: &str| golden.values(&format!("{name}.{tensor}"));
        let [x, dy] = ["x", "dy"].map(|name| widen(&tensor(name)));
        let &[batch, channels, height, width] = golden.shape(&format!("{name}.x")) else {
            panic!("x of four dimensions")
        };
        let input = [height, width, channels];
        let (y, dx) = match layer {
            Layer::Clip => {
                let y = activation::clip(&x, -1.5, 2.0);
                let dx = activation::clip_backward(&dy, &y, -1.5, 2.0);
                (y, dx)
            }
            Layer::HardSigmoid => {
                let y = activation::hard_sigmoid(&x, 1.0 / 6.0, 0.5);
                let dx = activation::hard_sigmoid_backward(&dy, &y, 1.0 / 6.0);
                (y, dx)
            }
            Layer::HardSwish => (activation::hard_swish(&x), activation::hard_swish_backward(&dy, &x)),
            Layer::LogSoftmax => {
                let y = activation::log_softmax(&x, channels);
                let dx = activation::log_softmax_backward(&dy, &y, channels);
                (y, dx)
            }
            Layer::Prelu => {
                let weight = widen(values("w"));
                let (dx, dweight) = activation::prelu_backward(&dy, &x, &weight, channels);
                assert_equal(&name, values("dw"), &dweight);
                (activation::prelu(&x, &weight, channels), dx)
            }
            Layer::GlobalMaxPool => {
                let size = [height, width];
                let pool = Pool2d { batch, input, size, stride: size, padding: [0; 4], ceil_mode: false };
                let (y, argmax) = MaxPool2d(pool).forward(&x);
                (y, MaxPool2d(pool).backward(&dy, &argmax))
            }
            Layer::Upsample { factor } => {
                let upsample = Upsample { batch, input, factor };
                (upsample.forward(&x), upsample.backward(&dy))
            }
            Layer::AdaptiveAvgPool { size } => {
                let pool = AdaptiveAvgPool2d { batch, input, size };
                (pool.forward(&x), pool.backward(&dy))
            }
            Layer::ConvTranspose { stride, padding, dilation, groups } => {
                // The convolution whose input gradient it is.
                let &[_, filters, out_height, out_width] = golden.shape(&format!("{name}.y")) else {
                    panic!("y of four dimensions")
                };
                let &[.., kernel_height, kernel_width] = golden.shape(&format!("{name}.w")) else {
                    panic!("a weight of four dimensions")
                };
                let (input, kernel) = ([out_height, out_width, filters], [kernel_height, kernel_width]);
                let filters = channels;
                let conv = Conv2d { batch, input, filters, kernel, stride, padding, dilation, groups };
                assert_eq!(conv.output(), [height, width, channels]);
                let (weight, bias) = (widen(values("w")), widen(values("b")));
                assert_equal(&name, values("dw"), &conv.backward_weight(&dy, &x));
                let pixels = dy.len() / input[2];
                assert_equal(&name, values("db"), &arithmetic::gather(&dy, pixels, input[2]));
                let y = conv.backward_input(&x, &weight);
                let y = y.iter().enumerate().map(|(at, y)| y + bias[at % bias.len()]).collect();
                (y, conv.forward(&dy, &weight, None))
            }
        };
        assert_equal(&name, &tensor("y"), &y);
        assert_equal(&name, &tensor("dx"), &dx);
    }
}

#[test]
fn batch_normalisation_and_its_gradients_equal_pytorch() {
    let golden = Golden::open("batch_norm");
    for (name, norm) in golden.cases::<BatchNorm>() {
        let tensor = |tensor: &str| golden.nhwc(&format!("{name}.{tensor}"));
        let array = |array: &str| golden.values(&format!("{name}.{array}"));
        let [x, dy] = ["x", "dy"].map(|name| widen(&tensor(name)));
        let [weight, bias] = ["weight", "bias"].map(|name| widen(array(name)));
        let (channels, pixels) = (weight.len(), x.len() / weight.len());
        let statistics = norm.statistics(&x, channels);
        assert_equal(&name, &tensor("y"), &norm.normalize(&x, &statistics, &weight, &bias));
        let gradients = norm.backward(&x, &dy, &weight);
        assert_equal(&name, &tensor("dx"), &gradients.dx);
        assert_equal(&name, array("dweight"), &gradients.dweight);
        assert_equal(&name, array("dbias"), &gradients.dbias);

        let second = norm.statistics(&x.iter().map(|x| x + 1.0).collect::<Vec<_>>(), channels);
        let [zeros, ones] = [0.0, 1.0].map(|value| vec![value; channels]);
        let [mean, variance] = norm.follow([&zeros, &ones], &statistics, pixels);
        let running = norm.follow([&mean, &variance], &second, pixels);
        assert_equal(&name, array("mean"), &running[0]);
        assert_equal(&name, array("variance"), &running[1]);
        assert_equal(&name, &tensor("inference"), &norm.normalize(&x, &running, &weight, &bias));
    }
}

#[test]
fn local_response_normalisation_and_its_gradient_equal_pytorch() {
    let golden = Golden::open("local_response_norm");
    for (name, norm) in golden.cases::<LocalResponseNorm>() {
        let tensor = |tensor: &str| golden.nhwc(&format!("{name}.{tensor}"));
        let [x, dy] = ["x", "dy"].map(|name| widen(&tensor(name)));
        let channels = golden.shape(&format!("{name}.x"))[1];
        assert_equal(&name, &tensor("y"), &norm.forward(&x, channels));
        assert_equal(&name, &tensor("dx"), &norm.backward(&x, &dy, channels));
    }
}

#[test]
fn softmax_cross_entropy_equals_pytorch() {
    let golden = Golden::open("softmax_cross_entropy");
    for (name, options) in golden.cases::<BTreeMap<String, f64>>() {
        let tensor = |tensor: &str| golden.values(&format!("{name}.{tensor}"));
        let classes = golden.shape(&format!("{name}.logits"))[1];
        let logits = widen(tensor("logits"));
        let labels = golden.integers(&format!("{name}.labels"));
        let result = loss::softmax_cross_entropy(&logits, &labels, classes, options["label_smoothing"]);
        assert_equal(&name, tensor("losses"), &result.losses);
        assert_equal(&name, tensor("dlogits"), &result.dlogits);
        assert_equal(&name, tensor("softmax"), &activation::softmax(&logits, classes));
    }
}

#[derive(Deserialize)]
struct LossCase {
    kind: String,
    label_smoothing: f64,
}

#[test]
fn every_loss_equals_pytorch_with_labels_values_and_class_weights() {
    let golden = Golden::open("losses");
    for (name, case) in golden.cases::<LossCase>() {
        let tensor = |tensor: &str| golden.values(&format!("{name}.{tensor}"));
        let names = golden.names(&format!("{name}."));
        let classes = golden.shape(&format!("{name}.x"))[1];
        let x = widen(tensor("x"));
        let weights = names.contains(&"weights").then(|| widen(tensor("weights")));
        let (labels, values) = match names.contains(&"labels") {
            true => (golden.integers(&format!("{name}.labels")), Vec::new()),
            false => (Vec::new(), widen(tensor("values"))),
        };
        let targets = match labels.is_empty() {
            true => loss::Targets::Values(&values),
            false => loss::Targets::Labels(&labels),
        };
        let result = match case.kind.as_str() {
            "crossEntropy" => {
                loss::cross_entropy(&x, targets, classes, case.label_smoothing, weights.as_deref())
            }
            "binaryCrossEntropy" => loss::binary_cross_entropy(&x, targets, classes),
            "meanSquaredError" => loss::mean_squared_error(&x, targets, classes),
            _ => loss::maximum_a_posteriori(&x, targets, classes, 0.5),
        };
        assert_equal(&name, tensor("mean"), &[result.mean()]);
        assert_equal(&name, tensor("gradient"), &result.gradient);
    }
}

#[derive(Deserialize)]
struct OptimizerCase {
    learning_rate: f64,
    weight_decay: f64,
    optimizer: Optimizer,
}

#[test]
fn every_optimizer_equals_pytorch_over_ten_steps() {
    let golden = Golden::open("optimizers");
    let cases = golden.cases::<OptimizerCase>();
    assert!(cases.len() >= 12);
    for (name, OptimizerCase { learning_rate, weight_decay, optimizer }) in cases {
        let gradients = format!("{name}.gradients");
        let length = golden.shape(&gradients)[1];
        let mut rows = golden.values(&format!("{name}.parameters")).chunks_exact(length);
        let mut parameters = widen(rows.next().unwrap());
        let mut states = [(); 3].map(|()| vec![0.0; length]);
        let steps = golden.values(&gradients).chunks_exact(length).zip(rows);
        for (number, (gradient, expected)) in (1..).zip(steps) {
            let step = Step { learning_rate, weight_decay, number, adapts: true };
            optimizer.step(step, &mut parameters, &widen(gradient), &mut states);
            assert_equal(&name, expected, &parameters);
        }
    }
}

#[test]
fn the_seeded_values_are_the_ones_that_the_golden_script_draws() {
    let golden = Golden::open("optimizers"); // its first case draws the gradients from seed 0, the parameters from 1
    let gradients = golden.values("sgd-plain.gradients");
    assert_eq!(gradients, uniform(0, gradients.len()));
    let length = golden.shape("sgd-plain.gradients")[1];
    assert_eq!(golden.values("sgd-plain.parameters")[..length], uniform(1, length));
}
