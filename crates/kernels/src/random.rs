//! Counter-based random numbers: Philox4x32-10.
//!
//! A value is a pure function of (seed, stream, index), so it depends neither on the number of threads that
//! draw nor on where a resumed run begins. Four words come out of every counter; the functions that take an
//! `index` count single values and cut the counter themselves, and the plural ones give all values of one
//! counter at once, which is the quicker way to fill memory.
//!
//! Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

use std::f64::consts::TAU;

const ROUNDS: usize = 10;

/// What the words are multiplied by in a round, and what is added to the keys after it.
const MULTIPLIERS: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Numbers that are drawn at a time where memory is filled with them.
pub(crate) const WORDS: usize = 256;

/// What random numbers are drawn for; keeps the streams of one seed apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// Initial weights; the index is the tensor's.
    Initialization = 0,
    /// The order of the samples; the index is the epoch.
    Shuffle = 1,
    /// Which values a dropout keeps; the index is the layer's and the step's.
    Dropout = 2,
    /// How images are varied; the index is the step.
    Augmentation = 3,
    /// Which images are kept to validate with; the index is their class.
    Split = 4,
}

/// The random numbers of one seed and stream.
///
/// - `seed`: what a user gives.
/// - `stream`: tells apart what is drawn under one seed; see [`Philox::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox {
    /// What a user gives: the key.
    pub seed: u64,
    /// What the numbers are for: the upper half of the counter.
    pub stream: u64,
}

impl Philox {
    /// The generator of a seed for a purpose and an index below 2^56 (of a tensor, of an epoch).
    pub const fn new(seed: u64, purpose: Purpose, index: u64) -> Philox {
        Philox { seed, stream: ((purpose as u64) << 56) ^ index }
    }

    /// The four words of a counter, each uniform over all of `u32`.
    pub const fn block(&self, counter: u64) -> [u32; 4] {
        let [mut x0, mut x1, mut x2, mut x3] =
            [counter as u32, (counter >> 32) as u32, self.stream as u32, (self.stream >> 32) as u32];
        let [mut k0, mut k1] = [self.seed as u32, (self.seed >> 32) as u32];
        let mut round = 0;
        while round < ROUNDS {
            let p0 = MULTIPLIERS[0] * x0 as u64;
            let p1 = MULTIPLIERS[1] * x2 as u64;
            [x0, x1, x2, x3] =
                [(p1 >> 32) as u32 ^ x1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ x3 ^ k1, p0 as u32];
            k0 = k0.wrapping_add(WEYL[0]);
            k1 = k1.wrapping_add(WEYL[1]);
            round += 1;
        }
        [x0, x1, x2, x3]
    }

    /// The value at `index` of a sequence uniform on [0, 1), a multiple of 2^-24.
    pub fn uniform(&self, index: u64) -> f32 {
        self.uniforms(index / 4)[(index % 4) as usize]
    }

    /// The values at `4 * counter ..` of the sequence that [`Philox::uniform`] gives.
    pub fn uniforms(&self, counter: u64) -> [f32; 4] {
        self.block(counter).map(|word| (word >> 8) as f32 * (1.0 / (1 << 24) as f32))
    }

    /// The upper 24 bits, as whole numbers, of the words of counters from `counter` on: what
    /// [`Philox::uniforms`] gives times 2^24.
    ///
    /// One counter a turn, without branches and with each word in the lower half of 64 bits, which is what a
    /// vector multiplication reads and its product needs: the compiler takes as many turns at once as a vector
    /// holds. Inlined into a function for an instruction set it runs as wide as that set.
    #[inline(always)]
    pub(crate) fn fill(&self, counter: u64, numbers: &mut [f32; WORDS]) {
        const LOW: u64 = u32::MAX as u64;
        let mut keys = [[self.seed & LOW, self.seed >> 32]; ROUNDS];
        for round in 1..ROUNDS {
            keys[round] = [0, 1].map(|word| (keys[round - 1][word] + WEYL[word] as u64) & LOW);
        }
        let mut words = [[0u32; WORDS / 4]; 4];
        for lane in 0..WORDS / 4 {
            let counter = counter.wrapping_add(lane as u64);
            let [mut x0, mut x1] = [counter & LOW, counter >> 32];
            let [mut x2, mut x3] = [self.stream & LOW, self.stream >> 32];
            for [k0, k1] in keys {
                let (p0, p1) = (MULTIPLIERS[0] * x0, MULTIPLIERS[1] * x2);
                (x0, x2) = ((p1 >> 32) ^ x1 ^ k0, (p0 >> 32) ^ x3 ^ k1);
                (x1, x3) = (p1 & LOW, p0 & LOW);
            }
            for (words, x) in words.iter_mut().zip([x0, x1, x2, x3]) {
                words[lane] = x as u32;
            }
        }
        for lane in 0..WORDS / 4 {
            for word in 0..4 {
                numbers[4 * lane + word] = (words[word][lane] >> 8) as i32 as f32;
            }
        }
    }

    /// The value at `index` of a sequence of normal values with mean 0 and deviation 1, at most 6.7 in
    /// magnitude.
    pub fn normal(&self, index: u64) -> f32 {
        self.normals(index / 4)[(index % 4) as usize]
    }

    /// The values at `4 * counter ..` of the sequence that [`Philox::normal`] gives.
    ///
    /// Computed in f64 (Box and Muller), so that the mathematical libraries of different platforms, which
    /// differ in the last bit, round to the same f32.
    pub fn normals(&self, counter: u64) -> [f32; 4] {
        let scale = 1.0 / (1u64 << 32) as f64;
        let pair = |radius: u32, angle: u32| {
            // One is added before scaling: (0, 1] has a logarithm everywhere.
            let radius = (-2.0 * ((radius as f64 + 1.0) * scale).ln()).sqrt();
            let (sin, cos) = (TAU * (angle as f64 * scale)).sin_cos();
            [(radius * cos) as f32, (radius * sin) as f32]
        };
        let [a, b, c, d] = self.block(counter);
        let ([first, second], [third, fourth]) = (pair(a, b), pair(c, d));
        [first, second, third, fourth]
    }

    /// The value at `index` of a sequence uniform on 0 .. n; 0 when n is 0.
    ///
    /// 64 random bits are scaled, so no value is preferred by more than n / 2^64.
    pub const fn below(&self, index: u64, n: u32) -> u32 {
        let [a, b, c, d] = self.block(index / 2);
        let bits = if index.is_multiple_of(2) { join(a, b) } else { join(c, d) };
        ((bits as u128 * n as u128) >> 64) as u32
    }
}

/// The 64-bit number of two words.
const fn join(low: u32, high: u32) -> u64 {
    low as u64 | ((high as u64) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::simd::{Kernel, Simd};

    #[test]
    fn blocks_equal_the_known_answers_of_the_authors() {
        // philox4x32, 10 rounds, in kat_vectors of Random123.
        let philox = |counter: [u32; 4], key: [u32; 2]| {
            Philox { seed: join(key[0], key[1]), stream: join(counter[2], counter[3]) }
                .block(join(counter[0], counter[1]))
        };
        assert_eq!(philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox([!0; 4], [!0; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        assert_eq!(
            philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    /// Fills memory as a kernel of an instruction set does.
    struct Fill<'a>(Philox, u64, &'a mut [f32; WORDS]);

    impl Kernel for Fill<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            self.0.fill(self.1, self.2);
        }
    }

    #[test]
    fn memory_is_filled_with_the_words_of_the_blocks_on_every_instruction_set() {
        let philox = Philox { seed: 0x0123_4567_89AB_CDEF, stream: 0xFEDC_BA98_7654_3210 };
        for (isa, counter) in Isa::available()
            .into_iter()
            .flat_map(|isa| [0, 64, u64::from(u32::MAX) - 5, u64::MAX - 3].map(|counter| (isa, counter)))
        {
            let mut numbers = [f32::NAN; WORDS];
            isa.run(Fill(philox, counter, &mut numbers));
            for (index, number) in numbers.into_iter().enumerate() {
                let word = philox.block(counter.wrapping_add(index as u64 / 4))[index % 4];
                assert_eq!(number, (word >> 8) as f32, "{index} on {}", isa.name());
            }
        }
    }

    #[test]
    fn streams_of_different_purposes_differ() {
        let [initialization, shuffle] =
            [Purpose::Initialization, Purpose::Shuffle].map(|purpose| Philox::new(7, purpose, 3).block(0));
        assert_ne!(initialization, shuffle);
    }

    #[test]
    fn uniform_values_fill_the_unit_interval_evenly() {
        let philox = Philox { seed: 1, stream: 2 };
        let count = 1 << 16;
        let mut bins = [0u32; 16];
        for index in 0..count {
            let value = philox.uniform(index);
            assert!((0.0..1.0).contains(&value));
            bins[(value * 16.0) as usize] += 1;
        }
        // 4096 expected in each bin, standard deviation 62: five of those either way.
        assert!(bins.iter().all(|&bin| bin.abs_diff(4096) < 310), "{bins:?}");
    }

    #[test]
    fn normal_values_have_the_moments_of_the_normal_distribution() {
        let philox = Philox { seed: 3, stream: 4 };
        let count = 1u64 << 17;
        let mut moments = [0.0f64; 4];
        for index in 0..count {
            let value = philox.normal(index) as f64;
            for (power, moment) in moments.iter_mut().enumerate() {
                *moment += value.powi(power as i32 + 1) / count as f64;
            }
        }
        for (moment, expected, tolerance) in [
            (moments[0], 0.0, 0.014),
            (moments[1], 1.0, 0.02),
            (moments[2], 0.0, 0.055),
            (moments[3], 3.0, 0.14),
        ] {
            assert!((moment - expected).abs() < tolerance, "{moments:?}"); // five standard errors
        }
    }

    #[test]
    fn neighbouring_normal_values_are_uncorrelated() {
        let philox = Philox { seed: 5, stream: 6 };
        let count = 1u64 << 16;
        let product = (0..count).map(|i| (philox.normal(i) * philox.normal(i + 1)) as f64).sum::<f64>();
        assert!((product / count as f64).abs() < 0.02);
    }

    #[test]
    fn bounded_values_reach_every_value_equally_often_and_stay_below_the_bound() {
        let philox = Philox { seed: 8, stream: 9 };
        let mut bins = [0u32; 10];
        for index in 0..40_000 {
            bins[philox.below(index, 10) as usize] += 1;
        }
        assert!(bins.iter().all(|&bin| bin.abs_diff(4000) < 300), "{bins:?}"); // five standard deviations
        for n in [0, 1, 2, u32::MAX] {
            assert!((0..100).all(|index| philox.below(index, n) < n.max(1)));
        }
    }
}
