//! A graph made ready to run: every layer has its kernel, every parameter its place.
//!
//! All parameters lie in one buffer, so that the optimizer is one pass over it; gradients and its states lie in
//! buffers of the same layout. What a layer learns without gradients, the running statistics, is its state and
//! lies in a buffer of its own.

use crate::algorithms::{self, Held};
use crate::error::{EngineError, GraphError, Result};
use crate::graph::{Graph, Source};
use crate::lower::Lower;
use crate::ops::batch_norm::BatchNormLayer;
use crate::ops::bounds::refused;
use crate::ops::convolution::{ConvolutionLayer, ConvolutionRole, Init};
use crate::order::{Order, Orders, orders};
use crate::shapes::{NodeShape, Shapes};
use fovea_kernels::Isa;
use fovea_kernels::conv2d::{Conv2d, Conv2dShape};
use std::fmt::Display;
use std::ops::Range;
use std::sync::Arc;

/// Floats in a cache line; every tensor begins on one.
pub(crate) const LINE: usize = 16;

/// Most bytes of the masks of all convolutions that leave out connections: a short list of them may mean large
/// kernels.
const MOST_MASKED: usize = 1 << 30;

/// A validated graph, its kernels and the layout of its parameters.
pub(crate) struct Network {
    pub graph: Graph,
    pub shapes: Shapes,
    /// What each node reads.
    pub sources: Vec<Vec<Source>>,
    /// Positions of the output nodes.
    pub outputs: Vec<usize>,
    /// The order of each output, where it is a vector made of flattened maps.
    pub output_orders: Vec<Option<Order>>,
    /// One a node: what it appends to programs.
    pub layers: Vec<Lower>,
    /// The batch normalizations in the graph's order.
    pub norms: Vec<Arc<BatchNormLayer>>,
    /// Parameters in the graph's order: a layer's weight, then its bias.
    pub parameters: Tensors,
    /// Running statistics in the graph's order: a layer's mean, then its variance.
    pub state: Tensors,
    /// Where the parameters begin that do not learn.
    pub frozen: Vec<usize>,
    /// Bytes of the masks of all convolutions that leave out connections.
    masked: usize,
}

/// Tensors that share a buffer.
#[derive(Default)]
pub(crate) struct Tensors {
    pub tensors: Vec<Parameter>,
    /// Floats of the buffer.
    pub len: usize,
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
    pub fn place(&mut self, len: usize) -> Range<usize> {
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
    pub fn vector(name: String, place: Range<usize>, initial: f32, order: Option<Order>) -> Self {
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
        let Orders { read, written } = orders(&graph, &shapes, &sources)?;
        let mut network = Self {
            layers: Vec::with_capacity(graph.nodes.len()),
            norms: Vec::new(),
            parameters: Tensors::default(),
            state: Tensors::default(),
            frozen: Vec::new(),
            masked: 0,
            graph,
            shapes,
            sources,
            output_orders: outputs.iter().map(|&output| written[output].clone()).collect(),
            outputs,
        };
        for (index, order) in read.into_iter().enumerate() {
            let op = network.graph.nodes[index].op.clone();
            let mut building = Building { network: &mut network, index, isa, held, order };
            let layer = op.operation().layer(&mut building)?;
            network.layers.push(layer);
        }
        Ok(network)
    }

    /// Whether any of a layer's parameters learns.
    pub fn trains(&self, [weight, bias]: [Option<&Range<usize>>; 2]) -> bool {
        [weight, bias].into_iter().flatten().any(|place| !self.frozen.contains(&place.start))
    }
}

/// A network under way, and the node whose turn it is: what its operation builds its layer with.
pub(crate) struct Building<'a> {
    network: &'a mut Network,
    index: usize,
    isa: Isa,
    held: &'a [Held],
    /// The order of the vector that the node reads, if it is made of flattened maps.
    pub order: Option<Order>,
}

impl Building<'_> {
    /// The node's position in the graph.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What the node reads and writes.
    pub fn shape(&self) -> &NodeShape {
        &self.network.shapes.nodes[self.index]
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.shape().name
    }

    /// The network's parameters so far.
    pub fn parameters(&mut self) -> &mut Tensors {
        &mut self.network.parameters
    }

    /// A vector that is learned, of which every element begins as `initial`: its place behind the parameters so
    /// far.
    pub fn parameter(
        &mut self,
        suffix: &str,
        len: usize,
        initial: f32,
        order: Option<Order>,
    ) -> Range<usize> {
        let name = format!("{}.{suffix}", self.name());
        self.network.parameters.vector(name, len, initial, order)
    }

    /// As [`Self::parameter`], for a vector that follows from what training sees.
    pub fn state(&mut self, suffix: &str, len: usize, initial: f32, order: Option<Order>) -> Range<usize> {
        let name = format!("{}.{suffix}", self.name());
        self.network.state.vector(name, len, initial, order)
    }

    /// Tells the network of a batch normalization.
    pub fn norm(&mut self, layer: &Arc<BatchNormLayer>) {
        self.network.norms.push(Arc::clone(layer));
    }

    /// The kernel of a convolution, held to the algorithms that are asked for.
    pub fn kernel(&self, shape: Conv2dShape, role: ConvolutionRole) -> Result<Conv2d> {
        let mut kernel = Conv2d::new(shape, self.isa).map_err(|error| self.refused(error))?;
        algorithms::hold(self.held, self.index, role, &mut kernel).map(|()| kernel)
    }

    /// Counts the mask of a convolution of so many weights, once in the order of files and once in the
    /// kernel's.
    ///
    /// Errors: masks of more memory than any lists that a person wrote could mean.
    pub fn mask(&mut self, weights: usize) -> Result<()> {
        let bytes = self.network.masked.saturating_add(weights.saturating_mul(2 * size_of::<f32>()));
        if bytes > MOST_MASKED {
            let (node, what) = (self.name().to_owned(), "bytes of masks for connections");
            return Err(GraphError::Budget { node, what, most: MOST_MASKED, received: bytes }.into());
        }
        self.network.masked = bytes;
        Ok(())
    }

    /// A geometry that the kernel refuses.
    pub fn refused(&self, error: impl Display) -> EngineError {
        refused(self.name(), error, self.shape().inputs[0])
    }
}
