//! Images in another size.

use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images};

use crate::DataError;

/// Channels that the resizer takes.
pub(crate) const CHANNELS: std::ops::RangeInclusive<usize> = 1..=4;

/// What part of an image is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part {
    /// All of it, whatever that does to its proportions.
    Whole,
    /// The largest part in the middle that has the target's proportions.
    Middle,
    /// A rectangle: left, top, width, height in pixels.
    Rectangle([usize; 4]),
}

/// Pixels of an image, `[height, width, channels]` in C order.
#[derive(Clone, Copy)]
pub(crate) enum Pixels<'a> {
    U8(&'a [u8]),
    F32(&'a [f32]),
}

/// Resizes a part of an image bilinearly, averaging over all that a target pixel covers: Pillow's
/// `resize(size, BILINEAR, box)`, and for [`Part::Middle`] its `ImageOps.fit`.
///
/// - `from`: `[height, width]` of the source.
/// - `to`: `[height, width]` of the target.
/// - `target`: bytes of the source's element type, as many as `to` needs.
///
/// Errors: sizes that do not fit the pixels, which would be a fault in this crate.
pub(crate) fn resize(
    resizer: &mut Resizer,
    source: Pixels,
    from: [usize; 2],
    part: Part,
    target: &mut [u8],
    [height, width]: [usize; 2],
) -> Result<(), DataError> {
    let fault = |error: &dyn std::fmt::Display| DataError::Resize { reason: error.to_string() };
    let (bytes, len): (&[u8], usize) = match source {
        Pixels::U8(values) => (values, values.len()),
        Pixels::F32(values) => (bytemuck::cast_slice(values), values.len()),
    };
    let pixel = match (source, len / (from[0] * from[1]).max(1)) {
        (Pixels::U8(_), 1) => PixelType::U8,
        (Pixels::U8(_), 2) => PixelType::U8x2,
        (Pixels::U8(_), 3) => PixelType::U8x3,
        (Pixels::U8(_), 4) => PixelType::U8x4,
        (Pixels::F32(_), 1) => PixelType::F32,
        (Pixels::F32(_), 2) => PixelType::F32x2,
        (Pixels::F32(_), 3) => PixelType::F32x3,
        (Pixels::F32(_), 4) => PixelType::F32x4,
        (_, channels) => return Err(fault(&format_args!("{channels} channels"))),
    };
    let source = images::ImageRef::new(from[1] as u32, from[0] as u32, bytes, pixel);
    let source = source.map_err(|error| fault(&error))?;
    let target = images::Image::from_slice_u8(width as u32, height as u32, target, pixel);
    let mut target = target.map_err(|error| fault(&error))?;
    // The fourth channel is one like the others.
    let options = ResizeOptions::new().use_alpha(false);
    let options = options.resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    let options = match part {
        Part::Whole => options,
        Part::Middle => options.fit_into_destination(None),
        Part::Rectangle(rectangle) => {
            let [left, top, width, height] = rectangle.map(|side| side as f64);
            options.crop(left, top, width, height)
        }
    };
    resizer.resize(&source, &mut target, &options).map_err(|error| fault(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_averages_over_the_triangle_that_a_pixel_covers() {
        let row = [0u8, 40, 80, 120, 160, 200, 240, 255];
        let mut half = [0; 4];
        let mut resizer = Resizer::new();
        resize(&mut resizer, Pixels::U8(&row), [1, 8], Part::Whole, &mut half, [1, 4]).unwrap();
        // Weights 1/8, 3/8, 3/8, 1/8 around each centre, cut off at the borders.
        assert_eq!(half, [29, 100, 180, 241]);
    }

    #[test]
    fn floats_are_resized_as_bytes_are() {
        let bytes: Vec<u8> = (0..5 * 7 * 3).map(|value| (value * 37 % 256) as u8).collect();
        let floats: Vec<f32> = bytes.iter().map(|&byte| byte as f32).collect();
        let mut resizer = Resizer::new();
        for part in [Part::Whole, Part::Middle, Part::Rectangle([2, 1, 4, 3])] {
            let mut small = [0; 27];
            resize(&mut resizer, Pixels::U8(&bytes), [5, 7], part, &mut small, [3, 3]).unwrap();
            let mut exact = [0f32; 27];
            let target = bytemuck::cast_slice_mut(&mut exact);
            resize(&mut resizer, Pixels::F32(&floats), [5, 7], part, target, [3, 3]).unwrap();
            for (byte, value) in small.into_iter().zip(exact) {
                assert!((byte as f32 - value).abs() <= 1.0, "{byte} {value} {part:?}");
            }
        }
    }

    #[test]
    fn a_fourth_channel_is_no_transparency() {
        let pixels = [100, 100, 100, 0].repeat(16);
        let mut small = [0; 16];
        let mut resizer = Resizer::new();
        resize(&mut resizer, Pixels::U8(&pixels), [4, 4], Part::Whole, &mut small, [2, 2]).unwrap();
        assert_eq!(small.as_slice(), [100, 100, 100, 0].repeat(4));
    }
}
