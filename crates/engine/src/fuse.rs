//! Fusion: fewer passes over memory, the same numbers.
//!
//! - A ReLU on either side of a max-pooling becomes part of it: `relu(maxPool(z))` equals `maxPool(relu(z))` because
//!   ReLU is monotonic. The pooled map is the smaller one, and the gradient is masked while it is scattered, through
//!   `y > 0`: where the maximum is positive the same tap wins on both sides, elsewhere no gradient passes.
//! - A ReLU that alone reads a convolution becomes part of its epilogue.
//!
//! The first goes first: in training, a convolution whose ReLU moved on has no mask to apply in its backward pass.
//! Fusion works on forward programs; [`autodiff`](crate::autodiff) differentiates what it leaves.

use crate::program::{Access, Instruction, Program, ValueId};
use fovea_kernels::Activation;

/// Applies every fusion.
pub(crate) fn fuse(program: &mut Program) {
    absorb_relus(program, into_max_pool);
    absorb_relus(program, into_convolution);
    program.backward = program.instructions.len();
    program.update = program.backward;
}

/// A ReLU: its position and operands.
struct Relu {
    index: usize,
    x: ValueId,
    y: ValueId,
}

/// Removes every ReLU that `absorb` could make part of another instruction.
fn absorb_relus(program: &mut Program, absorb: impl Fn(&mut Program, &Relu) -> bool) {
    let mut index = 0;
    while index < program.instructions.len() {
        let absorbed = match program.instructions[index] {
            Instruction::Relu { x, y } => absorb(program, &Relu { index, x, y }),
            _ => false,
        };
        if absorbed {
            program.instructions.remove(index);
        } else {
            index += 1;
        }
    }
}

fn into_max_pool(program: &mut Program, relu: &Relu) -> bool {
    let behind = sole_reader(program, relu.y);
    if let Some(Instruction::MaxPool { x, activation, .. }) = behind.map(|at| &mut program.instructions[at]) {
        (*x, *activation) = (relu.x, Activation::Relu);
        return true;
    }
    if let Some(Instruction::MaxPool { y, activation, .. }) = sole_source(program, relu) {
        (*y, *activation) = (relu.y, Activation::Relu);
        return true;
    }
    false
}

fn into_convolution(program: &mut Program, relu: &Relu) -> bool {
    match sole_source(program, relu) {
        Some(Instruction::Convolution { y, activation, .. }) => {
            (*y, *activation) = (relu.y, Activation::Relu);
            true
        }
        _ => false,
    }
}

/// The instruction that reads `value`, if there is one only and the caller does not read it.
fn sole_reader(program: &Program, value: ValueId) -> Option<usize> {
    let root = program.root(value);
    let mut readers = Vec::new();
    for (index, instruction) in program.instructions.iter().enumerate() {
        instruction.operands(|access, operand| {
            if access != Access::Write && program.root(operand) == root {
                readers.push((index, operand));
            }
        });
    }
    let is_result = program.results.iter().any(|&result| program.root(result) == root);
    match readers[..] {
        [(index, operand)] if operand == value && !is_result => Some(index),
        _ => None,
    }
}

/// The instruction that writes what the ReLU reads, if nobody else reads it.
fn sole_source<'a>(program: &'a mut Program, relu: &Relu) -> Option<&'a mut Instruction> {
    sole_reader(program, relu.x).filter(|&reader| reader == relu.index)?;
    program.instructions.iter_mut().find(|instruction| {
        let mut writes = false;
        instruction.operands(|access, operand| writes |= access == Access::Write && operand == relu.x);
        writes
    })
}

#[cfg(test)]
mod tests {
    use crate::graph::Graph;
    use crate::network::Network;
    use crate::plan::{Plan, PlanOptions};
    use crate::program::Mode;
    use crate::session::Precision;
    use crate::session::{Session, SessionOptions, SgdOptions};
    use crate::testing::{chain, conv, dense, lenet5, max_pool, op, random_graph};
    use fovea_kernels::Isa;
    use fovea_reference::check::uniform;

    fn instructions(graph: &str, mode: Mode, fuse: bool) -> Vec<&'static str> {
        let network = Network::new(Graph::from_json(graph).unwrap(), Isa::available()[0]).unwrap();
        let plan = Plan::compile(
            &network,
            PlanOptions { mode, batch: 2, threads: 1, fuse, precision: Precision::Fast },
        )
        .unwrap();
        plan.program.instructions.iter().map(|instruction| instruction.name()).collect()
    }

    #[test]
    fn every_relu_of_lenet5_joins_its_neighbour() {
        let forward = instructions(&lenet5(), Mode::Infer, true);
        assert_eq!(forward, ["conv", "maxPool", "conv", "maxPool", "dense", "dense", "dense"]);
        let unfused = instructions(&lenet5(), Mode::Infer, false);
        assert_eq!(unfused.iter().filter(|&&name| name == "relu").count(), 4);
        let training = instructions(&lenet5(), Mode::Train, true);
        // Masks of their own remain for the two dense layers that end in a ReLU.
        assert_eq!(training.iter().filter(|&&name| name == "reluBackward").count(), 2);
    }

    #[test]
    fn a_relu_whose_operand_is_needed_elsewhere_stays() {
        // The pool's result is the output itself, so the ReLU before it may move but not the one on the side.
        let graph = chain([4, 4, 1], &[conv(2, [1, 1]), max_pool(2), op("relu"), op("tanh")]);
        assert_eq!(instructions(&graph, Mode::Infer, true), ["conv", "maxPool", "tanh"]);
        let twice = graph.replace(r#""inputs":["node2"]"#, r#""inputs":["node1"]"#);
        let twice = twice.replace(r#""outputs":["#, r#""outputs":[{"node":"node2","lossWeight":1},"#);
        let network = Network::new(Graph::from_json(&twice).unwrap(), Isa::available()[0]).unwrap();
        let mut program = crate::lower::lower(&network, Mode::Infer).unwrap();
        program.results.push(program.instructions.iter().find_map(|i| i.in_place()).unwrap().0);
        super::fuse(&mut program);
        assert!(program.instructions.iter().any(|instruction| instruction.name() == "relu"));
    }

    #[test]
    fn fused_and_unfused_programs_train_to_the_same_bits_on_every_instruction_set() {
        let between = [
            conv(9, [3, 3]),
            op("relu"),
            max_pool(2),
            conv(20, [1, 1]),
            max_pool(2),
            op("relu"),
            op("flatten"),
            dense(7),
            op("relu"),
            dense(4),
        ];
        let graphs = [lenet5(), chain([10, 9, 3], &between)].into_iter().chain((0..20).map(random_graph));
        for (definition, isa) in
            graphs.flat_map(|graph| Isa::available().into_iter().map(move |isa| (graph.clone(), isa)))
        {
            let train = |fuse: bool| {
                let options =
                    SessionOptions { threads: Some(2), isa: Some(isa), seed: 3, ..Default::default() };
                let mut session = Session::new(Graph::from_json(&definition).unwrap(), options).unwrap();
                session.fuse = fuse;
                for step in 0..3 {
                    let images = uniform(step, 5 * session.image_len());
                    session.train_step(&images, &[0, 3, 1, 2, 2], &SgdOptions::default()).unwrap();
                }
                let mut output = vec![0.0; 5 * session.output_len()];
                session.predict(&uniform(9, 5 * session.image_len()), 5, &mut output).unwrap();
                (session.weights(), output)
            };
            assert!(train(true) == train(false), "{} {definition}", isa.name());
        }
    }
}
