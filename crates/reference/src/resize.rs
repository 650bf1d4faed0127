//! Average pooling to a given size, and enlarging by whole factors.
//!
//! Shapes: x [N, H, W, C] -> y [N, H', W', C]; channels never mix.

use serde::Deserialize;

/// Average pooling to a given size; equals PyTorch's `AdaptiveAvgPool2d`. The window of row i is from `floor(i
/// H / H')` to `ceil((i + 1) H / H')`, and so for columns: windows differ in size and overlap where H' does not
/// divide H.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveAvgPool2d {
    /// Number of images.
    pub batch: usize,
    /// Input height, width, channels.
    pub input: [usize; 3],
    /// Output height and width.
    pub size: [usize; 2],
}

/// Nearest-neighbour enlarging: each pixel becomes `factor` pixels; equals PyTorch's `Upsample`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upsample {
    /// Number of images.
    pub batch: usize,
    /// Input height, width, channels.
    pub input: [usize; 3],
    /// How many times as high and as wide.
    pub factor: [usize; 2],
}

impl AdaptiveAvgPool2d {
    /// The means.
    pub fn forward(&self, x: &[f64]) -> Vec<f64> {
        let mut y = vec![0.0; self.batch * self.size[0] * self.size[1] * self.input[2]];
        self.for_each_tap(|at_x, at_y, taps| y[at_y] += x[at_x] / taps as f64);
        y
    }

    /// Gradient of x: each dy is spread evenly over its window.
    pub fn backward(&self, dy: &[f64]) -> Vec<f64> {
        let mut dx = vec![0.0; self.batch * self.input.iter().product::<usize>()];
        self.for_each_tap(|at_x, at_y, taps| dx[at_x] += dy[at_y] / taps as f64);
        dx
    }

    /// Calls `visit` for each tap of each window with its indices in x and y and the number of taps of the
    /// window.
    fn for_each_tap(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let ([height, width, channels], [rows, columns]) = (self.input, self.size);
        let window = |index: usize, input: usize, size: usize| {
            index * input / size..((index + 1) * input).div_ceil(size)
        };
        for (n, oy, ox) in indices([self.batch, rows, columns]) {
            let (vertical, horizontal) = (window(oy, height, rows), window(ox, width, columns));
            for iy in vertical.clone() {
                for ix in horizontal.clone() {
                    for c in 0..channels {
                        let at_x = ((n * height + iy) * width + ix) * channels + c;
                        let at_y = ((n * rows + oy) * columns + ox) * channels + c;
                        visit(at_x, at_y, vertical.len() * horizontal.len());
                    }
                }
            }
        }
    }
}

impl Upsample {
    /// Each pixel many times.
    pub fn forward(&self, x: &[f64]) -> Vec<f64> {
        let mut y = vec![0.0; x.len() * self.factor[0] * self.factor[1]];
        self.for_each_pixel(|at_x, at_y| y[at_y] = x[at_x]);
        y
    }

    /// Gradient of x: the sum of those of its copies.
    pub fn backward(&self, dy: &[f64]) -> Vec<f64> {
        let mut dx = vec![0.0; dy.len() / (self.factor[0] * self.factor[1])];
        self.for_each_pixel(|at_x, at_y| dx[at_x] += dy[at_y]);
        dx
    }

    /// Calls `visit` for each value of y with its index in x and in y.
    fn for_each_pixel(&self, mut visit: impl FnMut(usize, usize)) {
        let ([height, width, channels], [down, right]) = (self.input, self.factor);
        for (n, oy, ox) in indices([self.batch, height * down, width * right]) {
            for c in 0..channels {
                let at_x = ((n * height + oy / down) * width + ox / right) * channels + c;
                visit(at_x, ((n * height * down + oy) * width * right + ox) * channels + c);
            }
        }
    }
}

/// All triples of indices below these sizes, the last one fastest.
fn indices([a, b, c]: [usize; 3]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |index| (index / c / b, index / c % b, index % c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_close, dot, finite_difference, uniform, widen};

    #[test]
    fn windows_overlap_where_the_size_does_not_divide() {
        let pool = AdaptiveAvgPool2d { batch: 1, input: [1, 5, 1], size: [1, 3] };
        // windows: (1 2), (2 3 4), (4 5)
        assert_eq!(pool.forward(&[1.0, 3.0, 5.0, 7.0, 9.0]), [2.0, 5.0, 8.0]);
        assert_eq!(pool.backward(&[2.0, 3.0, 4.0]), [1.0, 2.0, 1.0, 3.0, 2.0]);
        let larger = AdaptiveAvgPool2d { batch: 1, input: [1, 2, 1], size: [1, 3] };
        assert_eq!(larger.forward(&[1.0, 3.0]), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn every_pixel_is_repeated_and_its_gradients_are_summed() {
        let upsample = Upsample { batch: 1, input: [1, 2, 1], factor: [2, 3] };
        assert_eq!(upsample.forward(&[1.0, 2.0]), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0].repeat(2));
        let dy: Vec<_> = (1..=12).map(f64::from).collect();
        assert_eq!(upsample.backward(&dy), [30.0, 48.0]);
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let pool = AdaptiveAvgPool2d { batch: 2, input: [7, 5, 3], size: [3, 4] };
        let (x, dy) = (widen(&uniform(1, 2 * 7 * 5 * 3)), widen(&uniform(2, 2 * 3 * 4 * 3)));
        let numeric = finite_difference(&x, 1e-3, |x| dot(&pool.forward(x), &dy));
        assert_close(&pool.backward(&dy), &numeric, 1e-9);
        let upsample = Upsample { batch: 2, input: [2, 3, 2], factor: [3, 2] };
        let (x, dy) = (widen(&uniform(1, 24)), widen(&uniform(2, 144)));
        let numeric = finite_difference(&x, 1e-3, |x| dot(&upsample.forward(x), &dy));
        assert_close(&upsample.backward(&dy), &numeric, 1e-9);
    }
}
