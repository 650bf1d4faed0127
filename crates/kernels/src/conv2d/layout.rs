//! How weights lie in memory.
//!
//! A matrix of `rows` x `columns` (rows: taps and input channels; columns: output channels) is cut into panels
//! of `width` columns. A panel stores its rows one after the other, so the register tile reads it as one
//! stream. The last panel is padded with zero columns; groups follow each other:
//!
//! `[group][panel][row][width]`, row = (kernel row, kernel column, channel).
//!
//! Depthwise weights are one panel instead, a row for each tap and a column for each channel: `[tap][width]`.

use super::taps::Phase;
use super::{Conv2dShape, scatter, tile};
use crate::simd::{Kernel, Simd};
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
    /// Chooses the width: the fewest padded columns, and among equals the widest of at most two vectors (a tile
    /// of two reads each pixel's float half as often as two tiles of one).
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
                    let at_panel = match panels.groups == shape.groups {
                        true => panels.at(group, tap * c + channel, filter),
                        false => panels.at(0, tap, group),
                    };
                    each(at_oihw, at_panel);
                    at_oihw += 1;
                }
            }
        }
    }
}

/// Floats of a packed matrix worth a part.
const FLOATS_A_PART: usize = 1 << 14;

/// One matrix of the packed weights, and the rows of the weights whose transpose it is.
struct Block {
    /// Panel group of the packed matrix, and its first row.
    to: (usize, usize),
    /// Group of the weights, and the first row.
    from: (usize, usize),
}

/// Packs `blocks` transposed matrices: a row for each of a group's output channels, a column for each of
/// `to.columns` rows of the weights, which follow each other.
fn pack_blocks(
    context: Context,
    [from, to]: [&Panels; 2],
    weight: &[f32],
    packed: &mut [f32],
    blocks: usize,
    block_of: impl Fn(usize) -> Block + Sync,
) {
    let an_item = from.columns * to.width;
    let items = blocks * to.count;
    let items_a_part = FLOATS_A_PART.div_ceil(an_item.max(1));
    let packed = Shareable::new(packed);
    context.pool.run(items.div_ceil(items_a_part), |_, part| {
        for item in part * items_a_part..((part + 1) * items_a_part).min(items) {
            let (block, panel) = (block_of(item / to.count), item % to.count);
            context.isa.run(TransposePanel {
                from,
                weight,
                group: block.from.0,
                row: block.from.1 + panel * to.width,
                rows: to.columns_of(panel),
                // SAFETY: each block's rows of each panel belong to one item, and lie in `packed`.
                to: unsafe {
                    packed.slice(to.start(block.to.0, panel) + block.to.1 * to.width, from.columns * to.width)
                },
                width: to.width,
            });
        }
    });
}

/// Writes the transpose of some rows of the weights: a panel of width `width`, a row for each output channel.
struct TransposePanel<'a> {
    from: &'a Panels,
    weight: &'a [f32],
    group: usize,
    row: usize,
    /// Rows of the weights; columns of the panel beyond are zero.
    rows: usize,
    to: &'a mut [f32],
    width: usize,
}

impl Kernel for TransposePanel<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { from, weight, group, row, rows, to, width } = self;
        for column in (0..width).step_by(S::LANES) {
            let from_rows = rows.saturating_sub(column).min(S::LANES);
            for filter in (0..from.columns).step_by(S::LANES) {
                let to_rows = (from.columns - filter).min(S::LANES);
                // A row that does not exist is not read, so its address does not matter.
                let source = from.start(group, filter / from.width) + filter % from.width;
                let source = weight.as_ptr().wrapping_add(source + (row + column) * from.width);
                let target = to.as_mut_ptr().wrapping_add(filter * width + column);
                // SAFETY: `from_rows` rows of the weights' panel, whose width is whole vectors, and `to_rows`
                // rows of the packed one, likewise.
                unsafe { simd.transpose(source, from.width, from_rows, target, width, to_rows) };
            }
        }
    }
}

/// What the input gradient's `gather` reads: for each phase's taps, a row for each output channel, a column for
/// each input channel.
pub(super) fn pack_transposed(
    context: Context,
    shape: &Conv2dShape,
    from: &Panels,
    to: &Panels,
    phases: &[Phase],
    weight: &[f32],
    packed: &mut [f32],
) {
    let (c, taps) = (to.columns, shape.kernel[0] * shape.kernel[1]);
    // A dx smaller than the stride may leave taps in no phase; their rows are filled too, and never read.
    pack_blocks(context, [from, to], weight, packed, shape.groups * taps, |block| {
        let (group, tap) = (block / taps, block % taps);
        let kernel_tap = phases
            .iter()
            .rev()
            .find(|phase| phase.first_tap <= tap)
            .and_then(|phase| phase.kernel_taps.get(tap - phase.first_tap))
            .copied()
            .unwrap_or_default();
        Block { to: (group, tap * from.columns), from: (group, kernel_tap * c) }
    });
}

/// What the input gradient's `scatter` reads: for each kernel row, in its order, a row for each output channel,
/// a column for each tap and input channel of that kernel row.
pub(super) fn pack_kernel_rows(
    context: Context,
    shape: &Conv2dShape,
    from: &Panels,
    to: &Panels,
    weight: &[f32],
    packed: &mut [f32],
) {
    let kh = shape.kernel[0];
    pack_blocks(context, [from, to], weight, packed, shape.groups * kh, |block| {
        let (group, place) = (block / kh, block % kh);
        let kernel_row = scatter::kernel_rows(shape).nth(place).unwrap_or_default();
        Block { to: (group, place * from.columns), from: (group, kernel_row * to.columns) }
    });
}
