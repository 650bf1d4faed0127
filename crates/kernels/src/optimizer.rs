//! Optimizers: one fused pass over all parameters.

use crate::Context;
use crate::parts::Parts;
use crate::simd::{Kernel, Simd};
use crate::threads::Shareable;

/// Stochastic gradient descent as PyTorch's `torch.optim.SGD` without dampening:
///
/// ```text
/// g = gradient + weight_decay * parameter
/// velocity = momentum * velocity + g
/// parameter -= learning_rate * (g + momentum * velocity if nesterov, otherwise velocity)
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Step size.
    pub learning_rate: f32,
    /// Share of the velocity kept from step to step; 0 is plain descent, which has no velocity.
    pub momentum: f32,
    /// L2 penalty: this times the parameter is added to the gradient.
    pub weight_decay: f32,
    /// Looks ahead: steps along the gradient plus `momentum` times the new velocity.
    pub nesterov: bool,
}

/// Parameters that stay together when the pass is cut into parts.
const BLOCK: usize = 1024;

/// Elementwise passes that a parameter costs: it moves five floats.
const COST: usize = 2;

impl Sgd {
    /// Updates `parameter` and `velocity` (zero before the first step) in place. Without momentum the velocity is
    /// neither read nor written, and may be empty.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn step(&self, context: Context, parameter: &mut [f32], gradient: &[f32], velocity: &mut [f32]) {
        let length = parameter.len();
        let plain = self.momentum == 0.0;
        assert_eq!(gradient.len(), length, "a gradient for each parameter");
        assert!(velocity.len() == length || plain && velocity.is_empty(), "a velocity for each parameter");
        let parts = Parts::new(length.div_ceil(BLOCK), BLOCK * COST);
        let [parameter, velocity] = [parameter, velocity].map(Shareable::new);
        context.pool.run(parts.count(), |_, part| {
            let blocks = parts.range(part);
            let (start, end) = (blocks.start * BLOCK, length.min(blocks.end * BLOCK));
            let update = Update {
                sgd: *self,
                parameter: parameter.pointer().wrapping_add(start),
                gradient: gradient[start..end].as_ptr(),
                velocity: velocity.pointer().wrapping_add(start),
                length: end - start,
            };
            match (plain, self.nesterov) {
                (true, _) => context.isa.run(Rule::<false, false>(update)),
                (false, false) => context.isa.run(Rule::<true, false>(update)),
                (false, true) => context.isa.run(Rule::<true, true>(update)),
            }
        });
    }
}

/// A part: `length` parameters with their gradients and, with momentum, velocities, which no other part touches.
struct Update {
    sgd: Sgd,
    parameter: *mut f32,
    gradient: *const f32,
    velocity: *mut f32,
    length: usize,
}

/// The update with or without momentum, Nesterov's or not.
struct Rule<const MOMENTUM: bool, const NESTEROV: bool>(Update);

impl<const MOMENTUM: bool, const NESTEROV: bool> Kernel for Rule<MOMENTUM, NESTEROV> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut i = 0;
        while i < self.0.length {
            let count = self.0.length - i;
            // SAFETY: i + the count lies within the part's length.
            unsafe {
                if count >= S::LANES { self.step(simd, i, S::LANES) } else { self.step(simd, i, count) }
            }
            i += S::LANES;
        }
    }
}

impl<const MOMENTUM: bool, const NESTEROV: bool> Rule<MOMENTUM, NESTEROV> {
    /// Updates `count` parameters from the `i`-th of the part.
    ///
    /// # Safety
    /// `i + count <= length` and `count <= LANES`.
    #[inline(always)]
    unsafe fn step<S: Simd>(&self, simd: S, i: usize, count: usize) {
        let Update { sgd, parameter, gradient, velocity, .. } = self.0;
        let momentum = simd.splat(sgd.momentum);
        // SAFETY: the caller vouches for the range, the part for its three arrays.
        unsafe {
            let old = simd.load_up_to(parameter.add(i), count);
            let gradient = simd.load_up_to(gradient.add(i), count);
            let gradient = simd.mul_add(old, simd.splat(sgd.weight_decay), gradient);
            let mut direction = gradient;
            if MOMENTUM {
                let kept = simd.load_up_to(velocity.add(i), count);
                direction = simd.mul_add(kept, momentum, gradient);
                simd.store_up_to(velocity.add(i), direction, count);
            }
            if NESTEROV {
                direction = simd.mul_add(direction, momentum, gradient);
            }
            let new = simd.mul_add(direction, simd.splat(-sgd.learning_rate), old);
            simd.store_up_to(parameter.add(i), new, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_matches, assert_threads_agree, on_every_isa};
    use fovea_reference::{check, optimizer as reference};

    fn every_rule() -> impl Iterator<Item = Sgd> {
        let rules = [(0.0, false), (0.9, false), (0.9, true), (0.0, true)];
        let decays = [0.0, 0.01];
        rules.into_iter().flat_map(move |(momentum, nesterov)| {
            decays.map(|weight_decay| Sgd { learning_rate: 0.1, momentum, weight_decay, nesterov })
        })
    }

    #[test]
    fn three_steps_of_every_rule_equal_the_reference() {
        for (sgd, length) in every_rule().flat_map(|sgd| [1, 7, 16, 33, 1025].map(|length| (sgd, length))) {
            on_every_isa(|context| {
                let (mut parameter, mut velocity) = (check::uniform(1, length), vec![0.0; length]);
                let (mut wide, mut wide_velocity) = (check::widen(&parameter), vec![0.0; length]);
                let naive = reference::Sgd {
                    learning_rate: sgd.learning_rate.into(),
                    momentum: sgd.momentum.into(),
                    weight_decay: sgd.weight_decay.into(),
                    nesterov: sgd.nesterov,
                };
                for seed in 2..5 {
                    let gradient = check::uniform(seed, length);
                    sgd.step(context, &mut parameter, &gradient, &mut velocity);
                    naive.step(&mut wide, &check::widen(&gradient), &mut wide_velocity);
                }
                assert_matches(&parameter, &wide, 1e-6);
                if sgd.momentum != 0.0 {
                    assert_matches(&velocity, &wide_velocity, 1e-6);
                }
            });
        }
    }

    #[test]
    fn plain_descent_needs_no_velocity() {
        let sgd = Sgd { learning_rate: 0.5, momentum: 0.0, weight_decay: 0.0, nesterov: false };
        on_every_isa(|context| {
            let mut parameter = [1.0; 20];
            sgd.step(context, &mut parameter, &[3.0; 20], &mut []);
            assert_eq!(parameter, [-0.5; 20]);
        });
    }

    #[test]
    #[should_panic(expected = "a velocity for each parameter")]
    fn momentum_needs_a_velocity() {
        let sgd = Sgd { learning_rate: 0.5, momentum: 0.9, weight_decay: 0.0, nesterov: false };
        on_every_isa(|context| sgd.step(context, &mut [1.0; 20], &[3.0; 20], &mut []));
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        const LENGTH: usize = 200_003;
        for sgd in every_rule() {
            assert_threads_agree(|context| {
                let (mut parameter, mut velocity) = (check::uniform(1, LENGTH), check::uniform(2, LENGTH));
                sgd.step(context, &mut parameter, &check::uniform(3, LENGTH), &mut velocity);
                [parameter, velocity].concat()
            });
        }
    }
}
