//! Any text is a graph whose shapes are known and which is written and read back the same, or an error.
#![no_main]

use fovea_engine::Graph;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(graph) = Graph::from_json(text) else { return };
    let _ = graph.shapes();
    let again = Graph::from_json(&graph.to_json()).unwrap();
    assert_eq!(again.to_json(), graph.to_json());
});
