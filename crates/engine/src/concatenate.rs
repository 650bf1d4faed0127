//! Concatenation without copies: a layer that feeds one writes its channels of the concatenation's memory itself.
//!
//! [`lower`](crate::lower) copies every input of a concatenation to its channels. A copy goes where its source can be those
//! channels: every kernel reads and writes maps whose pixels stand further apart than they are wide. It stays for
//! the images, which the caller owns; for what another concatenation has taken; and for what is read in another
//! shape or by the caller, which needs pixels side by side.

use crate::instruction::Instruction;
use crate::program::{Kind, Program, Slice, ValueId};

/// Removes every copy that is not needed.
pub(crate) fn concatenate(program: &mut Program) {
    let mut instructions = std::mem::take(&mut program.instructions);
    let in_order = instructions.iter().filter_map(|instruction| match *instruction {
        Instruction::Copy { x, y } => Some((x, y)),
        _ => None,
    });
    let copies: Vec<_> = in_order.collect();
    for (x, y) in copies {
        if may_be_slice(program, &instructions, x) {
            become_slice(program, x, y);
        }
    }
    instructions.retain(|instruction| match *instruction {
        Instruction::Copy { x, y } => !is_same(program, x, y),
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
        let is_loss = matches!(instruction, Instruction::Loss { .. });
        instruction.operands(|_, operand| {
            let reshaped = operand != x && program[operand].slice.is_none();
            dense |= program.root(operand) == x && (is_loss || reshaped);
        });
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
