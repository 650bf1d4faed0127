//! Files that state billions of elements do not make a parser ask for memory.

use fovea_allocations::{Watched, largest};
use fovea_formats::{idx, npy, safetensors::SafeTensors};

#[global_allocator]
static ALLOCATOR: Watched = Watched;

fn npy_header(shape: &str) -> Vec<u8> {
    let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\x00", (header.len() as u16).to_le_bytes().as_slice(), header.as_bytes(), &[0; 8]]
        .concat()
}

fn safetensors_header(length: u64, shape: &str, end: &str) -> Vec<u8> {
    let header = format!("{{\"x\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,{end}]}}}}");
    let length = if length == 0 { header.len() as u64 } else { length };
    [&length.to_le_bytes(), header.as_bytes(), &[0; 4]].concat()
}

#[test]
fn hostile_headers_ask_for_less_than_a_megabyte() {
    let ((), largest) = largest(refuse_hostile_headers);
    assert!((1..1 << 20).contains(&largest), "{largest}");
}

fn refuse_hostile_headers() {
    let image_header = |sides: [u32; 3]| {
        [[0, 0, 8, 3], sides[0].to_be_bytes(), sides[1].to_be_bytes(), sides[2].to_be_bytes()].concat()
    };
    for sides in [[4_000_000_000, 1, 1], [1, 50_000, 50_000], [u32::MAX; 3]] {
        assert!(idx::parse::<3>("images", &image_header(sides)).is_err());
    }
    for shape in ["(4000000000,)", "(50000, 50000)", "(0, 9223372036854775807)"] {
        assert!(npy::parse("x.npy", &npy_header(shape)).is_err());
    }
    assert!(npy::parse("x.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{").is_err());
    for (length, shape, end) in [
        (0, "[4000000000]", "16000000000"),
        (0, "[4000000000]", "4"),
        (u64::MAX, "[1]", "4"),
        (99_999_999, "[1]", "4"),
    ] {
        assert!(SafeTensors::parse("x.safetensors", safetensors_header(length, shape, end)).is_err());
    }
}
