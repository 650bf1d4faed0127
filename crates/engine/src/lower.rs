//! Graph to forward program: one instruction a node, in the graph's order.
//!
//! A layer is added by an arm in `Lowering::node` and its derivative by one in [`autodiff`](crate::autodiff).

use crate::error::{GraphError, Result};
use crate::graph::{Output, OutputLoss, Source, needed};
use crate::instruction::{Algorithm, Instruction};
use crate::network::{ChannelLayer, ConvolutionLayer, Layer, Network};
use crate::program::{Extent, Kind, Mode, Program, ValueId};
use fovea_kernels::Activation;
use std::sync::Arc;

/// The forward program of a mode: to the first output when inferring, to the loss of the first output when
/// evaluating, to the losses of all outputs when training.
///
/// Errors: an output that has no loss, when the mode asks for one.
pub(crate) fn lower(network: &Network, mode: Mode) -> Result<Program> {
    let outputs = if mode == Mode::Train { &network.outputs[..] } else { &network.outputs[..1] };
    let needed = needed(&network.sources, outputs);
    let mut lowering = Lowering { network, mode, program: Program::new(network.graph.input) };
    let mut values: Vec<Option<ValueId>> = vec![None; network.layers.len()];
    for index in (0..network.layers.len()).filter(|&index| needed[index]) {
        let inputs = network.sources[index].iter().map(|source| match *source {
            Source::Input => Program::INPUT,
            // A node is lowered after what it reads, which is needed since the node is.
            Source::Node(source) => values[source].unwrap_or(Program::INPUT),
        });
        values[index] = Some(lowering.node(index, &inputs.collect::<Vec<_>>())?);
    }
    let mut program = lowering.program;
    let results: Vec<_> = outputs.iter().filter_map(|&output| Some((output, values[output]?))).collect();
    if mode != Mode::Train {
        program.results.extend(results.iter().map(|&(_, value)| value));
    }
    if mode != Mode::Infer {
        for (output, &(node, logits)) in results.iter().enumerate() {
            let Output { loss, loss_weight, .. } = network.graph.outputs[output];
            check_outputs(network, node, loss)?;
            let weight = if mode == Mode::Train { loss_weight } else { 1.0 };
            program.instructions.push(Instruction::Loss { output, loss, logits, dlogits: None, weight });
        }
    }
    program.backward = program.instructions.len();
    program.update = program.backward;
    Ok(program)
}

struct Lowering<'a> {
    network: &'a Network,
    mode: Mode,
    program: Program,
}

impl Lowering<'_> {
    /// Appends the instructions of a node that reads `inputs`; returns its value.
    fn node(&mut self, node: usize, inputs: &[ValueId]) -> Result<ValueId> {
        let shape = &self.network.shapes.nodes[node];
        let (name, x) = (&shape.name, inputs[0]);
        let layer = &self.network.layers[node];
        // What has no instruction shares its input's memory.
        match layer {
            Layer::Flatten => return Ok(self.program.view(x, shape.output, name)),
            Layer::Dropout { rate } if self.mode != Mode::Train || *rate == 0.0 => return Ok(x),
            Layer::Softmax if self.mode == Mode::Train => {
                return Err(GraphError::Softmax(name.clone()).into());
            }
            _ => {}
        }
        if let Layer::ConvTranspose(layer, bias) = layer {
            return Ok(self.transposed_convolution(layer, bias.as_ref(), x, shape.output));
        }
        let y = self.program.value(name, Kind::Activation, Extent::PerImage(shape.output));
        let activation = Activation::None;
        let instruction = match *layer {
            Layer::Convolution(ref layer) => {
                let (layer, algorithm) = (Arc::clone(layer), Algorithm::Direct);
                let (folded, residual, moments) = (None, None, None);
                Instruction::Convolution { layer, folded, x, residual, y, moments, activation, algorithm }
            }
            Layer::BatchNorm(ref layer) => {
                let mut statistics =
                    || self.program.value(name, Kind::Statistics, Extent::Fixed(2 * layer.channels));
                let affine = statistics();
                let saved = (self.mode == Mode::Train).then(statistics);
                let frozen = saved.is_some() && !self.network.trains(layer.parameters());
                Instruction::BatchNorm {
                    layer: Arc::clone(layer),
                    x,
                    moments: None,
                    residual: None,
                    pool: None,
                    argmax: None,
                    y,
                    saved,
                    frozen,
                    affine,
                    activation,
                }
            }
            Layer::Channel(ref layer) => Instruction::Channel { layer: Arc::clone(layer), x, y },
            Layer::GlobalMaxPool => Instruction::GlobalMaxPool { x, y },
            Layer::MaxPool(ref layer) => {
                Instruction::MaxPool { layer: Arc::clone(layer), x, y, argmax: None, activation }
            }
            Layer::AvgPool(ref layer) => Instruction::AvgPool { layer: Arc::clone(layer), x, y },
            Layer::LocalResponseNorm(norm) => Instruction::LocalResponseNorm { norm, x, y },
            Layer::Dropout { rate } => Instruction::Dropout { rate, node, x, y },
            Layer::Add => Instruction::Add { a: x, b: inputs[1], y, activation },
            Layer::Arithmetic(operation) => Instruction::Arithmetic { operation, a: x, b: inputs[1], y },
            Layer::MultiplyChannels(ref sums) => {
                Instruction::MultiplyChannels { sums: Arc::clone(sums), a: x, b: inputs[1], y }
            }
            Layer::Pad { padding, channels } => Instruction::Pad { padding, channels, x, y },
            Layer::Function(function) => Instruction::Function { function, x, y },
            Layer::RadialBasis(ref codes) => Instruction::RadialBasis { codes: Arc::clone(codes), x, y },
            Layer::Softmax => Instruction::Softmax { x, y },
            Layer::Concat => {
                self.concatenate(inputs, y, name);
                return Ok(y);
            }
            Layer::Flatten | Layer::ConvTranspose(..) => return Ok(x), // above
        };
        self.program.instructions.push(instruction);
        Ok(y)
    }

    /// The input gradient of its convolution, and then its bias.
    fn transposed_convolution(
        &mut self,
        layer: &Arc<ConvolutionLayer>,
        bias: Option<&Arc<ChannelLayer>>,
        x: ValueId,
        output: [usize; 3],
    ) -> ValueId {
        let mut value = || self.program.value(&layer.name, Kind::Activation, Extent::PerImage(output));
        let y = value();
        let biased = bias.map(|bias| (Arc::clone(bias), value()));
        let packed = self.program.pack_gradient_weight(layer);
        self.program.instructions.push(Instruction::ConvolutionBackwardInput {
            layer: Arc::clone(layer),
            dy: x,
            packed,
            residual: None,
            dx: y,
            algorithm: Algorithm::Direct,
        });
        let instructions = &mut self.program.instructions;
        match biased {
            None => y,
            Some((layer, biased)) => {
                instructions.push(Instruction::Channel { layer, x: y, y: biased });
                biased
            }
        }
    }

    /// Copies every input to its channels of `y`.
    fn concatenate(&mut self, inputs: &[ValueId], y: ValueId, name: &str) {
        let mut first = 0;
        for &x in inputs {
            let channels = self.program.shape(x)[2];
            let y = self.program.slice(y, first..first + channels, name);
            self.program.instructions.push(Instruction::Copy { x, y });
            first += channels;
        }
    }
}

/// A loss of classes wants one row of logits an image.
fn check_outputs(network: &Network, node: usize, loss: OutputLoss) -> Result<()> {
    let shape = &network.shapes.nodes[node];
    if !loss.is_of_classes() {
        return Ok(());
    }
    if let Layer::Softmax = network.layers[node] {
        return Err(GraphError::Softmax(shape.name.clone()).into());
    }
    if shape.output[..2] != [1, 1] {
        let (node, received) = (shape.name.clone(), shape.output);
        return Err(GraphError::NotLogits { node, received }.into());
    }
    Ok(())
}
