//! Every pass on every instruction set of the machine, against the naive reference at awkward sizes.

mod moments;

use super::winograd::{WeightGradient, Winograd};
use super::*;
use crate::Pool;
use crate::testing::{ACTIVATIONS, Tensor, apart};
use fovea_reference as reference;
use reference::check::{relative_error, uniform, widen};

/// A hundredth of what one wrong product would show; sums of some thousand products stay an order below.
const TOLERANCE: f64 = 3e-6;

fn shape(input: [usize; 3], filters: usize, kernel: usize) -> Conv2dShape {
    let (kernel, padding) = ([kernel; 2], [0; 4]);
    Conv2dShape { input, filters, kernel, stride: [1, 1], padding, dilation: [1, 1], groups: 1 }
}

/// Geometries that reach every path: kernel rows merged or not, copied between zeros, pointers to zeros,
/// scatter and gather, phases with and without taps, remainders of tiles and of panels, chunks of the inner
/// dimension, bands of an image, pixels abreast.
fn cases() -> Vec<(usize, Conv2dShape)> {
    let mut cases = vec![
        (5, shape([28, 28, 1], 6, 5)),
        (2, Conv2dShape { padding: [2; 4], ..shape([28, 28, 1], 6, 5) }),
        (3, shape([14, 14, 6], 16, 5)),
        (7, shape([1, 1, 400], 120, 1)),
        (1, shape([1, 1, 84], 10, 1)),
        (1, shape([1, 1, 400], 120, 1)),
        (1, shape([1, 1, 101], 141, 1)),
        (67, shape([1, 1, 33], 49, 1)),
        (33, shape([1, 1, 1024], 70, 1)),
        (5, shape([1, 1, 1100], 300, 1)),
        (300, shape([1, 1, 40], 7, 1)),
        (2, Conv2dShape { padding: [1; 4], ..shape([9, 7, 17], 33, 3) }),
        (1, Conv2dShape { padding: [1; 4], ..shape([8, 8, 64], 64, 3) }),
        (2, Conv2dShape { padding: [3, 2, 1, 4], ..shape([6, 5, 3], 5, 4) }),
        (2, Conv2dShape { padding: [1; 4], stride: [2, 2], ..shape([11, 10, 8], 24, 3) }),
        (1, Conv2dShape { padding: [3; 4], stride: [2, 2], ..shape([23, 21, 3], 48, 7) }),
        (1, Conv2dShape { stride: [4, 4], padding: [2; 4], ..shape([35, 35, 3], 20, 11) }),
        (2, Conv2dShape { stride: [3, 2], ..shape([10, 9, 4], 7, 2) }),
        (2, Conv2dShape { stride: [3, 3], ..shape([10, 10, 5], 9, 1) }),
        (1, Conv2dShape { dilation: [2, 3], padding: [2, 3, 2, 3], ..shape([12, 13, 9], 18, 3) }),
        (2, Conv2dShape { dilation: [2, 1], ..shape([12, 13, 2], 3, 3) }),
        (2, Conv2dShape { groups: 2, padding: [1; 4], ..shape([7, 6, 10], 34, 3) }),
        (2, Conv2dShape { groups: 12, padding: [1; 4], ..shape([6, 6, 12], 12, 3) }),
        (2, Conv2dShape { groups: 4, stride: [2, 2], ..shape([9, 9, 8], 4, 3) }),
        (1, Conv2dShape { stride: [2, 2], dilation: [3, 2], padding: [4; 4], ..shape([13, 12, 6], 5, 3) }),
        (1, Conv2dShape { kernel: [1, 7], padding: [0, 3, 0, 3], ..shape([5, 9, 16], 16, 1) }),
        (3, Conv2dShape { kernel: [3, 1], padding: [1, 0, 1, 0], ..shape([5, 9, 130], 3, 1) }),
        (1, Conv2dShape { padding: [9; 4], ..shape([2, 2, 2], 3, 3) }),
        (0, shape([4, 4, 3], 5, 3)),
        (4, Conv2dShape { padding: [1; 4], stride: [2, 2], ..shape([13, 13, 64], 80, 3) }),
        (3, Conv2dShape { padding: [2; 4], ..shape([17, 15, 64], 64, 5) }),
        (9, Conv2dShape { stride: [2, 2], ..shape([13, 14, 256], 256, 1) }),
        (5, Conv2dShape { padding: [2, 1, 0, 3], dilation: [2, 1], ..shape([7, 8, 80], 96, 3) }),
        (32, shape([1, 1, 256], 272, 1)),
        (1, shape([6, 5, 1100], 40, 1)),
        (2, Conv2dShape { padding: [1; 4], ..shape([5, 6, 100], 72, 3) }),
        (1, Conv2dShape { padding: [1; 4], stride: [2, 2], ..shape([4, 5, 600], 17, 3) }),
        (1, Conv2dShape { padding: [3, 2, 4, 3], stride: [2, 2], ..shape([127, 100, 3], 20, 7) }),
        (3, Conv2dShape { padding: [1; 4], ..shape([9, 8, 5], 3, 3) }),
        (33, Conv2dShape { padding: [2, 1, 0, 2], stride: [1, 2], ..shape([10, 15, 3], 2, 5) }),
        (1, Conv2dShape { padding: [1; 4], ..shape([6, 12, 40], 1, 3) }),
    ];
    cases.push((1, Conv2dShape { stride: [5, 5], ..shape([5, 5, 2], 2, 1) }));
    cases.extend(depthwise_cases());
    cases
}

/// Channels that fill whole vectors and not, more than one part takes; tiles of seven and of eight pixels,
/// whole and cut short, of two rows and of one; several chunks of rows; padding of all kinds, and beyond the
/// kernel; any taps.
fn depthwise_cases() -> Vec<(usize, Conv2dShape)> {
    let depthwise =
        |input: [usize; 3], kernel| Conv2dShape { groups: input[2], ..shape(input, input[2], kernel) };
    vec![
        (2, Conv2dShape { padding: [1; 4], ..depthwise([14, 14, 7], 3) }),
        (8, Conv2dShape { padding: [1; 4], ..depthwise([21, 17, 35], 3) }),
        (1, Conv2dShape { padding: [1; 4], ..depthwise([7, 7, 530], 3) }),
        (3, Conv2dShape { padding: [3, 0, 2, 4], ..depthwise([9, 10, 3], 3) }),
        (2, depthwise([3, 5, 64], 3)),
        (8, Conv2dShape { padding: [1; 4], stride: [2, 2], ..depthwise([23, 27, 40], 3) }),
        (1, Conv2dShape { padding: [0, 1, 1, 0], stride: [2, 2], ..depthwise([16, 16, 17], 3) }),
        (1, Conv2dShape { padding: [4, 2, 3, 5], stride: [2, 2], ..depthwise([5, 6, 270], 3) }),
        (2, Conv2dShape { padding: [1; 4], stride: [1, 2], ..depthwise([8, 9, 6], 3) }),
        (2, Conv2dShape { stride: [3, 3], ..depthwise([11, 12, 5], 3) }),
        (2, Conv2dShape { padding: [2; 4], ..depthwise([12, 15, 21], 5) }),
        (1, Conv2dShape { padding: [3; 4], stride: [2, 2], ..depthwise([15, 14, 12], 7) }),
        (2, Conv2dShape { padding: [2; 4], dilation: [2, 2], ..depthwise([9, 9, 19], 3) }),
        (1, Conv2dShape { kernel: [2, 4], stride: [2, 3], ..depthwise([9, 13, 18], 1) }),
        (2, Conv2dShape { stride: [2, 2], ..depthwise([6, 7, 9], 1) }),
        (1, Conv2dShape { padding: [9; 4], ..depthwise([2, 2, 2], 3) }),
        (0, depthwise([4, 4, 3], 3)),
    ]
}

/// Everything that the passes of one case produced.
#[derive(PartialEq, Debug)]
struct Results {
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
    db: Vec<f32>,
}

/// The inputs of a case in the reference's layouts.
struct Inputs {
    x: Vec<f32>,
    w: Vec<f32>,
    b: Vec<f32>,
    dy: Vec<f32>,
}

impl Inputs {
    fn new(batch: usize, shape: &Conv2dShape) -> Self {
        let [oh, ow, k] = shape.output().unwrap();
        Self {
            x: uniform(1, batch * shape.input.iter().product::<usize>()),
            w: uniform(2, shape.parameters()),
            b: uniform(3, k),
            dy: uniform(4, batch * oh * ow * k),
        }
    }
}

fn scratch(convolution: &Conv2d, pass: Pass, batch: usize, threads: usize) -> Vec<f32> {
    // NaN shows any use of scratch memory that was not written before.
    vec![f32::NAN; convolution.scratch_len(pass, batch, threads) + 2]
}

fn aligned(scratch: &mut [f32]) -> &mut [f32] {
    let skip = scratch.as_ptr().align_offset(8);
    &mut scratch[skip..]
}

/// The weights as the forward pass and as the input gradient read them.
fn packed(convolution: &Conv2d, context: Context, w: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let mut weight = vec![f32::NAN; convolution.weight_len()];
    convolution.pack_weight(w, &mut weight);
    let mut gradient_weight = vec![f32::NAN; convolution.gradient_weight_len()];
    convolution.pack_gradient_weight(context, &weight, &mut gradient_weight);
    (weight, gradient_weight)
}

fn run(isa: Isa, threads: usize, gap: usize, batch: usize, shape: Conv2dShape, inputs: &Inputs) -> Results {
    let pool = Pool::start(threads, threads);
    let context = Context { isa, pool: &pool };
    let convolution = Conv2d::new(shape, isa).unwrap();
    let ([h, w, c], [oh, ow, k]) = (shape.input, convolution.output());
    let (weight, gradient_weight) = packed(&convolution, context, &inputs.w);
    let x = Tensor::new(&inputs.x, [batch, h, w, c], gap);
    let dy = Tensor::new(&inputs.dy, [batch, oh, ow, k], gap);
    let mut y = Tensor::new(&vec![f32::NAN; inputs.dy.len()], [batch, oh, ow, k], gap);
    let mut dx = Tensor::new(&vec![f32::NAN; inputs.x.len()], [batch, h, w, c], gap);
    let mut dweight = vec![f32::NAN; weight.len()];
    let mut db = vec![f32::NAN; k];
    let of = |pass| scratch(&convolution, pass, batch, threads);
    let bias = Some(inputs.b.as_slice());
    let mut memory = of(Pass::Forward);
    let memory = aligned(&mut memory);
    let forward = Forward { bias, ..Forward::new(x.view(), &weight) };
    convolution.forward(context, forward, y.view_mut(), memory);
    let mut memory = of(Pass::BackwardInput);
    let memory = aligned(&mut memory);
    convolution.backward_input(context, dy.view(), &gradient_weight, None, dx.view_mut(), memory);
    let mut memory = of(Pass::BackwardWeight);
    let memory = aligned(&mut memory);
    convolution.backward_weight(context, x.view(), dy.view(), &mut dweight, Some(&mut db), memory);
    let mut dw = vec![f32::NAN; inputs.w.len()];
    convolution.unpack_weight(&dweight, &mut dw);
    let padding = dweight.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
    let values = dw.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
    assert!((padding - values).abs() <= 1e-6 * values.abs(), "the padding of dw is not zero");
    Results { y: y.values(), dx: dx.values(), dw, db }
}

#[test]
fn every_pass_equals_the_reference_on_every_instruction_set_and_keeps_within_its_memory() {
    for (batch, shape) in cases() {
        let inputs = Inputs::new(batch, &shape);
        let Conv2dShape { input, filters, kernel, stride, padding, dilation, groups } = shape;
        let naive = reference::Conv2d { batch, input, filters, kernel, stride, padding, dilation, groups };
        let [x, w, b, dy] = [&inputs.x, &inputs.w, &inputs.b, &inputs.dy].map(|values| widen(values));
        let expected = [
            ("y", naive.forward(&x, &w, Some(&b))),
            ("dx", naive.backward_input(&dy, &w)),
            ("dw", naive.backward_weight(&x, &dy)),
            ("db", naive.backward_bias(&dy)),
        ];
        for isa in Isa::available() {
            for gap in [0, 3] {
                let results = run(isa, 2, gap, batch, shape, &inputs);
                let actual = [&results.y, &results.dx, &results.dw, &results.db];
                for ((name, expected), actual) in expected.iter().zip(actual) {
                    let error = relative_error(actual, expected);
                    let place = format!("{name} of {shape:?}, batch {batch}, gap {gap}, {}", isa.name());
                    assert!(error < TOLERANCE, "{place}: error {error:e}");
                }
            }
        }
    }
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    for (batch, shape) in cases() {
        let inputs = Inputs::new(batch, &shape);
        for isa in Isa::available() {
            let one = run(isa, 1, 0, batch, shape, &inputs);
            for threads in [2, 3, 5] {
                assert_eq!(run(isa, threads, 0, batch, shape, &inputs), one, "{shape:?} on {}", isa.name());
            }
        }
    }
}

/// The gradients are those of the kernels' own forward pass: y is linear in x, w and b, so a central difference
/// of any step is exact but for rounding.
#[test]
fn gradients_equal_finite_differences_of_the_forward_pass() {
    let batch = 2;
    let shape = Conv2dShape { stride: [2, 1], padding: [1, 0, 2, 1], ..shape([5, 4, 3], 4, 3) };
    let inputs = Inputs::new(batch, &shape);
    for isa in Isa::available() {
        let results = run(isa, 1, 0, batch, shape, &inputs);
        let loss = |inputs: &Inputs| {
            let y = run(isa, 1, 0, batch, shape, inputs).y;
            reference::check::dot(&widen(&y), &widen(&inputs.dy))
        };
        let check = |gradient: &[f32], of: fn(&mut Inputs) -> &mut Vec<f32>| {
            for index in (0..gradient.len()).step_by(gradient.len().div_ceil(5)) {
                let moved = |by: f32| {
                    let mut moved = Inputs::new(batch, &shape);
                    of(&mut moved)[index] += by;
                    loss(&moved)
                };
                let difference = (moved(0.5) - moved(-0.5)) as f32;
                assert!((difference - gradient[index]).abs() < 1e-4, "{difference} {}", gradient[index]);
            }
        };
        check(&results.dx, |inputs| &mut inputs.x);
        check(&results.dw, |inputs| &mut inputs.w);
        check(&results.db, |inputs| &mut inputs.b);
    }
}

#[test]
fn the_epilogue_clips_negative_values_and_lets_a_nan_through() {
    for isa in Isa::available() {
        let pool = Pool::new(1);
        let context = Context { isa, pool: &pool };
        let convolution = Conv2d::new(shape([1, 1, 1], 3, 1), isa).unwrap();
        let mut weight = vec![0.0; convolution.weight_len()];
        convolution.pack_weight(&[1.0, -1.0, f32::NAN], &mut weight);
        let (x, mut y) = ([2.0], [f32::INFINITY; 3]);
        let mut memory = scratch(&convolution, Pass::Forward, 1, 1);
        let x = View4::new(&x, [1, 1, 1, 1], 1).unwrap();
        let forward = Forward { activation: Activation::Relu, ..Forward::new(x, &weight) };
        let y_view = ViewMut4::new(&mut y, [1, 1, 1, 3], 3).unwrap();
        convolution.forward(context, forward, y_view, aligned(&mut memory));
        assert_eq!(y[..2], [2.0, 0.0]);
        assert!(y[2].is_nan());
    }
}

#[test]
fn a_residual_is_added_before_the_activation_wherever_it_lies() {
    for ((batch, shape), isa) in
        cases().into_iter().flat_map(|case| Isa::available().into_iter().map(move |isa| (case, isa)))
    {
        let convolution = Conv2d::new(shape, isa).unwrap();
        if !convolution.adds_residual() {
            continue;
        }
        let (pool, inputs) = (Pool::new(2), Inputs::new(batch, &shape));
        let context = Context { isa, pool: &pool };
        let ([h, w, c], [oh, ow, k]) = (shape.input, convolution.output());
        let (weight, _) = packed(&convolution, context, &inputs.w);
        let x = Tensor::new(&inputs.x, [batch, h, w, c], 1);
        let residual = Tensor::new(&inputs.dy, [batch, oh, ow, k], 1);
        let mut memory = scratch(&convolution, Pass::Forward, batch, 2);
        let mut forward = |residual: Option<View4>, activation, y: ViewMut4| {
            let forward =
                Forward { x: x.view(), weight: &weight, bias: Some(&inputs.b), residual, activation };
            convolution.forward(context, forward, y, aligned(&mut memory));
        };
        let mut y = Tensor::new(&vec![f32::NAN; inputs.dy.len()], [batch, oh, ow, k], 1);
        forward(None, Activation::None, y.view_mut());
        let expected: Vec<f32> =
            y.values().iter().zip(&inputs.dy).map(|(y, residual)| (y + residual).max(0.0)).collect();
        forward(Some(residual.view()), Activation::Relu, y.view_mut());
        assert!(y.values() == expected, "{} {shape:?}", isa.name());
        let mut in_place = Tensor::new(&inputs.dy, [batch, oh, ow, k], 1);
        let (from, to) = in_place.in_place();
        forward(Some(from), Activation::Relu, to);
        assert!(in_place.values() == expected, "in place, {} {shape:?}", isa.name());
    }
}

#[test]
fn a_residual_is_added_to_the_input_gradient_wherever_it_lies() {
    let cases = cases().into_iter().chain(winograd_cases());
    for ((batch, shape), isa) in
        cases.flat_map(|case| Isa::available().into_iter().map(move |isa| (case, isa)))
    {
        let convolution = Conv2d::new(shape, isa).unwrap();
        if !convolution.adds_residual_to_gradient() {
            continue;
        }
        let (pool, inputs) = (Pool::new(2), Inputs::new(batch, &shape));
        let context = Context { isa, pool: &pool };
        let ([h, w, c], [oh, ow, k]) = (shape.input, convolution.output());
        let (_, weight) = packed(&convolution, context, &inputs.w);
        let dy = Tensor::new(&inputs.dy, [batch, oh, ow, k], 1);
        let residual = Tensor::new(&inputs.x, [batch, h, w, c], 16);
        let winograd = Winograd::new(&convolution, Pass::BackwardInput);
        let transformed = winograd.as_ref().map(|winograd| {
            let mut transformed = vec![f32::NAN; winograd.weight_len()];
            winograd.transform_weight(context, &weight, &mut transformed);
            transformed
        });
        let directly = |residual: Option<View4>, dx: ViewMut4| {
            let mut memory = scratch(&convolution, Pass::BackwardInput, batch, 2);
            convolution.backward_input(context, dy.view(), &weight, residual, dx, aligned(&mut memory));
        };
        let by_winograd = |residual: Option<View4>, dx: ViewMut4| {
            let (Some(winograd), Some(weight)) = (&winograd, &transformed) else { return };
            let mut memory = vec![f32::NAN; winograd.scratch_len(2) + 2];
            let product = Forward { residual, ..Forward::new(dy.view(), weight) };
            winograd.run(context, product, dx, aligned(&mut memory));
        };
        type Backward<'a> = &'a dyn Fn(Option<View4>, ViewMut4);
        let ways: [Backward; 2] = [&directly, &by_winograd];
        for backward in &ways[..1 + usize::from(winograd.is_some())] {
            let mut dx = Tensor::new(&vec![f32::NAN; inputs.x.len()], [batch, h, w, c], 16);
            backward(None, dx.view_mut());
            let expected: Vec<f32> = dx.values().iter().zip(&inputs.x).map(|(dx, more)| dx + more).collect();
            backward(Some(residual.view()), dx.view_mut());
            assert!(dx.values() == expected, "{} {shape:?}", isa.name());
            let mut in_place = residual.clone();
            let (from, to) = in_place.in_place();
            backward(Some(from), to);
            assert!(in_place.values() == expected, "in place, {} {shape:?}", isa.name());
        }
    }
}

#[test]
fn every_activation_is_what_a_pass_of_its_own_makes_of_the_sums() {
    let all = || cases().into_iter().chain(winograd_cases()).filter(|(batch, _)| *batch > 0);
    for ((batch, shape), isa) in
        all().flat_map(|case| Isa::available().into_iter().map(move |isa| (case, isa)))
    {
        let (pool, inputs) = (Pool::new(2), Inputs::new(batch, &shape));
        let (context, convolution) = (Context { isa, pool: &pool }, Conv2d::new(shape, isa).unwrap());
        let ([h, w, c], [oh, ow, k]) = (shape.input, convolution.output());
        let (weight, _) = packed(&convolution, context, &inputs.w);
        let winograd = Winograd::new(&convolution, Pass::Forward).map(|winograd| {
            let mut transformed = vec![f32::NAN; winograd.weight_len()];
            winograd.transform_weight(context, &weight, &mut transformed);
            (winograd, transformed)
        });
        // Pixels abreast need dense maps.
        for gap in [0, 1] {
            let x = Tensor::new(&inputs.x, [batch, h, w, c], gap);
            let residual = Tensor::new(&inputs.dy, [batch, oh, ow, k], gap);
            let residual = convolution.adds_residual().then(|| residual.view());
            let forward = Forward { bias: Some(&inputs.b), residual, ..Forward::new(x.view(), &weight) };
            let directly = |activation| {
                let mut y = Tensor::unwritten([batch, oh, ow, k], gap);
                let mut memory = scratch(&convolution, Pass::Forward, batch, 2);
                let forward = Forward { activation, ..forward };
                convolution.forward(context, forward, y.view_mut(), aligned(&mut memory));
                y.values()
            };
            let by_winograd = |activation| {
                let Some((winograd, transformed)) = &winograd else { return vec![] };
                let mut y = Tensor::unwritten([batch, oh, ow, k], gap);
                let mut memory = vec![f32::NAN; winograd.scratch_len(2) + 2];
                let forward = Forward { weight: transformed, activation, ..forward };
                winograd.run(context, forward, y.view_mut(), aligned(&mut memory));
                y.values()
            };
            for compute in [&directly as &dyn Fn(Activation) -> Vec<f32>, &by_winograd] {
                let sums = compute(Activation::None);
                for activation in ACTIVATIONS {
                    let expected = if sums.is_empty() { vec![] } else { apart(context, activation, &sums) };
                    assert!(compute(activation) == expected, "{activation:?}, {} {shape:?}", isa.name());
                }
            }
        }
    }
}

#[test]
fn results_written_past_the_caches_are_the_same() {
    const LINE: usize = 16;
    let shape = shape([512, 512, 16], 16, 1);
    for isa in Isa::available() {
        let pool = Pool::new(2);
        let context = Context { isa, pool: &pool };
        let convolution = Conv2d::new(shape, isa).unwrap();
        let inputs = Inputs::new(1, &shape);
        let (weight, _) = packed(&convolution, context, &inputs.w);
        let x = View4::new(&inputs.x, [1, 512, 512, 16], 16).unwrap();
        let mut memory = vec![f32::NAN; inputs.dy.len() + 2 * LINE];
        let first = memory.as_ptr().align_offset(64);
        // What is applied late is not written past them.
        for activation in [Activation::Relu, Activation::Silu] {
            let [streamed, cached] = [(first, true), (first + 1, false)].map(|(first, streams)| {
                let y = &mut memory[first..first + inputs.dy.len()];
                let view = ViewMut4::new(y, [1, 512, 512, 16], 16).unwrap();
                assert_eq!(view.streams(), streams);
                let mut memory = scratch(&convolution, Pass::Forward, 1, 2);
                let forward = Forward { activation, ..Forward::new(x, &weight) };
                convolution.forward(context, forward, view, aligned(&mut memory));
                y.to_vec()
            });
            assert!(streamed == cached, "{}", isa.name());
        }
    }
}

#[test]
fn weights_survive_packing_and_unpacking() {
    for (_, shape) in cases() {
        for isa in Isa::available() {
            let convolution = Conv2d::new(shape, isa).unwrap();
            let w = uniform(5, shape.parameters());
            let mut packed = vec![f32::NAN; convolution.weight_len()];
            convolution.pack_weight(&w, &mut packed);
            let mut back = vec![f32::NAN; w.len()];
            convolution.unpack_weight(&packed, &mut back);
            assert_eq!(back, w);
        }
    }
}

#[test]
fn impossible_geometries_are_one_sentence_each() {
    let message = |shape: Conv2dShape| shape.output().unwrap_err().to_string();
    assert_eq!(
        message(shape([4, 3, 1], 2, 5)),
        "A window of 5 x 5 does not fit into a padded input of 4 x 3."
    );
    assert_eq!(message(shape([4, 4, 0], 2, 1)), "Expected a positive number of channels but received 0.");
    assert_eq!(
        message(Conv2dShape { groups: 3, ..shape([4, 4, 6], 4, 1) }),
        "Expected channels and filters divisible by 3 groups but received 6 channels and 4 filters."
    );
    assert_eq!(message(shape([usize::MAX, 2, 1], 2, 1)), "The sizes are too large for memory.");
    assert_eq!(
        message(Conv2dShape { dilation: [usize::MAX, 1], ..shape([4, 4, 6], 4, 3) }),
        "The sizes are too large for memory."
    );
}

fn padded(kernel: usize, padding: [usize; 4], input: [usize; 3], filters: usize) -> Conv2dShape {
    Conv2dShape { padding, ..shape(input, filters, kernel) }
}

/// Both kernels on maps whose sides are multiples of a tile's and not, some smaller than a tile, one with fewer
/// channels out than in, one with fewer tiles than the threads share, padding of all kinds.
fn winograd_cases() -> Vec<(usize, Conv2dShape)> {
    vec![
        (2, padded(3, [1; 4], [16, 16, 64], 64)),
        (1, padded(3, [1; 4], [14, 13, 64], 112)),
        (8, padded(3, [1; 4], [7, 7, 80], 64)),
        (5, padded(3, [0; 4], [11, 14, 64], 112)),
        (9, padded(3, [2, 1, 0, 2], [5, 9, 96], 80)),
        (3, padded(3, [1; 4], [9, 10, 16], 48)),
        (2, padded(3, [1; 4], [6, 17, 32], 16)),
        (2, padded(5, [2; 4], [12, 14, 64], 64)),
        (1, padded(5, [2; 4], [13, 9, 32], 112)),
        (4, padded(5, [2; 4], [7, 7, 48], 128)),
        (3, padded(5, [0; 4], [9, 12, 16], 80)),
        (2, padded(5, [4, 3, 1, 2], [5, 3, 96], 48)),
        (1, padded(5, [0; 4], [5, 5, 16], 32)),
        (2, padded(5, [4; 4], [1, 2, 32], 16)),
    ]
}

/// A millionth part of the largest output for each of the two or three roundings that the transforms add.
const WINOGRAD_TOLERANCE: f64 = 6e-6;

#[test]
fn winograd_equals_the_reference_forward_and_for_the_input_gradient() {
    for (batch, shape) in winograd_cases() {
        let inputs = Inputs::new(batch, &shape);
        let Conv2dShape { input, filters, kernel, stride, padding, dilation, groups } = shape;
        let naive = reference::Conv2d { batch, input, filters, kernel, stride, padding, dilation, groups };
        let [x, w, b, dy] = [&inputs.x, &inputs.w, &inputs.b, &inputs.dy].map(|values| widen(values));
        let expected = [naive.forward(&x, &w, Some(&b)), naive.backward_input(&dy, &w)];
        hold_winograd(&shape, &[1, 3], &expected, |isa, threads| {
            run_winograd(isa, threads, batch, shape, &inputs)
        });
    }
}

/// Runs on every instruction set and number of threads: close to the reference, and the same bits on any
/// number.
fn hold_winograd(
    shape: &Conv2dShape,
    threads: &[usize],
    expected: &[Vec<f64>; 2],
    run: impl Fn(Isa, usize) -> [Vec<f32>; 2],
) {
    for isa in Isa::available() {
        let mut before = None;
        for &threads in threads {
            let results = run(isa, threads);
            for (actual, expected) in results.iter().zip(expected) {
                let error = relative_error(actual, expected);
                assert!(error < WINOGRAD_TOLERANCE, "{shape:?} on {}: error {error:e}", isa.name());
            }
            let bits = results.map(|values| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>());
            assert_eq!(*before.get_or_insert(bits.clone()), bits, "{threads} threads");
        }
    }
}

/// y and dx.
fn run_winograd(
    isa: Isa,
    threads: usize,
    batch: usize,
    shape: Conv2dShape,
    inputs: &Inputs,
) -> [Vec<f32>; 2] {
    let pool = Pool::start(threads, threads);
    let context = Context { isa, pool: &pool };
    let convolution = Conv2d::new(shape, isa).unwrap();
    let ([h, w, c], [oh, ow, k]) = (shape.input, convolution.output());
    let (weight, gradient_weight) = packed(&convolution, context, &inputs.w);
    let gap = 16;
    let sides = [
        (Pass::Forward, &weight, &inputs.x, [h, w, c], Some(inputs.b.as_slice()), [oh, ow, k]),
        (Pass::BackwardInput, &gradient_weight, &inputs.dy, [oh, ow, k], None, [h, w, c]),
    ];
    sides.map(|(pass, weight, x, [h, w, c], bias, [oh, ow, k])| {
        let winograd = Winograd::new(&convolution, pass).unwrap();
        let mut transformed = vec![f32::NAN; winograd.weight_len()];
        winograd.transform_weight(context, weight, &mut transformed);
        let x = Tensor::new(x, [batch, h, w, c], gap);
        let mut y = Tensor::new(&vec![f32::NAN; batch * oh * ow * k], [batch, oh, ow, k], gap);
        let mut memory = vec![f32::NAN; winograd.scratch_len(threads) + 2];
        let memory = aligned(&mut memory);
        let forward = Forward { bias, ..Forward::new(x.view(), &transformed) };
        winograd.run(context, forward, y.view_mut(), memory);
        y.values()
    })
}

/// Both kernels on maps whose sides are multiples of a tile's and not, widths of one, two and three vectors,
/// padding of all kinds; two cut into chunks of tiles, most into channels, some in several blocks.
fn winograd_weight_gradient_cases() -> Vec<(usize, Conv2dShape)> {
    vec![
        (3, padded(3, [1; 4], [13, 13, 32], 48)),
        (11, padded(3, [1; 4], [27, 27, 48], 32)),
        (5, padded(3, [1; 4], [7, 7, 112], 64)),
        (2, padded(3, [0; 4], [27, 27, 64], 80)),
        (1, padded(3, [2, 1, 0, 2], [5, 9, 32], 96)),
        (2, padded(3, [5, 4, 3, 4], [4, 6, 64], 32)),
        (0, padded(3, [1; 4], [8, 8, 32], 32)),
        (3, padded(5, [2; 4], [13, 13, 32], 48)),
        (3, padded(5, [2; 4], [27, 26, 16], 32)),
        (5, padded(5, [2; 4], [7, 7, 112], 64)),
        (2, padded(5, [0; 4], [14, 15, 48], 80)),
        (1, padded(5, [4, 3, 1, 2], [5, 3, 32], 96)),
        (2, padded(5, [7, 4, 5, 6], [2, 3, 64], 32)),
        (1, padded(5, [0; 4], [5, 5, 16], 16)),
        (0, padded(5, [2; 4], [8, 8, 32], 32)),
    ]
}

#[test]
fn winograd_equals_the_reference_for_the_weight_gradient() {
    for (batch, shape) in winograd_weight_gradient_cases() {
        let inputs = Inputs::new(batch, &shape);
        let Conv2dShape { input, filters, kernel, stride, padding, dilation, groups } = shape;
        let naive = reference::Conv2d { batch, input, filters, kernel, stride, padding, dilation, groups };
        let [x, dy] = [&inputs.x, &inputs.dy].map(|values| widen(values));
        let expected = [naive.backward_weight(&x, &dy), naive.backward_bias(&dy)];
        hold_winograd(&shape, &[1, 2, 3], &expected, |isa, threads| {
            run_winograd_weight_gradient(isa, threads, batch, shape, &inputs)
        });
    }
}

/// dw in PyTorch's layout, and db.
fn run_winograd_weight_gradient(
    isa: Isa,
    threads: usize,
    batch: usize,
    shape: Conv2dShape,
    inputs: &Inputs,
) -> [Vec<f32>; 2] {
    const BEHIND: f32 = 12345.0;
    let pool = Pool::start(threads, threads);
    let context = Context { isa, pool: &pool };
    let convolution = Conv2d::new(shape, isa).unwrap();
    let ([h, w, c], [oh, ow, k]) = (shape.input, convolution.output());
    let gradient = WeightGradient::new(&convolution).unwrap();
    let x = Tensor::new(&inputs.x, [batch, h, w, c], 5);
    let dy = Tensor::new(&inputs.dy, [batch, oh, ow, k], 16);
    let needed = gradient.scratch_len(batch, threads);
    assert!(needed <= gradient.scratch_len(batch + 1, threads), "a smaller batch needs more memory");
    let [mut dweight, mut dbias, mut memory] = [convolution.weight_len(), k, needed].map(|len| {
        let mut floats = vec![f32::NAN; len];
        floats.push(BEHIND);
        floats
    });
    let (to, to_bias) = (&mut dweight[..convolution.weight_len()], &mut dbias[..k]);
    gradient.run(context, x.view(), dy.view(), to, Some(to_bias), &mut memory[..needed]);
    let ends = [&mut dweight, &mut dbias, &mut memory].map(|floats| floats.pop());
    assert_eq!(ends, [Some(BEHIND); 3], "a kernel wrote behind the end");
    let mut dw = vec![f32::NAN; inputs.w.len()];
    convolution.unpack_weight(&dweight, &mut dw);
    [dw, dbias]
}
