//! Shapes and counts of layers, before there is a session: microseconds each, so that a builder may wait.

use fovea_engine::{Graph, Node, NodeShape};
use napi_derive::napi;

use crate::error::{Result, from_engine, invalid_argument};
use crate::options;

/// What a layer makes of one image.
#[napi(object)]
pub struct NodeDescription {
    /// `[height, width, channels]`; a vector is `[1, 1, n]`.
    pub output: Vec<f64>,
    /// Numbers that training changes.
    pub parameters: f64,
    /// Multiplications, each with its addition, of convolutions and dense layers.
    pub mult_adds: f64,
}

/// Describes a layer by itself.
///
/// @param node its definition, as JSON
/// @param inputs heights, widths and channels of all that it reads, one after the other
/// @throws `INVALID_SHAPE` when it does not fit its inputs, `INVALID_ARGUMENT` when an option is out of range,
/// `INVALID_GRAPH` when it is no layer or has another number of inputs
#[napi(catch_unwind)]
pub fn describe_node(node: String, inputs: Vec<f64>) -> Result<NodeDescription> {
    let node = Node::from_json(&node).map_err(from_engine)?;
    let sizes = options::shape(&inputs, 1)?;
    let (inputs, []) = sizes.as_chunks() else {
        return Err(invalid_argument("inputs", "three sizes for each", sizes.len()));
    };
    fovea_engine::describe(&node, inputs).map(|shape| NodeDescription::from(&shape)).map_err(from_engine)
}

/// Describes every layer of a network, in the graph's order.
///
/// @param graph its definition, as JSON
/// @throws as `describeNode`, and `INVALID_GRAPH` when its layers make no network
#[napi(catch_unwind)]
pub fn describe_graph(graph: String) -> Result<Vec<NodeDescription>> {
    let shapes = Graph::from_json(&graph).and_then(|graph| graph.shapes()).map_err(from_engine)?;
    Ok(shapes.nodes.iter().map(NodeDescription::from).collect())
}

impl From<&NodeShape> for NodeDescription {
    fn from(shape: &NodeShape) -> Self {
        Self {
            output: shape.output.map(|size| size as f64).to_vec(),
            parameters: shape.parameters as f64,
            mult_adds: shape.mult_adds as f64,
        }
    }
}
