//! Reverse-mode differentiation: a forward program becomes a training program with explicit backward instructions.
//!
//! The forward instructions are visited from the last to the first. When an instruction's turn comes, all readers of its
//! result have been visited, so the gradient of its result is complete; the arm of [`Backward::visit`] for it then
//! writes the gradients of what it read. The first gradient that a value gets is stored, further ones are added to
//! it (fan-out). Values that depend on no parameter, the images above all, get none, and nothing is computed for them.
//!
//! Gradients belong to memory, not to shapes: a flatten shares its input's memory, so its gradient is a view as well.

use crate::error::{GraphError, Result};
use crate::program::{Access, Algorithm, Extent, Instruction, Kind, Program, ValueId};
use fovea_kernels::Activation;
use std::sync::Arc;

/// Appends backward instructions, the check of the gradients and the update to a forward program that ends in losses.
///
/// Errors: a network without parameters; `name` is its name.
pub(crate) fn differentiate(mut program: Program, name: &str) -> Result<Program> {
    let learns = depends_on_parameters(&program);
    if !learns.contains(&true) {
        return Err(GraphError::NoParameters(name.to_owned()).into());
    }
    let mut forward = std::mem::take(&mut program.instructions);
    let gradients = vec![None; program.values.len()];
    let mut backward = Backward { program, learns, gradients };
    for instruction in forward.iter_mut().rev() {
        backward.visit(instruction);
    }
    let mut program = backward.program;
    program.backward = forward.len();
    forward.append(&mut program.instructions);
    program.instructions = forward;
    program.instructions.push(Instruction::CheckGradients);
    program.update = program.instructions.len();
    program.instructions.push(Instruction::Update);
    Ok(program)
}

/// Which values change when parameters do, by index of the value that owns the memory.
fn depends_on_parameters(program: &Program) -> Vec<bool> {
    let mut depends = vec![false; program.values.len()];
    for instruction in &program.instructions {
        let mut any = matches!(instruction, Instruction::Convolution { .. });
        instruction.operands(|access, value| match access {
            Access::Read => any |= depends[program.root(value).index()],
            Access::Write | Access::ReadWrite => depends[program.root(value).index()] |= any,
        });
    }
    depends
}

struct Backward {
    /// All values, and the backward instructions so far.
    program: Program,
    /// Which values need a gradient.
    learns: Vec<bool>,
    /// The gradient of each value so far, by index of the value that owns the memory.
    gradients: Vec<Option<ValueId>>,
}

impl Backward {
    /// Appends the backward instructions of a forward instruction, which is told what it must keep for them.
    fn visit(&mut self, instruction: &mut Instruction) {
        match instruction {
            Instruction::Loss { logits, dlogits, .. } => {
                // The loss knows its gradient: it writes both at once, in the forward pass.
                *dlogits = self.contribute(*logits, |_, _| {});
            }
            Instruction::Convolution { layer, x, y, activation, .. } => {
                let Some(mut dy) = self.gradient(*y) else { return };
                if *activation == Activation::Relu {
                    let dz = self.new_gradient(*y);
                    self.emit(Instruction::ReluBackward { dy, y: *y, dx: dz });
                    dy = dz;
                }
                let (layer, x) = (Arc::clone(layer), *x);
                self.emit(Instruction::ConvolutionBackwardWeight { layer: Arc::clone(&layer), x, dy });
                self.contribute(x, |backward, dx| {
                    let extent = Extent::Fixed(layer.kernel.gradient_weight_len());
                    let packed = backward.program.value(&layer.name, Kind::GradientWeight, extent);
                    backward.emit(Instruction::PackGradientWeight { layer: Arc::clone(&layer), packed });
                    let algorithm = Algorithm::Direct;
                    backward.emit(Instruction::ConvolutionBackwardInput { layer, dy, packed, dx, algorithm });
                });
            }
            Instruction::MaxPool { layer, x, y, argmax, activation } => {
                let Some(dy) = self.gradient(*y).filter(|_| self.learns(*x)) else { return };
                let taps = Extent::PerImage(self.program.shape(*y));
                let positions = self.program.value(self.program[*y].name.clone(), Kind::Argmax, taps);
                *argmax = Some(positions);
                let layer = Arc::clone(layer);
                let mask = (*activation == Activation::Relu).then_some(*y);
                self.contribute(*x, |backward, dx| {
                    backward.emit(Instruction::MaxPoolBackward { layer, dy, argmax: positions, y: mask, dx });
                });
            }
            Instruction::AvgPool { layer, x, y } => {
                let Some(dy) = self.gradient(*y) else { return };
                let layer = Arc::clone(layer);
                self.contribute(*x, |backward, dx| {
                    backward.emit(Instruction::AvgPoolBackward { layer, dy, dx });
                });
            }
            Instruction::Relu { x, y } => {
                let (Some(dy), y) = (self.gradient(*y), *y) else { return };
                self.contribute(*x, |backward, dx| backward.emit(Instruction::ReluBackward { dy, y, dx }));
            }
            Instruction::Tanh { x, y } => {
                let (Some(dy), y) = (self.gradient(*y), *y) else { return };
                self.contribute(*x, |backward, dx| backward.emit(Instruction::TanhBackward { dy, y, dx }));
            }
            // `lower` refuses to train a softmax, and the others only stand in backward programs.
            Instruction::Softmax { .. }
            | Instruction::ConvolutionBackwardWeight { .. }
            | Instruction::PackGradientWeight { .. }
            | Instruction::ConvolutionBackwardInput { .. }
            | Instruction::TransformWeight { .. }
            | Instruction::MaxPoolBackward { .. }
            | Instruction::AvgPoolBackward { .. }
            | Instruction::ReluBackward { .. }
            | Instruction::TanhBackward { .. }
            | Instruction::AddAssign { .. }
            | Instruction::CheckGradients
            | Instruction::Update => {}
        }
    }

    fn emit(&mut self, instruction: Instruction) {
        self.program.instructions.push(instruction);
    }

    fn learns(&self, value: ValueId) -> bool {
        self.learns.get(self.program.root(value).index()).is_some_and(|&learns| learns)
    }

    /// The gradient of a value, in its shape, once all its readers have been visited.
    fn gradient(&mut self, value: ValueId) -> Option<ValueId> {
        let gradient = self.gradients[self.program.root(value).index()]?;
        Some(self.in_shape_of(gradient, value))
    }

    fn in_shape_of(&mut self, gradient: ValueId, value: ValueId) -> ValueId {
        let name = self.program[value].name.clone();
        self.program.view(gradient, self.program.shape(value), &name)
    }

    /// Memory for a gradient of `value`.
    fn new_gradient(&mut self, value: ValueId) -> ValueId {
        let (name, extent) = (self.program[value].name.clone(), self.program[value].extent);
        self.program.value(name, Kind::Gradient, extent)
    }

    /// Lets `write` emit the instructions that write one reader's share of the gradient of `value`, and adds it to
    /// the shares of other readers. Nothing happens when the value needs no gradient; returns the share otherwise.
    fn contribute(&mut self, value: ValueId, write: impl FnOnce(&mut Self, ValueId)) -> Option<ValueId> {
        if !self.learns(value) {
            return None;
        }
        let share = self.new_gradient(value);
        write(self, share);
        let root = self.program.root(value).index();
        match self.gradients[root] {
            None => self.gradients[root] = Some(share),
            Some(sum) => {
                let sum = self.in_shape_of(sum, value);
                self.emit(Instruction::AddAssign { sum, term: share });
            }
        }
        Some(share)
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
        let dense = ["denseBackwardWeight", "packGradientWeight", "denseBackwardInput"];
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
        assert_eq!(names.iter().filter(|&&name| name == "packGradientWeight").count(), 1);
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
        assert_eq!(backward(&graph).iter().filter(|&&name| name == "addAssign").count(), 2);
    }
}
