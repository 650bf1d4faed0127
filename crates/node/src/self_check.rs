//! Every kernel on every instruction set of this machine, against the plain f64 definition of its operation; Winograd's
//! algorithm against direct summation, which is itself held so.
//!
//! Sizes are small and awkward: a remainder in every tile. The whole takes a fraction of a second.

mod layers;
mod resizing;
mod values;
mod winograd;

use fovea_kernels::conv2d::{Conv2d, Conv2dShape, Forward, Pass};
use fovea_kernels::loss::{Criterion, Targets};
use fovea_kernels::optimizer::{Moments, Optimizer, STATES, Span, Spans, Update};
use fovea_kernels::pool2d::{AvgPool2d, MaxPool2d, Pool2dShape};
use fovea_kernels::{Activation, Context, Isa, Pool, View4, ViewMut4, activation, elementwise, softmax};
use fovea_reference as reference;
use reference::check::{relative_error, uniform, widen};
use serde::Serialize;

/// Largest difference that rounding explains, over the largest expected value.
const TOLERANCE: f64 = 1e-5;

/// Images in a batch.
const BATCH: usize = 2;

/// What a kernel did on an instruction set.
#[derive(Serialize)]
pub struct Check {
    isa: &'static str,
    kernel: &'static str,
    ok: bool,
    /// Largest difference over the largest expected value.
    error: f64,
}

impl Check {
    /// Whether the kernel computes what it should.
    pub fn is_ok(&self) -> bool {
        self.ok
    }
}

/// A kernel's name and how far it is from its definition; a kernel that refuses its arguments says why.
type Errors = Result<Vec<(&'static str, f64)>, Box<dyn std::error::Error>>;

/// Checks every kernel.
///
/// Errors: a kernel that refuses a geometry that it should take.
pub fn run(threads: usize) -> Result<Vec<Check>, Box<dyn std::error::Error>> {
    let pool = Pool::new(threads);
    let mut checks = Vec::new();
    for isa in Isa::available() {
        let context = Context { isa, pool: &pool };
        let dense = Conv2dShape { input: [1, 1, 131], filters: 37, ..convolution([1, 1], [1, 1]) };
        let depthwise = Conv2dShape { filters: 5, groups: 5, ..convolution([3, 3], [1, 1]) };
        let errors = [
            convolutions(context, CONVOLUTION, convolution([3, 3], [1, 1]))?,
            convolutions(context, STRIDED_CONVOLUTION, convolution([3, 2], [2, 1]))?,
            convolutions(context, DEPTHWISE, depthwise)?,
            winograd::convolutions(context)?,
            convolutions(context, DENSE, dense)?,
            layers::batch_normalization(context)?,
            layers::local_response_normalization(context)?,
            layers::dropping(context)?,
            pooling(context)?,
            resizing::resizing(context)?,
            elementwise(context)?,
            values::functions(context)?,
            values::arithmetic(context)?,
            values::of_channels(context)?,
            values::distances(context)?,
            classification(context)?,
            optimizers(context),
        ];
        // JSON has no infinity, which stands for a NaN.
        let check = |(kernel, error): (_, f64)| Check {
            isa: isa.name(),
            kernel,
            ok: error <= TOLERANCE,
            error: error.min(f64::MAX),
        };
        checks.extend(errors.into_iter().flatten().map(check));
    }
    Ok(checks)
}

/// Names of a convolution's three passes.
type Passes = [&'static str; 3];
const CONVOLUTION: Passes = ["convolution", "convolution input gradient", "convolution weight gradient"];
const STRIDED_CONVOLUTION: Passes =
    ["strided convolution", "strided convolution input gradient", "strided convolution weight gradient"];
const DEPTHWISE: Passes = ["depthwise convolution", "depthwise input gradient", "depthwise weight gradient"];
const DENSE: Passes = ["dense", "dense input gradient", "dense weight gradient"];

fn convolution(kernel: [usize; 2], stride: [usize; 2]) -> Conv2dShape {
    let padding = if kernel == [1, 1] { [0; 4] } else { [1, 0, 1, 1] };
    Conv2dShape { input: [9, 8, 5], filters: 19, kernel, stride, padding, dilation: [1, 1], groups: 1 }
}

fn convolutions(context: Context, names: Passes, shape: Conv2dShape) -> Errors {
    let Conv2dShape { input, filters, kernel, stride, padding, dilation, groups } = shape;
    let definition =
        reference::Conv2d { batch: BATCH, input, filters, kernel, stride, padding, dilation, groups };
    let conv = Conv2d::new(shape, context.isa)?;
    let (x_shape, y_shape) = (batch_of(input), batch_of(conv.output()));
    let (x, dy) = (values(1, x_shape), values(2, y_shape));
    let (oihw, bias) = (uniform(3, shape.parameters()), uniform(4, filters));
    let mut weight = vec![0.0; conv.weight_len()];
    conv.pack_weight(&oihw, &mut weight);
    let mut packed = vec![0.0; conv.gradient_weight_len()];
    conv.pack_gradient_weight(context, &weight, &mut packed);

    let mut y = vec![0.0; dy.len()];
    let mut scratch = Scratch::new(&conv, Pass::Forward, context);
    let (x_view, y_view) = (view(&x, x_shape)?, view_mut(&mut y, y_shape)?);
    let forward = Forward { bias: Some(&bias), ..Forward::new(x_view, &weight) };
    conv.forward(context, forward, y_view, scratch.aligned());

    let mut dx = vec![0.0; x.len()];
    let mut scratch = Scratch::new(&conv, Pass::BackwardInput, context);
    conv.backward_input(
        context,
        view(&dy, y_shape)?,
        &packed,
        None,
        view_mut(&mut dx, x_shape)?,
        scratch.aligned(),
    );

    let (mut dweight, mut dbias) = (vec![0.0; weight.len()], vec![0.0; filters]);
    let mut scratch = Scratch::new(&conv, Pass::BackwardWeight, context);
    let dy_view = view(&dy, y_shape)?;
    conv.backward_weight(context, x_view, dy_view, &mut dweight, Some(&mut dbias), scratch.aligned());
    let mut dw = vec![0.0; oihw.len()];
    conv.unpack_weight(&dweight, &mut dw);
    dw.extend(dbias);

    let (x, dy, w, bias) = (widen(&x), widen(&dy), widen(&oihw), widen(&bias));
    let expected_dw = [definition.backward_weight(&x, &dy), definition.backward_bias(&dy)].concat();
    Ok(vec![
        (names[0], relative_error(&y, &definition.forward(&x, &w, Some(&bias)))),
        (names[1], relative_error(&dx, &definition.backward_input(&dy, &w))),
        (names[2], relative_error(&dw, &expected_dw)),
    ])
}

fn pooling(context: Context) -> Errors {
    let (input, size, stride, padding, ceil_mode) = ([9, 8, 19], [3, 3], [2, 2], [1, 1, 1, 1], false);
    let shape = Pool2dShape { input, size, stride, padding, ceil_mode };
    let definition = reference::Pool2d { batch: BATCH, input, size, stride, padding, ceil_mode };
    let (x_shape, y_shape) = (batch_of(input), batch_of(shape.output()?));
    let (x, dy) = (values(1, x_shape), values(2, y_shape));
    let (mut y, mut dx, mut argmax) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0; dy.len()]);
    let (x_wide, dy_wide) = (widen(&x), widen(&dy));

    let max = MaxPool2d::new(shape)?;
    let (x_view, dy_view) = (view(&x, x_shape)?, view(&dy, y_shape)?);
    max.forward(context, x_view, Activation::None, view_mut(&mut y, y_shape)?, Some(&mut argmax));
    max.backward(context, dy_view, &argmax, None, view_mut(&mut dx, x_shape)?);
    let max = reference::MaxPool2d(definition);
    let (expected, argmax) = max.forward(&x_wide);
    let mut errors = vec![
        ("max pooling", relative_error(&y, &expected)),
        ("max pooling gradient", relative_error(&dx, &max.backward(&dy_wide, &argmax))),
    ];

    let average = AvgPool2d::new(shape, true)?;
    average.forward(context, x_view, view_mut(&mut y, y_shape)?);
    average.backward(context, dy_view, view_mut(&mut dx, x_shape)?);
    let average = reference::AvgPool2d { pool: max.0, count_include_pad: true };
    errors.push(("average pooling", relative_error(&y, &average.forward(&x_wide))));
    errors.push(("average pooling gradient", relative_error(&dx, &average.backward(&dy_wide))));
    Ok(errors)
}

fn elementwise(context: Context) -> Errors {
    let shape = [BATCH, 5, 7, 19];
    let (x, dy) = (values(1, shape), values(2, shape));
    let (x_wide, dy_wide) = (widen(&x), widen(&dy));
    let computed = |compute: &dyn Fn(View4, View4, ViewMut4)| {
        let mut y = dy.clone();
        compute(view(&x, shape)?, view(&dy, shape)?, view_mut(&mut y, shape)?);
        Ok::<_, Box<dyn std::error::Error>>(y)
    };
    let relu = computed(&|x, _, y| activation::relu(context, x, y))?;
    let tanh = computed(&|x, _, y| activation::tanh(context, x, y))?;
    // The gradients read y; here x stands for it.
    let relu_gradient = computed(&|x, dy, dx| activation::relu_backward(context, dy, x, dx))?;
    let tanh_gradient = computed(&|x, dy, dx| activation::tanh_backward(context, dy, x, dx))?;
    let sum = computed(&|x, _, y| elementwise::add_assign(context, y, x))?;
    let filled = computed(&|_, _, y| elementwise::fill(context, y, 0.5))?;
    let expected_sum: Vec<f64> = x_wide.iter().zip(&dy_wide).map(|(x, y)| x + y).collect();
    Ok(vec![
        ("ReLU", relative_error(&relu, &reference::activation::relu(&x_wide))),
        (
            "ReLU gradient",
            relative_error(&relu_gradient, &reference::activation::relu_backward(&dy_wide, &x_wide)),
        ),
        ("tanh", relative_error(&tanh, &reference::activation::tanh(&x_wide))),
        (
            "tanh gradient",
            relative_error(&tanh_gradient, &reference::activation::tanh_backward(&dy_wide, &x_wide)),
        ),
        ("addition", relative_error(&sum, &expected_sum)),
        ("fill", relative_error(&filled, &vec![0.5; x.len()])),
    ])
}

fn classification(context: Context) -> Errors {
    let classes = 37;
    let shape = [BATCH * 3, 1, 1, classes];
    let logits = values(1, shape);
    let wide = widen(&logits);
    let labels: Vec<u32> = (0..shape[0] as u32).map(|image| image * 7 % classes as u32).collect();

    let mut probabilities = vec![0.0; logits.len()];
    softmax::softmax(context, view(&logits, shape)?, view_mut(&mut probabilities, shape)?);

    let mut dlogits = vec![0.0; logits.len()];
    let (loss, targets) =
        (Criterion::CrossEntropy { label_smoothing: 0.1, class_weights: None }, Targets::Labels(&labels));
    let dlogits_view = view_mut(&mut dlogits, shape)?;
    let loss = loss.forward(context, view(&logits, shape)?, targets, 1.0, Some(dlogits_view));
    let label_smoothing = f64::from(0.1f32);
    let expected = reference::loss::softmax_cross_entropy(&wide, &labels, classes, label_smoothing);
    let sum: f64 = expected.losses.iter().sum();
    Ok(vec![
        ("softmax", relative_error(&probabilities, &reference::activation::softmax(&wide, classes))),
        ("softmax cross-entropy", relative_error(&[loss.sum as f32], &[sum])),
        ("softmax cross-entropy gradient", relative_error(&dlogits, &expected.dlogits)),
    ])
}

fn optimizers(context: Context) -> Vec<(&'static str, f64)> {
    const LENGTH: usize = 131;
    let (learning_rate, weight_decay) = (0.125, 0.0625); // exact in f32
    let (momentum, nesterov, trust) = (0.875, true, 0.25);
    let (alpha, epsilon, centered) = (0.9375, 0.0009765625, true);
    let moments = Moments { beta1: momentum, beta2: alpha, epsilon };
    let [beta1, beta2, wide_epsilon] = [momentum, alpha, epsilon].map(f64::from);
    let (wide_momentum, wide_alpha, wide_trust) = (beta1, beta2, f64::from(trust));
    use reference::optimizer::{Optimizer as Definition, Step};
    let pairs = [
        ("SGD", Optimizer::Sgd { momentum, nesterov }, Definition::Sgd { momentum: wide_momentum, nesterov }),
        ("Adam", Optimizer::Adam(moments), Definition::Adam { beta1, beta2, epsilon: wide_epsilon }),
        ("AdamW", Optimizer::AdamW(moments), Definition::AdamW { beta1, beta2, epsilon: wide_epsilon }),
        (
            "RMSprop",
            Optimizer::RmsProp { alpha, epsilon, momentum, centered },
            Definition::RmsProp {
                alpha: wide_alpha,
                epsilon: wide_epsilon,
                momentum: wide_momentum,
                centered,
            },
        ),
        ("LAMB", Optimizer::Lamb(moments), Definition::Lamb { beta1, beta2, epsilon: wide_epsilon }),
        (
            "LARS",
            Optimizer::Lars { momentum, nesterov, trust },
            Definition::Lars { momentum: wide_momentum, nesterov, trust: wide_trust },
        ),
    ];
    let span = Span { place: 0..LENGTH, learning_rate_scale: 1.0, weight_decay: None, adapts: true };
    let mut spans = Spans::new(vec![span]);
    let check = |(name, optimizer, definition): (_, Optimizer, Definition)| {
        let mut parameters = uniform(1, LENGTH);
        let mut expected = widen(&parameters);
        let mut states = [(); STATES].map(|()| vec![0.0; LENGTH]);
        let mut wide_states = [(); STATES].map(|()| vec![0.0; LENGTH]);
        for number in 1..4 {
            let gradients = uniform(1 + number, LENGTH);
            let (number, wide) = (number as i32, widen(&gradients));
            let step = Step { learning_rate, weight_decay, number, adapts: true };
            definition.step(step, &mut expected, &wide, &mut wide_states);
            let states = states.each_mut().map(Vec::as_mut_slice);
            let (number, parameters, gradients) = (number as u64, &mut parameters[..], &gradients[..]);
            let (learning_rate, weight_decay) = (learning_rate as f32, weight_decay as f32);
            let update = Update {
                learning_rate,
                weight_decay,
                gradient_scale: 1.0,
                number,
                parameters,
                gradients,
                states,
            };
            optimizer.step(context, &mut spans, update);
        }
        (name, relative_error(&parameters, &expected))
    };
    pairs.into_iter().map(check).collect()
}

fn batch_of([height, width, channels]: [usize; 3]) -> [usize; 4] {
    [BATCH, height, width, channels]
}

/// Reproducible values in -1..1.
fn values(seed: u64, shape: [usize; 4]) -> Vec<f32> {
    uniform(seed, shape.iter().product())
}

fn view(values: &[f32], shape: [usize; 4]) -> Result<View4<'_>, fovea_kernels::ViewError> {
    View4::new(values, shape, shape[3])
}

fn view_mut(values: &mut [f32], shape: [usize; 4]) -> Result<ViewMut4<'_>, fovea_kernels::ViewError> {
    ViewMut4::new(values, shape, shape[3])
}

/// Scratch memory of a pass.
struct Scratch(Vec<f32>);

impl Scratch {
    const LINE: usize = 64;

    fn new(conv: &Conv2d, pass: Pass, context: Context) -> Self {
        Self::of(conv.scratch_len(pass, BATCH, context.pool.at_once()))
    }

    fn of(floats: usize) -> Self {
        Self(vec![0.0; floats + Self::LINE])
    }

    /// From the beginning of a cache line on.
    fn aligned(&mut self) -> &mut [f32] {
        let start = self.0.as_ptr().align_offset(Self::LINE);
        &mut self.0[start..]
    }
}
