//! Max and average pooling and their gradients.
//!
//! Shapes: x [N, H, W, C] -> y [N, H', W', C]; channels never mix.

use serde::Deserialize;

/// Geometry of a pooling window; equals PyTorch's `MaxPool2d` and `AvgPool2d`, with padding a side.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool2d {
    /// Number of images.
    pub batch: usize,
    /// Input height, width, channels.
    pub input: [usize; 3],
    /// Window height and width.
    pub size: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Pixels around the input: top, right, bottom, left; each smaller than the window.
    pub padding: [usize; 4],
    /// Rounds the output size up: windows may reach beyond the padding if they start inside the input or
    /// the leading padding.
    pub ceil_mode: bool,
}

/// Max pooling: padding never wins.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(transparent)]
pub struct MaxPool2d(pub Pool2d);

/// Average pooling.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AvgPool2d {
    /// The window.
    pub pool: Pool2d,
    /// Divides by the window's pixels within input and padding, not by those within the input alone.
    /// What `ceil_mode` reaches beyond the padding never counts.
    pub count_include_pad: bool,
}

/// Either kind of pooling: what a golden file's case is.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Max pooling.
    Max(MaxPool2d),
    /// Average pooling.
    Average(AvgPool2d),
}

/// A tap of a window that lies inside the image.
struct Tap {
    /// Row-major position in the window.
    position: usize,
    /// Index in the slice x.
    x: usize,
}

impl Pool2d {
    /// Output height, width, channels.
    pub fn output(&self) -> [usize; 3] {
        let [height, width, channels] = self.input;
        let [top, right, bottom, left] = self.padding;
        [self.side(height, 0, top, bottom), self.side(width, 1, left, right), channels]
    }

    fn side(&self, input: usize, axis: usize, before: usize, after: usize) -> usize {
        let (size, stride, padded) = (self.size[axis], self.stride[axis], input + before + after);
        assert!(before < size && after < size, "Expected padding smaller than a window of {size} pixels.");
        assert!(size <= padded, "Expected a window within {padded} pixels but received {size}.");
        if !self.ceil_mode {
            return (padded - size) / stride + 1;
        }
        let count = (padded - size).div_ceil(stride) + 1;
        if (count - 1) * stride >= input + before { count - 1 } else { count }
    }

    /// Number of values in x and in y.
    pub fn lens(&self) -> [usize; 2] {
        [self.input, self.output()].map(|shape| self.batch * shape.iter().product::<usize>())
    }

    /// Calls `visit` for each output value, in order, with its index, the taps of its window inside the image
    /// in row-major order, and the pixels of its window within image and padding.
    fn for_each_window(&self, mut visit: impl FnMut(usize, &[Tap], usize)) {
        let [height, width, channels] = self.input;
        let [out_height, out_width, _] = self.output();
        let [top, right, bottom, left] = self.padding;
        let mut taps = Vec::new();
        for n in 0..self.batch {
            for oy in 0..out_height {
                for ox in 0..out_width {
                    for c in 0..channels {
                        taps.clear();
                        let mut pixels = 0;
                        for ky in 0..self.size[0] {
                            for kx in 0..self.size[1] {
                                let y = oy * self.stride[0] + ky; // counted from the padded corner
                                let x = ox * self.stride[1] + kx;
                                if y < top + height + bottom && x < left + width + right {
                                    pixels += 1;
                                }
                                if (top..top + height).contains(&y) && (left..left + width).contains(&x) {
                                    taps.push(Tap {
                                        position: ky * self.size[1] + kx,
                                        x: ((n * height + y - top) * width + x - left) * channels + c,
                                    });
                                }
                            }
                        }
                        visit(((n * out_height + oy) * out_width + ox) * channels + c, &taps, pixels);
                    }
                }
            }
        }
    }
}

impl MaxPool2d {
    /// The maxima, and the row-major position of each in its window. Of equal values the first wins; a NaN
    /// wins over every number, and of several NaN the last, as in PyTorch.
    pub fn forward(&self, x: &[f64]) -> (Vec<f64>, Vec<usize>) {
        let [x_len, y_len] = self.0.lens();
        assert_eq!(x.len(), x_len, "Expected {x_len} values for \"x\".");
        let mut y = vec![0.0; y_len];
        let mut argmax = vec![0; y_len];
        self.0.for_each_window(|index, taps, _| {
            let mut best = &taps[0];
            for tap in taps {
                if x[tap.x] > x[best.x] || x[tap.x].is_nan() {
                    best = tap;
                }
            }
            y[index] = x[best.x];
            argmax[index] = best.position;
        });
        (y, argmax)
    }

    /// Gradient of x: each dy goes to the pixel that won its window.
    pub fn backward(&self, dy: &[f64], argmax: &[usize]) -> Vec<f64> {
        let [x_len, y_len] = self.0.lens();
        assert_eq!(
            [dy.len(), argmax.len()],
            [y_len; 2],
            "Expected {y_len} values for \"dy\" and \"argmax\"."
        );
        let mut dx = vec![0.0; x_len];
        self.0.for_each_window(|index, taps, _| {
            let winner = taps.iter().find(|tap| tap.position == argmax[index]);
            assert!(winner.is_some(), "Expected an argmax inside the image but received {}.", argmax[index]);
            winner.iter().for_each(|tap| dx[tap.x] += dy[index]);
        });
        dx
    }
}

impl AvgPool2d {
    /// The means.
    pub fn forward(&self, x: &[f64]) -> Vec<f64> {
        let [x_len, y_len] = self.pool.lens();
        assert_eq!(x.len(), x_len, "Expected {x_len} values for \"x\".");
        let mut y = vec![0.0; y_len];
        self.pool.for_each_window(|index, taps, pixels| {
            y[index] = taps.iter().map(|tap| x[tap.x]).sum::<f64>() / self.divisor(taps, pixels);
        });
        y
    }

    /// Gradient of x: each dy is spread evenly over its window.
    pub fn backward(&self, dy: &[f64]) -> Vec<f64> {
        let [x_len, y_len] = self.pool.lens();
        assert_eq!(dy.len(), y_len, "Expected {y_len} values for \"dy\".");
        let mut dx = vec![0.0; x_len];
        self.pool.for_each_window(|index, taps, pixels| {
            taps.iter().for_each(|tap| dx[tap.x] += dy[index] / self.divisor(taps, pixels));
        });
        dx
    }

    fn divisor(&self, taps: &[Tap], pixels: usize) -> f64 {
        if self.count_include_pad { pixels as f64 } else { taps.len() as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_close, dot, finite_difference, uniform, widen};

    const ROW: Pool2d = Pool2d {
        batch: 1,
        input: [1, 5, 1],
        size: [1, 2],
        stride: [1, 2],
        padding: [0; 4],
        ceil_mode: false,
    };

    #[test]
    fn ceil_mode_adds_a_window_only_if_it_starts_before_the_trailing_padding() {
        assert_eq!(ROW.output(), [1, 2, 1]);
        assert_eq!(Pool2d { ceil_mode: true, ..ROW }.output(), [1, 3, 1]);
        let padded = Pool2d { padding: [0, 1, 0, 1], ..ROW };
        assert_eq!(padded.output(), [1, 3, 1]);
        // 5 + 2 pixels: a fourth window would start at 6, which is past the input and the left padding
        assert_eq!(Pool2d { ceil_mode: true, ..padded }.output(), [1, 3, 1]);
    }

    #[test]
    fn max_pooling_takes_the_first_of_equal_values_and_gives_it_the_gradient() {
        let pool = MaxPool2d(Pool2d { input: [2, 4, 1], size: [2, 2], stride: [2, 2], ..ROW });
        let (y, argmax) = pool.forward(&[1.0, 7.0, 0.0, -1.0, 7.0, 3.0, -5.0, 2.0]);
        assert_eq!((y, argmax.clone()), (vec![7.0, 2.0], vec![1, 3]));
        assert_eq!(pool.backward(&[10.0, 20.0], &argmax), [0.0, 10.0, 0.0, 0.0, 0.0, 0.0, 0.0, 20.0]);
    }

    #[test]
    fn padding_never_wins_a_maximum_and_nan_always_does() {
        let pool = MaxPool2d(Pool2d { padding: [0, 1, 0, 1], ..ROW });
        let (y, argmax) = pool.forward(&[-1.0, -3.0, -2.0, f64::NAN, -4.0]);
        assert_eq!((y[0], y[1], argmax), (-1.0, -2.0, vec![1, 1, 0]));
        assert!(y[2].is_nan());
    }

    #[test]
    fn overlapping_windows_add_their_gradients() {
        let pool = MaxPool2d(Pool2d { input: [1, 3, 1], stride: [1, 1], ..ROW });
        let (_, argmax) = pool.forward(&[0.0, 1.0, 0.0]);
        assert_eq!(pool.backward(&[10.0, 1.0], &argmax), [0.0, 11.0, 0.0]);
    }

    #[test]
    fn average_pooling_counts_padding_but_never_what_lies_beyond_it() {
        let x = [2.0, 4.0, 6.0, 8.0];
        let window = Pool2d { input: [1, 4, 1], size: [1, 3], padding: [0, 1, 0, 1], ceil_mode: true, ..ROW };
        assert_eq!(window.output(), [1, 3, 1]);
        let include = AvgPool2d { pool: window, count_include_pad: true };
        let exclude = AvgPool2d { pool: window, count_include_pad: false };
        // windows: (pad 2 4), (4 6 8), (8 pad beyond)
        assert_eq!(include.forward(&x), [2.0, 6.0, 4.0]);
        assert_eq!(exclude.forward(&x), [3.0, 6.0, 8.0]);
        assert_eq!(include.backward(&[3.0, 3.0, 2.0]), [1.0, 2.0, 1.0, 2.0]);
        assert_eq!(exclude.backward(&[2.0, 3.0, 2.0]), [1.0, 2.0, 1.0, 3.0]);
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let window = Pool2d {
            batch: 2,
            input: [7, 6, 3],
            size: [3, 2],
            stride: [2, 2],
            padding: [1, 1, 2, 0],
            ceil_mode: true,
        };
        let [x, dy] = window.lens().map(|len| widen(&uniform(len as u64, len)));
        let max = MaxPool2d(window);
        let numeric = finite_difference(&x, 1e-6, |x| dot(&max.forward(x).0, &dy));
        assert_close(&max.backward(&dy, &max.forward(&x).1), &numeric, 1e-7);
        for count_include_pad in [false, true] {
            let average = AvgPool2d { pool: window, count_include_pad };
            let numeric = finite_difference(&x, 1e-3, |x| dot(&average.forward(x), &dy));
            assert_close(&average.backward(&dy), &numeric, 1e-9);
        }
    }
}
