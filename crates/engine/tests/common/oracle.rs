//! A second, naive implementation of whole graphs in f64 from the reference operations, in PyTorch's meaning: a flatten
//! counts channel by channel. Only forward; gradients are finite differences.

use fovea_engine::{Graph, NamedTensor, Op, OutputLoss, Padding};
use fovea_kernels::random::{Philox, Purpose};
use fovea_reference::batch_norm::BatchNorm;
use fovea_reference::check::widen;
use fovea_reference::local_response_norm::LocalResponseNorm;
use fovea_reference::loss::{self, Targets};
use fovea_reference::{
    AdaptiveAvgPool2d, AvgPool2d, Conv2d, Dense, GroupNorm, MaxPool2d, Pool2d, Upsample, activation,
    arithmetic, radial_basis,
};
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
                Op::Add(_) => {
                    let sums = x.values.iter().zip(&inputs[1].values).map(|(a, b)| a + b);
                    Map { values: sums.collect(), shape: x.shape }
                }
                Op::Subtract(_) => with_values(x, arithmetic::subtract(&x.values, &inputs[1].values)),
                Op::Divide(_) => with_values(x, arithmetic::divide(&x.values, &inputs[1].values)),
                Op::Multiply(_) => {
                    let [height, width, channels] = x.shape;
                    let pixels = if inputs[1].shape == x.shape { 1 } else { height * width };
                    let factors = arithmetic::spread(&inputs[1].values, pixels, channels);
                    with_values(x, arithmetic::multiply(&x.values, &factors))
                }
                Op::Concat(_) => concat(&inputs, batch),
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
        self.loss_by(images, Targets::Labels(labels), label_smoothing, None)
    }

    /// As [`Oracle::loss`], with any targets and with class weights.
    pub fn loss_by(
        &self,
        images: &[f64],
        targets: Targets,
        label_smoothing: f64,
        class_weights: Option<&[f64]>,
    ) -> f64 {
        let maps = self.forward(images, images.len() / self.graph.input.iter().product::<usize>());
        let of_output = |output: &fovea_engine::Output| {
            let Map { values, shape } = &maps[&output.node];
            let classes = shape[2];
            let result = match output.loss {
                OutputLoss::CrossEntropy {} => {
                    loss::cross_entropy(values, targets, classes, label_smoothing, class_weights)
                }
                OutputLoss::BinaryCrossEntropy {} => loss::binary_cross_entropy(values, targets, classes),
                OutputLoss::MeanSquaredError {} => loss::mean_squared_error(values, targets, classes),
                OutputLoss::MaximumAPosteriori { rejection } => {
                    loss::maximum_a_posteriori(values, targets, classes, rejection.into())
                }
            };
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

/// A map of the same shape.
fn with_values(x: &Map, values: Vec<f64>) -> Map {
    Map { values, shape: x.shape }
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
            let mut weight = weight.to_vec();
            for (filter, list) in conv.connections.iter().flatten().enumerate() {
                let taps = kernel[0] * kernel[1];
                for channel in (0..input[2]).filter(|channel| !list.contains(channel)) {
                    let start = (filter * input[2] + channel) * taps;
                    weight[start..start + taps].fill(0.0);
                }
            }
            let weight = &weight[..];
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
        Op::GlobalAvgPool(_) => {
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
        Op::BatchNorm(_)
        | Op::Dropout(_)
        | Op::Add(_)
        | Op::Subtract(_)
        | Op::Multiply(_)
        | Op::Divide(_) => {
            unreachable!("above")
        }
        Op::Concat(_) => unreachable!("above"),
        Op::ConvTranspose(conv) => transposed_convolution(conv, x, weight, bias, batch),
        Op::Scale(_) => {
            let value = |(at, x): (usize, &f64)| {
                x * weight[at % input[2]] + bias.map_or(0.0, |bias| bias[at % input[2]])
            };
            with_values(x, x.values.iter().enumerate().map(value).collect())
        }
        Op::GroupNorm(norm) => {
            let (images, channels, epsilon) = (batch, input[2], f64::from(norm.epsilon));
            let norm = GroupNorm { images, channels, groups: norm.groups, epsilon };
            with_values(x, norm.forward(&x.values, weight, bias.unwrap_or_default()))
        }
        Op::LayerNorm(norm) => {
            let (images, epsilon) = (batch * input[0] * input[1], f64::from(norm.epsilon));
            let norm = GroupNorm { images, channels: input[2], groups: 1, epsilon };
            with_values(x, norm.forward(&x.values, weight, bias.unwrap_or_default()))
        }
        Op::Prelu(_) => with_values(x, activation::prelu(&x.values, weight, input[2])),
        Op::Clip(clip) => {
            with_values(x, activation::clip(&x.values, f64::from(clip.min), f64::from(clip.max)))
        }
        Op::HardSigmoid(line) => {
            let [alpha, beta] = [line.alpha, line.beta].map(f64::from);
            with_values(x, activation::hard_sigmoid(&x.values, alpha, beta))
        }
        Op::HardSwish(_) => with_values(x, activation::hard_swish(&x.values)),
        Op::Affine(affine) => {
            with_values(x, activation::affine(&x.values, f64::from(affine.scale), f64::from(affine.shift)))
        }
        Op::LogSoftmax(_) => with_values(x, activation::log_softmax(&x.values, input[2])),
        Op::RadialBasis(basis) => {
            let codes: Vec<f64> = basis.codes.iter().flatten().map(|&code| f64::from(code)).collect();
            let values = radial_basis::radial_basis(&x.values, &codes, input[2]);
            Map { values, shape: [1, 1, basis.codes.len()] }
        }
        Op::GlobalMaxPool(_) => {
            let size = [input[0], input[1]];
            let pool = Pool2d { batch, input, size, stride: size, padding: [0; 4], ceil_mode: false };
            Map { values: MaxPool2d(pool).forward(&x.values).0, shape: [1, 1, input[2]] }
        }
        Op::AdaptiveAvgPool(pool) => {
            let values = AdaptiveAvgPool2d { batch, input, size: pool.size }.forward(&x.values);
            Map { values, shape: [pool.size[0], pool.size[1], input[2]] }
        }
        Op::Upsample(upsample) => {
            let [down, right] = upsample.factor;
            let values = Upsample { batch, input, factor: upsample.factor }.forward(&x.values);
            Map { values, shape: [input[0] * down, input[1] * right, input[2]] }
        }
        Op::Relu6(_) => Map { values: activation::relu6(&x.values), shape: input },
        Op::LeakyRelu(leaky) => {
            Map { values: activation::leaky_relu(&x.values, f64::from(leaky.slope)), shape: input }
        }
        Op::Sigmoid(_) => Map { values: activation::sigmoid(&x.values), shape: input },
        Op::Relu(_) => Map { values: activation::relu(&x.values), shape: input },
        Op::Tanh(_) => Map { values: activation::tanh(&x.values), shape: input },
        Op::Softmax(_) => Map { values: activation::softmax(&x.values, input[2]), shape: input },
        Op::Flatten(_) => {
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

/// What PyTorch computes: every input pixel adds its products to a map without padding, of which the sides are cut off.
fn transposed_convolution(
    conv: &fovea_engine::ConvTranspose,
    x: &Map,
    weight: &[f64],
    bias: Option<&[f64]>,
    batch: usize,
) -> Map {
    let whole = [0, 1].map(|axis| {
        let reach = conv.dilation[axis] * (conv.kernel[axis] - 1) + 1 + conv.output_padding[axis];
        (x.shape[axis] - 1) * conv.stride[axis] + reach
    });
    let [top, right, bottom, left] = match conv.padding {
        Padding::Valid => [0; 4],
        Padding::Explicit(sides) => sides,
        Padding::Same => {
            let surplus = [0, 1].map(|axis| whole[axis] - x.shape[axis] * conv.stride[axis]);
            let before = surplus.map(|surplus| surplus / 2);
            [before[0], surplus[1] - before[1], surplus[0] - before[0], before[1]]
        }
    };
    let input = [whole[0], whole[1], conv.filters];
    let (kernel, stride, dilation, groups) = (conv.kernel, conv.stride, conv.dilation, conv.groups);
    let filters = x.shape[2];
    let convolution = Conv2d { batch, input, filters, kernel, stride, padding: [0; 4], dilation, groups };
    let values = convolution.backward_input(&x.values, weight);
    let shape = [whole[0] - top - bottom, whole[1] - left - right, conv.filters];
    let mut cut = Vec::new();
    for (pixel, values) in values.chunks_exact(conv.filters).enumerate() {
        let (row, column) = (pixel / whole[1] % whole[0], pixel % whole[1]);
        if (top..top + shape[0]).contains(&row) && (left..left + shape[1]).contains(&column) {
            cut.extend(values.iter().enumerate().map(|(at, y)| y + bias.map_or(0.0, |bias| bias[at])));
        }
    }
    Map { values: cut, shape }
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
