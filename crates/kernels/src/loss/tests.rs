//! Every loss against its reference, finite differences and itself on other numbers of threads.

use super::*;
use crate::testing::{Tensor, assert_matches, assert_threads_agree, on_every_isa};
use fovea_reference::{check, loss as reference};

const PLAIN: Criterion = Criterion::CrossEntropy { label_smoothing: 0.0, class_weights: None };

/// Logits in -8..8 of n images, and labels that reach every class.
fn batch(n: usize, classes: usize, gap: usize) -> (Tensor, Vec<u32>) {
    let values: Vec<_> = check::uniform(1, n * classes).iter().map(|x| 8.0 * x).collect();
    let labels = (0..n).map(|image| (image * 7 % classes) as u32).collect();
    (Tensor::new(&values, [n, 1, 1, classes], gap), labels)
}

/// Numbers in 0..1, as targets or class weights.
fn shares(seed: u64, count: usize) -> Vec<f32> {
    check::uniform(seed, count).iter().map(|x| x.abs()).collect()
}

/// Every loss on so many classes, and with class weights.
fn criteria(class_weights: &[f32]) -> Vec<Criterion<'_>> {
    let smoothing = [0.0, 0.1].into_iter();
    let weights = [None, Some(class_weights)];
    let entropies = smoothing.flat_map(|label_smoothing| {
        weights.map(|class_weights| Criterion::CrossEntropy { label_smoothing, class_weights })
    });
    let others = [-3.0, 0.1, 9.0].map(|rejection| Criterion::MaximumAPosteriori { rejection });
    let means = [Criterion::BinaryCrossEntropy, Criterion::MeanSquaredError];
    entropies.chain(others).chain(means).collect()
}

fn naive(criterion: Criterion, x: &[f64], targets: reference::Targets, classes: usize) -> reference::Loss {
    match criterion {
        Criterion::CrossEntropy { label_smoothing, class_weights } => {
            let weights = class_weights.map(check::widen);
            let smoothing = f64::from(label_smoothing);
            reference::cross_entropy(x, targets, classes, smoothing, weights.as_deref())
        }
        Criterion::MaximumAPosteriori { rejection } => {
            reference::maximum_a_posteriori(x, targets, classes, rejection.into())
        }
        Criterion::BinaryCrossEntropy => reference::binary_cross_entropy(x, targets, classes),
        Criterion::MeanSquaredError => reference::mean_squared_error(x, targets, classes),
    }
}

/// Calls `test` with every loss, both kinds of targets and these as the reference has them.
fn for_every_loss(n: usize, classes: usize, test: impl Fn(Criterion, Targets, reference::Targets)) {
    let (_, labels) = batch(n, classes, 0);
    let (values, weights) = (shares(5, n * classes), shares(6, classes));
    let wide = check::widen(&values);
    for criterion in criteria(&weights) {
        test(criterion, Targets::Labels(&labels), reference::Targets::Labels(&labels));
        test(criterion, Targets::Values(&values), reference::Targets::Values(&wide));
    }
}

#[test]
fn every_loss_and_its_gradient_equal_the_reference() {
    for (classes, gap) in [1, 2, 3, 7, 10, 16, 17, 33, 1000].into_iter().flat_map(|c| [(c, 0), (c, 3)]) {
        let (x, _) = batch(5, classes, gap);
        for_every_loss(5, classes, |criterion, targets, wide| {
            let expected = naive(criterion, &x.wide(), wide, classes);
            let gradient: Vec<_> = expected.gradient.iter().map(|dx| 0.3 * dx).collect();
            on_every_isa(|context| {
                let mut dx = Tensor::unwritten([5, 1, 1, classes], gap);
                let loss = criterion.forward(context, x.view(), targets, 0.3, Some(dx.view_mut()));
                let error = (loss.mean() - expected.mean()).abs();
                assert!(error <= 4e-7 * expected.mean().max(1.0), "{criterion:?} {classes}: {error:e}");
                // Of a single class next to nothing remains when its target is taken away.
                let largest =
                    gradient.iter().fold(1e-2 / classes as f64, |largest, dx| largest.max(dx.abs()));
                for (&actual, expected) in dx.values().iter().zip(&gradient) {
                    let error = (f64::from(actual) - expected).abs();
                    assert!(error <= 1e-6 * largest, "{criterion:?} {classes}: {error:e} of {largest:e}");
                }
                assert_eq!(criterion.forward(context, x.view(), targets, 1.0, None), loss);
            });
        });
    }
}

#[test]
fn losses_of_feature_maps_are_means_over_their_pixels() {
    let (shape, gap) = ([2, 3, 4, 5], 2);
    let (x, values) = (Tensor::uniform(1, shape, gap), shares(2, 120));
    let expected =
        reference::mean_squared_error(&x.wide(), reference::Targets::Values(&check::widen(&values)), 5);
    on_every_isa(|context| {
        let mut dx = Tensor::unwritten(shape, gap);
        let targets = Targets::Values(&values);
        let loss = Criterion::MeanSquaredError.forward(context, x.view(), targets, 1.0, Some(dx.view_mut()));
        assert!((loss.mean() - expected.mean()).abs() < 1e-7);
        assert_matches(&dx.values(), &expected.gradient, 1e-6);
    });
}

#[test]
fn every_gradient_equals_a_finite_difference_of_the_forward_pass() {
    let (x, _) = batch(3, 7, 0);
    for_every_loss(3, 7, |criterion, targets, _| {
        on_every_isa(|context| {
            let mut dx = Tensor::unwritten([3, 1, 1, 7], 0);
            criterion.forward(context, x.view(), targets, 1.0, Some(dx.view_mut()));
            let numeric = check::finite_difference(&x.wide(), 1e-2, |x| {
                let x = Tensor::new(&check::narrow(x), [3, 1, 1, 7], 0);
                criterion.forward(context, x.view(), targets, 1.0, None).mean()
            });
            assert_matches(&dx.values(), &numeric, 1e-3);
        });
    });
}

#[test]
fn the_gradient_may_replace_the_outputs() {
    let (x, _) = batch(6, 21, 0);
    for_every_loss(6, 21, |criterion, targets, _| {
        on_every_isa(|context| {
            let (mut apart, mut in_place) = (Tensor::unwritten([6, 1, 1, 21], 0), x.clone());
            let expected = criterion.forward(context, x.view(), targets, 0.5, Some(apart.view_mut()));
            let (from, to) = in_place.in_place();
            assert_eq!(criterion.forward(context, from, targets, 0.5, Some(to)), expected);
            assert_eq!(in_place.values(), apart.values());
        });
    });
}

#[test]
fn the_largest_of_the_target_values_is_the_class_that_counts() {
    let x = Tensor::new(&[1.0, 3.0, 2.0, 3.0, 1.0, 2.0], [2, 1, 1, 3], 0);
    on_every_isa(|context| {
        let correct =
            |values: [f32; 6]| PLAIN.forward(context, x.view(), Targets::Values(&values), 1.0, None).correct;
        assert_eq!(correct([0.2, 0.7, 0.1, 0.7, 0.2, 0.1]), 2);
        assert_eq!(correct([0.5, 0.5, 0.0, 0.5, 0.0, 0.5]), 1);
    });
}

#[test]
fn the_first_largest_logit_is_the_prediction() {
    let nan = f32::NAN;
    let rows = [[1.0, 3.0, 3.0], [3.0, 1.0, 3.0], [0.0, -1.0, 2.0], [nan, 5.0, 1.0], [1.0, 5.0, nan]];
    let logits = Tensor::new(&rows.concat(), [5, 1, 1, 3], 0);
    on_every_isa(|context| {
        let correct =
            |label| PLAIN.forward(context, logits.view(), Targets::Labels(&[label; 5]), 1.0, None).correct;
        assert_eq!([0, 1, 2].map(correct), [1, 1, 1]);
    });
}

#[test]
fn correct_counts_equal_a_plain_argmax() {
    let (logits, labels) = batch(500, 3, 0);
    let rows = logits.values();
    let argmax = |row: &[f32]| (0..3).find(|&class| row.iter().all(|&x| x <= row[class]));
    let expected = rows.chunks(3).zip(&labels).filter(|(row, label)| argmax(row) == Some(**label as usize));
    let expected = expected.count() as u32;
    on_every_isa(|context| {
        assert_eq!(
            PLAIN.forward(context, logits.view(), Targets::Labels(&labels), 1.0, None).correct,
            expected
        );
    });
}

#[test]
fn extreme_logits_have_a_finite_loss_and_infinite_ones_none() {
    let forward = |values: &[f32], label| {
        let logits = Tensor::new(values, [1, 1, 1, values.len()], 0);
        let pool = crate::Pool::new(1);
        let losses = crate::Isa::available().into_iter().map(|isa| {
            PLAIN
                .forward(Context { isa, pool: &pool }, logits.view(), Targets::Labels(&[label]), 1.0, None)
                .sum
        });
        losses.collect::<Vec<_>>()
    };
    assert!(forward(&[1e30, -1e30], 1).iter().all(|&loss| loss == 2.0 * f64::from(1e30f32)));
    assert!(forward(&[f32::NEG_INFINITY, 0.0], 1).iter().all(|&loss| loss == 0.0));
    assert!(forward(&[f32::NEG_INFINITY, 0.0], 0).iter().all(|&loss| loss == f64::INFINITY));
    assert!(forward(&[f32::NAN, 0.0], 1).iter().all(|loss| loss.is_nan()));
}

#[test]
#[should_panic(expected = "a label beyond 3 classes")]
fn a_label_beyond_the_classes_never_reaches_the_rows() {
    let (logits, _) = batch(2, 3, 0);
    on_every_isa(|context| {
        PLAIN.forward(context, logits.view(), Targets::Labels(&[0, 3]), 1.0, None);
    });
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (x, _) = batch(256, 101, 0);
    for_every_loss(256, 101, |criterion, targets, _| {
        assert_threads_agree(|context| {
            let mut dx = Tensor::unwritten([256, 1, 1, 101], 0);
            let loss = criterion.forward(context, x.view(), targets, 1.0, Some(dx.view_mut()));
            let bits = [loss.sum.to_bits() as u32, (loss.sum.to_bits() >> 32) as u32, loss.correct];
            [dx.values(), bits.map(f32::from_bits).to_vec()].concat()
        });
    });
}
