//! Local response normalisation across channels.
//!
//! ```text
//! s_i = k + alpha / size * sum of x_j^2 over the window of channel i
//! y_i = x_i s_i^-beta
//! dx_i = dy_i s_i^-beta - 2 alpha beta / size * x_i * sum of dy_j x_j s_j^(-beta - 1) over all j with i in their window
//! ```
//!
//! The window of channel i is i - size / 2 ..= i + (size - 1) / 2, cut at the first and the last channel, as in PyTorch's
//! `LocalResponseNorm`; the divisor is always `size`. The backward pass computes s again from x.
//!
//! Source: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", 2012.

use crate::parts::Parts;
use crate::{Context, View4, ViewMut4};
use std::ops::Range;

/// Hyperparameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalResponseNorm {
    /// Channels of a window.
    pub size: usize,
    /// Weight of the mean square.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// What is added to the weighted mean square.
    pub k: f32,
}

impl LocalResponseNorm {
    /// y = x s^-beta.
    ///
    /// Shapes: both `[n, h, w, c]`; y must not be the memory of x, which the backward pass needs.
    ///
    /// # Panics
    /// If the shapes differ or the window is empty.
    pub fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        self.check([x.shape(), y.shape()]);
        let parts = Parts::new(x.pixels(), 8 * x.c());
        context.pool.run(parts.count(), |_, part| {
            for pixel in parts.range(part) {
                // SAFETY: the pixel is one of both views, and no other part has it.
                let (x, y) =
                    unsafe { (read(x, pixel), std::slice::from_raw_parts_mut(y.pixel(pixel), x.c())) };
                for (channel, y) in y.iter_mut().enumerate() {
                    *y = (f64::from(x[channel]) * self.s(x, channel).powf(-f64::from(self.beta))) as f32;
                }
            }
        });
    }

    /// The gradient of x.
    ///
    /// Shapes: all `[n, h, w, c]`; dx may be the memory of dy.
    ///
    /// # Panics
    /// If the shapes differ or the window is empty.
    pub fn backward(&self, context: Context, x: View4, dy: View4, dx: ViewMut4) {
        self.check([x.shape(), dx.shape()]);
        self.check([x.shape(), dy.shape()]);
        let beta = f64::from(self.beta);
        let factor = 2.0 * f64::from(self.alpha) * beta / self.size as f64;
        let parts = Parts::new(x.pixels(), 16 * x.c());
        context.pool.run(parts.count(), |_, part| {
            for pixel in parts.range(part) {
                // SAFETY: the pixel is one of all views, and no other part has it.
                let (x, dy) = unsafe { (read(x, pixel), read(dy, pixel).to_vec()) };
                for i in 0..x.len() {
                    let coupled = (0..x.len()).filter(|&j| self.window(j, x.len()).contains(&i));
                    let sum: f64 = coupled
                        .map(|j| f64::from(dy[j]) * f64::from(x[j]) * self.s(x, j).powf(-beta - 1.0))
                        .sum();
                    let own = f64::from(dy[i]) * self.s(x, i).powf(-beta);
                    // SAFETY: as above.
                    unsafe { *dx.pixel(pixel).add(i) = (own - factor * f64::from(x[i]) * sum) as f32 };
                }
            }
        });
    }

    fn check(&self, shapes: [[usize; 4]; 2]) {
        assert_eq!(shapes[0], shapes[1], "operands of different shapes");
        assert!(self.size > 0, "a window of at least one channel");
    }

    fn window(&self, channel: usize, channels: usize) -> Range<usize> {
        channel.saturating_sub(self.size / 2)..channels.min(channel + (self.size - 1) / 2 + 1)
    }

    fn s(&self, x: &[f32], channel: usize) -> f64 {
        let squares: f64 = x[self.window(channel, x.len())].iter().map(|&x| f64::from(x).powi(2)).sum();
        f64::from(self.k) + f64::from(self.alpha) / self.size as f64 * squares
    }
}

/// The channels of a pixel.
///
/// # Safety
/// The pixel is one of the view's, and nobody writes it meanwhile.
unsafe fn read<'a>(view: View4<'a>, pixel: usize) -> &'a [f32] {
    // SAFETY: the caller vouches for the pixel.
    unsafe { std::slice::from_raw_parts(view.pixel(pixel), view.c()) }
}
