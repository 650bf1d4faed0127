//! Runs the instructions of a plan.
//!
//! Nothing is looked up, allocated or locked here: an instruction names its values, the plan knows their places, and a
//! place becomes a view. This is the only file of the engine with unsafe code; all of it turns offsets into views.
//! That the offsets are right is proven by [`Plan::conflict`], which debug builds ask for every plan.

use crate::network::ConvolutionLayer;
use crate::plan::{Place, Plan};
use crate::program::{Algorithm, Instruction, ValueId};
use crate::session::Kept;
use fovea_kernels::loss::{Loss, SoftmaxCrossEntropy};
use fovea_kernels::optimizer::Sgd;
use fovea_kernels::{Activation, Context, View4, ViewMut4, activation, elementwise, softmax};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a step works on besides the arena.
pub(crate) struct Step<'a> {
    pub context: Context<'a>,
    /// The batch, `[n, h, w, c]`.
    pub images: &'a [f32],
    /// A class for each image; empty when there is no loss.
    pub labels: &'a [u32],
    /// The layers' weights as [`Algorithm::WinogradKept`] reads them, by the layers' index.
    pub kept: &'a [Kept],
    /// All parameters, and buffers of the same layout; the latter are empty outside training.
    pub parameters: &'a mut [f32],
    pub gradients: &'a mut [f32],
    pub velocities: &'a mut [f32],
    pub optimizer: Sgd,
    pub label_smoothing: f32,
    /// The loss of each output, once its instruction has run.
    pub losses: &'a mut [Loss],
    /// Whether all gradients are finite, once they have been checked.
    pub finite: bool,
}

/// Runs the instructions of `range`; `durations`, one an instruction of the whole program, are filled where given.
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
    let memory =
        Memory { plan, arena: arena.as_mut_ptr(), images: step.images.as_ptr(), borrow: PhantomData };
    match durations {
        None => range.for_each(|index| run(&memory, index, step)),
        Some(durations) => {
            for index in range {
                let start = Instant::now();
                run(&memory, index, step);
                durations[index] = start.elapsed();
            }
        }
    }
}

fn run(memory: &Memory, index: usize, step: &mut Step) {
    let context = step.context;
    match memory.plan.program.instructions[index] {
        Instruction::Convolution { ref layer, x, y, activation, ref algorithm } => {
            let (weight, bias) = parameters(layer, step.parameters);
            let (x, y, scratch) = (memory.view(x), memory.view_mut(y), memory.scratch(index));
            match algorithm {
                Algorithm::Direct => layer.kernel.forward(context, x, weight, bias, activation, y, scratch),
                Algorithm::Winograd(winograd, weight) => {
                    winograd.run(context, x, memory.floats(*weight), bias, activation, y, scratch);
                }
                Algorithm::WinogradKept(winograd) => {
                    let weight = step.kept[layer.index].weight.as_slice();
                    winograd.run(context, x, weight, bias, activation, y, scratch);
                }
            }
        }
        Instruction::TransformWeight { ref layer, ref winograd, packed, transformed } => {
            let weight = match packed {
                Some(packed) => memory.floats(packed),
                None => parameters(layer, step.parameters).0,
            };
            winograd.transform_weight(context, weight, memory.floats_mut(transformed));
        }
        Instruction::ConvolutionBackwardWeight { ref layer, x, dy } => {
            let (dweight, dbias) = parameters_mut(layer, step.gradients);
            let (x, dy, scratch) = (memory.view(x), memory.view(dy), memory.scratch(index));
            layer.kernel.backward_weight(context, x, dy, dweight, dbias, scratch);
        }
        Instruction::PackGradientWeight { ref layer, packed } => {
            let (weight, _) = parameters(layer, step.parameters);
            layer.kernel.pack_gradient_weight(context, weight, memory.floats_mut(packed));
        }
        Instruction::ConvolutionBackwardInput { ref layer, dy, packed, dx, ref algorithm } => {
            let (dy, dx, scratch) = (memory.view(dy), memory.view_mut(dx), memory.scratch(index));
            match algorithm {
                Algorithm::Winograd(winograd, weight) => {
                    let weight = memory.floats(*weight);
                    winograd.run(context, dy, weight, None, Activation::None, dx, scratch);
                }
                // A session keeps no weights for gradients: they change with every step.
                Algorithm::Direct | Algorithm::WinogradKept(_) => {
                    layer.kernel.backward_input(context, dy, memory.floats(packed), dx, scratch);
                }
            }
        }
        Instruction::MaxPool { ref layer, x, y, argmax, activation } => {
            let argmax = argmax.map(|argmax| memory.bytes_mut(argmax));
            layer.forward(context, memory.view(x), activation, memory.view_mut(y), argmax);
        }
        Instruction::MaxPoolBackward { ref layer, dy, argmax, y, dx } => {
            let (y, argmax) = (y.map(|y| memory.view(y)), memory.bytes(argmax));
            layer.backward(context, memory.view(dy), argmax, y, memory.view_mut(dx));
        }
        Instruction::AvgPool { ref layer, x, y } => {
            layer.forward(context, memory.view(x), memory.view_mut(y));
        }
        Instruction::AvgPoolBackward { ref layer, dy, dx } => {
            layer.backward(context, memory.view(dy), memory.view_mut(dx));
        }
        Instruction::Relu { x, y } => activation::relu(context, memory.view(x), memory.view_mut(y)),
        Instruction::ReluBackward { dy, y, dx } => {
            activation::relu_backward(context, memory.view(dy), memory.view(y), memory.view_mut(dx));
        }
        Instruction::Tanh { x, y } => activation::tanh(context, memory.view(x), memory.view_mut(y)),
        Instruction::TanhBackward { dy, y, dx } => {
            activation::tanh_backward(context, memory.view(dy), memory.view(y), memory.view_mut(dx));
        }
        Instruction::Softmax { x, y } => softmax::softmax(context, memory.view(x), memory.view_mut(y)),
        Instruction::AddAssign { sum, term } => {
            elementwise::add_assign(context, memory.view_mut(sum), memory.view(term));
        }
        Instruction::Loss { output, logits, dlogits, weight } => {
            let loss = SoftmaxCrossEntropy { label_smoothing: step.label_smoothing, weight };
            let dlogits = dlogits.map(|dlogits| memory.view_mut(dlogits));
            step.losses[output] = loss.forward(context, memory.view(logits), step.labels, dlogits);
        }
        Instruction::CheckGradients => step.finite = is_finite(context, step.gradients),
        Instruction::Update => {
            step.optimizer.step(context, step.parameters, step.gradients, step.velocities);
        }
    }
}

/// Weight and bias of a layer in a buffer of the parameters' layout.
fn parameters<'a>(layer: &ConvolutionLayer, buffer: &'a [f32]) -> (&'a [f32], Option<&'a [f32]>) {
    (&buffer[layer.weight.clone()], layer.bias.clone().map(|bias| &buffer[bias]))
}

fn parameters_mut<'a>(
    layer: &ConvolutionLayer,
    buffer: &'a mut [f32],
) -> (&'a mut [f32], Option<&'a mut [f32]>) {
    let (before, after) = buffer.split_at_mut(layer.weight.end);
    let bias = layer.bias.clone().map(|bias| bias.start - layer.weight.end..bias.end - layer.weight.end);
    (&mut before[layer.weight.start..], bias.map(|bias| &mut after[bias]))
}

/// Whether there is neither infinity nor NaN among the values.
fn is_finite(context: Context, values: &[f32]) -> bool {
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

/// Places of the arena as views and slices.
///
/// Views of one instruction may alias only where the plan works in place; each lives for one instruction.
struct Memory<'a> {
    plan: &'a Plan,
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

    fn view(&self, value: ValueId) -> View4<'a> {
        let slot = self.plan.slot(value);
        // SAFETY: the place of a value has room for its shape, within the arena or the images, whose lengths `execute`
        // checked; and no operand that the same instruction writes overlaps it, save in place (`Plan::conflict`).
        unsafe { View4::from_raw(self.pointer(value), slot.shape, slot.ld) }
    }

    fn view_mut(&self, value: ValueId) -> ViewMut4<'a> {
        let slot = self.plan.slot(value);
        // SAFETY: as in `view`; images are never written, so the place is one of the arena, which `execute` borrows
        // mutably.
        unsafe { ViewMut4::from_raw(self.pointer_mut(value), slot.shape, slot.ld) }
    }

    fn floats(&self, value: ValueId) -> &'a [f32] {
        // SAFETY: as in `view`.
        unsafe { std::slice::from_raw_parts(self.pointer(value), self.plan.elements(value)) }
    }

    fn floats_mut(&self, value: ValueId) -> &'a mut [f32] {
        // SAFETY: as in `view_mut`.
        unsafe { std::slice::from_raw_parts_mut(self.pointer_mut(value), self.plan.elements(value)) }
    }

    fn bytes(&self, value: ValueId) -> &'a [u8] {
        // SAFETY: as in `view`; an argmax has one byte an element, and its span is counted in whole floats.
        unsafe { std::slice::from_raw_parts(self.pointer(value).cast(), self.plan.elements(value)) }
    }

    fn bytes_mut(&self, value: ValueId) -> &'a mut [u8] {
        // SAFETY: as in `bytes` and `view_mut`.
        unsafe { std::slice::from_raw_parts_mut(self.pointer_mut(value).cast(), self.plan.elements(value)) }
    }

    fn scratch(&self, index: usize) -> &'a mut [f32] {
        let range = self.plan.scratch(index);
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
