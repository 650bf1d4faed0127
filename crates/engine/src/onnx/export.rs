//! From layers to an ONNX graph.
//!
//! Every layer becomes the operator of the same meaning, or a few of them. A value is named after the layer
//! that computes it and an initializer after its tensor in PyTorch's names, so that reading the file again
//! gives the same layers with the same names. What only training has is left out, but for dropout, which does
//! nothing in inference.

use super::attributes::{int, ints, pads};
use crate::error::Result;
use crate::graph::{INPUT, Source, needed};
use crate::network::Network;
use crate::parameters::NamedTensor;
use crate::shapes::NodeShape;
use fovea_formats::onnx::{
    Attribute, Dimension, Graph, Model, Node, OperatorSet, Shape, Tensor, TensorType, Type, ValueInfo,
    data_type,
};
use fovea_kernels::pool2d::Pool2dShape;
use std::collections::{HashMap, HashSet};

/// Version of the operators that are written, unless one is newer: every program of the last years reads it.
const OPSET: i64 = 17;

/// Version of the file format that came with them.
const IR_VERSION: i64 = 8;

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
    let Export { nodes, initializers, opset, .. } = export;
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
        opset_import: vec![OperatorSet { domain: Some(String::new()), version: opset }],
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
pub(crate) struct Value {
    pub name: String,
    /// Whether it has two dimensions, batch and channels, instead of four.
    pub row: bool,
}

/// A layer that is written: its name, shapes, and the values that it reads.
pub(crate) struct Exported<'a> {
    pub name: &'a str,
    pub shape: &'a NodeShape,
    pub inputs: Vec<Value>,
}

impl Exported<'_> {
    /// The first value that it reads.
    pub fn first(&self) -> Value {
        self.inputs[0].clone()
    }
}

/// An ONNX graph under way: what operations add their operators with.
pub(crate) struct Export<'n> {
    network: &'n Network,
    weights: HashMap<&'n str, &'n NamedTensor>,
    values: HashMap<Source, Value>,
    nodes: Vec<Node>,
    initializers: Vec<Tensor>,
    /// All names of values and initializers.
    names: HashSet<String>,
    /// Version of the operators: the first that has all of them.
    opset: i64,
}

impl<'n> Export<'n> {
    fn new(network: &'n Network, weights: &'n [NamedTensor]) -> Self {
        let weights: HashMap<_, _> = weights.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let mut names: HashSet<String> = weights.keys().map(|name| name.to_string()).collect();
        names.insert(INPUT.to_owned());
        let values = HashMap::from([(Source::Input, Value { name: INPUT.to_owned(), row: false })]);
        Self { network, weights, values, nodes: Vec::new(), initializers: Vec::new(), names, opset: OPSET }
    }

    /// Adds the operators of a layer.
    fn layer(&mut self, index: usize) -> Result<()> {
        let network = self.network;
        let (node, shape) = (&network.graph.nodes[index], &network.shapes.nodes[index]);
        let inputs = network.sources[index].iter().map(|source| self.values[source].clone()).collect();
        let value = node.op.operation().export(self, &Exported { name: &node.name, shape, inputs })?;
        self.values.insert(Source::Node(index), value);
        Ok(())
    }

    /// A tensor with a value a channel, shaped to be repeated over the pixels of a map or for a row.
    pub fn channels(&mut self, layer: &str, suffix: &str, row: bool) -> String {
        let name = format!("{layer}.{suffix}");
        if let Some(tensor) = self.weights.get(name.as_str()) {
            let channels = tensor.values.len();
            let dims = if row { vec![channels] } else { vec![channels, 1, 1] };
            self.initializers.push(Tensor::floats(&name, &dims, &tensor.values));
        }
        name
    }

    /// Raises the version of the operators to the first that has one.
    pub fn require(&mut self, opset: i64) {
        self.opset = self.opset.max(opset);
    }

    /// A pooling: of averages, if it is said whether padding counts, or of the largest values.
    pub fn pool(&mut self, node: &Exported, shape: &Pool2dShape, average: Option<bool>) -> Value {
        let map = self.map(node.first(), node.name);
        let mut attributes = vec![ints("kernel_shape", &shape.size), ints("strides", &shape.stride)];
        // Programs disagree about the last window of a rounded size. Padding says it exactly, unless it is
        // counted.
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
        let operator = if average.is_some() { "AveragePool" } else { "MaxPool" };
        self.push(node.name, operator, vec![map.name], attributes, false)
    }

    /// Values within bounds.
    pub fn clip(&mut self, name: &str, input: Value, min: f32, max: f32) -> Value {
        let bounds =
            [("min", min), ("max", max)].map(|(suffix, bound)| self.constant(name, suffix, &[], &[bound]));
        let [min, max] = bounds;
        self.push(name, "Clip", vec![input.name, min, max], vec![], input.row)
    }

    /// An operator that keeps the shape of what it reads.
    pub fn function(
        &mut self,
        name: &str,
        operator: &str,
        input: Value,
        attributes: Vec<Attribute>,
    ) -> Value {
        self.push(name, operator, vec![input.name], attributes, input.row)
    }

    /// An operator on values of one shape.
    pub fn elementwise(&mut self, node: &Exported, operator: &str) -> Value {
        let inputs = self.alike(node.inputs.clone(), node.name);
        let row = inputs[0].row;
        self.push(node.name, operator, inputs.into_iter().map(|value| value.name).collect(), vec![], row)
    }

    /// Values that all have two dimensions, if one of them has.
    pub fn alike(&mut self, inputs: Vec<Value>, name: &str) -> Vec<Value> {
        if !inputs.iter().any(|value| value.row) {
            return inputs;
        }
        inputs.into_iter().map(|value| self.row(value, name)).collect()
    }

    /// A value with two dimensions, for the layer `name`.
    pub fn row(&mut self, value: Value, name: &str) -> Value {
        if value.row {
            return value;
        }
        self.push(&format!("{name}.flatten"), "Flatten", vec![value.name], vec![int("axis", 1)], true)
    }

    /// A value with four dimensions, for the layer `name`; a row has one pixel.
    pub fn map(&mut self, value: Value, name: &str) -> Value {
        if !value.row {
            return value;
        }
        let axes = self.integers(name, "axes", &[2, 3]);
        self.push(&format!("{name}.unsqueeze"), "Unsqueeze", vec![value.name, axes], vec![], false)
    }

    /// An input's name and those of a layer's tensors, which become initializers.
    pub fn with_tensors(&mut self, input: Value, layer: &str, suffixes: &[&str]) -> Vec<String> {
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

    /// Floats that are no tensor of the layer; their name in the graph.
    pub fn constant(&mut self, layer: &str, suffix: &str, dims: &[usize], values: &[f32]) -> String {
        let name = self.unique(&format!("{layer}.{suffix}"));
        self.initializers.push(Tensor::floats(&name, dims, values));
        name
    }

    /// As [`Self::constant`], whole numbers.
    pub fn integers(&mut self, layer: &str, suffix: &str, values: &[i64]) -> String {
        let name = self.unique(&format!("{layer}.{suffix}"));
        self.initializers.push(Tensor::integers(&name, values));
        name
    }

    /// Adds an operator; its result is named after the layer.
    pub fn push(
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

/// How far the last windows reach beyond the padded input, below and to the right: more than nothing only where
/// the output's size is rounded up.
fn overhang(shape: &Pool2dShape) -> [usize; 2] {
    let Ok(output) = shape.output() else { return [0, 0] };
    let [top, right, bottom, left] = shape.padding;
    let padded = [shape.input[0] + top + bottom, shape.input[1] + left + right];
    [0, 1]
        .map(|axis| ((output[axis] - 1) * shape.stride[axis] + shape.size[axis]).saturating_sub(padded[axis]))
}

/// The tensors of a layer that may add a bias.
pub(crate) fn weights(bias: bool) -> &'static [&'static str] {
    if bias { &["weight", "bias"] } else { &["weight"] }
}
