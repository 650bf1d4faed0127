//! Depthwise convolution: as many groups as channels and filters, so that every channel is filtered by itself.
//!
//! There is no matrix product in it: nine multiply-adds for each float read make it a memory-bound pass. The
//! lanes of a vector are channels, and a register tile is some output pixels of one vector of channels, so that
//! an input pixel is loaded once for all windows of the tile that see it.
//!
//! | pass | file | what it is |
//! |---|---|---|
//! | forward, input gradient | `depthwise_gather` | y[p, c] = sum over taps t of x[p at t, c] w[t, c] |
//! | weight gradient | `depthwise_weight_gradient` | dw[t, c] = sum over pixels p of x[p at t, c] dy[p, c] |
//!
//! Weights lie as `[tap][channels]`, channels padded with zeros to whole vectors. The input gradient reads them
//! in the order in which its windows see them: backwards for stride 1, each phase of the stride by itself
//! otherwise.

use super::depthwise_gather::Gather;
use super::layout::Panels;
use super::taps::{self, Phase, Tap};
use super::{Conv2dShape, Isa, Pass, depthwise_weight_gradient};

/// Runs a block for each `$index` from 0 up to a constant of at most 17, with the loop unrolled: the register
/// tiles of depthwise convolutions are too large for the compiler to unroll by itself, and what is indexed by a
/// loop's variable lies in memory.
macro_rules! unroll {
    ($index:ident < $end:expr, $body:block) => {
        unroll!(@ $index, $end, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    };
    (@ $index:ident, $end:expr, $body:block, $($value:literal)*) => {
        $({
            let $index: usize = $value;
            if $index < $end $body
        })*
    };
}
pub(super) use unroll;

/// The longest side of a tile or strip, in pixels.
pub(super) const MOST_SIDE: usize = 8;

/// Pixels of a tile's side, for maps of a size: seven divides the maps of networks for 224 pixels (112, 56, 28,
/// 14, 7), eight those of networks for 32 and 256.
pub(super) fn tile_side(size: usize) -> usize {
    if size.next_multiple_of(7) <= size.next_multiple_of(8) { 7 } else { 8 }
}

/// An image whose pixels are asked for by addresses; outside of it everything is zero.
#[derive(Clone, Copy)]
pub(super) struct Image {
    pub pointer: *const f32,
    /// Rows and columns.
    pub size: [usize; 2],
    pub ld: usize,
    /// As many zeros as a pixel has channels.
    pub zeros: *const f32,
}

impl Image {
    /// The address of a pixel; negative positions wrap around to huge ones, which are outside too.
    #[inline(always)]
    pub fn pixel(&self, row: usize, column: usize) -> *const f32 {
        let inside = row < self.size[0] && column < self.size[1];
        let pixel = row.wrapping_mul(self.size[1]).wrapping_add(column);
        if inside { self.pointer.wrapping_add(pixel.wrapping_mul(self.ld)) } else { self.zeros }
    }

    /// The addresses of some rows and columns of pixels, row by row.
    #[inline(always)]
    pub fn window(&self, first: [usize; 2], [rows, columns]: [usize; 2], addresses: &mut [*const f32]) {
        for (row, addresses) in addresses.chunks_exact_mut(columns).take(rows).enumerate() {
            for (column, address) in addresses.iter_mut().enumerate() {
                *address = self.pixel(first[0].wrapping_add(row), first[1].wrapping_add(column));
            }
        }
    }
}

/// Whether pixels are so far apart that all of them compete for a few sets of the first-level cache: it maps
/// addresses that are a multiple of four kilobytes apart to the same set.
pub(super) fn is_crowded(channels: usize) -> bool {
    (channels * size_of::<f32>()).is_multiple_of(1024)
}

/// How many floats ahead a tile prefetches: what the tile `below` it reads, or its own channels after the next
/// few, since a crowded cache keeps nothing for as long as a row of tiles takes.
pub(super) fn ahead(channels: usize, below: usize) -> usize {
    if is_crowded(channels) { 64 } else { below }
}

/// The upper left tap of a three by three kernel without gaps, if the taps are one, row by row.
pub(super) fn corner_of_3x3(taps: &[Tap]) -> Option<Tap> {
    let corner = *taps.first()?;
    let follows = |(index, tap): (usize, &Tap)| {
        tap.row == corner.row + (index / 3) as isize && tap.column == corner.column + (index % 3) as isize
    };
    (taps.len() == 9 && taps.iter().enumerate().all(follows)).then_some(corner)
}

/// A depthwise convolution, planned.
#[derive(Clone, Debug)]
pub(super) struct Depthwise {
    pub shape: Conv2dShape,
    pub output: [usize; 2],
    pub isa: Isa,
    /// The forward pass as a single phase.
    pub forward: [Phase; 1],
    /// The phases of the input gradient, their taps from the upper left on.
    pub phases: Vec<Phase>,
}

impl Depthwise {
    /// The plan for a geometry that is depthwise, with more than one channel.
    pub fn choose(shape: &Conv2dShape, [oh, ow, _]: [usize; 3], isa: Isa) -> Option<Self> {
        let channels = shape.input[2];
        if channels == 1 || shape.groups != channels || shape.filters != channels {
            return None;
        }
        let taps = taps::forward_taps(shape);
        let kernel_taps = (0..taps.len()).collect();
        let forward = [Phase { offset: [0, 0], grid: [oh, ow], taps, kernel_taps, first_tap: 0 }];
        let mut phases = taps::input_gradient_phases(shape);
        for phase in &mut phases {
            phase.taps.reverse();
            phase.kernel_taps.reverse();
        }
        Some(Self { shape: *shape, output: [oh, ow], isa, forward, phases })
    }

    /// The layout of the weights: one panel as wide as all channels.
    pub fn panels(shape: &Conv2dShape, isa: Isa) -> Panels {
        let [rows, columns] = [shape.kernel[0] * shape.kernel[1], shape.input[2]];
        Panels { groups: 1, rows, columns, width: columns.next_multiple_of(isa.lanes()), count: 1 }
    }

    /// Floats of a tap's weights.
    pub fn width(&self) -> usize {
        self.shape.input[2].next_multiple_of(self.isa.lanes())
    }

    /// Writes the weights in the order of the input gradient's taps; what no tap of dx sees is left zero.
    pub fn pack_gradient_weight(&self, weight: &[f32], packed: &mut [f32]) {
        let width = self.width();
        let order = self.phases.iter().flat_map(|phase| &phase.kernel_taps);
        let mut rows = packed.chunks_exact_mut(width);
        for (&tap, row) in order.zip(&mut rows) {
            row.copy_from_slice(&weight[tap * width..][..width]);
        }
        rows.for_each(|row| row.fill(0.0));
    }

    /// The forward pass: windows of x, a stride apart.
    pub fn forward(&self) -> Gather<'_> {
        let [h, w, channels] = self.shape.input;
        Gather {
            isa: self.isa,
            channels,
            width: self.width(),
            phases: &self.forward,
            input: [h, w],
            stride: self.shape.stride,
            output: self.output,
            output_step: [1, 1],
        }
    }

    /// The input gradient: for each phase of the stride, windows of dy side by side.
    pub fn backward_input(&self) -> Gather<'_> {
        let [h, w, channels] = self.shape.input;
        Gather {
            isa: self.isa,
            channels,
            width: self.width(),
            phases: &self.phases,
            input: self.output,
            stride: [1, 1],
            output: [h, w],
            output_step: self.shape.stride,
        }
    }

    /// Floats of scratch memory that a pass needs.
    pub fn scratch_len(&self, pass: Pass, batch: usize, threads: usize) -> usize {
        match pass {
            Pass::Forward => self.forward().scratch_len(threads),
            Pass::BackwardInput => self.backward_input().scratch_len(threads),
            Pass::BackwardWeight => depthwise_weight_gradient::scratch_len(self, batch, threads),
        }
    }

    /// The register tile of a pass, for people: `depthwise 7x7x16`.
    pub fn algorithm(&self, pass: Pass) -> String {
        let lanes = self.isa.lanes();
        let [rows, columns] = match pass {
            Pass::Forward => self.forward().tile(),
            Pass::BackwardInput => self.backward_input().tile(),
            Pass::BackwardWeight => depthwise_weight_gradient::tile(self),
        };
        format!("depthwise {rows}x{columns}x{lanes}")
    }
}
