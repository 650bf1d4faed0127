//! ONNX out and in: what is exported predicts the same when it is imported, and what cannot be imported is told
//! by name.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

mod common;

use common::graphs::{self, adaptive_avg_pool, affine, chain, op};
use common::{fastest, randomize_vectors};
use fovea_engine::onnx::{ImportOptions, OnnxModel};
use fovea_engine::{EngineError, LocalResponseNorm, Op, Session};
use fovea_formats::onnx::{
    Attribute, Dimension, Graph, Model, Node, OperatorSet, Shape, Tensor, TensorType, Type, ValueInfo,
    attribute_type, data_type, write,
};
use serde_json::{Value, json};
use std::path::Path;

/// The first output for a few images that differ.
fn predictions(session: &mut Session, images: &[f32], count: usize) -> Vec<f32> {
    let mut output = vec![0.0; count * session.output_len()];
    session.predict(images, count, &mut output).unwrap();
    output
}

/// Exports a session, imports the file into a new one, and compares what both predict.
fn round_trip(graph: &str, path: &Path) -> OnnxModel {
    let mut session = fastest(graph);
    randomize_vectors(&mut session);
    session.save_onnx(path).unwrap();
    let model = OnnxModel::open(path, &ImportOptions::default()).unwrap();
    let mut imported = fastest(&model.graph.to_json());
    imported.load_onnx(&model).unwrap();
    let images: Vec<f32> = (0..3 * session.image_len()).map(|index| (index as f32 * 0.37).sin()).collect();
    let (before, after) = (predictions(&mut session, &images, 3), predictions(&mut imported, &images, 3));
    let largest = before.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    for (before, after) in before.iter().zip(&after) {
        assert!((before - after).abs() <= 1e-5 * largest, "{before} became {after} in {graph}");
    }
    model
}

#[test]
fn networks_predict_the_same_after_a_round_trip_and_keep_the_names_of_their_layers() {
    let directory = tempfile::tempdir().unwrap();
    for graph in [graphs::lenet5(), graphs::mixed(), graphs::varied(), graphs::connected(), graphs::grouped()]
    {
        let model = round_trip(&graph, &directory.path().join("x.onnx"));
        let text = fastest(&graph).graph().clone();
        for node in &model.graph.nodes {
            // ONNX's rows and maps differ where a vector here may be both.
            let added = node.name.ends_with(".flatten");
            assert!(added || text.nodes.iter().any(|other| other.name == node.name), "{}", node.name);
        }
    }
}

#[test]
fn a_network_of_plain_layers_is_the_same_after_a_round_trip() {
    let directory = tempfile::tempdir().unwrap();
    let model = round_trip(&graphs::lenet5(), &directory.path().join("x.onnx"));
    let mut expected = fastest(&graphs::lenet5()).graph().clone();
    for (node, read) in expected.nodes.iter_mut().zip(&model.graph.nodes) {
        // Padding comes back in numbers.
        if let (fovea_engine::Op::Conv(mine), fovea_engine::Op::Conv(theirs)) = (&mut node.op, &read.op) {
            mine.padding = theirs.padding;
        }
    }
    assert_eq!(model.graph, expected);
    assert_eq!((model.opset, model.input.layout.dims()), (17, &[1, 28, 28][..]));
}

#[test]
fn layers_that_onnx_writes_as_several_nodes_are_the_same_after_a_round_trip() {
    let directory = tempfile::tempdir().unwrap();
    let sizes = [[5, 3], [4, 7], [4, 6], [9, 5], [1, 4], [3, 1]]; // of 5 x 7 pixels and the size before
    let pools: Vec<Value> = sizes.map(adaptive_avg_pool).to_vec();
    let code = |code: usize| (0..6).map(|at| ((code * 7 + at) as f32).cos()).collect::<Vec<_>>();
    let basis = json!({"op": "radialBasis", "codes": [code(0), code(1), code(2)]});
    let layers = [pools, vec![affine(0.5, 0.1), op("flatten"), basis]].concat();
    let graph = chain([5, 7, 2], &layers);
    let model = round_trip(&graph, &directory.path().join("x.onnx"));
    assert_eq!(model.graph, *fastest(&graph).graph());
}

#[test]
fn random_networks_predict_the_same_after_a_round_trip() {
    let directory = tempfile::tempdir().unwrap();
    for seed in 0..60 {
        round_trip(&graphs::random_graph(seed), &directory.path().join("x.onnx"));
    }
}

#[test]
fn an_imported_network_trains_further() {
    let directory = tempfile::tempdir().unwrap();
    let model = round_trip(&graphs::lenet5(), &directory.path().join("x.onnx"));
    let mut session = fastest(&model.graph.to_json());
    session.load_onnx(&model).unwrap();
    let (images, labels) = common::batch(&session, 8, 10, 1);
    let mut predicted = vec![0; 8];
    let first = session.evaluate_batch(&images, &labels, &mut predicted).unwrap().loss_sum;
    for _ in 0..20 {
        session.train_step(&images, labels.as_slice(), &Default::default()).unwrap();
    }
    assert!(session.evaluate_batch(&images, &labels, &mut predicted).unwrap().loss_sum < 0.7 * first);
}

fn int(name: &str, value: i64) -> Attribute {
    Attribute { name: name.into(), i: Some(value), r#type: attribute_type::INT, ..Default::default() }
}

fn ints(name: &str, values: &[i64]) -> Attribute {
    Attribute { name: name.into(), ints: values.into(), r#type: attribute_type::INTS, ..Default::default() }
}

fn node(operator: &str, inputs: &[&str], output: &str, attribute: Vec<Attribute>) -> Node {
    let input = inputs.iter().map(|name| name.to_string()).collect();
    Node { input, output: vec![output.into()], op_type: operator.into(), attribute, ..Default::default() }
}

fn value(name: &str, dims: &[Option<i64>]) -> ValueInfo {
    let dim = dims.iter().map(|&dim_value| Dimension { dim_value, ..Default::default() }).collect();
    let tensor = TensorType { elem_type: data_type::FLOAT, shape: Some(Shape { dim }) };
    ValueInfo { name: name.into(), r#type: Some(Type { tensor_type: Some(tensor) }) }
}

/// A model of images `[2, 4, 4]` whose output is `y`.
fn model(node: Vec<Node>, initializer: Vec<Tensor>) -> Model {
    let input = vec![value("x", &[None, Some(2), Some(4), Some(4)])];
    let graph = Graph { node, initializer, input, output: vec![value("y", &[])], name: "small".into() };
    let opset_import = vec![OperatorSet { domain: None, version: 17 }];
    Model { ir_version: 8, graph: Some(graph), opset_import, ..Default::default() }
}

/// A small network with a convolution, a pool and a dense layer behind a reshape.
fn small() -> Model {
    let weight: Vec<f32> = (0..3 * 2 * 9).map(|index| (index as f32).cos()).collect();
    let matrix: Vec<f32> = (0..48 * 5).map(|index| (index as f32).sin()).collect();
    model(
        vec![
            node("Conv", &["x", "w"], "a", vec![ints("pads", &[1, 1, 1, 1])]),
            node("Relu", &["a"], "b", vec![]),
            node("Reshape", &["b", "shape"], "c", vec![]),
            node("MatMul", &["c", "m"], "d", vec![]),
            node("Add", &["d", "bias"], "y", vec![]),
        ],
        vec![
            Tensor::floats("w", &[3, 2, 3, 3], &weight),
            Tensor::integers("shape", &[0, -1]),
            Tensor::floats("m", &[48, 5], &matrix),
            Tensor::floats("bias", &[5], &[1.0, 2.0, 3.0, 4.0, 5.0]),
        ],
    )
}

fn bytes(model: &Model) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.onnx");
    write(&path, model).unwrap();
    std::fs::read(path).unwrap()
}

fn import(bytes: Vec<u8>) -> Result<OnnxModel, EngineError> {
    OnnxModel::parse("x.onnx", bytes, &ImportOptions::default())
}

fn refusal(model: &Model) -> String {
    import(bytes(model)).map(|model| model.graph).unwrap_err().to_string()
}

#[test]
fn a_sum_behind_a_matrix_product_becomes_its_bias() {
    let model = import(bytes(&small())).unwrap();
    let names: Vec<_> = model.graph.nodes.iter().map(|node| (node.name.as_str(), node.op.name())).collect();
    assert_eq!(names, [("a", "conv"), ("b", "relu"), ("c", "flatten"), ("d", "dense")]);
    assert_eq!(model.output.layout.dims(), [5]);
    let bias = model.weights.iter().find(|tensor| tensor.name == "d.bias").unwrap();
    assert_eq!(bias.values, [1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn layers_get_names_that_a_graph_may_have_whatever_the_nodes_are_called() {
    let names = ["optimizer.x", "input", "same", "same", "same", "a\nb"];
    let mut nodes: Vec<Node> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let before = nodes.last().map_or("x".to_owned(), |node| node.output[0].clone());
        let after = if index + 1 == names.len() { "y".to_owned() } else { format!("v{index}") };
        nodes.push(Node { name: name.to_string(), ..node("Relu", &[&before], &after, vec![]) });
    }
    let model = import(bytes(&model(nodes, vec![]))).unwrap();
    let found: Vec<&str> = model.graph.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(found, ["layer", "input-2", "same", "same-2", "same-3", "y"]);
}

#[test]
fn a_network_that_moves_its_channels_to_the_end_before_flattening_predicts_the_same() {
    // As TensorFlow's exporters write it: the image has its channels last, so has the vector behind the
    // reshape.
    let mut last = small();
    let graph = last.graph.as_mut().unwrap();
    graph.input = vec![value("x", &[None, Some(4), Some(4), Some(2)])];
    graph.node[0].input[0] = "first".into();
    graph.node.insert(0, node("Transpose", &["x"], "first", vec![ints("perm", &[0, 3, 1, 2])]));
    graph.node[3].input[0] = "last".into();
    graph.node.insert(3, node("Transpose", &["b"], "last", vec![ints("perm", &[0, 2, 3, 1])]));
    let matrix = graph.initializer.iter_mut().find(|tensor| tensor.name == "m").unwrap();
    let values: Vec<f32> = (0..48 * 5).map(|index| (index as f32).sin()).collect();
    let row = |row: usize| &values[5 * row..5 * row + 5];
    let reordered: Vec<f32> = (0..16)
        .flat_map(|pixel| (0..3).flat_map(move |channel| row(channel * 16 + pixel).to_vec()))
        .collect();
    *matrix = Tensor::floats("m", &[48, 5], &reordered);

    let run = |model: &Model, channels_last: bool| {
        let model = import(bytes(model)).unwrap();
        let mut session = fastest(&model.graph.to_json());
        session.load_onnx(&model).unwrap();
        let onnx: Vec<f32> = (0..32)
            .map(|index| if channels_last { index } else { index % 16 * 2 + index / 16 })
            .map(|index| (index as f32 * 0.7).sin())
            .collect();
        predictions(&mut session, &model.input.layout.to_engine(&onnx), 1)
    };
    let (first, last) = (run(&small(), false), run(&last, true));
    for (first, last) in first.iter().zip(&last) {
        assert!((first - last).abs() < 1e-5, "{first} {last}");
    }
}

#[test]
fn what_no_layer_does_is_told_with_its_operator_and_node() {
    let unary = |operator: &str, attributes| model(vec![node(operator, &["x"], "y", attributes)], vec![]);
    assert_eq!(
        refusal(&unary("Einsum", vec![])),
        "Expected an operator of convolutional networks for \"y\" (Einsum) but received one that is not supported."
    );
    assert_eq!(
        refusal(&unary("Relu", vec![int("axis", 1)])),
        "Expected no attributes for \"y\" (Relu) but received \"axis\"."
    );
    assert_eq!(
        refusal(&unary("Transpose", vec![ints("perm", &[1, 0, 2, 3])])),
        "Expected a change of whole dimensions that leaves the batch in front for \"y\" (Transpose) but received one \
         of [2, 4, 4] behind the batch."
    );
    let mut other = unary("Relu", vec![]);
    other.graph.as_mut().unwrap().node[0].domain = "com.microsoft".into();
    assert_eq!(
        refusal(&other),
        "Expected an operator of ONNX's own for \"y\" (Relu) but received one of the domain \"com.microsoft\"."
    );
    let mut old = unary("Relu", vec![]);
    old.opset_import[0].version = 6;
    assert_eq!(refusal(&old), "Expected operators of version 7 to 22 for \"x.onnx\" but received 6.");
}

#[test]
fn a_constant_of_one_value_is_repeated_for_every_channel_whatever_its_dimensions() {
    // np.full((1, 1, 1, 1), 1) - np.array([2, 4]).reshape(2, 1, 1)
    let nodes =
        vec![node("Sub", &["one", "means"], "shift", vec![]), node("Add", &["x", "shift"], "y", vec![])];
    let constants =
        vec![Tensor::floats("one", &[1, 1, 1, 1], &[1.0]), Tensor::floats("means", &[2, 1, 1], &[2.0, 4.0])];
    let model = import(bytes(&model(nodes, constants))).unwrap();
    let bias = model.weights.iter().find(|tensor| tensor.name == "y.bias").unwrap();
    assert_eq!(bias.values, [-1.0, -3.0]);
}

#[test]
fn a_sum_of_constants_and_a_map_that_others_read_changes_nothing_for_the_others() {
    let nodes = vec![
        node("Conv", &["x", "w"], "a", vec![]),
        node("Relu", &["a"], "b", vec![]),
        node("Sum", &["one", "two", "a"], "c", vec![]),
        node("Add", &["b", "c"], "y", vec![]),
    ];
    let constants = vec![
        Tensor::floats("w", &[2, 2, 1, 1], &[1.0, 0.0, 0.0, 1.0]),
        Tensor::floats("one", &[1], &[1.0]),
        Tensor::floats("two", &[2, 1, 1], &[2.0, 4.0]),
    ];
    let model = import(bytes(&model(nodes, constants))).unwrap();
    let mut session = fastest(&model.graph.to_json());
    session.load_onnx(&model).unwrap();
    let onnx: Vec<f32> = (0..32).map(|index| index as f32 - 16.0).collect();
    let outputs = predictions(&mut session, &model.input.layout.to_engine(&onnx), 1);
    let expected = |(at, &x): (usize, &f32)| x.max(0.0) + x + [3.0, 5.0][at / 16];
    let expected: Vec<f32> = onnx.iter().enumerate().map(expected).collect();
    assert_eq!(model.output.layout.from_engine(&outputs), expected);
}

#[test]
fn a_number_of_more_dimensions_than_half_a_layer_is_refused_since_the_layer_has_fewer() {
    let normalised = |exponent: Tensor| {
        let nodes = vec![
            node("Mul", &["x", "x"], "squares", vec![]),
            node("Unsqueeze", &["squares", "first"], "apart", vec![]),
            node("Pad", &["apart", "pads"], "padded", vec![]),
            node("AveragePool", &["padded"], "mean", vec![ints("kernel_shape", &[3, 1, 1])]),
            node("Squeeze", &["mean", "first"], "again", vec![]),
            node("Add", &["again", "k"], "sum", vec![]),
            node("Pow", &["sum", "beta"], "power", vec![]),
            node("Div", &["x", "power"], "y", vec![]),
        ];
        let constants = vec![
            Tensor::floats("k", &[1], &[2.0]),
            Tensor::integers("first", &[1]),
            Tensor::integers("pads", &[0, 0, 1, 0, 0, 0, 0, 1, 0, 0]),
            exponent,
        ];
        model(nodes, constants)
    };
    import(bytes(&normalised(Tensor::floats("beta", &[1, 1, 1, 1], &[0.75])))).unwrap();
    let message = refusal(&normalised(Tensor::floats("beta", &[1, 1, 1, 1, 1], &[0.75])));
    assert!(message.starts_with("Expected a power in a local response normalisation"), "{message}");
}

#[test]
fn casts_to_whole_numbers_that_do_not_hold_the_value_are_refused() {
    let reshaped = |length: Tensor, to: i32| {
        let nodes = vec![
            node("Cast", &["length"], "whole", vec![int("to", to.into())]),
            node("Reshape", &["x", "whole"], "y", vec![]),
        ];
        model(nodes, vec![length])
    };
    // np.array([-1.5, 32.9]).astype(np.int64)
    let model = reshaped(Tensor::floats("length", &[2], &[-1.5, 32.9]), data_type::INT64);
    assert_eq!(import(bytes(&model)).unwrap().output.layout.dims(), [32]);
    for value in [f32::NAN, f32::INFINITY, 1e19] {
        let message = refusal(&reshaped(Tensor::floats("length", &[2], &[value, 32.0]), data_type::INT64));
        assert!(message.starts_with("Expected values that fit the type"), "{message}");
    }
    let wide = reshaped(Tensor::integers("length", &[1 << 32, 32]), data_type::INT32);
    assert!(refusal(&wide).starts_with("Expected values that fit the type"), "{}", refusal(&wide));
}

#[test]
fn a_bias_of_more_dimensions_than_a_product_and_a_squeeze_of_a_longer_dimension_are_refused() {
    let product = |bias: Tensor| {
        let nodes =
            vec![node("Flatten", &["x"], "flat", vec![]), node("Gemm", &["flat", "w", "bias"], "y", vec![])];
        model(nodes, vec![Tensor::floats("w", &[32, 3], &[0.0; 96]), bias])
    };
    let single = import(bytes(&product(Tensor::floats("bias", &[1, 1], &[2.0])))).unwrap();
    assert_eq!(single.weights[1].values, [2.0; 3]);
    let message = refusal(&product(Tensor::floats("bias", &[1, 1, 1], &[2.0])));
    assert_eq!(message, "Expected a bias of 3 for \"y\" (Gemm) but received [1, 1, 1].");

    let nodes = vec![
        node("Squeeze", &["none", "axis"], "nothing", vec![]),
        node("Concat", &["nothing", "shape"], "all", vec![int("axis", 0)]),
        node("Reshape", &["x", "all"], "y", vec![]),
    ];
    let none = Tensor { dims: vec![3, 0], ..Tensor::integers("none", &[]) };
    let constants = vec![none, Tensor::integers("axis", &[0]), Tensor::integers("shape", &[-1, 32])];
    let message = refusal(&model(nodes, constants));
    assert_eq!(message, "Expected axes of length 1 for \"nothing\" (Squeeze) but received [3, 0].");
}

#[test]
fn half_a_layer_is_told_from_a_whole_one() {
    let flat = || node("Flatten", &["x"], "flat", vec![]);
    let codes = || Tensor::floats("codes", &[3, 32], &[1.0; 96]);
    let distances = |rest: Vec<Node>| {
        let first = vec![
            flat(),
            node("Unsqueeze", &["flat", "one"], "row", vec![]),
            node("Sub", &["row", "codes"], "apart", vec![]),
        ];
        let constants = vec![codes(), Tensor::integers("one", &[1]), Tensor::integers("two", &[2])];
        model([first, rest].concat(), constants)
    };
    let squares = |axis: i64, keep: i64| {
        let attributes = vec![ints("axes", &[axis]), int("keepdims", keep)];
        node("ReduceSumSquare", &["apart"], "sum", attributes)
    };
    let last = || node("Neg", &["sum"], "y", vec![]);
    import(bytes(&distances(vec![squares(-1, 0), last()]))).unwrap();
    let mut more = distances(vec![squares(-1, 0), last()]);
    more.graph.as_mut().unwrap().initializer[0].dims = vec![1, 1, 3, 32]; // whose difference has 4 dimensions
    assert!(refusal(&more).starts_with("Expected a constant with one value"), "{}", refusal(&more));
    assert_eq!(
        refusal(&distances(vec![node("Relu", &["apart"], "y", vec![])])),
        "Expected an input 0 that depends on the image for \"y\" (Relu) but received part of a distance from codes."
    );
    for wrong in
        [squares(1, 0), squares(2, 1), node("ReduceSum", &["apart", "two"], "sum", vec![int("keepdims", 0)])]
    {
        let message = refusal(&distances(vec![wrong, last()]));
        assert!(message.starts_with("Expected the sum of a distance from codes for \"sum\""), "{message}");
    }

    let normalised = |pads: [i64; 2], of: &str| {
        let pads = [[0, 0, pads[0], 0, 0], [0, 0, pads[1], 0, 0]].concat();
        let nodes = vec![
            node("Relu", &["x"], "other", vec![]),
            node("Mul", &["x", "x"], "squares", vec![]),
            node("Reshape", &["squares", "shape"], "apart", vec![]),
            node("Pad", &["apart", "pads"], "padded", vec![]),
            node("AveragePool", &["padded"], "mean", vec![ints("kernel_shape", &[3, 1, 1])]),
            node("Reshape", &["mean", "back"], "again", vec![]),
            node("Add", &["again", "k"], "sum", vec![]),
            node("Pow", &["sum", "beta"], "power", vec![]),
            node("Div", &[of, "power"], "y", vec![]),
        ];
        let constants = vec![
            Tensor::integers("shape", &[0, 1, 2, 4, 4]),
            Tensor::integers("pads", &pads),
            Tensor::integers("back", &[0, 2, 4, 4]),
            Tensor::floats("k", &[], &[2.0]),
            Tensor::floats("beta", &[], &[0.75]),
        ];
        model(nodes, constants)
    };
    let right = import(bytes(&normalised([1, 1], "x"))).unwrap();
    let expected = LocalResponseNorm { size: 3, alpha: 1.0, beta: 0.75, k: 2.0 };
    assert_eq!(right.graph.nodes[0].op, Op::LocalResponseNorm(expected));
    assert_eq!(right.graph.nodes.len(), 1);
    let message = refusal(&normalised([2, 0], "x"));
    let expected =
        "Expected a mean over pixels, or of the squares of neighbouring channels for \"mean\" (AveragePool)";
    assert!(message.starts_with(expected), "{message}");
    let message = refusal(&normalised([1, 1], "other"));
    assert!(
        message.starts_with("Expected the map whose squares make the divisor for \"y\" (Div)"),
        "{message}"
    );
}

#[test]
fn graphs_that_do_not_hold_together_are_refused_in_a_sentence() {
    let add = |inputs: [&str; 2], output: &str| node("Add", &inputs, output, vec![]);
    let cycle = model(vec![add(["x", "b"], "a"), add(["x", "a"], "b"), add(["a", "b"], "y")], vec![]);
    assert!(refusal(&cycle).contains("\"b\" read before it is computed, or in a cycle"));
    assert!(refusal(&model(vec![add(["x", "y"], "y")], vec![])).contains("in a cycle"));
    let missing = model(vec![add(["x", "none"], "y")], vec![]);
    assert!(refusal(&missing).contains("a value for every name"), "{}", refusal(&missing));
    let twice = model(vec![add(["x", "x"], "y"), add(["x", "x"], "y")], vec![]);
    assert!(refusal(&twice).contains("each value computed once"));
    let none = model(vec![], vec![]);
    assert!(refusal(&none).contains("a value for every name"));

    let wrong = |tensor: Tensor| model(vec![node("Conv", &["x", "w"], "y", vec![])], vec![tensor]);
    let rank = refusal(&wrong(Tensor::floats("w", &[3, 2], &[0.0; 6])));
    assert_eq!(rank, "Expected a weight of 4 dimensions for \"y\" (Conv) but received [3, 2].");
    let channels = refusal(&wrong(Tensor::floats("w", &[1, 3, 1, 1], &[0.0; 3])));
    assert_eq!(channels, "Expected 1 groups of 3 channels each for \"y\" (Conv) but received 2.");
    let huge = Tensor { dims: vec![1 << 20, 1 << 20, 3, 3], ..Tensor::floats("w", &[1], &[0.0]) };
    assert!(refusal(&wrong(huge)).contains("2^40"));
    let few = Tensor { dims: vec![1 << 10, 2, 1 << 10, 1 << 10], ..Tensor::floats("w", &[1], &[0.0]) };
    assert!(refusal(&wrong(few)).contains("bytes in \"w\""));
    let wide = wrong(Tensor::floats("w", &[1, 2, 5, 5], &[0.0; 50]));
    assert!(refusal(&wide).contains("a kernel within the padded input of 4x4"));

    let mut large = small();
    large.graph.as_mut().unwrap().input = vec![value("x", &[None, Some(2), Some(1 << 30), Some(1 << 30)])];
    assert!(refusal(&large).contains("values in the input \"x\""), "{}", refusal(&large));
    let mut open = small();
    open.graph.as_mut().unwrap().input = vec![value("x", &[None, Some(2), None, None])];
    assert!(refusal(&open).contains("a fixed size of the input \"x\", or one given beside the file"));
    let options = ImportOptions { input: Some([4, 4, 2]), ..Default::default() };
    OnnxModel::parse("x.onnx", bytes(&open), &options).unwrap();
    let mut two = small();
    two.graph.as_mut().unwrap().input.push(value("bias", &[Some(5)]));
    import(bytes(&two)).unwrap(); // old files list their constants as inputs, too
    two.graph.as_mut().unwrap().initializer.pop();
    assert!(
        refusal(&two).contains("one input besides constants for \"x.onnx\" but received \"x\", \"bias\"")
    );
}

#[test]
fn another_value_than_the_first_output_can_be_asked_for() {
    let options = ImportOptions { output: Some("b".into()), ..Default::default() };
    let model = OnnxModel::parse("x.onnx", bytes(&small()), &options).unwrap();
    assert_eq!((model.output.name.as_str(), model.output.layout.dims()), ("b", &[3, 4, 4][..]));
    let options = ImportOptions { output: Some("none".into()), ..Default::default() };
    let error = OnnxModel::parse("x.onnx", bytes(&small()), &options).unwrap_err().to_string();
    assert!(error.contains("an output that the graph computes"), "{error}");
}

#[test]
fn a_cut_file_or_one_with_a_flipped_bit_is_refused_or_imported_but_never_panics() {
    let whole = bytes(&small());
    for length in 0..whole.len() {
        let _ = import(whole[..length].to_vec());
    }
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let _ = import(flipped);
    }
}
