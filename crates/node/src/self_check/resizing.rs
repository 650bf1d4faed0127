//! Maps made smaller to a given size, or larger.

use super::{BATCH, Errors, batch_of, values, view, view_mut};
use fovea_kernels::Context;
use fovea_kernels::pool2d::{
    AdaptiveAvgPool2d, AvgPool2d, Pool2dShape, global_max_pool, global_max_pool_backward,
};
use fovea_reference as reference;
use reference::check::{relative_error, widen};

pub(super) fn resizing(context: Context) -> Errors {
    let (input, channels) = ([9, 8, 19], 19);
    let shape = batch_of(input);
    let x = values(1, shape);
    let x_view = view(&x, shape)?;
    let wide = widen(&x);

    let size = [4, 3];
    let adapted = [BATCH, 4, 3, channels];
    let dy = values(2, adapted);
    let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
    let pooling = AdaptiveAvgPool2d::new(input, size)?;
    pooling.forward(context, x_view, view_mut(&mut y, adapted)?);
    pooling.backward(context, view(&dy, adapted)?, view_mut(&mut dx, shape)?);
    let definition = reference::AdaptiveAvgPool2d { batch: BATCH, input, size };
    let mut errors = vec![
        ("adaptive average pooling", relative_error(&y, &definition.forward(&wide))),
        ("adaptive average pooling gradient", relative_error(&dx, &definition.backward(&widen(&dy)))),
    ];

    let factor = [2, 3];
    let large = [BATCH, 18, 24, channels];
    let dy = values(2, large);
    let mut y = vec![f32::NAN; dy.len()];
    let (input_of_sums, padding) = ([18, 24, channels], [0; 4]);
    let windows =
        Pool2dShape { input: input_of_sums, size: factor, stride: factor, padding, ceil_mode: false };
    let sums = AvgPool2d::sums(windows)?;
    sums.backward(context, x_view, view_mut(&mut y, large)?);
    sums.forward(context, view(&dy, large)?, view_mut(&mut dx, shape)?);
    let definition = reference::Upsample { batch: BATCH, input, factor };
    errors.push(("upsampling", relative_error(&y, &definition.forward(&wide))));
    errors.push(("upsampling gradient", relative_error(&dx, &definition.backward(&widen(&dy)))));

    let pooled = [BATCH, 1, 1, channels];
    let dy = values(2, pooled);
    let mut y = vec![f32::NAN; dy.len()];
    global_max_pool(context, x_view, view_mut(&mut y, pooled)?);
    let (y_view, dy_view) = (view(&y, pooled)?, view(&dy, pooled)?);
    global_max_pool_backward(context, x_view, y_view, dy_view, view_mut(&mut dx, shape)?);
    let (size, stride) = ([9, 8], [9, 8]);
    let pool = reference::Pool2d { batch: BATCH, input, size, stride, padding, ceil_mode: false };
    let (expected, argmax) = reference::MaxPool2d(pool).forward(&wide);
    let expected_gradient = reference::MaxPool2d(pool).backward(&widen(&dy), &argmax);
    errors.push(("global max pooling", relative_error(&y, &expected)));
    errors.push(("global max pooling gradient", relative_error(&dx, &expected_gradient)));
    Ok(errors)
}
