//! What is known from definitions alone, before any kernel is built or weight drawn.

use crate::algorithms;
use crate::error::{GraphError, Result};
use crate::graph::{Graph, Node};
use crate::ops::bounds::check_elements;
use crate::parameters::ParameterInfo;
use crate::session::SessionOptions;
use crate::shapes::{NodeShape, infer};
use fovea_kernels::Isa;

/// What a session says of itself as long as it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Threads that are asked for, or as many as the process may use.
    pub threads: usize,
    /// The instruction set.
    pub isa: Isa,
    /// Values of the first output for one image.
    pub output_len: usize,
    /// Names and shapes of all parameters, in the graph's order.
    pub parameters: Vec<ParameterInfo>,
}

impl Facts {
    /// What [`Session::new`](crate::Session::new) will make of graph and options; it takes microseconds a
    /// layer.
    ///
    /// Errors: all that `Session::new` refuses, but what only a layer's kernel knows.
    pub fn new(graph: &Graph, options: &SessionOptions) -> Result<Self> {
        let threads = options.threads()?;
        let isa = options.isa.map_or_else(Isa::detect, Ok)?;
        let shapes = graph.shapes()?;
        algorithms::understand(&options.algorithms, &shapes, options.precision)?;
        let output = graph.output_nodes()?[0]; // there is one, or `shapes` had refused the graph
        let output_len = shapes.nodes[output].output.iter().product();
        let parameters = shapes.nodes.into_iter().flat_map(|node| node.tensors).collect();
        Ok(Self { threads, isa, output_len, parameters })
    }
}

/// What a node makes of inputs of these shapes, `[height, width, channels]`.
///
/// Errors: what its graph would be refused for on its account.
pub fn describe(node: &Node, inputs: &[[usize; 3]]) -> Result<NodeShape> {
    node.check(inputs.len())?;
    for input in inputs {
        if input.contains(&0) {
            let (node, expected, received) =
                (node.name.clone(), "inputs of at least one value".to_owned(), 0);
            return Err(
                GraphError::Shape { node, expected, received: received.to_string(), input: *input }.into()
            );
        }
        check_elements(&node.name, "input", input)?;
    }
    infer(node, inputs.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Session;
    use crate::testing::{
        batch_norm, chain, conv, conv_transpose, dense, lenet5, op, prelu, random_graph, scale,
    };
    use serde_json::json;

    /// Graphs with every operation that has parameters.
    fn graphs() -> Vec<Graph> {
        let mut grouped = conv(6, [3, 2]);
        grouped["groups"] = json!(2);
        let mut some = conv(3, [3, 3]);
        some["connections"] = json!([[0, 2], [1], [0, 1, 2]]);
        some["bias"] = json!(false);
        let every = [
            some,
            prelu(true),
            prelu(false),
            conv_transpose(4, [3, 3], [2, 2]),
            grouped,
            batch_norm(),
            scale(true),
            op("flatten"),
            scale(false),
            dense(7),
            batch_norm(),
        ];
        let random = (0..20).map(random_graph);
        let all = [lenet5(), crate::testing::grouped(), chain([9, 8, 3], &every)].into_iter().chain(random);
        all.map(|json| Graph::from_json(&json).unwrap()).collect()
    }

    #[test]
    fn a_session_is_what_was_said_of_it_before_it_was_made() {
        for (graph, threads) in graphs().into_iter().zip([1, 2, 3].into_iter().cycle()) {
            let options = SessionOptions { threads: Some(threads), ..Default::default() };
            let facts = Facts::new(&graph, &options).unwrap();
            let session = Session::new(graph, options).unwrap();
            assert_eq!(
                facts,
                Facts {
                    threads: session.threads(),
                    isa: session.isa(),
                    output_len: session.output_len(),
                    parameters: session.parameters()
                }
            );
        }
        let graph = Graph::from_json(&lenet5()).unwrap();
        let facts = Facts::new(&graph, &SessionOptions::default()).unwrap();
        assert_eq!(facts.threads, Session::new(graph, SessionOptions::default()).unwrap().threads());
    }

    #[test]
    fn what_a_session_refuses_is_refused_before_it_is_made() {
        let graph = || Graph::from_json(&lenet5()).unwrap();
        let held = |name: &str, algorithm: &str| SessionOptions {
            algorithms: vec![(name.to_owned(), algorithm.to_owned())],
            ..Default::default()
        };
        for options in [
            SessionOptions { threads: Some(0), ..Default::default() },
            SessionOptions { threads: Some(1 << 20), ..Default::default() },
            held("conv9", "direct"),
            held("node1", "direct"),
            held("node0.backward", "direct"),
            held("node0", "fastest"),
        ] {
            let refused = Facts::new(&graph(), &options).unwrap_err().to_string();
            assert_eq!(Session::new(graph(), options).err().unwrap().to_string(), refused);
        }
    }

    #[test]
    fn a_node_by_itself_is_described_as_in_its_graph() {
        for graph in graphs() {
            for (node, whole) in graph.nodes.iter().zip(graph.shapes().unwrap().nodes) {
                let alone = describe(node, &whole.inputs).unwrap();
                assert_eq!(serde_json::to_string(&alone).unwrap(), serde_json::to_string(&whole).unwrap());
                assert_eq!(alone.tensors, whole.tensors);
                let elements: usize =
                    alone.tensors.iter().map(|each| each.shape.iter().product::<usize>()).sum();
                // A convolution without some of its weights has them in its tensor, as zeros.
                assert!(elements as u64 >= alone.parameters);
            }
        }
    }

    #[test]
    fn a_node_that_does_not_fit_is_refused_by_itself_too() {
        let graph = Graph::from_json(&lenet5()).unwrap();
        let [conv, .., dense] = graph.nodes.as_slice() else { panic!("LeNet-5 has layers") };
        let message = |node, inputs: &[_]| describe(node, inputs).unwrap_err().to_string();
        assert!(message(conv, &[]).contains("1 input for \"node0\" but received 0"));
        assert!(message(conv, &[[4, 4, 0]]).contains("received 0 (input [4, 4, 0])"));
        assert!(message(conv, &[[1 << 20, 1 << 20, 3]]).contains("elements in the input of \"node0\""));
        assert!(message(dense, &[[4, 4, 3]]).contains("a flat input"));
    }
}
