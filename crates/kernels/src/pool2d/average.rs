//! Average pooling.
//!
//! The divisor is PyTorch's: the window's pixels inside image and padding (`count_include_pad`), or inside the
//! image alone. What `ceil_mode` reaches beyond the padding never counts. Sums, without divisor, go the same
//! way: their gradient gives each pixel of a window the same value, which is how a map is enlarged.
//!
//! Shapes: x `[n, h, w, c]` -> y `[n, h', w', c]`.

use super::{Geometry, Pool2dError, Pool2dShape, Visitor, Windows};
use crate::elementwise::zero;
use crate::simd::Simd;
use crate::{Context, View4, ViewMut4};

/// Average pooling of one geometry.
#[derive(Clone, Copy, Debug)]
pub struct AvgPool2d {
    geometry: Geometry,
    divisor: Divisor,
}

/// What the sum over a window is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Divisor {
    /// The window's pixels inside image and padding.
    WithPadding,
    /// The window's pixels inside the image.
    Inside,
    /// Nothing.
    One,
}

impl Divisor {
    /// 1 / divisor of each of the windows.
    #[inline(always)]
    fn share(self, windows: &Windows) -> f32 {
        let pixels = match self {
            Self::WithPadding => windows.with_padding,
            Self::Inside => windows.rows.len() * windows.columns.len(),
            Self::One => 1,
        };
        1.0 / pixels as f32
    }
}

impl AvgPool2d {
    /// Checks the geometry.
    pub fn new(shape: Pool2dShape, count_include_pad: bool) -> Result<Self, Pool2dError> {
        let divisor = if count_include_pad { Divisor::WithPadding } else { Divisor::Inside };
        Ok(Self { geometry: Geometry::new(shape)?, divisor })
    }

    /// Checks the geometry of a pooling that divides by nothing: y is the sum of each window, and the gradient
    /// of a window goes undivided to each of its pixels.
    pub fn sums(shape: Pool2dShape) -> Result<Self, Pool2dError> {
        Ok(Self { geometry: Geometry::new(shape)?, divisor: Divisor::One })
    }

    /// y = mean of each window, or its sum.
    ///
    /// # Panics
    /// If a view's shape is not that of this pooling.
    pub fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        let n = x.n();
        assert_eq!(x.shape(), self.geometry.input(n), "shape of x");
        assert_eq!(y.shape(), self.geometry.output(n), "shape of y");
        let parts = self.geometry.parts(n, 1);
        let mean = Mean { x, y: &y, divisor: self.divisor };
        context.pool.run(parts.count(), |_, part| {
            self.geometry.walk(context.isa, parts.range(part), mean);
        });
    }

    /// dx = sum over all windows of a pixel of dy / divisor.
    ///
    /// # Panics
    /// If a view's shape is not that of this pooling.
    pub fn backward(&self, context: Context, dy: View4, dx: ViewMut4) {
        let n = dx.n();
        assert_eq!(dx.shape(), self.geometry.input(n), "shape of dx");
        assert_eq!(dy.shape(), self.geometry.output(n), "shape of dy");
        let divisor = self.divisor;
        if self.geometry.tiles() {
            self.spread(context, Spread::<true> { dy, dx: &dx, divisor });
        } else {
            self.spread(context, Spread::<false> { dy, dx: &dx, divisor });
        }
    }

    fn spread<const TILES: bool>(&self, context: Context, spread: Spread<TILES>) {
        let (dx, rows) = (spread.dx, spread.dy.h());
        let parts = self.geometry.parts(dx.n(), rows);
        context.pool.run(parts.count(), |_, part| {
            for image in parts.range(part) {
                if !TILES {
                    zero(context.isa, dx, image * dx.h() * dx.w()..(image + 1) * dx.h() * dx.w());
                }
                self.geometry.walk(context.isa, image * rows..(image + 1) * rows, spread);
            }
        });
    }
}

/// The forward pass at some windows.
#[derive(Clone, Copy)]
pub(super) struct Mean<'a> {
    pub(super) x: View4<'a>,
    pub(super) y: &'a ViewMut4<'a>,
    pub(super) divisor: Divisor,
}

impl Visitor for Mean<'_> {
    #[inline(always)]
    unsafe fn visit<S: Simd, const B: usize>(
        &self,
        simd: S,
        windows: &Windows,
        channel: usize,
        count: usize,
    ) {
        let Windows { rows, columns, .. } = windows;
        let (pixel, line) = (self.x.ld(), self.x.w() * self.x.ld());
        let mut x = self.x.pixel(windows.x).wrapping_add(channel);
        let mut y = self.y.pixel(windows.y).wrapping_add(channel);
        let share = simd.splat(self.divisor.share(windows));
        for _ in 0..windows.count {
            let mut sum = [simd.zero(); B];
            // SAFETY: the caller vouches that the windows' taps inside the image and these channels are in
            // bounds of x, and their pixels in bounds of y; no other part has that row of y.
            unsafe {
                for row in 0..rows.len() {
                    for column in 0..columns.len() {
                        let x = x.add(row * line + column * pixel);
                        for b in 0..B {
                            sum[b] = simd.add(sum[b], simd.load_up_to(x.add(b * S::LANES), count));
                        }
                    }
                }
                for b in 0..B {
                    simd.store_up_to(y.add(b * S::LANES), simd.mul(sum[b], share), count);
                }
            }
            x = x.wrapping_add(windows.stride * pixel);
            y = y.wrapping_add(self.y.ld());
        }
    }
}

/// The backward pass at some windows. If the windows `TILE` the image, it stores each element of dx once,
/// otherwise it adds to what is there.
#[derive(Clone, Copy)]
pub(super) struct Spread<'a, const TILES: bool> {
    pub(super) dy: View4<'a>,
    pub(super) dx: &'a ViewMut4<'a>,
    pub(super) divisor: Divisor,
}

impl<const TILES: bool> Visitor for Spread<'_, TILES> {
    #[inline(always)]
    unsafe fn visit<S: Simd, const B: usize>(
        &self,
        simd: S,
        windows: &Windows,
        channel: usize,
        count: usize,
    ) {
        let Windows { rows, columns, .. } = windows;
        let (pixel, line) = (self.dx.ld(), self.dx.w() * self.dx.ld());
        let mut dx = self.dx.pixel(windows.x).wrapping_add(channel);
        let mut dy = self.dy.pixel(windows.y).wrapping_add(channel);
        let share = simd.splat(self.divisor.share(windows));
        for _ in 0..windows.count {
            let mut gradient = [simd.zero(); B];
            // SAFETY: the caller vouches that the windows' pixels are in bounds of dy, and their taps inside
            // the image and these channels in bounds of dx; no other part has that image.
            unsafe {
                for b in 0..B {
                    gradient[b] = simd.mul(simd.load_up_to(dy.add(b * S::LANES), count), share);
                }
                for row in 0..rows.len() {
                    for column in 0..columns.len() {
                        let dx = dx.add(row * line + column * pixel);
                        for b in 0..B {
                            let dx = dx.add(b * S::LANES);
                            let mut sum = gradient[b];
                            if !TILES {
                                sum = simd.add(simd.load_up_to(dx, count), sum);
                            }
                            simd.store_up_to(dx, sum, count);
                        }
                    }
                }
            }
            dx = dx.wrapping_add(windows.stride * pixel);
            dy = dy.wrapping_add(self.dy.ld());
        }
    }
}
