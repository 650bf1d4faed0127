//! Any bytes are CIFAR-10's images with their labels, or an error.
#![no_main]

use fovea_data::Dataset;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(images) = Dataset::parse_cifar10("fuzz", bytes) else { return };
    assert_eq!(images.labels().len() * 3073, bytes.len());
    assert!(images.labels().iter().all(|&label| label < 10));
});
