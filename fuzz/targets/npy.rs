//! Any bytes are an array that fills its shape, or an error.
#![no_main]

use fovea_formats::npy::{Values, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(array) = parse("fuzz", bytes) else { return };
    let length = match array.values {
        Values::U8(values) => values.len(),
        Values::U16(values) => values.len(),
        Values::U32(values) => values.len(),
        Values::U64(values) => values.len(),
        Values::I8(values) => values.len(),
        Values::I16(values) => values.len(),
        Values::I32(values) => values.len(),
        Values::I64(values) => values.len(),
        Values::F32(values) => values.len(),
        Values::F64(values) => values.len(),
    };
    assert_eq!(array.shape.iter().product::<usize>(), length);
});
