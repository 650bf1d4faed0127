//! Any bytes are a network whose shapes are known, or an error.
#![no_main]

use fovea_engine::onnx::{ImportOptions, OnnxModel};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = OnnxModel::parse("fuzz", bytes.to_vec(), &ImportOptions::default()) else { return };
    let shapes = model.graph.shapes().unwrap();
    assert_eq!(shapes.nodes.len(), model.graph.nodes.len());
});
