//! The two register tiles of convolution: a few pixels by a few vectors of output channels.
//!
//! [`product`] holds MR pixels x NV vectors of sums and walks the inner dimension: a step loads NV vectors of
//! weights, broadcasts one float of each pixel and does MR x NV multiply-adds. The pixels' floats are read
//! where they lie in the NHWC input, through one pointer a pixel: no copy is made.
//!
//! [`reduction`] is its transpose: MR elements of the input patch x NV vectors of output channels, and the walk
//! goes over pixels; it sums what the weight gradient needs.
//!
//! | registers | tiles (pixels x vectors) | why |
//! |---|---|---|
//! | 32 | 28x1, 14x2, 9x3 | 28 or 27 sums, up to 3 weights, 1 broadcast |
//! | 24 | 16x1, 11x2, 7x3 | 16 to 22 sums, up to 3 weights |
//! | 16 | 12x1, 6x2 | 12 sums, up to 2 weights, 1 broadcast |
//!
//! Smaller heights serve remainders and dense layers on few images.

mod product;
mod reduction;

pub(super) use product::{Addresses, PIXEL_STEPS, ProductJob, product, product_row};
pub(super) use reduction::{Reduction, ReductionJob, reduce_bias, reduce_rows};

use crate::Isa;
use crate::simd::{Kernel, Simd};

/// Height of the full tile whose width is `vectors`.
pub(super) const fn rows_for(registers: usize, vectors: usize) -> usize {
    match (registers, vectors) {
        (32, 1) => 28,
        (32, 2) => 14,
        (32, _) => 9,
        (24, 1) => 16,
        (24, 2) => 11,
        (24, _) => 7,
        (_, 1) => 12,
        (_, _) => 6,
    }
}

/// The widest tile, in vectors.
pub(super) const fn widest(registers: usize) -> usize {
    if registers >= 24 { 3 } else { 2 }
}

/// Vector registers of an instruction set that a tile may fill.
pub(super) fn registers(isa: Isa) -> usize {
    struct Registers;
    impl Kernel for Registers {
        type Output = usize;
        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> usize {
            S::REGISTERS
        }
    }
    isa.run(Registers)
}

/// Height of the full tile whose width is `vectors`, on `isa`.
pub(super) fn rows(isa: Isa, vectors: usize) -> usize {
    rows_for(registers(isa), vectors)
}

/// Floats of a cache line.
pub(super) const LINE: usize = 16;

/// Floats of vector `j` among the first `count`.
#[inline(always)]
fn lanes_of<S: Simd>(count: usize, j: usize) -> usize {
    count.saturating_sub(j * S::LANES).min(S::LANES)
}
