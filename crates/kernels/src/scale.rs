//! A factor and a summand for each channel: y = x weight + bias, either of them left out where it is not
//! wanted.
//!
//! LeCun's subsampling layers learn both, a transposed convolution has a bias.
//!
//! Shapes: x, y, dy `[n, h, w, c]` with any pixel strides; weight, bias and their gradients `[c]`. Sums over
//! the pixels are exact to nearly every digit of an f32 number, as those of batch normalisation.

use crate::channelwise::{self, Pass, Place, Sums};
use crate::simd::Simd;
use crate::threads::Shareable;
use crate::{Context, View4, ViewMut4};

/// y = x weight + bias. y may be the memory of x. The gradient of x is that of y times the weight: the same
/// without bias.
///
/// # Panics
/// If shapes or lengths differ.
pub fn scale(context: Context, x: View4, weight: Option<&[f32]>, bias: Option<&[f32]>, y: ViewMut4) {
    assert_eq!(x.shape(), y.shape(), "operands of different shapes");
    let arrays = [weight, bias].into_iter().flatten();
    arrays.for_each(|array| assert_eq!(array.len(), x.c(), "length of an array of the channels"));
    let (y, stream) = (&y, channelwise::streams(&y, &[x]));
    match (weight, bias) {
        (Some(weight), Some(bias)) => {
            channelwise::run(context, x, Scale::<true, true> { x, weight, bias, y, stream });
        }
        (Some(weight), None) => {
            channelwise::run(context, x, Scale::<true, false> { x, weight, bias: weight, y, stream });
        }
        (None, Some(bias)) => {
            channelwise::run(context, x, Scale::<false, true> { x, weight: bias, bias, y, stream });
        }
        (None, None) => {
            channelwise::run(context, x, Scale::<false, false> { x, weight: &[], bias: &[], y, stream })
        }
    }
}

/// Floats of scratch memory that [`backward_weight`] and [`backward_bias`] need for a tensor of this shape.
pub fn scratch_len([n, h, w, c]: [usize; 4]) -> usize {
    Sums::len(n * h * w, c)
}

/// Gradients of weight and bias: dweight = sum of x dy, dbias = sum of dy over the pixels.
///
/// # Panics
/// If shapes or lengths differ.
pub fn backward_weight(
    context: Context,
    x: View4,
    dy: View4,
    dweight: &mut [f32],
    dbias: Option<&mut [f32]>,
    scratch: &mut [f32],
) {
    assert_eq!(x.shape(), dy.shape(), "operands of different shapes");
    assert_eq!(dweight.len(), x.c(), "length of dweight");
    assert!(dbias.as_ref().is_none_or(|dbias| dbias.len() == x.c()), "length of dbias");
    let mut sums = Sums::new(x, scratch);
    sums.add_up(context, |sum, product| Products { x, dy, sum, product });
    let (dweight, dbias) = (Shareable::new(dweight), dbias.map(Shareable::new));
    sums.finish(context, |channel, sum, product| {
        // SAFETY: the arrays have an element for each channel, which is this call's alone.
        unsafe {
            *dweight.pointer().add(channel) = product as f32;
            if let Some(dbias) = &dbias {
                *dbias.pointer().add(channel) = sum as f32;
            }
        }
    });
}

/// Gradient of a bias alone: dbias = sum of dy over the pixels.
///
/// # Panics
/// If a length is wrong.
pub fn backward_bias(context: Context, dy: View4, dbias: &mut [f32], scratch: &mut [f32]) {
    assert_eq!(dbias.len(), dy.c(), "length of dbias");
    let mut sums = Sums::new(dy, scratch);
    sums.add_up(context, |sum, _| Total { dy, sum });
    let dbias = Shareable::new(dbias);
    sums.finish(context, |channel, sum, _| {
        // SAFETY: the array has an element for each channel, which is this call's alone.
        unsafe { *dbias.pointer().add(channel) = sum as f32 };
    });
}

/// y = x weight + bias; what is left out is not read.
pub(crate) struct Scale<'a, const WEIGHT: bool, const BIAS: bool> {
    pub(crate) x: View4<'a>,
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) y: &'a ViewMut4<'a>,
    pub(crate) stream: bool,
}

impl<const WEIGHT: bool, const BIAS: bool> Pass for Scale<'_, WEIGHT, BIAS> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const PIXELS: usize>(&self, simd: S, place: Place) {
        // SAFETY: the caller vouches for the place.
        unsafe {
            let weight = if WEIGHT { place.of(simd, self.weight) } else { simd.splat(1.0) };
            let bias = if BIAS { place.of(simd, self.bias) } else { simd.zero() };
            for p in 0..PIXELS {
                let x = place.read(simd, self.x, p);
                let y = match (WEIGHT, BIAS) {
                    (true, true) => simd.mul_add(x, weight, bias),
                    (true, false) => simd.mul(x, weight),
                    (false, true) => simd.add(x, bias),
                    (false, false) => x,
                };
                place.write(simd, self.y, p, y, self.stream);
            }
        }
    }
}

/// Sums of dy and of x dy.
struct Products<'a> {
    x: View4<'a>,
    dy: View4<'a>,
    sum: *mut f32,
    product: *mut f32,
}

// SAFETY: the two arrays belong to the part that made the pass, which runs on one thread.
unsafe impl Sync for Products<'_> {}

impl Pass for Products<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const PIXELS: usize>(&self, simd: S, place: Place) {
        let (mut sum, mut product) = (simd.zero(), simd.zero());
        // SAFETY: the caller vouches for the place.
        unsafe {
            for p in 0..PIXELS {
                let [x, dy] = [self.x, self.dy].map(|view| place.read(simd, view, p));
                sum = simd.add(sum, dy);
                product = simd.mul_add(x, dy, product);
            }
            place.add_to(simd, self.sum, sum);
            place.add_to(simd, self.product, product);
        }
    }
}

/// Sum of dy.
struct Total<'a> {
    dy: View4<'a>,
    sum: *mut f32,
}

// SAFETY: as for `Products`.
unsafe impl Sync for Total<'_> {}

impl Pass for Total<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd, const PIXELS: usize>(&self, simd: S, place: Place) {
        let mut sum = simd.zero();
        // SAFETY: the caller vouches for the place.
        unsafe {
            for p in 0..PIXELS {
                sum = simd.add(sum, place.read(simd, self.dy, p));
            }
            place.add_to(simd, self.sum, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Tensor, assert_matches, assert_threads_agree, on_every_isa};
    use fovea_reference::arithmetic as reference;
    use fovea_reference::check::{dot, finite_difference, narrow, uniform, widen};

    const SHAPES: [[usize; 4]; 5] =
        [[1, 1, 1, 1], [2, 3, 5, 3], [1, 2, 2, 17], [3, 4, 1, 33], [2, 28, 28, 6]];

    fn naive(x: &Tensor, weight: Option<&[f32]>, bias: Option<&[f32]>) -> Vec<f64> {
        let of = |array: Option<&[f32]>, at: usize, other| {
            array.map_or(other, |array| f64::from(array[at % array.len()]))
        };
        x.wide().iter().enumerate().map(|(at, x)| x * of(weight, at, 1.0) + of(bias, at, 0.0)).collect()
    }

    #[test]
    fn weight_and_bias_equal_the_reference_together_and_alone_in_place_too() {
        for (shape, gap) in SHAPES.into_iter().flat_map(|shape| [(shape, 0), (shape, 3)]) {
            let x = Tensor::uniform(1, shape, gap);
            let [weight, bias] = [2, 3].map(|seed| uniform(seed, shape[3]));
            let [weight, bias] = [Some(&weight[..]), Some(&bias[..])];
            for (weight, bias) in [(weight, bias), (weight, None), (None, bias), (None, None)] {
                let expected = naive(&x, weight, bias);
                on_every_isa(|context| {
                    let (mut y, mut in_place) = (Tensor::unwritten(shape, 1), x.clone());
                    scale(context, x.view(), weight, bias, y.view_mut());
                    assert_matches(&y.values(), &expected, 2e-7);
                    let (from, to) = in_place.in_place();
                    scale(context, from, weight, bias, to);
                    assert_eq!(in_place.values(), y.values());
                });
            }
        }
    }

    #[test]
    fn gradients_of_weight_and_bias_equal_the_reference() {
        for (shape, gap) in SHAPES.into_iter().flat_map(|shape| [(shape, 0), (shape, 3)]) {
            let (pixels, channels) = (shape[..3].iter().product(), shape[3]);
            let (x, dy) = (Tensor::uniform(1, shape, gap), Tensor::uniform(2, shape, 1));
            let expected = reference::gather(&reference::multiply(&x.wide(), &dy.wide()), pixels, channels);
            let expected_bias = reference::gather(&dy.wide(), pixels, channels);
            on_every_isa(|context| {
                let mut scratch = vec![f32::NAN; scratch_len(shape)];
                let [mut dweight, mut dbias, mut alone] = [(); 3].map(|()| vec![f32::NAN; channels]);
                backward_weight(context, x.view(), dy.view(), &mut dweight, Some(&mut dbias), &mut scratch);
                assert_matches(&dweight, &expected, 1e-6);
                assert_matches(&dbias, &expected_bias, 1e-6);
                backward_bias(context, dy.view(), &mut alone, &mut scratch);
                assert_eq!(alone, dbias);
            });
        }
    }

    #[test]
    fn gradients_equal_finite_differences_of_the_forward_pass() {
        let shape = [2, 2, 3, 5];
        let (x, dy) = (Tensor::uniform(1, shape, 0), Tensor::uniform(2, shape, 0));
        let [weight, bias] = [3, 4].map(|seed| uniform(seed, 5));
        on_every_isa(|context| {
            let loss = |x: &[f64], weight: &[f64], bias: &[f64]| {
                let mut y = Tensor::unwritten(shape, 0);
                let x = Tensor::new(&narrow(x), shape, 0);
                scale(context, x.view(), Some(&narrow(weight)), Some(&narrow(bias)), y.view_mut());
                dot(&y.wide(), &dy.wide())
            };
            let [wide_weight, wide_bias] = [&weight, &bias].map(|array| widen(array));
            let mut dx = Tensor::unwritten(shape, 0);
            scale(context, dy.view(), Some(&weight), None, dx.view_mut());
            let numeric = finite_difference(&x.wide(), 0.125, |x| loss(x, &wide_weight, &wide_bias));
            assert_matches(&dx.values(), &numeric, 1e-5);
            let (mut dweight, mut dbias) = (vec![0.0; 5], vec![0.0; 5]);
            let mut scratch = vec![0.0; scratch_len(shape)];
            backward_weight(context, x.view(), dy.view(), &mut dweight, Some(&mut dbias), &mut scratch);
            let numeric =
                finite_difference(&wide_weight, 0.125, |weight| loss(&x.wide(), weight, &wide_bias));
            assert_matches(&dweight, &numeric, 1e-5);
            let numeric = finite_difference(&wide_bias, 0.125, |bias| loss(&x.wide(), &wide_weight, bias));
            assert_matches(&dbias, &numeric, 1e-5);
        });
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let shape = [9, 40, 40, 7];
        let (x, dy) = (Tensor::uniform(1, shape, 0), Tensor::uniform(2, shape, 0));
        assert_threads_agree(|context| {
            let mut y = Tensor::unwritten(shape, 0);
            scale(context, x.view(), Some(&uniform(3, 7)), None, y.view_mut());
            let (mut dweight, mut scratch) = (vec![0.0; 7], vec![0.0; scratch_len(shape)]);
            backward_weight(context, x.view(), dy.view(), &mut dweight, None, &mut scratch);
            [y.values(), dweight].concat()
        });
    }
}
