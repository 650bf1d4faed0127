//! Optimizers: `torch.optim`'s SGD (no dampening), Adam, AdamW and RMSprop, and LAMB and LARS as their papers
//! have them.

use serde::Deserialize;

/// Hyperparameters besides step size and weight decay.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Optimizer {
    /// `torch.optim.SGD`
    Sgd {
        /// Share of the velocity kept from step to step; 0 is plain gradient descent.
        momentum: f64,
        /// Looks ahead: steps along the gradient plus `momentum` times the new velocity.
        nesterov: bool,
    },
    /// `torch.optim.Adam`
    Adam {
        /// Share of the mean gradient kept.
        beta1: f64,
        /// Share of the mean square kept.
        beta2: f64,
        /// Added to the root.
        epsilon: f64,
    },
    /// `torch.optim.AdamW`
    AdamW {
        /// Share of the mean gradient kept.
        beta1: f64,
        /// Share of the mean square kept.
        beta2: f64,
        /// Added to the root.
        epsilon: f64,
    },
    /// `torch.optim.RMSprop`
    RmsProp {
        /// Share of the mean square kept.
        alpha: f64,
        /// Added to the root.
        epsilon: f64,
        /// Share of the velocity kept.
        momentum: f64,
        /// Whether the mean gradient is taken from the mean square.
        centered: bool,
    },
    /// You et al. 2020, arXiv:1904.00962, algorithm 2 with phi(z) = z.
    Lamb {
        /// Share of the mean gradient kept.
        beta1: f64,
        /// Share of the mean square kept.
        beta2: f64,
        /// Added to the root.
        epsilon: f64,
    },
    /// You et al. 2017, arXiv:1708.03888, algorithm 1.
    Lars {
        /// Share of the velocity kept.
        momentum: f64,
        /// Looks ahead: steps `momentum` times the new velocity beyond the step itself.
        nesterov: bool,
        /// How far a tensor moves, over its own norm.
        trust: f64,
    },
}

/// What a step has besides the tensors.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Step size.
    pub learning_rate: f64,
    /// Share of the parameter that the optimizer takes away.
    pub weight_decay: f64,
    /// Which step it is, from 1.
    pub number: i32,
    /// Whether LAMB and LARS look at the tensor's norms; their ratio is 1 otherwise.
    pub adapts: bool,
}

impl Optimizer {
    /// Updates a tensor and its states (zero before the first step) in place. The states are SGD's and LARS's
    /// velocity, the first and second moment, or RMSprop's mean square, velocity and mean gradient.
    pub fn step(&self, step: Step, x: &mut [f64], gradient: &[f64], states: &mut [Vec<f64>; 3]) {
        let Step { learning_rate, weight_decay, .. } = step;
        let [first, second, third] = states;
        match *self {
            Self::Sgd { momentum, nesterov } => {
                for (i, x) in x.iter_mut().enumerate() {
                    let g = gradient[i] + weight_decay * *x;
                    first[i] = momentum * first[i] + g;
                    *x -= learning_rate * if nesterov { g + momentum * first[i] } else { first[i] };
                }
            }
            Self::Adam { beta1, beta2, epsilon } => {
                let decayed: Vec<_> = x.iter().zip(gradient).map(|(x, g)| g + weight_decay * x).collect();
                let direction = moments([beta1, beta2, epsilon], step.number, &decayed, first, second);
                x.iter_mut().zip(direction).for_each(|(x, direction)| *x -= learning_rate * direction);
            }
            Self::AdamW { beta1, beta2, epsilon } => {
                let direction = moments([beta1, beta2, epsilon], step.number, gradient, first, second);
                for (x, direction) in x.iter_mut().zip(direction) {
                    *x -= learning_rate * weight_decay * *x;
                    *x -= learning_rate * direction;
                }
            }
            Self::RmsProp { alpha, epsilon, momentum, centered } => {
                for (i, x) in x.iter_mut().enumerate() {
                    let g = gradient[i] + weight_decay * *x;
                    first[i] = alpha * first[i] + (1.0 - alpha) * g * g;
                    third[i] = alpha * third[i] + (1.0 - alpha) * g;
                    let mean = if centered { third[i] } else { 0.0 };
                    second[i] = momentum * second[i] + g / ((first[i] - mean * mean).sqrt() + epsilon);
                    *x -= learning_rate * second[i];
                }
            }
            Self::Lamb { beta1, beta2, epsilon } => {
                let direction = moments([beta1, beta2, epsilon], step.number, gradient, first, second);
                let direction: Vec<_> =
                    direction.iter().zip(&*x).map(|(direction, x)| direction + weight_decay * x).collect();
                let ratio = step.ratio(norm(x), norm(&direction), |x, direction| x / direction);
                x.iter_mut()
                    .zip(direction)
                    .for_each(|(x, direction)| *x -= learning_rate * ratio * direction);
            }
            Self::Lars { momentum, nesterov, trust } => {
                let ratio = step.ratio(norm(x), norm(gradient), |x, g| trust * x / (g + weight_decay * x));
                for (i, x) in x.iter_mut().enumerate() {
                    let g = gradient[i] + weight_decay * *x;
                    let step_size = learning_rate * ratio * g;
                    first[i] = momentum * first[i] + step_size;
                    *x -= if nesterov { step_size + momentum * first[i] } else { first[i] };
                }
            }
        }
    }
}

impl Step {
    /// A ratio of two norms, where both are there and the tensor adapts to them.
    fn ratio(self, parameter: f64, other: f64, ratio: impl Fn(f64, f64) -> f64) -> f64 {
        if self.adapts && parameter > 0.0 && other > 0.0 { ratio(parameter, other) } else { 1.0 }
    }
}

/// Follows both moments; the first over the root of the second, each without the zeros that it began with.
fn moments(
    [beta1, beta2, epsilon]: [f64; 3],
    number: i32,
    gradient: &[f64],
    first: &mut [f64],
    second: &mut [f64],
) -> Vec<f64> {
    let each = |((g, first), second): ((&f64, &mut f64), &mut f64)| {
        *first = beta1 * *first + (1.0 - beta1) * g;
        *second = beta2 * *second + (1.0 - beta2) * g * g;
        let (mean, square) = (*first / (1.0 - beta1.powi(number)), *second / (1.0 - beta2.powi(number)));
        mean / (square.sqrt() + epsilon)
    };
    gradient.iter().zip(first).zip(second).map(each).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::assert_close;

    /// The parameter after each of two steps of size 0.5 from 1.0 along the gradients 1.0 and 2.0.
    fn two_steps(optimizer: Optimizer, weight_decay: f64) -> [f64; 2] {
        let (mut x, mut states) = ([1.0], [const { Vec::new() }; 3].map(|_: Vec<f64>| vec![0.0]));
        [(1, 1.0), (2, 2.0)].map(|(number, gradient)| {
            let step = Step { learning_rate: 0.5, weight_decay, number, adapts: true };
            optimizer.step(step, &mut x, &[gradient], &mut states);
            x[0]
        })
    }

    #[test]
    fn plain_descent_follows_the_gradient() {
        let sgd = Optimizer::Sgd { momentum: 0.0, nesterov: false };
        assert_close(&two_steps(sgd, 0.0), &[0.5, -0.5], 1e-15);
        // gradients 1 + 0.1 * 1, 2 + 0.1 * 0.45
        assert_close(&two_steps(sgd, 0.1), &[0.45, -0.5725], 1e-15);
    }

    #[test]
    fn momentum_keeps_a_share_of_the_velocity() {
        // velocities 1, 2.9
        let sgd = Optimizer::Sgd { momentum: 0.9, nesterov: false };
        assert_close(&two_steps(sgd, 0.0), &[0.5, -0.95], 1e-15);
    }

    #[test]
    fn nesterov_steps_along_the_velocity_to_come() {
        // directions 1 + 0.9 * 1, 2 + 0.9 * 2.9
        let sgd = Optimizer::Sgd { momentum: 0.9, nesterov: true };
        assert_close(&two_steps(sgd, 0.0), &[0.05, -2.255], 1e-15);
    }

    #[test]
    fn the_first_step_of_adam_has_the_size_of_the_rate() {
        let adam = Optimizer::Adam { beta1: 0.9, beta2: 0.99, epsilon: 0.0 };
        assert_close(&two_steps(adam, 0.0)[..1], &[0.5], 1e-12);
        // means 0.29 / 0.19 and sqrt(0.0499 / 0.0199)
        let second = 0.5 - 0.5 * (0.29 / 0.19) / (0.0499f64 / 0.0199).sqrt();
        assert_close(&two_steps(adam, 0.0)[1..], &[second], 1e-12);
        let decoupled = Optimizer::AdamW { beta1: 0.9, beta2: 0.99, epsilon: 0.0 };
        assert_close(&two_steps(decoupled, 0.1)[..1], &[0.95 - 0.5], 1e-12);
    }

    #[test]
    fn rmsprop_divides_by_the_root_of_the_mean_square() {
        let rmsprop =
            |momentum, centered| Optimizer::RmsProp { alpha: 0.75, epsilon: 0.0, momentum, centered };
        assert_close(&two_steps(rmsprop(0.0, false), 0.0)[..1], &[1.0 - 0.5 / 0.5], 1e-12);
        let centered = (0.25f64 - 0.0625).sqrt();
        assert_close(&two_steps(rmsprop(0.0, true), 0.0)[..1], &[1.0 - 0.5 / centered], 1e-12);
        // velocities 2 and 1.8 + 2 / sqrt(0.1875 + 1)
        let second = 0.0 - 0.5 * (1.8 + 2.0 / 1.1875f64.sqrt());
        assert_close(&two_steps(rmsprop(0.9, false), 0.0)[1..], &[second], 1e-12);
    }

    #[test]
    fn lamb_and_lars_move_a_tensor_by_a_share_of_its_norm() {
        let lamb = Optimizer::Lamb { beta1: 0.9, beta2: 0.99, epsilon: 0.0 };
        // The step is 1 + 0.1 long, the parameter 1: the ratio makes it 1.
        assert_close(&two_steps(lamb, 0.1)[..1], &[0.5], 1e-12);
        let lars = Optimizer::Lars { momentum: 0.9, nesterov: false, trust: 0.02 };
        assert_close(&two_steps(lars, 0.0)[..1], &[1.0 - 0.5 * 0.02], 1e-12);
        // velocities 0.01 and 0.009 + 0.5 * 0.02 * 0.99
        assert_close(&two_steps(lars, 0.0)[1..], &[0.99 - 0.009 - 0.0099], 1e-12);
    }
}
