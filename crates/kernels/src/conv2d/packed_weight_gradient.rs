//! The weight gradient of many channels: x and dy are packed, so that the register tile reads both as streams.
//!
//! Unpacked, a tile takes a line or two of each pixel, at a step that is often a power of two: the lines of a
//! block fall into few sets of the first-level cache and push each other out. Here a block of about two hundred
//! pixels is copied to `[channels / 16][row][column][16]` (x, zeros around it) and `[panel][pixel][width]`
//! (dy): a panel's block stays in the first-level cache while all of x passes.
//!
//! Where dw is small, chunks of the images are parts: each packs and multiplies alone, into its own copy of dw.
//! Where it is large, all threads pack a block together, then share its panels.

use super::ahead::Ahead;
use super::tile::{self, LINE, Reduction, ReductionJob};
use super::weight_gradient::add_chunks;
use super::{Conv2d, Conv2dShape};
use crate::simd::{Kernel, Simd};
use crate::threads::Shareable;
use crate::{Context, View4};
use std::ops::Range;

/// Input channels that stand side by side in the packed x.
pub(super) const GROUP: usize = 16;

/// Floats of a panel's block: half of a first-level cache, or two thirds of a small one.
const PANEL_BLOCK: usize = 6400;

/// Floats between the groups and panels, so that their lines fall into different sets of the cache.
const GAP: usize = 16;

/// Groups or panels that a part packs.
const UNITS_A_PART: usize = 4;

/// Adds up products of sixteen elements that stand side by side with a panel, over the pixels of `job`.
///
/// # Safety
/// As [`Reduction`], for sixteen elements.
#[inline(always)]
pub(super) unsafe fn reduce_group<S: Simd, const NV: usize>(simd: S, mut job: ReductionJob) {
    macro_rules! tiles {
        ($($elements:literal)*) => {{
            $(simd.enter(Reduction::<1, $elements, NV>(job));
            job.x = job.x.wrapping_add($elements);
            job.sums = job.sums.wrapping_add($elements * NV * S::LANES);)*
            let _ = job;
        }};
    }
    match (S::REGISTERS, NV) {
        (24.., 1) => tiles!(16),
        (24.., _) => tiles!(8 8),
        (_, 1) => tiles!(8 8),
        (_, 2) => tiles!(6 5 5),
        _ => unreachable!("{NV} vectors are wider than the widest tile"),
    }
}

/// How a convolution is packed, by shape alone.
#[derive(Clone, Copy)]
struct Layout {
    /// Output rows of a block, of one image, or all rows of some images.
    rows: usize,
    images: usize,
    /// Rows and columns of x that are packed for an image of a block, and every which of them.
    size: [usize; 2],
    step: [usize; 2],
    /// Packed rows and columns from an output pixel to the next.
    stride: [usize; 2],
    /// Floats of a group of x and of a panel of dy.
    group_len: usize,
    panel_len: usize,
}

/// A convolution whose weight gradient is computed this way.
pub(super) struct Packed<'a> {
    convolution: &'a Conv2d,
    layout: Layout,
    /// Chunks of the images, each with its own copy of dw; one where the panels are cut instead.
    chunks: usize,
}

impl<'a> Packed<'a> {
    /// The convolution in this form, if it was chosen.
    pub fn choose(convolution: &'a Conv2d, batch: usize, chunks: usize) -> Option<Self> {
        let chosen = batch > 0 && convolution.packs;
        chosen.then(|| Self { convolution, layout: layout(convolution), chunks })
    }

    fn pieces(&self) -> [usize; 3] {
        let Conv2d { shape, panels, .. } = self.convolution;
        let copy = if self.chunks > 1 { (panels.len() + shape.filters).next_multiple_of(16) } else { 0 };
        [shape.input[2] / GROUP * self.layout.group_len, panels.count * self.layout.panel_len, copy]
    }

    /// Floats of scratch memory.
    pub fn scratch_len(&self, threads: usize) -> usize {
        let [x, dy, copy] = self.pieces();
        (x + dy) * if self.chunks > 1 { threads } else { 1 } + self.chunks * copy
    }

    /// dweight and dbias; the public function has checked shapes and lengths.
    pub fn run(
        &self,
        context: Context,
        x: View4,
        dy: View4,
        dweight: &mut [f32],
        dbias: Option<&mut [f32]>,
        scratch: &mut [f32],
    ) {
        let threads = context.pool.at_once();
        assert!(scratch.len() >= self.scratch_len(threads), "the scratch memory is too short");
        let weight_len = dweight.len();
        let scratch = Shareable::new(scratch);
        let dweight = Shareable::new(dweight);
        let dbias = dbias.map(Shareable::new);
        let [x_len, dy_len, copy_len] = self.pieces();
        let block = |memory: *mut f32| Block {
            packed: self,
            x,
            dy,
            image: 0,
            row: 0,
            images: 0,
            rows: 0,
            accumulate: false,
            packed_x: memory,
            packed_dy: memory.wrapping_add(x_len),
            dweight: dweight.pointer(),
            dbias: dbias.as_ref().map(Shareable::pointer),
        };
        let panels = self.convolution.panels.count;
        if self.chunks == 1 {
            let mut block = block(scratch.pointer());
            while block.next([0, x.n()]) {
                context.pool.run(block.packs(), |_, part| {
                    context.isa.run(Pack { block: &block, units: block.units_of(part) });
                });
                context.pool.run(panels, |_, panel| {
                    context.isa.run(Multiply { block: &block, panels: panel..panel + 1 });
                });
            }
            return;
        }
        let copies = scratch.pointer().wrapping_add(threads * (x_len + dy_len));
        let copies = Shareable::from_pointer(copies);
        context.pool.run(self.chunks, |thread, chunk| {
            let mut block = block(scratch.pointer().wrapping_add(thread * (x_len + dy_len)));
            block.dweight = copies.pointer().wrapping_add(chunk * copy_len);
            block.dbias = block.dbias.map(|_| block.dweight.wrapping_add(weight_len));
            while block.next([0, 1].map(|end| x.n() * (chunk + end) / self.chunks)) {
                for part in 0..block.packs() {
                    context.isa.run(Pack { block: &block, units: block.units_of(part) });
                }
                context.isa.run(Multiply { block: &block, panels: 0..panels });
            }
        });
        let from = copies.pointer().cast_const();
        // SAFETY: every chunk has written its weights and, if asked for, its bias behind them.
        unsafe {
            add_chunks(context, (from, copy_len, self.chunks), &dweight, weight_len);
            if let Some(dbias) = &dbias {
                let from = from.wrapping_add(weight_len);
                add_chunks(context, (from, copy_len, self.chunks), dbias, self.convolution.shape.filters);
            }
        }
    }
}

fn layout(convolution: &Conv2d) -> Layout {
    let Conv2dShape { kernel, stride, dilation, .. } = convolution.shape;
    let [oh, ow, _] = convolution.output;
    let pixels = PANEL_BLOCK / convolution.panels.width;
    let (rows, images) = ((pixels / ow).clamp(1, oh), (pixels / (oh * ow)).max(1));
    // With one tap, only the pixels that it meets are packed.
    let step = [0, 1].map(|axis| if kernel[axis] == 1 { stride[axis] } else { 1 });
    let stride = [stride[0] / step[0], stride[1] / step[1]];
    let span =
        |outputs: usize, axis: usize| (outputs - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1;
    let size = [span(rows, 0), span(ow, 1)];
    Layout {
        rows,
        images,
        size,
        step,
        stride,
        group_len: images * size[0] * size[1] * GROUP + GAP,
        panel_len: images * rows * ow * convolution.panels.width + GAP,
    }
}

/// Some rows of an image, or some images.
struct Block<'a> {
    packed: &'a Packed<'a>,
    x: View4<'a>,
    dy: View4<'a>,
    image: usize,
    row: usize,
    images: usize,
    rows: usize,
    /// Whether to add to the gradients.
    accumulate: bool,
    packed_x: *mut f32,
    packed_dy: *mut f32,
    dweight: *mut f32,
    dbias: Option<*mut f32>,
}

// SAFETY: the parts of a region write disjoint groups and panels of the packed tensors, or disjoint panels of
// the gradients, and read what the region before has written.
unsafe impl Sync for Block<'_> {}

impl Block<'_> {
    /// Goes on to the next block of a range of images; says whether there is one.
    fn next(&mut self, [first, end]: [usize; 2]) -> bool {
        let (Layout { rows, images, .. }, [oh, _, _]) = (self.packed.layout, self.packed.convolution.output);
        if self.images == 0 {
            self.image = first;
        } else {
            self.accumulate = true;
            self.row += self.rows;
            if self.row == oh {
                (self.image, self.row) = (self.image + self.images, 0);
            }
        }
        self.rows = rows.min(oh - self.row);
        self.images = images.min(end.saturating_sub(self.image));
        self.images > 0
    }

    fn groups(&self) -> usize {
        self.x.c() / GROUP
    }

    /// Parts of the packing.
    fn packs(&self) -> usize {
        (self.groups() + self.packed.convolution.panels.count).div_ceil(UNITS_A_PART)
    }

    /// Groups of x, then panels of dy, that a part packs.
    fn units_of(&self, part: usize) -> Range<usize> {
        let units = self.groups() + self.packed.convolution.panels.count;
        part * UNITS_A_PART..units.min((part + 1) * UNITS_A_PART)
    }
}

/// Packs some groups of x and panels of dy.
struct Pack<'a> {
    block: &'a Block<'a>,
    units: Range<usize>,
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let groups = self.block.groups();
        let of = |unit: usize| unit.max(groups) - groups;
        self.pack_x(simd, self.units.start..self.units.end.min(groups));
        self.pack_dy(simd, of(self.units.start)..of(self.units.end));
    }
}

impl Pack<'_> {
    #[inline(always)]
    fn pack_x<S: Simd>(&self, simd: S, groups: Range<usize>) {
        let block = self.block;
        let Packed { convolution, layout, .. } = block.packed;
        let Conv2dShape { input: [h, w, _], stride, padding: [top, _, _, left], .. } = convolution.shape;
        for group in groups {
            let mut to = block.packed_x.wrapping_add(group * layout.group_len);
            for image in block.image..block.image + block.images {
                for row in 0..layout.size[0] {
                    // A position before the first is a huge number.
                    let y = (block.row * stride[0] + row * layout.step[0]).wrapping_sub(top);
                    for column in 0..layout.size[1] {
                        let x = (column * layout.step[1]).wrapping_sub(left);
                        let inside = y < h && x < w;
                        let from = block.x.pixel(if inside { (image * h + y) * w + x } else { 0 });
                        for lane in (0..GROUP).step_by(S::LANES) {
                            // SAFETY: the pixel lies in x, its place in the packed copy of a block.
                            unsafe {
                                let value = if inside {
                                    simd.load(from.add(group * GROUP + lane))
                                } else {
                                    simd.zero()
                                };
                                simd.store(to.add(lane), value);
                            }
                        }
                        to = to.wrapping_add(GROUP);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn pack_dy<S: Simd>(&self, simd: S, panels: Range<usize>) {
        let block = self.block;
        let Packed { convolution, layout, .. } = block.packed;
        let (width, [oh, ow, _]) = (convolution.panels.width, convolution.output);
        for panel in panels {
            let mut to = block.packed_dy.wrapping_add(panel * layout.panel_len);
            for image in block.image..block.image + block.images {
                let first = (image * oh + block.row) * ow;
                for pixel in first..first + block.rows * ow {
                    let from = block.dy.pixel(pixel).wrapping_add(panel * width);
                    for lane in (0..width).step_by(S::LANES) {
                        // SAFETY: filters are whole panels, so all of the panel lies in the pixel.
                        unsafe { simd.store(to.add(lane), simd.load(from.add(lane))) };
                    }
                    to = to.wrapping_add(width);
                }
            }
        }
    }
}

/// Adds a block's products to some panels of dw.
struct Multiply<'a> {
    block: &'a Block<'a>,
    panels: Range<usize>,
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.block.packed.convolution.panels.width / S::LANES {
            1 => self.each::<S, 1>(simd),
            2 => self.each::<S, 2>(simd),
            _ => self.each::<S, 3>(simd),
        }
    }
}

impl Multiply<'_> {
    #[inline(always)]
    fn each<S: Simd, const NV: usize>(&self, simd: S) {
        let block = self.block;
        let Packed { convolution, layout, .. } = block.packed;
        let Conv2dShape { input: [_, _, c], kernel: [kh, kw], dilation, .. } = convolution.shape;
        let ([_, ow, _], panels) = (convolution.output, convolution.panels);
        let row = layout.size[1] * GROUP;
        for panel in self.panels.clone() {
            let mut ahead = self.ahead(panel);
            let sums = block.dweight.wrapping_add(panels.start(0, panel));
            let job = ReductionJob {
                x: block.packed_x,
                x_group: 0,
                x_step: [layout.size[0] * row, layout.stride[0] * row, layout.stride[1] * GROUP],
                dy: block.packed_dy.wrapping_add(panel * layout.panel_len),
                dy_step: panels.width,
                images: block.images,
                rows: block.rows,
                columns: ow,
                channel_count: panels.width,
                sums,
                sums_group: 0,
                accumulate: block.accumulate,
            };
            for group in 0..block.groups() {
                for tap in 0..kh * kw {
                    let offset = tap / kw * dilation[0] * row + tap % kw * dilation[1] * GROUP;
                    let x = job.x.wrapping_add(group * layout.group_len + offset);
                    let sums = sums.wrapping_add((tap * c + group * GROUP) * panels.width);
                    // Large weights come from memory: asked for now, they are here when the products are
                    // summed.
                    for line in (0..GROUP * panels.width).step_by(LINE) {
                        simd.prefetch(sums.wrapping_add(line));
                    }
                    ahead.iter_mut().for_each(|ahead| ahead.fetch(simd));
                    // SAFETY: the packed pixels and their taps lie in the block, the sums in the panel of dw,
                    // which belongs to one part.
                    unsafe { reduce_group::<S, NV>(simd, ReductionJob { x, sums, ..job }.joined()) };
                }
            }
            if let Some(dbias) = block.dbias {
                // SAFETY: the bias has a float for each output channel.
                unsafe { tile::reduce_bias::<S, NV>(simd, &job, dbias.add(panel * panels.width)) };
            }
        }
    }

    /// What to fetch of x and dy during a panel: as many pixels after this block's as the next block reads.
    #[inline(always)]
    fn ahead(&self, panel: usize) -> [Ahead; 2] {
        let block = self.block;
        let Packed { convolution, .. } = block.packed;
        let ([oh, ow, _], [kh, kw]) = (convolution.output, convolution.shape.kernel);
        let outputs = block.images * block.rows * ow;
        let end = (block.image * oh + block.row) * ow + outputs;
        [&block.x, &block.dy].map(|view| {
            let scale = |pixel: usize| pixel * view.h() * view.w() / (oh * ow);
            let pixels = scale(end)..scale(end + outputs).min(view.pixels());
            let part = [panel, convolution.panels.count];
            Ahead::new(view, pixels, part, block.groups() * kh * kw)
        })
    }
}

impl ReductionJob {
    /// The same pixels in fewer, longer loops where rows or images continue each other, as without taps they
    /// do.
    #[inline(always)]
    fn joined(mut self) -> Self {
        if self.x_step[1] == self.columns * self.x_step[2] {
            (self.columns, self.rows) = (self.columns * self.rows, 1);
            if self.images == 1 || self.x_step[0] == self.columns * self.x_step[2] {
                (self.columns, self.images) = (self.columns * self.images, 1);
            }
        }
        self
    }
}
