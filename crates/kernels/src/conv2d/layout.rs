//! How weights lie in memory.
//!
//! A matrix of `rows` x `columns` (rows: taps and input channels; columns: output channels) is cut into panels of
//! `width` columns. A panel stores its rows one after the other, so the register tile reads it as one stream. The last
//! panel is padded with zero columns; groups follow each other:
//!
//! `[group][panel][row][width]`, row = (kernel row, kernel column, channel).

use super::gather::Phase;
use super::{Conv2dShape, tile};
use crate::threads::Shareable;
use crate::{Context, Isa};

/// A packed matrix for each group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panels {
    pub groups: usize,
    pub rows: usize,
    pub columns: usize,
    /// Columns of a panel: a number of whole vectors.
    pub width: usize,
    /// Panels of a group.
    pub count: usize,
}

impl Panels {
    /// Chooses the width: the fewest padded columns, and among equals the widest of at most two vectors (a tile of two
    /// reads each pixel's float half as often as two tiles of one).
    pub fn new(isa: Isa, groups: usize, rows: usize, columns: usize) -> Self {
        let padded = |vectors: usize| columns.next_multiple_of(vectors * isa.lanes());
        let preference = [2, 3, 1];
        let widest = tile::widest(tile::registers(isa));
        let candidates = preference.into_iter().filter(|&vectors| vectors <= widest);
        let vectors = candidates.min_by_key(|&vectors| padded(vectors)).unwrap_or(1);
        let width = vectors * isa.lanes();
        Self { groups, rows, columns, width, count: columns.div_ceil(width) }
    }

    /// Floats of a panel.
    pub fn panel_len(&self) -> usize {
        self.rows * self.width
    }

    /// Floats of all panels of all groups.
    pub fn len(&self) -> usize {
        self.groups * self.count * self.panel_len()
    }

    /// Where a panel begins.
    pub fn start(&self, group: usize, panel: usize) -> usize {
        (group * self.count + panel) * self.panel_len()
    }

    /// Where an element is.
    pub fn at(&self, group: usize, row: usize, column: usize) -> usize {
        self.start(group, column / self.width) + row * self.width + column % self.width
    }

    /// Columns of a panel that are not padding.
    pub fn columns_of(&self, panel: usize) -> usize {
        (self.columns - panel * self.width).min(self.width)
    }
}

/// Calls `each(index in PyTorch's layout, index in the panels)` for every weight.
pub(super) fn for_each_weight(shape: &Conv2dShape, panels: &Panels, mut each: impl FnMut(usize, usize)) {
    let ([kh, kw], c) = (shape.kernel, shape.input[2] / shape.groups);
    let filters = shape.filters / shape.groups;
    let mut at_oihw = 0;
    for group in 0..shape.groups {
        for filter in 0..filters {
            for channel in 0..c {
                for tap in 0..kh * kw {
                    each(at_oihw, panels.at(group, tap * c + channel, filter));
                    at_oihw += 1;
                }
            }
        }
    }
}

/// Rows of a packed matrix below which a thread more costs more than it saves.
const FLOATS_A_PART: usize = 1 << 14;

/// Fills `packed` row by row: `fill(group, row, column, floats)` writes the floats of one row from `column` on.
fn pack_rows(
    context: Context,
    to: &Panels,
    packed: &mut [f32],
    fill: impl Fn(usize, usize, usize, &mut [f32]) + Sync,
) {
    let rows_a_part = FLOATS_A_PART.div_ceil(to.width);
    let rows = to.groups * to.count * to.rows;
    let packed = Shareable::new(packed);
    context.pool.run(rows.div_ceil(rows_a_part), |_, part| {
        for row in part * rows_a_part..((part + 1) * rows_a_part).min(rows) {
            // SAFETY: rows lie one after the other and each belongs to one part.
            let floats = unsafe { packed.slice(row * to.width, to.width) };
            let (panel, row) = (row / to.rows, row % to.rows);
            let (group, panel) = (panel / to.count, panel % to.count);
            let (used, padding) = floats.split_at_mut(to.columns_of(panel));
            fill(group, row, panel * to.width, used);
            padding.fill(0.0);
        }
    });
}

/// What the input gradient's `gather` reads: for each phase's taps, a row for each output channel, a column for each
/// input channel.
pub(super) fn pack_transposed(
    context: Context,
    shape: &Conv2dShape,
    from: &Panels,
    to: &Panels,
    phases: &[Phase],
    weight: &[f32],
    packed: &mut [f32],
) {
    let (c, filters) = (shape.input[2] / shape.groups, shape.filters / shape.groups);
    pack_rows(context, to, packed, |group, row, column, floats| {
        let (tap, filter) = (row / filters, row % filters);
        let of_phase = phases.iter().rev().find(|phase| phase.first_tap <= tap);
        let Some(kernel_tap) = of_phase.and_then(|phase| phase.kernel_taps.get(tap - phase.first_tap)) else {
            return;
        };
        let first = from.at(group, kernel_tap * c + column, filter);
        for (channel, float) in floats.iter_mut().enumerate() {
            *float = weight[first + channel * from.width];
        }
    });
}

/// What the input gradient's `scatter` reads: for each kernel row, a row for each output channel, a column for each tap
/// and input channel of that kernel row.
pub(super) fn pack_kernel_rows(
    context: Context,
    shape: &Conv2dShape,
    from: &Panels,
    to: &Panels,
    weight: &[f32],
    packed: &mut [f32],
) {
    let ([kh, kw], c) = (shape.kernel, shape.input[2] / shape.groups);
    pack_rows(context, to, packed, |matrix, filter, column, floats| {
        let (group, kernel_row) = (matrix / kh, matrix % kh);
        let first = from.at(group, kernel_row * kw * c + column, filter);
        for (element, float) in floats.iter_mut().enumerate() {
            *float = weight[first + element * from.width];
        }
    });
}
