//! What the examples share that time convolutions: memory for a pass, the pass as a training step runs it, and
//! a clock.

use fovea_kernels::conv2d::winograd::{WeightGradient, Winograd};
use fovea_kernels::conv2d::{Conv2d, Conv2dShape, Forward, Pass};
use fovea_kernels::{Activation, Context, View4, ViewMut4, peak};
use std::time::{Duration, Instant};

/// All three passes.
pub const PASSES: [Pass; 3] = [Pass::Forward, Pass::BackwardInput, Pass::BackwardWeight];

/// A convolution in one group, with a square kernel.
pub fn shape(input: [usize; 3], filters: usize, kernel: usize, stride: usize, padding: usize) -> Conv2dShape {
    let (kernel, stride, padding) = ([kernel; 2], [stride; 2], [padding; 4]);
    Conv2dShape { input, filters, kernel, stride, padding, dilation: [1; 2], groups: 1 }
}

/// Winograd's algorithm for a pass.
enum WinogradPass {
    Product(Winograd),
    WeightGradient(WeightGradient),
}

/// A pass of a convolution over a batch, and all its memory.
pub struct Timed<'a> {
    context: Context<'a>,
    convolution: Conv2d,
    pass: Pass,
    winograd: Option<WinogradPass>,
    shapes: [[usize; 4]; 2],
    x: Vec<f32>,
    y: Vec<f32>,
    weight: Vec<f32>,
    packed: Vec<f32>,
    transformed: Vec<f32>,
    bias: Vec<f32>,
    scratch: Vec<f32>,
}

impl<'a> Timed<'a> {
    /// The pass as the convolution itself computes it.
    pub fn directly(context: Context<'a>, convolution: Conv2d, batch: usize, pass: Pass) -> Self {
        let scratch_len = convolution.scratch_len(pass, batch, context.pool.at_once());
        Self::new(context, convolution, batch, pass, None, scratch_len)
    }

    /// The pass by Winograd's algorithm, if that can compute it.
    pub fn by_winograd(context: Context<'a>, convolution: Conv2d, batch: usize, pass: Pass) -> Option<Self> {
        let threads = context.pool.at_once();
        let (winograd, scratch_len) = match pass {
            Pass::BackwardWeight => {
                let gradient = WeightGradient::new(&convolution)?;
                let scratch_len = gradient.scratch_len(batch, threads);
                (WinogradPass::WeightGradient(gradient), scratch_len)
            }
            Pass::Forward | Pass::BackwardInput => {
                let winograd = Winograd::new(&convolution, pass)?;
                let scratch_len = winograd.scratch_len(threads);
                (WinogradPass::Product(winograd), scratch_len)
            }
        };
        Some(Self::new(context, convolution, batch, pass, Some(winograd), scratch_len))
    }

    fn new(
        context: Context<'a>,
        convolution: Conv2d,
        batch: usize,
        pass: Pass,
        winograd: Option<WinogradPass>,
        scratch_len: usize,
    ) -> Self {
        let ([h, w, c], [oh, ow, k]) = (convolution.shape().input, convolution.output());
        let shapes = [[batch, h, w, c], [batch, oh, ow, k]];
        let [x, y] = shapes.map(|shape| values(shape.iter().product()));
        let [weight, packed] = [convolution.weight_len(), convolution.gradient_weight_len()].map(values);
        let transformed = match &winograd {
            Some(WinogradPass::Product(winograd)) => vec![0.0; winograd.weight_len()],
            Some(WinogradPass::WeightGradient(_)) | None => Vec::new(),
        };
        let scratch = vec![0.0; scratch_len + 16];
        Self {
            context,
            convolution,
            pass,
            winograd,
            shapes,
            x,
            y,
            weight,
            packed,
            transformed,
            bias: values(k),
            scratch,
        }
    }

    /// Runs the pass once; weights are packed and transformed each time, as in training.
    fn run(&mut self) {
        let Self { context, convolution, pass, winograd, shapes: [xs, ys], x, y, .. } = self;
        let Self { weight, packed, transformed, bias, scratch, .. } = self;
        let (context, activation) = (*context, Activation::Relu);
        let skip = scratch.as_ptr().align_offset(64);
        let scratch = &mut scratch[skip..];
        match (pass, winograd) {
            (Pass::Forward, winograd) => {
                let (x, y) = (View4::new(x, *xs, xs[3]).unwrap(), ViewMut4::new(y, *ys, ys[3]).unwrap());
                let forward = Forward { x, weight, bias: Some(bias), residual: None, activation };
                match winograd {
                    Some(WinogradPass::Product(winograd)) => {
                        winograd.transform_weight(context, weight, transformed);
                        let forward = Forward { weight: transformed, ..forward };
                        winograd.run(context, forward, y, scratch);
                    }
                    _ => convolution.forward(context, forward, y, scratch),
                }
            }
            (Pass::BackwardInput, winograd) => {
                convolution.pack_gradient_weight(context, weight, packed);
                let (dy, dx) = (View4::new(y, *ys, ys[3]).unwrap(), ViewMut4::new(x, *xs, xs[3]).unwrap());
                match winograd {
                    Some(WinogradPass::Product(winograd)) => {
                        winograd.transform_weight(context, packed, transformed);
                        winograd.run(context, Forward::new(dy, transformed), dx, scratch);
                    }
                    _ => convolution.backward_input(context, dy, packed, None, dx, scratch),
                }
            }
            (Pass::BackwardWeight, winograd) => {
                let (x, dy) = (View4::new(x, *xs, xs[3]).unwrap(), View4::new(y, *ys, ys[3]).unwrap());
                match winograd {
                    Some(WinogradPass::WeightGradient(gradient)) => {
                        gradient.run(context, x, dy, weight, Some(bias), scratch);
                    }
                    _ => convolution.backward_weight(context, x, dy, weight, Some(bias), scratch),
                }
            }
        }
    }

    /// Seconds of the fastest run in about this time, and the FMA peak beside the runs, in GFLOP/s.
    pub fn best(&mut self, time: Duration) -> (f64, f64) {
        self.run();
        let (mut best, mut peak, start) = (f64::INFINITY, 0.0f64, Instant::now());
        while start.elapsed() < time || best.is_infinite() {
            peak = peak.max(peak::fma_peak(self.context));
            for _ in 0..4 {
                let begin = Instant::now();
                self.run();
                best = best.min(begin.elapsed().as_secs_f64());
            }
        }
        (best, peak)
    }
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i % 17) as f32 / 17.0 - 0.4).collect()
}
