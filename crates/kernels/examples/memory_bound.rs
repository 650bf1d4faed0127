//! Times the memory-bound kernels on the shapes of LeNet, ResNet, GoogLeNet and AlexNet.
//!
//! `cargo run --release -p fovea-kernels --example memory_bound [THREADS] [SECTION]` with a section among
//! `batchNorm`, `pooling`, `elementwise`, `localResponseNorm`, `loss`, `optimizers`, or all of them. Each line
//! has the fastest of many calls in microseconds, the bandwidth (what the pass must read and write, once) and
//! its percentage of that of a plain copy of a tensor of the same size. `FOVEA_ISA` chooses the instruction
//! set.
#![allow(clippy::print_stdout)]

use fovea_kernels::batch_norm::{self, Backward, Mask, Running};
use fovea_kernels::local_response_norm::LocalResponseNorm;
use fovea_kernels::loss::{Criterion, Targets};
use fovea_kernels::optimizer::{Moments, Optimizer, STATES, Span, Spans, Update};
use fovea_kernels::pool2d::{AvgPool2d, MaxPool2d, Pool2dShape};
use fovea_kernels::random::Philox;
use fovea_kernels::{Activation, Context, Isa, Pool, View4, ViewMut4, activation, dropout, elementwise};
use std::hint::black_box;
use std::time::Instant;

/// The shortest time of a call, in seconds, over about thirty milliseconds.
fn fastest(mut call: impl FnMut()) -> f64 {
    let (mut fastest, mut calls) = (f64::INFINITY, 0);
    let begin = Instant::now();
    while calls < 5 || begin.elapsed().as_millis() < 30 {
        let start = Instant::now();
        call();
        fastest = fastest.min(start.elapsed().as_secs_f64());
        calls += 1;
    }
    fastest
}

/// Reproducible values in -1..1.
fn values(length: usize) -> Vec<f32> {
    (0..length).map(|i| (i as u32).wrapping_mul(2_654_435_761) as i32 as f32 / (1u32 << 31) as f32).collect()
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Passes over tensors of one size, compared with a copy of that size.
struct Passes {
    /// Bytes a second of a copy.
    copy: f64,
}

impl Passes {
    fn new(context: Context, what: &str, length: usize) -> Self {
        let shape = [1, 1, 1, length];
        let (x, mut y) = (Tensor::new(shape), Tensor::new(shape));
        let time = fastest(|| elementwise::copy(context, x.view(), y.view_mut()));
        let copy = 8.0 * length as f64 / time;
        println!("{what}, {:.1} MB: copy {:.1} GB/s", 4e-6 * length as f64, copy / 1e9);
        Self { copy }
    }

    /// Times a pass that moves `floats` floats.
    fn time(&self, name: &str, floats: usize, call: impl FnMut()) {
        let time = fastest(call);
        let bandwidth = 4.0 * floats as f64 / time;
        let percent = 100.0 * bandwidth / self.copy;
        println!("  {name:32} {:9.1} us {:6.1} GB/s {percent:4.0} %", 1e6 * time, bandwidth / 1e9);
    }
}

/// A dense tensor, aligned to cache lines as the engine's are.
struct Tensor {
    data: Vec<f32>,
    start: usize,
    shape: [usize; 4],
}

impl Tensor {
    fn new(shape: [usize; 4]) -> Self {
        let data = values(shape.iter().product::<usize>() + 16);
        let start = data.as_ptr().align_offset(64);
        Self { data, start, shape }
    }

    fn length(&self) -> usize {
        self.shape.iter().product()
    }

    fn view(&self) -> View4<'_> {
        // SAFETY: `new` made room for the shape behind the start, and the view borrows the tensor.
        unsafe { View4::from_raw(self.data[self.start..].as_ptr(), self.shape, self.shape[3]) }
    }

    fn view_mut(&mut self) -> ViewMut4<'_> {
        // SAFETY: as above, mutably.
        unsafe { ViewMut4::from_raw(self.data[self.start..].as_mut_ptr(), self.shape, self.shape[3]) }
    }
}

fn batch_norm(context: Context, shape: [usize; 4]) -> Outcome {
    let [x, mut y, mut dy] = [(); 3].map(|()| Tensor::new(shape));
    let (channels, length) = (shape[3], x.length());
    let passes = Passes::new(context, &format!("batch normalisation {shape:?}"), length);
    let mut scratch = vec![0.0; batch_norm::scratch_len(shape)];
    let (mut saved, affine) = (vec![0.0; 2 * channels], values(2 * channels));
    let [mut mean, mut variance, mut dweight, mut dbias] = [(); 4].map(|()| vec![0.0; channels]);
    passes.time("statistics", length, || {
        let running = Running { mean: &mut mean, variance: &mut variance, momentum: 0.1 };
        batch_norm::statistics(context, x.view(), 1e-5, &mut saved, running, &mut scratch);
    });
    passes.time("normalise + ReLU", 2 * length, || {
        batch_norm::normalize(context, x.view(), &affine, None, Activation::Relu, y.view_mut());
    });
    passes.time("normalise + ReLU in place", 2 * length, || {
        // SAFETY: both go to this operation, which works in place.
        let (x, y) = unsafe { y.view_mut().in_place() };
        batch_norm::normalize(context, x, &affine, None, Activation::Relu, y);
    });
    passes.time("normalise + residual + ReLU", 3 * length, || {
        let dy = Some(dy.view());
        batch_norm::normalize(context, x.view(), &affine, dy, Activation::Relu, y.view_mut());
    });
    let mut sums = |mask: Mask, dy: View4, dresidual: Option<ViewMut4>| {
        let weights = (&mut dweight, &mut dbias);
        let backward = Backward { x: x.view(), dy, mask, saved: &saved, affine: &affine };
        batch_norm::backward_sums(context, backward, weights.0, weights.1, dresidual, &mut scratch);
    };
    passes.time("sums, recomputed mask", 2 * length, || sums(Mask::Recompute, dy.view(), None));
    passes.time("sums, y > 0, dresidual in place", 4 * length, || {
        // SAFETY: both go to this operation, whose dresidual may be the memory of dy.
        let (dy, dresidual) = unsafe { dy.view_mut().in_place() };
        sums(Mask::Output(y.view()), dy, Some(dresidual));
    });
    let (dweight, dbias) = (values(channels), values(channels));
    let input = |mask: Mask, x: View4, dy: View4, dx: ViewMut4| {
        let backward = Backward { x, dy, mask, saved: &saved, affine: &affine };
        batch_norm::backward_input(context, backward, &dweight, &dbias, dx);
    };
    passes.time("dx in place, recomputed mask", 3 * length, || {
        // SAFETY: both go to this operation, whose dx may be the memory of dy.
        let (dy, dx) = unsafe { dy.view_mut().in_place() };
        input(Mask::Recompute, x.view(), dy, dx);
    });
    passes.time("dx, no mask", 3 * length, || input(Mask::None, x.view(), dy.view(), y.view_mut()));
    Ok(())
}

fn pooling(
    context: Context,
    n: usize,
    [h, w, c]: [usize; 3],
    window: [usize; 4],
    ceil_mode: bool,
) -> Outcome {
    let [size, stride, before, after] = window;
    let padding = [before, after, after, before];
    let shape = Pool2dShape { input: [h, w, c], size: [size; 2], stride: [stride; 2], padding, ceil_mode };
    let [oh, ow, _] = shape.output()?;
    let (mut x, mut y, dy) =
        (Tensor::new([n, h, w, c]), Tensor::new([n, oh, ow, c]), Tensor::new([n, oh, ow, c]));
    let (input, output) = (x.length(), y.length());
    let what = format!("pooling {size} x {size} / {stride} pad {before} {after} of {:?}", x.shape);
    let passes = Passes::new(context, &what, input);
    if size * size < 256 {
        let max = MaxPool2d::new(shape)?;
        let mut argmax = vec![0; output];
        passes.time("max, with ReLU", input + output + output / 4, || {
            max.forward(context, x.view(), Activation::Relu, y.view_mut(), Some(&mut argmax));
        });
        passes.time("max backward, with ReLU", input + 2 * output + output / 4, || {
            max.backward(context, dy.view(), &argmax, Some(y.view()), x.view_mut());
        });
    }
    let average = AvgPool2d::new(shape, true)?;
    passes.time("average", input + output, || average.forward(context, x.view(), y.view_mut()));
    passes.time("average backward", input + output, || average.backward(context, dy.view(), x.view_mut()));
    Ok(())
}

fn elementwise(context: Context, length: usize) -> Outcome {
    let shape = [1, 1, length / 64, 64];
    let (x, z, mut y) = (Tensor::new(shape), Tensor::new(shape), Tensor::new(shape));
    let passes = Passes::new(context, "elementwise", length);
    passes.time("fill", length, || elementwise::fill(context, y.view_mut(), 1.0));
    passes.time("y += x", 3 * length, || elementwise::add_assign(context, y.view_mut(), x.view()));
    passes.time("a + b, ReLU", 3 * length, || {
        elementwise::add(context, x.view(), z.view(), Activation::Relu, y.view_mut());
    });
    passes.time("ReLU", 2 * length, || activation::relu(context, x.view(), y.view_mut()));
    passes.time("ReLU backward", 3 * length, || {
        activation::relu_backward(context, x.view(), z.view(), y.view_mut());
    });
    passes.time("sigmoid", 2 * length, || activation::sigmoid(context, x.view(), y.view_mut()));
    passes.time("tanh", 2 * length, || activation::tanh(context, x.view(), y.view_mut()));
    let key = Philox { seed: 1, stream: 2 };
    passes.time("dropout", 2 * length, || dropout::dropout(context, x.view(), 0.5, key, y.view_mut()));
    let mut wide = Tensor::new([1, 1, length / 64, 96]);
    passes.time("pad channels by 16 and 16", length * 5 / 2, || {
        elementwise::pad(context, x.view(), [0; 4], [16, 16], wide.view_mut());
    });
    Ok(())
}

fn local_response_norm(context: Context, shape: [usize; 4]) -> Outcome {
    let (x, dy, mut y) = (Tensor::new(shape), Tensor::new(shape), Tensor::new(shape));
    let length = x.length();
    let passes = Passes::new(context, &format!("local response normalisation {shape:?}"), length);
    let norm = LocalResponseNorm { size: 5, alpha: 1e-4, beta: 0.75, k: 1.0 };
    passes.time("forward", 2 * length, || norm.forward(context, x.view(), y.view_mut()));
    passes.time("backward", 3 * length, || norm.backward(context, x.view(), dy.view(), y.view_mut()));
    let norm = LocalResponseNorm { beta: 0.5, ..norm };
    passes.time("forward, beta 0.5", 2 * length, || norm.forward(context, x.view(), y.view_mut()));
    Ok(())
}

fn cross_entropy(context: Context, n: usize, classes: usize) -> Outcome {
    let (logits, mut dlogits) = (Tensor::new([n, 1, 1, classes]), Tensor::new([n, 1, 1, classes]));
    let labels: Vec<_> = (0..n).map(|image| (image % classes) as u32).collect();
    let (loss, targets) =
        (Criterion::CrossEntropy { label_smoothing: 0.1, class_weights: None }, Targets::Labels(&labels));
    let passes = Passes::new(context, &format!("loss of {n} x {classes}"), n * classes);
    passes.time("cross-entropy", 2 * n * classes, || {
        black_box(loss.forward(context, logits.view(), targets, 1.0, Some(dlogits.view_mut())));
    });
    Ok(())
}

fn optimizers(context: Context, length: usize) -> Outcome {
    let (mut parameters, gradients) = (values(length), values(length));
    let mut states =
        [(); STATES].map(|()| values(length).iter().map(|value| value.abs()).collect::<Vec<_>>());
    let span = Span { place: 0..length, learning_rate_scale: 1.0, weight_decay: None, adapts: true };
    let mut spans = Spans::new(vec![span]);
    let passes = Passes::new(context, "parameters", length);
    let mut step = |name: &str, optimizer: Optimizer, floats: usize| {
        passes.time(name, floats * length, || {
            let update = Update {
                learning_rate: 1e-9,
                weight_decay: 1e-4,
                gradient_scale: 1.0,
                number: 10,
                parameters: &mut parameters,
                gradients: &gradients,
                states: states.each_mut().map(Vec::as_mut_slice),
            };
            optimizer.step(context, &mut spans, update);
        });
    };
    let moments = Moments { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    step("SGD with momentum", Optimizer::Sgd { momentum: 0.9, nesterov: false }, 5);
    step("plain SGD", Optimizer::Sgd { momentum: 0.0, nesterov: false }, 3);
    step("AdamW", Optimizer::AdamW(moments), 7);
    step("LAMB", Optimizer::Lamb(moments), 11);
    step("LARS", Optimizer::Lars { momentum: 0.9, nesterov: false, trust: 0.001 }, 7);
    Ok(())
}

fn main() -> Outcome {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let threads = arguments.first().map_or(Ok(1), |count| count.parse())?;
    let wanted = |section: &str| arguments.get(1).is_none_or(|name| name == section);
    let pool = Pool::new(threads);
    let context = Context { isa: Isa::detect()?, pool: &pool };
    println!("{}, {threads} threads", context.isa.name());
    if wanted("batchNorm") {
        for shape in
            [[16, 56, 56, 64], [16, 56, 56, 256], [16, 14, 14, 256], [16, 7, 7, 2048], [128, 32, 32, 16]]
        {
            batch_norm(context, shape)?;
        }
    }
    if wanted("pooling") {
        pooling(context, 64, [28, 28, 6], [2, 2, 0, 0], false)?;
        pooling(context, 16, [112, 112, 64], [3, 2, 1, 1], false)?;
        pooling(context, 16, [112, 112, 64], [3, 2, 0, 0], true)?;
        pooling(context, 16, [28, 28, 192], [3, 1, 1, 1], false)?;
        pooling(context, 16, [7, 7, 2048], [7, 1, 0, 0], false)?;
        pooling(context, 128, [8, 8, 64], [8, 1, 0, 0], false)?;
    }
    if wanted("elementwise") {
        for length in [64 * 10 * 10 * 16, 16 * 28 * 28 * 128, 16 * 56 * 56 * 256] {
            elementwise(context, length)?;
        }
    }
    if wanted("localResponseNorm") {
        for shape in [[16, 27, 27, 96], [16, 56, 56, 192]] {
            local_response_norm(context, shape)?;
        }
    }
    if wanted("loss") {
        for classes in [10, 1000] {
            cross_entropy(context, 64, classes)?;
        }
    }
    if wanted("optimizers") {
        for length in [61_706, 1 << 20, 11_689_512, 25_557_032] {
            optimizers(context, length)?;
        }
    }
    Ok(())
}
