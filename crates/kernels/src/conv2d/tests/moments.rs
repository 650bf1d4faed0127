//! The moments of results, against the reference's statistics of what was written.

use super::*;
use crate::batch_norm::{Running, statistics_from_moments};
use reference::BatchNorm;

const NORM: BatchNorm = BatchNorm { epsilon: 1e-5, momentum: 0.1 };

/// What a forward pass with moments writes.
struct Written {
    y: Vec<f32>,
    moments: Vec<f32>,
}

/// Directly, and by Winograd's algorithm where that is possible.
fn ways(isa: Isa, shape: Conv2dShape) -> Vec<bool> {
    let convolution = Conv2d::new(shape, isa).unwrap();
    let winograd = Winograd::new(&convolution, Pass::Forward).is_some();
    if convolution.moments_len(1).is_none() {
        Vec::new()
    } else {
        vec![false, true][..1 + usize::from(winograd)].to_vec()
    }
}

/// Results with moments, and without.
fn run(
    isa: Isa,
    threads: usize,
    batch: usize,
    shape: Conv2dShape,
    inputs: &Inputs,
    winograd: bool,
) -> (Written, Vec<f32>) {
    let pool = Pool::start(threads, threads);
    let context = Context { isa, pool: &pool };
    let convolution = Conv2d::new(shape, isa).unwrap();
    let ([h, w, c], [oh, ow, k]) = (shape.input, convolution.output());
    let (weight, _) = packed(&convolution, context, &inputs.w);
    let x = Tensor::new(&inputs.x, [batch, h, w, c], 16);
    let [mut y, mut plain] = [(); 2].map(|()| Tensor::unwritten([batch, oh, ow, k], 16));
    let bias = Some(inputs.b.as_slice());
    let mut moments = Vec::new();
    if winograd {
        let winograd = Winograd::new(&convolution, Pass::Forward).unwrap();
        let mut transformed = vec![f32::NAN; winograd.weight_len()];
        winograd.transform_weight(context, &weight, &mut transformed);
        let mut memory = vec![f32::NAN; winograd.scratch_len(threads) + 2];
        let memory = aligned(&mut memory);
        moments.resize(winograd.moments_len(batch), f32::NAN);
        let forward = Forward { bias, ..Forward::new(x.view(), &transformed) };
        winograd.run_with_moments(context, forward, y.view_mut(), &mut moments, memory);
        winograd.run(context, forward, plain.view_mut(), memory);
    } else {
        let mut memory = scratch(&convolution, Pass::Forward, batch, threads);
        let memory = aligned(&mut memory);
        moments.resize(convolution.moments_len(batch).unwrap(), f32::NAN);
        let forward = Forward { bias, ..Forward::new(x.view(), &weight) };
        convolution.forward_with_moments(context, forward, y.view_mut(), &mut moments, memory);
        convolution.forward(context, forward, plain.view_mut(), memory);
    }
    (Written { y: y.values(), moments }, plain.values())
}

/// Mean and one over the deviation of each channel.
fn saved(isa: Isa, channels: usize, moments: &[f32]) -> Vec<f32> {
    let pool = Pool::new(1);
    let (mut saved, mut mean, mut variance) =
        (vec![f32::NAN; 2 * channels], vec![0.0; channels], vec![1.0; channels]);
    let running = Running { mean: &mut mean, variance: &mut variance, momentum: 0.1 };
    statistics_from_moments(Context { isa, pool: &pool }, moments, 1e-5, &mut saved, running);
    saved
}

#[test]
fn statistics_from_moments_equal_the_reference_and_results_are_the_same() {
    for (batch, shape) in cases().into_iter().chain(winograd_cases()).filter(|(batch, _)| *batch > 0) {
        let (inputs, k) = (Inputs::new(batch, &shape), shape.filters);
        for isa in Isa::available() {
            for winograd in ways(isa, shape) {
                let (Written { y, moments }, plain) = run(isa, 2, batch, shape, &inputs, winograd);
                assert!(y == plain, "{shape:?} on {}", isa.name());
                let expected = NORM.statistics(&widen(&y), k);
                let saved = saved(isa, k, &moments);
                let means = saved.iter().zip(&expected[0]).zip(&expected[1]);
                let errors = means.map(|((mean, expected), variance)| {
                    (f64::from(*mean) - expected).abs() / (variance.sqrt() + 0.1 * expected.abs())
                });
                let error = errors.fold(0.0, f64::max);
                assert!(error < 3e-7, "mean {error:e}, {shape:?} on {}", isa.name());
                let deviations = expected[1].iter().map(|variance| 1.0 / (variance + NORM.epsilon).sqrt());
                let error = relative_error(&saved[k..], &deviations.collect::<Vec<_>>());
                assert!(error < 2e-6, "deviation {error:e}, {shape:?} on {}", isa.name());
            }
        }
    }
}

#[test]
fn moments_do_not_depend_on_the_number_of_threads() {
    let larger = [
        (4, Conv2dShape { padding: [1; 4], ..shape([56, 56, 32], 40, 3) }),
        (3, Conv2dShape { padding: [3; 4], stride: [2, 2], ..shape([112, 112, 3], 64, 7) }),
        (16, Conv2dShape { padding: [1; 4], ..shape([7, 7, 64], 96, 3) }),
        (2, Conv2dShape { padding: [2; 4], ..shape([27, 27, 16], 48, 5) }),
    ];
    for (batch, shape) in larger.into_iter().chain(cases()).filter(|(batch, _)| *batch > 0) {
        let inputs = Inputs::new(batch, &shape);
        for isa in Isa::available() {
            for winograd in ways(isa, shape) {
                let bits = |threads: usize| {
                    let (written, _) = run(isa, threads, batch, shape, &inputs, winograd);
                    saved(isa, shape.filters, &written.moments)
                        .into_iter()
                        .map(f32::to_bits)
                        .collect::<Vec<_>>()
                };
                let alone = bits(1);
                let agree = [2, 3, 16].into_iter().all(|threads| bits(threads) == alone);
                assert!(agree, "{shape:?} on {}", isa.name());
            }
        }
    }
}

#[test]
fn a_mean_of_ten_thousand_deviations_does_not_spoil_the_variance() {
    let shape = Conv2dShape { padding: [1; 4], ..shape([28, 28, 32], 48, 3) };
    for far in [100.0, -1e4] {
        let mut inputs = Inputs::new(4, &shape);
        // Deviations of about one.
        inputs.w.iter_mut().for_each(|w| *w *= 0.1);
        inputs.b.fill(far);
        for isa in Isa::available() {
            for winograd in ways(isa, shape) {
                let (Written { y, moments }, _) = run(isa, 2, 4, shape, &inputs, winograd);
                let expected = NORM.statistics(&widen(&y), 48);
                let saved = saved(isa, 48, &moments);
                assert!(relative_error(&saved[..48], &expected[0]) < 1e-7);
                let deviations = expected[1].iter().map(|variance| 1.0 / (variance + NORM.epsilon).sqrt());
                let error = relative_error(&saved[48..], &deviations.collect::<Vec<_>>());
                assert!(error < 2e-6, "{error:e} on {}", isa.name());
            }
        }
    }
}
