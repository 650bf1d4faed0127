//! Any bytes are an image of as many pixels as its sides say, turned as its EXIF data says, or an error.
#![no_main]

use fovea_data::decode_image;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let channels = if bytes.len() % 2 == 0 { 1 } else { 3 };
    let Ok((pixels, [height, width])) = decode_image("fuzz", bytes, channels) else { return };
    assert_eq!(pixels.len(), height * width * channels);
});
