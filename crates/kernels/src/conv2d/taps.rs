//! The input pixels that output pixels read.

use super::Conv2dShape;

/// A tap: the input pixel read by grid pixel (i, j) is (i stride + row, j stride + column).
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    pub row: isize,
    pub column: isize,
}

/// The pixels of dx whose position modulo the stride is the same: they meet the same taps of the kernel, so
/// they are a convolution of stride 1 over dy.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    /// First row and column of dx.
    pub offset: [usize; 2],
    /// Rows and columns of dx, a stride apart.
    pub grid: [usize; 2],
    pub taps: Vec<Tap>,
    /// For each tap, its place in the kernel (row x kernel width + column).
    pub kernel_taps: Vec<usize>,
    /// Taps of the phases before.
    pub first_tap: usize,
}

/// The taps of the forward pass, in the kernel's order.
pub(super) fn forward_taps(shape: &Conv2dShape) -> Vec<Tap> {
    let ([kh, kw], [dh, dw]) = (shape.kernel, shape.dilation);
    let [top, _, _, left] = shape.padding;
    let tap = |row: usize, column: usize| Tap {
        row: (row * dh) as isize - top as isize,
        column: (column * dw) as isize - left as isize,
    };
    (0..kh * kw).map(|index| tap(index / kw, index % kw)).collect()
}

/// The phases of the input gradient: stride height x stride width of them, fewer where dx is smaller than the
/// stride.
pub(super) fn input_gradient_phases(shape: &Conv2dShape) -> Vec<Phase> {
    let [top, _, _, left] = shape.padding;
    // On one axis: the kernel's taps a with (position + padding - a dilation) divisible by the stride, and the
    // quotients.
    let taps_of = |axis: usize, position: usize, padding: usize| -> Vec<(usize, isize)> {
        let (dilation, stride) = (shape.dilation[axis], shape.stride[axis] as isize);
        let reach = |tap: usize| (position + padding) as isize - (tap * dilation) as isize;
        let meets = |&tap: &usize| reach(tap) % stride == 0;
        (0..shape.kernel[axis]).filter(meets).map(|tap| (tap, reach(tap) / stride)).collect()
    };
    let [h, w, _] = shape.input;
    let mut phases = Vec::new();
    let mut first_tap = 0;
    for row in 0..shape.stride[0].min(h) {
        for column in 0..shape.stride[1].min(w) {
            let rows = taps_of(0, row, top);
            let columns = taps_of(1, column, left);
            let pairs = rows.iter().flat_map(|row| columns.iter().map(move |column| (*row, *column)));
            let (kernel_taps, taps) = pairs
                .map(|((a, row), (b, column))| (a * shape.kernel[1] + b, Tap { row, column }))
                .unzip::<_, _, Vec<_>, Vec<_>>();
            let grid = [(h - row).div_ceil(shape.stride[0]), (w - column).div_ceil(shape.stride[1])];
            let count = taps.len();
            phases.push(Phase { offset: [row, column], grid, taps, kernel_taps, first_tap });
            first_tap += count;
        }
    }
    phases
}

/// How far the taps reach outside an input from a grid of stride 1: top, right, bottom, left.
pub(super) fn reach(taps: &[Tap], grid: [usize; 2], input: [usize; 2]) -> [usize; 4] {
    let beyond = |place: isize, size: usize| (place + 1 - size as isize).max(0) as usize;
    taps.iter().fold([0; 4], |[top, right, bottom, left], tap| {
        [
            top.max((-tap.row).max(0) as usize),
            right.max(beyond(tap.column + grid[1] as isize - 1, input[1])),
            bottom.max(beyond(tap.row + grid[0] as isize - 1, input[0])),
            left.max((-tap.column).max(0) as usize),
        ]
    })
}
