//! A second, naive implementation of whole graphs in f64 from the reference operations, in PyTorch's meaning: a flatten
//! counts channel by channel. Only forward; gradients are finite differences.

use fovea_engine::{Graph, NamedTensor, Op, Padding};
use fovea_kernels::random::{Philox, Purpose};
use fovea_reference::batch_norm::BatchNorm;
use fovea_reference::check::widen;
use fovea_reference::local_response_norm::LocalResponseNorm;
use fovea_reference::loss::softmax_cross_entropy;
use fovea_reference::{AvgPool2d, Conv2d, Dense, MaxPool2d, Pool2d, activation};
use std::collections::HashMap;

/// What the network is run for.
#[derive(Clone, Copy)]
pub enum Purposes {
    /// Statistics of the batch, dropout by the numbers of this seed and step.
    Training { seed: u64, step: u64 },
    /// Running statistics, no dropout.
    Inference,
}

/// A feature map `[n, h, w, c]`; flat ones are `[n, 1, 1, c]`.
#[derive(Clone)]
pub struct Map {
    pub values: Vec<f64>,
    pub shape: [usize; 3],
}

/// A graph with its weights and what it is run for.
pub struct Oracle<'a> {
    pub graph: &'a Graph,
    pub weights: &'a [(String, Vec<f64>)],
    pub purpose: Purposes,
}

impl Oracle<'_> {
    /// Values of all nodes by name.
    pub fn forward(&self, images: &[f64], batch: usize) -> HashMap<String, Map> {
        let input = Map { values: images.to_vec(), shape: self.graph.input };
        let mut maps = HashMap::from([("input".to_owned(), input)]);
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let inputs: Vec<Map> = node.inputs.iter().map(|input| maps[input].clone()).collect();
            let x = &inputs[0];
            let y = match &node.op {
                Op::BatchNorm(norm) => self.batch_norm(&node.name, norm, x),
                Op::Dropout(dropout) => self.dropout(index, dropout.rate, x),
                Op::Add {} => {
                    let sums = x.values.iter().zip(&inputs[1].values).map(|(a, b)| a + b);
                    Map { values: sums.collect(), shape: x.shape }
                }
                Op::Concat {} => concat(&inputs, batch),
                op => {
                    let (weight, bias) = (self.weight(&node.name, "weight"), self.weight(&node.name, "bias"));
                    apply(op, x, weight.unwrap_or_default(), bias, batch)
                }
            };
            maps.insert(node.name.clone(), y);
        }
        maps
    }

    /// The weighted sum of the outputs' mean losses.
    pub fn loss(&self, images: &[f64], labels: &[u32], label_smoothing: f64) -> f64 {
        let maps = self.forward(images, labels.len());
        let of_output = |output: &fovea_engine::Output| {
            let logits = &maps[&output.node];
            let result = softmax_cross_entropy(&logits.values, labels, logits.shape[2], label_smoothing);
            f64::from(output.loss_weight) * result.mean()
        };
        self.graph.outputs.iter().map(of_output).sum()
    }

    fn weight(&self, node: &str, parameter: &str) -> Option<&[f64]> {
        let name = format!("{node}.{parameter}");
        self.weights.iter().find(|(other, _)| *other == name).map(|(_, values)| &values[..])
    }

    fn batch_norm(&self, node: &str, norm: &fovea_engine::BatchNorm, x: &Map) -> Map {
        let (epsilon, momentum) = (f64::from(norm.epsilon), f64::from(norm.momentum));
        let norm = BatchNorm { epsilon, momentum };
        let vector = |name| self.weight(node, name).unwrap();
        let statistics = match self.purpose {
            Purposes::Training { .. } => norm.statistics(&x.values, x.shape[2]),
            Purposes::Inference => [vector("running_mean").to_vec(), vector("running_var").to_vec()],
        };
        let values = norm.normalize(&x.values, &statistics, vector("weight"), vector("bias"));
        Map { values, shape: x.shape }
    }

    fn dropout(&self, node: usize, rate: f32, x: &Map) -> Map {
        let Purposes::Training { seed, step } = self.purpose else { return x.clone() };
        let random = Philox::new(seed, Purpose::Dropout, step * self.graph.nodes.len() as u64 + node as u64);
        let kept = |index: usize| if random.uniform(index as u64) >= rate { 1.0 } else { 0.0 };
        let scaled = |(index, value)| value * kept(index) / (1.0 - f64::from(rate));
        Map { values: x.values.iter().enumerate().map(scaled).collect(), shape: x.shape }
    }
}

fn concat(inputs: &[Map], batch: usize) -> Map {
    let [height, width, _] = inputs[0].shape;
    let mut values = Vec::new();
    for pixel in 0..batch * height * width {
        for Map { values: x, shape: [.., channels] } in inputs {
            values.extend(&x[pixel * channels..(pixel + 1) * channels]);
        }
    }
    let channels = inputs.iter().map(|map| map.shape[2]).sum();
    Map { values, shape: [height, width, channels] }
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
        Op::GlobalAvgPool {} => {
            let size = [input[0], input[1]];
            let pool = Pool2d { batch, input, size, stride: size, padding: [0; 4], ceil_mode: false };
            let pool = AvgPool2d { pool, count_include_pad: true };
            Map { values: pool.forward(&x.values), shape: [1, 1, input[2]] }
        }
        Op::LocalResponseNorm(norm) => {
            let [alpha, beta, k] = [norm.alpha, norm.beta, norm.k].map(f64::from);
            let norm = LocalResponseNorm { size: norm.size, alpha, beta, k };
            Map { values: norm.forward(&x.values, input[2]), shape: input }
        }
        Op::Pad(pad) => {
            let [top, right, bottom, left] = pad.padding;
            let [before, after] = pad.channels;
            let shape = [input[0] + top + bottom, input[1] + left + right, input[2] + before + after];
            let mut values = vec![0.0; batch * shape.iter().product::<usize>()];
            for (index, value) in x.values.iter().enumerate() {
                let (pixel, channel) = (index / input[2], index % input[2]);
                let (row, column) = (pixel / input[1] % input[0] + top, pixel % input[1] + left);
                let image = pixel / (input[0] * input[1]);
                values[((image * shape[0] + row) * shape[1] + column) * shape[2] + before + channel] = *value;
            }
            Map { values, shape }
        }
        Op::BatchNorm(_) | Op::Dropout(_) | Op::Add {} | Op::Concat {} => unreachable!("above"),
        Op::Relu6 {} => Map { values: activation::relu6(&x.values), shape: input },
        Op::LeakyRelu(leaky) => {
            Map { values: activation::leaky_relu(&x.values, f64::from(leaky.slope)), shape: input }
        }
        Op::Sigmoid {} => Map { values: activation::sigmoid(&x.values), shape: input },
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
