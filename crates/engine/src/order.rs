//! The order of vectors that flattened feature maps make up.
//!
//! A flatten moves nothing: inside, a row of a flattened map counts pixel by pixel, channels innermost. Files,
//! and callers as PyTorch's users know them, count channel by channel. So the order of every vector is followed
//! through the layers that treat all channels alike, to the layers that read one element differently from
//! another and to the outputs, which are reordered for callers.

use crate::autodiff::Backward;
use crate::error::{EngineError, GraphError, Result};
use crate::execute::{Memory, Step};
use crate::graph::{Graph, Source};
use crate::instruction::{Call, Instruction};
use crate::operand::{Operands, Reach};
use crate::ops::bounds::misfit;
use crate::program::ValueId;
use crate::shapes::Shapes;
use fovea_kernels::reorder::reorder;
use std::sync::Arc;

/// One map `[height, width, channels]` after the other.
pub(crate) type Order = Arc<[[usize; 3]]>;

/// Most flattened maps that the vectors of a graph are made of, a map counted once for each concatenation or
/// padding that it goes through (1.5 MB): a vector joined with itself again and again doubles them each time.
const MOST_MAPS: usize = 1 << 16;

/// For each node, the order of the vectors that it reads and writes, where they are made of flattened maps and
/// the order of their elements matters.
pub(crate) struct Orders {
    pub read: Vec<Option<Order>>,
    pub written: Vec<Option<Order>>,
}

/// Follows what a flatten leaves through the layers that treat every channel alike.
///
/// Errors: the sum, or the like, of vectors of different orders, which files could not describe, and more maps
/// in all vectors than [`MOST_MAPS`].
pub(crate) fn orders(graph: &Graph, shapes: &Shapes, sources: &[Vec<Source>]) -> Result<Orders> {
    let mut written: Vec<Option<Order>> = Vec::with_capacity(sources.len());
    let mut read = Vec::with_capacity(sources.len());
    let mut maps = 0;
    for ((node, shape), sources) in graph.nodes.iter().zip(&shapes.nodes).zip(sources) {
        let orders = sources.iter().map(|source| match *source {
            Source::Input => None,
            Source::Node(index) => written[index].clone(),
        });
        let orders: Vec<_> = orders.collect();
        let first = orders[0].clone();
        let order = node.op.operation().order(&node.name, &shape.inputs, orders)?;
        if order.is_some() && shape.output[..2] != [1, 1] {
            return Err(flattened(&node.name, shape.inputs[0])); // each pixel would have an order of its own
        }
        let made = |order: &&Order| first.as_ref().is_none_or(|first| !Arc::ptr_eq(first, order));
        maps += order.as_ref().filter(made).map_or(0, |order| order.len());
        check_maps(&node.name, maps)?;
        read.push(first);
        written.push(order);
    }
    Ok(Orders { read, written })
}

/// The order that the vectors which a node joins value by value have in common.
pub(crate) fn common_order(node: &str, orders: Vec<Option<Order>>) -> Result<Option<Order>> {
    if orders.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(GraphError::Order(node.to_owned()).into());
    }
    Ok(orders.into_iter().next().flatten())
}

/// For an operation that tells channels apart by their places, which are others inside than outside.
///
/// Errors: a vector made of flattened maps.
pub(crate) fn unordered(
    node: &str,
    inputs: &[[usize; 3]],
    orders: &[Option<Order>],
) -> Result<Option<Order>> {
    match orders.iter().any(Option::is_some) {
        true => Err(flattened(node, inputs[0])),
        false => Ok(None),
    }
}

fn flattened(node: &str, input: [usize; 3]) -> EngineError {
    misfit(node, "channels that no flatten has made of pixels", "a flattened map", input)
}

/// The order of vectors one after the other. Errors: more maps than [`MOST_MAPS`].
pub(crate) fn joined(node: &str, shapes: &[[usize; 3]], orders: Vec<Option<Order>>) -> Result<Option<Order>> {
    if orders.iter().all(Option::is_none) {
        return Ok(None);
    }
    let parts = orders.into_iter().zip(shapes);
    let parts: Vec<Order> = parts.map(|(order, &shape)| order.unwrap_or_else(|| [shape].into())).collect();
    check_maps(node, parts.iter().map(|part| part.len()).sum())?;
    Ok(Some(parts.iter().flat_map(|part| part.iter().copied()).collect()))
}

fn check_maps(node: &str, maps: usize) -> Result<()> {
    if maps <= MOST_MAPS {
        return Ok(());
    }
    let (node, what) = (node.to_owned(), "flattened maps in vectors");
    Err(GraphError::Budget { node, what, most: MOST_MAPS, received: maps }.into())
}

/// Calls `each(index outside, index inside)` for every element of rows whose elements come in such an order:
/// outside, each map's count channel by channel, inside pixel by pixel.
pub(crate) fn for_each_ordered(order: &Order, elements: usize, mut each: impl FnMut(usize, usize)) {
    let mut start = 0;
    while start < elements {
        for &[height, width, channels] in order.iter() {
            let pixels = height * width;
            for channel in 0..channels {
                for pixel in 0..pixels {
                    each(start + channel * pixels + pixel, start + pixel * channels + channel);
                }
            }
            start += pixels * channels;
        }
    }
}

/// y = x, a vector that counts pixel by pixel inside and is to count channel by channel; or the other way
/// round.
pub(crate) struct Reorder {
    /// The element of x for each of y.
    from: Arc<[u32]>,
    x: ValueId,
    y: ValueId,
}

impl Reorder {
    /// Writes a vector of this order as callers count it.
    pub fn outside(order: &Order, len: usize, x: ValueId, y: ValueId) -> Instruction {
        let mut from = vec![0; len];
        for_each_ordered(order, len, |outside, inside| from[outside] = inside as u32);
        Instruction::other(Self { from: from.into(), x, y })
    }
}

impl Call for Reorder {
    fn name(&self) -> &'static str {
        "reorder"
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.x, Reach::Whole).write(self.y, Reach::Whole)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        reorder(step.context, memory.view(self.x), &self.from, memory.view_mut(self.y));
    }

    fn backward(&mut self, backward: &mut Backward) {
        let Some(dy) = backward.gradient(self.y) else { return };
        let mut from = vec![0; self.from.len()];
        self.from.iter().enumerate().for_each(|(to, &inside)| from[inside as usize] = to as u32);
        backward.contribute(self.x, |backward, dx| {
            backward.emit(Instruction::other(Self { from: from.into(), x: dy, y: dx }));
        });
    }
}
