//! A second, naive implementation of whole graphs in f64 from the reference operations, in PyTorch's meaning: a flatten
//! counts channel by channel. Only forward; gradients are finite differences.

use fovea_engine::{Graph, NamedTensor, Op, Padding};
use fovea_reference::check::widen;
use fovea_reference::loss::softmax_cross_entropy;
use fovea_reference::{AvgPool2d, Conv2d, Dense, MaxPool2d, Pool2d, activation};
use std::collections::HashMap;

/// A feature map `[n, h, w, c]`; flat ones are `[n, 1, 1, c]`.
#[derive(Clone)]
pub struct Map {
    pub values: Vec<f64>,
    pub shape: [usize; 3],
}

/// Values of all nodes by name.
pub fn forward(
    graph: &Graph,
    weights: &[(String, Vec<f64>)],
    images: &[f64],
    batch: usize,
) -> HashMap<String, Map> {
    let find = |name: String| weights.iter().find(|(other, _)| *other == name).map(|(_, values)| &values[..]);
    let mut maps = HashMap::from([("input".to_owned(), Map { values: images.to_vec(), shape: graph.input })]);
    for node in &graph.nodes {
        let x = maps[&node.inputs[0]].clone();
        let (weight, bias) = (find(format!("{}.weight", node.name)), find(format!("{}.bias", node.name)));
        let y = apply(&node.op, &x, weight.unwrap_or_default(), bias, batch);
        maps.insert(node.name.clone(), y);
    }
    maps
}

/// The weighted sum of the outputs' mean losses.
pub fn loss(
    graph: &Graph,
    weights: &[(String, Vec<f64>)],
    images: &[f64],
    labels: &[u32],
    label_smoothing: f64,
) -> f64 {
    let maps = forward(graph, weights, images, labels.len());
    let of_output = |output: &fovea_engine::Output| {
        let logits = &maps[&output.node];
        let result = softmax_cross_entropy(&logits.values, labels, logits.shape[2], label_smoothing);
        f64::from(output.loss_weight) * result.mean()
    };
    graph.outputs.iter().map(of_output).sum()
}

pub fn wide(weights: &[NamedTensor]) -> Vec<(String, Vec<f64>)> {
    weights.iter().map(|tensor| (tensor.name.clone(), widen(&tensor.values))).collect()
}

fn apply(op: &Op, x: &Map, weight: &[f64], bias: Option<&[f64]>, batch: usize) -> Map {
    let input = x.shape;
    match op {
        Op::Conv(conv) => {
            let extent = [0, 1].map(|axis| conv.dilation[axis] * (conv.kernel[axis] - 1) + 1);
            let padding = sides(conv.padding, input, extent, conv.stride);
            let (filters, kernel, stride) = (conv.filters, conv.kernel, conv.stride);
            let (dilation, groups) = (conv.dilation, conv.groups);
            let conv = Conv2d { batch, input, filters, kernel, stride, padding, dilation, groups };
            Map { values: conv.forward(&x.values, weight, bias), shape: conv.output() }
        }
        Op::Dense(dense) => {
            assert_eq!(input[..2], [1, 1]);
            let layer = Dense { batch, inputs: input[2], units: dense.units };
            Map { values: layer.forward(&x.values, weight, bias), shape: [1, 1, dense.units] }
        }
        Op::MaxPool(pool) => {
            let padding = sides(pool.padding, input, pool.size, pool.stride);
            let (size, stride, ceil_mode) = (pool.size, pool.stride, pool.ceil_mode);
            let pool = Pool2d { batch, input, size, stride, padding, ceil_mode };
            Map { values: MaxPool2d(pool).forward(&x.values).0, shape: pool.output() }
        }
        Op::AvgPool(pool) => {
            let padding = sides(pool.padding, input, pool.size, pool.stride);
            let (size, stride, ceil_mode) = (pool.size, pool.stride, pool.ceil_mode);
            let count_include_pad = pool.count_include_pad;
            let pool = Pool2d { batch, input, size, stride, padding, ceil_mode };
            Map { values: AvgPool2d { pool, count_include_pad }.forward(&x.values), shape: pool.output() }
        }
        Op::Relu {} => Map { values: activation::relu(&x.values), shape: input },
        Op::Tanh {} => Map { values: activation::tanh(&x.values), shape: input },
        Op::Softmax {} => Map { values: activation::softmax(&x.values, input[2]), shape: input },
        Op::Flatten {} => {
            let [height, width, channels] = input;
            let pixels = height * width;
            let mut values = Vec::with_capacity(x.values.len());
            for image in x.values.chunks_exact(pixels * channels) {
                for channel in 0..channels {
                    values.extend((0..pixels).map(|pixel| image[pixel * channels + channel]));
                }
            }
            Map { values, shape: [1, 1, pixels * channels] }
        }
    }
}

/// Padding in pixels by TensorFlow's definition of "same".
fn sides(padding: Padding, input: [usize; 3], extent: [usize; 2], stride: [usize; 2]) -> [usize; 4] {
    match padding {
        Padding::Valid => [0; 4],
        Padding::Explicit(sides) => sides,
        Padding::Same => {
            let total = [0, 1].map(|axis| {
                let rest = input[axis] % stride[axis];
                let overlap = if rest == 0 { stride[axis] } else { rest };
                extent[axis].saturating_sub(overlap)
            });
            let before = total.map(|total| total / 2);
            [before[0], total[1] - before[1], total[0] - before[0], before[1]]
        }
    }
}
