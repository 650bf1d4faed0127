//! Softmax cross-entropy with label smoothing, as `torch.nn.functional.cross_entropy` with class indices.

use crate::activation::log_softmax;

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
    assert_eq!(logits.len(), labels.len() * classes, "Expected {classes} logits for each label.");
    let log_probabilities = log_softmax(logits, classes);
    let batch = labels.len() as f64;
    let mut losses = Vec::with_capacity(labels.len());
    let mut dlogits = Vec::with_capacity(logits.len());
    for (row, &label) in log_probabilities.chunks_exact(classes).zip(labels) {
        assert!((label as usize) < classes, "Expected a label below {classes} but received {label}.");
        let target = |class: usize| {
            let certain = if class == label as usize { 1.0 - label_smoothing } else { 0.0 };
            certain + label_smoothing / classes as f64
        };
        losses.push((0..classes).map(|class| -target(class) * row[class]).sum());
        dlogits.extend((0..classes).map(|class| (row[class].exp() - target(class)) / batch));
    }
    CrossEntropy { losses, dlogits }
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
    fn the_gradient_equals_finite_differences() {
        let logits = widen(&uniform(3, 15));
        for label_smoothing in [0.0, 0.1] {
            let evaluate = |x: &[f64]| softmax_cross_entropy(x, &[4, 0, 2], 5, label_smoothing);
            let numeric = finite_difference(&logits, 1e-5, |x| evaluate(x).mean());
            assert_close(&evaluate(&logits).dlogits, &numeric, 1e-9);
        }
    }
}
