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

/// A graph of these nodes; outputs are names and loss weights, judged by cross-entropy.
pub fn graph(input: [usize; 3], nodes: Vec<Value>, outputs: &[(&str, f32)]) -> String {
    let entropy = json!({"kind": "crossEntropy"});
    let outputs: Vec<_> = outputs.iter().map(|&(node, weight)| (node, weight, entropy.clone())).collect();
    judged(input, nodes, &outputs)
}

/// A graph of these nodes; outputs are names, loss weights and losses.
pub fn judged(input: [usize; 3], nodes: Vec<Value>, outputs: &[(&str, f32, Value)]) -> String {
    let output =
        |(node, weight, loss): &(&str, f32, Value)| json!({"node": node, "lossWeight": weight, "loss": loss});
    let outputs: Vec<_> = outputs.iter().map(output).collect();
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

/// Batch normalization with PyTorch's defaults.
pub fn batch_norm() -> Value {
    json!({"op": "batchNorm", "epsilon": 1e-5, "momentum": 0.1})
}

/// Group normalization with PyTorch's default.
pub fn group_norm(groups: usize) -> Value {
    json!({"op": "groupNorm", "groups": groups, "epsilon": 1e-5})
}

/// Layer normalization over the channels with PyTorch's default.
pub fn layer_norm() -> Value {
    json!({"op": "layerNorm", "epsilon": 1e-5})
}

/// Local response normalization over windows of `size` channels.
pub fn local_response_norm(size: usize) -> Value {
    json!({"op": "localResponseNorm", "size": size, "alpha": 0.3, "beta": 0.75, "k": 1.5})
}

pub fn dropout(rate: f32) -> Value {
    json!({"op": "dropout", "rate": rate})
}

pub fn leaky_relu(slope: f32) -> Value {
    json!({"op": "leakyRelu", "slope": slope})
}

/// A factor for each channel, and perhaps a summand.
pub fn scale(bias: bool) -> Value {
    json!({"op": "scale", "bias": bias})
}

pub fn prelu(shared: bool) -> Value {
    json!({"op": "prelu", "shared": shared})
}

pub fn affine(scale: f32, shift: f32) -> Value {
    json!({"op": "affine", "scale": scale, "shift": shift})
}

pub fn clip(min: f32, max: f32) -> Value {
    json!({"op": "clip", "min": min, "max": max})
}

pub fn hard_sigmoid(alpha: f32, beta: f32) -> Value {
    json!({"op": "hardSigmoid", "alpha": alpha, "beta": beta})
}

pub fn upsample(factor: [usize; 2]) -> Value {
    json!({"op": "upsample", "factor": factor})
}

pub fn adaptive_avg_pool(size: [usize; 2]) -> Value {
    json!({"op": "adaptiveAvgPool", "size": size})
}

/// A transposed convolution without padding, with bias.
pub fn conv_transpose(filters: usize, kernel: [usize; 2], stride: [usize; 2]) -> Value {
    json!({"op": "convTranspose", "filters": filters, "kernel": kernel, "stride": stride, "padding": "valid",
           "outputPadding": [0, 0], "dilation": [1, 1], "groups": 1, "bias": true, "init": "kaiming"})
}

/// Zeros on the four sides, and channels before and after.
pub fn pad(padding: [usize; 4], channels: [usize; 2]) -> Value {
    json!({"op": "pad", "padding": padding, "channels": channels})
}

/// An operation with its name and several inputs.
pub fn join(name: &str, inputs: &[&str], op_name: &str) -> Value {
    json!({"name": name, "inputs": inputs, "op": op_name})
}

/// A residual block of `channels` on a map that has as many: two 3 x 3 convolutions with batch normalization,
/// added to the map and rectified. Names begin with `name`; the last is `name` itself.
pub fn residual_block(name: &str, input: &str, channels: usize) -> Vec<Value> {
    let step = |suffix: &str| format!("{name}.{suffix}");
    let mut convolution = conv(channels, [3, 3]);
    (convolution["padding"], convolution["bias"]) = (json!("same"), json!(false));
    vec![
        node(&step("conv1"), input, convolution.clone()),
        node(&step("bn1"), &step("conv1"), batch_norm()),
        node(&step("relu1"), &step("bn1"), op("relu")),
        node(&step("conv2"), &step("relu1"), convolution),
        node(&step("bn2"), &step("conv2"), batch_norm()),
        join(&step("add"), &[&step("bn2"), input], "add"),
        node(name, &step("add"), op("relu")),
    ]
}

/// Networks that add to a convolution's result what the convolution reads: all of it or more, through a
/// normalization, a rectifier or sums, and gradients that meet such a sum; images of 9 x 7 x 3, four classes.
pub fn residuals_of_own_input() -> Vec<String> {
    let same = |filters: usize, kernel: usize| {
        let mut convolution = conv(filters, [kernel, kernel]);
        convolution["padding"] = json!("same");
        convolution
    };
    let beside = |kernel: usize| vec![node("a", "input", same(16, 3)), node("conv", "a", same(16, kernel))];
    let stem = || beside(3);
    let with = |mut nodes: Vec<Value>, more: Vec<Value>| {
        nodes.extend(more);
        nodes
    };
    let mut depthwise = same(16, 3);
    depthwise["groups"] = json!(16);
    let blocks = [
        // x + conv(x), at sizes for every algorithm.
        with(stem(), vec![join("out", &["conv", "a"], "add")]),
        with(beside(1), vec![join("out", &["a", "conv"], "add")]),
        with(beside(5), vec![join("out", &["conv", "a"], "add")]),
        // x + bn(conv(x)) and relu(x + conv(x)).
        with(stem(), vec![node("bn", "conv", batch_norm()), join("out", &["bn", "a"], "add")]),
        with(stem(), vec![join("sum", &["conv", "a"], "add"), node("out", "sum", op("relu"))]),
        // x + pointwise(depthwise(x)).
        vec![
            node("a", "input", same(16, 3)),
            node("depthwise", "a", depthwise),
            node("pointwise", "depthwise", conv(16, [1, 1])),
            join("out", &["pointwise", "a"], "add"),
        ],
        // What is added has the convolution's input among its channels, and the other way round.
        vec![
            node("a", "input", same(16, 3)),
            node("b", "input", same(8, 1)),
            join("ab", &["b", "a"], "concat"),
            node("conv", "a", same(24, 3)),
            join("out", &["ab", "conv"], "add"),
        ],
        with(
            stem(),
            vec![
                node("b", "input", same(16, 1)),
                join("both", &["conv", "b"], "concat"),
                node("wide", "a", same(32, 1)),
                join("out", &["wide", "both"], "add"),
            ],
        ),
        vec![
            node("a", "input", same(24, 3)),
            node("b", "input", same(8, 1)),
            node("conv", "a", same(16, 3)),
            join("both", &["conv", "b"], "concat"),
            join("out", &["a", "both"], "add"),
        ],
        // a + padChannels(conv(a)).
        vec![
            node("a", "input", same(24, 3)),
            node("conv", "a", same(16, 3)),
            node("wide", "conv", pad([0; 4], [3, 5])),
            join("out", &["a", "wide"], "add"),
        ],
        // s = x + a, a + conv(s): the gradient reaches a by way of the sum.
        vec![
            node("x", "input", same(16, 3)),
            node("a", "input", same(16, 1)),
            join("s", &["x", "a"], "add"),
            node("conv", "s", same(16, 3)),
            join("out", &["a", "conv"], "add"),
        ],
        // A value added to itself and to what was made of it.
        with(stem(), vec![join("twice", &["a", "a"], "add"), join("out", &["twice", "conv"], "add")]),
    ];
    let classified = |mut nodes: Vec<Value>| {
        nodes.extend([node("flat", "out", op("flatten")), node("fc", "flat", dense(4))]);
        graph([9, 7, 3], nodes, &[("fc", 1.0)])
    };
    blocks.into_iter().map(classified).collect()
}

/// Every operation in one network: a stem, residual blocks of all kinds, an inception module, an auxiliary head
/// and a classifier with dropout; images of 13 x 11 x 3, four classes.
pub fn mixed() -> String {
    let unit = |name: &str, input: &str, filters: usize, kernel: usize| {
        let mut convolution = conv(filters, [kernel, kernel]);
        (convolution["padding"], convolution["bias"]) = (json!("same"), json!(false));
        let norm = format!("{name}.bn");
        vec![
            node(&format!("{name}.conv"), input, convolution),
            node(&norm, &format!("{name}.conv"), batch_norm()),
            node(name, &norm, op("relu")),
        ]
    };
    let mut overlapping = max_pool(3);
    (overlapping["stride"], overlapping["padding"]) = (json!([2, 2]), json!([1, 1, 1, 1]));
    let mut around = max_pool(3);
    (around["stride"], around["padding"]) = (json!([1, 1]), json!("same"));
    let mut every = max_pool(1);
    (every["op"], every["countIncludePad"], every["stride"]) = (json!("avgPool"), json!(true), json!([2, 2]));
    let mut depthwise = conv(21, [3, 3]);
    (depthwise["groups"], depthwise["stride"], depthwise["padding"]) =
        (json!(21), json!([2, 2]), json!("same"));
    let mut nodes = unit("stem", "input", 8, 3);
    nodes.extend([node("stem.pool", "stem", overlapping), node("norm", "stem.pool", local_response_norm(5))]);
    nodes.extend(residual_block("block1", "norm", 8));
    nodes.extend([node("wide.every", "block1", every), node("wide", "wide.every", pad([0; 4], [1, 7]))]);
    nodes.extend(residual_block("block2", "wide", 16));
    nodes.extend(unit("one", "block2", 5, 1));
    nodes.extend(unit("three", "block2", 9, 3));
    nodes.extend([node("around", "block2", around), join("branches", &["one", "three", "around"], "concat")]);
    nodes.extend([
        node("thin", "branches", conv(21, [1, 1])),
        node("depthwise", "thin", depthwise),
        node("depthwise.bn", "depthwise", batch_norm()),
        node("depthwise.relu6", "depthwise.bn", op("relu6")),
        node("gate", "depthwise.relu6", op("sigmoid")),
        node("leaky", "gate", leaky_relu(0.1)),
        node("border", "leaky", pad([1, 0, 0, 1], [0, 0])),
        node("mean", "border", op("globalAvgPool")),
        node("flat", "mean", op("flatten")),
        node("hidden", "flat", dense(12)),
        node("hidden.tanh", "hidden", op("tanh")),
        node("dropped", "hidden.tanh", dropout(0.5)),
        node("logits", "dropped", dense(4)),
        node("aux.mean", "block1", op("globalAvgPool")),
        node("aux.logits", "aux.mean", dense(4)),
    ]);
    graph([13, 11, 3], nodes, &[("logits", 1.0), ("aux.logits", 0.3)])
}

/// What [`mixed`] has not: an inverted residual with squeeze and excitation, a map made smaller and larger
/// again, and the arithmetic of two maps; images of 7 x 9 x 2, four classes.
pub fn varied() -> String {
    let mut same = conv(6, [3, 3]);
    same["padding"] = json!("same");
    let mut apart = conv_transpose(9, [3, 4], [2, 3]);
    (apart["groups"], apart["padding"], apart["outputPadding"]) =
        (json!(3), json!([1, 0, 0, 2]), json!([1, 2]));
    let mut enlarged = conv_transpose(6, [2, 3], [1, 3]);
    (enlarged["padding"], enlarged["bias"]) = (json!("same"), json!(false));
    let nodes = vec![
        node("stem", "input", same.clone()),
        node("swish", "stem", op("hardSwish")),
        node("squeeze", "swish", op("globalAvgPool")),
        node("flat", "squeeze", op("flatten")),
        node("reduce", "flat", dense(4)),
        node("slope", "reduce", prelu(true)),
        node("expand", "slope", dense(6)),
        node("gate", "expand", hard_sigmoid(0.2, 0.4)),
        join("excited", &["swish", "gate"], "multiply"),
        node("bent", "excited", prelu(false)),
        node("scaled", "bent", scale(true)),
        node("windows", "scaled", adaptive_avg_pool([3, 4])),
        node("apart", "windows", apart),
        node("clipped", "apart", clip(-0.75, 0.5)),
        node("thin", "clipped", conv(6, [2, 2])),
        node("enlarged", "thin", enlarged),
        node("even", "enlarged", adaptive_avg_pool([1, 3])),
        node("again", "even", upsample([2, 2])),
        node("right", "again", scale(false)),
        node("sigmoid", "again", op("sigmoid")),
        node("divisor", "sigmoid", affine(1.5, 0.5)),
        join("difference", &["right", "again"], "subtract"),
        join("square", &["right", "right"], "multiply"),
        join("product", &["square", "difference"], "multiply"),
        join("quotient", &["product", "divisor"], "divide"),
        join("both", &["quotient", "difference"], "concat"),
        node("largest", "both", op("globalMaxPool")),
        node("vector", "both", op("flatten")),
        node("vector.scaled", "vector", scale(true)),
        node("vector.bent", "vector.scaled", prelu(false)),
        node("hidden", "vector.bent", dense(12)),
        join("row", &["largest", "hidden"], "concat"),
        node("logits", "row", dense(4)),
        node("log", "logits", op("logSoftmax")),
        node("aux", "largest", dense(4)),
    ];
    graph([7, 9, 2], nodes, &[("log", 1.0), ("aux", 0.5)])
}

/// Functions that kernels compute while they write: behind convolutions of every algorithm, depthwise ones that
/// others follow, normalizations and sums; images of 8 x 7 x 3, four classes.
pub fn activated() -> Vec<String> {
    let same = |filters: usize, kernel: usize| {
        let mut convolution = conv(filters, [kernel, kernel]);
        convolution["padding"] = json!("same");
        convolution
    };
    let mut depthwise = same(16, 3);
    depthwise["groups"] = json!(16);
    let functions = [op("relu6"), clip(-0.2, 0.4), leaky_relu(0.1), op("hardSwish"), op("silu"), op("gelu")];
    let definition = |function: Value| {
        let nodes = vec![
            node("thin", "input", same(5, 3)),
            node("thin.f", "thin", function.clone()),
            node("stem", "thin.f", same(16, 3)),
            node("stem.f", "stem", function.clone()),
            node("wide", "stem.f", same(16, 5)),
            join("sum", &["wide", "stem.f"], "add"),
            node("sum.f", "sum", function.clone()),
            node("depthwise", "sum.f", depthwise.clone()),
            node("depthwise.bn", "depthwise", batch_norm()),
            node("depthwise.f", "depthwise.bn", function.clone()),
            node("pointwise", "depthwise.f", conv(16, [1, 1])),
            node("pointwise.f", "pointwise", function.clone()),
            node("flat", "pointwise.f", op("flatten")),
            node("hidden", "flat", dense(6)),
            node("hidden.f", "hidden", function),
            node("fc", "hidden.f", dense(4)),
        ];
        graph([8, 7, 3], nodes, &[("fc", 1.0)])
    };
    functions.into_iter().map(definition).collect()
}

/// Normalizations of groups of channels and of pixels, of maps and of vectors; images of 6 x 7 x 2, four
/// classes.
pub fn grouped() -> String {
    let mut same = conv(6, [3, 3]);
    same["padding"] = json!("same");
    let mut smaller = conv(20, [3, 3]);
    (smaller["padding"], smaller["stride"]) = (json!("same"), json!([2, 2]));
    let ops = [
        same,
        group_norm(3),
        op("relu"),
        layer_norm(),
        smaller,
        layer_norm(),
        op("tanh"),
        group_norm(1),
        op("flatten"),
        layer_norm(),
        dense(12),
        group_norm(4),
        dense(4),
    ];
    chain([6, 7, 2], &ops)
}

/// In the manner of 1998: filters that see some channels each, learned subsampling, distances from codes;
/// images of 8 x 9 x 2, four classes.
pub fn connected() -> String {
    let mut some = conv(5, [3, 2]);
    some["connections"] = json!([[0, 1], [2], [0, 1, 2], [1, 2], [0]]);
    let average = json!({"op": "avgPool", "size": [2, 2], "stride": [2, 2], "padding": "valid", "ceilMode": false,
                         "countIncludePad": true});
    let code =
        |unit: usize| (0..24).map(|at| ((unit * 7 + at * at) % 5) as f32 * 0.5 - 1.0).collect::<Vec<_>>();
    let codes: Vec<_> = (0..4).map(code).collect();
    let ops = [
        with_init(conv(3, [3, 3]), "lecun"),
        affine(2.0 / 3.0, 0.0),
        op("tanh"),
        affine(1.7159, 0.0),
        with_init(some, "lecun"),
        average,
        scale(true),
        op("tanh"),
        conv(6, [1, 2]),
        // Straight from a map: the codes come in the order of files.
        op("flatten"),
        json!({"op": "radialBasis", "codes": codes}),
    ];
    chain([8, 9, 2], &ops)
}

fn with_init(mut op: Value, init: &str) -> Value {
    op["init"] = json!(init);
    op
}

/// Random choices, the same for the same seed.
struct Draws {
    random: Philox,
    made: u64,
}

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.made += 1;
        self.random.below(self.made, n as u32) as usize
    }
}

/// A feature map that may still be read.
#[derive(Clone)]
struct Open {
    name: String,
    shape: [usize; 3],
}

/// A graph with fan-out, fan-in and one to many outputs of four classes, different for every seed.
///
/// Each node reads random earlier ones; what nobody reads in the end becomes an output by way of a dense layer.
pub fn random_graph(seed: u64) -> String {
    let mut draws = Draws { random: Philox { seed, stream: 99 }, made: 0 };
    let input = [5 + draws.below(6), 5 + draws.below(6), 1 + draws.below(4)];
    let mut nodes: Vec<Value> = Vec::new();
    let mut open = vec![Open { name: "input".to_owned(), shape: input }];
    let mut unread: Vec<String> = Vec::new();
    for index in 0..3 + draws.below(12) {
        let from = open[draws.below(open.len())].clone();
        let (layer, inputs, shape) = random_layer(&mut draws, &open, &from);
        let mut layer = node(&format!("n{index}"), &from.name, layer);
        layer["inputs"] = json!(inputs);
        unread.retain(|other| !inputs.contains(other));
        nodes.push(layer);
        open.push(Open { name: format!("n{index}"), shape });
        unread.push(format!("n{index}"));
    }
    let mut outputs = Vec::new();
    for from in unread {
        let (flat, logits) = (format!("flat.{from}"), format!("logits.{from}"));
        nodes.push(node(&flat, &from, op("flatten")));
        nodes.push(node(&logits, &flat, dense(4)));
        outputs.push((logits, 0.5 + draws.below(4) as f32 * 0.5));
    }
    let outputs: Vec<_> = outputs.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
    graph(input, nodes, &outputs)
}

/// A layer that reads `from`, and more where it joins maps; with its inputs and its output's shape.
fn random_layer(draws: &mut Draws, open: &[Open], from: &Open) -> (Value, Vec<String>, [usize; 3]) {
    let [height, width, channels] = from.shape;
    let others = |fits: &dyn Fn([usize; 3]) -> bool| {
        open.iter().filter(|other| fits(other.shape)).cloned().collect::<Vec<_>>()
    };
    let one = vec![from.name.clone()];
    match draws.below(18) {
        0..=2 => {
            let (filters, step) = (1 + draws.below(20), 1 + draws.below(2));
            let mut layer = conv(filters, [3, 3]);
            // Maps never shrink to nothing, however deep the graph.
            (layer["padding"], layer["stride"]) = (json!("same"), json!([step, 1]));
            (layer, one, [height.div_ceil(step), width, filters])
        }
        3 | 4 => {
            let (size, step) = (2 + draws.below(2), 1 + draws.below(2));
            let mut pool = max_pool(size);
            (pool["padding"], pool["stride"]) = (json!("same"), json!([step, 1]));
            if size == 3 {
                (pool["op"], pool["countIncludePad"]) = (json!("avgPool"), json!(draws.below(2) == 0));
            }
            (pool, one, [height.div_ceil(step), width, channels])
        }
        5..=7 => (batch_norm(), one, from.shape),
        8..=9 => (op("relu"), one, from.shape),
        10 => {
            let functions = ["relu6", "sigmoid", "tanh", "hardSwish", "logSoftmax"];
            (op(functions[draws.below(5)]), one, from.shape)
        }
        11 => {
            let layers = [
                local_response_norm(3),
                dropout(0.4),
                leaky_relu(0.1),
                scale(true),
                prelu(false),
                prelu(true),
                affine(-1.5, 0.2),
                clip(-0.3, 0.6),
                hard_sigmoid(0.3, 0.5),
            ];
            (layers[draws.below(9)].clone(), one, from.shape)
        }
        12 => {
            let (sides, more) = ([0, draws.below(2), draws.below(2), 0], [draws.below(3), 1]);
            let shape = [height + sides[2], width + sides[1], channels + more[0] + 1];
            (pad(sides, more), one, shape)
        }
        13..=15 => {
            let same = others(&|shape| shape == from.shape);
            let other = &same[draws.below(same.len())];
            let joins = ["add", "add", "subtract", "multiply"];
            (op(joins[draws.below(4)]), vec![from.name.clone(), other.name.clone()], from.shape)
        }
        _ => {
            let same = others(&|shape| shape[..2] == [height, width]);
            let mut joined = vec![from.clone()];
            joined.extend((0..1 + draws.below(2)).map(|_| same[draws.below(same.len())].clone()));
            let channels = joined.iter().map(|map| map.shape[2]).sum();
            (op("concat"), joined.into_iter().map(|map| map.name).collect(), [height, width, channels])
        }
    }
}
