//! Optimizers: one fused pass over all parameters, or two where an optimizer needs a tensor's norms before it
//! can step.
//!
//! | optimizer | passes | states |
//! |---|---|---|
//! | [`Optimizer::Sgd`] | 1 | velocity |
//! | [`Optimizer::Adam`], [`Optimizer::AdamW`] | 1 | first and second moment |
//! | [`Optimizer::RmsProp`] | 1 | mean square, velocity, mean gradient |
//! | [`Optimizer::Lamb`] | 2 | first and second moment |
//! | [`Optimizer::Lars`] | 2 | velocity |
//!
//! Parameters, gradients and states are buffers of one layout, in which every tensor is a [`Span`]. Spans are
//! cut into blocks, and the blocks into parts; norms are summed a block at a time and added in order, so that
//! the number of threads changes no bit. Floats between the spans are never touched.

mod pass;
mod rules;
#[cfg(test)]
mod tests;

use crate::Context;
use pass::{Factors, Memory};
pub use pass::{Span, Spans, accumulate, average};
use rules::{Adam, LambMoments, LambStep, Lars, RmsProp, Sgd, Squares};

/// Arrays of state that an optimizer keeps at most.
pub const STATES: usize = 3;

/// What an optimizer does with gradients; step size and weight decay are those of the [`Update`] and its spans.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// As PyTorch's `SGD` without dampening:
    ///
    /// ```text
    /// g = gradient + decay * x
    /// velocity = momentum * velocity + g
    /// x -= rate * (g + momentum * velocity if nesterov, otherwise velocity)
    /// ```
    Sgd {
        /// Share of the velocity kept from step to step; 0 is plain descent, which has no velocity.
        momentum: f32,
        /// Looks ahead: steps along the gradient plus `momentum` times the new velocity.
        nesterov: bool,
    },
    /// As PyTorch's `Adam` (Kingma and Ba 2015); the decay is added to the gradient.
    Adam(Moments),
    /// As PyTorch's `AdamW` (Loshchilov and Hutter 2019); the decay is taken from the parameter.
    AdamW(Moments),
    /// As PyTorch's `RMSprop`:
    ///
    /// ```text
    /// g = gradient + decay * x
    /// square = alpha * square + (1 - alpha) * g^2
    /// mean = alpha * mean + (1 - alpha) * g                                  (centered)
    /// velocity = momentum * velocity + g / (sqrt(square - mean^2) + epsilon)
    /// x -= rate * velocity
    /// ```
    RmsProp {
        /// Share of the mean square kept from step to step.
        alpha: f32,
        /// Added to the root.
        epsilon: f32,
        /// Share of the velocity kept; 0 has none.
        momentum: f32,
        /// Whether the mean gradient is taken from the mean square.
        centered: bool,
    },
    /// Algorithm 2 of You et al. 2020, arXiv:1904.00962: Adam's step and the decay, of every tensor times its
    /// norm over the step's.
    Lamb(Moments),
    /// Algorithm 1 of You et al. 2017, arXiv:1708.03888: momentum, of every tensor times `trust |x| / (|g| +
    /// decay |x|)`.
    Lars {
        /// Share of the velocity kept from step to step.
        momentum: f32,
        /// Looks ahead: steps `momentum` times the new velocity beyond the step itself.
        nesterov: bool,
        /// How far a tensor moves at most, over its own norm.
        trust: f32,
    },
}

/// Means of the gradient and of its square that follow it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Share of the mean gradient kept from step to step.
    pub beta1: f32,
    /// Share of the mean square kept from step to step.
    pub beta2: f32,
    /// Added to the root of the mean square.
    pub epsilon: f32,
}

/// A step of an optimizer over its buffers.
#[derive(Debug)]
pub struct Update<'a> {
    /// Step size; each span has a factor of it.
    pub learning_rate: f32,
    /// Weight decay of the spans that name none.
    pub weight_decay: f32,
    /// Factor of every gradient.
    pub gradient_scale: f32,
    /// Which step it is, from 1.
    pub number: u64,
    /// Changed by the step.
    pub parameters: &'a mut [f32],
    /// As many.
    pub gradients: &'a [f32],
    /// What the optimizer keeps, zero before the first step; those of [`Optimizer::states`] have as many floats
    /// as the parameters.
    pub states: [&'a mut [f32]; STATES],
}

impl Optimizer {
    /// Which arrays of state it reads and writes.
    pub fn states(&self) -> [bool; STATES] {
        match *self {
            Self::Sgd { momentum, .. } => [momentum != 0.0, false, false],
            Self::Adam(_) | Self::AdamW(_) | Self::Lamb(_) => [true, true, false],
            Self::RmsProp { momentum, centered, .. } => [true, momentum != 0.0, centered],
            Self::Lars { .. } => [true, false, false],
        }
    }

    /// Applies an update to every span.
    ///
    /// # Panics
    /// If a buffer is shorter than the spans reach, or a state that the optimizer has is.
    pub fn step(&self, context: Context, spans: &mut Spans, update: Update) {
        let Update { learning_rate, weight_decay, gradient_scale, number, parameters, gradients, states } =
            update;
        let memory = Memory::new(parameters, gradients, states, self.states(), spans.end());
        spans.prepare(|span| Factors {
            learning_rate: learning_rate * span.learning_rate_scale,
            weight_decay: span.weight_decay.unwrap_or(weight_decay),
            gradient_scale,
        });
        match *self {
            Self::Sgd { momentum, nesterov } => match (momentum == 0.0, nesterov) {
                (true, _) => spans.run(context, &memory, Sgd::<false, false> { momentum }),
                (false, false) => spans.run(context, &memory, Sgd::<true, false> { momentum }),
                (false, true) => spans.run(context, &memory, Sgd::<true, true> { momentum }),
            },
            Self::Adam(moments) => spans.run(context, &memory, Adam::<false>::new(moments, number)),
            Self::AdamW(moments) => spans.run(context, &memory, Adam::<true>::new(moments, number)),
            Self::RmsProp { alpha, epsilon, momentum, centered } => match (momentum != 0.0, centered) {
                (false, false) => {
                    spans.run(context, &memory, RmsProp::<false, false> { alpha, epsilon, momentum })
                }
                (false, true) => {
                    spans.run(context, &memory, RmsProp::<false, true> { alpha, epsilon, momentum })
                }
                (true, false) => {
                    spans.run(context, &memory, RmsProp::<true, false> { alpha, epsilon, momentum })
                }
                (true, true) => {
                    spans.run(context, &memory, RmsProp::<true, true> { alpha, epsilon, momentum })
                }
            },
            Self::Lamb(moments) => {
                spans.run(context, &memory, LambMoments(Adam::new(moments, number)));
                spans.adapt(|_, [parameter, step]| parameter / step);
                spans.run(context, &memory, LambStep(Adam::new(moments, number)));
            }
            Self::Lars { momentum, nesterov, trust } => {
                spans.run(context, &memory, Squares);
                spans.adapt(|factors, [parameter, gradient]| {
                    f64::from(trust) * parameter / (gradient + f64::from(factors.weight_decay) * parameter)
                });
                match nesterov {
                    false => spans.run(context, &memory, Lars::<false> { momentum }),
                    true => spans.run(context, &memory, Lars::<true> { momentum }),
                }
            }
        }
    }
}
