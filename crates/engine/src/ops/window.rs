//! What slides over a map: padding, and how often a window fits.

use super::bounds::{MAX_SIZE, MAX_WINDOW, check_size, check_sizes, misfit, refused};
use crate::error::Result;
use fovea_kernels::pool2d::Pool2dShape;
use serde::de::{Deserializer, Error as _, Unexpected};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

/// Pixels added around an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// As many as give `ceil(input / stride)` outputs, an odd one at the bottom and right.
    Same,
    /// None.
    Valid,
    /// Top, right, bottom, left.
    Explicit([usize; 4]),
}

impl Serialize for Padding {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Same => "same".serialize(serializer),
            Self::Valid => "valid".serialize(serializer),
            Self::Explicit(sides) => sides.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Padding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match value.as_str() {
            Some("same") => Ok(Self::Same),
            Some("valid") => Ok(Self::Valid),
            _ => <[usize; 4]>::deserialize(&value).map(Self::Explicit).map_err(|_| {
                let expected = "\"same\", \"valid\" or whole numbers [top, right, bottom, left]";
                D::Error::invalid_value(Unexpected::Other("another"), &expected)
            }),
        }
    }
}

impl Padding {
    /// Checks the sides that are given.
    pub(crate) fn check(&self, node: &str) -> Result<()> {
        match self {
            Self::Explicit(sides) => check_sides(node, sides),
            Self::Same | Self::Valid => Ok(()),
        }
    }

    /// In pixels: top, right, bottom, left. `extent` is what a window covers, dilation included.
    pub(crate) fn resolve(self, input: [usize; 3], extent: [usize; 2], stride: [usize; 2]) -> [usize; 4] {
        match self {
            Self::Explicit(sides) => sides,
            Self::Valid => [0; 4],
            Self::Same => {
                let [vertical, horizontal] = [0, 1].map(|axis| {
                    let last = (input[axis].div_ceil(stride[axis]) - 1) * stride[axis];
                    (last + extent[axis]).saturating_sub(input[axis])
                });
                [vertical / 2, horizontal.div_ceil(2), vertical.div_ceil(2), horizontal / 2]
            }
        }
    }
}

/// Checks pixels around a map.
pub(crate) fn check_sides(node: &str, sides: &[usize; 4]) -> Result<()> {
    sides.iter().try_for_each(|&side| check_size(node, "padding", side, 0..=MAX_WINDOW))
}

/// Checks that a window fits into the padded input at least once.
pub(crate) fn check_fit(
    node: &str,
    what: &str,
    input: [usize; 3],
    padding: [usize; 4],
    extent: [usize; 2],
) -> Result<()> {
    let [top, right, bottom, left] = padding;
    let padded = [input[0] + top + bottom, input[1] + left + right];
    if extent[0] <= padded[0] && extent[1] <= padded[1] {
        return Ok(());
    }
    let expected = format!("a {what} within the padded input of {}x{}", padded[0], padded[1]);
    Err(misfit(node, expected, format!("{}x{}", extent[0], extent[1]), input))
}

/// A kernel that goes over a map, or over what a map is made of.
#[derive(Clone, Copy)]
pub(crate) struct Sliding {
    pub filters: usize,
    pub groups: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub padding: Padding,
}

impl Sliding {
    /// Checks the sizes that have bounds whatever the input is.
    pub fn check(&self, node: &str) -> Result<()> {
        check_sizes(node, "filters", &[self.filters], MAX_SIZE)?;
        check_sizes(node, "groups", &[self.groups], MAX_SIZE)?;
        check_sizes(node, "a kernel", &self.kernel, MAX_WINDOW)?;
        check_sizes(node, "a stride", &self.stride, MAX_WINDOW)?;
        check_sizes(node, "a dilation", &self.dilation, MAX_WINDOW)?;
        self.padding.check(node)
    }

    /// Checks that groups divide the channels that are read and written.
    pub fn check_groups(&self, node: &str, input: [usize; 3]) -> Result<()> {
        let (channels, Self { filters, groups, .. }) = (input[2], *self);
        if channels.is_multiple_of(groups) && filters.is_multiple_of(groups) {
            return Ok(());
        }
        let expected = format!("groups that divide {channels} channels and {filters} filters");
        Err(misfit(node, expected, groups, input))
    }
}

/// Windows of a pooling.
#[derive(Clone, Copy)]
pub(crate) struct Windows {
    pub size: [usize; 2],
    pub stride: [usize; 2],
    pub padding: Padding,
    pub ceil_mode: bool,
}

impl Windows {
    /// One window that covers each of so many pixels once.
    pub fn tiles(size: [usize; 2]) -> Self {
        Self { size, stride: size, padding: Padding::Valid, ceil_mode: false }
    }

    /// Checks the sizes that have bounds whatever the input is.
    pub fn check(&self, node: &str) -> Result<()> {
        check_sizes(node, "a window", &self.size, MAX_WINDOW)?;
        check_sizes(node, "a stride", &self.stride, MAX_WINDOW)?;
        self.padding.check(node)
    }

    /// The pooling of an input of this shape.
    pub fn over(&self, node: &str, input: [usize; 3]) -> Result<Pool2dShape> {
        let Self { size, stride, ceil_mode, .. } = *self;
        let padding = self.padding.resolve(input, size, stride);
        let [top, right, bottom, left] = padding;
        if top.max(bottom) >= size[0] || left.max(right) >= size[1] {
            let expected = format!("padding smaller than the window of {}x{}", size[0], size[1]);
            return Err(misfit(node, expected, format!("{padding:?}"), input));
        }
        check_fit(node, "window", input, padding, size)?;
        Ok(Pool2dShape { input, size, stride, padding, ceil_mode })
    }
}

/// What a pooling writes.
pub(crate) fn pooled(node: &str, shape: &Pool2dShape) -> Result<[usize; 3]> {
    shape.output().map_err(|error| refused(node, error, shape.input))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_puts_an_odd_pixel_at_the_bottom_and_right() {
        assert_eq!(Padding::Same.resolve([4, 4, 1], [2, 4], [1, 1]), [0, 2, 1, 1]);
    }
}
