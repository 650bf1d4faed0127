//! A program for one batch size, with every value's place in memory.
//!
//! All memory of a step is one arena. A value occupies its place from the instruction that writes it to the
//! last one that reads it, then the place is free for others; an instruction's scratch memory lives for that
//! instruction. Views share their owner's place, and an elementwise instruction works in place when its operand
//! is not needed afterwards. Large values are placed first, each at the lowest offset free during its life.

use crate::autodiff::differentiate;
use crate::concatenate::concatenate;
use crate::error::{EngineError, Result};
use crate::fuse::{fuse, fuse_gradients, join_separable};
use crate::instruction::Instruction;
use crate::lower::lower;
use crate::moments::take_moments;
use crate::network::{LINE, Network};
use crate::operand::{Operand, Reach};
use crate::program::{Extent, Kind, Mode, Program, ValueId};
use crate::replay::Replay;
use crate::select::select;
use crate::session::Precision;
use std::ops::Range;

/// What [`execute`](crate::execute) runs.
pub(crate) struct Plan {
    pub mode: Mode,
    pub batch: usize,
    pub program: Program,
    /// Where each value lies; meaningless for values that fusion left without readers and writers.
    slots: Vec<Slot>,
    /// Scratch memory of each instruction, in floats of the arena.
    scratch: Vec<Range<usize>>,
    /// Floats of the arena.
    pub arena_len: usize,
}

/// Place and shape of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub place: Place,
    /// `[n, h, w, c]`.
    pub shape: [usize; 4],
    /// Floats from pixel to pixel.
    pub ld: usize,
}

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the images that the caller passes in.
    Images,
    /// In the arena, from this float on.
    Arena(usize),
}

/// What a plan is compiled for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanOptions {
    pub mode: Mode,
    /// Images at once.
    pub batch: usize,
    pub threads: usize,
    /// False keeps every node an instruction of its own, for tests.
    pub fuse: bool,
    pub precision: Precision,
}

/// A stretch of memory with a lifetime, both ends included.
#[derive(Clone, Copy, Debug)]
struct Block {
    floats: usize,
    first: usize,
    last: usize,
}

impl Plan {
    /// Lowers, fuses and differentiates the network, chooses algorithms, and lays out the memory.
    ///
    /// Errors: a network that cannot be trained or evaluated, when the mode is that.
    pub fn compile(network: &Network, options: PlanOptions) -> Result<Self> {
        let PlanOptions { mode, batch, threads, .. } = options;
        let mut program = lower(network, mode)?;
        if options.fuse {
            fuse(&mut program, mode);
        }
        concatenate(&mut program);
        if mode == Mode::Train {
            program = differentiate(program, network)?;
            if options.fuse {
                fuse_gradients(&mut program);
            }
        }
        if options.precision == Precision::Fast {
            select(&mut program, mode, batch);
        }
        match mode {
            _ if !options.fuse => {}
            Mode::Train => take_moments(&mut program, batch),
            Mode::Infer | Mode::Evaluate => join_separable(&mut program, batch, threads),
        }
        let (owners, mut blocks) = storage(&program, batch);
        let values = blocks.len();
        let scratch_len = |instruction: &Instruction| instruction.scratch_len(&program, batch, threads);
        let lens = program.instructions.iter().map(scratch_len);
        blocks.extend(lens.enumerate().map(|(at, floats)| Block { floats, first: at, last: at }));
        let (offsets, arena_len) = assign(&blocks);
        let slot = |index: usize| {
            let value = &program.values[index];
            let shape = match value.extent {
                Extent::PerImage([h, w, c]) => [batch, h, w, c],
                Extent::Fixed(elements) => [1, 1, 1, elements],
            };
            let owner = owners[program.root(ValueId::new(index)).index()];
            let (first, ld) = value.slice.map_or((0, shape[3]), |slice| (slice.first, slice.of));
            let place = match program.values[owner].kind {
                Kind::Input => Place::Images,
                _ => Place::Arena(offsets[owner] + first),
            };
            Slot { place, shape, ld }
        };
        let slots = (0..values).map(slot).collect();
        let scratch = blocks[values..].iter().zip(&offsets[values..]);
        let scratch = scratch.map(|(block, &offset)| offset..offset + block.floats).collect();
        let plan = Self { mode, batch, program, slots, scratch, arena_len };
        match plan.conflict() {
            None => Ok(plan),
            Some(problem) => Err(EngineError::Plan(problem)),
        }
    }

    /// Place and shape of a value that an instruction touches.
    pub fn slot(&self, value: ValueId) -> &Slot {
        &self.slots[value.index()]
    }

    /// Floats of the arena that the instruction at `index` may use as it likes.
    pub fn scratch(&self, index: usize) -> Range<usize> {
        self.scratch[index].clone()
    }

    /// Floats of the arena from the first to the last of a value; none for the images.
    pub fn span(&self, value: ValueId) -> Range<usize> {
        match self.slot(value).place {
            Place::Images => 0..0,
            Place::Arena(offset) => offset..offset + floats(&self.program, value, self.batch),
        }
    }

    /// Elements of a value.
    pub fn elements(&self, value: ValueId) -> usize {
        self.slot(value).shape.iter().product()
    }

    /// Floats of the batch of images.
    pub fn images_len(&self) -> usize {
        self.batch * self.program.shape(Program::INPUT).iter().product::<usize>()
    }

    /// What is wrong with the plan's memory, if anything; see [`crate::replay`]. Every plan that is compiled is
    /// asked.
    pub fn conflict(&self) -> Option<String> {
        Replay::new(self).conflict()
    }
}

/// Floats from the first to the last of a value; an argmax has four elements in each.
fn floats(program: &Program, value: ValueId, batch: usize) -> usize {
    let elements = match program[value].extent {
        Extent::PerImage([h, w, c]) => {
            batch * h * w * c + program[value].slice.map_or(0, |slice| (batch * h * w - 1) * (slice.of - c))
        }
        Extent::Fixed(elements) => elements,
    };
    if program[value].kind == Kind::Argmax { elements.div_ceil(4) } else { elements }
}

/// For each value that owns memory, by index: the value whose block it lies in, itself or one that it follows
/// in place; and a block for each value, empty where the value has none of its own.
fn storage(program: &Program, batch: usize) -> (Vec<usize>, Vec<Block>) {
    let mut lives: Vec<Option<(usize, usize)>> = vec![None; program.values.len()];
    let mut touch = |value: ValueId, at: usize| {
        let life = lives[program.root(value).index()].get_or_insert((at, at));
        life.1 = at;
    };
    for (at, instruction) in program.instructions.iter().enumerate() {
        instruction.operands().iter().for_each(|operand| touch(operand.value, at));
    }
    for &result in &program.results {
        touch(result, program.instructions.len());
    }
    let mut owners: Vec<usize> = (0..program.values.len()).collect();
    for (at, instruction) in program.instructions.iter().enumerate() {
        for (source, target) in in_place(program, instruction) {
            let (source, target) = (owners[program.root(source).index()], program.root(target).index());
            let in_arena = program.values[source].kind != Kind::Input;
            if let (true, Some((first, last)), Some((from, to))) = (in_arena, lives[source], lives[target])
                && (last, from) == (at, at)
            {
                (lives[source], lives[target]) = (Some((first, to)), None);
                owners[target] = source;
                break;
            }
        }
    }
    let block = |index: usize| match (lives[index], program.values[index].kind) {
        (Some((first, last)), kind) if kind != Kind::Input => {
            Block { floats: floats(program, ValueId::new(index), batch), first, last }
        }
        _ => Block { floats: 0, first: 0, last: 0 },
    };
    let blocks = (0..program.values.len()).map(block).collect();
    (owners, blocks)
}

/// Pairs of a value that is read and one that may be written in its place, once nothing reads it afterwards;
/// the better one first. It is read at the pixel that is written and nowhere else, and so is everything in its
/// memory.
fn in_place(program: &Program, instruction: &Instruction) -> Vec<(ValueId, ValueId)> {
    let operands = instruction.operands();
    // The pixels of a slice stand apart, and other channels between them live on.
    let whole = |operand: &Operand| operand.reach == Reach::Pixel && program[operand.value].slice.is_none();
    let same_memory = |one: ValueId, other: ValueId| program.root(one) == program.root(other);
    let alike = |source: ValueId, target: ValueId| {
        let bytes = [source, target].map(|value| program[value].kind == Kind::Argmax);
        bytes == [false; 2] && program[source].extent == program[target].extent
    };
    let mut pairs = Vec::new();
    for target in operands.writes().filter(whole) {
        for source in operands.reads().filter(whole) {
            let mut beside = operands.reads().filter(|other| same_memory(other.value, source.value));
            if alike(source.value, target.value) && beside.all(|other| whole(&other)) {
                pairs.push((source.value, target.value));
            }
        }
    }
    pairs
}

/// Offsets, on cache lines, such that no two blocks overlap in both memory and time; and the memory needed.
///
/// Greedy by size: the best known simple heuristic (Pisarchyk and Lee 2020, arXiv:2001.03288).
fn assign(blocks: &[Block]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..blocks.len()).filter(|&index| blocks[index].floats > 0).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(blocks[index].floats), blocks[index].first));
    let mut offsets = vec![0; blocks.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(order.len()); // by offset
    let mut total = 0;
    for index in order {
        let Block { floats, first, last } = blocks[index];
        let mut offset = 0;
        for &other in &placed {
            let alive = blocks[other].first <= last && first <= blocks[other].last;
            if alive {
                if offsets[other] >= offset + floats {
                    break;
                }
                offset = offset.max((offsets[other] + blocks[other].floats).next_multiple_of(LINE));
            }
        }
        offsets[index] = offset;
        let position = placed.partition_point(|&other| offsets[other] <= offset);
        placed.insert(position, index);
        total = total.max((offset + floats).next_multiple_of(LINE));
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::ops::convolution::Forward;
    use crate::testing::{conv, dense, graph, node, op};
    use crate::testing::{lenet5, mixed, random_graph, residual_block};
    use fovea_kernels::Isa;
    use fovea_kernels::random::Philox;

    fn compile(definition: &str, isa: Isa, options: PlanOptions) -> Plan {
        let network = Network::new(Graph::from_json(definition).unwrap(), isa).unwrap();
        Plan::compile(&network, options).unwrap()
    }

    #[test]
    fn no_two_live_values_overlap_in_plans_of_random_graphs() {
        for seed in 0..200 {
            let isa = Isa::available()[seed as usize % Isa::available().len()];
            for mode in [Mode::Infer, Mode::Evaluate, Mode::Train] {
                let options = PlanOptions {
                    mode,
                    batch: 1 + seed as usize % 5,
                    threads: 2,
                    fuse: seed % 3 > 0,
                    precision: Precision::Fast,
                };
                let plan = compile(&random_graph(seed), isa, options);
                assert_eq!(plan.conflict(), None, "seed {seed}, {}", mode.name());
            }
        }
    }

    #[test]
    fn a_result_on_what_its_instruction_reads_around_its_pixels_is_noticed() {
        let same = |filters: usize| {
            let mut convolution = conv(filters, [3, 3]);
            convolution["padding"] = serde_json::json!("same");
            convolution
        };
        let nodes = vec![
            node("a", "input", same(16)),
            node("conv", "a", same(16)),
            crate::testing::join("out", &["conv", "a"], "add"),
        ];
        let definition = graph([8, 8, 3], nodes, &[("out", 1.0)]);
        let options =
            PlanOptions { mode: Mode::Infer, batch: 2, threads: 1, fuse: true, precision: Precision::Fast };
        let mut plan = compile(&definition, Isa::available()[0], options);
        let added = plan.program.instructions.iter().find_map(|instruction| match *instruction {
            Instruction::Convolution(Forward { x, residual: Some(residual), y, .. }) => {
                Some((x, residual, y))
            }
            _ => None,
        });
        let (x, residual, y) = added.unwrap();
        assert_eq!((x, plan.conflict()), (residual, None));
        plan.slots[y.index()].place = plan.slots[x.index()].place;
        let conflict = plan.conflict().unwrap();
        assert_eq!(conflict, "instruction 1 (conv): \"a\" is read where \"out\" is written");
    }

    #[test]
    fn a_value_moved_onto_another_is_noticed() {
        for definition in [lenet5(), mixed()] {
            most_moves_are_noticed(&definition);
        }
    }

    fn most_moves_are_noticed(definition: &str) {
        let options =
            PlanOptions { mode: Mode::Train, batch: 4, threads: 2, fuse: true, precision: Precision::Fast };
        let mut noticed = 0;
        let plan = compile(definition, Isa::available()[0], options);
        for index in 0..plan.slots.len() {
            let mut broken = compile(definition, Isa::available()[0], options);
            let Place::Arena(offset) = broken.slots[index].place else { continue };
            for other in [0, broken.arena_len] {
                broken.slots[index].place = Place::Arena(other);
                noticed += usize::from(other != offset && broken.conflict().is_some());
            }
        }
        assert!(noticed > plan.slots.len() / 2, "{noticed}");
    }

    #[test]
    fn gradients_of_a_residual_block_take_two_places_at_a_time() {
        // Deep down, the memory of a training step is what the forward pass keeps and, while a block is passed
        // on the way back, the gradient of the shortcut and one more: everything else happens in their places.
        let arena = |blocks: usize| {
            let mut nodes = vec![node("block0", "input", conv(64, [1, 1]))];
            for block in 1..=blocks {
                nodes.extend(residual_block(&format!("block{block}"), &format!("block{}", block - 1), 64));
            }
            nodes.extend([
                node("mean", &format!("block{blocks}"), op("globalAvgPool")),
                node("fc", "mean", dense(4)),
            ]);
            let graph = graph([32, 32, 3], nodes, &[("fc", 1.0)]);
            let options = PlanOptions {
                mode: Mode::Train,
                batch: 8,
                threads: 1,
                fuse: true,
                precision: Precision::Strict,
            };
            compile(&graph, Isa::available()[0], options).arena_len as f64 / f64::from(8 * 32 * 32 * 64)
        };
        // A block keeps what its two normalizations read and write.
        let (one, five) = (arena(1), arena(5));
        assert!(five - one < 4.0 * 4.0 + 0.1, "{one} {five}");
        assert!(one < 5.0 + 2.0 + 0.7, "{one}");
    }

    #[test]
    fn blocks_that_live_together_never_share_memory_and_others_do() {
        let random = Philox { seed: 1, stream: 2 };
        let draw = |index: usize, n: u32| random.below(index as u64, n) as usize;
        for round in 0..50 {
            let block = |index: usize| {
                let at = (round * 1000 + index) * 3;
                let first = draw(at, 40);
                Block { floats: draw(at + 1, 200), first, last: first + draw(at + 2, 8) }
            };
            let blocks: Vec<_> = (0..60).map(block).collect();
            let (offsets, total) = assign(&blocks);
            for (a, b) in (0..60).flat_map(|a| (0..a).map(move |b| (a, b))) {
                let together = blocks[a].first <= blocks[b].last && blocks[b].first <= blocks[a].last;
                let [a, b] = [a, b].map(|index| offsets[index]..offsets[index] + blocks[index].floats);
                assert!(!together || a.end <= b.start || b.end <= a.start || a.is_empty() || b.is_empty());
                assert!(a.end <= total && a.start % LINE == 0);
            }
            assert!(total < blocks.iter().map(|block| block.floats).sum::<usize>() / 2);
        }
    }

    #[test]
    fn training_lenet5_takes_less_memory_than_its_values_one_beside_the_other() {
        let options =
            PlanOptions { mode: Mode::Train, batch: 64, threads: 2, fuse: true, precision: Precision::Fast };
        let plan = compile(&lenet5(), Isa::available()[0], options);
        let values = (0..plan.program.values.len()).map(ValueId::new);
        let owners = values.filter(|&value| plan.program.root(value) == value);
        let sum: usize = owners.map(|value| floats(&plan.program, value, 64)).sum();
        assert!(plan.arena_len < sum * 2 / 3, "{} of {sum}", plan.arena_len);
    }
}
