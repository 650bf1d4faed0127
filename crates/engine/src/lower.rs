//! Graph to forward program: one instruction a node, in the graph's order.
//!
//! A layer is added by an arm in [`lower`] and its derivative by one in [`autodiff`](crate::autodiff).

use crate::error::{GraphError, Result};
use crate::graph::{Source, needed};
use crate::network::{Layer, Network};
use crate::program::{Algorithm, Extent, Instruction, Kind, Mode, Program, ValueId};
use fovea_kernels::Activation;
use std::sync::Arc;

/// The forward program of a mode: to the first output when inferring, to the loss of the first output when
/// evaluating, to the losses of all outputs when training.
///
/// Errors: an output that has no loss, when the mode asks for one.
pub(crate) fn lower(network: &Network, mode: Mode) -> Result<Program> {
    let outputs = if mode == Mode::Train { &network.outputs[..] } else { &network.outputs[..1] };
    let mut program = Program::new(network.graph.input);
    let needed = needed(&network.sources, outputs);
    let mut values: Vec<Option<ValueId>> = vec![None; network.layers.len()];
    for (index, layer) in network.layers.iter().enumerate().filter(|&(index, _)| needed[index]) {
        let x = match network.sources[index][0] {
            Source::Input => Program::INPUT,
            // A node is lowered after what it reads, which is needed since the node is.
            Source::Node(source) => values[source].unwrap_or(Program::INPUT),
        };
        let shape = &network.shapes.nodes[index];
        let name = &shape.name;
        let y = match layer {
            Layer::Flatten => program.view(x, shape.output, name),
            _ => program.value(name, Kind::Activation, Extent::PerImage(shape.output)),
        };
        let activation = Activation::None;
        program.instructions.extend(match layer {
            Layer::Convolution(layer) => {
                let algorithm = Algorithm::Direct;
                Some(Instruction::Convolution { layer: Arc::clone(layer), x, y, activation, algorithm })
            }
            Layer::MaxPool(layer) => {
                Some(Instruction::MaxPool { layer: Arc::clone(layer), x, y, argmax: None, activation })
            }
            Layer::AvgPool(layer) => Some(Instruction::AvgPool { layer: Arc::clone(layer), x, y }),
            Layer::Relu => Some(Instruction::Relu { x, y }),
            Layer::Tanh => Some(Instruction::Tanh { x, y }),
            Layer::Softmax if mode == Mode::Train => return Err(GraphError::Softmax(name.clone()).into()),
            Layer::Softmax => Some(Instruction::Softmax { x, y }),
            Layer::Flatten => None,
        });
        values[index] = Some(y);
    }
    let results: Vec<_> = outputs.iter().filter_map(|&output| Some((output, values[output]?))).collect();
    if mode != Mode::Train {
        program.results.extend(results.iter().map(|&(_, value)| value));
    }
    if mode != Mode::Infer {
        for (output, &(node, logits)) in results.iter().enumerate() {
            check_logits(network, node)?;
            let weight = if mode == Mode::Train { network.graph.outputs[output].loss_weight } else { 1.0 };
            program.instructions.push(Instruction::Loss { output, logits, dlogits: None, weight });
        }
    }
    program.backward = program.instructions.len();
    program.update = program.backward;
    Ok(program)
}

/// A loss wants one row of logits an image.
fn check_logits(network: &Network, node: usize) -> Result<()> {
    let shape = &network.shapes.nodes[node];
    if let Layer::Softmax = network.layers[node] {
        return Err(GraphError::Softmax(shape.name.clone()).into());
    }
    if shape.output[..2] != [1, 1] {
        let (node, received) = (shape.name.clone(), shape.output);
        return Err(GraphError::NotLogits { node, received }.into());
    }
    Ok(())
}
