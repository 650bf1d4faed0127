//! Average pooling to a given size as products with constant matrices, because ONNX has no operator for windows
//! of several sizes: the mean of a window is the mean of its columns' means.

/// The weight of each pixel in each mean of so many along one axis: a row for each mean, or transposed a row
/// for each pixel.
///
/// The window of mean i is from pixel floor(i pixels / means) to pixel ceil((i + 1) pixels / means), as in
/// PyTorch's `AdaptiveAvgPool2d`.
pub fn weights_of_means(pixels: usize, means: usize, transposed: bool) -> Vec<f32> {
    let weight = |mean: usize, pixel: usize| {
        let window = mean * pixels / means..((mean + 1) * pixels).div_ceil(means);
        if window.contains(&pixel) { 1.0 / window.len() as f32 } else { 0.0 }
    };
    if transposed {
        (0..pixels).flat_map(|pixel| (0..means).map(move |mean| weight(mean, pixel))).collect()
    } else {
        (0..means).flat_map(|mean| (0..pixels).map(move |pixel| weight(mean, pixel))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_overlap_where_the_sizes_do_not_divide() {
        let third = 1.0 / 3.0;
        assert_eq!(
            weights_of_means(5, 2, false),
            [third, third, third, 0.0, 0.0, 0.0, 0.0, third, third, third]
        );
        assert_eq!(weights_of_means(2, 3, true), [1.0, 0.5, 0.0, 0.0, 0.5, 1.0]);
    }
}
