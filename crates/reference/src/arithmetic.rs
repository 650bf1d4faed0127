//! Differences, products and quotients of two maps, value by value, products with a factor for each channel of
//! an image, and learned factors and summands.
//!
//! Shapes: a [N, H, W, C], b the same; for a factor a channel [N, 1, 1, C], and `pixels` is H W.

/// `a - b`.
pub fn subtract(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// `a b`.
pub fn multiply(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a * b).collect()
}

/// `a / b`.
pub fn divide(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a / b).collect()
}

/// Gradients of a and b: `dy b` and `dy a`.
pub fn multiply_backward(dy: &[f64], a: &[f64], b: &[f64]) -> [Vec<f64>; 2] {
    [multiply(dy, b), multiply(dy, a)]
}

/// Gradients of a and b: `dy` and `-dy`.
pub fn subtract_backward(dy: &[f64]) -> [Vec<f64>; 2] {
    [dy.to_vec(), dy.iter().map(|dy| -dy).collect()]
}

/// `x weight + bias`, each with a value a channel.
pub fn scale(x: &[f64], weight: &[f64], bias: Option<&[f64]>) -> Vec<f64> {
    let channels = weight.len();
    let bias = |at: usize| bias.map_or(0.0, |bias| bias[at % channels]);
    x.iter().enumerate().map(|(at, x)| x * weight[at % channels] + bias(at)).collect()
}

/// Gradients of x, weight and bias.
pub fn scale_backward(dy: &[f64], x: &[f64], weight: &[f64]) -> [Vec<f64>; 3] {
    let channels = weight.len();
    let [mut dweight, mut dbias] = [vec![0.0; channels], vec![0.0; channels]];
    for (at, (dy, x)) in dy.iter().zip(x).enumerate() {
        dweight[at % channels] += dy * x;
        dbias[at % channels] += dy;
    }
    [scale(dy, weight, None), dweight, dbias]
}

/// Gradients of a and b: `dy / b` and `-dy a / b^2`.
pub fn divide_backward(dy: &[f64], a: &[f64], b: &[f64]) -> [Vec<f64>; 2] {
    let da = divide(dy, b);
    let db = da.iter().zip(a.iter().zip(b)).map(|(da, (a, b))| -da * a / b).collect();
    [da, db]
}

/// The factors of every pixel's channels, one below the other: [N, 1, 1, C] -> [N, H, W, C].
pub fn spread(b: &[f64], pixels: usize, channels: usize) -> Vec<f64> {
    b.chunks_exact(channels).flat_map(|row| row.repeat(pixels)).collect()
}

/// Sums over the pixels of each image: [N, H, W, C] -> [N, 1, 1, C]; the gradient of [`spread`].
pub fn gather(dy: &[f64], pixels: usize, channels: usize) -> Vec<f64> {
    let image = |image: &[f64]| {
        let sum = |channel: usize| image.iter().skip(channel).step_by(channels).sum::<f64>();
        (0..channels).map(sum).collect::<Vec<_>>()
    };
    dy.chunks_exact(pixels * channels).flat_map(image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_close, dot, finite_difference, uniform, widen};

    #[test]
    fn factors_go_to_every_pixel_of_their_image() {
        let b = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(spread(&b, 2, 2), [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
        assert_eq!(gather(&[1.0, 2.0, 10.0, 20.0, 3.0, 4.0, 0.0, 5.0], 2, 2), [11.0, 22.0, 3.0, 9.0]);
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let [a, dy] = [1, 2].map(|seed| widen(&uniform(seed, 12)));
        let b: Vec<_> = widen(&uniform(3, 12)).iter().map(|b| b + 3.0).collect();
        let [da, db] = divide_backward(&dy, &a, &b);
        assert_close(&da, &finite_difference(&a, 1e-3, |a| dot(&divide(a, &b), &dy)), 1e-9);
        assert_close(&db, &finite_difference(&b, 1e-5, |b| dot(&divide(&a, b), &dy)), 1e-9);
        let [da, db] = multiply_backward(&dy, &a, &b);
        assert_close(&da, &finite_difference(&a, 1e-3, |a| dot(&multiply(a, &b), &dy)), 1e-9);
        assert_close(&db, &finite_difference(&b, 1e-3, |b| dot(&multiply(&a, b), &dy)), 1e-9);
        let [da, db] = subtract_backward(&dy);
        assert_close(&da, &finite_difference(&a, 1e-3, |a| dot(&subtract(a, &b), &dy)), 1e-9);
        assert_close(&db, &finite_difference(&b, 1e-3, |b| dot(&subtract(&a, b), &dy)), 1e-9);
        let (weight, bias) = (&b[..3], &a[..3]);
        let [dx, dweight, dbias] = scale_backward(&dy, &a, weight);
        assert_close(&dx, &finite_difference(&a, 1e-3, |x| dot(&scale(x, weight, Some(bias)), &dy)), 1e-9);
        let numeric = finite_difference(weight, 1e-3, |weight| dot(&scale(&a, weight, Some(bias)), &dy));
        assert_close(&dweight, &numeric, 1e-9);
        let numeric = finite_difference(bias, 1e-3, |bias| dot(&scale(&a, weight, Some(bias)), &dy));
        assert_close(&dbias, &numeric, 1e-9);
        let factors = &b[..4];
        let numeric = finite_difference(factors, 1e-3, |b| dot(&multiply(&a, &spread(b, 3, 2)), &dy));
        assert_close(&gather(&multiply(&dy, &a), 3, 2), &numeric, 1e-9);
    }
}
