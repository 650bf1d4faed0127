//! Softmax over the channels of each pixel, and its logarithm.
//!
//! The largest value is subtracted first, so no exponential overflows, however large the values. A row with a
//! NaN or a positive infinity becomes NaN, as in PyTorch; minus infinity becomes 0.
//!
//! Shapes: all `[n, h, w, classes]`. y may be the memory of x, dx that of dy.

use crate::parts::Parts;
use crate::simd::{Kernel, Simd, math};
use crate::{Context, View4, ViewMut4};
use std::ops::Range;

/// Elementwise passes that an element of a row costs: about what the exponential takes.
pub(crate) const COST: usize = 8;

/// y = exp(x) / sum(exp(x)), the sum over the channels of a pixel.
///
/// # Panics
/// If the shapes differ.
pub fn softmax(context: Context, x: View4, y: ViewMut4) {
    assert_eq!(x.shape(), y.shape(), "operands of different shapes");
    let parts = Parts::new(x.pixels(), x.c() * COST);
    context.pool.run(parts.count(), |_, part| {
        context.isa.run(Rows { x, y: &y, rows: parts.range(part) });
    });
}

/// y = x - ln(sum(exp(x))), the sum over the channels of a pixel; the logarithm is taken in f64.
///
/// # Panics
/// If the shapes differ.
pub fn log_softmax(context: Context, x: View4, y: ViewMut4) {
    assert_eq!(x.shape(), y.shape(), "operands of different shapes");
    let parts = Parts::new(x.pixels(), x.c() * COST);
    context.pool.run(parts.count(), |_, part| {
        context.isa.run(LogRows { x, y: &y, rows: parts.range(part) });
    });
}

/// dx = dy - exp(y) sum(dy), the sum over the channels of a pixel.
///
/// # Panics
/// If the shapes differ.
pub fn log_softmax_backward(context: Context, dy: View4, y: View4, dx: ViewMut4) {
    assert!(dy.shape() == dx.shape() && y.shape() == dx.shape(), "operands of different shapes");
    let parts = Parts::new(dy.pixels(), dy.c() * COST);
    context.pool.run(parts.count(), |_, part| {
        context.isa.run(LogRowsBackward { dy, y, dx: &dx, rows: parts.range(part) });
    });
}

struct LogRows<'a> {
    x: View4<'a>,
    y: &'a ViewMut4<'a>,
    rows: Range<usize>,
}

impl Kernel for LogRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for row in self.rows {
            let (x, y, classes) = (self.x.pixel(row), self.y.pixel(row), self.x.c());
            // SAFETY: `row` is a pixel of both views, which have `classes` channels; no other part has it.
            unsafe {
                let largest = largest(simd, x, classes);
                let sum = exponentials(simd, x, classes, largest, None);
                let logarithm = f64::from(sum).ln() as f32;
                let mut i = 0;
                while i < classes {
                    let count = S::LANES.min(classes - i);
                    let x = simd.sub(simd.load_up_to(x.add(i), count), simd.splat(largest));
                    simd.store_up_to(y.add(i), simd.sub(x, simd.splat(logarithm)), count);
                    i += S::LANES;
                }
            }
        }
    }
}

struct LogRowsBackward<'a> {
    dy: View4<'a>,
    y: View4<'a>,
    dx: &'a ViewMut4<'a>,
    rows: Range<usize>,
}

impl Kernel for LogRowsBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for row in self.rows {
            let (dy, y, dx, classes) =
                (self.dy.pixel(row), self.y.pixel(row), self.dx.pixel(row), self.dy.c());
            // SAFETY: `row` is a pixel of all views, which have `classes` channels; no other part has it.
            unsafe {
                let sum = simd.splat(differences(simd, dy, classes, 0.0));
                let mut i = 0;
                while i < classes {
                    let count = S::LANES.min(classes - i);
                    let [dy, y] = [dy, y].map(|row| simd.load_up_to(row.add(i), count));
                    let share = simd.mul(math::exp(simd, y), sum);
                    simd.store_up_to(dx.add(i), simd.sub(dy, share), count);
                    i += S::LANES;
                }
            }
        }
    }
}

struct Rows<'a> {
    x: View4<'a>,
    y: &'a ViewMut4<'a>,
    rows: Range<usize>,
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for row in self.rows {
            let (x, y, classes) = (self.x.pixel(row), self.y.pixel(row), self.x.c());
            // SAFETY: `row` is a pixel of both views, which have `classes` channels; no other part has it.
            unsafe {
                let largest = largest(simd, x, classes);
                let sum = exponentials(simd, x, classes, largest, Some(y));
                scale(simd, y, classes, 1.0 / sum);
            }
        }
    }
}

/// The number of each lane, from 0.
#[inline(always)]
pub(crate) fn lane_numbers<S: Simd>(simd: S) -> S::Vector {
    static LANES: [f32; 16] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];
    const { assert!(S::LANES <= 16) }
    // SAFETY: LANES has a float for each lane.
    unsafe { simd.load(LANES.as_ptr()) }
}

/// 1 in the first `count` lanes, 0 in the others.
#[inline(always)]
pub(crate) fn lanes_below<S: Simd>(simd: S, count: usize) -> S::Vector {
    simd.select_greater(simd.splat(count as f32), lane_numbers(simd), simd.splat(1.0), simd.zero())
}

/// The vector that starts at the `i`-th float of a row; lanes behind the row's end are `rest`.
///
/// # Safety
/// The row is valid for reading `length` floats, and `i < length`.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd>(
    simd: S,
    row: *const f32,
    i: usize,
    length: usize,
    rest: f32,
) -> S::Vector {
    let count = length - i;
    // SAFETY: the caller vouches for the row up to `length`.
    unsafe {
        if count >= S::LANES {
            return simd.load(row.add(i));
        }
        let vector = simd.load_partial(row.add(i), count);
        simd.select_greater(simd.splat(count as f32), lane_numbers(simd), vector, simd.splat(rest))
    }
}

/// The largest float of a row; any of them if one is not a number.
///
/// # Safety
/// `row` is valid for reading `length` floats.
#[inline(always)]
pub(crate) unsafe fn largest<S: Simd>(simd: S, row: *const f32, length: usize) -> f32 {
    let mut largest = simd.splat(f32::NEG_INFINITY);
    let mut i = 0;
    while i < length {
        // SAFETY: i < length, and the caller vouches for the row.
        largest = simd.max(unsafe { load(simd, row, i, length, f32::NEG_INFINITY) }, largest);
        i += S::LANES;
    }
    simd.largest(largest)
}

/// The sum of exp(x - largest) over a row; y, where given, receives the exponentials.
///
/// # Safety
/// `x` is valid for reading, `y` for writing `length` floats; they may be the same.
#[inline(always)]
pub(crate) unsafe fn exponentials<S: Simd>(
    simd: S,
    x: *const f32,
    length: usize,
    largest: f32,
    y: Option<*mut f32>,
) -> f32 {
    let mut sum = simd.zero();
    let mut i = 0;
    while i < length {
        // SAFETY: i < length, and the caller vouches for the rows.
        unsafe {
            let x = load(simd, x, i, length, f32::NEG_INFINITY);
            let exponential = math::exp(simd, simd.sub(x, simd.splat(largest)));
            sum = simd.add(sum, exponential);
            if let Some(y) = y {
                simd.store_up_to(y.add(i), exponential, S::LANES.min(length - i));
            }
        }
        i += S::LANES;
    }
    simd.sum(sum)
}

/// The sum of x - largest over a row.
///
/// # Safety
/// `row` is valid for reading `length` floats.
#[inline(always)]
unsafe fn differences<S: Simd>(simd: S, row: *const f32, length: usize, largest: f32) -> f32 {
    let mut sum = simd.zero();
    let mut i = 0;
    while i < length {
        // SAFETY: i < length, and the caller vouches for the row.
        let x = unsafe { load(simd, row, i, length, largest) };
        sum = simd.add(sum, simd.sub(x, simd.splat(largest)));
        i += S::LANES;
    }
    simd.sum(sum)
}

/// y = y factor over a row.
///
/// # Safety
/// `row` is valid for reading and writing `length` floats.
#[inline(always)]
unsafe fn scale<S: Simd>(simd: S, row: *mut f32, length: usize, factor: f32) {
    let mut i = 0;
    while i < length {
        // SAFETY: i < length, and the caller vouches for the row.
        unsafe {
            let y = simd.mul(load(simd, row, i, length, 0.0), simd.splat(factor));
            simd.store_up_to(row.add(i), y, S::LANES.min(length - i));
        }
        i += S::LANES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Tensor, assert_matches, assert_threads_agree, on_every_isa};
    use fovea_reference::{activation as reference, check};

    #[test]
    fn softmax_equals_the_reference_for_every_number_of_classes() {
        for classes in [1, 2, 3, 6, 7, 10, 16, 17, 33, 1000] {
            let shape = [3, 1, 2, classes];
            for (gap_x, gap_y) in [(0, 0), (3, 0), (0, 5)] {
                let values: Vec<_> = Tensor::uniform(1, shape, 0).values().iter().map(|x| 20.0 * x).collect();
                let x = Tensor::new(&values, shape, gap_x);
                let expected = reference::softmax(&x.wide(), classes);
                on_every_isa(|context| {
                    let mut y = Tensor::unwritten(shape, gap_y);
                    softmax(context, x.view(), y.view_mut());
                    assert_matches(&y.values(), &expected, 5e-7);
                });
            }
        }
    }

    #[test]
    fn log_softmax_and_its_gradient_equal_the_reference_for_every_number_of_classes_in_place_too() {
        for classes in [1, 2, 3, 6, 7, 10, 16, 17, 33, 1000] {
            let shape = [3, 1, 2, classes];
            for (gap_x, gap_y) in [(0, 0), (3, 0), (0, 5)] {
                let values: Vec<_> = Tensor::uniform(1, shape, 0).values().iter().map(|x| 20.0 * x).collect();
                let (x, dy) = (Tensor::new(&values, shape, gap_x), Tensor::uniform(2, shape, gap_y));
                let expected = reference::log_softmax(&x.wide(), classes);
                let gradient = reference::log_softmax_backward(&dy.wide(), &expected, classes);
                on_every_isa(|context| {
                    let (mut y, mut dx) = (Tensor::unwritten(shape, gap_y), Tensor::unwritten(shape, gap_x));
                    log_softmax(context, x.view(), y.view_mut());
                    assert_matches(&y.values(), &expected, if classes > 1 { 5e-7 } else { 0.0 });
                    log_softmax_backward(context, dy.view(), y.view(), dx.view_mut());
                    let values = dx.values();
                    let error = values.iter().zip(&gradient).map(|(a, b)| (f64::from(*a) - b).abs());
                    assert!(error.fold(0.0, f64::max) < 4e-5, "{classes} classes");
                    let (mut on_x, mut on_dy) = (x.clone(), dy.clone());
                    let (from, to) = on_x.in_place();
                    log_softmax(context, from, to);
                    let (from, to) = on_dy.in_place();
                    log_softmax_backward(context, from, y.view(), to);
                    assert_eq!([on_x.values(), on_dy.values()], [y.values(), dx.values()]);
                });
            }
        }
    }

    #[test]
    fn the_gradient_of_log_softmax_equals_a_finite_difference_of_its_forward_pass() {
        let shape = [2, 1, 2, 7];
        let (x, dy) = (Tensor::uniform(1, shape, 0), Tensor::uniform(2, shape, 0));
        on_every_isa(|context| {
            let forward = |x: &[f64]| {
                let mut y = Tensor::unwritten(shape, 0);
                log_softmax(context, Tensor::new(&check::narrow(x), shape, 0).view(), y.view_mut());
                y
            };
            let mut dx = Tensor::unwritten(shape, 0);
            log_softmax_backward(context, dy.view(), forward(&x.wide()).view(), dx.view_mut());
            let loss = |x: &[f64]| check::dot(&forward(x).wide(), &dy.wide());
            assert_matches(&dx.values(), &check::finite_difference(&x.wide(), 1e-2, loss), 1e-3);
        });
    }

    #[test]
    fn softmax_works_in_place() {
        let x = Tensor::uniform(1, [4, 1, 1, 21], 2);
        on_every_isa(|context| {
            let (mut apart, mut in_place) = (Tensor::unwritten([4, 1, 1, 21], 0), x.clone());
            softmax(context, x.view(), apart.view_mut());
            let (from, to) = in_place.in_place();
            softmax(context, from, to);
            assert_eq!(in_place.values(), apart.values());
        });
    }

    #[test]
    fn values_of_any_size_neither_overflow_nor_vanish() {
        let x = Tensor::new(&[3e38, 3e38, -3e38, f32::NEG_INFINITY, -1e4, -1e4, -2e4, -2e4], [2, 1, 1, 4], 0);
        on_every_isa(|context| {
            let mut y = Tensor::unwritten([2, 1, 1, 4], 0);
            softmax(context, x.view(), y.view_mut());
            assert_eq!(y.values(), [0.5, 0.5, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0]);
        });
    }

    #[test]
    fn a_nan_spoils_its_row_and_no_other() {
        for position in 0..20 {
            let mut values = vec![0.5; 60];
            values[20 + position] = f32::NAN;
            let x = Tensor::new(&values, [3, 1, 1, 20], 0);
            on_every_isa(|context| {
                let mut y = Tensor::unwritten([3, 1, 1, 20], 0);
                softmax(context, x.view(), y.view_mut());
                let y = y.values();
                assert!(y[20..40].iter().all(|y| y.is_nan()));
                assert!(y[..20].iter().chain(&y[40..]).all(|y| (y - 0.05).abs() < 1e-7));
            });
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let x = Tensor::uniform(1, [200, 1, 1, 301], 0);
        assert_threads_agree(|context| {
            let [mut y, mut z, mut dx] = [(); 3].map(|()| Tensor::unwritten([200, 1, 1, 301], 0));
            softmax(context, x.view(), y.view_mut());
            log_softmax(context, x.view(), z.view_mut());
            log_softmax_backward(context, x.view(), z.view(), dx.view_mut());
            [y.values(), z.values(), dx.values()].concat()
        });
    }
}
