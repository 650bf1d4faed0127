//! Sums of each channel of a convolution's results and of their squares, taken while the results are in
//! registers: a batch normalization behind it would otherwise read all of them once more.
//!
//! Pixels are summed in groups, which depend on the shape alone; each is summed by one thread in one order, so
//! that the number of threads changes no bit. A group has a pivot for each channel, its first pixel's result
//! with few digits, and sums the differences from it: so a mean far larger than the deviation costs the
//! variance no digits.
//!
//! A group's record: the number of its pixels, on a cache line of its own; then pivots, sums and squares, each
//! `[channels]` on whole cache lines.

use super::tile::LINE;
use crate::simd::{Kernel, Simd};
use crate::threads::Shareable;

/// Pixels of a group at least, so that a record is little beside its results, unless the pixels are fewer.
const LEAST_PIXELS: usize = 64;

/// Groups at most, where tiles may be grouped at will.
const MOST_GROUPS: usize = 128;

/// How many times its magnitude a number is whose rounding a pivot shares: 2^10 leaves it 13 binary digits, so
/// that the difference from it is exact for nearly every result.
const COARSE: f32 = 1024.0;

/// Tiles of a group, of `pixels` pixels each, where there are `total` of them.
pub(super) fn tiles_a_group(total: usize, pixels: usize) -> usize {
    LEAST_PIXELS.div_ceil(pixels).max(total.div_ceil(MOST_GROUPS))
}

/// Floats of each array of a record.
const fn array_len(channels: usize) -> usize {
    channels.next_multiple_of(LINE)
}

/// Floats of a record.
const fn record_len(channels: usize) -> usize {
    LINE + 3 * array_len(channels)
}

/// Floats of the records of some groups.
pub(super) const fn moments_len(groups: usize, channels: usize) -> usize {
    groups * record_len(channels)
}

/// The records that a pass writes.
#[derive(Clone, Copy)]
pub(super) struct Records {
    memory: Shareable<f32>,
    channels: usize,
}

impl Records {
    /// Those of as many groups as `pixels` has, each of so many pixels.
    ///
    /// # Panics
    /// If the memory is not as long as the groups ask.
    pub(super) fn new(
        moments: &mut [f32],
        channels: usize,
        pixels: impl ExactSizeIterator<Item = usize>,
    ) -> Self {
        assert_eq!(moments.len(), moments_len(pixels.len(), channels), "length of the moments");
        for (record, pixels) in moments.chunks_exact_mut(record_len(channels)).zip(pixels) {
            record[0] = pixels as f32;
        }
        Self { memory: Shareable::new(moments), channels }
    }

    /// The pivots of a group.
    pub(super) fn group(&self, group: usize) -> Group {
        let pivots = self.memory.pointer().wrapping_add(group * record_len(self.channels) + LINE);
        Group { pivots, step: array_len(self.channels) }
    }
}

/// The arrays of a group.
#[derive(Clone, Copy)]
pub(super) struct Group {
    pivots: *mut f32,
    /// Floats from one array to the next.
    step: usize,
}

/// The sums of one vector of channels: those of some pixels, to be added to a group's.
pub(super) struct Running<S: Simd> {
    at: *mut f32,
    step: usize,
    pivot: S::Vector,
    /// Two of each, so that an addition need not wait for the one before.
    sums: [S::Vector; 2],
    squares: [S::Vector; 2],
    /// What the group has so far.
    before: [S::Vector; 2],
}

impl<S: Simd> Running<S> {
    /// For the vector of channels from `channel` on, a multiple of LANES. The group `begins` with this pixel,
    /// whose results are `first`.
    ///
    /// # Safety
    /// The group has the channel, and no other thread touches its arrays there.
    #[inline(always)]
    pub(super) unsafe fn new(simd: S, group: Group, channel: usize, begins: bool, first: S::Vector) -> Self {
        let (at, step) = (group.pivots.wrapping_add(channel), group.step);
        // SAFETY: arrays are whole vectors; the caller vouches for the channel.
        let (pivot, before) = unsafe {
            match begins {
                true => {
                    let magnitude = simd.max(first, simd.sub(simd.zero(), first));
                    let large = simd.mul(magnitude, simd.splat(COARSE));
                    let pivot = simd.sub(simd.add(first, large), large);
                    simd.store(at, pivot);
                    (pivot, [simd.zero(); 2])
                }
                false => (simd.load(at), [1, 2].map(|array| simd.load(at.add(array * step)))),
            }
        };
        Self { at, step, pivot, sums: [simd.zero(); 2], squares: [simd.zero(); 2], before }
    }

    /// Takes in the `index`-th result.
    #[inline(always)]
    pub(super) fn add(&mut self, simd: S, index: usize, result: S::Vector) {
        let difference = simd.sub(result, self.pivot);
        let chain = index % 2;
        self.sums[chain] = simd.add(self.sums[chain], difference);
        self.squares[chain] = simd.mul_add(difference, difference, self.squares[chain]);
    }

    /// Adds to the group.
    ///
    /// # Safety
    /// As [`Self::new`].
    #[inline(always)]
    pub(super) unsafe fn end(self, simd: S) {
        let Self { at, step, sums, squares, before, .. } = self;
        for (array, [even, odd], before) in [(1, sums, before[0]), (2, squares, before[1])] {
            // SAFETY: the caller vouches for the arrays.
            unsafe { simd.store(at.add(array * step), simd.add(before, simd.add(even, odd))) };
        }
    }
}

/// What the records say of some neighbouring channels, in f64.
pub(crate) struct Totals {
    /// Mean of each channel.
    pub(crate) means: [f64; LINE],
    /// Squares of the differences from it, summed.
    pub(crate) squares: [f64; LINE],
}

/// Pixels of all groups.
pub(crate) fn pixels(moments: &[f32], channels: usize) -> f64 {
    moments.chunks_exact(record_len(channels)).map(|record| f64::from(record[0])).sum()
}

impl Totals {
    /// Channels whose totals are taken side by side.
    pub(crate) const CHANNELS: usize = LINE;

    /// What finds those of the channels from `first` on, a multiple of [`Self::CHANNELS`]; what is beyond the
    /// last channel has no meaning.
    pub(crate) fn of(moments: &[f32], channels: usize, first: usize) -> impl Kernel<Output = Self> {
        TakeTotals { moments, channels, first }
    }
}

struct TakeTotals<'a> {
    moments: &'a [f32],
    channels: usize,
    first: usize,
}

impl Kernel for TakeTotals<'_> {
    type Output = Totals;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Totals {
        let Self { moments, channels, first } = self;
        let all = pixels(moments, channels);
        let records = || moments.chunks_exact(record_len(channels));
        let arrays = |record: &[f32]| {
            [0, 1, 2].map(|array| {
                let start = LINE + array * array_len(channels) + first;
                let mut wide = [0.0; LINE];
                wide.iter_mut().zip(&record[start..start + LINE]).for_each(|(wide, &x)| *wide = f64::from(x));
                wide
            })
        };
        let (mut means, mut squares) = ([0.0; LINE], [0.0; LINE]);
        for record in records() {
            let (count, [pivots, sums, _]) = (f64::from(record[0]), arrays(record));
            for channel in 0..LINE {
                means[channel] += count * pivots[channel] + sums[channel];
            }
        }
        means.iter_mut().for_each(|mean| *mean /= all);
        for record in records() {
            let (count, [pivots, sums, differences]) = (f64::from(record[0]), arrays(record));
            for channel in 0..LINE {
                let apart = pivots[channel] - means[channel];
                squares[channel] += differences[channel] + apart * (2.0 * sums[channel] + count * apart);
            }
        }
        Totals { means, squares }
    }
}
