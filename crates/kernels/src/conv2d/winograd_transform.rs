//! The forms of Winograd's algorithm and their one-dimensional transforms; a tile is transformed along its
//! columns, then along its rows.
//!
//! All follow from evaluating polynomials at 0, +-P, +-Q and infinity. B' depends on these points alone, so one
//! transform of the inputs serves every form; G and A evaluate polynomials with as many coefficients as a
//! kernel or a tile of outputs has rows. Pairs of points share their even and odd parts, so a line of six costs
//! a dozen operations.

use super::Conv2dShape;
use crate::simd::Simd;

/// Input rows and columns of a tile.
pub(super) const INPUTS: usize = 6;

/// Matrix products.
pub(super) const FREQUENCIES: usize = INPUTS * INPUTS;

/// F(outputs x outputs, kernel x kernel): how many outputs a tile of inputs has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// F(4x4, 3x3).
    Kernel3,
    /// F(2x2, 5x5).
    Kernel5,
}

impl Form {
    /// That of a convolution, if it has one: of a 3 x 3 or 5 x 5 kernel of stride 1 with a multiple of 16
    /// channels on both sides.
    pub(super) fn of(shape: &Conv2dShape) -> Option<Self> {
        let Conv2dShape { input: [_, _, channels], filters, kernel, stride, dilation, groups, .. } = *shape;
        let whole = channels.is_multiple_of(16) && filters.is_multiple_of(16);
        let fits = whole && stride == [1, 1] && dilation == [1, 1] && groups == 1;
        match kernel {
            [3, 3] if fits => Some(Self::Kernel3),
            [5, 5] if fits => Some(Self::Kernel5),
            _ => None,
        }
    }

    /// Rows and columns of the kernel.
    pub(super) fn kernel(self) -> usize {
        match self {
            Self::Kernel3 => 3,
            Self::Kernel5 => 5,
        }
    }

    /// Output rows and columns of a tile.
    pub(super) fn outputs(self) -> usize {
        INPUTS + 1 - self.kernel()
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [outputs, kernel] = [self.outputs(), self.kernel()];
        write!(f, "F({outputs}x{outputs}, {kernel}x{kernel})")
    }
}

/// Interpolation points +-P and +-Q, besides 0 and infinity, and their squares.
const P: f32 = 0.75;
const Q: f32 = 1.5;
const P2: f32 = P * P;
const Q2: f32 = Q * Q;

/// G's factors at 0, +-P and +-Q: one over the product of the distances to the other points.
const AT_ZERO: f32 = 1.0 / (P2 * Q2);
const AT_P: f32 = 1.0 / (2.0 * P2 * (P2 - Q2));
const AT_Q: f32 = 1.0 / (2.0 * Q2 * (Q2 - P2));

/// One row of B' d: from six inputs to six frequencies.
#[inline(always)]
pub(super) fn input_line<S: Simd>(simd: S, d: [S::Vector; INPUTS]) -> [S::Vector; INPUTS] {
    let scaled = |factor: f32, x: S::Vector, y: S::Vector| simd.mul_add(simd.splat(factor), x, y);
    let (even_q, odd_q) = (scaled(-Q2, d[2], d[4]), scaled(-Q2, d[1], d[3]));
    let (even_p, odd_p) = (scaled(-P2, d[2], d[4]), scaled(-P2, d[1], d[3]));
    [
        scaled(P2 * Q2, d[0], scaled(-(P2 + Q2), d[2], d[4])),
        scaled(P, odd_q, even_q),
        scaled(-P, odd_q, even_q),
        scaled(Q, odd_p, even_p),
        scaled(-Q, odd_p, even_p),
        scaled(P2 * Q2, d[1], scaled(-(P2 + Q2), d[3], d[5])),
    ]
}

/// One row of G g: from a kernel's weights to six frequencies.
#[inline(always)]
pub(super) fn weight_line<S: Simd, const KERNEL: usize>(
    simd: S,
    g: [S::Vector; KERNEL],
) -> [S::Vector; INPUTS] {
    let times = |factor: f32, x: S::Vector| simd.mul(simd.splat(factor), x);
    let [zero, p, minus_p, q, minus_q, infinity] = evaluate(simd, g);
    [
        times(AT_ZERO, zero),
        times(AT_P, p),
        times(AT_P, minus_p),
        times(AT_Q, q),
        times(AT_Q, minus_q),
        infinity,
    ]
}

/// One row of G' u, the transpose of [`weight_line`]: from six frequencies to a kernel's weight gradients.
#[inline(always)]
pub(super) fn weight_gradient_line<S: Simd, const KERNEL: usize>(
    simd: S,
    u: [S::Vector; INPUTS],
) -> [S::Vector; KERNEL] {
    collect(simd, [AT_ZERO, AT_P, AT_Q], u)
}

/// One row of A z: from a tile's output gradients to six frequencies.
#[inline(always)]
pub(super) fn output_gradient_line<S: Simd, const OUTPUTS: usize>(
    simd: S,
    z: [S::Vector; OUTPUTS],
) -> [S::Vector; INPUTS] {
    evaluate(simd, z)
}

/// One row of A' m, the transpose of [`output_gradient_line`]: from six frequencies to a tile's outputs.
#[inline(always)]
pub(super) fn output_line<S: Simd, const OUTPUTS: usize>(
    simd: S,
    m: [S::Vector; INPUTS],
) -> [S::Vector; OUTPUTS] {
    collect(simd, [1.0; 3], m)
}

/// A polynomial with these coefficients at 0, P, -P, Q, -Q and infinity, where it is its leading coefficient.
#[inline(always)]
fn evaluate<S: Simd, const N: usize>(simd: S, coefficients: [S::Vector; N]) -> [S::Vector; INPUTS] {
    let scaled = |factor: f32, x: S::Vector, y: S::Vector| simd.mul_add(simd.splat(factor), x, y);
    // Every second coefficient, from `first` on, by Horner's rule.
    let half = |first: usize, square: f32| {
        let mut at = N - 1 - (N - 1 - first) % 2;
        let mut sum = coefficients[at];
        while at > first {
            at -= 2;
            sum = scaled(square, sum, coefficients[at]);
        }
        sum
    };
    let (even_p, odd_p, even_q, odd_q) = (half(0, P2), half(1, P2), half(0, Q2), half(1, Q2));
    [
        coefficients[0],
        scaled(P, odd_p, even_p),
        scaled(-P, odd_p, even_p),
        scaled(Q, odd_q, even_q),
        scaled(-Q, odd_q, even_q),
        coefficients[N - 1],
    ]
}

/// The transpose of [`evaluate`], of values that are first scaled: by the given factors at 0, +-P and +-Q.
#[inline(always)]
fn collect<S: Simd, const N: usize>(
    simd: S,
    [zero, mut p, mut q]: [f32; 3],
    values: [S::Vector; INPUTS],
) -> [S::Vector; N] {
    let scaled = |factor: f32, x: S::Vector, y: S::Vector| simd.mul_add(simd.splat(factor), x, y);
    let times = |factor: f32, x: S::Vector| simd.mul(simd.splat(factor), x);
    let [at_zero, at_p, at_minus_p, at_q, at_minus_q, at_infinity] = values;
    let halves_p = [simd.add(at_p, at_minus_p), simd.sub(at_p, at_minus_p)];
    let halves_q = [simd.add(at_q, at_minus_q), simd.sub(at_q, at_minus_q)];
    let mut sums = [simd.zero(); N];
    for power in 0..N {
        let (half_p, half_q) = (halves_p[power % 2], halves_q[power % 2]);
        let of_p = if power == N - 1 { scaled(p, half_p, at_infinity) } else { times(p, half_p) };
        let of_both = scaled(q, half_q, of_p);
        sums[power] = if power == 0 { scaled(zero, at_zero, of_both) } else { of_both };
        (p, q) = (p * P, q * Q);
    }
    sums
}
