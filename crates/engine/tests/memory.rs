//! Where the system refuses memory, whatever request of whatever call it is: an error, and the session as it
//! was.
//!
//! What cannot be refused ends the process, so these tests also find such requests.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

mod common;

use common::graphs::{batch_norm, conv, dense, graph, node, op};
use common::{batch, bits, fastest};
use fovea_allocations::{Refusal, Watched, refusing};
use fovea_engine::{EngineError, Mode, Moments, Optimizer, Result, Session, StepOptions};
use std::fmt::Debug;

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// Below it are names, shapes and instructions; all tensors of [`network`] that matter are above.
const LARGE: usize = 70_000;

/// Large in its parameters, its feature maps and what is kept for inference: folded, transformed and reordered
/// weights.
fn network() -> String {
    let mut same = conv(64, [3, 3]);
    same["padding"] = serde_json::json!("same");
    let nodes = vec![
        node("conv1", "input", same.clone()),
        node("bn1", "conv1", batch_norm()),
        node("relu", "bn1", op("relu")),
        node("conv2", "relu", same),
        node("bn2", "conv2", batch_norm()),
        node("flat", "bn2", op("flatten")),
        node("fc", "flat", dense(10)),
    ];
    graph([8, 8, 32], nodes, &[("fc", 1.0)])
}

fn trained() -> Session {
    let mut session = fastest(&network());
    step(&mut session, 2, &StepOptions::default()).unwrap();
    session
}

fn step(session: &mut Session, images: usize, options: &StepOptions) -> Result<()> {
    let (images, labels) = batch(session, images, 10, images as u64);
    session.train_step(&images, &labels, options).map(drop)
}

/// Bits of everything that the next steps depend on: how they go on.
fn continuation(session: &mut Session) -> (u64, Vec<Vec<u32>>) {
    let (images, _) = batch(session, 2, 10, 5);
    let mut output = vec![0.0; 20];
    session.predict(&images, 2, &mut output).unwrap();
    step(session, 2, &StepOptions::default()).unwrap();
    let mut all = bits(session);
    all.push(output.iter().map(|value| value.to_bits()).collect());
    (session.step(), all)
}

/// Refuses each large request of `work` in turn, alone and with all that follow, and compares what the session
/// does then with one that was never asked. Returns how many requests there are.
fn refuse_each<T: Debug>(mut work: impl FnMut(&mut Session) -> Result<T>) -> usize {
    let expected = continuation(&mut trained());
    for granted in 0.. {
        for lasts in [false, true] {
            let mut session = trained();
            let refusal = Refusal { bytes: LARGE, granted, lasts };
            let (result, refused) = refusing(refusal, || work(&mut session));
            if !refused {
                result.unwrap();
                return granted;
            }
            let message = result.unwrap_err().to_string();
            assert!(message.contains("memory"), "{refusal:?} {message}");
            assert!(continuation(&mut session) == expected, "{refusal:?}");
        }
    }
    unreachable!("some request is the last")
}

#[test]
fn a_step_that_is_refused_memory_leaves_the_session_as_it_was() {
    let moments = Moments { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let options = StepOptions {
        optimizer: Optimizer::Adam(moments),
        ema: Some(0.9),
        accumulate: 2,
        ..StepOptions::default()
    };
    // Arena; a second moment, as the first takes the velocity's place; sums of gradients; averages.
    let (images, labels) = batch(&trained(), 10, 10, 1);
    let requests = refuse_each(|session| session.train_step(&images, &labels, &options));
    assert!(requests >= 4, "{requests}");
}

#[test]
fn a_plan_that_is_refused_memory_leaves_the_session_as_it_was() {
    for mode in [Mode::Infer, Mode::Evaluate, Mode::Train] {
        assert!(refuse_each(|session| session.explain(mode, 64, false)) >= 1);
    }
}

#[test]
fn a_benchmark_that_is_refused_memory_leaves_the_session_as_it_was() {
    for mode in [Mode::Infer, Mode::Evaluate, Mode::Train] {
        assert!(refuse_each(|session| session.benchmark(mode, 24, 0.0, || true).map(drop)) >= 2);
        assert!(refuse_each(|session| session.explain(mode, 24, true).map(drop)) >= 2);
    }
}

#[test]
fn files_that_are_refused_memory_leave_the_session_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    refuse_each(|session| session.save_weights(&path("weights")));
    refuse_each(|session| session.save_checkpoint(&path("checkpoint"), "{}"));
    // What is read back is what was there.
    trained().save_weights(&path("weights")).unwrap();
    trained().save_checkpoint(&path("checkpoint"), "{}").unwrap();
    refuse_each(|session| session.load_weights_file(&path("weights"), &[]));
    refuse_each(|session| session.load_weights_file(&path("weights"), &["fc".to_owned()]));
    refuse_each(|session| session.load_checkpoint(&path("checkpoint")));
}

#[test]
fn mirror_images_that_are_refused_memory_leave_the_session_as_it_was() {
    let (images, labels) = batch(&trained(), 8, 10, 1);
    let mut predictions = [0; 8];
    let evaluate =
        |session: &mut Session| session.evaluate_mirrored_batch(&images, &labels, &mut predictions);
    assert!(refuse_each(evaluate) >= 2);
}

#[test]
fn a_session_that_is_refused_its_memory_is_not_there() {
    for granted in 0.. {
        let refusal = Refusal { bytes: LARGE, granted, lasts: true };
        let (session, refused) = refusing(refusal, || {
            let graph = fovea_engine::Graph::from_json(&network())?;
            Session::new(graph, Default::default()).map(drop)
        });
        if !refused {
            assert!(granted >= 2, "{granted}");
            return session.unwrap();
        }
        assert!(matches!(session, Err(EngineError::Memory { .. })), "{refusal:?}");
    }
}
