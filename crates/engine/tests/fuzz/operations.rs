//! What graphs are drawn from: a line an operation, from simple ones to others, and patterns that have been
//! wrong before.

use super::draw::{Draft, Drawn, Step};
use crate::common::graphs::{
    adaptive_avg_pool, affine, batch_norm, clip, conv, conv_transpose, dense, dropout, group_norm,
    hard_sigmoid, layer_norm, leaky_relu, local_response_norm, max_pool, op, pad, prelu, scale, upsample,
};
use serde_json::{Value, json};

/// How an operation is added to a graph.
pub struct Operation {
    pub name: &'static str,
    /// How often it is drawn.
    pub weight: u32,
    /// Adds it; `None` if nothing fits.
    pub draw: fn(&mut Draft, &Step) -> Option<()>,
}

const fn row(name: &'static str, weight: u32, draw: fn(&mut Draft, &Step) -> Option<()>) -> Operation {
    Operation { name, weight, draw }
}

/// All operations of the engine, some in several lines.
pub const OPERATIONS: &[Operation] = &[
    row("relu", 6, |draft, step| alike(draft, step, op("relu"))),
    row("add", 8, |draft, step| pair(draft, step, "add")),
    row("convSame", 10, |draft, step| {
        let x = draft.plain(step)?;
        draft.layer(&x, conv_same(&x, x.shape[2], step), 0)
    }),
    row("concat", 7, concat),
    row("batchNorm", 7, |draft, step| {
        let x = draft.any(step)?;
        // The deviation of a few values says little: their gradients are differences of nearly equal numbers.
        let values = draft.batch * x.shape[0] * x.shape[1];
        let mut norm = batch_norm();
        (norm["epsilon"], norm["momentum"]) =
            (json!([1e-3, 1e-5][step.dials[0] % 2]), json!([0.1, 0.3, 1.0, 0.0][step.dials[1] % 4]));
        if values >= 4 { draft.alike(&x, norm) } else { None }
    }),
    row("groupNorm", 3, |draft, step| {
        let x = draft.plain(step)?;
        let [height, width, channels] = x.shape;
        let groups = [1, 2, 4, 8][step.dials[0] % 4];
        let several = channels.is_multiple_of(groups) && height * width * channels / groups >= 4;
        if several { draft.layer(&x, group_norm(groups), 0) } else { None }
    }),
    row("layerNorm", 2, |draft, step| {
        let x = draft.any(step)?;
        if x.shape[2] >= 4 { draft.alike(&x, layer_norm()) } else { None }
    }),
    row("conv", 9, |draft, step| {
        let x = draft.plain(step)?;
        draft.layer(&x, any_conv(&x, step), 0)
    }),
    row("depthwise", 4, |draft, step| {
        let x = draft.plain(step)?;
        let mut op = any_conv(&x, step);
        (op["groups"], op["filters"]) = (json!(x.shape[2]), json!(x.shape[2] * (1 + step.dials[1] / 20)));
        draft.layer(&x, op, 0)
    }),
    row("pointwise", 4, |draft, step| {
        let x = draft.plain(step)?;
        draft.layer(&x, conv(filters(&x, step.dials[1]), [1, 1]), 0)
    }),
    row("maxPool", 4, |draft, step| {
        let x = draft.plain(step)?;
        draft.layer(&x, any_pool(step), 0)
    }),
    row("avgPool", 3, |draft, step| {
        let x = draft.plain(step)?;
        let mut op = any_pool(step);
        (op["op"], op["countIncludePad"]) = (json!("avgPool"), json!(step.dials[4] % 2 == 0));
        draft.layer(&x, op, 0)
    }),
    row("globalAvgPool", 2, |draft, step| plain(draft, step, op("globalAvgPool"))),
    row("globalMaxPool", 1, |draft, step| plain(draft, step, op("globalMaxPool"))),
    row("adaptiveAvgPool", 2, |draft, step| {
        plain(draft, step, adaptive_avg_pool([1 + step.dials[0] % 5, 1 + step.dials[1] % 5]))
    }),
    row("flatten", 2, |draft, step| {
        let x = draft.plain(step)?;
        let order = if x.is_flat() { 0 } else { draft.new_order() };
        draft.layer(&x, op("flatten"), order)
    }),
    row("dense", 4, |draft, step| {
        let x = draft.pick(step.from, Drawn::is_flat)?;
        draft.layer(&x, dense(filters(&x, step.dials[0]).min(64)), 0)
    }),
    row("multiply", 4, |draft, step| pair(draft, step, "multiply")),
    row("gate", 3, |draft, step| {
        let a = draft.pick(step.from, |map| map.is_plain() && !map.is_flat())?;
        let b = draft.pick(step.other, |map| map.is_plain() && map.shape == [1, 1, a.shape[2]])?;
        draft.put(&[&a, &b], op("multiply"), a.shape, 0, 0)
    }),
    row("subtract", 3, |draft, step| pair(draft, step, "subtract")),
    row("divide", 2, |draft, step| {
        let a = draft.any(step)?;
        let b = draft.pick(step.other, |map| map.fits(&a))?;
        draft.alike(&b, op("sigmoid"))?; // away from zero
        draft.alike(&draft.last(), affine(1.5, 0.5))?;
        draft.put(&[&a, &draft.last()], op("divide"), a.shape, a.order, 0)
    }),
    row("affine", 3, |draft, step| {
        alike(draft, step, affine([2.0, -0.5, 1.0][step.dials[0] % 3], [0.0, 0.25][step.dials[1] % 2]))
    }),
    row("scale", 3, |draft, step| alike(draft, step, scale(step.dials[0] % 2 == 1))),
    row("leakyRelu", 2, |draft, step| alike(draft, step, leaky_relu([0.0, 0.2][step.dials[0] % 2]))),
    row("relu6", 2, |draft, step| alike(draft, step, op("relu6"))),
    row("clip", 2, |draft, step| alike(draft, step, clip(-0.5, [1.0, 0.5][step.dials[0] % 2]))),
    row("prelu", 3, |draft, step| alike(draft, step, prelu(step.dials[0] % 2 == 0))),
    row("hardSigmoid", 2, |draft, step| alike(draft, step, hard_sigmoid(0.25, 0.5))),
    row("hardSwish", 2, |draft, step| alike(draft, step, op("hardSwish"))),
    row("silu", 2, |draft, step| alike(draft, step, op("silu"))),
    row("gelu", 2, |draft, step| alike(draft, step, op("gelu"))),
    row("sigmoid", 2, |draft, step| alike(draft, step, op("sigmoid"))),
    row("tanh", 2, |draft, step| alike(draft, step, op("tanh"))),
    row("dropout", 3, |draft, step| alike(draft, step, dropout([0.5, 0.2, 0.0][step.dials[0] % 3]))),
    row("localResponseNorm", 2, |draft, step| plain(draft, step, local_response_norm(1 + step.dials[0] % 6))),
    row("upsample", 2, |draft, step| {
        plain(draft, step, upsample([1 + step.dials[0] % 2, 1 + step.dials[1] % 3]))
    }),
    row("pad", 3, |draft, step| {
        let x = draft.plain(step)?;
        let [top, right, bottom, left] = [0, 1, 2, 3].map(|side| step.dials[side] % 3);
        draft.layer(&x, pad([top, right, bottom, left], [0, step.dials[4] % 5]), 0)
    }),
    row("padChannels", 2, |draft, step| {
        let x = draft.plain(step)?;
        let pixels = |map: &Drawn| map.shape[..2] == x.shape[..2] && map.shape[2] > x.shape[2];
        let wider = draft.pick(step.other, |map| map.is_plain() && pixels(map))?;
        let zeros = wider.shape[2] - x.shape[2];
        let before = step.dials[0] % (zeros + 1);
        draft.layer(&x, pad([0; 4], [before, zeros - before]), 0)
    }),
    row("convTranspose", 4, |draft, step| {
        let x = draft.plain(step)?;
        let [kernel, stride] = [[1 + step.dials[0] % 4, 1 + step.dials[1] % 4], [1 + step.dials[2] % 3; 2]];
        let mut op = conv_transpose(filters(&x, step.dials[3]), kernel, stride);
        op["padding"] = [json!("valid"), json!("same"), json!([0, 1, 1, 0])][step.dials[4] % 3].clone();
        op["bias"] = json!(step.dials[4] % 2 == 0);
        op["outputPadding"] = json!([0, (step.dials[4] / 6).min(stride[1] - 1)]);
        op["groups"] = json!(groups(&op, &x, step.dials[4]));
        draft.layer(&x, op, 0)
    }),
    row("convTo", 2, |draft, step| {
        let x = draft.plain(step)?;
        let pixels = |map: &Drawn| map.is_plain() && map.shape[..2] == x.shape[..2];
        let like = draft.pick(step.other, pixels)?;
        draft.layer(&x, conv_same(&x, like.shape[2], step), 0)
    }),
    row("convHalf", 1, |draft, step| {
        let x = draft.plain(step)?;
        if x.shape[2] > 1 { draft.layer(&x, conv_same(&x, x.shape[2] / 2, step), 0) } else { None }
    }),
    row("convOtherHalf", 1, |draft, step| {
        let x = draft.plain(step)?;
        if x.shape[2] > 1 { draft.layer(&x, conv_same(&x, x.shape[2].div_ceil(2), step), 0) } else { None }
    }),
    row("connections", 1, |draft, step| {
        let x = draft.plain(step)?;
        let channels = x.shape[2];
        let list = |filter: usize| -> Vec<usize> {
            let sees = |channel: &usize| (channel * 7 + filter * 3 + step.dials[0]).is_multiple_of(2);
            let some: Vec<_> = (0..channels).filter(sees).collect();
            if some.is_empty() { vec![filter % channels] } else { some }
        };
        let filters = 1 + step.dials[1] % 8;
        let mut op = conv_same(&x, filters, step);
        (op["groups"], op["connections"]) = (json!(1), json!((0..filters).map(list).collect::<Vec<_>>()));
        draft.layer(&x, op, 0)
    }),
    row("logSoftmax", 1, |draft, step| alike(draft, step, op("logSoftmax"))),
    row("radialBasis", 2, |draft, step| {
        let x = draft.pick(step.from, |map| map.is_flat() && map.shape[2] <= 64)?;
        let channels = x.shape[2];
        let code = |unit: usize| -> Vec<f32> {
            (0..channels).map(|at| ((unit * 7 + at * at) % 5) as f32 * 0.5 - 1.0).collect()
        };
        let codes: Vec<_> = (0..2 + step.dials[0] % 4).map(code).collect();
        draft.layer(&x, json!({"op": "radialBasis", "codes": codes}), 0)
    }),
    row("softmax", 1, |draft, step| alike(draft, step, op("softmax"))),
];

/// Operations in a row, each with how far back what it reads is: blocks of networks, and sums of a value with
/// what was made of it.
pub const PATTERNS: &[&[(&str, usize, usize)]] = &[
    // x + conv(x), by itself, rectified and normalized.
    &[("convSame", 0, 0), ("add", 0, 1)],
    &[("convSame", 0, 0), ("add", 0, 1), ("relu", 0, 0)],
    &[("convSame", 0, 0), ("batchNorm", 0, 0), ("add", 0, 2)],
    &[("convSame", 0, 0), ("batchNorm", 0, 0), ("add", 0, 2), ("relu", 0, 0)],
    // concat(a, b) + conv(a), a + concat(conv(a), conv(a)), a + padChannels(conv(a)).
    &[("convSame", 0, 0), ("concat", 1, 0), ("convTo", 2, 0), ("add", 0, 1)],
    &[("convHalf", 0, 0), ("convOtherHalf", 1, 0), ("concat", 1, 0), ("add", 0, 1)],
    &[("convHalf", 0, 0), ("padChannels", 0, 0), ("add", 0, 1)],
    // s = x + a, a + conv(s), and a value added to itself and to what was made of it.
    &[("convSame", 0, 0), ("add", 0, 1), ("convSame", 0, 0), ("add", 0, 3)],
    &[("add", 0, 0), ("convSame", 1, 0), ("add", 0, 1)],
    // Blocks of ResNet, MobileNet, DenseNet, and a gate.
    &[
        ("convSame", 0, 0),
        ("batchNorm", 0, 0),
        ("relu", 0, 0),
        ("convSame", 0, 0),
        ("batchNorm", 0, 0),
        ("add", 0, 5),
    ],
    &[("depthwise", 0, 0), ("pointwise", 0, 0), ("add", 0, 2)],
    &[("depthwise", 0, 0), ("batchNorm", 0, 0), ("relu6", 0, 0), ("pointwise", 0, 0), ("batchNorm", 0, 0)],
    &[
        ("convSame", 0, 0),
        ("concat", 1, 0),
        ("batchNorm", 0, 0),
        ("relu", 0, 0),
        ("convSame", 0, 0),
        ("concat", 3, 0),
    ],
    &[("globalAvgPool", 0, 0), ("pointwise", 0, 0), ("sigmoid", 0, 0), ("gate", 0, 0)],
    // What is fused with pools.
    &[("conv", 0, 0), ("batchNorm", 0, 0), ("relu", 0, 0), ("maxPool", 0, 0)],
    &[("conv", 0, 0), ("relu", 0, 0), ("avgPool", 0, 0)],
    &[("convSame", 0, 0), ("groupNorm", 0, 0), ("relu", 0, 0), ("convSame", 0, 0), ("add", 0, 4)],
];

/// An operation that treats all channels alike.
fn alike(draft: &mut Draft, step: &Step, op: Value) -> Option<()> {
    let x = draft.any(step)?;
    draft.alike(&x, op)
}

/// An operation that reads channels in no special order.
fn plain(draft: &mut Draft, step: &Step, op: Value) -> Option<()> {
    let x = draft.plain(step)?;
    draft.layer(&x, op, 0)
}

/// Two maps of one shape, maybe the same.
fn pair(draft: &mut Draft, step: &Step, name: &str) -> Option<()> {
    let a = draft.any(step)?;
    let b = draft.pick(step.other, |map| map.fits(&a))?;
    draft.put(&[&a, &b], op(name), a.shape, a.order, 0)
}

fn concat(draft: &mut Draft, step: &Step) -> Option<()> {
    let first = draft.any(step)?;
    let beside = |map: &Drawn| map.shape[..2] == first.shape[..2];
    let mut maps = vec![first.clone(), draft.pick(step.other, beside)?];
    if step.dials[0] >= 18 {
        maps.push(draft.pick(step.dials[1], beside)?);
    }
    let shape = [first.shape[0], first.shape[1], maps.iter().map(|map| map.shape[2]).sum()];
    let order = if maps.iter().all(Drawn::is_plain) { 0 } else { draft.new_order() };
    draft.put(&maps.iter().collect::<Vec<_>>(), op("concat"), shape, order, 0)
}

/// As many filters as `x` has channels, or other numbers.
fn filters(x: &Drawn, dial: usize) -> usize {
    match dial {
        0..8 => x.shape[2].min(64),
        8..12 => 16,
        12..14 => 32,
        14 => 48,
        15 => 64,
        _ => dial - 15,
    }
}

/// A number of groups that divides the channels and filters of a convolution.
fn groups(op: &Value, x: &Drawn, dial: usize) -> usize {
    let filters = op["filters"].as_u64().unwrap() as usize;
    let wanted = [1, 1, 1, 2, 4, x.shape[2]][dial % 6];
    let divides = |groups: usize| x.shape[2].is_multiple_of(groups) && filters.is_multiple_of(groups);
    if divides(wanted) { wanted } else { 1 }
}

/// A convolution that keeps height and width.
fn conv_same(x: &Drawn, filters: usize, step: &Step) -> Value {
    let [kernel, dilation, dial, ..] = step.dials;
    let mut op = conv(filters, [[3, 3], [3, 3], [1, 1], [5, 5], [3, 3], [1, 3]][kernel % 6]);
    op["padding"] = json!("same");
    op["bias"] = json!(dial % 3 > 0);
    op["dilation"] = json!([1 + dilation / 20, 1 + dilation / 20]);
    op["groups"] = json!(if dial >= 16 { groups(&op, x, dial) } else { 1 });
    op
}

/// A convolution of any kind.
fn any_conv(x: &Drawn, step: &Step) -> Value {
    let [kernel, filter, window, padding, dial] = step.dials;
    let mut op = conv(filters(x, filter), [[3, 3], [1, 1], [5, 5], [2, 3], [3, 1], [3, 3]][kernel % 6]);
    op["stride"] = json!([[1, 1], [1, 1], [2, 2], [1, 2], [3, 2]][window % 5]);
    op["dilation"] = json!([[1, 1], [1, 1], [1, 1], [2, 1], [2, 2]][window / 5]);
    op["padding"] =
        [json!("same"), json!("valid"), json!([1, 0, 2, 1]), json!([1, 1, 1, 1])][padding % 4].clone();
    op["bias"] = json!(dial % 3 > 0);
    op["groups"] = json!(groups(&op, x, dial));
    op
}

/// Max pooling of any kind.
fn any_pool(step: &Step) -> Value {
    let mut op = max_pool(2);
    let [window, padding, ..] = step.dials;
    let (size, stride) = [([2, 2], [2, 2]), ([3, 3], [2, 2]), ([3, 3], [1, 1]), ([2, 3], [1, 2])][window % 4];
    (op["size"], op["stride"]) = (json!(size), json!(stride));
    op["padding"] =
        [json!("valid"), json!("same"), json!([1, 1, 1, 1]), json!([0, 1, 1, 0])][padding % 4].clone();
    op["ceilMode"] = json!(step.dials[2] % 3 == 2);
    op
}
