//! Operators that enlarge a map: transposed convolution and resizing.

use super::Importer;
use super::call::Call;
use super::layers::positive;
use super::value::{Map, Value};
use super::window::{numbers, pair, sides};
use crate::error::Result;
use crate::ops::bounds::MAX_WINDOW;
use crate::ops::{ConvTranspose, Init, Op, Padding, Upsample};

/// Longest side of a result whose pixels are looked for one by one.
const LONGEST_SIDE: usize = 1 << 16;

impl<'f> Importer<'f> {
    pub(super) fn transposed_convolution(&mut self, call: &Call<'f>) -> Result<Value> {
        let (map, spatial) = self.image(call)?;
        let (weight, values) = self.weight(call, 1)?;
        let rank = spatial + 2;
        let expected = format!("a weight of {rank} dimensions for {} channels", map.shape[2]);
        call.require(
            weight.len() == rank && weight[0] == map.shape[2] && !weight.contains(&0),
            &expected,
            &weight,
        )?;
        let kernel = [if spatial == 1 { 1 } else { weight[2] }, weight[rank - 1]];
        let stated = pair(call, "kernel_shape", spatial)?;
        call.require(stated.is_none_or(|stated| stated == kernel), "the weight's kernel_shape", stated)?;
        let groups = positive(call, "group", call.int("group")?.unwrap_or(1))?;
        let filters = weight[1].saturating_mul(groups);
        let bias = self.vector(call, 2, filters)?;
        let mut op = ConvTranspose {
            filters,
            kernel,
            stride: pair(call, "strides", spatial)?.unwrap_or([1, 1]),
            padding: Padding::Valid,
            output_padding: [0, 0],
            dilation: pair(call, "dilations", spatial)?.unwrap_or([1, 1]),
            groups,
            bias: bias.is_some(),
            init: Init::Kaiming,
        };
        transposed_padding(call, spatial, map.shape, &mut op)?;
        let name = self.name_by_weight(call, 1);
        let result = self.add(name.clone(), Op::ConvTranspose(op), &[&map])?;
        self.store(&name, "weight", vec![weight[0], weight[1], kernel[0], kernel[1]], values);
        if let Some(bias) = bias {
            self.store(&name, "bias", vec![filters], bias);
        }
        Ok(Value::Map(result))
    }

    /// Nearest pixels, where each becomes a block of pixels.
    pub(super) fn resize(&mut self, call: &Call<'f>) -> Result<Value> {
        let map = self.map(call, 0)?;
        let mode = call.text("mode")?.unwrap_or("nearest");
        call.require(mode == "nearest", "the mode nearest", mode)?;
        // Before version 11 a result's pixel takes the one at or before its place.
        let old = call.opset < 11;
        let place = call.text("coordinate_transformation_mode")?.unwrap_or(if old {
            "asymmetric"
        } else {
            "half_pixel"
        });
        let nearest = call.text("nearest_mode")?.unwrap_or(if old { "floor" } else { "round_prefer_floor" });
        call.only("antialias", 0)?;
        let policy = call.text("keep_aspect_ratio_policy")?.unwrap_or("stretch");
        call.require(policy == "stretch", "the policy stretch", policy)?;
        // These belong to other modes.
        call.int("exclude_outside")?;
        call.float("cubic_coeff_a")?;
        call.float("extrapolation_value")?;

        let mut factor = [1, 1];
        for (dim, ratio) in self.ratios(call, &map, old)? {
            let whole = ratio.fract() == 0.0 && (1.0..=MAX_WINDOW as f64).contains(&ratio);
            call.require(whole, "whole factors", ratio)?;
            if ratio != 1.0 {
                let axis = self.axis_of(call, &map, dim)?;
                call.require(axis < 2, "factors of height and width only", ratio)?;
                factor[axis] = ratio as usize;
            }
        }
        for (side, factor) in [map.shape[0], map.shape[1]].into_iter().zip(factor) {
            let blocks = factor == 1
                || side * factor <= LONGEST_SIDE && {
                    let source = |pixel| source(pixel, side, factor, place, nearest);
                    (0..side * factor).all(|pixel| source(pixel) == Some(pixel / factor))
                };
            call.require(blocks, "pixels that become blocks", (place, nearest, side, factor))?;
        }
        Ok(Value::Map(self.add(self.name(&call.name), Op::Upsample(Upsample { factor }), &[&map])?))
    }

    /// How many times as long dimensions become.
    fn ratios(&self, call: &Call<'f>, map: &Map, old: bool) -> Result<Vec<(usize, f64)>> {
        let rank = map.rank();
        let dims: Vec<usize> = match call.ints("axes")? {
            Some(axes) => axes.iter().map(|&axis| call.axis(axis, rank)).collect::<Result<_>>()?,
            None => (0..rank).collect(),
        };
        let scales = match call.floats("scales")? {
            Some(scales) => Some(scales.to_vec()),
            None => {
                let constant = self.constant_input(call, if old { 1 } else { 2 })?;
                constant.and_then(|constant| constant.floats()).filter(|scales| !scales.is_empty())
            }
        };
        let sizes = if old { None } else { self.constant_input(call, 3)? };
        let ratios: Vec<f64> = match (scales, sizes) {
            (Some(scales), None) => scales.into_iter().map(f64::from).collect(),
            (None, Some(sizes)) => {
                let sizes = sizes.whole().ok_or_else(|| call.error("sizes", "other values"))?;
                let length = |dim: usize| map.length(dim).or(self.batch).unwrap_or(1);
                sizes.iter().zip(&dims).map(|(&size, &dim)| size as f64 / length(dim) as f64).collect()
            }
            _ => {
                return Err(call
                    .error("either scales or sizes that are constants", "neither or both")
                    .into());
            }
        };
        call.require(ratios.len() == dims.len(), &format!("{} scales or sizes", dims.len()), ratios.len())?;
        Ok(dims.into_iter().zip(ratios).collect())
    }
}

/// Padding, and what is added at the end where the result is to be larger than the kernels reach.
fn transposed_padding(call: &Call, spatial: usize, input: [usize; 3], op: &mut ConvTranspose) -> Result<()> {
    let two = |values: Vec<usize>| [if spatial == 1 { 0 } else { values[0] }, values[spatial - 1]];
    op.output_padding = numbers(call, "output_padding", spatial, 0)?.map_or([0, 0], two);
    let pads = sides(call, spatial)?;
    let automatic = call.text("auto_pad")?.unwrap_or("NOTSET");
    let wanted = numbers(call, "output_shape", spatial, 1)?
        .map(two)
        .map(|[height, width]| [if spatial == 1 { input[0] } else { height }, width]);
    let (wanted, upper) = match (automatic, wanted) {
        ("SAME_UPPER" | "SAME_LOWER", None) => {
            let same = [0, 1].map(|axis| input[axis] * op.stride[axis]);
            (Some(same), automatic == "SAME_UPPER")
        }
        ("NOTSET" | "" | "VALID" | "SAME_UPPER" | "SAME_LOWER", wanted) => {
            (wanted, automatic == "SAME_UPPER")
        }
        (other, _) => {
            return Err(call.error("auto_pad NOTSET, VALID, SAME_UPPER or SAME_LOWER", other).into());
        }
    };
    let Some(wanted) = wanted else {
        op.padding = if pads == [0; 4] { Padding::Valid } else { Padding::Explicit(pads) };
        return Ok(());
    };
    let mut halves = [[0; 2]; 2];
    for axis in [0, 1] {
        let reach = (input[axis] - 1) * op.stride[axis] + op.dilation[axis] * (op.kernel[axis] - 1) + 1;
        let natural = reach + op.output_padding[axis];
        op.output_padding[axis] += wanted[axis].saturating_sub(natural);
        let surplus = natural.saturating_sub(wanted[axis]);
        let (less, more) = (surplus / 2, surplus.div_ceil(2));
        halves[axis] = if upper { [less, more] } else { [more, less] };
    }
    let [[top, bottom], [left, right]] = halves;
    op.padding = Padding::Explicit([top, right, bottom, left]);
    Ok(())
}

/// The pixel of a side that a pixel of the enlarged side takes; none for ways that are not known.
fn source(pixel: usize, side: usize, factor: usize, place: &str, nearest: &str) -> Option<usize> {
    let (pixel, scale, result) = (pixel as f64, factor as f64, (side * factor) as f64);
    let place = match place {
        "half_pixel" | "half_pixel_symmetric" => (pixel + 0.5) / scale - 0.5,
        "pytorch_half_pixel" if result > 1.0 => (pixel + 0.5) / scale - 0.5,
        "pytorch_half_pixel" => 0.0,
        "tf_half_pixel_for_nn" => (pixel + 0.5) / scale,
        "asymmetric" => pixel / scale,
        "align_corners" if result > 1.0 => pixel * (side as f64 - 1.0) / (result - 1.0),
        "align_corners" => 0.0,
        _ => return None,
    };
    let place = match nearest {
        "round_prefer_floor" => (place - 0.5).ceil(),
        "round_prefer_ceil" => (place + 0.5).floor(),
        "floor" => place.floor(),
        "ceil" => place.ceil(),
        _ => return None,
    };
    Some(place.clamp(0.0, side as f64 - 1.0) as usize)
}
