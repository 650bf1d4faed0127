//! The transform of the weights: U = G g G'.

use super::super::Pass;
use super::super::winograd_transform::{FREQUENCIES, INPUTS, weight_line};
use super::{GAP, Winograd};
use crate::Context;
use crate::simd::{Kernel, Simd};
use crate::threads::Shareable;

/// Floats of a part of the weights' transform.
const WEIGHTS_A_PART: usize = 1 << 12;

impl Winograd {
    /// Floats of the transformed weights.
    pub fn weight_len(&self) -> usize {
        FREQUENCIES * self.frequency_len()
    }

    /// Floats from one frequency of U to the next.
    pub(super) fn frequency_len(&self) -> usize {
        self.panels.count * self.channels[0] * self.panels.width + GAP
    }

    /// U from the weights: for the forward pass the convolution's own, for the input gradient the packed ones.
    ///
    /// # Panics
    /// When a slice has another length than the convolution's and [`Self::weight_len`].
    pub fn transform_weight(&self, context: Context, weight: &[f32], transformed: &mut [f32]) {
        assert_eq!((weight.len(), transformed.len()), (self.panels.len(), self.weight_len()));
        let (width, channels) = (self.panels.width, self.channels[0]);
        let rows = self.panels.count * channels;
        let rows_a_part = WEIGHTS_A_PART.div_ceil(width);
        let transformed = Shareable::new(transformed);
        context.pool.run(rows.div_ceil(rows_a_part), |_, part| {
            context.isa.run(TransformWeight {
                weight,
                transformed,
                rows: [part * rows_a_part, ((part + 1) * rows_a_part).min(rows)],
                width,
                channels,
                frequency_len: self.frequency_len(),
                flip: self.pass == Pass::BackwardInput,
            });
        });
    }
}

/// U of some rows (panel, channel) of the weights.
struct TransformWeight<'a> {
    weight: &'a [f32],
    transformed: Shareable<f32>,
    rows: [usize; 2],
    width: usize,
    channels: usize,
    frequency_len: usize,
    /// The input gradient's weights are read in reverse.
    flip: bool,
}

impl Kernel for TransformWeight<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { weight, transformed, rows, width, channels, frequency_len, flip } = self;
        for row in rows[0]..rows[1] {
            let (panel, channel) = (row / channels, row % channels);
            for lane in (0..width).step_by(S::LANES) {
                let at = |tap: usize| (panel * 9 + tap) * channels * width + channel * width + lane;
                let mut g = [[simd.zero(); 3]; 3];
                for tap in 0..9 {
                    let from = at(if flip { 8 - tap } else { tap });
                    // SAFETY: a panel has nine taps of `channels` rows of `width` floats.
                    g[tap / 3][tap % 3] = unsafe { simd.load(weight.as_ptr().add(from)) };
                }
                let columns = [0, 1, 2].map(|j| weight_line(simd, [g[0][j], g[1][j], g[2][j]]));
                for i in 0..INPUTS {
                    let line = weight_line(simd, [columns[0][i], columns[1][i], columns[2][i]]);
                    for j in 0..INPUTS {
                        let to = (i * INPUTS + j) * frequency_len + row * width + lane;
                        // SAFETY: a frequency has `width` floats for each row, and each row belongs to one part.
                        unsafe { simd.store(transformed.pointer().add(to), line[j]) };
                    }
                }
            }
        }
    }
}
