//! The speed that no kernel can pass: fused multiply-adds on registers alone.
//!
//! Percent of peak means percent of this, measured in the same process, since a machine's clock differs from
//! minute to minute.

use crate::simd::{Kernel, Simd};
use crate::{Context, Pool};
use std::hint::black_box;
use std::time::Instant;

/// Independent accumulators: enough to hide the latency of a multiply-add (4 cycles, two a cycle), few enough
/// for sixteen registers.
const CHAINS: usize = 12;

struct MultiplyAdds {
    rounds: usize,
}

impl Kernel for MultiplyAdds {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let (x, y) = (simd.splat(black_box(0.9999)), simd.splat(black_box(1e-3)));
        let mut sums = [simd.zero(); CHAINS];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = simd.mul_add(*sum, x, y);
            }
        }
        sums.into_iter().fold(0.0, |total, sum| total + simd.sum(sum))
    }
}

/// The peak of all threads of `context` together, in GFLOP/s (a multiply-add is two): the best of some runs of
/// a fraction of a millisecond each, all of them longer than other work usually takes a core away.
pub fn fma_peak(context: Context) -> f64 {
    const ROUNDS: usize = 150_000;
    const RUNS: usize = 40;
    let Context { isa, pool } = context;
    let once = |pool: &Pool| {
        let start = Instant::now();
        pool.run(pool.at_once(), |_, _| {
            black_box(isa.run(MultiplyAdds { rounds: ROUNDS }));
        });
        start.elapsed().as_secs_f64()
    };
    let best = (0..RUNS).map(|_| once(pool)).fold(f64::INFINITY, f64::min);
    (pool.at_once() * ROUNDS * CHAINS * isa.lanes() * 2) as f64 / best / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn every_instruction_set_has_a_positive_peak() {
        let pool = Pool::new(1);
        for isa in Isa::available() {
            assert!(fma_peak(Context { isa, pool: &pool }) > 0.0);
        }
    }
}
