//! Max pooling over the whole image, of any size.
//!
//! The backward pass looks for the winner again, so nothing is kept beside y: of equal values the first wins. A
//! NaN wins over every number; a channel that has one has no gradient.
//!
//! Shapes: x, dx `[n, h, w, c]`, y, dy `[n, 1, 1, c]`.

use crate::parts::Parts;
use crate::simd::{Kernel, Simd};
use crate::{Context, View4, ViewMut4};
use std::ops::Range;

/// Channels that are handled together: what a part gets at least.
const BLOCK: usize = 64;

/// y = largest value of each channel.
///
/// # Panics
/// If the shapes do not belong together, or x has no pixels.
pub fn global_max_pool(context: Context, x: View4, y: ViewMut4) {
    check(x, y.as_view());
    walk(context, x, Largest { x, y: &y });
}

/// dx = dy at the first pixel where x is y, otherwise 0.
///
/// # Panics
/// As [`global_max_pool`].
pub fn global_max_pool_backward(context: Context, x: View4, y: View4, dy: View4, dx: ViewMut4) {
    check(x, y);
    assert!(dy.shape() == y.shape() && dx.shape() == x.shape(), "operands of different shapes");
    walk(context, x, First { x, y, dy, dx: &dx });
}

fn check(x: View4, y: View4) {
    assert_eq!(y.shape(), [x.n(), 1, 1, x.c()], "shape of y");
    assert!(x.h() * x.w() > 0, "a maximum of no pixels");
}

/// What happens at an image.
trait Visitor: Copy + Sync {
    /// Handles `B` neighbouring vectors of channels of an image, from `channel` on; the only one of `B = 1` may
    /// be partial, `count` channels. Implementations are `#[inline(always)]`.
    ///
    /// # Safety
    /// Image and channels are some of the views', and no other part has them.
    unsafe fn visit<S: Simd, const B: usize>(&self, simd: S, image: usize, channel: usize, count: usize);
}

fn walk(context: Context, x: View4, visitor: impl Visitor) {
    let [n, h, w, channels] = x.shape();
    let blocks = channels.div_ceil(BLOCK);
    let parts = Parts::new(n * blocks, h * w * BLOCK.min(channels));
    context.pool.run(parts.count(), |_, part| {
        context.isa.run(Walk { blocks, channels, items: parts.range(part), visitor });
    });
}

/// Some blocks of channels, counted over all images.
struct Walk<V> {
    blocks: usize,
    channels: usize,
    items: Range<usize>,
    visitor: V,
}

impl<V: Visitor> Kernel for Walk<V> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for item in self.items {
            let (image, mut channel) = (item / self.blocks, item % self.blocks * BLOCK);
            let end = self.channels.min(channel + BLOCK);
            // SAFETY: a part has its own images and blocks of channels, and none at or beyond `channels`.
            unsafe {
                while channel + 4 * S::LANES <= end {
                    self.visitor.visit::<S, 4>(simd, image, channel, S::LANES);
                    channel += 4 * S::LANES;
                }
                while channel < end {
                    let count = S::LANES.min(end - channel);
                    self.visitor.visit::<S, 1>(simd, image, channel, count);
                    channel += count;
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Largest<'a> {
    x: View4<'a>,
    y: &'a ViewMut4<'a>,
}

impl Visitor for Largest<'_> {
    #[inline(always)]
    unsafe fn visit<S: Simd, const B: usize>(&self, simd: S, image: usize, channel: usize, count: usize) {
        let pixels = self.x.h() * self.x.w();
        let mut x = self.x.pixel(image * pixels).wrapping_add(channel);
        let y = self.y.pixel(image).wrapping_add(channel);
        let mut best = [simd.splat(f32::NEG_INFINITY); B];
        for _ in 0..pixels {
            for b in 0..B {
                // SAFETY: the caller vouches for image and channels.
                let value = unsafe { simd.load_up_to(x.wrapping_add(b * S::LANES), count) };
                best[b] = simd.select_greater_or_nan(value, best[b], value, best[b]);
            }
            x = x.wrapping_add(self.x.ld());
        }
        for b in 0..B {
            // SAFETY: as above.
            unsafe { simd.store_up_to(y.wrapping_add(b * S::LANES), best[b], count) };
        }
    }
}

#[derive(Clone, Copy)]
struct First<'a> {
    x: View4<'a>,
    y: View4<'a>,
    dy: View4<'a>,
    dx: &'a ViewMut4<'a>,
}

impl Visitor for First<'_> {
    #[inline(always)]
    unsafe fn visit<S: Simd, const B: usize>(&self, simd: S, image: usize, channel: usize, count: usize) {
        let pixels = self.x.h() * self.x.w();
        let mut x = self.x.pixel(image * pixels).wrapping_add(channel);
        let mut dx = self.dx.pixel(image * pixels).wrapping_add(channel);
        let [y, dy] = [self.y, self.dy].map(|view| view.pixel(image).wrapping_add(channel));
        let (mut largest, mut gradient) = ([simd.zero(); B], [simd.zero(); B]);
        for b in 0..B {
            // SAFETY: the caller vouches for image and channels.
            unsafe {
                largest[b] = simd.load_up_to(y.wrapping_add(b * S::LANES), count);
                gradient[b] = simd.load_up_to(dy.wrapping_add(b * S::LANES), count);
            }
        }
        for _ in 0..pixels {
            for b in 0..B {
                // SAFETY: as above.
                unsafe {
                    let value = simd.load_up_to(x.wrapping_add(b * S::LANES), count);
                    let share = simd.select_equal(value, largest[b], gradient[b], simd.zero());
                    simd.store_up_to(dx.wrapping_add(b * S::LANES), share, count);
                    // What has been given away is gone.
                    gradient[b] = simd.select_equal(value, largest[b], simd.zero(), gradient[b]);
                }
            }
            (x, dx) = (x.wrapping_add(self.x.ld()), dx.wrapping_add(self.dx.ld()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Tensor, assert_matches, assert_threads_agree, on_every_isa};
    use fovea_reference::{MaxPool2d, Pool2d, check};

    fn naive([batch, h, w, c]: [usize; 4]) -> MaxPool2d {
        let (size, stride) = ([h, w], [1, 1]);
        MaxPool2d(Pool2d { batch, input: [h, w, c], size, stride, padding: [0; 4], ceil_mode: false })
    }

    /// Values of which many are equal.
    fn with_ties(shape: [usize; 4], gap: usize) -> Tensor {
        let values = check::uniform(1, shape.iter().product());
        Tensor::new(&values.iter().map(|value| (value * 4.0).round() / 4.0).collect::<Vec<_>>(), shape, gap)
    }

    #[test]
    fn the_maximum_and_its_gradient_equal_the_reference() {
        for ([h, w], channels) in [[1, 1], [2, 3], [7, 7], [19, 17]]
            .into_iter()
            .flat_map(|s| [1, 3, 16, 17, 70, 150].map(|c| (s, c)))
        {
            for gap in [0, 3] {
                let (shape, pooled) = ([2, h, w, channels], [2, 1, 1, channels]);
                let (x, dy) = (with_ties(shape, gap), Tensor::uniform(2, pooled, gap));
                let (expected, winners) = naive(shape).forward(&x.wide());
                let gradient = naive(shape).backward(&dy.wide(), &winners);
                on_every_isa(|context| {
                    let (mut y, mut dx) = (Tensor::unwritten(pooled, 1), Tensor::unwritten(shape, gap));
                    global_max_pool(context, x.view(), y.view_mut());
                    assert_matches(&y.values(), &expected, 0.0);
                    global_max_pool_backward(context, x.view(), y.view(), dy.view(), dx.view_mut());
                    assert_matches(&dx.values(), &gradient, 0.0);
                });
            }
        }
    }

    #[test]
    fn the_gradient_equals_a_finite_difference_of_the_forward_pass() {
        let (shape, pooled) = ([1, 4, 5, 3], [1, 1, 1, 3]);
        // A step of 1/64 changes no winner: the values are multiples of 1/8, all different.
        let values: Vec<_> = (0..60).map(|index| ((index * 37) % 60) as f32 / 8.0 - 3.0).collect();
        let (x, dy) = (Tensor::new(&values, shape, 0), Tensor::uniform(2, pooled, 0));
        on_every_isa(|context| {
            let forward = |x: &Tensor| {
                let mut y = Tensor::unwritten(pooled, 0);
                global_max_pool(context, x.view(), y.view_mut());
                y
            };
            let mut dx = Tensor::unwritten(shape, 0);
            global_max_pool_backward(context, x.view(), forward(&x).view(), dy.view(), dx.view_mut());
            let numeric = check::finite_difference(&x.wide(), 1.0 / 64.0, |x| {
                check::dot(&forward(&Tensor::new(&check::narrow(x), shape, 0)).wide(), &dy.wide())
            });
            assert_matches(&dx.values(), &numeric, 1e-5);
        });
    }

    #[test]
    fn nan_wins_and_minus_infinity_may() {
        let nan = f32::NAN;
        let x = Tensor::new(&[1.0, nan, f32::NEG_INFINITY, 2.0, 3.0, f32::NEG_INFINITY], [1, 2, 1, 3], 0);
        on_every_isa(|context| {
            let mut y = Tensor::unwritten([1, 1, 1, 3], 0);
            global_max_pool(context, x.view(), y.view_mut());
            let y = y.values();
            assert!(y[0] == 2.0 && y[1].is_nan() && y[2] == f32::NEG_INFINITY);
        });
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (shape, pooled) = ([3, 30, 29, 130], [3, 1, 1, 130]);
        let (x, dy) = (with_ties(shape, 0), Tensor::uniform(2, pooled, 0));
        assert_threads_agree(|context| {
            let (mut y, mut dx) = (Tensor::unwritten(pooled, 0), Tensor::unwritten(shape, 0));
            global_max_pool(context, x.view(), y.view_mut());
            global_max_pool_backward(context, x.view(), y.view(), dy.view(), dx.view_mut());
            [y.values(), dx.values()].concat()
        });
    }
}
