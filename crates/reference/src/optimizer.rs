//! Stochastic gradient descent as `torch.optim.SGD` (no dampening).

use serde::Deserialize;

/// Hyperparameters of SGD.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    /// Step size.
    pub learning_rate: f64,
    /// Share of the velocity kept from step to step; 0 is plain gradient descent.
    pub momentum: f64,
    /// L2 penalty: this times the parameter is added to the gradient.
    pub weight_decay: f64,
    /// Looks ahead: steps along the gradient plus `momentum` times the new velocity.
    pub nesterov: bool,
}

impl Sgd {
    /// Updates `parameter` and `velocity` (zero before the first step) in place.
    pub fn step(&self, parameter: &mut [f64], gradient: &[f64], velocity: &mut [f64]) {
        assert_eq!(
            [gradient.len(), velocity.len()],
            [parameter.len(); 2],
            "Expected a gradient and a velocity for each parameter."
        );
        for ((parameter, &gradient), velocity) in parameter.iter_mut().zip(gradient).zip(velocity) {
            let decayed = gradient + self.weight_decay * *parameter;
            *velocity = self.momentum * *velocity + decayed;
            let direction = if self.nesterov { decayed + self.momentum * *velocity } else { *velocity };
            *parameter -= self.learning_rate * direction;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::assert_close;

    const PLAIN: Sgd = Sgd { learning_rate: 0.5, momentum: 0.0, weight_decay: 0.0, nesterov: false };

    /// The parameter after each of two steps from 1.0 along the gradients 1.0 and 2.0.
    fn two_steps(sgd: Sgd) -> [f64; 2] {
        let (mut parameter, mut velocity) = ([1.0], [0.0]);
        [1.0, 2.0].map(|gradient| {
            sgd.step(&mut parameter, &[gradient], &mut velocity);
            parameter[0]
        })
    }

    #[test]
    fn plain_descent_follows_the_gradient() {
        assert_close(&two_steps(PLAIN), &[0.5, -0.5], 1e-15);
    }

    #[test]
    fn momentum_keeps_a_share_of_the_velocity() {
        // velocities 1, 2.9
        assert_close(&two_steps(Sgd { momentum: 0.9, ..PLAIN }), &[0.5, -0.95], 1e-15);
    }

    #[test]
    fn nesterov_steps_along_the_velocity_to_come() {
        // directions 1 + 0.9 * 1, 2 + 0.9 * 2.9
        assert_close(&two_steps(Sgd { momentum: 0.9, nesterov: true, ..PLAIN }), &[0.05, -2.255], 1e-15);
    }

    #[test]
    fn weight_decay_is_added_to_the_gradient() {
        // gradients 1 + 0.1 * 1, 2 + 0.1 * 0.45
        assert_close(&two_steps(Sgd { weight_decay: 0.1, ..PLAIN }), &[0.45, -0.5725], 1e-15);
    }
}
