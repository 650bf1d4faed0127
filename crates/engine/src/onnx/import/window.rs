//! The attributes that convolutions and pooling have in common.

use super::call::Call;
use crate::error::Result;
use crate::ops::Padding;
use crate::ops::bounds::MAX_WINDOW;

/// How a kernel or pooling window moves over a map; height and width, even where ONNX has one dimension only.
pub struct Window {
    pub size: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub padding: Padding,
}

impl Window {
    /// Reads the attributes for a map `[height, width, channels]` with so many spatial dimensions; `weight` is
    /// what a convolution's weight says of its kernel.
    pub fn read(call: &Call, spatial: usize, input: [usize; 3], weight: Option<&[usize]>) -> Result<Self> {
        let size = match (pair(call, "kernel_shape", spatial)?, weight) {
            (size, Some(weight)) => {
                let kernel = [if spatial == 1 { 1 } else { weight[0] }, weight[spatial - 1]];
                let agrees = size.is_none_or(|size| size == kernel);
                call.require(agrees, &format!("a kernel_shape of {weight:?} as the weight has it"), size)?;
                kernel
            }
            (Some(size), None) => size,
            (None, None) => return Err(call.error("a kernel_shape", "none").into()),
        };
        let stride = pair(call, "strides", spatial)?.unwrap_or([1, 1]);
        let dilation = pair(call, "dilations", spatial)?.unwrap_or([1, 1]);
        let padding = padding(call, spatial, input, size, stride, dilation)?;
        Ok(Self { size, stride, dilation, padding })
    }
}

fn padding(
    call: &Call,
    spatial: usize,
    input: [usize; 3],
    size: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
) -> Result<Padding> {
    let pads = sides(call, spatial)?;
    let automatic = call.text("auto_pad")?.unwrap_or("NOTSET");
    if !matches!(automatic, "NOTSET" | "") && pads != [0; 4] {
        return Err(call.error("either pads or auto_pad", "both").into());
    }
    Ok(match automatic {
        "NOTSET" | "" | "VALID" if pads == [0; 4] => Padding::Valid,
        "NOTSET" | "" => Padding::Explicit(pads),
        "SAME_UPPER" => Padding::Same,
        "SAME_LOWER" => {
            let [vertical, horizontal] = [0, 1].map(|axis| {
                let extent = dilation[axis] * (size[axis] - 1) + 1;
                let last = (input[axis].div_ceil(stride[axis]) - 1) * stride[axis];
                (last + extent).saturating_sub(input[axis])
            });
            Padding::Explicit([vertical.div_ceil(2), horizontal / 2, vertical / 2, horizontal.div_ceil(2)])
        }
        other => return Err(call.error("auto_pad NOTSET, VALID, SAME_UPPER or SAME_LOWER", other).into()),
    })
}

/// Pads as top, right, bottom, left; ONNX has all beginnings before all ends.
pub fn sides(call: &Call, spatial: usize) -> Result<[usize; 4]> {
    let Some(pads) = call.ints("pads")? else { return Ok([0; 4]) };
    let pads = sizes(call, "pads", pads, 2 * spatial, 0)?;
    Ok(match pads[..] {
        [left, right] => [0, right, 0, left],
        [top, left, bottom, right] => [top, right, bottom, left],
        _ => [0; 4],
    })
}

/// An attribute for height and width.
pub fn pair(call: &Call, name: &'static str, spatial: usize) -> Result<Option<[usize; 2]>> {
    Ok(numbers(call, name, spatial, 1)?
        .map(|values| [if spatial == 1 { 1 } else { values[0] }, values[spatial - 1]]))
}

/// An attribute with a number for each spatial dimension.
pub fn numbers(call: &Call, name: &'static str, spatial: usize, least: usize) -> Result<Option<Vec<usize>>> {
    let Some(values) = call.ints(name)? else { return Ok(None) };
    sizes(call, name, values, spatial, least).map(Some)
}

/// So many whole numbers of at least `least` and at most what windows may have.
fn sizes(call: &Call, name: &str, values: &[i64], count: usize, least: usize) -> Result<Vec<usize>> {
    let allowed =
        |value: &i64| usize::try_from(*value).ok().filter(|value| (least..=MAX_WINDOW).contains(value));
    let sizes: Option<Vec<usize>> = values.iter().take(count + 1).map(allowed).collect();
    match sizes {
        Some(sizes) if sizes.len() == count => Ok(sizes),
        _ => {
            let expected = format!("{count} {name} of {least} to {MAX_WINDOW}");
            Err(call.error(expected, format!("{:?}", &values[..values.len().min(8)])).into())
        }
    }
}
