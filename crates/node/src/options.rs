//! Numbers from JavaScript, checked: a JavaScript number may be anything, a count may not.

use crate::error::{Code, Error, Result, invalid_argument};

/// The largest whole number up to which JavaScript numbers are exact.
const MAX_SAFE: f64 = 9_007_199_254_740_991.0;

/// A whole number of at least `least`.
pub fn whole(name: &str, value: f64, least: u64) -> Result<u64> {
    // The comparison also refuses NaN; the cast is exact for what it lets through.
    if value >= least as f64 && value <= MAX_SAFE && value.fract() == 0.0 {
        return Ok(value as u64);
    }
    let expected = if least == 1 { "a positive whole number" } else { "a whole number of at least 0" };
    Err(invalid_argument(name, expected, value))
}

/// A whole number of at least 1 that fits memory sizes.
pub fn count(name: &str, value: f64) -> Result<usize> {
    let count = whole(name, value, 1)?;
    usize::try_from(count).map_err(|_| invalid_argument(name, "a count that this machine can address", value))
}

/// The lengths of an array's dimensions, each at least `least`.
pub fn shape(value: &[f64], least: u64) -> Result<Vec<usize>> {
    value.iter().map(|&length| whole("shape", length, least).map(|length| length as usize)).collect()
}

/// So many zeros, or an error where the system has not the memory.
pub fn zeros<T: Clone + Default>(count: usize, purpose: &str) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| {
        Error::new(
            Code::InvalidArgument,
            format!("Expected memory for {purpose} but {count} values are too many."),
        )
    })?;
    values.resize(count, T::default());
    Ok(values)
}
