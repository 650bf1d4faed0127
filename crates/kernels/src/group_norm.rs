//! Group normalisation: the channels of each image, in groups of neighbours, with mean 0 and variance 1, then scaled and
//! shifted. With one group and every pixel as an image of its own it is layer normalisation over the channels.
//!
//! ```text
//! y = (x - mean) r weight + bias,   r = 1 / sqrt(variance + epsilon)
//! dx = r (dy weight - mean of dy weight - n mean of dy weight n),   n = (x - mean) r
//! ```
//!
//! A group of an image is a set: as many segments of neighbouring channels as the image has pixels. A part has whole sets,
//! so that a set's passes find it in the cache: one for the mean, one for the squares around it, one that writes. Sums
//! are taken in the lanes of a vector, and in f64 from one run of segments to the next.
//!
//! Shapes: x, y, dy, dx `[n, h, w, c]`; weight, bias and their gradients `[c]`; statistics `[n, groups, 2]`, the mean and r
//! of each set.
//!
//! Source: Wu and He 2018, arXiv:1803.08494; Ba et al. 2016, arXiv:1607.06450. Equals PyTorch's `GroupNorm`.

use crate::channelwise::{Pass, Place, Sums};
use crate::parts::Parts;
use crate::simd::{Kernel, Simd};
use crate::threads::Shareable;
use crate::{Context, View4, ViewMut4};
use std::ops::Range;

/// Hyperparameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// Groups of channels; they divide the channels.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f32,
}

/// Elementwise passes that either direction costs.
const COST: usize = 3;

/// Floats of a set that are summed in f32 before the sum is taken on in f64.
const RUN: usize = 1 << 12;

impl GroupNorm {
    /// Floats of the statistics of a tensor of this shape.
    pub fn statistics_len(&self, [n, ..]: [usize; 4]) -> usize {
        2 * n * self.groups
    }

    /// y, and the statistics that the backward pass reads. y may be the memory of x.
    ///
    /// # Panics
    /// If shapes or lengths differ from those above, or the groups do not divide the channels.
    pub fn forward(
        &self,
        context: Context,
        x: View4,
        [weight, bias]: [&[f32]; 2],
        statistics: &mut [f32],
        y: ViewMut4,
    ) {
        self.check(x, &y, statistics.len(), &[weight.len(), bias.len()]);
        let statistics = Shareable::new(statistics);
        self.sets(context, x, |sets| Forward {
            norm: self,
            x,
            weight,
            bias,
            statistics: &statistics,
            y: &y,
            sets,
        });
    }

    /// The gradient of x. dx may be the memory of dy.
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn backward_input(
        &self,
        context: Context,
        [x, dy]: [View4; 2],
        weight: &[f32],
        statistics: &[f32],
        dx: ViewMut4,
    ) {
        self.check(x, &dx, statistics.len(), &[weight.len()]);
        assert_eq!(x.shape(), dy.shape(), "operands of different shapes");
        self.sets(context, x, |sets| Backward { norm: self, x, dy, weight, statistics, dx: &dx, sets });
    }

    /// Floats of scratch memory that [`Self::backward_weight`] needs for a tensor of this shape.
    pub fn scratch_len(&self, [n, h, w, c]: [usize; 4]) -> usize {
        let spread = if self.groups > 1 { 2 * n * c } else { 0 };
        spread + Sums::len(n * h * w, c)
    }

    /// The gradients of weight and bias: the sums of dy n and of dy over all pixels.
    ///
    /// # Panics
    /// As [`Self::forward`], and if the scratch memory is shorter than [`Self::scratch_len`] says.
    pub fn backward_weight(
        &self,
        context: Context,
        [x, dy]: [View4; 2],
        statistics: &[f32],
        [dweight, dbias]: [&mut [f32]; 2],
        scratch: &mut [f32],
    ) {
        let (channels, pixels) = (x.c(), x.h() * x.w());
        assert_eq!(x.shape(), dy.shape(), "operands of different shapes");
        assert_eq!(statistics.len(), self.statistics_len(x.shape()), "statistics of other sets");
        assert_eq!([dweight.len(), dbias.len()], [channels; 2], "length of an array of the channels");
        let spread = if self.groups > 1 { 2 * x.n() * channels } else { 0 };
        let (spread, scratch) = scratch.split_at_mut(spread);
        // With several groups, a mean and r for every channel: a vector of channels may lie in several of them.
        for (image, spread) in spread.chunks_exact_mut(2 * channels).enumerate() {
            let (means, factors) = spread.split_at_mut(channels);
            for (channel, (mean, factor)) in means.iter_mut().zip(factors).enumerate() {
                let set = 2 * (image * self.groups + channel / (channels / self.groups));
                (*mean, *factor) = (statistics[set], statistics[set + 1]);
            }
        }
        let spread = &*spread;
        let mut sums = Sums::new(x, scratch);
        sums.add_up(context, |product, sum| Gradients { x, dy, pixels, statistics, spread, product, sum });
        let [dweight, dbias] = [dweight, dbias].map(Shareable::new);
        sums.finish(context, |channel, product, sum| {
            // SAFETY: the arrays have an element for each channel, which is this call's alone.
            unsafe {
                *dweight.pointer().add(channel) = product as f32;
                *dbias.pointer().add(channel) = sum as f32;
            }
        });
    }

    fn check(&self, x: View4, y: &ViewMut4, statistics: usize, lengths: &[usize]) {
        assert_eq!(x.shape(), y.shape(), "operands of different shapes");
        assert!(self.groups > 0 && x.c().is_multiple_of(self.groups), "groups that divide the channels");
        assert_eq!(statistics, self.statistics_len(x.shape()), "statistics of other sets");
        assert!(lengths.iter().all(|&length| length == x.c()), "length of an array of the channels");
    }

    /// Runs a kernel for the sets of each part.
    fn sets<K: Kernel>(&self, context: Context, x: View4, kernel: impl Fn(Range<usize>) -> K + Sync) {
        let sets = x.n() * self.groups;
        let parts = Parts::new(sets, COST * x.pixels() * x.c() / sets.max(1));
        context.pool.run(parts.count(), |_, part| {
            context.isa.run(kernel(parts.range(part)));
        });
    }

    /// Where a set lies.
    fn place(&self, x: View4, set: usize) -> Set {
        let (image, group) = (set / self.groups, set % self.groups);
        let (pixels, channels) = (x.h() * x.w(), x.c() / self.groups);
        Set { pixel: image * pixels, pixels, channel: group * channels, channels }
    }
}

/// The segments of a set.
#[derive(Clone, Copy)]
struct Set {
    /// The first pixel, and how many there are.
    pixel: usize,
    pixels: usize,
    /// The first channel, and how many there are.
    channel: usize,
    channels: usize,
}

impl Set {
    /// Calls `each` with the pixel, channel and count of every vector of the set, segment after segment.
    #[inline(always)]
    fn for_each<S: Simd>(self, pixels: Range<usize>, mut each: impl FnMut(usize, usize, usize)) {
        for pixel in pixels {
            let (mut at, pixel) = (0, self.pixel + pixel);
            while at + S::LANES <= self.channels {
                each(pixel, self.channel + at, S::LANES);
                at += S::LANES;
            }
            if at < self.channels {
                each(pixel, self.channel + at, self.channels - at);
            }
        }
    }

    /// The sums of two terms of every vector.
    #[inline(always)]
    fn sums<S: Simd>(
        self,
        simd: S,
        mut terms: impl FnMut(usize, usize, usize) -> [S::Vector; 2],
    ) -> [f64; 2] {
        let mut sums = [0.0; 2];
        let step = (RUN / self.channels).max(1);
        for start in (0..self.pixels).step_by(step) {
            let mut run = [simd.zero(); 2];
            self.for_each::<S>(start..self.pixels.min(start + step), |pixel, channel, count| {
                let terms = terms(pixel, channel, count);
                run = [simd.add(run[0], terms[0]), simd.add(run[1], terms[1])];
            });
            sums = [sums[0] + f64::from(simd.sum(run[0])), sums[1] + f64::from(simd.sum(run[1]))];
        }
        sums
    }

    /// Values of the set.
    fn len(self) -> f64 {
        (self.pixels * self.channels) as f64
    }
}

/// The forward pass of some sets, which no other part has.
struct Forward<'a> {
    norm: &'a GroupNorm,
    x: View4<'a>,
    weight: &'a [f32],
    bias: &'a [f32],
    statistics: &'a Shareable<f32>,
    y: &'a ViewMut4<'a>,
    sets: Range<usize>,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { norm, x, y, .. } = self;
        // SAFETY: `for_each` stays within the set, whose pixels and channels are some of both views and of the arrays;
        // lanes beyond `count` are zero, and no other part has the set or its statistics.
        unsafe {
            let read = |pixel, channel, count| simd.load_up_to(x.pixel(pixel).add(channel), count);
            for number in self.sets {
                let set = norm.place(x, number);
                let [sum, _] =
                    set.sums(simd, |pixel, channel, count| [read(pixel, channel, count), simd.zero()]);
                let mean = (sum / set.len()) as f32;
                let middle = simd.splat(mean);
                let [squares, _] = set.sums(simd, |pixel, channel, count| {
                    let mut distance = simd.sub(read(pixel, channel, count), middle);
                    if count < S::LANES {
                        // Lanes beyond the segment must not count.
                        let mut lanes = [0.0; MOST_LANES];
                        simd.store_partial(lanes.as_mut_ptr(), distance, count);
                        distance = simd.load(lanes.as_ptr());
                    }
                    [simd.mul(distance, distance), simd.zero()]
                });
                let variance = squares / set.len();
                let factor = (1.0 / (variance + f64::from(norm.epsilon)).sqrt()) as f32;
                let kept = self.statistics.slice(2 * number, 2);
                kept.copy_from_slice(&[mean, factor]);
                let factor = simd.splat(factor);
                set.for_each::<S>(0..set.pixels, |pixel, channel, count| {
                    let [weight, bias] = [self.weight, self.bias]
                        .map(|array| simd.load_up_to(array.as_ptr().add(channel), count));
                    let normalized = simd.mul(simd.sub(read(pixel, channel, count), middle), factor);
                    let value = simd.mul_add(normalized, weight, bias);
                    simd.store_up_to(y.pixel(pixel).add(channel), value, count);
                });
            }
        }
    }
}

/// Lanes of the widest vector.
const MOST_LANES: usize = 16;

/// The gradient of x of some sets, which no other part has.
struct Backward<'a> {
    norm: &'a GroupNorm,
    x: View4<'a>,
    dy: View4<'a>,
    weight: &'a [f32],
    statistics: &'a [f32],
    dx: &'a ViewMut4<'a>,
    sets: Range<usize>,
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { norm, x, dy, dx, .. } = self;
        // SAFETY: as in the forward pass; dy and weight are zero in lanes beyond `count`, and so are their products.
        unsafe {
            for number in self.sets {
                let set = norm.place(x, number);
                let (mean, factor) =
                    (simd.splat(self.statistics[2 * number]), simd.splat(self.statistics[2 * number + 1]));
                let terms = |pixel: usize, channel: usize, count: usize| {
                    let [x, dy] = [x, dy].map(|view| simd.load_up_to(view.pixel(pixel).add(channel), count));
                    let weight = simd.load_up_to(self.weight.as_ptr().add(channel), count);
                    [simd.mul(dy, weight), simd.mul(simd.sub(x, mean), factor)]
                };
                let sums = set.sums(simd, |pixel, channel, count| {
                    let [weighted, normalized] = terms(pixel, channel, count);
                    [weighted, simd.mul(weighted, normalized)]
                });
                let [middle, along] = sums.map(|sum| simd.splat((sum / set.len()) as f32));
                set.for_each::<S>(0..set.pixels, |pixel, channel, count| {
                    let [weighted, normalized] = terms(pixel, channel, count);
                    let around = simd.sub(simd.sub(weighted, middle), simd.mul(normalized, along));
                    simd.store_up_to(dx.pixel(pixel).add(channel), simd.mul(around, factor), count);
                });
            }
        }
    }
}

/// The sums of dy n and of dy.
struct Gradients<'a> {
    x: View4<'a>,
    dy: View4<'a>,
    /// Pixels of an image.
    pixels: usize,
    /// With one group, read as they are.
    statistics: &'a [f32],
    /// Means and factors of the channels of each image; none with one group.
    spread: &'a [f32],
    product: *mut f32,
    sum: *mut f32,
}

// SAFETY: the arrays belong to the part that made the pass, which runs on one thread.
unsafe impl Sync for Gradients<'_> {}

impl Pass for Gradients<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const PIXELS: usize>(&self, simd: S, place: Place) {
        let (mut product, mut sum) = (simd.zero(), simd.zero());
        let channels = self.x.c();
        // SAFETY: the caller vouches for the place; statistics and what is spread of them have all images.
        unsafe {
            for p in 0..PIXELS {
                let image = place.pixel(p) / self.pixels;
                let [mean, factor] = if self.spread.is_empty() {
                    [0, 1].map(|at| simd.splat(*self.statistics.get_unchecked(2 * image + at)))
                } else {
                    let spread = self.spread.get_unchecked(2 * image * channels..2 * (image + 1) * channels);
                    let (means, factors) = spread.split_at(channels);
                    [place.of(simd, means), place.of(simd, factors)]
                };
                let [x, dy] = [self.x, self.dy].map(|view| place.read(simd, view, p));
                product = simd.mul_add(dy, simd.mul(simd.sub(x, mean), factor), product);
                sum = simd.add(sum, dy);
            }
            place.add_to(simd, self.product, product);
            place.add_to(simd, self.sum, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Tensor, assert_matches, assert_threads_agree, on_every_isa};
    use fovea_reference::GroupNorm as Reference;
    use fovea_reference::check::{dot, finite_difference, narrow, uniform, widen};

    /// Shapes and groups: segments shorter than a vector, of some vectors, of one channel, and pixels by themselves.
    const CASES: [([usize; 4], usize); 8] = [
        ([1, 1, 3, 2], 1),
        ([2, 3, 5, 6], 3),
        ([3, 2, 2, 17], 1),
        ([2, 4, 3, 33], 11),
        ([2, 7, 5, 64], 4),
        ([40, 1, 1, 21], 1),
        ([1, 9, 8, 5], 5),
        ([2, 40, 37, 36], 2),
    ];

    fn reference(shape: [usize; 4], groups: usize) -> Reference {
        Reference { images: shape[0], channels: shape[3], groups, epsilon: 1e-5 }
    }

    #[test]
    fn values_and_gradients_equal_the_reference() {
        for ((shape, groups), gap) in CASES.into_iter().flat_map(|case| [(case, 0), (case, 3)]) {
            let channels = shape[3];
            let (x, dy) = (Tensor::uniform(1, shape, gap), Tensor::uniform(2, shape, 1));
            let [weight, bias] = [3, 4].map(|seed| uniform(seed, channels));
            let reference = reference(shape, groups);
            let expected = reference.forward(&x.wide(), &widen(&weight), &widen(&bias));
            let gradients = reference.backward(&x.wide(), &dy.wide(), &widen(&weight));
            let norm = GroupNorm { groups, epsilon: 1e-5 };
            on_every_isa(|context| {
                let (mut y, mut dx) = (Tensor::unwritten(shape, 1), Tensor::unwritten(shape, 0));
                let mut statistics = vec![f32::NAN; norm.statistics_len(shape)];
                norm.forward(context, x.view(), [&weight, &bias], &mut statistics, y.view_mut());
                assert_matches(&y.values(), &expected, 3e-6);
                norm.backward_input(context, [x.view(), dy.view()], &weight, &statistics, dx.view_mut());
                // A set of few values divides rounding by its deviation.
                assert_matches(&dx.values(), &gradients.dx, 2e-5);
                let [mut dweight, mut dbias] = [0, 1].map(|_| vec![f32::NAN; channels]);
                let mut scratch = vec![f32::NAN; norm.scratch_len(shape)];
                let both = [x.view(), dy.view()];
                norm.backward_weight(context, both, &statistics, [&mut dweight, &mut dbias], &mut scratch);
                assert_matches(&dweight, &gradients.dweight, 1e-5);
                assert_matches(&dbias, &gradients.dbias, 1e-5);
                let (mut on_x, mut on_dy) = (x.clone(), dy.clone());
                let (from, to) = on_x.in_place();
                norm.forward(context, from, [&weight, &bias], &mut statistics, to);
                let (from, to) = on_dy.in_place();
                norm.backward_input(context, [x.view(), from], &weight, &statistics, to);
                assert_eq!([on_x.values(), on_dy.values()], [y.values(), dx.values()]);
            });
        }
    }

    #[test]
    fn gradients_equal_finite_differences_of_the_forward_pass() {
        let (shape, norm) = ([2, 2, 3, 6], GroupNorm { groups: 2, epsilon: 1e-5 });
        let (x, dy) = (Tensor::uniform(1, shape, 0), Tensor::uniform(2, shape, 0));
        let [weight, bias] = [3, 4].map(|seed| uniform(seed, 6));
        on_every_isa(|context| {
            let mut statistics = vec![0.0; norm.statistics_len(shape)];
            let mut loss = |x: &[f64]| {
                let (x, mut y) = (Tensor::new(&narrow(x), shape, 0), Tensor::unwritten(shape, 0));
                norm.forward(context, x.view(), [&weight, &bias], &mut statistics, y.view_mut());
                dot(&y.wide(), &dy.wide())
            };
            let numeric = finite_difference(&x.wide(), 1.0 / 256.0, &mut loss);
            loss(&x.wide());
            let mut dx = Tensor::unwritten(shape, 0);
            norm.backward_input(context, [x.view(), dy.view()], &weight, &statistics, dx.view_mut());
            assert_matches(&dx.values(), &numeric, 2e-3);
        });
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        for (shape, groups) in [([5, 40, 40, 24], 6), ([900, 1, 1, 200], 1)] {
            let norm = GroupNorm { groups, epsilon: 1e-5 };
            let (x, dy) = (Tensor::uniform(1, shape, 0), Tensor::uniform(2, shape, 0));
            let [weight, bias] = [3, 4].map(|seed| uniform(seed, shape[3]));
            assert_threads_agree(|context| {
                let (mut y, mut dx) = (Tensor::unwritten(shape, 0), Tensor::unwritten(shape, 0));
                let mut statistics = vec![0.0; norm.statistics_len(shape)];
                norm.forward(context, x.view(), [&weight, &bias], &mut statistics, y.view_mut());
                norm.backward_input(context, [x.view(), dy.view()], &weight, &statistics, dx.view_mut());
                let [mut dweight, mut dbias] = [0, 1].map(|_| vec![0.0; shape[3]]);
                let mut scratch = vec![0.0; norm.scratch_len(shape)];
                let both = [x.view(), dy.view()];
                norm.backward_weight(context, both, &statistics, [&mut dweight, &mut dbias], &mut scratch);
                [y.values(), dx.values(), dweight, dbias].concat()
            });
        }
    }
}
