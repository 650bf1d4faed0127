//! Units that measure how far a vector is from a code of theirs: y_i = -sum_j (x_j - codes_ij)^2, so that the
//! largest belongs to the nearest code.
//!
//! The codes are constants: dx_j = -2 sum_i dy_i (x_j - codes_ij), and nothing else has a gradient. There are
//! few units (an output for each class), so each vector is compared with one code after the other.
//!
//! Shapes: x, dx `[n, 1, 1, inputs]`, codes `[units, inputs]`, y, dy `[n, 1, 1, units]`.
//!
//! Source: LeCun et al. 1998, section II.B, whose output layer has the opposite sign.

use crate::parts::Parts;
use crate::simd::{Kernel, Simd};
use crate::{Context, View4, ViewMut4};
use std::ops::Range;

/// y = the negative squared distances from each code.
///
/// # Panics
/// If shapes or lengths do not belong together.
pub fn radial_basis(context: Context, x: View4, codes: &[f32], y: ViewMut4) {
    check(x, codes, y.as_view());
    let parts = Parts::new(x.pixels(), codes.len());
    context.pool.run(parts.count(), |_, part| {
        context.isa.run(Distances { x, codes, y: &y, rows: parts.range(part) });
    });
}

/// dx = the gradient of x.
///
/// # Panics
/// As [`radial_basis`].
pub fn radial_basis_backward(context: Context, x: View4, codes: &[f32], dy: View4, dx: ViewMut4) {
    check(x, codes, dy);
    assert_eq!(dx.shape(), x.shape(), "operands of different shapes");
    let parts = Parts::new(x.pixels(), codes.len());
    context.pool.run(parts.count(), |_, part| {
        context.isa.run(Gradients { x, codes, dy, dx: &dx, rows: parts.range(part) });
    });
}

fn check(x: View4, codes: &[f32], y: View4) {
    assert_eq!(x.pixels(), y.pixels(), "operands of different shapes");
    assert_eq!(codes.len(), x.c() * y.c(), "length of the codes");
}

struct Distances<'a> {
    x: View4<'a>,
    codes: &'a [f32],
    y: &'a ViewMut4<'a>,
    rows: Range<usize>,
}

impl Kernel for Distances<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let inputs = self.x.c();
        for row in self.rows {
            let (x, y) = (self.x.pixel(row), self.y.pixel(row));
            for (unit, code) in self.codes.chunks_exact(inputs).enumerate() {
                let mut sum = simd.zero();
                for j in (0..inputs).step_by(S::LANES) {
                    let count = S::LANES.min(inputs - j);
                    // SAFETY: x and the code have `inputs` floats, of which `count` stand from the j-th on;
                    // lanes behind them are zero in both.
                    let difference = unsafe {
                        simd.sub(
                            simd.load_up_to(x.add(j), count),
                            simd.load_up_to(code.as_ptr().add(j), count),
                        )
                    };
                    sum = simd.mul_add(difference, difference, sum);
                }
                // SAFETY: y has a float for each unit, and no other part has that row.
                unsafe { *y.add(unit) = -simd.sum(sum) };
            }
        }
    }
}

struct Gradients<'a> {
    x: View4<'a>,
    codes: &'a [f32],
    dy: View4<'a>,
    dx: &'a ViewMut4<'a>,
    rows: Range<usize>,
}

impl Kernel for Gradients<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let inputs = self.x.c();
        for row in self.rows {
            let (x, dy, dx) = (self.x.pixel(row), self.dy.pixel(row), self.dx.pixel(row));
            for j in (0..inputs).step_by(S::LANES) {
                let count = S::LANES.min(inputs - j);
                // SAFETY: x, dx and each code have `inputs` floats, of which `count` stand from the j-th on, dy
                // one for each unit; no other part has that row of dx.
                unsafe {
                    let value = simd.load_up_to(x.add(j), count);
                    let mut sum = simd.zero();
                    for (unit, code) in self.codes.chunks_exact(inputs).enumerate() {
                        let code = simd.load_up_to(code.as_ptr().add(j), count);
                        let factor = simd.splat(-2.0 * *dy.add(unit));
                        sum = simd.mul_add(factor, simd.sub(value, code), sum);
                    }
                    simd.store_up_to(dx.add(j), sum, count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Tensor, assert_matches, assert_threads_agree, on_every_isa};
    use fovea_reference::check::{dot, finite_difference, narrow, uniform, widen};
    use fovea_reference::radial_basis as reference;

    #[test]
    fn distances_and_their_gradient_equal_the_reference() {
        for (inputs, units) in [(1, 1), (7, 3), (16, 10), (84, 10), (33, 37)] {
            for gap in [0, 3] {
                let (shape, out) = ([3, 1, 1, inputs], [3, 1, 1, units]);
                let (x, dy) = (Tensor::uniform(1, shape, gap), Tensor::uniform(2, out, gap));
                let codes = uniform(3, units * inputs);
                let expected = reference::radial_basis(&x.wide(), &widen(&codes), inputs);
                let gradient =
                    reference::radial_basis_backward(&dy.wide(), &x.wide(), &widen(&codes), inputs);
                on_every_isa(|context| {
                    let (mut y, mut dx) = (Tensor::unwritten(out, 1), Tensor::unwritten(shape, gap));
                    radial_basis(context, x.view(), &codes, y.view_mut());
                    assert_matches(&y.values(), &expected, 1e-6);
                    radial_basis_backward(context, x.view(), &codes, dy.view(), dx.view_mut());
                    assert_matches(&dx.values(), &gradient, 1e-6);
                });
            }
        }
    }

    #[test]
    fn the_gradient_equals_a_finite_difference_of_the_forward_pass() {
        let (shape, out) = ([2, 1, 1, 9], [2, 1, 1, 4]);
        let (x, dy, codes) = (Tensor::uniform(1, shape, 0), Tensor::uniform(2, out, 0), uniform(3, 36));
        on_every_isa(|context| {
            let mut dx = Tensor::unwritten(shape, 0);
            radial_basis_backward(context, x.view(), &codes, dy.view(), dx.view_mut());
            let numeric = finite_difference(&x.wide(), 0.125, |x| {
                let mut y = Tensor::unwritten(out, 0);
                radial_basis(context, Tensor::new(&narrow(x), shape, 0).view(), &codes, y.view_mut());
                dot(&y.wide(), &dy.wide())
            });
            assert_matches(&dx.values(), &numeric, 1e-5);
        });
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (x, dy) = (Tensor::uniform(1, [300, 1, 1, 84], 0), Tensor::uniform(2, [300, 1, 1, 10], 0));
        let codes = uniform(3, 840);
        assert_threads_agree(|context| {
            let (mut y, mut dx) = (Tensor::unwritten([300, 1, 1, 10], 0), x.clone());
            radial_basis(context, x.view(), &codes, y.view_mut());
            radial_basis_backward(context, x.view(), &codes, dy.view(), dx.view_mut());
            [y.values(), dx.values()].concat()
        });
    }
}
