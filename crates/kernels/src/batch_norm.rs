//! Batch normalisation over the channels.
//!
//! ```text
//! mean, variance over all pixels of a channel        (biased)
//! y = activation((x - mean) / sqrt(variance + epsilon) * weight + bias [+ residual])
//! ```
//!
//! | pass | functions |
//! |---|---|
//! | training, forward | [`statistics`], [`affine`], [`normalize`] |
//! | inference | [`running_affine`], [`normalize`] |
//! | backward | [`backward_sums`] for weight, bias and residual, then [`backward_input`] |
//!
//! Between the passes stand two small arrays: `saved`, the mean of each channel (c floats) and 1 / sqrt(variance +
//! epsilon) (c floats), and `affine`, scale (c) and shift (c) with which x * scale + shift is the normalised value with
//! weight and bias applied.
//!
//! Shapes: x, y, dy, dx `[n, h, w, c]` with any pixel strides; weight, bias and their gradients `[c]`.
//!
//! Source: Ioffe, Szegedy, arXiv:1502.03167. Equals PyTorch's `BatchNorm2d`.

use crate::{Activation, Context, View4, ViewMut4};

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

/// Floats of scratch memory that [`statistics`] and [`backward_sums`] need for a tensor of this shape.
pub fn scratch_len(shape: [usize; 4]) -> usize {
    2 * shape[3]
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
    let _ = context;
    for channel in 0..channels {
        let values = (0..pixels).map(|pixel| f64::from(at(x, pixel, channel)));
        let mean = values.clone().sum::<f64>() / pixels as f64;
        let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / pixels as f64;
        saved[channel] = mean as f32;
        saved[channels + channel] = (1.0 / (variance + f64::from(epsilon)).sqrt()) as f32;
        let unbiased = variance * pixels as f64 / (pixels - 1).max(1) as f64;
        let momentum = f64::from(running.momentum);
        let follow = |running: &mut f32, batch: f64| {
            *running = ((1.0 - momentum) * f64::from(*running) + momentum * batch) as f32;
        };
        follow(&mut running.mean[channel], mean);
        follow(&mut running.variance[channel], unbiased);
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
    let _ = context;
    for (pixel, channel) in (0..x.pixels()).flat_map(|pixel| (0..channels).map(move |c| (pixel, c))) {
        let mut z = at(x, pixel, channel).mul_add(affine[channel], affine[channels + channel]);
        z += residual.map_or(0.0, |residual| at(residual, pixel, channel));
        if activation == Activation::Relu && z <= 0.0 {
            z = 0.0;
        }
        put(&y, pixel, channel, z);
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
#[allow(clippy::too_many_arguments)]
pub fn backward_sums(
    context: Context,
    x: View4,
    dy: View4,
    mask: Mask,
    saved: &[f32],
    affine: &[f32],
    dweight: &mut [f32],
    dbias: &mut [f32],
    dresidual: Option<ViewMut4>,
    scratch: &mut [f32],
) {
    let channels = x.c();
    check_backward(x, dy, mask, saved, affine);
    assert!(dresidual.as_ref().is_none_or(|d| d.shape() == x.shape()), "shape of dresidual");
    assert_eq!([dweight.len(), dbias.len()], [channels; 2], "length of dweight or dbias");
    assert!(scratch.len() >= scratch_len(x.shape()), "length of the scratch memory");
    let _ = context;
    for channel in 0..channels {
        let (mut sum, mut product) = (0.0, 0.0);
        for pixel in 0..x.pixels() {
            let dz = masked(x, dy, mask, affine, pixel, channel);
            if let Some(dresidual) = &dresidual {
                put(dresidual, pixel, channel, dz);
            }
            sum += f64::from(dz);
            product += f64::from(dz) * f64::from(at(x, pixel, channel) - saved[channel]);
        }
        dbias[channel] = sum as f32;
        dweight[channel] = (product * f64::from(saved[channels + channel])) as f32;
    }
}

/// dx = scale * (dz - dbias / pixels - x' * dweight / pixels), where dz is the masked dy, x' the normalised x, and the
/// gradients those of [`backward_sums`]. dx may be the memory of dy. After `backward_sums` with a dresidual, that is dz
/// and the mask [`Mask::None`].
///
/// # Panics
/// If shapes or lengths differ.
#[allow(clippy::too_many_arguments)]
pub fn backward_input(
    context: Context,
    x: View4,
    dy: View4,
    mask: Mask,
    saved: &[f32],
    affine: &[f32],
    dweight: &[f32],
    dbias: &[f32],
    dx: ViewMut4,
) {
    let (pixels, channels) = (x.pixels(), x.c());
    check_backward(x, dy, mask, saved, affine);
    assert_eq!(dx.shape(), x.shape(), "shape of dx");
    assert_eq!([dweight.len(), dbias.len()], [channels; 2], "length of dweight or dbias");
    let _ = context;
    for (pixel, channel) in (0..pixels).flat_map(|pixel| (0..channels).map(move |c| (pixel, c))) {
        let dz = masked(x, dy, mask, affine, pixel, channel);
        let normalized = (at(x, pixel, channel) - saved[channel]) * saved[channels + channel];
        let mean = (dbias[channel] + normalized * dweight[channel]) / pixels as f32;
        put(&dx, pixel, channel, affine[channel] * (dz - mean));
    }
}

fn check_backward(x: View4, dy: View4, mask: Mask, saved: &[f32], affine: &[f32]) {
    let shapes = match mask {
        Mask::Output(y) => [dy.shape(), y.shape()],
        _ => [dy.shape(); 2],
    };
    assert_eq!(shapes, [x.shape(); 2], "different shapes");
    assert_eq!([saved.len(), affine.len()], [2 * x.c(); 2], "length of saved or affine");
}

fn masked(x: View4, dy: View4, mask: Mask, affine: &[f32], pixel: usize, channel: usize) -> f32 {
    let kept = match mask {
        Mask::None => true,
        Mask::Recompute => {
            at(x, pixel, channel).mul_add(affine[channel], affine[affine.len() / 2 + channel]) > 0.0
        }
        Mask::Output(y) => at(y, pixel, channel) > 0.0,
    };
    if kept { at(dy, pixel, channel) } else { 0.0 }
}

fn at(view: View4, pixel: usize, channel: usize) -> f32 {
    assert!(pixel < view.pixels() && channel < view.c());
    // SAFETY: the element is one of the view.
    unsafe { *view.pixel(pixel).add(channel) }
}

fn put(view: &ViewMut4, pixel: usize, channel: usize, value: f32) {
    assert!(pixel < view.pixels() && channel < view.c());
    // SAFETY: the element is one of the view.
    unsafe { *view.pixel(pixel).add(channel) = value };
}
