//! Pooling of a normalized map, against pooling and normalizing it, and against the reference.

use super::*;
use crate::batch_norm::normalize;
use check::{uniform, widen};
use fovea_reference::BatchNorm;

const NORM: BatchNorm = BatchNorm { epsilon: 1e-5, momentum: 0.1 };

/// A case's x, the gradient of what was pooled, and the normalization's numbers.
struct Case {
    x: Tensor,
    dy: Tensor,
    weight: Vec<f32>,
    saved: Vec<f32>,
    affine: Vec<f32>,
}

impl Case {
    fn new(shape: Pool2dShape, gap_x: usize, gap_y: usize) -> Self {
        let ([x, y], channels) = (shapes(shape, 2), shape.input[2]);
        let (x, dy) = (Tensor::uniform(1, x, gap_x), Tensor::uniform(2, y, gap_y));
        let [weight, bias] = [3, 4].map(|seed| uniform(seed, channels));
        let [mean, variance] = NORM.statistics(&x.wide(), channels);
        let deviation = variance.iter().map(|variance| 1.0 / (variance + NORM.epsilon).sqrt());
        let saved: Vec<f32> = mean.iter().copied().chain(deviation).map(|value| value as f32).collect();
        let mut affine = vec![f32::NAN; 2 * channels];
        crate::batch_norm::affine(&saved, &weight, &bias, &mut affine);
        Self { x, dy, weight, saved, affine }
    }

    /// y and the winners.
    fn forward(&self, context: Context, pool: &MaxPool2d, activation: Activation) -> (Tensor, Vec<u8>) {
        let mut y = Tensor::unwritten(self.dy.view().shape(), 1);
        let mut argmax = vec![0; self.dy.values().len()];
        let (x, affine, mut alone) = (self.x.view(), &self.affine, y.clone());
        pool.forward_normalized(context, x, affine, activation, y.view_mut(), Some(&mut argmax));
        pool.forward_normalized(context, x, affine, activation, alone.view_mut(), None);
        assert_eq!(alone.values(), y.values(), "without winners");
        (y, argmax)
    }

    /// dx, dweight and dbias; dx in place of x.
    fn backward(&self, context: Context, pool: &MaxPool2d, argmax: &[u8], y: Option<View4>) -> [Vec<f32>; 3] {
        let Self { x, dy, saved, affine, .. } = self;
        let [mut dweight, mut dbias] = [(); 2].map(|()| vec![f32::NAN; x.view().c()]);
        let mut scratch = vec![f32::NAN; pool.normalized_scratch_len(2)];
        let gradient = PooledGradient { dy: dy.view(), argmax, y };
        let sums = (&mut dweight, &mut dbias);
        let backward = NormalizedBackward { x: x.view(), gradient, saved, affine };
        pool.normalized_sums(context, backward, sums.0, sums.1, &mut scratch);
        let (mut dx, mut in_place) = (Tensor::unwritten(x.view().shape(), 2), x.clone());
        let (from, to) = in_place.in_place();
        let on_x = NormalizedBackward { x: from, ..backward };
        pool.normalized_input(context, on_x, &dweight, &dbias, to);
        pool.normalized_input(context, backward, &dweight, &dbias, dx.view_mut());
        assert_eq!(dx.values(), in_place.values());
        [dx.values(), dweight, dbias]
    }
}

const ACTIVATIONS: [Activation; 2] = [Activation::None, Activation::Relu];

#[test]
fn a_normalized_map_is_pooled_to_the_same_bits_without_being_written() {
    on_every_shape(|shape, _, gap_x, gap_y| {
        let (case, pool) = (Case::new(shape, gap_x, gap_y), MaxPool2d::new(shape).unwrap());
        on_every_isa(|context| {
            for activation in ACTIVATIONS {
                let mut z = Tensor::unwritten(case.x.view().shape(), 0);
                normalize(context, case.x.view(), &case.affine, None, Activation::None, z.view_mut());
                let mut expected = Tensor::unwritten(case.dy.view().shape(), 0);
                let mut winners = vec![0; case.dy.values().len()];
                pool.forward(context, z.view(), activation, expected.view_mut(), Some(&mut winners));
                let (y, argmax) = case.forward(context, &pool, activation);
                assert!(y.values() == expected.values() && argmax == winners, "{shape:?}");
            }
        });
    });
}

#[test]
fn gradients_through_a_pooled_normalization_equal_the_reference() {
    on_every_shape(|shape, naive, gap_x, gap_y| {
        let (case, pool) = (Case::new(shape, gap_x, gap_y), MaxPool2d::new(shape).unwrap());
        let deviations = &case.saved[shape.input[2]..];
        on_every_isa(|context| {
            for activation in ACTIVATIONS {
                let (pooled, argmax) = case.forward(context, &pool, activation);
                let (mask, dy) = match activation {
                    Activation::None => (None, case.dy.wide()),
                    _ => {
                        let masked =
                            fovea_reference::activation::relu_backward(&case.dy.wide(), &pooled.wide());
                        (Some(pooled.view()), masked)
                    }
                };
                let actual = case.backward(context, &pool, &argmax, mask);
                let winners: Vec<_> = argmax.iter().map(|&winner| usize::from(winner)).collect();
                let dz = reference::MaxPool2d(naive).backward(&dy, &winners);
                let expected = NORM.backward(&case.x.wide(), &dz, &widen(&case.weight));
                // A channel of few pixels has a gradient that cancels almost altogether: compare with what it
                // is made of.
                let scale = f64::from(deviations.iter().fold(1.0f32, |a, &b| a.max(b)));
                let expected = [expected.dx, expected.dweight, expected.dbias];
                for (name, (actual, expected)) in
                    ["dx", "dweight", "dbias"].iter().zip(actual.iter().zip(&expected))
                {
                    let errors = actual.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs() / scale);
                    let error = errors.fold(0.0, f64::max);
                    assert!(
                        error < 1e-5,
                        "{name} of {shape:?}, {activation:?}, {}: {error:e}",
                        context.isa.name()
                    );
                }
            }
        });
    });
}

#[test]
fn a_pooled_normalization_has_the_same_bits_on_any_number_of_threads() {
    let shape =
        Pool2dShape { input: [57, 60, 40], size: [3, 3], stride: [2, 2], padding: [1; 4], ceil_mode: false };
    let (case, pool) = (Case::new(shape, 0, 0), MaxPool2d::new(shape).unwrap());
    assert_threads_agree(|context| {
        let (y, argmax) = case.forward(context, &pool, Activation::Relu);
        let gradients = case.backward(context, &pool, &argmax, Some(y.view()));
        [y.values()].into_iter().chain(gradients).flatten().collect()
    });
}
