//! Reverse-mode differentiation: a forward program becomes a training program with explicit backward instructions.
//!
//! The forward instructions are visited from the last to the first. When an instruction's turn comes, all readers of its
//! result have been visited, so the gradient of its result is complete; the arm of [`Backward::visit`] for it then
//! writes the gradients of what it read. Where a value has several readers, their shares of its gradient are added
//! (fan-out). Values that depend on no parameter, the images above all, get none, and nothing is computed for them.
//!
//! Gradients belong to memory, not to shapes: a flatten shares its input's memory, so its gradient is a view as well, and
//! the gradient of some channels of a concatenation is some channels of its gradient. They are written once and then only
//! read: the operands of a sum share its gradient, and whether a further share is added in that memory or elsewhere is
//! decided by the plan, which knows the last reader.

use crate::error::{EngineError, GraphError, Result};
use crate::instruction::{Algorithm, Instruction, Mask, Pooled};
use crate::network::{ChannelFunction, Network};
use crate::op::{Affine, Arithmetic, Derivative, Function};
use crate::program::{Extent, Kind, Program, ValueId};
use fovea_kernels::Activation;
use std::ops::Range;
use std::sync::Arc;

/// Appends backward instructions, the check of the gradients and the update to a forward program that ends in losses.
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

struct Backward<'a> {
    network: &'a Network,
    /// All values, and the backward instructions so far.
    program: Program,
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
    /// Appends the backward instructions of a forward instruction, which is told what it must keep for them.
    fn visit(&mut self, instruction: &mut Instruction) {
        match instruction {
            Instruction::Loss { logits, dlogits, .. } => {
                // The loss knows its gradient: it writes both at once, in the forward pass.
                *dlogits = self.contribute(*logits, |_, _| {});
            }
            Instruction::Convolution { layer, x, y, activation, .. } => {
                let Some(dy) = self.masked_gradient(*y, *activation) else { return };
                let (layer, x) = (Arc::clone(layer), *x);
                if self.network.trains(layer.parameters()) {
                    let layer = Arc::clone(&layer);
                    self.emit(Instruction::ConvolutionBackwardWeight { layer, x, dy, winograd: None });
                }
                self.contribute(x, |backward, dx| {
                    let packed = backward.program.pack_gradient_weight(&layer);
                    let algorithm = Algorithm::Direct;
                    let residual = None;
                    backward.emit(Instruction::ConvolutionBackwardInput {
                        layer,
                        dy,
                        packed,
                        residual,
                        dx,
                        algorithm,
                    });
                });
            }
            Instruction::ConvolutionBackwardInput { .. } => self.visit_transposed(instruction),
            Instruction::BatchNorm { .. } => self.visit_batch_norm(instruction),
            Instruction::Channel { .. } => self.visit_channel(instruction),
            Instruction::MaxPool { layer, x, y, argmax, activation } => {
                let Some(dy) = self.gradient(*y).filter(|_| self.learns(*x)) else { return };
                let positions = self.winners(*y);
                *argmax = Some(positions);
                let layer = Arc::clone(layer);
                let mask = (*activation == Activation::Relu).then_some(*y);
                self.contribute(*x, |backward, dx| {
                    backward.emit(Instruction::MaxPoolBackward { layer, dy, argmax: positions, y: mask, dx });
                });
            }
            &mut Instruction::GlobalMaxPool { x, y } => {
                let Some(dy) = self.gradient(y) else { return };
                self.contribute(x, |backward, dx| {
                    backward.emit(Instruction::GlobalMaxPoolBackward { x, y, dy, dx });
                });
            }
            Instruction::AvgPool { layer, x, y } => {
                let Some(dy) = self.gradient(*y) else { return };
                let layer = Arc::clone(layer);
                self.contribute(*x, |backward, dx| {
                    backward.emit(Instruction::AvgPoolBackward { layer, dy, dx });
                });
            }
            &mut Instruction::LocalResponseNorm { norm, x, y } => {
                let Some(dy) = self.gradient(y) else { return };
                self.contribute(x, |backward, dx| {
                    backward.emit(Instruction::LocalResponseNormBackward { norm, x, dy, dx });
                });
            }
            Instruction::RadialBasis { codes, x, y } => {
                let Some(dy) = self.gradient(*y) else { return };
                let (codes, x) = (Arc::clone(codes), *x);
                self.contribute(x, |backward, dx| {
                    backward.emit(Instruction::RadialBasisBackward { codes, x, dy, dx });
                });
            }
            &mut Instruction::Dropout { rate, node, x, y } => {
                let Some(dy) = self.gradient(y) else { return };
                self.contribute(x, |backward, dx| {
                    backward.emit(Instruction::DropoutBackward { rate, node, dy, dx });
                });
            }
            &mut Instruction::Add { a, b, y, activation } => {
                let Some(dy) = self.masked_gradient(y, activation) else { return };
                self.hand_on(a, dy);
                self.hand_on(b, dy);
            }
            &mut Instruction::Arithmetic { operation, a, b, y } => {
                self.visit_arithmetic(operation, [a, b], y)
            }
            Instruction::MultiplyChannels { .. } => self.visit_multiply_channels(instruction),
            &mut Instruction::Copy { x, y } => {
                let Some(dy) = self.gradient(y) else { return };
                self.hand_on(x, dy);
            }
            &mut Instruction::Pad { padding, channels, x, y } => {
                let Some(dy) = self.gradient(y) else { return };
                if padding == [0; 4] {
                    let inner = channels[0]..channels[0] + self.program.shape(x)[2];
                    let name = self.program[x].name.clone();
                    let dx = self.program.slice(dy, inner, &name);
                    return self.hand_on(x, dx);
                }
                self.contribute(x, |backward, dx| {
                    backward.emit(Instruction::PadBackward { padding, channels, dy, dx });
                });
            }
            &mut Instruction::Function { function, x, y } => {
                let Some(dy) = self.gradient(y) else { return };
                let of = match function.derivative() {
                    Derivative::Operand => Some(x),
                    Derivative::Result => Some(y),
                    Derivative::Nothing => None,
                };
                self.contribute(x, |backward, dx| {
                    backward.emit(Instruction::FunctionBackward { function, dy, of, dx });
                });
            }
            // `lower` refuses to train a softmax, and the others only stand in backward programs.
            Instruction::Softmax { .. }
            | Instruction::SeparableConvolution { .. }
            | Instruction::ConvolutionBackwardWeight { .. }
            | Instruction::PackGradientWeight { .. }
            | Instruction::TransformWeight { .. }
            | Instruction::BatchNormBackwardWeight { .. }
            | Instruction::BatchNormBackwardInput { .. }
            | Instruction::MaxPoolBackward { .. }
            | Instruction::GlobalMaxPoolBackward { .. }
            | Instruction::RadialBasisBackward { .. }
            | Instruction::AvgPoolBackward { .. }
            | Instruction::ChannelBackwardWeight { .. }
            | Instruction::ChannelBackwardInput { .. }
            | Instruction::LocalResponseNormBackward { .. }
            | Instruction::DropoutBackward { .. }
            | Instruction::PadBackward { .. }
            | Instruction::FunctionBackward { .. }
            | Instruction::CheckGradients
            | Instruction::Update => {}
        }
    }

    /// A transposed convolution: its gradients are those of the convolution whose input gradient it is, with the roles of
    /// what is read and written exchanged.
    fn visit_transposed(&mut self, instruction: &Instruction) {
        let &Instruction::ConvolutionBackwardInput { ref layer, dy: x, dx: y, .. } = instruction else {
            return;
        };
        let Some(dy) = self.gradient(y) else { return };
        let layer = Arc::clone(layer);
        if self.network.trains(layer.parameters()) {
            let layer = Arc::clone(&layer);
            self.emit(Instruction::ConvolutionBackwardWeight { layer, x: dy, dy: x, winograd: None });
        }
        self.contribute(x, |backward, dx| {
            backward.emit(Instruction::Convolution {
                layer,
                folded: None,
                x: dy,
                residual: None,
                y: dx,
                moments: None,
                activation: Activation::None,
                algorithm: Algorithm::Direct,
            });
        });
    }

    fn visit_channel(&mut self, instruction: &Instruction) {
        let &Instruction::Channel { ref layer, x, y } = instruction else { return };
        let Some(dy) = self.gradient(y) else { return };
        let layer = Arc::clone(layer);
        if self.network.trains(layer.parameters()) {
            let (layer, read) = (Arc::clone(&layer), layer.weight.is_some().then_some(x));
            self.emit(Instruction::ChannelBackwardWeight { layer, x: read, dy });
        }
        if layer.weight.is_none() {
            return self.hand_on(x, dy);
        }
        let read = (layer.function == ChannelFunction::Prelu).then_some(x);
        self.contribute(x, |backward, dx| {
            backward.emit(Instruction::ChannelBackwardInput { layer, x: read, dy, dx });
        });
    }

    fn visit_arithmetic(&mut self, operation: Arithmetic, [a, b]: [ValueId; 2], y: ValueId) {
        use Arithmetic::{Divide, Multiply, NegativeProduct, Subtract};
        let Some(dy) = self.gradient(y) else { return };
        let joined = |operation, a, b| move |y| Instruction::Arithmetic { operation, a, b, y };
        match operation {
            Subtract => {
                self.hand_on(a, dy);
                let function = Function::Affine(Affine { scale: -1.0, shift: 0.0 });
                self.contribute(b, |backward, db| {
                    backward.emit(Instruction::Function { function, x: dy, y: db });
                });
            }
            Multiply => {
                self.contribute(a, |backward, da| backward.emit(joined(Multiply, dy, b)(da)));
                self.contribute(b, |backward, db| backward.emit(joined(Multiply, dy, a)(db)));
            }
            Divide => {
                // The gradient of the divisor is that of the dividend times the negative quotient.
                let da = self.new_gradient(a);
                self.emit(joined(Divide, dy, b)(da));
                self.contribute(b, |backward, db| backward.emit(joined(NegativeProduct, da, y)(db)));
                self.hand_on(a, da);
            }
            NegativeProduct => {} // only stands in backward programs
        }
    }

    /// The gradient of the factors is the sum, over the pixels of each image, of the products of dy and a.
    fn visit_multiply_channels(&mut self, instruction: &Instruction) {
        let &Instruction::MultiplyChannels { ref sums, a, b, y } = instruction else { return };
        let Some(dy) = self.gradient(y) else { return };
        self.contribute(a, |backward, da| {
            backward.emit(Instruction::MultiplyChannels { sums: Arc::clone(sums), a: dy, b, y: da });
        });
        self.contribute(b, |backward, db| {
            let products = backward.new_gradient(a);
            let operation = Arithmetic::Multiply;
            backward.emit(Instruction::Arithmetic { operation, a: dy, b: a, y: products });
            backward.emit(Instruction::AvgPool { layer: Arc::clone(sums), x: products, y: db });
        });
    }

    fn visit_batch_norm(&mut self, instruction: &mut Instruction) {
        let &mut Instruction::BatchNorm {
            ref layer,
            x,
            residual,
            ref pool,
            ref mut argmax,
            y,
            saved: Some(saved),
            frozen,
            affine,
            activation,
            ..
        } = instruction
        else {
            return; // only training programs, which keep the statistics, are differentiated
        };
        let Some(mut dy) = self.gradient(y) else { return };
        let statistics = [saved, affine];
        let mut mask = match (activation, residual) {
            (Activation::None, _) => Mask::None,
            (Activation::Relu, None) => Mask::Recompute,
            (Activation::Relu, Some(_)) => Mask::Output(y),
        };
        let layer = Arc::clone(layer);
        let pool = pool.as_ref().map(|pool| {
            mask = Mask::None;
            let (layer, winners) = (Arc::clone(pool), self.winners(y));
            *argmax = Some(winners);
            Pooled { layer, argmax: winners, y: (activation == Activation::Relu).then_some(y) }
        });
        let residual = residual.filter(|&residual| self.learns(residual));
        // What passes the mask is the gradient of the residual and of the normalized x alike.
        let dresidual = residual.filter(|_| mask != Mask::None).map(|residual| self.new_gradient(residual));
        match (frozen, dresidual) {
            (false, dresidual) => {
                let (layer, pool) = (Arc::clone(&layer), pool.clone());
                self.emit(Instruction::BatchNormBackwardWeight {
                    layer,
                    pool,
                    x,
                    dy,
                    mask,
                    statistics,
                    dresidual,
                });
            }
            (true, Some(dx)) => {
                let function = Function::Relu;
                self.emit(Instruction::FunctionBackward { function, dy, of: Some(y), dx });
            }
            (true, None) => {}
        }
        if let Some(masked) = dresidual {
            (dy, mask) = (masked, Mask::None);
        }
        if let Some(residual) = residual {
            self.hand_on(residual, dy);
        }
        self.contribute(x, |backward, dx| {
            backward.emit(Instruction::BatchNormBackwardInput { layer, pool, x, dy, mask, statistics, dx });
        });
    }

    /// Where the winners of the windows of a max-pooled value are kept.
    fn winners(&mut self, pooled: ValueId) -> ValueId {
        let extent = Extent::PerImage(self.program.shape(pooled));
        self.program.value(self.program[pooled].name.clone(), Kind::Argmax, extent)
    }

    fn emit(&mut self, instruction: Instruction) {
        self.program.instructions.push(instruction);
    }

    fn learns(&self, value: ValueId) -> bool {
        self.learns.get(self.program.root(value).index()).is_some_and(|&learns| learns)
    }

    /// The gradient of a value that an instruction wrote, once all its readers have been visited.
    fn gradient(&mut self, value: ValueId) -> Option<ValueId> {
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

    /// The gradient of what stands before a fused activation whose result is `value`.
    fn masked_gradient(&mut self, value: ValueId, activation: Activation) -> Option<ValueId> {
        let dy = self.gradient(value)?;
        if activation == Activation::None {
            return Some(dy);
        }
        let dx = self.new_gradient(value);
        self.emit(Instruction::FunctionBackward { function: Function::Relu, dy, of: Some(value), dx });
        Some(dx)
    }

    /// Memory for a gradient of `value`.
    fn new_gradient(&mut self, value: ValueId) -> ValueId {
        let (name, extent) = (self.program[value].name.clone(), self.program[value].extent);
        self.program.value(name, Kind::Gradient, extent)
    }

    /// `term`, or a new gradient of `value` that is the sum of both.
    fn plus(&mut self, value: ValueId, sum: Option<ValueId>, term: ValueId) -> ValueId {
        let Some(a) = sum else { return term };
        let y = self.new_gradient(value);
        self.emit(Instruction::Add { a, b: term, y, activation: Activation::None });
        y
    }

    /// Lets `write` emit the instructions that write one reader's share of the gradient of `value`, and adds it to
    /// the shares of other readers. Nothing happens when the value needs no gradient; returns the share otherwise.
    fn contribute(&mut self, value: ValueId, write: impl FnOnce(&mut Self, ValueId)) -> Option<ValueId> {
        if !self.learns(value) {
            return None;
        }
        let share = self.new_gradient(value);
        write(self, share);
        self.add_share(value, share);
        Some(share)
    }

    /// Adds a gradient that exists for another value too, in the shape of `value`, to the shares of this one.
    fn hand_on(&mut self, value: ValueId, gradient: ValueId) {
        if !self.learns(value) {
            return;
        }
        let reshaped = self.program[value].view_of.is_some() && self.program[value].slice.is_none();
        if reshaped && self.program[gradient].slice.is_some() {
            // Pixels that stand apart have no other shape.
            self.contribute(value, |backward, dx| backward.emit(Instruction::Copy { x: gradient, y: dx }));
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
