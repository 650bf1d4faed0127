//! Bad input is refused with one sentence, and nothing changes.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

mod common;

use common::graphs::{
    adaptive_avg_pool, affine, batch_norm, chain, clip, conv, conv_transpose, dense, dropout, graph,
    hard_sigmoid, join, leaky_relu, lenet5, local_response_norm, max_pool, mixed, node, op, pad, prelu,
    scale, upsample,
};
use common::{batch, bits, fastest};
use fovea_engine::{
    EngineError, Graph, NamedTensor, Optimizer, OutputLoss, Result, Session, SessionOptions, StepOptions,
    Tensor,
};
use fovea_formats::safetensors::{Count, SafeTensors, write};
use serde_json::{Value, json};
use std::fmt::Debug;

fn message<T: Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[track_caller]
fn assert_refused(definition: &str, expected: &str) {
    assert_eq!(message(Graph::from_json(definition).and_then(|graph| graph.shapes())), expected);
}

fn with(mut op: Value, key: &str, value: Value) -> Value {
    op[key] = value;
    op
}

#[test]
fn graphs_are_refused_by_the_name_of_what_is_wrong() {
    let one = |op: Value| chain([4, 4, 1], &[op]);
    let from = |nodes: Vec<Value>, outputs: &[(&str, f32)]| graph([4, 4, 1], nodes, outputs);
    assert_refused(
        &one(op("batchNorm9")),
        "Expected an op among conv, convTranspose, dense, batchNorm, groupNorm, layerNorm, scale, maxPool, avgPool, \
         globalAvgPool, globalMaxPool, adaptiveAvgPool, upsample, localResponseNorm, dropout, add, subtract, multiply, \
         divide, concat, pad, relu, relu6, clip, leakyRelu, prelu, hardSigmoid, hardSwish, silu, gelu, sigmoid, tanh, affine, \
         flatten, softmax, logSoftmax, radialBasis for \"node0\" but received \
         \"batchNorm9\".",
    );
    assert_refused(
        &one(with(op("relu"), "slope", json!(1))),
        "Expected a definition of \"node0\" that can be read but unknown field `slope`, there are no fields.",
    );
    assert_refused(
        &one(with(conv(1, [1, 1]), "padding", json!("some"))),
        "Expected \"same\", \"valid\" or whole numbers [top, right, bottom, left] for \"node0.padding\" but received \
         \"some\".",
    );
    assert_refused(
        &one(with(conv(1, [1, 1]), "stride", json!([0, 1]))),
        "Expected a stride of 1 to 1024 for \"node0\" but received 0.",
    );
    assert_refused(
        &from(vec![node("a", "b", op("relu"))], &[("a", 1.0)]),
        "Expected the inputs of \"a\" to be earlier nodes but received \"b\".",
    );
    for name in ["", "input", "optimizer.velocity.fc"] {
        assert_refused(
            &from(vec![node(name, "input", op("relu"))], &[(name, 1.0)]),
            &format!(
                "Expected a name for node 0 that is unique, not empty, not \"input\" and does not begin with \
                 \"optimizer.\" but received \"{name}\"."
            ),
        );
    }
    let twice = vec![node("a", "input", op("relu")), node("a", "a", op("relu"))];
    assert!(message(Graph::from_json(&from(twice, &[("a", 1.0)]))).contains("node 1"));
    let relu = || vec![node("a", "input", op("relu"))];
    assert_refused(&from(relu(), &[]), "Expected at least one output but received none.");
    for outputs in [&[("b", 1.0)][..], &[("a", 1.0), ("a", 1.0)]] {
        let name = outputs[0].0;
        assert_refused(
            &from(relu(), outputs),
            &format!("Expected each output to be a node, named once, but received \"{name}\"."),
        );
    }
    assert_refused(
        &from(relu(), &[("a", -1.0)]),
        "Expected a finite loss weight of at least 0 for output \"a\" but received -1.",
    );
    let unused = vec![node("a", "input", op("relu")), node("b", "a", op("tanh"))];
    assert_refused(
        &from(unused, &[("a", 1.0)]),
        "Expected every node to lead to an output but nothing reads \"b\".",
    );
    let mut two = node("a", "input", op("relu"));
    two["inputs"] = json!(["input", "input"]);
    assert_refused(&from(vec![two], &[("a", 1.0)]), "Expected 1 input for \"a\" but received 2.");
    assert!(
        message(Graph::from_json("{")).starts_with("Expected a graph definition but the JSON is not one: ")
    );
    assert!(message(Graph::from_json(r#"{"name": "x", "colour": 1}"#)).contains("colour"));
    assert!(
        message(Graph::from_json(r#"{"name":"x","input":[1,1,1],"nodes":[{}],"outputs":[]}"#))
            .contains("node 0")
    );
}

#[test]
fn hyperparameters_out_of_range_are_refused() {
    let refused = |op: Value, expected: &str| {
        assert_refused(&chain([4, 4, 1], &[op]), &format!("Expected {expected}."));
    };
    refused(dropout(1.0), "a rate from 0 to below 1 for \"node0\" but received 1");
    refused(dropout(-0.5), "a rate from 0 to below 1 for \"node0\" but received -0.5");
    refused(leaky_relu(-1.0), "a slope of at least 0 for \"node0\" but received -1");
    let norm = |key, value: f32| with(batch_norm(), key, json!(value));
    refused(norm("epsilon", 0.0), "an epsilon above 0 for \"node0\" but received 0");
    refused(norm("momentum", 1.5), "a momentum of 0 to 1 for \"node0\" but received 1.5");
    refused(norm("momentum", -0.1), "a momentum of 0 to 1 for \"node0\" but received -0.1");
    let norm = |key, value: f32| with(local_response_norm(5), key, json!(value));
    refused(local_response_norm(0), "a window of 1 to 1024 for \"node0\" but received 0");
    refused(norm("alpha", -1.0), "an alpha of at least 0 for \"node0\" but received -1");
    refused(norm("beta", -1.0), "a beta of at least 0 for \"node0\" but received -1");
    refused(norm("k", 0.0), "a k above 0 for \"node0\" but received 0");
    refused(pad([0, 2000, 0, 0], [0, 0]), "padding of 0 to 1024 for \"node0\" but received 2000");
    refused(pad([0; 4], [0, 1 << 21]), "channels of 0 to 1048576 for \"node0\" but received 2097152");
    refused(clip(1.0, 0.5), "a finite max of at least min for \"node0\" but received 0.5");
    refused(with(clip(0.0, 1.0), "min", json!(-1e300)), "a finite min for \"node0\" but received -inf");
    refused(with(affine(1.0, 0.0), "shift", json!(1e300)), "a finite shift for \"node0\" but received inf");
    refused(upsample([2, 0]), "a factor of 1 to 1024 for \"node0\" but received 0");
    refused(adaptive_avg_pool([0, 2]), "a size of 1 to 1048576 for \"node0\" but received 0");
    let transposed = |key, value: Value| with(conv_transpose(3, [3, 3], [2, 2]), key, value);
    refused(
        transposed("outputPadding", json!([0, 2])),
        "an output padding below the stride, of 0 to 1 for \"node0\" but received 2",
    );
    refused(
        transposed("padding", json!([5, 0, 4, 0])),
        "padding that leaves some of 9x9 pixels for \"node0\" but received [5, 0, 4, 0] (input [4, 4, 1])",
    );
    refused(
        transposed("groups", json!(3)),
        "groups that divide 1 channels and 3 filters for \"node0\" but received 3 (input [4, 4, 1])",
    );
    refused(
        with(with(conv_transpose(3, [2, 2], [3, 3]), "padding", json!("same")), "bias", json!(false)),
        "a kernel that reaches as far as the stride, for padding \"same\" for \"node0\" but received 2x2 (input [4, 4, \
         1])",
    );
    let connected = |connections: Value| with(conv(2, [1, 1]), "connections", connections);
    for wrong in [json!([[0]]), json!([[0], []]), json!([[0], [1]]), json!([[0], [0, 0]])] {
        refused(
            connected(wrong.clone()),
            &format!(
                "an ascending list of some of 1 channels for each of 2 filters in one group for \"node0.connections\" but \
                 received {wrong}"
            ),
        );
    }
    let basis = |codes: Value| json!({"op": "radialBasis", "codes": codes});
    refused(basis(json!([])), "codes of 1 to 1048576 for \"node0\" but received 0");
    refused(
        basis(json!([[1, 2]])),
        "a flat input [1, 1, channels] (add flatten before it) for \"node0\" but received [4, 4, 1] (input [4, 4, 1])",
    );
    assert_refused(
        &chain([1, 1, 3], &[basis(json!([[1, 2, 3], [1, 2]]))]),
        "Expected codes of 3 numbers for \"node0\" but received 2 (input [1, 1, 3]).",
    );
    // A number beyond f32 is infinite.
    refused(
        with(leaky_relu(0.0), "slope", json!(1e300)),
        "a slope of at least 0 for \"node0\" but received inf",
    );
}

#[test]
fn hyperparameters_that_cannot_be_read_are_refused_by_their_names() {
    let refused = |op: Value, expected: &str| {
        assert_refused(&chain([4, 4, 1], &[op]), &format!("Expected {expected}."));
    };
    let conv = |key, value: Value| with(conv(1, [1, 1]), key, value);
    refused(
        conv("stride", json!([0.5, 1])),
        "whole numbers of at least 0 for \"node0.stride\" but received [0.5,1]",
    );
    refused(conv("filters", json!(-1)), "a whole number of at least 0 for \"node0.filters\" but received -1");
    refused(
        conv("filters", json!("8")),
        "a whole number of at least 0 for \"node0.filters\" but received \"8\"",
    );
    refused(conv("kernel", json!([3])), "an array of length 2 for \"node0.kernel\" but received [3]");
    refused(conv("kernel", Value::Null), "an array of length 2 for \"node0.kernel\" but received null");
    refused(conv("bias", json!(1)), "a boolean for \"node0.bias\" but received 1");
    refused(
        conv("padding", json!([0, -1, 0, 0])),
        "\"same\", \"valid\" or whole numbers [top, right, bottom, left] for \"node0.padding\" but received [0,-1,0,0]",
    );
    refused(
        conv("connections", json!([[0.5]])),
        "whole numbers of at least 0 for \"node0.connections\" but received [[0.5]]",
    );
    refused(conv("connections", json!(0)), "a list for \"node0.connections\" but received 0");
    let zeros = with(dense(1), "init", json!("zeros"));
    refused(zeros, "one of `kaiming`, `xavier`, `lecun` for \"node0.init\" but received \"zeros\"");
    refused(with(dropout(0.5), "rate", json!("half")), "a number for \"node0.rate\" but received \"half\"");
    let mut missing = conv("stride", json!([1, 1]));
    missing.as_object_mut().unwrap().remove("kernel");
    refused(missing, "a value for \"node0.kernel\" but received none");
    refused(json!({"op": "dropout"}), "a value for \"node0.rate\" but received none");
    let long = message(Graph::from_json(&chain([4, 4, 1], &[conv("kernel", json!(vec![1; 1000]))])));
    assert!(long.len() < 200 && long.ends_with(" ...."), "{long}");
}

#[test]
fn layers_that_tell_channels_apart_by_their_places_refuse_flattened_maps() {
    let grouped = json!({"op": "groupNorm", "groups": 2, "epsilon": 1e-5});
    let layers = [
        local_response_norm(3),
        conv(2, [1, 1]),
        conv_transpose(2, [1, 1], [1, 1]),
        grouped,
        upsample([2, 1]),
        adaptive_avg_pool([2, 2]),
        pad([0, 1, 0, 0], [0, 0]),
    ];
    for layer in layers {
        let definition = chain([2, 2, 4], &[op("flatten"), op("relu"), layer.clone()]);
        let made = Graph::from_json(&definition).and_then(|graph| Session::new(graph, Default::default()));
        assert_eq!(
            made.err().unwrap().to_string(),
            "Expected channels that no flatten has made of pixels for \"node2\" but received a flattened map \
             (input [1, 1, 16]).",
            "{layer}"
        );
        // A map of one pixel, or of one channel, has the same order on both sides.
        let plain = chain([1, 1, 16], &[op("flatten"), op("relu"), layer]);
        Session::new(Graph::from_json(&plain).unwrap(), Default::default()).unwrap();
    }
}

#[test]
fn layers_that_do_not_fit_their_input_say_what_would() {
    assert_refused(
        &chain([4, 4, 3], &[with(conv(1, [3, 3]), "dilation", json!([2, 2]))]),
        "Expected a dilated kernel within the padded input of 4x4 for \"node0\" but received 5x5 (input [4, 4, 3]).",
    );
    assert_refused(
        &chain([4, 4, 3], &[with(max_pool(2), "padding", json!([0, 2, 0, 0]))]),
        "Expected padding smaller than the window of 2x2 for \"node0\" but received [0, 2, 0, 0] (input [4, 4, 3]).",
    );
}

#[test]
fn inputs_that_do_not_fit_each_other_are_refused_with_both_sizes() {
    let joined = |op_name: &str, inputs: &[&str]| {
        let nodes = vec![
            node("wide", "input", conv(3, [1, 1])),
            node("small", "input", max_pool(2)),
            node("same", "input", op("tanh")),
            join("joined", inputs, op_name),
            node("flat", "joined", op("flatten")),
            node("f1", "wide", op("flatten")),
            node("f2", "small", op("flatten")),
            node("f3", "same", op("flatten")),
        ];
        let outputs = ["flat", "f1", "f2", "f3"].map(|name| (name, 1.0));
        graph([4, 4, 2], nodes, &outputs)
    };
    assert_refused(
        &joined("add", &["input", "wide"]),
        "Expected inputs of equal shapes for \"joined\" but received [4, 4, 2] and [4, 4, 3].",
    );
    for op_name in ["subtract", "divide"] {
        assert_refused(
            &joined(op_name, &["input", "wide"]),
            "Expected inputs of equal shapes for \"joined\" but received [4, 4, 2] and [4, 4, 3].",
        );
    }
    assert_refused(
        &joined("multiply", &["input", "small"]),
        "Expected inputs of equal shapes, or a second one of [1, 1, channels], for \"joined\" but received [4, 4, 2] and \
         [2, 2, 2].",
    );
    assert_refused(
        &joined("concat", &["wide", "same", "small"]),
        "Expected inputs of equal height and width for \"joined\" but received [4, 4, 3] and [2, 2, 2].",
    );
    assert_refused(&joined("add", &["same"]), "Expected 2 inputs for \"joined\" but received 1.");
    assert_refused(
        &joined("add", &["same", "same", "same"]),
        "Expected 2 inputs for \"joined\" but received 3.",
    );
    assert_refused(&joined("concat", &["same"]), "Expected 2 inputs or more for \"joined\" but received 1.");
    let shapes = |definition: String| Graph::from_json(&definition).unwrap().shapes().unwrap().nodes;
    assert_eq!(shapes(joined("add", &["input", "same"]))[3].output, [4, 4, 2]);
    assert_eq!(shapes(joined("concat", &["input", "wide", "same"]))[3].output, [4, 4, 7]);
    let around = shapes(chain([4, 5, 2], &[pad([1, 2, 3, 4], [5, 6]), op("globalAvgPool"), batch_norm()]));
    assert_eq!([0, 1, 2].map(|index| around[index].output), [[8, 11, 13], [1, 1, 13], [1, 1, 13]]);
    assert_eq!([0, 1, 2].map(|index| around[index].parameters), [0, 0, 26]);
}

#[test]
fn a_sum_of_vectors_in_different_orders_is_refused() {
    let nodes = vec![
        node("flat", "input", op("flatten")),
        node("fc", "flat", dense(8)),
        join("sum", &["flat", "fc"], "add"),
    ];
    let graph = Graph::from_json(&graph([2, 2, 2], nodes, &[("sum", 1.0)])).unwrap();
    assert_eq!(
        Session::new(graph, SessionOptions::default()).err().unwrap().to_string(),
        "Expected inputs whose elements come in the same order for \"sum\" but received differently flattened maps; put \
         a dense layer behind the flatten."
    );
}

#[test]
fn a_definition_survives_its_way_through_json() {
    let pool = with(with(max_pool(2), "op", json!("avgPool")), "countIncludePad", json!(false));
    let nodes = vec![
        node("a", "input", with(conv(2, [1, 1]), "padding", json!([0, 1, 2, 3]))),
        node("b", "a", pool),
        node("bn", "b", batch_norm()),
        node("lrn", "bn", local_response_norm(5)),
        node("drop", "lrn", dropout(0.7)),
        node("leaky", "drop", leaky_relu(0.01)),
        node("pad", "leaky", pad([0, 1, 2, 3], [4, 5])),
        node("scale", "pad", scale(true)),
        node("prelu", "scale", prelu(true)),
        node("affine", "prelu", affine(1.5, -2.0)),
        node("clip", "affine", clip(-1.0, 2.5)),
        node("hard", "clip", hard_sigmoid(0.2, 0.5)),
        node("swish", "hard", op("hardSwish")),
        node("log", "swish", op("logSoftmax")),
        join("product", &["pad", "log"], "multiply"),
        node("back", "product", conv_transpose(6, [1, 2], [2, 2])),
        node("adapted", "back", adaptive_avg_pool([3, 2])),
        node("upsampled", "adapted", upsample([1, 2])),
        node("largest", "upsampled", op("globalMaxPool")),
        node("fc", "largest", dense(3)),
        join("sum", &["pad", "pad"], "add"),
        join("joined", &["sum", "pad", "sum"], "concat"),
        node("c", "joined", op("globalAvgPool")),
        node("d", "c", dense(3)),
    ];
    let graph = Graph::from_json(&graph([4, 4, 1], nodes, &[("d", 0.3), ("fc", 1.0)])).unwrap();
    assert_eq!(Graph::from_json(&graph.to_json()).unwrap(), graph);
}

#[test]
fn networks_that_cannot_be_trained_say_why_and_still_predict() {
    let trained = |ops: &[Value]| {
        let mut session = fastest(&chain([2, 2, 1], ops));
        let (images, labels) = (vec![0.5; 4], [0]);
        session.predict(&images, 1, &mut vec![0.0; session.output_len()]).unwrap();
        message(session.train_step(&images, &labels, &StepOptions::default()))
    };
    assert_eq!(
        trained(&[op("flatten"), dense(3), op("softmax")]),
        "Expected logits but received probabilities: the loss applies its own softmax, so remove \"node2\"."
    );
    assert_eq!(
        trained(&[conv(3, [1, 1])]),
        "Expected an output [1, 1, classes] for \"node0\" but received [2, 2, 3]; add flatten or dense."
    );
    assert_eq!(
        trained(&[op("flatten")]),
        "Expected at least one layer with parameters but \"test\" has none, so it cannot be trained."
    );
}

#[test]
fn losses_are_read_and_those_that_are_none_refused() {
    let outputs =
        |loss: &str| chain([1, 1, 2], &[dense(3)]).replace(r#""loss":{"kind":"crossEntropy"},"#, loss);
    let loss = |definition: &str| Graph::from_json(definition).unwrap().outputs[0].loss;
    assert_eq!(loss(&outputs("")), OutputLoss::CrossEntropy {}); // as files had it before there was a choice
    let rejecting = outputs(r#""loss":{"kind":"maximumAPosteriori","rejection":0.5},"#);
    assert_eq!(loss(&rejecting), OutputLoss::MaximumAPosteriori { rejection: 0.5 });
    let written = Graph::from_json(&rejecting).unwrap().to_json();
    assert!(written.contains(r#""loss":{"kind":"maximumAPosteriori","rejection":0.5}"#), "{written}");
    let kinds = "one of `crossEntropy`, `binaryCrossEntropy`, `meanSquaredError`, `maximumAPosteriori` for \"node0.loss\"";
    for (wrong, expected) in [
        (r#"{"kind":"hinge"}"#, format!("{kinds} but received {{\"kind\":\"hinge\"}}")),
        (
            r#"{"kind":"crossEntropy","rejection":1}"#,
            "a definition of \"node0\" that can be read but unknown field `rejection`, there are no fields"
                .to_owned(),
        ),
        ("{}", "a value for \"node0.kind\" but received none".to_owned()),
        (r#"{"kind":"maximumAPosteriori"}"#, "a value for \"node0.rejection\" but received none".to_owned()),
    ] {
        assert_refused(&outputs(&format!(r#""loss":{wrong},"#)), &format!("Expected {expected}."));
    }
    assert_refused(
        &rejecting.replace("\"lossWeight\":1.0", "\"lossWeight\":\"1\""),
        "Expected a number for \"node0.lossWeight\" but received \"1\".",
    );
    assert_refused(
        &rejecting.replace("0.5", "1e300"),
        "Expected a finite rejection for \"node0\" but received inf.",
    );
}

#[test]
fn a_batch_normalization_of_a_single_value_per_channel_is_not_trained() {
    let definition = chain(
        [4, 4, 1],
        &[conv(3, [4, 4]), with(batch_norm(), "epsilon", json!(1e-5)), op("flatten"), dense(3)],
    );
    let mut session = fastest(&definition);
    let (images, labels) = batch(&session, 4, 3, 1);
    let before = bits(&session);
    let options = StepOptions::default();
    assert_eq!(
        message(session.train_step(&images[..16], &labels[..1], &options)),
        "Expected more than 1 image in every batch, as \"node1\" normalizes a single pixel by the batch's statistics \
         (dropLast leaves out a smaller last batch), for \"batchSize\" but received a batch of 1."
    );
    for accumulate in [3, 4, 9] {
        let options = StepOptions { accumulate, ..options };
        let parts = accumulate.min(4);
        assert_eq!(
            message(session.train_step(&images, &labels, &options)),
            format!(
                "Expected parts of more than 1 image, as \"node1\" normalizes a single pixel by the part's statistics, \
                 for \"accumulate\" but received {parts} parts of 4 images."
            )
        );
    }
    assert_eq!((bits(&session), session.step()), (before, 0));
    assert!(session.gradients().is_empty());
    session.train_step(&images, &labels, &StepOptions { accumulate: 2, ..options }).unwrap();
    // Neither what is frozen nor inference looks at the batch's statistics.
    session.predict(&images[..16], 1, &mut [0.0; 3]).unwrap();
    session.configure(&[], &["node1".to_owned()]).unwrap();
    session.train_step(&images[..16], &labels[..1], &options).unwrap();
    // A map of several pixels has several values.
    let mut session = fastest(&chain([4, 4, 1], &[batch_norm(), op("flatten"), dense(3)]));
    session.train_step(&images[..16], &labels[..1], &options).unwrap();
}

#[test]
fn targets_and_class_weights_that_do_not_fit_are_refused() {
    let mut session = fastest(&chain([1, 1, 2], &[dense(3)]));
    let (images, good) = ([0.5; 4], StepOptions::default());
    assert_eq!(
        message(session.train_step(&images, &[0.5f32; 5][..], &good)),
        "Expected 6 values in \"targets\" for 2 images but received 5."
    );
    for (weights, expected) in [
        (&[1.0, 2.0][..], "Expected 3 weights for \"classWeights\" but received 2."),
        (&[1.0, -2.0, 1.0], "Expected finite numbers of at least 0 for \"classWeights\" but received -2."),
    ] {
        let options = StepOptions { class_weights: Some(weights), ..good };
        assert_eq!(message(session.train_step(&images, &[0, 1], &options)), expected);
    }
    let squares = chain([1, 1, 2], &[dense(3)]).replace("crossEntropy", "meanSquaredError");
    let mut session = fastest(&squares);
    let smooth = StepOptions { label_smoothing: 0.1, ..good };
    assert_eq!(
        message(session.train_step(&images, &[0, 1], &smooth)),
        "Expected nothing, as no output has the cross-entropy loss, for \"labelSmoothing\" but received 0.1."
    );
    let weighted = StepOptions { class_weights: Some(&[1.0; 3]), ..good };
    assert!(
        message(session.train_step(&images, &[0, 1], &weighted)).contains("\"classWeights\" but received 3")
    );
    session.train_step(&images, &[0, 1], &good).unwrap();
    // All weights of the labels are zero: there is no weighted mean.
    let mut session = fastest(&chain([1, 1, 2], &[dense(3)]));
    let zero = StepOptions { class_weights: Some(&[0.0, 0.0, 1.0]), ..good };
    assert_eq!(
        message(session.train_step(&images, &[0, 1], &zero)),
        "Expected a weight above 0 for some label of every batch for \"classWeights\" but received 2 labels that weigh \
         nothing."
    );
    // Labels are of classes; a map has pixels.
    let mut map = fastest(&chain([2, 2, 1], &[conv(3, [1, 1])]).replace("crossEntropy", "meanSquaredError"));
    assert_eq!(
        message(map.train_step(&images, &[0], &good)),
        "Expected an output [1, 1, classes] for \"node0\" but received [2, 2, 3]; add flatten or dense."
    );
}

#[test]
fn options_out_of_range_and_wrong_lengths_are_refused_before_anything_runs() {
    let mut session = fastest(&lenet5());
    let (images, labels) = batch(&session, 4, 10, 1);
    let before = bits(&session);
    let good = StepOptions::default();
    let sgd = |momentum, nesterov| Optimizer::Sgd { momentum, nesterov };
    let bad = [
        (StepOptions { learning_rate: f32::NAN, ..good }, "\"learningRate\" but received NaN"),
        (StepOptions { learning_rate: -0.1, ..good }, "\"learningRate\" but received -0.1"),
        (StepOptions { optimizer: sgd(1.0, false), ..good }, "\"momentum\" but received 1"),
        (StepOptions { weight_decay: f32::INFINITY, ..good }, "\"weightDecay\" but received inf"),
        (StepOptions { label_smoothing: 1.0, ..good }, "\"labelSmoothing\" but received 1"),
        (StepOptions { optimizer: sgd(0.0, true), ..good }, "as nesterov needs"),
    ];
    for (options, expected) in bad {
        let message = message(session.train_step(&images, &labels, &options));
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(
        message(session.train_step(&images[1..], &labels, &good)),
        "Expected 3136 values in \"images\" for 4 images but received 3135."
    );
    assert_eq!(
        message(session.train_step(&images, &[1, 2, 10, 3], &good)),
        "Expected labels below 10 but received 10 (image 2 of the batch)."
    );
    assert_eq!(
        message(session.train_step(&[], &[], &good)),
        "Expected 1 to 1048576 images for \"batchSize\" but received 0."
    );
    assert!(session.evaluate_batch(&images, &labels, &mut [0; 3]).is_err());
    assert!(session.predict(&images, 4, &mut [0.0; 39]).is_err());
    assert!(session.predict(&images, usize::MAX, &mut []).is_err());
    assert!(session.benchmark(fovea_engine::Mode::Infer, 1, f64::NAN, || false).is_err());
    assert!(session.explain(fovea_engine::Mode::Infer, usize::MAX, false).is_err());
    assert_eq!((bits(&session), session.step()), (before, 0));
    let graph = || Graph::from_json(&lenet5()).unwrap();
    for threads in [0, 1025] {
        let options = SessionOptions { threads: Some(threads), ..SessionOptions::default() };
        assert!(Session::new(graph(), options).is_err());
    }
}

#[test]
fn a_loss_or_gradient_that_is_not_finite_stops_before_the_update() {
    for definition in [lenet5(), mixed()] {
        a_step_that_fails_changes_nothing(&definition);
    }
}

fn a_step_that_fails_changes_nothing(definition: &str) {
    let mut session = fastest(definition);
    let (mut images, labels) = batch(&session, 4, 4, 1);
    let options = StepOptions::default();
    session.train_step(&images, &labels, &options).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let state = |session: &mut Session| {
        let path = directory.path().join("state");
        session.save_checkpoint(&path, "").unwrap();
        std::fs::read(path).unwrap()
    };
    let before = state(&mut session);
    for bad in [f32::INFINITY, f32::NAN] {
        images[1000] = bad;
        let error = session.train_step(&images, &labels, &options).unwrap_err();
        assert!(matches!(error, EngineError::NotFinite { quantity: "loss", step: 2, .. }), "{error}");
        assert!(error.to_string().starts_with("Expected a finite loss at step 2 but received "), "{error}");
        assert!(state(&mut session) == before);
    }
    images[1000] = 0.5;
    session.train_step(&images, &labels, &options).unwrap();
    assert!(state(&mut session) != before);
}

#[test]
fn a_gradient_that_is_not_finite_under_a_finite_loss_stops_before_the_update() {
    // With a negative weight the infinite pixel dies in the ReLU; the weight's gradient is infinity times zero.
    let mut session = fastest(&chain([1, 1, 1], &[dense(1), op("relu"), dense(2)]));
    let mut weights = session.weights();
    weights[0].values[0] = -1.0;
    common::load(&mut session, &weights);
    let before = bits(&session);
    let error = session.train_step(&[f32::INFINITY], &[0], &StepOptions::default()).unwrap_err();
    assert!(matches!(error, EngineError::NotFinite { quantity: "gradient", step: 1, .. }), "{error}");
    assert_eq!(bits(&session), before);
}

#[test]
fn weights_that_do_not_fit_are_all_listed_and_none_is_loaded() {
    let mut session = fastest(&chain([1, 1, 3], &[dense(2), op("relu"), dense(2)]));
    let before = bits(&session);
    let mut weights = session.weights();
    weights.iter_mut().for_each(|tensor| tensor.values.fill(9.0));
    weights[0].shape = vec![3, 2];
    weights[1].name = "node0.offset".to_owned();
    weights[2].values.pop();
    let tensors: Vec<Tensor> = weights.iter().map(NamedTensor::as_tensor).collect();
    assert_eq!(
        message(session.load_weights(&tensors)),
        "Expected the tensors of this network but received others: missing \"node0.bias\"; extra \"node0.offset\"; \
         misshapen \"node0.weight\" [3, 2] instead of [2, 3], \"node2.weight\" [3] instead of [2, 2]."
    );
    assert_eq!(bits(&session), before);
}

#[test]
fn pytorchs_count_of_batches_is_accepted_and_written_on() {
    let mut session = fastest(&chain([2, 2, 3], &[batch_norm(), op("flatten"), dense(2)]));
    let mut weights = session.weights();
    let names: Vec<_> = weights.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "node0.weight",
            "node0.bias",
            "node2.weight",
            "node2.bias",
            "node0.running_mean",
            "node0.running_var"
        ]
    );
    weights.iter_mut().for_each(|tensor| tensor.values.fill(2.5));
    let count =
        NamedTensor { name: "node0.num_batches_tracked".to_owned(), shape: Vec::new(), values: vec![7.0] };
    weights.push(count);
    common::load(&mut session, &weights);
    assert_eq!(session.weights(), weights[..6]);
    // Only a batch normalization has one.
    weights[6].name = "node2.num_batches_tracked".to_owned();
    let tensors: Vec<Tensor> = weights.iter().map(NamedTensor::as_tensor).collect();
    assert!(message(session.load_weights(&tensors)).contains("extra \"node2.num_batches_tracked\""));
    weights.pop();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weights");
    let tensors: Vec<Tensor> = weights.iter().map(NamedTensor::as_tensor).collect();
    let count = |value| Count { name: "node0.num_batches_tracked", value };
    write(&path, &tensors, &[count(1 << 40)], &[]).unwrap();
    session.load_weights_file(&path, &[]).unwrap();
    session.train_step(&[0.5; 12], &[1], &StepOptions::default()).unwrap();
    let written = |session: &mut Session| {
        session.save_weights(&path).unwrap();
        SafeTensors::open(&path).unwrap().count("node0.num_batches_tracked").unwrap()
    };
    assert_eq!(written(&mut session), (1 << 40) + 1);
    let checkpoint = directory.path().join("checkpoint");
    session.save_checkpoint(&checkpoint, "").unwrap();
    // A file without counts begins at 0.
    write(&path, &tensors, &[], &[]).unwrap();
    session.load_weights_file(&path, &[]).unwrap();
    assert_eq!(written(&mut session), 0);
    session.load_checkpoint(&checkpoint).unwrap();
    assert_eq!(written(&mut session), (1 << 40) + 1);
    let wrong = NamedTensor { name: count(0).name.to_owned(), shape: Vec::new(), values: vec![7.0] };
    write(&path, &[tensors.clone(), vec![wrong.as_tensor()]].concat(), &[], &[]).unwrap();
    assert!(message(session.load_weights_file(&path, &[])).contains("a single I64 value"));
    weights[5].shape = vec![4];
    weights[5].values = vec![1.0; 4];
    let tensors: Vec<Tensor> = weights.iter().map(NamedTensor::as_tensor).collect();
    assert!(message(session.load_weights(&tensors)).contains("\"node0.running_var\" [4] instead of [3]"));
}

#[test]
fn files_of_other_networks_and_broken_files_are_refused_and_nothing_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let definition = chain([1, 1, 3], &[dense(2), op("relu"), dense(2)]);
    let mut session = fastest(&definition);
    session.train_step(&[0.1, 0.2, 0.3], &[1], &StepOptions::default()).unwrap();
    session.save_checkpoint(&path("checkpoint"), "{}").unwrap();
    session.save_weights(&path("weights")).unwrap();
    let trained = bits(&session);

    let mut fresh = fastest(&definition);
    let before = bits(&fresh);
    assert_ne!(before, trained);
    let refused = message(fresh.load_checkpoint(&path("weights")));
    assert!(refused.contains("without \"graph\" in its metadata"), "{refused}");
    assert!(matches!(fresh.load_checkpoint(&path("none")), Err(EngineError::File(_))));
    let bytes = std::fs::read(path("checkpoint")).unwrap();
    std::fs::write(path("cut"), &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(fresh.load_checkpoint(&path("cut")), Err(EngineError::File(_))));
    assert!(matches!(fresh.load_weights_file(&path("cut"), &[]), Err(EngineError::File(_))));
    assert_eq!((bits(&fresh), fresh.step()), (before, 0));

    let mut other = fastest(&chain([1, 1, 3], &[dense(2), op("tanh"), dense(2)]));
    let refused = message(other.load_checkpoint(&path("checkpoint")));
    assert!(refused.contains(r#"{"name":"node1","inputs":["node0"],"op":"relu"} instead of"#), "{refused}");
    let mut other = fastest(&chain([1, 1, 3], &[dense(2), op("relu")]));
    assert!(
        message(other.load_checkpoint(&path("checkpoint")))
            .ends_with("received one of 3 nodes instead of 2.")
    );
    assert!(
        message(other.load_weights_file(&path("weights"), &[]))
            .contains("extra \"node2.weight\", \"node2.bias\"")
    );

    // A checkpoint is a weights file too.
    for file in ["weights", "checkpoint"] {
        let mut fresh = fastest(&definition);
        fresh.load_weights_file(&path(file), &[]).unwrap();
        assert_eq!(bits(&fresh), trained);
    }
    assert!(matches!(session.save_weights(&path("no/such/folder")), Err(EngineError::File(_))));
}
