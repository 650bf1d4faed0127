//! The bounds of hyperparameters and sizes, and how what is out of them is told.

use crate::error::{EngineError, GraphError, Result};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// Largest height, width or number of channels: products of a few of them stay far from overflow.
pub(crate) const MAX_SIZE: usize = 1 << 20;

/// Largest side of a kernel or window, stride, padding or dilation: kernels keep a table of taps.
pub(crate) const MAX_WINDOW: usize = 1 << 10;

/// Largest number of elements of a tensor (of one image, for feature maps).
pub(crate) const MAX_ELEMENTS: usize = 1 << 31;

// No window that a graph may have is too large for its kernel.
const _: () = assert!(MAX_WINDOW <= fovea_kernels::local_response_norm::LocalResponseNorm::LARGEST_SIZE);

/// Checks that a size is within its bounds.
pub(crate) fn check_size(
    node: &str,
    what: &'static str,
    received: usize,
    range: RangeInclusive<usize>,
) -> Result<()> {
    if range.contains(&received) {
        return Ok(());
    }
    Err(GraphError::Size { node: node.to_owned(), what, range, received }.into())
}

/// Checks sizes that are at least 1.
pub(crate) fn check_sizes(node: &str, what: &'static str, sizes: &[usize], limit: usize) -> Result<()> {
    sizes.iter().try_for_each(|&size| check_size(node, what, size, 1..=limit))
}

/// Refuses a hyperparameter that is not finite or does not do what `expected` says.
pub(crate) fn check_number(node: &str, expected: &'static str, received: f32, holds: bool) -> Result<()> {
    if holds && received.is_finite() {
        return Ok(());
    }
    Err(GraphError::Number { node: node.to_owned(), expected, received }.into())
}

/// Checks that a tensor does not have too many elements.
pub(crate) fn check_elements(node: &str, what: &'static str, shape: &[usize]) -> Result<()> {
    let elements = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    if elements.is_some_and(|elements| elements <= MAX_ELEMENTS) {
        return Ok(());
    }
    Err(GraphError::TooLarge { node: node.to_owned(), what, shape: shape.to_vec() }.into())
}

/// A layer that does not fit its input.
pub(crate) fn misfit(
    node: &str,
    expected: impl Into<String>,
    received: impl Display,
    input: [usize; 3],
) -> EngineError {
    let (expected, received) = (expected.into(), received.to_string());
    GraphError::Shape { node: node.to_owned(), expected, received, input }.into()
}

/// A geometry that the kernel refuses for a reason of its own, which its sentence tells.
pub(crate) fn refused(node: &str, error: impl Display, input: [usize; 3]) -> EngineError {
    let problem = error.to_string().trim_end_matches('.').to_owned();
    GraphError::Refused { node: node.to_owned(), problem, input }.into()
}

/// Checks that a layer of vectors reads one.
pub(crate) fn check_flat(node: &str, input: [usize; 3]) -> Result<()> {
    if input[..2] == [1, 1] {
        return Ok(());
    }
    let expected = "a flat input [1, 1, channels] (add flatten before it)";
    Err(misfit(node, expected, format!("{input:?}"), input))
}

/// Checks that all inputs have what `part` takes of their shapes in common with the first.
pub(crate) fn check_common<T: PartialEq>(
    node: &str,
    expected: &'static str,
    inputs: &[[usize; 3]],
    part: impl Fn([usize; 3]) -> T,
) -> Result<()> {
    let first = inputs[0];
    match inputs.iter().find(|&&other| part(other) != part(first)) {
        Some(&other) => Err(GraphError::Inputs { node: node.to_owned(), expected, first, other }.into()),
        None => Ok(()),
    }
}
