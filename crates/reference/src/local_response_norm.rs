//! Local response normalisation across channels as `torch.nn.LocalResponseNorm`.
//!
//! Shapes: x `[pixels, channels]`, all pixels of all images.

use serde::Deserialize;
use std::ops::Range;

/// Hyperparameters: `y = x / (k + alpha / size * sum of the squares of the window)^beta`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalResponseNorm {
    /// Channels of a window: size / 2 before, (size - 1) / 2 behind.
    pub size: usize,
    /// Weight of the mean square.
    pub alpha: f64,
    /// Exponent.
    pub beta: f64,
    /// Added to the weighted mean square.
    pub k: f64,
}

impl LocalResponseNorm {
    /// The normalised values.
    pub fn forward(&self, x: &[f64], channels: usize) -> Vec<f64> {
        let pixels = x.chunks_exact(channels);
        pixels.flat_map(|x| (0..channels).map(|i| x[i] * self.base(x, i).powf(-self.beta))).collect()
    }

    /// Gradient of x.
    pub fn backward(&self, x: &[f64], dy: &[f64], channels: usize) -> Vec<f64> {
        let mut dx = vec![0.0; x.len()];
        let pixels =
            dx.chunks_exact_mut(channels).zip(x.chunks_exact(channels)).zip(dy.chunks_exact(channels));
        for ((dx, x), dy) in pixels {
            for i in 0..channels {
                let base = self.base(x, i);
                dx[i] += dy[i] * base.powf(-self.beta);
                for j in self.window(i, channels) {
                    // y_i depends on x_j by the square in its base
                    let slope = self.alpha / self.size as f64 * 2.0 * x[j];
                    dx[j] -= dy[i] * x[i] * self.beta * base.powf(-self.beta - 1.0) * slope;
                }
            }
        }
        dx
    }

    fn window(&self, channel: usize, channels: usize) -> Range<usize> {
        channel.saturating_sub(self.size / 2)..channels.min(channel + (self.size - 1) / 2 + 1)
    }

    fn base(&self, x: &[f64], channel: usize) -> f64 {
        let squares: f64 = x[self.window(channel, x.len())].iter().map(|x| x * x).sum();
        self.k + self.alpha / self.size as f64 * squares
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_close, dot, finite_difference, uniform, widen};

    #[test]
    fn a_window_of_two_reaches_one_channel_back() {
        let norm = LocalResponseNorm { size: 2, alpha: 2.0, beta: 1.0, k: 1.0 };
        // squares 1, 4, 9: bases 1 + 1, 1 + 5, 1 + 13
        assert_close(&norm.forward(&[1.0, 2.0, 3.0], 3), &[1.0 / 2.0, 2.0 / 6.0, 3.0 / 14.0], 1e-12);
    }

    #[test]
    fn the_gradient_equals_a_finite_difference() {
        for (size, beta) in [(5, 0.75), (4, 0.5), (1, 2.0), (15, 0.75)] {
            let norm = LocalResponseNorm { size, alpha: 0.9, beta, k: 1.5 };
            let [x, dy] = [1, 2].map(|seed| widen(&uniform(seed, 21)));
            let numeric = finite_difference(&x, 1e-5, |x| dot(&norm.forward(x, 7), &dy));
            assert_close(&norm.backward(&x, &dy, 7), &numeric, 1e-9);
        }
    }
}
