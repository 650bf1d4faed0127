//! From an ONNX graph to layers.
//!
//! Nodes are read in the file's order, those that the output needs. `value` says what a name stands for; a node
//! either computes with constants (`fold`), renames dimensions (`reshape`), or becomes a layer (`layers`,
//! `dense`, `arithmetic`, `elementwise`) or part of one (`several`).

mod arithmetic;
mod call;
mod dense;
mod elementwise;
mod enlarge;
mod fold;
mod layers;
mod ports;
mod reshape;
mod several;
mod value;
mod window;

use super::{ImportOptions, OnnxModel, Port};
use crate::error::{OnnxError, Result};
use crate::graph::{Graph, INPUT, Node, OPTIMIZER, Output, OutputLoss, needed};
use crate::ops::{Flatten, Op, Pad};
use crate::order::orders;
use crate::parameters::NamedTensor;
use crate::shapes::infer;
use call::{Call, usable};
use fovea_formats::{
    FormatError, excerpt,
    onnx::{self, File, Values},
};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use value::{Constant, Data, Map, Value, elements};

/// The versions of the default domain's operators that are understood.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=22;

/// Most bytes of arrays that an import may make beyond those that come from the file, all nodes together: a few
/// bytes that state shapes must not take all memory.
const BUDGET: usize = 1 << 30;

/// How often an array of the file may be written out, by nodes that reshape, transpose or add and by layers.
const COPIES: usize = 4;

/// Reads a network; see [`OnnxModel::open`].
pub fn import(file: &File, options: &ImportOptions) -> Result<OnnxModel> {
    let Some(graph) = &file.model.graph else {
        return Err(file.error("an ONNX model", "one without a graph").into());
    };
    let opset = opset(file)?;
    let output = ports::output(file, graph, options)?;
    let order = ports::needed(file, graph, output)?;
    let (input, image) = ports::input(file, graph, &order, options)?;
    let mut importer = Importer::new(file, graph, &order, output);
    importer.batch = image.batch;
    importer.define(&input.name, Value::Map(image.map.clone()));
    importer.shapes.insert(INPUT.to_owned(), image.map.shape);
    for &index in &order {
        importer.node(&graph.node[index], index, opset)?;
    }
    let (graph, weights, output) = importer.finish(graph, output, image.map.shape)?;
    let layout = ports::layout(&image.map);
    Ok(OnnxModel { graph, weights, input: Port { name: input.name.clone(), layout }, output, opset })
}

fn opset(file: &File) -> Result<i64> {
    let imports = &file.model.opset_import;
    let default = |set: &&onnx::OperatorSet| matches!(set.domain.as_deref(), None | Some("" | "ai.onnx"));
    let version = imports.iter().find(default).map(|set| set.version);
    let expected = || format!("operators of version {} to {}", OPSETS.start(), OPSETS.end());
    match version {
        Some(version) if OPSETS.contains(&version) => Ok(version),
        Some(version) => Err(file.error(expected(), version.to_string()).into()),
        None => Err(file.error(expected(), "none of ONNX's own").into()),
    }
}

/// A network under construction.
struct Importer<'f> {
    file: &'f File,
    initializers: &'f [onnx::Tensor],
    /// Images that the file is fixed to.
    batch: Option<usize>,
    values: HashMap<&'f str, Value>,
    /// How often a name is read.
    uses: HashMap<&'f str, usize>,
    /// How many names stand for what a layer computes.
    names_of: HashMap<String, usize>,
    nodes: Vec<Node>,
    places: HashMap<String, usize>,
    /// The shape of what each layer computes, and that of the input.
    shapes: HashMap<String, [usize; 3]>,
    weights: Vec<NamedTensor>,
    /// The number that the next layer of a name gets, so that many of one name are not searched through each
    /// time.
    numbers: RefCell<HashMap<String, usize>>,
    /// Flattened maps, so that two readers share one layer.
    flattened: HashMap<String, Map>,
    /// Bytes that may still be written out.
    budget: Cell<usize>,
    /// Which initializers were read.
    read: RefCell<Vec<bool>>,
}

impl<'f> Importer<'f> {
    fn new(file: &'f File, graph: &'f onnx::Graph, order: &[usize], output: &'f str) -> Self {
        let initializers = &graph.initializer;
        let named = initializers.iter().enumerate();
        let values = named.map(|(index, tensor)| (tensor.name.as_str(), Value::Initializer(index))).collect();
        let mut uses = HashMap::from([(output, 1)]);
        for input in order.iter().flat_map(|&index| &graph.node[index].input) {
            *uses.entry(input.as_str()).or_default() += 1;
        }
        Self {
            file,
            initializers,
            batch: None,
            values,
            uses,
            names_of: HashMap::new(),
            nodes: Vec::new(),
            places: HashMap::new(),
            shapes: HashMap::new(),
            weights: Vec::new(),
            numbers: RefCell::default(),
            flattened: HashMap::new(),
            budget: Cell::new(BUDGET),
            read: RefCell::new(vec![false; initializers.len()]),
        }
    }

    fn node(&mut self, node: &'f onnx::Node, index: usize, opset: i64) -> Result<()> {
        let call = Call::new(node, index, opset);
        if !matches!(node.domain.as_str(), "" | "ai.onnx") {
            let received = format!("one of the domain {}", excerpt(&node.domain));
            return Err(call.error("an operator of ONNX's own", received).into());
        }
        let value = self.compute(&call)?;
        call.finish()?;
        if let Some(name) = node.output.first() {
            self.define(name, value);
        }
        Ok(())
    }

    fn compute(&mut self, call: &Call<'f>) -> Result<Value> {
        match call.node.op_type.as_str() {
            "Conv" => self.convolution(call),
            "ConvTranspose" => self.transposed_convolution(call),
            "Resize" | "Upsample" => self.resize(call),
            "MaxPool" | "AveragePool" => self.pool(call),
            "GlobalAveragePool" | "GlobalMaxPool" => self.global_pool(call),
            "ReduceMean" => self.reduce_mean(call),
            "BatchNormalization" => self.batch_norm(call),
            "GroupNormalization" => self.group_norm(call),
            "LayerNormalization" => self.layer_norm(call),
            "LRN" => self.local_response_norm(call),
            "Pad" => self.pad(call),
            "Concat" => self.concat(call),
            "Gemm" => self.gemm(call),
            "MatMul" => self.matmul(call),
            "Add" | "Sub" | "Mul" | "Div" | "Sum" => self.arithmetic(call),
            "Relu" | "LeakyRelu" | "Clip" | "Sigmoid" | "HardSigmoid" | "HardSwish" | "Tanh" | "Gelu" => {
                self.function(call)
            }
            "PRelu" => self.prelu(call),
            "Softmax" | "LogSoftmax" => self.softmax(call),
            "Dropout" => self.dropout(call),
            "Identity" | "Cast" => self.same(call),
            "Constant" => self.constant(call),
            "ConstantOfShape" => self.filled(call),
            "Shape" => self.shape(call),
            "Gather" => self.gather(call),
            "Slice" => self.slice(call),
            "Pow" => self.power(call),
            "ReduceSum" | "ReduceSumSquare" => self.sum_of_squares(call),
            "Neg" => self.negative(call),
            "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" | "Transpose" => self.reshape(call),
            _ => Err(OnnxError {
                expected: "an operator of convolutional networks".to_owned(),
                received: "one that is not supported".to_owned(),
                ..call.error("", "")
            }
            .into()),
        }
    }

    /// Says what a name stands for.
    fn define(&mut self, name: &'f str, value: Value) {
        if let Value::Map(map) = &value {
            *self.names_of.entry(map.node.clone()).or_default() += 1;
        }
        self.values.insert(name, value);
    }

    /// An input of a node; none where it is left out.
    fn optional(&self, call: &Call<'f>, index: usize) -> Result<Option<Value>> {
        match call.node.input.get(index).map(String::as_str) {
            None | Some("") => Ok(None),
            Some(name) => match self.values.get(name) {
                Some(value) => Ok(Some(value.clone())),
                None => {
                    let received =
                        format!("{}, which comes later or only beside another result", excerpt(name));
                    Err(call.error("inputs that earlier nodes compute", received).into())
                }
            },
        }
    }

    fn input(&self, call: &Call<'f>, index: usize) -> Result<Value> {
        let value = self.optional(call, index)?;
        value.ok_or_else(|| call.error(format!("{} inputs or more", index + 1), "fewer").into())
    }

    /// An input that must be computed from the image.
    fn map(&self, call: &Call<'f>, index: usize) -> Result<Map> {
        match self.input(call, index)? {
            Value::Map(map) => Ok(map),
            other => {
                let expected = format!("an input {index} that depends on the image");
                Err(call.error(expected, other.describe()).into())
            }
        }
    }

    /// An input that must not depend on the image; none where it is left out.
    fn constant_input(&self, call: &Call<'f>, index: usize) -> Result<Option<Rc<Constant>>> {
        match self.optional(call, index)? {
            None => Ok(None),
            Some(value) => match self.resolve(&value)? {
                Some(constant) => Ok(Some(constant)),
                None => {
                    let expected = format!("a constant as input {index}");
                    Err(call.error(expected, value.describe()).into())
                }
            },
        }
    }

    /// An input of f32 that must be there and not depend on the image: its shape and values.
    fn weight(&self, call: &Call<'f>, index: usize) -> Result<(Vec<usize>, Vec<f32>)> {
        let Some(constant) = self.constant_input(call, index)? else {
            return Err(call.error(format!("a constant as input {index}"), "none").into());
        };
        // Weights are read once, so the values can nearly always be taken instead of copied.
        let Constant { shape, data } = Rc::unwrap_or_clone(constant);
        if matches!(data, Data::Integers(_)) {
            return Err(call.error(format!("floats as input {index}"), "integers").into());
        }
        self.spend::<f32>(call, &shape)?;
        let values = match data {
            Data::Floats(values) => values,
            Data::Same(value) => vec![value; elements(&shape)],
            Data::Integers(_) => Vec::new(), // refused above
        };
        Ok((shape, values))
    }

    /// Takes an array that is about to be written out from what an import may make.
    fn spend<T>(&self, call: &Call<'f>, shape: &[usize]) -> Result<()> {
        self.spend_bytes(call, elements(shape).saturating_mul(size_of::<T>()), shape)
    }

    fn spend_bytes(&self, call: &Call<'f>, bytes: usize, shape: &[usize]) -> Result<()> {
        let expected = || format!("at most {BUDGET} bytes of arrays that the file does not hold");
        let received = || format!("{bytes} more for {shape:?}");
        let left = self.budget.get().checked_sub(bytes).ok_or_else(|| call.error(expected(), received()))?;
        self.budget.set(left);
        Ok(())
    }

    /// Adds an array that the file holds to what an import may make.
    fn grant(&self, constant: &Constant) {
        self.budget.set(self.budget.get().saturating_add(constant.bytes().saturating_mul(COPIES)));
    }

    /// Whole numbers from an attribute in old versions of an operator, from an input in newer ones.
    fn integers(&self, call: &Call<'f>, attribute: &'static str, index: usize) -> Result<Option<Vec<i64>>> {
        if let Some(values) = call.ints(attribute)? {
            return Ok(Some(values.to_vec()));
        }
        let Some(constant) = self.constant_input(call, index)? else { return Ok(None) };
        let whole = constant.whole();
        whole.map(Some).ok_or_else(|| call.error(format!("whole numbers as input {index}"), "others").into())
    }

    /// A number from an attribute in old versions of an operator, from an input in newer ones.
    fn number(&self, call: &Call<'f>, attribute: &'static str, index: usize) -> Result<Option<f32>> {
        if let Some(value) = call.float(attribute)? {
            return Ok(Some(value));
        }
        let Some(constant) = self.constant_input(call, index)? else { return Ok(None) };
        match constant.floats().as_deref() {
            Some(&[value]) => Ok(Some(value)),
            _ => Err(call
                .error(format!("one number as input {index}"), format!("{:?}", constant.shape))
                .into()),
        }
    }

    /// The constant that a value is, read from the file if it is still there.
    fn resolve(&self, value: &Value) -> Result<Option<Rc<Constant>>> {
        match value {
            Value::Map(_) | Value::Partial(_) => Ok(None),
            Value::Constant(constant) => Ok(Some(constant.clone())),
            Value::Initializer(index) => {
                let constant = read(self.file, &self.initializers[*index])?;
                if !std::mem::replace(&mut self.read.borrow_mut()[*index], true) {
                    self.grant(&constant);
                }
                Ok(Some(Rc::new(constant)))
            }
        }
    }

    /// Whether nothing but one reader sees what a layer computes, so that it may still be changed for this
    /// reader.
    fn is_private(&self, name: &str, map: &Map) -> bool {
        self.uses.get(name) == Some(&1) && self.names_of.get(&map.node) == Some(&1)
    }

    /// A name for a layer, unlike all others: the weight's without its end if it has one, else the node's.
    fn name(&self, wanted: &str) -> String {
        let reserved = |name: &str| name == INPUT || self.places.contains_key(name);
        let wanted = if usable(wanted) && !wanted.starts_with(OPTIMIZER) { wanted } else { "layer" };
        if !reserved(wanted) {
            return wanted.to_owned();
        }
        let mut numbers = self.numbers.borrow_mut();
        let number = numbers.entry(wanted.to_owned()).or_insert(1);
        loop {
            *number += 1;
            let name = format!("{wanted}-{number}");
            if !reserved(&name) {
                return name;
            }
        }
    }

    /// A name after the weight that a node reads, as PyTorch names it, or else after the node.
    fn name_by_weight(&self, call: &Call<'f>, weight: usize) -> String {
        let name = call.node.input.get(weight).and_then(|name| name.strip_suffix(".weight"));
        self.name(name.filter(|name| usable(name)).unwrap_or(&call.name))
    }

    /// Adds a layer that reads maps; the result has the dimensions of the first one.
    fn add(&mut self, name: String, op: Op, inputs: &[&Map]) -> Result<Map> {
        op.operation().check(&name)?;
        let node = Node { name, inputs: inputs.iter().map(|map| map.node.clone()).collect(), op };
        let shape = infer(&node, inputs.iter().map(|map| map.shape).collect())?.output;
        let map = Map { node: node.name.clone(), shape, label: None, ..inputs[0].clone() };
        self.places.insert(node.name.clone(), self.nodes.len());
        self.shapes.insert(node.name.clone(), shape);
        self.nodes.push(node);
        Ok(map)
    }

    /// Keeps a tensor of a layer.
    fn store(&mut self, layer: &str, suffix: &str, shape: Vec<usize>, values: Vec<f32>) {
        self.weights.push(NamedTensor { name: format!("{layer}.{suffix}"), shape, values });
    }

    /// A map as a row, for layers that see all its values at once.
    fn flatten(&mut self, map: &Map, wanted: &str) -> Result<Map> {
        if map.vector {
            return Ok(map.clone());
        }
        if let Some(flat) = self.flattened.get(&map.node) {
            return Ok(flat.clone());
        }
        let name = self.name(map.label.as_deref().unwrap_or(wanted));
        let flat = Map { vector: true, ..self.add(name, Op::Flatten(Flatten {}), &[map])? };
        let flat = Map { dims: Map::canonical_dims(2), ..flat };
        self.flattened.insert(map.node.clone(), flat.clone());
        Ok(flat)
    }

    /// The finished network, its weights and its output.
    fn finish(
        mut self,
        graph: &onnx::Graph,
        output: &'f str,
        input: [usize; 3],
    ) -> Result<(Graph, Vec<NamedTensor>, Port)> {
        let Some(Value::Map(mut map)) = self.values.get(output).cloned() else {
            return Err(self.file.error("an output that depends on the image", excerpt(output)).into());
        };
        if map.rank() == 2 && map.channels_first() {
            map = self.flatten(&map, output)?;
        }
        if map.node == INPUT {
            // A network has at least one layer, be it one that changes nothing.
            let nothing = Op::Pad(Pad { padding: [0; 4], channels: [0; 2] });
            let name = self.name(output);
            map = self.add(name, nothing, &[&map])?;
        }
        let name = if usable(&graph.name) { graph.name.clone() } else { "model".to_owned() };
        let outputs = vec![Output { node: map.node.clone(), loss_weight: 1.0, loss: OutputLoss::default() }];
        let mut graph = Graph { name, input, nodes: self.nodes, outputs };
        let needed = needed(&graph.sources()?, &graph.output_nodes()?);
        let unused: HashSet<String> = graph
            .nodes
            .iter()
            .zip(&needed)
            .filter(|&(_, &needed)| !needed)
            .map(|(node, _)| node.name.clone())
            .collect();
        graph.nodes.retain(|node| !unused.contains(&node.name));
        let layer = |name: &str| name.rsplit_once('.').map(|(layer, _)| layer.to_owned());
        self.weights.retain(|tensor| layer(&tensor.name).is_none_or(|layer| !unused.contains(&layer)));
        orders(&graph, &graph.shapes()?, &graph.sources()?)?;
        let layout = ports::layout(&map);
        Ok((graph, self.weights, Port { name: output.to_owned(), layout }))
    }
}

/// A tensor of the file.
fn read(file: &File, tensor: &onnx::Tensor) -> std::result::Result<Constant, FormatError> {
    let shape = file.shape(tensor)?;
    let data = match file.values(tensor)? {
        Values::Floats(values) => Data::Floats(values),
        Values::Integers(values) => Data::Integers(values.into_iter().map(Some).collect()),
    };
    Ok(Constant { shape, data })
}
