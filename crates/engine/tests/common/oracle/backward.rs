//! The backward pass: gradients of the loss by every parameter, and the running statistics after the step.

use super::forward::{codes, factors, group_norm, layer_norm, local_response_norm, reference};
use super::geometry::{avg_pool, connected, convolution, global, max_pool, transposed_convolution};
use super::rounding::{largest, mirrored};
use super::{Judge, Map, Maps, Oracle, Rounding, normalizes};
use fovea_engine::{Node, Op};
use fovea_reference::{
    AdaptiveAvgPool2d, AvgPool2d, Dense, MaxPool2d, Pad, Upsample, activation, arithmetic, layout,
    radial_basis,
};
use std::collections::HashMap;

/// What a training step finds out.
pub struct Gradients {
    /// By name, those of all parameters.
    pub parameters: HashMap<String, Vec<f64>>,
    /// Whether a value was within its margin of a kink.
    pub at_kink: bool,
}

/// How the backward pass deviates from what it should be, to see how far its results move.
#[derive(Clone, Copy, Default)]
struct Deviation<'a> {
    /// With the maps of before any rounding.
    rounding: Option<(Rounding, &'a Maps)>,
    /// By map, how near to a kink a value is taken to its other side.
    margins: Option<&'a HashMap<String, f64>>,
}

/// The gradient that has arrived at a map.
struct Arrived {
    values: Vec<f64>,
    /// How large the terms are that it is a sum of: they may cancel out but for their rounding errors.
    terms: f64,
}

/// The gradients of one node: by its inputs, and by its parameters with their names' ends.
#[derive(Default)]
struct Parts {
    inputs: Vec<Vec<f64>>,
    parameters: Vec<(&'static str, Vec<f64>)>,
    /// How large the terms are whose sums the gradients by the inputs are, where they may cancel out.
    terms: f64,
    /// How large the factors are that gradients of weights are sums of products with.
    factor: f64,
}

impl Oracle<'_> {
    /// The gradients of the loss of maps that [`Oracle::forward`] has computed for training.
    pub fn backward(&self, maps: &Maps, judge: &Judge) -> Gradients {
        self.deviate(maps, judge, Deviation::default())
    }

    /// As [`Oracle::backward`], with every value moved as rounding might, from maps that
    /// [`Oracle::forward_rounded`] has computed; `exact` are those of before, which say on which side of a kink
    /// a value is.
    pub fn backward_rounded(
        &self,
        exact: &Maps,
        rounded: &Maps,
        judge: &Judge,
        rounding: Rounding,
    ) -> Gradients {
        self.deviate(rounded, judge, Deviation { rounding: Some((rounding, exact)), margins: None })
    }

    /// As [`Oracle::backward`], with every value on the other side of a kink that it is near.
    pub fn backward_mirrored(&self, maps: &Maps, judge: &Judge, margins: &HashMap<String, f64>) -> Gradients {
        self.deviate(maps, judge, Deviation { rounding: None, margins: Some(margins) })
    }

    /// Running statistics after a step whose maps are these, by name.
    pub fn statistics(&self, maps: &Maps) -> HashMap<String, Vec<f64>> {
        let mut statistics = HashMap::new();
        for node in &self.graph.nodes {
            let Op::BatchNorm(norm) = &node.op else { continue };
            let (norm, x) = (reference(norm), &maps[&node.inputs[0]]);
            let channels = x.shape[2];
            let running = ["running_mean", "running_var"].map(|name| self.weight(&node.name, name).unwrap());
            let batch = norm.statistics(&x.values, channels);
            let [mean, variance] = norm.follow(running, &batch, x.values.len() / channels);
            statistics.insert(format!("{}.running_mean", node.name), mean);
            statistics.insert(format!("{}.running_var", node.name), variance);
        }
        statistics
    }

    fn deviate(&self, maps: &Maps, judge: &Judge, deviation: Deviation) -> Gradients {
        let mut gradients = Gradients { parameters: HashMap::new(), at_kink: false };
        let mut arrived: HashMap<&str, Arrived> = HashMap::new();
        for output in &self.graph.outputs {
            let mut gradient = judge.judge(output, &maps[&output.node]).gradient;
            if let Some((rounding, _)) = deviation.rounding {
                // A probability of nearly 1 less its target.
                let terms = (maps["input"].shape.iter().product::<usize>() as f64)
                    / maps["input"].values.len() as f64;
                rounding.round_terms(1 << 40, terms.max(largest(&gradient)), &mut gradient);
            }
            let weight = f64::from(output.loss_weight);
            gradient.iter_mut().for_each(|dy| *dy *= weight);
            add(&mut arrived, &output.node, gradient, 0.0);
        }
        for (index, node) in self.graph.nodes.iter().enumerate().rev() {
            let Some(Arrived { values: dy, terms }) = arrived.remove(node.name.as_str()) else { continue };
            let margin = deviation.margins.map(|margins| margins[&node.inputs[0]]);
            let kinked = has_kinks(&node.op);
            let maps = deviation.rounding.filter(|_| kinked).map_or(maps, |(_, exact)| exact);
            let (mut parts, at_kink) = self.parts(index, node, maps, &dy, terms, margin);
            gradients.at_kink |= at_kink;
            if let Some((rounding, _)) = deviation.rounding {
                let key = (index as u64 + 1) << 41;
                for (at, dx) in parts.inputs.iter_mut().enumerate() {
                    rounding.round_terms(key + at as u64, parts.terms.max(largest(dx)), dx);
                    if normalizes(&node.op) {
                        rounding.round_means(key, parts.terms, dx, maps[&node.name].shape[2]);
                    }
                }
                for (name, values) in &mut parts.parameters {
                    // The error of a long sum of equal terms grows with their number.
                    let channels = maps[&node.name].shape[2];
                    let length = 1.0 + (dy.len() / channels) as f64 / 256.0;
                    let factor = if *name == "bias" { 1.0 } else { parts.factor };
                    let terms = length * factor * largest(&absolute_sums(&dy, channels));
                    rounding.round_terms(key + (name.len() << 20) as u64, terms, values);
                }
            }
            for (name, values) in parts.parameters {
                gradients.parameters.insert(format!("{}.{name}", node.name), values);
            }
            for (input, dx) in node.inputs.iter().zip(parts.inputs) {
                add(&mut arrived, input, dx, parts.terms);
            }
        }
        gradients
    }

    /// The gradients of a node from that of what it has written, a sum of terms of a size; whether a value was
    /// taken to the other side of a kink.
    fn parts(
        &self,
        index: usize,
        node: &Node,
        maps: &Maps,
        dy: &[f64],
        terms: f64,
        margin: Option<f64>,
    ) -> (Parts, bool) {
        let inputs: Vec<&Map> = node.inputs.iter().map(|input| &maps[input]).collect();
        let weight = self.weight(&node.name, "weight").unwrap_or_default();
        let bias = self.weight(&node.name, "bias").is_some();
        let batch = maps["input"].values.len() / self.graph.input.iter().product::<usize>();
        let kinks = kinks(&node.op);
        let moved = margin.and_then(|margin| match &node.op {
            Op::MaxPool(pool) => lowered(&max_pool(pool, inputs[0].shape, batch), &inputs[0].values, margin),
            Op::GlobalMaxPool(_) => {
                lowered(&MaxPool2d(global(inputs[0].shape, batch)), &inputs[0].values, margin)
            }
            _ => mirrored(&inputs[0].values, &kinks, margin),
        });
        let at_kink = moved.is_some();
        let x = moved.as_deref().unwrap_or(&inputs[0].values);
        let (shape, channels) = (inputs[0].shape, inputs[0].shape[2]);
        let parts = match &node.op {
            Op::BatchNorm(norm) => {
                let gradients = reference(norm).backward(x, dy, weight);
                let parameters = vec![("weight", gradients.dweight), ("bias", gradients.dbias)];
                Parts { parameters, ..Parts::of(gradients.dx) }
            }
            Op::GroupNorm(norm) => grouped(group_norm(norm, channels, batch).backward(x, dy, weight)),
            Op::LayerNorm(norm) => {
                grouped(layer_norm(norm, channels, x.len() / channels).backward(x, dy, weight))
            }
            Op::Dropout(dropout) => Parts::of(self.dropped(index, dropout.rate, inputs[0], dy)),
            Op::Conv(conv) => {
                let kernel = convolution(conv, shape, batch);
                let seen = connected(conv, weight, channels);
                let dweight = connected(conv, &kernel.backward_weight(x, dy), channels);
                let parts = Parts::of(kernel.backward_input(dy, &seen)).with("weight", dweight);
                if bias { parts.with("bias", kernel.backward_bias(dy)) } else { parts }
            }
            Op::ConvTranspose(conv) => {
                let kernel = transposed_convolution(conv, shape, batch);
                let dweight = kernel.backward_weight(x, dy);
                let parts = Parts::of(kernel.backward_input(dy, weight)).with("weight", dweight);
                if bias { parts.with("bias", kernel.backward_bias(dy)) } else { parts }
            }
            Op::Dense(dense) => {
                let layer = Dense { batch, inputs: channels, units: dense.units };
                let dweight = layer.backward_weight(x, dy);
                let parts = Parts::of(layer.backward_input(dy, weight)).with("weight", dweight);
                if bias { parts.with("bias", layer.backward_bias(dy)) } else { parts }
            }
            Op::Scale(_) => {
                let [dx, dweight, dbias] = arithmetic::scale_backward(dy, x, weight);
                let parts = Parts::of(dx).with("weight", dweight);
                if bias { parts.with("bias", dbias) } else { parts }
            }
            Op::Prelu(_) => {
                let (dx, dweight) = activation::prelu_backward(dy, x, weight, channels);
                Parts::of(dx).with("weight", dweight)
            }
            Op::Add(_) => Parts { terms, ..Parts::both([dy.to_vec(), dy.to_vec()]) },
            Op::Subtract(_) => Parts::both(arithmetic::subtract_backward(dy)),
            Op::Divide(_) => Parts::both(arithmetic::divide_backward(dy, x, &inputs[1].values)),
            Op::Multiply(_) => {
                let [da, db] = arithmetic::multiply_backward(dy, x, &factors(&inputs));
                let pixels = if inputs[1].shape == shape { 1 } else { shape[0] * shape[1] };
                Parts::both([da, arithmetic::gather(&db, pixels, channels)])
            }
            Op::Concat(_) => {
                let channels: Vec<_> = inputs.iter().map(|map| map.shape[2]).collect();
                Parts { inputs: layout::split(dy, &channels), ..Parts::default() }
            }
            op => Parts {
                terms: if sums(op) { terms } else { 0.0 },
                ..Parts::of(alone(op, x, shape, dy, batch))
            },
        };
        let factor = match &node.op {
            op if normalizes(op) => 1.0,
            Op::Prelu(prelu) if prelu.shared => channels as f64 * largest(x),
            _ => largest(x),
        };
        let terms = match self.steepness(node, inputs[0]) {
            Some(steepness) => steepness * terms,
            None => parts.terms,
        };
        (Parts { factor, terms, ..parts }, at_kink)
    }
}

impl Parts {
    fn of(dx: Vec<f64>) -> Self {
        Self { inputs: vec![dx], ..Self::default() }
    }

    fn both(inputs: [Vec<f64>; 2]) -> Self {
        Self { inputs: inputs.into(), ..Self::default() }
    }

    fn with(mut self, name: &'static str, gradient: Vec<f64>) -> Self {
        self.parameters.push((name, gradient));
        self
    }
}

/// Adds a gradient, a sum of terms of a size, to what has arrived at a map.
fn add<'a>(arrived: &mut HashMap<&'a str, Arrived>, name: &'a str, values: Vec<f64>, terms: f64) {
    let terms = terms.max(largest(&values));
    match arrived.get_mut(name) {
        Some(sum) => {
            sum.values.iter_mut().zip(values).for_each(|(sum, term)| *sum += term);
            sum.terms += terms;
        }
        None => drop(arrived.insert(name, Arrived { values, terms })),
    }
}

/// The gradients of a normalization of groups.
fn grouped(gradients: fovea_reference::group_norm::Gradients) -> Parts {
    Parts::of(gradients.dx).with("weight", gradients.dweight).with("bias", gradients.dbias)
}

/// The gradient of x of an operation with one input and nothing to learn.
fn alone(op: &Op, x: &[f64], shape: [usize; 3], dy: &[f64], batch: usize) -> Vec<f64> {
    let [height, width, channels] = shape;
    match op {
        Op::MaxPool(pool) => {
            let pool = max_pool(pool, shape, batch);
            pool.backward(dy, &pool.forward(x).1)
        }
        Op::GlobalMaxPool(_) => {
            let pool = MaxPool2d(global(shape, batch));
            pool.backward(dy, &pool.forward(x).1)
        }
        Op::AvgPool(pool) => avg_pool(pool, shape, batch).backward(dy),
        Op::GlobalAvgPool(_) => {
            AvgPool2d { pool: global(shape, batch), count_include_pad: true }.backward(dy)
        }
        Op::AdaptiveAvgPool(pool) => AdaptiveAvgPool2d { batch, input: shape, size: pool.size }.backward(dy),
        Op::Upsample(upsample) => Upsample { batch, input: shape, factor: upsample.factor }.backward(dy),
        Op::LocalResponseNorm(norm) => local_response_norm(norm).backward(x, dy, channels),
        Op::Pad(pad) => {
            Pad { batch, input: shape, padding: pad.padding, channels: pad.channels }.backward(dy)
        }
        Op::Flatten(_) => layout::flatten_backward(dy, height * width, channels),
        Op::RadialBasis(basis) => radial_basis::radial_basis_backward(dy, x, &codes(basis), channels),
        Op::Relu(_) => activation::relu_backward(dy, &activation::relu(x)),
        Op::Relu6(_) => activation::relu6_backward(dy, &activation::relu6(x)),
        Op::Clip(clip) => {
            let [min, max] = [clip.min, clip.max].map(f64::from);
            activation::clip_backward(dy, &activation::clip(x, min, max), min, max)
        }
        Op::LeakyRelu(leaky) => {
            let slope = f64::from(leaky.slope);
            activation::leaky_relu_backward(dy, &activation::leaky_relu(x, slope), slope)
        }
        Op::HardSigmoid(line) => {
            let [alpha, beta] = [line.alpha, line.beta].map(f64::from);
            activation::hard_sigmoid_backward(dy, &activation::hard_sigmoid(x, alpha, beta), alpha)
        }
        Op::HardSwish(_) => activation::hard_swish_backward(dy, x),
        Op::Silu(_) => activation::silu_backward(dy, x),
        Op::Gelu(_) => activation::gelu_backward(dy, x),
        Op::Sigmoid(_) => activation::sigmoid_backward(dy, &activation::sigmoid(x)),
        Op::Tanh(_) => activation::tanh_backward(dy, &activation::tanh(x)),
        Op::Affine(affine) => activation::affine_backward(dy, affine.scale.into()),
        Op::Softmax(_) => activation::softmax_backward(dy, &activation::softmax(x, channels), channels),
        Op::LogSoftmax(_) => {
            activation::log_softmax_backward(dy, &activation::log_softmax(x, channels), channels)
        }
        op => unreachable!("\"{}\" has parameters or several inputs", op.name()),
    }
}

/// Where the derivative of an operation jumps.
fn kinks(op: &Op) -> Vec<f64> {
    match op {
        Op::Relu(_) | Op::LeakyRelu(_) | Op::Prelu(_) => vec![0.0],
        Op::Relu6(_) => vec![0.0, 6.0],
        Op::Clip(clip) => vec![clip.min.into(), clip.max.into()],
        Op::HardSigmoid(line) if line.alpha != 0.0 => {
            let [alpha, beta] = [line.alpha, line.beta].map(f64::from);
            vec![-beta / alpha, (1.0 - beta) / alpha]
        }
        Op::HardSwish(_) => vec![-3.0, 3.0],
        _ => vec![],
    }
}

/// Whether an operation's gradients by x are sums of those by y, or these themselves.
fn sums(op: &Op) -> bool {
    matches!(
        op,
        Op::MaxPool(_)
            | Op::GlobalMaxPool(_)
            | Op::Upsample(_)
            | Op::Softmax(_)
            | Op::LogSoftmax(_)
            | Op::Relu(_)
            | Op::Relu6(_)
            | Op::Clip(_)
            | Op::LeakyRelu(_)
            | Op::Flatten(_)
            | Op::Pad(_)
    )
}

/// The sum of the absolute values of each channel.
fn absolute_sums(values: &[f64], channels: usize) -> Vec<f64> {
    let sum = |channel: usize| values.iter().skip(channel).step_by(channels).map(|value| value.abs()).sum();
    (0..channels).map(sum).collect()
}

/// Whether the derivative of an operation jumps anywhere.
fn has_kinks(op: &Op) -> bool {
    matches!(op, Op::MaxPool(_) | Op::GlobalMaxPool(_)) || !kinks(op).is_empty()
}

/// The values with every maximum lowered so far that one within `margin` of it wins; `None` if none does.
fn lowered(pool: &MaxPool2d, x: &[f64], margin: f64) -> Option<Vec<f64>> {
    let (y, argmax) = pool.forward(x);
    let winners = pool.backward(&vec![1.0; y.len()], &argmax);
    let lower = |(x, wins): (&f64, f64)| if wins > 0.0 { x - margin.max(f64::MIN_POSITIVE) } else { *x };
    let lowered: Vec<_> = x.iter().zip(winners).map(lower).collect();
    (pool.forward(&lowered).1 != argmax).then_some(lowered)
}
