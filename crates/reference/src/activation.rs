//! Elementwise activations and softmax; gradients are written in terms of the output y.

/// `max(x, 0)`; NaN stays NaN.
pub fn relu(x: &[f64]) -> Vec<f64> {
    x.iter().map(|&x| if x < 0.0 { 0.0 } else { x }).collect()
}

/// Gradient of x: dy where y > 0, otherwise zero (zero at the kink, as in PyTorch).
pub fn relu_backward(dy: &[f64], y: &[f64]) -> Vec<f64> {
    dy.iter().zip(y).map(|(&dy, &y)| if y > 0.0 { dy } else { 0.0 }).collect()
}

/// `min(max(x, least), most)`; NaN stays NaN.
pub fn clip(x: &[f64], least: f64, most: f64) -> Vec<f64> {
    let clipped = |&x: &f64| match x {
        x if x < least => least,
        x if x > most => most,
        x => x,
    };
    x.iter().map(clipped).collect()
}

/// Gradient of x: dy where least < y < most, otherwise zero (zero at both kinks, as PyTorch's `Hardtanh`).
pub fn clip_backward(dy: &[f64], y: &[f64], least: f64, most: f64) -> Vec<f64> {
    dy.iter().zip(y).map(|(&dy, &y)| if y > least && y < most { dy } else { 0.0 }).collect()
}

/// `min(max(x, 0), 6)`; NaN stays NaN.
pub fn relu6(x: &[f64]) -> Vec<f64> {
    clip(x, 0.0, 6.0)
}

/// Gradient of x: dy where 0 < y < 6, otherwise zero (zero at both kinks, as in PyTorch).
pub fn relu6_backward(dy: &[f64], y: &[f64]) -> Vec<f64> {
    clip_backward(dy, y, 0.0, 6.0)
}

/// `scale x + shift`.
pub fn affine(x: &[f64], scale: f64, shift: f64) -> Vec<f64> {
    x.iter().map(|x| scale * x + shift).collect()
}

/// Gradient of x: `scale dy`.
pub fn affine_backward(dy: &[f64], scale: f64) -> Vec<f64> {
    affine(dy, scale, 0.0)
}

/// `min(max(alpha x + beta, 0), 1)`; NaN stays NaN.
pub fn hard_sigmoid(x: &[f64], alpha: f64, beta: f64) -> Vec<f64> {
    clip(&affine(x, alpha, beta), 0.0, 1.0)
}

/// Gradient of x: `alpha dy` where 0 < y < 1, otherwise zero.
pub fn hard_sigmoid_backward(dy: &[f64], y: &[f64], alpha: f64) -> Vec<f64> {
    affine_backward(&clip_backward(dy, y, 0.0, 1.0), alpha)
}

/// `x min(max(x + 3, 0), 6) / 6`.
pub fn hard_swish(x: &[f64]) -> Vec<f64> {
    x.iter().zip(hard_sigmoid(x, 1.0 / 6.0, 0.5)).map(|(x, gate)| x * gate).collect()
}

/// Gradient of x, by x: 0 up to -3, dy from 3 on, between them `dy (x / 3 + 1 / 2)`.
pub fn hard_swish_backward(dy: &[f64], x: &[f64]) -> Vec<f64> {
    let slope = |&x: &f64| match x {
        x if x <= -3.0 => 0.0,
        x if x >= 3.0 => 1.0,
        x => x / 3.0 + 0.5,
    };
    dy.iter().zip(x).map(|(dy, x)| dy * slope(x)).collect()
}

/// `x / (1 + exp(-x))`.
pub fn silu(x: &[f64]) -> Vec<f64> {
    x.iter().zip(sigmoid(x)).map(|(x, sigmoid)| x * sigmoid).collect()
}

/// Gradient of x, by x: `dy s (1 + x (1 - s))`, where s is the sigmoid of x.
pub fn silu_backward(dy: &[f64], x: &[f64]) -> Vec<f64> {
    let slopes = x.iter().zip(sigmoid(x)).map(|(x, s)| s * (1.0 + x * (1.0 - s)));
    dy.iter().zip(slopes).map(|(dy, slope)| dy * slope).collect()
}

/// `x (1 + erf(x / sqrt 2)) / 2`.
pub fn gelu(x: &[f64]) -> Vec<f64> {
    x.iter().map(|&x| x * normal(x)).collect()
}

/// Gradient of x, by x: dy times the normal distribution up to x and x times its density there.
pub fn gelu_backward(dy: &[f64], x: &[f64]) -> Vec<f64> {
    dy.iter().zip(x).map(|(dy, &x)| dy * (normal(x) + x * density(x))).collect()
}

/// The density of the standard normal distribution.
fn density(x: f64) -> f64 {
    (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

/// The standard normal distribution up to x: `(1 + erf(x / sqrt 2)) / 2`. Near zero by a series of positive
/// terms, further out by Laplace's continued fraction of what lies beyond x (Abramowitz and Stegun 26.2.11 and
/// 26.2.14).
fn normal(x: f64) -> f64 {
    let magnitude = x.abs();
    let beyond = if magnitude < 4.0 {
        let mut term = magnitude;
        let mut sum = term;
        for odd in (3..200).step_by(2) {
            term *= magnitude * magnitude / f64::from(odd);
            sum += term;
        }
        0.5 - density(x) * sum
    } else {
        let fraction = (1..200).rev().fold(magnitude, |below, n| magnitude + f64::from(n) / below);
        density(x) / fraction
    };
    if x > 0.0 { 1.0 - beyond } else { beyond }
}

/// x where it is positive, otherwise x times the weight of its channel, or the only weight there is.
pub fn prelu(x: &[f64], weight: &[f64], channels: usize) -> Vec<f64> {
    let slope = |at: usize| weight[at % channels % weight.len()];
    x.iter().enumerate().map(|(at, &x)| if x > 0.0 { x } else { slope(at) * x }).collect()
}

/// Gradients of x and of the weight: dy where x > 0, otherwise `weight dy`; and the sum of `x dy` where x is
/// not positive.
pub fn prelu_backward(dy: &[f64], x: &[f64], weight: &[f64], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let mut dx = dy.to_vec();
    let mut dweight = vec![0.0; weight.len()];
    for (at, &x) in x.iter().enumerate().filter(|(_, x)| **x <= 0.0) {
        let which = at % channels % weight.len();
        dx[at] = weight[which] * dy[at];
        dweight[which] += x * dy[at];
    }
    (dx, dweight)
}

/// x where it is positive, otherwise `slope x`.
pub fn leaky_relu(x: &[f64], slope: f64) -> Vec<f64> {
    x.iter().map(|&x| if x > 0.0 { x } else { slope * x }).collect()
}

/// Gradient of x: dy where y > 0, otherwise `slope dy` (also at the kink, as in PyTorch); a slope of 0 or more.
pub fn leaky_relu_backward(dy: &[f64], y: &[f64], slope: f64) -> Vec<f64> {
    dy.iter().zip(y).map(|(&dy, &y)| if y > 0.0 { dy } else { slope * dy }).collect()
}

/// `1 / (1 + exp(-x))`.
pub fn sigmoid(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect()
}

/// Gradient of x: `dy y (1 - y)`.
pub fn sigmoid_backward(dy: &[f64], y: &[f64]) -> Vec<f64> {
    dy.iter().zip(y).map(|(dy, y)| dy * y * (1.0 - y)).collect()
}

/// Hyperbolic tangent.
pub fn tanh(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| x.tanh()).collect()
}

/// Gradient of x: `dy (1 - y^2)`.
pub fn tanh_backward(dy: &[f64], y: &[f64]) -> Vec<f64> {
    dy.iter().zip(y).map(|(dy, y)| dy * (1.0 - y * y)).collect()
}

/// `exp(x) / sum(exp(x))` over each run of `classes` values.
pub fn softmax(x: &[f64], classes: usize) -> Vec<f64> {
    let mut y = log_softmax(x, classes);
    y.iter_mut().for_each(|y| *y = y.exp());
    y
}

/// Gradient of x: `y (dy - sum(dy y))` over each run of `classes` values.
pub fn softmax_backward(dy: &[f64], y: &[f64], classes: usize) -> Vec<f64> {
    let rows = dy.chunks_exact(classes).zip(y.chunks_exact(classes));
    rows.flat_map(|(dy, y)| {
        let mean: f64 = dy.iter().zip(y).map(|(dy, y)| dy * y).sum();
        dy.iter().zip(y).map(move |(dy, y)| y * (dy - mean))
    })
    .collect()
}

/// Gradient of x: `dy - exp(y) sum(dy)` over each run of `classes` values.
pub fn log_softmax_backward(dy: &[f64], y: &[f64], classes: usize) -> Vec<f64> {
    let rows = dy.chunks_exact(classes).zip(y.chunks_exact(classes));
    rows.flat_map(|(dy, y)| {
        let sum: f64 = dy.iter().sum();
        dy.iter().zip(y).map(move |(dy, y)| dy - y.exp() * sum)
    })
    .collect()
}

/// `x - log(sum(exp(x)))` over each run of `classes` values.
pub fn log_softmax(x: &[f64], classes: usize) -> Vec<f64> {
    let rows = x.chunks_exact(classes);
    assert!(rows.remainder().is_empty(), "Expected a multiple of {classes} values but received {}.", x.len());
    rows.flat_map(|row| {
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = row.iter().map(|x| (x - largest).exp()).sum::<f64>().ln() + largest;
        row.iter().map(move |x| x - log_sum)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_close, dot, finite_difference, uniform, widen};

    #[test]
    fn relu_cuts_below_zero_and_keeps_nan() {
        let y = relu(&[-1.0, 0.0, 2.0, f64::NAN]);
        assert_eq!(y[..3], [0.0, 0.0, 2.0]);
        assert!(y[3].is_nan());
        assert_eq!(relu_backward(&[5.0, 6.0, 7.0], &y[..3]), [0.0, 0.0, 7.0]);
    }

    #[test]
    fn piecewise_linear_functions_by_hand() {
        assert_eq!(clip(&[-2.0, -0.5, 3.0], -1.0, 1.0), [-1.0, -0.5, 1.0]);
        assert_eq!(hard_sigmoid(&[-4.0, 0.0, 1.0, 4.0], 0.25, 0.5), [0.0, 0.5, 0.75, 1.0]);
        assert_close(
            &hard_swish(&[-4.0, -3.0, 0.0, 1.0, 3.0, 4.0]),
            &[0.0, 0.0, 0.0, 2.0 / 3.0, 3.0, 4.0],
            1e-12,
        );
        assert_eq!(affine(&[1.0, -2.0], 3.0, 0.5), [3.5, -5.5]);
        assert_eq!(prelu(&[1.0, -2.0, -1.0, -4.0], &[0.5, 0.25], 2), [1.0, -0.5, -0.5, -1.0]);
        assert_eq!(prelu(&[1.0, -2.0, -1.0, -4.0], &[0.5], 2), [1.0, -1.0, -0.5, -2.0]);
    }

    #[test]
    fn smooth_functions_by_tables() {
        // (1 + erf(x / sqrt 2)) / 2 to ten digits; both ways to compute it meet at 4.
        let table = [(1.0, 0.841_344_746_1), (2.0, 0.977_249_868_1), (-3.0, 1.349_898_031_6e-3)];
        for (x, expected) in table.into_iter().chain([(-4.0, 3.167_124_183e-5), (-6.0, 9.865_876_450e-10)]) {
            assert!((normal(x) / expected - 1.0).abs() < 1e-9, "{x}");
            assert_eq!(gelu(&[x]), [x * normal(x)]);
        }
        assert!((normal(-4.0 + 1e-12) / normal(-4.0) - 1.0).abs() < 1e-9);
        assert_close(
            &silu(&[0.0, 3.0f64.ln(), -(3.0f64.ln())]),
            &[0.0, 0.75 * 3.0f64.ln(), -0.25 * 3.0f64.ln()],
            1e-12,
        );
    }

    #[test]
    fn softmax_of_logarithms_is_their_share_however_large_the_offset() {
        let x = [1.0f64.ln(), 3.0f64.ln(), 1000.0, 1000.0];
        assert_close(&softmax(&x, 2), &[0.25, 0.75, 0.5, 0.5], 1e-12);
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let [x, dy] = [1, 2].map(|seed| widen(&uniform(seed, 12)));
        let numeric = finite_difference(&x, 1e-5, |x| dot(&tanh(x), &dy));
        assert_close(&tanh_backward(&dy, &tanh(&x)), &numeric, 1e-9);
        let numeric = finite_difference(&x, 1e-5, |x| dot(&softmax(x, 4), &dy));
        assert_close(&softmax_backward(&dy, &softmax(&x, 4), 4), &numeric, 1e-9);
        let numeric = finite_difference(&x, 1e-5, |x| dot(&sigmoid(x), &dy));
        assert_close(&sigmoid_backward(&dy, &sigmoid(&x)), &numeric, 1e-9);
        let numeric = finite_difference(&x, 1e-6, |x| dot(&relu(x), &dy));
        assert_close(&relu_backward(&dy, &relu(&x)), &numeric, 1e-7);
        let numeric = finite_difference(&x, 1e-6, |x| dot(&leaky_relu(x, 0.3), &dy));
        assert_close(&leaky_relu_backward(&dy, &leaky_relu(&x, 0.3), 0.3), &numeric, 1e-7);
        let numeric = finite_difference(&x, 1e-5, |x| dot(&log_softmax(x, 4), &dy));
        assert_close(&log_softmax_backward(&dy, &log_softmax(&x, 4), 4), &numeric, 1e-9);
        for weight in [&[0.3][..], &[-0.5, 0.2, 0.9]] {
            let (dx, dweight) = prelu_backward(&dy, &x, weight, 3);
            assert_close(&dx, &finite_difference(&x, 1e-6, |x| dot(&prelu(x, weight, 3), &dy)), 1e-7);
            let numeric = finite_difference(weight, 1e-3, |weight| dot(&prelu(&x, weight, 3), &dy));
            assert_close(&dweight, &numeric, 1e-9);
        }
        let far: Vec<_> = x.iter().map(|x| 10.0 * x).collect();
        let numeric = finite_difference(&far, 1e-6, |x| dot(&clip(x, -3.0, 1.5), &dy));
        assert_close(&clip_backward(&dy, &clip(&far, -3.0, 1.5), -3.0, 1.5), &numeric, 1e-7);
        let numeric = finite_difference(&far, 1e-6, |x| dot(&hard_sigmoid(x, 0.2, 0.4), &dy));
        assert_close(&hard_sigmoid_backward(&dy, &hard_sigmoid(&far, 0.2, 0.4), 0.2), &numeric, 1e-7);
        let numeric = finite_difference(&far, 1e-6, |x| dot(&hard_swish(x), &dy));
        assert_close(&hard_swish_backward(&dy, &far), &numeric, 1e-7);
        let numeric = finite_difference(&far, 1e-5, |x| dot(&silu(x), &dy));
        assert_close(&silu_backward(&dy, &far), &numeric, 1e-8);
        let numeric = finite_difference(&far, 1e-5, |x| dot(&gelu(x), &dy));
        assert_close(&gelu_backward(&dy, &far), &numeric, 1e-8);
        let numeric = finite_difference(&x, 1e-3, |x| dot(&affine(x, -2.0, 0.5), &dy));
        assert_close(&affine_backward(&dy, -2.0), &numeric, 1e-9);
        let numeric = finite_difference(&far, 1e-6, |x| dot(&relu6(x), &dy));
        assert_close(&relu6_backward(&dy, &relu6(&far)), &numeric, 1e-7);
    }
}
