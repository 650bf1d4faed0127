//! Fetching into the cache what the next block of a weight gradient reads, while this one is multiplied.

use super::tile::LINE;
use crate::View4;
use crate::simd::Simd;
use std::ops::Range;

/// Cache lines of some pixels, fetched a few at a time: what gathers pixels jumps from row to row and would
/// wait for each line.
pub(super) struct Ahead {
    next: *const f32,
    /// Lines of a pixel, and those from `next` to the pixel's end.
    lines: usize,
    rest: usize,
    /// Floats from a pixel's end to the next pixel.
    skip: usize,
    /// Lines to fetch, and how many of them at once.
    count: usize,
    step: usize,
}

impl Ahead {
    /// The share of one of `parts` parts in some pixels, to be fetched in `steps` steps. The channels are whole
    /// lines.
    pub(super) fn new(view: &View4, pixels: Range<usize>, [part, parts]: [usize; 2], steps: usize) -> Self {
        let lines = view.c() / LINE;
        let all = pixels.len() * lines;
        let (first, end) = (all * part / parts, all * (part + 1) / parts);
        Self {
            next: view.pixel(pixels.start + first / lines).wrapping_add(first % lines * LINE),
            lines,
            rest: lines - first % lines,
            skip: view.ld() - view.c(),
            count: end - first,
            step: (end - first).div_ceil(steps),
        }
    }

    /// The next step.
    #[inline(always)]
    pub(super) fn fetch<S: Simd>(&mut self, simd: S) {
        let now = self.count.min(self.step);
        self.count -= now;
        for _ in 0..now {
            simd.prefetch(self.next);
            self.next = self.next.wrapping_add(LINE);
            self.rest -= 1;
            if self.rest == 0 {
                self.next = self.next.wrapping_add(self.skip);
                self.rest = self.lines;
            }
        }
    }
}
