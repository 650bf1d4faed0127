//! Random graphs on the engine against the oracle; `npm run fuzz:graphs` runs more of them.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

mod common;
mod fuzz;

use fovea_engine::Graph;
use fuzz::{Case, Tally};
use std::time::{Duration, Instant};

/// Graphs, and the longest time they may take on a slow machine.
const CASES: u64 = 600;
const LONGEST: Duration = Duration::from_secs(50);

#[test]
fn random_graphs_compute_what_the_oracle_computes() {
    let (started, mut tally) = (Instant::now(), Tally::default());
    for number in (0..CASES).take_while(|_| started.elapsed() < LONGEST) {
        if let Err((case, failure)) = fuzz::run(1, number, &mut tally) {
            panic!("case {number}: {}, {}\n{}", failure.kind, failure.text, case.to_json());
        }
    }
    let every = tally.cases == CASES;
    let missing = known().into_iter().find(|name| every && !tally.operations.contains_key(name.as_str()));
    assert_eq!(missing, None, "an operation that is never drawn; it wants a line in fuzz/operations.rs");
    assert!(tally.skipped * 20 <= tally.cases, "{} of {} skipped", tally.skipped, tally.cases);
}

/// The names of all operations, as the refusal of another one lists them.
fn known() -> Vec<String> {
    let nodes = serde_json::json!([{"name": "a", "op": "none", "inputs": ["input"]}]);
    let graph = serde_json::json!({"name": "g", "input": [1, 1, 1], "nodes": nodes, "outputs": []});
    let refusal = Graph::from_json(&graph.to_string()).unwrap_err().to_string();
    let list = refusal.strip_prefix("Expected an op among ").unwrap();
    list.split(" for ").next().unwrap().split(", ").map(str::to_owned).collect()
}

#[test]
fn graphs_that_were_wrong_once_are_right() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/found")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue; // what says what this folder is for
        }
        let case = Case::from_json(&std::fs::read_to_string(&path).unwrap());
        if let Err(failure) = fuzz::check(&case, &mut Tally::default()) {
            panic!("{}: {}, {}", path.display(), failure.kind, failure.text);
        }
    }
}
