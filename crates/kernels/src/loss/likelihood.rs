//! Cross-entropy and maximum a posteriori: the logarithm of a sum of exponentials, less the outputs that should
//! be large.
//!
//! With targets t, whose sum is T: `T log(sum of e^x) - sum of t x`, and its gradient `T e^x / sum of e^x - t`.
//! A rejection is one more class in the sum of exponentials, whose target is zero.

use super::{Loss, Outputs, Row};
use crate::simd::{Kernel, Simd};
use crate::softmax::{exponentials, lanes_below, largest, load};
use std::ops::Range;

/// A part of the pixels.
pub(super) struct Likelihood<'a> {
    pub outputs: Outputs<'a>,
    pub label_smoothing: f32,
    pub class_weights: Option<&'a [f32]>,
    pub rejection: Option<f32>,
    pub rows: Range<usize>,
}

/// The targets of a row: `(share * values + everywhere) * weights`, and `certain` more at the label.
struct Smoothed {
    values: Option<*const f32>,
    share: f32,
    everywhere: f32,
    weights: Option<*const f32>,
    label: Option<(usize, f32)>,
}

impl Kernel for Likelihood<'_> {
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

impl Likelihood<'_> {
    /// Loss and gradient of one pixel.
    ///
    /// # Safety
    /// `row` is a pixel of the views, which were checked against each other and the targets, and no other part
    /// has it.
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, simd: S, row: usize) -> Loss {
        let Outputs { x, targets, dx, step } = self.outputs;
        let classes = x.c();
        let (x, dx) = (x.pixel(row), dx.map(|dx| dx.pixel(row)));
        // SAFETY: the caller vouches for the row of both views, and the targets were checked. Everything that
        // is needed of x is read before dx, which may be the same memory, is written.
        unsafe {
            let target = targets.row(row, classes);
            let correct = target.is_correct(x, classes);
            let smoothed = self.smoothed(target, classes);
            let largest = largest(simd, x, classes);
            let pivot = self.rejection.map_or(largest, |rejection| largest.max(-rejection));
            let (total, expected) = smoothed.sums(simd, x, classes, pivot);
            let rejected = self.rejection.map_or(0.0, |rejection| (-rejection - pivot).exp());
            let sum = exponentials(simd, x, classes, pivot, dx) + rejected;
            if let Some(dx) = dx {
                smoothed.gradient(simd, dx, classes, (total / f64::from(sum)) as f32 * step, -step);
            }
            Loss { sum: total * f64::from(sum).ln() - expected, count: 0.0, correct: u32::from(correct) }
        }
    }

    /// Targets with smoothing and weights.
    #[inline(always)]
    fn smoothed(&self, target: Row, classes: usize) -> Smoothed {
        let certain = 1.0 - self.label_smoothing;
        let (values, label) = match target {
            Row::Values(values) => (Some(values), None),
            Row::Label(label) => {
                (None, Some((label, certain * self.class_weights.map_or(1.0, |weights| weights[label]))))
            }
        };
        let everywhere = self.label_smoothing / classes as f32;
        Smoothed {
            values,
            share: certain,
            everywhere,
            weights: self.class_weights.map(<[f32]>::as_ptr),
            label,
        }
    }
}

impl Smoothed {
    /// Whether nothing but the label has a target.
    fn is_plain(&self) -> bool {
        self.values.is_none() && self.everywhere == 0.0
    }

    /// Targets from the `i`-th class on, without the label's; what is none of the `classes` is zero.
    ///
    /// # Safety
    /// Values and weights are valid for reading `classes` floats, and `i < classes`.
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, simd: S, i: usize, classes: usize) -> S::Vector {
        let count = S::LANES.min(classes - i);
        let everywhere = simd.splat(self.everywhere);
        // SAFETY: i + count <= classes.
        unsafe {
            let target = match self.values {
                Some(values) => {
                    simd.mul_add(simd.load_up_to(values.add(i), count), simd.splat(self.share), everywhere)
                }
                None => everywhere,
            };
            match self.weights {
                Some(weights) => simd.mul(target, simd.load_up_to(weights.add(i), count)),
                None if count == S::LANES => target,
                None => simd.mul(target, lanes_below(simd, count)),
            }
        }
    }

    /// The sum of the targets, and of each target times `x - pivot`.
    ///
    /// # Safety
    /// As [`Smoothed::load`], and x is valid for reading `classes` floats.
    #[inline(always)]
    unsafe fn sums<S: Simd>(&self, simd: S, x: *const f32, classes: usize, pivot: f32) -> (f64, f64) {
        let (mut total, mut expected) = (0.0, 0.0);
        if !self.is_plain() {
            let (mut targets, mut products) = (simd.zero(), simd.zero());
            let mut i = 0;
            while i < classes {
                // SAFETY: i < classes, and the caller vouches for the rows.
                let (target, x) = unsafe { (self.load(simd, i, classes), load(simd, x, i, classes, pivot)) };
                targets = simd.add(targets, target);
                products = simd.mul_add(target, simd.sub(x, simd.splat(pivot)), products);
                i += S::LANES;
            }
            (total, expected) = (f64::from(simd.sum(targets)), f64::from(simd.sum(products)));
        }
        if let Some((label, certain)) = self.label {
            // SAFETY: label < classes.
            let difference = f64::from(unsafe { *x.add(label) }) - f64::from(pivot);
            total += f64::from(certain);
            expected += f64::from(certain) * difference;
        }
        (total, expected)
    }

    /// y = y factor + targets step over a row.
    ///
    /// # Safety
    /// As [`Smoothed::load`], and y is valid for reading and writing `classes` floats.
    #[inline(always)]
    unsafe fn gradient<S: Simd>(&self, simd: S, y: *mut f32, classes: usize, factor: f32, step: f32) {
        let mut i = 0;
        while i < classes {
            // SAFETY: i < classes, and the caller vouches for the rows.
            unsafe {
                let target = self.load(simd, i, classes);
                let share = simd.mul(load(simd, y, i, classes, 0.0), simd.splat(factor));
                let gradient = simd.mul_add(target, simd.splat(step), share);
                simd.store_up_to(y.add(i), gradient, S::LANES.min(classes - i));
            }
            i += S::LANES;
        }
        if let Some((label, certain)) = self.label {
            // SAFETY: label < classes.
            unsafe { *y.add(label) += step * certain };
        }
    }
}
