//! Units that measure how far a vector is from a code of theirs (LeCun et al. 1998, section II.B).
//!
//! Shapes: x [N, inputs], codes [units, inputs] -> y [N, units].

/// `y_i = -sum_j (x_j - codes_ij)^2`: the largest belongs to the nearest code.
pub fn radial_basis(x: &[f64], codes: &[f64], inputs: usize) -> Vec<f64> {
    let distance = |x: &[f64], code: &[f64]| x.iter().zip(code).map(|(x, c)| (x - c).powi(2)).sum::<f64>();
    x.chunks_exact(inputs)
        .flat_map(|x| codes.chunks_exact(inputs).map(move |code| -distance(x, code)))
        .collect()
}

/// Gradient of x: `dx_j = -2 sum_i dy_i (x_j - codes_ij)`.
pub fn radial_basis_backward(dy: &[f64], x: &[f64], codes: &[f64], inputs: usize) -> Vec<f64> {
    let units = codes.len() / inputs;
    let mut dx = vec![0.0; x.len()];
    for ((dx, x), dy) in dx.chunks_exact_mut(inputs).zip(x.chunks_exact(inputs)).zip(dy.chunks_exact(units)) {
        for (dy, code) in dy.iter().zip(codes.chunks_exact(inputs)) {
            dx.iter_mut().zip(x.iter().zip(code)).for_each(|(dx, (x, c))| *dx -= 2.0 * dy * (x - c));
        }
    }
    dx
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_close, dot, finite_difference, uniform, widen};

    #[test]
    fn distances_by_hand() {
        assert_eq!(radial_basis(&[1.0, -1.0, 0.0, 2.0], &[1.0, 1.0, -1.0, 0.0], 2), [-4.0, -5.0, -2.0, -5.0]);
    }

    #[test]
    fn the_gradient_equals_a_finite_difference() {
        let (x, codes, dy) = (widen(&uniform(1, 10)), widen(&uniform(2, 15)), widen(&uniform(3, 6)));
        let numeric = finite_difference(&x, 1e-3, |x| dot(&radial_basis(x, &codes, 5), &dy));
        assert_close(&radial_basis_backward(&dy, &x, &codes, 5), &numeric, 1e-9);
    }
}
