//! AVX-512 (F, VL, DQ, BW): sixteen lanes, thirty-two registers, masks for what does not fill a vector.

use super::{Kernel, Simd};
use std::arch::x86_64::*;

/// Proof that the processor has AVX-512 F, VL, DQ and BW, as every server processor with any of it since 2017.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

impl Avx512 {
    /// The proof, if the processor gives it.
    pub fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        all.then_some(Self(()))
    }

    #[inline(always)]
    fn mask(count: usize) -> __mmask16 {
        debug_assert!(count <= 16);
        ((1u32 << count) - 1) as __mmask16
    }
}

impl Simd for Avx512 {
    type Vector = __m512;

    const LANES: usize = 16;
    const REGISTERS: usize = 32;

    #[inline(never)]
    fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
        fn inner<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` proves the features that `inner` enables.
        unsafe { inner(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(self, pointer: *const f32) -> __m512 {
        // SAFETY: the caller vouches for sixteen floats.
        unsafe { _mm512_loadu_ps(pointer) }
    }

    #[inline(always)]
    unsafe fn store(self, pointer: *mut f32, vector: __m512) {
        // SAFETY: the caller vouches for sixteen floats.
        unsafe { _mm512_storeu_ps(pointer, vector) }
    }

    #[inline(always)]
    unsafe fn stream(self, pointer: *mut f32, vector: __m512) {
        // SAFETY: the caller vouches for sixteen floats, aligned.
        unsafe { _mm512_stream_ps(pointer, vector) }
    }

    #[inline(always)]
    fn finish_streams(self) {
        // SAFETY: every x86-64 processor has the fence.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    unsafe fn load_partial(self, pointer: *const f32, count: usize) -> __m512 {
        // SAFETY: masked-off lanes are not read; the caller vouches for the others.
        unsafe { _mm512_maskz_loadu_ps(Self::mask(count), pointer) }
    }

    #[inline(always)]
    unsafe fn store_partial(self, pointer: *mut f32, vector: __m512, count: usize) {
        // SAFETY: masked-off lanes are not written; the caller vouches for the others.
        unsafe { _mm512_mask_storeu_ps(pointer, Self::mask(count), vector) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, vector: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_sqrt_ps(vector) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn select_greater(self, a: __m512, b: __m512, value: __m512, other: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), other, value) }
    }

    #[inline(always)]
    fn select_greater_or_nan(self, a: __m512, b: __m512, value: __m512, other: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe {
            let taken = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a);
            _mm512_mask_blend_ps(taken, other, value)
        }
    }

    #[inline(always)]
    fn select_equal(self, a: __m512, b: __m512, value: __m512, other: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b), other, value) }
    }

    #[inline(always)]
    fn scale(self, vector: __m512, exponent: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512.
        unsafe { _mm512_scalef_ps(vector, exponent) }
    }

    #[inline(always)]
    fn sum(self, vector: __m512) -> f32 {
        // SAFETY: `self` proves AVX-512, DQ for the halves.
        unsafe {
            let eight = _mm256_add_ps(_mm512_castps512_ps256(vector), _mm512_extractf32x8_ps::<1>(vector));
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn largest(self, vector: __m512) -> f32 {
        // SAFETY: `self` proves AVX-512, DQ for the halves.
        unsafe {
            let eight = _mm256_max_ps(_mm512_castps512_ps256(vector), _mm512_extractf32x8_ps::<1>(vector));
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    unsafe fn load_bytes(self, pointer: *const u8, count: usize) -> __m512 {
        // SAFETY: masked-off bytes are not read; the caller vouches for the others. BW and VL are proven.
        unsafe {
            let bytes = _mm_maskz_loadu_epi8(Self::mask(count), pointer.cast());
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))
        }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, pointer: *mut u8, vector: __m512, count: usize) {
        // SAFETY: masked-off bytes are not written; the caller vouches for the others. BW and VL are proven.
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(vector));
            _mm_mask_storeu_epi8(pointer.cast(), Self::mask(count), bytes);
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
            let mut rows = [_mm512_setzero_ps(); 16];
            for i in 0..16 {
                if i < from_rows {
                    rows[i] = _mm512_loadu_ps(from.add(i * from_step));
                }
            }
            // quads[g][j]: in each quarter q, column 4 q + j of rows 4 g .. 4 g + 3.
            let mut quads = [[_mm512_setzero_ps(); 4]; 4];
            for g in 0..4 {
                let [a, b, c, d] = [0, 1, 2, 3].map(|i| rows[4 * g + i]);
                let (low, high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                let (low2, high2) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
                quads[g] = [
                    _mm512_shuffle_ps::<0x44>(low, low2),
                    _mm512_shuffle_ps::<0xee>(low, low2),
                    _mm512_shuffle_ps::<0x44>(high, high2),
                    _mm512_shuffle_ps::<0xee>(high, high2),
                ];
            }
            for j in 0..4 {
                let [a, b, c, d] = [0, 1, 2, 3].map(|g| quads[g][j]);
                // Even and odd quarters of two, then of four.
                let (even, odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
                let (even2, odd2) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
                let columns = [
                    _mm512_shuffle_f32x4::<0x88>(even, even2),
                    _mm512_shuffle_f32x4::<0x88>(odd, odd2),
                    _mm512_shuffle_f32x4::<0xdd>(even, even2),
                    _mm512_shuffle_f32x4::<0xdd>(odd, odd2),
                ];
                for q in 0..4 {
                    if 4 * q + j < to_rows {
                        _mm512_storeu_ps(to.add((4 * q + j) * to_step), columns[q]);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn prefetch(self, pointer: *const f32) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(pointer.cast()) }
    }
}
