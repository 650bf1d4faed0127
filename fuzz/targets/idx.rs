//! Any bytes are images or labels that fill their shape, or an error, and are the same when they are compressed.
#![no_main]

use flate2::{Compression, read::GzEncoder};
use fovea_formats::idx::parse;
use libfuzzer_sys::fuzz_target;
use std::io::Read;

fuzz_target!(|bytes: &[u8]| {
    let mut packed = Vec::new();
    GzEncoder::new(bytes, Compression::fast()).read_to_end(&mut packed).unwrap();
    check::<3>(bytes, &packed);
    check::<1>(bytes, &packed);
});

fn check<const RANK: usize>(bytes: &[u8], packed: &[u8]) {
    let array = parse::<RANK>("fuzz", bytes).ok();
    if let Some(array) = &array {
        assert_eq!(array.shape.iter().product::<usize>(), array.values.len());
    }
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        assert_eq!(parse::<RANK>("fuzz", packed).ok(), array);
    }
}
