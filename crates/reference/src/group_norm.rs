//! Group normalisation as `torch.nn.GroupNorm`; with one group and images of one pixel, layer normalisation of
//! the channels of each pixel.
//!
//! Shapes: x `[images, pixels, channels]`; weight and bias `[channels]`.

/// Hyperparameters and sizes.
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm {
    /// Images, each normalised by itself.
    pub images: usize,
    /// Channels of a pixel.
    pub channels: usize,
    /// Groups of neighbouring channels; they divide the channels.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f64,
}

/// Gradients of a group normalisation.
pub struct Gradients {
    /// Of x.
    pub dx: Vec<f64>,
    /// Of weight.
    pub dweight: Vec<f64>,
    /// Of bias.
    pub dbias: Vec<f64>,
}

impl GroupNorm {
    /// `(x - mean) / sqrt(variance + epsilon) * weight + bias`, mean and biased variance being those of the
    /// group.
    pub fn forward(&self, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let (normalized, _) = self.normalized(x);
        let channels = (0..self.channels).cycle();
        normalized.iter().zip(channels).map(|(x, c)| x * weight[c] + bias[c]).collect()
    }

    /// The gradients, of x through the statistics, too.
    pub fn backward(&self, x: &[f64], dy: &[f64], weight: &[f64]) -> Gradients {
        let (normalized, deviations) = self.normalized(x);
        let (mut dweight, mut dbias) = (vec![0.0; self.channels], vec![0.0; self.channels]);
        let mut means = vec![[0.0; 2]; self.images * self.groups];
        let count = (x.len() / means.len()) as f64;
        for (at, (&dy, &x)) in dy.iter().zip(&normalized).enumerate() {
            let c = at % self.channels;
            dbias[c] += dy;
            dweight[c] += dy * x;
            let means = &mut means[self.group(at, normalized.len())];
            means[0] += dy * weight[c] / count;
            means[1] += dy * weight[c] * x / count;
        }
        let dx = dy.iter().zip(&normalized).enumerate().map(|(at, (&dy, &x))| {
            let group = self.group(at, normalized.len());
            let [mean, along] = means[group];
            (dy * weight[at % self.channels] - mean - x * along) / deviations[group]
        });
        Gradients { dx: dx.collect(), dweight, dbias }
    }

    /// The square root of each group's variance and epsilon, image by image.
    pub fn deviations(&self, x: &[f64]) -> Vec<f64> {
        self.normalized(x).1
    }

    /// The group that an element is in, counted over all images.
    fn group(&self, at: usize, len: usize) -> usize {
        let (image, channel) = (at / (len / self.images), at % self.channels);
        image * self.groups + channel / (self.channels / self.groups)
    }

    /// x with mean 0 and variance 1 in each group, and the square roots of the groups' variances.
    fn normalized(&self, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let groups = self.images * self.groups;
        let count = (x.len() / groups) as f64;
        let sums = |of: &dyn Fn(usize) -> f64| {
            let mut sums = vec![0.0; groups];
            (0..x.len()).for_each(|at| sums[self.group(at, x.len())] += of(at) / count);
            sums
        };
        let means = sums(&|at| x[at]);
        let variances = sums(&|at| (x[at] - means[self.group(at, x.len())]).powi(2));
        let deviations: Vec<f64> =
            variances.iter().map(|variance| (variance + self.epsilon).sqrt()).collect();
        let normalized = (0..x.len()).map(|at| {
            let group = self.group(at, x.len());
            (x[at] - means[group]) / deviations[group]
        });
        (normalized.collect(), deviations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_close, dot, finite_difference, uniform, widen};

    #[test]
    fn each_group_of_an_image_has_mean_zero_and_variance_one() {
        let norm = GroupNorm { images: 2, channels: 2, groups: 1, epsilon: 0.0 };
        let y = norm.forward(&[1.0, 3.0, 5.0, 9.0], &[1.0, 2.0], &[0.0, 10.0]);
        assert_close(&y, &[-1.0, 12.0, -1.0, 12.0], 1e-12);
        let norm = GroupNorm { images: 1, channels: 2, groups: 2, epsilon: 0.0 };
        let y = norm.forward(&[1.0, 3.0, 5.0, 9.0], &[1.0, 1.0], &[0.0, 0.0]);
        assert_close(&y, &[-1.0, -1.0, 1.0, 1.0], 1e-12);
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let norm = GroupNorm { images: 2, channels: 6, groups: 3, epsilon: 1e-5 };
        let [x, dy] = [1, 2].map(|seed| widen(&uniform(seed, 2 * 5 * 6)));
        let [weight, bias] = [3, 4].map(|seed| widen(&uniform(seed, 6)));
        let loss = |x: &[f64], weight: &[f64], bias: &[f64]| dot(&norm.forward(x, weight, bias), &dy);
        let gradients = norm.backward(&x, &dy, &weight);
        assert_close(&gradients.dx, &finite_difference(&x, 1e-5, |x| loss(x, &weight, &bias)), 1e-7);
        let dweight = finite_difference(&weight, 1e-5, |weight| loss(&x, weight, &bias));
        assert_close(&gradients.dweight, &dweight, 1e-7);
        let dbias = finite_difference(&bias, 1e-5, |bias| loss(&x, &weight, bias));
        assert_close(&gradients.dbias, &dbias, 1e-7);
    }
}
