//! The oracle's backward pass against finite differences of its forward pass.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

mod common;

use common::graphs::{connected, grouped, lenet5, mixed, random_graph, residuals_of_own_input, varied};
use common::oracle::{self, Judge, Oracle, Purposes};
use common::{batch, fastest, randomize_vectors};
use fovea_engine::Graph;
use fovea_reference::check::{dot, uniform, widen};
use fovea_reference::loss::Targets;

const IMAGES: usize = 3;

#[test]
fn gradients_of_every_parameter_equal_finite_differences() {
    let named =
        [mixed(), varied(), connected(), grouped(), lenet5()].into_iter().chain(residuals_of_own_input());
    for definition in named.chain((0..20).map(random_graph)) {
        let graph = Graph::from_json(&definition).unwrap();
        let mut session = fastest(&definition);
        randomize_vectors(&mut session);
        let (images, labels) = batch(&session, IMAGES, 4, 5);
        let images = widen(&images);
        let judge = Judge { targets: Targets::Labels(&labels), label_smoothing: 0.1, class_weights: None };
        let weights = oracle::wide(&session.weights());
        let purpose = Purposes::Training { seed: 7, step: 0 };
        let loss = |weights: &[(String, Vec<f64>)]| {
            let oracle = Oracle { graph: &graph, weights, purpose };
            oracle.loss_of(&oracle.forward(&images, IMAGES), &judge)
        };
        let oracle = Oracle { graph: &graph, weights: &weights, purpose };
        let gradients = oracle.backward(&oracle.forward(&images, IMAGES), &judge).parameters;
        assert_eq!(gradients.len(), session.parameters().len());
        let largest = gradients.values().map(|gradient| dot(gradient, gradient).sqrt()).fold(0.0, f64::max);
        for (tensor, (name, values)) in weights[..gradients.len()].iter().enumerate() {
            let direction = widen(&uniform(tensor as u64, values.len()));
            let moved = |step: f64| {
                let mut weights = weights.clone();
                weights[tensor].1.iter_mut().zip(&direction).for_each(|(value, by)| *value += step * by);
                loss(&weights)
            };
            let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            let gradient = &gradients[name];
            let error = (dot(gradient, &direction) - slope).abs();
            let scale =
                dot(gradient, gradient).sqrt().max(1e-2 * largest) * dot(&direction, &direction).sqrt();
            assert!(error <= 1e-6 * scale + 1e-9, "{name} is wrong by {error:e} of {scale}\n{definition}");
        }
    }
}
