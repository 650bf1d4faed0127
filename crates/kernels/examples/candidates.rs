//! How far the cost model of convolutions is from the truth: the milliseconds that each way of a pass should
//! take and takes, on one thread.
//!
//! `cargo run --release -p fovea-kernels --example candidates [FILTER]`, `FOVEA_ISA` chooses the instruction
//! set. What the model chooses has a star; the last line says how often a choice is more than a tenth slower
//! than the best way.

#![allow(clippy::print_stdout, clippy::unwrap_used)] // a program for the terminal

mod common;

use common::{PASSES, Timed};
use fovea_kernels::conv2d::winograd::Weights;
use fovea_kernels::conv2d::{Algorithm, Conv2d, Pass};
use fovea_kernels::{Context, Isa, Pool};
use std::time::Duration;

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
    (1, [27, 27, 64], 192, 5, 1, 2),
    (16, [28, 28, 16], 32, 5, 1, 2),
    (16, [28, 28, 32], 96, 5, 1, 2),
    (16, [14, 14, 32], 128, 5, 1, 2),
    (1, [14, 14, 32], 128, 5, 1, 2),
    (16, [7, 7, 48], 128, 5, 1, 2),
    (1, [7, 7, 48], 128, 5, 1, 2),
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
        for pass in PASSES {
            let &(batch, [h, w, c], filters, kernel, stride, _) = case;
            let title =
                format!("{kernel}x{kernel} s{stride} {c}>{filters} @{h}x{w}, batch {batch}, {pass:?}");
            if !title.contains(&filter) {
                continue;
            }
            let convolution = convolution(case, context.isa);
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

fn convolution(&(_, input, filters, kernel, stride, padding): &Case, isa: Isa) -> Conv2d {
    Conv2d::new(common::shape(input, filters, kernel, stride, padding), isa).unwrap()
}

/// Milliseconds of a pass, and the peak beside it.
fn measure(case: &Case, pass: Pass, algorithm: Algorithm, context: Context) -> (f64, f64) {
    let (batch, mut convolution) = (case.0, convolution(case, context.isa));
    assert!(convolution.hold(pass, algorithm));
    let mut timed = match algorithm {
        Algorithm::Winograd => Timed::by_winograd(context, convolution, batch, pass).unwrap(),
        _ => Timed::directly(context, convolution, batch, pass),
    };
    let (seconds, peak) = timed.best(Duration::from_millis(25));
    (seconds * 1e3, peak)
}
