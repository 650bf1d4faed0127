//! The weight gradient: dw[t, c, k] = sum over pixels p of x[p at t, c] dy[p, k], and db[k] = sum over p of
//! dy[p, k].
//!
//! A register tile holds some patch elements (t, c) x some output channels and walks over pixels. Patch
//! elements that stand side by side in x, a whole kernel row where pixels are dense, share one address. Padded
//! images are first copied between zeros, so that no tap needs a check.
//!
//! The batch is cut into chunks of images by shape alone; each chunk sums into its own copy of dw, and the
//! copies are added in order. So the bits do not depend on the number of threads. Large weights are cut by
//! panel instead.
//!
//! Where channels are many, `packed_weight_gradient` takes over.

use super::layout::Panels;
use super::packed_weight_gradient::Packed;
use super::tile::{self, ReductionJob};
use super::{Conv2d, Conv2dShape, border};
use crate::simd::{Kernel, Simd};
use crate::threads::Shareable;
use crate::{Context, View4};

/// Vector multiply-adds worth a part.
const MULTIPLY_ADDS_A_PART: usize = 1 << 16;

/// Pixels below which a chunk's own copy of dw costs more than it saves.
const PIXELS_A_CHUNK: usize = 256;

/// Floats that all copies of dw may take together, unless one alone takes more.
const COPIES_LEN: usize = 1 << 18;

/// Parts that suffice for sixteen threads.
const PARTS_WANTED: usize = 16;

/// Bytes of x and dy that are walked again and again, once for each tile: they should stay in the second-level
/// cache.
const BLOCK_BYTES: usize = 256 << 10;

/// Floats of one part of the final sum.
const FLOATS_A_PART: usize = 1 << 14;

/// How the work is cut, by shape alone.
#[derive(Clone, Copy)]
struct Cut {
    chunks: usize,
    panel_ranges: usize,
    /// Output rows of a block.
    rows: usize,
    /// Images of a block, when a block holds whole images.
    images: usize,
}

fn cut(convolution: &Conv2d, batch: usize) -> Cut {
    let (panels, [oh, ow, k]) = (&convolution.panels, convolution.output);
    let [h, w, c] = convolution.shape.input;
    let vectors = panels.groups * panels.count * panels.width / convolution.isa.lanes();
    let work = batch * oh * ow * panels.rows * vectors;
    let chunks = (work / MULTIPLY_ADDS_A_PART)
        .min(batch)
        .min(batch * oh * ow / PIXELS_A_CHUNK)
        .min(COPIES_LEN / panels.len().max(1))
        .clamp(1, PARTS_WANTED);
    let chunks = 1 << chunks.ilog2(); // powers of two share evenly among most numbers of threads
    let ranges = (work / MULTIPLY_ADDS_A_PART).min(PARTS_WANTED) / chunks;
    let panel_ranges = ranges.clamp(1, panels.groups * panels.count);
    let bytes_a_row = (w * c * convolution.shape.stride[0] + ow * k) * size_of::<f32>();
    let rows = (BLOCK_BYTES / bytes_a_row.max(1)).clamp(1, oh);
    let an_image = (h * w * c + oh * ow * k) * size_of::<f32>();
    let images = (BLOCK_BYTES / an_image.max(1)).max(1);
    Cut { chunks, panel_ranges, rows, images }
}

impl Cut {
    /// The images of a chunk.
    fn images_of(&self, chunk: usize, batch: usize) -> [usize; 2] {
        [batch * chunk / self.chunks, batch * (chunk + 1) / self.chunks]
    }

    /// The panels, counted over all groups, of a range.
    fn panels_of(&self, range: usize, panels: &Panels) -> [usize; 2] {
        let count = panels.groups * panels.count;
        [count * range / self.panel_ranges, count * (range + 1) / self.panel_ranges]
    }
}

fn is_padded(shape: &Conv2dShape) -> bool {
    shape.padding != [0; 4]
}

/// Rows and columns of an image between its zeros.
fn padded_size(shape: &Conv2dShape) -> [usize; 2] {
    let [h, w, _] = shape.input;
    border::padded_size([h, w], shape.padding)
}

/// Floats of a thread's copy of a block's images, and of one chunk's gradients.
fn scratch_pieces(convolution: &Conv2d, cut: Cut) -> [usize; 2] {
    let shape = &convolution.shape;
    let [h, w] = padded_size(shape);
    let copy = if is_padded(shape) { cut.images * h * w * shape.input[2] } else { 0 };
    let gradients = if cut.chunks > 1 { convolution.panels.len() + shape.filters } else { 0 };
    [copy.next_multiple_of(16), gradients.next_multiple_of(16)]
}

pub(super) fn scratch_len(convolution: &Conv2d, batch: usize, threads: usize) -> usize {
    let cut = cut(convolution, batch);
    if let Some(packed) = Packed::choose(convolution, batch, cut.chunks) {
        return packed.scratch_len(threads);
    }
    let [copy, gradients] = scratch_pieces(convolution, cut);
    threads * copy + cut.chunks * gradients
}

/// dweight and dbias; the public function has checked shapes and lengths.
pub(super) fn run(
    convolution: &Conv2d,
    context: Context,
    x: View4,
    dy: View4,
    dweight: &mut [f32],
    dbias: Option<&mut [f32]>,
    scratch: &mut [f32],
) {
    if x.n() == 0 {
        dweight.fill(0.0);
        dbias.unwrap_or_default().fill(0.0);
        return;
    }
    let cut = cut(convolution, x.n());
    if let Some(packed) = Packed::choose(convolution, x.n(), cut.chunks) {
        return packed.run(context, x, dy, dweight, dbias, scratch);
    }
    let [copy_len, gradients_len] = scratch_pieces(convolution, cut);
    let threads = context.pool.at_once();
    assert!(
        scratch.len() >= threads * copy_len + cut.chunks * gradients_len,
        "the scratch memory is too short"
    );
    let (copies, gradients) = scratch.split_at_mut(threads * copy_len);
    let (weight_len, filters) = (dweight.len(), convolution.shape.filters);
    let with_bias = dbias.is_some();
    let (copies, gradients) = (Shareable::new(copies), Shareable::new(gradients));
    let (dweight, dbias) = (Shareable::new(dweight), Shareable::new(dbias.unwrap_or_default()));
    context.pool.run(cut.chunks * cut.panel_ranges, |thread, part| {
        let (chunk, range) = (part / cut.panel_ranges, part % cut.panel_ranges);
        let (to_weight, to_bias) = match cut.chunks {
            1 => (dweight.pointer(), dbias.pointer()),
            _ => {
                let own = gradients.pointer().wrapping_add(chunk * gradients_len);
                (own, own.wrapping_add(weight_len))
            }
        };
        let part = Part {
            convolution,
            cut,
            x,
            dy,
            panels: cut.panels_of(range, &convolution.panels),
            copy: copies.pointer().wrapping_add(thread * copy_len),
            dweight: to_weight,
            dbias: if with_bias { to_bias } else { std::ptr::null_mut() },
        };
        part.run(context, cut.images_of(chunk, x.n()));
    });
    if cut.chunks > 1 {
        let sources = (gradients.pointer().cast_const(), gradients_len, cut.chunks);
        // SAFETY: every chunk has written its weights and, if asked for, its bias behind them; the parts below
        // write disjoint ranges of the results.
        unsafe {
            add_chunks(context, sources, &dweight, weight_len);
            if with_bias {
                let sources = (sources.0.wrapping_add(weight_len), gradients_len, cut.chunks);
                add_chunks(context, sources, &dbias, filters);
            }
        }
    }
}

/// to[i] = sum over chunks of from[chunk][i], in the order of the chunks.
///
/// # Safety
/// `from` holds `chunks` ranges of `length` floats, `distance` apart; `to` has `length` floats.
pub(super) unsafe fn add_chunks(
    context: Context,
    (from, distance, chunks): (*const f32, usize, usize),
    to: &Shareable<f32>,
    length: usize,
) {
    struct Sum {
        from: *const f32,
        distance: usize,
        chunks: usize,
        to: *mut f32,
        count: usize,
    }
    impl Kernel for Sum {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            for at in (0..self.count).step_by(S::LANES) {
                let lanes = (self.count - at).min(S::LANES);
                // SAFETY: lanes floats from `at` on lie in every chunk and in the result.
                unsafe {
                    let mut sum = simd.load_partial(self.from.add(at), lanes);
                    for chunk in 1..self.chunks {
                        let next = self.from.add(chunk * self.distance + at);
                        sum = simd.add(sum, simd.load_partial(next, lanes));
                    }
                    simd.store_partial(self.to.add(at), sum, lanes);
                }
            }
        }
    }
    let from = Shareable::from_pointer(from.cast_mut());
    context.pool.run(length.div_ceil(FLOATS_A_PART), |_, part| {
        let start = part * FLOATS_A_PART;
        context.isa.run(Sum {
            from: from.pointer().wrapping_add(start),
            distance,
            chunks,
            to: to.pointer().wrapping_add(start),
            count: (length - start).min(FLOATS_A_PART),
        });
    });
}

/// One part: a range of panels over a range of images.
struct Part<'a> {
    convolution: &'a Conv2d,
    cut: Cut,
    x: View4<'a>,
    dy: View4<'a>,
    panels: [usize; 2],
    copy: *mut f32,
    dweight: *mut f32,
    /// Null where no bias gradient is wanted.
    dbias: *mut f32,
}

/// Some rows of some images, as the tiles walk them.
#[derive(Clone, Copy)]
struct Block {
    /// The first pixel's first patch element.
    x: *const f32,
    /// Floats between pixels of x.
    ld: usize,
    /// Floats from an image to the next, a row of pixels to the next, a pixel to the next, following the
    /// stride.
    x_step: [usize; 3],
    /// Floats from one row of x to the next.
    x_row: usize,
    dy: *const f32,
    images: usize,
    rows: usize,
    columns: usize,
    accumulate: bool,
}

impl Part<'_> {
    fn run(&self, context: Context, [first, end]: [usize; 2]) {
        let shape = &self.convolution.shape;
        let ([h, w, c], [oh, ow, _]) = (shape.input, self.convolution.output);
        let whole_images = self.cut.rows == oh;
        let images_a_block = if whole_images { self.cut.images } else { 1 };
        let size = if is_padded(shape) { padded_size(shape) } else { [h, w] };
        let mut accumulate = false;
        for image in (first..end).step_by(images_a_block) {
            let images = (end - image).min(images_a_block);
            let (source, ld) = match is_padded(shape) {
                true => (self.copy_between_zeros(image, images), c),
                false => (self.x.pixel(image * h * w), self.x.ld()),
            };
            for row in (0..oh).step_by(self.cut.rows) {
                let x_row = size[1] * ld;
                let block = Block {
                    x: source.wrapping_add(row * shape.stride[0] * x_row),
                    ld,
                    x_step: [size[0] * x_row, shape.stride[0] * x_row, shape.stride[1] * ld],
                    x_row,
                    dy: self.dy.pixel((image * oh + row) * ow),
                    images,
                    rows: (oh - row).min(self.cut.rows),
                    columns: ow,
                    accumulate,
                };
                context.isa.run(Tiles { part: self, block: block.joined() });
                accumulate = true;
            }
        }
    }

    /// Copies images with zeros around them; returns the first.
    fn copy_between_zeros(&self, image: usize, images: usize) -> *const f32 {
        let shape = &self.convolution.shape;
        let [h, w] = padded_size(shape);
        let len = h * w * shape.input[2];
        for index in 0..images {
            let copy = self.copy.wrapping_add(index * len);
            // SAFETY: the thread's piece of scratch memory has room for a block's images.
            let to = unsafe { std::slice::from_raw_parts_mut(copy, len) };
            border::copy_between_zeros(self.x, image + index, shape.padding, 0..h, to);
        }
        self.copy
    }
}

impl Block {
    /// The same pixels in fewer, longer loops where rows or images continue each other: a dense layer has one
    /// pixel an image, a 1 x 1 convolution has rows without borders.
    fn joined(mut self) -> Self {
        if self.rows == 1 || self.x_step[1] == self.columns * self.x_step[2] {
            self.columns *= self.rows;
            self.x_step[1] = self.x_step[0];
            (self.rows, self.images) = (self.images, 1);
            if self.columns == 1 || self.x_step[1] == self.columns * self.x_step[2] {
                if self.columns == 1 {
                    self.x_step[2] = self.x_step[1];
                }
                (self.columns, self.rows) = (self.columns * self.rows, 1);
            }
        }
        self
    }
}

/// All tiles of a part over a block of pixels.
struct Tiles<'a> {
    part: &'a Part<'a>,
    block: Block,
}

impl Kernel for Tiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.part.convolution.panels.width / S::LANES {
            1 => self.each::<S, 1>(simd),
            2 => self.each::<S, 2>(simd),
            _ => self.each::<S, 3>(simd),
        }
    }
}

impl Tiles<'_> {
    #[inline(always)]
    fn each<S: Simd, const NV: usize>(&self, simd: S) {
        let (part, block) = (self.part, &self.block);
        let shape = &part.convolution.shape;
        let ([kh, kw], groups, panels) = (shape.kernel, shape.groups, &part.convolution.panels);
        let c = shape.input[2] / groups;
        let joined = shape.dilation[1] == 1 && block.ld == c;
        let (runs_a_row, run) = if joined { (1, kw * c) } else { (kw, c) };
        for index in part.panels[0]..part.panels[1] {
            let (group, panel) = (index / panels.count, index % panels.count);
            let column = group * panels.columns + panel * panels.width;
            let channel_count = panels.columns_of(panel);
            let sums = part.dweight.wrapping_add(panels.start(group, panel));
            let job = ReductionJob {
                x: block.x.wrapping_add(group * c),
                x_group: shape.dilation[0] * block.x_row,
                x_step: block.x_step,
                dy: block.dy.wrapping_add(column),
                dy_step: part.dy.ld(),
                images: block.images,
                rows: block.rows,
                columns: block.columns,
                channel_count,
                sums,
                sums_group: run * panels.width,
                accumulate: block.accumulate,
            };
            // SAFETY: the block's pixels and their patches lie in x or its padded copy, their gradients in dy,
            // the panel in dweight; the bias has a float for each channel.
            unsafe {
                if joined {
                    tile::reduce_rows::<S, NV>(simd, job, kh, run);
                } else {
                    for tap in 0..kh * runs_a_row {
                        let (row, tap_column) = (tap / kw, tap % kw);
                        let offset = row * job.x_group + tap_column * shape.dilation[1] * block.ld;
                        let x = job.x.wrapping_add(offset);
                        let sums = job.sums.wrapping_add(tap * run * panels.width);
                        tile::reduce_rows::<S, NV>(simd, ReductionJob { x, sums, ..job }, 1, run);
                    }
                }
                if !part.dbias.is_null() {
                    tile::reduce_bias::<S, NV>(simd, &job, part.dbias.add(column));
                }
            }
        }
    }
}
