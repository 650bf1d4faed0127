//! Batch normalisation over the channels.
//!
//! ```text
//! mean, variance over all pixels of a channel        (biased)
//! y = activation((x - mean) / sqrt(variance + epsilon) * weight + bias [+ residual])
//! ```
//!
//! | pass | functions |
//! |---|---|
//! | training, forward | [`statistics`] or [`statistics_from_moments`], [`affine`], [`normalize`] |
//! | inference | [`running_affine`], [`normalize`] |
//! | backward | [`backward_sums`] for weight, bias and residual, then [`backward_input`] |
//!
//! Between the passes stand two small arrays: `saved`, the mean of each channel (c floats) and 1 /
//! sqrt(variance + epsilon) (c floats), and `affine`, scale (c) and shift (c) with which x * scale + shift is
//! the normalised value with weight and bias applied.
//!
//! Shapes: x, y, dy, dx `[n, h, w, c]` with any pixel strides; weight, bias and their gradients `[c]`.
//!
//! Sums over the pixels are taken in f32 for short runs of them, of differences from a pivot near the mean, so
//! that a mean far larger than the deviation costs the variance no digits; the runs are added without loss, in
//! order. So the mean has nearly every digit that an f32 number holds: a ReLU behind the normalisation decides
//! by the sign of values next to 0.
//!
//! Source: Ioffe, Szegedy, arXiv:1502.03167. Equals PyTorch's `BatchNorm2d`.

mod passes;
#[cfg(test)]
mod tests;

use crate::activation::WithFunction;
use crate::channelwise::{self, Sums};
use crate::conv2d::moments::{self, Totals};
use crate::elementwise::Elementwise;
use crate::parts::Parts;
use crate::threads::Shareable;
use crate::{Activation, Context, View4, ViewMut4};
use passes::{Affine, BackwardInput, BackwardSums, Normalize, Open, Output, Recompute, Squares};

/// Statistics for inference, which follow those of the batches.
#[derive(Debug)]
pub struct Running<'a> {
    /// Mean of each channel.
    pub mean: &'a mut [f32],
    /// Unbiased variance of each channel.
    pub variance: &'a mut [f32],
    /// Share of the new batch: running = (1 - momentum) running + momentum batch.
    pub momentum: f32,
}

/// Where the activation after the normalisation let the gradient through.
#[derive(Clone, Copy, Debug)]
pub enum Mask<'a> {
    /// Everywhere: no activation.
    None,
    /// Where x * scale + shift > 0, a ReLU without residual: y is not read.
    Recompute,
    /// Where this y > 0: a ReLU after the residual.
    Output(View4<'a>),
}

/// What both backward passes read.
#[derive(Clone, Copy, Debug)]
pub struct Backward<'a> {
    /// What was normalised.
    pub x: View4<'a>,
    /// The gradient of y.
    pub dy: View4<'a>,
    /// What of it passes.
    pub mask: Mask<'a>,
    /// From [`statistics`], [`statistics_from_moments`] or [`running`].
    pub saved: &'a [f32],
    /// From [`affine`].
    pub affine: &'a [f32],
}

/// Floats of scratch memory that [`statistics`] and [`backward_sums`] need for a tensor of this shape.
pub fn scratch_len(shape: [usize; 4]) -> usize {
    let [n, h, w, channels] = shape;
    // A pivot before the sums.
    channels + Sums::len(n * h * w, channels)
}

/// Mean and deviation of each channel of x, into `saved` and, as PyTorch does, into the running statistics: the
/// variance there is the unbiased one (of a single pixel 0).
///
/// # Panics
/// If x has no pixels or an array is not as long as the channels ask.
pub fn statistics(
    context: Context,
    x: View4,
    epsilon: f32,
    saved: &mut [f32],
    running: Running,
    scratch: &mut [f32],
) {
    let (pixels, channels) = (x.pixels(), x.c());
    assert!(pixels > 0, "statistics of no pixels");
    assert_eq!(saved.len(), 2 * channels, "length of saved");
    assert_eq!(
        [running.mean.len(), running.variance.len()],
        [channels; 2],
        "length of the running statistics"
    );
    assert!(scratch.len() >= scratch_len(x.shape()), "length of the scratch memory");
    let (pivot, scratch) = scratch.split_at_mut(channels);
    passes::pivot(x, pivot, &mut scratch[..channels]);
    let mut sums = Sums::new(x, scratch);
    sums.add_up(context, |sum, square| Squares { x, pivot, sum, square });
    let share = 1.0 / pixels as f64;
    let statistics = Statistics::new(pixels as f64, epsilon, saved, running);
    sums.finish(context, |channel, sum, squares| {
        let shift = sum * share;
        // SAFETY: the channel is this call's alone.
        unsafe {
            statistics.keep(channel, f64::from(pivot[channel]) + shift, squares * share - shift * shift);
        }
    });
}

/// As [`statistics`], from the moments that the convolution which wrote x has taken
/// ([`Conv2d::forward_with_moments`](crate::conv2d::Conv2d::forward_with_moments)): x is not read.
///
/// # Panics
/// If an array is not as long as the channels ask.
pub fn statistics_from_moments(
    context: Context,
    moments: &[f32],
    epsilon: f32,
    saved: &mut [f32],
    running: Running,
) {
    let channels = saved.len() / 2;
    assert_eq!(
        [running.mean.len(), running.variance.len()],
        [channels; 2],
        "length of the running statistics"
    );
    let pixels = moments::pixels(moments, channels);
    assert!(pixels > 0.0, "statistics of no pixels");
    let statistics = Statistics::new(pixels, epsilon, saved, running);
    let parts = Parts::new(
        channels.div_ceil(Totals::CHANNELS),
        4 * moments.len().div_ceil(channels) * Totals::CHANNELS,
    );
    context.pool.run(parts.count(), |_, part| {
        for group in parts.range(part) {
            let first = group * Totals::CHANNELS;
            let Totals { means, squares } = context.isa.run(Totals::of(moments, channels, first));
            for channel in first..channels.min(first + Totals::CHANNELS) {
                let at = channel - first;
                // SAFETY: the channel is this call's alone.
                unsafe { statistics.keep(channel, means[at], squares[at] / pixels) };
            }
        }
    });
}

/// Where the statistics of a batch go.
struct Statistics {
    saved: Shareable<f32>,
    channels: usize,
    epsilon: f64,
    mean: Shareable<f32>,
    variance: Shareable<f32>,
    momentum: f64,
    /// Unbiased variance over the biased one.
    unbiased: f64,
}

impl Statistics {
    /// Of arrays whose lengths the caller has checked.
    fn new(pixels: f64, epsilon: f32, saved: &mut [f32], running: Running) -> Self {
        let channels = saved.len() / 2;
        let [saved, mean, variance] = [saved, running.mean, running.variance].map(Shareable::new);
        let (epsilon, momentum) = (f64::from(epsilon), f64::from(running.momentum));
        let unbiased = pixels / (pixels - 1.0).max(1.0);
        Self { saved, channels, epsilon, mean, variance, momentum, unbiased }
    }

    /// Keeps those of a channel; rounding may have left a variance below zero.
    ///
    /// # Safety
    /// The channel is one of the arrays', and no other call has it at the same time.
    unsafe fn keep(&self, channel: usize, mean: f64, variance: f64) {
        let variance = if variance < 0.0 { 0.0 } else { variance };
        // SAFETY: the arrays have an element for each channel, `saved` two; the caller vouches for the rest.
        unsafe {
            *self.saved.pointer().add(channel) = mean as f32;
            let deviation = (variance + self.epsilon).sqrt();
            *self.saved.pointer().add(self.channels + channel) = (1.0 / deviation) as f32;
            for (running, batch) in [(self.mean, mean), (self.variance, variance * self.unbiased)] {
                let running = running.pointer().add(channel);
                *running = ((1.0 - self.momentum) * f64::from(*running) + self.momentum * batch) as f32;
            }
        }
    }
}

/// Mean and deviation of each channel from the running statistics, into `saved`: for the training of a network
/// in which this layer is frozen. Its gradient then passes as [`backward_input`] has it for gradients of weight
/// and bias that are zero.
///
/// # Panics
/// If an array is not as long as the channels ask.
pub fn running(mean: &[f32], variance: &[f32], epsilon: f32, saved: &mut [f32]) {
    let channels = mean.len();
    assert_eq!([variance.len(), saved.len()], [channels, 2 * channels], "length of an array of the channels");
    for channel in 0..channels {
        let deviation = (f64::from(variance[channel]) + f64::from(epsilon)).sqrt();
        saved[channel] = mean[channel];
        saved[channels + channel] = (1.0 / deviation) as f32;
    }
}

/// Scale and shift of each channel from the batch's statistics: for training.
///
/// # Panics
/// If an array is not as long as the channels ask.
pub fn affine(saved: &[f32], weight: &[f32], bias: &[f32], affine: &mut [f32]) {
    let channels = weight.len();
    assert_eq!([saved.len(), affine.len()], [2 * channels; 2], "length of saved or affine");
    assert_eq!(bias.len(), channels, "length of bias");
    for channel in 0..channels {
        let scale = saved[channels + channel] * weight[channel];
        affine[channel] = scale;
        affine[channels + channel] = (-saved[channel]).mul_add(scale, bias[channel]);
    }
}

/// Scale and shift of each channel from the running statistics: for inference.
///
/// # Panics
/// If an array is not as long as the channels ask.
pub fn running_affine(
    mean: &[f32],
    variance: &[f32],
    epsilon: f32,
    weight: &[f32],
    bias: &[f32],
    affine: &mut [f32],
) {
    let channels = weight.len();
    assert_eq!([mean.len(), variance.len(), bias.len()], [channels; 3], "length of an array of the channels");
    assert_eq!(affine.len(), 2 * channels, "length of affine");
    for channel in 0..channels {
        let deviation = (f64::from(variance[channel]) + f64::from(epsilon)).sqrt();
        let scale = f64::from(weight[channel]) / deviation;
        affine[channel] = scale as f32;
        affine[channels + channel] = (f64::from(bias[channel]) - f64::from(mean[channel]) * scale) as f32;
    }
}

/// y = activation(x * scale + shift [+ residual]). y may be the memory of x or of the residual.
///
/// # Panics
/// If shapes or lengths differ.
pub fn normalize(
    context: Context,
    x: View4,
    affine: &[f32],
    residual: Option<View4>,
    activation: Activation,
    y: ViewMut4,
) {
    let channels = x.c();
    assert!(x.shape() == y.shape() && residual.is_none_or(|r| r.shape() == y.shape()), "different shapes");
    assert_eq!(affine.len(), 2 * channels, "length of affine");
    activation.with(NormalizeThen { context, x, affine: Affine::new(affine), residual, y: &y });
}

/// [`normalize`], once the function is known.
struct NormalizeThen<'a> {
    context: Context<'a>,
    x: View4<'a>,
    affine: Affine<'a>,
    residual: Option<View4<'a>>,
    y: &'a ViewMut4<'a>,
}

impl WithFunction for NormalizeThen<'_> {
    #[inline(always)]
    fn call<F: Elementwise>(self, function: F) {
        let Self { context, x, affine, residual, y } = self;
        match residual {
            None => {
                let stream = channelwise::streams(y, &[x]);
                let pass = Normalize::<false, F> { x, affine, residual: x, function, y, stream };
                channelwise::run(context, x, pass);
            }
            Some(residual) => {
                let stream = channelwise::streams(y, &[x, residual]);
                let pass = Normalize::<true, F> { x, affine, residual, function, y, stream };
                channelwise::run(context, x, pass);
            }
        }
    }
}

/// Gradients of weight, bias and residual, from dy masked by the activation:
///
/// ```text
/// dresidual = dy where the mask lets it through, otherwise 0
/// dbias = sum of dresidual over the pixels
/// dweight = sum of dresidual * (x - mean) / sqrt(variance + epsilon)
/// ```
///
/// `dresidual` may be the memory of dy.
///
/// # Panics
/// If shapes or lengths differ.
pub fn backward_sums(
    context: Context,
    backward: Backward,
    dweight: &mut [f32],
    dbias: &mut [f32],
    dresidual: Option<ViewMut4>,
    scratch: &mut [f32],
) {
    let Backward { x, dy, mask, saved, affine } = backward;
    let channels = x.c();
    check_backward(backward);
    assert!(dresidual.as_ref().is_none_or(|d| d.shape() == x.shape()), "shape of dresidual");
    assert_eq!([dweight.len(), dbias.len()], [channels; 2], "length of dweight or dbias");
    assert!(scratch.len() >= scratch_len(x.shape()), "length of the scratch memory");
    let (mean, deviation) = saved.split_at(channels);
    let (affine, dresidual) = (Affine::new(affine), dresidual.as_ref());
    let mut sums = Sums::new(x, scratch);
    match mask {
        Mask::None => sums.add_up(context, |sum, product| BackwardSums {
            x,
            dy,
            gate: Open,
            mean,
            affine,
            dresidual,
            sum,
            product,
        }),
        Mask::Recompute => sums.add_up(context, |sum, product| BackwardSums {
            x,
            dy,
            gate: Recompute,
            mean,
            affine,
            dresidual,
            sum,
            product,
        }),
        Mask::Output(y) => sums.add_up(context, |sum, product| BackwardSums {
            x,
            dy,
            gate: Output(y),
            mean,
            affine,
            dresidual,
            sum,
            product,
        }),
    }
    let [dweight, dbias] = [dweight, dbias].map(Shareable::new);
    sums.finish(context, |channel, sum, product| {
        // SAFETY: both arrays have an element for each channel, which is this call's alone.
        unsafe {
            *dbias.pointer().add(channel) = sum as f32;
            *dweight.pointer().add(channel) = (product * f64::from(deviation[channel])) as f32;
        }
    });
}

/// dx = scale * (dz - dbias / pixels - x' * dweight / pixels), where dz is the masked dy, x' the normalised x,
/// and the gradients those of [`backward_sums`]. dx may be the memory of dy or of x. After `backward_sums` with
/// a dresidual, that is dz and the mask [`Mask::None`].
///
/// # Panics
/// If shapes or lengths differ.
pub fn backward_input(context: Context, backward: Backward, dweight: &[f32], dbias: &[f32], dx: ViewMut4) {
    let Backward { x, dy, mask, saved, affine } = backward;
    let channels = x.c();
    check_backward(backward);
    assert_eq!(dx.shape(), x.shape(), "shape of dx");
    assert_eq!([dweight.len(), dbias.len()], [channels; 2], "length of dweight or dbias");
    let ((mean, deviation), affine, dx) = (saved.split_at(channels), Affine::new(affine), &dx);
    let stream = channelwise::streams(dx, &[x, dy]);
    match mask {
        Mask::None => channelwise::run(
            context,
            x,
            BackwardInput { x, dy, gate: Open, mean, deviation, affine, dweight, dbias, dx, stream },
        ),
        Mask::Recompute => channelwise::run(
            context,
            x,
            BackwardInput { x, dy, gate: Recompute, mean, deviation, affine, dweight, dbias, dx, stream },
        ),
        Mask::Output(y) => channelwise::run(
            context,
            x,
            BackwardInput { x, dy, gate: Output(y), mean, deviation, affine, dweight, dbias, dx, stream },
        ),
    }
}

fn check_backward(Backward { x, dy, mask, saved, affine }: Backward) {
    let shapes = match mask {
        Mask::Output(y) => [dy.shape(), y.shape()],
        _ => [dy.shape(); 2],
    };
    assert_eq!(shapes, [x.shape(); 2], "different shapes");
    assert_eq!([saved.len(), affine.len()], [2 * x.c(); 2], "length of saved or affine");
}
