//! A graph made ready to run: every layer has its kernel, every parameter its place.
//!
//! All parameters lie in one buffer, so that the optimizer is one pass over it; gradients and its states lie in buffers
//! of the same layout. What a layer learns without gradients, the running statistics, is its state and lies in a
//! buffer of its own. A layer is added by an arm in `Network::layer`.

use crate::algorithms::{self, Held};
use crate::error::{GraphError, Result};
use crate::graph::{Graph, Source};
use crate::op::{Arithmetic, Conv, Function, Init, Op};
use crate::parameters::for_each_ordered;
use crate::shapes::{Geometry, NodeShape, Shapes, refused, weight_shape};
use fovea_kernels::conv2d::Conv2d;
use fovea_kernels::local_response_norm::LocalResponseNorm;
use fovea_kernels::pool2d::{AdaptiveAvgPool2d, AvgPool2d, MaxPool2d};
use fovea_kernels::{Context, Isa, View4, ViewMut4};
use std::ops::Range;
use std::sync::Arc;

/// Floats in a cache line; every tensor begins on one.
pub(crate) const LINE: usize = 16;

/// A validated graph, its kernels and the layout of its parameters.
pub(crate) struct Network {
    pub graph: Graph,
    pub shapes: Shapes,
    /// What each node reads.
    pub sources: Vec<Vec<Source>>,
    /// Positions of the output nodes.
    pub outputs: Vec<usize>,
    /// One a node.
    pub layers: Vec<Layer>,
    /// Parameters in the graph's order: a layer's weight, then its bias.
    pub parameters: Tensors,
    /// Running statistics in the graph's order: a layer's mean, then its variance.
    pub state: Tensors,
    /// Where the parameters begin that do not learn.
    pub frozen: Vec<usize>,
}

/// Tensors that share a buffer.
#[derive(Default)]
pub(crate) struct Tensors {
    pub tensors: Vec<Parameter>,
    /// Floats of the buffer.
    pub len: usize,
}

/// A node's kernel.
#[derive(Clone)]
pub(crate) enum Layer {
    Convolution(Arc<ConvolutionLayer>),
    /// The convolution that it is the input gradient of, and its bias.
    ConvTranspose(Arc<ConvolutionLayer>, Option<Arc<ChannelLayer>>),
    BatchNorm(Arc<BatchNormLayer>),
    /// A factor for each channel, or a learned slope.
    Channel(Arc<ChannelLayer>),
    MaxPool(Arc<MaxPool2d>),
    GlobalMaxPool,
    AvgPool(Arc<Averages>),
    LocalResponseNorm(LocalResponseNorm),
    Dropout {
        rate: f32,
    },
    Add,
    Arithmetic(Arithmetic),
    /// With what sums each channel of the first operand, for the gradient of the second.
    MultiplyChannels(Arc<Averages>),
    Concat,
    Pad {
        padding: [usize; 4],
        channels: [usize; 2],
    },
    Function(Function),
    /// With all codes, one after the other, in the order of what it reads.
    RadialBasis(Arc<[f32]>),
    Flatten,
    Softmax,
}

/// Windows whose values are averaged or summed, or that get the same value.
pub(crate) enum Averages {
    Windows(AvgPool2d),
    /// Of several sizes.
    Adaptive(AdaptiveAvgPool2d),
    /// Sums.
    Sums(AvgPool2d),
    /// Gives each pixel of a window the same value: what is the gradient of these sums.
    Upsample(AvgPool2d),
}

impl Averages {
    /// Its name in `explain`, and that of its backward pass.
    pub fn names(&self) -> [&'static str; 2] {
        match self {
            Self::Windows(_) => ["avgPool", "avgPoolBackward"],
            Self::Adaptive(_) => ["adaptiveAvgPool", "adaptiveAvgPoolBackward"],
            Self::Sums(_) => ["sum", "sumBackward"],
            Self::Upsample(_) => ["upsample", "upsampleBackward"],
        }
    }

    pub fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        match self {
            Self::Windows(kernel) | Self::Sums(kernel) => kernel.forward(context, x, y),
            Self::Adaptive(kernel) => kernel.forward(context, x, y),
            Self::Upsample(kernel) => kernel.backward(context, x, y),
        }
    }

    pub fn backward(&self, context: Context, dy: View4, dx: ViewMut4) {
        match self {
            Self::Windows(kernel) | Self::Sums(kernel) => kernel.backward(context, dy, dx),
            Self::Adaptive(kernel) => kernel.backward(context, dy, dx),
            Self::Upsample(kernel) => kernel.forward(context, dy, dx),
        }
    }
}

/// A convolution or dense layer: kernel and places of its parameters.
pub(crate) struct ConvolutionLayer {
    pub name: String,
    /// Its node's position in the graph.
    pub index: usize,
    pub kernel: Conv2d,
    pub mult_adds: u64,
    /// Place of the weight, in the kernel's layout.
    pub weight: Range<usize>,
    /// Place of the bias, after the weight.
    pub bias: Option<Range<usize>>,
    pub role: ConvolutionRole,
    /// The weights that it has, if it leaves some out.
    pub connections: Option<Connections>,
}

/// Which weights a convolution has.
pub(crate) struct Connections {
    /// In the kernel's layout, 1 for a weight that it has, otherwise 0.
    pub mask: Vec<f32>,
    /// Input channels of each filter.
    pub channels: Vec<usize>,
}

/// What a convolution's kernel is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConvolutionRole {
    Convolution,
    /// A fully connected layer.
    Dense,
    /// Its input gradient is the forward pass of a transposed convolution, and its forward pass that one's gradient.
    Transposed,
}

impl ConvolutionRole {
    /// Of a node's kernel, by its operation.
    fn of(op: &str) -> Self {
        match op {
            "dense" => Self::Dense,
            "convTranspose" => Self::Transposed,
            _ => Self::Convolution,
        }
    }
}

/// A layer that treats all pixels alike, with learned numbers for each channel.
pub(crate) struct ChannelLayer {
    pub name: String,
    pub function: ChannelFunction,
    /// Place of the weight.
    pub weight: Option<Range<usize>>,
    /// Place of the bias, behind the weight.
    pub bias: Option<Range<usize>>,
}

impl ChannelLayer {
    /// Its name in `explain`, and those of the gradients of its numbers and of x.
    pub fn names(&self) -> [&'static str; 3] {
        match self.function {
            ChannelFunction::Scale if self.weight.is_none() => {
                ["bias", "biasBackwardWeight", "biasBackwardInput"]
            }
            ChannelFunction::Scale => ["scale", "scaleBackwardWeight", "scaleBackwardInput"],
            ChannelFunction::Prelu => ["prelu", "preluBackwardWeight", "preluBackwardInput"],
        }
    }
}

/// What such a layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChannelFunction {
    /// x weight + bias, of which it has one or both.
    Scale,
    /// x where it is positive, otherwise weight x.
    Prelu,
}

/// Batch normalization: hyperparameters and places of its vectors, each with an element a channel.
pub(crate) struct BatchNormLayer {
    pub name: String,
    pub channels: usize,
    pub epsilon: f32,
    pub momentum: f32,
    /// Places among the parameters.
    pub weight: Range<usize>,
    pub bias: Range<usize>,
    /// Places in the state.
    pub mean: Range<usize>,
    pub variance: Range<usize>,
}

impl ConvolutionLayer {
    /// Places of weight and bias.
    pub fn parameters(&self) -> [Option<&Range<usize>>; 2] {
        [Some(&self.weight), self.bias.as_ref()]
    }
}

impl ChannelLayer {
    /// Places of weight and bias.
    pub fn parameters(&self) -> [Option<&Range<usize>>; 2] {
        [self.weight.as_ref(), self.bias.as_ref()]
    }
}

impl BatchNormLayer {
    /// Places of weight and bias.
    pub fn parameters(&self) -> [Option<&Range<usize>>; 2] {
        [Some(&self.weight), Some(&self.bias)]
    }
}

/// A tensor that files hold: a parameter, or one of a layer's state.
pub(crate) struct Parameter {
    /// Its name in files.
    pub name: String,
    /// Its shape in files, PyTorch's order.
    pub shape: Vec<usize>,
    /// Its place in its buffer.
    pub place: Range<usize>,
    pub role: Role,
    /// The order of its inputs, or of its elements if it is a vector, where files and kernels differ.
    pub order: Option<Order>,
}

/// The elements of a vector that flattened feature maps make up, one map `[height, width, channels]` after the other: files
/// have each in PyTorch's order, channels outermost, the kernels in their own, channels innermost.
pub(crate) type Order = Vec<[usize; 3]>;

/// How a tensor begins and how it is stored.
pub(crate) enum Role {
    Weight {
        layer: Arc<ConvolutionLayer>,
        init: Init,
    },
    /// As it is in files.
    Vector {
        initial: f32,
    },
}

impl Tensors {
    /// The next `len` floats, from the beginning of a cache line.
    fn place(&mut self, len: usize) -> Range<usize> {
        let start = self.len;
        self.len = (start + len).next_multiple_of(LINE);
        start..start + len
    }

    /// Adds a vector of which every element begins as `initial`.
    fn vector(&mut self, name: String, len: usize, initial: f32, order: Option<Order>) -> Range<usize> {
        let place = self.place(len);
        self.tensors.push(Parameter::vector(name, place.clone(), initial, order));
        place
    }
}

impl Parameter {
    fn vector(name: String, place: Range<usize>, initial: f32, order: Option<Order>) -> Self {
        Self { name, shape: vec![place.len()], place, role: Role::Vector { initial }, order }
    }
}

impl Network {
    /// Infers shapes, builds kernels for `isa` and lays out the parameters.
    #[cfg(test)]
    pub fn new(graph: Graph, isa: Isa) -> Result<Self> {
        Self::holding(graph, isa, &[])
    }

    /// Infers shapes, builds kernels for `isa`, holds them to their algorithms and lays out the parameters.
    pub fn holding(graph: Graph, isa: Isa, held: &[Held]) -> Result<Self> {
        let shapes = graph.shapes()?;
        let sources = graph.sources()?;
        let outputs = graph.output_nodes()?;
        let orders = orders(&shapes, &sources)?.read;
        let mut network = Self {
            layers: Vec::with_capacity(graph.nodes.len()),
            parameters: Tensors::default(),
            state: Tensors::default(),
            frozen: Vec::new(),
            graph,
            shapes,
            sources,
            outputs,
        };
        for (index, order) in orders.into_iter().enumerate() {
            let layer = network.layer(index, isa, held, order)?;
            network.layers.push(layer);
        }
        Ok(network)
    }

    /// The batch normalizations in the graph's order.
    pub fn norms(&self) -> impl Iterator<Item = &BatchNormLayer> {
        self.layers.iter().filter_map(|layer| match layer {
            Layer::BatchNorm(norm) => Some(norm.as_ref()),
            _ => None,
        })
    }

    /// Whether any of a layer's parameters learns.
    pub fn trains(&self, [weight, bias]: [Option<&Range<usize>>; 2]) -> bool {
        [weight, bias].into_iter().flatten().any(|place| !self.frozen.contains(&place.start))
    }

    /// Builds the kernel of a node, which reads a vector of this order, and places its parameters behind those that are
    /// there.
    fn layer(&mut self, index: usize, isa: Isa, held: &[Held], order: Option<Order>) -> Result<Layer> {
        let NodeShape { name, op, inputs, geometry, .. } = self.shapes.nodes[index].clone();
        let refused = |error: &dyn std::fmt::Display| refused(&name, error, inputs[0]);
        let convolution = |shape| {
            let mut kernel = Conv2d::new(shape, isa).map_err(|error| refused(&error))?;
            algorithms::hold(held, index, ConvolutionRole::of(op), &mut kernel).map(|()| kernel)
        };
        Ok(match geometry {
            Geometry::Convolution { shape, bias, init, .. } => {
                Layer::Convolution(self.convolution(index, convolution(shape)?, bias, init, order))
            }
            Geometry::RadialBasis => Layer::RadialBasis(self.codes(index, order)),
            Geometry::ConvTranspose { shape, bias, init } => {
                let filters = shape.input[2];
                let layer = self.convolution(index, convolution(shape)?, false, init, None);
                let bias = bias.then(|| self.parameters.vector(format!("{name}.bias"), filters, 0.0, None));
                let function = ChannelFunction::Scale;
                let bias = bias.map(|bias| ChannelLayer { name, function, weight: None, bias: Some(bias) });
                Layer::ConvTranspose(layer, bias.map(Arc::new))
            }
            Geometry::Scale { channels, bias } => {
                let mut vector = |suffix, initial| {
                    self.parameters.vector(format!("{name}.{suffix}"), channels, initial, order.clone())
                };
                let weight = Some(vector("weight", 1.0));
                let bias = bias.then(|| vector("bias", 0.0));
                Layer::Channel(Arc::new(ChannelLayer {
                    name,
                    function: ChannelFunction::Scale,
                    weight,
                    bias,
                }))
            }
            Geometry::Prelu { weights } => {
                let order = order.filter(|_| weights > 1);
                let weight = self.parameters.vector(format!("{name}.weight"), weights, 0.25, order);
                let (function, weight) = (ChannelFunction::Prelu, Some(weight));
                Layer::Channel(Arc::new(ChannelLayer { name, function, weight, bias: None }))
            }
            Geometry::BatchNorm { channels, epsilon, momentum } => {
                let mut vector = |tensors: fn(&mut Self) -> &mut Tensors, suffix, initial| {
                    tensors(self).vector(format!("{name}.{suffix}"), channels, initial, order.clone())
                };
                let weight = vector(|network| &mut network.parameters, "weight", 1.0);
                let bias = vector(|network| &mut network.parameters, "bias", 0.0);
                let mean = vector(|network| &mut network.state, "running_mean", 0.0);
                let variance = vector(|network| &mut network.state, "running_var", 1.0);
                let layer =
                    BatchNormLayer { name, channels, epsilon, momentum, weight, bias, mean, variance };
                Layer::BatchNorm(Arc::new(layer))
            }
            Geometry::MaxPool(shape) => {
                Layer::MaxPool(Arc::new(MaxPool2d::new(shape).map_err(|error| refused(&error))?))
            }
            Geometry::AvgPool { shape, count_include_pad } => {
                let kernel = AvgPool2d::new(shape, count_include_pad).map_err(|error| refused(&error))?;
                Layer::AvgPool(Arc::new(Averages::Windows(kernel)))
            }
            Geometry::AdaptiveAvgPool { input, size } => {
                let kernel = AdaptiveAvgPool2d::new(input, size).map_err(|error| refused(&error))?;
                Layer::AvgPool(Arc::new(Averages::Adaptive(kernel)))
            }
            Geometry::Upsample(shape) => {
                let kernel = AvgPool2d::sums(shape).map_err(|error| refused(&error))?;
                Layer::AvgPool(Arc::new(Averages::Upsample(kernel)))
            }
            Geometry::GlobalMaxPool => Layer::GlobalMaxPool,
            Geometry::LocalResponseNorm(norm) => Layer::LocalResponseNorm(norm),
            Geometry::Dropout { rate } => Layer::Dropout { rate },
            Geometry::Add => Layer::Add,
            Geometry::Arithmetic(operation) => Layer::Arithmetic(operation),
            Geometry::MultiplyChannels(shape) => {
                let kernel = AvgPool2d::sums(shape).map_err(|error| refused(&error))?;
                Layer::MultiplyChannels(Arc::new(Averages::Sums(kernel)))
            }
            Geometry::Concat => Layer::Concat,
            Geometry::Pad { padding, channels } => Layer::Pad { padding, channels },
            Geometry::Function(function) => Layer::Function(function),
            Geometry::Flatten => Layer::Flatten,
            Geometry::Softmax => Layer::Softmax,
        })
    }

    /// Places the parameters of a convolution, transposed convolution or dense layer; only the last one's inputs may come in another order.
    fn convolution(
        &mut self,
        index: usize,
        kernel: Conv2d,
        bias: bool,
        init: Init,
        order: Option<Order>,
    ) -> Arc<ConvolutionLayer> {
        let NodeShape { name, op, mult_adds, .. } = self.shapes.nodes[index].clone();
        let [out, inputs, height, width] = weight_shape(kernel.shape());
        let role = ConvolutionRole::of(op);
        let dense = role == ConvolutionRole::Dense;
        let shape = if dense { vec![out, inputs] } else { vec![out, inputs, height, width] };
        let weight = self.parameters.place(kernel.weight_len());
        let bias = bias.then(|| self.parameters.place(out));
        let connections = self.connections(index, &kernel);
        let layer =
            Arc::new(ConvolutionLayer { name, index, kernel, mult_adds, weight, bias, role, connections });
        self.parameters.tensors.push(Parameter {
            name: format!("{}.weight", layer.name),
            shape,
            place: layer.weight.clone(),
            role: Role::Weight { layer: Arc::clone(&layer), init },
            order: order.filter(|_| dense),
        });
        if let Some(place) = layer.bias.clone() {
            let name = format!("{}.bias", layer.name);
            self.parameters.tensors.push(Parameter::vector(name, place, 0.0, None));
        }
        layer
    }
}

impl Network {
    /// Which weights the convolution of a node has, if it leaves some out.
    fn connections(&self, index: usize, kernel: &Conv2d) -> Option<Connections> {
        let Op::Conv(Conv { connections: Some(connections), .. }) = &self.graph.nodes[index].op else {
            return None;
        };
        let [_, channels, height, width] = weight_shape(kernel.shape());
        let of_filter = |list: &Vec<usize>| {
            let has = |channel| if list.contains(&channel) { 1.0 } else { 0.0 };
            (0..channels)
                .flat_map(|channel| std::iter::repeat_n(has(channel), height * width))
                .collect::<Vec<_>>()
        };
        let oihw: Vec<f32> = connections.iter().flat_map(of_filter).collect();
        let mut mask = vec![0.0; kernel.weight_len()];
        kernel.pack_weight(&oihw, &mut mask);
        Some(Connections { mask, channels: connections.iter().map(Vec::len).collect() })
    }

    /// The codes of a node that measures distances, one after the other; `order` is that of the vector it reads.
    fn codes(&self, index: usize, order: Option<Order>) -> Arc<[f32]> {
        let Op::RadialBasis(basis) = &self.graph.nodes[index].op else { return Arc::new([]) };
        let outside: Vec<f32> = basis.codes.concat();
        let mut inside = outside.clone();
        if let Some(order) = order {
            for_each_ordered(&order, outside.len(), |from, to| inside[to] = outside[from]);
        }
        inside.into()
    }
}

/// For each node, the order of the vectors that it reads and writes, where they are made of flattened maps and the order
/// of their elements matters.
pub(crate) struct Orders {
    pub read: Vec<Option<Order>>,
    pub written: Vec<Option<Order>>,
}

/// Follows what a flatten leaves through the layers that treat every channel alike.
///
/// Errors: the sum, or the like, of vectors of different orders, which files could not describe.
pub(crate) fn orders(shapes: &Shapes, sources: &[Vec<Source>]) -> Result<Orders> {
    let mut written: Vec<Option<Order>> = Vec::with_capacity(sources.len());
    let mut read = Vec::with_capacity(sources.len());
    for (node, sources) in shapes.nodes.iter().zip(sources) {
        let orders = sources.iter().map(|source| match *source {
            Source::Input => None,
            Source::Node(index) => written[index].clone(),
        });
        let orders: Vec<_> = orders.collect();
        let [height, width, channels] = node.inputs[0];
        read.push(orders[0].clone());
        written.push(match node.geometry {
            Geometry::Flatten if height * width > 1 && channels > 1 => Some(vec![node.inputs[0]]),
            Geometry::Convolution { .. } | Geometry::ConvTranspose { .. } | Geometry::RadialBasis => None,
            Geometry::Add | Geometry::Arithmetic(_) | Geometry::MultiplyChannels(_)
                if orders[0] != orders[1] =>
            {
                return Err(GraphError::Order(node.name.clone()).into());
            }
            Geometry::Concat => joined(&node.inputs, orders),
            Geometry::Pad { channels: [before, after], .. } => {
                let [zeros_before, zeros_after] = [before, after].map(|zeros| [1, 1, zeros]);
                joined(&[zeros_before, node.inputs[0], zeros_after], vec![None, orders[0].clone(), None])
            }
            _ => orders.into_iter().next().flatten(),
        });
    }
    Ok(Orders { read, written })
}

/// The order of vectors one after the other.
fn joined(shapes: &[[usize; 3]], orders: Vec<Option<Order>>) -> Option<Order> {
    orders.iter().any(Option::is_some).then(|| {
        let part = |(order, &shape): (Option<Order>, _)| order.unwrap_or_else(|| vec![shape]);
        orders.into_iter().zip(shapes).flat_map(part).collect()
    })
}
