//! Where pixels stand: flips, crops and holes.

use super::{Draws, Fill};

/// Mirrors an image: left and right change places.
pub(super) fn flip(values: &mut [f32], [_, width, channels]: [usize; 3]) {
    for row in values.chunks_exact_mut(width * channels) {
        match channels {
            1 => row.reverse(),
            3 => row.as_chunks_mut::<3>().0.reverse(),
            _ => {
                for x in 0..width / 2 {
                    let (left, right) = row.split_at_mut((width - 1 - x) * channels);
                    left[x * channels..][..channels].swap_with_slice(&mut right[..channels]);
                }
            }
        }
    }
}

/// Moves an image inside its frame; what comes in from outside is zeros or its own mirror image.
///
/// - `offset`: rows and columns; the pixel `[y, x]` becomes the one that was at `[y + offset[0], x +
///   offset[1]]`. With [`Fill::Reflect`] each is below its side.
pub(super) fn shift(
    values: &mut [f32],
    [height, width, channels]: [usize; 3],
    offset: [isize; 2],
    fill: Fill,
    scratch: &mut Vec<f32>,
) {
    scratch.clear();
    scratch.extend_from_slice(values);
    let inside = |at: isize, side: usize| (0..side as isize).contains(&at);
    let mirrored = |at: isize, side: usize| {
        let last = side as isize - 1;
        (if at < 0 {
            -at
        } else if at > last {
            2 * last - at
        } else {
            at
        }) as usize
    };
    // The columns that the image itself fills.
    let first = (-offset[1]).clamp(0, width as isize) as usize;
    let end = (width as isize - offset[1]).clamp(first as isize, width as isize) as usize;
    for (y, row) in values.chunks_exact_mut(width * channels).enumerate() {
        let from = y as isize + offset[0];
        if fill == Fill::Zeros && !inside(from, height) {
            row.fill(0.0);
            continue;
        }
        let source = &scratch[mirrored(from, height) * width * channels..][..width * channels];
        if first < end {
            let begin = (first as isize + offset[1]) as usize * channels;
            row[first * channels..end * channels]
                .copy_from_slice(&source[begin..begin + (end - first) * channels]);
        }
        for x in (0..first).chain(end..width) {
            let pixel = &mut row[x * channels..(x + 1) * channels];
            match fill {
                Fill::Zeros => pixel.fill(0.0),
                Fill::Reflect => {
                    let from = mirrored(x as isize + offset[1], width) * channels;
                    pixel.copy_from_slice(&source[from..from + channels]);
                }
            }
        }
    }
}

/// Makes a square zero, cut off where it leaves the image.
pub(super) fn cut_out(
    values: &mut [f32],
    [height, width, channels]: [usize; 3],
    centre: [usize; 2],
    size: usize,
) {
    let span = |centre: usize, side: usize| {
        let begin = centre.saturating_sub(size / 2);
        begin..centre.saturating_add(size - size / 2).min(side)
    };
    let (rows, columns) = (span(centre[0], height), span(centre[1], width));
    for y in rows {
        values[(y * width + columns.start) * channels..(y * width + columns.end) * channels].fill(0.0);
    }
}

/// A rectangle of a share of the area and a proportion of the sides: left, top, width, height in pixels.
///
/// Source: `torchvision.transforms.RandomResizedCrop.get_params`.
pub(super) fn part(
    draws: &mut Draws,
    [height, width]: [usize; 2],
    scale: [f64; 2],
    ratio: [f64; 2],
) -> [usize; 4] {
    let between = |[least, most]: [f64; 2], share: f32| least + (most - least) * f64::from(share);
    for _ in 0..10 {
        let [share, proportion, ..] = draws.uniforms();
        let area = (height * width) as f64 * between(scale, share);
        let proportion = between(ratio.map(f64::ln), proportion).exp();
        let w = (area * proportion).sqrt().round() as usize;
        let h = (area / proportion).sqrt().round() as usize;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let top = draws.below(height - h + 1);
            let left = draws.below(width - w + 1);
            return [left, top, w, h];
        }
    }
    // The largest part in the middle that has an allowed proportion.
    let proportion = (width as f64 / height as f64).clamp(ratio[0], ratio[1]);
    let w = width.min((height as f64 * proportion).round() as usize).max(1);
    let h = height.min((width as f64 / proportion).round() as usize).max(1);
    [(width - w) / 2, (height - h) / 2, w, h]
}
