//! Any bytes are a network whose shapes are known and whose weights are those that it has, or an error.
#![no_main]

use fovea_engine::onnx::{ImportOptions, OnnxModel};
use fovea_engine::{Graph, Session, SessionOptions};
use libfuzzer_sys::fuzz_target;

/// Most parameters of networks that are built: the first layers of a hostile file may be large.
const MOST_PARAMETERS: u64 = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = OnnxModel::parse("fuzz", bytes.to_vec(), &ImportOptions::default()) else { return };
    let shapes = model.graph.shapes().unwrap();
    assert_eq!(shapes.nodes.len(), model.graph.nodes.len());
    assert_eq!(Graph::from_json(&model.graph.to_json()).unwrap().to_json(), model.graph.to_json());
    assert_eq!(model.input.layout.image_len(), model.graph.input.iter().product::<usize>());
    let output = &model.graph.outputs[0].node;
    let last = shapes.nodes.iter().find(|node| node.name == *output).unwrap();
    assert_eq!(model.output.layout.image_len(), last.output.iter().product::<usize>());
    if shapes.parameters <= MOST_PARAMETERS {
        let options = SessionOptions { threads: Some(1), ..SessionOptions::default() };
        // A kernel may have no version for a geometry, but what is built takes the file's weights.
        let Ok(mut session) = Session::new(model.graph.clone(), options) else { return };
        session.load_onnx(&model).unwrap();
    }
});
