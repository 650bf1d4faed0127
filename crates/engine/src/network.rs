//! A graph made ready to run: every layer has its kernel, every parameter its place.
//!
//! All parameters lie in one buffer, so that the optimizer is one pass over it; gradients and velocities lie in buffers
//! of the same layout. A layer is added by an arm in `Network::layer`.

use crate::error::Result;
use crate::graph::{Graph, Init, Source};
use crate::shapes::{Geometry, NodeShape, Shapes, refused, weight_shape};
use fovea_kernels::Isa;
use fovea_kernels::conv2d::Conv2d;
use fovea_kernels::pool2d::{AvgPool2d, MaxPool2d};
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
    pub parameters: Vec<Parameter>,
    /// Floats of the buffer that holds all parameters.
    pub parameter_len: usize,
}

/// A node's kernel.
#[derive(Clone)]
pub(crate) enum Layer {
    Convolution(Arc<ConvolutionLayer>),
    MaxPool(Arc<MaxPool2d>),
    AvgPool(Arc<AvgPool2d>),
    Relu,
    Tanh,
    Flatten,
    Softmax,
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
    dense: bool,
}

impl ConvolutionLayer {
    /// Whether it is a fully connected layer.
    pub fn is_dense(&self) -> bool {
        self.dense
    }
}

/// A parameter tensor.
pub(crate) struct Parameter {
    /// Its name in files.
    pub name: String,
    /// Its shape in files, PyTorch's order.
    pub shape: Vec<usize>,
    /// Its place in the parameter buffer.
    pub place: Range<usize>,
    pub role: Role,
}

/// How a tensor begins and how it is stored.
pub(crate) enum Role {
    Weight {
        layer: Arc<ConvolutionLayer>,
        init: Init,
        /// The feature map `[height, width, channels]` whose flattened pixels are the inputs of this dense layer:
        /// files have them in PyTorch's order, channels outermost, the kernel in its own, channels innermost.
        flattened: Option<[usize; 3]>,
    },
    Bias,
}

impl Network {
    /// Infers shapes, builds kernels for `isa` and lays out the parameters.
    pub fn new(graph: Graph, isa: Isa) -> Result<Self> {
        let shapes = graph.shapes()?;
        let sources = graph.sources()?;
        let outputs = graph.output_nodes()?;
        let flattened = flattened_maps(&shapes, &sources);
        let mut network = Self {
            layers: Vec::with_capacity(graph.nodes.len()),
            parameters: Vec::new(),
            parameter_len: 0,
            graph,
            shapes,
            sources,
            outputs,
        };
        for index in 0..network.graph.nodes.len() {
            let layer = network.layer(index, isa, flattened[index])?;
            network.layers.push(layer);
        }
        Ok(network)
    }

    /// Builds the kernel of a node and places its parameters behind those that are there.
    fn layer(&mut self, index: usize, isa: Isa, flattened: Option<[usize; 3]>) -> Result<Layer> {
        let NodeShape { name, inputs, geometry, op, .. } = self.shapes.nodes[index].clone();
        let refused = |error: &dyn std::fmt::Display| refused(&name, error, inputs[0]);
        Ok(match geometry {
            Geometry::Convolution { shape, bias, init } => {
                let kernel = Conv2d::new(shape, isa).map_err(|error| refused(&error))?;
                let weight = self.place(kernel.weight_len());
                let bias = bias.then(|| self.place(shape.filters));
                let mult_adds = shape.mult_adds();
                let dense = op == "dense";
                let layer =
                    Arc::new(ConvolutionLayer { name, index, kernel, mult_adds, weight, bias, dense });
                let flattened = flattened.filter(|_| dense);
                self.convolution_parameters(&layer, init, flattened);
                Layer::Convolution(layer)
            }
            Geometry::MaxPool(shape) => {
                Layer::MaxPool(Arc::new(MaxPool2d::new(shape).map_err(|error| refused(&error))?))
            }
            Geometry::AvgPool { shape, count_include_pad } => {
                let kernel = AvgPool2d::new(shape, count_include_pad).map_err(|error| refused(&error))?;
                Layer::AvgPool(Arc::new(kernel))
            }
            Geometry::Relu => Layer::Relu,
            Geometry::Tanh => Layer::Tanh,
            Geometry::Flatten => Layer::Flatten,
            Geometry::Softmax => Layer::Softmax,
        })
    }

    /// The next `len` floats of the parameter buffer, from the beginning of a cache line.
    fn place(&mut self, len: usize) -> Range<usize> {
        let start = self.parameter_len;
        self.parameter_len = (start + len).next_multiple_of(LINE);
        start..start + len
    }

    fn convolution_parameters(
        &mut self,
        layer: &Arc<ConvolutionLayer>,
        init: Init,
        flattened: Option<[usize; 3]>,
    ) {
        let [out, inputs, height, width] = weight_shape(layer.kernel.shape());
        self.parameters.push(Parameter {
            name: format!("{}.weight", layer.name),
            shape: if layer.dense { vec![out, inputs] } else { vec![out, inputs, height, width] },
            place: layer.weight.clone(),
            role: Role::Weight { layer: Arc::clone(layer), init, flattened },
        });
        if let Some(place) = layer.bias.clone() {
            let name = format!("{}.bias", layer.name);
            self.parameters.push(Parameter { name, shape: vec![out], place, role: Role::Bias });
        }
    }
}

/// For each node, the feature map whose flattened pixels it reads, if any and if the order of its elements matters:
/// what a flatten leaves passes through layers that treat every channel alike.
fn flattened_maps(shapes: &Shapes, sources: &[Vec<Source>]) -> Vec<Option<[usize; 3]>> {
    let mut written: Vec<Option<[usize; 3]>> = Vec::with_capacity(sources.len());
    let mut read = Vec::with_capacity(sources.len());
    for (node, sources) in shapes.nodes.iter().zip(sources) {
        let origin = match sources[0] {
            Source::Input => None,
            Source::Node(index) => written[index],
        };
        let [height, width, channels] = node.inputs[0];
        read.push(origin);
        written.push(match node.geometry {
            Geometry::Flatten if height * width > 1 && channels > 1 => Some(node.inputs[0]),
            Geometry::Flatten | Geometry::Relu | Geometry::Tanh | Geometry::Softmax => origin,
            Geometry::Convolution { .. } | Geometry::MaxPool(_) | Geometry::AvgPool { .. } => None,
        });
    }
    read
}
