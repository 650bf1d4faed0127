//! How far the cost model of convolutions is from the truth: the milliseconds that each way of a pass should take and takes,
//! on one thread.
//!
//! `cargo run --release -p fovea-kernels --example candidates [FILTER]`, `FOVEA_ISA` chooses the instruction set. What the
//! model chooses has a star; the last line says how often a choice is more than a tenth slower than the best way.

#![allow(clippy::print_stdout, clippy::unwrap_used)] // a program for the terminal

use fovea_kernels::conv2d::winograd::{WeightGradient, Weights, Winograd};
use fovea_kernels::conv2d::{Algorithm, Conv2d, Conv2dShape, Pass};
use fovea_kernels::{Activation, Context, Isa, Pool, View4, ViewMut4, peak};
use std::time::Instant;

/// Batch, input, filters, kernel, stride, padding: what networks for photographs, CIFAR and MNIST have.
type Case = (usize, [usize; 3], usize, usize, usize, usize);

const CASES: &[Case] = &[
    (16, [56, 56, 64], 64, 3, 1, 1),
    (16, [28, 28, 128], 128, 3, 1, 1),
    (16, [14, 14, 256], 256, 3, 1, 1),
    (16, [7, 7, 512], 512, 3, 1, 1),
    (1, [56, 56, 64], 64, 3, 1, 1),
    (1, [28, 28, 128], 128, 3, 1, 1),
    (1, [14, 14, 256], 256, 3, 1, 1),
    (4, [14, 14, 256], 256, 3, 1, 1),
    (1, [7, 7, 512], 512, 3, 1, 1),
    (4, [7, 7, 512], 512, 3, 1, 1),
    (64, [32, 32, 16], 16, 3, 1, 1),
    (64, [16, 16, 32], 32, 3, 1, 1),
    (64, [8, 8, 64], 64, 3, 1, 1),
    (4, [8, 8, 64], 64, 3, 1, 1),
    (16, [28, 28, 96], 128, 3, 1, 1),
    (16, [28, 28, 16], 32, 3, 1, 1),
    (16, [14, 14, 96], 208, 3, 1, 1),
    (16, [14, 14, 32], 64, 3, 1, 1),
    (16, [7, 7, 192], 384, 3, 1, 1),
    (16, [7, 7, 48], 128, 3, 1, 1),
    (16, [13, 13, 192], 384, 3, 1, 1),
    (16, [27, 27, 64], 192, 5, 1, 2),
    (16, [56, 56, 128], 128, 3, 2, 1),
    (16, [56, 56, 64], 256, 1, 1, 0),
    (16, [56, 56, 256], 64, 1, 1, 0),
    (16, [14, 14, 1024], 256, 1, 1, 0),
    (16, [7, 7, 512], 2048, 1, 1, 0),
    (16, [28, 28, 192], 64, 1, 1, 0),
    (16, [28, 28, 192], 16, 1, 1, 0),
    (16, [112, 112, 32], 64, 1, 1, 0),
    (64, [14, 14, 6], 16, 5, 1, 0),
    (16, [28, 28, 16], 32, 5, 1, 2),
    (16, [56, 56, 8], 16, 5, 1, 2),
    (32, [1, 1, 9216], 4096, 1, 1, 0),
    (64, [1, 1, 400], 120, 1, 1, 0),
];

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let context = Context { isa: Isa::detect().unwrap(), pool: &Pool::new(1) };
    println!("{}: predicted and measured milliseconds", context.isa.name());
    let (mut choices, mut slow) = (0, 0);
    for case in CASES {
        for pass in [Pass::Forward, Pass::BackwardInput, Pass::BackwardWeight] {
            let &(batch, [h, w, c], filters, kernel, stride, _) = case;
            let title =
                format!("{kernel}x{kernel} s{stride} {c}>{filters} @{h}x{w}, batch {batch}, {pass:?}");
            if !title.contains(&filter) {
                continue;
            }
            let convolution = Conv2d::new(shape(case), context.isa).unwrap();
            let candidates = convolution.candidates(pass, batch, Weights::Change);
            if candidates.len() < 2 {
                continue;
            }
            print!("{title:52}");
            let choice = convolution.choice(pass, batch, Weights::Change);
            let (mut best, mut chosen) = (f64::INFINITY, 0.0);
            for candidate in candidates {
                let (measured, peak) = measure(case, pass, candidate.algorithm, context);
                let star = if candidate.algorithm == choice { "*" } else { "" };
                let predicted = candidate.cost / peak / 1e6;
                print!("  {star}{} {predicted:.3} {measured:.3}", candidate.algorithm.name());
                best = best.min(measured);
                chosen = if candidate.algorithm == choice { measured } else { chosen };
            }
            println!();
            choices += 1;
            slow += usize::from(chosen > 1.1 * best);
        }
    }
    println!("{slow} of {choices} choices are more than a tenth slower than the best way");
}

fn shape(&(_, input, filters, kernel, stride, padding): &Case) -> Conv2dShape {
    Conv2dShape {
        input,
        filters,
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 4],
        dilation: [1; 2],
        groups: 1,
    }
}

/// Milliseconds of a pass, the weights packed or transformed each time as in training; and the peak beside it.
fn measure(case: &Case, pass: Pass, algorithm: Algorithm, context: Context) -> (f64, f64) {
    let (batch, mut convolution) = (case.0, Conv2d::new(shape(case), context.isa).unwrap());
    assert!(convolution.hold(pass, algorithm));
    let ([h, w, c], [oh, ow, k]) = (case.1, convolution.output());
    let (xs, ys) = ([batch, h, w, c], [batch, oh, ow, k]);
    let (mut x, mut y) = (values(xs.iter().product()), values(ys.iter().product()));
    let mut weight = values(convolution.weight_len());
    let mut packed = values(convolution.gradient_weight_len());
    let winograd = Winograd::choose(&convolution, pass, batch, Weights::Change);
    let gradient = WeightGradient::choose(&convolution, batch);
    let gradient = gradient.filter(|_| pass == Pass::BackwardWeight);
    let scratch_len = match (&winograd, &gradient) {
        (Some(winograd), _) => winograd.scratch_len(1),
        (None, Some(gradient)) => gradient.scratch_len(batch, 1),
        (None, None) => convolution.scratch_len(pass, batch, 1),
    };
    let mut transformed = vec![0.0; winograd.as_ref().map_or(0, Winograd::weight_len)];
    let mut scratch = vec![0.0; scratch_len + 16];
    let skip = scratch.as_ptr().align_offset(64);
    let scratch = &mut scratch[skip..];
    let mut once = || match (pass, &winograd, &gradient) {
        (Pass::Forward, None, _) => {
            let (x, y) = (View4::new(&x, xs, c).unwrap(), ViewMut4::new(&mut y, ys, k).unwrap());
            convolution.forward(context, x, &weight, None, None, Activation::None, y, scratch);
        }
        (Pass::Forward, Some(winograd), _) => {
            winograd.transform_weight(context, &weight, &mut transformed);
            let (x, y) = (View4::new(&x, xs, c).unwrap(), ViewMut4::new(&mut y, ys, k).unwrap());
            winograd.run(context, x, &transformed, None, None, Activation::None, y, scratch);
        }
        (Pass::BackwardInput, winograd, _) => {
            convolution.pack_gradient_weight(context, &weight, &mut packed);
            let (dy, dx) = (View4::new(&y, ys, k).unwrap(), ViewMut4::new(&mut x, xs, c).unwrap());
            match winograd {
                None => convolution.backward_input(context, dy, &packed, dx, scratch),
                Some(winograd) => {
                    winograd.transform_weight(context, &packed, &mut transformed);
                    winograd.run(context, dy, &transformed, None, None, Activation::None, dx, scratch);
                }
            }
        }
        (Pass::BackwardWeight, _, gradient) => {
            let (x, dy) = (View4::new(&x, xs, c).unwrap(), View4::new(&y, ys, k).unwrap());
            match gradient {
                None => convolution.backward_weight(context, x, dy, &mut weight, None, scratch),
                Some(gradient) => gradient.run(context, x, dy, &mut weight, None, scratch),
            }
        }
    };
    once();
    let (mut best, mut peak, start) = (f64::INFINITY, 0.0f64, Instant::now());
    while start.elapsed().as_millis() < 25 || best.is_infinite() {
        peak = peak.max(peak::fma_peak(context));
        for _ in 0..3 {
            let begin = Instant::now();
            once();
            best = best.min(begin.elapsed().as_secs_f64() * 1e3);
        }
    }
    (best, peak)
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i % 17) as f32 / 17.0 - 0.4).collect()
}
