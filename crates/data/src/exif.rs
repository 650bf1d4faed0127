//! How a camera was held, out of an image's EXIF data.

/// The tag of the orientation in the first directory.
const ORIENTATION: u16 = 0x0112;

/// The type of a 16-bit number.
const SHORT: u16 = 3;

/// The orientation, from 1 (as it is) to 8; 1 where the data has none or makes no sense, as viewers do.
///
/// - `data`: a TIFF header and directories, with or without the `Exif\0\0` that stands before them in a JPEG.
///
/// Source: CIPA DC-008 (EXIF 2.3), sections 4.5 and 4.6.4.
pub(crate) fn orientation(data: &[u8]) -> u8 {
    let data = data.strip_prefix(b"Exif\0\0").unwrap_or(data);
    read(data).filter(|orientation| (1..=8).contains(orientation)).map_or(1, |orientation| orientation as u8)
}

fn read(data: &[u8]) -> Option<u16> {
    let big_endian = match data.get(..4)? {
        b"II*\0" => false,
        b"MM\0*" => true,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = data.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes = data.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    };
    let directory = long(4)? as usize;
    let entries = short(directory)? as usize;
    (0..entries)
        .map(|entry| directory + 2 + 12 * entry)
        .find(|&entry| short(entry) == Some(ORIENTATION) && short(entry + 2) == Some(SHORT))
        .and_then(|entry| short(entry + 8))
}

/// Turns an image as its orientation says.
///
/// - `image`: `[height, width, channels]`, replaced by the turned image, whose sides are swapped where
///   `orientation` is 5 or more.
/// - `turned`: memory to turn it in.
pub(crate) fn turn(
    orientation: u8,
    image: &mut Vec<u8>,
    [height, width]: [usize; 2],
    turned: &mut Vec<u8>,
) -> [usize; 2] {
    if orientation == 1 {
        return [height, width];
    }
    let channels = image.len() / (height * width);
    let sides = if orientation >= 5 { [width, height] } else { [height, width] };
    turned.resize(image.len(), 0);
    for (y, row) in turned.chunks_exact_mut(sides[1] * channels).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
            let [mut from_y, mut from_x] = if orientation >= 5 { [x, y] } else { [y, x] };
            if matches!(orientation, 3 | 4 | 6 | 7) {
                from_y = height - 1 - from_y;
            }
            if matches!(orientation, 2 | 3 | 7 | 8) {
                from_x = width - 1 - from_x;
            }
            let from = (from_y * width + from_x) * channels;
            pixel.copy_from_slice(&image[from..from + channels]);
        }
    }
    std::mem::swap(image, turned);
    sides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exif(big_endian: bool, tag: u16, kind: u16, value: u16) -> Vec<u8> {
        let short = |value: u16| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let long = |value: u32| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let header: &[u8] = if big_endian { b"MM\0*" } else { b"II*\0" };
        let other = [&short(0x010f)[..], &short(2), &long(4), &long(0)].concat();
        let entry = [&short(tag)[..], &short(kind), &long(1), &short(value), &[0, 0]].concat();
        [header, &long(8), &short(2), &other, &entry, &long(0)].concat()
    }

    #[test]
    fn orientations_are_read_in_both_byte_orders_with_or_without_the_prefix() {
        for (big_endian, value) in [(false, 6), (true, 6), (false, 1), (true, 8)] {
            let data = exif(big_endian, ORIENTATION, SHORT, value);
            assert_eq!(orientation(&data), value as u8);
            assert_eq!(orientation(&[b"Exif\0\0", data.as_slice()].concat()), value as u8);
        }
    }

    #[test]
    fn what_is_no_orientation_leaves_the_image_as_it_is() {
        assert_eq!(orientation(&[]), 1);
        assert_eq!(orientation(b"II*\0\xff\xff\xff\xff"), 1);
        for data in [
            exif(false, ORIENTATION, SHORT, 0),
            exif(false, ORIENTATION, SHORT, 9),
            exif(false, ORIENTATION, 2, 6),
            exif(false, 0x0113, SHORT, 6),
        ] {
            assert_eq!(orientation(&data), 1);
        }
    }

    #[test]
    fn no_damage_makes_the_reader_panic() {
        let whole = exif(true, ORIENTATION, SHORT, 6);
        for length in 0..whole.len() {
            assert!((1..=8).contains(&orientation(&whole[..length])));
        }
        for bit in 0..whole.len() * 8 {
            let mut data = whole.clone();
            data[bit / 8] ^= 1 << (bit % 8);
            assert!((1..=8).contains(&orientation(&data)));
        }
    }

    #[test]
    fn images_are_turned_as_the_orientation_says() {
        // 1 2 3
        // 4 5 6
        let expected: [(&[u8], [usize; 2]); 8] = [
            (&[1, 2, 3, 4, 5, 6], [2, 3]),
            (&[3, 2, 1, 6, 5, 4], [2, 3]),
            (&[6, 5, 4, 3, 2, 1], [2, 3]),
            (&[4, 5, 6, 1, 2, 3], [2, 3]),
            (&[1, 4, 2, 5, 3, 6], [3, 2]),
            (&[4, 1, 5, 2, 6, 3], [3, 2]),
            (&[6, 3, 5, 2, 4, 1], [3, 2]),
            (&[3, 6, 2, 5, 1, 4], [3, 2]),
        ];
        for (orientation, (pixels, sides)) in (1..).zip(expected) {
            let mut image = vec![1, 2, 3, 4, 5, 6];
            assert_eq!(turn(orientation, &mut image, [2, 3], &mut Vec::new()), sides);
            assert_eq!(image, pixels, "orientation {orientation}");
        }
        let mut image = vec![1, 10, 2, 20];
        turn(6, &mut image, [2, 1], &mut Vec::new());
        assert_eq!(image, [2, 20, 1, 10]);
    }
}
