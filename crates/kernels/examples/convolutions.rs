//! Percent of the FMA peak that each pass of a convolution reaches, on one thread and on all.
//!
//! `cargo run --release -p fovea-kernels --example convolutions [FILTER]`, `FOVEA_ISA` chooses the instruction
//! set. The peak is measured beside every line, since a machine's clock changes from minute to minute.
//! Depthwise convolutions are bound by memory: they show gigabytes of x and y a second instead.

#![allow(clippy::print_stdout, clippy::unwrap_used)] // a program for the terminal

mod common;

use common::{PASSES, Timed};
use fovea_kernels::conv2d::{Conv2d, Conv2dShape};
use fovea_kernels::{Context, Isa, Pool};
use std::time::Duration;

/// How long a pass is timed.
const TIME: Duration = Duration::from_millis(60);

/// Name, batch, input, filters, kernel, stride, padding.
type Case = (&'static str, usize, [usize; 3], usize, usize, usize, usize);

const CASES: &[Case] = &[
    ("lenet conv1", 64, [28, 28, 1], 6, 5, 1, 2),
    ("lenet conv2", 64, [14, 14, 6], 16, 5, 1, 0),
    ("lenet fc1", 64, [1, 1, 400], 120, 1, 1, 0),
    ("lenet fc2", 64, [1, 1, 120], 84, 1, 1, 0),
    ("lenet fc3", 64, [1, 1, 84], 10, 1, 1, 0),
    ("lenet conv1 one", 1, [28, 28, 1], 6, 5, 1, 2),
    ("lenet conv2 one", 1, [14, 14, 6], 16, 5, 1, 0),
    ("lenet fc1 one", 1, [1, 1, 400], 120, 1, 1, 0),
    ("3x3 64@56", 16, [56, 56, 64], 64, 3, 1, 1),
    ("3x3 128@28", 16, [28, 28, 128], 128, 3, 1, 1),
    ("3x3 256@14", 16, [14, 14, 256], 256, 3, 1, 1),
    ("3x3 512@7", 16, [7, 7, 512], 512, 3, 1, 1),
    ("3x3 s2 128@56", 16, [56, 56, 128], 128, 3, 2, 1),
    ("1x1 64>256@56", 16, [56, 56, 64], 256, 1, 1, 0),
    ("1x1 256>64@56", 16, [56, 56, 256], 64, 1, 1, 0),
    ("1x1 1024>256@14", 16, [14, 14, 1024], 256, 1, 1, 0),
    ("7x7 s2 3@224", 4, [224, 224, 3], 64, 7, 2, 3),
    ("11x11 s4 3@224", 4, [224, 224, 3], 64, 11, 4, 2),
    ("dense 9216>4096", 32, [1, 1, 9216], 4096, 1, 1, 0),
];

/// Name, input height and width, channels, stride: those of MobileNet, batch 16, 3 x 3.
const DEPTHWISE: &[(&str, usize, usize, usize)] = &[
    ("depthwise 32@112", 112, 32, 1),
    ("depthwise s2 64@112", 112, 64, 2),
    ("depthwise 128@56", 56, 128, 1),
    ("depthwise s2 128@56", 56, 128, 2),
    ("depthwise 256@28", 28, 256, 1),
    ("depthwise s2 256@28", 28, 256, 2),
    ("depthwise 512@14", 14, 512, 1),
    ("depthwise s2 512@14", 14, 512, 2),
    ("depthwise 1024@7", 7, 1024, 1),
];

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let isa = Isa::detect().unwrap();
    let pools = [Pool::new(1), Pool::new(Pool::default_threads())];
    println!("{}: percent of FMA peak, 1 / {} threads (microseconds)", isa.name(), pools[1].threads());
    for &(name, batch, input, filters, kernel, stride, padding) in
        CASES.iter().filter(|case| case.0.contains(&filter))
    {
        let convolution = Conv2d::new(common::shape(input, filters, kernel, stride, padding), isa).unwrap();
        let flops = 2.0 * convolution.shape().mult_adds() as f64 * batch as f64;
        print!("{name:16}");
        for pass in PASSES {
            for pool in &pools {
                let context = Context { isa, pool };
                let timed = Timed::directly(context, convolution.clone(), batch, pass);
                let (ratio, microseconds) = speed(timed, flops);
                print!("  {:5.1} ({microseconds:8.1})", 100.0 * ratio);
            }
            print!(" |");
        }
        for pass in PASSES {
            for pool in &pools {
                let context = Context { isa, pool };
                if let Some(timed) = Timed::by_winograd(context, convolution.clone(), batch, pass) {
                    let (ratio, microseconds) = speed(timed, flops);
                    print!("  {ratio:4.2}x ({microseconds:8.1})");
                }
            }
        }
        println!();
    }
    for &(name, size, channels, stride) in DEPTHWISE.iter().filter(|case| case.0.contains(&filter)) {
        let shape = common::shape([size, size, channels], channels, 3, stride, 1);
        let convolution = Conv2d::new(Conv2dShape { groups: channels, ..shape }, isa).unwrap();
        let floats = 16 * channels * (size * size + (size / stride).pow(2));
        print!("{name:20}");
        for pass in PASSES {
            for pool in &pools {
                let mut timed = Timed::directly(Context { isa, pool }, convolution.clone(), 16, pass);
                let (seconds, _) = timed.best(TIME);
                let rate = (floats * size_of::<f32>()) as f64 / seconds / 1e9;
                print!("  {rate:5.1} GB/s ({:8.1})", seconds * 1e6);
            }
            print!(" |");
        }
        println!();
    }
}

/// Speed over peak of a pass of so many operations, and microseconds.
fn speed(mut timed: Timed, flops: f64) -> (f64, f64) {
    let (seconds, peak) = timed.best(TIME);
    (flops / seconds / 1e9 / peak, seconds * 1e6)
}
