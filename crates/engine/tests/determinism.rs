//! The same seed gives the same bits, whatever the number of threads and wherever a run was interrupted.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

mod common;

use common::graphs::{lenet5, mixed, random_graph, varied};
use common::{batch, bits, session};
use fovea_engine::{Optimizer, Session, StepOptions};
use fovea_kernels::Isa;
use std::path::Path;

const OPTIONS: StepOptions = StepOptions {
    learning_rate: 0.02,
    optimizer: Optimizer::Sgd { momentum: 0.9, nesterov: true },
    weight_decay: 1e-3,
    label_smoothing: 0.1,
    class_weights: None,
    clip_norm: None,
    accumulate: 1,
    ema: None,
};

/// Trains the steps `first..last`, each on a batch of its own; returns the losses' bits.
fn train(session: &mut Session, images: usize, steps: std::ops::Range<u64>) -> Vec<u32> {
    let step = |step: u64| {
        let (images, labels) = batch(session, images, 4, step);
        session.train_step(&images, &labels, &OPTIONS).unwrap().loss.to_bits()
    };
    steps.map(step).collect()
}

#[test]
fn one_two_and_three_threads_train_to_the_same_bits_on_every_instruction_set() {
    for isa in Isa::available() {
        for (definition, images) in
            [(lenet5(), 13), (mixed(), 9), (varied(), 9), (random_graph(3), 5), (random_graph(8), 32)]
        {
            let outcome = |threads| {
                let mut session = session(&definition, threads, isa);
                (train(&mut session, images, 0..4), bits(&session))
            };
            let alone = outcome(1);
            assert_eq!(outcome(2), alone, "{} on 2 threads", isa.name());
            assert_eq!(outcome(3), alone, "{} on 3 threads", isa.name());
        }
    }
}

#[test]
fn five_steps_a_checkpoint_and_five_more_equal_ten_steps_byte_for_byte() {
    let directory = tempfile::tempdir().unwrap();
    let isa = Isa::detect().unwrap();
    for (definition, threads) in [(lenet5(), 1), (lenet5(), 2), (mixed(), 2)] {
        let path = directory.path().join("checkpoint.safetensors");
        let mut whole = session(&definition, threads, isa);
        train(&mut whole, 8, 0..10);

        let mut first = session(&definition, threads, isa);
        train(&mut first, 8, 0..5);
        let bytes = first.save_checkpoint(&path, r#"{"epoch":1}"#).unwrap();
        assert_eq!(bytes, std::fs::metadata(&path).unwrap().len());
        let mut second = session(&definition, threads, isa);
        train(&mut second, 8, 90..92); // whatever it knew before must be gone
        assert_eq!(second.load_checkpoint(&path).unwrap(), r#"{"epoch":1}"#);
        assert_eq!((second.step(), second.seed()), (5, first.seed()));
        train(&mut second, 8, 5..10);
        assert_eq!(bits(&second), bits(&whole));

        let saved = |session: &mut Session, name: &str| {
            let path = directory.path().join(name);
            session.save_checkpoint(Path::new(&path), "{}").unwrap();
            std::fs::read(path).unwrap()
        };
        assert!(
            saved(&mut second, "a") == saved(&mut whole, "b"),
            "velocities, running statistics or counters differ"
        );
    }
}

#[test]
fn a_checkpoint_of_one_instruction_set_continues_on_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("checkpoint.safetensors");
    let all = Isa::available();
    let mut first = session(&random_graph(4), 1, all[0]);
    train(&mut first, 8, 0..2);
    first.save_checkpoint(&path, "").unwrap();
    for isa in all {
        let mut second = session(&random_graph(4), 1, isa);
        second.load_checkpoint(&path).unwrap();
        assert_eq!(bits(&second), bits(&first));
        train(&mut second, 8, 2..4);
    }
}
