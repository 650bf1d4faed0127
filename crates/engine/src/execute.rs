//! Runs the instructions of a plan.
//!
//! Nothing is looked up, allocated or locked here: an instruction names its values, the plan knows their places, and a
//! place becomes a view. Nearly all unsafe code of the engine is here, and all of it turns offsets into views.
//! That the offsets are right is proven by [`Plan::conflict`], which is asked for every plan that is compiled.

use crate::graph::OutputLoss;
use crate::instruction::{Algorithm, Instruction, Mask, Pooled, Stage, separable};
use crate::kept::KeptWeights;
use crate::network::{BatchNormLayer, ChannelFunction, Connections, ConvolutionLayer};
use crate::op::{Affine, Arithmetic, Function, HardSigmoid};
use crate::plan::{Place, Plan};
use crate::program::ValueId;
use crate::update::Updater;
use fovea_kernels::batch_norm::{self, Running};
use fovea_kernels::dropout::dropout;
use fovea_kernels::loss::{Criterion, Loss, Targets};
use fovea_kernels::pool2d::PooledGradient;
use fovea_kernels::random::{Philox, Purpose};
use fovea_kernels::{
    Activation, Context, View4, ViewMut4, activation, arithmetic, conv2d, elementwise, pool2d, prelu,
    radial_basis, scale, softmax,
};
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
    /// Seed, number of the step and number of the graph's nodes, which give each dropout of each step its own random numbers.
    pub seed: u64,
    pub number: u64,
    pub nodes: usize,
    /// Part of the step's images that the batch is: a factor of every gradient.
    pub share: f32,
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
    fn criterion(&self, loss: OutputLoss) -> Criterion<'_> {
        let (label_smoothing, class_weights) = (self.label_smoothing, self.class_weights);
        match loss {
            OutputLoss::CrossEntropy {} => Criterion::CrossEntropy { label_smoothing, class_weights },
            OutputLoss::MaximumAPosteriori { rejection } => Criterion::MaximumAPosteriori { rejection },
            OutputLoss::BinaryCrossEntropy {} => Criterion::BinaryCrossEntropy,
            OutputLoss::MeanSquaredError {} => Criterion::MeanSquaredError,
        }
    }

    /// Weight and bias of a layer, with a batch normalization in them or without.
    fn weights(&self, layer: &ConvolutionLayer, folded: bool) -> (&[f32], Option<&[f32]>) {
        if folded { self.kept.folded(layer) } else { parameters(layer, self.parameters) }
    }

    /// The random numbers of a dropout in this step.
    fn dropout(&self, node: usize) -> Philox {
        Philox::new(self.seed, Purpose::Dropout, self.number.wrapping_mul(self.nodes as u64) + node as u64)
    }
}

impl Function {
    fn forward(self, context: Context, x: View4, y: ViewMut4) {
        match self {
            Self::Relu => activation::relu(context, x, y),
            Self::Relu6 => activation::relu6(context, x, y),
            Self::Clip([least, most]) => activation::clip(context, x, least, most, y),
            Self::LeakyRelu(slope) => activation::leaky_relu(context, x, slope, y),
            Self::HardSigmoid(HardSigmoid { alpha, beta }) => {
                activation::hard_sigmoid(context, x, alpha, beta, y);
            }
            Self::HardSwish => activation::hard_swish(context, x, y),
            Self::Sigmoid => activation::sigmoid(context, x, y),
            Self::Tanh => activation::tanh(context, x, y),
            Self::Affine(Affine { scale, shift }) => activation::affine(context, x, scale, shift, y),
            Self::LogSoftmax => softmax::log_softmax(context, x, y),
        }
    }

    /// `of` is what [`Function::derivative`] says.
    fn backward(self, context: Context, dy: View4, of: View4, dx: ViewMut4) {
        match self {
            Self::Relu => activation::relu_backward(context, dy, of, dx),
            Self::Relu6 => activation::relu6_backward(context, dy, of, dx),
            Self::Clip([least, most]) => activation::clip_backward(context, dy, of, least, most, dx),
            Self::LeakyRelu(slope) => activation::leaky_relu_backward(context, dy, of, slope, dx),
            Self::HardSigmoid(HardSigmoid { alpha, .. }) => {
                activation::hard_sigmoid_backward(context, dy, of, alpha, dx);
            }
            Self::HardSwish => activation::hard_swish_backward(context, dy, of, dx),
            Self::Sigmoid => activation::sigmoid_backward(context, dy, of, dx),
            Self::Tanh => activation::tanh_backward(context, dy, of, dx),
            Self::Affine(Affine { scale, .. }) => activation::affine_backward(context, dy, scale, dx),
            Self::LogSoftmax => softmax::log_softmax_backward(context, dy, of, dx),
        }
    }
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
        Instruction::Convolution { ref layer, x, y, moments: Some(moments), ref algorithm, .. } => {
            let (weight, bias) = parameters(layer, step.parameters);
            let (x, y, scratch) = (memory.view(x), memory.view_mut(y), memory.scratch(index));
            let moments = memory.floats_mut(moments);
            match algorithm {
                Algorithm::Winograd(winograd, weight) => {
                    let weight = memory.floats(*weight);
                    winograd.run_with_moments(context, x, weight, bias, y, moments, scratch);
                }
                // Training keeps no weights.
                Algorithm::Direct | Algorithm::WinogradKept(_) => {
                    layer.kernel.forward_with_moments(context, x, weight, bias, y, moments, scratch);
                }
            }
        }
        Instruction::Convolution {
            ref layer, ref folded, x, residual, y, activation, ref algorithm, ..
        } => {
            let residual = residual.map(|residual| memory.view(residual));
            let (weight, bias) = step.weights(layer, folded.is_some());
            let (x, y, scratch) = (memory.view(x), memory.view_mut(y), memory.scratch(index));
            match algorithm {
                Algorithm::Direct => {
                    layer.kernel.forward(context, x, weight, bias, residual, activation, y, scratch);
                }
                Algorithm::Winograd(winograd, weight) => {
                    winograd.run(context, x, memory.floats(*weight), bias, residual, activation, y, scratch);
                }
                Algorithm::WinogradKept(winograd) => {
                    let weight = step.kept.transformed(layer);
                    winograd.run(context, x, weight, bias, residual, activation, y, scratch);
                }
            }
        }
        Instruction::SeparableConvolution { ref stages, x, residual, y } => {
            let kernels = stages.each_ref().map(|Stage { layer, folded, activation }| {
                let (weight, bias) = step.weights(layer, folded.is_some());
                conv2d::Stage { weight, bias, activation: *activation }
            });
            let residual = residual.map(|residual| memory.view(residual));
            let (x, y, scratch) = (memory.view(x), memory.view_mut(y), memory.scratch(index));
            if let Some(separable) = separable(stages) {
                separable.forward(context, x, kernels, residual, y, scratch);
            }
        }
        Instruction::TransformWeight { ref layer, ref winograd, packed, transformed } => {
            let weight = match packed {
                Some(packed) => memory.floats(packed),
                None => parameters(layer, step.parameters).0,
            };
            winograd.transform_weight(context, weight, memory.floats_mut(transformed));
        }
        Instruction::ConvolutionBackwardWeight { ref layer, x, dy, ref winograd } => {
            let (dweight, dbias) = parameters_mut(layer, step.gradients);
            let (x, dy, scratch) = (memory.view(x), memory.view(dy), memory.scratch(index));
            match winograd {
                Some(winograd) => winograd.run(context, x, dy, dweight, dbias, scratch),
                None => layer.kernel.backward_weight(context, x, dy, dweight, dbias, scratch),
            }
            if let Some(Connections { mask, .. }) = &layer.connections {
                arithmetic::mask(context, mask, &mut step.gradients[layer.weight.clone()]);
            }
        }
        Instruction::PackGradientWeight { ref layer, packed } => {
            let (weight, _) = parameters(layer, step.parameters);
            layer.kernel.pack_gradient_weight(context, weight, memory.floats_mut(packed));
        }
        Instruction::ConvolutionBackwardInput { ref layer, dy, packed, residual, dx, ref algorithm } => {
            let (dy, dx, scratch) = (memory.view(dy), memory.view_mut(dx), memory.scratch(index));
            let residual = residual.map(|residual| memory.view(residual));
            match algorithm {
                Algorithm::Winograd(winograd, weight) => {
                    let weight = memory.floats(*weight);
                    winograd.run(context, dy, weight, None, residual, Activation::None, dx, scratch);
                }
                // A session keeps no weights for gradients: they change with every step.
                Algorithm::Direct | Algorithm::WinogradKept(_) => {
                    let weight = match packed {
                        Some(packed) => memory.floats(packed),
                        None => parameters(layer, step.parameters).0,
                    };
                    layer.kernel.backward_input(context, dy, weight, residual, dx, scratch);
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
        Instruction::GlobalMaxPool { x, y } => {
            pool2d::global_max_pool(context, memory.view(x), memory.view_mut(y));
        }
        Instruction::GlobalMaxPoolBackward { x, y, dy, dx } => {
            let [x, y, dy] = [x, y, dy].map(|value| memory.view(value));
            pool2d::global_max_pool_backward(context, x, y, dy, memory.view_mut(dx));
        }
        Instruction::Channel { .. }
        | Instruction::ChannelBackwardWeight { .. }
        | Instruction::ChannelBackwardInput { .. } => run_channel(memory, index, step),
        Instruction::AvgPool { ref layer, x, y } => {
            layer.forward(context, memory.view(x), memory.view_mut(y));
        }
        Instruction::AvgPoolBackward { ref layer, dy, dx } => {
            layer.backward(context, memory.view(dy), memory.view_mut(dx));
        }
        Instruction::BatchNorm { .. }
        | Instruction::BatchNormBackwardWeight { .. }
        | Instruction::BatchNormBackwardInput { .. } => run_batch_norm(memory, index, step),
        Instruction::LocalResponseNorm { norm, x, y } => {
            norm.forward(context, memory.view(x), memory.view_mut(y));
        }
        Instruction::LocalResponseNormBackward { norm, x, dy, dx } => {
            norm.backward(context, memory.view(x), memory.view(dy), memory.view_mut(dx));
        }
        Instruction::Dropout { rate, node, x, y }
        | Instruction::DropoutBackward { rate, node, dy: x, dx: y } => {
            dropout(context, memory.view(x), rate, step.dropout(node), memory.view_mut(y));
        }
        Instruction::Add { a, b, y, activation } => {
            elementwise::add(context, memory.view(a), memory.view(b), activation, memory.view_mut(y));
        }
        Instruction::Arithmetic { operation, a, b, y } => {
            let run = match operation {
                Arithmetic::Subtract => arithmetic::subtract,
                Arithmetic::Multiply => arithmetic::multiply,
                Arithmetic::Divide => arithmetic::divide,
                Arithmetic::NegativeProduct => arithmetic::negative_product,
            };
            run(context, memory.view(a), memory.view(b), memory.view_mut(y));
        }
        Instruction::MultiplyChannels { a, b, y, .. } => {
            arithmetic::multiply_channels(context, memory.view(a), memory.view(b), memory.view_mut(y));
        }
        Instruction::Copy { x, y } => elementwise::copy(context, memory.view(x), memory.view_mut(y)),
        Instruction::Pad { padding, channels, x, y } => {
            elementwise::pad(context, memory.view(x), padding, channels, memory.view_mut(y));
        }
        Instruction::PadBackward { padding, channels, dy, dx } => {
            elementwise::pad_backward(context, memory.view(dy), padding, channels, memory.view_mut(dx));
        }
        Instruction::Function { function, x, y } => {
            function.forward(context, memory.view(x), memory.view_mut(y));
        }
        Instruction::FunctionBackward { function, dy, of, dx } => {
            let dy = memory.view(dy);
            function.backward(context, dy, of.map_or(dy, |of| memory.view(of)), memory.view_mut(dx));
        }
        Instruction::RadialBasis { ref codes, x, y } => {
            radial_basis::radial_basis(context, memory.view(x), codes, memory.view_mut(y));
        }
        Instruction::RadialBasisBackward { ref codes, x, dy, dx } => {
            let (x, dy) = (memory.view(x), memory.view(dy));
            radial_basis::radial_basis_backward(context, x, codes, dy, memory.view_mut(dx));
        }
        Instruction::Softmax { x, y } => softmax::softmax(context, memory.view(x), memory.view_mut(y)),
        Instruction::Loss { output, loss, logits, dlogits, weight } => {
            let (criterion, logits) = (step.criterion(loss), memory.view(logits));
            let dlogits = dlogits.map(|dlogits| memory.view_mut(dlogits));
            step.losses[output] =
                criterion.forward(context, logits, step.targets, weight * step.share, dlogits);
        }
        Instruction::CheckGradients => step.finite = is_finite(context, step.gradients),
        Instruction::Update => {
            step.update.run(context, step.parameters, step.gradients);
        }
    }
}

fn run_batch_norm(memory: &Memory, index: usize, step: &mut Step) {
    let context = step.context;
    match memory.plan.program.instructions[index] {
        Instruction::BatchNorm {
            ref layer,
            x,
            moments,
            residual,
            ref pool,
            argmax,
            y,
            saved,
            frozen,
            affine,
            activation,
        } => {
            let (x, affine) = (memory.view(x), memory.floats_mut(affine));
            let BatchNormLayer { epsilon, momentum, .. } = **layer;
            let [weight, bias] = [&layer.weight, &layer.bias].map(|place| &step.parameters[place.clone()]);
            match saved {
                Some(saved) => {
                    let (saved, scratch) = (memory.floats_mut(saved), memory.scratch(index));
                    let [mean, variance] = both_mut(step.state, &layer.mean, &layer.variance);
                    let running = Running { mean, variance, momentum };
                    match moments {
                        _ if frozen => batch_norm::running(running.mean, running.variance, epsilon, saved),
                        Some(moments) => {
                            let moments = memory.floats(moments);
                            batch_norm::statistics_from_moments(context, moments, epsilon, saved, running);
                        }
                        None => batch_norm::statistics(context, x, epsilon, saved, running, scratch),
                    }
                    batch_norm::affine(saved, weight, bias, affine);
                }
                None => {
                    let [mean, variance] =
                        [&layer.mean, &layer.variance].map(|place| &step.state[place.clone()]);
                    batch_norm::running_affine(mean, variance, epsilon, weight, bias, affine);
                }
            }
            let (residual, y) = (residual.map(|residual| memory.view(residual)), memory.view_mut(y));
            match pool {
                Some(pool) => {
                    // Nobody asks for the winners where nothing before them learns.
                    let argmax = argmax.map(|argmax| memory.bytes_mut(argmax));
                    pool.forward_normalized(context, x, affine, activation, y, argmax);
                }
                None => batch_norm::normalize(context, x, affine, residual, activation, y),
            }
        }
        Instruction::BatchNormBackwardWeight { ref layer, ref pool, x, dy, mask, statistics, dresidual } => {
            let [dweight, dbias] = both_mut(step.gradients, &layer.weight, &layer.bias);
            let (x, scratch) = (memory.view(x), memory.scratch(index));
            let [saved, affine] = statistics.map(|statistics| memory.floats(statistics));
            let dresidual = dresidual.map(|dresidual| memory.view_mut(dresidual));
            let dy = memory.view(dy);
            match pool {
                Some(pool) => {
                    let gradient = memory.pooled(dy, pool);
                    pool.layer.normalized_sums(context, x, gradient, saved, dweight, dbias, scratch);
                }
                None => {
                    let mask = memory.mask(mask);
                    batch_norm::backward_sums(
                        context, x, dy, mask, saved, affine, dweight, dbias, dresidual, scratch,
                    );
                }
            }
        }
        Instruction::BatchNormBackwardInput { ref layer, ref pool, x, dy, mask, statistics, dx } => {
            let [dweight, dbias] = [&layer.weight, &layer.bias].map(|place| &step.gradients[place.clone()]);
            let (x, dx) = (memory.view(x), memory.view_mut(dx));
            let [saved, affine] = statistics.map(|statistics| memory.floats(statistics));
            let dy = memory.view(dy);
            match pool {
                Some(pool) => {
                    let gradient = memory.pooled(dy, pool);
                    pool.layer.normalized_input(context, x, gradient, saved, affine, dweight, dbias, dx);
                }
                None => {
                    let mask = memory.mask(mask);
                    batch_norm::backward_input(context, x, dy, mask, saved, affine, dweight, dbias, dx);
                }
            }
        }
        _ => {}
    }
}

fn run_channel(memory: &Memory, index: usize, step: &mut Step) {
    let context = step.context;
    match memory.plan.program.instructions[index] {
        Instruction::Channel { ref layer, x, y } => {
            let [weight, bias] =
                [&layer.weight, &layer.bias].map(|place| place.clone().map(|place| &step.parameters[place]));
            let (x, y) = (memory.view(x), memory.view_mut(y));
            match (layer.function, weight) {
                (ChannelFunction::Prelu, Some(weight)) => prelu::prelu(context, x, weight, y),
                _ => scale::scale(context, x, weight, bias, y),
            }
        }
        Instruction::ChannelBackwardWeight { ref layer, x, dy } => {
            let (dy, scratch) = (memory.view(dy), memory.scratch(index));
            let x = x.map_or(dy, |x| memory.view(x));
            match (layer.function, &layer.weight, &layer.bias) {
                (ChannelFunction::Prelu, Some(weight), _) => {
                    let dweight = &mut step.gradients[weight.clone()];
                    prelu::prelu_backward_weight(context, x, dy, dweight, scratch);
                }
                (_, Some(weight), Some(bias)) => {
                    let [dweight, dbias] = both_mut(step.gradients, weight, bias);
                    scale::backward_weight(context, x, dy, dweight, Some(dbias), scratch);
                }
                (_, Some(weight), None) => {
                    let dweight = &mut step.gradients[weight.clone()];
                    scale::backward_weight(context, x, dy, dweight, None, scratch);
                }
                (_, None, Some(bias)) => {
                    scale::backward_bias(context, dy, &mut step.gradients[bias.clone()], scratch);
                }
                (_, None, None) => {} // nothing to learn
            }
        }
        Instruction::ChannelBackwardInput { ref layer, x, dy, dx } => {
            let (dy, dx) = (memory.view(dy), memory.view_mut(dx));
            let weight = layer.weight.clone().map(|place| &step.parameters[place]);
            match (x, weight) {
                (Some(x), Some(weight)) => {
                    prelu::prelu_backward_input(context, memory.view(x), dy, weight, dx);
                }
                _ => scale::scale(context, dy, weight, None, dx),
            }
        }
        _ => {}
    }
}

/// Two places of a buffer, the second behind the first.
fn both_mut<'a>(buffer: &'a mut [f32], first: &Range<usize>, second: &Range<usize>) -> [&'a mut [f32]; 2] {
    let (before, after) = buffer.split_at_mut(second.start);
    [&mut before[first.clone()], &mut after[..second.len()]]
}

/// Weight and bias of a layer in a buffer of the parameters' layout.
fn parameters<'a>(layer: &ConvolutionLayer, buffer: &'a [f32]) -> (&'a [f32], Option<&'a [f32]>) {
    (&buffer[layer.weight.clone()], layer.bias.clone().map(|bias| &buffer[bias]))
}

fn parameters_mut<'a>(
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

/// As [`result`], to be overwritten, if it lies in the arena.
pub(crate) fn result_mut<'a>(plan: &Plan, arena: &'a mut [f32]) -> Option<&'a mut [f32]> {
    let &value = plan.program.results.first()?;
    match plan.slot(value).place {
        Place::Images => None,
        Place::Arena(_) => Some(&mut arena[plan.span(value)]),
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

    fn mask(&self, mask: Mask) -> batch_norm::Mask<'a> {
        match mask {
            Mask::None => batch_norm::Mask::None,
            Mask::Recompute => batch_norm::Mask::Recompute,
            Mask::Output(y) => batch_norm::Mask::Output(self.view(y)),
        }
    }

    fn pooled(&self, dy: View4<'a>, pool: &Pooled) -> PooledGradient<'a> {
        PooledGradient { dy, argmax: self.bytes(pool.argmax), y: pool.y.map(|y| self.view(y)) }
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
