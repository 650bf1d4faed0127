//! The kernels against PyTorch, on the golden files, for every instruction set of this machine.

#![allow(clippy::unwrap_used)] // clippy knows test functions, not the helpers beside them

use std::collections::BTreeMap;

use fovea_kernels::batch_norm::{self, Backward, Mask, Running};
use fovea_kernels::conv2d::{Conv2d, Conv2dShape, Forward, Pass};
use fovea_kernels::local_response_norm::LocalResponseNorm;
use fovea_kernels::loss::{Criterion, Targets};
use fovea_kernels::optimizer::{Moments, Optimizer, STATES, Span, Spans, Update};
use fovea_kernels::pool2d::{AvgPool2d, MaxPool2d, Pool2dShape};
use fovea_kernels::softmax::softmax;
use fovea_kernels::{Activation, Context, Isa, Pool, View4, ViewMut4};
use fovea_reference::check::{relative_error, widen};
use fovea_reference::{self as reference, Golden, Pooling};

/// Of the largest value: a dozen roundings of f32 (6e-8 each); the longest sums here have some hundred
/// products.
const TOLERANCE: f64 = 1e-6;

fn on_every_isa(test: impl Fn(Context)) {
    let pool = Pool::new(2);
    Isa::available().into_iter().for_each(|isa| test(Context { isa, pool: &pool }));
}

#[track_caller]
fn assert_equal(context: Context, what: &str, actual: &[f32], golden: &[f32]) {
    let error = relative_error(actual, &widen(golden));
    let isa = context.isa.name();
    assert!(error <= TOLERANCE, "Expected {what} as PyTorch has it but {isa} differs by {error:.1e}.");
}

fn view(values: &[f32], shape: [usize; 4]) -> View4<'_> {
    View4::new(values, shape, shape[3]).unwrap()
}

/// What a kernel writes into memory full of NaN: nothing may be left or added to.
fn written(shape: [usize; 4], write: impl FnOnce(ViewMut4)) -> Vec<f32> {
    let mut values = vec![f32::NAN; shape.iter().product()];
    write(ViewMut4::new(&mut values, shape, shape[3]).unwrap());
    values
}

/// Scratch memory aligned to 8 bytes, full of NaN: a kernel reads only what it wrote before.
struct Scratch(Vec<f32>);

impl Scratch {
    fn new(length: usize) -> Self {
        Self(vec![f32::NAN; length + 1])
    }

    fn aligned(&mut self) -> &mut [f32] {
        let skip = self.0.as_ptr().align_offset(8);
        &mut self.0[skip..]
    }
}

fn batched(batch: usize, [height, width, channels]: [usize; 3]) -> [usize; 4] {
    [batch, height, width, channels]
}

#[test]
fn convolutions_and_their_gradients_equal_pytorch() {
    let golden = Golden::open("conv2d");
    let cases: BTreeMap<String, reference::Conv2d> = golden.cases();
    on_every_isa(|context| {
        cases.iter().for_each(|(name, case)| convolution_equals_pytorch(context, &golden, name, case));
    });
}

fn convolution_equals_pytorch(context: Context, golden: &Golden, name: &str, case: &reference::Conv2d) {
    let &reference::Conv2d { batch, input, filters, kernel, stride, padding, dilation, groups } = case;
    let shape = Conv2dShape { input, filters, kernel, stride, padding, dilation, groups };
    let convolution = Conv2d::new(shape, context.isa).unwrap();
    let (input, output) = (batched(batch, input), batched(batch, convolution.output()));
    let of = |tensor: &str| format!("{name}.{tensor}");
    let [x, dy] = ["x", "dy"].map(|tensor| golden.nhwc(&of(tensor)));
    let scratch = |pass| Scratch::new(convolution.scratch_len(pass, batch, context.pool.at_once()));

    let mut weight = vec![0.0; convolution.weight_len()];
    convolution.pack_weight(golden.values(&of("w")), &mut weight);
    let y = written(output, |y| {
        let bias = Some(golden.values(&of("b")));
        let mut scratch = scratch(Pass::Forward);
        let forward = Forward { bias, ..Forward::new(view(&x, input), &weight) };
        convolution.forward(context, forward, y, scratch.aligned());
    });
    assert_equal(context, &of("y"), &y, &golden.nhwc(&of("y")));

    let mut gradient_weight = vec![f32::NAN; convolution.gradient_weight_len()];
    convolution.pack_gradient_weight(context, &weight, &mut gradient_weight);
    let dx = written(input, |dx| {
        let mut scratch = scratch(Pass::BackwardInput);
        convolution.backward_input(context, view(&dy, output), &gradient_weight, None, dx, scratch.aligned());
    });
    assert_equal(context, &of("dx"), &dx, &golden.nhwc(&of("dx")));

    let (mut dweight, mut dbias) = (vec![f32::NAN; weight.len()], vec![f32::NAN; filters]);
    let mut scratch = scratch(Pass::BackwardWeight);
    let [x, dy] = [view(&x, input), view(&dy, output)];
    convolution.backward_weight(context, x, dy, &mut dweight, Some(&mut dbias), scratch.aligned());
    let mut dw = vec![f32::NAN; shape.parameters()];
    convolution.unpack_weight(&dweight, &mut dw);
    assert_equal(context, &of("dw"), &dw, golden.values(&of("dw")));
    assert_equal(context, &of("db"), &dbias, golden.values(&of("db")));
}

#[test]
fn pooling_and_its_gradient_equal_pytorch() {
    let golden = Golden::open("pool2d");
    let cases: BTreeMap<String, Pooling> = golden.cases();
    on_every_isa(|context| {
        cases.iter().for_each(|(name, case)| pooling_equals_pytorch(context, &golden, name, case));
    });
}

fn pooling_equals_pytorch(context: Context, golden: &Golden, name: &str, case: &Pooling) {
    let (Pooling::Max(reference::MaxPool2d(window))
    | Pooling::Average(reference::AvgPool2d { pool: window, .. })) = case;
    let &reference::Pool2d { batch, input, size, stride, padding, ceil_mode } = window;
    let shape = Pool2dShape { input, size, stride, padding, ceil_mode };
    let (input, output) = (batched(batch, input), batched(batch, shape.output().unwrap()));
    let [x, y, dy, dx] = ["x", "y", "dy", "dx"].map(|tensor| golden.nhwc(&format!("{name}.{tensor}")));
    let (x, dy) = (view(&x, input), view(&dy, output));
    let (actual_y, actual_dx) = match case {
        Pooling::Max(_) => {
            let pool = MaxPool2d::new(shape).unwrap();
            let mut argmax = vec![u8::MAX; output.iter().product()];
            let y = written(output, |y| pool.forward(context, x, Activation::None, y, Some(&mut argmax)));
            (y, written(input, |dx| pool.backward(context, dy, &argmax, None, dx)))
        }
        Pooling::Average(average) => {
            let pool = AvgPool2d::new(shape, average.count_include_pad).unwrap();
            let y = written(output, |y| pool.forward(context, x, y));
            (y, written(input, |dx| pool.backward(context, dy, dx)))
        }
    };
    assert_equal(context, &format!("{name}.y"), &actual_y, &y);
    assert_equal(context, &format!("{name}.dx"), &actual_dx, &dx);
}

#[test]
fn batch_normalisation_and_its_gradients_equal_pytorch() {
    let golden = Golden::open("batch_norm");
    let cases: BTreeMap<String, reference::BatchNorm> = golden.cases();
    on_every_isa(|context| {
        cases.iter().for_each(|(name, case)| batch_norm_equals_pytorch(context, &golden, name, case));
    });
}

fn batch_norm_equals_pytorch(context: Context, golden: &Golden, name: &str, case: &reference::BatchNorm) {
    let (epsilon, momentum) = (case.epsilon as f32, case.momentum as f32);
    let of = |tensor: &str| format!("{name}.{tensor}");
    let &[n, channels, h, w] = golden.shape(&of("x")) else { panic!("{name}") };
    let shape = [n, h, w, channels];
    let [x, dy] = ["x", "dy"].map(|tensor| golden.nhwc(&of(tensor)));
    let next: Vec<_> = x.iter().map(|x| x + 1.0).collect();
    let (x, next, dy) = (view(&x, shape), view(&next, shape), view(&dy, shape));
    let [weight, bias] = ["weight", "bias"].map(|array| golden.values(&of(array)));

    let (mut mean, mut variance) = (vec![0.0; channels], vec![1.0; channels]);
    let mut scratch = vec![f32::NAN; batch_norm::scratch_len(shape)];
    let mut saved = [x, next].map(|x| {
        let mut saved = vec![f32::NAN; 2 * channels];
        let running = Running { mean: &mut mean, variance: &mut variance, momentum };
        batch_norm::statistics(context, x, epsilon, &mut saved, running, &mut scratch);
        saved
    });
    let saved = std::mem::take(&mut saved[0]);
    assert_equal(context, &of("mean"), &mean, golden.values(&of("mean")));
    assert_equal(context, &of("variance"), &variance, golden.values(&of("variance")));

    let mut affine = vec![f32::NAN; 2 * channels];
    // A mean of a hundred deviations: what f32 keeps of x is a hundred times coarser beside a deviation.
    let normalise = |affine: &[f32], tensor: &str| {
        let y = written(shape, |y| batch_norm::normalize(context, x, affine, None, Activation::None, y));
        let error = relative_error(&y, &widen(&golden.nhwc(&of(tensor))));
        assert!(error <= if name == "far-from-zero" { 2e-5 } else { 2e-6 }, "{name}.{tensor}: {error:.1e}");
    };
    batch_norm::running_affine(&mean, &variance, epsilon, weight, bias, &mut affine);
    normalise(&affine, "inference");
    batch_norm::affine(&saved, weight, bias, &mut affine);
    normalise(&affine, "y");

    let [mut dweight, mut dbias] = [(); 2].map(|()| vec![f32::NAN; channels]);
    let (weights, scratch) = ((&mut dweight, &mut dbias), &mut scratch);
    let backward = Backward { x, dy, mask: Mask::None, saved: &saved, affine: &affine };
    batch_norm::backward_sums(context, backward, weights.0, weights.1, None, scratch);
    let dx = written(shape, |dx| {
        batch_norm::backward_input(context, backward, &dweight, &dbias, dx);
    });
    for (tensor, actual, expected) in [
        ("dweight", &dweight, golden.values(&of("dweight"))),
        ("dbias", &dbias, golden.values(&of("dbias"))),
        ("dx", &dx, &golden.nhwc(&of("dx"))),
    ] {
        let error = relative_error(actual, &widen(expected));
        assert!(error <= if name == "far-from-zero" { 5e-5 } else { 5e-6 }, "{name}.{tensor}: {error:.1e}");
    }
}

#[test]
fn local_response_normalisation_and_its_gradient_equal_pytorch() {
    let golden = Golden::open("local_response_norm");
    let cases: BTreeMap<String, reference::LocalResponseNorm> = golden.cases();
    on_every_isa(|context| {
        for (name, &reference::LocalResponseNorm { size, alpha, beta, k }) in &cases {
            let norm = LocalResponseNorm { size, alpha: alpha as f32, beta: beta as f32, k: k as f32 };
            let of = |tensor: &str| format!("{name}.{tensor}");
            let &[n, channels, h, w] = golden.shape(&of("x")) else { panic!("{name}") };
            let shape = [n, h, w, channels];
            let [x, dy] = ["x", "dy"].map(|tensor| golden.nhwc(&of(tensor)));
            let (x, dy) = (view(&x, shape), view(&dy, shape));
            let y = written(shape, |y| norm.forward(context, x, y));
            assert_equal(context, &of("y"), &y, &golden.nhwc(&of("y")));
            let dx = written(shape, |dx| norm.backward(context, x, dy, dx));
            assert_equal(context, &of("dx"), &dx, &golden.nhwc(&of("dx")));
        }
    });
}

#[test]
fn softmax_cross_entropy_equals_pytorch() {
    let golden = Golden::open("softmax_cross_entropy");
    let cases: BTreeMap<String, BTreeMap<String, f32>> = golden.cases();
    on_every_isa(|context| {
        for (name, options) in &cases {
            let of = |tensor: &str| format!("{name}.{tensor}");
            let &[batch, classes] = golden.shape(&of("logits")) else { panic!("{name}") };
            let shape = [batch, 1, 1, classes];
            let logits = view(golden.values(&of("logits")), shape);
            let labels = golden.integers(&of("labels"));
            let probabilities = written(shape, |y| softmax(context, logits, y));
            assert_equal(context, &of("softmax"), &probabilities, golden.values(&of("softmax")));

            let loss =
                Criterion::CrossEntropy { label_smoothing: options["label_smoothing"], class_weights: None };
            let targets = Targets::Labels(&labels);
            let mut sum = 0.0;
            let dlogits = written(shape, |dlogits| {
                sum = loss.forward(context, logits, targets, 1.0, Some(dlogits)).sum;
            });
            assert_equal(context, &of("dlogits"), &dlogits, golden.values(&of("dlogits")));
            let expected: f32 = golden.values(&of("losses")).iter().sum();
            assert_equal(context, &of("losses"), &[sum as f32], &[expected]);
        }
    });
}

#[test]
fn every_loss_equals_pytorch_with_labels_values_and_class_weights() {
    let golden = Golden::open("losses");
    let cases: BTreeMap<String, BTreeMap<String, serde_json::Value>> = golden.cases();
    on_every_isa(|context| {
        for (name, case) in &cases {
            let of = |tensor: &str| format!("{name}.{tensor}");
            let names = golden.names(&of(""));
            let &[images, classes] = golden.shape(&of("x")) else { panic!("{name}") };
            let shape = [images, 1, 1, classes];
            let labels = names.contains(&"labels").then(|| golden.integers(&of("labels")));
            let targets = match &labels {
                Some(labels) => Targets::Labels(labels),
                None => Targets::Values(golden.values(&of("values"))),
            };
            let class_weights = names.contains(&"weights").then(|| golden.values(&of("weights")));
            let label_smoothing = case["label_smoothing"].as_f64().unwrap() as f32;
            let criterion = match case["kind"].as_str().unwrap() {
                "crossEntropy" => Criterion::CrossEntropy { label_smoothing, class_weights },
                "binaryCrossEntropy" => Criterion::BinaryCrossEntropy,
                "meanSquaredError" => Criterion::MeanSquaredError,
                _ => Criterion::MaximumAPosteriori { rejection: 0.5 },
            };
            let x = view(golden.values(&of("x")), shape);
            let mut mean = 0.0;
            let gradient = written(shape, |dx| {
                mean = criterion.forward(context, x, targets, 1.0, Some(dx)).mean();
            });
            assert_equal(context, &of("gradient"), &gradient, golden.values(&of("gradient")));
            assert_equal(context, &of("mean"), &[mean as f32], golden.values(&of("mean")));
        }
    });
}

/// An optimizer as the golden file describes it.
fn optimizer(case: &serde_json::Value) -> Optimizer {
    let number = |key: &str| case[key].as_f64().unwrap() as f32;
    let moments = || Moments { beta1: number("beta1"), beta2: number("beta2"), epsilon: number("epsilon") };
    match case["kind"].as_str().unwrap() {
        "sgd" => Optimizer::Sgd { momentum: number("momentum"), nesterov: case["nesterov"] == true },
        "adam" => Optimizer::Adam(moments()),
        "adamw" => Optimizer::AdamW(moments()),
        _ => Optimizer::RmsProp {
            alpha: number("alpha"),
            epsilon: number("epsilon"),
            momentum: number("momentum"),
            centered: case["centered"] == true,
        },
    }
}

#[test]
fn every_optimizer_equals_pytorch_over_ten_steps() {
    let golden = Golden::open("optimizers");
    let cases: BTreeMap<String, serde_json::Value> = golden.cases();
    on_every_isa(|context| {
        for (name, case) in &cases {
            let gradients = format!("{name}.gradients");
            let length = golden.shape(&gradients)[1];
            let mut rows = golden.values(&format!("{name}.parameters")).chunks_exact(length);
            let mut parameters = rows.next().unwrap().to_vec();
            let mut states = [(); STATES].map(|()| vec![0.0; length]);
            let span = Span { place: 0..length, learning_rate_scale: 1.0, weight_decay: None, adapts: true };
            let mut spans = Spans::new(vec![span]);
            let steps = golden.values(&gradients).chunks_exact(length).zip(rows);
            for (number, (gradients, expected)) in (1..).zip(steps) {
                let update = Update {
                    learning_rate: case["learning_rate"].as_f64().unwrap() as f32,
                    weight_decay: case["weight_decay"].as_f64().unwrap() as f32,
                    gradient_scale: 1.0,
                    number,
                    parameters: &mut parameters,
                    gradients,
                    states: states.each_mut().map(Vec::as_mut_slice),
                };
                optimizer(&case["optimizer"]).step(context, &mut spans, update);
                assert_equal(context, name, &parameters, expected);
            }
        }
    });
}
