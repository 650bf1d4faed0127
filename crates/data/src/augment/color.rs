//! What values pixels have: light, colours and their scale.

use super::Draws;

/// ITU-R 601's weights of red, green and blue, as torchvision rounds them.
const LUMINANCE: [f32; 3] = [0.2989, 0.587, 0.114];

/// Changes brightness, contrast and saturation by factors from 1 - its number to 1 + its number, in a random
/// order. Values stay within 0 to 1. An image of one channel has no saturation to change.
pub(super) fn jitter(draws: &mut Draws, values: &mut [f32], channels: usize, most: [f32; 3]) {
    let [a, b, c, order] = draws.uniforms();
    let factor = |most: f32, share: f32| {
        let least = (1.0 - most).max(0.0);
        least + (1.0 + most - least) * share
    };
    let factors = [factor(most[0], a), factor(most[1], b), factor(most[2], c)];
    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for change in ORDERS[(order * 6.0) as usize % 6] {
        let factor = factors[change];
        match change {
            _ if most[change] == 0.0 => {}
            0 => blend(values, factor, 0.0),
            1 => blend(values, factor, mean_luminance(values, channels)),
            _ if channels == 3 => {
                for pixel in values.as_chunks_mut::<3>().0 {
                    let grey = luminance(pixel);
                    *pixel = pixel.map(|value| mixed(value, factor, grey));
                }
            }
            _ => {}
        }
    }
}

/// Subtracts each channel's mean and divides what is left by its deviation.
pub(super) fn normalize(values: &mut [f32], mean: &[f32], deviation: &[f32]) {
    // Channels of a known number let the compiler make vectors of them.
    if let ([m0, m1, m2], [d0, d1, d2]) = (mean, deviation) {
        for [v0, v1, v2] in values.as_chunks_mut::<3>().0 {
            (*v0, *v1, *v2) = ((*v0 - m0) / d0, (*v1 - m1) / d1, (*v2 - m2) / d2);
        }
        return;
    }
    for pixel in values.chunks_exact_mut(mean.len()) {
        for (value, (mean, deviation)) in pixel.iter_mut().zip(mean.iter().zip(deviation)) {
            *value = (*value - mean) / deviation;
        }
    }
}

fn blend(values: &mut [f32], factor: f32, other: f32) {
    values.iter_mut().for_each(|value| *value = mixed(*value, factor, other));
}

/// `factor` parts of a value and the rest of another, within 0 to 1.
fn mixed(value: f32, factor: f32, other: f32) -> f32 {
    (factor * value + (1.0 - factor) * other).clamp(0.0, 1.0)
}

fn luminance(pixel: &[f32; 3]) -> f32 {
    LUMINANCE[0] * pixel[0] + LUMINANCE[1] * pixel[1] + LUMINANCE[2] * pixel[2]
}

fn mean_luminance(values: &[f32], channels: usize) -> f32 {
    let (sum, count) = if channels == 3 {
        let pixels = values.as_chunks::<3>().0;
        (pixels.iter().map(|pixel| f64::from(luminance(pixel))).sum::<f64>(), pixels.len())
    } else {
        (values.iter().map(|&value| f64::from(value)).sum(), values.len())
    };
    (sum / count as f64) as f32
}
