//! Every optimizer against its reference, and itself on other numbers of threads.

use super::*;
use crate::testing::{assert_matches, assert_threads_agree, on_every_isa};
use fovea_reference::{check, optimizer as reference};

/// Every optimizer with every choice that it has, and the reference's.
fn every_optimizer() -> Vec<(Optimizer, reference::Optimizer)> {
    let (beta1, beta2, epsilon) = (0.875, 0.984375, 0.0009765625); // exact in f32
    let moments = Moments { beta1, beta2, epsilon };
    let [b1, b2, e] = [beta1, beta2, epsilon].map(f64::from);
    let mut all = vec![
        (Optimizer::Adam(moments), reference::Optimizer::Adam { beta1: b1, beta2: b2, epsilon: e }),
        (Optimizer::AdamW(moments), reference::Optimizer::AdamW { beta1: b1, beta2: b2, epsilon: e }),
        (Optimizer::Lamb(moments), reference::Optimizer::Lamb { beta1: b1, beta2: b2, epsilon: e }),
    ];
    for momentum in [0.0f32, 0.75] {
        let wide = f64::from(momentum);
        for choice in [false, true] {
            all.push((
                Optimizer::Sgd { momentum, nesterov: choice },
                reference::Optimizer::Sgd { momentum: wide, nesterov: choice },
            ));
            all.push((
                Optimizer::RmsProp { alpha: beta2, epsilon, momentum, centered: choice },
                reference::Optimizer::RmsProp { alpha: b2, epsilon: e, momentum: wide, centered: choice },
            ));
            let trust = 0.0625;
            all.push((
                Optimizer::Lars { momentum, nesterov: choice, trust },
                reference::Optimizer::Lars { momentum: wide, nesterov: choice, trust: trust.into() },
            ));
        }
    }
    all
}

/// Tensors of awkward lengths with gaps between them, each with settings of its own.
fn tensors() -> Vec<Span> {
    let lengths = [1, 7, 16, 33, 1024, 1025, 3000];
    let mut start = 3;
    let mut spans = Vec::new();
    for (index, length) in lengths.into_iter().enumerate() {
        let learning_rate_scale = [1.0, 0.5, 2.0][index % 3];
        let weight_decay = [None, Some(0.0), Some(0.125)][index % 3];
        spans.push(Span {
            place: start..start + length,
            learning_rate_scale,
            weight_decay,
            adapts: index % 4 > 0,
        });
        start += length + index;
    }
    spans
}

fn states(length: usize) -> [Vec<f32>; STATES] {
    [(); STATES].map(|()| vec![0.0; length])
}

fn borrowed(states: &mut [Vec<f32>; STATES]) -> [&mut [f32]; STATES] {
    states.each_mut().map(Vec::as_mut_slice)
}

#[test]
fn ten_steps_of_every_optimizer_equal_the_reference() {
    const LENGTH: usize = 5200;
    for (optimizer, naive) in every_optimizer() {
        let (x, spans) = (check::uniform(1, LENGTH), tensors());
        let mut wide = check::widen(&x);
        let mut wide_states = [(); STATES].map(|()| vec![0.0; LENGTH]);
        let gradients: Vec<_> = (2..12).map(|seed| check::uniform(seed, LENGTH)).collect();
        for (number, gradient) in (1..).zip(&gradients) {
            let scaled: Vec<_> = check::widen(gradient).iter().map(|g| 0.25 * g).collect();
            for Span { place, learning_rate_scale, weight_decay, adapts } in &spans {
                let step = reference::Step {
                    learning_rate: 0.0625 * f64::from(*learning_rate_scale),
                    weight_decay: weight_decay.unwrap_or(0.03125).into(),
                    number,
                    adapts: *adapts,
                };
                let mut states = wide_states.each_ref().map(|state| state[place.clone()].to_vec());
                naive.step(step, &mut wide[place.clone()], &scaled[place.clone()], &mut states);
                for (all, state) in wide_states.iter_mut().zip(states) {
                    all[place.clone()].copy_from_slice(&state);
                }
            }
        }
        on_every_isa(|context| {
            let (mut parameters, mut states) = (x.clone(), states(LENGTH));
            let mut spans = Spans::new(spans.clone());
            for (number, gradients) in (1..).zip(&gradients) {
                let update = Update {
                    learning_rate: 0.0625,
                    weight_decay: 0.03125,
                    gradient_scale: 0.25,
                    number,
                    parameters: &mut parameters,
                    gradients,
                    states: borrowed(&mut states),
                };
                optimizer.step(context, &mut spans, update);
            }
            assert_matches(&parameters, &wide, 3e-6);
            for ((state, wide), used) in states.iter().zip(&wide_states).zip(optimizer.states()) {
                if used {
                    assert_matches(state, wide, 3e-6);
                } else {
                    assert!(state.iter().all(|&value| value == 0.0), "{optimizer:?} touched a state");
                }
            }
            // Between the tensors nothing is touched, which the comparison with the reference shows as well.
            assert_eq!(parameters[..3], x[..3]);
        });
    }
}

#[test]
fn a_state_that_an_optimizer_has_not_may_be_empty() {
    let span = Span { place: 0..20, learning_rate_scale: 1.0, weight_decay: None, adapts: true };
    on_every_isa(|context| {
        let mut parameters = [1.0; 20];
        let update = Update {
            learning_rate: 0.5,
            weight_decay: 0.0,
            gradient_scale: 1.0,
            number: 1,
            parameters: &mut parameters,
            gradients: &[3.0; 20],
            states: [&mut [], &mut [], &mut []],
        };
        Optimizer::Sgd { momentum: 0.0, nesterov: false }.step(
            context,
            &mut Spans::new(vec![span.clone()]),
            update,
        );
        assert_eq!(parameters, [-0.5; 20]);
    });
}

#[test]
#[should_panic(expected = "a state for each parameter")]
fn momentum_needs_a_velocity() {
    let span = Span { place: 0..20, learning_rate_scale: 1.0, weight_decay: None, adapts: true };
    on_every_isa(|context| {
        let update = Update {
            learning_rate: 0.5,
            weight_decay: 0.0,
            gradient_scale: 1.0,
            number: 1,
            parameters: &mut [1.0; 20],
            gradients: &[3.0; 20],
            states: [&mut [], &mut [], &mut []],
        };
        Optimizer::Sgd { momentum: 0.9, nesterov: false }.step(
            context,
            &mut Spans::new(vec![span.clone()]),
            update,
        );
    });
}

#[test]
fn the_norm_is_that_of_the_spans_alone() {
    let mut gradients = check::uniform(3, 5200);
    let wide = check::widen(&gradients);
    let inside = tensors().into_iter().flat_map(|span| wide[span.place].to_vec());
    let expected = inside.map(|gradient| gradient * gradient).sum::<f64>().sqrt();
    on_every_isa(|context| {
        let norm = Spans::new(tensors()).norm(context, &mut gradients.clone());
        assert!((norm - expected).abs() < 1e-7 * expected, "{norm} {expected}");
    });
    gradients.fill(0.0);
    on_every_isa(|context| assert_eq!(Spans::new(tensors()).norm(context, &mut gradients.clone()), 0.0));
}

#[test]
fn an_average_moves_by_its_share_towards_the_values() {
    for length in [0, 1, 17, 5000] {
        let (old, values) = (check::uniform(1, length), check::uniform(2, length));
        let expected: Vec<_> = old
            .iter()
            .zip(&values)
            .map(|(&old, &value)| 0.875 * f64::from(old) + 0.125 * f64::from(value))
            .collect();
        on_every_isa(|context| {
            let mut means = old.clone();
            average(context, 0.875, &mut means, &values);
            assert_matches(&means, &expected, 1e-6);
        });
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    const LENGTH: usize = 200_003;
    let span = |place| Span { place, learning_rate_scale: 1.0, weight_decay: None, adapts: true };
    let spans = vec![span(0..150_000), span(150_000..150_016), span(150_016..LENGTH)];
    for (optimizer, _) in every_optimizer() {
        assert_threads_agree(|context| {
            let (mut parameters, mut gradients) = (check::uniform(1, LENGTH), check::uniform(3, LENGTH));
            let (mut states, mut spans) = (states(LENGTH), Spans::new(spans.clone()));
            for number in 1..3 {
                let norm = spans.norm(context, &mut gradients) as f32;
                let update = Update {
                    learning_rate: 0.1,
                    weight_decay: 0.01,
                    gradient_scale: 1.0 / norm,
                    number,
                    parameters: &mut parameters,
                    gradients: &gradients,
                    states: borrowed(&mut states),
                };
                optimizer.step(context, &mut spans, update);
            }
            average(context, 0.9, &mut states[2], &parameters);
            [vec![parameters], states.to_vec()].concat().concat()
        });
    }
}
