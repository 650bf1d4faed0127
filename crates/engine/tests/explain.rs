//! `explain` and `benchmark` tell the truth and change nothing.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

mod common;

use common::graphs::{conv, judged, lenet5, mixed, node, op};
use common::{batch, bits, fastest, load};
use fovea_engine::{Graph, Mode, Precision, Session, SessionOptions, StepOptions};
use fovea_reference::check::{relative_error, widen};
use serde_json::{Value, json};

#[test]
fn the_training_plan_of_lenet5_counts_its_work() {
    let mut session = fastest(&lenet5());
    let plan = session.explain(Mode::Train, 64, false).unwrap();
    // Forward and weight gradient of all layers, input gradient of all but the first (28 x 28 x 6 x 25
    // mult-adds).
    assert_eq!(plan.flops, 2 * 64 * (3 * 416_520 - 28 * 28 * 6 * 25));
    assert!(plan.parameter_bytes >= 4 * 61_706);
    let names: Vec<_> = plan.rows.iter().map(|row| row.instruction).collect();
    assert!(!names.contains(&"relu") && names.last() == Some(&"update"), "{names:?}");
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["rows"][0]["output"], serde_json::json!([64, 28, 28, 6]));
    assert!(json["rows"][0].get("milliseconds").is_none() && json["arenaBytes"].as_u64() > Some(0));
    let forward = session.explain(Mode::Infer, 64, false).unwrap();
    assert_eq!(forward.flops, 2 * 64 * 416_520);
    assert!(forward.arena_bytes < plan.arena_bytes);
}

/// Two convolutions of 3 x 3 that Winograd's algorithm fits, and a classifier.
fn two_convolutions() -> String {
    use common::graphs::{chain, conv, dense, op};
    chain([16, 16, 16], &[conv(64, [3, 3]), conv(64, [3, 3]), op("globalAvgPool"), dense(16)])
}

fn held(precision: Precision, algorithms: &[(&str, &str)]) -> fovea_engine::Result<Session> {
    let algorithms = algorithms.iter().map(|&(layer, name)| (layer.to_owned(), name.to_owned())).collect();
    let options = SessionOptions { threads: Some(2), precision, algorithms, ..Default::default() };
    Session::new(Graph::from_json(&two_convolutions()).unwrap(), options)
}

/// The algorithm of each pass of a layer: forward, input gradient, weight gradient, in the plan's order.
fn ways(session: &mut Session, layer: &str) -> Vec<(&'static str, bool)> {
    let plan = session.explain(Mode::Train, 8, false).unwrap();
    let rows = plan.rows.into_iter().filter(|row| row.name == layer && !row.candidates.is_empty());
    let way = |row: fovea_engine::PlanRow| {
        let chosen: Vec<_> = row.candidates.iter().filter(|candidate| candidate.chosen).collect();
        assert_eq!(chosen.len(), 1, "{row:?}");
        assert_eq!(row.algorithm.contains("Winograd"), chosen[0].algorithm == "winograd", "{row:?}");
        assert_eq!(row.algorithm.contains("as asked"), row.held);
        if !row.held {
            assert!(row.candidates.iter().all(|other| other.cost >= chosen[0].cost), "{row:?}");
        }
        (chosen[0].algorithm, row.held)
    };
    rows.map(way).collect()
}

#[test]
fn every_convolution_shows_its_ways_and_has_the_cheapest() {
    let mut session = held(Precision::Fast, &[]).unwrap();
    assert_eq!(ways(&mut session, "node1"), [("winograd", false); 3]);
    let strict = ways(&mut held(Precision::Strict, &[]).unwrap(), "node1");
    assert!(strict.iter().all(|way| way.0 != "winograd"), "{strict:?}");
    let plan = session.explain(Mode::Infer, 8, true).unwrap();
    assert!(plan.rows[1].predicted_milliseconds.unwrap() > 0.0);
    assert!(plan.to_string().contains("*winograd "), "{plan}");
}

#[test]
fn an_algorithm_asked_for_takes_the_place_of_the_chosen_one() {
    let direct = [("direct", true); 3];
    let session = &mut held(Precision::Fast, &[("node1", "direct")]).unwrap();
    assert_eq!(ways(session, "node1"), direct);
    let session =
        &mut held(Precision::Fast, &[("node1.forward", "direct"), ("node1.weightGradient", "packed")])
            .unwrap();
    // Forward; then, as the backward pass goes, the weight's gradient and the input's.
    assert_eq!(ways(session, "node1"), [("direct", true), ("packed", true), ("winograd", false)]);
    assert_eq!(
        ways(&mut held(Precision::Fast, &[("node3", "packed")]).unwrap(), "node3")[1],
        ("packed", true)
    );
}

#[test]
fn whatever_the_algorithms_a_step_computes_the_same() {
    let outcome = |algorithms: &[(&str, &str)]| {
        let mut session = held(Precision::Fast, algorithms).unwrap();
        let (images, labels) = batch(&session, 4, 10, 4);
        for _ in 0..2 {
            session.train_step(&images, &labels, &StepOptions::default()).unwrap();
        }
        session.weights()
    };
    let expected = outcome(&[]);
    for algorithm in ["direct", "packed", "winograd"] {
        for (tensor, expected) in outcome(&[("node0", algorithm), ("node1", algorithm)]).iter().zip(&expected)
        {
            let error = relative_error(&tensor.values, &widen(&expected.values));
            assert!(error < 1e-4, "{algorithm} {} {error:e}", tensor.name);
        }
    }
}

#[test]
fn an_algorithm_that_cannot_compute_its_layer_is_refused() {
    for (layer, algorithm, expected) in [
        ("node3", "winograd", "Expected direct or packed for \"node3\" but received winograd."),
        ("node1.forward", "packed", "Expected direct or winograd for \"node1.forward\" but received packed."),
        (
            "node0.inputGradient",
            "fft",
            "Expected direct, scatter, packed or winograd for \"node0.inputGradient\" but received fft.",
        ),
        (
            "node2",
            "direct",
            "Expected a convolution or dense layer, or one with .forward, .inputGradient or .weightGradient, for \"algorithms\" but received \"node2\".",
        ),
    ] {
        assert_eq!(held(Precision::Fast, &[(layer, algorithm)]).err().unwrap().to_string(), expected);
    }
    let strict = held(Precision::Strict, &[("node1", "winograd")]).err().unwrap().to_string();
    assert_eq!(
        strict,
        "Expected direct summation, which strict precision demands, for \"node1\" but received winograd."
    );
}

#[test]
fn running_and_benchmarking_leave_the_session_as_it_was() {
    let mut trained = fastest(&lenet5());
    let mut disturbed = fastest(&lenet5());
    let (images, labels) = batch(&trained, 8, 10, 4);
    for step in 0..3 {
        for session in [&mut trained, &mut disturbed] {
            session.train_step(&images, &labels, &StepOptions::default()).unwrap();
        }
        let mode = [Mode::Train, Mode::Infer, Mode::Evaluate][step];
        let plan = disturbed.explain(mode, 4, true).unwrap();
        assert!(plan.milliseconds.unwrap() > 0.0 && plan.peak_gflops.unwrap() > 0.0);
        assert!(plan.rows.iter().all(|row| row.percent_of_peak.is_some() == (row.flops > 0)));
        assert!(plan.to_string().lines().count() == plan.rows.len() + 3);
        let benchmark = disturbed.benchmark(mode, 4, 0.01, || false).unwrap();
        assert!(benchmark.steps >= 3 && benchmark.min_ms <= benchmark.median_ms);
        assert!(
            benchmark.median_ms <= benchmark.max_ms && benchmark.gflops > 0.0 && benchmark.peak_gflops > 0.0
        );
    }
    assert_eq!((bits(&trained), trained.step()), (bits(&disturbed), disturbed.step()));
}

#[test]
fn running_and_benchmarking_change_no_bit_whatever_the_gradients() {
    let directory = tempfile::tempdir().unwrap();
    let mut session = fastest(&mixed());
    let (images, labels) = batch(&session, 4, 4, 4);
    session.train_step(&images, &labels, &StepOptions { ema: Some(0.5), ..Default::default() }).unwrap();
    for value in [0.1, f32::MAX] {
        // Logits so large that their gradients are no numbers; and zeros whose sign an update by nothing would
        // change.
        let mut weights = session.weights();
        for tensor in weights.iter_mut().filter(|tensor| tensor.name.ends_with("weight")) {
            tensor.values.iter_mut().step_by(2).for_each(|weight| *weight = -0.0);
            tensor.values.iter_mut().skip(1).step_by(2).for_each(|weight| *weight = value);
        }
        load(&mut session, &weights);
        let path = directory.path().join("checkpoint");
        let everything = |session: &mut Session| {
            session.save_checkpoint(&path, "").unwrap();
            let gradients = session.gradients().into_iter().flat_map(|tensor| tensor.values);
            (std::fs::read(&path).unwrap(), gradients.map(f32::to_bits).collect::<Vec<_>>())
        };
        let before = everything(&mut session);
        for mode in [Mode::Infer, Mode::Evaluate, Mode::Train] {
            session.explain(mode, 4, true).unwrap();
            assert!(everything(&mut session) == before, "explain {} {value}", mode.name());
            let benchmark = session.benchmark(mode, 4, 0.01, || false);
            assert_eq!(benchmark.is_err(), mode == Mode::Train && value == f32::MAX);
            assert!(everything(&mut session) == before, "benchmark {} {value}", mode.name());
        }
    }
}

#[test]
fn plans_whose_outputs_are_maps_run_too() {
    let squares = |outputs: &[&str], nodes: Vec<Value>| {
        let loss = json!({"kind": "meanSquaredError"});
        let outputs: Vec<_> = outputs.iter().map(|&output| (output, 1.0, loss.clone())).collect();
        fastest(&judged([4, 4, 2], nodes, &outputs))
    };
    let mut nodes = vec![node("map", "input", conv(3, [1, 1])), node("other", "map", op("tanh"))];
    let mut session = squares(&["map", "other"], nodes.clone());
    session.benchmark(Mode::Train, 3, 0.0, || true).unwrap();
    for mode in [Mode::Infer, Mode::Evaluate, Mode::Train] {
        assert!(session.explain(mode, 3, true).unwrap().milliseconds.is_some());
    }
    nodes.push(node("row", "other", op("globalAvgPool")));
    let mut session = squares(&["map", "row"], nodes);
    // A map and a row have no targets in common.
    for message in [
        session.explain(Mode::Train, 3, true).unwrap_err().to_string(),
        session.benchmark(Mode::Train, 3, 0.0, || true).unwrap_err().to_string(),
    ] {
        assert_eq!(message, "Expected 9 values in \"targets\" for 3 images but received 144.");
    }
    let message = session.benchmark(Mode::Evaluate, 3, 0.0, || true).unwrap_err().to_string();
    assert_eq!(
        message,
        "Expected an output [1, 1, classes] for \"map\" but received [4, 4, 3]; add flatten or dense."
    );
}

#[test]
fn a_benchmark_before_the_first_step_leaves_no_velocity_behind() {
    let mut trained = fastest(&lenet5());
    let mut disturbed = fastest(&lenet5());
    disturbed.benchmark(Mode::Train, 8, 3600.0, || true).unwrap();
    let (images, labels) = batch(&trained, 8, 10, 4);
    for session in [&mut trained, &mut disturbed] {
        session.train_step(&images, &labels, &StepOptions::default()).unwrap();
    }
    assert_eq!(bits(&trained), bits(&disturbed));
}
