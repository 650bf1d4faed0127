//! Max pooling.
//!
//! The forward pass keeps, beside each maximum, the row-major position of its winner in the window (one byte),
//! so the backward pass is a scatter that needs x no more. Padding never wins. Of equal values the first wins;
//! a NaN wins over every number, and of several NaN the last, as in PyTorch.
//!
//! Shapes: x `[n, h, w, c]` -> y `[n, h', w', c]`, argmax as y, dense, in `u8`.

use super::{Geometry, MOST_TAPS, Pool2dError, Pool2dShape, Visitor, Windows};
use crate::elementwise::zero;
use crate::simd::Simd;
use crate::threads::Shareable;
use crate::{Activation, Context, View4, ViewMut4};

/// Max pooling of one geometry.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool2d {
    pub(super) geometry: Geometry,
}

impl MaxPool2d {
    /// Checks the geometry; a window has at most 255 taps.
    pub fn new(shape: Pool2dShape) -> Result<Self, Pool2dError> {
        let geometry = Geometry::new(shape)?;
        match shape.size[0] * shape.size[1] <= MOST_TAPS {
            true => Ok(Self { geometry }),
            false => Err(Pool2dError::TooManyTaps(shape.size)),
        }
    }

    /// y = activation(largest of each window); `argmax`, where given, receives the winners for the backward
    /// pass.
    ///
    /// # Panics
    /// If a view's shape or the length of `argmax` is not that of this pooling.
    pub fn forward(
        &self,
        context: Context,
        x: View4,
        activation: Activation,
        y: ViewMut4,
        argmax: Option<&mut [u8]>,
    ) {
        self.check_forward(x, &y);
        let (affine, y, lowest) = (&[][..], &y, activation.lowest());
        match argmax {
            Some(argmax) => {
                assert_eq!(argmax.len(), y.pixels() * y.c(), "length of argmax");
                let argmax = Shareable::new(argmax);
                self.reduce(context, Reduce::<true, false> { x, affine, y, lowest, argmax });
            }
            None => {
                let argmax = Shareable::new(&mut []);
                self.reduce(context, Reduce::<false, false> { x, affine, y, lowest, argmax });
            }
        }
    }

    pub(super) fn check_forward(&self, x: View4, y: &ViewMut4) {
        let n = x.n();
        assert_eq!(x.shape(), self.geometry.input(n), "shape of x");
        assert_eq!(y.shape(), self.geometry.output(n), "shape of y");
    }

    pub(super) fn reduce<const KEEP: bool, const NORM: bool>(
        &self,
        context: Context,
        reduce: Reduce<KEEP, NORM>,
    ) {
        let parts = self.geometry.parts(reduce.x.n(), 1);
        context.pool.run(parts.count(), |_, part| {
            self.geometry.walk(context.isa, parts.range(part), reduce);
        });
    }

    /// dx = sum of the dy of all windows that a pixel won. Where `y` is given, the forward pass applied a ReLU,
    /// and the gradient passes only where y > 0. A byte of `argmax` that names no pixel of its window drops its
    /// gradient.
    ///
    /// # Panics
    /// If a view's shape or the length of `argmax` is not that of this pooling.
    pub fn backward(&self, context: Context, dy: View4, argmax: &[u8], y: Option<View4>, dx: ViewMut4) {
        let n = dx.n();
        assert_eq!(dx.shape(), self.geometry.input(n), "shape of dx");
        assert_eq!(dy.shape(), self.geometry.output(n), "shape of dy");
        assert!(y.is_none_or(|y| y.shape() == dy.shape()), "shape of y");
        assert_eq!(argmax.len(), dy.pixels() * dy.c(), "length of argmax");
        if self.geometry.tiles() {
            self.scatter(context, Scatter::<true> { dy, argmax, y, scale: None, dx: &dx });
        } else {
            self.scatter(context, Scatter::<false> { dy, argmax, y, scale: None, dx: &dx });
        }
    }

    fn scatter<const TILES: bool>(&self, context: Context, scatter: Scatter<TILES>) {
        let (dx, rows) = (scatter.dx, scatter.dy.h());
        let parts = self.geometry.parts(dx.n(), rows);
        context.pool.run(parts.count(), |_, part| {
            for image in parts.range(part) {
                if !TILES {
                    zero(context.isa, dx, image * dx.h() * dx.w()..(image + 1) * dx.h() * dx.w());
                }
                self.geometry.walk(context.isa, image * rows..(image + 1) * rows, scatter);
            }
        });
    }
}

/// The forward pass at some windows; writes `argmax` if `KEEP`, reads x * scale + shift if `NORM`.
#[derive(Clone, Copy)]
pub(super) struct Reduce<'a, const KEEP: bool, const NORM: bool> {
    pub(super) x: View4<'a>,
    /// Scales of all channels, then shifts; not read unless `NORM`.
    pub(super) affine: &'a [f32],
    pub(super) y: &'a ViewMut4<'a>,
    /// No maximum below it is stored: minus infinity or, for a ReLU, zero.
    pub(super) lowest: f32,
    pub(super) argmax: Shareable<u8>,
}

impl<const KEEP: bool, const NORM: bool> Reduce<'_, KEEP, NORM> {
    /// Scales and shifts of some vectors of channels.
    ///
    /// # Safety
    /// Those are channels of x, which the affine has where `NORM`.
    #[inline(always)]
    unsafe fn scales_and_shifts<S: Simd, const B: usize>(
        &self,
        simd: S,
        channel: usize,
        count: usize,
    ) -> [[S::Vector; B]; 2] {
        let mut loaded = [[simd.zero(); B]; 2];
        if NORM {
            for (array, vectors) in loaded.iter_mut().enumerate() {
                for (b, vector) in vectors.iter_mut().enumerate() {
                    // SAFETY: the caller vouches for the channels.
                    *vector = unsafe {
                        let at = self.affine.as_ptr().add(array * self.x.c() + channel + b * S::LANES);
                        simd.load_up_to(at, count)
                    };
                }
            }
        }
        loaded
    }
}

impl<const KEEP: bool, const NORM: bool> Visitor for Reduce<'_, KEEP, NORM> {
    const STATE: usize = if NORM { 4 } else { 2 };

    #[inline(always)]
    unsafe fn visit<S: Simd, const B: usize>(
        &self,
        simd: S,
        windows: &Windows,
        channel: usize,
        count: usize,
    ) {
        let Windows { rows, columns, width, .. } = windows;
        let (pixel, line) = (self.x.ld(), self.x.w() * self.x.ld());
        let mut x = self.x.pixel(windows.x).wrapping_add(channel);
        let mut y = self.y.pixel(windows.y).wrapping_add(channel);
        let mut argmax = self.argmax.pointer().wrapping_add(windows.y * self.y.c() + channel);
        let first = rows.start * width + columns.start;
        // SAFETY: the caller vouches for the channels, the public functions for the affine's length.
        let [scale, shift] = unsafe { self.scales_and_shifts::<S, B>(simd, channel, count) };
        let read = |b: usize, value| if NORM { simd.mul_add(value, scale[b], shift[b]) } else { value };
        for _ in 0..windows.count {
            let mut best = [simd.zero(); B];
            let mut winner = [simd.splat(first as f32); B];
            // SAFETY: the caller vouches that the windows' taps inside the image and these channels are in
            // bounds of x, their pixels of y in bounds of y and, since argmax is as long as y has values, of
            // argmax; no other part has that row of them.
            unsafe {
                for b in 0..B {
                    best[b] = read(b, simd.load_up_to(x.add(b * S::LANES), count));
                }
                for row in rows.clone() {
                    let loaded = usize::from(row == rows.start);
                    for column in columns.start + loaded..columns.end {
                        let position = simd.splat((row * width + column) as f32);
                        let x = x.add((row - rows.start) * line + (column - columns.start) * pixel);
                        for b in 0..B {
                            let value = read(b, simd.load_up_to(x.add(b * S::LANES), count));
                            winner[b] = simd.select_greater_or_nan(value, best[b], position, winner[b]);
                            best[b] = simd.select_greater_or_nan(value, best[b], value, best[b]);
                        }
                    }
                }
                for b in 0..B {
                    let value = simd.max(simd.splat(self.lowest), best[b]);
                    simd.store_up_to(y.add(b * S::LANES), value, count);
                    if KEEP {
                        simd.store_bytes(argmax.add(b * S::LANES), winner[b], count);
                    }
                }
            }
            x = x.wrapping_add(windows.stride * pixel);
            y = y.wrapping_add(self.y.ld());
            argmax = argmax.wrapping_add(self.y.c());
        }
    }
}

/// The backward pass at some windows. If the windows `TILE` the image, it stores each element of dx once,
/// otherwise it adds to what is there.
#[derive(Clone, Copy)]
pub(super) struct Scatter<'a, const TILES: bool> {
    pub(super) dy: View4<'a>,
    pub(super) argmax: &'a [u8],
    pub(super) y: Option<View4<'a>>,
    /// A factor of each channel's gradients.
    pub(super) scale: Option<&'a [f32]>,
    pub(super) dx: &'a ViewMut4<'a>,
}

impl<const TILES: bool> Visitor for Scatter<'_, TILES> {
    #[inline(always)]
    unsafe fn visit<S: Simd, const B: usize>(
        &self,
        simd: S,
        windows: &Windows,
        channel: usize,
        count: usize,
    ) {
        let Windows { rows, columns, width, .. } = windows;
        let (pixel, line) = (self.dx.ld(), self.dx.w() * self.dx.ld());
        let mut dx = self.dx.pixel(windows.x).wrapping_add(channel);
        let mut dy = self.dy.pixel(windows.y).wrapping_add(channel);
        let mut argmax = self.argmax.as_ptr().wrapping_add(windows.y * self.dy.c() + channel);
        // Without a ReLU dy stands in for y, unread.
        let y = self.y.unwrap_or(self.dy);
        let mut y_pixel = y.pixel(windows.y).wrapping_add(channel);
        for _ in 0..windows.count {
            let (mut gradient, mut winner) = ([simd.zero(); B], [simd.zero(); B]);
            // SAFETY: the caller vouches that the windows' pixels are in bounds of dy, y and argmax, their taps
            // inside the image and these channels in bounds of dx; no other part has that image.
            unsafe {
                for b in 0..B {
                    gradient[b] = simd.load_up_to(dy.add(b * S::LANES), count);
                    winner[b] = simd.load_bytes(argmax.add(b * S::LANES), count);
                    if self.y.is_some() {
                        let y = simd.load_up_to(y_pixel.add(b * S::LANES), count);
                        gradient[b] = simd.select_greater(y, simd.zero(), gradient[b], simd.zero());
                    }
                    if let Some(scale) = self.scale {
                        let scale = simd.load_up_to(scale.as_ptr().add(channel + b * S::LANES), count);
                        gradient[b] = simd.mul(gradient[b], scale);
                    }
                }
                for row in rows.clone() {
                    for column in columns.clone() {
                        let position = simd.splat((row * width + column) as f32);
                        let dx = dx.add((row - rows.start) * line + (column - columns.start) * pixel);
                        for b in 0..B {
                            let dx = dx.add(b * S::LANES);
                            let mut share = simd.select_equal(winner[b], position, gradient[b], simd.zero());
                            if !TILES {
                                share = simd.add(simd.load_up_to(dx, count), share);
                            }
                            simd.store_up_to(dx, share, count);
                        }
                    }
                }
            }
            dx = dx.wrapping_add(windows.stride * pixel);
            dy = dy.wrapping_add(self.dy.ld());
            argmax = argmax.wrapping_add(self.dy.c());
            y_pixel = y_pixel.wrapping_add(y.ld());
        }
    }
}
