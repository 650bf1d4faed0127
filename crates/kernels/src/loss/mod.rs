//! Losses: what training minimises, and their gradients.
//!
//! | loss | of a pixel's outputs x and targets t |
//! |---|---|
//! | cross-entropy | -sum of t log softmax(x) |
//! | maximum a posteriori | -sum of t x + sum of t * log(e^-rejection + sum of e^x) |
//! | binary cross-entropy | mean of log(1 + e^x) - t x |
//! | mean squared error | mean of (x - t)^2 |
//!
//! Shapes: outputs and their gradient `[n, h, w, c]`, usually of one pixel an image; labels `[n h w]`, or
//! values like the outputs'. The gradient may take the memory of the outputs.

mod elementwise;
mod likelihood;
#[cfg(test)]
mod tests;

use crate::parts::{MOST_PARTS, Parts};
use crate::softmax::COST;
use crate::threads::Shareable;
use crate::{Context, View4, ViewMut4};
use elementwise::{BinaryCrossEntropy, Elementwise, SquaredError};
use likelihood::Likelihood;

/// How outputs are judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Criterion<'a> {
    /// As PyTorch's `cross_entropy`: softmax is part of it.
    CrossEntropy {
        /// Share of the targets that goes to all classes alike, in 0..=1; 0 is none.
        label_smoothing: f32,
        /// A factor of each class's term, `[c]`; all 1 where there are none. The mean over labels is weighted,
        /// too: the sum over the labels' weights.
        class_weights: Option<&'a [f32]>,
    },
    /// Equation 9 of LeCun et al. 1998, on scores: the negative distances of a radial basis output.
    MaximumAPosteriori {
        /// The j of the paper: minus the score of the class of everything that is none.
        rejection: f32,
    },
    /// As PyTorch's `binary_cross_entropy_with_logits`: sigmoid is part of it.
    BinaryCrossEntropy,
    /// As PyTorch's `mse_loss`.
    MeanSquaredError,
}

/// What outputs should be.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// A class for each pixel: its target is 1, all others are 0.
    Labels(&'a [u32]),
    /// A value for each output, pixel after pixel.
    Values(&'a [f32]),
}

/// What the forward pass learns about a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Sum of the losses of all pixels, each in `f64`.
    pub sum: f64,
    /// What the sum is divided by for the mean: pixels, or with class weights the sum of their labels' weights;
    /// those of the whole batch, where it is the loss of a part.
    pub count: f64,
    /// Pixels whose largest output is the label's, or where the largest target is; of equal ones the first
    /// counts, and a pixel with NaN has none.
    pub correct: u32,
}

impl Criterion<'_> {
    /// The loss; `dx`, where given, receives the gradient of `weight` times its mean.
    ///
    /// # Panics
    /// If shapes and lengths differ, or a label is not below the number of outputs: whoever brings them in from
    /// outside checks them there.
    pub fn forward(
        &self,
        context: Context,
        x: View4,
        targets: Targets,
        weight: f32,
        dx: Option<ViewMut4>,
    ) -> Loss {
        self.forward_part(context, x, targets, weight, self.count(x.pixels(), targets), dx)
    }

    /// As [`Criterion::forward`], of a part of a batch: its sum is divided by the [`count`](Criterion::count)
    /// of the whole batch, so the parts' means add up to the batch's, and so do their gradients.
    ///
    /// # Panics
    /// As [`Criterion::forward`].
    pub fn forward_part(
        &self,
        context: Context,
        x: View4,
        targets: Targets,
        weight: f32,
        count: f64,
        dx: Option<ViewMut4>,
    ) -> Loss {
        targets.check(x);
        if let Some(dx) = &dx {
            assert_eq!(dx.shape(), x.shape(), "shape of the gradient");
        }
        if let Self::CrossEntropy { class_weights: Some(weights), .. } = self {
            assert_eq!(weights.len(), x.c(), "a weight for each class");
        }
        let dx = dx.as_ref();
        let outputs = Outputs { x, targets, dx, step: (f64::from(weight) / count) as f32 };
        let parts = Parts::new(x.pixels(), x.c() * COST);
        let mut losses = [Loss::default(); MOST_PARTS];
        let shared = Shareable::new(&mut losses);
        context.pool.run(parts.count(), |_, part| {
            let rows = parts.range(part);
            let loss = match *self {
                Self::CrossEntropy { label_smoothing, class_weights } => context.isa.run(Likelihood {
                    outputs,
                    label_smoothing,
                    class_weights,
                    rejection: None,
                    rows,
                }),
                Self::MaximumAPosteriori { rejection } => context.isa.run(Likelihood {
                    outputs,
                    label_smoothing: 0.0,
                    class_weights: None,
                    rejection: Some(rejection),
                    rows,
                }),
                Self::BinaryCrossEntropy => {
                    context.isa.run(Elementwise { outputs, loss: BinaryCrossEntropy, rows })
                }
                Self::MeanSquaredError => context.isa.run(Elementwise { outputs, loss: SquaredError, rows }),
            };
            // SAFETY: there are at most MOST_PARTS parts, and each writes the loss of its own number.
            unsafe { *shared.pointer().add(part) = loss };
        });
        Loss { count, ..losses.iter().fold(Loss::default(), Loss::plus) }
    }

    /// What the sum of the losses of so many pixels is divided by for their mean.
    ///
    /// # Panics
    /// If there are weights, but none for the class of a label.
    pub fn count(&self, pixels: usize, targets: Targets) -> f64 {
        match (self, targets) {
            (Self::CrossEntropy { class_weights: Some(weights), .. }, Targets::Labels(labels)) => {
                labels.iter().map(|&label| f64::from(weights[label as usize])).sum()
            }
            _ => pixels as f64,
        }
    }
}

impl<'a> From<&'a [u32]> for Targets<'a> {
    fn from(labels: &'a [u32]) -> Self {
        Self::Labels(labels)
    }
}

impl<'a, const N: usize> From<&'a [u32; N]> for Targets<'a> {
    fn from(labels: &'a [u32; N]) -> Self {
        Self::Labels(labels)
    }
}

impl<'a> From<&'a Vec<u32>> for Targets<'a> {
    fn from(labels: &'a Vec<u32>) -> Self {
        Self::Labels(labels)
    }
}

impl<'a> From<&'a [f32]> for Targets<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::Values(values)
    }
}

impl Targets<'_> {
    fn check(self, x: View4) {
        let (pixels, classes) = (x.pixels(), x.c());
        match self {
            Self::Labels(labels) => {
                assert_eq!(labels.len(), pixels, "a label for each image");
                let inside = labels.iter().all(|&label| (label as usize) < classes);
                assert!(inside, "a label beyond {classes} classes");
            }
            Self::Values(values) => assert_eq!(values.len(), pixels * classes, "a target for each output"),
        }
    }

    /// The targets of a pixel with so many outputs.
    ///
    /// # Safety
    /// [`Targets::check`] has approved them for a view that has this pixel and as many channels.
    #[inline(always)]
    unsafe fn row(&self, row: usize, classes: usize) -> Row {
        match self {
            Self::Labels(labels) => Row::Label(labels[row] as usize),
            // SAFETY: there are `classes` values for every pixel.
            Self::Values(values) => Row::Values(unsafe { values.as_ptr().add(row * classes) }),
        }
    }
}

impl Loss {
    /// The mean over the batch: what training minimises.
    pub fn mean(&self) -> f64 {
        self.sum / self.count
    }

    #[inline(always)]
    fn plus(self, other: &Self) -> Self {
        Self { sum: self.sum + other.sum, count: 0.0, correct: self.correct + other.correct }
    }
}

/// A batch with its targets.
#[derive(Clone, Copy)]
struct Outputs<'a> {
    x: View4<'a>,
    targets: Targets<'a>,
    dx: Option<&'a ViewMut4<'a>>,
    /// Factor of every gradient: weight of the loss over what its sum is divided by.
    step: f32,
}

/// The targets of a pixel.
#[derive(Clone, Copy)]
enum Row {
    Label(usize),
    Values(*const f32),
}

impl Row {
    /// Whether the largest output is the one that should be.
    ///
    /// # Safety
    /// `x` and the values of the row are valid for reading `classes` floats, and a label is below `classes`.
    #[inline(always)]
    unsafe fn is_correct(self, x: *const f32, classes: usize) -> bool {
        let label = match self {
            Self::Label(label) => label,
            Self::Values(values) => {
                // SAFETY: as the caller vouches.
                let values = unsafe { std::slice::from_raw_parts(values, classes) };
                let larger = |best: usize, at: usize| if values[at] > values[best] { at } else { best };
                (1..classes).fold(0, larger)
            }
        };
        // SAFETY: label < classes.
        unsafe { is_first_largest(x, classes, label) }
    }
}

/// Whether the label's output is above all before it and not below any behind it; not so if any is NaN.
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
