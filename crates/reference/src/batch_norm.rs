//! Batch normalisation as `torch.nn.BatchNorm2d`.
//!
//! Shapes: x `[pixels, channels]`, all pixels of all images; weight, bias and statistics `[channels]`.

use serde::Deserialize;

/// Hyperparameters.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {
    /// Added to the variance.
    pub epsilon: f64,
    /// Share of the new batch in the running statistics.
    pub momentum: f64,
}

/// Gradients of a batch normalisation.
pub struct Gradients {
    /// Of x.
    pub dx: Vec<f64>,
    /// Of weight.
    pub dweight: Vec<f64>,
    /// Of bias.
    pub dbias: Vec<f64>,
}

impl BatchNorm {
    /// Mean and biased variance of each channel.
    pub fn statistics(&self, x: &[f64], channels: usize) -> [Vec<f64>; 2] {
        let pixels = (x.len() / channels) as f64;
        let mean: Vec<f64> =
            (0..channels).map(|c| x.iter().skip(c).step_by(channels).sum::<f64>() / pixels).collect();
        let squares =
            |c: usize| x.iter().skip(c).step_by(channels).map(|x| (x - mean[c]).powi(2)).sum::<f64>();
        let variance = (0..channels).map(|c| squares(c) / pixels).collect();
        [mean, variance]
    }

    /// The running mean and variance after a batch of `pixels` pixels with these statistics: the unbiased
    /// variance.
    pub fn follow(&self, running: [&[f64]; 2], batch: &[Vec<f64>; 2], pixels: usize) -> [Vec<f64>; 2] {
        let unbiased = pixels as f64 / (pixels - 1) as f64;
        let mix = |running: &[f64], batch: &[f64], factor: f64| {
            let pairs = running.iter().zip(batch);
            pairs.map(|(old, new)| (1.0 - self.momentum) * old + self.momentum * factor * new).collect()
        };
        [mix(running[0], &batch[0], 1.0), mix(running[1], &batch[1], unbiased)]
    }

    /// `(x - mean) / sqrt(variance + epsilon) * weight + bias`.
    pub fn normalize(&self, x: &[f64], statistics: &[Vec<f64>; 2], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let channel = (0..weight.len()).cycle();
        x.iter().zip(channel).map(|(x, c)| self.normalized(*x, statistics, c) * weight[c] + bias[c]).collect()
    }

    /// The gradients of a normalisation by the batch's own statistics.
    pub fn backward(&self, x: &[f64], dy: &[f64], weight: &[f64]) -> Gradients {
        let channels = weight.len();
        let statistics = self.statistics(x, channels);
        let pixels = (x.len() / channels) as f64;
        let (mut dweight, mut dbias) = (vec![0.0; channels], vec![0.0; channels]);
        for ((x, dy), c) in x.iter().zip(dy).zip((0..channels).cycle()) {
            dbias[c] += dy;
            dweight[c] += dy * self.normalized(*x, &statistics, c);
        }
        let dx = x.iter().zip(dy).zip((0..channels).cycle()).map(|((x, dy), c)| {
            let mean = (dbias[c] + self.normalized(*x, &statistics, c) * dweight[c]) / pixels;
            weight[c] / (statistics[1][c] + self.epsilon).sqrt() * (dy - mean)
        });
        Gradients { dx: dx.collect(), dweight, dbias }
    }

    fn normalized(&self, x: f64, [mean, variance]: &[Vec<f64>; 2], channel: usize) -> f64 {
        (x - mean[channel]) / (variance[channel] + self.epsilon).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_close, dot, finite_difference, uniform, widen};

    const NORM: BatchNorm = BatchNorm { epsilon: 1e-5, momentum: 0.1 };

    #[test]
    fn two_values_become_minus_one_and_one() {
        let statistics = NORM.statistics(&[1.0, 10.0, 3.0, 30.0], 2);
        assert_eq!(statistics, [[2.0, 20.0], [1.0, 100.0]]);
        let y = NORM.normalize(&[1.0, 10.0, 3.0, 30.0], &statistics, &[1.0, 2.0], &[0.0, 5.0]);
        assert_close(&y, &[-1.0, 3.0, 1.0, 7.0], 1e-5);
        let running = NORM.follow([&[0.0; 2], &[1.0; 2]], &statistics, 2);
        assert_close(&running.concat(), &[0.2, 2.0, 1.1, 20.9], 1e-12);
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let [x, dy, weight, bias] = [24, 24, 3, 3].map(|length| widen(&uniform(length as u64, length)));
        let loss = |x: &[f64], weight: &[f64], bias: &[f64]| {
            dot(&NORM.normalize(x, &NORM.statistics(x, 3), weight, bias), &dy)
        };
        let gradients = NORM.backward(&x, &dy, &weight);
        let close = |actual: &[f64], expected: &[f64]| assert_close(actual, expected, 1e-8);
        close(&gradients.dx, &finite_difference(&x, 1e-5, |x| loss(x, &weight, &bias)));
        close(&gradients.dweight, &finite_difference(&weight, 1e-5, |weight| loss(&x, weight, &bias)));
        close(&gradients.dbias, &finite_difference(&bias, 1e-5, |bias| loss(&x, &weight, bias)));
    }
}
