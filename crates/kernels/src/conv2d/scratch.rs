//! Scratch memory, which the caller provides and a kernel cuts into pieces.

use super::tile::LINE;

/// Floats of a table of pointers, or of as many offsets.
pub(super) const fn pointers(count: usize) -> usize {
    (count * size_of::<usize>()).div_ceil(size_of::<f32>()).next_multiple_of(LINE)
}

/// Refuses memory that is too short, or not aligned for tables of pointers.
pub(super) fn check(scratch: &[f32], length: usize) {
    assert!(scratch.len() >= length, "the scratch memory is too short");
    assert!(scratch.as_ptr().cast::<usize>().is_aligned(), "the scratch memory is not aligned");
}
