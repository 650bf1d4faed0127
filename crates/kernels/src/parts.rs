//! How a memory-bound pass is cut into parts: by its shape, never by the number of threads.

use std::ops::Range;

/// Most parts of a pass, so that one value a part fits into an array on the stack.
pub(crate) const MOST_PARTS: usize = 64;

/// Floats that an elementwise kernel passes in about ten microseconds. With less to do, waking a thread costs
/// more than it saves.
const TOO_FEW: usize = 100_000;

/// Floats a part has at least: a few microseconds, against a fraction of one for handing a part out.
const LEAST: usize = 16_384;

/// A pass over equal items, cut into parts of neighbouring items.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    items: usize,
    count: usize,
}

impl Parts {
    /// Cuts `items` items, each as much work as `floats` floats are to an elementwise kernel. The number of
    /// parts is a power of two or the number of items, which splits evenly among most numbers of threads.
    pub(crate) fn new(items: usize, floats: usize) -> Self {
        let total = items.saturating_mul(floats);
        let wanted = if total < TOO_FEW { 1 } else { (total / LEAST).min(MOST_PARTS).next_power_of_two() };
        Self { items, count: wanted.min(items) }
    }

    /// Parts: at most [`MOST_PARTS`], none where there are no items.
    pub(crate) fn count(self) -> usize {
        self.count
    }

    /// Items of the longest part.
    pub(crate) fn longest(self) -> usize {
        if self.count > 0 { self.items.div_ceil(self.count) } else { 0 }
    }

    /// The items of a part; no two parts differ by more than one, and the longer ones are spread evenly, so
    /// that half of the parts are half of the work.
    pub(crate) fn range(self, part: usize) -> Range<usize> {
        let (each, longer) = (self.items / self.count, self.items % self.count);
        let bound = |part: usize| part * each + part * longer / self.count;
        bound(part)..bound(part + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_items_once_in_order() {
        for (items, floats) in [(0, 9), (1, 1 << 40), (3, 1 << 20), (5, 1), (1000, 999), (1 << 30, 7)] {
            let parts = Parts::new(items, floats);
            assert!(parts.count() <= MOST_PARTS);
            let mut next = 0;
            for part in 0..parts.count() {
                let range = parts.range(part);
                assert!(range.start == next && range.end > next, "{items} items of {floats}: {range:?}");
                next = range.end;
            }
            assert_eq!(next, items);
            assert_eq!(
                parts.longest(),
                (0..parts.count()).map(|part| parts.range(part).len()).max().unwrap_or(0)
            );
            if parts.count() > 0 && parts.count().is_multiple_of(2) {
                assert!(parts.range(parts.count() / 2).start.abs_diff(items / 2) <= 1, "{items} items");
            }
        }
    }

    #[test]
    fn little_work_stays_on_one_thread() {
        assert_eq!(Parts::new(64, 1000).count(), 1);
        assert!(Parts::new(64, 10_000).count() >= 16);
    }
}
