//! Dense (fully connected) layers: `y = w x + b`, as `torch.nn.functional.linear`.
//!
//! Shapes: x [N, inputs], w [units, inputs], b [units] -> y [N, units]. A convolution with a 1 x 1 kernel on a
//! 1 x 1 image is the same sum, and that is how it is computed.

use crate::Conv2d;

/// Sizes of a dense layer.
#[derive(Clone, Copy, Debug)]
pub struct Dense {
    /// Number of images.
    pub batch: usize,
    /// Values an image.
    pub inputs: usize,
    /// Outputs an image.
    pub units: usize,
}

impl Dense {
    /// `y = w x + b`.
    pub fn forward(&self, x: &[f64], w: &[f64], bias: Option<&[f64]>) -> Vec<f64> {
        self.conv().forward(x, w, bias)
    }

    /// Gradient of x.
    pub fn backward_input(&self, dy: &[f64], w: &[f64]) -> Vec<f64> {
        self.conv().backward_input(dy, w)
    }

    /// Gradient of w.
    pub fn backward_weight(&self, x: &[f64], dy: &[f64]) -> Vec<f64> {
        self.conv().backward_weight(x, dy)
    }

    /// Gradient of the bias.
    pub fn backward_bias(&self, dy: &[f64]) -> Vec<f64> {
        self.conv().backward_bias(dy)
    }

    fn conv(&self) -> Conv2d {
        Conv2d {
            batch: self.batch,
            input: [1, 1, self.inputs],
            filters: self.units,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0; 4],
            dilation: [1, 1],
            groups: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_images_through_two_units() {
        let dense = Dense { batch: 2, inputs: 3, units: 2 };
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let w = [1.0, 0.0, -1.0, 1.0, 10.0, 100.0];
        assert_eq!(dense.forward(&x, &w, Some(&[0.5, 0.0])), [-1.5, 321.0, -1.5, 654.0]);
        let dy = [1.0, 0.0, 2.0, 1.0];
        assert_eq!(dense.backward_input(&dy, &w), [1.0, 0.0, -1.0, 3.0, 10.0, 98.0]);
        assert_eq!(dense.backward_weight(&x, &dy), [9.0, 12.0, 15.0, 4.0, 5.0, 6.0]);
        assert_eq!(dense.backward_bias(&dy), [3.0, 1.0]);
    }
}
