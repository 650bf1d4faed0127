//! Another order of the channels of each pixel: between how a flattened map counts here, pixel by pixel, and how callers
//! count, channel by channel.

use crate::parts::Parts;
use crate::{Context, View4, ViewMut4};

/// y\[pixel\]\[i\] = x\[pixel\]\[from\[i\]\].
///
/// Shapes: x and y `[n, h, w, c]`, from `[c]`.
///
/// # Panics
/// If the shapes differ, or `from` is not as long as a pixel or names a channel that there is not.
pub fn reorder(context: Context, x: View4, from: &[u32], y: ViewMut4) {
    assert_eq!(x.shape(), y.shape(), "operands of different shapes");
    assert_eq!(from.len(), x.c(), "an order of as many channels");
    assert!(from.iter().all(|&channel| (channel as usize) < x.c()), "channels that there are");
    let parts = Parts::new(x.pixels(), x.c());
    context.pool.run(parts.count(), |_, part| {
        for pixel in parts.range(part) {
            let (x, y) = (x.pixel(pixel), y.pixel(pixel));
            for (channel, &from) in from.iter().enumerate() {
                // SAFETY: the pixel is one of both views and no other part has it; both channels are below `c`.
                unsafe { *y.add(channel) = *x.add(from as usize) };
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Isa, Pool};
    use fovea_reference::check::uniform;

    #[test]
    fn every_pixel_of_views_whose_pixels_stand_apart_is_reordered() {
        let pool = Pool::new(2);
        let context = Context { isa: Isa::available()[0], pool: &pool };
        for [n, h, w, c] in [[1, 1, 1, 1], [3, 1, 1, 70], [2, 3, 5, 7], [200, 1, 1, 33]] {
            let (x_ld, y_ld) = (c + 3, c + 1);
            let x = uniform(1, n * h * w * x_ld);
            let mut y = vec![f32::NAN; n * h * w * y_ld];
            let from: Vec<u32> = (0..c as u32).rev().collect();
            let shape = [n, h, w, c];
            let view = View4::new(&x, shape, x_ld).unwrap();
            reorder(context, view, &from, ViewMut4::new(&mut y, shape, y_ld).unwrap());
            for (x, y) in x.chunks(x_ld).zip(y.chunks(y_ld)) {
                let expected: Vec<f32> = x[..c].iter().rev().copied().collect();
                assert_eq!(y[..c], expected);
                assert!(y[c..].iter().all(|value| value.is_nan()));
            }
        }
    }
}
