//! Local response normalisation across channels.
//!
//! ```text
//! s_i = k + alpha / size * sum of x_j^2 over the window of channel i
//! y_i = x_i s_i^-beta
//! dx_i = dy_i s_i^-beta
//!     - 2 alpha beta / size * x_i * sum of dy_j x_j s_j^(-beta - 1) over all j with i in their window
//! ```
//!
//! The window of channel i is i - size / 2 ..= i + (size - 1) / 2, cut at the first and the last channel, as in
//! PyTorch's `LocalResponseNorm`; the divisor is always `size`. The backward pass computes s again from x.
//!
//! A pixel's squares are written into a row between zeros, from which windows are summed at any channel alike,
//! a vector at a time. The row is short and stands on the stack: where channels are many, it goes along them a
//! segment at a time, and each segment takes from the one before what its first windows need. The usual beta of
//! 3/4 needs two square roots, any other a logarithm and an exponential.
//!
//! Source: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks",
//! 2012.

use crate::parts::Parts;
use crate::simd::{Kernel, Simd};
use crate::{Context, View4, ViewMut4};
use std::ops::Range;

/// Hyperparameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalResponseNorm {
    /// Channels of a window, at most [`Self::LARGEST_SIZE`].
    pub size: usize,
    /// Weight of the mean square.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// What is added to the weighted mean square; with it, s must be a positive normal number.
    pub k: f32,
}

/// Elementwise passes that either direction costs.
const COST: usize = 8;

impl LocalResponseNorm {
    /// Most channels of a window.
    pub const LARGEST_SIZE: usize = 1024;

    /// y = x s^-beta.
    ///
    /// Shapes: both `[n, h, w, c]`; y may be the memory of x, if no backward pass needs it.
    ///
    /// # Panics
    /// If the shapes differ or the window is empty or too large.
    pub fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        self.run::<false>(context, x, x, &y);
    }

    /// The gradient of x.
    ///
    /// Shapes: all `[n, h, w, c]`; dx may be the memory of dy.
    ///
    /// # Panics
    /// If the shapes differ or the window is empty or too large.
    pub fn backward(&self, context: Context, x: View4, dy: View4, dx: ViewMut4) {
        self.run::<true>(context, x, dy, &dx);
    }

    fn run<const BACKWARD: bool>(&self, context: Context, x: View4, dy: View4, to: &ViewMut4) {
        assert_eq!([x.shape(), dy.shape()], [to.shape(); 2], "operands of different shapes");
        let sizes = 1..=Self::LARGEST_SIZE;
        assert!(sizes.contains(&self.size), "a window of {sizes:?} channels");
        let parts = Parts::new(x.pixels(), COST * x.c());
        context.pool.run(parts.count(), |_, part| {
            let mut rows = [[0.0; ROW]; 2];
            let rows = rows.each_mut().map(|row| row.as_mut_ptr());
            let reach = (self.size / 2).min(x.c());
            let segment = (ROW - MOST_LANES - 3 * reach) / MOST_LANES * MOST_LANES;
            let pixels = parts.range(part);
            let [squares, terms] = rows;
            if self.beta == 0.75 {
                context.isa.run(Pass::<BACKWARD, true> {
                    norm: self,
                    x,
                    dy,
                    to,
                    pixels,
                    reach,
                    segment,
                    squares,
                    terms,
                });
            } else {
                context.isa.run(Pass::<BACKWARD, false> {
                    norm: self,
                    x,
                    dy,
                    to,
                    pixels,
                    reach,
                    segment,
                    squares,
                    terms,
                });
            }
        });
    }
}

/// Floats of a row: more than the channels, and what lies around them, of any network known.
const ROW: usize = 2048;

/// Lanes of the widest vector: a row may be read so far behind its last channel.
const MOST_LANES: usize = 16;

// The largest window leaves a segment some vectors.
const _: () = assert!(3 * (LocalResponseNorm::LARGEST_SIZE / 2) + 16 * MOST_LANES < ROW);

/// Either direction over some pixels, which no other part has; `ROOTS` if beta is 3/4.
struct Pass<'a, const BACKWARD: bool, const ROOTS: bool> {
    norm: &'a LocalResponseNorm,
    x: View4<'a>,
    /// Not read on the way forward.
    dy: View4<'a>,
    /// y or dx.
    to: &'a ViewMut4<'a>,
    pixels: Range<usize>,
    /// Channels before the first of a segment that a row has, zeros where there are none. Behind the segment,
    /// twice as many stand in the row, and some to fill a vector.
    reach: usize,
    /// Channels of a segment.
    segment: usize,
    /// A row for the squares of x, and one for dy x s^(-beta - 1).
    squares: *mut f32,
    terms: *mut f32,
}

/// What happens to a pixel, in this order; the last on the way back only.
#[derive(Clone, Copy)]
enum Stage {
    Square,
    Scale,
    Couple,
}

/// One vector of a pixel's channels.
#[derive(Clone, Copy)]
struct Place {
    pixel: usize,
    /// The first channel.
    channel: usize,
    /// Where that stands in a row.
    at: usize,
    /// Channels, at most a vector of them.
    count: usize,
}

impl<const BACKWARD: bool, const ROOTS: bool> Kernel for Pass<'_, BACKWARD, ROOTS> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let channels = self.x.c();
        for pixel in self.pixels.clone() {
            if channels > self.segment {
                self.keep(0);
            }
            for start in (0..channels).step_by(self.segment) {
                if start > 0 {
                    self.keep(ROW - self.segment);
                }
                self.channels(simd, pixel, start, Stage::Square);
                self.channels(simd, pixel, start, Stage::Scale);
                if BACKWARD {
                    self.channels(simd, pixel, start, Stage::Couple);
                }
            }
        }
    }
}

impl<const BACKWARD: bool, const ROOTS: bool> Pass<'_, BACKWARD, ROOTS> {
    /// Moves the last `count` floats of both rows to their beginning, for the next segment, and zeros the
    /// others.
    fn keep(&self, count: usize) {
        for row in [self.squares, self.terms] {
            // SAFETY: both rows have ROW floats, which are this part's alone; `count` is no more.
            let row = unsafe { std::slice::from_raw_parts_mut(row, ROW) };
            row.copy_within(ROW - count.., 0);
            row[count..].fill(0.0);
        }
    }

    /// A stage for the segment that begins at a channel, after the stages before it and the segments before. A
    /// stage that others take windows of is as much ahead of them as a window reaches.
    #[inline(always)]
    fn channels<S: Simd>(&self, simd: S, pixel: usize, start: usize, stage: Stage) {
        let channels = self.x.c();
        let ahead = match stage {
            Stage::Square => 2 * self.reach,
            Stage::Scale => self.reach,
            Stage::Couple => 0,
        };
        let mut channel = if start == 0 { 0 } else { start + ahead };
        let end = channels.min(start + self.segment + ahead);
        // SAFETY: pixel and channels are some of the part; squares are written before windows of them are
        // summed, and the terms of all channels that a window reaches before theirs.
        unsafe {
            while channel < end {
                let at = self.reach + channel - start;
                if channel + S::LANES <= end {
                    self.vector(simd, Place { pixel, channel, at, count: S::LANES }, stage);
                } else {
                    self.vector(simd, Place { pixel, channel, at, count: end - channel }, stage);
                }
                channel += S::LANES;
            }
        }
    }

    /// A stage for one vector of channels.
    ///
    /// # Safety
    /// As the stage's own method.
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, simd: S, place: Place, stage: Stage) {
        // SAFETY: the caller vouches for it.
        unsafe {
            match stage {
                Stage::Square => self.square(simd, place),
                Stage::Scale => self.scale(simd, place),
                Stage::Couple => self.couple(simd, place),
            }
        }
    }

    /// Writes the squares of some channels into their row.
    ///
    /// # Safety
    /// Pixel and channels are some of the part, and stand in the segment's row.
    #[inline(always)]
    unsafe fn square<S: Simd>(&self, simd: S, Place { pixel, channel, at, count }: Place) {
        // SAFETY: the caller vouches for the channels.
        unsafe {
            let x = simd.load_up_to(self.x.pixel(pixel).add(channel), count);
            simd.store_up_to(self.squares.add(at), simd.mul(x, x), count);
        }
    }

    /// Sums windows of a row that begin `before` their channel.
    ///
    /// # Safety
    /// The place is a stage's own and `before` is at most `reach`.
    #[inline(always)]
    unsafe fn window<S: Simd>(&self, simd: S, row: *const f32, place: Place, before: usize) -> S::Vector {
        let width = self.before() + self.after() + 1;
        // SAFETY: `reach` is no less than either side of a window, so from the first to the last lane all is in
        // the row.
        unsafe {
            let first = row.add(place.at - before);
            let mut sum = simd.load(first);
            for offset in 1..width {
                sum = simd.add(sum, simd.load(first.add(offset)));
            }
            sum
        }
    }

    /// Channels of a window before and behind its own, no more than there are.
    #[inline(always)]
    fn before(&self) -> usize {
        (self.norm.size / 2).min(self.reach)
    }

    #[inline(always)]
    fn after(&self) -> usize {
        ((self.norm.size - 1) / 2).min(self.reach)
    }

    /// y, or the first term of dx together with what its neighbours need of it.
    ///
    /// # Safety
    /// As [`Self::square`], with the squares of the channels' windows in their row.
    #[inline(always)]
    unsafe fn scale<S: Simd>(&self, simd: S, place: Place) {
        let Place { pixel, channel, at, count } = place;
        let weight = simd.splat(self.norm.alpha / self.norm.size as f32);
        // SAFETY: the caller vouches for pixel and channels.
        unsafe {
            let squares = self.window(simd, self.squares, place, self.before());
            let base = simd.mul_add(squares, weight, simd.splat(self.norm.k));
            let reciprocal = simd.div(simd.splat(1.0), base);
            let power = match ROOTS {
                true => simd.mul(simd.sqrt(simd.sqrt(base)), reciprocal),
                false => power(simd, base, -self.norm.beta),
            };
            let x = simd.load_up_to(self.x.pixel(pixel).add(channel), count);
            let to = self.to.pixel(pixel).add(channel);
            if BACKWARD {
                let own = simd.mul(simd.load_up_to(self.dy.pixel(pixel).add(channel), count), power);
                simd.store_up_to(to, own, count);
                let term = simd.mul(simd.mul(own, x), reciprocal);
                simd.store_up_to(self.terms.add(at), term, count);
            } else {
                simd.store_up_to(to, simd.mul(x, power), count);
            }
        }
    }

    /// The second term of dx.
    ///
    /// # Safety
    /// As [`Self::scale`], which has been called for all channels whose windows have these.
    #[inline(always)]
    unsafe fn couple<S: Simd>(&self, simd: S, place: Place) {
        let Place { pixel, channel, count, .. } = place;
        let LocalResponseNorm { size, alpha, beta, .. } = *self.norm;
        let factor = simd.splat(-2.0 * alpha * beta / size as f32);
        // SAFETY: the caller vouches for pixel and channels.
        unsafe {
            // A channel lies in the windows of those as far behind it as a window reaches before its own.
            let sum = self.window(simd, self.terms, place, self.after());
            let x = simd.load_up_to(self.x.pixel(pixel).add(channel), count);
            let to = self.to.pixel(pixel).add(channel);
            let dx = simd.mul_add(simd.mul(x, factor), sum, simd.load_up_to(to, count));
            simd.store_up_to(to, dx, count);
        }
    }
}

/// base^exponent, lane by lane.
#[inline(always)]
fn power<S: Simd>(simd: S, base: S::Vector, exponent: f32) -> S::Vector {
    let mut lanes = [0.0f32; MOST_LANES];
    // SAFETY: no vector has more lanes than the array.
    unsafe {
        simd.store(lanes.as_mut_ptr(), base);
        lanes[..S::LANES].iter_mut().for_each(|lane| *lane = lane.powf(exponent));
        simd.load(lanes.as_ptr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Tensor, assert_matches, assert_threads_agree, on_every_isa};
    use crate::{Isa, Pool};
    use fovea_reference::{LocalResponseNorm as Naive, check};

    const SHAPES: [[usize; 4]; 10] = [
        [1, 1, 1, 1],
        [2, 3, 5, 3],
        [1, 2, 2, 17],
        [2, 4, 1, 33],
        [1, 7, 3, 16],
        [2, 5, 5, 64],
        [3, 27, 27, 96],
        [1, 1, 3, 1030],
        [1, 1, 2, 2021],
        [1, 2, 1, 4501],
    ];

    /// AlexNet's, an even window, one channel alone, all channels of most shapes, the largest; with a weight
    /// that is felt.
    const NORMS: [LocalResponseNorm; 6] = [
        LocalResponseNorm { size: 5, alpha: 1e-4, beta: 0.75, k: 1.0 },
        LocalResponseNorm { size: 4, alpha: 2.0, beta: 0.75, k: 2.0 },
        LocalResponseNorm { size: 1, alpha: 0.5, beta: 0.5, k: 0.1 },
        LocalResponseNorm { size: 5, alpha: 1.5, beta: 1.0, k: 0.5 },
        LocalResponseNorm { size: 37, alpha: 30.0, beta: 0.75, k: 1.0 },
        LocalResponseNorm { size: LocalResponseNorm::LARGEST_SIZE, alpha: 900.0, beta: 0.75, k: 1.0 },
    ];

    fn naive(norm: LocalResponseNorm) -> Naive {
        let [alpha, beta, k] = [norm.alpha, norm.beta, norm.k].map(f64::from);
        Naive { size: norm.size, alpha, beta, k }
    }

    #[test]
    fn both_passes_equal_the_reference() {
        for (norm, shape) in NORMS.into_iter().flat_map(|norm| SHAPES.map(|shape| (norm, shape))) {
            for (gap_x, gap_y) in [(0, 0), (2, 0), (0, 1)] {
                let (x, dy) = (Tensor::uniform(1, shape, gap_x), Tensor::uniform(2, shape, gap_y));
                let expected = naive(norm).forward(&x.wide(), shape[3]);
                let gradient = naive(norm).backward(&x.wide(), &dy.wide(), shape[3]);
                on_every_isa(|context| {
                    let [mut y, mut dx] = [gap_y, gap_x].map(|gap| Tensor::unwritten(shape, gap));
                    norm.forward(context, x.view(), y.view_mut());
                    assert_matches(&y.values(), &expected, 1e-6);
                    norm.backward(context, x.view(), dy.view(), dx.view_mut());
                    assert_matches(&dx.values(), &gradient, 1e-6);
                });
            }
        }
    }

    #[test]
    fn the_gradient_equals_a_finite_difference_of_the_forward_pass() {
        let shape = [1, 1, 2, 9];
        let (x, dy) = (Tensor::uniform(1, shape, 0), Tensor::uniform(2, shape, 0));
        for norm in NORMS {
            on_every_isa(|context| {
                let loss = |x: &[f64]| {
                    let mut y = Tensor::unwritten(shape, 0);
                    norm.forward(context, Tensor::new(&check::narrow(x), shape, 0).view(), y.view_mut());
                    check::dot(&y.wide(), &dy.wide())
                };
                let mut dx = Tensor::unwritten(shape, 0);
                norm.backward(context, x.view(), dy.view(), dx.view_mut());
                assert_matches(&dx.values(), &check::finite_difference(&x.wide(), 1e-2, loss), 2e-3);
            });
        }
    }

    #[test]
    fn both_passes_work_in_place() {
        for (norm, shape) in
            NORMS.into_iter().flat_map(|norm| [[2, 3, 3, 21], [1, 1, 2, 4501]].map(|s| (norm, s)))
        {
            let (x, dy) = (Tensor::uniform(1, shape, 1), Tensor::uniform(2, shape, 1));
            on_every_isa(|context| {
                let ([mut y, mut dx], mut on_x, mut on_dy) =
                    ([(); 2].map(|()| Tensor::unwritten(shape, 0)), x.clone(), dy.clone());
                norm.forward(context, x.view(), y.view_mut());
                let (from, to) = on_x.in_place();
                norm.forward(context, from, to);
                norm.backward(context, x.view(), dy.view(), dx.view_mut());
                let (from, to) = on_dy.in_place();
                norm.backward(context, x.view(), from, to);
                assert_eq!([on_x.values(), on_dy.values()], [y.values(), dx.values()]);
            });
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let [x, dy] = [1, 2].map(|seed| Tensor::uniform(seed, [3, 27, 27, 65], 0));
        for norm in NORMS {
            assert_threads_agree(|context| {
                let [mut y, mut dx] = [(); 2].map(|()| x.clone());
                norm.forward(context, x.view(), y.view_mut());
                norm.backward(context, x.view(), dy.view(), dx.view_mut());
                [y.values(), dx.values()].concat()
            });
        }
    }

    #[test]
    fn a_window_without_channels_or_with_too_many_is_refused() {
        let context = Context { isa: Isa::available()[0], pool: &Pool::new(1) };
        for size in [0, LocalResponseNorm::LARGEST_SIZE + 1] {
            let norm = LocalResponseNorm { size, ..NORMS[0] };
            let run = || {
                let x = Tensor::uniform(1, [1, 1, 1, 4], 0);
                norm.forward(context, x.view(), x.clone().view_mut());
            };
            let refusal = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_err();
            assert_eq!(refusal.downcast_ref::<String>().unwrap(), "a window of 1..=1024 channels");
        }
    }
}
