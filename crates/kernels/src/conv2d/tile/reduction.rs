//! The reduction tile: patch elements x vectors of output channels, walking over pixels.

use super::lanes_of;
use crate::simd::{Kernel, Simd};

/// What a reduction tile reads and writes.
#[derive(Clone, Copy)]
pub(in crate::conv2d) struct ReductionJob {
    /// The first patch element of the first pixel.
    pub x: *const f32,
    /// Floats between the groups of patch elements of the tile (kernel rows).
    pub x_group: usize,
    /// Floats from an image to the next, from a row of pixels to the next, from a pixel's patch to the next.
    pub x_step: [usize; 3],
    /// The pixels' output gradients at this panel, and the floats between pixels; rows and images follow each
    /// other.
    pub dy: *const f32,
    pub dy_step: usize,
    pub images: usize,
    pub rows: usize,
    pub columns: usize,
    /// Output channels that exist: at most NV vectors, and some of the last.
    pub channel_count: usize,
    /// The tile's place in the weight gradient: groups are `sums_group` floats apart, elements NV vectors.
    pub sums: *mut f32,
    pub sums_group: usize,
    /// Whether to add to what is there.
    pub accumulate: bool,
}

/// The reduction tile: sums[g, i][j] = sum over pixels of x[pixel, group g, element i] times dy[pixel, j], with
/// G groups of R elements that stand side by side.
pub(in crate::conv2d) struct Reduction<const G: usize, const R: usize, const NV: usize>(pub ReductionJob);

impl<const G: usize, const R: usize, const NV: usize> Kernel for Reduction<G, R, NV> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // SAFETY: the driver vouches for the job's pointers.
        unsafe {
            match self.0.channel_count == NV * S::LANES {
                true => reduce::<S, G, R, NV, true>(simd, &self.0),
                false => reduce::<S, G, R, NV, false>(simd, &self.0),
            }
        }
    }
}

/// Loads the vectors of a pixel's gradient; `FULL` says that all channels of the panel exist. Else some of the
/// last vector's are missing, for panels are not wider than they need be
/// ([`Panels::new`](super::super::layout::Panels::new)); a mask for each vector would take registers from the
/// sums.
///
/// # Safety
/// `dy` is valid for `count` floats, which reach into the last vector.
#[inline(always)]
unsafe fn load_gradient<S: Simd, const NV: usize, const FULL: bool>(
    simd: S,
    dy: *const f32,
    count: usize,
) -> [S::Vector; NV] {
    debug_assert!(count > (NV - 1) * S::LANES);
    let mut gradients = [simd.zero(); NV];
    for j in 0..NV {
        let at = dy.wrapping_add(j * S::LANES);
        // SAFETY: the last vector is loaded whole when all channels exist, else its first lanes below `count`.
        gradients[j] = unsafe {
            if FULL || j < NV - 1 { simd.load(at) } else { simd.load_partial(at, lanes_of::<S>(count, j)) }
        };
    }
    gradients
}

/// # Safety
/// `x` is valid for every pixel's groups and elements, `dy` for `channel_count` floats of every pixel, `sums`
/// for the tile. `FULL` says that `channel_count` is NV vectors.
#[inline(always)]
unsafe fn reduce<S: Simd, const G: usize, const R: usize, const NV: usize, const FULL: bool>(
    simd: S,
    job: &ReductionJob,
) {
    let mut sums = [[[simd.zero(); NV]; R]; G];
    let mut dy = job.dy;
    for image in 0..job.images {
        for row in 0..job.rows {
            let mut x = job.x.wrapping_add(image * job.x_step[0] + row * job.x_step[1]);
            for _ in 0..job.columns {
                // SAFETY: the caller vouches for every pixel's gradient and patch.
                unsafe {
                    let gradients = load_gradient::<S, NV, FULL>(simd, dy, job.channel_count);
                    for g in 0..G {
                        for i in 0..R {
                            let value = simd.splat(*x.add(g * job.x_group + i));
                            for j in 0..NV {
                                sums[g][i][j] = simd.mul_add(value, gradients[j], sums[g][i][j]);
                            }
                        }
                    }
                }
                x = x.wrapping_add(job.x_step[2]);
                dy = dy.wrapping_add(job.dy_step);
            }
        }
    }
    for g in 0..G {
        for i in 0..R {
            for j in 0..NV {
                // SAFETY: the caller vouches for the tile's place.
                unsafe {
                    let at = job.sums.add(g * job.sums_group + (i * NV + j) * S::LANES);
                    let sum = sums[g][i][j];
                    simd.store(at, if job.accumulate { simd.add(simd.load(at), sum) } else { sum });
                }
            }
        }
    }
}

/// Sums every patch element of `kernel_rows` runs of `run` elements, with as few and as full tiles as there
/// are.
///
/// # Safety
/// As [`Reduction`], for all elements.
#[inline(always)]
pub(in crate::conv2d) unsafe fn reduce_rows<S: Simd, const NV: usize>(
    simd: S,
    job: ReductionJob,
    kernel_rows: usize,
    run: usize,
) {
    let width = NV * S::LANES;
    let mut row = 0;
    while row < kernel_rows {
        let rows = kernel_rows - row;
        let x = job.x.wrapping_add(row * job.x_group);
        let sums = job.sums.wrapping_add(row * job.sums_group);
        let job = ReductionJob { x, sums, ..job };
        // Several short kernel rows in one tile: one alone would not hide the latency of its multiply-adds.
        row += match (S::REGISTERS, NV, run, rows) {
            (24.., 1, 5, 5..) => several::<S, 5, 5, NV>(simd, job),
            (32, 1, 6, 5..) => several::<S, 5, 6, NV>(simd, job),
            (24.., 1, 9, 3..) => several::<S, 3, 9, NV>(simd, job),
            (24.., 1 | 2, 3, 3..) => several::<S, 3, 3, NV>(simd, job),
            (24.., 2, 5, 2..) => several::<S, 2, 5, NV>(simd, job),
            (16, 1, 5, 2..) => several::<S, 2, 5, NV>(simd, job),
            (16, 1, 3, 3..) => several::<S, 3, 3, NV>(simd, job),
            (16, 2, 3, 2..) => several::<S, 2, 3, NV>(simd, job),
            _ => {
                let mut element = 0;
                while element < run {
                    let x = job.x.wrapping_add(element);
                    let sums = job.sums.wrapping_add(element * width);
                    element += one_row::<S, NV>(simd, ReductionJob { x, sums, ..job }, run - element);
                }
                1
            }
        };
    }
}

/// Runs a tile of G kernel rows of R elements; returns G.
#[inline(always)]
fn several<S: Simd, const G: usize, const R: usize, const NV: usize>(simd: S, job: ReductionJob) -> usize {
    simd.enter(Reduction::<G, R, NV>(job));
    G
}

/// Runs the tile that brings the `rest` elements of a run to an even end soonest; returns its elements.
#[inline(always)]
fn one_row<S: Simd, const NV: usize>(simd: S, job: ReductionJob, rest: usize) -> usize {
    macro_rules! tiles {
        ($largest:literal: $($elements:literal)*) => {{
            // As many tiles as the largest size needs, of the size that shares the elements evenly.
            let wanted = rest.div_ceil(rest.div_ceil($largest));
            $(if wanted >= $elements || $elements == 1 {
                simd.enter(Reduction::<1, $elements, NV>(job));
                return $elements;
            })*
        }};
    }
    match (S::REGISTERS, NV) {
        (32, 1) => tiles!(30: 30 28 26 24 20 16 12 8 6 5 4 3 2 1),
        (32, 2) => tiles!(14: 14 13 12 11 10 9 8 6 5 4 3 2 1),
        (32, _) => tiles!(9: 9 8 6 4 3 2 1),
        (24, 1) => tiles!(24: 24 20 16 12 8 6 5 4 3 2 1),
        (24, 2) => tiles!(12: 12 11 10 9 8 6 5 4 3 2 1),
        (24, _) => tiles!(8: 8 6 4 3 2 1),
        (_, 1) => tiles!(12: 12 10 8 6 5 4 3 2 1),
        (_, 2) => tiles!(6: 6 5 4 3 2 1),
        _ => unreachable!("{NV} vectors are wider than the widest tile"),
    }
    unreachable!("every list of tiles ends in 1")
}

/// Adds up the output gradients of all pixels: the bias gradient of a panel.
///
/// # Safety
/// As [`Reduction`], and `to` is valid for `channel_count` floats.
#[inline(always)]
pub(in crate::conv2d) unsafe fn reduce_bias<S: Simd, const NV: usize>(
    simd: S,
    job: &ReductionJob,
    to: *mut f32,
) {
    /// Sums that do not wait for each other.
    const CHAINS: usize = 4;
    let count = job.channel_count;
    let pixels = job.images * job.rows * job.columns;
    let mut sums = [[simd.zero(); NV]; CHAINS];
    for pixel in (0..pixels).step_by(CHAINS) {
        for chain in 0..CHAINS.min(pixels - pixel) {
            let dy = job.dy.wrapping_add((pixel + chain) * job.dy_step);
            // SAFETY: the caller vouches for every pixel's gradient.
            let gradients = unsafe { load_gradient::<S, NV, false>(simd, dy, count) };
            for j in 0..NV {
                sums[chain][j] = simd.add(sums[chain][j], gradients[j]);
            }
        }
    }
    for j in 0..NV {
        let lanes = lanes_of::<S>(count, j);
        let sum = simd.add(simd.add(sums[0][j], sums[1][j]), simd.add(sums[2][j], sums[3][j]));
        // SAFETY: the first lanes below channel_count.
        unsafe {
            let at = to.wrapping_add(j * S::LANES);
            let sum = if job.accumulate { simd.add(simd.load_partial(at, lanes), sum) } else { sum };
            simd.store_partial(at, sum, lanes);
        }
    }
}
