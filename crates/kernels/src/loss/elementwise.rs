//! Losses that are means over the outputs: binary cross-entropy and mean squared error.

use super::{Loss, Outputs, Row};
use crate::simd::{Kernel, Simd, math};
use crate::softmax::{lane_numbers, lanes_below};
use std::ops::Range;

/// A part of the pixels.
pub(super) struct Elementwise<'a, L> {
    pub outputs: Outputs<'a>,
    pub loss: L,
    pub rows: Range<usize>,
}

/// The loss of one output.
pub(super) trait OfOutput: Copy {
    /// Loss and derivative.
    fn each<S: Simd>(self, simd: S, x: S::Vector, target: S::Vector) -> [S::Vector; 2];
}

/// `log(1 + e^x) - target x`, whose derivative is `sigmoid(x) - target`.
#[derive(Clone, Copy)]
pub(super) struct BinaryCrossEntropy;

/// `(x - target)^2`.
#[derive(Clone, Copy)]
pub(super) struct SquaredError;

impl OfOutput for BinaryCrossEntropy {
    #[inline(always)]
    fn each<S: Simd>(self, simd: S, x: S::Vector, target: S::Vector) -> [S::Vector; 2] {
        let (zero, one) = (simd.zero(), simd.splat(1.0));
        // Exponentials of what is not positive never overflow: log(1 + e^x) = max(x, 0) + log(1 + e^-|x|).
        let power = math::exp(simd, simd.min(simd.sub(zero, x), x));
        let above = simd.add(simd.max(zero, x), math::ln_1p(simd, power));
        let loss = simd.sub(above, simd.mul(x, target));
        let sigmoid = simd.div(simd.select_greater(zero, x, power, one), simd.add(one, power));
        [loss, simd.sub(sigmoid, target)]
    }
}

impl OfOutput for SquaredError {
    #[inline(always)]
    fn each<S: Simd>(self, simd: S, x: S::Vector, target: S::Vector) -> [S::Vector; 2] {
        let difference = simd.sub(x, target);
        [simd.mul(difference, difference), simd.add(difference, difference)]
    }
}

impl<L: OfOutput> Kernel for Elementwise<'_, L> {
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

impl<L: OfOutput> Elementwise<'_, L> {
    /// Loss and gradient of one pixel.
    ///
    /// # Safety
    /// `row` is a pixel of the views, which were checked against each other and the targets, and no other part
    /// has it.
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, simd: S, row: usize) -> Loss {
        let Outputs { x, targets, dx, step } = self.outputs;
        let values = x.c();
        let (x, dx) = (x.pixel(row), dx.map(|dx| dx.pixel(row)));
        let factor = simd.splat(step / values as f32);
        let mut sum = simd.zero();
        let mut i = 0;
        // SAFETY: the caller vouches for the row of both views, and the targets were checked; i + count <=
        // values. A vector of x is read before dx, which may be the same memory, is written there.
        unsafe {
            let target = targets.row(row, values);
            let correct = target.is_correct(x, values);
            while i < values {
                let count = S::LANES.min(values - i);
                let targets = match target {
                    Row::Values(values) => simd.load_up_to(values.add(i), count),
                    Row::Label(label) => {
                        // Lanes are counted from the label, so that their numbers are exact.
                        let at = simd.splat(label as f32 - i as f32);
                        simd.select_equal(lane_numbers(simd), at, simd.splat(1.0), simd.zero())
                    }
                };
                let [loss, derivative] = self.loss.each(simd, simd.load_up_to(x.add(i), count), targets);
                let inside = if count == S::LANES { loss } else { simd.mul(loss, lanes_below(simd, count)) };
                sum = simd.add(sum, inside);
                if let Some(dx) = dx {
                    simd.store_up_to(dx.add(i), simd.mul(derivative, factor), count);
                }
                i += S::LANES;
            }
            let mean = f64::from(simd.sum(sum)) / values as f64;
            Loss { sum: mean, count: 0.0, correct: u32::from(correct) }
        }
    }
}
