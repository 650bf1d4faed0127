//! Exponential, hyperbolic tangent, sigmoid and normal distribution of a vector, by polynomials fitted for
//! these ranges.
//!
//! | function | method | largest error on every set |
//! |---|---|---|
//! | [`exp`] | 2^n times a polynomial of degree 6 on half a power of two around 1 | 1.0 ulp |
//! | [`tanh`] | an odd polynomial of degree 11 below 0.6, above it [`exp`] | 1.3 ulp |
//! | [`sigmoid`] | [`exp`], in its range | 2.5 ulp |
//! | [`normal`] | [`exp`] times a polynomial in 1 / (1 + 0.35 abs x) | 2.5e-7 (absolute) |
//! | [`ln_1p`] | the series of 2 artanh(x / (2 + x)), of degree 13 | 2 ulp |
//!
//! The tests walk over all of `f32` and hold the errors to this table. The coefficients are minimax fits
//! (iteratively reweighted least squares on a Chebyshev grid).

use super::Simd;

/// Below it the exponential is less than the smallest normal number.
const LOWEST: f32 = -87.33;

/// Above it the exponential is more than the largest number.
const HIGHEST: f32 = 88.72283;

/// Adding and subtracting it rounds to a whole number: 1.5 * 2^23, whose unit in the last place is 1.
const ROUNDING: f32 = 12_582_912.0;

/// ln 2 in two parts; the first has nine bits, so its product with a whole exponent is exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2 with a relative error of e^r below 3.1e-9, lowest power first.
const EXP: [f32; 5] = [0.499_999_93, 0.166_665_2, 0.041_668_39, 0.008_368_717, 0.001_381_459_8];

/// Where tanh changes from its own polynomial to the exponential.
const SMALL: f32 = 0.6;

/// From here on tanh rounds to 1.
const SATURATED: f32 = 9.1;

/// (tanh(x) / x - 1) / x^2 in powers of x^2 for |x| <= 0.6, relative error of tanh below 2.7e-9.
const TANH: [f32; 5] = [-0.333_333, 0.133_319_58, -0.053_786_684, 0.020_805_384, -0.005_905_868];

/// (artanh(z) / z - 1) / z^2 in powers of z^2, cut where the rest is below 1.4e-8 for z <= 1 / 3.
const ARTANH: [f32; 6] = [1.0 / 3.0, 1.0 / 5.0, 1.0 / 7.0, 1.0 / 9.0, 1.0 / 11.0, 1.0 / 13.0];

/// Of the t = 1 / (1 + NORMAL_SCALE u) in which the tail of the normal distribution is a polynomial.
const NORMAL_SCALE: f32 = 0.35;

/// erfc(u / sqrt 2) e^(u^2 / 2) / (2 t) in powers of t for 0 <= u <= 14, with a relative error below 6.4e-8.
const NORMAL: [f32; 9] = [
    0.139_618_71,
    0.139_912_3,
    0.119_444_92,
    0.107_114_59,
    -0.027_046_608,
    0.165_051,
    -0.260_961_23,
    0.146_545_83,
    -0.029_679_522,
];

/// 1 / sqrt(2 pi)
const NORMAL_PEAK: f32 = 0.398_942_3;

/// The polynomial with these coefficients, lowest power first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, x: S::Vector, coefficients: [f32; N]) -> S::Vector {
    let mut sum = simd.splat(coefficients[N - 1]);
    for coefficient in coefficients[..N - 1].iter().rev() {
        sum = simd.mul_add(sum, x, simd.splat(*coefficient));
    }
    sum
}

/// e^x. Zero below -87.33 (results that would be subnormal), infinity above 88.72283, NaN for NaN.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let (lowest, highest) = (simd.splat(LOWEST), simd.splat(HIGHEST));
    let y = exp_in_range(simd, simd.min(highest, simd.max(lowest, x)));
    let y = simd.select_greater(lowest, x, simd.zero(), y);
    simd.select_greater(x, highest, simd.splat(f32::INFINITY), y)
}

/// e^x for x in -87.33..=88.72283 or NaN: 2^n e^r with |r| <= ln 2 / 2.
#[inline(always)]
fn exp_in_range<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let rounding = simd.splat(ROUNDING);
    let n = simd.sub(simd.mul_add(x, simd.splat(std::f32::consts::LOG2_E), rounding), rounding);
    let r = simd.mul_add(n, simd.splat(-LN_2[0]), x);
    let r = simd.mul_add(n, simd.splat(-LN_2[1]), r);
    let tail = simd.mul_add(polynomial(simd, r, EXP), simd.mul(r, r), r);
    simd.scale(simd.add(tail, simd.splat(1.0)), n)
}

/// tanh(x), exactly ±1 where it rounds to it; NaN for NaN.
#[inline(always)]
pub fn tanh<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let (zero, one, two) = (simd.zero(), simd.splat(1.0), simd.splat(2.0));
    let square = simd.mul(x, x);
    let near = simd.mul_add(simd.mul(x, square), polynomial(simd, square, TANH), x);
    // tanh |x| = 1 - 2 / (e^2|x| + 1), whose cancellation is harmless where it is above a half
    let magnitude = simd.max(simd.sub(zero, x), x);
    let power = exp_in_range(simd, simd.mul(two, simd.min(simd.splat(SATURATED), magnitude)));
    let far = simd.sub(one, simd.div(two, simd.add(power, one)));
    let far = simd.select_greater(zero, x, simd.sub(zero, far), far);
    simd.select_greater(simd.splat(SMALL), magnitude, near, far)
}

/// log(1 + x) for x in 0..=1; NaN for NaN.
#[inline(always)]
pub fn ln_1p<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let z = simd.div(x, simd.add(simd.splat(2.0), x));
    let square = simd.mul(z, z);
    let series = polynomial(simd, square, ARTANH);
    let twice = simd.add(z, z);
    simd.mul_add(simd.mul(twice, square), series, twice)
}

/// 1 / (1 + e^-x), 0 where that is below the smallest normal number; NaN for NaN.
#[inline(always)]
pub fn sigmoid<S: Simd>(simd: S, x: S::Vector) -> S::Vector {
    let one = simd.splat(1.0);
    simd.div(one, simd.add(one, exp(simd, simd.sub(simd.zero(), x))))
}

/// The standard normal distribution: (1 + erf(x / sqrt 2)) / 2, the share of it below x, and its density at x,
/// e^(-x^2 / 2) / sqrt(2 pi). Both NaN for NaN.
#[inline(always)]
pub fn normal<S: Simd>(simd: S, x: S::Vector) -> [S::Vector; 2] {
    let (zero, one) = (simd.zero(), simd.splat(1.0));
    let magnitude = simd.max(simd.sub(zero, x), x);
    let power = exp(simd, simd.mul(simd.mul(x, x), simd.splat(-0.5)));
    let t = simd.div(one, simd.mul_add(magnitude, simd.splat(NORMAL_SCALE), one));
    let tail = simd.mul(simd.mul(power, t), polynomial(simd, t, NORMAL));
    let share = simd.select_greater(x, zero, simd.sub(one, tail), tail);
    [share, simd.mul(power, simd.splat(NORMAL_PEAK))]
}

#[cfg(test)]
mod tests {
    use super::super::Kernel;
    use super::*;
    use crate::Isa;

    #[derive(Clone, Copy)]
    enum Function {
        Exp,
        Tanh,
        Sigmoid,
        Ln1p,
        Normal,
        Density,
    }

    /// Applies the function to one vector at a time.
    struct Map<'a>(Function, &'a mut [f32]);

    impl Kernel for Map<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            for values in self.1.chunks_mut(S::LANES) {
                // SAFETY: a chunk has at most LANES floats, and its length is the count.
                unsafe {
                    let x = simd.load_partial(values.as_ptr(), values.len());
                    let y = match self.0 {
                        Function::Exp => exp(simd, x),
                        Function::Tanh => tanh(simd, x),
                        Function::Sigmoid => sigmoid(simd, x),
                        Function::Ln1p => ln_1p(simd, x),
                        Function::Normal => normal(simd, x)[0],
                        Function::Density => normal(simd, x)[1],
                    };
                    simd.store_partial(values.as_mut_ptr(), y, values.len());
                }
            }
        }
    }

    fn map(isa: Isa, function: Function, values: &[f32]) -> Vec<f32> {
        let mut values = values.to_vec();
        isa.run(Map(function, &mut values));
        values
    }

    /// Every 1009th normal number of either sign: each exponent, all kinds of fractions.
    fn normal_numbers() -> Vec<f32> {
        (0..u32::MAX).step_by(1009).map(f32::from_bits).filter(|x| x.is_normal()).collect()
    }

    /// The largest distance from `expected`, in units in the last place of its rounding.
    fn largest_error(x: &[f32], actual: &[f32], expected: impl Fn(f64) -> f64) -> f64 {
        let errors = x.iter().zip(actual).map(|(&x, &actual)| {
            let expected = expected(f64::from(x));
            let rounded = (expected as f32).abs();
            let unit = f64::from(f32::from_bits(rounded.to_bits() + 1)) - f64::from(rounded);
            (f64::from(actual) - expected).abs() / unit
        });
        errors.fold(0.0, f64::max)
    }

    #[test]
    fn the_exponential_is_exact_to_one_ulp_over_all_of_its_range() {
        let x: Vec<_> = normal_numbers().into_iter().filter(|x| (LOWEST..=HIGHEST).contains(x)).collect();
        for isa in Isa::available() {
            let error = largest_error(&x, &map(isa, Function::Exp, &x), f64::exp);
            assert!(error <= 1.0, "{}: {error} ulp", isa.name());
        }
    }

    #[test]
    fn the_exponential_ends_in_zero_and_infinity_and_keeps_nan() {
        let x = [f32::NEG_INFINITY, -1e30, -87.34, 0.0, -0.0, 88.73, 1e30, f32::INFINITY, f32::NAN];
        for isa in Isa::available() {
            let y = map(isa, Function::Exp, &x);
            assert_eq!(y[..8], [0.0, 0.0, 0.0, 1.0, 1.0, f32::INFINITY, f32::INFINITY, f32::INFINITY]);
            assert!(y[8].is_nan());
        }
    }

    #[test]
    fn the_hyperbolic_tangent_is_exact_to_two_ulp_over_all_numbers() {
        let x = normal_numbers();
        for isa in Isa::available() {
            let y = map(isa, Function::Tanh, &x);
            assert!(y.iter().all(|y| y.abs() <= 1.0));
            let error = largest_error(&x, &y, f64::tanh);
            assert!(error <= 1.3, "{}: {error} ulp", isa.name());
        }
    }

    #[test]
    fn the_hyperbolic_tangent_ends_in_one_and_keeps_nan_and_zero() {
        let x = [f32::NEG_INFINITY, -20.0, 0.0, 20.0, f32::MAX, f32::INFINITY, f32::NAN];
        for isa in Isa::available() {
            let y = map(isa, Function::Tanh, &x);
            assert_eq!(y[..6], [-1.0, -1.0, 0.0, 1.0, 1.0, 1.0]);
            assert!(y[6].is_nan());
        }
    }

    #[test]
    fn the_sigmoid_is_exact_to_three_ulp_over_all_numbers() {
        // Below -87.33 the result is next to the smallest normal number, where it becomes zero.
        let x: Vec<_> = normal_numbers().into_iter().filter(|&x| x > -87.3).collect();
        for isa in Isa::available() {
            let y = map(isa, Function::Sigmoid, &x);
            let error = largest_error(&x, &y, |x| 1.0 / (1.0 + (-x).exp()));
            assert!(error <= 2.5, "{}: {error} ulp", isa.name());
        }
    }

    #[test]
    fn the_sigmoid_ends_in_zero_and_one_and_keeps_nan() {
        let x = [f32::NEG_INFINITY, -1e30, 0.0, 20.0, f32::MAX, f32::INFINITY, f32::NAN];
        for isa in Isa::available() {
            let y = map(isa, Function::Sigmoid, &x);
            assert_eq!(y[..6], [0.0, 0.0, 0.5, 1.0, 1.0, 1.0]);
            assert!(y[6].is_nan());
        }
    }

    #[test]
    fn the_normal_distribution_and_its_density_are_exact_to_a_quarter_of_a_millionth_over_all_numbers() {
        let x = normal_numbers();
        // The share below x is the slope of GELU's first term, its value over x.
        let share = |x: f64| fovea_reference::activation::gelu(&[x])[0] / x;
        let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        for isa in Isa::available() {
            let expect = |function, expected: &dyn Fn(f64) -> f64| {
                let errors = x.iter().zip(map(isa, function, &x));
                let errors = errors.map(|(&x, y)| (f64::from(y) - expected(f64::from(x))).abs());
                let error = errors.fold(0.0, f64::max);
                assert!(error <= 2.5e-7, "{}: {error:e}", isa.name());
            };
            expect(Function::Normal, &share);
            expect(Function::Density, &density);
            assert!(map(isa, Function::Normal, &[f32::NAN])[0].is_nan());
            assert_eq!(map(isa, Function::Normal, &[f32::NEG_INFINITY, 0.0, f32::INFINITY]), [0.0, 0.5, 1.0]);
        }
    }

    #[test]
    fn the_logarithm_of_one_and_more_is_exact_to_two_ulp_from_zero_to_one() {
        let mut x: Vec<_> = normal_numbers().into_iter().filter(|x| (0.0..=1.0).contains(x)).collect();
        x.extend([0.0, 1.0]);
        for isa in Isa::available() {
            let y = map(isa, Function::Ln1p, &x);
            let error = largest_error(&x, &y, f64::ln_1p);
            assert!(error <= 2.0, "{}: {error} ulp", isa.name());
            assert!(map(isa, Function::Ln1p, &[f32::NAN])[0].is_nan());
        }
    }
}
