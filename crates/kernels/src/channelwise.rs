//! Passes that treat every pixel alike, with numbers of their own for each channel: each is a [`Pass`], which
//! says what happens to one vector of channels of a few pixels; and [`Sums`] over all pixels.
//!
//! A part of the image is walked in tiles of four pixels, so that what belongs to a channel (pivot, scale,
//! running sums) is loaded, and the sums stored, once for four pixels, while memory is still read nearly in
//! order.

use crate::parts::Parts;
use crate::simd::{Kernel, Simd};
use crate::threads::Shareable;
use crate::{Context, View4, ViewMut4};
use std::ops::Range;

/// Pixels that stay together when a pass is cut into parts.
const BLOCK: usize = 32;

/// Pixels of a tile.
const TILE: usize = 4;

/// Whether a pass that reads these views should write y past the caches: y is as [`ViewMut4::streams`] says,
/// and not in a cache because it has just been read.
pub(crate) fn streams(y: &ViewMut4, read: &[View4]) -> bool {
    y.streams() && read.iter().all(|view| view.pointer() != y.pointer())
}

/// Floats from what is read to what is asked for: enough to hide the latency of memory, little enough for the
/// nearest cache.
const AHEAD: usize = 512;

/// How a pass over the pixels is cut, by blocks of pixels.
pub(crate) fn parts(pixels: usize, channels: usize) -> Parts {
    Parts::new(pixels.div_ceil(BLOCK), BLOCK * channels)
}

/// Some pixels at one vector of channels.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// The first pixel, counted over all images.
    pixel: usize,
    /// Pixels, and floats beside them, from it to what to ask memory for.
    ahead: [usize; 2],
    /// The first channel.
    channel: usize,
    /// Channels, at most a vector of them.
    count: usize,
}

impl Place {
    /// The `p`-th pixel, counted over all images.
    #[inline(always)]
    pub(crate) fn pixel(&self, p: usize) -> usize {
        self.pixel + p
    }

    /// Reads the channels of the `p`-th pixel.
    ///
    /// # Safety
    /// The place lies in the view, whose memory is readable, and has more than `p` pixels.
    #[inline(always)]
    pub(crate) unsafe fn read<S: Simd>(&self, simd: S, view: View4, p: usize) -> S::Vector {
        let pointer = view.pixel(self.pixel + p).wrapping_add(self.channel);
        simd.prefetch(pointer.wrapping_add(self.ahead[0] * view.ld() + self.ahead[1]));
        // SAFETY: the caller vouches for the element.
        unsafe { simd.load_up_to(pointer, self.count) }
    }

    /// Writes the channels of the `p`-th pixel, past the caches if `stream`.
    ///
    /// # Safety
    /// As [`Place::read`], and no other thread touches the element; [`streams`] says which views may be
    /// streamed to.
    #[inline(always)]
    pub(crate) unsafe fn write<S: Simd>(
        &self,
        simd: S,
        view: &ViewMut4,
        p: usize,
        vector: S::Vector,
        stream: bool,
    ) {
        let pointer = view.pixel(self.pixel + p).wrapping_add(self.channel);
        // SAFETY: the caller vouches for the element, and that whole vectors of a view streamed to are aligned.
        unsafe {
            match stream && self.count == S::LANES {
                true => simd.stream(pointer, vector),
                false => simd.store_up_to(pointer, vector, self.count),
            }
        }
    }

    /// Reads what an array has for the channels.
    ///
    /// # Safety
    /// The array has an element for each channel.
    #[inline(always)]
    pub(crate) unsafe fn of<S: Simd>(&self, simd: S, array: &[f32]) -> S::Vector {
        // SAFETY: the caller vouches for the elements.
        unsafe { simd.load_up_to(array.as_ptr().add(self.channel), self.count) }
    }

    /// Adds to what an array has for the channels.
    ///
    /// # Safety
    /// The array has an element for each channel, and no other thread touches them.
    #[inline(always)]
    pub(crate) unsafe fn add_to<S: Simd>(&self, simd: S, array: *mut f32, vector: S::Vector) {
        // SAFETY: the caller vouches for the elements.
        unsafe {
            let array = array.add(self.channel);
            let sum = simd.add(simd.load_up_to(array, self.count), vector);
            simd.store_up_to(array, sum, self.count);
        }
    }
}

/// What a pass does.
pub(crate) trait Pass: Sync {
    /// Handles `PIXELS` neighbouring pixels of a place. Implementations are `#[inline(always)]`.
    ///
    /// # Safety
    /// The place lies in the pass's views and arrays, and no other thread has its pixels.
    unsafe fn tile<S: Simd, const PIXELS: usize>(&self, simd: S, place: Place);
}

/// Runs a pass over all pixels; its views have the shape of x.
pub(crate) fn run(context: Context, x: View4, pass: impl Pass) {
    let parts = parts(x.pixels(), x.c());
    context.pool.run(parts.count(), |_, part| {
        context.isa.run(Walk { pixels: pixels(x, parts.range(part)), channels: x.c(), pass: &pass });
    });
}

/// Runs a pass over some pixels of its views, on the calling thread.
pub(crate) fn run_pixels(context: Context, pixels: Range<usize>, channels: usize, pass: &impl Pass) {
    context.isa.run(Walk { pixels, channels, pass });
}

/// The pixels of some blocks.
fn pixels(x: View4, blocks: Range<usize>) -> Range<usize> {
    blocks.start * BLOCK..x.pixels().min(blocks.end * BLOCK)
}

/// A pass over some pixels.
struct Walk<'a, P> {
    pixels: Range<usize>,
    channels: usize,
    pass: &'a P,
}

impl<P: Pass> Kernel for Walk<'_, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        self.tiles(simd);
        simd.finish_streams();
    }
}

impl<P: Pass> Walk<'_, P> {
    /// All pixels, in tiles and one by one.
    #[inline(always)]
    fn tiles<S: Simd>(&self, simd: S) {
        let Range { start: mut pixel, end } = self.pixels;
        while pixel + TILE <= end {
            self.channels::<S, TILE>(simd, pixel);
            pixel += TILE;
        }
        while pixel < end {
            self.channels::<S, 1>(simd, pixel);
            pixel += 1;
        }
    }

    /// All channels of `PIXELS` pixels.
    #[inline(always)]
    fn channels<S: Simd, const PIXELS: usize>(&self, simd: S, pixel: usize) {
        // Some tiles on or, where a tile is long, farther along its pixels.
        let ahead = match self.channels <= AHEAD {
            true => [(AHEAD / self.channels).next_multiple_of(TILE), 0],
            false => [0, AHEAD],
        };
        let mut channel = 0;
        // SAFETY: pixels and channels are some of x's, whose shape the pass's views and arrays have; the pixels
        // belong to this part alone.
        unsafe {
            while channel + S::LANES <= self.channels {
                self.pass.tile::<S, PIXELS>(simd, Place { pixel, ahead, channel, count: S::LANES });
                channel += S::LANES;
            }
            if channel < self.channels {
                let count = self.channels - channel;
                self.pass.tile::<S, PIXELS>(simd, Place { pixel, ahead, channel, count });
            }
        }
    }
}

/// Pixels whose sums are plain f32 numbers: few enough that rounding costs the sums of a large tensor no more
/// digits than those of a small one, many enough that adding them up is nothing beside taking them.
const RUN: usize = 128;

/// Arrays of a part, each with a float for both sums of every channel: the sums of the last run and, where
/// there are several, those of the runs before as a rounded total and what its rounding lost.
fn arrays(parts: Parts) -> usize {
    if parts.longest() * BLOCK > RUN { 3 } else { 1 }
}

/// Two sums over the pixels for each channel, with arrays for each part.
pub(crate) struct Sums<'a> {
    x: View4<'a>,
    parts: Parts,
    arrays: &'a mut [f32],
}

impl<'a> Sums<'a> {
    /// Floats of the arrays for a tensor of this shape.
    pub(crate) fn len(pixels: usize, channels: usize) -> usize {
        let parts = parts(pixels, channels);
        2 * channels * arrays(parts) * parts.count()
    }

    /// Sums over the pixels of x; `arrays` has [`Self::len`] floats.
    pub(crate) fn new(x: View4<'a>, arrays: &'a mut [f32]) -> Self {
        let (pixels, channels) = (x.pixels(), x.c());
        let arrays = &mut arrays[..Self::len(pixels, channels)];
        Self { x, parts: parts(pixels, channels), arrays }
    }

    /// Runs for each part the pass that `pass` makes; it adds to both arrays of that part, which begin as
    /// zeros.
    pub(crate) fn add_up<P: Pass>(
        &mut self,
        context: Context,
        pass: impl Fn(*mut f32, *mut f32) -> P + Sync,
    ) {
        let (x, parts, channels) = (self.x, self.parts, self.x.c());
        let memory = Shareable::new(self.arrays);
        context.pool.run(parts.count(), |_, part| {
            let len = arrays(parts) * 2 * channels;
            // SAFETY: a part has its own range, which lies in the arrays.
            let own = unsafe { memory.slice(part * len, len) };
            own.fill(0.0);
            let (first, second) = own.split_at_mut(channels);
            let pass = &pass(first.as_mut_ptr(), second.as_mut_ptr());
            let pixels = pixels(x, parts.range(part));
            context.isa.run(AddUp { pixels, channels, pass, arrays: own.as_mut_ptr() });
        });
    }

    /// As [`finish_sums`].
    pub(crate) fn finish(&self, context: Context, finish: impl Fn(usize, f64, f64) + Sync) {
        finish_sums(context, self.arrays, self.x.c(), finish);
    }
}

/// Adds the sums of all parts in f64, in order, and gives `finish` each channel with its two sums. The arrays
/// have the first sum of every channel and the second, in turns.
pub(crate) fn finish_sums(
    context: Context,
    arrays: &[f32],
    channels: usize,
    finish: impl Fn(usize, f64, f64) + Sync,
) {
    let groups = Parts::new(channels.div_ceil(GROUP), 2 * GROUP * (arrays.len() / channels));
    context.pool.run(groups.count(), |_, part| {
        context.isa.run(Finish { arrays, channels, groups: groups.range(part), finish: &finish });
    });
}

/// The runs of a part, one after the other.
struct AddUp<'a, P> {
    pixels: Range<usize>,
    channels: usize,
    pass: &'a P,
    /// The part's own: [`arrays`] of twice as many floats as there are channels.
    arrays: *mut f32,
}

impl<P: Pass> Kernel for AddUp<'_, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (channels, pass) = (self.channels, self.pass);
        for start in self.pixels.clone().step_by(RUN) {
            if start > self.pixels.start {
                self.end_run(simd);
            }
            Walk { pixels: start..self.pixels.end.min(start + RUN), channels, pass }.tiles(simd);
        }
    }
}

impl<P> AddUp<'_, P> {
    /// Adds the sums of a run to the totals, which lose nothing, and begins them anew.
    ///
    /// Source: Knuth, The Art of Computer Programming, volume 2, 4.2.2: the error of a rounded sum is a number
    /// of the same precision.
    #[inline(always)]
    fn end_run<S: Simd>(&self, simd: S) {
        let len = 2 * self.channels;
        for at in (0..len).step_by(S::LANES) {
            let count = S::LANES.min(len - at);
            let [run, total, lost] = [0, 1, 2].map(|array| self.arrays.wrapping_add(array * len + at));
            // SAFETY: a part of several runs has three arrays with `count` floats there, which are this part's
            // alone.
            unsafe {
                let (a, b) = (simd.load_up_to(total, count), simd.load_up_to(run, count));
                let sum = simd.add(a, b);
                let added = simd.sub(sum, a);
                let error = simd.add(simd.sub(a, simd.sub(sum, added)), simd.sub(b, added));
                simd.store_up_to(total, sum, count);
                simd.store_up_to(lost, simd.add(simd.load_up_to(lost, count), error), count);
                simd.store_up_to(run, simd.zero(), count);
            }
        }
    }
}

/// Channels whose sums over the parts are taken side by side.
const GROUP: usize = 16;

struct Finish<'a, F> {
    arrays: &'a [f32],
    channels: usize,
    groups: Range<usize>,
    finish: &'a F,
}

impl<F: Fn(usize, f64, f64)> Kernel for Finish<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let channels = self.channels;
        for group in self.groups {
            let (start, end) = (group * GROUP, channels.min((group + 1) * GROUP));
            let mut totals = [[0.0; GROUP]; 2];
            for (array, floats) in self.arrays.chunks_exact(channels).enumerate() {
                let totals = totals[array % 2].iter_mut();
                totals.zip(&floats[start..end]).for_each(|(sum, x)| *sum += f64::from(*x));
            }
            (start..end).for_each(|c| (self.finish)(c, totals[0][c - start], totals[1][c - start]));
        }
    }
}
