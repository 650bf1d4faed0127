//! The reference operations that nodes of the graph stand for.

use fovea_engine::{AvgPool, Conv, ConvTranspose, MaxPool, Padding};
use fovea_reference::{AvgPool2d, Conv2d, ConvTranspose2d, MaxPool2d, Pool2d};

pub fn convolution(conv: &Conv, input: [usize; 3], batch: usize) -> Conv2d {
    let extent = [0, 1].map(|axis| conv.dilation[axis] * (conv.kernel[axis] - 1) + 1);
    Conv2d {
        batch,
        input,
        filters: conv.filters,
        kernel: conv.kernel,
        stride: conv.stride,
        padding: sides(conv.padding, input, extent, conv.stride),
        dilation: conv.dilation,
        groups: conv.groups,
    }
}

/// The weights of channels that a filter sees; 0 for others.
pub fn connected(conv: &Conv, weight: &[f64], channels: usize) -> Vec<f64> {
    let mut weight = weight.to_vec();
    let taps = conv.kernel[0] * conv.kernel[1];
    for (filter, list) in conv.connections.iter().flatten().enumerate() {
        for channel in (0..channels).filter(|channel| !list.contains(channel)) {
            let start = (filter * channels + channel) * taps;
            weight[start..start + taps].fill(0.0);
        }
    }
    weight
}

pub fn transposed_convolution(conv: &ConvTranspose, input: [usize; 3], batch: usize) -> ConvTranspose2d {
    let &ConvTranspose { filters, kernel, stride, output_padding, dilation, groups, .. } = conv;
    let uncut = ConvTranspose2d {
        batch,
        input,
        filters,
        kernel,
        stride,
        padding: [0; 4],
        output_padding,
        dilation,
        groups,
    };
    let padding = match conv.padding {
        Padding::Valid => [0; 4],
        Padding::Explicit(sides) => sides,
        Padding::Same => {
            let surplus = [0, 1].map(|axis| uncut.whole()[axis] - input[axis] * stride[axis]);
            let before = surplus.map(|surplus| surplus / 2);
            [before[0], surplus[1] - before[1], surplus[0] - before[0], before[1]]
        }
    };
    ConvTranspose2d { padding, ..uncut }
}

pub fn max_pool(pool: &MaxPool, input: [usize; 3], batch: usize) -> MaxPool2d {
    let &MaxPool { size, stride, ceil_mode, .. } = pool;
    let padding = sides(pool.padding, input, size, stride);
    MaxPool2d(Pool2d { batch, input, size, stride, padding, ceil_mode })
}

pub fn avg_pool(pool: &AvgPool, input: [usize; 3], batch: usize) -> AvgPool2d {
    let &AvgPool { size, stride, ceil_mode, count_include_pad, .. } = pool;
    let padding = sides(pool.padding, input, size, stride);
    AvgPool2d { pool: Pool2d { batch, input, size, stride, padding, ceil_mode }, count_include_pad }
}

/// One window over the whole map.
pub fn global(input: [usize; 3], batch: usize) -> Pool2d {
    let size = [input[0], input[1]];
    Pool2d { batch, input, size, stride: size, padding: [0; 4], ceil_mode: false }
}

/// Padding in pixels by TensorFlow's definition of "same".
fn sides(padding: Padding, input: [usize; 3], extent: [usize; 2], stride: [usize; 2]) -> [usize; 4] {
    match padding {
        Padding::Valid => [0; 4],
        Padding::Explicit(sides) => sides,
        Padding::Same => {
            let total = [0, 1].map(|axis| {
                let rest = input[axis] % stride[axis];
                let overlap = if rest == 0 { stride[axis] } else { rest };
                extent[axis].saturating_sub(overlap)
            });
            let before = total.map(|total| total / 2);
            [before[0], total[1] - before[1], total[0] - before[0], before[1]]
        }
    }
}
