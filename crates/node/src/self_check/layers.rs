//! Layers that normalise or drop.

use super::{Errors, batch_of, values, view, view_mut};
use fovea_kernels::batch_norm::{self, Backward, Mask, Running};
use fovea_kernels::dropout::dropout;
use fovea_kernels::local_response_norm::LocalResponseNorm;
use fovea_kernels::random::Philox;
use fovea_kernels::{Activation, Context};
use fovea_reference as reference;
use reference::check::{relative_error, uniform, widen};

/// Statistics, normalisation and gradients of a batch.
pub(super) fn batch_normalization(context: Context) -> Errors {
    let (shape, channels) = (batch_of([9, 8, 19]), 19);
    let [x, dy] = [1, 2].map(|seed| values(seed, shape));
    let [weight, bias] = [3, 4].map(|seed| uniform(seed, channels));
    let (x_view, dy_view) = (view(&x, shape)?, view(&dy, shape)?);
    let mut saved = vec![0.0; 2 * channels];
    let mut affine = saved.clone();
    let (mut running_mean, mut running_variance) = (vec![0.0; channels], vec![1.0; channels]);
    let running = Running { mean: &mut running_mean, variance: &mut running_variance, momentum: 0.25 };
    let mut scratch = vec![0.0; batch_norm::scratch_len(shape)];
    let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    let (mut dweight, mut dbias) = (vec![0.0; channels], vec![0.0; channels]);

    batch_norm::statistics(context, x_view, 1e-5, &mut saved, running, &mut scratch);
    batch_norm::affine(&saved, &weight, &bias, &mut affine);
    let y_view = view_mut(&mut y, shape)?;
    batch_norm::normalize(context, x_view, &affine, None, Activation::None, y_view);
    let backward = Backward { x: x_view, dy: dy_view, mask: Mask::None, saved: &saved, affine: &affine };
    batch_norm::backward_sums(context, backward, &mut dweight, &mut dbias, None, &mut scratch);
    let dx_view = view_mut(&mut dx, shape)?;
    batch_norm::backward_input(context, backward, &dweight, &dbias, dx_view);

    let definition = reference::BatchNorm { epsilon: f64::from(1e-5f32), momentum: 0.25 };
    let [x, dy, weight, bias] = [&x, &dy, &weight, &bias].map(|values| widen(values));
    let statistics = definition.statistics(&x, channels);
    let (zeros, ones) = (vec![0.0; channels], vec![1.0; channels]);
    let expected_running = definition.follow([&zeros, &ones], &statistics, x.len() / channels).concat();
    let expected = definition.backward(&x, &dy, &weight);
    let parameters = [dweight, dbias].concat();
    let running = [running_mean, running_variance].concat();
    Ok(vec![
        ("batch normalisation", relative_error(&y, &definition.normalize(&x, &statistics, &weight, &bias))),
        ("batch normalisation running statistics", relative_error(&running, &expected_running)),
        ("batch normalisation input gradient", relative_error(&dx, &expected.dx)),
        (
            "batch normalisation weight gradient",
            relative_error(&parameters, &[expected.dweight, expected.dbias].concat()),
        ),
    ])
}

pub(super) fn local_response_normalization(context: Context) -> Errors {
    let (shape, channels) = (batch_of([3, 5, 37]), 37);
    let [x, dy] = [1, 2].map(|seed| values(seed, shape));
    let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    let norm = LocalResponseNorm { size: 5, alpha: 0.5, beta: 0.75, k: 2.0 }; // exact in f32
    norm.forward(context, view(&x, shape)?, view_mut(&mut y, shape)?);
    norm.backward(context, view(&x, shape)?, view(&dy, shape)?, view_mut(&mut dx, shape)?);
    let definition = reference::LocalResponseNorm { size: 5, alpha: 0.5, beta: 0.75, k: 2.0 };
    let (x, dy) = (widen(&x), widen(&dy));
    Ok(vec![
        ("local response normalisation", relative_error(&y, &definition.forward(&x, channels))),
        (
            "local response normalisation gradient",
            relative_error(&dx, &definition.backward(&x, &dy, channels)),
        ),
    ])
}

/// Share of dropped values that chance may add or take from the rate: ten standard deviations of [`dropping`]'s.
const CHANCE: f64 = 0.02;

/// Dropout keeps the values that its random numbers say, and as many as its rate says.
pub(super) fn dropping(context: Context) -> Errors {
    let (shape, rate, key) = (batch_of([64, 64, 7]), 0.25, Philox { seed: 1, stream: 2 });
    let x = values(1, shape);
    let mut y = vec![f32::NAN; x.len()];
    dropout(context, view(&x, shape)?, rate, key, view_mut(&mut y, shape)?);
    let kept = |index: usize| key.uniform(index as u64) >= rate;
    let scale = 1.0 / f64::from(1.0 - rate);
    let expected =
        x.iter().enumerate().map(|(index, x)| f64::from(*x) * if kept(index) { scale } else { 0.0 });
    let expected: Vec<f64> = expected.collect();
    let dropped = y.iter().filter(|y| **y == 0.0).count() as f64 / y.len() as f64;
    Ok(vec![
        ("dropout", relative_error(&y, &expected)),
        ("dropout rate beyond chance", ((dropped - f64::from(rate)).abs() - CHANCE).max(0.0)),
    ])
}
