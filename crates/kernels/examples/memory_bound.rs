//! Times the memory-bound kernels on LeNet's and larger shapes.
//!
//! `cargo run --release -p fovea-kernels --example memory_bound [THREADS]`, once per instruction set of the machine;
//! each number is the fastest of many calls, in microseconds.
#![allow(clippy::print_stdout)]

use fovea_kernels::loss::SoftmaxCrossEntropy;
use fovea_kernels::optimizer::Sgd;
use fovea_kernels::pool2d::{AvgPool2d, MaxPool2d, Pool2dShape};
use fovea_kernels::{Activation, Context, Isa, Pool, View4, ViewMut4, activation, elementwise};
use std::time::Instant;

/// The shortest time of a call, in microseconds, over about fifty milliseconds.
fn fastest(mut call: impl FnMut()) -> f64 {
    let (mut fastest, mut calls) = (f64::INFINITY, 0);
    let begin = Instant::now();
    while calls < 5 || begin.elapsed().as_millis() < 50 {
        let start = Instant::now();
        call();
        fastest = fastest.min(start.elapsed().as_secs_f64() * 1e6);
        calls += 1;
    }
    fastest
}

/// Reproducible values in -1..1.
fn values(length: usize) -> Vec<f32> {
    (0..length).map(|i| (i as u32).wrapping_mul(2_654_435_761) as i32 as f32 / (1u32 << 31) as f32).collect()
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn pooling(context: Context, n: usize, input: [usize; 3], size: usize, stride: usize) -> Outcome {
    let padding = if size == 3 { [1; 4] } else { [0; 4] };
    let shape = Pool2dShape { input, size: [size; 2], stride: [stride; 2], padding, ceil_mode: false };
    let [h, w, c] = input;
    let [oh, ow, _] = shape.output()?;
    let (shape_x, shape_y) = ([n, h, w, c], [n, oh, ow, c]);
    let (mut x, mut y) = (values(n * h * w * c), values(n * oh * ow * c));
    let mut argmax = vec![0; y.len()];
    let max = MaxPool2d::new(shape)?;
    let forward = fastest(|| {
        if let (Ok(x), Ok(y)) = (View4::new(&x, shape_x, c), ViewMut4::new(&mut y, shape_y, c)) {
            max.forward(context, x, Activation::Relu, y, Some(&mut argmax));
        }
    });
    let dy = values(y.len());
    let backward = fastest(|| {
        if let (Ok(dy), Ok(y), Ok(dx)) =
            (View4::new(&dy, shape_y, c), View4::new(&y, shape_y, c), ViewMut4::new(&mut x, shape_x, c))
        {
            max.backward(context, dy, &argmax, Some(y), dx);
        }
    });
    let average = AvgPool2d::new(shape, true)?;
    let average_forward = fastest(|| {
        if let (Ok(x), Ok(y)) = (View4::new(&x, shape_x, c), ViewMut4::new(&mut y, shape_y, c)) {
            average.forward(context, x, y);
        }
    });
    let average_backward = fastest(|| {
        if let (Ok(dy), Ok(dx)) = (View4::new(&dy, shape_y, c), ViewMut4::new(&mut x, shape_x, c)) {
            average.backward(context, dy, dx);
        }
    });
    println!(
        "  pool {size}x{size}/{stride} {shape_x:?}: max {forward:.1}, backward {backward:.1}; average {average_forward:.1}, \
         backward {average_backward:.1}"
    );
    Ok(())
}

fn elementwise(context: Context, length: usize) {
    let shape = [1, 1, 1, length];
    let (x, mut y) = (values(length), values(length));
    let mut time = |name: &str, call: &mut dyn FnMut(View4, ViewMut4)| {
        let (x, y) = (&x, &mut y);
        let time = fastest(|| {
            if let (Ok(x), Ok(y)) = (View4::new(x, shape, length), ViewMut4::new(y, shape, length)) {
                call(x, y);
            }
        });
        print!(" {name} {time:.1}");
    };
    print!("  {length} floats:");
    time("add", &mut |x, y| elementwise::add_assign(context, y, x));
    time("fill", &mut |_, y| elementwise::fill(context, y, 1.0));
    time("relu", &mut |x, y| activation::relu(context, x, y));
    time("relu backward", &mut |x, y| activation::relu_backward(context, x, x, y));
    time("tanh", &mut |x, y| activation::tanh(context, x, y));
    time("tanh backward", &mut |x, y| activation::tanh_backward(context, x, x, y));
    println!();
}

fn cross_entropy(context: Context, n: usize, classes: usize) {
    let (logits, mut dlogits) = (values(n * classes), values(n * classes));
    let labels: Vec<_> = (0..n).map(|image| (image % classes) as u32).collect();
    let loss = SoftmaxCrossEntropy { label_smoothing: 0.1, weight: 1.0 };
    let shape = [n, 1, 1, classes];
    let time = fastest(|| {
        if let (Ok(x), Ok(dx)) =
            (View4::new(&logits, shape, classes), ViewMut4::new(&mut dlogits, shape, classes))
        {
            std::hint::black_box(loss.forward(context, x, &labels, Some(dx)));
        }
    });
    println!("  cross-entropy {n} x {classes}: {time:.1}");
}

fn sgd(context: Context, length: usize) {
    let (mut parameter, gradient, mut velocity) = (values(length), values(length), values(length));
    let sgd = Sgd { learning_rate: 1e-9, momentum: 0.9, weight_decay: 1e-4, nesterov: false };
    let time = fastest(|| sgd.step(context, &mut parameter, &gradient, &mut velocity));
    println!("  sgd {length}: {time:.1}, {:.1} GB/s", 20e-3 * length as f64 / time);
}

fn main() -> Outcome {
    let threads = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(1);
    let pool = Pool::new(threads);
    for isa in Isa::available() {
        println!("{}, {threads} threads (microseconds)", isa.name());
        let context = Context { isa, pool: &pool };
        pooling(context, 64, [28, 28, 6], 2, 2)?;
        pooling(context, 64, [10, 10, 16], 2, 2)?;
        pooling(context, 16, [112, 112, 64], 3, 2)?;
        pooling(context, 16, [7, 7, 512], 7, 1)?;
        for length in [64 * 10 * 10 * 16, 64 * 28 * 28 * 6, 16 * 56 * 56 * 64] {
            elementwise(context, length);
        }
        for classes in [10, 1000] {
            cross_entropy(context, 64, classes);
        }
        for length in [61_706, 11_689_512] {
            sgd(context, length);
        }
    }
    Ok(())
}
