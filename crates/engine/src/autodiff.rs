//! Reverse-mode differentiation: a forward program becomes a training program with explicit backward
//! instructions.
//!
//! The forward instructions are visited from the last to the first. When an instruction's turn comes, all
//! readers of its result have been visited, so the gradient of its result is complete; it then appends what
//! writes the gradients of what it read. Where a value has several readers, their shares of its gradient are
//! added (fan-out). Values that depend on no parameter, the images above all, get none, and nothing is computed
//! for them.
//!
//! Gradients belong to memory, not to shapes: a flatten shares its input's memory, so its gradient is a view as
//! well, and the gradient of some channels of a concatenation is some channels of its gradient. They are
//! written once and then only read: the operands of a sum share its gradient, and whether a further share is
//! added in that memory or elsewhere is decided by the plan, which knows the last reader.

use crate::error::{EngineError, GraphError, Result};
use crate::instruction::Instruction;
use crate::network::Network;
use crate::objective::{CheckGradients, Update};
use crate::ops::function::{Fused, Gradient};
use crate::ops::{add, concat};
use crate::program::{Extent, Kind, Program, ValueId};
use std::ops::Range;
use std::sync::Arc;

/// Appends backward instructions, the check of the gradients and the update to a forward program that ends in
/// losses.
///
/// Errors: a network without parameters, or with frozen ones only.
pub(crate) fn differentiate(mut program: Program, network: &Network) -> Result<Program> {
    let learns = depends_on_parameters(&program, network);
    if !learns.contains(&true) {
        if !network.frozen.is_empty() {
            return Err(EngineError::argument(
                "frozen",
                "names that leave something to learn",
                "all of them",
            ));
        }
        return Err(GraphError::NoParameters(network.graph.name.clone()).into());
    }
    let mut forward = std::mem::take(&mut program.instructions);
    let shares = vec![Vec::new(); program.values.len()];
    let mut backward = Backward { network, program, learns, shares };
    for instruction in forward.iter_mut().rev() {
        instruction.backward(&mut backward);
    }
    let mut program = backward.program;
    program.backward = forward.len();
    forward.append(&mut program.instructions);
    program.instructions = forward;
    program.instructions.push(Instruction::other(CheckGradients));
    program.update = program.instructions.len();
    program.instructions.push(Instruction::other(Update));
    Ok(program)
}

/// Which values change when parameters that learn do, by index of the value that owns the memory.
fn depends_on_parameters(program: &Program, network: &Network) -> Vec<bool> {
    let mut depends = vec![false; program.values.len()];
    for instruction in &program.instructions {
        let mut any = network.trains(instruction.parameters());
        let operands = instruction.operands();
        any |= operands.reads().any(|operand| depends[program.root(operand.value).index()]);
        operands.writes().for_each(|operand| depends[program.root(operand.value).index()] |= any);
    }
    depends
}

/// A backward program under way: what an instruction appends its gradients with
/// ([`Call::backward`](crate::instruction::Call::backward)).
pub(crate) struct Backward<'a> {
    pub network: &'a Network,
    /// All values, and the backward instructions so far.
    pub program: Program,
    /// Which values need a gradient.
    learns: Vec<bool>,
    /// The shares of the gradient of each value so far, by index of the value that owns the memory.
    shares: Vec<Vec<Share>>,
}

/// The gradient of some channels of a value, in its shape, summed over all readers of just these channels.
#[derive(Clone)]
struct Share {
    channels: Range<usize>,
    gradient: ValueId,
}

impl Backward<'_> {
    /// Where the winners of the windows of a max-pooled value are kept.
    pub fn winners(&mut self, pooled: ValueId) -> ValueId {
        let extent = Extent::PerImage(self.program.shape(pooled));
        self.program.value(self.program[pooled].name.clone(), Kind::Argmax, extent)
    }

    /// Appends an instruction.
    pub fn emit(&mut self, instruction: Instruction) {
        self.program.instructions.push(instruction);
    }

    /// Whether a value needs a gradient.
    pub fn learns(&self, value: ValueId) -> bool {
        self.learns.get(self.program.root(value).index()).is_some_and(|&learns| learns)
    }

    /// The gradient of a value that an instruction wrote, once all its readers have been visited.
    pub fn gradient(&mut self, value: ValueId) -> Option<ValueId> {
        let channels = self.program.channels(value);
        let shares = self.shares[self.program.root(value).index()].clone();
        // A reader reads all channels that the instruction wrote, or none of them.
        let covers =
            |share: &Share| share.channels.start <= channels.start && channels.end <= share.channels.end;
        let name = self.program[value].name.clone();
        let mut sum = None;
        for share in shares.into_iter().filter(covers) {
            let inside = channels.start - share.channels.start..channels.end - share.channels.start;
            let term = self.program.slice(share.gradient, inside, &name);
            sum = Some(self.plus(value, sum, term));
        }
        sum
    }

    /// The gradient of what stands before a fused function whose result is `value`. Only functions whose
    /// derivative follows from their result are fused in training.
    pub fn masked_gradient(&mut self, value: ValueId, fused: &Fused) -> Option<ValueId> {
        let dy = self.gradient(value)?;
        let Some(function) = fused.function() else { return Some(dy) };
        let dx = self.new_gradient(value);
        self.emit(Instruction::other(Gradient { function: Arc::clone(function), dy, of: Some(value), dx }));
        Some(dx)
    }

    /// Memory for a gradient of `value`.
    pub fn new_gradient(&mut self, value: ValueId) -> ValueId {
        let (name, extent) = (self.program[value].name.clone(), self.program[value].extent);
        self.program.value(name, Kind::Gradient, extent)
    }

    /// `term`, or a new gradient of `value` that is the sum of both.
    fn plus(&mut self, value: ValueId, sum: Option<ValueId>, term: ValueId) -> ValueId {
        let Some(a) = sum else { return term };
        let y = self.new_gradient(value);
        self.emit(Instruction::Add(add::Forward { a, b: term, y, function: Fused::default() }));
        y
    }

    /// Lets `write` emit the instructions that write one reader's share of the gradient of `value`, and adds it
    /// to the shares of other readers. Nothing happens when the value needs no gradient; returns the share
    /// otherwise.
    pub fn contribute(&mut self, value: ValueId, write: impl FnOnce(&mut Self, ValueId)) -> Option<ValueId> {
        if !self.learns(value) {
            return None;
        }
        let share = self.new_gradient(value);
        write(self, share);
        self.add_share(value, share);
        Some(share)
    }

    /// Adds a gradient that exists for another value too, in the shape of `value`, to the shares of this one.
    pub fn hand_on(&mut self, value: ValueId, gradient: ValueId) {
        if !self.learns(value) {
            return;
        }
        let reshaped = self.program[value].view_of.is_some() && self.program[value].slice.is_none();
        if reshaped && self.program[gradient].slice.is_some() {
            // Pixels that stand apart have no other shape.
            self.contribute(value, |backward, dx| {
                backward.emit(Instruction::Copy(concat::Copy { x: gradient, y: dx }));
            });
        } else {
            self.add_share(value, gradient);
        }
    }

    fn add_share(&mut self, value: ValueId, gradient: ValueId) {
        let (root, channels) = (self.program.root(value), self.program.channels(value));
        let [height, width, _] = self.program.shape(root);
        let name = self.program[root].name.clone();
        let shape = [height, width, channels.len()];
        // Shares of a flattened map are summed in the shape of the map.
        let gradient = match self.program.shape(gradient) == shape {
            true => gradient,
            false => self.program.view(gradient, shape, &name),
        };
        let shares = &self.shares[root.index()];
        match shares.iter().position(|share| share.channels == channels) {
            None => self.shares[root.index()].push(Share { channels, gradient }),
            Some(at) => {
                let before = shares[at].gradient;
                let sum = self.plus(gradient, Some(before), gradient);
                self.shares[root.index()][at].gradient = sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::graph::Graph;
    use crate::network::Network;
    use crate::plan::{Plan, PlanOptions};
    use crate::program::Mode;
    use crate::session::Precision;
    use crate::testing::{chain, conv, dense, graph, lenet5, max_pool, node, op};
    use fovea_kernels::Isa;

    fn backward(definition: &str) -> Vec<&'static str> {
        let network = Network::new(Graph::from_json(definition).unwrap(), Isa::available()[0]).unwrap();
        let options =
            PlanOptions { mode: Mode::Train, batch: 2, threads: 1, fuse: true, precision: Precision::Fast };
        let program = Plan::compile(&network, options).unwrap().program;
        program.instructions[program.backward..].iter().map(|instruction| instruction.name()).collect()
    }

    #[test]
    fn the_backward_program_of_lenet5_is_the_textbooks() {
        let dense = ["denseBackwardWeight", "denseBackwardInput"];
        let mut expected = dense.to_vec();
        for _ in 0..2 {
            expected.push("reluBackward");
            expected.extend(dense);
        }
        expected.extend(["maxPoolBackward", "convBackwardWeight", "packGradientWeight", "convBackwardInput"]);
        expected.extend(["maxPoolBackward", "convBackwardWeight", "checkGradients", "update"]);
        assert_eq!(backward(&lenet5()), expected);
    }

    #[test]
    fn nothing_is_computed_for_values_without_parameters_before_them() {
        let graph = chain([4, 4, 1], &[op("tanh"), max_pool(2), conv(2, [1, 1]), op("flatten"), dense(3)]);
        let names = backward(&graph);
        assert!(!names.contains(&"tanhBackward") && !names.contains(&"maxPoolBackward"), "{names:?}");
        assert_eq!(names.iter().filter(|&&name| name.ends_with("BackwardInput")).count(), 1);
    }

    #[test]
    fn three_readers_of_a_value_are_added_twice() {
        let nodes = vec![
            node("a", "input", dense(3)),
            node("b", "a", dense(3)),
            node("c", "a", op("tanh")),
            node("d", "a", op("relu")),
            node("e", "c", dense(3)),
            node("f", "d", dense(3)),
        ];
        let graph = graph([1, 1, 4], nodes, &[("b", 1.0), ("e", 1.0), ("f", 1.0)]);
        assert_eq!(backward(&graph).iter().filter(|&&name| name == "add").count(), 2);
    }
}
