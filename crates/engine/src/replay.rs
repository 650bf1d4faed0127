//! The proof that a plan's memory is right: its program, replayed on a map of the arena.
//!
//! The map says whose content each stretch of the arena has. An operand that is read must still stand where it
//! was written, and every channel of it must have been. What an instruction writes must not lie where it reads,
//! save as other channels of one value, or as the very same pixels, read at the pixel that is written and
//! nowhere else. All of it follows from what instructions say of their operands, and nothing from how
//! [`plan`](crate::plan) came to its places.

use crate::instruction::Instruction;
use crate::operand::{Access, Operand, Reach};
use crate::plan::{Place, Plan};
use crate::program::{Extent, ValueId};
use std::collections::BTreeMap;
use std::ops::Range;

/// Owner of scratch memory among the indices of values.
const SCRATCH: usize = usize::MAX;

pub(crate) struct Replay<'a> {
    plan: &'a Plan,
    content: Content,
    /// The channels written so far of each value that owns memory.
    written: Vec<Vec<bool>>,
}

/// An operand and the memory that it means.
struct Stretch {
    operand: Operand,
    /// Index of the value that owns the memory.
    root: usize,
    /// Its channels of that value.
    channels: Range<usize>,
    /// Floats of the arena from its first to its last; none for the images.
    span: Range<usize>,
}

/// Whose content the arena has: stretches by their first float, with their end and owner.
#[derive(Default)]
struct Content(BTreeMap<usize, (usize, usize)>);

impl Content {
    /// Gives a stretch to an owner; what others had of it is gone.
    fn claim(&mut self, span: &Range<usize>, owner: usize) {
        if span.is_empty() {
            return;
        }
        let before =
            self.0.range(..span.start).next_back().map(|(&start, &(end, owner))| (start, end, owner));
        if let Some((start, end, other)) = before.filter(|&(_, end, _)| end > span.start) {
            self.0.insert(start, (span.start, other));
            if end > span.end {
                self.0.insert(span.end, (end, other));
            }
        }
        let inside: Vec<usize> = self.0.range(span.clone()).map(|(&start, _)| start).collect();
        for start in inside {
            if let Some((end, other)) = self.0.remove(&start).filter(|&(end, _)| end > span.end) {
                self.0.insert(span.end, (end, other));
            }
        }
        self.0.insert(span.start, (span.end, owner));
    }

    /// Whether all of a stretch is an owner's.
    fn is(&self, span: &Range<usize>, owner: usize) -> bool {
        let mut at = span.start;
        while at < span.end {
            match self.0.range(..=at).next_back() {
                Some((_, &(end, other))) if end > at && other == owner => at = end,
                _ => return false,
            }
        }
        true
    }
}

impl<'a> Replay<'a> {
    pub fn new(plan: &'a Plan) -> Self {
        let channels = |value: ValueId| match plan.program[value].extent {
            Extent::PerImage([_, _, channels]) => channels,
            Extent::Fixed(_) => 1,
        };
        let values = (0..plan.program.values.len()).map(ValueId::new);
        let written = values.map(|value| vec![false; channels(value)]).collect();
        Self { plan, content: Content::default(), written }
    }

    /// A sentence about the first operand whose memory is not what it should be.
    pub fn conflict(mut self) -> Option<String> {
        let program = &self.plan.program;
        for (at, instruction) in program.instructions.iter().enumerate() {
            if let Err(problem) = self.step(at, instruction) {
                return Some(format!("instruction {at} ({}): {problem}", instruction.name()));
            }
        }
        let result = |&value: &ValueId| Operand { value, access: Access::Read, reach: Reach::Whole };
        let results = program.results.iter().map(result);
        results.map(|result| self.check_content(&self.stretch(result))).find_map(Result::err)
    }

    fn step(&mut self, at: usize, instruction: &Instruction) -> Result<(), String> {
        let operands = instruction.operands();
        operands.iter().try_for_each(|operand| self.check_place(operand.value))?;
        let reads: Vec<_> = operands.reads().map(|operand| self.stretch(operand)).collect();
        let writes: Vec<_> = operands.writes().map(|operand| self.stretch(operand)).collect();
        reads.iter().try_for_each(|read| self.check_content(read))?;
        let scratch = self.plan.scratch(at);
        for (index, write) in writes.iter().enumerate() {
            let name = self.name(write);
            if let Some(read) = reads.iter().find(|read| write.overlaps(read) && !self.in_place(read, write))
            {
                return Err(format!("\"{}\" is read where \"{name}\" is written", self.name(read)));
            }
            if writes[..index].iter().any(|other| write.overlaps(other)) {
                return Err(format!("\"{name}\" is written where another result is"));
            }
        }
        if reads.iter().chain(&writes).any(|operand| overlap(&operand.span, &scratch)) {
            return Err("an operand lies in scratch memory".to_owned());
        }
        if scratch.end > self.plan.arena_len {
            return Err("scratch memory reaches beyond the arena".to_owned());
        }
        self.content.claim(&scratch, SCRATCH);
        writes.iter().try_for_each(|write| self.write(write))
    }

    fn stretch(&self, operand: Operand) -> Stretch {
        let (program, value) = (&self.plan.program, operand.value);
        let channels = match program[value].extent {
            Extent::PerImage(_) => program.channels(value),
            Extent::Fixed(_) => 0..1,
        };
        Stretch { operand, root: program.root(value).index(), channels, span: self.plan.span(value) }
    }

    fn name(&self, stretch: &Stretch) -> &str {
        &self.plan.program.values[stretch.root].name
    }

    /// Whether a value lies in the arena, and in the memory of its owner.
    fn check_place(&self, value: ValueId) -> Result<(), String> {
        let (plan, program) = (self.plan, &self.plan.program);
        if plan.span(value).end > plan.arena_len {
            return Err("an operand reaches beyond the arena".to_owned());
        }
        let first = program[value].slice.map_or(0, |slice| slice.first);
        match [value, program.root(value)].map(|value| plan.slot(value).place) {
            [Place::Images, Place::Images] => Ok(()),
            [Place::Arena(own), Place::Arena(owner)] if own == owner + first => Ok(()),
            _ => Err(format!("\"{}\" left the memory of its owner", program[value].name)),
        }
    }

    fn check_content(&self, read: &Stretch) -> Result<(), String> {
        if !self.content.is(&read.span, read.root) {
            return Err(format!("\"{}\" was overwritten", self.name(read)));
        }
        let is_input = read.span.is_empty();
        match self.written[read.root][read.channels.clone()].iter().all(|&written| written) || is_input {
            true => Ok(()),
            false => Err(format!("\"{}\" has not been written", self.name(read))),
        }
    }

    /// Whether an operand is read where a result is written, pixel for pixel, and no wider.
    fn in_place(&self, read: &Stretch, write: &Stretch) -> bool {
        let [from, to] = [read, write].map(|stretch| self.plan.slot(stretch.operand.value));
        let pixels = [read, write].iter().all(|stretch| stretch.operand.reach == Reach::Pixel);
        pixels && (from.place, from.shape, from.ld) == (to.place, to.shape, to.ld)
    }

    fn write(&mut self, write: &Stretch) -> Result<(), String> {
        // The first channels claim the memory for all.
        let whole = self.plan.span(ValueId::new(write.root));
        let written = &mut self.written[write.root];
        let claimed = written.contains(&true) && write.channels.len() < written.len();
        if claimed && !self.content.is(&whole, write.root) {
            return Err(format!("\"{}\" was overwritten", self.name(write)));
        }
        written[write.channels.clone()].fill(true);
        self.content.claim(&whole, write.root);
        Ok(())
    }
}

impl Stretch {
    /// Whether two operands have memory in common.
    fn overlaps(&self, other: &Self) -> bool {
        let apart = self.root == other.root && !overlap(&self.channels, &other.channels);
        overlap(&self.span, &other.span) && !apart
    }
}

fn overlap(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start < other.end && other.start < one.end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_an_owners_until_another_claims_any_of_it() {
        let mut content = Content::default();
        assert!(!content.is(&(0..1), 0) && content.is(&(5..5), 0));
        content.claim(&(0..100), 1);
        content.claim(&(40..60), 2);
        assert!(content.is(&(0..40), 1) && content.is(&(60..100), 1) && content.is(&(40..60), 2));
        assert!(!content.is(&(30..50), 1) && !content.is(&(0..100), 1) && !content.is(&(90..101), 1));
        content.claim(&(50..70), 1);
        assert!(content.is(&(50..100), 1) && content.is(&(40..50), 2));
        content.claim(&(0..100), 3);
        assert!(content.is(&(0..100), 3));
        content.claim(&(0..200), 4);
        content.claim(&(200..300), 4);
        assert!(content.is(&(0..300), 4) && !content.is(&(0..301), 4));
    }
}
