//! The portable set: four lanes in plain Rust.
//!
//! Any target's compiler turns these arrays into what it has (SSE2 on x86-64, NEON on AArch64). Multiplication
//! and addition round separately, because a fused operation without hardware support is a slow library call.

use super::{Kernel, Simd};

/// The portable set, which every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scalar;

const LANES: usize = 4;

/// Four lanes, aligned so that a compiler keeps them in one register.
#[derive(Clone, Copy)]
#[repr(align(16))]
pub struct Vector([f32; LANES]);

#[inline(always)]
fn map2(a: Vector, b: Vector, f: impl Fn(f32, f32) -> f32) -> Vector {
    Vector(std::array::from_fn(|i| f(a.0[i], b.0[i])))
}

impl Simd for Scalar {
    type Vector = Vector;

    const LANES: usize = LANES;
    const REGISTERS: usize = 16;

    #[inline]
    fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Vector {
        Vector([value; LANES])
    }

    #[inline(always)]
    unsafe fn load(self, pointer: *const f32) -> Vector {
        // SAFETY: the caller vouches for LANES floats; read_unaligned asks for no alignment.
        Vector(unsafe { pointer.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, pointer: *mut f32, vector: Vector) {
        // SAFETY: the caller vouches for LANES floats; write_unaligned asks for no alignment.
        unsafe { pointer.cast::<[f32; LANES]>().write_unaligned(vector.0) }
    }

    #[inline(always)]
    unsafe fn load_partial(self, pointer: *const f32, count: usize) -> Vector {
        // SAFETY: only lanes below `count` are read, which the caller vouches for.
        Vector(std::array::from_fn(|i| if i < count { unsafe { *pointer.add(i) } } else { 0.0 }))
    }

    #[inline(always)]
    unsafe fn store_partial(self, pointer: *mut f32, vector: Vector, count: usize) {
        for i in 0..count {
            // SAFETY: i < count, which the caller vouches for.
            unsafe { *pointer.add(i) = vector.0[i] }
        }
    }

    #[inline(always)]
    fn add(self, a: Vector, b: Vector) -> Vector {
        map2(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Vector, b: Vector) -> Vector {
        map2(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Vector, b: Vector) -> Vector {
        map2(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Vector, b: Vector) -> Vector {
        map2(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn sqrt(self, vector: Vector) -> Vector {
        Vector(vector.0.map(f32::sqrt))
    }

    #[inline(always)]
    fn mul_add(self, a: Vector, b: Vector, c: Vector) -> Vector {
        Vector(std::array::from_fn(|i| a.0[i] * b.0[i] + c.0[i]))
    }

    #[inline(always)]
    fn max(self, a: Vector, b: Vector) -> Vector {
        map2(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: Vector, b: Vector) -> Vector {
        map2(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn select_greater(self, a: Vector, b: Vector, value: Vector, other: Vector) -> Vector {
        Vector(std::array::from_fn(|i| if a.0[i] > b.0[i] { value.0[i] } else { other.0[i] }))
    }

    #[inline(always)]
    fn select_greater_or_nan(self, a: Vector, b: Vector, value: Vector, other: Vector) -> Vector {
        let greater = |i: usize| a.0[i] > b.0[i] || a.0[i].is_nan();
        Vector(std::array::from_fn(|i| if greater(i) { value.0[i] } else { other.0[i] }))
    }

    #[inline(always)]
    fn select_equal(self, a: Vector, b: Vector, value: Vector, other: Vector) -> Vector {
        Vector(std::array::from_fn(|i| if a.0[i] == b.0[i] { value.0[i] } else { other.0[i] }))
    }

    #[inline(always)]
    fn scale(self, vector: Vector, exponent: Vector) -> Vector {
        // The exponent field is the bits above the 23 of the fraction.
        map2(vector, exponent, |v, e| f32::from_bits(v.to_bits().wrapping_add((e as i32 as u32) << 23)))
    }

    #[inline(always)]
    fn sum(self, vector: Vector) -> f32 {
        let [a, b, c, d] = vector.0;
        (a + c) + (b + d)
    }

    #[inline(always)]
    fn largest(self, vector: Vector) -> f32 {
        let [a, b, c, d] = vector.0;
        let larger = |a: f32, b: f32| if a > b { a } else { b };
        larger(larger(a, c), larger(b, d))
    }

    #[inline(always)]
    unsafe fn load_bytes(self, pointer: *const u8, count: usize) -> Vector {
        // SAFETY: only lanes below `count` are read, which the caller vouches for.
        Vector(std::array::from_fn(|i| if i < count { f32::from(unsafe { *pointer.add(i) }) } else { 0.0 }))
    }

    #[inline(always)]
    unsafe fn store_bytes(self, pointer: *mut u8, vector: Vector, count: usize) {
        for i in 0..count {
            // SAFETY: i < count, which the caller vouches for.
            unsafe { *pointer.add(i) = vector.0[i] as u8 }
        }
    }

    #[inline(always)]
    unsafe fn transpose(
        self,
        from: *const f32,
        from_step: usize,
        from_rows: usize,
        to: *mut f32,
        to_step: usize,
        to_rows: usize,
    ) {
        for row in 0..to_rows {
            for column in 0..LANES {
                // SAFETY: the element lies in a row that the caller vouches for.
                unsafe {
                    let value = if column < from_rows { *from.add(column * from_step + row) } else { 0.0 };
                    *to.add(row * to_step + column) = value;
                }
            }
        }
    }

    #[inline(always)]
    fn prefetch(self, _pointer: *const f32) {}
}
