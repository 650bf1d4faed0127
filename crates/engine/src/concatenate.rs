//! Concatenation without copies: a layer that feeds one writes its channels of the concatenation's memory
//! itself.
//!
//! [`lower`](crate::lower) copies every input of a concatenation to its channels. A copy goes where its source
//! can be those channels: every kernel reads and writes maps whose pixels stand further apart than they are
//! wide. It stays for the images, which the caller owns; for what another concatenation has taken; and for what
//! is read in another shape or by the caller, which needs pixels side by side.

use crate::instruction::Instruction;
use crate::operand::Operand;
use crate::ops::concat::Copy;
use crate::ops::convolution::Forward;
use crate::program::{Kind, Program, Slice, ValueId};

/// Removes every copy that is not needed.
pub(crate) fn concatenate(program: &mut Program) {
    let mut instructions = std::mem::take(&mut program.instructions);
    let in_order = instructions.iter().filter_map(|instruction| match *instruction {
        Instruction::Copy(Copy { x, y }) => Some((x, y)),
        _ => None,
    });
    let copies: Vec<_> = in_order.collect();
    for (x, y) in copies {
        if may_be_slice(program, &instructions, x) {
            become_slice(program, x, y);
        }
    }
    instructions.retain(|instruction| match *instruction {
        Instruction::Copy(Copy { x, y }) => !is_same(program, x, y),
        _ => true,
    });
    program.instructions = instructions;
    program.backward = program.instructions.len();
    program.update = program.backward;
}

/// Whether all that touches the memory of `x` takes pixels that stand apart.
fn may_be_slice(program: &Program, instructions: &[Instruction], x: ValueId) -> bool {
    let owns = program[x].view_of.is_none() && program[x].kind == Kind::Activation;
    let mut dense = program.results.iter().any(|&result| program.root(result) == x);
    for instruction in instructions {
        let is_loss = matches!(instruction, Instruction::Loss(_));
        let adds = |operand: ValueId| match *instruction {
            // A residual lies as the result does.
            Instruction::Convolution(Forward { residual: Some(residual), y, .. }) => {
                [residual, y].contains(&operand)
            }
            _ => false,
        };
        for Operand { value, .. } in instruction.operands().iter() {
            let reshaped = value != x && program[value].slice.is_none();
            dense |= program.root(value) == x && (is_loss || reshaped || adds(value));
        }
    }
    owns && !dense
}

/// Makes `x`, and with it what are slices of it, the channels `y` of another value.
fn become_slice(program: &mut Program, x: ValueId, y: ValueId) {
    let (root, channels) = (program.root(y), program.channels(y));
    let of = program.shape(root)[2];
    for value in &mut program.values {
        if value.view_of == Some(x) {
            value.view_of = Some(root);
            value.slice = value.slice.map(|slice| Slice { first: slice.first + channels.start, of });
        }
    }
    let value = &mut program.values[x.index()];
    (value.view_of, value.slice) = (Some(root), Some(Slice { first: channels.start, of }));
}

/// Whether two values are the same memory.
fn is_same(program: &Program, x: ValueId, y: ValueId) -> bool {
    let place = |value| (program.root(value), program.channels(value));
    place(x) == place(y)
}

#[cfg(test)]
mod tests {
    use crate::graph::Graph;
    use crate::network::Network;
    use crate::plan::{Plan, PlanOptions};
    use crate::program::Mode;
    use crate::session::Precision;
    use crate::testing::{conv, dense, graph, join, mixed, node, op};
    use fovea_kernels::Isa;
    use serde_json::Value;

    fn plan(definition: &str, mode: Mode) -> Plan {
        let network = Network::new(Graph::from_json(definition).unwrap(), Isa::available()[0]).unwrap();
        let options = PlanOptions { mode, batch: 2, threads: 1, fuse: true, precision: Precision::Fast };
        Plan::compile(&network, options).unwrap()
    }

    fn copies(definition: &str, mode: Mode) -> usize {
        plan(definition, mode).program.instructions.iter().filter(|i| i.name() == "copy").count()
    }

    /// A classifier behind `nodes`, the last of which is called `joined`.
    fn classified(mut nodes: Vec<Value>) -> String {
        nodes.extend([node("flat", "joined", op("flatten")), node("fc", "flat", dense(3))]);
        graph([4, 4, 2], nodes, &[("fc", 1.0)])
    }

    fn branches() -> Vec<Value> {
        vec![node("a", "input", conv(3, [1, 1])), node("b", "input", conv(5, [1, 1]))]
    }

    fn joined(mut nodes: Vec<Value>, inputs: &[&str]) -> String {
        nodes.push(join("joined", inputs, "concat"));
        classified(nodes)
    }

    #[test]
    fn branches_write_and_gradients_are_read_where_they_belong() {
        for mode in [Mode::Infer, Mode::Evaluate, Mode::Train] {
            assert_eq!(copies(&mixed(), mode), 0);
            assert_eq!(copies(&joined(branches(), &["a", "b"]), mode), 0);
        }
        let plan = plan(&joined(branches(), &["a", "b"]), Mode::Train);
        let strided = (0..plan.program.values.len()).map(crate::program::ValueId::new);
        let strided = strided.filter(|&value| plan.slot(value).ld == 8 && plan.slot(value).shape[3] < 8);
        let mut widths: Vec<_> = strided.map(|value| plan.slot(value).shape[3]).collect();
        widths.sort_unstable();
        widths.dedup();
        assert_eq!(widths, [3, 5]);
    }

    #[test]
    fn what_was_joined_is_joined_again_without_a_copy() {
        let mut nodes = branches();
        nodes.extend([join("ab", &["a", "b"], "concat"), node("c", "ab", conv(2, [1, 1]))]);
        assert_eq!(copies(&joined(nodes, &["ab", "c"]), Mode::Train), 0);
    }

    #[test]
    fn a_copy_stays_where_memory_is_taken_or_not_ours() {
        for (inputs, expected) in [
            (&["a", "b", "input"][..], 1), // the caller's
            (&["a", "b", "a"], 1),         // taken by the first of them
            (&["a", "a", "a", "b", "b"], 3),
        ] {
            assert_eq!(copies(&joined(branches(), inputs), Mode::Infer), expected, "{inputs:?}");
        }
        // A flattened map has its pixels side by side, and so has the output, which the caller reads.
        let mut nodes = branches();
        nodes.extend([
            node("fa", "a", op("flatten")),
            node("fb", "b", op("flatten")),
            join("joined", &["fa", "fb"], "concat"),
        ]);
        let definition = graph([4, 4, 2], nodes, &[("joined", 1.0)]);
        assert_eq!(copies(&definition, Mode::Infer), 2);
        let mut nodes = branches();
        nodes.push(join("ab", &["a", "b"], "concat"));
        let definition = graph([4, 4, 2], nodes, &[("a", 1.0), ("ab", 0.0)]);
        assert_eq!(copies(&definition, Mode::Infer), 0);
    }
}
