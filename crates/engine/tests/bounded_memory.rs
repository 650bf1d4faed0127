//! Definitions of a few hundred bytes that stand for gigabytes are refused before memory is taken for them.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

mod common;

use common::graphs::{conv, graph, join, node as layer, op};
use fovea_allocations::{Watched, total};
use fovea_engine::onnx::{ImportOptions, OnnxModel};
use fovea_engine::{Graph, Session, SessionOptions};
use fovea_formats::onnx::{
    Attribute, Dimension, Graph as OnnxGraph, Model, Node, OperatorSet, Shape, Tensor, TensorType, Type,
    ValueInfo, attribute_type, data_type, write,
};
use serde_json::json;
use std::sync::Mutex;

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// The memory of all threads is counted, so that tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// What refuses a definition, which may ask for a few megabytes in all.
fn refusal(work: impl FnOnce() -> String) -> String {
    let (message, bytes) = total(work);
    assert!(bytes < 32 << 20, "{bytes} bytes before: {message}");
    message
}

fn graph_refusal(definition: &str) -> String {
    let options = SessionOptions { threads: Some(1), ..SessionOptions::default() };
    refusal(|| Session::new(Graph::from_json(definition).unwrap(), options).err().unwrap().to_string())
}

fn bytes(model: &Model) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    write(file.path(), model).unwrap();
    std::fs::read(file.path()).unwrap()
}

fn onnx_refusal(model: &Model) -> String {
    let bytes = bytes(model);
    refusal(|| OnnxModel::parse("x.onnx", bytes, &ImportOptions::default()).unwrap_err().to_string())
}

fn value(name: &str, dims: &[i64]) -> ValueInfo {
    let length = |&length| Dimension { dim_value: Some(length), ..Default::default() };
    let shape = Shape { dim: dims.iter().map(length).collect() };
    let tensor = TensorType { elem_type: data_type::FLOAT, shape: Some(shape) };
    ValueInfo { name: name.into(), r#type: Some(Type { tensor_type: Some(tensor) }) }
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Node {
    let input = inputs.iter().map(|name| name.to_string()).collect();
    Node { input, output: vec![output.into()], op_type: operator.into(), ..Default::default() }
}

/// A model of images `[2, 2, 2]` whose output is `y`.
fn model(node: Vec<Node>, initializer: Vec<Tensor>) -> Model {
    let (input, output) = (vec![value("x", &[1, 2, 2, 2])], vec![value("y", &[])]);
    let graph = OnnxGraph { node, initializer, input, output, name: "small".into() };
    let opset_import = vec![OperatorSet { domain: None, version: 17 }];
    Model { ir_version: 8, graph: Some(graph), opset_import, ..Default::default() }
}

#[test]
fn a_vector_joined_with_itself_again_and_again_is_refused() {
    let _turn = TURN.lock();
    let mut nodes = vec![layer("flat", "input", op("flatten"))];
    for index in 0..28 {
        let before = nodes[index]["name"].as_str().unwrap().to_owned();
        nodes.push(join(&format!("twice{index}"), &[&before, &before], "concat"));
    }
    let expected = "Expected at most 65536 flattened maps in vectors, counted over all nodes, for \"twice15\" but received 131071.";
    assert_eq!(graph_refusal(&graph([2, 1, 2], nodes, &[("twice27", 1.0)])), expected);

    let axis =
        Attribute { name: "axis".into(), i: Some(1), r#type: attribute_type::INT, ..Default::default() };
    let mut nodes = vec![node("Flatten", &["x"], "flat")];
    for index in 0..27 {
        let before = nodes[index].output[0].clone();
        let after = if index == 26 { "y".to_owned() } else { format!("twice{index}") };
        nodes.push(Node { attribute: vec![axis.clone()], ..node("Concat", &[&before, &before], &after) });
    }
    assert_eq!(onnx_refusal(&model(nodes, vec![])), expected);
}

#[test]
fn a_short_list_of_connections_to_a_large_kernel_is_refused() {
    let _turn = TURN.lock();
    let mut large = conv(1, [32, 32]);
    large["connections"] = json!([[0]]);
    let definition = graph([32, 32, 1 << 18], vec![layer("large", "input", large)], &[("large", 1.0)]);
    assert_eq!(
        graph_refusal(&definition),
        "Expected at most 1073741824 bytes of masks for connections, counted over all nodes, for \"large\" but received \
         2147483648."
    );
}

#[test]
fn arrays_that_a_file_states_by_their_shape_are_refused_where_all_of_them_are_too_large() {
    let _turn = TURN.lock();
    let filled = |shape: &[i64], more: Vec<Node>, mut constants: Vec<Tensor>| {
        constants.push(Tensor::integers("shape", shape));
        model([vec![node("ConstantOfShape", &["shape"], "same")], more].concat(), constants)
    };
    let at_most = |node: &str, operator: &str, received: &str| {
        format!(
            "Expected at most 1073741824 bytes of arrays that the file does not hold for \"{node}\" ({operator}) but \
             received {received}."
        )
    };
    let weight = filled(&[1 << 20, 2, 16, 16], vec![node("Conv", &["x", "same"], "y")], vec![]);
    let expected = at_most("y", "Conv", "2147483648 more for [1048576, 2, 16, 16]");
    assert_eq!(onnx_refusal(&weight), expected);

    let row = || Tensor::floats("row", &[64], &[1.5; 64]);
    let repeated = vec![node("Mul", &["same", "row"], "wide"), node("Add", &["x", "wide"], "y")];
    let expected = at_most("wide", "Mul", "17179869184 more for [67108864, 64]");
    assert_eq!(onnx_refusal(&filled(&[1 << 26, 1], repeated, vec![row()])), expected);

    let columns = Tensor { dims: vec![16384, 1], ..Tensor::integers("column", &[1; 16384]) };
    let numbers = vec![node("Transpose", &["column"], "across"), node("Mul", &["column", "across"], "table")];
    let shaped = [numbers, vec![node("Reshape", &["x", "table"], "y")]].concat();
    let expected = at_most("table", "Mul", "4294967296 more for [16384, 16384]");
    assert_eq!(onnx_refusal(&model(shaped, vec![columns])), expected);

    // The first weight is allowed (and of zeros, whose memory nobody touches), the second is not.
    let pads = Attribute {
        name: "pads".into(),
        ints: vec![4; 4],
        r#type: attribute_type::INTS,
        ..Default::default()
    };
    let convolution =
        |output: &str| Node { attribute: vec![pads.clone()], ..node("Conv", &["x", "same"], output) };
    let two = vec![convolution("a"), convolution("b"), node("Add", &["a", "b"], "y")];
    let parsed = OnnxModel::parse(
        "x.onnx",
        bytes(&filled(&[1 << 20, 2, 9, 9], two, vec![])),
        &ImportOptions::default(),
    );
    let expected = at_most("b", "Conv", "679477248 more for [1048576, 2, 9, 9]");
    assert_eq!(parsed.unwrap_err().to_string(), expected);
}

#[test]
fn a_table_of_the_file_is_transposed_and_added_many_times() {
    let _turn = TURN.lock();
    let sum = |index: usize| if index == 0 { "table".to_owned() } else { format!("sum{index}") };
    let mut nodes = Vec::new();
    for index in 0..8 {
        nodes.push(node("Transpose", &["table"], &format!("copy{index}")));
        nodes.push(node("Add", &[&sum(index), &format!("copy{index}")], &sum(index + 1)));
    }
    nodes.push(node("Reshape", &["sum8", "rows"], "m"));
    nodes.push(node("Flatten", &["x"], "flat"));
    nodes.push(node("MatMul", &["flat", "m"], "y"));
    let table = Tensor::floats("table", &[256, 256], &[1.0; 1 << 16]);
    let file = bytes(&model(nodes, vec![table, Tensor::integers("rows", &[8, -1])]));
    let model = OnnxModel::parse("x.onnx", file, &ImportOptions::default()).unwrap();
    assert!(model.weights[0].values.iter().all(|&value| value == 9.0));
}

#[test]
fn arrays_of_more_dimensions_than_numpy_has_are_refused() {
    let _turn = TURN.lock();
    let deep = Tensor { dims: vec![1; 1_000_000], ..Tensor::floats("deep", &[], &[1.0]) };
    let sum = vec![node("Add", &["x", "deep"], "y")];
    let expected = "Expected at most 64 dimensions in \"deep\" for \"x.onnx\" but received 1000000.";
    assert_eq!(onnx_refusal(&model(sum, vec![deep])), expected);

    let target = Tensor::integers("target", &[1; 65]);
    let nodes = vec![node("Reshape", &["one", "target"], "deep"), node("Add", &["x", "deep"], "y")];
    let expected = "Expected at most 64 dimensions for \"deep\" (Reshape) but received 65.";
    assert_eq!(onnx_refusal(&model(nodes, vec![Tensor::floats("one", &[], &[1.0]), target])), expected);

    for (first, dimensions) in [("x", 84), ("one", 81)] {
        let axes: Vec<i64> = (1..=40).collect();
        let nodes = vec![
            node("Unsqueeze", &[first, "axes"], "deep"),
            node("Unsqueeze", &["deep", "axes"], "deeper"),
            node("Add", &["x", "deeper"], "y"),
        ];
        let one = Tensor::floats("one", &[1], &[1.0]);
        let message = onnx_refusal(&model(nodes, vec![one, Tensor::integers("axes", &axes)]));
        let expected =
            format!("Expected at most 64 dimensions for \"deeper\" (Unsqueeze) but received {dimensions}.");
        assert_eq!(message, expected);
    }
}
