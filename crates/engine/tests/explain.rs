//! `explain` and `benchmark` tell the truth and change nothing.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

mod common;

use common::graphs::lenet5;
use common::{batch, bits, fastest};
use fovea_engine::{Mode, StepOptions};

#[test]
fn the_training_plan_of_lenet5_counts_its_work() {
    let mut session = fastest(&lenet5());
    let plan = session.explain(Mode::Train, 64, false).unwrap();
    // Forward and weight gradient of all layers, input gradient of all but the first (28 x 28 x 6 x 25 mult-adds).
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
