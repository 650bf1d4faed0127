//! Activations: elementwise functions, and their gradients in terms of the output y, or of x where y does not
//! tell.
//!
//! | function | y | dx |
//! |---|---|---|
//! | ReLU | max(0, x) | dy where y > 0, else 0 |
//! | ReLU6 | min(6, max(0, x)) | dy where 0 < y < 6, else 0 |
//! | clip | min(most, max(least, x)) | dy where least < y < most, else 0 |
//! | leaky ReLU | x where x > 0, else slope x | dy where y > 0, else slope dy |
//! | hard sigmoid | min(1, max(0, alpha x + beta)) | alpha dy where 0 < y < 1, else 0 |
//! | hard swish | x min(1, max(0, x / 6 + 1 / 2)) | dy (x / 3 + 1 / 2) where -3 < x < 3, dy above, 0 below |
//! | affine | scale x + shift | scale dy |
//! | SiLU | x / (1 + e^-x) | dy s (1 + x (1 - s)) with s = 1 / (1 + e^-x) |
//! | GELU | x p, p = (1 + erf(x / sqrt 2)) / 2 | dy (p + x e^(-x^2 / 2) / sqrt(2 pi)) |
//! | tanh | tanh(x) | dy (1 - y^2) |
//! | sigmoid | 1 / (1 + e^-x) | dy y (1 - y) |
//!
//! Shapes: all `[n, h, w, c]`. NaN stays NaN on the way forward, and ReLU lets no gradient through where y is
//! NaN. y may be the memory of x, and dx that of dy or y: everything works in place.
//!
//! Each function panics if the shapes of its views differ.

use crate::elementwise::{Elementwise, Identity, map};
use crate::simd::{Simd, math};
use crate::{Context, View4, ViewMut4};

/// What a convolution, normalisation, sum or pooling applies to each value just before it stores it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// Store the value as it is.
    #[default]
    None,
    /// Store max(0, value).
    Relu,
    /// As [`clip`].
    Clip {
        /// The smallest value that is stored.
        least: f32,
        /// The largest, not below the smallest.
        most: f32,
    },
    /// As [`leaky_relu`], of this slope.
    LeakyRelu(f32),
    /// As [`hard_swish`].
    HardSwish,
    /// As [`silu`].
    Silu,
    /// As [`gelu`].
    Gelu,
}

/// Something to be done with the function that an activation is.
pub(crate) trait WithFunction {
    /// Implementations are `#[inline(always)]`.
    fn call<F: Elementwise>(self, function: F);
}

impl Activation {
    /// The smallest value that is stored by what only compares: pooling.
    ///
    /// # Panics
    /// Unless it is a ReLU or none.
    pub(crate) fn lowest(self) -> f32 {
        assert!(!self.is_late(), "pooling applies a ReLU or nothing but received {self:?}");
        if self == Self::Relu { 0.0 } else { f32::NEG_INFINITY }
    }

    /// Whether it takes more than one instruction. A register tile then stores its sums as they are, and
    /// [`finish`] applies it where they lie in the nearest cache: the tile's registers and code stay those of
    /// the product.
    #[inline(always)]
    pub(crate) fn is_late(self) -> bool {
        !matches!(self, Self::None | Self::Relu)
    }

    /// Does something with its function, compiled for each.
    #[inline(always)]
    pub(crate) fn with<W: WithFunction>(self, work: W) {
        match self {
            Self::None => work.call(Identity),
            Self::Relu => work.call(Relu),
            Self::Clip { least, most } => work.call(Clip { least, most }),
            Self::LeakyRelu(slope) => work.call(LeakyRelu(slope)),
            Self::HardSwish => work.call(HardSwish),
            Self::Silu => work.call(Silu),
            Self::Gelu => work.call(Gelu),
        }
    }
}

/// Applies an activation to `count` floats at each address.
///
/// # Safety
/// The floats are valid, and no other thread touches them.
#[inline(always)]
pub(crate) unsafe fn finish<S: Simd>(
    simd: S,
    activation: Activation,
    addresses: impl Iterator<Item = *mut f32>,
    count: usize,
) {
    activation.with(Finish { simd, addresses, count });
}

/// What [`finish`] does.
struct Finish<S, A> {
    simd: S,
    addresses: A,
    count: usize,
}

impl<S: Simd, A: Iterator<Item = *mut f32>> WithFunction for Finish<S, A> {
    #[inline(always)]
    fn call<F: Elementwise>(self, function: F) {
        let Self { simd, addresses, count } = self;
        let apply = |pointer: *mut f32, lanes: usize| {
            // SAFETY: the caller of `finish` vouches for the floats, of which these are some.
            unsafe {
                let x = simd.load_up_to(pointer, lanes);
                simd.store_up_to(pointer, function.apply(simd, x, x), lanes);
            }
        };
        let whole = count / S::LANES * S::LANES;
        for address in addresses {
            (0..whole).step_by(S::LANES).for_each(|at| apply(address.wrapping_add(at), S::LANES));
            if whole < count {
                apply(address.wrapping_add(whole), count - whole);
            }
        }
    }
}

/// y = max(0, x).
pub fn relu(context: Context, x: View4, y: ViewMut4) {
    map(context, Relu, x, x, &y);
}

/// dx = dy where y > 0, otherwise 0 (also at the kink, as in PyTorch).
pub fn relu_backward(context: Context, dy: View4, y: View4, dx: ViewMut4) {
    map(context, ReluBackward, dy, y, &dx);
}

/// y = min(6, max(0, x)).
pub fn relu6(context: Context, x: View4, y: ViewMut4) {
    clip(context, x, 0.0, 6.0, y);
}

/// dx = dy where 0 < y < 6, otherwise 0 (also at both kinks, as in PyTorch).
pub fn relu6_backward(context: Context, dy: View4, y: View4, dx: ViewMut4) {
    clip_backward(context, dy, y, 0.0, 6.0, dx);
}

/// y = min(most, max(least, x)), least <= most.
pub fn clip(context: Context, x: View4, least: f32, most: f32, y: ViewMut4) {
    map(context, Clip { least, most }, x, x, &y);
}

/// dx = dy where least < y < most, otherwise 0 (also at both kinks, as PyTorch's `Hardtanh`).
pub fn clip_backward(context: Context, dy: View4, y: View4, least: f32, most: f32, dx: ViewMut4) {
    map(context, ClipBackward { least, most }, dy, y, &dx);
}

/// y = min(1, max(0, alpha x + beta)).
pub fn hard_sigmoid(context: Context, x: View4, alpha: f32, beta: f32, y: ViewMut4) {
    map(context, HardSigmoid { alpha, beta }, x, x, &y);
}

/// dx = alpha dy where 0 < y < 1, otherwise 0.
pub fn hard_sigmoid_backward(context: Context, dy: View4, y: View4, alpha: f32, dx: ViewMut4) {
    map(context, HardSigmoidBackward { alpha }, dy, y, &dx);
}

/// y = x min(1, max(0, x / 6 + 1 / 2)) (Howard et al. 2019, arXiv:1905.02244).
pub fn hard_swish(context: Context, x: View4, y: ViewMut4) {
    map(context, HardSwish, x, x, &y);
}

/// dx = dy (x / 3 + 1 / 2) where -3 < x < 3, above that dy, below 0.
pub fn hard_swish_backward(context: Context, dy: View4, x: View4, dx: ViewMut4) {
    map(context, HardSwishBackward, dy, x, &dx);
}

/// y = x / (1 + e^-x) (Elfwing et al. 2017, arXiv:1702.03118), exact to four units in the last place.
pub fn silu(context: Context, x: View4, y: ViewMut4) {
    map(context, Silu, x, x, &y);
}

/// dx = dy s (1 + x (1 - s)), where s = 1 / (1 + e^-x).
pub fn silu_backward(context: Context, dy: View4, x: View4, dx: ViewMut4) {
    map(context, SiluBackward, dy, x, &dx);
}

/// y = x (1 + erf(x / sqrt 2)) / 2 (Hendrycks and Gimpel 2016, arXiv:1606.08415): the exact one, not that by
/// tanh.
pub fn gelu(context: Context, x: View4, y: ViewMut4) {
    map(context, Gelu, x, x, &y);
}

/// dx = dy ((1 + erf(x / sqrt 2)) / 2 + x e^(-x^2 / 2) / sqrt(2 pi)).
pub fn gelu_backward(context: Context, dy: View4, x: View4, dx: ViewMut4) {
    map(context, GeluBackward, dy, x, &dx);
}

/// y = scale x + shift.
pub fn affine(context: Context, x: View4, scale: f32, shift: f32, y: ViewMut4) {
    map(context, Affine { scale, shift }, x, x, &y);
}

/// dx = scale dy.
pub fn affine_backward(context: Context, dy: View4, scale: f32, dx: ViewMut4) {
    affine(context, dy, scale, 0.0, dx);
}

/// y = x where x > 0, otherwise slope x; a slope of 0 or more.
pub fn leaky_relu(context: Context, x: View4, slope: f32, y: ViewMut4) {
    map(context, LeakyRelu(slope), x, x, &y);
}

/// dx = dy where y > 0, otherwise slope dy (also at the kink, as in PyTorch).
pub fn leaky_relu_backward(context: Context, dy: View4, y: View4, slope: f32, dx: ViewMut4) {
    map(context, LeakyReluBackward(slope), dy, y, &dx);
}

/// y = 1 / (1 + e^-x), exact to three units in the last place.
pub fn sigmoid(context: Context, x: View4, y: ViewMut4) {
    map(context, Sigmoid, x, x, &y);
}

/// dx = dy y (1 - y).
pub fn sigmoid_backward(context: Context, dy: View4, y: View4, dx: ViewMut4) {
    map(context, SigmoidBackward, dy, y, &dx);
}

/// y = tanh(x), exact to two units in the last place.
pub fn tanh(context: Context, x: View4, y: ViewMut4) {
    map(context, Tanh, x, x, &y);
}

/// dx = dy (1 - y^2).
pub fn tanh_backward(context: Context, dy: View4, y: View4, dx: ViewMut4) {
    map(context, TanhBackward, dy, y, &dx);
}

#[derive(Clone, Copy)]
struct Relu;

impl Elementwise for Relu {
    const READS: usize = 1;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::Vector, _: S::Vector) -> S::Vector {
        simd.max(simd.zero(), x)
    }
}

#[derive(Clone, Copy)]
struct ReluBackward;

impl Elementwise for ReluBackward {
    const READS: usize = 2;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, dy: S::Vector, y: S::Vector) -> S::Vector {
        simd.select_greater(y, simd.zero(), dy, simd.zero())
    }
}

#[derive(Clone, Copy)]
struct Clip {
    least: f32,
    most: f32,
}

impl Elementwise for Clip {
    const READS: usize = 1;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::Vector, _: S::Vector) -> S::Vector {
        simd.min(simd.splat(self.most), simd.max(simd.splat(self.least), x))
    }
}

#[derive(Clone, Copy)]
struct ClipBackward {
    least: f32,
    most: f32,
}

impl Elementwise for ClipBackward {
    const READS: usize = 2;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, dy: S::Vector, y: S::Vector) -> S::Vector {
        let below = simd.select_greater(simd.splat(self.most), y, dy, simd.zero());
        simd.select_greater(y, simd.splat(self.least), below, simd.zero())
    }
}

#[derive(Clone, Copy)]
struct HardSigmoid {
    alpha: f32,
    beta: f32,
}

impl Elementwise for HardSigmoid {
    const READS: usize = 1;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::Vector, _: S::Vector) -> S::Vector {
        let line = simd.mul_add(x, simd.splat(self.alpha), simd.splat(self.beta));
        Clip { least: 0.0, most: 1.0 }.apply(simd, line, line)
    }
}

#[derive(Clone, Copy)]
struct HardSigmoidBackward {
    alpha: f32,
}

impl Elementwise for HardSigmoidBackward {
    const READS: usize = 2;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, dy: S::Vector, y: S::Vector) -> S::Vector {
        let slope = simd.mul(dy, simd.splat(self.alpha));
        ClipBackward { least: 0.0, most: 1.0 }.apply(simd, slope, y)
    }
}

#[derive(Clone, Copy)]
struct HardSwish;

impl Elementwise for HardSwish {
    const READS: usize = 1;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::Vector, _: S::Vector) -> S::Vector {
        simd.mul(x, HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }.apply(simd, x, x))
    }
}

#[derive(Clone, Copy)]
struct HardSwishBackward;

impl Elementwise for HardSwishBackward {
    const READS: usize = 2;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, dy: S::Vector, x: S::Vector) -> S::Vector {
        let slope = simd.mul_add(x, simd.splat(1.0 / 3.0), simd.splat(0.5));
        let slope = simd.select_greater(x, simd.splat(-3.0), slope, simd.zero());
        simd.mul(dy, simd.select_greater(simd.splat(3.0), x, slope, simd.splat(1.0)))
    }
}

#[derive(Clone, Copy)]
struct Silu;

impl Elementwise for Silu {
    const READS: usize = 1;
    const COST: usize = 6;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::Vector, _: S::Vector) -> S::Vector {
        simd.mul(x, math::sigmoid(simd, x))
    }
}

#[derive(Clone, Copy)]
struct SiluBackward;

impl Elementwise for SiluBackward {
    const READS: usize = 2;
    const COST: usize = 6;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, dy: S::Vector, x: S::Vector) -> S::Vector {
        let (one, sigmoid) = (simd.splat(1.0), math::sigmoid(simd, x));
        let slope = simd.mul_add(x, simd.sub(one, sigmoid), one);
        simd.mul(dy, simd.mul(sigmoid, slope))
    }
}

#[derive(Clone, Copy)]
struct Gelu;

impl Elementwise for Gelu {
    const READS: usize = 1;
    const COST: usize = 8;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::Vector, _: S::Vector) -> S::Vector {
        let [share, _] = math::normal(simd, x);
        simd.mul(x, share)
    }
}

#[derive(Clone, Copy)]
struct GeluBackward;

impl Elementwise for GeluBackward {
    const READS: usize = 2;
    const COST: usize = 8;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, dy: S::Vector, x: S::Vector) -> S::Vector {
        let [share, density] = math::normal(simd, x);
        simd.mul(dy, simd.mul_add(x, density, share))
    }
}

#[derive(Clone, Copy)]
struct Affine {
    scale: f32,
    shift: f32,
}

impl Elementwise for Affine {
    const READS: usize = 1;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::Vector, _: S::Vector) -> S::Vector {
        simd.mul_add(x, simd.splat(self.scale), simd.splat(self.shift))
    }
}

#[derive(Clone, Copy)]
struct LeakyRelu(f32);

impl Elementwise for LeakyRelu {
    const READS: usize = 1;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::Vector, _: S::Vector) -> S::Vector {
        simd.select_greater(x, simd.zero(), x, simd.mul(x, simd.splat(self.0)))
    }
}

#[derive(Clone, Copy)]
struct LeakyReluBackward(f32);

impl Elementwise for LeakyReluBackward {
    const READS: usize = 2;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, dy: S::Vector, y: S::Vector) -> S::Vector {
        simd.select_greater(y, simd.zero(), dy, simd.mul(dy, simd.splat(self.0)))
    }
}

#[derive(Clone, Copy)]
struct Sigmoid;

impl Elementwise for Sigmoid {
    const READS: usize = 1;
    const COST: usize = 6;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::Vector, _: S::Vector) -> S::Vector {
        math::sigmoid(simd, x)
    }
}

#[derive(Clone, Copy)]
struct SigmoidBackward;

impl Elementwise for SigmoidBackward {
    const READS: usize = 2;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, dy: S::Vector, y: S::Vector) -> S::Vector {
        simd.mul(dy, simd.mul(y, simd.sub(simd.splat(1.0), y)))
    }
}

#[derive(Clone, Copy)]
struct Tanh;

impl Elementwise for Tanh {
    const READS: usize = 1;
    const COST: usize = 8;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::Vector, _: S::Vector) -> S::Vector {
        math::tanh(simd, x)
    }
}

#[derive(Clone, Copy)]
struct TanhBackward;

impl Elementwise for TanhBackward {
    const READS: usize = 2;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, dy: S::Vector, y: S::Vector) -> S::Vector {
        simd.mul(dy, simd.mul_add(simd.sub(simd.zero(), y), y, simd.splat(1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Tensor, assert_matches, assert_threads_agree, on_every_isa};
    use fovea_reference::{activation as reference, check};

    type Forward = fn(Context, View4, ViewMut4);

    const SHAPES: [[usize; 4]; 5] =
        [[1, 1, 1, 1], [2, 3, 5, 3], [1, 2, 2, 17], [2, 4, 1, 33], [2, 28, 28, 6]];

    /// Runs `test` with a shape and the gaps of two tensors, dense and not.
    fn on_every_layout(test: impl Fn([usize; 4], usize, usize)) {
        for shape in SHAPES {
            [(0, 0), (2, 0), (0, 1), (3, 2)].into_iter().for_each(|(a, b)| test(shape, a, b));
        }
    }

    #[test]
    fn relu_and_its_gradient_equal_the_reference() {
        on_every_layout(|shape, gap_x, gap_y| {
            let (x, dy) = (Tensor::uniform(1, shape, gap_x), Tensor::uniform(2, shape, gap_y));
            let expected = reference::relu(&x.wide());
            let gradient = reference::relu_backward(&dy.wide(), &expected);
            on_every_isa(|context| {
                let [mut y, mut dx] = [gap_y, gap_x].map(|gap| Tensor::unwritten(shape, gap));
                relu(context, x.view(), y.view_mut());
                assert_matches(&y.values(), &expected, 0.0);
                relu_backward(context, dy.view(), y.view(), dx.view_mut());
                assert_matches(&dx.values(), &gradient, 0.0);
            });
        });
    }

    #[test]
    fn tanh_and_its_gradient_equal_the_reference() {
        on_every_layout(|shape, gap_x, gap_y| {
            let values: Vec<_> = Tensor::uniform(1, shape, 0).values().iter().map(|x| 4.0 * x).collect();
            let (x, dy) = (Tensor::new(&values, shape, gap_x), Tensor::uniform(2, shape, gap_y));
            let expected = reference::tanh(&x.wide());
            let gradient = reference::tanh_backward(&dy.wide(), &expected);
            on_every_isa(|context| {
                let [mut y, mut dx] = [gap_y, gap_x].map(|gap| Tensor::unwritten(shape, gap));
                tanh(context, x.view(), y.view_mut());
                assert_matches(&y.values(), &expected, 1e-7);
                tanh_backward(context, dy.view(), y.view(), dx.view_mut());
                assert_matches(&dx.values(), &gradient, 4e-7);
            });
        });
    }

    /// An activation in both directions and their references.
    type Case = (Forward, fn(Context, View4, View4, ViewMut4), fn(&[f64]) -> Vec<f64>, Backward);
    type Backward = fn(&[f64], &[f64]) -> Vec<f64>;

    fn leaky(context: Context, x: View4, y: ViewMut4) {
        leaky_relu(context, x, 0.25, y);
    }

    fn leaky_backward(context: Context, dy: View4, y: View4, dx: ViewMut4) {
        leaky_relu_backward(context, dy, y, 0.25, dx);
    }

    const CASES: [Case; 6] = [
        (relu6, relu6_backward, reference::relu6, reference::relu6_backward),
        (
            leaky,
            leaky_backward,
            |x| reference::leaky_relu(x, 0.25),
            |dy, y| reference::leaky_relu_backward(dy, y, 0.25),
        ),
        (sigmoid, sigmoid_backward, reference::sigmoid, reference::sigmoid_backward),
        (
            |context, x, y| clip(context, x, -2.0, 6.0, y),
            |context, dy, y, dx| clip_backward(context, dy, y, -2.0, 6.0, dx),
            |x| reference::clip(x, -2.0, 6.0),
            |dy, y| reference::clip_backward(dy, y, -2.0, 6.0),
        ),
        (
            |context, x, y| hard_sigmoid(context, x, 0.25, 0.5, y),
            |context, dy, y, dx| hard_sigmoid_backward(context, dy, y, 0.25, dx),
            |x| reference::hard_sigmoid(x, 0.25, 0.5),
            |dy, y| reference::hard_sigmoid_backward(dy, y, 0.25),
        ),
        (
            |context, x, y| affine(context, x, -0.75, 2.0, y),
            |context, dy, _, dx| affine_backward(context, dy, -0.75, dx),
            |x| reference::affine(x, -0.75, 2.0),
            |dy, _| reference::affine_backward(dy, -0.75),
        ),
    ];

    #[test]
    fn functions_with_a_gradient_by_their_result_equal_the_reference() {
        on_every_layout(|shape, gap_x, gap_y| {
            let mut values: Vec<_> = Tensor::uniform(1, shape, 0).values().iter().map(|x| 12.0 * x).collect();
            values[0] = 6.0; // both kinks of ReLU6
            values[shape.iter().product::<usize>() - 1] = 0.0;
            let (x, dy) = (Tensor::new(&values, shape, gap_x), Tensor::uniform(2, shape, gap_y));
            for (forward, backward, naive, naive_backward) in CASES {
                let expected = naive(&x.wide());
                let gradient = naive_backward(&dy.wide(), &expected);
                on_every_isa(|context| {
                    let [mut y, mut dx] = [gap_y, gap_x].map(|gap| Tensor::unwritten(shape, gap));
                    forward(context, x.view(), y.view_mut());
                    assert_matches(&y.values(), &expected, 2e-7);
                    backward(context, dy.view(), y.view(), dx.view_mut());
                    assert_matches(&dx.values(), &gradient, 5e-7);
                    let (mut on_x, mut on_dy) = (x.clone(), dy.clone());
                    let (from, to) = on_x.in_place();
                    forward(context, from, to);
                    let (from, to) = on_dy.in_place();
                    backward(context, from, y.view(), to);
                    assert_eq!([on_x.values(), on_dy.values()], [y.values(), dx.values()]);
                });
            }
        });
    }

    const BY_OPERAND: [Case; 3] = [
        (hard_swish, hard_swish_backward, reference::hard_swish, reference::hard_swish_backward),
        (silu, silu_backward, reference::silu, reference::silu_backward),
        (gelu, gelu_backward, reference::gelu, reference::gelu_backward),
    ];

    #[test]
    fn functions_with_a_gradient_by_x_equal_the_reference_in_place_too() {
        on_every_layout(|shape, gap_x, gap_y| {
            let mut values: Vec<_> = Tensor::uniform(1, shape, 0).values().iter().map(|x| 6.0 * x).collect();
            values[0] = 3.0; // both kinks of the hard swish
            values[shape.iter().product::<usize>() - 1] = -3.0;
            let (x, dy) = (Tensor::new(&values, shape, gap_x), Tensor::uniform(2, shape, gap_y));
            for (forward, backward, naive, naive_backward) in BY_OPERAND {
                let expected = naive(&x.wide());
                let gradient = naive_backward(&dy.wide(), &x.wide());
                on_every_isa(|context| {
                    let [mut y, mut dx] = [gap_y, gap_x].map(|gap| Tensor::unwritten(shape, gap));
                    forward(context, x.view(), y.view_mut());
                    assert_matches(&y.values(), &expected, 2e-7);
                    backward(context, dy.view(), x.view(), dx.view_mut());
                    assert_matches(&dx.values(), &gradient, 6e-7);
                    let (mut on_x, mut on_dy) = (x.clone(), dy.clone());
                    let (from, to) = on_x.in_place();
                    forward(context, from, to);
                    let (from, to) = on_dy.in_place();
                    backward(context, from, x.view(), to);
                    assert_eq!([on_x.values(), on_dy.values()], [y.values(), dx.values()]);
                });
            }
        });
    }

    #[test]
    fn gradients_by_x_equal_finite_differences_of_their_forward_passes() {
        let shape = [1, 2, 3, 7];
        let (x, dy) = (Tensor::uniform(1, shape, 0), Tensor::uniform(2, shape, 0));
        on_every_isa(|context| {
            for (forward, backward, ..) in BY_OPERAND {
                let loss = |x: &[f64]| {
                    let mut y = Tensor::unwritten(shape, 0);
                    forward(context, Tensor::new(&check::narrow(x), shape, 0).view(), y.view_mut());
                    check::dot(&y.wide(), &dy.wide())
                };
                let mut dx = Tensor::unwritten(shape, 0);
                backward(context, dy.view(), x.view(), dx.view_mut());
                assert_matches(&dx.values(), &check::finite_difference(&x.wide(), 1e-2, loss), 1e-3);
            }
        });
    }

    #[test]
    fn silu_and_gelu_end_in_zero_and_x() {
        let x = Tensor::new(&[-1e30, -200.0, 0.0, 200.0, f32::INFINITY, f32::NAN], [1, 1, 1, 6], 0);
        on_every_isa(|context| {
            for forward in [silu, gelu] {
                let mut y = Tensor::unwritten([1, 1, 1, 6], 0);
                forward(context, x.view(), y.view_mut());
                let y = y.values();
                assert_eq!(y[..5], [0.0, 0.0, 0.0, 200.0, f32::INFINITY]);
                assert!(y[5].is_nan());
            }
            let (dy, mut dx) = (Tensor::new(&[1.0; 4], [1, 1, 1, 4], 0), Tensor::unwritten([1, 1, 1, 4], 0));
            let x = Tensor::new(&[-1e30, -200.0, 200.0, 1e30], [1, 1, 1, 4], 0);
            for backward in [silu_backward, gelu_backward] {
                backward(context, dy.view(), x.view(), dx.view_mut());
                assert_eq!(dx.values(), [0.0, 0.0, 1.0, 1.0]);
            }
        });
    }

    #[test]
    fn the_gradient_of_tanh_equals_a_finite_difference_of_its_forward_pass() {
        let shape = [1, 2, 3, 7];
        let (x, dy) = (Tensor::uniform(1, shape, 0), Tensor::uniform(2, shape, 0));
        on_every_isa(|context| {
            let forward = |x: &[f64]| {
                let mut y = Tensor::unwritten(shape, 0);
                tanh(context, Tensor::new(&check::narrow(x), shape, 0).view(), y.view_mut());
                y
            };
            let mut dx = Tensor::unwritten(shape, 0);
            tanh_backward(context, dy.view(), forward(&x.wide()).view(), dx.view_mut());
            let loss = |x: &[f64]| check::dot(&forward(x).wide(), &dy.wide());
            assert_matches(&dx.values(), &check::finite_difference(&x.wide(), 1e-2, loss), 1e-3);
        });
    }

    #[test]
    fn every_activation_works_in_place() {
        let shape = [2, 5, 5, 6];
        let (x, y) = (Tensor::uniform(1, shape, 0), Tensor::uniform(2, shape, 0));
        on_every_isa(|context| {
            for forward in [relu, tanh] {
                let (mut apart, mut in_place) = (Tensor::unwritten(shape, 0), x.clone());
                forward(context, x.view(), apart.view_mut());
                let (from, to) = in_place.in_place();
                forward(context, from, to);
                assert_eq!(apart.values(), in_place.values());
            }
            for backward in [relu_backward, tanh_backward] {
                let (mut apart, mut in_place) = (Tensor::unwritten(shape, 0), x.clone());
                backward(context, x.view(), y.view(), apart.view_mut());
                let (from, to) = in_place.in_place();
                backward(context, from, y.view(), to);
                assert_eq!(apart.values(), in_place.values());
            }
        });
    }

    #[test]
    fn nan_stays_nan() {
        let nan = Tensor::new(&[f32::NAN; 5], [1, 1, 1, 5], 0);
        on_every_isa(|context| {
            let by_operand = BY_OPERAND.into_iter().map(|(forward, ..)| forward);
            for forward in CASES.into_iter().map(|(forward, ..)| forward).chain(by_operand) {
                let mut y = Tensor::unwritten([1, 1, 1, 5], 0);
                forward(context, nan.view(), y.view_mut());
                assert!(y.values().iter().all(|y| y.is_nan()));
            }
        });
        let x = Tensor::new(&[f32::NAN, -1.0, 2.0], [1, 1, 1, 3], 0);
        on_every_isa(|context| {
            for (forward, numbers) in [(relu as Forward, [0.0, 2.0]), (tanh, [-0.761_594_2, 0.964_027_6])] {
                let mut y = Tensor::unwritten([1, 1, 1, 3], 0);
                forward(context, x.view(), y.view_mut());
                let y = y.values();
                assert!(
                    y[0].is_nan() && (y[1] - numbers[0]).abs() < 1e-6 && (y[2] - numbers[1]).abs() < 1e-6
                );
            }
        });
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        for gap in [0, 1] {
            let x = Tensor::uniform(1, [9, 40, 40, 7], gap);
            assert_threads_agree(|context| {
                let (mut y, mut dx) = (x.clone(), x.clone());
                tanh(context, x.view(), y.view_mut());
                tanh_backward(context, x.view(), y.view(), dx.view_mut());
                [y.values(), dx.values()].concat()
            });
        }
    }
}
