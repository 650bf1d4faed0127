//! The product tile: pixels x vectors of output channels, walking over taps and input channels.

use super::super::moments::{Group, Running};
use super::{LINE, lanes_of};
use crate::Activation;
use crate::activation::finish;
use crate::simd::{Kernel, Simd};

/// Where the pixels of a product tile are, relative to each other.
#[derive(Clone, Copy)]
pub(in crate::conv2d) enum Addresses {
    /// A pointer for each tap and pixel, `[tap][pitch]`: taps outside the input point to zeros.
    Indirect,
    /// A pointer for each pixel, and one offset in floats for each tap, the same for all pixels.
    Offsets(*const isize),
}

/// Distances between neighbouring pixels of a row for which there are tiles with one pointer in all, in floats:
/// input channels times stride of first layers (LeNet 1, two pixels abreast 2; CIFAR networks 3; ResNet,
/// GoogLeNet and MobileNet 6; AlexNet 12).
pub(in crate::conv2d) const PIXEL_STEPS: [usize; 5] = [1, 2, 3, 6, 12];

/// What a product tile reads and writes. Plain pointers: the driver has checked the geometry once.
#[derive(Clone, Copy)]
pub(in crate::conv2d) struct ProductJob {
    /// Pixel pointers, `[tap][pitch]` or `[pitch]` as `addresses` says; for a row of pixels, the first's.
    pub pixels: *const *const f32,
    pub addresses: Addresses,
    /// Pixel pointers from one tap to the next.
    pub pitch: usize,
    pub taps: usize,
    /// Where in each tap the floats begin, and how many there are, side by side.
    pub start: usize,
    pub run: usize,
    /// One panel of weights, `[tap][run][NV vectors]`.
    pub weight: *const f32,
    /// Where each pixel's output channels begin; for a row of pixels, where the first's do.
    pub outputs: *const *mut f32,
    /// Likewise for the tile whose outputs to ask for: the next, or this one.
    pub next_outputs: *const *mut f32,
    /// For a row of pixels, floats between their outputs.
    pub output_step: usize,
    /// The output channel at which this panel begins.
    pub column: usize,
    /// Pixels to store; the tile computes the rest on copies of the last pixel's addresses.
    pub pixel_count: usize,
    /// Output channels to store, at most NV vectors.
    pub channel_count: usize,
    /// `channel_count` floats, or null for none.
    pub bias: *const f32,
    /// What earlier products left for this tile, `[pixel][NV vectors]` for all of its pixels; or null for
    /// nothing.
    pub sums: *const f32,
    /// Where to leave the sums for later products, likewise, instead of storing outputs; or null.
    pub keep: *mut f32,
    /// Floats from an output to what is added to it before the activation, if something is.
    pub residual: Option<isize>,
    /// Applied last, where nothing is kept.
    pub activation: Activation,
    /// Whether whole tiles are written past the caches; outputs and panels then begin at multiples of a cache
    /// line.
    pub stream: bool,
    /// The group of pixels to which the results are added, if to one, and whether it begins here. There is no
    /// residual and no activation then.
    pub moments: Option<(Group, bool)>,
    /// What will be read next, in mapped memory: the steps of the first tap ask for one cache line each from
    /// the first address on, those of the other taps from the second. Nothing happens in a row of pixels, which
    /// is short and finds the next one beside it.
    pub ahead: [*const f32; 2],
}

impl ProductJob {
    /// A full tile of one tap whose sums are only stored, with no floats to walk and no channels to store as
    /// yet.
    #[inline(always)]
    pub fn new(
        pixels: *const *const f32,
        addresses: Addresses,
        pitch: usize,
        outputs: *const *mut f32,
    ) -> Self {
        Self {
            pixels,
            addresses,
            pitch,
            taps: 1,
            start: 0,
            run: 0,
            weight: std::ptr::null(),
            outputs,
            next_outputs: outputs,
            output_step: 0,
            column: 0,
            pixel_count: pitch,
            channel_count: 0,
            bias: std::ptr::null(),
            sums: std::ptr::null(),
            keep: std::ptr::null_mut(),
            residual: None,
            activation: Activation::None,
            stream: false,
            moments: None,
            ahead: [std::ptr::null(); 2],
        }
    }

    /// Where the output channels of pixel `i` begin.
    ///
    /// # Safety
    /// The pixel exists.
    #[inline(always)]
    unsafe fn output<const STEP: usize>(&self, i: usize) -> *mut f32 {
        // SAFETY: `outputs` has an entry for the pixel, or for the first of its row.
        unsafe {
            match STEP {
                0 => (*self.outputs.add(i)).add(self.column),
                _ => (*self.outputs).add(i * self.output_step + self.column),
            }
        }
    }

    /// Asks for the lines that the next tile will write, or add: it stores all at once, which would wait for
    /// each of them.
    ///
    /// # Safety
    /// `next_outputs` has MR entries.
    #[inline(always)]
    unsafe fn fetch_outputs<S: Simd, const MR: usize, const NV: usize>(&self, simd: S) {
        for i in 0..MR {
            // SAFETY: the caller vouches for the entry.
            let output = unsafe { *self.next_outputs.add(i) }.wrapping_add(self.column);
            let output = output.wrapping_offset(self.residual.unwrap_or(0));
            for at in (0..NV * S::LANES).step_by(LINE) {
                simd.prefetch(output.wrapping_add(at));
            }
        }
    }
}

/// The product tile: sums[i][j] = bias[j] or what was there + sum over taps and run of pixel i times weight j.
///
/// With a STEP the pixels stand STEP floats apart and need one address: twenty-eight pointers do not fit into
/// the registers, and with runs as short as a first layer's, loading them anew for each tap takes longer than
/// the products. Without (STEP = 0) each pixel has its pointer.
///
/// The job stays where it is: what is copied of it is read several fields at a time, right after the caller has
/// written them one by one, and such a read waits until all stores before it, the outputs of the last tile too,
/// have reached the cache.
pub(in crate::conv2d) struct Product<'a, const MR: usize, const NV: usize, const STEP: usize>(
    pub &'a ProductJob,
);

impl<const MR: usize, const NV: usize, const STEP: usize> Kernel for Product<'_, MR, NV, STEP> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let job = self.0;
        // SAFETY: the driver vouches for every pointer: `pitch >= MR` valid pixels of `run` floats for each
        // tap, a panel of taps x run x NV vectors, `pixel_count` outputs of `channel_count` floats, as many of
        // bias and residual.
        unsafe {
            let mut sums = [[simd.zero(); NV]; MR];
            if !job.bias.is_null() {
                let full = job.channel_count >= NV * S::LANES;
                for j in 0..NV {
                    let bias = job.bias.wrapping_add(j * S::LANES);
                    let bias = match full {
                        true => simd.load(bias),
                        false => simd.load_partial(bias, lanes_of::<S>(job.channel_count, j)),
                    };
                    for i in 0..MR {
                        sums[i][j] = bias;
                    }
                }
            }
            if !job.sums.is_null() {
                for i in 0..MR {
                    for j in 0..NV {
                        sums[i][j] = simd.load(job.sums.add((i * NV + j) * S::LANES));
                    }
                }
            }
            if STEP == 0 && job.keep.is_null() && (job.residual.is_some() || !job.stream) {
                job.fetch_outputs::<S, MR, NV>(simd);
            }
            let (mut weight, [mut ahead, later]) = (job.weight, job.ahead);
            for tap in 0..job.taps {
                let mut pixels = [std::ptr::null::<f32>(); MR];
                match job.addresses {
                    Addresses::Indirect => {
                        for i in 0..MR {
                            pixels[i] = (*job.pixels.add(tap * job.pitch + i)).wrapping_add(job.start);
                        }
                    }
                    Addresses::Offsets(offsets) => {
                        let offset = *offsets.add(tap) + job.start as isize;
                        for i in 0..if STEP == 0 { MR } else { 1 } {
                            pixels[i] = (*job.pixels.add(i)).wrapping_offset(offset);
                        }
                    }
                }
                for step in 0..job.run {
                    if STEP == 0 {
                        simd.prefetch(ahead);
                        ahead = ahead.wrapping_add(LINE);
                    }
                    let mut weights = [simd.zero(); NV];
                    for j in 0..NV {
                        weights[j] = simd.load(weight.add(j * S::LANES));
                    }
                    weight = weight.add(NV * S::LANES);
                    for i in 0..MR {
                        let pixel = match STEP {
                            0 => simd.splat(*pixels[i].add(step)),
                            _ => simd.splat(*pixels[0].add(step + i * STEP)),
                        };
                        for j in 0..NV {
                            sums[i][j] = simd.mul_add(pixel, weights[j], sums[i][j]);
                        }
                    }
                }
                if tap == 0 {
                    ahead = later;
                }
            }
            store::<S, MR, NV, STEP>(simd, job, sums);
            if job.activation.is_late() && job.keep.is_null() {
                simd.enter(FinishTile { job, in_a_row: STEP > 0 });
            }
        }
    }
}

/// Applies a late activation to what a tile has just stored: one function for tiles of all sizes.
struct FinishTile<'a> {
    job: &'a ProductJob,
    in_a_row: bool,
}

impl Kernel for FinishTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { job, in_a_row } = self;
        // SAFETY: the driver vouches for the outputs of `pixel_count` pixels; a job has no more than its tile.
        unsafe {
            let output = |i: usize| if in_a_row { job.output::<1>(i) } else { job.output::<0>(i) };
            finish(simd, job.activation, (0..job.pixel_count).map(output), job.channel_count);
        }
    }
}

/// Applies a ReLU and writes the pixels and channels that exist.
///
/// # Safety
/// `outputs` and `output_step` give `pixel_count` outputs of `channel_count` writable floats; `keep`, if not
/// null, has room for the tile.
#[inline(always)]
unsafe fn store<S: Simd, const MR: usize, const NV: usize, const STEP: usize>(
    simd: S,
    job: &ProductJob,
    sums: [[S::Vector; NV]; MR],
) {
    if !job.keep.is_null() {
        for i in 0..MR {
            for j in 0..NV {
                // SAFETY: there is room for all of the tile.
                unsafe { simd.store(job.keep.add((i * NV + j) * S::LANES), sums[i][j]) };
            }
        }
        return;
    }
    let some = (S::LANES.div_ceil(2)..S::LANES).contains(&job.channel_count);
    let side_by_side = NV == 1 && some && job.output_step == job.channel_count;
    if STEP > 0 && side_by_side && job.pixel_count == MR && job.residual.is_none() && job.moments.is_none() {
        // SAFETY: the caller vouches for all pixels, which stand side by side.
        return unsafe { store_side_by_side::<S, MR, NV, STEP>(simd, job, sums) };
    }
    if job.moments.is_some() {
        simd.enter(AddMoments::<S, MR, NV> { job, sums });
    }
    if job.pixel_count < MR || job.channel_count < NV * S::LANES {
        return simd.enter(StoreSome::<S, MR, NV, STEP> { job, sums });
    }
    let sums = match job.residual {
        None => sums,
        Some(residual) => {
            let mut added = sums;
            for i in 0..MR {
                for j in 0..NV {
                    // SAFETY: all pixels and channels exist, in the residual, too.
                    added[i][j] = unsafe {
                        let at = job.output::<STEP>(i).add(j * S::LANES).wrapping_offset(residual);
                        simd.add(sums[i][j], simd.load(at))
                    };
                }
            }
            added
        }
    };
    for i in 0..MR {
        for j in 0..NV {
            let sum = if job.activation == Activation::Relu {
                simd.max(simd.zero(), sums[i][j])
            } else {
                sums[i][j]
            };
            // SAFETY: all pixels and channels exist; what is streamed is aligned.
            unsafe {
                let at = job.output::<STEP>(i).add(j * S::LANES);
                if job.stream { simd.stream(at, sum) } else { simd.store(at, sum) }
            }
        }
    }
}

/// Stores a row of pixels that stand side by side and are as long as half a vector at least, in whole vectors:
/// what one writes too far is overwritten by the next.
///
/// # Safety
/// As [`store`], all pixels exist, there is no residual.
#[inline(always)]
unsafe fn store_side_by_side<S: Simd, const MR: usize, const NV: usize, const STEP: usize>(
    simd: S,
    job: &ProductJob,
    mut sums: [[S::Vector; NV]; MR],
) {
    if job.activation == Activation::Relu {
        for i in 0..MR {
            sums[i][0] = simd.max(simd.zero(), sums[i][0]);
        }
    }
    // SAFETY: each pixel but the last has another behind it, which is half a vector or more.
    unsafe {
        for i in 0..MR - 1 {
            simd.store(job.output::<STEP>(i), sums[i][0]);
        }
        simd.store_partial(job.output::<STEP>(MR - 1), sums[MR - 1][0], job.channel_count);
    }
}

/// Adds a tile's results to the moments of its group, if it has one. A function of its own as [`StoreSome`] is:
/// it counts off sums, too.
struct AddMoments<'a, S: Simd, const MR: usize, const NV: usize> {
    job: &'a ProductJob,
    sums: [[S::Vector; NV]; MR],
}

impl<T: Simd, const MR: usize, const NV: usize> Kernel for AddMoments<'_, T, MR, NV> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { job, sums } = self;
        let sums = sums.as_ptr().cast::<f32>();
        if let Some((group, begins)) = job.moments {
            for j in 0..job.channel_count.div_ceil(S::LANES) {
                // SAFETY: `store` enters the set whose vectors these are; the panel's vectors have channels,
                // and the group is this thread's at them.
                unsafe {
                    let at = |i: usize| simd.load(sums.add((i * NV + j) * S::LANES));
                    let mut running = Running::new(simd, group, job.column + j * S::LANES, begins, at(0));
                    for i in 0..job.pixel_count.min(MR) {
                        running.add(simd, i, at(i));
                    }
                    running.end(simd);
                }
            }
        }
    }
}

/// Stores a tile of which not all pixels and channels exist. It counts off sums that lie in memory, so it is a
/// function of its own: in the tile's they would lie there, and be stored at each step, during the
/// multiplication too.
struct StoreSome<'a, S: Simd, const MR: usize, const NV: usize, const STEP: usize> {
    job: &'a ProductJob,
    sums: [[S::Vector; NV]; MR],
}

impl<T: Simd, const MR: usize, const NV: usize, const STEP: usize> Kernel for StoreSome<'_, T, MR, NV, STEP> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { job, sums } = self;
        let sums = sums.as_ptr().cast::<f32>();
        for i in 0..job.pixel_count.min(MR) {
            for j in 0..NV {
                let lanes = lanes_of::<S>(job.channel_count, j);
                // SAFETY: `store` enters the set whose vectors these are; its caller vouches for the pixels and
                // channels that exist.
                unsafe {
                    let at = job.output::<STEP>(i).wrapping_add(j * S::LANES);
                    let mut sum = simd.load(sums.add((i * NV + j) * S::LANES));
                    if let Some(residual) = job.residual {
                        sum = simd.add(sum, simd.load_partial(at.wrapping_offset(residual), lanes));
                    }
                    let sum =
                        if job.activation == Activation::Relu { simd.max(simd.zero(), sum) } else { sum };
                    match job.stream && lanes == S::LANES {
                        true => simd.stream(at, sum),
                        false => simd.store_partial(at, sum, lanes),
                    }
                }
            }
        }
    }
}

/// Runs the smallest product tile of width NV that holds the job's pixels.
///
/// # Safety
/// As [`Product`] asks, for the tile's height.
#[inline(always)]
pub(in crate::conv2d) unsafe fn product<S: Simd, const NV: usize>(simd: S, job: &ProductJob) {
    macro_rules! smallest {
        ($($height:literal)* | $full:literal) => {{
            $(if job.pixel_count <= $height {
                return simd.enter(Product::<$height, NV, 0>(job));
            })*
            simd.enter(Product::<$full, NV, 0>(job))
        }};
    }
    match (S::REGISTERS, NV) {
        (32, 1) => smallest!(1 4 8 16 20 | 28),
        (32, 2) => smallest!(1 2 4 8 10 12 | 14),
        (32, _) => smallest!(1 3 6 | 9),
        (24, 1) => smallest!(1 4 8 | 16),
        (24, 2) => smallest!(1 2 4 8 | 11),
        (24, _) => smallest!(1 3 5 | 7),
        (_, 1) => smallest!(1 4 8 | 12),
        (_, 2) => smallest!(1 2 4 | 6),
        _ => unreachable!("{NV} vectors are wider than the widest tile"),
    }
}

/// As [`product`], for pixels of one row that stand `step` floats apart, one of [`PIXEL_STEPS`].
///
/// # Safety
/// As [`product`]; besides, the floats that the full tile's pixels would have are readable.
#[inline(always)]
pub(in crate::conv2d) unsafe fn product_row<S: Simd, const NV: usize>(
    simd: S,
    job: &ProductJob,
    step: usize,
) {
    macro_rules! smallest {
        ($step:literal: $($height:literal)* | $full:literal) => {{
            $(if job.pixel_count <= $height {
                return simd.enter(Product::<$height, NV, $step>(job));
            })*
            simd.enter(Product::<$full, NV, $step>(job))
        }};
        ($($height:literal)* | $full:literal) => {
            match step {
                1 => smallest!(1: $($height)* | $full),
                2 => smallest!(2: $($height)* | $full),
                3 => smallest!(3: $($height)* | $full),
                6 => smallest!(6: $($height)* | $full),
                _ => smallest!(12: $($height)* | $full),
            }
        };
    }
    match (S::REGISTERS, NV) {
        (32, 1) => smallest!(10 14 16 | 28),
        (32, 2) => smallest!(8 | 14),
        (32, _) => smallest!(5 | 9),
        (24, 1) => smallest!(8 | 16),
        (24, 2) => smallest!(6 | 11),
        (24, _) => smallest!(4 | 7),
        (_, 1) => smallest!(8 10 | 12),
        (_, 2) => smallest!(4 | 6),
        _ => unreachable!("{NV} vectors are wider than the widest tile"),
    }
}
