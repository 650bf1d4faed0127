//! From layers to an ONNX graph.
//!
//! Every layer becomes the operator of the same meaning, or a few of them. A value is named after the layer that computes
//! it and an initializer after its tensor in PyTorch's names, so that reading the file again gives the same layers
//! with the same names. What only training has is left out, but for dropout, which does nothing in inference.

use super::attributes::{float, int, ints, pads, sliding, text};
use super::means::weights_of_means;
use crate::error::{OnnxError, Result};
use crate::graph::{INPUT, Source, needed};
use crate::network::Network;
use crate::op::{
    AdaptiveAvgPool, Affine, Clip, ConvTranspose, Dropout, HardSigmoid, LeakyRelu, LocalResponseNorm, Op,
    Pad, Prelu, RadialBasis, Scale, Upsample,
};
use crate::parameters::NamedTensor;
use crate::shapes::Geometry;
use fovea_formats::onnx::{
    Attribute, Dimension, Graph, Model, Node, OperatorSet, Shape, Tensor, TensorType, Type, ValueInfo,
    data_type,
};
use fovea_kernels::pool2d::Pool2dShape;
use std::collections::{HashMap, HashSet};

/// Version of the operators that are written: the first in which every program of the last years reads them all.
const OPSET: i64 = 17;

/// Version of the file format that came with them.
const IR_VERSION: i64 = 8;

/// Most elements of a matrix of means (64 MB).
const MOST_MEANS: usize = 1 << 24;

/// The network's first output, what leads to it, and its weights, as an ONNX model.
pub fn export(network: &Network, weights: &[NamedTensor]) -> Result<Model> {
    let Network { graph, shapes, sources, outputs, .. } = network;
    let needed = needed(sources, &outputs[..1]);
    let mut export = Export::new(network, weights);
    for index in (0..graph.nodes.len()).filter(|&index| needed[index]) {
        export.layer(index)?;
    }
    let output = export.values[&Source::Node(outputs[0])].clone();
    let shape = |shape: [usize; 3], row: bool| {
        let [height, width, channels] = shape;
        if row { vec![channels] } else { vec![channels, height, width] }
    };
    let input = value_info(&export.values[&Source::Input].name, &shape(graph.input, false));
    let output = value_info(&output.name, &shape(shapes.nodes[outputs[0]].output, output.row));
    let Export { nodes, initializers, .. } = export;
    let graph = Graph {
        node: nodes,
        name: graph.name.clone(),
        initializer: initializers,
        input: vec![input],
        output: vec![output],
    };
    Ok(Model {
        ir_version: IR_VERSION,
        producer_name: "fovea".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: Some(String::new()), version: OPSET }],
    })
}

/// Name and type of a value of any number of images.
fn value_info(name: &str, dims: &[usize]) -> ValueInfo {
    let batch = Dimension { dim_param: Some("batch".to_owned()), dim_value: None };
    let length = |&length: &usize| Dimension { dim_value: Some(length as i64), dim_param: None };
    let dim = std::iter::once(batch).chain(dims.iter().map(length)).collect();
    let tensor = TensorType { elem_type: data_type::FLOAT, shape: Some(Shape { dim }) };
    ValueInfo { name: name.to_owned(), r#type: Some(Type { tensor_type: Some(tensor) }) }
}

/// A layer's result in the ONNX graph.
#[derive(Clone)]
struct Value {
    name: String,
    /// Whether it has two dimensions, batch and channels, instead of four.
    row: bool,
}

struct Export<'n> {
    network: &'n Network,
    weights: HashMap<&'n str, &'n NamedTensor>,
    values: HashMap<Source, Value>,
    nodes: Vec<Node>,
    initializers: Vec<Tensor>,
    /// All names of values and initializers.
    names: HashSet<String>,
}

impl<'n> Export<'n> {
    fn new(network: &'n Network, weights: &'n [NamedTensor]) -> Self {
        let weights: HashMap<_, _> = weights.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let mut names: HashSet<String> = weights.keys().map(|name| name.to_string()).collect();
        names.insert(INPUT.to_owned());
        let values = HashMap::from([(Source::Input, Value { name: INPUT.to_owned(), row: false })]);
        Self { network, weights, values, nodes: Vec::new(), initializers: Vec::new(), names }
    }

    /// Adds the operators of a layer.
    fn layer(&mut self, index: usize) -> Result<()> {
        let network = self.network;
        let (node, shape) = (&network.graph.nodes[index], &network.shapes.nodes[index]);
        let name = node.name.as_str();
        let inputs: Vec<Value> =
            network.sources[index].iter().map(|source| self.values[source].clone()).collect();
        let first = inputs[0].clone();
        let value = match &node.op {
            Op::Conv(_) => self.convolution(name, &shape.geometry, first),
            Op::Dense(dense) => {
                let row = self.row(first, name);
                let inputs = self.with_tensors(row, name, weights(dense.bias));
                Value { row: true, ..self.push(name, "Gemm", inputs, vec![int("transB", 1)], true) }
            }
            Op::BatchNorm(norm) => {
                let row = first.row;
                let inputs =
                    self.with_tensors(first, name, &["weight", "bias", "running_mean", "running_var"]);
                let attributes = vec![float("epsilon", norm.epsilon), float("momentum", 1.0 - norm.momentum)];
                self.push(name, "BatchNormalization", inputs, attributes, row)
            }
            Op::MaxPool(_) | Op::AvgPool(_) => self.pool(name, &shape.geometry, first),
            Op::ConvTranspose(conv) => self.transposed_convolution(name, conv, &shape.geometry, first),
            Op::Scale(scale) => self.scale(name, scale, first),
            Op::AdaptiveAvgPool(_) if matches!(shape.geometry, Geometry::AvgPool { .. }) => {
                self.pool(name, &shape.geometry, first)
            }
            Op::AdaptiveAvgPool(AdaptiveAvgPool { size }) => {
                self.pool_to_size(name, shape.inputs[0], *size, first)?
            }
            Op::GlobalAvgPool {} | Op::GlobalMaxPool {} => {
                let map = self.map(first, name);
                let average = matches!(node.op, Op::GlobalAvgPool {});
                let operator = if average { "GlobalAveragePool" } else { "GlobalMaxPool" };
                self.push(name, operator, vec![map.name], vec![], false)
            }
            Op::Upsample(Upsample { factor: [down, right] }) => {
                let map = self.map(first, name);
                let scales = self.constant(name, "scales", &[4], &[1.0, 1.0, *down as f32, *right as f32]);
                let attributes = vec![
                    text("mode", "nearest"),
                    text("coordinate_transformation_mode", "asymmetric"),
                    text("nearest_mode", "floor"),
                ];
                self.push(name, "Resize", vec![map.name, String::new(), scales], attributes, false)
            }
            Op::LocalResponseNorm(norm) if norm.size.is_multiple_of(2) => {
                // PyTorch and ONNX put the longer side of an even window at different ends.
                return Err(OnnxError {
                    operator: "LRN".to_owned(),
                    node: name.to_owned(),
                    expected: "an odd size".to_owned(),
                    received: norm.size.to_string(),
                }
                .into());
            }
            Op::LocalResponseNorm(norm) => self.local_response_norm(name, norm, first),
            Op::Dropout(Dropout { rate }) => {
                let ratio = self.constant(name, "ratio", &[], &[*rate]);
                self.push(name, "Dropout", vec![first.name, ratio], vec![], first.row)
            }
            Op::Add {} => self.elementwise(name, "Add", inputs),
            Op::Subtract {} => self.elementwise(name, "Sub", inputs),
            Op::Divide {} => self.elementwise(name, "Div", inputs),
            Op::Multiply {} if shape.inputs[0] == shape.inputs[1] => self.elementwise(name, "Mul", inputs),
            Op::Multiply {} => {
                let maps = inputs.into_iter().map(|value| self.map(value, name).name).collect();
                self.push(name, "Mul", maps, vec![], false)
            }
            Op::Concat {} => {
                let inputs = self.alike(inputs, name);
                let row = inputs[0].row;
                let names = inputs.into_iter().map(|value| value.name).collect();
                self.push(name, "Concat", names, vec![int("axis", 1)], row)
            }
            Op::Pad(pad) => self.pad(name, pad, first),
            Op::Relu {} => self.function(name, "Relu", first, vec![]),
            Op::Relu6 {} => self.clip(name, first, 0.0, 6.0),
            Op::LeakyRelu(LeakyRelu { slope }) => {
                self.function(name, "LeakyRelu", first, vec![float("alpha", *slope)])
            }
            Op::Clip(Clip { min, max }) => self.clip(name, first, *min, *max),
            Op::Prelu(Prelu { shared }) => {
                let slope = self.channels(name, "weight", first.row || *shared);
                self.push(name, "PRelu", vec![first.name, slope], vec![], first.row)
            }
            Op::HardSigmoid(HardSigmoid { alpha, beta }) => {
                self.function(name, "HardSigmoid", first, vec![float("alpha", *alpha), float("beta", *beta)])
            }
            Op::HardSwish {} => self.function(name, "HardSwish", first, vec![]),
            Op::Affine(affine) => self.affine(name, affine, first),
            Op::LogSoftmax {} => self.function(name, "LogSoftmax", first, vec![int("axis", 1)]),
            Op::RadialBasis(basis) => self.radial_basis(name, basis, first),
            Op::Sigmoid {} => self.function(name, "Sigmoid", first, vec![]),
            Op::Tanh {} => self.function(name, "Tanh", first, vec![]),
            Op::Softmax {} => self.function(name, "Softmax", first, vec![int("axis", 1)]),
            Op::Flatten {} if first.row => self.function(name, "Identity", first, vec![]),
            Op::Flatten {} => self.push(name, "Flatten", vec![first.name], vec![int("axis", 1)], true),
        };
        self.values.insert(Source::Node(index), value);
        Ok(())
    }

    fn convolution(&mut self, name: &str, geometry: &Geometry, input: Value) -> Value {
        let Geometry::Convolution { shape, bias, .. } = geometry else { return input };
        let map = self.map(input, name);
        let inputs = self.with_tensors(map, name, weights(*bias));
        self.push(name, "Conv", inputs, sliding(shape), false)
    }

    fn transposed_convolution(
        &mut self,
        name: &str,
        conv: &ConvTranspose,
        geometry: &Geometry,
        input: Value,
    ) -> Value {
        let Geometry::ConvTranspose { shape, bias, .. } = geometry else { return input };
        let map = self.map(input, name);
        let inputs = self.with_tensors(map, name, weights(*bias));
        let mut attributes = sliding(shape);
        attributes.push(ints("output_padding", &conv.output_padding));
        self.push(name, "ConvTranspose", inputs, attributes, false)
    }

    fn scale(&mut self, name: &str, scale: &Scale, input: Value) -> Value {
        let row = input.row;
        let weight = self.channels(name, "weight", row);
        let product = self.push(name, "Mul", vec![input.name, weight], vec![], row);
        if !scale.bias {
            return product;
        }
        let bias = self.channels(name, "bias", row);
        self.push(&format!("{name}.shift"), "Add", vec![product.name, bias], vec![], row)
    }

    fn affine(&mut self, name: &str, affine: &Affine, input: Value) -> Value {
        let row = input.row;
        let Affine { scale, shift } = *affine;
        let scale = self.constant(name, "scale", &[], &[scale]);
        let product = self.push(name, "Mul", vec![input.name, scale], vec![], row);
        if shift == 0.0 {
            return product;
        }
        let shift = self.constant(name, "offset", &[], &[shift]);
        self.push(&format!("{name}.shift"), "Add", vec![product.name, shift], vec![], row)
    }

    /// A tensor with a value a channel, shaped to be repeated over the pixels of a map or for a row.
    fn channels(&mut self, layer: &str, suffix: &str, row: bool) -> String {
        let name = format!("{layer}.{suffix}");
        if let Some(tensor) = self.weights.get(name.as_str()) {
            let channels = tensor.values.len();
            let dims = if row { vec![channels] } else { vec![channels, 1, 1] };
            self.initializers.push(Tensor::floats(&name, &dims, &tensor.values));
        }
        name
    }

    fn pool(&mut self, name: &str, geometry: &Geometry, input: Value) -> Value {
        let (shape, average) = match geometry {
            Geometry::MaxPool(shape) => (shape, None),
            Geometry::AvgPool { shape, count_include_pad } => (shape, Some(*count_include_pad)),
            _ => return input,
        };
        let map = self.map(input, name);
        let mut attributes = vec![ints("kernel_shape", &shape.size), ints("strides", &shape.stride)];
        // Programs disagree about the last window of a rounded size. Padding says it exactly, unless it is counted.
        match (average, overhang(shape)) {
            (Some(true), [0, 0]) => attributes.extend([pads(shape.padding), int("count_include_pad", 1)]),
            (Some(true), _) => {
                attributes.extend([pads(shape.padding), int("count_include_pad", 1), int("ceil_mode", 1)]);
            }
            (_, [below, beside]) => {
                let [top, right, bottom, left] = shape.padding;
                attributes.push(pads([top, right + beside, bottom + below, left]));
            }
        }
        self.push(
            name,
            if average.is_some() { "AveragePool" } else { "MaxPool" },
            vec![map.name],
            attributes,
            false,
        )
    }

    /// Windows of several sizes as two products with constant matrices: from the right over the columns, from the left over
    /// the rows.
    fn pool_to_size(
        &mut self,
        name: &str,
        [height, width, _]: [usize; 3],
        [rows, columns]: [usize; 2],
        input: Value,
    ) -> Result<Value> {
        if height.saturating_mul(rows).max(width.saturating_mul(columns)) > MOST_MEANS {
            return Err(OnnxError {
                operator: "MatMul".to_owned(),
                node: name.to_owned(),
                expected: format!("at most {MOST_MEANS} weights of means along an axis"),
                received: format!("{:?} pixels of {:?}", [rows, columns], [height, width]),
            }
            .into());
        }
        let mut map = self.map(input, name);
        let mut product = name.to_owned();
        if columns != width {
            let means = weights_of_means(width, columns, true);
            let means = self.constant(name, "column_means", &[width, columns], &means);
            map = self.push(&product, "MatMul", vec![map.name, means], vec![], false);
            product.push_str(".rows");
        }
        if rows != height {
            let means = weights_of_means(height, rows, false);
            let means = self.constant(name, "row_means", &[rows, height], &means);
            map = self.push(&product, "MatMul", vec![means, map.name], vec![], false);
        }
        Ok(map)
    }

    /// Distances as they are defined: as a matrix product, which would have to be corrected by the lengths of both vectors,
    /// small ones would be differences of large numbers.
    fn radial_basis(&mut self, name: &str, RadialBasis { codes }: &RadialBasis, input: Value) -> Value {
        let row = self.row(input, name);
        let values = codes.concat();
        let codes = self.constant(name, "codes", &[codes.len(), values.len() / codes.len()], &values);
        let axes = self.integers(name, "axes", &[1]);
        let repeated =
            self.push(&format!("{name}.unsqueeze"), "Unsqueeze", vec![row.name, axes], vec![], false);
        let differences =
            self.push(&format!("{name}.difference"), "Sub", vec![repeated.name, codes], vec![], false);
        let last = vec![ints("axes", &[2]), int("keepdims", 0)];
        let distances =
            self.push(&format!("{name}.distance"), "ReduceSumSquare", vec![differences.name], last, true);
        self.push(name, "Neg", vec![distances.name], vec![], true)
    }

    fn local_response_norm(&mut self, name: &str, norm: &LocalResponseNorm, input: Value) -> Value {
        let LocalResponseNorm { size, alpha, beta, k } = *norm;
        let map = self.map(input, name);
        let attributes =
            vec![int("size", size as i64), float("alpha", alpha), float("beta", beta), float("bias", k)];
        self.push(name, "LRN", vec![map.name], attributes, false)
    }

    fn pad(&mut self, name: &str, pad: &Pad, input: Value) -> Value {
        let map = self.map(input, name);
        let Pad { padding: [top, right, bottom, left], channels: [before, after] } = *pad;
        let pads = [0, before, top, left, 0, after, bottom, right].map(|zeros| zeros as i64);
        let pads = self.integers(name, "pads", &pads);
        self.push(name, "Pad", vec![map.name, pads], vec![], false)
    }

    fn clip(&mut self, name: &str, input: Value, min: f32, max: f32) -> Value {
        let bounds =
            [("min", min), ("max", max)].map(|(suffix, bound)| self.constant(name, suffix, &[], &[bound]));
        let [min, max] = bounds;
        self.push(name, "Clip", vec![input.name, min, max], vec![], input.row)
    }

    /// An operator that keeps the shape of what it reads.
    fn function(&mut self, name: &str, operator: &str, input: Value, attributes: Vec<Attribute>) -> Value {
        self.push(name, operator, vec![input.name], attributes, input.row)
    }

    /// An operator on values of one shape.
    fn elementwise(&mut self, name: &str, operator: &str, inputs: Vec<Value>) -> Value {
        let inputs = self.alike(inputs, name);
        let row = inputs[0].row;
        self.push(name, operator, inputs.into_iter().map(|value| value.name).collect(), vec![], row)
    }

    /// Values that all have two dimensions, if one of them has.
    fn alike(&mut self, inputs: Vec<Value>, name: &str) -> Vec<Value> {
        if !inputs.iter().any(|value| value.row) {
            return inputs;
        }
        inputs.into_iter().map(|value| self.row(value, name)).collect()
    }

    /// A value with two dimensions, for the layer `name`.
    fn row(&mut self, value: Value, name: &str) -> Value {
        if value.row {
            return value;
        }
        self.push(&format!("{name}.flatten"), "Flatten", vec![value.name], vec![int("axis", 1)], true)
    }

    /// A value with four dimensions, for the layer `name`; a row has one pixel.
    fn map(&mut self, value: Value, name: &str) -> Value {
        if !value.row {
            return value;
        }
        let axes = self.integers(name, "axes", &[2, 3]);
        self.push(&format!("{name}.unsqueeze"), "Unsqueeze", vec![value.name, axes], vec![], false)
    }

    /// An input's name and those of a layer's tensors, which become initializers.
    fn with_tensors(&mut self, input: Value, layer: &str, suffixes: &[&str]) -> Vec<String> {
        let mut names = vec![input.name];
        for suffix in suffixes {
            let name = format!("{layer}.{suffix}");
            if let Some(tensor) = self.weights.get(name.as_str()) {
                self.initializers.push(Tensor::floats(&name, &tensor.shape, &tensor.values));
            }
            names.push(name);
        }
        names
    }

    fn constant(&mut self, layer: &str, suffix: &str, dims: &[usize], values: &[f32]) -> String {
        let name = self.unique(&format!("{layer}.{suffix}"));
        self.initializers.push(Tensor::floats(&name, dims, values));
        name
    }

    fn integers(&mut self, layer: &str, suffix: &str, values: &[i64]) -> String {
        let name = self.unique(&format!("{layer}.{suffix}"));
        self.initializers.push(Tensor::integers(&name, values));
        name
    }

    /// Adds an operator; its result is named after the layer.
    fn push(
        &mut self,
        name: &str,
        operator: &str,
        input: Vec<String>,
        attribute: Vec<Attribute>,
        row: bool,
    ) -> Value {
        let output = self.unique(name);
        self.nodes.push(Node {
            input,
            output: vec![output.clone()],
            name: name.to_owned(),
            op_type: operator.to_owned(),
            attribute,
            domain: String::new(),
        });
        Value { name: output, row }
    }

    /// A name that no value has yet.
    fn unique(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        for number in 2.. {
            if self.names.insert(name.clone()) {
                break;
            }
            name = format!("{wanted}-{number}");
        }
        name
    }
}

/// How far the last windows reach beyond the padded input, below and to the right: more than nothing only where the output's
/// size is rounded up.
fn overhang(shape: &Pool2dShape) -> [usize; 2] {
    let Ok(output) = shape.output() else { return [0, 0] };
    let [top, right, bottom, left] = shape.padding;
    let padded = [shape.input[0] + top + bottom, shape.input[1] + left + right];
    [0, 1]
        .map(|axis| ((output[axis] - 1) * shape.stride[axis] + shape.size[axis]).saturating_sub(padded[axis]))
}

/// The tensors of a layer that may add a bias.
fn weights(bias: bool) -> &'static [&'static str] {
    if bias { &["weight", "bias"] } else { &["weight"] }
}
