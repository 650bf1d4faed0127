//! Max and average pooling.
//!
//! | pass | file | what it is |
//! |---|---|---|
//! | maximum | `max` | keeps the position of each window's winner beside it; backward scatters by it |
//! | maximum of a normalized map | `normalized` | the same without writing that map |
//! | average | `average` | sums each window; backward spreads over it |
//! | average to a given size | `adaptive` | the same, with windows of several sizes |
//! | maximum of the whole image | `global_max` | backward looks for the winner again |
//!
//! The first two walk over the output rows in order and look at a run of windows at a time: all that lie inside
//! the image, or one that its border cuts. Channels stand side by side in vectors. Whole windows of 2 x 2 and 3
//! x 3 taps, nearly all in practice, have their loops unrolled; other sizes, and cut windows, go through the
//! same code with loops.
//!
//! Shapes: x `[n, h, w, c]` -> y `[n, h', w', c]`.

mod adaptive;
mod average;
mod global_max;
mod max;
mod normalized;
#[cfg(test)]
mod tests;

pub use adaptive::AdaptiveAvgPool2d;
pub use average::AvgPool2d;
pub use global_max::{global_max_pool, global_max_pool_backward};
pub use max::MaxPool2d;
pub use normalized::{NormalizedBackward, PooledGradient};

use crate::Isa;
use crate::parts::Parts;
use crate::simd::{Kernel, Simd};
use std::ops::Range;

/// Geometry of a pooling. Sizes are `[height, width]`, in pixels. Equals PyTorch's `MaxPool2d` and `AvgPool2d`,
/// with padding a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2dShape {
    /// Input height, width and channels.
    pub input: [usize; 3],
    /// Window height and width.
    pub size: [usize; 2],
    /// Step between windows.
    pub stride: [usize; 2],
    /// Pixels around the input: top, right, bottom, left, each smaller than the window.
    pub padding: [usize; 4],
    /// Rounds the output size up: the last window may reach beyond the padding if it starts inside the input or
    /// the padding before it.
    pub ceil_mode: bool,
}

/// Why a geometry is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool2dError {
    /// A size that must be positive is zero.
    Zero(&'static str),
    /// A size is too large for products of sizes to be computed.
    TooLarge(usize),
    /// A window could lie in the padding altogether.
    Padding {
        /// Top, right, bottom, left.
        padding: [usize; 4],
        /// Height and width of the window.
        size: [usize; 2],
    },
    /// The window is larger than the padded input.
    WindowTooLarge {
        /// Height and width of the window.
        size: [usize; 2],
        /// Height and width of the padded input.
        padded: [usize; 2],
    },
    /// A position in the window does not fit into the byte that max pooling keeps.
    TooManyTaps([usize; 2]),
}

impl std::fmt::Display for Pool2dError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Zero(what) => write!(f, "Expected a positive {what} but received 0."),
            Self::TooLarge(size) => write!(f, "Expected sizes of at most {LARGEST} but received {size}."),
            Self::Padding { padding, size: [height, width] } => {
                write!(
                    f,
                    "Expected padding smaller than the {height} x {width} window but received {padding:?}."
                )
            }
            Self::WindowTooLarge { size: [height, width], padded: [ph, pw] } => {
                write!(f, "A {height} x {width} window does not fit into a padded input of {ph} x {pw}.")
            }
            Self::TooManyTaps([height, width]) => {
                write!(f, "Expected a window of at most {MOST_TAPS} pixels but received {height} x {width}.")
            }
        }
    }
}

impl std::error::Error for Pool2dError {}

/// No size may pass this: the sum of two and the product of two fit into 64 bits.
const LARGEST: usize = 1 << 30;

/// Taps of a max pooling window: positions 0..=254 fit into a byte.
const MOST_TAPS: usize = 255;

impl Pool2dShape {
    /// Output height, width and channels.
    pub fn output(&self) -> Result<[usize; 3], Pool2dError> {
        let [vertical, horizontal] = self.axes()?;
        Ok([vertical.output, horizontal.output, self.input[2]])
    }

    /// Both axes, checked.
    fn axes(&self) -> Result<[Axis; 2], Pool2dError> {
        let named = [
            (self.input[0], "input height"),
            (self.input[1], "input width"),
            (self.input[2], "number of channels"),
            (self.size[0].min(self.size[1]), "window size"),
            (self.stride[0].min(self.stride[1]), "stride"),
        ];
        if let Some((_, what)) = named.into_iter().find(|(size, _)| *size == 0) {
            return Err(Pool2dError::Zero(what));
        }
        let mut sizes = self.input.iter().chain(&self.size).chain(&self.stride).chain(&self.padding);
        if let Some(&size) = sizes.find(|size| **size > LARGEST) {
            return Err(Pool2dError::TooLarge(size));
        }
        let [top, right, bottom, left] = self.padding;
        if top.max(bottom) >= self.size[0] || left.max(right) >= self.size[1] {
            return Err(Pool2dError::Padding { padding: self.padding, size: self.size });
        }
        let axes = [(0, top, bottom), (1, left, right)].map(|(axis, before, after)| {
            let (input, size, stride) = (self.input[axis], self.size[axis], self.stride[axis]);
            let padded = input + before + after;
            let rounded = padded + if self.ceil_mode { stride - 1 } else { 0 };
            let count = rounded.checked_sub(size).map_or(0, |rest| rest / stride + 1);
            let starts_outside = count > 1 && (count - 1) * stride >= input + before;
            let output = count - usize::from(self.ceil_mode && starts_outside);
            Axis { input, size, stride, before, padded, output }
        });
        if axes.iter().any(|axis| axis.output == 0) {
            return Err(Pool2dError::WindowTooLarge {
                size: self.size,
                padded: axes.map(|axis| axis.padded),
            });
        }
        Ok(axes)
    }
}

/// One direction of the geometry. Every window has a tap inside the image: padding is smaller than the window,
/// and none starts behind the image.
#[derive(Clone, Copy, Debug)]
struct Axis {
    input: usize,
    size: usize,
    stride: usize,
    before: usize,
    padded: usize,
    output: usize,
}

impl Axis {
    /// The taps of a window that lie inside the image.
    #[inline(always)]
    fn taps(&self, window: usize) -> Range<usize> {
        let start = window * self.stride;
        self.before.saturating_sub(start)..self.size.min(self.before + self.input - start)
    }

    /// The first pixel of the image that a window covers.
    #[inline(always)]
    fn first(&self, window: usize) -> usize {
        (window * self.stride).saturating_sub(self.before)
    }

    /// The taps of a window inside image and padding.
    #[inline(always)]
    fn taps_with_padding(&self, window: usize) -> usize {
        self.size.min(self.padded - window * self.stride)
    }

    /// The windows that lie inside the image.
    fn interior(&self) -> Range<usize> {
        let last_start = (self.before + self.input).checked_sub(self.size);
        let end = last_start.map_or(0, |start| start / self.stride + 1).min(self.output);
        self.before.div_ceil(self.stride).min(end)..end
    }

    /// Whether each pixel lies in exactly one window, and each window inside the image.
    fn tiles(&self) -> bool {
        let beside = self.size == self.stride || self.output == 1;
        beside && self.output * self.size == self.input && self.before == 0
    }
}

/// A geometry that has been checked.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    shape: Pool2dShape,
    vertical: Axis,
    horizontal: Axis,
}

impl Geometry {
    fn new(shape: Pool2dShape) -> Result<Self, Pool2dError> {
        let [vertical, horizontal] = shape.axes()?;
        Ok(Self { shape, vertical, horizontal })
    }

    /// The shape of x for `n` images.
    fn input(&self, n: usize) -> [usize; 4] {
        let [h, w, c] = self.shape.input;
        [n, h, w, c]
    }

    /// The shape of y for `n` images.
    fn output(&self, n: usize) -> [usize; 4] {
        [n, self.vertical.output, self.horizontal.output, self.shape.input[2]]
    }

    /// Whether each pixel of x lies in exactly one window, so that a gradient is stored and not added.
    fn tiles(&self) -> bool {
        self.vertical.tiles() && self.horizontal.tiles()
    }

    /// Cuts a pass over `n` images into parts of `rows` output rows each: 1, or all of an image.
    fn parts(&self, n: usize, rows: usize) -> Parts {
        // Vectors are mostly empty where there are few channels, and cost as much.
        let channels = self.shape.input[2].next_multiple_of(16);
        let taps =
            self.shape.size[0].min(self.vertical.input) * self.shape.size[1].min(self.horizontal.input);
        let row = self.horizontal.output.saturating_mul(channels).saturating_mul(taps + 2);
        Parts::new(n * self.vertical.output / rows, row.saturating_mul(rows))
    }

    /// Shows `visitor` every window of the output rows `rows`, counted over all images, row by row.
    fn walk(&self, isa: Isa, rows: Range<usize>, visitor: impl Visitor) {
        let geometry = self;
        match self.shape.size {
            [2, 2] => isa.run(Walk::<_, 2, 2> { geometry, rows, visitor }),
            [3, 3] => isa.run(Walk::<_, 3, 3> { geometry, rows, visitor }),
            _ => isa.run(Walk::<_, 0, 0> { geometry, rows, visitor }),
        }
    }
}

/// Neighbouring windows of an output row that have the same taps inside the image.
struct Windows {
    /// How many.
    count: usize,
    /// Pixel of x under the first tap of the first, and its pixel of y, each counted over all images.
    x: usize,
    y: usize,
    /// Pixels of x from one to the next.
    stride: usize,
    /// Taps inside the image.
    rows: Range<usize>,
    columns: Range<usize>,
    /// Columns of a whole window.
    width: usize,
    /// Taps inside image and padding.
    with_padding: usize,
}

/// What pooling does at a window.
trait Visitor {
    /// Vectors that a vector of channels keeps in registers from tap to tap.
    const STATE: usize = 2;

    /// Handles `B` neighbouring vectors of channels, from `channel` on, of each window; the only one of `B = 1`
    /// may be partial, `count` channels. Implementations are `#[inline(always)]`.
    ///
    /// # Safety
    /// The windows are some of the geometry that the visitor's views were checked against, and the channels are
    /// some of theirs.
    unsafe fn visit<S: Simd, const B: usize>(&self, simd: S, windows: &Windows, channel: usize, count: usize);
}

/// The walk over the windows of some output rows. `H` and `W` are the window's size where it is worth code of
/// its own, otherwise 0.
struct Walk<'a, V, const H: usize, const W: usize> {
    geometry: &'a Geometry,
    rows: Range<usize>,
    visitor: V,
}

impl<V: Visitor, const H: usize, const W: usize> Kernel for Walk<'_, V, H, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Geometry { vertical, horizontal, .. } = self.geometry;
        let interior = horizontal.interior();
        for row in self.rows.clone() {
            for column in 0..interior.start {
                self.channels(simd, &self.windows(row, column, 1));
            }
            if !interior.is_empty() {
                let windows = self.windows(row, interior.start, interior.len());
                if H > 0 && vertical.taps(row % vertical.output).len() == H {
                    let (rows, columns) = (0..H, 0..W);
                    self.channels(simd, &Windows { rows, columns, width: W, with_padding: H * W, ..windows });
                } else {
                    self.channels(simd, &windows);
                }
            }
            for column in interior.end..horizontal.output {
                self.channels(simd, &self.windows(row, column, 1));
            }
        }
    }
}

impl<V: Visitor, const H: usize, const W: usize> Walk<'_, V, H, W> {
    /// All channels of some windows.
    #[inline(always)]
    fn channels<S: Simd>(&self, simd: S, windows: &Windows) {
        // SAFETY: the windows come from the walk over the geometry.
        unsafe { visit_channels(simd, &self.visitor, windows, self.geometry.shape.input[2]) };
    }

    /// `count` windows from a column of an output row on, the row counted over all images.
    #[inline(always)]
    fn windows(&self, row: usize, column: usize, count: usize) -> Windows {
        let Geometry { vertical, horizontal, .. } = self.geometry;
        let (image, row_in_image) = (row / vertical.output, row % vertical.output);
        let line = image * vertical.input + vertical.first(row_in_image);
        Windows {
            count,
            x: line * horizontal.input + horizontal.first(column),
            y: row * horizontal.output + column,
            stride: horizontal.stride,
            rows: vertical.taps(row_in_image),
            columns: horizontal.taps(column),
            width: horizontal.size,
            with_padding: vertical.taps_with_padding(row_in_image) * horizontal.taps_with_padding(column),
        }
    }
}

/// Shows `visitor` all channels of some windows: four vectors at a time, or two where the registers do not hold
/// four's state, whose chains of dependent operations overlap, then one.
///
/// # Safety
/// The windows are some of the geometry that the visitor's views were checked against, and `channels` are
/// theirs.
#[inline(always)]
unsafe fn visit_channels<S: Simd, V: Visitor>(simd: S, visitor: &V, windows: &Windows, channels: usize) {
    let four = S::REGISTERS >= 4 * V::STATE + 4;
    let mut channel = 0;
    // SAFETY: the caller vouches for the windows, and no channel at or beyond `channels` is visited.
    unsafe {
        while four && channel + 4 * S::LANES <= channels {
            visitor.visit::<S, 4>(simd, windows, channel, S::LANES);
            channel += 4 * S::LANES;
        }
        while !four && channel + 2 * S::LANES <= channels {
            visitor.visit::<S, 2>(simd, windows, channel, S::LANES);
            channel += 2 * S::LANES;
        }
        while channel + S::LANES <= channels {
            visitor.visit::<S, 1>(simd, windows, channel, S::LANES);
            channel += S::LANES;
        }
        if channel < channels {
            visitor.visit::<S, 1>(simd, windows, channel, channels - channel);
        }
    }
}
