//! NEON (Advanced SIMD) of AArch64: four lanes, thirty-two registers, of which tiles take twenty-four.
//!
//! A multiply-add takes one of its factors from a lane, so a broadcast costs no more than a scalar load.

use super::{Kernel, Simd};
use std::arch::aarch64::*;
use std::arch::{asm, is_aarch64_feature_detected};

/// Proof that the processor has NEON, as every AArch64 processor that runs an operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neon(());

impl Neon {
    /// The proof, if the processor gives it.
    pub fn detect() -> Option<Self> {
        is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

impl Simd for Neon {
    type Vector = float32x4_t;

    const LANES: usize = 4;
    /// Of thirty-two: the compiler loads several pixels' floats ahead of their multiply-adds, each into a
    /// register.
    const REGISTERS: usize = 24;

    #[inline(never)]
    fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon")]
        fn inner<K: Kernel>(simd: Neon, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` proves NEON.
        unsafe { inner(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    unsafe fn load(self, pointer: *const f32) -> float32x4_t {
        // SAFETY: the caller vouches for four floats.
        unsafe { vld1q_f32(pointer) }
    }

    #[inline(always)]
    unsafe fn store(self, pointer: *mut f32, vector: float32x4_t) {
        // SAFETY: the caller vouches for four floats.
        unsafe { vst1q_f32(pointer, vector) }
    }

    #[inline(always)]
    unsafe fn load_partial(self, pointer: *const f32, count: usize) -> float32x4_t {
        debug_assert!(count <= 4);
        let zero = self.zero();
        // SAFETY: each piece read lies below `count`, which the caller vouches for.
        unsafe {
            match count {
                0 => zero,
                1 => vld1q_lane_f32::<0>(pointer, zero),
                2 => vcombine_f32(vld1_f32(pointer), vget_high_f32(zero)),
                3 => {
                    let two = vcombine_f32(vld1_f32(pointer), vget_high_f32(zero));
                    vld1q_lane_f32::<2>(pointer.add(2), two)
                }
                _ => vld1q_f32(pointer),
            }
        }
    }

    #[inline(always)]
    unsafe fn store_partial(self, pointer: *mut f32, vector: float32x4_t, count: usize) {
        debug_assert!(count <= 4);
        // SAFETY: each piece written lies below `count`, which the caller vouches for.
        unsafe {
            match count {
                0 => {}
                1 => vst1q_lane_f32::<0>(pointer, vector),
                2 => vst1_f32(pointer, vget_low_f32(vector)),
                3 => {
                    vst1_f32(pointer, vget_low_f32(vector));
                    vst1q_lane_f32::<2>(pointer.add(2), vector);
                }
                _ => vst1q_f32(pointer, vector),
            }
        }
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vaddq_f32(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vsubq_f32(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vmulq_f32(a, b) }
    }

    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vdivq_f32(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, vector: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vsqrtq_f32(vector) }
    }

    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vfmaq_f32(c, a, b) }
    }

    /// A comparison and a selection: NEON's own maximum keeps what is not a number on either side.
    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        self.select_greater(a, b, a, b)
    }

    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        self.select_greater(b, a, a, b)
    }

    #[inline(always)]
    fn select_greater(
        self,
        a: float32x4_t,
        b: float32x4_t,
        value: float32x4_t,
        other: float32x4_t,
    ) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vbslq_f32(vcgtq_f32(a, b), value, other) }
    }

    #[inline(always)]
    fn select_greater_or_nan(
        self,
        a: float32x4_t,
        b: float32x4_t,
        value: float32x4_t,
        other: float32x4_t,
    ) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe {
            let taken = vornq_u32(vcgtq_f32(a, b), vceqq_f32(a, a));
            vbslq_f32(taken, value, other)
        }
    }

    #[inline(always)]
    fn select_equal(
        self,
        a: float32x4_t,
        b: float32x4_t,
        value: float32x4_t,
        other: float32x4_t,
    ) -> float32x4_t {
        // SAFETY: `self` proves NEON.
        unsafe { vbslq_f32(vceqq_f32(a, b), value, other) }
    }

    #[inline(always)]
    fn scale(self, vector: float32x4_t, exponent: float32x4_t) -> float32x4_t {
        // The exponent field is the bits above the 23 of the fraction.
        // SAFETY: `self` proves NEON.
        unsafe {
            let shifted = vshlq_n_s32::<23>(vcvtnq_s32_f32(exponent));
            vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(vector), shifted))
        }
    }

    #[inline(always)]
    fn sum(self, vector: float32x4_t) -> f32 {
        // SAFETY: `self` proves NEON.
        unsafe { vpadds_f32(vadd_f32(vget_low_f32(vector), vget_high_f32(vector))) }
    }

    #[inline(always)]
    fn largest(self, vector: float32x4_t) -> f32 {
        // SAFETY: `self` proves NEON.
        unsafe { vmaxvq_f32(vector) }
    }

    #[inline(always)]
    unsafe fn load_bytes(self, pointer: *const u8, count: usize) -> float32x4_t {
        debug_assert!(count <= 4);
        // SAFETY: each piece read lies below `count`, which the caller vouches for; `self` proves NEON.
        unsafe {
            let bytes = match count {
                0 => 0,
                1 => u32::from(*pointer),
                2 => u32::from(pointer.cast::<u16>().read_unaligned()),
                3 => {
                    let third = u32::from(*pointer.add(2));
                    u32::from(pointer.cast::<u16>().read_unaligned()) | (third << 16)
                }
                _ => pointer.cast::<u32>().read_unaligned(),
            };
            let words = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(bytes)));
            vcvtq_f32_u32(vmovl_u16(vget_low_u16(words)))
        }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, pointer: *mut u8, vector: float32x4_t, count: usize) {
        debug_assert!(count <= 4);
        // SAFETY: each piece written lies below `count`, which the caller vouches for; `self` proves NEON.
        unsafe {
            let words = vmovn_u32(vcvtnq_u32_f32(vector));
            let bytes = vget_lane_u32::<0>(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(words, words))));
            match count {
                0 => {}
                1 => *pointer = bytes as u8,
                2 => pointer.cast::<u16>().write_unaligned(bytes as u16),
                3 => {
                    pointer.cast::<u16>().write_unaligned(bytes as u16);
                    *pointer.add(2) = (bytes >> 16) as u8;
                }
                _ => pointer.cast::<u32>().write_unaligned(bytes),
            }
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
        // SAFETY: only rows that the caller vouches for are read and written.
        unsafe {
            let mut rows = [self.zero(); 4];
            for i in 0..4 {
                if i < from_rows {
                    rows[i] = vld1q_f32(from.add(i * from_step));
                }
            }
            let [a, b, c, d] = rows;
            // Even and odd columns of two rows as pairs, then pairs of all four.
            let even = [vtrn1q_f32(a, b), vtrn1q_f32(c, d)].map(|pairs| vreinterpretq_f64_f32(pairs));
            let odd = [vtrn2q_f32(a, b), vtrn2q_f32(c, d)].map(|pairs| vreinterpretq_f64_f32(pairs));
            let columns = [
                vtrn1q_f64(even[0], even[1]),
                vtrn1q_f64(odd[0], odd[1]),
                vtrn2q_f64(even[0], even[1]),
                vtrn2q_f64(odd[0], odd[1]),
            ];
            for j in 0..4 {
                if j < to_rows {
                    vst1q_f32(to.add(j * to_step), vreinterpretq_f32_f64(columns[j]));
                }
            }
        }
    }

    #[inline(always)]
    fn prefetch(self, pointer: *const f32) {
        // SAFETY: a prefetch of any address is harmless; it changes no register, flag or memory.
        unsafe { asm!("prfm pldl1keep, [{}]", in(reg) pointer, options(nostack, preserves_flags, readonly)) }
    }
}
