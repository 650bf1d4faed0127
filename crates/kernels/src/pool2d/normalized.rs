//! Max pooling of a batch normalization's result, which is never written: forward normalizes what it reads;
//! backward each window's gradient meets x where the window's winner is.
//!
//! Shapes: x and dx `[n, h, w, c]`, y and dy `[n, h', w', c]`, argmax as y, dense, in `u8`; saved and affine as
//! [`batch_norm`](crate::batch_norm) says.

use super::max::{MaxPool2d, Reduce, Scatter};
use super::{Visitor, Windows};
use crate::channelwise::{self, Pass, Place, finish_sums};
use crate::parts::Parts;
use crate::simd::Simd;
use crate::threads::Shareable;
use crate::{Activation, Context, View4, ViewMut4};

/// The gradient of the pooled map.
#[derive(Clone, Copy, Debug)]
pub struct PooledGradient<'a> {
    /// The gradient of y.
    pub dy: View4<'a>,
    /// The winners, as the forward pass left them.
    pub argmax: &'a [u8],
    /// y, where it passed a ReLU: the gradient passes where it is positive.
    pub y: Option<View4<'a>>,
}

/// What both backward passes of the two layers read.
#[derive(Clone, Copy, Debug)]
pub struct NormalizedBackward<'a> {
    /// What was normalised.
    pub x: View4<'a>,
    /// The gradient of the pooled map.
    pub gradient: PooledGradient<'a>,
    /// Means and deviations, as [`batch_norm`](crate::batch_norm) says.
    pub saved: &'a [f32],
    /// Scales and shifts, likewise.
    pub affine: &'a [f32],
}

impl MaxPool2d {
    /// y = activation(largest of each window of x * scale + shift): [`MaxPool2d::forward`] of
    /// [`normalize`](crate::batch_norm::normalize), to the bit. `argmax`, where given, receives the winners.
    ///
    /// # Panics
    /// If a view's shape or the length of an array is not that of this pooling.
    pub fn forward_normalized(
        &self,
        context: Context,
        x: View4,
        affine: &[f32],
        activation: Activation,
        y: ViewMut4,
        argmax: Option<&mut [u8]>,
    ) {
        self.check_forward(x, &y);
        assert_eq!(affine.len(), 2 * x.c(), "length of affine");
        let (y, lowest) = (&y, activation.lowest());
        match argmax {
            Some(argmax) => {
                assert_eq!(argmax.len(), y.pixels() * y.c(), "length of argmax");
                let argmax = Shareable::new(argmax);
                self.reduce(context, Reduce::<true, true> { x, affine, y, lowest, argmax });
            }
            None => {
                let argmax = Shareable::new(&mut []);
                self.reduce(context, Reduce::<false, true> { x, affine, y, lowest, argmax });
            }
        }
    }

    /// Floats of scratch memory that [`Self::normalized_sums`] needs for `n` images.
    pub fn normalized_scratch_len(&self, n: usize) -> usize {
        2 * self.geometry.shape.input[2] * self.geometry.parts(n, 1).count()
    }

    /// Gradients of weight and bias of the normalization: as
    /// [`backward_sums`](crate::batch_norm::backward_sums) of what [`MaxPool2d::backward`] would write.
    ///
    /// # Panics
    /// If a view's shape or the length of an array is not that of this pooling.
    pub fn normalized_sums(
        &self,
        context: Context,
        backward: NormalizedBackward,
        dweight: &mut [f32],
        dbias: &mut [f32],
        scratch: &mut [f32],
    ) {
        let NormalizedBackward { x, gradient, saved, .. } = backward;
        let channels = x.c();
        self.check_backward(x.shape(), gradient);
        assert_eq!(
            [saved.len(), 2 * dweight.len(), 2 * dbias.len()],
            [2 * channels; 3],
            "length of an array"
        );
        let arrays = &mut scratch[..self.normalized_scratch_len(x.n())];
        let (mean, deviation) = saved.split_at(channels);
        let (parts, memory) = (self.geometry.parts(x.n(), 1), Shareable::new(arrays));
        context.pool.run(parts.count(), |_, part| {
            // SAFETY: a part has its own range, which lies in the arrays.
            let own = unsafe { memory.slice(part * 2 * channels, 2 * channels) };
            own.fill(0.0);
            let sums = own.as_mut_ptr();
            self.geometry.walk(context.isa, parts.range(part), Sums { x, gradient, mean, sums });
        });
        let [dweight, dbias] = [dweight, dbias].map(Shareable::new);
        finish_sums(context, arrays, channels, |channel, sum, product| {
            // SAFETY: both arrays have an element for each channel, which is this call's alone.
            unsafe {
                *dbias.pointer().add(channel) = sum as f32;
                *dweight.pointer().add(channel) = (product * f64::from(deviation[channel])) as f32;
            }
        });
    }

    /// The gradient of x, as [`backward_input`](crate::batch_norm::backward_input) of what
    /// [`MaxPool2d::backward`] would write. dx may be the memory of x.
    ///
    /// # Panics
    /// If a view's shape or the length of an array is not that of this pooling.
    pub fn normalized_input(
        &self,
        context: Context,
        backward: NormalizedBackward,
        dweight: &[f32],
        dbias: &[f32],
        dx: ViewMut4,
    ) {
        let NormalizedBackward { x, gradient, saved, affine } = backward;
        let channels = x.c();
        self.check_backward(x.shape(), gradient);
        assert_eq!(dx.shape(), x.shape(), "shape of dx");
        assert_eq!([saved.len(), affine.len()], [2 * channels; 2], "length of saved or affine");
        assert_eq!([dweight.len(), dbias.len()], [channels; 2], "length of dweight or dbias");
        let (mean, deviation) = saved.split_at(channels);
        let scale = &affine[..channels];
        let PooledGradient { dy, argmax, y } = gradient;
        let shared = Shared { x, mean, deviation, scale, dweight, dbias, dx: &dx };
        let scatter = Scatter::<false> { dy, argmax, y, scale: Some(scale), dx: &dx };
        let (vertical, [_, h, w, _]) = (self.geometry.vertical, x.shape());
        let rows = vertical.output;
        let parts: Parts = self.geometry.parts(x.n(), rows);
        context.pool.run(parts.count(), |_, part| {
            for image in parts.range(part) {
                let mut ready = 0;
                for row in 0..rows {
                    // What all elements share goes ahead of the windows, which find it in the cache.
                    let end =
                        if row + 1 == rows { h } else { vertical.first(row) + vertical.taps(row).len() };
                    let end = end.max(ready);
                    let pixels = (image * h + ready) * w..(image * h + end) * w;
                    channelwise::run_pixels(context, pixels, channels, &shared);
                    ready = end;
                    let row = image * rows + row;
                    self.geometry.walk(context.isa, row..row + 1, scatter);
                }
            }
        });
    }

    fn check_backward(&self, x: [usize; 4], PooledGradient { dy, argmax, y }: PooledGradient) {
        assert_eq!(x, self.geometry.input(x[0]), "shape of x");
        assert_eq!(dy.shape(), self.geometry.output(x[0]), "shape of dy");
        assert!(y.is_none_or(|y| y.shape() == dy.shape()), "shape of y");
        assert_eq!(argmax.len(), dy.pixels() * dy.c(), "length of argmax");
    }
}

/// Sums of dz, the masked dy, and of dz * (x - mean), x being the window's winner.
#[derive(Clone, Copy)]
struct Sums<'a> {
    x: View4<'a>,
    gradient: PooledGradient<'a>,
    mean: &'a [f32],
    /// Both sums of every channel.
    sums: *mut f32,
}

impl Visitor for Sums<'_> {
    const STATE: usize = 5;

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
        let PooledGradient { dy, argmax, y } = self.gradient;
        let mut x = self.x.pixel(windows.x).wrapping_add(channel);
        let (mut sum, mut product) = ([simd.zero(); B], [simd.zero(); B]);
        for window in windows.y..windows.y + windows.count {
            let (mut gradient, mut winner, mut chosen) =
                ([simd.zero(); B], [simd.zero(); B], [simd.zero(); B]);
            // SAFETY: the caller vouches that the windows' pixels are in bounds of dy, y and argmax, their taps
            // inside the image and these channels in bounds of x and the mean.
            unsafe {
                for b in 0..B {
                    let channel = channel + b * S::LANES;
                    gradient[b] = simd.load_up_to(dy.pixel(window).add(channel), count);
                    winner[b] = simd.load_bytes(argmax.as_ptr().add(window * dy.c() + channel), count);
                    if let Some(y) = y {
                        let y = simd.load_up_to(y.pixel(window).add(channel), count);
                        gradient[b] = simd.select_greater(y, simd.zero(), gradient[b], simd.zero());
                    }
                }
                for row in rows.clone() {
                    for column in columns.clone() {
                        let position = simd.splat((row * width + column) as f32);
                        let x = x.add((row - rows.start) * line + (column - columns.start) * pixel);
                        for b in 0..B {
                            let value = simd.load_up_to(x.add(b * S::LANES), count);
                            chosen[b] = simd.select_equal(winner[b], position, value, chosen[b]);
                        }
                    }
                }
                for b in 0..B {
                    let mean = simd.load_up_to(self.mean.as_ptr().add(channel + b * S::LANES), count);
                    sum[b] = simd.add(sum[b], gradient[b]);
                    product[b] = simd.mul_add(gradient[b], simd.sub(chosen[b], mean), product[b]);
                }
            }
            x = x.wrapping_add(windows.stride * pixel);
        }
        for (array, sums) in [(0, sum), (self.mean.len(), product)] {
            for b in 0..B {
                // SAFETY: both arrays have the channels, and belong to the part, which runs on one thread.
                unsafe {
                    let at = self.sums.add(array + channel + b * S::LANES);
                    simd.store_up_to(at, simd.add(simd.load_up_to(at, count), sums[b]), count);
                }
            }
        }
    }
}

/// dx = -scale * (dbias / pixels + (x - mean) * deviation * dweight / pixels): what does not depend on the
/// element's own gradient.
struct Shared<'a> {
    x: View4<'a>,
    mean: &'a [f32],
    deviation: &'a [f32],
    scale: &'a [f32],
    dweight: &'a [f32],
    dbias: &'a [f32],
    dx: &'a ViewMut4<'a>,
}

impl Pass for Shared<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const PIXELS: usize>(&self, simd: S, place: Place) {
        // SAFETY: the caller vouches for the place.
        unsafe {
            let [mean, deviation, scale, dweight, dbias] =
                [self.mean, self.deviation, self.scale, self.dweight, self.dbias]
                    .map(|array| place.of(simd, array));
            let factor = simd.mul(scale, simd.splat(-1.0 / self.x.pixels() as f32));
            let slope = simd.mul(simd.mul(factor, deviation), dweight);
            let constant = simd.mul(factor, dbias);
            for p in 0..PIXELS {
                let x = place.read(simd, self.x, p);
                place.write(simd, self.dx, p, simd.mul_add(simd.sub(x, mean), slope, constant), false);
            }
        }
    }
}
