//! Leaky ReLU whose slope is learnt: y = x where x > 0, otherwise weight x, with a weight for each channel or
//! one for all.
//!
//! The sign of y does not tell that of x where the weight is zero or negative, so the gradients read x.
//!
//! Shapes: x, y, dy, dx `[n, h, w, c]`; weight and dweight `[c]` or `[1]`.
//!
//! Source: He et al. 2015, arXiv:1502.01852. Equals PyTorch's `PReLU`.

use crate::activation;
use crate::channelwise::{self, Pass, Place, Sums};
use crate::simd::Simd;
use crate::threads::Shareable;
use crate::{Context, View4, ViewMut4};

/// y = x where x > 0, otherwise weight x. y may be the memory of x.
///
/// # Panics
/// If shapes differ, or there are neither as many weights as channels nor one.
pub fn prelu(context: Context, x: View4, weight: &[f32], y: ViewMut4) {
    check(x, y.as_view(), weight);
    match *weight {
        // With one slope for all channels it is a leaky ReLU.
        [slope] => activation::leaky_relu(context, x, slope, y),
        _ => channelwise::run(context, x, Slope { of: x, x, weight, y: &y }),
    }
}

/// Gradient of x: dy where x > 0, otherwise weight dy. dx may be the memory of dy.
///
/// # Panics
/// As [`prelu`].
pub fn prelu_backward_input(context: Context, x: View4, dy: View4, weight: &[f32], dx: ViewMut4) {
    check(x, dy, weight);
    assert_eq!(x.shape(), dx.shape(), "operands of different shapes");
    match *weight {
        [slope] => activation::leaky_relu_backward(context, dy, x, slope, dx),
        _ => channelwise::run(context, x, Slope { of: dy, x, weight, y: &dx }),
    }
}

/// Floats of scratch memory that [`prelu_backward_weight`] needs for a tensor of this shape.
pub fn scratch_len([n, h, w, c]: [usize; 4]) -> usize {
    c + Sums::len(n * h * w, c)
}

/// Gradient of the weight: the sum of x dy over the pixels, and the channels where they share it, where x is
/// not positive.
///
/// # Panics
/// As [`prelu`], and if the scratch memory is shorter than [`scratch_len`] says.
pub fn prelu_backward_weight(
    context: Context,
    x: View4,
    dy: View4,
    dweight: &mut [f32],
    scratch: &mut [f32],
) {
    check(x, dy, dweight);
    let (of_channels, scratch) = scratch.split_at_mut(x.c());
    let mut sums = Sums::new(x, scratch);
    sums.add_up(context, |_, product| Negative { x, dy, product });
    let shared = Shareable::new(of_channels);
    sums.finish(context, |channel, _, product| {
        // SAFETY: the array has an element for each channel, which is this call's alone.
        unsafe { *shared.pointer().add(channel) = product as f32 };
    });
    match dweight {
        [all] => *all = of_channels.iter().map(|&sum| f64::from(sum)).sum::<f64>() as f32,
        _ => dweight.copy_from_slice(of_channels),
    }
}

fn check(x: View4, other: View4, weight: &[f32]) {
    assert_eq!(x.shape(), other.shape(), "operands of different shapes");
    assert!([1, x.c()].contains(&weight.len()), "length of an array of the channels");
}

/// y = `of` where x > 0, otherwise weight times `of`.
struct Slope<'a> {
    of: View4<'a>,
    x: View4<'a>,
    weight: &'a [f32],
    y: &'a ViewMut4<'a>,
}

impl Pass for Slope<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const PIXELS: usize>(&self, simd: S, place: Place) {
        // SAFETY: the caller vouches for the place.
        unsafe {
            let weight = place.of(simd, self.weight);
            for p in 0..PIXELS {
                let [of, x] = [self.of, self.x].map(|view| place.read(simd, view, p));
                let y = simd.select_greater(x, simd.zero(), of, simd.mul(of, weight));
                place.write(simd, self.y, p, y, false);
            }
        }
    }
}

/// Sum of x dy where x is not positive.
struct Negative<'a> {
    x: View4<'a>,
    dy: View4<'a>,
    product: *mut f32,
}

// SAFETY: the array belongs to the part that made the pass, which runs on one thread.
unsafe impl Sync for Negative<'_> {}

impl Pass for Negative<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const PIXELS: usize>(&self, simd: S, place: Place) {
        let mut product = simd.zero();
        // SAFETY: the caller vouches for the place.
        unsafe {
            for p in 0..PIXELS {
                let [x, dy] = [self.x, self.dy].map(|view| place.read(simd, view, p));
                product = simd.mul_add(simd.min(simd.zero(), x), dy, product);
            }
            place.add_to(simd, self.product, product);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Tensor, assert_matches, assert_threads_agree, on_every_isa};
    use fovea_reference::activation as reference;
    use fovea_reference::check::{dot, finite_difference, narrow, uniform, widen};

    const SHAPES: [[usize; 4]; 5] =
        [[1, 1, 1, 1], [2, 3, 5, 3], [1, 2, 2, 17], [3, 4, 1, 33], [2, 28, 28, 6]];

    #[test]
    fn values_and_gradients_equal_the_reference_with_a_slope_for_each_channel_and_for_all() {
        for (shape, gap) in SHAPES.into_iter().flat_map(|shape| [(shape, 0), (shape, 3)]) {
            let channels = shape[3];
            let (x, dy) = (Tensor::uniform(1, shape, gap), Tensor::uniform(2, shape, 1));
            // Negative slopes among them.
            for weight in [uniform(4, channels), vec![-0.25]] {
                let expected = reference::prelu(&x.wide(), &widen(&weight), channels);
                let (gradient, expected_weight) =
                    reference::prelu_backward(&dy.wide(), &x.wide(), &widen(&weight), channels);
                on_every_isa(|context| {
                    let (mut y, mut dx) = (Tensor::unwritten(shape, 1), Tensor::unwritten(shape, 0));
                    prelu(context, x.view(), &weight, y.view_mut());
                    assert_matches(&y.values(), &expected, 1e-7);
                    prelu_backward_input(context, x.view(), dy.view(), &weight, dx.view_mut());
                    assert_matches(&dx.values(), &gradient, 1e-7);
                    let mut dweight = vec![f32::NAN; weight.len()];
                    let mut scratch = vec![f32::NAN; scratch_len(shape)];
                    prelu_backward_weight(context, x.view(), dy.view(), &mut dweight, &mut scratch);
                    let error = dweight.iter().zip(&expected_weight).map(|(a, b)| (f64::from(*a) - b).abs());
                    assert!(error.fold(0.0, f64::max) <= 2e-5, "{dweight:?} {expected_weight:?}");
                    let (mut on_x, mut on_dy) = (x.clone(), dy.clone());
                    let (from, to) = on_x.in_place();
                    prelu(context, from, &weight, to);
                    let (from, to) = on_dy.in_place();
                    prelu_backward_input(context, x.view(), from, &weight, to);
                    assert_eq!([on_x.values(), on_dy.values()], [y.values(), dx.values()]);
                });
            }
        }
    }

    #[test]
    fn gradients_equal_finite_differences_of_the_forward_pass() {
        let shape = [2, 2, 3, 5];
        let (x, dy) = (Tensor::uniform(1, shape, 0), Tensor::uniform(2, shape, 0));
        for weight in [uniform(3, 5), vec![0.25]] {
            on_every_isa(|context| {
                let loss = |x: &[f64], weight: &[f64]| {
                    let mut y = Tensor::unwritten(shape, 0);
                    prelu(context, Tensor::new(&narrow(x), shape, 0).view(), &narrow(weight), y.view_mut());
                    dot(&y.wide(), &dy.wide())
                };
                let wide = widen(&weight);
                let mut dx = Tensor::unwritten(shape, 0);
                prelu_backward_input(context, x.view(), dy.view(), &weight, dx.view_mut());
                let numeric = finite_difference(&x.wide(), 1.0 / 1024.0, |x| loss(x, &wide));
                assert_matches(&dx.values(), &numeric, 1e-3);
                let (mut dweight, mut scratch) = (vec![0.0; weight.len()], vec![0.0; scratch_len(shape)]);
                prelu_backward_weight(context, x.view(), dy.view(), &mut dweight, &mut scratch);
                let numeric = finite_difference(&wide, 0.125, |weight| loss(&x.wide(), weight));
                assert_matches(&dweight, &numeric, 1e-5);
            });
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let shape = [9, 40, 40, 7];
        let (x, dy) = (Tensor::uniform(1, shape, 0), Tensor::uniform(2, shape, 0));
        assert_threads_agree(|context| {
            let mut y = Tensor::unwritten(shape, 0);
            prelu(context, x.view(), &uniform(3, 7), y.view_mut());
            let (mut dweight, mut scratch) = (vec![0.0; 7], vec![0.0; scratch_len(shape)]);
            prelu_backward_weight(context, x.view(), dy.view(), &mut dweight, &mut scratch);
            [y.values(), dweight].concat()
        });
    }
}
