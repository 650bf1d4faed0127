//! Graph definitions for tests.

use fovea_kernels::random::Philox;
use serde_json::{Value, json};

/// A graph whose nodes, `node0`, `node1` ..., each read the one before; the last is the output.
pub fn chain(input: [usize; 3], ops: &[Value]) -> String {
    let nodes = ops.iter().enumerate().map(|(index, op)| {
        let before = if index == 0 { "input".to_owned() } else { format!("node{}", index - 1) };
        node(&format!("node{index}"), &before, op.clone())
    });
    let nodes: Vec<_> = nodes.collect();
    let last = format!("node{}", ops.len() - 1);
    graph(input, nodes, &[(&last, 1.0)])
}

/// A graph of these nodes; outputs are names and loss weights.
pub fn graph(input: [usize; 3], nodes: Vec<Value>, outputs: &[(&str, f32)]) -> String {
    let outputs: Vec<_> =
        outputs.iter().map(|(node, weight)| json!({"node": node, "lossWeight": weight})).collect();
    json!({"name": "test", "input": input, "nodes": nodes, "outputs": outputs}).to_string()
}

/// An operation with its name and input.
pub fn node(name: &str, input: &str, mut op: Value) -> Value {
    op["name"] = json!(name);
    op["inputs"] = json!([input]);
    op
}

/// A convolution without padding, stride 1, with bias.
pub fn conv(filters: usize, kernel: [usize; 2]) -> Value {
    json!({"op": "conv", "filters": filters, "kernel": kernel, "stride": [1, 1], "padding": "valid",
           "dilation": [1, 1], "groups": 1, "bias": true, "init": "kaiming"})
}

/// A dense layer with bias.
pub fn dense(units: usize) -> Value {
    json!({"op": "dense", "units": units, "bias": true, "init": "kaiming"})
}

/// Max pooling of windows that tile the image.
pub fn max_pool(size: usize) -> Value {
    json!({"op": "maxPool", "size": [size, size], "stride": [size, size], "padding": "valid", "ceilMode": false})
}

/// An operation without hyperparameters.
pub fn op(name: &str) -> Value {
    json!({ "op": name })
}

/// LeNet-5 as taught today.
pub fn lenet5() -> String {
    let mut first = conv(6, [5, 5]);
    first["padding"] = json!("same");
    let ops = [
        first,
        op("relu"),
        max_pool(2),
        conv(16, [5, 5]),
        op("relu"),
        max_pool(2),
        op("flatten"),
        dense(120),
        op("relu"),
        dense(84),
        op("relu"),
        dense(10),
    ];
    chain([28, 28, 1], &ops)
}

/// A graph with fan-out and one to three outputs of four classes, different for every seed.
///
/// Each node reads a random earlier one; what nobody reads in the end becomes an output by way of a dense layer.
pub fn random_graph(seed: u64) -> String {
    let random = Philox { seed, stream: 99 };
    let mut draws = 0;
    let mut below = |n: u32| {
        draws += 1;
        random.below(draws, n) as usize
    };
    let mut nodes: Vec<Value> = Vec::new();
    let mut open: Vec<String> = vec!["input".to_owned()]; // maps that may still be read
    let mut unread: Vec<String> = Vec::new();
    for index in 0..3 + below(10) {
        let name = format!("n{index}");
        let from = open[below(open.len() as u32)].clone();
        let mut layer = match below(6) {
            0 | 1 => conv(1 + below(20), [3, 3]),
            2 => op("relu"),
            3 => op("tanh"),
            4 => max_pool(2),
            _ => {
                let mut pool = max_pool(3);
                (pool["op"], pool["countIncludePad"]) = (json!("avgPool"), json!(below(2) == 0));
                pool
            }
        };
        if !layer["padding"].is_null() {
            // Maps never shrink to nothing, however deep the graph.
            (layer["padding"], layer["stride"]) = (json!("same"), json!([1 + below(2), 1]));
        }
        unread.retain(|other| *other != from);
        nodes.push(node(&name, &from, layer));
        open.push(name.clone());
        unread.push(name);
    }
    let mut outputs = Vec::new();
    for from in unread {
        let (flat, logits) = (format!("flat.{from}"), format!("logits.{from}"));
        nodes.push(node(&flat, &from, op("flatten")));
        nodes.push(node(&logits, &flat, dense(4)));
        outputs.push((logits, 0.5 + below(4) as f32 * 0.5));
    }
    let outputs: Vec<_> = outputs.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
    graph([5 + below(6), 5 + below(6), 1 + below(4)], nodes, &outputs)
}
