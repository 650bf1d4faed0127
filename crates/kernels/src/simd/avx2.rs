//! AVX2 with FMA: eight lanes, sixteen registers.

use super::{Kernel, Simd};
use std::arch::x86_64::*;

/// Proof that the processor has AVX2 and FMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

/// Eight ones and eight zeros: a window of eight that starts at `8 - count` masks `count` lanes.
static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl Avx2 {
    /// The proof, if the processor gives it.
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    #[inline(always)]
    unsafe fn mask(count: usize) -> __m256i {
        debug_assert!(count <= 8);
        // SAFETY: count <= 8, so the window [8 - count, 16 - count) lies in MASKS; AVX2 is proven by `self`'s
        // callers.
        unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - count).cast()) }
    }
}

impl Simd for Avx2 {
    type Vector = __m256;

    const LANES: usize = 8;
    const REGISTERS: usize = 16;

    #[inline(never)]
    fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        fn inner<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` proves AVX2 and FMA.
        unsafe { inner(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(self, pointer: *const f32) -> __m256 {
        // SAFETY: the caller vouches for eight floats.
        unsafe { _mm256_loadu_ps(pointer) }
    }

    #[inline(always)]
    unsafe fn store(self, pointer: *mut f32, vector: __m256) {
        // SAFETY: the caller vouches for eight floats.
        unsafe { _mm256_storeu_ps(pointer, vector) }
    }

    #[inline(always)]
    unsafe fn stream(self, pointer: *mut f32, vector: __m256) {
        // SAFETY: the caller vouches for eight floats, aligned.
        unsafe { _mm256_stream_ps(pointer, vector) }
    }

    #[inline(always)]
    fn finish_streams(self) {
        // SAFETY: every x86-64 processor has the fence.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    unsafe fn load_partial(self, pointer: *const f32, count: usize) -> __m256 {
        // SAFETY: masked-off lanes are not read; the caller vouches for the others.
        unsafe { _mm256_maskload_ps(pointer, Self::mask(count)) }
    }

    /// A masked store takes some twenty cycles on Zen; halves, quarters and an eighth take one each.
    #[inline(always)]
    unsafe fn store_partial(self, pointer: *mut f32, vector: __m256, count: usize) {
        debug_assert!(count <= 8);
        // SAFETY: each piece written lies below `count`, which the caller vouches for.
        unsafe {
            if count == 8 {
                return _mm256_storeu_ps(pointer, vector);
            }
            let (mut pointer, mut rest) = (pointer, _mm256_castps256_ps128(vector));
            if count & 4 != 0 {
                _mm_storeu_ps(pointer, rest);
                pointer = pointer.add(4);
                rest = _mm256_extractf128_ps::<1>(vector);
            }
            if count & 2 != 0 {
                pointer.cast::<f64>().write_unaligned(_mm_cvtsd_f64(_mm_castps_pd(rest)));
                pointer = pointer.add(2);
                rest = _mm_movehl_ps(rest, rest);
            }
            if count & 1 != 0 {
                _mm_store_ss(pointer, rest);
            }
        }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, vector: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_sqrt_ps(vector) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: `self` proves FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn select_greater(self, a: __m256, b: __m256, value: __m256, other: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_blendv_ps(other, value, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) }
    }

    #[inline(always)]
    fn select_greater_or_nan(self, a: __m256, b: __m256, value: __m256, other: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let taken = _mm256_or_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b), _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a));
            _mm256_blendv_ps(other, value, taken)
        }
    }

    #[inline(always)]
    fn select_equal(self, a: __m256, b: __m256, value: __m256, other: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_blendv_ps(other, value, _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b)) }
    }

    #[inline(always)]
    fn scale(self, vector: __m256, exponent: __m256) -> __m256 {
        // The exponent field is the bits above the 23 of the fraction.
        // SAFETY: `self` proves AVX2.
        unsafe {
            let shifted = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(exponent));
            _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(vector), shifted))
        }
    }

    #[inline(always)]
    fn sum(self, vector: __m256) -> f32 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps::<1>(vector));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn largest(self, vector: __m256) -> f32 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps::<1>(vector));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    unsafe fn load_bytes(self, pointer: *const u8, count: usize) -> __m256 {
        debug_assert!(count <= 8);
        // SAFETY: each piece read lies below `count`, which the caller vouches for; `self` proves AVX2.
        unsafe {
            let (mut pointer, mut bytes, mut bits) = (pointer, 0u64, 0);
            if count == 8 {
                bytes = pointer.cast::<u64>().read_unaligned();
            }
            if count & 4 != 0 {
                bytes = u64::from(pointer.cast::<u32>().read_unaligned());
                (pointer, bits) = (pointer.add(4), 32);
            }
            if count & 2 != 0 {
                bytes |= u64::from(pointer.cast::<u16>().read_unaligned()) << bits;
                (pointer, bits) = (pointer.add(2), bits + 16);
            }
            if count & 1 != 0 {
                bytes |= u64::from(*pointer) << bits;
            }
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes as i64)))
        }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, pointer: *mut u8, vector: __m256, count: usize) {
        debug_assert!(count <= 8);
        // SAFETY: each piece written lies below `count`, which the caller vouches for; `self` proves AVX2.
        unsafe {
            let whole = _mm256_cvtps_epi32(vector);
            let halves = (_mm256_castsi256_si128(whole), _mm256_extracti128_si256::<1>(whole));
            let words = _mm_packus_epi32(halves.0, halves.1);
            let (mut pointer, mut bytes) = (pointer, _mm_cvtsi128_si64(_mm_packus_epi16(words, words)));
            if count == 8 {
                return pointer.cast::<i64>().write_unaligned(bytes);
            }
            if count & 4 != 0 {
                pointer.cast::<u32>().write_unaligned(bytes as u32);
                (pointer, bytes) = (pointer.add(4), bytes >> 32);
            }
            if count & 2 != 0 {
                pointer.cast::<u16>().write_unaligned(bytes as u16);
                (pointer, bytes) = (pointer.add(2), bytes >> 16);
            }
            if count & 1 != 0 {
                *pointer = bytes as u8;
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
            let mut rows = [_mm256_setzero_ps(); 8];
            for i in 0..8 {
                if i < from_rows {
                    rows[i] = _mm256_loadu_ps(from.add(i * from_step));
                }
            }
            // quads[g][j]: in each half h, column 4 h + j of rows 4 g .. 4 g + 3.
            let mut quads = [[_mm256_setzero_ps(); 4]; 2];
            for g in 0..2 {
                let [a, b, c, d] = [0, 1, 2, 3].map(|i| rows[4 * g + i]);
                let (low, high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let (low2, high2) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                quads[g] = [
                    _mm256_shuffle_ps::<0x44>(low, low2),
                    _mm256_shuffle_ps::<0xee>(low, low2),
                    _mm256_shuffle_ps::<0x44>(high, high2),
                    _mm256_shuffle_ps::<0xee>(high, high2),
                ];
            }
            for j in 0..4 {
                let [a, b] = [quads[0][j], quads[1][j]];
                if j < to_rows {
                    _mm256_storeu_ps(to.add(j * to_step), _mm256_permute2f128_ps::<0x20>(a, b));
                }
                if 4 + j < to_rows {
                    _mm256_storeu_ps(to.add((4 + j) * to_step), _mm256_permute2f128_ps::<0x31>(a, b));
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
