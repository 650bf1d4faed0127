//! Winograd's convolutions.

use super::{BATCH, Errors, Passes, Scratch, batch_of, values, view, view_mut};
use fovea_kernels::conv2d::winograd::{WeightGradient, Winograd};
use fovea_kernels::conv2d::{Conv2d, Conv2dShape, Forward, Pass};
use fovea_kernels::{Context, View4, ViewError};
use fovea_reference::check::{relative_error, uniform, widen};

const REFUSED: &str = "Expected Winograd's algorithm for a convolution of 64 channels but received none.";

/// Both kernels.
pub(super) fn convolutions(context: Context) -> Errors {
    let names = ["Winograd convolution", "Winograd input gradient", "Winograd weight gradient"];
    let mut errors = convolution(context, names, 3)?;
    let names = ["Winograd 5x5 convolution", "Winograd 5x5 input gradient", "Winograd 5x5 weight gradient"];
    errors.extend(convolution(context, names, 5)?);
    Ok(errors)
}

/// The three passes against direct convolution, whose definition another check compares it with: with this many channels
/// the definition would need a second.
fn convolution(context: Context, names: Passes, size: usize) -> Errors {
    let (input, filters) = ([15, 23, 64], 64);
    let (kernel, padding) = ([size; 2], [size / 2; 4]);
    let geometry =
        Conv2dShape { input, filters, kernel, stride: [1, 1], padding, dilation: [1, 1], groups: 1 };
    let conv = Conv2d::new(geometry, context.isa)?;
    let (shape, threads) = (batch_of(input), context.pool.at_once());
    let [x, dy] = [1, 2].map(|seed| values(seed, shape));
    let (x_view, dy_view) = (view(&x, shape)?, view(&dy, shape)?);
    let bias = uniform(4, filters);
    let mut weight = vec![0.0; conv.weight_len()];
    conv.pack_weight(&uniform(3, geometry.parameters()), &mut weight);
    let mut packed = vec![0.0; conv.gradient_weight_len()];
    conv.pack_gradient_weight(context, &weight, &mut packed);

    let winograd = |pass, x, weight: &[f32], bias| {
        let winograd = Winograd::new(&conv, pass).ok_or(REFUSED)?;
        let mut transformed = vec![0.0; winograd.weight_len()];
        winograd.transform_weight(context, weight, &mut transformed);
        let mut scratch = Scratch::of(winograd.scratch_len(threads));
        let mut y = vec![f32::NAN; dy.len()];
        let y_view = view_mut(&mut y, shape)?;
        let forward = Forward { bias, ..Forward::new(x, &transformed) };
        winograd.run(context, forward, y_view, scratch.aligned());
        Ok::<_, Box<dyn std::error::Error>>(y)
    };
    let y = winograd(Pass::Forward, x_view, &weight, Some(&bias))?;
    let dx = winograd(Pass::BackwardInput, dy_view, &packed, None)?;
    let gradient = WeightGradient::new(&conv).ok_or(REFUSED)?;
    let (mut dweight, mut dbias) = (vec![f32::NAN; weight.len()], vec![f32::NAN; filters]);
    let mut scratch = Scratch::of(gradient.scratch_len(BATCH, threads));
    gradient.run(context, x_view, dy_view, &mut dweight, Some(&mut dbias), scratch.aligned());
    dweight.extend(dbias);

    let direct = Direct { conv: &conv, context, x: x_view, dy: dy_view };
    let errors = [
        relative_error(&y, &widen(&direct.forward(&weight, &bias)?)),
        relative_error(&dx, &widen(&direct.input_gradient(&packed)?)),
        relative_error(&dweight, &widen(&direct.weight_gradient())),
    ];
    Ok(names.into_iter().zip(errors).collect())
}

/// The same passes by direct convolution.
struct Direct<'a> {
    conv: &'a Conv2d,
    context: Context<'a>,
    x: View4<'a>,
    dy: View4<'a>,
}

impl Direct<'_> {
    fn forward(&self, weight: &[f32], bias: &[f32]) -> Result<Vec<f32>, ViewError> {
        let mut y = vec![0.0; self.dy.pixels() * self.dy.c()];
        let mut scratch = Scratch::new(self.conv, Pass::Forward, self.context);
        let forward = Forward { bias: Some(bias), ..Forward::new(self.x, weight) };
        let y_view = view_mut(&mut y, self.dy.shape())?;
        self.conv.forward(self.context, forward, y_view, scratch.aligned());
        Ok(y)
    }

    fn input_gradient(&self, packed: &[f32]) -> Result<Vec<f32>, ViewError> {
        let mut dx = vec![0.0; self.x.pixels() * self.x.c()];
        let mut scratch = Scratch::new(self.conv, Pass::BackwardInput, self.context);
        let dx_view = view_mut(&mut dx, self.x.shape())?;
        self.conv.backward_input(self.context, self.dy, packed, None, dx_view, scratch.aligned());
        Ok(dx)
    }

    /// Of the weights, in the kernels' layout, then of the bias.
    fn weight_gradient(&self) -> Vec<f32> {
        let (mut dweight, mut dbias) = (vec![0.0; self.conv.weight_len()], vec![0.0; self.dy.c()]);
        let mut scratch = Scratch::new(self.conv, Pass::BackwardWeight, self.context);
        let (x, dy, bias) = (self.x, self.dy, Some(dbias.as_mut_slice()));
        self.conv.backward_weight(self.context, x, dy, &mut dweight, bias, scratch.aligned());
        dweight.extend(dbias);
        dweight
    }
}
