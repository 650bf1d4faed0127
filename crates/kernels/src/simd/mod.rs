//! One vector interface, one file per instruction set behind it.
//!
//! A kernel is a value that implements [`Kernel`]: its `run` is generic over [`Simd`] and always inlined into
//! the one function per set that carries the `target_feature` attribute ([`Simd::enter`]), so the compiler sees
//! the whole inner loop with that set's registers and instructions.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
pub mod math;
#[cfg(target_arch = "aarch64")]
pub mod neon;
pub mod scalar;

/// Work to be compiled once per instruction set.
pub trait Kernel {
    /// What the work returns.
    type Output;

    /// The work. Implementations are `#[inline(always)]`, or the set's instructions are out of reach.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// The operations of an instruction set on vectors of [`Simd::LANES`] floats.
///
/// A value of the type proves that the processor has the set, so the arithmetic is safe to call; what takes a
/// pointer is unsafe for the pointer's sake.
pub trait Simd: Copy + Send + Sync + 'static {
    /// A vector register of `f32`.
    type Vector: Copy;

    /// Floats in a vector.
    const LANES: usize;

    /// Vector registers that a register tile may fill.
    const REGISTERS: usize;

    /// Runs `kernel` in a function compiled for this set.
    fn enter<K: Kernel>(self, kernel: K) -> K::Output;

    /// Every lane is `value`.
    fn splat(self, value: f32) -> Self::Vector;

    /// Every lane is zero.
    #[inline(always)]
    fn zero(self) -> Self::Vector {
        self.splat(0.0)
    }

    /// Reads `LANES` floats, at any alignment.
    ///
    /// # Safety
    /// `pointer` is valid for reading `LANES` floats.
    unsafe fn load(self, pointer: *const f32) -> Self::Vector;

    /// Writes `LANES` floats, at any alignment.
    ///
    /// # Safety
    /// `pointer` is valid for writing `LANES` floats.
    unsafe fn store(self, pointer: *mut f32, vector: Self::Vector);

    /// Writes `LANES` floats past the caches where the set can: for memory that is too large to be found there
    /// when it is read again. Other threads see it after [`Simd::finish_streams`].
    ///
    /// # Safety
    /// `pointer` is valid for writing `LANES` floats and aligned to a whole vector.
    #[inline(always)]
    unsafe fn stream(self, pointer: *mut f32, vector: Self::Vector) {
        // SAFETY: the caller vouches for the floats.
        unsafe { self.store(pointer, vector) }
    }

    /// Waits until what this thread streamed is in memory.
    #[inline(always)]
    fn finish_streams(self) {}

    /// Reads the first `count` floats; the other lanes are zero and their memory is not touched.
    ///
    /// # Safety
    /// `pointer` is valid for reading `count` floats and `count <= LANES`.
    unsafe fn load_partial(self, pointer: *const f32, count: usize) -> Self::Vector;

    /// Writes the first `count` lanes; memory beyond is not touched.
    ///
    /// # Safety
    /// `pointer` is valid for writing `count` floats and `count <= LANES`.
    unsafe fn store_partial(self, pointer: *mut f32, vector: Self::Vector, count: usize);

    /// Reads `count` floats, all of a vector or some: where `count` is the constant `LANES`, nothing is decided
    /// at run time.
    ///
    /// # Safety
    /// As [`Simd::load_partial`].
    #[inline(always)]
    unsafe fn load_up_to(self, pointer: *const f32, count: usize) -> Self::Vector {
        // SAFETY: the caller vouches for `count` floats, which are LANES in the first case.
        unsafe { if count == Self::LANES { self.load(pointer) } else { self.load_partial(pointer, count) } }
    }

    /// Writes `count` floats, all of a vector or some, as [`Simd::load_up_to`] reads them.
    ///
    /// # Safety
    /// As [`Simd::store_partial`].
    #[inline(always)]
    unsafe fn store_up_to(self, pointer: *mut f32, vector: Self::Vector, count: usize) {
        // SAFETY: the caller vouches for `count` floats, which are LANES in the first case.
        unsafe {
            if count == Self::LANES {
                self.store(pointer, vector)
            } else {
                self.store_partial(pointer, vector, count)
            }
        }
    }

    /// a + b
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// a - b
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// a * b
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// a / b
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// The square root, correctly rounded.
    fn sqrt(self, vector: Self::Vector) -> Self::Vector;

    /// a * b + c, rounded once where the set has a fused instruction.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;

    /// The larger of each pair; `b` where either is not a number, so `max(zero, x)` keeps an `x` that is none.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// The smaller of each pair; `b` where either is not a number.
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// `value` in the lanes where `a > b`, otherwise `other`.
    fn select_greater(
        self,
        a: Self::Vector,
        b: Self::Vector,
        value: Self::Vector,
        other: Self::Vector,
    ) -> Self::Vector;

    /// `value` in the lanes where `a > b` or `a` is not a number, otherwise `other`.
    fn select_greater_or_nan(
        self,
        a: Self::Vector,
        b: Self::Vector,
        value: Self::Vector,
        other: Self::Vector,
    ) -> Self::Vector;

    /// `value` in the lanes where `a == b`, otherwise `other`.
    fn select_equal(
        self,
        a: Self::Vector,
        b: Self::Vector,
        value: Self::Vector,
        other: Self::Vector,
    ) -> Self::Vector;

    /// `vector` times two to the power `exponent`, where the exponents are whole and both `vector` and the
    /// result are normal numbers; a lane of `vector` that is not a number stays one.
    fn scale(self, vector: Self::Vector, exponent: Self::Vector) -> Self::Vector;

    /// The sum of all lanes, added as a tree (lane i and lane i + half first).
    fn sum(self, vector: Self::Vector) -> f32;

    /// The largest lane; any lane if one is not a number.
    fn largest(self, vector: Self::Vector) -> f32;

    /// Reads the first `count` bytes as floats; the other lanes are zero and their memory is not touched.
    ///
    /// # Safety
    /// `pointer` is valid for reading `count` bytes and `count <= LANES`.
    unsafe fn load_bytes(self, pointer: *const u8, count: usize) -> Self::Vector;

    /// Writes the first `count` lanes, whole numbers in 0..=255, as bytes; memory beyond is not touched.
    ///
    /// # Safety
    /// `pointer` is valid for writing `count` bytes and `count <= LANES`.
    unsafe fn store_bytes(self, pointer: *mut u8, vector: Self::Vector, count: usize);

    /// Transposes a square of LANES x LANES floats: row i of `to` is column i of `from`.
    ///
    /// Only the first `from_rows` rows are read, the others count as zeros, and the first `to_rows` rows
    /// written; rows are always LANES floats, `from_step` and `to_step` apart.
    ///
    /// # Safety
    /// `from` is valid for reading and `to` for writing those rows, and they do not overlap.
    unsafe fn transpose(
        self,
        from: *const f32,
        from_step: usize,
        from_rows: usize,
        to: *mut f32,
        to_step: usize,
        to_rows: usize,
    );

    /// Asks for the cache line at `pointer`, which may be any address.
    fn prefetch(self, pointer: *const f32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    struct Transpose<'a> {
        from: &'a [f32],
        from_rows: usize,
        to: &'a mut [f32],
        to_rows: usize,
        step: usize,
    }

    impl Kernel for Transpose<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let (from, to) = (self.from.as_ptr(), self.to.as_mut_ptr());
            // SAFETY: both have LANES rows of LANES floats, `step` apart.
            unsafe { simd.transpose(from, self.step, self.from_rows, to, self.step, self.to_rows) };
        }
    }

    #[test]
    fn a_transposed_square_has_columns_for_rows_and_zeros_for_missing_ones() {
        for isa in Isa::available() {
            let (lanes, step) = (isa.lanes(), isa.lanes() + 1);
            let from: Vec<f32> = (0..lanes * step).map(|i| i as f32).collect();
            for (from_rows, to_rows) in [(lanes, lanes), (3, lanes), (lanes, 2), (1, 1)] {
                let mut to = vec![-1.0; lanes * step];
                isa.run(Transpose { from: &from, from_rows, to: &mut to, to_rows, step });
                for row in 0..lanes {
                    for column in 0..step {
                        let expected = match (row < to_rows && column < lanes, column < from_rows) {
                            (false, _) => -1.0,
                            (true, false) => 0.0,
                            (true, true) => from[column * step + row],
                        };
                        assert_eq!(to[row * step + column], expected, "{row} {column} on {}", isa.name());
                    }
                }
            }
        }
    }
}
