//! Runs the instructions of a plan.
//!
//! Nothing is looked up, allocated or locked: an instruction names its values, the plan knows their places, and
//! a place becomes a view. Nearly all unsafe code of the engine is here, and all of it turns offsets into
//! views. That the offsets are right is proven by [`Plan::conflict`], which is asked for every plan that is
//! compiled.

use crate::graph::OutputLoss;
use crate::kept::KeptWeights;
use crate::ops::convolution::ConvolutionLayer;
use crate::plan::{Place, Plan};
use crate::program::ValueId;
use crate::update::Updater;
use fovea_kernels::loss::{Criterion, Loss, Targets};
use fovea_kernels::random::{Philox, Purpose};
use fovea_kernels::{Context, View4, ViewMut4};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a step works on besides the arena.
pub(crate) struct Step<'a> {
    pub context: Context<'a>,
    /// The batch, `[n, h, w, c]`.
    pub images: &'a [f32],
    /// What the outputs should be; empty when there is no loss.
    pub targets: Targets<'a>,
    /// The layers' weights that stay from step to step.
    pub kept: &'a KeptWeights,
    /// Running statistics: those that a training step changes, those to be used otherwise.
    pub state: &'a mut [f32],
    /// Seed, number of the step and number of the graph's nodes, which give each dropout of each step its own
    /// random numbers.
    pub seed: u64,
    pub number: u64,
    pub nodes: usize,
    /// Images and targets of the step that the batch is a part of: losses are means over all of them.
    pub whole: (usize, Targets<'a>),
    /// All parameters, and their gradients in the same layout, which are empty outside training.
    pub parameters: &'a mut [f32],
    pub gradients: &'a mut [f32],
    pub update: Updater<'a>,
    pub label_smoothing: f32,
    pub class_weights: Option<&'a [f32]>,
    /// The loss of each output, once its instruction has run.
    pub losses: &'a mut [Loss],
    /// Whether all gradients are finite, once they have been checked.
    pub finite: bool,
}

impl Step<'_> {
    /// How an output is judged in this step.
    pub fn criterion(&self, loss: OutputLoss) -> Criterion<'_> {
        let (label_smoothing, class_weights) = (self.label_smoothing, self.class_weights);
        match loss {
            OutputLoss::CrossEntropy {} => Criterion::CrossEntropy { label_smoothing, class_weights },
            OutputLoss::MaximumAPosteriori { rejection } => Criterion::MaximumAPosteriori { rejection },
            OutputLoss::BinaryCrossEntropy {} => Criterion::BinaryCrossEntropy,
            OutputLoss::MeanSquaredError {} => Criterion::MeanSquaredError,
        }
    }

    /// Weight and bias of a layer, with a batch normalization in them or without.
    pub fn weights(&self, layer: &ConvolutionLayer, folded: bool) -> (&[f32], Option<&[f32]>) {
        if folded { self.kept.folded(layer) } else { layer.weights(self.parameters) }
    }

    /// The random numbers of a dropout in this step.
    pub fn dropout(&self, node: usize) -> Philox {
        Philox::new(self.seed, Purpose::Dropout, self.number.wrapping_mul(self.nodes as u64) + node as u64)
    }
}

/// Runs the instructions of `range`; `durations`, one an instruction of the whole program, are filled where
/// given.
///
/// # Panics
/// When the arena or a buffer of the step is smaller than the plan says.
pub(crate) fn execute(
    plan: &Plan,
    range: Range<usize>,
    arena: &mut [f32],
    step: &mut Step,
    durations: Option<&mut [Duration]>,
) {
    assert!(arena.len() >= plan.arena_len);
    assert!(plan.arena_len == 0 || arena.as_ptr().addr().is_multiple_of(64));
    assert!(step.images.len() >= plan.images_len());
    let (arena, images) = (arena.as_mut_ptr(), step.images.as_ptr());
    let mut run = |index: usize| {
        let memory = Memory { plan, index, arena, images, borrow: PhantomData };
        plan.program.instructions[index].run(&memory, step);
    };
    match durations {
        None => range.for_each(run),
        Some(durations) => {
            for index in range {
                let start = Instant::now();
                run(index);
                durations[index] = start.elapsed();
            }
        }
    }
}

/// Two places of a buffer, the second behind the first.
pub(crate) fn both_mut<'a>(
    buffer: &'a mut [f32],
    first: &Range<usize>,
    second: &Range<usize>,
) -> [&'a mut [f32]; 2] {
    let (before, after) = buffer.split_at_mut(second.start);
    [&mut before[first.clone()], &mut after[..second.len()]]
}

/// Weight and bias of a layer in a buffer of the parameters' layout, to be written.
pub(crate) fn parameters_mut<'a>(
    layer: &ConvolutionLayer,
    buffer: &'a mut [f32],
) -> (&'a mut [f32], Option<&'a mut [f32]>) {
    match &layer.bias {
        None => (&mut buffer[layer.weight.clone()], None),
        Some(bias) => {
            let [weight, bias] = both_mut(buffer, &layer.weight, bias);
            (weight, Some(bias))
        }
    }
}

/// Whether there is neither infinity nor NaN among the values.
pub(crate) fn is_finite(context: Context, values: &[f32]) -> bool {
    const PART: usize = 1 << 14;
    const LANES: usize = 16;
    let finite = AtomicBool::new(true);
    context.pool.run(values.len().div_ceil(PART), |_, part| {
        let values = &values[part * PART..values.len().min((part + 1) * PART)];
        // Zero times a finite number is zero; lanes let the compiler use vectors.
        let mut sums = [0.0f32; LANES];
        let (lines, rest) = values.as_chunks::<LANES>();
        for line in lines {
            sums.iter_mut().zip(line).for_each(|(sum, value)| *sum += value * 0.0);
        }
        sums.iter_mut().zip(rest).for_each(|(sum, value)| *sum += value * 0.0);
        if sums.iter().any(|sum| sum.is_nan()) {
            finite.store(false, Ordering::Relaxed);
        }
    });
    finite.into_inner()
}

/// The logits or predictions that a plan left in the arena, row after row.
pub(crate) fn result<'a>(plan: &Plan, arena: &'a [f32], images: &'a [f32]) -> &'a [f32] {
    let Some(&value) = plan.program.results.first() else { return &[] };
    match plan.slot(value).place {
        Place::Images => &images[..plan.images_len()],
        Place::Arena(_) => &arena[plan.span(value)],
    }
}

/// As [`result`], to be overwritten, if it lies in the arena.
pub(crate) fn result_mut<'a>(plan: &Plan, arena: &'a mut [f32]) -> Option<&'a mut [f32]> {
    let &value = plan.program.results.first()?;
    match plan.slot(value).place {
        Place::Images => None,
        Place::Arena(_) => Some(&mut arena[plan.span(value)]),
    }
}

/// Places of the arena as views and slices, for one instruction.
///
/// Views may alias only where the instruction reads an operand at the pixel that it writes and nowhere else.
pub(crate) struct Memory<'a> {
    plan: &'a Plan,
    /// The instruction's position.
    index: usize,
    arena: *mut f32,
    images: *const f32,
    borrow: PhantomData<&'a mut [f32]>,
}

impl<'a> Memory<'a> {
    fn pointer(&self, value: ValueId) -> *const f32 {
        match self.plan.slot(value).place {
            Place::Images => self.images,
            Place::Arena(offset) => self.arena.wrapping_add(offset),
        }
    }

    fn pointer_mut(&self, value: ValueId) -> *mut f32 {
        self.arena.wrapping_add(self.plan.span(value).start)
    }

    /// A value that the instruction reads.
    pub fn view(&self, value: ValueId) -> View4<'a> {
        let slot = self.plan.slot(value);
        // SAFETY: the place of a value has room for its shape, within the arena or the images, whose lengths
        // `execute` checked; and no operand that the same instruction writes overlaps it, save in place
        // (`Plan::conflict`).
        unsafe { View4::from_raw(self.pointer(value), slot.shape, slot.ld) }
    }

    /// A value that the instruction writes.
    pub fn view_mut(&self, value: ValueId) -> ViewMut4<'a> {
        let slot = self.plan.slot(value);
        // SAFETY: as in `view`; images are never written, so the place is one of the arena, which `execute`
        // borrows mutably.
        unsafe { ViewMut4::from_raw(self.pointer_mut(value), slot.shape, slot.ld) }
    }

    /// A value without pixels that the instruction reads.
    pub fn floats(&self, value: ValueId) -> &'a [f32] {
        // SAFETY: as in `view`.
        unsafe { std::slice::from_raw_parts(self.pointer(value), self.plan.elements(value)) }
    }

    /// A value without pixels that the instruction writes.
    pub fn floats_mut(&self, value: ValueId) -> &'a mut [f32] {
        // SAFETY: as in `view_mut`.
        unsafe { std::slice::from_raw_parts_mut(self.pointer_mut(value), self.plan.elements(value)) }
    }

    /// The winners of windows that the instruction reads.
    pub fn bytes(&self, value: ValueId) -> &'a [u8] {
        // SAFETY: as in `view`; an argmax has one byte an element, and its span is counted in whole floats.
        unsafe { std::slice::from_raw_parts(self.pointer(value).cast(), self.plan.elements(value)) }
    }

    /// The winners of windows that the instruction writes.
    pub fn bytes_mut(&self, value: ValueId) -> &'a mut [u8] {
        // SAFETY: as in `bytes` and `view_mut`.
        unsafe { std::slice::from_raw_parts_mut(self.pointer_mut(value).cast(), self.plan.elements(value)) }
    }

    /// What the instruction may use as it likes; asked for once.
    pub fn scratch(&self) -> &'a mut [f32] {
        let range = self.plan.scratch(self.index);
        // SAFETY: the range lies in the arena and no value that lives during this instruction overlaps it
        // (`Plan::conflict`).
        unsafe { std::slice::from_raw_parts_mut(self.arena.wrapping_add(range.start), range.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fovea_kernels::{Isa, Pool};

    #[test]
    fn one_infinity_or_nan_anywhere_is_found() {
        let pool = Pool::new(2);
        let context = Context { isa: Isa::available()[0], pool: &pool };
        let mut values = vec![f32::MAX; 40_000];
        assert!(is_finite(context, &values) && is_finite(context, &[]));
        for index in [0, 15, 16_383, 16_384, 39_999] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                values[index] = bad;
                assert!(!is_finite(context, &values));
            }
            values[index] = f32::MIN_POSITIVE;
        }
        assert!(is_finite(context, &values));
    }
}
