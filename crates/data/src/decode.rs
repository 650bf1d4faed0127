//! Image files as bytes of pixels: JPEG, PNG and WebP.
//!
//! The format is told by a file's first bytes, whatever its name says. Images are turned as their EXIF data
//! says, and transparency is dropped, as Pillow's `convert("RGB")` does. Nothing is believed: the sides are
//! looked at before memory is taken for them, and what ends too early is refused.
//!
//! PNG and WebP give Pillow's bytes. JPEG's may differ by 2, as decoders round their transforms in other ways,
//! and by 4 where colours are halved: the same triangle filter enlarges them, but ours rounds after each
//! direction, libjpeg once.

use std::io::Cursor;

use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

use crate::exif;

/// The most pixels that an image may have: 64 million, more than any camera's but few enough for memory.
const PIXELS: usize = 1 << 26;

/// What a decoder may take beside the pixels, in bytes.
const DECODER_BYTES: usize = 1 << 29;

/// A decoded image, and the memory to decode the next one in.
#[derive(Default)]
pub(crate) struct Frame {
    /// `[height, width, channels]` in C order.
    pub bytes: Vec<u8>,
    /// Height and width.
    pub sides: [usize; 2],
    spare: Vec<u8>,
}

/// Why a file is no image: what was expected, and what was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    pub expected: String,
    pub received: String,
}

impl Flaw {
    fn new(expected: impl Into<String>, received: impl Into<String>) -> Flaw {
        Flaw { expected: expected.into(), received: received.into() }
    }

    fn damaged(format: &str, error: impl std::fmt::Display) -> Flaw {
        Flaw::new(format!("a whole {format} image"), format!("a damaged one ({error})"))
    }
}

/// What a decoder has found, before it is turned and given the channels that are wanted.
struct Raw {
    sides: [usize; 2],
    channels: usize,
    orientation: u8,
}

impl Frame {
    /// Decodes a file.
    ///
    /// - `channels`: 1 (luminance, weighted as Pillow does) or 3.
    ///
    /// Errors: another format, a damaged file, and more than 64 million pixels; the frame then holds nothing of
    /// use.
    pub fn decode(&mut self, file: &[u8], channels: usize) -> Result<(), Flaw> {
        let raw = match *file {
            [0xff, 0xd8, 0xff, ..] => self.jpeg(file),
            [0x89, b'P', b'N', b'G', ..] => self.png(file),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => self.webp(file),
            [] => Err(Flaw::new("a JPEG, PNG or WebP image", "an empty file")),
            _ => {
                let first = &file[..file.len().min(8)];
                Err(Flaw::new("a JPEG, PNG or WebP image", format!("the first bytes {first:02x?}")))
            }
        }?;
        self.convert(raw.channels, channels);
        self.sides = exif::turn(raw.orientation, &mut self.bytes, raw.sides, &mut self.spare);
        Ok(())
    }

    fn jpeg(&mut self, file: &[u8]) -> Result<Raw, Flaw> {
        let damaged = |error: &dyn std::fmt::Display| Flaw::damaged("JPEG", error);
        // Bytes between the headers harm nobody; in the image they mean that something is missing.
        let options = DecoderOptions::default().set_strict_mode(false);
        let options = options.set_max_width(usize::from(u16::MAX)).set_max_height(usize::from(u16::MAX));
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
        decoder.decode_headers().map_err(|error| damaged(&error))?;
        let (width, height) = decoder.dimensions().ok_or_else(|| damaged(&"it has no size"))?;
        let sides = [height, width];
        check_sides(sides)?;
        if !ends(file) {
            return Err(damaged(&"its end is missing"));
        }
        let (space, channels) = match decoder.input_colorspace() {
            Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
            _ => (ColorSpace::RGB, 3),
        };
        decoder.set_options(options.set_strict_mode(true).jpeg_set_out_colorspace(space));
        self.make_room(height * width * channels)?;
        decoder.decode_into(&mut self.bytes).map_err(|error| damaged(&error))?;
        let orientation = decoder.exif().map_or(1, |data| exif::orientation(data));
        Ok(Raw { sides, channels, orientation })
    }

    fn png(&mut self, file: &[u8]) -> Result<Raw, Flaw> {
        let damaged = |error: png::DecodingError| Flaw::damaged("PNG", error);
        let limits = png::Limits { bytes: DECODER_BYTES };
        let mut decoder = png::Decoder::new_with_limits(Cursor::new(file), limits);
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let info = decoder.read_header_info().map_err(damaged)?;
        let sides = [info.height as usize, info.width as usize];
        check_sides(sides)?;
        let mut reader = decoder.read_info().map_err(damaged)?;
        let channels = match reader.output_color_type().0 {
            png::ColorType::Grayscale => 1,
            png::ColorType::GrayscaleAlpha => 2,
            png::ColorType::Rgb | png::ColorType::Indexed => 3,
            png::ColorType::Rgba => 4,
        };
        self.make_room(sides[0] * sides[1] * channels)?;
        reader.next_frame(&mut self.bytes).map_err(damaged)?;
        let orientation = reader.info().exif_metadata.as_ref().map_or(1, |data| exif::orientation(data));
        Ok(Raw { sides, channels, orientation })
    }

    fn webp(&mut self, file: &[u8]) -> Result<Raw, Flaw> {
        let damaged = |error: image_webp::DecodingError| Flaw::damaged("WebP", error);
        // The decoder looks at the chunks that it needs; what is cut off after them may say how the image is
        // turned.
        let length = file.get(4..8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
        if u64::from(length) + 8 > file.len() as u64 {
            return Err(Flaw::damaged("WebP", "its end is missing"));
        }
        let mut decoder = image_webp::WebPDecoder::new(Cursor::new(file)).map_err(damaged)?;
        let (width, height) = decoder.dimensions();
        let sides = [height as usize, width as usize];
        check_sides(sides)?;
        decoder.set_memory_limit(DECODER_BYTES);
        let channels = if decoder.has_alpha() { 4 } else { 3 };
        self.make_room(sides[0] * sides[1] * channels)?;
        decoder.read_image(&mut self.bytes).map_err(damaged)?;
        let orientation = decoder.exif_metadata().ok().flatten().map_or(1, |data| exif::orientation(&data));
        Ok(Raw { sides, channels, orientation })
    }

    fn make_room(&mut self, count: usize) -> Result<(), Flaw> {
        self.bytes.clear();
        let reserved = self.bytes.try_reserve_exact(count);
        reserved.map_err(|_| Flaw::new("enough free memory", format!("an image of {count} bytes")))?;
        self.bytes.resize(count, 0);
        Ok(())
    }

    /// Gives the pixels the channels that are wanted: 1 or 3, from 1 to 4 with the even ones' last dropped.
    fn convert(&mut self, from: usize, to: usize) {
        if from == to {
            return;
        }
        self.spare.clear();
        let colour = from >= 3;
        match (colour, to) {
            (false, 1) => self.spare.extend(self.bytes.chunks_exact(from).map(|pixel| pixel[0])),
            (false, _) => self.spare.extend(self.bytes.chunks_exact(from).flat_map(|pixel| [pixel[0]; 3])),
            (true, 1) => self.spare.extend(self.bytes.chunks_exact(from).map(luminance)),
            (true, _) => {
                let colours = self.bytes.chunks_exact(from).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]);
                self.spare.extend(colours);
            }
        }
        std::mem::swap(&mut self.bytes, &mut self.spare);
    }
}

/// ITU-R 601's luminance in Pillow's fixed-point numbers.
fn luminance(pixel: &[u8]) -> u8 {
    let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
    ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16) as u8
}

fn check_sides([height, width]: [usize; 2]) -> Result<(), Flaw> {
    if height == 0 || width == 0 || height.saturating_mul(width) > PIXELS {
        let expected = format!("an image of 1 to {PIXELS} pixels");
        return Err(Flaw::new(expected, format!("{width} x {height}")));
    }
    Ok(())
}

/// Whether a JPEG has its end: the marker cannot stand in compressed data, but in the thumbnail of a header it
/// can.
fn ends(file: &[u8]) -> bool {
    let mut at = 2;
    while let [0xff, marker, high, low] = file[at.min(file.len())..][..4.min(file.len().saturating_sub(at))] {
        match marker {
            0xff => at += 1, // a fill byte
            0xda => return file[at..].windows(2).rev().any(|pair| pair == [0xff, 0xd9]),
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    true // no headers as they should be: the decoder has found its own way
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// The small images of tests/images, by name.
    fn files() -> Vec<(String, Vec<u8>)> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images");
        let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let images = paths.filter(|path| path.extension().unwrap() != "npy" && !path.ends_with("large.png"));
        images.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused_or_has_all_its_pixels() {
        let (mut frame, mut whole) = (Frame::default(), Frame::default());
        for (name, file) in files() {
            whole.decode(&file, 3).unwrap();
            for length in 0..file.len() {
                match frame.decode(&file[..length], 3) {
                    // A PNG has only its end after the pixels.
                    Ok(()) => {
                        assert!(frame.bytes == whole.bytes && file.len() - length <= 16, "{name} {length}")
                    }
                    Err(flaw) => assert!(flaw.expected.contains("image"), "{name} {length}: {flaw:?}"),
                }
            }
        }
    }

    #[test]
    fn no_flipped_bit_makes_a_decoder_panic() {
        let mut frame = Frame::default();
        for (name, file) in files() {
            // Every bit of some headers, and some of all the rest.
            for bit in (0..file.len() * 8).filter(|bit| bit / 8 < 48 || bit % 7 == 0) {
                let mut bytes = file.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                if frame.decode(&bytes, 3).is_ok() {
                    let [height, width] = frame.sides;
                    assert_eq!(frame.bytes.len(), height * width * 3, "{name} {bit}");
                }
            }
        }
    }

    #[test]
    fn random_bytes_after_a_signature_are_refused_without_a_panic() {
        let mut frame = Frame::default();
        let mut state = 1u64;
        for signature in [&[0xff, 0xd8, 0xff][..], b"\x89PNG\r\n\x1a\n", b"RIFF\x30\0\0\0WEBPVP8 "] {
            for _ in 0..2000 {
                let mut random = || {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (state >> 33) as u8
                };
                let length = usize::from(random() % 64);
                let bytes = [signature, &(0..length).map(|_| random()).collect::<Vec<u8>>()].concat();
                assert!(frame.decode(&bytes, 3).is_err());
            }
        }
    }
}
