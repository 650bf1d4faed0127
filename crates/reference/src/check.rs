//! Helpers of tests: reproducible inputs, distances, finite differences.

/// `len` reproducible values, uniform in -1..1, exact in f32.
///
/// SplitMix64 (Steele, Lea, Flood 2014) of `seed`; different seeds give unrelated values.
pub fn uniform(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    next(); // neighbouring seeds differ in one step of the state only
    (0..len).map(|_| (next() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// The same values in f64.
pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// The same values rounded to f32.
pub fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

/// Largest absolute difference over the largest absolute expected value: 0 is equality.
///
/// A NaN on either side, or a difference where everything expected is zero, gives infinity, so that
/// `relative_error(..) < tolerance` is false. Panics when the lengths differ.
pub fn relative_error(actual: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(actual.len(), expected.len(), "Expected as many values as the reference has.");
    let mut difference = 0.0f64;
    let mut scale = 0.0f64;
    for (&actual, &expected) in actual.iter().zip(expected) {
        let distance = (f64::from(actual) - expected).abs();
        if distance.is_nan() {
            return f64::INFINITY;
        }
        difference = difference.max(distance);
        scale = scale.max(expected.abs());
    }
    match (difference, scale) {
        (0.0, _) => 0.0,
        (_, 0.0) => f64::INFINITY,
        _ => difference / scale,
    }
}

/// Gradient of a scalar function by central differences: `(f(x + step) - f(x - step)) / (2 step)` for each
/// value in turn. A `step` of 1e-5 leaves an error near 1e-10 for smooth functions of order one.
pub fn finite_difference(x: &[f64], step: f64, mut function: impl FnMut(&[f64]) -> f64) -> Vec<f64> {
    let mut moved = x.to_vec();
    (0..x.len())
        .map(|index| {
            moved[index] = x[index] + step;
            let above = function(&moved);
            moved[index] = x[index] - step;
            let below = function(&moved);
            moved[index] = x[index];
            (above - below) / (2.0 * step)
        })
        .collect()
}

/// Sum of the products of two equally long slices: as a loss, `dot(y, dy)` has the gradient `dy`.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "Expected two slices of one length.");
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Panics unless every pair of values differs by at most `tolerance` (absolute).
#[track_caller]
pub fn assert_close(actual: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "Expected as many values as the reference has.");
    for (index, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        assert!(
            (actual - expected).abs() <= tolerance,
            "Expected {expected} at {index} but received {actual} (tolerance {tolerance})."
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_values_repeat_for_a_seed_and_fill_the_range() {
        let values = uniform(7, 4000);
        assert_eq!(values, uniform(7, 4000));
        assert_ne!(values, uniform(8, 4000));
        assert!(values.iter().all(|value| (-1.0..1.0).contains(value)));
        assert!(values.iter().any(|&value| value > 0.99) && values.iter().any(|&value| value < -0.99));
        assert!(values.iter().sum::<f32>().abs() < 200.0);
    }

    #[test]
    fn relative_error_divides_by_the_largest_expected_value() {
        assert_eq!(relative_error(&[1.0, -2.0], &[1.0, -2.0]), 0.0);
        assert_eq!(relative_error(&[1.5, -2.0], &[1.0, -2.0]), 0.25);
        assert_eq!(relative_error(&[1.0], &[0.0]), f64::INFINITY);
        assert_eq!(relative_error(&[f32::NAN], &[1.0]), f64::INFINITY);
        assert_eq!(relative_error(&[1.0], &[f64::NAN]), f64::INFINITY);
    }

    #[test]
    fn finite_difference_of_a_cube_is_three_squares() {
        let gradient = finite_difference(&[1.0, -2.0], 1e-5, |x| x.iter().map(|value| value.powi(3)).sum());
        assert_close(&gradient, &[3.0, 12.0], 1e-8);
    }
}
