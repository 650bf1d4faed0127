//! The transform of the weights: U = G g G'.

use super::super::Pass;
use super::super::winograd_transform::{FREQUENCIES, Form, INPUTS, weight_line};
use super::{GAP, Winograd};
use crate::Context;
use crate::simd::{Kernel, Simd};
use crate::threads::Shareable;
use std::ops::Range;

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
        let rows = self.panels.count * self.channels[0];
        let rows_a_part = WEIGHTS_A_PART.div_ceil(self.panels.width);
        let transformed = Shareable::new(transformed);
        context.pool.run(rows.div_ceil(rows_a_part), |_, part| {
            let rows = part * rows_a_part..((part + 1) * rows_a_part).min(rows);
            match self.form {
                Form::Kernel3 => {
                    context.isa.run(TransformWeight::<3> { winograd: self, weight, transformed, rows });
                }
                Form::Kernel5 => {
                    context.isa.run(TransformWeight::<5> { winograd: self, weight, transformed, rows });
                }
            }
        });
    }
}

/// U of some rows (panel, channel) of the weights.
struct TransformWeight<'a, const KERNEL: usize> {
    winograd: &'a Winograd,
    weight: &'a [f32],
    transformed: Shareable<f32>,
    rows: Range<usize>,
}

impl<const KERNEL: usize> Kernel for TransformWeight<'_, KERNEL> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { winograd, weight, transformed, rows } = self;
        let (width, channels, taps) = (winograd.panels.width, winograd.channels[0], KERNEL * KERNEL);
        let frequency_len = winograd.frequency_len();
        // The input gradient's weights are read in reverse.
        let flip = winograd.pass == Pass::BackwardInput;
        for row in rows {
            let (panel, channel) = (row / channels, row % channels);
            for lane in (0..width).step_by(S::LANES) {
                let at = |tap: usize| (panel * taps + tap) * channels * width + channel * width + lane;
                let mut columns = [[simd.zero(); INPUTS]; KERNEL];
                for j in 0..KERNEL {
                    let mut g = [simd.zero(); KERNEL];
                    for i in 0..KERNEL {
                        let tap = i * KERNEL + j;
                        let from = at(if flip { taps - 1 - tap } else { tap });
                        // SAFETY: a panel has `taps` times `channels` rows of `width` floats.
                        g[i] = unsafe { simd.load(weight.as_ptr().add(from)) };
                    }
                    columns[j] = weight_line(simd, g);
                }
                for i in 0..INPUTS {
                    let mut g = [simd.zero(); KERNEL];
                    for j in 0..KERNEL {
                        g[j] = columns[j][i];
                    }
                    let line = weight_line(simd, g);
                    for j in 0..INPUTS {
                        let to = (i * INPUTS + j) * frequency_len + row * width + lane;
                        // SAFETY: a frequency has `width` floats for each row, and each row belongs to one
                        // part.
                        unsafe { simd.store(transformed.pointer().add(to), line[j]) };
                    }
                }
            }
        }
    }
}
