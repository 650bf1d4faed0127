//! Dropout.
//!
//! Each value is kept with probability `1 - rate` and divided by it, or becomes zero. Which values are kept is a pure
//! function of the key and the value's place, so no mask is stored: the backward pass draws the same numbers again.
//!
//! Source: Hinton, Srivastava, Krizhevsky, Sutskever, Salakhutdinov, arXiv:1207.0580; scaled in training ("inverted").

use crate::parts::Parts;
use crate::random::Philox;
use crate::{Context, View4, ViewMut4};

/// y = x / (1 - rate) where a value is kept, otherwise 0; on the way back the same call takes dy to dx.
///
/// - `rate`: probability of a zero, 0 <= rate < 1.
/// - `key`: the random numbers. Element i of the tensor, counted densely in NHWC order whatever the pixel strides, is
///   kept if `key.uniform(i) >= rate`.
///
/// Shapes: both `[n, h, w, c]`; y may be the memory of x.
///
/// # Panics
/// If the shapes differ or the rate is not in its range.
pub fn dropout(context: Context, x: View4, rate: f32, key: Philox, y: ViewMut4) {
    assert_eq!(x.shape(), y.shape(), "operands of different shapes");
    assert!((0.0..1.0).contains(&rate), "a rate of at least 0 and less than 1");
    let scale = 1.0 / (1.0 - rate);
    let parts = Parts::new(x.pixels(), 8 * x.c());
    context.pool.run(parts.count(), |_, part| {
        for pixel in parts.range(part) {
            for channel in 0..x.c() {
                let kept = key.uniform((pixel * x.c() + channel) as u64) >= rate;
                // SAFETY: pixel and channel are some of both views, and no other part has the pixel.
                unsafe {
                    let value = *x.pixel(pixel).add(channel);
                    *y.pixel(pixel).add(channel) = if kept { value * scale } else { 0.0 };
                }
            }
        }
    });
}
