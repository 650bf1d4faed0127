//! Winograd's algorithm inside a network: as exact as promised, and never on stale weights.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

mod common;

use common::{batch, bits};
use fovea_engine::{Graph, Mode, Precision, Session, SessionOptions, StepOptions};
use fovea_kernels::Isa;
use fovea_reference::check::relative_error;

/// Two convolutions of 64 channels on maps of 13 x 9, which are no multiple of a tile, and a dense layer.
const GRAPH: &str = r#"{
  "name": "wide", "input": [13, 9, 3],
  "nodes": [
    {"name": "conv1", "op": "conv", "inputs": ["input"], "filters": 64, "kernel": [3, 3], "stride": [1, 1],
     "padding": "same", "dilation": [1, 1], "groups": 1, "bias": true, "init": "kaiming"},
    {"name": "relu1", "op": "relu", "inputs": ["conv1"]},
    {"name": "conv2", "op": "conv", "inputs": ["relu1"], "filters": 80, "kernel": [3, 3], "stride": [1, 1],
     "padding": [1, 0, 2, 1], "dilation": [1, 1], "groups": 1, "bias": true, "init": "kaiming"},
    {"name": "relu2", "op": "relu", "inputs": ["conv2"]},
    {"name": "conv3", "op": "conv", "inputs": ["relu2"], "filters": 64, "kernel": [5, 5], "stride": [1, 1],
     "padding": "valid", "dilation": [1, 1], "groups": 1, "bias": false, "init": "kaiming"},
    {"name": "flatten1", "op": "flatten", "inputs": ["conv3"]},
    {"name": "dense1", "op": "dense", "inputs": ["flatten1"], "units": 4, "bias": true, "init": "xavier"}
  ],
  "outputs": [{"node": "dense1", "lossWeight": 1}]
}"#;

/// Images of a batch: at six tiles an image and more, enough for Winograd's algorithm to be chosen.
const IMAGES: usize = 24;

fn session(precision: Precision, threads: usize, isa: Isa) -> Session {
    session_of(GRAPH, precision, threads, isa)
}

fn session_of(graph: &str, precision: Precision, threads: usize, isa: Isa) -> Session {
    let options =
        SessionOptions { threads: Some(threads), seed: 7, isa: Some(isa), precision, ..Default::default() };
    Session::new(Graph::from_json(graph).unwrap(), options).unwrap()
}

fn algorithms(session: &mut Session, mode: Mode) -> Vec<String> {
    let plan = session.explain(mode, IMAGES, false).unwrap();
    plan.rows.into_iter().map(|row| row.algorithm).filter(|name| name.contains("Winograd")).collect()
}

fn step() -> StepOptions<'static> {
    StepOptions { learning_rate: 0.002, ..StepOptions::default() }
}

#[test]
fn fast_takes_winograds_algorithm_where_it_pays_and_strict_never_does() {
    for isa in Isa::available() {
        let mut fast = session(Precision::Fast, 2, isa);
        // All three passes of conv2 and conv3; conv1 has three channels.
        assert_eq!(algorithms(&mut fast, Mode::Train).len(), 6, "{}", isa.name());
        assert_eq!(algorithms(&mut fast, Mode::Infer).len(), 2);
        let mut strict = session(Precision::Strict, 2, isa);
        assert!(algorithms(&mut strict, Mode::Train).is_empty());
    }
}

#[test]
fn ten_losses_agree_between_fast_and_strict() {
    for isa in Isa::available() {
        let [fast, strict] = [Precision::Fast, Precision::Strict].map(|precision| {
            let mut session = session(precision, 2, isa);
            let steps = (0..10).map(|seed| {
                let (images, labels) = batch(&session, IMAGES, 4, seed);
                session.train_step(&images, &labels, &step()).unwrap().loss
            });
            steps.collect::<Vec<f32>>()
        });
        let expected: Vec<f64> = strict.iter().map(|&loss| f64::from(loss)).collect();
        let error = relative_error(&fast, &expected);
        assert!(error < 1e-5, "{}: {error:e}", isa.name());
        assert!(fast != strict, "both precisions took the same path on {}", isa.name());
    }
}

#[test]
fn a_transposed_convolution_takes_winograds_algorithm_in_all_passes_and_agrees_with_direct_summation() {
    let graph = GRAPH
        .replace(r#""conv3", "op": "conv","#, r#""conv3", "op": "convTranspose", "outputPadding": [0, 0],"#);
    for isa in Isa::available() {
        let train = |precision, threads| {
            let mut session = session_of(&graph, precision, threads, isa);
            let steps = (0..4).map(|seed| {
                let (images, labels) = batch(&session, IMAGES, 4, seed);
                session.train_step(&images, &labels, &step()).unwrap().loss
            });
            let losses = steps.collect::<Vec<f32>>();
            let (images, _) = batch(&session, IMAGES, 4, 99);
            let mut output = vec![f32::NAN; IMAGES * session.output_len()];
            session.predict(&images, IMAGES, &mut output).unwrap();
            (session, [losses, output].concat())
        };
        let (mut session, fast) = train(Precision::Fast, 2);
        assert_eq!(algorithms(&mut session, Mode::Train).len(), 6, "{}", isa.name());
        assert_eq!(algorithms(&mut session, Mode::Infer).len(), 2, "{}", isa.name());
        let (_, strict) = train(Precision::Strict, 2);
        let expected: Vec<f64> = strict.iter().map(|&value| f64::from(value)).collect();
        let error = relative_error(&fast, &expected);
        // What is predicted after four updates differs by more than a loss does.
        assert!(error < 1e-4 && fast != strict, "{}: {error:e}", isa.name());
        assert_eq!(train(Precision::Fast, 3).1, fast, "{}", isa.name());
    }
}

#[test]
fn the_bits_of_fast_training_do_not_depend_on_threads() {
    for isa in Isa::available() {
        let [one, three] = [1, 3].map(|threads| {
            let mut session = session(Precision::Fast, threads, isa);
            for seed in 0..3 {
                let (images, labels) = batch(&session, IMAGES, 4, seed);
                session.train_step(&images, &labels, &step()).unwrap();
            }
            bits(&session)
        });
        assert!(one == three, "{}", isa.name());
    }
}

#[test]
fn predictions_follow_every_change_of_the_weights() {
    let isa = Isa::detect().unwrap();
    let predict = |session: &mut Session| {
        let (images, _) = batch(session, IMAGES, 4, 99);
        let mut output = vec![f32::NAN; IMAGES * session.output_len()];
        session.predict(&images, IMAGES, &mut output).unwrap();
        output
    };
    let mut session_a = session(Precision::Fast, 2, isa);
    let before = predict(&mut session_a);
    let (images, labels) = batch(&session_a, IMAGES, 4, 1);
    session_a.train_step(&images, &labels, &step()).unwrap();
    let after = predict(&mut session_a);
    assert_ne!(before, after);
    let mut session_b = session(Precision::Fast, 2, isa);
    assert_eq!(predict(&mut session_b), before);
    common::load(&mut session_b, &session_a.weights());
    assert_eq!(predict(&mut session_b), after);
}
