//! Percent of the FMA peak that each pass of a convolution reaches, on one thread and on all.
//!
//! `cargo run --release -p fovea-kernels --example convolutions [FILTER]`, `FOVEA_ISA` chooses the instruction set. The
//! peak is measured beside every line, since a machine's clock changes from minute to minute. Depthwise convolutions are
//! bound by memory: they show gigabytes of x and y a second instead.

#![allow(clippy::print_stdout, clippy::unwrap_used)] // a program for the terminal

use fovea_kernels::conv2d::{
    Conv2d, Conv2dShape, Pass,
    winograd::{WeightGradient, Winograd},
};
use fovea_kernels::{Activation, Context, Isa, Pool, View4, ViewMut4, peak};
use std::time::Instant;

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
    for case in CASES.iter().filter(|case| case.0.contains(&filter)) {
        print!("{:16}", case.0);
        for pass in [Pass::Forward, Pass::BackwardInput, Pass::BackwardWeight] {
            for pool in &pools {
                let (percent, microseconds) = measure(shape(case), case.1, pass, Context { isa, pool });
                print!("  {percent:5.1} ({microseconds:8.1})");
            }
            print!(" |");
        }
        for pass in [Pass::Forward, Pass::BackwardInput] {
            for pool in &pools {
                if let Some((ratio, microseconds)) = measure_winograd(case, pass, Context { isa, pool }) {
                    print!("  {ratio:4.2}x ({microseconds:8.1})");
                }
            }
        }
        for pool in &pools {
            if let Some((ratio, microseconds)) = measure_weight_gradient(case, Context { isa, pool }) {
                print!("  {ratio:4.2}x ({microseconds:8.1})");
            }
        }
        println!();
    }
    for &(name, size, channels, stride) in DEPTHWISE.iter().filter(|case| case.0.contains(&filter)) {
        let case = (name, 16, [size, size, channels], channels, 3, stride, 1);
        let shape = Conv2dShape { groups: channels, ..shape(&case) };
        let floats = 16 * channels * (size * size + (size / stride).pow(2));
        print!("{name:20}");
        for pass in [Pass::Forward, Pass::BackwardInput, Pass::BackwardWeight] {
            for pool in &pools {
                let (_, microseconds) = measure(shape, 16, pass, Context { isa, pool });
                let rate = (floats * size_of::<f32>()) as f64 / microseconds / 1e3;
                print!("  {rate:5.1} GB/s ({microseconds:8.1})");
            }
            print!(" |");
        }
        println!();
    }
}

fn shape(&(_, _, input, filters, kernel, stride, padding): &Case) -> Conv2dShape {
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

/// Percent of peak and microseconds of one pass: the best of about 50 ms.
fn measure(shape: Conv2dShape, batch: usize, pass: Pass, context: Context) -> (f64, f64) {
    let convolution = Conv2d::new(shape, context.isa).unwrap();
    let ([h, w, c], [oh, ow, k]) = (shape.input, convolution.output());
    let (mut x, mut y) = (values(batch * h * w * c), values(batch * oh * ow * k));
    let mut weight = values(convolution.weight_len());
    let mut packed = values(convolution.gradient_weight_len());
    let mut bias = values(k);
    let mut scratch = vec![0.0; convolution.scratch_len(pass, batch, context.pool.threads()) + 16];
    let skip = scratch.as_ptr().align_offset(64);
    let scratch = &mut scratch[skip..];
    let (xs, ys) = ([batch, h, w, c], [batch, oh, ow, k]);
    let once = || match pass {
        Pass::Forward => {
            let (x, y) = (View4::new(&x, xs, c).unwrap(), ViewMut4::new(&mut y, ys, k).unwrap());
            convolution.forward(context, x, &weight, Some(&bias), None, Activation::Relu, y, scratch);
        }
        Pass::BackwardInput => {
            let (dy, dx) = (View4::new(&y, ys, k).unwrap(), ViewMut4::new(&mut x, xs, c).unwrap());
            convolution.pack_gradient_weight(context, &weight, &mut packed);
            convolution.backward_input(context, dy, &packed, dx, scratch);
        }
        Pass::BackwardWeight => {
            let (x, dy) = (View4::new(&x, xs, c).unwrap(), View4::new(&y, ys, k).unwrap());
            convolution.backward_weight(context, x, dy, &mut weight, Some(&mut bias), scratch);
        }
    };
    let flops = 2.0 * shape.mult_adds() as f64 * batch as f64;
    let (rate, microseconds) = best(context, flops, once);
    (rate * 100.0, microseconds)
}

/// Effective speed over peak, and microseconds, of a pass by Winograd's algorithm, its weights transformed each time.
fn measure_winograd(case: &Case, pass: Pass, context: Context) -> Option<(f64, f64)> {
    let (&(_, batch, input, ..), shape) = (case, shape(case));
    let convolution = Conv2d::new(shape, context.isa).unwrap();
    let winograd = Winograd::new(&convolution, pass)?;
    let ([h, w, c], [oh, ow, k]) = (input, convolution.output());
    let (from, to) = if pass == Pass::Forward {
        ([batch, h, w, c], [batch, oh, ow, k])
    } else {
        ([batch, oh, ow, k], [batch, h, w, c])
    };
    let (x, mut y) = (values(from.iter().product()), values(to.iter().product()));
    let weight = values(if pass == Pass::Forward {
        convolution.weight_len()
    } else {
        convolution.gradient_weight_len()
    });
    let mut transformed = values(winograd.weight_len());
    let mut scratch = vec![0.0; winograd.scratch_len(context.pool.threads()) + 16];
    let skip = scratch.as_ptr().align_offset(64);
    let scratch = &mut scratch[skip..];
    let once = || {
        winograd.transform_weight(context, &weight, &mut transformed);
        let (x, y) = (View4::new(&x, from, from[3]).unwrap(), ViewMut4::new(&mut y, to, to[3]).unwrap());
        winograd.run(context, x, &transformed, None, None, Activation::Relu, y, scratch);
    };
    Some(best(context, 2.0 * shape.mult_adds() as f64 * batch as f64, once))
}

/// Effective speed over peak, and microseconds, of the weight gradient by Winograd's algorithm.
fn measure_weight_gradient(case: &Case, context: Context) -> Option<(f64, f64)> {
    let (&(_, batch, input, ..), shape) = (case, shape(case));
    let convolution = Conv2d::new(shape, context.isa).unwrap();
    let gradient = WeightGradient::new(&convolution)?;
    let ([h, w, c], [oh, ow, k]) = (input, convolution.output());
    let (x, dy) = (values(batch * h * w * c), values(batch * oh * ow * k));
    let (mut weight, mut bias) = (values(convolution.weight_len()), values(k));
    let mut scratch = vec![0.0; gradient.scratch_len(batch, context.pool.threads()) + 16];
    let skip = scratch.as_ptr().align_offset(64);
    let once = || {
        let x = View4::new(&x, [batch, h, w, c], c).unwrap();
        let dy = View4::new(&dy, [batch, oh, ow, k], k).unwrap();
        gradient.run(context, x, dy, &mut weight, Some(&mut bias), &mut scratch[skip..]);
    };
    Some(best(context, 2.0 * shape.mult_adds() as f64 * batch as f64, once))
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i % 17) as f32 / 17.0 - 0.4).collect()
}

/// Speed over peak, and microseconds: the best of about 50 ms.
fn best(context: Context, flops: f64, mut once: impl FnMut()) -> (f64, f64) {
    once();
    let (mut best, mut peak, start) = (f64::INFINITY, 0.0f64, Instant::now());
    while start.elapsed().as_millis() < 60 || best.is_infinite() {
        peak = peak.max(peak::fma_peak(context));
        for _ in 0..5 {
            let begin = Instant::now();
            once();
            best = best.min(begin.elapsed().as_secs_f64());
        }
    }
    (flops / best / 1e9 / peak, best * 1e6)
}
