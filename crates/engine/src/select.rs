//! The algorithm of every convolution, for a batch.
//!
//! Winograd's algorithm takes over where the kernels' cost model says that it pays, or where the session is held to it; the
//! choice between the other ways is the kernel's own. Winograd's weight is the layer's, transformed: in training
//! once a step, right before it is used, so that one place in the arena serves all layers; otherwise once, and the
//! session keeps it until the parameters change.

use crate::instruction::{Algorithm, Instruction};
use crate::network::ConvolutionLayer;
use crate::program::{Extent, Kind, Mode, Program, ValueId};
use fovea_kernels::conv2d::Pass;
use fovea_kernels::conv2d::winograd::{WeightGradient, Weights, Winograd};
use std::sync::Arc;

/// Chooses for a program of `mode` and a batch of images.
pub(crate) fn select(program: &mut Program, mode: Mode, batch: usize) {
    let weights = weights(mode);
    let backward = program.backward;
    let instructions = std::mem::take(&mut program.instructions);
    for (index, mut instruction) in instructions.into_iter().enumerate() {
        if index == backward {
            program.backward = program.instructions.len();
        }
        match &mut instruction {
            Instruction::Convolution { layer, algorithm, .. } => {
                if let Some(winograd) =
                    Winograd::choose(&layer.kernel, Pass::Forward, batch, weights).map(Arc::new)
                {
                    *algorithm = match mode {
                        Mode::Train => transformed(program, Arc::clone(layer), winograd, None),
                        Mode::Infer | Mode::Evaluate => Algorithm::WinogradKept(winograd),
                    };
                }
            }
            Instruction::ConvolutionBackwardInput { layer, packed, algorithm, .. } => {
                let chosen =
                    Winograd::choose(&layer.kernel, Pass::BackwardInput, batch, weights).map(Arc::new);
                if let Some(winograd) = chosen {
                    *algorithm = transformed(program, Arc::clone(layer), winograd, *packed);
                }
            }
            Instruction::ConvolutionBackwardWeight { layer, winograd, .. } => {
                *winograd = WeightGradient::choose(&layer.kernel, batch).map(Arc::new);
            }
            _ => {}
        }
        if matches!(instruction, Instruction::Update) {
            program.update = program.instructions.len();
        }
        program.instructions.push(instruction);
    }
    if mode != Mode::Train {
        (program.backward, program.update) = (program.instructions.len(), program.instructions.len());
    }
}

/// How often a mode changes the weights.
pub(crate) fn weights(mode: Mode) -> Weights {
    if mode == Mode::Train { Weights::Change } else { Weights::Stay }
}

/// Appends the instruction that transforms a weight; returns the algorithm that reads it.
fn transformed(
    program: &mut Program,
    layer: Arc<ConvolutionLayer>,
    winograd: Arc<Winograd>,
    packed: Option<ValueId>,
) -> Algorithm {
    let extent = Extent::Fixed(winograd.weight_len());
    let transformed = program.value(&layer.name, Kind::TransformedWeight, extent);
    let write = Instruction::TransformWeight { layer, winograd: Arc::clone(&winograd), packed, transformed };
    program.instructions.push(write);
    Algorithm::Winograd(winograd, transformed)
}
