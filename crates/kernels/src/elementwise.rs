//! Passes that treat every element alike.
//!
//! An operation is a value that implements [`Elementwise`]; [`map`] runs it over views of one shape. Where the
//! pixels of all views stand side by side it runs over one flat run of floats, otherwise pixel by pixel.
//!
//! Writing where an operation reads is legal if both are the same view: every element is read before it is
//! written, and no other is.

use crate::activation::WithFunction;
use crate::parts::Parts;
use crate::simd::{Kernel, Simd};
use crate::{Activation, Context, Isa, View4, ViewMut4};
use std::ops::Range;

/// y = activation(a + b): where a shortcut meets the branch it went around. y may be the memory of a or of b.
///
/// Shapes: all `[n, h, w, c]`.
///
/// # Panics
/// If the shapes differ.
pub fn add(context: Context, a: View4, b: View4, activation: Activation, y: ViewMut4) {
    activation.with(AddThen { context, a, b, y: &y });
}

/// [`add`], once the function is known.
struct AddThen<'a> {
    context: Context<'a>,
    a: View4<'a>,
    b: View4<'a>,
    y: &'a ViewMut4<'a>,
}

impl WithFunction for AddThen<'_> {
    #[inline(always)]
    fn call<F: Elementwise>(self, function: F) {
        map(self.context, Sum(function), self.a, self.b, self.y);
    }
}

/// y += x: how gradients that reach a value over several paths meet.
///
/// Shapes: both `[n, h, w, c]`.
///
/// # Panics
/// If the shapes differ.
pub fn add_assign(context: Context, y: ViewMut4, x: View4) {
    map(context, Add, y.as_view(), x, &y);
}

/// y = x, also between views of different pixel strides: a value goes to or comes from its channels of a wider
/// buffer.
///
/// Shapes: both `[n, h, w, c]`.
///
/// # Panics
/// If the shapes differ.
pub fn copy(context: Context, x: View4, y: ViewMut4) {
    map(context, Identity, x, x, &y);
}

/// y = x with zeros around it.
///
/// - `padding`: pixels at the top, right, bottom and left.
/// - `channels`: channels before and after.
///
/// Shapes: x `[n, h, w, c]` -> y `[n, top + h + bottom, left + w + right, before + c + after]`.
///
/// # Panics
/// If the shapes do not belong together.
pub fn pad(context: Context, x: View4, padding: [usize; 4], channels: [usize; 2], y: ViewMut4) {
    let frame = Frame::new(x.shape(), padding, channels, y.shape());
    let parts = Parts::new(y.n() * y.h(), y.w() * y.c());
    context.pool.run(parts.count(), |_, part| {
        for row in parts.range(part) {
            let inner = frame.inner_row(row);
            if inner.is_none() || frame.frames_rows {
                zero(context.isa, &y, row * y.w()..(row + 1) * y.w());
            }
            if let Some((inner, pixel)) = inner {
                let (a, y_start) = (x.pixel(inner), y.pixel(pixel).wrapping_add(channels[0]));
                let lds = [x.ld(), x.ld(), y.ld()];
                let (operation, rows, length) = (Identity, x.w(), x.c());
                context.isa.run(Rows { operation, a, b: a, y: y_start, lds, rows, length });
            }
        }
    });
}

/// dx = dy without the frame that [`pad`] added.
///
/// Shapes: dy `[n, top + h + bottom, left + w + right, before + c + after]` -> dx `[n, h, w, c]`.
///
/// # Panics
/// If the shapes do not belong together.
pub fn pad_backward(context: Context, dy: View4, padding: [usize; 4], channels: [usize; 2], dx: ViewMut4) {
    let frame = Frame::new(dx.shape(), padding, channels, dy.shape());
    let parts = Parts::new(dx.n() * dx.h(), dx.w() * dx.c());
    context.pool.run(parts.count(), |_, part| {
        for row in parts.range(part) {
            let a = dy.pixel(frame.outer_pixel(row)).wrapping_add(channels[0]);
            let (y, lds) = (dx.pixel(row * dx.w()), [dy.ld(), dy.ld(), dx.ld()]);
            let (operation, rows, length) = (Identity, dx.w(), dx.c());
            context.isa.run(Rows { operation, a, b: a, y, lds, rows, length });
        }
    });
}

/// A tensor inside a larger one.
struct Frame {
    top: usize,
    left: usize,
    /// Heights of the inner and the outer tensor, and their widths.
    heights: [usize; 2],
    widths: [usize; 2],
    /// Whether a row that crosses the inner tensor has zeros too.
    frames_rows: bool,
}

impl Frame {
    fn new(inner: [usize; 4], padding: [usize; 4], channels: [usize; 2], outer: [usize; 4]) -> Self {
        let [top, right, bottom, left] = padding;
        let [n, h, w, c] = inner;
        let framed = [n, top + h + bottom, left + w + right, channels[0] + c + channels[1]];
        assert_eq!(outer, framed, "shape of the padded tensor");
        let frames_rows = right + left + channels[0] + channels[1] > 0;
        Self { top, left, heights: [h, outer[1]], widths: [w, outer[2]], frames_rows }
    }

    /// The first pixel of the inner tensor in a row of the outer, and its pixel of the outer, if the row
    /// crosses it.
    fn inner_row(&self, row: usize) -> Option<(usize, usize)> {
        let (image, line) = (row / self.heights[1], row % self.heights[1]);
        let line = line.checked_sub(self.top).filter(|&line| line < self.heights[0])?;
        Some(((image * self.heights[0] + line) * self.widths[0], row * self.widths[1] + self.left))
    }

    /// The pixel of the outer tensor where a row of the inner begins.
    fn outer_pixel(&self, row: usize) -> usize {
        let (image, line) = (row / self.heights[0], row % self.heights[0]);
        (image * self.heights[1] + self.top + line) * self.widths[1] + self.left
    }
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

/// A function of the sum.
#[derive(Clone, Copy)]
struct Sum<F>(F);

impl<F: Elementwise> Elementwise for Sum<F> {
    const READS: usize = 2;
    const COST: usize = F::COST;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, a: S::Vector, b: S::Vector) -> S::Vector {
        let sum = simd.add(a, b);
        self.0.apply(simd, sum, sum)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Identity;

impl Elementwise for Identity {
    const READS: usize = 1;

    #[inline(always)]
    fn apply<S: Simd>(self, _: S, a: S::Vector, _: S::Vector) -> S::Vector {
        a
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

/// y = operation(a, b) for every element; operands that the operation does not read may be any view of the
/// shape.
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

/// A part: rows of `length` floats, `lds` apart in a, b and y. They lie inside the views that [`map`] cut them
/// from, and no other part touches those of y.
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
    use crate::testing::{ACTIVATIONS, Tensor, apart, assert_threads_agree, on_every_isa};

    /// Shapes whose floats and channels leave every kind of remainder, large enough for several parts at the
    /// end.
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
    fn add_equals_a_function_of_the_sum_and_works_in_place_of_either() {
        for (shape, gap) in SHAPES.into_iter().flat_map(|shape| [(shape, 0), (shape, 3)]) {
            let (a, b) = (Tensor::uniform(1, shape, gap), Tensor::uniform(2, shape, gap));
            for activation in ACTIVATIONS {
                let sums: Vec<_> = a.values().iter().zip(b.values()).map(|(a, b)| a + b).collect();
                on_every_isa(|context| {
                    let expected = apart(context, activation, &sums);
                    let (mut y, mut on_a, mut on_b) = (Tensor::unwritten(shape, 1), a.clone(), b.clone());
                    add(context, a.view(), b.view(), activation, y.view_mut());
                    let (from, to) = on_a.in_place();
                    add(context, from, b.view(), activation, to);
                    let (from, to) = on_b.in_place();
                    add(context, a.view(), from, activation, to);
                    [y, on_a, on_b].iter().for_each(|y| assert_eq!(y.values(), expected));
                });
            }
        }
    }

    #[test]
    fn copy_takes_every_element_to_another_pixel_stride() {
        for (shape, gaps) in SHAPES.into_iter().flat_map(|shape| [(shape, (0, 0)), (shape, (3, 1))]) {
            let x = Tensor::uniform(1, shape, gaps.0);
            on_every_isa(|context| {
                let mut y = Tensor::unwritten(shape, gaps.1);
                copy(context, x.view(), y.view_mut());
                assert_eq!(y.values(), x.values());
            });
        }
    }

    #[test]
    fn pad_puts_zeros_around_and_its_backward_pass_takes_them_away() {
        let frames = [
            ([0; 4], [0; 2]),
            ([0; 4], [0, 5]),
            ([1, 0, 0, 0], [0; 2]),
            ([0, 1, 2, 0], [0; 2]),
            ([1, 2, 3, 4], [3, 2]),
        ];
        for (shape, (padding, channels)) in
            SHAPES.into_iter().flat_map(|shape| frames.map(|frame| (shape, frame)))
        {
            let ([n, h, w, c], [top, right, bottom, left]) = (shape, padding);
            let wide = [n, top + h + bottom, left + w + right, channels[0] + c + channels[1]];
            let x = Tensor::uniform(1, shape, 2);
            // The place in the padded tensor of each value, in order.
            let places: Vec<_> = (0..n * h * w * c)
                .map(|index| {
                    let (pixel, channel) = (index / c, index % c);
                    let (row, column) = (pixel / w, pixel % w);
                    let row = row / h * wide[1] + top + row % h;
                    (row * wide[2] + left + column) * wide[3] + channels[0] + channel
                })
                .collect();
            let mut expected = vec![0.0; wide.iter().product()];
            places.iter().zip(x.values()).for_each(|(&place, value)| expected[place] = value);
            let dy = Tensor::uniform(2, wide, 1);
            let values = dy.values();
            let gradient: Vec<_> = places.iter().map(|&place| values[place]).collect();
            on_every_isa(|context| {
                let (mut y, mut dx) = (Tensor::unwritten(wide, 1), Tensor::unwritten(shape, 0));
                pad(context, x.view(), padding, channels, y.view_mut());
                assert_eq!(y.values(), expected);
                pad_backward(context, dy.view(), padding, channels, dx.view_mut());
                assert_eq!(dx.values(), gradient);
            });
        }
    }

    #[test]
    #[should_panic(expected = "shape of the padded tensor")]
    fn a_frame_of_another_shape_is_refused() {
        let (x, y) = (Tensor::uniform(1, [1, 2, 2, 4], 0), Tensor::unwritten([1, 2, 2, 9], 0));
        on_every_isa(|context| pad(context, x.view(), [0; 4], [0, 4], y.clone().view_mut()));
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
                let (mut y, mut wide) = (y.clone(), Tensor::unwritten([5, 67, 65, 14], 0));
                add_assign(context, y.view_mut(), x.view());
                pad(context, y.view(), [1, 0, 2, 1], [3, 4], wide.view_mut());
                pad_backward(context, wide.view(), [1, 0, 2, 1], [3, 4], y.view_mut());
                [y.values(), wide.values()].concat()
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
