//! Average pooling to a given size.
//!
//! The window of output row i is from row floor(i h / h') of x to row ceil((i + 1) h / h'), and so for columns:
//! where h' does not divide h, windows differ in size by one and overlap. Equals PyTorch's `AdaptiveAvgPool2d`.
//!
//! Shapes: x `[n, h, w, c]` -> y `[n, h', w', c]`.

use super::average::{Divisor, Mean, Spread};
use super::{LARGEST, Pool2dError, Visitor, Windows, visit_channels};
use crate::elementwise::zero;
use crate::parts::Parts;
use crate::simd::{Kernel, Simd};
use crate::{Context, View4, ViewMut4};
use std::ops::Range;

/// Average pooling from one size to another.
#[derive(Clone, Copy, Debug)]
pub struct AdaptiveAvgPool2d {
    input: [usize; 3],
    size: [usize; 2],
}

impl AdaptiveAvgPool2d {
    /// From height, width and channels to height and width; checks that none is zero or absurdly large.
    pub fn new(input: [usize; 3], size: [usize; 2]) -> Result<Self, Pool2dError> {
        match input.into_iter().chain(size).find(|size| !(1..=LARGEST).contains(size)) {
            Some(0) => Err(Pool2dError::Zero("size")),
            Some(large) => Err(Pool2dError::TooLarge(large)),
            None => Ok(Self { input, size }),
        }
    }

    /// y = mean of each window.
    ///
    /// # Panics
    /// If a view's shape is not that of this pooling.
    pub fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        self.check(x, y.as_view());
        let parts = Parts::new(y.n() * y.h(), self.floats_of_row());
        let mean = Mean { x, y: &y, divisor: Divisor::Inside };
        context.pool.run(parts.count(), |_, part| self.walk(context, parts.range(part), mean));
    }

    /// dx = sum over all windows of a pixel of dy / the window's pixels.
    ///
    /// # Panics
    /// If a view's shape is not that of this pooling.
    pub fn backward(&self, context: Context, dy: View4, dx: ViewMut4) {
        self.check(dx.as_view(), dy);
        let (image, rows) = (dx.h() * dx.w(), dy.h());
        let parts = Parts::new(dx.n(), rows * self.floats_of_row());
        let spread = Spread::<false> { dy, dx: &dx, divisor: Divisor::Inside };
        context.pool.run(parts.count(), |_, part| {
            for n in parts.range(part) {
                zero(context.isa, &dx, n * image..(n + 1) * image);
                self.walk(context, n * rows..(n + 1) * rows, spread);
            }
        });
    }

    fn check(&self, x: View4, y: View4) {
        let ([h, w, c], [height, width]) = (self.input, self.size);
        assert_eq!(x.shape(), [x.n(), h, w, c], "shape of x");
        assert_eq!(y.shape(), [x.n(), height, width, c], "shape of y");
    }

    /// What an output row costs: about as many floats as its windows have.
    fn floats_of_row(&self) -> usize {
        let [h, w, c] = self.input;
        (h.div_ceil(self.size[0]) + 1).saturating_mul(w + self.size[1]).saturating_mul(c.next_multiple_of(16))
    }

    fn walk(&self, context: Context, rows: Range<usize>, visitor: impl Visitor) {
        context.isa.run(Walk { pooling: *self, rows, visitor });
    }

    /// The pixels of a window in one direction.
    #[inline(always)]
    fn window(&self, index: usize, axis: usize) -> Range<usize> {
        let (input, size) = (self.input[axis], self.size[axis]);
        index * input / size..((index + 1) * input).div_ceil(size)
    }
}

/// The walk over the windows of some output rows, counted over all images.
struct Walk<V> {
    pooling: AdaptiveAvgPool2d,
    rows: Range<usize>,
    visitor: V,
}

impl<V: Visitor> Kernel for Walk<V> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { pooling, rows, visitor } = self;
        let ([height, width, channels], [out_height, out_width]) = (pooling.input, pooling.size);
        for row in rows {
            let (image, vertical) = (row / out_height, pooling.window(row % out_height, 0));
            for column in 0..out_width {
                let horizontal = pooling.window(column, 1);
                let windows = Windows {
                    count: 1,
                    x: (image * height + vertical.start) * width + horizontal.start,
                    y: row * out_width + column,
                    stride: 0,
                    rows: 0..vertical.len(),
                    columns: 0..horizontal.len(),
                    width: horizontal.len(),
                    with_padding: vertical.len() * horizontal.len(),
                };
                // SAFETY: a window ends within the image, since (index + 1) <= size.
                unsafe { visit_channels(simd, &visitor, &windows, channels) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Tensor, assert_matches, assert_threads_agree, on_every_isa};
    use fovea_reference::check::{dot, finite_difference, narrow};
    use fovea_reference::resize::AdaptiveAvgPool2d as Reference;

    #[test]
    fn windows_of_all_sizes_and_their_gradients_equal_the_reference() {
        let sizes =
            [([5, 7], [3, 2]), ([6, 4], [3, 4]), ([14, 14], [4, 4]), ([2, 3], [5, 3]), ([9, 1], [1, 1])];
        for (index, ([h, w], size)) in sizes.into_iter().enumerate() {
            for (turn, channels) in [1, 3, 16, 17, 33, 70].into_iter().enumerate() {
                let (gap_x, gap_y) = [(0, 0), (2, 0), (0, 1), (3, 5)][(index + turn) % 4];
                let (shape_x, shape_y) = ([2, h, w, channels], [2, size[0], size[1], channels]);
                let (x, dy) = (Tensor::uniform(1, shape_x, gap_x), Tensor::uniform(2, shape_y, gap_y));
                let naive = Reference { batch: 2, input: [h, w, channels], size };
                let (expected, gradient) = (naive.forward(&x.wide()), naive.backward(&dy.wide()));
                on_every_isa(|context| {
                    let pooling = AdaptiveAvgPool2d::new([h, w, channels], size).unwrap();
                    let (mut y, mut dx) =
                        (Tensor::unwritten(shape_y, gap_y), Tensor::unwritten(shape_x, gap_x));
                    pooling.forward(context, x.view(), y.view_mut());
                    assert_matches(&y.values(), &expected, 1e-6);
                    pooling.backward(context, dy.view(), dx.view_mut());
                    assert_matches(&dx.values(), &gradient, 1e-6);
                });
            }
        }
    }

    #[test]
    fn the_gradient_equals_a_finite_difference_of_the_forward_pass() {
        let (shape_x, shape_y) = ([1, 5, 4, 3], [1, 3, 3, 3]);
        let (x, dy) = (Tensor::uniform(1, shape_x, 0), Tensor::uniform(2, shape_y, 0));
        let pooling = AdaptiveAvgPool2d::new([5, 4, 3], [3, 3]).unwrap();
        on_every_isa(|context| {
            let mut dx = Tensor::unwritten(shape_x, 0);
            pooling.backward(context, dy.view(), dx.view_mut());
            let numeric = finite_difference(&x.wide(), 0.125, |x| {
                let mut y = Tensor::unwritten(shape_y, 0);
                pooling.forward(context, Tensor::new(&narrow(x), shape_x, 0).view(), y.view_mut());
                dot(&y.wide(), &dy.wide())
            });
            assert_matches(&dx.values(), &numeric, 1e-5);
        });
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (shape_x, shape_y) = ([16, 30, 29, 17], [16, 7, 8, 17]);
        let (x, dy) = (Tensor::uniform(1, shape_x, 0), Tensor::uniform(2, shape_y, 0));
        let pooling = AdaptiveAvgPool2d::new([30, 29, 17], [7, 8]).unwrap();
        assert_threads_agree(|context| {
            let (mut y, mut dx) = (Tensor::unwritten(shape_y, 0), Tensor::unwritten(shape_x, 0));
            pooling.forward(context, x.view(), y.view_mut());
            pooling.backward(context, dy.view(), dx.view_mut());
            [y.values(), dx.values()].concat()
        });
    }

    #[test]
    fn impossible_sizes_are_refused_with_a_sentence() {
        let message = |input, size| AdaptiveAvgPool2d::new(input, size).unwrap_err().to_string();
        assert_eq!(message([4, 4, 1], [0, 2]), "Expected a positive size but received 0.");
        let large = "Expected sizes of at most 1073741824 but received 18446744073709551615.";
        assert_eq!(message([4, usize::MAX, 1], [1, 2]), large);
    }
}
