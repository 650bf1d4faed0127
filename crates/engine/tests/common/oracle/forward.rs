//! The forward pass.

use super::geometry::{avg_pool, connected, convolution, global, max_pool, transposed_convolution};
use super::rounding::largest;
use super::{Map, Maps, Oracle, Purposes, Rounding, normalizes};
use fovea_engine::{Node, Op};
use fovea_kernels::random::{Philox, Purpose};
use fovea_reference::batch_norm::BatchNorm;
use fovea_reference::{
    AdaptiveAvgPool2d, AvgPool2d, Dense, GroupNorm, LocalResponseNorm, MaxPool2d, Pad, Upsample, activation,
    arithmetic, layout, radial_basis,
};

impl Oracle<'_> {
    /// Values of all nodes by name.
    pub fn forward(&self, images: &[f64], batch: usize) -> Maps {
        self.forward_rounded(images, batch, None)
    }

    /// As [`Oracle::forward`], with every value moved as rounding might.
    pub fn forward_rounded(&self, images: &[f64], batch: usize, rounding: Option<Rounding>) -> Maps {
        let input = Map { values: images.to_vec(), shape: self.graph.input, places: None };
        let mut maps = Maps::from([("input".to_owned(), input)]);
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let mut inputs: Vec<&Map> = node.inputs.iter().map(|input| &maps[input]).collect();
            let mut moved = None;
            if let Some(rounding) = rounding.filter(|_| normalizes(&node.op)) {
                // The mean is taken away from values that may be much larger than what is left.
                let map = moved.insert(inputs[0].clone());
                rounding.round(index as u64 + (1 << 32), &mut map.values);
            }
            if let Some(map) = &moved {
                inputs[0] = map;
            }
            let x = inputs[0];
            let (mut values, shape) = match &node.op {
                Op::BatchNorm(norm) => (self.batch_norm(&node.name, norm, x), x.shape),
                Op::Dropout(dropout) => (self.dropped(index, dropout.rate, x, &x.values), x.shape),
                op => {
                    let (weight, bias) = (self.weight(&node.name, "weight"), self.weight(&node.name, "bias"));
                    apply(op, &inputs, weight.unwrap_or_default(), bias, batch)
                }
            };
            if let Some(rounding) = rounding {
                if let Some(steepness) = self.steepness(node, x) {
                    rounding.round_means(index as u64, steepness * largest(&x.values), &mut values, shape[2]);
                }
                rounding.round(index as u64, &mut values);
            }
            let places = places(&node.op, &inputs);
            maps.insert(node.name.clone(), Map { values, shape, places });
        }
        maps
    }

    /// How many times larger a normalization makes what two values of a channel differ by; `None` for other
    /// operations.
    pub(super) fn steepness(&self, node: &Node, x: &Map) -> Option<f64> {
        let (channels, values) = (x.shape[2], &x.values[..]);
        let deviations = match &node.op {
            Op::BatchNorm(norm) => {
                let [_, variance] = self.normalized_by(&node.name, norm, x);
                variance.iter().map(|variance| (variance + f64::from(norm.epsilon)).sqrt()).collect()
            }
            Op::GroupNorm(norm) => {
                let images = x.values.len() / x.shape.iter().product::<usize>();
                group_norm(norm, channels, images).deviations(values)
            }
            Op::LayerNorm(norm) => layer_norm(norm, channels, values.len() / channels).deviations(values),
            _ => return None,
        };
        let smallest = deviations.into_iter().fold(f64::INFINITY, f64::min);
        Some(largest(self.weight(&node.name, "weight")?) / smallest)
    }

    /// Mean and variance that a batch normalization takes.
    fn normalized_by(&self, node: &str, norm: &fovea_engine::BatchNorm, x: &Map) -> [Vec<f64>; 2] {
        let running = |name| self.weight(node, name).unwrap().to_vec();
        match self.purpose {
            Purposes::Training { .. } => reference(norm).statistics(&x.values, x.shape[2]),
            Purposes::Inference => ["running_mean", "running_var"].map(running),
        }
    }

    fn batch_norm(&self, node: &str, norm: &fovea_engine::BatchNorm, x: &Map) -> Vec<f64> {
        let vector = |name| self.weight(node, name).unwrap();
        let statistics = self.normalized_by(node, norm, x);
        reference(norm).normalize(&x.values, &statistics, vector("weight"), vector("bias"))
    }

    /// Values at the places of `x` that a dropout keeps, zeros at the others; and so for gradients.
    pub(super) fn dropped(&self, node: usize, rate: f32, x: &Map, values: &[f64]) -> Vec<f64> {
        let Purposes::Training { seed, step } = self.purpose else { return values.to_vec() };
        let random = Philox::new(seed, Purpose::Dropout, step * self.graph.nodes.len() as u64 + node as u64);
        let kept = |at: usize| {
            let channel = at % x.shape[2];
            let place = x.places.as_ref().map_or(channel, |places| places[channel]);
            if random.uniform((at - channel + place) as u64) >= rate { 1.0 } else { 0.0 }
        };
        let scaled = |(at, value)| value * kept(at) / (1.0 - f64::from(rate));
        values.iter().enumerate().map(scaled).collect()
    }
}

/// The reference's batch normalization.
pub(super) fn reference(norm: &fovea_engine::BatchNorm) -> BatchNorm {
    BatchNorm { epsilon: norm.epsilon.into(), momentum: norm.momentum.into() }
}

/// Where the engine has the channels of what a node writes.
fn places(op: &Op, inputs: &[&Map]) -> Option<Vec<usize>> {
    let [height, width, channels] = inputs[0].shape;
    let own = |map: &Map| map.places.clone().unwrap_or_else(|| (0..map.shape[2]).collect());
    match op {
        Op::Flatten(_) if height * width > 1 => {
            let place = |at: usize| at % (height * width) * channels + at / (height * width);
            Some((0..height * width * channels).map(place).collect())
        }
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Dense(_) | Op::RadialBasis(_) => None,
        Op::Concat(_) => inputs.iter().any(|map| map.places.is_some()).then(|| {
            let mut places = Vec::new();
            for map in inputs {
                let before = places.len();
                places.extend(own(map).iter().map(|place| before + place));
            }
            places
        }),
        Op::Pad(pad) => inputs[0].places.as_ref().map(|places| {
            let [before, after] = pad.channels;
            let end = before + places.len();
            let moved = places.iter().map(|place| before + place);
            (0..before).chain(moved).chain(end..end + after).collect()
        }),
        _ => inputs[0].places.clone(),
    }
}

/// What an operation makes of maps, but for those that differ with the purpose.
fn apply(
    op: &Op,
    inputs: &[&Map],
    weight: &[f64],
    bias: Option<&[f64]>,
    batch: usize,
) -> (Vec<f64>, [usize; 3]) {
    let (x, input) = (&inputs[0].values[..], inputs[0].shape);
    let [height, width, channels] = input;
    let alike = |values| (values, input);
    match op {
        Op::BatchNorm(_) | Op::Dropout(_) => unreachable!("they differ with the purpose"),
        Op::Conv(conv) => {
            let weight = connected(conv, weight, channels);
            let conv = convolution(conv, input, batch);
            (conv.forward(x, &weight, bias), conv.output())
        }
        Op::ConvTranspose(conv) => {
            let conv = transposed_convolution(conv, input, batch);
            (conv.forward(x, weight, bias), conv.output())
        }
        Op::Dense(dense) => {
            assert_eq!(input[..2], [1, 1]);
            let layer = Dense { batch, inputs: channels, units: dense.units };
            (layer.forward(x, weight, bias), [1, 1, dense.units])
        }
        Op::MaxPool(pool) => {
            let pool = max_pool(pool, input, batch);
            (pool.forward(x).0, pool.0.output())
        }
        Op::AvgPool(pool) => {
            let pool = avg_pool(pool, input, batch);
            (pool.forward(x), pool.pool.output())
        }
        Op::GlobalAvgPool(_) => {
            let pool = AvgPool2d { pool: global(input, batch), count_include_pad: true };
            (pool.forward(x), [1, 1, channels])
        }
        Op::GlobalMaxPool(_) => (MaxPool2d(global(input, batch)).forward(x).0, [1, 1, channels]),
        Op::AdaptiveAvgPool(pool) => {
            let values = AdaptiveAvgPool2d { batch, input, size: pool.size }.forward(x);
            (values, [pool.size[0], pool.size[1], channels])
        }
        Op::Upsample(upsample) => {
            let [down, right] = upsample.factor;
            let values = Upsample { batch, input, factor: upsample.factor }.forward(x);
            (values, [height * down, width * right, channels])
        }
        Op::LocalResponseNorm(norm) => alike(local_response_norm(norm).forward(x, channels)),
        Op::Pad(pad) => {
            let pad = Pad { batch, input, padding: pad.padding, channels: pad.channels };
            (pad.forward(x), pad.output())
        }
        Op::Add(_) => alike(x.iter().zip(&inputs[1].values).map(|(a, b)| a + b).collect()),
        Op::Subtract(_) => alike(arithmetic::subtract(x, &inputs[1].values)),
        Op::Divide(_) => alike(arithmetic::divide(x, &inputs[1].values)),
        Op::Multiply(_) => alike(arithmetic::multiply(x, &factors(inputs))),
        Op::Concat(_) => {
            let maps: Vec<_> = inputs.iter().map(|map| (&map.values[..], map.shape[2])).collect();
            let channels = inputs.iter().map(|map| map.shape[2]).sum();
            (layout::concat(&maps), [height, width, channels])
        }
        Op::Flatten(_) => {
            let pixels = height * width;
            (layout::flatten(x, pixels, channels), [1, 1, pixels * channels])
        }
        Op::RadialBasis(basis) => {
            let values = radial_basis::radial_basis(x, &codes(basis), channels);
            (values, [1, 1, basis.codes.len()])
        }
        Op::Scale(_) => alike(arithmetic::scale(x, weight, bias)),
        Op::GroupNorm(norm) => {
            let norm = group_norm(norm, channels, batch);
            alike(norm.forward(x, weight, bias.unwrap_or_default()))
        }
        Op::LayerNorm(norm) => {
            let norm = layer_norm(norm, channels, batch * height * width);
            alike(norm.forward(x, weight, bias.unwrap_or_default()))
        }
        Op::Prelu(_) => alike(activation::prelu(x, weight, channels)),
        Op::Clip(clip) => alike(activation::clip(x, clip.min.into(), clip.max.into())),
        Op::HardSigmoid(line) => alike(activation::hard_sigmoid(x, line.alpha.into(), line.beta.into())),
        Op::HardSwish(_) => alike(activation::hard_swish(x)),
        Op::Silu(_) => alike(activation::silu(x)),
        Op::Gelu(_) => alike(activation::gelu(x)),
        Op::Affine(affine) => alike(activation::affine(x, affine.scale.into(), affine.shift.into())),
        Op::Relu(_) => alike(activation::relu(x)),
        Op::Relu6(_) => alike(activation::relu6(x)),
        Op::LeakyRelu(leaky) => alike(activation::leaky_relu(x, leaky.slope.into())),
        Op::Sigmoid(_) => alike(activation::sigmoid(x)),
        Op::Tanh(_) => alike(activation::tanh(x)),
        Op::Softmax(_) => alike(activation::softmax(x, channels)),
        Op::LogSoftmax(_) => alike(activation::log_softmax(x, channels)),
    }
}

pub(super) fn group_norm(norm: &fovea_engine::GroupNorm, channels: usize, images: usize) -> GroupNorm {
    GroupNorm { images, channels, groups: norm.groups, epsilon: norm.epsilon.into() }
}

/// That of one group of each pixel.
pub(super) fn layer_norm(norm: &fovea_engine::LayerNorm, channels: usize, pixels: usize) -> GroupNorm {
    GroupNorm { images: pixels, channels, groups: 1, epsilon: norm.epsilon.into() }
}

pub(super) fn local_response_norm(norm: &fovea_engine::LocalResponseNorm) -> LocalResponseNorm {
    let [alpha, beta, k] = [norm.alpha, norm.beta, norm.k].map(f64::from);
    LocalResponseNorm { size: norm.size, alpha, beta, k }
}

/// All codes, one after the other.
pub(super) fn codes(basis: &fovea_engine::RadialBasis) -> Vec<f64> {
    basis.codes.iter().flatten().map(|&code| f64::from(code)).collect()
}

/// The second factor of a product for every value of the first.
pub(super) fn factors(inputs: &[&Map]) -> Vec<f64> {
    let [height, width, channels] = inputs[0].shape;
    let pixels = if inputs[1].shape == inputs[0].shape { 1 } else { height * width };
    arithmetic::spread(&inputs[1].values, pixels, channels)
}
