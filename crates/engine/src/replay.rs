//! The proof that a plan's memory is right: its program, replayed on a map of the arena.
//!
//! The map says whose content each cache line has. An operand that is read must still stand where it was written, and
//! every channel of it must have been; no two operands of an instruction may overlap, save in place and as
//! different channels of one value. Debug builds ask for every plan, tests for those of random graphs.

use crate::instruction::{Access, Instruction};
use crate::network::LINE;
use crate::plan::{Place, Plan};
use crate::program::{Extent, ValueId};
use std::ops::Range;

/// Owner of scratch memory among the indices of values.
const SCRATCH: usize = usize::MAX;

pub(crate) struct Replay<'a> {
    plan: &'a Plan,
    /// The owner of each cache line's content.
    content: Vec<Option<usize>>,
    /// The channels written so far of each value that owns memory.
    written: Vec<Vec<bool>>,
}

/// What an instruction touches.
struct Operand {
    access: Access,
    /// Index of the value that owns the memory.
    root: usize,
    /// Its channels of that value.
    channels: Range<usize>,
    /// Cache lines.
    lines: Range<usize>,
}

impl<'a> Replay<'a> {
    pub fn new(plan: &'a Plan) -> Self {
        let channels = |value: ValueId| match plan.program[value].extent {
            Extent::PerImage([_, _, channels]) => channels,
            Extent::Fixed(_) => 1,
        };
        let values = (0..plan.program.values.len()).map(ValueId::new);
        let written = values.map(|value| vec![false; channels(value)]).collect();
        Self { plan, content: vec![None; plan.arena_len / LINE], written }
    }

    /// A sentence about the first operand whose memory is not what it should be.
    pub fn conflict(mut self) -> Option<String> {
        let program = &self.plan.program;
        for (at, instruction) in program.instructions.iter().enumerate() {
            if let Err(problem) = self.step(at, instruction) {
                return Some(format!("instruction {at} ({}): {problem}", instruction.name()));
            }
        }
        let results = program.results.iter();
        results.map(|&result| self.check_content(&self.operand(Access::Read, result))).find_map(Result::err)
    }

    fn step(&mut self, at: usize, instruction: &Instruction) -> Result<(), String> {
        let mut values = Vec::new();
        instruction.operands(|access, value| values.push((access, value)));
        for &(access, value) in &values {
            self.check_place(value)?;
            if access == Access::Read {
                self.check_content(&self.operand(access, value))?;
            }
        }
        let operands = values.iter().map(|&(access, value)| self.operand(access, value));
        let mut operands: Vec<_> = operands.collect();
        let (scratch, channels) = (lines(self.plan.scratch(at)), 0..1);
        operands.push(Operand { access: Access::Write, root: SCRATCH, channels, lines: scratch });
        let program = &self.plan.program;
        let in_place = instruction.in_place().map(|(x, y)| [x, y].map(|value| program.root(value).index()));
        let in_place: Vec<_> = in_place.collect();
        for (index, one) in operands.iter().enumerate() {
            for other in &operands[..index] {
                let written = [one, other].iter().any(|operand| operand.access == Access::Write);
                let allowed = in_place.contains(&[other.root, one.root]) && one.lines == other.lines;
                if written && one.overlaps(other) && !allowed {
                    return Err("two operands overlap".to_owned());
                }
            }
        }
        operands.iter().filter(|operand| operand.access == Access::Write).try_for_each(|o| self.write(o))
    }

    fn operand(&self, access: Access, value: ValueId) -> Operand {
        let program = &self.plan.program;
        let channels = match program[value].extent {
            Extent::PerImage(_) => program.channels(value),
            Extent::Fixed(_) => 0..1,
        };
        let (root, lines) = (program.root(value).index(), lines(self.plan.span(value)));
        Operand { access, root, channels, lines }
    }

    /// Whether a value lies in the arena, and in the memory of its owner.
    fn check_place(&self, value: ValueId) -> Result<(), String> {
        let (plan, program) = (self.plan, &self.plan.program);
        if lines(plan.span(value)).end > self.content.len() {
            return Err("an operand reaches beyond the arena".to_owned());
        }
        let first = program[value].slice.map_or(0, |slice| slice.first);
        match [value, program.root(value)].map(|value| plan.slot(value).place) {
            [Place::Images, Place::Images] => Ok(()),
            [Place::Arena(own), Place::Arena(owner)] if own == owner + first => Ok(()),
            _ => Err(format!("\"{}\" left the memory of its owner", program[value].name)),
        }
    }

    fn check_content(&self, operand: &Operand) -> Result<(), String> {
        let name = || &self.plan.program.values[operand.root].name;
        if self.content[operand.lines.clone()].iter().any(|&owner| owner != Some(operand.root)) {
            return Err(format!("\"{}\" was overwritten", name()));
        }
        let is_input = operand.lines.is_empty();
        match self.written[operand.root][operand.channels.clone()].iter().all(|&written| written) || is_input
        {
            true => Ok(()),
            false => Err(format!("\"{}\" has not been written", name())),
        }
    }

    fn write(&mut self, operand: &Operand) -> Result<(), String> {
        if operand.root == SCRATCH {
            self.content[operand.lines.clone()].fill(Some(SCRATCH));
            return Ok(());
        }
        // The first channels claim the memory for all.
        let whole = lines(self.plan.span(ValueId::new(operand.root)));
        let written = &mut self.written[operand.root];
        let claimed = written.contains(&true) && operand.channels.len() < written.len();
        if claimed && self.content[whole.clone()].iter().any(|&owner| owner != Some(operand.root)) {
            let name = &self.plan.program.values[operand.root].name;
            return Err(format!("\"{name}\" was overwritten"));
        }
        written[operand.channels.clone()].fill(true);
        self.content[whole].fill(Some(operand.root));
        Ok(())
    }
}

impl Operand {
    /// Whether two operands have memory in common.
    fn overlaps(&self, other: &Self) -> bool {
        let overlap =
            |one: &Range<usize>, other: &Range<usize>| one.start < other.end && other.start < one.end;
        let apart = self.root == other.root && !overlap(&self.channels, &other.channels);
        overlap(&self.lines, &other.lines) && !apart
    }
}

fn lines(span: Range<usize>) -> Range<usize> {
    span.start / LINE..span.end.div_ceil(LINE)
}
