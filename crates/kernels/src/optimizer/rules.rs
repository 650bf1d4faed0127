//! What each optimizer does with one parameter.

use super::pass::{Factors, Rule};
use super::{Moments, STATES};
use crate::simd::Simd;

/// x + y * factor
#[inline(always)]
fn plus<S: Simd>(simd: S, x: S::Vector, y: S::Vector, factor: f32) -> S::Vector {
    simd.mul_add(y, simd.splat(factor), x)
}

/// `kept` of the old value, and the rest of the new one.
#[inline(always)]
fn follow<S: Simd>(simd: S, old: S::Vector, new: S::Vector, kept: f32) -> S::Vector {
    plus(simd, old, simd.sub(new, old), 1.0 - kept)
}

/// `kept` of the old mean square, and the rest of the square of the new value.
#[inline(always)]
fn follow_square<S: Simd>(simd: S, old: S::Vector, new: S::Vector, kept: f32) -> S::Vector {
    let share = simd.mul(simd.mul(new, new), simd.splat(1.0 - kept));
    plus(simd, share, old, kept)
}

/// With momentum or without, Nesterov's or not.
#[derive(Clone, Copy)]
pub(super) struct Sgd<const MOMENTUM: bool, const NESTEROV: bool> {
    pub momentum: f32,
}

impl<const MOMENTUM: bool, const NESTEROV: bool> Rule for Sgd<MOMENTUM, NESTEROV> {
    const STATES: [bool; STATES] = [MOMENTUM, false, false];

    #[inline(always)]
    fn apply<S: Simd>(
        &self,
        simd: S,
        factors: &Factors,
        x: S::Vector,
        gradient: S::Vector,
        states: &mut [S::Vector; STATES],
    ) -> S::Vector {
        let gradient = plus(simd, gradient, x, factors.weight_decay);
        let mut direction = gradient;
        if MOMENTUM {
            states[0] = plus(simd, gradient, states[0], self.momentum);
            direction = states[0];
        }
        if NESTEROV {
            direction = plus(simd, gradient, direction, self.momentum);
        }
        plus(simd, x, direction, -factors.learning_rate)
    }
}

/// Adam, or with the decay taken from the parameter AdamW.
#[derive(Clone, Copy)]
pub(super) struct Adam<const DECOUPLED: bool> {
    moments: Moments,
    /// What makes up for the zeros that the means began with: 1 / (1 - beta1^n) and 1 / sqrt(1 - beta2^n).
    corrections: [f32; 2],
}

impl<const DECOUPLED: bool> Adam<DECOUPLED> {
    pub fn new(moments: Moments, number: u64) -> Self {
        let rest = |beta: f32| 1.0 - f64::from(beta).powf(number as f64);
        let corrections = [1.0 / rest(moments.beta1), 1.0 / rest(moments.beta2).sqrt()];
        Self { moments, corrections: corrections.map(|correction| correction as f32) }
    }

    #[inline(always)]
    fn follow<S: Simd>(&self, simd: S, gradient: S::Vector, states: &mut [S::Vector; STATES]) {
        states[0] = follow(simd, states[0], gradient, self.moments.beta1);
        states[1] = follow_square(simd, states[1], gradient, self.moments.beta2);
    }

    /// The mean gradient over the root of the mean square.
    #[inline(always)]
    fn direction<S: Simd>(&self, simd: S, states: &[S::Vector; STATES]) -> S::Vector {
        let epsilon = simd.splat(self.moments.epsilon);
        let root = plus(simd, epsilon, simd.sqrt(states[1]), self.corrections[1]);
        simd.div(simd.mul(states[0], simd.splat(self.corrections[0])), root)
    }
}

impl<const DECOUPLED: bool> Rule for Adam<DECOUPLED> {
    const STATES: [bool; STATES] = [true, true, false];

    #[inline(always)]
    fn apply<S: Simd>(
        &self,
        simd: S,
        factors: &Factors,
        x: S::Vector,
        gradient: S::Vector,
        states: &mut [S::Vector; STATES],
    ) -> S::Vector {
        let (gradient, x) = match DECOUPLED {
            false => (plus(simd, gradient, x, factors.weight_decay), x),
            true => (gradient, plus(simd, x, x, -factors.learning_rate * factors.weight_decay)),
        };
        self.follow(simd, gradient, states);
        plus(simd, x, self.direction(simd, states), -factors.learning_rate)
    }
}

/// With a velocity or without, the mean gradient taken away or not.
#[derive(Clone, Copy)]
pub(super) struct RmsProp<const MOMENTUM: bool, const CENTERED: bool> {
    pub alpha: f32,
    pub epsilon: f32,
    pub momentum: f32,
}

impl<const MOMENTUM: bool, const CENTERED: bool> Rule for RmsProp<MOMENTUM, CENTERED> {
    const STATES: [bool; STATES] = [true, MOMENTUM, CENTERED];

    #[inline(always)]
    fn apply<S: Simd>(
        &self,
        simd: S,
        factors: &Factors,
        x: S::Vector,
        gradient: S::Vector,
        states: &mut [S::Vector; STATES],
    ) -> S::Vector {
        let gradient = plus(simd, gradient, x, factors.weight_decay);
        states[0] = follow_square(simd, states[0], gradient, self.alpha);
        let mut variance = states[0];
        if CENTERED {
            states[2] = follow(simd, states[2], gradient, self.alpha);
            // Rounding may leave less than nothing of a constant gradient's variance.
            let square = simd.mul(states[2], states[2]);
            variance = simd.max(simd.zero(), simd.sub(variance, square));
        }
        let mut direction = simd.div(gradient, simd.add(simd.sqrt(variance), simd.splat(self.epsilon)));
        if MOMENTUM {
            states[1] = plus(simd, direction, states[1], self.momentum);
            direction = states[1];
        }
        plus(simd, x, direction, -factors.learning_rate)
    }
}

/// LAMB's first pass: follows the moments; the norms are the parameter's and the step's.
#[derive(Clone, Copy)]
pub(super) struct LambMoments(pub Adam<true>);

impl Rule for LambMoments {
    const STATES: [bool; STATES] = [true, true, false];
    const WRITES: bool = false;
    const SUMS: bool = true;

    #[inline(always)]
    fn apply<S: Simd>(
        &self,
        simd: S,
        factors: &Factors,
        x: S::Vector,
        gradient: S::Vector,
        states: &mut [S::Vector; STATES],
    ) -> S::Vector {
        self.0.follow(simd, gradient, states);
        plus(simd, self.0.direction(simd, states), x, factors.weight_decay)
    }
}

/// LAMB's second pass: the step, with the rate that the norms gave the tensor.
#[derive(Clone, Copy)]
pub(super) struct LambStep(pub Adam<true>);

impl Rule for LambStep {
    const STATES: [bool; STATES] = [true, true, false];

    #[inline(always)]
    fn apply<S: Simd>(
        &self,
        simd: S,
        factors: &Factors,
        x: S::Vector,
        _: S::Vector,
        states: &mut [S::Vector; STATES],
    ) -> S::Vector {
        let direction = plus(simd, self.0.direction(simd, states), x, factors.weight_decay);
        plus(simd, x, direction, -factors.learning_rate)
    }
}

/// LARS's second pass: the step, with the rate that the norms gave the tensor.
#[derive(Clone, Copy)]
pub(super) struct Lars<const NESTEROV: bool> {
    pub momentum: f32,
}

impl<const NESTEROV: bool> Rule for Lars<NESTEROV> {
    const STATES: [bool; STATES] = [true, false, false];

    #[inline(always)]
    fn apply<S: Simd>(
        &self,
        simd: S,
        factors: &Factors,
        x: S::Vector,
        gradient: S::Vector,
        states: &mut [S::Vector; STATES],
    ) -> S::Vector {
        let gradient = plus(simd, gradient, x, factors.weight_decay);
        let step = simd.mul(gradient, simd.splat(factors.learning_rate));
        states[0] = plus(simd, step, states[0], self.momentum);
        let ahead = if NESTEROV { plus(simd, step, states[0], self.momentum) } else { states[0] };
        simd.sub(x, ahead)
    }
}

/// Nothing but the norms of parameters and gradients.
#[derive(Clone, Copy)]
pub(super) struct Squares;

impl Rule for Squares {
    const STATES: [bool; STATES] = [false; STATES];
    const WRITES: bool = false;
    const SUMS: bool = true;

    #[inline(always)]
    fn apply<S: Simd>(
        &self,
        _: S,
        _: &Factors,
        _: S::Vector,
        gradient: S::Vector,
        _: &mut [S::Vector; STATES],
    ) -> S::Vector {
        gradient
    }
}

/// A mean that follows the parameters: x keeps a share of itself, the gradient stands for the new value.
#[derive(Clone, Copy)]
pub(super) struct Average {
    pub kept: f32,
}

impl Rule for Average {
    const STATES: [bool; STATES] = [false; STATES];

    #[inline(always)]
    fn apply<S: Simd>(
        &self,
        simd: S,
        _: &Factors,
        x: S::Vector,
        gradient: S::Vector,
        _: &mut [S::Vector; STATES],
    ) -> S::Vector {
        follow(simd, x, gradient, self.kept)
    }
}

/// x and the gradient, added.
#[derive(Clone, Copy)]
pub(super) struct Sum;

impl Rule for Sum {
    const STATES: [bool; STATES] = [false; STATES];

    #[inline(always)]
    fn apply<S: Simd>(
        &self,
        simd: S,
        _: &Factors,
        x: S::Vector,
        gradient: S::Vector,
        _: &mut [S::Vector; STATES],
    ) -> S::Vector {
        simd.add(x, gradient)
    }
}
