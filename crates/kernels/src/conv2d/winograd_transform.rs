//! The one-dimensional transforms of Winograd's F(4, 3); a tile is transformed along its columns, then along its rows.
//!
//! All follow from evaluating polynomials at 0, +-P, +-Q and infinity. Pairs of points share their even and odd parts, so a line
//! of six costs a dozen operations.

use crate::simd::Simd;

/// Output rows and columns of a tile.
pub(super) const OUTPUTS: usize = 4;

/// Input rows and columns of a tile.
pub(super) const INPUTS: usize = 6;

/// Matrix products.
pub(super) const FREQUENCIES: usize = INPUTS * INPUTS;

/// Interpolation points +-P and +-Q, besides 0 and infinity, and their squares.
const P: f32 = 0.75;
const Q: f32 = 1.5;
const P2: f32 = P * P;
const Q2: f32 = Q * Q;

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

/// One row of A' m: from six frequencies to four outputs.
#[inline(always)]
pub(super) fn output_line<S: Simd>(simd: S, m: [S::Vector; INPUTS]) -> [S::Vector; OUTPUTS] {
    let scaled = |factor: f32, x: S::Vector, y: S::Vector| simd.mul_add(simd.splat(factor), x, y);
    let times = |factor: f32, x: S::Vector| simd.mul(simd.splat(factor), x);
    let (even_p, odd_p) = (simd.add(m[1], m[2]), simd.sub(m[1], m[2]));
    let (even_q, odd_q) = (simd.add(m[3], m[4]), simd.sub(m[3], m[4]));
    [
        simd.add(simd.add(m[0], even_p), even_q),
        scaled(Q, odd_q, times(P, odd_p)),
        scaled(Q2, even_q, times(P2, even_p)),
        scaled(Q * Q2, odd_q, scaled(P * P2, odd_p, m[5])),
    ]
}

/// G's factors at the points +-P and +-Q: one over the product of the distances to the other points.
const AT_P: f32 = 1.0 / (2.0 * P2 * (P2 - Q2));
const AT_Q: f32 = 1.0 / (2.0 * Q2 * (Q2 - P2));

/// One row of G g: from three weights to six frequencies.
#[inline(always)]
pub(super) fn weight_line<S: Simd>(simd: S, g: [S::Vector; 3]) -> [S::Vector; INPUTS] {
    let times = |factor: f32, x: S::Vector| simd.mul(simd.splat(factor), x);
    let even = |scale: f32, square: f32| times(scale, simd.mul_add(simd.splat(square), g[2], g[0]));
    let (even_p, odd_p) = (even(AT_P, P2), times(AT_P * P, g[1]));
    let (even_q, odd_q) = (even(AT_Q, Q2), times(AT_Q * Q, g[1]));
    [
        times(1.0 / (P2 * Q2), g[0]),
        simd.add(even_p, odd_p),
        simd.sub(even_p, odd_p),
        simd.add(even_q, odd_q),
        simd.sub(even_q, odd_q),
        g[2],
    ]
}

/// One row of A z, the transpose of [`output_line`]: from four output gradients to six frequencies.
#[inline(always)]
pub(super) fn output_gradient_line<S: Simd>(simd: S, z: [S::Vector; OUTPUTS]) -> [S::Vector; INPUTS] {
    let scaled = |factor: f32, x: S::Vector, y: S::Vector| simd.mul_add(simd.splat(factor), x, y);
    let (even_p, odd_p) = (scaled(P2, z[2], z[0]), scaled(P2, z[3], z[1]));
    let (even_q, odd_q) = (scaled(Q2, z[2], z[0]), scaled(Q2, z[3], z[1]));
    [
        z[0],
        scaled(P, odd_p, even_p),
        scaled(-P, odd_p, even_p),
        scaled(Q, odd_q, even_q),
        scaled(-Q, odd_q, even_q),
        z[3],
    ]
}

/// One row of G' u, the transpose of [`weight_line`]: from six frequencies to three weight gradients.
#[inline(always)]
pub(super) fn weight_gradient_line<S: Simd>(simd: S, u: [S::Vector; INPUTS]) -> [S::Vector; 3] {
    let scaled = |factor: f32, x: S::Vector, y: S::Vector| simd.mul_add(simd.splat(factor), x, y);
    let times = |factor: f32, x: S::Vector| simd.mul(simd.splat(factor), x);
    let (even_p, odd_p) = (simd.add(u[1], u[2]), simd.sub(u[1], u[2]));
    let (even_q, odd_q) = (simd.add(u[3], u[4]), simd.sub(u[3], u[4]));
    [
        scaled(1.0 / (P2 * Q2), u[0], scaled(AT_P, even_p, times(AT_Q, even_q))),
        scaled(AT_P * P, odd_p, times(AT_Q * Q, odd_q)),
        scaled(AT_P * P2, even_p, scaled(AT_Q * Q2, even_q, u[5])),
    ]
}
