//! Passes that treat every element alike.
//!
//! An operation is a value that implements [`Elementwise`]; [`map`] runs it over views of one shape. Where the pixels of
//! all views stand side by side it runs over one flat run of floats, otherwise pixel by pixel.
//!
//! Writing where an operation reads is legal if both are the same view: every element is read before it is
//! written, and no other is.

use crate::parts::Parts;
use crate::simd::{Kernel, Simd};
use crate::{Context, Isa, View4, ViewMut4};
use std::ops::Range;

/// y += x: how gradients that reach a value over several paths meet.
///
/// Shapes: both `[n, h, w, c]`.
///
/// # Panics
/// If the shapes differ.
pub fn add_assign(context: Context, y: ViewMut4, x: View4) {
    map(context, Add, y.as_view(), x, &y);
}

/// y = value, everywhere.
pub fn fill(context: Context, y: ViewMut4, value: f32) {
    map(context, Fill(value), y.as_view(), y.as_view(), &y);
}

/// y = 0 in some pixels, counted over all images, on the calling thread.
pub(crate) fn zero(isa: Isa, y: &ViewMut4, pixels: Range<usize>) {
    assert!(pixels.end <= y.pixels(), "pixels out of bounds");
    let (rows, length) = if y.is_dense() { (1, pixels.len() * y.c()) } else { (pixels.len(), y.c()) };
    let (start, lds) = (y.pixel(pixels.start), [y.ld(); 3]);
    isa.run(Rows { operation: Fill(0.0), a: start, b: start, y: start, lds, rows, length });
}

/// What happens to each element.
pub(crate) trait Elementwise: Copy + Sync {
    /// How many of the operands are read: none, `a`, or `a` and `b`.
    const READS: usize;

    /// How many times as long as an addition it takes.
    const COST: usize = 1;

    /// The new element. Implementations are `#[inline(always)]`.
    fn apply<S: Simd>(self, simd: S, a: S::Vector, b: S::Vector) -> S::Vector;
}

#[derive(Clone, Copy)]
struct Add;

impl Elementwise for Add {
    const READS: usize = 2;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, a: S::Vector, b: S::Vector) -> S::Vector {
        simd.add(a, b)
    }
}

#[derive(Clone, Copy)]
struct Fill(f32);

impl Elementwise for Fill {
    const READS: usize = 0;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, _: S::Vector, _: S::Vector) -> S::Vector {
        simd.splat(self.0)
    }
}

/// Floats that stay together when a dense pass is cut into parts.
const BLOCK: usize = 1024;

/// y = operation(a, b) for every element; operands that the operation does not read may be any view of the shape.
///
/// # Panics
/// If the shapes differ.
pub(crate) fn map<O: Elementwise>(context: Context, operation: O, a: View4, b: View4, y: &ViewMut4) {
    assert!(a.shape() == y.shape() && b.shape() == y.shape(), "operands of different shapes");
    let (pixels, channels) = (y.pixels(), y.c());
    let run = |a, b, y, lds, rows, length| context.isa.run(Rows { operation, a, b, y, lds, rows, length });
    if a.is_dense() && b.is_dense() && y.is_dense() {
        let floats = pixels * channels;
        let parts = Parts::new(floats.div_ceil(BLOCK), BLOCK * O::COST);
        context.pool.run(parts.count(), |_, part| {
            let blocks = parts.range(part);
            let (start, end) = (blocks.start * BLOCK, floats.min(blocks.end * BLOCK));
            let [a, b] = [a, b].map(|view| view.pointer().wrapping_add(start));
            run(a, b, y.pointer().wrapping_add(start), [0; 3], 1, end - start);
        });
    } else {
        let parts = Parts::new(pixels, channels * O::COST);
        context.pool.run(parts.count(), |_, part| {
            let rows = parts.range(part);
            let [a_row, b_row] = [a, b].map(|view| view.pixel(rows.start));
            run(a_row, b_row, y.pixel(rows.start), [a.ld(), b.ld(), y.ld()], rows.len(), channels);
        });
    }
}

/// A part: rows of `length` floats, `lds` apart in a, b and y. They lie inside the views that [`map`] cut them from,
/// and no other part touches those of y.
struct Rows<O> {
    operation: O,
    a: *const f32,
    b: *const f32,
    y: *mut f32,
    lds: [usize; 3],
    rows: usize,
    length: usize,
}

impl<O: Elementwise> Kernel for Rows<O> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        for _ in 0..self.rows {
            let mut i = 0;
            while i + S::LANES <= self.length {
                // SAFETY: i + LANES <= length, so the vector lies in the row.
                unsafe { self.step(simd, i, S::LANES) }
                i += S::LANES;
            }
            if i < self.length {
                // SAFETY: the count is what is left of the row, less than LANES.
                unsafe { self.step(simd, i, self.length - i) }
            }
            self.a = self.a.wrapping_add(self.lds[0]);
            self.b = self.b.wrapping_add(self.lds[1]);
            self.y = self.y.wrapping_add(self.lds[2]);
        }
    }
}

impl<O: Elementwise> Rows<O> {
    /// Computes `count` elements from the `i`-th of the row.
    ///
    /// # Safety
    /// `i + count <= length` and `count <= LANES`, and the row is one of the part.
    #[inline(always)]
    unsafe fn step<S: Simd>(&self, simd: S, i: usize, count: usize) {
        // SAFETY: the caller vouches for the range, and the part's rows lie inside the views.
        unsafe {
            let a = if O::READS > 0 { simd.load_up_to(self.a.add(i), count) } else { simd.zero() };
            let b = if O::READS > 1 { simd.load_up_to(self.b.add(i), count) } else { simd.zero() };
            simd.store_up_to(self.y.add(i), self.operation.apply(simd, a, b), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Tensor, assert_threads_agree, on_every_isa};

    /// Shapes whose floats and channels leave every kind of remainder, large enough for several parts at the end.
    const SHAPES: [[usize; 4]; 6] =
        [[1, 1, 1, 1], [2, 3, 5, 3], [1, 2, 2, 17], [2, 4, 1, 33], [1, 7, 3, 16], [5, 64, 64, 7]];

    #[test]
    fn add_assign_adds_every_element_and_nothing_between_the_pixels() {
        for (shape, gap) in SHAPES.into_iter().flat_map(|shape| [(shape, 0), (shape, 3)]) {
            let (y, x) = (Tensor::uniform(1, shape, gap), Tensor::uniform(2, shape, 1));
            let sums: Vec<_> = y.values().iter().zip(x.values()).map(|(y, x)| y + x).collect();
            on_every_isa(|context| {
                for x in [x.clone(), Tensor::new(&x.values(), shape, 0)] {
                    let mut y = y.clone();
                    add_assign(context, y.view_mut(), x.view());
                    assert_eq!(y.values(), sums);
                }
            });
        }
    }

    #[test]
    fn fill_writes_every_element_and_nothing_between_the_pixels() {
        for (shape, gap) in SHAPES.into_iter().flat_map(|shape| [(shape, 0), (shape, 3)]) {
            on_every_isa(|context| {
                let mut y = Tensor::uniform(1, shape, gap);
                fill(context, y.view_mut(), -2.5);
                assert!(y.values().iter().all(|&value| value == -2.5));
            });
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        for gap in [0, 2] {
            let (y, x) = (Tensor::uniform(1, SHAPES[5], gap), Tensor::uniform(2, SHAPES[5], gap));
            assert_threads_agree(|context| {
                let mut y = y.clone();
                add_assign(context, y.view_mut(), x.view());
                y.values()
            });
        }
    }

    #[test]
    #[should_panic(expected = "different shapes")]
    fn operands_of_different_shapes_are_refused() {
        let [y, x] = [3, 4].map(|channels| Tensor::unwritten([1, 2, 2, channels], 0));
        on_every_isa(|context| add_assign(context, y.clone().view_mut(), x.view()));
    }
}
