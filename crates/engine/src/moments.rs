//! Batch normalization without a pass over its operand for the statistics: the convolution that writes the
//! operand takes its moments, sums and squares of each channel, from the registers.
//!
//! It comes after [`select`](crate::select), for how pixels are summed depends on the algorithm and on the
//! batch.

use crate::instruction::Instruction;
use crate::ops::convolution::Algorithm;
use crate::program::{Extent, Kind, Program, ValueId};

/// Lets every convolution that can take the moments that a batch normalization of a training program reads.
pub(crate) fn take_moments(program: &mut Program, batch: usize) {
    for index in 0..program.backward {
        let x = match &program.instructions[index] {
            Instruction::BatchNorm(norm) if norm.saved.is_some() && !norm.frozen => norm.x,
            _ => continue,
        };
        let taken = moments_of(program, x, batch);
        if let Instruction::BatchNorm(norm) = &mut program.instructions[index] {
            norm.moments = taken;
        }
    }
}

/// The moments of what a convolution writes and leaves as it is, if it can take them.
fn moments_of(program: &mut Program, of: ValueId, batch: usize) -> Option<ValueId> {
    let writes = |instruction: &Instruction| match instruction {
        Instruction::Convolution(call) => call.y == of && call.residual.is_none() && call.function.is_none(),
        _ => false,
    };
    let at = program.instructions.iter().position(writes)?;
    let Instruction::Convolution(call) = &program.instructions[at] else { return None };
    if call.moments.is_some() {
        return call.moments;
    }
    let len = match &call.algorithm {
        Algorithm::Direct => call.layer.kernel.moments_len(batch)?,
        Algorithm::Winograd(winograd, _) | Algorithm::WinogradKept(winograd) => winograd.moments_len(batch),
    };
    let name = program[of].name.clone();
    let taken = program.value(name, Kind::Statistics, Extent::Fixed(len));
    if let Instruction::Convolution(call) = &mut program.instructions[at] {
        call.moments = Some(taken);
    }
    Some(taken)
}

#[cfg(test)]
mod tests {
    use crate::graph::Graph;
    use crate::instruction::Instruction;
    use crate::network::Network;
    use crate::plan::{Plan, PlanOptions};
    use crate::program::Mode;
    use crate::session::Precision;
    use crate::testing::{batch_norm, conv, dense, graph, join, node, op};
    use fovea_kernels::Isa;

    #[test]
    fn what_convolutions_write_is_not_read_for_its_statistics_unless_it_was_changed_in_between() {
        let nodes = vec![
            node("conv", "input", conv(3, [1, 1])),
            node("bn", "conv", batch_norm()),
            node("twice", "conv", batch_norm()),
            node("relu", "conv", op("relu")),
            node("other", "relu", batch_norm()),
            join("sum", &["bn", "twice"], "add"),
            join("all", &["sum", "other"], "add"),
            node("flat", "all", op("flatten")),
            node("fc", "flat", dense(4)),
        ];
        let graph = graph([4, 4, 2], nodes, &[("fc", 1.0)]);
        for isa in Isa::available() {
            let network = Network::new(Graph::from_json(&graph).unwrap(), isa).unwrap();
            let (mode, precision) = (Mode::Train, Precision::Strict);
            let options = PlanOptions { mode, batch: 3, threads: 2, fuse: true, precision };
            let plan = Plan::compile(&network, options).unwrap();
            let with_moments = plan.program.instructions.iter().filter_map(|instruction| match instruction {
                Instruction::BatchNorm(norm) => Some((norm.layer.name.as_str(), norm.moments.is_some())),
                _ => None,
            });
            let mut found: Vec<_> = with_moments.collect();
            found.sort_unstable();
            assert_eq!(found, [("bn", true), ("other", false), ("twice", true)]);
        }
    }
}
