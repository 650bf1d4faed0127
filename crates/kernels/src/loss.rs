//! Softmax cross-entropy, the loss of a classifier, and its gradient.
//!
//! Shapes: logits and dlogits `[n, 1, 1, classes]`, labels `[n]`. dlogits may be the memory of logits.

use crate::parts::{MOST_PARTS, Parts};
use crate::simd::{Kernel, Simd};
use crate::softmax::{COST, differences, exponentials, largest, scale};
use crate::threads::Shareable;
use crate::{Context, View4, ViewMut4};
use std::ops::Range;

/// Cross-entropy between softmax(logits) and the smoothed labels, as PyTorch's `cross_entropy` with class indices.
///
/// The label's class has the target `1 - label_smoothing + label_smoothing / classes`, every other class
/// `label_smoothing / classes`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftmaxCrossEntropy {
    /// Share of the label's probability that goes to all classes alike, in 0..=1; 0 is none.
    pub label_smoothing: f32,
    /// Weight of the loss among several; the gradient is multiplied by it, the reported sum is not.
    pub weight: f32,
}

/// What the forward pass learns about a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Sum of the losses of all images, each in `f64`; their mean is this over n.
    pub sum: f64,
    /// Images whose largest logit is the label's; of equal logits the first counts, and a row with NaN has none.
    pub correct: u32,
}

impl SoftmaxCrossEntropy {
    /// The loss; `dlogits`, where given, receives the gradient of `weight * sum / n`.
    ///
    /// # Panics
    /// If the shapes differ, labels and images differ in number, or a label is not below the number of classes: whoever
    /// brings labels in from outside checks them there.
    pub fn forward(
        &self,
        context: Context,
        logits: View4,
        labels: &[u32],
        dlogits: Option<ViewMut4>,
    ) -> Loss {
        let classes = logits.c();
        assert_eq!(logits.pixels(), labels.len(), "a label for each image");
        assert!(labels.iter().all(|&label| (label as usize) < classes), "a label beyond {classes} classes");
        if let Some(dlogits) = &dlogits {
            assert_eq!(dlogits.shape(), logits.shape(), "shape of dlogits");
        }
        let (options, dlogits) = (*self, dlogits.as_ref());
        let parts = Parts::new(labels.len(), classes * COST);
        let mut losses = [Loss::default(); MOST_PARTS];
        let shared = Shareable::new(&mut losses);
        context.pool.run(parts.count(), |_, part| {
            let rows = parts.range(part);
            let loss = context.isa.run(Rows { options, logits, labels, dlogits, rows });
            // SAFETY: there are at most MOST_PARTS parts, and each writes the loss of its own number.
            unsafe { *shared.pointer().add(part) = loss };
        });
        losses.iter().fold(Loss::default(), Loss::plus)
    }
}

impl Loss {
    #[inline(always)]
    fn plus(self, other: &Self) -> Self {
        Self { sum: self.sum + other.sum, correct: self.correct + other.correct }
    }
}

/// A part of the images.
struct Rows<'a> {
    options: SoftmaxCrossEntropy,
    logits: View4<'a>,
    labels: &'a [u32],
    dlogits: Option<&'a ViewMut4<'a>>,
    rows: Range<usize>,
}

impl Kernel for Rows<'_> {
    type Output = Loss;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Loss {
        let mut total = Loss::default();
        for row in self.rows.clone() {
            // SAFETY: `row` is one of the part's.
            total = total.plus(&unsafe { self.row(simd, row) });
        }
        total
    }
}

impl Rows<'_> {
    /// Loss and gradient of one image.
    ///
    /// # Safety
    /// `row` is an image of the views, which were checked against each other and the labels, and no other part has it.
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, simd: S, row: usize) -> Loss {
        let (classes, label) = (self.logits.c(), self.labels[row] as usize);
        let SoftmaxCrossEntropy { label_smoothing, weight } = self.options;
        let x = self.logits.pixel(row);
        let dx = self.dlogits.map(|dlogits| dlogits.pixel(row));
        // SAFETY: the caller vouches for the row of both views, and label < classes was checked. Everything that is
        // needed of x is read before dx, which may be the same memory, is written.
        unsafe {
            let largest = largest(simd, x, classes);
            let at_label = *x.add(label);
            let correct = at_label == largest && is_first_largest(x, classes, label);
            let mut expected = f64::from(at_label) - f64::from(largest);
            if label_smoothing != 0.0 {
                let mean = f64::from(differences(simd, x, classes, largest)) / classes as f64;
                expected += f64::from(label_smoothing) * (mean - expected);
            }
            let sum = exponentials(simd, x, classes, largest, dx);
            if let Some(dx) = dx {
                let step = weight / self.labels.len() as f32;
                let everywhere = label_smoothing / classes as f32;
                scale(simd, dx, classes, step / sum, -step * everywhere);
                *dx.add(label) -= step * (1.0 - label_smoothing);
            }
            Loss { sum: f64::from(sum).ln() - expected, correct: u32::from(correct) }
        }
    }
}

/// Whether the label's logit is above all before it and not below any behind it; not so if any is NaN.
///
/// # Safety
/// `x` is valid for reading `classes` floats and `label < classes`.
unsafe fn is_first_largest(x: *const f32, classes: usize, label: usize) -> bool {
    // SAFETY: as the caller vouches.
    let row = unsafe { std::slice::from_raw_parts(x, classes) };
    let at_label = row[label];
    // `&`, not `&&`: without early exits the compiler makes vectors of it.
    row[..label].iter().fold(true, |all, &x| all & (x < at_label))
        && row[label..].iter().fold(true, |all, &x| all & (x <= at_label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Tensor, assert_matches, assert_threads_agree, on_every_isa};
    use fovea_reference::{check, loss as reference};

    const PLAIN: SoftmaxCrossEntropy = SoftmaxCrossEntropy { label_smoothing: 0.0, weight: 1.0 };

    /// Logits in -8..8 of n images, and labels that reach every class.
    fn batch(n: usize, classes: usize, gap: usize) -> (Tensor, Vec<u32>) {
        let values: Vec<_> = check::uniform(1, n * classes).iter().map(|x| 8.0 * x).collect();
        let labels = (0..n).map(|image| (image * 7 % classes) as u32).collect();
        (Tensor::new(&values, [n, 1, 1, classes], gap), labels)
    }

    #[test]
    fn loss_and_gradient_equal_the_reference() {
        for classes in [1, 2, 3, 7, 10, 16, 17, 33, 1000] {
            for (label_smoothing, gap) in [(0.0, 0), (0.1, 0), (0.1, 3), (0.0, 1)] {
                let (logits, labels) = batch(5, classes, gap);
                let smoothing = f64::from(label_smoothing);
                let naive = reference::softmax_cross_entropy(&logits.wide(), &labels, classes, smoothing);
                let gradient: Vec<_> = naive.dlogits.iter().map(|dx| 0.3 * dx).collect();
                let loss = SoftmaxCrossEntropy { label_smoothing, weight: 0.3 };
                on_every_isa(|context| {
                    let mut dlogits = Tensor::unwritten([5, 1, 1, classes], gap);
                    let Loss { sum, .. } =
                        loss.forward(context, logits.view(), &labels, Some(dlogits.view_mut()));
                    assert!((sum / 5.0 - naive.mean()).abs() <= 3e-7 * naive.mean().max(1.0), "{sum}");
                    if classes > 1 {
                        assert_matches(&dlogits.values(), &gradient, 1e-6);
                    }
                    assert_eq!(loss.forward(context, logits.view(), &labels, None).sum, sum);
                });
            }
        }
    }

    #[test]
    fn the_gradient_equals_a_finite_difference_of_the_forward_pass() {
        let (logits, labels) = batch(3, 7, 0);
        let loss = SoftmaxCrossEntropy { label_smoothing: 0.2, ..PLAIN };
        on_every_isa(|context| {
            let mut dlogits = Tensor::unwritten([3, 1, 1, 7], 0);
            loss.forward(context, logits.view(), &labels, Some(dlogits.view_mut()));
            let numeric = check::finite_difference(&logits.wide(), 1e-2, |x| {
                let logits = Tensor::new(&check::narrow(x), [3, 1, 1, 7], 0);
                loss.forward(context, logits.view(), &labels, None).sum / 3.0
            });
            assert_matches(&dlogits.values(), &numeric, 1e-3);
        });
    }

    #[test]
    fn the_gradient_may_replace_the_logits() {
        let (logits, labels) = batch(6, 21, 0);
        let loss = SoftmaxCrossEntropy { label_smoothing: 0.1, ..PLAIN };
        on_every_isa(|context| {
            let (mut apart, mut in_place) = (Tensor::unwritten([6, 1, 1, 21], 0), logits.clone());
            let expected = loss.forward(context, logits.view(), &labels, Some(apart.view_mut()));
            let view = in_place.view_mut();
            assert_eq!(loss.forward(context, view.as_view(), &labels, Some(view)), expected);
            assert_eq!(in_place.values(), apart.values());
        });
    }

    #[test]
    fn the_first_largest_logit_is_the_prediction() {
        let nan = f32::NAN;
        let rows = [[1.0, 3.0, 3.0], [3.0, 1.0, 3.0], [0.0, -1.0, 2.0], [nan, 5.0, 1.0], [1.0, 5.0, nan]];
        let logits = Tensor::new(&rows.concat(), [5, 1, 1, 3], 0);
        on_every_isa(|context| {
            let correct = |label| PLAIN.forward(context, logits.view(), &[label; 5], None).correct;
            assert_eq!([0, 1, 2].map(correct), [1, 1, 1]);
        });
    }

    #[test]
    fn correct_counts_equal_a_plain_argmax() {
        let (logits, labels) = batch(500, 3, 0);
        let rows = logits.values();
        let argmax = |row: &[f32]| (0..3).find(|&class| row.iter().all(|&x| x <= row[class]));
        let expected =
            rows.chunks(3).zip(&labels).filter(|(row, label)| argmax(row) == Some(**label as usize));
        let expected = expected.count() as u32;
        on_every_isa(|context| {
            assert_eq!(PLAIN.forward(context, logits.view(), &labels, None).correct, expected);
        });
    }

    #[test]
    fn extreme_logits_have_a_finite_loss_and_infinite_ones_none() {
        let forward = |values: &[f32], label| {
            let logits = Tensor::new(values, [1, 1, 1, values.len()], 0);
            let pool = crate::Pool::new(1);
            let losses = crate::Isa::available()
                .into_iter()
                .map(|isa| PLAIN.forward(Context { isa, pool: &pool }, logits.view(), &[label], None).sum);
            losses.collect::<Vec<_>>()
        };
        assert!(forward(&[1e30, -1e30], 1).iter().all(|&loss| loss == 2.0 * f64::from(1e30f32)));
        assert!(forward(&[f32::NEG_INFINITY, 0.0], 1).iter().all(|&loss| loss == 0.0));
        assert!(forward(&[f32::NEG_INFINITY, 0.0], 0).iter().all(|&loss| loss == f64::INFINITY));
        assert!(forward(&[f32::NAN, 0.0], 1).iter().all(|loss| loss.is_nan()));
    }

    #[test]
    #[should_panic(expected = "a label beyond 3 classes")]
    fn a_label_beyond_the_classes_never_reaches_the_rows() {
        let (logits, _) = batch(2, 3, 0);
        on_every_isa(|context| {
            PLAIN.forward(context, logits.view(), &[0, 3], None);
        });
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (logits, labels) = batch(256, 101, 0);
        assert_threads_agree(|context| {
            let mut dlogits = Tensor::unwritten([256, 1, 1, 101], 0);
            let loss = PLAIN.forward(context, logits.view(), &labels, Some(dlogits.view_mut()));
            let bits = [loss.sum.to_bits() as u32, (loss.sum.to_bits() >> 32) as u32, loss.correct];
            [dlogits.values(), bits.map(f32::from_bits).to_vec()].concat()
        });
    }
}
