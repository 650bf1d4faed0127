//! A pass of a rule over the blocks of all spans.

use super::rules::{Average, Squares, Sum};
use super::{Context, STATES};
use crate::parts::Parts;
use crate::simd::{Kernel, Simd};
use crate::threads::Shareable;
use std::ops::Range;

/// Parameters of a block: those whose squares are summed in f32, and that stay together when a pass is cut into
/// parts.
const BLOCK: usize = 1024;

/// Elementwise passes that a parameter costs: it moves five floats and more.
const COST: usize = 2;

/// A tensor among the parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its floats.
    pub place: Range<usize>,
    /// Factor of the learning rate.
    pub learning_rate_scale: f32,
    /// Its weight decay, if it is not that of the update.
    pub weight_decay: Option<f32>,
    /// Whether optimizers that look at norms adapt its rate.
    pub adapts: bool,
}

/// The tensors that a step changes, and room for what it finds out about them.
#[derive(Debug, Default)]
pub struct Spans {
    spans: Vec<Span>,
    factors: Vec<Factors>,
    blocks: Vec<Block>,
    /// Of each block, the squares of its parameters and of what the rule gave.
    sums: Vec<[f64; 2]>,
}

#[derive(Clone, Debug)]
struct Block {
    span: usize,
    place: Range<usize>,
}

/// What a rule knows of the tensor.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Factors {
    pub learning_rate: f32,
    pub weight_decay: f32,
    pub gradient_scale: f32,
}

/// What an optimizer does with a vector of parameters.
pub(super) trait Rule: Copy + Sync {
    /// The states that it reads and writes.
    const STATES: [bool; STATES];
    /// Whether its result is the new parameter.
    const WRITES: bool = true;
    /// Whether the squares of the parameters and of its result are summed.
    const SUMS: bool = false;

    /// Updates the states; returns the new parameter, or what else [`Rule::WRITES`] and [`Rule::SUMS`] say.
    fn apply<S: Simd>(
        &self,
        simd: S,
        factors: &Factors,
        x: S::Vector,
        gradient: S::Vector,
        states: &mut [S::Vector; STATES],
    ) -> S::Vector;
}

/// The buffers of an update, long enough for all spans.
#[derive(Clone, Copy)]
pub(super) struct Memory {
    parameters: Shareable<f32>,
    gradients: *const f32,
    states: [Shareable<f32>; STATES],
}

// SAFETY: gradients are only read, and the rest may be shared as `Shareable` says.
unsafe impl Sync for Memory {}

impl Memory {
    /// # Panics
    /// If a buffer is shorter than `end`, or a state that is `used`.
    pub fn new(
        parameters: &mut [f32],
        gradients: &[f32],
        states: [&mut [f32]; STATES],
        used: [bool; STATES],
        end: usize,
    ) -> Self {
        assert!(parameters.len() >= end, "parameters of all spans");
        assert!(gradients.len() >= end, "a gradient for each parameter");
        for (state, used) in states.iter().zip(used) {
            assert!(!used || state.len() >= end, "a state for each parameter");
        }
        let states = states.map(Shareable::new);
        Self { parameters: Shareable::new(parameters), gradients: gradients.as_ptr(), states }
    }
}

impl Spans {
    /// Spans that do not overlap.
    pub fn new(spans: Vec<Span>) -> Self {
        let factors = vec![Factors::default(); spans.len()];
        let blocks: Vec<_> =
            (spans.iter().enumerate()).flat_map(|(span, tensor)| blocks(span, &tensor.place)).collect();
        let sums = vec![[0.0; 2]; blocks.len()];
        Self { spans, factors, blocks, sums }
    }

    /// The Euclidean norm of these gradients, padding and what is in no span left out.
    ///
    /// # Panics
    /// If there are fewer gradients than the spans reach.
    pub fn norm(&mut self, context: Context, gradients: &mut [f32]) -> f64 {
        let end = self.end();
        assert!(gradients.len() >= end, "gradients of all spans");
        // They stand for the parameters, too, which the rule reads as well.
        let (pointer, none) = (gradients.as_ptr(), [(); STATES].map(|()| &mut [][..]));
        let memory = Memory {
            parameters: Shareable::new(gradients),
            gradients: pointer,
            states: none.map(Shareable::new),
        };
        self.prepare(|_| Factors { gradient_scale: 1.0, ..Factors::default() });
        self.run(context, &memory, Squares);
        self.sums.iter().map(|[_, square]| square).sum::<f64>().sqrt()
    }

    /// Where the last span ends.
    pub(super) fn end(&self) -> usize {
        self.spans.iter().map(|span| span.place.end).max().unwrap_or(0)
    }

    pub(super) fn prepare(&mut self, factors: impl Fn(&Span) -> Factors) {
        self.factors.iter_mut().zip(&self.spans).for_each(|(each, span)| *each = factors(span));
    }

    /// Multiplies the rate of every tensor that adapts with what `ratio` makes of the two norms; with 1 where
    /// one is zero.
    pub(super) fn adapt(&mut self, ratio: impl Fn(&Factors, [f64; 2]) -> f64) {
        let mut blocks = self.blocks.iter().zip(&self.sums).peekable();
        for (index, (span, factors)) in self.spans.iter().zip(&mut self.factors).enumerate() {
            let mut squares = [0.0; 2];
            while let Some((_, sums)) = blocks.next_if(|(block, _)| block.span == index) {
                squares = [squares[0] + sums[0], squares[1] + sums[1]];
            }
            let norms = squares.map(f64::sqrt);
            if span.adapts && norms.iter().all(|&norm| norm > 0.0) {
                factors.learning_rate = (f64::from(factors.learning_rate) * ratio(factors, norms)) as f32;
            }
        }
    }

    pub(super) fn run<R: Rule>(&mut self, context: Context, memory: &Memory, rule: R) {
        let parts = Parts::new(self.blocks.len(), BLOCK * COST);
        let (blocks, factors) = (&self.blocks[..], &self.factors[..]);
        let sums = Shareable::new(&mut self.sums);
        context.pool.run(parts.count(), |_, part| {
            context.isa.run(Pass { rule, memory, blocks, factors, range: parts.range(part), sums: &sums });
        });
    }
}

/// A tensor's blocks.
fn blocks(span: usize, place: &Range<usize>) -> impl Iterator<Item = Block> {
    let end = place.end;
    place.clone().step_by(BLOCK).map(move |start| Block { span, place: start..end.min(start + BLOCK) })
}

/// `kept` of each old mean and the rest of each value, in place of the mean.
///
/// # Panics
/// If the slices differ in length.
pub fn average(context: Context, kept: f32, means: &mut [f32], values: &[f32]) {
    elementwise(context, Average { kept }, means, values);
}

/// Adds each term to its sum.
///
/// # Panics
/// If the slices differ in length.
pub fn accumulate(context: Context, sums: &mut [f32], terms: &[f32]) {
    elementwise(context, Sum, sums, terms);
}

/// Applies a rule without states to values that stand for parameters and gradients.
fn elementwise(context: Context, rule: impl Rule, values: &mut [f32], others: &[f32]) {
    let length = values.len();
    assert_eq!(others.len(), length, "two slices of one length");
    let none = [(); STATES].map(|()| &mut [][..]);
    let memory = &Memory::new(values, others, none, [false; STATES], length);
    let parts = Parts::new(length.div_ceil(BLOCK), BLOCK);
    let sums = &Shareable::new(&mut []);
    let factors = &[Factors { gradient_scale: 1.0, ..Factors::default() }];
    context.pool.run(parts.count(), |_, part| {
        let range = parts.range(part);
        let blocks = &[Block { span: 0, place: range.start * BLOCK..length.min(range.end * BLOCK) }];
        context.isa.run(Pass { rule, memory, blocks, factors, range: 0..1, sums });
    });
}

/// A part of the blocks.
struct Pass<'a, R> {
    rule: R,
    memory: &'a Memory,
    blocks: &'a [Block],
    factors: &'a [Factors],
    range: Range<usize>,
    sums: &'a Shareable<[f64; 2]>,
}

impl<R: Rule> Kernel for Pass<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for index in self.range.clone() {
            let Block { span, place } = &self.blocks[index];
            // Copies: what is behind a reference would be read anew after each store.
            let lanes = Lanes { rule: self.rule, factors: self.factors[*span], memory: *self.memory };
            let mut squares = [simd.zero(); 2];
            let mut at = place.start;
            // SAFETY: at + the count lies within the block, which belongs to this part alone.
            unsafe {
                while at + S::LANES <= place.end {
                    lanes.step(simd, at, S::LANES, &mut squares);
                    at += S::LANES;
                }
                if at < place.end {
                    lanes.step(simd, at, place.end - at, &mut squares);
                }
            }
            if R::SUMS {
                let sums = squares.map(|squares| f64::from(simd.sum(squares)));
                // SAFETY: there is a pair of sums for every block, and no other part has this one.
                unsafe { *self.sums.pointer().add(index) = sums };
            }
        }
    }
}

/// What happens to a vector of parameters of a tensor.
struct Lanes<R> {
    rule: R,
    factors: Factors,
    memory: Memory,
}

impl<R: Rule> Lanes<R> {
    /// Applies the rule to `count` parameters from `at` on.
    ///
    /// # Safety
    /// They belong to a block of the part, and `count <= LANES`.
    #[inline(always)]
    unsafe fn step<S: Simd>(&self, simd: S, at: usize, count: usize, squares: &mut [S::Vector; 2]) {
        let Self { rule, factors, memory: Memory { parameters, gradients, states } } = self;
        // SAFETY: blocks lie within their spans, for which the memory is long enough, and no two overlap.
        unsafe {
            let x = simd.load_up_to(parameters.pointer().add(at), count);
            let gradient = simd.load_up_to(gradients.add(at), count);
            let gradient = simd.mul(gradient, simd.splat(factors.gradient_scale));
            let mut values = [simd.zero(); STATES];
            for ((value, state), used) in values.iter_mut().zip(states).zip(R::STATES) {
                if used {
                    *value = simd.load_up_to(state.pointer().add(at), count);
                }
            }
            let result = rule.apply(simd, factors, x, gradient, &mut values);
            for ((value, state), used) in values.iter().zip(states).zip(R::STATES) {
                if used {
                    simd.store_up_to(state.pointer().add(at), *value, count);
                }
            }
            if R::WRITES {
                simd.store_up_to(parameters.pointer().add(at), result, count);
            }
            if R::SUMS {
                let [of_parameters, of_results] = *squares;
                *squares = [simd.mul_add(x, x, of_parameters), simd.mul_add(result, result, of_results)];
            }
        }
    }
}
