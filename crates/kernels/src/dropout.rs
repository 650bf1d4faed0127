//! Dropout.
//!
//! Each value is kept with probability `1 - rate` and divided by it, or becomes zero. Which values are kept is
//! a pure function of the key and the value's place, so no mask is stored: the backward pass draws the same
//! numbers again. They are drawn for a block of values at a time, by code without branches that the compiler
//! turns into vectors of whatever width the instruction set has; whole numbers decide, so every set keeps the
//! same values.
//!
//! Source: Hinton, Srivastava, Krizhevsky, Sutskever, Salakhutdinov, arXiv:1207.0580; scaled in training
//! ("inverted").

use crate::parts::Parts;
use crate::random::{Philox, WORDS};
use crate::simd::{Kernel, Simd};
use crate::{Context, View4, ViewMut4};
use std::ops::Range;

/// Elementwise passes that drawing a number costs.
const COST: usize = 4;

/// y = x / (1 - rate) where a value is kept, otherwise 0; on the way back the same call takes dy to dx.
///
/// - `rate`: probability of a zero, 0 <= rate < 1.
/// - `key`: the random numbers. Element i of the tensor, counted densely in NHWC order whatever the pixel
///   strides, is kept if `key.uniform(i) >= rate`.
///
/// Shapes: both `[n, h, w, c]`; y may be the memory of x.
///
/// # Panics
/// If the shapes differ or the rate is not in its range.
pub fn dropout(context: Context, x: View4, rate: f32, key: Philox, y: ViewMut4) {
    assert_eq!(x.shape(), y.shape(), "operands of different shapes");
    assert!((0.0..1.0).contains(&rate), "a rate of at least 0 and less than 1");
    let values = x.pixels() * x.c();
    // Channels of a pixel, and how far apart pixels are: one long pixel where all stand side by side.
    let (row, lds) = match x.is_dense() && y.is_dense() {
        true => (values, [values; 2]),
        false => (x.c(), [x.ld(), y.ld()]),
    };
    let parts = Parts::new(values.div_ceil(WORDS), WORDS * COST);
    context.pool.run(parts.count(), |_, part| {
        let blocks = parts.range(part);
        let values = blocks.start * WORDS..values.min(blocks.end * WORDS);
        context.isa.run(Part { x: x.pointer(), y: y.pointer(), row, lds, rate, key, values });
    });
}

/// Some values, counted densely; the first begins a block of [`WORDS`].
struct Part {
    x: *const f32,
    y: *mut f32,
    row: usize,
    /// Floats from one row to the next in x and in y.
    lds: [usize; 2],
    rate: f32,
    key: Philox,
    values: Range<usize>,
}

impl Kernel for Part {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut numbers = [0.0; WORDS];
        for block in self.values.clone().step_by(WORDS) {
            self.key.fill((block / 4) as u64, &mut numbers);
            let (mut value, end) = (block, self.values.end.min(block + WORDS));
            while value < end {
                let (row, channel) = (value / self.row, value % self.row);
                let count = (self.row - channel).min(end - value);
                // SAFETY: the values from this one to the end of its row or block are the part's, and it drew a
                // number for each.
                unsafe {
                    let x = self.x.add(row * self.lds[0] + channel);
                    let y = self.y.add(row * self.lds[1] + channel);
                    self.keep(simd, x, numbers.as_ptr().add(value - block), y, count);
                }
                value += count;
            }
        }
    }
}

impl Part {
    /// y = x / (1 - rate) where the number is not below the rate, otherwise 0.
    ///
    /// # Safety
    /// All three have `count` floats, and no other part touches those of y.
    #[inline(always)]
    unsafe fn keep<S: Simd>(&self, simd: S, x: *const f32, numbers: *const f32, y: *mut f32, count: usize) {
        let scale = simd.splat(1.0 / (1.0 - self.rate));
        // Numbers are whole and from 0 to 2^24: not below the rate means above the rate rounded up less one.
        let dropped = simd.splat((self.rate * (1 << 24) as f32).ceil() - 1.0);
        let mut i = 0;
        while i < count {
            let lanes = S::LANES.min(count - i);
            // SAFETY: i + lanes <= count, which the caller vouches for.
            unsafe {
                let scaled = simd.mul(simd.load_up_to(x.add(i), lanes), scale);
                let number = simd.load_up_to(numbers.add(i), lanes);
                simd.store_up_to(y.add(i), simd.select_greater(number, dropped, scaled, simd.zero()), lanes);
            }
            i += lanes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Tensor, assert_threads_agree, on_every_isa};
    use crate::{Isa, Pool};

    const KEY: Philox = Philox { seed: 7, stream: 11 };

    #[test]
    fn values_are_kept_by_their_number_whatever_the_layout_and_the_instruction_set() {
        let shapes =
            [[1, 1, 1, 1], [2, 3, 5, 3], [1, 1, 1, 256], [2, 7, 3, 17], [1, 1, 2, 300], [4, 40, 40, 33]];
        for (shape, rate) in shapes.into_iter().flat_map(|shape| [(shape, 0.5), (shape, 0.1), (shape, 0.999)])
        {
            for (gap_x, gap_y) in [(0, 0), (2, 0), (0, 1), (3, 3)] {
                let x = Tensor::uniform(1, shape, gap_x);
                let scale = 1.0 / (1.0 - rate);
                let kept =
                    |(i, x): (usize, &f32)| if KEY.uniform(i as u64) >= rate { x * scale } else { 0.0 };
                let expected: Vec<_> = x.values().iter().enumerate().map(kept).collect();
                on_every_isa(|context| {
                    let mut y = Tensor::unwritten(shape, gap_y);
                    dropout(context, x.view(), rate, KEY, y.view_mut());
                    assert_eq!(y.values(), expected, "{shape:?} at {rate} on {}", context.isa.name());
                });
            }
        }
    }

    #[test]
    fn a_rate_is_the_share_of_zeros_and_keeps_the_mean() {
        let ones = Tensor::new(&[1.0; 1 << 16], [1, 16, 16, 256], 0);
        on_every_isa(|context| {
            for rate in [0.0, 0.2, 0.5, 0.9] {
                let mut y = Tensor::unwritten([1, 16, 16, 256], 0);
                dropout(context, ones.view(), rate, KEY, y.view_mut());
                let y = y.values();
                let zeros = y.iter().filter(|&&y| y == 0.0).count() as f32 / y.len() as f32;
                // Five standard deviations of 65536 draws are at most 0.01.
                assert!((zeros - rate).abs() < 0.01 && (rate > 0.0 || zeros == 0.0), "{rate}: {zeros}");
                let mean = y.iter().sum::<f32>() / y.len() as f32;
                assert!((mean - 1.0).abs() < 0.06, "{rate}: {mean}");
            }
        });
    }

    #[test]
    fn the_same_call_is_the_backward_pass_and_works_in_place() {
        let shape = [2, 5, 5, 19];
        let (x, dy) = (Tensor::new(&[1.0; 950], shape, 1), Tensor::uniform(2, shape, 1));
        on_every_isa(|context| {
            let (mut y, mut dx) = (Tensor::unwritten(shape, 0), dy.clone());
            dropout(context, x.view(), 0.4, KEY, y.view_mut());
            let (from, to) = dx.in_place();
            dropout(context, from, 0.4, KEY, to);
            let expected: Vec<_> = y.values().iter().zip(dy.values()).map(|(y, dy)| y * dy).collect();
            assert_eq!(dx.values(), expected);
        });
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let x = Tensor::uniform(1, [3, 40, 40, 31], 2);
        assert_threads_agree(|context| {
            let mut y = Tensor::unwritten([3, 40, 40, 31], 0);
            dropout(context, x.view(), 0.3, KEY, y.view_mut());
            y.values()
        });
    }

    #[test]
    #[should_panic(expected = "a rate of at least 0 and less than 1")]
    fn a_rate_of_one_is_refused() {
        let mut y = Tensor::uniform(1, [1, 1, 1, 4], 0);
        let (from, to) = y.in_place();
        let context = Context { isa: Isa::available()[0], pool: &Pool::new(1) };
        dropout(context, from, 1.0, KEY, to);
    }
}
