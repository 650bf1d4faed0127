//! What moves values and computes none: zeros around a map, channels one map after the other, maps as rows.
//!
//! Shapes: [N, H, W, C]; each backward is the way back, the gradient of values that have gone nowhere is lost.

/// Zeros on the sides of a map and around its channels.
#[derive(Clone, Copy, Debug)]
pub struct Pad {
    /// Number of images.
    pub batch: usize,
    /// Input height, width, channels.
    pub input: [usize; 3],
    /// Pixels at the top, right, bottom and left.
    pub padding: [usize; 4],
    /// Channels before and after.
    pub channels: [usize; 2],
}

impl Pad {
    /// Output height, width, channels.
    pub fn output(&self) -> [usize; 3] {
        let ([height, width, channels], [top, right, bottom, left]) = (self.input, self.padding);
        let [before, after] = self.channels;
        [height + top + bottom, width + left + right, channels + before + after]
    }

    /// The map and zeros.
    pub fn forward(&self, x: &[f64]) -> Vec<f64> {
        let mut y = vec![0.0; self.batch * self.output().iter().product::<usize>()];
        self.for_each_value(x.len(), |at_x, at_y| y[at_y] = x[at_x]);
        y
    }

    /// Gradient of x.
    pub fn backward(&self, dy: &[f64]) -> Vec<f64> {
        let mut dx = vec![0.0; self.batch * self.input.iter().product::<usize>()];
        self.for_each_value(dx.len(), |at_x, at_y| dx[at_x] = dy[at_y]);
        dx
    }

    /// Calls `visit` for each value of x with its index in x and in y.
    fn for_each_value(&self, values: usize, mut visit: impl FnMut(usize, usize)) {
        let ([height, width, channels], [out_height, out_width, out_channels]) = (self.input, self.output());
        let ([top, .., left], [before, _]) = (self.padding, self.channels);
        for at in 0..values {
            let (pixel, channel) = (at / channels, at % channels);
            let (row, column) = (pixel / width % height + top, pixel % width + left);
            let image = pixel / (height * width);
            visit(at, ((image * out_height + row) * out_width + column) * out_channels + before + channel);
        }
    }
}

/// The channels of several maps, each given with their number, one map after the other.
pub fn concat(maps: &[(&[f64], usize)]) -> Vec<f64> {
    let (first, channels) = maps[0];
    let pixels = 0..first.len() / channels;
    let pixel = |pixel: usize| maps.iter().flat_map(move |(x, c)| &x[pixel * c..(pixel + 1) * c]).copied();
    pixels.flat_map(pixel).collect()
}

/// The gradients of maps of so many channels from that of their [`concat`].
pub fn split(dy: &[f64], channels: &[usize]) -> Vec<Vec<f64>> {
    let mut maps = vec![Vec::new(); channels.len()];
    for mut pixel in dy.chunks_exact(channels.iter().sum()) {
        for (map, &channels) in maps.iter_mut().zip(channels) {
            let (own, rest) = pixel.split_at(channels);
            map.extend(own);
            pixel = rest;
        }
    }
    maps
}

/// Maps as rows that count channel by channel, as PyTorch's: [N, H, W, C] -> [N, 1, 1, C H W].
pub fn flatten(x: &[f64], pixels: usize, channels: usize) -> Vec<f64> {
    transpose(x, pixels, channels)
}

/// Gradient of x of a [`flatten`].
pub fn flatten_backward(dy: &[f64], pixels: usize, channels: usize) -> Vec<f64> {
    transpose(dy, channels, pixels)
}

/// Images of `rows` times `columns` values, each column by column.
fn transpose(x: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    let image = |image: &[f64]| {
        let column = |column: usize| image.iter().skip(column).step_by(columns).copied();
        (0..columns).flat_map(column).collect::<Vec<_>>()
    };
    x.chunks_exact(rows * columns).flat_map(image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{assert_close, dot, finite_difference, uniform, widen};

    #[test]
    fn values_go_where_they_should() {
        let pad = Pad { batch: 1, input: [1, 2, 1], padding: [1, 0, 0, 1], channels: [0, 1] };
        assert_eq!(pad.output(), [2, 3, 2]);
        assert_eq!(pad.forward(&[5.0, 7.0]), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0, 0.0, 7.0, 0.0]);
        let joined = concat(&[(&[1.0, 2.0], 1), (&[3.0, 4.0, 5.0, 6.0], 2)]);
        assert_eq!(joined, [1.0, 3.0, 4.0, 2.0, 5.0, 6.0]);
        assert_eq!(split(&joined, &[1, 2]), [vec![1.0, 2.0], vec![3.0, 4.0, 5.0, 6.0]]);
        let rows = flatten(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, 2);
        assert_eq!(rows, [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
        assert_eq!(flatten_backward(&rows, 3, 2), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn gradients_equal_finite_differences() {
        let pad = Pad { batch: 2, input: [3, 2, 2], padding: [1, 2, 0, 3], channels: [1, 2] };
        let (x, dy) = (widen(&uniform(1, 24)), widen(&uniform(2, 2 * 4 * 7 * 5)));
        let numeric = finite_difference(&x, 1e-3, |x| dot(&pad.forward(x), &dy));
        assert_close(&pad.backward(&dy), &numeric, 1e-9);
        let (other, dy) = (widen(&uniform(3, 36)), widen(&uniform(4, 60)));
        let numeric = finite_difference(&x, 1e-3, |x| dot(&concat(&[(x, 2), (&other, 3)]), &dy));
        assert_close(&split(&dy, &[2, 3])[0], &numeric, 1e-9);
        let numeric = finite_difference(&other, 1e-3, |other| dot(&concat(&[(&x, 2), (other, 3)]), &dy));
        assert_close(&split(&dy, &[2, 3])[1], &numeric, 1e-9);
        let numeric = finite_difference(&x, 1e-3, |x| dot(&flatten(x, 6, 2), &dy[..24]));
        assert_close(&flatten_backward(&dy[..24], 6, 2), &numeric, 1e-9);
    }
}
