//! Any bytes are a safetensors file with tensors of their shapes, or an error.
#![no_main]

use fovea_formats::safetensors::SafeTensors;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = SafeTensors::parse("fuzz", bytes) else { return };
    for name in file.names() {
        let shape = file.shape(name).unwrap();
        if let Ok(values) = file.values(name) {
            assert_eq!(shape.iter().product::<usize>(), values.len());
        }
        let _ = file.count(name);
    }
    let _ = file.metadata("format");
});
