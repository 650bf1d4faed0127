//! Differences, products and quotients, value by value; and products with a factor for each channel of each
//! image, which is how squeeze and excitation weighs channels.
//!
//! Shapes: a, b and y `[n, h, w, c]`. y may be the memory of a or of b.

use crate::channelwise;
use crate::elementwise::{Elementwise, map};
use crate::parts::Parts;
use crate::scale::Scale;
use crate::simd::Simd;
use crate::threads::Shareable;
use crate::{Context, View4, ViewMut4};

/// y = a - b.
///
/// # Panics
/// If the shapes differ.
pub fn subtract(context: Context, a: View4, b: View4, y: ViewMut4) {
    map(context, Subtract, a, b, &y);
}

/// y = a b; the gradient of a is dy b, that of b is dy a.
///
/// # Panics
/// If the shapes differ.
pub fn multiply(context: Context, a: View4, b: View4, y: ViewMut4) {
    map(context, Multiply, a, b, &y);
}

/// y = -a b: the gradient of a divisor is that of the dividend times the negative quotient.
///
/// # Panics
/// If the shapes differ.
pub fn negative_product(context: Context, a: View4, b: View4, y: ViewMut4) {
    map(context, NegativeProduct, a, b, &y);
}

/// values = values times mask: what a layer leaves out stays zero.
///
/// # Panics
/// If the lengths differ.
pub fn mask(context: Context, mask: &[f32], values: &mut [f32]) {
    const PART: usize = 1 << 14;
    assert_eq!(mask.len(), values.len(), "operands of different lengths");
    let (len, values) = (values.len(), Shareable::new(values));
    context.pool.run(len.div_ceil(PART), |_, part| {
        let (start, count) = (part * PART, PART.min(len - part * PART));
        // SAFETY: a part has its own range, which lies in the values.
        let values = unsafe { values.slice(start, count) };
        values.iter_mut().zip(&mask[start..start + count]).for_each(|(value, mask)| *value *= mask);
    });
}

/// y = a / b; the gradient of a is dy / b.
///
/// # Panics
/// If the shapes differ.
pub fn divide(context: Context, a: View4, b: View4, y: ViewMut4) {
    map(context, Divide, a, b, &y);
}

/// y = a b, where b has one factor for each channel of an image; the gradient of a is dy b. y may be the memory
/// of a.
///
/// Shapes: a, y `[n, h, w, c]`, b `[n, 1, 1, c]`.
///
/// # Panics
/// If the shapes do not belong together.
pub fn multiply_channels(context: Context, a: View4, b: View4, y: ViewMut4) {
    let [n, h, w, c] = a.shape();
    assert!(y.shape() == a.shape() && b.shape() == [n, 1, 1, c], "operands of different shapes");
    let parts = Parts::new(n * h, w * c);
    let y = &y;
    context.pool.run(parts.count(), |_, part| {
        for row in parts.range(part) {
            // SAFETY: the image is one of b's, which has c floats for it.
            let weight = unsafe { std::slice::from_raw_parts(b.pixel(row / h), c) };
            let pass = Scale::<true, false> { x: a, weight, bias: weight, y, stream: false };
            channelwise::run_pixels(context, row * w..(row + 1) * w, c, &pass);
        }
    });
}

#[derive(Clone, Copy)]
struct Subtract;

impl Elementwise for Subtract {
    const READS: usize = 2;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, a: S::Vector, b: S::Vector) -> S::Vector {
        simd.sub(a, b)
    }
}

#[derive(Clone, Copy)]
struct Multiply;

impl Elementwise for Multiply {
    const READS: usize = 2;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, a: S::Vector, b: S::Vector) -> S::Vector {
        simd.mul(a, b)
    }
}

#[derive(Clone, Copy)]
struct NegativeProduct;

impl Elementwise for NegativeProduct {
    const READS: usize = 2;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, a: S::Vector, b: S::Vector) -> S::Vector {
        simd.mul(simd.sub(simd.zero(), a), b)
    }
}

#[derive(Clone, Copy)]
struct Divide;

impl Elementwise for Divide {
    const READS: usize = 2;
    const COST: usize = 2;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, a: S::Vector, b: S::Vector) -> S::Vector {
        simd.div(a, b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Tensor, assert_matches, assert_threads_agree, on_every_isa};
    use fovea_reference::{arithmetic as reference, check};

    const SHAPES: [[usize; 4]; 5] =
        [[1, 1, 1, 1], [2, 3, 5, 3], [1, 2, 2, 17], [3, 4, 1, 33], [2, 28, 28, 6]];

    type Operation = fn(Context, View4, View4, ViewMut4);
    type Definition = fn(&[f64], &[f64]) -> Vec<f64>;

    const OPERATIONS: [(Operation, Definition); 4] = [
        (subtract, reference::subtract),
        (multiply, reference::multiply),
        (divide, reference::divide),
        (negative_product, |a, b| reference::multiply(a, b).iter().map(|y| -y).collect()),
    ];

    /// Values of which none is next to zero, so that each may divide.
    fn divisors(seed: u64, shape: [usize; 4], gap: usize) -> Tensor {
        let values = check::uniform(seed, shape.iter().product());
        Tensor::new(&values.iter().map(|x| x.signum() * (0.5 + x.abs())).collect::<Vec<_>>(), shape, gap)
    }

    #[test]
    fn differences_products_and_quotients_equal_the_reference_and_work_in_place_of_either() {
        for (shape, (gap_a, gap_b)) in
            SHAPES.into_iter().flat_map(|shape| [(0, 0), (2, 0), (3, 1)].map(|gaps| (shape, gaps)))
        {
            let (a, b) = (Tensor::uniform(1, shape, gap_a), divisors(2, shape, gap_b));
            for (operation, definition) in OPERATIONS {
                let expected = definition(&a.wide(), &b.wide());
                on_every_isa(|context| {
                    let (mut y, mut on_a, mut on_b) = (Tensor::unwritten(shape, 1), a.clone(), b.clone());
                    operation(context, a.view(), b.view(), y.view_mut());
                    assert_matches(&y.values(), &expected, 2e-7);
                    let (from, to) = on_a.in_place();
                    operation(context, from, b.view(), to);
                    let (from, to) = on_b.in_place();
                    operation(context, a.view(), from, to);
                    assert_eq!([on_a.values(), on_b.values()], [y.values(), y.values()]);
                });
            }
        }
    }

    #[test]
    fn the_gradients_of_a_quotient_equal_the_reference() {
        let shape = [2, 3, 5, 7];
        let [a, dy] = [1, 2].map(|seed| Tensor::uniform(seed, shape, 0));
        let b = divisors(3, shape, 0);
        let [expected_a, expected_b] = reference::divide_backward(&dy.wide(), &a.wide(), &b.wide());
        on_every_isa(|context| {
            let [mut y, mut da, mut db] = [(); 3].map(|()| Tensor::unwritten(shape, 0));
            divide(context, a.view(), b.view(), y.view_mut());
            divide(context, dy.view(), b.view(), da.view_mut());
            negative_product(context, da.view(), y.view(), db.view_mut());
            assert_matches(&da.values(), &expected_a, 2e-7);
            assert_matches(&db.values(), &expected_b, 4e-7);
        });
    }

    #[test]
    fn a_factor_for_each_channel_of_an_image_equals_the_reference() {
        for (shape, gap) in SHAPES.into_iter().flat_map(|shape| [(shape, 0), (shape, 3)]) {
            let [n, h, w, c] = shape;
            let (a, b) = (Tensor::uniform(1, shape, gap), Tensor::uniform(2, [n, 1, 1, c], gap));
            let expected = reference::multiply(&a.wide(), &reference::spread(&b.wide(), h * w, c));
            on_every_isa(|context| {
                let (mut y, mut in_place) = (Tensor::unwritten(shape, 1), a.clone());
                multiply_channels(context, a.view(), b.view(), y.view_mut());
                assert_matches(&y.values(), &expected, 1e-7);
                let (from, to) = in_place.in_place();
                multiply_channels(context, from, b.view(), to);
                assert_eq!(in_place.values(), y.values());
            });
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let (a, b) = (Tensor::uniform(1, [9, 40, 40, 7], 0), divisors(2, [9, 40, 40, 7], 1));
        let factors = Tensor::uniform(3, [9, 1, 1, 7], 0);
        assert_threads_agree(|context| {
            let [mut y, mut z] = [(); 2].map(|()| Tensor::unwritten([9, 40, 40, 7], 0));
            divide(context, a.view(), b.view(), y.view_mut());
            multiply_channels(context, a.view(), factors.view(), z.view_mut());
            [y.values(), z.values()].concat()
        });
    }

    #[test]
    #[should_panic(expected = "operands of different shapes")]
    fn factors_of_other_images_are_refused() {
        let (a, b) = (Tensor::uniform(1, [2, 2, 2, 3], 0), Tensor::uniform(2, [1, 1, 1, 3], 0));
        on_every_isa(|context| {
            multiply_channels(context, a.view(), b.view(), a.clone().view_mut());
        });
    }
}
