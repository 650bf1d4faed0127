//! Transposed convolution as `torch.nn.functional.conv_transpose2d`: every input pixel adds its products to a
//! map, of which the sides are cut off.
//!
//! Shapes: x [N, H, W, C], w [C, K / groups, kh, kw], b [K] -> y [N, H', W', K].

use crate::Conv2d;
use crate::layout::Pad;

/// Geometry of a transposed convolution.
#[derive(Clone, Copy, Debug)]
pub struct ConvTranspose2d {
    /// Number of images.
    pub batch: usize,
    /// Input height, width, channels.
    pub input: [usize; 3],
    /// Output channels.
    pub filters: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Output pixels from one input pixel to the next.
    pub stride: [usize; 2],
    /// Pixels cut off: top, right, bottom, left.
    pub padding: [usize; 4],
    /// Pixels added at the bottom and right before that.
    pub output_padding: [usize; 2],
    /// Vertical and horizontal distance between taps.
    pub dilation: [usize; 2],
    /// Channel groups that do not see each other.
    pub groups: usize,
}

impl ConvTranspose2d {
    /// Height and width before anything is cut off.
    pub fn whole(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1 + self.output_padding[axis];
            (self.input[axis] - 1) * self.stride[axis] + reach
        })
    }

    /// Output height, width, channels.
    pub fn output(&self) -> [usize; 3] {
        let ([height, width], [top, right, bottom, left]) = (self.whole(), self.padding);
        [height - top - bottom, width - left - right, self.filters]
    }

    /// The products of every pixel, summed, and the bias.
    pub fn forward(&self, x: &[f64], w: &[f64], bias: Option<&[f64]>) -> Vec<f64> {
        let mut y = self.sides().backward(&self.convolution().backward_input(x, w));
        if let Some(bias) = bias {
            for pixel in y.chunks_exact_mut(self.filters) {
                pixel.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
            }
        }
        y
    }

    /// Gradient of x.
    pub fn backward_input(&self, dy: &[f64], w: &[f64]) -> Vec<f64> {
        self.convolution().forward(&self.sides().forward(dy), w, None)
    }

    /// Gradient of w.
    pub fn backward_weight(&self, x: &[f64], dy: &[f64]) -> Vec<f64> {
        self.convolution().backward_weight(&self.sides().forward(dy), x)
    }

    /// Gradient of the bias: the sum of dy over all pixels.
    pub fn backward_bias(&self, dy: &[f64]) -> Vec<f64> {
        (0..self.filters).map(|filter| dy.iter().skip(filter).step_by(self.filters).sum()).collect()
    }

    /// The convolution from the whole map to x, whose input gradient this is.
    fn convolution(&self) -> Conv2d {
        let &Self { batch, kernel, stride, dilation, groups, .. } = self;
        let [height, width] = self.whole();
        let (input, filters) = ([height, width, self.filters], self.input[2]);
        Conv2d { batch, input, filters, kernel, stride, padding: [0; 4], dilation, groups }
    }

    /// What puts the sides back.
    fn sides(&self) -> Pad {
        Pad { batch: self.batch, input: self.output(), padding: self.padding, channels: [0; 2] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_close, dot, finite_difference, uniform, widen};

    #[test]
    fn pixels_are_spread_by_hand() {
        let spread = ConvTranspose2d {
            batch: 1,
            input: [1, 2, 1],
            filters: 1,
            kernel: [1, 3],
            stride: [1, 2],
            padding: [0, 0, 0, 1],
            output_padding: [0, 1],
            dilation: [1, 1],
            groups: 1,
        };
        // whole: 1 2 (3 + 10) 20 30 0
        assert_eq!(
            spread.forward(&[1.0, 10.0], &[1.0, 2.0, 3.0], Some(&[0.5])),
            [2.5, 13.5, 20.5, 30.5, 0.5]
        );
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let conv = ConvTranspose2d {
            batch: 2,
            input: [3, 2, 4],
            filters: 6,
            kernel: [3, 2],
            stride: [2, 3],
            padding: [1, 0, 2, 1],
            output_padding: [1, 0],
            dilation: [1, 2],
            groups: 2,
        };
        let values = |seed: u64, len: usize| widen(&uniform(seed, len));
        let (x, w, bias) = (values(1, 48), values(2, 4 * 3 * 6), values(3, 6));
        let dy = values(4, 2 * conv.output().iter().product::<usize>());
        let numeric = finite_difference(&x, 1e-3, |x| dot(&conv.forward(x, &w, Some(&bias)), &dy));
        assert_close(&conv.backward_input(&dy, &w), &numeric, 1e-9);
        let numeric = finite_difference(&w, 1e-3, |w| dot(&conv.forward(&x, w, Some(&bias)), &dy));
        assert_close(&conv.backward_weight(&x, &dy), &numeric, 1e-9);
        let numeric = finite_difference(&bias, 1e-3, |bias| dot(&conv.forward(&x, &w, Some(bias)), &dy));
        assert_close(&conv.backward_bias(&dy), &numeric, 1e-9);
    }
}
