//! Where a graph begins and ends: its input, its output, the nodes between them, and how arrays cross the
//! border.

use super::super::ImportOptions;
use super::super::layout::{Axis, Layout};
use super::value::Map;
use crate::error::Result;
use crate::graph::INPUT;
use crate::ops::bounds::MAX_ELEMENTS;
use fovea_formats::{
    FormatError, excerpt,
    onnx::{self, Dimension, File, ValueInfo, data_type},
};
use std::collections::{HashMap, HashSet};

/// What is found in a file, or what is wrong with it.
type Read<T> = std::result::Result<T, FormatError>;

/// The network's input.
pub struct Image {
    pub map: Map,
    /// The number of images, where the file fixes it.
    pub batch: Option<usize>,
}

/// The value to compute: the one that is asked for, or the first output.
pub fn output<'f>(file: &File, graph: &'f onnx::Graph, options: &'f ImportOptions) -> Result<&'f str> {
    let names: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    match (&options.output, names.first()) {
        (None, Some(first)) => Ok(first),
        (None, None) => Err(file.error("an output", "a graph without").into()),
        (Some(wanted), _) => {
            let values =
                names.into_iter().chain(graph.node.iter().flat_map(|node| &node.output).map(String::as_str));
            let mut found = values.filter(|&name| name == wanted);
            found
                .next()
                .ok_or_else(|| file.error("an output that the graph computes", excerpt(wanted)).into())
        }
    }
}

/// Positions of the nodes that lead to the output, in the file's order.
pub fn needed(file: &File, graph: &onnx::Graph, output: &str) -> Read<Vec<usize>> {
    let mut producers = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if producers.insert(name.as_str(), index).is_some() {
                return Err(file.error("each value computed once", excerpt(name)));
            }
        }
    }
    let known: HashSet<&str> =
        initializers(graph).chain(graph.input.iter().map(|input| input.name.as_str())).collect();
    let mut needed = vec![false; graph.node.len()];
    let mut open = vec![output];
    while let Some(name) = open.pop() {
        match producers.get(name) {
            Some(&index) if !needed[index] => {
                needed[index] = true;
                open.extend(
                    graph.node[index].input.iter().map(String::as_str).filter(|name| !name.is_empty()),
                );
            }
            Some(_) => {}
            None if known.contains(name) => {}
            None => {
                return Err(file
                    .error("a value for every name", format!("{}, which nothing computes", excerpt(name))));
            }
        }
    }
    let order: Vec<usize> = (0..graph.node.len()).filter(|&index| needed[index]).collect();
    for &index in &order {
        let later = graph.node[index]
            .input
            .iter()
            .find(|name| producers.get(name.as_str()).is_some_and(|&p| p >= index));
        if let Some(later) = later {
            let received = format!("{} read before it is computed, or in a cycle", excerpt(later));
            return Err(file.error("nodes in the order of their computation", received));
        }
    }
    Ok(order)
}

fn initializers(graph: &onnx::Graph) -> impl Iterator<Item = &str> {
    graph.initializer.iter().map(|tensor| tensor.name.as_str())
}

/// The one input that the nodes read and that is no constant.
pub fn input<'f>(
    file: &File,
    graph: &'f onnx::Graph,
    order: &[usize],
    options: &ImportOptions,
) -> Read<(&'f ValueInfo, Image)> {
    let constants: HashSet<&str> = initializers(graph).collect();
    let read: HashSet<&str> =
        order.iter().flat_map(|&index| &graph.node[index].input).map(String::as_str).collect();
    let free: Vec<&ValueInfo> =
        graph.input.iter().filter(|input| !constants.contains(input.name.as_str())).collect();
    let mut inputs: Vec<&ValueInfo> =
        free.iter().copied().filter(|input| read.contains(input.name.as_str())).collect();
    if inputs.is_empty() && free.len() == 1 {
        inputs = free; // a graph that gives its input back
    }
    match inputs[..] {
        [input] => Ok((input, image(file, graph, order, input, options)?)),
        _ => {
            let names: Vec<String> = inputs.iter().take(8).map(|input| excerpt(&input.name)).collect();
            let received = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            Err(file.error("one input besides constants", received))
        }
    }
}

fn image(
    file: &File,
    graph: &onnx::Graph,
    order: &[usize],
    input: &ValueInfo,
    options: &ImportOptions,
) -> Read<Image> {
    let tensor = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
    let name = excerpt(&input.name);
    let float = tensor.filter(|tensor| tensor.elem_type == data_type::FLOAT);
    let shape =
        float.ok_or_else(|| file.error(format!("an input {name} of f32"), "another type"))?.shape.as_ref();
    let shape = shape.ok_or_else(|| file.error(format!("a shape of the input {name}"), "none"))?;
    let rank = shape.dim.len();
    if !(1..=4).contains(&rank) {
        return Err(file.error(format!("1 to 4 dimensions of the input {name}"), rank.to_string()));
    }
    let mut dims = Map::canonical_dims(rank);
    if rank == 4 && only_transposed(graph, order, &input.name) {
        dims = [Axis::Batch, Axis::Height, Axis::Width, Axis::Channels].map(|axis| vec![axis]).to_vec();
    }
    let mut sizes = options.input.unwrap_or([1; 3]);
    for (dim, axes) in shape.dim.iter().zip(&dims).skip(1) {
        let axis = match axes[0] {
            _ if rank == 3 && axes.len() == 2 => 1, // a sequence is a map of height 1
            Axis::Height => 0,
            Axis::Width => 1,
            Axis::Channels | Axis::Batch => 2,
        };
        match (known(dim), options.input) {
            (Some(length), None) => sizes[axis] = length,
            (Some(length), Some(given)) if given[axis] == length => {}
            (None, Some(_)) => {}
            (Some(_), Some(given)) => {
                return Err(file.error(
                    format!("an image of the size that the input {name} states"),
                    format!("{given:?}"),
                ));
            }
            (None, None) => {
                let expected = format!("a fixed size of the input {name}, or one given beside the file");
                return Err(file.error(expected, describe(&shape.dim)));
            }
        }
    }
    let elements = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    if sizes.contains(&0) || elements.is_none_or(|elements| elements > MAX_ELEMENTS) {
        return Err(
            file.error(format!("1 to {MAX_ELEMENTS} values in the input {name}"), describe(&shape.dim))
        );
    }
    Ok(Image { map: Map::new(INPUT.to_owned(), sizes, dims), batch: known(&shape.dim[0]) })
}

/// The length of a dimension if it is a number; 0 stands for one that is negative.
fn known(dim: &Dimension) -> Option<usize> {
    dim.dim_value.map(|length| usize::try_from(length).unwrap_or(0))
}

fn describe(dims: &[Dimension]) -> String {
    let length = |dim: &Dimension| match (&dim.dim_value, &dim.dim_param) {
        (Some(length), _) => length.to_string(),
        (None, Some(name)) => excerpt(name),
        (None, None) => "?".to_owned(),
    };
    format!("[{}]", dims.iter().map(length).collect::<Vec<_>>().join(", "))
}

/// Whether all readers of the input take its channels from the end to the front: then it has them at its end.
fn only_transposed(graph: &onnx::Graph, order: &[usize], name: &str) -> bool {
    let mut readers = order
        .iter()
        .map(|&index| &graph.node[index])
        .filter(|node| node.input.iter().any(|i| i == name))
        .peekable();
    let moves_channels = |node: &onnx::Node| {
        node.op_type == "Transpose"
            && node
                .attribute
                .iter()
                .any(|attribute| attribute.name == "perm" && attribute.ints == [0, 3, 1, 2])
    };
    readers.peek().is_some() && readers.all(moves_channels)
}

/// How an array of a map's values in ONNX's order lies in the engine's.
pub fn layout(map: &Map) -> Layout {
    Layout::map(map.lengths(), map.shape, map.order())
}
