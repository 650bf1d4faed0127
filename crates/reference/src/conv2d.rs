//! 2-D convolution (cross-correlation, as every deep-learning library means it) and its three gradients.
//!
//! A convolution is a sum of products x * w into y, so one loop over these products serves all passes:
//! forward adds `x w` to `y`, the input gradient adds `dy w` to `dx`, the weight gradient `dy x` to `dw`.
//!
//! Shapes: x [N, H, W, C], w [K, C / groups, kh, kw], b [K] -> y [N, H', W', K].

use serde::Deserialize;

/// Geometry of a convolution; equals `torch.nn.functional.conv2d` after `pad`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// Number of images.
    pub batch: usize,
    /// Input height, width, channels.
    pub input: [usize; 3],
    /// Output channels.
    pub filters: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Zeros around the input: top, right, bottom, left.
    pub padding: [usize; 4],
    /// Vertical and horizontal distance between taps; 1 is a dense kernel.
    pub dilation: [usize; 2],
    /// Channel groups that do not see each other; `input channels` of them is a depthwise convolution.
    pub groups: usize,
}

/// Indices of one product's factors and sum in the slices x, w and y.
struct Product {
    x: usize,
    w: usize,
    y: usize,
}

impl Conv2d {
    /// Output height, width, channels.
    pub fn output(&self) -> [usize; 3] {
        let [height, width, channels] = self.input;
        let [top, right, bottom, left] = self.padding;
        assert!(
            self.groups > 0
                && channels.is_multiple_of(self.groups)
                && self.filters.is_multiple_of(self.groups),
            "Expected groups to divide {channels} channels and {} filters but received {}.",
            self.filters,
            self.groups
        );
        let side = |input: usize, axis: usize| {
            let extent = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            assert!(extent <= input, "Expected a kernel within {input} pixels but received {extent}.");
            (input - extent) / self.stride[axis] + 1
        };
        [side(height + top + bottom, 0), side(width + left + right, 1), self.filters]
    }

    /// Number of values in x, in w and in y.
    pub fn lens(&self) -> [usize; 3] {
        let [height, width, channels] = self.input;
        let weights = self.filters * (channels / self.groups) * self.kernel[0] * self.kernel[1];
        [
            self.batch * height * width * channels,
            weights,
            self.batch * self.output().iter().product::<usize>(),
        ]
    }

    /// `y = x * w + b`.
    pub fn forward(&self, x: &[f64], w: &[f64], bias: Option<&[f64]>) -> Vec<f64> {
        self.check("x", x, 0);
        self.check("w", w, 1);
        let mut y = vec![0.0; self.lens()[2]];
        if let Some(bias) = bias {
            assert_eq!(bias.len(), self.filters, "Expected one bias a filter.");
            y.chunks_exact_mut(self.filters).for_each(|pixel| pixel.copy_from_slice(bias));
        }
        self.for_each_product(|product| y[product.y] += x[product.x] * w[product.w]);
        y
    }

    /// Gradient of x.
    pub fn backward_input(&self, dy: &[f64], w: &[f64]) -> Vec<f64> {
        self.check("dy", dy, 2);
        self.check("w", w, 1);
        let mut dx = vec![0.0; self.lens()[0]];
        self.for_each_product(|product| dx[product.x] += dy[product.y] * w[product.w]);
        dx
    }

    /// Gradient of w.
    pub fn backward_weight(&self, x: &[f64], dy: &[f64]) -> Vec<f64> {
        self.check("x", x, 0);
        self.check("dy", dy, 2);
        let mut dw = vec![0.0; self.lens()[1]];
        self.for_each_product(|product| dw[product.w] += dy[product.y] * x[product.x]);
        dw
    }

    /// Gradient of the bias: the sum of dy over all pixels.
    pub fn backward_bias(&self, dy: &[f64]) -> Vec<f64> {
        self.check("dy", dy, 2);
        let mut db = vec![0.0; self.filters];
        for pixel in dy.chunks_exact(self.filters) {
            db.iter_mut().zip(pixel).for_each(|(db, dy)| *db += dy);
        }
        db
    }

    fn check(&self, name: &str, values: &[f64], which: usize) {
        let expected = self.lens()[which];
        assert_eq!(values.len(), expected, "Expected {expected} values for \"{name}\".");
    }

    /// Calls `visit` once for each product whose input pixel lies inside the image.
    fn for_each_product(&self, mut visit: impl FnMut(Product)) {
        let [height, width, channels] = self.input;
        let [out_height, out_width, filters] = self.output();
        let [kernel_height, kernel_width] = self.kernel;
        let [top, _, _, left] = self.padding;
        let group_channels = channels / self.groups;
        let group_filters = filters / self.groups;
        for n in 0..self.batch {
            for oy in 0..out_height {
                for ox in 0..out_width {
                    for ky in 0..kernel_height {
                        for kx in 0..kernel_width {
                            let padded_y = oy * self.stride[0] + ky * self.dilation[0];
                            let padded_x = ox * self.stride[1] + kx * self.dilation[1];
                            let (Some(iy), Some(ix)) =
                                (padded_y.checked_sub(top), padded_x.checked_sub(left))
                            else {
                                continue;
                            };
                            if iy >= height || ix >= width {
                                continue;
                            }
                            for filter in 0..filters {
                                let first_channel = filter / group_filters * group_channels;
                                for c in 0..group_channels {
                                    visit(Product {
                                        x: ((n * height + iy) * width + ix) * channels + first_channel + c,
                                        w: ((filter * group_channels + c) * kernel_height + ky)
                                            * kernel_width
                                            + kx,
                                        y: ((n * out_height + oy) * out_width + ox) * filters + filter,
                                    });
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_close, dot, finite_difference, uniform, widen};

    const PLAIN: Conv2d = Conv2d {
        batch: 1,
        input: [3, 3, 1],
        filters: 1,
        kernel: [2, 2],
        stride: [1, 1],
        padding: [0; 4],
        dilation: [1, 1],
        groups: 1,
    };

    #[test]
    fn a_two_by_two_kernel_on_a_three_by_three_image() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        let w = [1.0, 10.0, 100.0, 1000.0];
        assert_eq!(PLAIN.output(), [2, 2, 1]);
        assert_eq!(PLAIN.forward(&x, &w, Some(&[0.5])), [5421.5, 6532.5, 8754.5, 9865.5]);
        let dy = [1.0, 0.0, 0.0, 2.0];
        assert_eq!(PLAIN.backward_input(&dy, &w), [1.0, 10.0, 0.0, 100.0, 1002.0, 20.0, 0.0, 200.0, 2000.0]);
        assert_eq!(PLAIN.backward_weight(&x, &dy), [11.0, 14.0, 20.0, 23.0]);
        assert_eq!(PLAIN.backward_bias(&dy), [3.0]);
    }

    #[test]
    fn padding_is_counted_from_each_side_by_itself() {
        let conv = Conv2d { input: [2, 2, 1], padding: [1, 0, 0, 2], ..PLAIN };
        let y = conv.forward(&[1.0, 2.0, 3.0, 4.0], &[1.0, 10.0, 100.0, 1000.0], None);
        assert_eq!(conv.output(), [2, 3, 1]);
        assert_eq!(y, [0.0, 1000.0, 2100.0, 0.0, 3010.0, 4321.0]);
    }

    #[test]
    fn stride_and_dilation_choose_the_pixels() {
        let conv = Conv2d { input: [1, 7, 1], kernel: [1, 2], stride: [1, 2], dilation: [1, 3], ..PLAIN };
        let y = conv.forward(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], &[1.0, 10.0], None);
        assert_eq!(y, [41.0, 63.0]);
    }

    #[test]
    fn groups_do_not_see_each_other() {
        let conv = Conv2d { input: [1, 1, 4], filters: 2, kernel: [1, 1], groups: 2, ..PLAIN };
        assert_eq!(conv.forward(&[1.0, 2.0, 3.0, 4.0], &[1.0, 10.0, 100.0, 1000.0], None), [21.0, 4300.0]);
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let conv = Conv2d {
            batch: 2,
            input: [6, 5, 4],
            filters: 6,
            kernel: [3, 2],
            stride: [2, 1],
            padding: [1, 2, 0, 1],
            dilation: [1, 2],
            groups: 2,
        };
        let [x, w, dy] = conv.lens().map(|len| widen(&uniform(len as u64, len)));
        let b = widen(&uniform(1, conv.filters));
        let loss = |x: &[f64], w: &[f64], b: &[f64]| dot(&conv.forward(x, w, Some(b)), &dy);
        let step = 1e-3; // the loss is linear in each of them: only rounding limits the difference
        assert_close(&conv.backward_input(&dy, &w), &finite_difference(&x, step, |x| loss(x, &w, &b)), 1e-9);
        assert_close(&conv.backward_weight(&x, &dy), &finite_difference(&w, step, |w| loss(&x, w, &b)), 1e-9);
        assert_close(&conv.backward_bias(&dy), &finite_difference(&b, step, |b| loss(&x, &w, b)), 1e-9);
    }
}
