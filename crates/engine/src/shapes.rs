//! Shape inference: what every node reads and writes, how many parameters it has and what it costs.
//!
//! A layer is added by an arm in `infer`.

use crate::error::{EngineError, GraphError, Result};
use crate::graph::{Graph, INPUT, MAX_ELEMENTS, Node, Source};
use crate::op::{
    self, AdaptiveAvgPool, Arithmetic, AvgPool, BatchNorm, Clip, Conv, ConvTranspose, Dense, Dropout,
    Function, Init, LeakyRelu, MaxPool, Op, Pad, Padding, Prelu, RadialBasis, Scale, Upsample,
};
use fovea_kernels::conv2d::Conv2dShape;
use fovea_kernels::local_response_norm::LocalResponseNorm;
use fovea_kernels::pool2d::Pool2dShape;
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
    /// Learned numbers.
    pub parameters: u64,
    /// Multiply-adds for one image; zero for all but convolutions and dense layers.
    pub mult_adds: u64,
    #[serde(skip)]
    pub(crate) geometry: Geometry,
}

/// What is needed to build a node's kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Geometry {
    /// Convolution or dense layer, which is a 1x1 convolution of a 1x1 map.
    Convolution {
        shape: Conv2dShape,
        bias: bool,
        init: Init,
        /// Weights that are not left out, where some are.
        connected: Option<usize>,
    },
    /// Transposed convolution, by the convolution that it is the input gradient of.
    ConvTranspose {
        shape: Conv2dShape,
        bias: bool,
        init: Init,
    },
    BatchNorm {
        channels: usize,
        epsilon: f32,
        momentum: f32,
    },
    Scale {
        channels: usize,
        bias: bool,
    },
    Prelu {
        weights: usize,
    },
    MaxPool(Pool2dShape),
    GlobalMaxPool,
    AvgPool {
        shape: Pool2dShape,
        count_include_pad: bool,
    },
    AdaptiveAvgPool {
        input: [usize; 3],
        size: [usize; 2],
    },
    /// By the pooling that it is the gradient of.
    Upsample(Pool2dShape),
    LocalResponseNorm(LocalResponseNorm),
    Dropout {
        rate: f32,
    },
    Add,
    Arithmetic(Arithmetic),
    /// With the pooling that sums each channel of the first operand.
    MultiplyChannels(Pool2dShape),
    Concat,
    Pad {
        padding: [usize; 4],
        channels: [usize; 2],
    },
    Function(Function),
    RadialBasis,
    Flatten,
    Softmax,
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
    let input = inputs[0]; // `validate` counted the inputs
    let (geometry, output) = match &node.op {
        Op::Conv(conv) => convolution(node, conv, input)?,
        Op::ConvTranspose(conv) => transposed_convolution(node, conv, input)?,
        Op::Dense(dense) => fully_connected(node, dense, input)?,
        Op::BatchNorm(BatchNorm { epsilon, momentum }) => {
            (Geometry::BatchNorm { channels: input[2], epsilon: *epsilon, momentum: *momentum }, input)
        }
        Op::Scale(Scale { bias }) => (Geometry::Scale { channels: input[2], bias: *bias }, input),
        Op::Prelu(Prelu { shared }) => {
            (Geometry::Prelu { weights: if *shared { 1 } else { input[2] } }, input)
        }
        Op::MaxPool(MaxPool { size, stride, padding, ceil_mode }) => {
            let (shape, output) = pool(node, *size, *stride, *padding, *ceil_mode, input)?;
            (Geometry::MaxPool(shape), output)
        }
        Op::AvgPool(AvgPool { size, stride, padding, ceil_mode, count_include_pad }) => {
            let (shape, output) = pool(node, *size, *stride, *padding, *ceil_mode, input)?;
            (Geometry::AvgPool { shape, count_include_pad: *count_include_pad }, output)
        }
        Op::GlobalAvgPool {} => {
            let size = [input[0], input[1]];
            let (shape, output) = pool(node, size, size, Padding::Valid, false, input)?;
            (Geometry::AvgPool { shape, count_include_pad: true }, output)
        }
        Op::GlobalMaxPool {} => (Geometry::GlobalMaxPool, [1, 1, input[2]]),
        Op::AdaptiveAvgPool(AdaptiveAvgPool { size }) => adaptive_pool(node, *size, input)?,
        Op::Upsample(Upsample { factor: [down, right] }) => {
            let output = [input[0] * down, input[1] * right, input[2]];
            check_elements(&node.name, "output", &output)?;
            let (size, padding) = ([*down, *right], [0; 4]);
            let shape = Pool2dShape { input: output, size, stride: size, padding, ceil_mode: false };
            (Geometry::Upsample(shape), output)
        }
        Op::LocalResponseNorm(norm) => {
            let op::LocalResponseNorm { size, alpha, beta, k } = *norm;
            (Geometry::LocalResponseNorm(LocalResponseNorm { size, alpha, beta, k }), input)
        }
        Op::Dropout(Dropout { rate }) => (Geometry::Dropout { rate: *rate }, input),
        Op::Add {} => (Geometry::Add, sum(node, &inputs)?),
        Op::Subtract {} => (Geometry::Arithmetic(Arithmetic::Subtract), sum(node, &inputs)?),
        Op::Divide {} => (Geometry::Arithmetic(Arithmetic::Divide), sum(node, &inputs)?),
        Op::Multiply {} if inputs[0] != inputs[1] && inputs[1] == [1, 1, input[2]] => {
            let size = [input[0], input[1]];
            let (whole, _) = pool(node, size, size, Padding::Valid, false, input)?;
            (Geometry::MultiplyChannels(whole), input)
        }
        Op::Multiply {} => {
            common(node, "equal shapes, or a second one of [1, 1, channels],", &inputs, |shape| shape)?;
            (Geometry::Arithmetic(Arithmetic::Multiply), input)
        }
        Op::Concat {} => (Geometry::Concat, concatenation(node, &inputs)?),
        Op::Pad(Pad { padding, channels }) => {
            let [top, right, bottom, left] = *padding;
            let output =
                [input[0] + top + bottom, input[1] + left + right, input[2] + channels[0] + channels[1]];
            (Geometry::Pad { padding: *padding, channels: *channels }, output)
        }
        Op::Relu {} => (Geometry::Function(Function::Relu), input),
        Op::Relu6 {} => (Geometry::Function(Function::Relu6), input),
        Op::LeakyRelu(LeakyRelu { slope }) => (Geometry::Function(Function::LeakyRelu(*slope)), input),
        Op::Clip(Clip { min, max }) => (Geometry::Function(Function::Clip([*min, *max])), input),
        Op::HardSigmoid(line) => (Geometry::Function(Function::HardSigmoid(*line)), input),
        Op::HardSwish {} => (Geometry::Function(Function::HardSwish), input),
        Op::Affine(affine) => (Geometry::Function(Function::Affine(*affine)), input),
        Op::LogSoftmax {} => (Geometry::Function(Function::LogSoftmax), input),
        Op::Sigmoid {} => (Geometry::Function(Function::Sigmoid), input),
        Op::Tanh {} => (Geometry::Function(Function::Tanh), input),
        Op::RadialBasis(basis) => radial_basis(node, basis, input)?,
        Op::Softmax {} => (Geometry::Softmax, input),
        Op::Flatten {} => (Geometry::Flatten, [1, 1, input.iter().product()]),
    };
    check_elements(&node.name, "output", &output)?;
    let (parameters, mult_adds) = match &geometry {
        Geometry::Convolution { connected: Some(weights), bias, .. } => {
            let biases = if *bias { output[2] } else { 0 };
            ((weights + biases) as u64, (output[0] * output[1] * weights) as u64)
        }
        Geometry::ConvTranspose { shape, bias, .. } => {
            let biases = if *bias { shape.input[2] } else { 0 };
            ((shape.parameters() + biases) as u64, shape.mult_adds())
        }
        Geometry::Scale { channels, bias } => (*channels as u64 * if *bias { 2 } else { 1 }, 0),
        Geometry::Prelu { weights } => (*weights as u64, 0),
        Geometry::Convolution { shape, bias, .. } => {
            let biases = if *bias { shape.filters } else { 0 };
            ((shape.parameters() + biases) as u64, shape.mult_adds())
        }
        Geometry::BatchNorm { channels, .. } => (2 * *channels as u64, 0),
        _ => (0, 0),
    };
    Ok(NodeShape {
        name: node.name.clone(),
        op: node.op.name(),
        inputs,
        output,
        parameters,
        mult_adds,
        geometry,
    })
}

/// `[out, in / groups, kernel height, kernel width]`.
pub(crate) fn weight_shape(shape: &Conv2dShape) -> [usize; 4] {
    [shape.filters, shape.input[2] / shape.groups, shape.kernel[0], shape.kernel[1]]
}

fn convolution(node: &Node, conv: &Conv, input: [usize; 3]) -> Result<(Geometry, [usize; 3])> {
    let Conv { filters, kernel, stride, dilation, groups, .. } = *conv;
    let channels = input[2];
    if !channels.is_multiple_of(groups) || !filters.is_multiple_of(groups) {
        let expected = format!("groups that divide {channels} channels and {filters} filters");
        return Err(misfit(node, expected, groups, input));
    }
    let extent = [0, 1].map(|axis| dilation[axis] * (kernel[axis] - 1) + 1);
    let padding = resolve(conv.padding, input, extent, stride);
    check_fit(&node.name, "kernel", input, padding, extent)?;
    let shape = Conv2dShape { input, filters, kernel, stride, padding, dilation, groups };
    check_elements(&node.name, "weight", &weight_shape(&shape))?;
    let output = shape.output().map_err(|error| refused(&node.name, error, input))?;
    let connected = connected(node, conv, channels)?;
    Ok((Geometry::Convolution { shape, bias: conv.bias, init: conv.init, connected }, output))
}

/// The convolution that reads a map of the output's size and writes one of the input's.
fn transposed_convolution(
    node: &Node,
    conv: &ConvTranspose,
    input: [usize; 3],
) -> Result<(Geometry, [usize; 3])> {
    let ConvTranspose { filters, kernel, stride, output_padding, dilation, groups, .. } = *conv;
    let channels = input[2];
    if !channels.is_multiple_of(groups) || !filters.is_multiple_of(groups) {
        let expected = format!("groups that divide {channels} channels and {filters} filters");
        return Err(misfit(node, expected, groups, input));
    }
    // Where every kernel's last tap falls, and what is added behind it.
    let whole = [0, 1].map(|axis| {
        (input[axis] - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1 + output_padding[axis]
    });
    let padding = match conv.padding {
        Padding::Explicit(sides) => sides,
        Padding::Valid => [0; 4],
        Padding::Same => {
            let surplus = [0, 1].map(|axis| whole[axis].checked_sub(input[axis] * stride[axis]));
            let [Some(vertical), Some(horizontal)] = surplus else {
                let expected = "a kernel that reaches as far as the stride, for padding \"same\"".to_owned();
                return Err(misfit(node, expected, format!("{}x{}", kernel[0], kernel[1]), input));
            };
            [vertical / 2, horizontal.div_ceil(2), vertical.div_ceil(2), horizontal / 2]
        }
    };
    let [top, right, bottom, left] = padding;
    let sides = [whole[0].checked_sub(top + bottom), whole[1].checked_sub(left + right)];
    let [Some(height @ 1..), Some(width @ 1..)] = sides else {
        let expected = format!("padding that leaves some of {}x{} pixels", whole[0], whole[1]);
        return Err(misfit(node, expected, format!("{padding:?}"), input));
    };
    let output = [height, width, filters];
    check_elements(&node.name, "output", &output)?;
    let shape = Conv2dShape { input: output, filters: channels, kernel, stride, padding, dilation, groups };
    check_elements(&node.name, "weight", &weight_shape(&shape))?;
    match shape.output().map_err(|error| refused(&node.name, error, input))? {
        reached if reached == input => {
            Ok((Geometry::ConvTranspose { shape, bias: conv.bias, init: conv.init }, output))
        }
        // Unreachable: the output padding is smaller than the stride.
        reached => {
            Err(misfit(node, format!("an output that reaches {input:?}"), format!("{reached:?}"), input))
        }
    }
}

/// Windows of one size where the size divides the input's, otherwise of several.
fn adaptive_pool(node: &Node, size: [usize; 2], input: [usize; 3]) -> Result<(Geometry, [usize; 3])> {
    if input[0].is_multiple_of(size[0]) && input[1].is_multiple_of(size[1]) {
        let window = [input[0] / size[0], input[1] / size[1]];
        let (shape, output) = pool(node, window, window, Padding::Valid, false, input)?;
        return Ok((Geometry::AvgPool { shape, count_include_pad: true }, output));
    }
    Ok((Geometry::AdaptiveAvgPool { input, size }, [size[0], size[1], input[2]]))
}

fn pool(
    node: &Node,
    size: [usize; 2],
    stride: [usize; 2],
    padding: Padding,
    ceil_mode: bool,
    input: [usize; 3],
) -> Result<(Pool2dShape, [usize; 3])> {
    let padding = resolve(padding, input, size, stride);
    check_fit(&node.name, "window", input, padding, size)?;
    let shape = Pool2dShape { input, size, stride, padding, ceil_mode };
    let output = shape.output().map_err(|error| refused(&node.name, error, input))?;
    Ok((shape, output))
}

fn radial_basis(node: &Node, basis: &RadialBasis, input: [usize; 3]) -> Result<(Geometry, [usize; 3])> {
    if input[..2] != [1, 1] {
        let expected = "a flat input [1, 1, channels] (add flatten before it)".to_owned();
        return Err(misfit(node, expected, format!("{input:?}"), input));
    }
    match basis.codes.iter().find(|code| code.len() != input[2]) {
        Some(code) => Err(misfit(node, format!("codes of {} numbers", input[2]), code.len(), input)),
        None => Ok((Geometry::RadialBasis, [1, 1, basis.codes.len()])),
    }
}

/// Weights, an output pixel apart, of a convolution whose filters see some channels each.
fn connected(node: &Node, conv: &Conv, channels: usize) -> Result<Option<usize>> {
    let Some(connections) = &conv.connections else { return Ok(None) };
    let ascends = |list: &Vec<usize>| list.windows(2).all(|pair| pair[0] < pair[1]);
    let fits = |list: &Vec<usize>| ascends(list) && list.last().is_some_and(|&last| last < channels);
    if conv.groups == 1 && connections.len() == conv.filters && connections.iter().all(fits) {
        let all: usize = connections.iter().map(Vec::len).sum();
        return Ok(Some(all * conv.kernel[0] * conv.kernel[1]));
    }
    let problem = format!(
        "its connections are not an ascending list of some of {channels} channels for each of {} filters in one group",
        conv.filters
    );
    Err(GraphError::Node { node: node.name.clone(), problem }.into())
}

fn fully_connected(node: &Node, dense: &Dense, input: [usize; 3]) -> Result<(Geometry, [usize; 3])> {
    if input[..2] != [1, 1] {
        let expected = "a flat input [1, 1, channels] (add flatten before it)".to_owned();
        return Err(misfit(node, expected, format!("{input:?}"), input));
    }
    let shape = Conv2dShape {
        input,
        filters: dense.units,
        kernel: [1, 1],
        stride: [1, 1],
        padding: [0; 4],
        dilation: [1, 1],
        groups: 1,
    };
    check_elements(&node.name, "weight", &weight_shape(&shape))?;
    let geometry = Geometry::Convolution { shape, bias: dense.bias, init: dense.init, connected: None };
    Ok((geometry, [1, 1, dense.units]))
}

/// The shape that both operands of an addition have.
fn sum(node: &Node, inputs: &[[usize; 3]]) -> Result<[usize; 3]> {
    common(node, "equal shapes", inputs, |shape| shape)?;
    Ok(inputs[0])
}

/// The shape of maps of one size, with the channels of all.
fn concatenation(node: &Node, inputs: &[[usize; 3]]) -> Result<[usize; 3]> {
    common(node, "equal height and width", inputs, |[height, width, _]| [height, width])?;
    let channels = inputs.iter().try_fold(0usize, |sum, shape| sum.checked_add(shape[2]));
    Ok([inputs[0][0], inputs[0][1], channels.unwrap_or(usize::MAX)])
}

/// Checks that all inputs have what `part` takes of their shapes in common with the first.
fn common<T: PartialEq>(
    node: &Node,
    expected: &'static str,
    inputs: &[[usize; 3]],
    part: impl Fn([usize; 3]) -> T,
) -> Result<()> {
    let first = inputs[0];
    match inputs.iter().find(|&&other| part(other) != part(first)) {
        Some(&other) => Err(GraphError::Inputs { node: node.name.clone(), expected, first, other }.into()),
        None => Ok(()),
    }
}

/// Padding in pixels: top, right, bottom, left. `extent` is what a window covers, dilation included.
fn resolve(padding: Padding, input: [usize; 3], extent: [usize; 2], stride: [usize; 2]) -> [usize; 4] {
    match padding {
        Padding::Explicit(sides) => sides,
        Padding::Valid => [0; 4],
        Padding::Same => {
            let [vertical, horizontal] = [0, 1].map(|axis| {
                let last = (input[axis].div_ceil(stride[axis]) - 1) * stride[axis];
                (last + extent[axis]).saturating_sub(input[axis])
            });
            [vertical / 2, horizontal.div_ceil(2), vertical.div_ceil(2), horizontal / 2]
        }
    }
}

fn check_fit(
    node: &str,
    what: &str,
    input: [usize; 3],
    padding: [usize; 4],
    extent: [usize; 2],
) -> Result<()> {
    let [top, right, bottom, left] = padding;
    let padded = [input[0] + top + bottom, input[1] + left + right];
    if extent[0] <= padded[0] && extent[1] <= padded[1] {
        return Ok(());
    }
    Err(GraphError::Shape {
        node: node.to_owned(),
        expected: format!("a {what} within the padded input of {}x{}", padded[0], padded[1]),
        received: format!("{}x{}", extent[0], extent[1]),
        input,
    }
    .into())
}

fn check_elements(node: &str, what: &'static str, shape: &[usize]) -> Result<()> {
    let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    if elements.is_some_and(|elements| elements <= MAX_ELEMENTS) {
        return Ok(());
    }
    Err(GraphError::TooLarge { node: node.to_owned(), what, shape: shape.to_vec() }.into())
}

fn misfit(node: &Node, expected: String, received: impl std::fmt::Display, input: [usize; 3]) -> EngineError {
    GraphError::Shape { node: node.name.clone(), expected, received: received.to_string(), input }.into()
}

/// A geometry that the kernel refuses for a reason of its own, which its sentence tells.
pub(crate) fn refused(node: &str, error: impl std::fmt::Display, input: [usize; 3]) -> EngineError {
    let problem = error.to_string().trim_end_matches('.').to_owned();
    GraphError::Refused { node: node.to_owned(), problem, input }.into()
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
        assert_eq!(resolve(Padding::Same, [4, 4, 1], [2, 4], [1, 1]), [0, 2, 1, 1]);
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
