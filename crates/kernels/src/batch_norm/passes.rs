//! What happens to one vector of channels of a few pixels in each of the passes of batch normalisation.

use crate::channelwise::{Pass, Place};
use crate::elementwise::Elementwise;
use crate::simd::Simd;
use crate::{View4, ViewMut4};

/// Pixels that a pivot is the mean of.
const SAMPLES: usize = 16;

/// How many times the samples' mean magnitude a number is whose rounding a pivot shares: 2^10 leaves it 13
/// binary digits.
const COARSE: f32 = 1024.0;

/// For each channel a value near the mean: that of a few pixels from all over x, with few digits. So the
/// difference from it is exact for nearly every x. With all digits, its last ones would be cut from each x
/// alike, and the mean of the differences would be off by as much. `magnitude` is scratch memory for the
/// channels.
pub(super) fn pivot(x: View4, pivot: &mut [f32], magnitude: &mut [f32]) {
    let samples = SAMPLES.min(x.pixels());
    pivot.fill(0.0);
    magnitude.fill(0.0);
    for sample in 0..samples {
        // SAFETY: the pixel is one of x's.
        let pixel = unsafe { std::slice::from_raw_parts(x.pixel(sample * x.pixels() / samples), x.c()) };
        pivot.iter_mut().zip(pixel).for_each(|(pivot, x)| *pivot += x);
        magnitude.iter_mut().zip(pixel).for_each(|(magnitude, x)| *magnitude += x.abs());
    }
    for (pivot, magnitude) in pivot.iter_mut().zip(magnitude) {
        let large = *magnitude / samples as f32 * COARSE;
        *pivot = (*pivot / samples as f32 + large) - large;
    }
}

/// Sums of x - pivot and of its square.
pub(super) struct Squares<'a> {
    pub(super) x: View4<'a>,
    pub(super) pivot: &'a [f32],
    pub(super) sum: *mut f32,
    pub(super) square: *mut f32,
}

// SAFETY: the two arrays belong to the part that made the pass, which runs on one thread.
unsafe impl Sync for Squares<'_> {}

impl Pass for Squares<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const PIXELS: usize>(&self, simd: S, place: Place) {
        let (mut sum, mut square) = (simd.zero(), simd.zero());
        // SAFETY: the caller vouches for the place.
        unsafe {
            let pivot = place.of(simd, self.pivot);
            for p in 0..PIXELS {
                let difference = simd.sub(place.read(simd, self.x, p), pivot);
                sum = simd.add(sum, difference);
                square = simd.mul_add(difference, difference, square);
            }
            place.add_to(simd, self.sum, sum);
            place.add_to(simd, self.square, square);
        }
    }
}

/// Scale and shift of each channel.
#[derive(Clone, Copy)]
pub(super) struct Affine<'a> {
    scale: &'a [f32],
    shift: &'a [f32],
}

impl<'a> Affine<'a> {
    /// Of an array of all scales, then all shifts.
    pub(super) fn new(affine: &'a [f32]) -> Self {
        let (scale, shift) = affine.split_at(affine.len() / 2);
        Self { scale, shift }
    }
}

/// y = function(x * scale + shift), and with a `RESIDUAL` that is added before.
pub(super) struct Normalize<'a, const RESIDUAL: bool, F> {
    pub(super) x: View4<'a>,
    pub(super) affine: Affine<'a>,
    /// Not read where there is none.
    pub(super) residual: View4<'a>,
    pub(super) function: F,
    pub(super) y: &'a ViewMut4<'a>,
    pub(super) stream: bool,
}

impl<const RESIDUAL: bool, F: Elementwise> Pass for Normalize<'_, RESIDUAL, F> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const PIXELS: usize>(&self, simd: S, place: Place) {
        // SAFETY: the caller vouches for the place.
        unsafe {
            let [scale, shift] = [self.affine.scale, self.affine.shift].map(|array| place.of(simd, array));
            for p in 0..PIXELS {
                let mut z = simd.mul_add(place.read(simd, self.x, p), scale, shift);
                if RESIDUAL {
                    z = simd.add(z, place.read(simd, self.residual, p));
                }
                place.write(simd, self.y, p, self.function.apply(simd, z, z), self.stream);
            }
        }
    }
}

/// Which elements an activation let pass.
pub(super) trait Gate: Copy + Sync {
    /// dy where the activation let the element of the `p`-th pixel pass, otherwise 0; `x` and its `scale` and
    /// `shift` are what the activation was applied to. Implementations are `#[inline(always)]`.
    ///
    /// # Safety
    /// As [`Place::read`].
    unsafe fn masked<S: Simd>(
        self,
        simd: S,
        place: Place,
        p: usize,
        dy: S::Vector,
        x: S::Vector,
        affine: [S::Vector; 2],
    ) -> S::Vector;
}

/// All elements.
#[derive(Clone, Copy)]
pub(super) struct Open;

impl Gate for Open {
    #[inline(always)]
    unsafe fn masked<S: Simd>(
        self,
        _: S,
        _: Place,
        _: usize,
        dy: S::Vector,
        _: S::Vector,
        _: [S::Vector; 2],
    ) -> S::Vector {
        dy
    }
}

/// Those whose normalised value is positive.
#[derive(Clone, Copy)]
pub(super) struct Recompute;

impl Gate for Recompute {
    #[inline(always)]
    unsafe fn masked<S: Simd>(
        self,
        simd: S,
        _: Place,
        _: usize,
        dy: S::Vector,
        x: S::Vector,
        [scale, shift]: [S::Vector; 2],
    ) -> S::Vector {
        simd.select_greater(simd.mul_add(x, scale, shift), simd.zero(), dy, simd.zero())
    }
}

/// Those whose y is positive.
#[derive(Clone, Copy)]
pub(super) struct Output<'a>(pub(super) View4<'a>);

impl Gate for Output<'_> {
    #[inline(always)]
    unsafe fn masked<S: Simd>(
        self,
        simd: S,
        place: Place,
        p: usize,
        dy: S::Vector,
        _: S::Vector,
        _: [S::Vector; 2],
    ) -> S::Vector {
        // SAFETY: the caller vouches for the place.
        let y = unsafe { place.read(simd, self.0, p) };
        simd.select_greater(y, simd.zero(), dy, simd.zero())
    }
}

/// Sums of dz, the masked dy, and of dz * (x - mean); where there is a dresidual, it receives dz.
pub(super) struct BackwardSums<'a, G> {
    pub(super) x: View4<'a>,
    pub(super) dy: View4<'a>,
    pub(super) gate: G,
    pub(super) mean: &'a [f32],
    pub(super) affine: Affine<'a>,
    pub(super) dresidual: Option<&'a ViewMut4<'a>>,
    pub(super) sum: *mut f32,
    pub(super) product: *mut f32,
}

// SAFETY: the two arrays belong to the part that made the pass, which runs on one thread.
unsafe impl<G: Gate> Sync for BackwardSums<'_, G> {}

impl<G: Gate> Pass for BackwardSums<'_, G> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const PIXELS: usize>(&self, simd: S, place: Place) {
        let (mut sum, mut product) = (simd.zero(), simd.zero());
        // SAFETY: the caller vouches for the place.
        unsafe {
            let [mean, scale, shift] =
                [self.mean, self.affine.scale, self.affine.shift].map(|array| place.of(simd, array));
            for p in 0..PIXELS {
                let [x, dy] = [self.x, self.dy].map(|view| place.read(simd, view, p));
                let dz = self.gate.masked(simd, place, p, dy, x, [scale, shift]);
                if let Some(dresidual) = self.dresidual {
                    place.write(simd, dresidual, p, dz, false);
                }
                sum = simd.add(sum, dz);
                product = simd.mul_add(dz, simd.sub(x, mean), product);
            }
            place.add_to(simd, self.sum, sum);
            place.add_to(simd, self.product, product);
        }
    }
}

/// dx = scale * (dz - dbias / pixels - (x - mean) * deviation * dweight / pixels), where dz is the masked dy
/// and `deviation` one over the standard deviation.
pub(super) struct BackwardInput<'a, G> {
    pub(super) x: View4<'a>,
    pub(super) dy: View4<'a>,
    pub(super) gate: G,
    pub(super) mean: &'a [f32],
    pub(super) deviation: &'a [f32],
    pub(super) affine: Affine<'a>,
    pub(super) dweight: &'a [f32],
    pub(super) dbias: &'a [f32],
    pub(super) dx: &'a ViewMut4<'a>,
    pub(super) stream: bool,
}

impl<G: Gate> Pass for BackwardInput<'_, G> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const PIXELS: usize>(&self, simd: S, place: Place) {
        // SAFETY: the caller vouches for the place.
        unsafe {
            let [scale, shift] = [self.affine.scale, self.affine.shift].map(|array| place.of(simd, array));
            let [mean, deviation] = [self.mean, self.deviation].map(|array| place.of(simd, array));
            let [dweight, dbias] = [self.dweight, self.dbias].map(|array| place.of(simd, array));
            let factor = simd.mul(scale, simd.splat(-1.0 / self.x.pixels() as f32));
            let slope = simd.mul(simd.mul(factor, deviation), dweight);
            let constant = simd.mul(factor, dbias);
            for p in 0..PIXELS {
                let [x, dy] = [self.x, self.dy].map(|view| place.read(simd, view, p));
                let dz = self.gate.masked(simd, place, p, dy, x, [scale, shift]);
                let shared = simd.mul_add(simd.sub(x, mean), slope, constant);
                place.write(simd, self.dx, p, simd.mul_add(dz, scale, shared), self.stream);
            }
        }
    }
}
