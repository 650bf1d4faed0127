//! Dense layers: maps of one pixel, where a product has few rows (the images) and many weights.
//!
//! Each weight meets only as many inputs as there are images, so the time is that of reading the weights from
//! memory: they are read once, in chunks of the inner dimension that stay in the second-level cache while all
//! rows of images meet them, and the sums wait in scratch memory from chunk to chunk.
//!
//! The input gradient reads the same panels as the forward pass and transposes a chunk of them in registers:
//! packing transposed weights first would read and write all of them once more.
//!
//! A single row meets each weight once and a register tile of it has few sums, each of which waits for the one
//! before: where the weights stay in a near cache, several panels are computed at once.
//!
//! Rows that lie a multiple of a page apart fall into the same set of the first-level cache, which has fewer
//! ways than a register tile has rows: such inputs are copied with a line between the rows.

use super::layout::Panels;
use super::scratch;
use super::tile::{self, Addresses, LINE, ProductJob};
use super::{Conv2d, Conv2dShape, Forward, Pass};
use crate::activation::finish;
use crate::simd::{Kernel, Simd};
use crate::threads::Shareable;
use crate::{Activation, Context, Isa, View4, ViewMut4};

/// Floats between lines of the same set of the first-level cache.
const SET_PERIOD: usize = 1024;

/// Inner elements of a chunk, forward: its weights take half of a small second-level cache at most.
const CHUNK: usize = 512;

/// Inner elements of a chunk whose weights are transposed: they stay in the first-level cache.
const TRANSPOSED_CHUNK: usize = 128;

/// Vector multiply-adds worth a part.
const MULTIPLY_ADDS_A_PART: usize = 1 << 15;

/// Floats of weights that stay in a second-level cache.
const NEAR_WEIGHTS: usize = 1 << 18;

/// Panels that a single row meets at once: their sums are enough to hide the latency of a multiply-add.
const fn panels_at_once(vectors: usize) -> usize {
    8 / vectors
}

/// Enough parts for sixteen threads to share evenly.
const PARTS_WANTED: usize = 64;

/// A pass of a dense layer: rows of `inner` inputs times a matrix of as many rows gives rows of
/// `columns.columns` outputs.
pub(super) struct Dense<'a> {
    isa: Isa,
    inner: usize,
    /// How the columns of the result are cut.
    columns: &'a Panels,
    /// The weights; columns of theirs are rows of the matrix when the pass transposes.
    weights: &'a Panels,
    transposes: bool,
}

/// Whether a convolution is a dense layer.
pub(super) fn is_dense(convolution: &Conv2dShape) -> bool {
    convolution.input[..2] == [1, 1]
        && convolution.kernel == [1, 1]
        && convolution.padding == [0; 4]
        && convolution.groups == 1
}

impl<'a> Dense<'a> {
    /// The forward pass or the input gradient of a dense layer.
    pub fn new(convolution: &'a Conv2d, pass: Pass) -> Self {
        let Conv2d { isa, shape, panels, gradient_panels, .. } = convolution;
        match pass {
            Pass::BackwardInput => Self {
                isa: *isa,
                inner: shape.filters,
                columns: gradient_panels,
                weights: panels,
                transposes: true,
            },
            _ => {
                Self { isa: *isa, inner: shape.input[2], columns: panels, weights: panels, transposes: false }
            }
        }
    }

    /// Rows of a register tile.
    fn tile_rows(&self) -> usize {
        tile::rows(self.isa, self.columns.width / self.isa.lanes())
    }

    fn chunk(&self) -> usize {
        if self.transposes { TRANSPOSED_CHUNK.next_multiple_of(self.weights.width) } else { CHUNK }
    }

    /// Rows of images of a part: all of them, unless there are too few columns for many threads.
    fn rows_a_part(&self, rows: usize) -> usize {
        let tile = self.tile_rows();
        let work = self.inner * self.columns.width / self.isa.lanes();
        let for_work = MULTIPLY_ADDS_A_PART.div_ceil(work.max(1));
        let blocks = PARTS_WANTED.div_ceil(self.columns.count);
        rows.div_ceil(blocks).max(for_work).next_multiple_of(tile).min(rows.next_multiple_of(tile))
    }

    /// Floats of the input's copy, for rows `ld` apart.
    fn copy_len(&self, rows: usize, ld: usize) -> usize {
        let collide = ld.is_multiple_of(SET_PERIOD) && rows > 1;
        if collide { (rows * (self.inner + LINE)).next_multiple_of(LINE) } else { 0 }
    }

    /// Floats of a thread's sums, tables of pointers and transposed chunk.
    fn scratch_pieces(&self, rows: usize) -> [usize; 3] {
        let rows = self.rows_a_part(rows);
        let transposed = if self.transposes { self.chunk() * self.columns.width } else { 0 };
        [rows * self.columns.width, 2 * scratch::pointers(rows), transposed]
    }

    pub fn scratch_len(&self, batch: usize, threads: usize) -> usize {
        // A view may have any distance between its rows.
        self.copy_len(batch, SET_PERIOD) + threads * self.scratch_pieces(batch).iter().sum::<usize>()
    }

    /// Computes `output`, without residual. The caller has checked shapes and weight length.
    pub fn run(&self, context: Context, forward: Forward, output: &ViewMut4, scratch: &mut [f32]) {
        let Forward { x: input, weight, bias, activation, .. } = forward;
        let rows = input.n();
        if rows == 0 {
            return;
        }
        let work = rows * self.inner * self.columns.count * (self.columns.width / self.isa.lanes());
        let worth = work >= MULTIPLY_ADDS_A_PART;
        if rows == 1 && !self.transposes && self.columns.len() <= NEAR_WEIGHTS {
            let at_once = panels_at_once(self.columns.width / self.isa.lanes());
            return context.pool.run_if(worth, self.columns.count.div_ceil(at_once), |_, part| {
                let first = part * at_once;
                let columns = self.columns;
                context.isa.run(OneRow { columns, first, input, weight, bias, activation, output });
            });
        }
        let pieces = self.scratch_pieces(rows);
        let (a_thread, threads) = (pieces.iter().sum::<usize>(), context.pool.at_once());
        let copy_len = self.copy_len(rows, input.ld());
        scratch::check(scratch, copy_len + threads * a_thread);
        let (copy, scratch) = scratch.split_at_mut(copy_len);
        let (input, input_ld) = self.spread(context, input, copy);
        let scratch = Shareable::new(scratch);
        let rows_a_part = self.rows_a_part(rows);
        let blocks = rows.div_ceil(rows_a_part);
        context.pool.run_if(worth, self.columns.count * blocks, |thread, part| {
            let (panel, first) = (part / blocks, part % blocks * rows_a_part);
            // SAFETY: each thread has its own range of the scratch memory, whose length is checked above.
            let scratch = unsafe { scratch.slice(thread * a_thread, a_thread) };
            let (sums, rest) = scratch.split_at_mut(pieces[0]);
            let (tables, transposed) = rest.split_at_mut(pieces[1]);
            let table = pieces[1] / 2;
            context.isa.run(Part {
                dense: self,
                panel,
                first,
                rows: rows_a_part.min(rows - first),
                input: input.get(),
                input_ld,
                weight,
                bias,
                activation,
                output,
                sums: sums.as_mut_ptr(),
                inputs: tables.as_mut_ptr().cast(),
                outputs: tables[table..].as_mut_ptr().cast(),
                transposed: transposed.as_mut_ptr(),
            });
        });
    }

    /// The input and the distance of its rows: a copy in `copy` if that has room for one.
    fn spread(&self, context: Context, input: View4, copy: &mut [f32]) -> (Input, usize) {
        if copy.is_empty() {
            return (Input(input.pixel(0)), input.ld());
        }
        let (inner, ld, pointer) = (self.inner, self.inner + LINE, copy.as_ptr());
        let to = Shareable::new(copy);
        context.pool.run(input.n(), |_, row| {
            // SAFETY: a row of the input has `inner` floats, the copy room for `ld` a row, each row a part.
            unsafe {
                let from = std::slice::from_raw_parts(input.pixel(row), inner);
                to.slice(row * ld, inner).copy_from_slice(from);
            }
        });
        (Input(pointer), ld)
    }
}

/// A single row, and some panels of its columns from `first` on: [`panels_at_once`], or those that are left.
struct OneRow<'a> {
    columns: &'a Panels,
    first: usize,
    input: View4<'a>,
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    activation: Activation,
    output: &'a ViewMut4<'a>,
}

impl Kernel for OneRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let vectors = self.columns.width / S::LANES;
        let count = panels_at_once(vectors).min(self.columns.count - self.first);
        macro_rules! exactly {
            ($vectors:literal: $($count:literal)*) => {
                match count {
                    $($count => self.panels::<S, $count, $vectors>(simd),)*
                    _ => {}
                }
            };
        }
        match vectors {
            1 => exactly!(1: 1 2 3 4 5 6 7 8),
            2 => exactly!(2: 1 2 3 4),
            _ => exactly!(3: 1 2),
        }
        if self.activation.is_late() {
            simd.enter(FinishRow { row: &self, panels: count });
        }
    }
}

/// Applies a late activation to the panels of a row that have just been stored.
struct FinishRow<'a> {
    row: &'a OneRow<'a>,
    panels: usize,
}

impl Kernel for FinishRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let OneRow { columns, first, activation, output, .. } = *self.row;
        let [start, end] =
            [first, first + self.panels].map(|panel| (panel * columns.width).min(columns.columns));
        let stored = std::iter::once(output.pixel(0).wrapping_add(start));
        // SAFETY: the columns exist, and are this part's.
        unsafe { finish(simd, activation, stored, end - start) };
    }
}

impl OneRow<'_> {
    #[inline(always)]
    fn panels<S: Simd, const P: usize, const NV: usize>(&self, simd: S) {
        let Self { columns, first, .. } = *self;
        let (input, output) = (self.input.pixel(0), self.output.pixel(0));
        let mut sums = [[simd.zero(); NV]; P];
        let column = |p: usize, j: usize| (first + p) * columns.width + j * S::LANES;
        let lanes = |column: usize| columns.columns.saturating_sub(column).min(S::LANES);
        // SAFETY: the row has a float for each row of a panel; bias and output have one for each column that
        // exists.
        unsafe {
            if let Some(bias) = self.bias {
                for p in 0..P {
                    for j in 0..NV {
                        let at = column(p, j);
                        sums[p][j] = simd.load_partial(bias.as_ptr().wrapping_add(at), lanes(at));
                    }
                }
            }
            let weight = self.weight.as_ptr().wrapping_add(columns.start(0, first));
            for row in 0..columns.rows {
                let value = simd.splat(*input.add(row));
                for p in 0..P {
                    for j in 0..NV {
                        let at = p * columns.panel_len() + row * columns.width + j * S::LANES;
                        sums[p][j] = simd.mul_add(value, simd.load(weight.add(at)), sums[p][j]);
                    }
                }
            }
            for p in 0..P {
                for j in 0..NV {
                    let sum = if self.activation == Activation::Relu {
                        simd.max(simd.zero(), sums[p][j])
                    } else {
                        sums[p][j]
                    };
                    let at = column(p, j);
                    simd.store_partial(output.wrapping_add(at), sum, lanes(at));
                }
            }
        }
    }
}

/// The first row of the input, which the threads only read.
#[derive(Clone, Copy)]
struct Input(*const f32);

// SAFETY: it is read only, while the view or the copy that it points into is borrowed.
unsafe impl Sync for Input {}

impl Input {
    fn get(&self) -> *const f32 {
        self.0
    }
}

/// A panel of columns for a block of rows.
struct Part<'a> {
    dense: &'a Dense<'a>,
    panel: usize,
    first: usize,
    rows: usize,
    input: *const f32,
    input_ld: usize,
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    activation: Activation,
    output: &'a ViewMut4<'a>,
    /// `[row][width]`.
    sums: *mut f32,
    /// Tables with a pointer a row.
    inputs: *mut *const f32,
    outputs: *mut *mut f32,
    /// `[inner element of the chunk][width]`.
    transposed: *mut f32,
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.dense.columns.width / S::LANES {
            1 => self.each::<S, 1>(simd),
            2 => self.each::<S, 2>(simd),
            _ => self.each::<S, 3>(simd),
        }
    }
}

impl Part<'_> {
    #[inline(always)]
    fn each<S: Simd, const NV: usize>(&self, simd: S) {
        let Dense { inner, columns, .. } = *self.dense;
        let (rows, width, chunk) = (tile::rows_for(S::REGISTERS, NV), columns.width, self.dense.chunk());
        self.fill_tables(rows);
        let column = self.panel * width;
        for start in (0..inner).step_by(chunk) {
            let run = (inner - start).min(chunk);
            let (is_first, is_last) = (start == 0, start + run == inner);
            let weight = match self.dense.transposes {
                true => simd.enter(TransposeChunk { part: self, start, run }),
                false => self.weight.as_ptr().wrapping_add(columns.start(0, self.panel) + start * width),
            };
            let offset = start as isize;
            for (index, row) in (0..self.rows).step_by(rows).enumerate() {
                let (inputs, outputs) = (self.inputs.wrapping_add(row), self.outputs.wrapping_add(row));
                let job = ProductJob {
                    run,
                    weight,
                    column,
                    pixel_count: (self.rows - row).min(rows),
                    channel_count: columns.columns_of(self.panel),
                    bias: match self.bias {
                        Some(bias) if is_first => bias.as_ptr().wrapping_add(column),
                        _ => std::ptr::null(),
                    },
                    sums: if is_first { std::ptr::null() } else { self.sums.wrapping_add(row * width) },
                    keep: if is_last { std::ptr::null_mut() } else { self.sums.wrapping_add(row * width) },
                    activation: self.activation,
                    // The next chunk's weights follow; each tile asks for a line a step.
                    ahead: [weight.wrapping_add(run * width + index * run * LINE); 2],
                    ..ProductJob::new(inputs, Addresses::Offsets(&offset), rows, outputs)
                };
                // SAFETY: the tables have a pointer for each row of whole tiles, the panel `run` rows from here
                // on.
                unsafe { tile::product::<S, NV>(simd, &job) };
            }
        }
    }

    /// Writes the addresses of the rows; a tile that is not full is filled up with the last row.
    #[inline(always)]
    fn fill_tables(&self, tile: usize) {
        for row in 0..self.rows.next_multiple_of(tile) {
            let image = self.first + row.min(self.rows - 1);
            // SAFETY: the tables and the sums have room for whole tiles of rows.
            unsafe {
                *self.inputs.add(row) = self.input.wrapping_add(image * self.input_ld);
                *self.outputs.add(row) = self.output.pixel(image);
            }
        }
    }
}

/// Transposes the weights of `run` inner elements from `start` on, for the columns of a part.
struct TransposeChunk<'a> {
    part: &'a Part<'a>,
    start: usize,
    run: usize,
}

impl Kernel for TransposeChunk<'_> {
    type Output = *const f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> *const f32 {
        let Self { part, start, run } = self;
        let Dense { columns, weights, .. } = *part.dense;
        let first_column = part.panel * columns.width;
        for element in (0..run).step_by(S::LANES) {
            let (panel, lane) = ((start + element) / weights.width, (start + element) % weights.width);
            for column in (0..columns.width).step_by(S::LANES) {
                let row = first_column + column;
                let at = weights.start(0, panel) + row * weights.width + lane;
                let rows = columns.columns.saturating_sub(row).min(S::LANES);
                let from = part.weight.as_ptr().wrapping_add(at);
                let to = part.transposed.wrapping_add(element * columns.width + column);
                // SAFETY: a panel has a row of `width` floats for each column of the result, of which `rows`
                // are left; the chunk has room for whole vectors of elements.
                unsafe { simd.transpose(from, weights.width, rows, to, columns.width, S::LANES) };
                // A panel is read in stretches of a page at most, which the processor does not look beyond.
                let next = from.wrapping_add(part.dense.chunk() / weights.width * weights.panel_len());
                for row in 0..rows {
                    simd.prefetch(next.wrapping_add(row * weights.width));
                }
            }
        }
        part.transposed
    }
}
