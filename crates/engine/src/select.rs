//! The algorithm of every convolution, for a batch.
//!
//! Winograd's algorithm takes over where the kernels' cost model says that it pays, or where the session is
//! held to it; the choice between the other ways is the kernel's own. Winograd's weight is the layer's,
//! transformed: in training once a step, right before it is used, so that one place in the arena serves all
//! layers; otherwise once, and the session keeps it until the parameters change.

use crate::instruction::Instruction;
use crate::ops::convolution::{Algorithm, ConvolutionLayer, TransformWeight};
use crate::program::{Mode, Program, ValueId};
use fovea_kernels::conv2d::Pass;
use fovea_kernels::conv2d::winograd::{WeightGradient, Weights, Winograd};
use std::sync::Arc;

/// Chooses for a program of `mode` and a batch of images.
pub(crate) fn select(program: &mut Program, mode: Mode, batch: usize) {
    let weights = weights(mode);
    let (backward, update) = (program.backward, program.update);
    let instructions = std::mem::take(&mut program.instructions);
    for (index, mut instruction) in instructions.into_iter().enumerate() {
        if index == backward {
            program.backward = program.instructions.len();
        }
        if index == update {
            program.update = program.instructions.len();
        }
        let choose = |kernel, pass| Winograd::choose(kernel, pass, batch, weights).map(Arc::new);
        match &mut instruction {
            Instruction::Convolution(call) => {
                if let Some(winograd) = choose(&call.layer.kernel, Pass::Forward) {
                    call.algorithm = match mode {
                        Mode::Train => transformed(program, &call.layer, winograd, None),
                        Mode::Infer | Mode::Evaluate => Algorithm::WinogradKept(winograd),
                    };
                }
            }
            Instruction::ConvolutionBackwardInput(call) => {
                if let Some(winograd) = choose(&call.layer.kernel, Pass::BackwardInput) {
                    call.algorithm = transformed(program, &call.layer, winograd, call.packed);
                }
            }
            Instruction::ConvolutionBackwardWeight(call) => {
                call.winograd = WeightGradient::choose(&call.layer.kernel, batch).map(Arc::new);
            }
            _ => {}
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
    layer: &Arc<ConvolutionLayer>,
    winograd: Arc<Winograd>,
    packed: Option<ValueId>,
) -> Algorithm {
    let transformed = program.weight(&layer.name, winograd.weight_len());
    let (layer, kernel) = (Arc::clone(layer), Arc::clone(&winograd));
    let call = TransformWeight { layer, winograd: kernel, packed, transformed };
    program.instructions.push(Instruction::other(call));
    Algorithm::Winograd(winograd, transformed)
}
