//! Functions of single values, two maps joined value by value, and numbers of each channel.

use super::{Errors, batch_of, values, view, view_mut};
use fovea_kernels::{Context, View4, ViewMut4, activation, arithmetic, prelu, radial_basis, scale, softmax};
use fovea_reference::check::{relative_error, uniform, widen};
use fovea_reference::{activation as definition, arithmetic as joined, radial_basis as measured};

/// What a kernel makes of views of two maps of one shape.
fn computed(
    shape: [usize; 4],
    compute: impl FnOnce(View4, View4, ViewMut4),
) -> Result<Vec<f32>, fovea_kernels::ViewError> {
    let (x, dy) = (values(1, shape), values(2, shape));
    let mut y = vec![f32::NAN; x.len()];
    compute(view(&x, shape)?, view(&dy, shape)?, view_mut(&mut y, shape)?);
    Ok(y)
}

/// The gradients read y or x, for which x stands here.
pub(super) fn functions(context: Context) -> Errors {
    let shape = batch_of([5, 7, 19]);
    let [x, dy] = [1, 2].map(|seed| widen(&values(seed, shape)));
    let clip = computed(shape, |x, _, y| activation::clip(context, x, -0.5, 0.25, y))?;
    let clip_gradient =
        computed(shape, |x, dy, dx| activation::clip_backward(context, dy, x, -0.5, 0.25, dx))?;
    let hard = computed(shape, |x, _, y| activation::hard_sigmoid(context, x, 0.75, 0.5, y))?;
    let hard_gradient =
        computed(shape, |x, dy, dx| activation::hard_sigmoid_backward(context, dy, x, 0.75, dx))?;
    let swish = computed(shape, |x, _, y| activation::hard_swish(context, x, y))?;
    let swish_gradient = computed(shape, |x, dy, dx| activation::hard_swish_backward(context, dy, x, dx))?;
    let affine = computed(shape, |x, _, y| activation::affine(context, x, -1.5, 0.25, y))?;
    let logarithms = computed(shape, |x, _, y| softmax::log_softmax(context, x, y))?;
    let gradient = computed(shape, |x, dy, dx| softmax::log_softmax_backward(context, dy, x, dx))?;
    Ok(vec![
        ("clip", relative_error(&clip, &definition::clip(&x, -0.5, 0.25))),
        ("clip gradient", relative_error(&clip_gradient, &definition::clip_backward(&dy, &x, -0.5, 0.25))),
        ("hard sigmoid", relative_error(&hard, &definition::hard_sigmoid(&x, 0.75, 0.5))),
        (
            "hard sigmoid gradient",
            relative_error(&hard_gradient, &definition::hard_sigmoid_backward(&dy, &x, 0.75)),
        ),
        ("hard swish", relative_error(&swish, &definition::hard_swish(&x))),
        ("hard swish gradient", relative_error(&swish_gradient, &definition::hard_swish_backward(&dy, &x))),
        ("affine function", relative_error(&affine, &definition::affine(&x, -1.5, 0.25))),
        ("log softmax", relative_error(&logarithms, &definition::log_softmax(&x, 19))),
        ("log softmax gradient", relative_error(&gradient, &definition::log_softmax_backward(&dy, &x, 19))),
    ])
}

pub(super) fn arithmetic(context: Context) -> Errors {
    let shape = batch_of([5, 7, 19]);
    let [a, b] = [1, 2].map(|seed| widen(&values(seed, shape)));
    let difference = computed(shape, |a, b, y| arithmetic::subtract(context, a, b, y))?;
    let product = computed(shape, |a, b, y| arithmetic::multiply(context, a, b, y))?;
    let negative = computed(shape, |a, b, y| arithmetic::negative_product(context, a, b, y))?;
    let negative: Vec<f32> = negative.iter().map(|y| -y).collect();
    let quotient = computed(shape, |a, b, y| arithmetic::divide(context, a, b, y))?;
    let factors = [shape[0], 1, 1, 19];
    let factor = values(3, factors);
    let factor_view = view(&factor, factors)?;
    let weighed = computed(shape, |a, _, y| arithmetic::multiply_channels(context, a, factor_view, y))?;
    let spread = joined::spread(&widen(&factor), 5 * 7, 19);
    let expected = joined::multiply(&a, &b);
    Ok(vec![
        ("subtraction", relative_error(&difference, &joined::subtract(&a, &b))),
        ("multiplication", relative_error(&product, &expected).max(relative_error(&negative, &expected))),
        ("division", relative_error(&quotient, &joined::divide(&a, &b))),
        ("multiplication by channels", relative_error(&weighed, &joined::multiply(&a, &spread))),
    ])
}

/// Distances from codes.
pub(super) fn distances(context: Context) -> Errors {
    let (inputs, units) = (37, 11);
    let (shape, out) = ([super::BATCH, 1, 1, inputs], [super::BATCH, 1, 1, units]);
    let (x, codes, dy) = (values(1, shape), uniform(2, units * inputs), values(3, out));
    let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
    radial_basis::radial_basis(context, view(&x, shape)?, &codes, view_mut(&mut y, out)?);
    let dx_view = view_mut(&mut dx, shape)?;
    radial_basis::radial_basis_backward(context, view(&x, shape)?, &codes, view(&dy, out)?, dx_view);
    let [x, codes, dy] = [&x, &codes, &dy].map(|values| widen(values));
    let gradient = measured::radial_basis_backward(&dy, &x, &codes, inputs);
    Ok(vec![
        ("radial basis", relative_error(&y, &measured::radial_basis(&x, &codes, inputs))),
        ("radial basis gradient", relative_error(&dx, &gradient)),
    ])
}

/// Factors and summands of each channel, and learnt slopes.
pub(super) fn of_channels(context: Context) -> Errors {
    let (shape, channels, pixels) = (batch_of([9, 8, 19]), 19, super::BATCH * 9 * 8);
    let (x, dy) = (values(1, shape), values(2, shape));
    let [weight, bias] = [3, 4].map(|seed| uniform(seed, channels));
    let scaled = computed(shape, |x, _, y| scale::scale(context, x, Some(&weight), Some(&bias), y))?;
    let bent = computed(shape, |x, _, y| prelu::prelu(context, x, &weight, y))?;
    let gradient = computed(shape, |x, dy, dx| prelu::prelu_backward_input(context, x, dy, &weight, dx))?;
    let [mut dweight, mut dbias, mut dslope] = [(); 3].map(|()| vec![f32::NAN; channels]);
    let mut scratch = vec![f32::NAN; prelu::scratch_len(shape).max(scale::scratch_len(shape))];
    let (x_view, dy_view) = (view(&x, shape)?, view(&dy, shape)?);
    scale::backward_weight(context, x_view, dy_view, &mut dweight, Some(&mut dbias), &mut scratch);
    prelu::prelu_backward_weight(context, x_view, dy_view, &mut dslope, &mut scratch);

    let [x, dy, weight, bias] = [&x, &dy, &weight, &bias].map(|values| widen(values));
    let expected = x.iter().enumerate().map(|(at, x)| x * weight[at % channels] + bias[at % channels]);
    let gather = |values: &[f64]| joined::gather(values, pixels, channels);
    let sums = [gather(&joined::multiply(&x, &dy)), gather(&dy)].concat();
    let (expected_gradient, expected_slope) = definition::prelu_backward(&dy, &x, &weight, channels);
    Ok(vec![
        ("channel scale", relative_error(&scaled, &expected.collect::<Vec<_>>())),
        ("channel scale weight gradient", relative_error(&[dweight, dbias].concat(), &sums)),
        ("PReLU", relative_error(&bent, &definition::prelu(&x, &weight, channels))),
        ("PReLU gradient", relative_error(&gradient, &expected_gradient)),
        ("PReLU weight gradient", relative_error(&dslope, &expected_slope)),
    ])
}
