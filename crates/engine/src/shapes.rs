//! Shape inference: what every node reads and writes, how many parameters it has and what it costs.

use crate::error::Result;
use crate::graph::{Graph, INPUT, Node, Source};
use crate::ops::Inferred;
use crate::ops::bounds::check_elements;
use crate::parameters::ParameterInfo;
use serde::Serialize;

/// Shapes and costs of a graph's nodes, in the graph's order, and their totals.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shapes {
    /// One entry a node.
    pub nodes: Vec<NodeShape>,
    /// Learned numbers of all nodes.
    pub parameters: u64,
    /// Multiply-adds of all convolutions and dense layers, one image.
    pub mult_adds: u64,
}

/// Shapes are `[height, width, channels]`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeShape {
    /// Name of the node.
    pub name: String,
    /// Name of its operation.
    pub op: &'static str,
    /// What it reads.
    pub inputs: Vec<[usize; 3]>,
    /// What it writes.
    pub output: [usize; 3],
    /// Names and shapes of its parameters, in PyTorch's order: its weight, then its bias.
    #[serde(skip)]
    pub tensors: Vec<ParameterInfo>,
    /// Learned numbers: those of the tensors, without the zeros of filters that do not see all channels.
    pub parameters: u64,
    /// Multiply-adds for one image; zero for all but convolutions and dense layers.
    pub mult_adds: u64,
}

impl Graph {
    /// Validates the graph and infers all shapes.
    ///
    /// Errors: whatever [`Graph::validate`] finds, and layers that do not fit their inputs.
    pub fn shapes(&self) -> Result<Shapes> {
        self.validate()?;
        check_elements(INPUT, "feature map", &self.input)?;
        let mut nodes: Vec<NodeShape> = Vec::with_capacity(self.nodes.len());
        for (node, sources) in self.nodes.iter().zip(self.sources()?) {
            let inputs = sources.iter().map(|source| match *source {
                Source::Input => self.input,
                Source::Node(index) => nodes[index].output,
            });
            let shape = infer(node, inputs.collect())?;
            nodes.push(shape);
        }
        let parameters = nodes.iter().map(|node| node.parameters).sum();
        let mult_adds = nodes.iter().map(|node| node.mult_adds).sum();
        Ok(Shapes { nodes, parameters, mult_adds })
    }
}

/// What a node makes of inputs of these shapes; its hyperparameters have been checked and its inputs counted.
pub(crate) fn infer(node: &Node, inputs: Vec<[usize; 3]>) -> Result<NodeShape> {
    let Inferred { output, tensors, parameters, mult_adds } =
        node.op.operation().infer(&node.name, &inputs)?;
    check_elements(&node.name, "output", &output)?;
    let (name, op) = (node.name.clone(), node.op.name());
    let named = |(suffix, shape)| ParameterInfo { name: format!("{name}.{suffix}"), shape };
    let tensors = tensors.into_iter().map(named).collect();
    Ok(NodeShape { name, op, inputs, output, tensors, parameters, mult_adds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{chain, lenet5};
    use serde_json::json;

    fn output(input: [usize; 3], op: serde_json::Value) -> Result<[usize; 3]> {
        Ok(Graph::from_json(&chain(input, &[op]))?.shapes()?.nodes[0].output)
    }

    fn conv(
        kernel: usize,
        stride: usize,
        padding: serde_json::Value,
        dilation: usize,
        groups: usize,
    ) -> serde_json::Value {
        json!({"op": "conv", "filters": 4, "kernel": [kernel, kernel], "stride": [stride, stride], "padding": padding,
               "dilation": [dilation, dilation], "groups": groups, "bias": true, "init": "kaiming"})
    }

    #[test]
    fn lenet5_has_the_parameters_and_the_cost_of_the_literature() {
        let shapes = Graph::from_json(&lenet5()).unwrap().shapes().unwrap();
        assert_eq!((shapes.parameters, shapes.mult_adds), (61_706, 416_520));
        let outputs: Vec<_> = shapes.nodes.iter().map(|node| node.output).collect();
        assert_eq!(outputs[0], [28, 28, 6]);
        assert_eq!(outputs[6], [1, 1, 400]);
        assert_eq!(outputs.last(), Some(&[1, 1, 10]));
    }

    #[test]
    fn same_padding_gives_the_input_over_the_stride_rounded_up() {
        for side in 5..12 {
            for (kernel, stride, dilation) in
                [(3, 1, 1), (3, 2, 1), (5, 3, 1), (2, 1, 1), (3, 1, 2), (1, 4, 1)]
            {
                let shape =
                    output([side, side, 2], conv(kernel, stride, json!("same"), dilation, 1)).unwrap();
                let expected = side.div_ceil(stride);
                assert_eq!(shape, [expected, expected, 4], "{side} {kernel} {stride} {dilation}");
            }
        }
    }

    #[test]
    fn explicit_padding_counts_per_side() {
        assert_eq!(output([5, 5, 2], conv(3, 2, json!([1, 0, 0, 2]), 1, 2)).unwrap(), [2, 3, 4]);
    }

    #[test]
    fn ceil_mode_adds_a_window_that_starts_inside() {
        let pool = |ceil: bool| json!({"op": "maxPool", "size": [2, 2], "stride": [2, 2], "padding": "valid", "ceilMode": ceil});
        assert_eq!(output([5, 6, 3], pool(false)).unwrap(), [2, 3, 3]);
        assert_eq!(output([5, 6, 3], pool(true)).unwrap(), [3, 3, 3]);
    }

    #[test]
    fn layers_that_do_not_fit_say_so_by_name_with_the_numbers() {
        let message = |input, op| output(input, op).unwrap_err().to_string();
        assert_eq!(
            message([4, 4, 3], conv(5, 1, json!("valid"), 1, 1)),
            "Expected a kernel within the padded input of 4x4 for \"node0\" but received 5x5 (input [4, 4, 3])."
        );
        assert_eq!(
            message([4, 4, 3], conv(3, 1, json!("valid"), 1, 2)),
            "Expected groups that divide 3 channels and 4 filters for \"node0\" but received 2 (input [4, 4, 3])."
        );
        assert_eq!(
            message([4, 4, 3], json!({"op": "dense", "units": 2, "bias": true, "init": "xavier"})),
            "Expected a flat input [1, 1, channels] (add flatten before it) for \"node0\" but received [4, 4, 3] \
             (input [4, 4, 3])."
        );
        assert_eq!(
            message(
                [1, 1, 1 << 20],
                json!({"op": "dense", "units": 1 << 20, "bias": true, "init": "xavier"})
            ),
            "Expected at most 2147483648 elements in the weight of \"node0\" but received [1048576, 1048576, 1, 1]."
        );
        let pool = json!({"op": "maxPool", "size": [2, 2], "stride": [2, 2], "padding": [9, 9, 9, 9], "ceilMode": false});
        assert!(message([4, 4, 3], pool).contains("\"node0\""));
    }
}
