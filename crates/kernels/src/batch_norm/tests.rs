//! Every pass against the naive reference, at every remainder of channels and pixels and with every mask.

use super::*;
use crate::testing::{ACTIVATIONS, Tensor, apart, assert_matches, assert_threads_agree, on_every_isa};
use crate::{Isa, Pool};
use fovea_reference::check::{self, narrow, uniform, widen};
use fovea_reference::{BatchNorm, activation as reference};

const EPSILON: f32 = 1e-5;
const NORM: BatchNorm = BatchNorm { epsilon: 1e-5, momentum: 0.1 };

/// Shapes whose channels and pixels leave every kind of remainder, of one part and of several.
const SHAPES: [[usize; 4]; 9] = [
    [2, 1, 1, 1],
    [1, 3, 3, 3],
    [2, 3, 5, 7],
    [1, 2, 2, 17],
    [2, 4, 1, 33],
    [3, 5, 5, 64],
    [2, 31, 29, 70],
    [3, 40, 40, 48],
    [1, 9, 5, 2051],
];

/// Calls `test` with every shape and the gaps of two tensors, dense and not.
fn on_every_layout(test: impl Fn([usize; 4], usize, usize)) {
    for (turn, shape) in SHAPES.into_iter().enumerate() {
        let gaps = [(0, 0), (2, 0), (0, 1), (3, 5)];
        [gaps[turn % 4], gaps[(turn + 1) % 4]].into_iter().for_each(|(a, b)| test(shape, a, b));
    }
}

/// What `statistics` writes: saved, and the running mean and variance, which begin as zeros and ones.
fn statistics_of(context: Context, x: View4) -> [Vec<f32>; 3] {
    let channels = x.c();
    let (mut saved, mut scratch) = (vec![f32::NAN; 2 * channels], vec![f32::NAN; scratch_len(x.shape())]);
    let (mut mean, mut variance) = (vec![0.0; channels], vec![1.0; channels]);
    let running = Running { mean: &mut mean, variance: &mut variance, momentum: 0.1 };
    statistics(context, x, EPSILON, &mut saved, running, &mut scratch);
    [saved, mean, variance]
}

fn affine_of(saved: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let mut result = vec![f32::NAN; saved.len()];
    affine(saved, weight, bias, &mut result);
    result
}

/// Values far from the standard normal ones: each channel has a mean and a deviation of its own.
fn spread(seed: u64, shape: [usize; 4], gap: usize) -> Tensor {
    let mut values = uniform(seed, shape.iter().product());
    for (index, value) in values.iter_mut().enumerate() {
        let channel = index % shape[3];
        *value = *value * (1.0 + channel as f32 * 0.01) + (channel % 5) as f32 - 2.0;
    }
    Tensor::new(&values, shape, gap)
}

#[test]
fn statistics_equal_the_reference() {
    on_every_layout(|shape, gap, _| {
        let (channels, pixels) = (shape[3], shape[0] * shape[1] * shape[2]);
        let x = spread(1, shape, gap);
        let expected = NORM.statistics(&x.wide(), channels);
        let running = NORM.follow([&vec![0.0; channels], &vec![1.0; channels]], &expected, pixels);
        let deviation: Vec<_> = expected[1].iter().map(|v| 1.0 / (v + NORM.epsilon).sqrt()).collect();
        on_every_isa(|context| {
            let [saved, mean, variance] = statistics_of(context, x.view());
            assert_matches(&saved[..channels], &expected[0], 1e-6);
            assert_matches(&saved[channels..], &deviation, 2e-6);
            assert_matches(&mean, &running[0], 1e-6);
            assert_matches(&variance, &running[1], 1e-6);
        });
    });
}

#[test]
fn a_mean_of_a_hundred_or_ten_thousand_deviations_does_not_spoil_the_variance() {
    let shape = [4, 56, 56, 18];
    for far in [100.0, -1e4] {
        let values: Vec<_> = uniform(5, shape.iter().product()).iter().map(|x| x + far).collect();
        let x = Tensor::new(&values, shape, 0);
        let expected = NORM.statistics(&x.wide(), 18);
        on_every_isa(|context| {
            let [saved, ..] = statistics_of(context, x.view());
            let deviations = saved[18..].iter().zip(&expected[1]);
            let errors = deviations.map(|(actual, v)| f64::from(*actual) * (v + NORM.epsilon).sqrt() - 1.0);
            let largest = errors.fold(0.0, |largest: f64, error| largest.max(error.abs()));
            assert!(largest < 2e-6, "{largest}");
            assert_matches(&saved[..18], &expected[0], 1e-7);
        });
    }
}

#[test]
fn the_mean_of_many_pixels_is_as_exact_as_that_of_few() {
    // Means next to 0, so that rounding the result to f32 hides nothing.
    let shape = [8, 64, 64, 24];
    let x = Tensor::uniform(5, shape, 0);
    let expected = NORM.statistics(&x.wide(), 24);
    on_every_isa(|context| {
        let [saved, ..] = statistics_of(context, x.view());
        let errors = saved.iter().zip(&expected[0]).zip(&expected[1]);
        let errors =
            errors.map(|((mean, expected), variance)| (f64::from(*mean) - expected).abs() / variance.sqrt());
        let largest = errors.fold(0.0, f64::max);
        assert!(largest < 6e-9, "{largest} deviations");
    });
}

#[test]
fn a_constant_channel_has_no_variance_and_a_single_pixel_an_unbiased_one_of_zero() {
    let x = Tensor::new(&[3.25; 50 * 5], [2, 5, 5, 5], 0);
    let single = Tensor::new(&[3.25; 5], [1, 1, 1, 5], 0);
    on_every_isa(|context| {
        for x in [&x, &single] {
            let [saved, mean, variance] = statistics_of(context, x.view());
            assert_eq!(saved[..5], [3.25; 5]);
            assert_eq!(saved[5..], [(1.0 / f64::from(EPSILON).sqrt()) as f32; 5]);
            assert_matches(&[mean[0], variance[0]], &[0.325, 0.9], 1e-7);
        }
    });
}

#[test]
fn nan_reaches_the_statistics_of_its_channel_alone() {
    let mut values = uniform(3, 9 * 20);
    values[4 * 20 + 18] = f32::NAN;
    let x = Tensor::new(&values, [1, 3, 3, 20], 0);
    on_every_isa(|context| {
        let [saved, mean, variance] = statistics_of(context, x.view());
        for (channel, values) in (0..20).map(|c| (c, [saved[c], saved[20 + c], mean[c], variance[c]])) {
            assert!(values.iter().all(|value| value.is_nan() == (channel == 18)), "{channel}: {values:?}");
        }
    });
}

#[test]
fn training_and_inference_normalise_as_the_reference() {
    on_every_layout(|shape, gap_x, gap_y| {
        let channels = shape[3];
        let (x, residual) = (spread(1, shape, gap_x), Tensor::uniform(2, shape, gap_y));
        let [weight, bias] = [3, 4].map(|seed| uniform(seed, channels));
        let statistics = NORM.statistics(&x.wide(), channels);
        let plain = NORM.normalize(&x.wide(), &statistics, &widen(&weight), &widen(&bias));
        let sum: Vec<_> = plain.iter().zip(residual.wide()).map(|(z, residual)| z + residual).collect();
        on_every_isa(|context| {
            let trained = affine_of(&statistics_of(context, x.view())[0], &weight, &bias);
            let mut inferred = vec![f32::NAN; 2 * channels];
            let [mean, variance] = [0, 1].map(|which| narrow(&statistics[which]));
            running_affine(&mean, &variance, EPSILON, &weight, &bias, &mut inferred);
            for affine in [trained, inferred] {
                for (residual, expected) in [(None, &plain), (Some(&residual), &sum)] {
                    let [mut plain, mut y] = [(); 2].map(|()| Tensor::unwritten(shape, gap_y));
                    let residual = residual.map(Tensor::view);
                    normalize(context, x.view(), &affine, residual, Activation::None, plain.view_mut());
                    assert_matches(&plain.values(), expected, 3e-6);
                    for activation in ACTIVATIONS {
                        normalize(context, x.view(), &affine, residual, activation, y.view_mut());
                        assert_eq!(y.values(), apart(context, activation, &plain.values()), "{activation:?}");
                    }
                }
            }
        });
    });
}

#[test]
fn normalisation_works_in_place_of_x_and_of_the_residual() {
    let shape = [2, 5, 7, 21];
    let (x, residual) = (spread(1, shape, 1), Tensor::uniform(2, shape, 1));
    let affine = uniform(3, 42);
    on_every_isa(|context| {
        let run = |x: View4, residual: View4, y: ViewMut4| {
            normalize(context, x, &affine, Some(residual), Activation::Relu, y);
        };
        let (mut apart, mut on_x, mut on_residual) =
            (Tensor::unwritten(shape, 1), x.clone(), residual.clone());
        run(x.view(), residual.view(), apart.view_mut());
        let (from, to) = on_x.in_place();
        run(from, residual.view(), to);
        let (from, to) = on_residual.in_place();
        run(x.view(), from, to);
        assert_eq!(on_x.values(), apart.values());
        assert_eq!(on_residual.values(), apart.values());
    });
}

/// Both backward passes; the three masks of a case are named by `how`.
fn backward_of(
    context: Context,
    how: usize,
    [x, dy, y]: [View4; 3],
    [saved, affine]: [&[f32]; 2],
    gap: usize,
) -> [Vec<f32>; 4] {
    let (shape, channels) = (x.shape(), x.c());
    let mask = [Mask::None, Mask::Recompute, Mask::Output(y)][how];
    let [mut dweight, mut dbias] = [(); 2].map(|()| vec![f32::NAN; channels]);
    let [mut dresidual, mut dx] = [(); 2].map(|()| Tensor::unwritten(shape, gap));
    let mut scratch = vec![f32::NAN; scratch_len(shape)];
    let residual = (how != 1).then(|| dresidual.view_mut());
    let (weights, scratch) = ((&mut dweight, &mut dbias), &mut scratch);
    let backward = Backward { x, dy, mask, saved, affine };
    backward_sums(context, backward, weights.0, weights.1, residual, scratch);
    backward_input(context, backward, &dweight, &dbias, dx.view_mut());
    let dresidual = if how == 1 { vec![] } else { dresidual.values() };
    [dx.values(), dweight, dbias, dresidual]
}

#[test]
fn gradients_equal_the_reference_with_every_mask() {
    on_every_layout(|shape, gap_x, gap_dy| {
        let channels = shape[3];
        let (x, dy) = (spread(1, shape, gap_x), Tensor::uniform(2, shape, gap_dy));
        let y = Tensor::uniform(6, shape, gap_dy); // a residual makes it what it likes
        let [weight, bias] = [3, 4].map(|seed| uniform(seed, channels));
        let statistics = NORM.statistics(&x.wide(), channels);
        on_every_isa(|context| {
            let [saved, ..] = statistics_of(context, x.view());
            let affine = affine_of(&saved, &weight, &bias);
            let mut z = Tensor::unwritten(shape, 0);
            normalize(context, x.view(), &affine, None, Activation::None, z.view_mut());
            for how in 0..3 {
                let dz = match how {
                    0 => dy.wide(),
                    // The sign of a value next to zero is what the kernel's forward pass made of it.
                    1 => reference::relu_backward(&dy.wide(), &z.wide()),
                    _ => reference::relu_backward(&dy.wide(), &y.wide()),
                };
                let expected = NORM.backward(&x.wide(), &dz, &widen(&weight));
                let views = [x.view(), dy.view(), y.view()];
                let [dx, dweight, dbias, dresidual] =
                    backward_of(context, how, views, [&saved, &affine], gap_x);
                // A pixel of two has a gradient that cancels almost altogether: compare with what it is made
                // of.
                let deviations = statistics[1].iter().map(|v| 1.0 / (v + NORM.epsilon).sqrt());
                let scale = deviations.fold(0.0, f64::max);
                let errors = dx.iter().zip(&expected.dx).map(|(a, b)| (f64::from(*a) - b).abs() / scale);
                let error = errors.fold(0.0, f64::max);
                assert!(error < 2e-6, "dx of {shape:?}, mask {how}: {error}");
                assert_matches(&dweight, &expected.dweight, 4e-6);
                assert_matches(&dbias, &expected.dbias, 2e-6);
                if how != 1 {
                    assert_matches(&dresidual, &dz, 0.0);
                }
            }
        });
    });
}

#[test]
fn backward_passes_work_in_place_of_dy() {
    let shape = [2, 9, 11, 37];
    let [x, dy, y] = [1, 2, 3].map(|seed| spread(seed, shape, 2));
    on_every_isa(|context| {
        let [saved, ..] = statistics_of(context, x.view());
        let affine = affine_of(&saved, &uniform(4, 37), &uniform(5, 37));
        let views = [x.view(), dy.view(), y.view()];
        let [dx, dweight, dbias, dresidual] = backward_of(context, 2, views, [&saved, &affine], 0);
        let mut place = dy.clone();
        let [mut dweight_too, mut dbias_too] = [(); 2].map(|()| vec![f32::NAN; 37]);
        let mut scratch = vec![f32::NAN; scratch_len(shape)];
        let (mask, (masked, dresidual_too)) = (Mask::Output(y.view()), place.in_place());
        backward_sums(
            context,
            Backward { x: x.view(), dy: masked, mask, saved: &saved, affine: &affine },
            &mut dweight_too,
            &mut dbias_too,
            Some(dresidual_too),
            &mut scratch,
        );
        assert_eq!(place.values(), dresidual);
        assert_eq!([dweight_too, dbias_too], [dweight.clone(), dbias.clone()]);
        // What was masked in place needs no mask any more.
        let mut place_of_x = x.clone();
        let (from, to) = place_of_x.in_place();
        let (mask, saved, affine) = (Mask::None, &saved[..], &affine[..]);
        let backward = Backward { x: from, dy: place.view(), mask, saved, affine };
        backward_input(context, backward, &dweight, &dbias, to);
        assert_eq!(place_of_x.values(), dx);
        let (from, to) = place.in_place();
        let backward = Backward { x: x.view(), dy: from, mask, saved, affine };
        backward_input(context, backward, &dweight, &dbias, to);
        assert_eq!(place.values(), dx);
    });
}

#[test]
fn gradients_equal_finite_differences_of_the_forward_pass() {
    let shape = [2, 3, 2, 3];
    let (x, dy) = (spread(11, shape, 0), Tensor::uniform(12, shape, 0));
    let (weight, bias) = (vec![0.5, -1.0, 0.8], vec![0.3, 0.1, -0.2]);
    on_every_isa(|context| {
        let forward = |x: &[f64], weight: &[f64], bias: &[f64]| {
            let x = Tensor::new(&narrow(x), shape, 0);
            let affine = affine_of(&statistics_of(context, x.view())[0], &narrow(weight), &narrow(bias));
            let mut y = Tensor::unwritten(shape, 0);
            normalize(context, x.view(), &affine, None, Activation::None, y.view_mut());
            y.wide()
        };
        let loss = |x: &[f64], w: &[f64], b: &[f64]| check::dot(&forward(x, w, b), &dy.wide());
        let (x, w, b) = (x.wide(), widen(&weight), widen(&bias));
        let tensor = Tensor::new(&narrow(&x), shape, 0);
        let [saved, ..] = statistics_of(context, tensor.view());
        let affine = affine_of(&saved, &weight, &bias);
        let views = [tensor.view(), dy.view(), dy.view()];
        let [dx, dweight, dbias, _] = backward_of(context, 0, views, [&saved, &affine], 0);
        assert_matches(&dx, &check::finite_difference(&x, 1e-2, |x| loss(x, &w, &b)), 1e-3);
        assert_matches(&dweight, &check::finite_difference(&w, 1e-2, |w| loss(&x, w, &b)), 1e-4);
        assert_matches(&dbias, &check::finite_difference(&b, 1e-2, |b| loss(&x, &w, b)), 1e-4);
    });
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for (shape, gap) in [([5, 31, 30, 40], 0), ([5, 31, 30, 40], 3), ([3, 9, 9, 1030], 0)] {
        let channels = shape[3];
        let [x, dy, y] = [1, 2, 3].map(|seed| spread(seed, shape, gap));
        let [weight, bias] = [4, 5].map(|seed| uniform(seed, channels));
        assert_threads_agree(|context| {
            let [saved, mean, variance] = statistics_of(context, x.view());
            let affine = affine_of(&saved, &weight, &bias);
            let mut z = Tensor::unwritten(shape, gap);
            normalize(context, x.view(), &affine, Some(y.view()), Activation::Relu, z.view_mut());
            let views = [x.view(), dy.view(), y.view()];
            let backward = backward_of(context, 2, views, [&saved, &affine], gap).concat();
            [saved, mean, variance, z.values(), backward].concat()
        });
    }
}

/// Memory for a tensor of pixels `ld` floats apart, from `offset` floats behind a cache line on; the rest is 0.
struct Large {
    memory: Vec<f32>,
    start: usize,
    shape: [usize; 4],
    ld: usize,
}

impl Large {
    fn new(shape: [usize; 4], ld: usize, offset: usize) -> Self {
        let memory = vec![0.0; shape[..3].iter().product::<usize>() * ld + 2 * 16];
        let start = memory.as_ptr().align_offset(64) + offset;
        Self { memory, start, shape, ld }
    }

    fn view_mut(&mut self) -> ViewMut4<'_> {
        let len = self.memory.len() - 32;
        ViewMut4::new(&mut self.memory[self.start..][..len], self.shape, self.ld).unwrap()
    }
}

#[test]
fn what_is_written_past_the_caches_is_what_is_written_into_them() {
    // Sixteen mebibytes and a little; the last vector of a pixel is not whole, which no stream takes.
    let (shape, ld) = ([3, 98, 115, 125], 128);
    let channels = shape[3];
    let [x, dy, residual] = [1, 2, 3].map(|seed| spread(seed, shape, 0));
    let (pool, affine) = (Pool::new(2), uniform(4, 2 * channels));
    let [saved, weights] = [5, 6].map(|seed| uniform(seed, 2 * channels));
    let (dweight, dbias) = weights.split_at(channels);
    for isa in Isa::available() {
        let context = Context { isa, pool: &pool };
        type Write<'a> = &'a dyn Fn(ViewMut4);
        let passes: [Write; 4] = [
            &|y| normalize(context, x.view(), &affine, None, Activation::Relu, y),
            &|y| normalize(context, x.view(), &affine, Some(residual.view()), Activation::None, y),
            &|dx| {
                let (x, dy) = (x.view(), dy.view());
                let backward = Backward { x, dy, mask: Mask::Recompute, saved: &saved, affine: &affine };
                backward_input(context, backward, dweight, dbias, dx);
            },
            &|dx| {
                let (x, dy, y) = (x.view(), dy.view(), residual.view());
                let backward = Backward { x, dy, mask: Mask::Output(y), saved: &saved, affine: &affine };
                backward_input(context, backward, dweight, dbias, dx);
            },
        ];
        for write in passes {
            let [mut streamed, mut cached] = [0, 1].map(|offset| Large::new(shape, ld, offset));
            let chosen =
                [&mut streamed, &mut cached].map(|y| channelwise::streams(&y.view_mut(), &[x.view()]));
            assert_eq!(chosen, [true, false]);
            write(streamed.view_mut());
            write(cached.view_mut());
            let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
            let [streamed, cached] = [streamed, cached].map(|y| (y.memory, y.start));
            let pairs = streamed.0[streamed.1..].iter().zip(&cached.0[cached.1..]);
            assert!(pairs.into_iter().all(same), "{}", isa.name());
            assert!(cached.0.iter().any(|value| *value != 0.0));
        }
    }
}

#[test]
#[should_panic(expected = "length of saved")]
fn an_array_of_another_length_is_refused() {
    let x = Tensor::uniform(1, [1, 2, 2, 3], 0);
    on_every_isa(|context| {
        let mut none: [f32; 0] = [];
        let (mut mean, mut variance) = ([0.0; 3], [0.0; 3]);
        let running = Running { mean: &mut mean, variance: &mut variance, momentum: 0.1 };
        statistics(context, x.view(), EPSILON, &mut none, running, &mut [0.0; 64]);
    });
}
