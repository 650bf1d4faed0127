//! Any bytes are images or labels that fill their shape, or an error.
#![no_main]

use fovea_formats::idx::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(images) = parse::<3>("fuzz", bytes) {
        assert_eq!(images.shape.iter().product::<usize>(), images.values.len());
    }
    if let Ok(labels) = parse::<1>("fuzz", bytes) {
        assert_eq!(labels.shape[0], labels.values.len());
    }
});
