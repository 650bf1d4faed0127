//! Memory whose first float stands at the beginning of a cache line, on huge pages where the system gives them;
//! and vectors that may be refused.

use crate::error::{EngineError, Result};
use crate::network::LINE;

/// Zeroed floats, aligned to 64 bytes, written once when made so that no step meets a page for the first time.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    storage: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// Errors: more memory than the system gives.
    pub fn new(len: usize, purpose: &'static str) -> Result<Self> {
        let refused = || refusal(purpose, len, size_of::<f32>());
        let mut storage: Vec<f32> = Vec::new();
        let padded = len.checked_add(LINE).ok_or_else(refused)?;
        storage.try_reserve_exact(padded).map_err(|_| refused())?;
        ask_for_huge_pages(&storage);
        // The storage never grows again, so the aligned position stays aligned.
        storage.resize(padded, 0.0);
        let misaligned = storage.as_ptr().addr() / size_of::<f32>() % LINE;
        Ok(Self { storage, start: (LINE - misaligned) % LINE, len })
    }

    /// A copy. Errors: as [`Buffer::new`].
    pub fn copied(&self, purpose: &'static str) -> Result<Self> {
        let mut copy = Self::new(self.len, purpose)?;
        copy.as_mut_slice().copy_from_slice(self.as_slice());
        Ok(copy)
    }

    /// A buffer of so many floats, unless this one is as long. Errors: as [`Buffer::new`].
    pub fn missing(&self, len: usize, purpose: &'static str) -> Result<Option<Self>> {
        if self.len < len { Self::new(len, purpose).map(Some) } else { Ok(None) }
    }

    pub fn as_slice(&self) -> &[f32] {
        &self.storage[self.start..self.start + self.len]
    }

    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.storage[self.start..self.start + self.len]
    }

    pub fn len(&self) -> usize {
        self.len
    }
}

/// The first `len` of some values, in memory of that size. Errors: more memory than the system gives.
pub(crate) fn vector<T>(
    len: usize,
    purpose: &'static str,
    values: impl IntoIterator<Item = T>,
) -> Result<Vec<T>> {
    let mut vector = Vec::new();
    vector.try_reserve_exact(len).map_err(|_| refusal(purpose, len, size_of::<T>()))?;
    vector.extend(values.into_iter().take(len));
    Ok(vector)
}

fn refusal(purpose: &'static str, len: usize, size: usize) -> EngineError {
    EngineError::Memory { purpose, megabytes: len.div_ceil((1 << 20) / size) }
}

/// Bytes below which no huge page fits.
#[cfg(target_os = "linux")]
const HUGE_PAGE: usize = 2 << 20;

/// Asks for huge pages behind the capacity of `storage`, which nobody has touched yet: a step of a large
/// network passes more small pages than the processor remembers the places of. A system that refuses gives
/// small ones.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages(storage: &Vec<f32>) {
    const PAGE: usize = 1 << 16; // the largest ordinary one; smaller ones divide it
    let start = storage.as_ptr().addr().next_multiple_of(PAGE);
    let end = (storage.as_ptr().addr() + storage.capacity() * size_of::<f32>()) / PAGE * PAGE;
    if start + HUGE_PAGE <= end {
        let first = storage.as_ptr().with_addr(start).cast_mut().cast();
        // SAFETY: whole pages inside of one allocation of ours, whose contents this advice leaves as they are.
        unsafe { libc::madvise(first, end - start, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_: &Vec<f32>) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_float_stands_on_a_cache_line() {
        for len in [0, 1, 15, 16, 1000, 1 << 20] {
            let mut buffer = Buffer::new(len, "a test").unwrap();
            assert_eq!(buffer.as_slice().as_ptr().addr() % 64, 0);
            assert_eq!(buffer.as_mut_slice(), vec![0.0; len]);
        }
    }

    #[test]
    fn memory_that_does_not_exist_is_an_error() {
        let message = Buffer::new(1 << 60, "the arena").unwrap_err().to_string();
        assert_eq!(message, "Expected 4398046511104 MB of memory for the arena but the system refused it.");
        assert!(Buffer::new(usize::MAX, "the arena").is_err());
        let message = vector(1 << 60, "images", std::iter::repeat(0u16)).unwrap_err().to_string();
        assert_eq!(message, "Expected 2199023255552 MB of memory for images but the system refused it.");
    }
}
