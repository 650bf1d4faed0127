//! A border of zeros around an image, for kernels that check no position.

use crate::View4;
use std::ops::Range;

/// Rows and columns of an image with padding at the top, right, bottom and left.
pub(super) fn padded_size([h, w]: [usize; 2], [top, right, bottom, left]: [usize; 4]) -> [usize; 2] {
    [h + top + bottom, w + left + right]
}

/// Copies some rows of an image of x between zeros into `to`, pixels side by side: rows of the padded image,
/// which may reach beyond its end.
///
/// Shapes: x `[n, h, w, c]`, `to` `[rows, w + left + right, c]`.
pub(super) fn copy_between_zeros(
    x: View4,
    image: usize,
    padding: [usize; 4],
    rows: Range<usize>,
    to: &mut [f32],
) {
    let (h, w, c) = (x.h(), x.w(), x.c());
    let [top, _, _, left] = padding;
    let [_, padded_w] = padded_size([h, w], padding);
    to.fill(0.0);
    for (row, to) in rows.zip(to.chunks_exact_mut(padded_w * c)) {
        if row < top || row >= top + h {
            continue;
        }
        let to = &mut to[left * c..][..w * c];
        let from = x.pixel((image * h + row - top) * w);
        let (runs, run) = if x.is_dense() { (1, w * c) } else { (w, c) };
        for (index, to) in to.chunks_exact_mut(run).enumerate().take(runs) {
            // SAFETY: the run is a row of the image, or a pixel of it, and both lie in x.
            to.copy_from_slice(unsafe { std::slice::from_raw_parts(from.wrapping_add(index * x.ld()), run) });
        }
    }
}
