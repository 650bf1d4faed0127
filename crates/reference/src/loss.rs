//! Losses as PyTorch defines them: `cross_entropy` with class indices or probabilities,
//! `binary_cross_entropy_with_logits` and `mse_loss`; and the maximum a posteriori criterion of LeCun et al.
//! 1998, equation 9.

use crate::activation::log_softmax;

/// What the outputs are compared with.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// A class for each image.
    Labels(&'a [u32]),
    /// A value for each output.
    Values(&'a [f64]),
}

impl Targets<'_> {
    /// The target of an output: its value, or whether it is the label's.
    fn at(&self, image: usize, class: usize, classes: usize) -> f64 {
        match self {
            Targets::Labels(labels) => f64::from(u8::from(labels[image] as usize == class)),
            Targets::Values(values) => values[image * classes + class],
        }
    }
}

/// A loss and its gradient.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Loss of each image.
    pub losses: Vec<f64>,
    /// What their sum is divided by.
    pub count: f64,
    /// Gradient of [`Loss::mean`] by the outputs.
    pub gradient: Vec<f64>,
}

impl Loss {
    /// What training minimises.
    pub fn mean(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.count
    }

    /// The sum over every output of its term, of which `each` also gives the gradient by this output.
    fn new(images: usize, classes: usize, count: f64, each: impl Fn(usize, usize) -> [f64; 2]) -> Self {
        let mut loss = Self { losses: Vec::new(), count, gradient: Vec::new() };
        for image in 0..images {
            let terms: Vec<_> = (0..classes).map(|class| each(image, class)).collect();
            loss.losses.push(terms.iter().map(|[term, _]| term).sum());
            loss.gradient.extend(terms.iter().map(|[_, gradient]| gradient / count));
        }
        loss
    }
}

/// What [`softmax_cross_entropy`] returns.
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// Loss of each image.
    pub losses: Vec<f64>,
    /// Gradient of the mean loss over the batch by the logits.
    pub dlogits: Vec<f64>,
}

impl CrossEntropy {
    /// The mean over the batch: what training minimises.
    pub fn mean(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.losses.len() as f64
    }
}

/// Cross-entropy between softmax(logits) and the smoothed labels: the label's class has the probability
/// `1 - label_smoothing + label_smoothing / classes`, every other `label_smoothing / classes`.
///
/// Shapes: logits [N, classes], labels [N] -> losses [N], dlogits [N, classes].
pub fn softmax_cross_entropy(
    logits: &[f64],
    labels: &[u32],
    classes: usize,
    label_smoothing: f64,
) -> CrossEntropy {
    let loss = cross_entropy(logits, Targets::Labels(labels), classes, label_smoothing, None);
    CrossEntropy { losses: loss.losses, dlogits: loss.gradient }
}

/// Cross-entropy between softmax(logits) and the smoothed targets, each class's term times its weight. With
/// labels, the mean is weighted as well: it is over the sum of the labels' weights.
///
/// Shapes: logits [N, classes], labels [N] or probabilities [N, classes], weights [classes].
pub fn cross_entropy(
    logits: &[f64],
    targets: Targets,
    classes: usize,
    label_smoothing: f64,
    class_weights: Option<&[f64]>,
) -> Loss {
    let images = logits.len() / classes;
    let weight = |class: usize| class_weights.map_or(1.0, |weights| weights[class]);
    let count = match targets {
        Targets::Labels(labels) => {
            assert_eq!(labels.len(), images, "Expected {classes} logits for each label.");
            assert!(
                labels.iter().all(|&label| (label as usize) < classes),
                "Expected labels below {classes}."
            );
            labels.iter().map(|&label| weight(label as usize)).sum()
        }
        Targets::Values(values) => {
            assert_eq!(values.len(), logits.len(), "Expected a probability for each logit.");
            images as f64
        }
    };
    let log_probabilities = log_softmax(logits, classes);
    let target = |image: usize, class: usize| {
        let certain = targets.at(image, class, classes) * (1.0 - label_smoothing);
        (certain + label_smoothing / classes as f64) * weight(class)
    };
    Loss::new(images, classes, count, |image, class| {
        let log_probability = log_probabilities[image * classes + class];
        let total: f64 = (0..classes).map(|class| target(image, class)).sum();
        let own = target(image, class);
        [-own * log_probability, total * log_probability.exp() - own]
    })
}

/// The maximum a posteriori criterion on scores, the negative penalties of a radial basis output:
/// `-s_label + log(e^-rejection + sum of e^s)`.
///
/// Shapes: scores [N, classes], labels [N] or shares of the classes [N, classes].
pub fn maximum_a_posteriori(scores: &[f64], targets: Targets, classes: usize, rejection: f64) -> Loss {
    let images = scores.len() / classes;
    // The rejection is one more class, whose target is always zero.
    let with_rejection = |image: usize| {
        let mut row = scores[image * classes..(image + 1) * classes].to_vec();
        row.push(-rejection);
        log_softmax(&row, classes + 1)
    };
    let rows: Vec<_> = (0..images).map(with_rejection).collect();
    Loss::new(images, classes, images as f64, |image, class| {
        let (own, log_probability) = (targets.at(image, class, classes), rows[image][class]);
        let total: f64 = (0..classes).map(|class| targets.at(image, class, classes)).sum();
        [-own * log_probability, total * log_probability.exp() - own]
    })
}

/// The mean over the outputs of `log(1 + e^x) - target x`: the cross-entropy of sigmoid(x) for each output by
/// itself.
///
/// Shapes: logits [N, values], targets [N, values] or labels [N], whose value is 1 and every other 0.
pub fn binary_cross_entropy(logits: &[f64], targets: Targets, values: usize) -> Loss {
    let images = logits.len() / values;
    Loss::new(images, values, images as f64, |image, index| {
        let (x, target) = (logits[image * values + index], targets.at(image, index, values));
        let loss = x.max(0.0) - x * target + (-x.abs()).exp().ln_1p();
        let sigmoid = 1.0 / (1.0 + (-x).exp());
        [loss / values as f64, (sigmoid - target) / values as f64]
    })
}

/// The mean over the outputs of `(x - target)^2`.
///
/// Shapes: as [`binary_cross_entropy`].
pub fn mean_squared_error(outputs: &[f64], targets: Targets, values: usize) -> Loss {
    let images = outputs.len() / values;
    Loss::new(images, values, images as f64, |image, index| {
        let difference = outputs[image * values + index] - targets.at(image, index, values);
        [difference * difference / values as f64, 2.0 * difference / values as f64]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_close, finite_difference, uniform, widen};

    #[test]
    fn the_loss_is_the_negative_logarithm_of_the_labels_probability() {
        let logits = [1.0f64.ln(), 3.0f64.ln(), 0.0, 0.0];
        let result = softmax_cross_entropy(&logits, &[1, 0], 2, 0.0);
        assert_close(&result.losses, &[-(0.75f64.ln()), 2.0f64.ln()], 1e-12);
        assert_close(&result.dlogits, &[0.125, -0.125, -0.25, 0.25], 1e-12);
        assert_close(&[result.mean()], &[(2.0f64.ln() - 0.75f64.ln()) / 2.0], 1e-12);
    }

    #[test]
    fn label_smoothing_shares_a_part_among_all_classes() {
        let result = softmax_cross_entropy(&[1.0f64.ln(), 3.0f64.ln()], &[1], 2, 0.2);
        assert_close(&result.losses, &[-0.9 * 0.75f64.ln() - 0.1 * 0.25f64.ln()], 1e-12);
        assert_close(&result.dlogits, &[0.15, -0.15], 1e-12);
    }

    #[test]
    fn class_weights_weigh_terms_and_mean() {
        let logits = [1.0f64.ln(), 3.0f64.ln(), 0.0, 0.0];
        let result = cross_entropy(&logits, Targets::Labels(&[1, 0]), 2, 0.0, Some(&[5.0, 2.0]));
        assert_close(&result.losses, &[-2.0 * 0.75f64.ln(), 5.0 * 2.0f64.ln()], 1e-12);
        assert_close(&[result.count], &[7.0], 1e-12);
    }

    #[test]
    fn the_rejection_is_one_more_class() {
        let result =
            maximum_a_posteriori(&[3.0f64.ln(), 1.0f64.ln()], Targets::Labels(&[0]), 2, -(4.0f64.ln()));
        assert_close(&result.losses, &[-(3.0f64 / 8.0).ln()], 1e-12);
    }

    #[test]
    fn the_elementwise_losses_are_means_over_the_outputs() {
        let targets = Targets::Values(&[1.0, 0.25]);
        let binary = binary_cross_entropy(&[0.0, 3.0f64.ln()], targets, 2);
        let expected = (-(0.5f64.ln()) - 0.25 * 0.75f64.ln() - 0.75 * 0.25f64.ln()) / 2.0;
        assert_close(&binary.losses, &[expected], 1e-12);
        let squares = mean_squared_error(&[3.0, 0.75], targets, 2);
        assert_close(&squares.losses, &[(4.0 + 0.25) / 2.0], 1e-12);
        let one_hot = mean_squared_error(&[3.0, 0.5], Targets::Labels(&[1]), 2);
        assert_close(&one_hot.losses, &[(9.0 + 0.25) / 2.0], 1e-12);
    }

    #[test]
    fn the_gradient_equals_finite_differences() {
        let x = widen(&uniform(3, 15));
        let values: Vec<_> = uniform(4, 15).iter().map(|value| f64::from(value.abs())).collect();
        let weights = [0.5, 2.0, 1.0, 0.1, 3.0];
        type Case<'a> = (&'a str, &'a dyn Fn(&[f64], Targets) -> Loss);
        let cases: [Case; 5] = [
            ("plain", &|x, targets| cross_entropy(x, targets, 5, 0.0, None)),
            ("smooth", &|x, targets| cross_entropy(x, targets, 5, 0.1, Some(&weights))),
            ("posteriori", &|x, targets| maximum_a_posteriori(x, targets, 5, 0.1)),
            ("binary", &|x, targets| binary_cross_entropy(x, targets, 5)),
            ("squares", &|x, targets| mean_squared_error(x, targets, 5)),
        ];
        for (name, loss) in cases {
            for targets in [Targets::Labels(&[4, 0, 2]), Targets::Values(&values)] {
                let numeric = finite_difference(&x, 1e-5, |x| loss(x, targets).mean());
                assert_close(&loss(&x, targets).gradient, &numeric, 1e-9);
                assert!(loss(&x, targets).mean().is_finite(), "{name}");
            }
        }
    }
}
