//! Small files that state huge images do not make a decoder ask for memory.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

use std::{fs, path::PathBuf};

use fovea_allocations::{Watched, largest};
use fovea_data::{FolderOptions, Resize, Unreadable, decode_files};

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// A file of the golden ones, with some bytes replaced.
fn changed(name: &str, find: &[u8], offset: usize, bytes: &[u8]) -> Vec<u8> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/images");
    let mut file = fs::read(directory.join(name)).unwrap();
    let at = file.windows(find.len()).position(|window| window == find).unwrap() + offset;
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn huge_sides_ask_for_less_than_a_megabyte() {
    // The check sum of a PNG's header covers its sides: it is made anew.
    let mut png = changed("rgb.png", b"IHDR", 4, &[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let mut sum = flate2::Crc::new();
    sum.update(&png[12..29]);
    png[29..33].copy_from_slice(&sum.sum().to_be_bytes());
    let jpeg = changed("jpeg_444.jpg", &[0xff, 0xc0], 5, &[0xff; 4]);
    let progressive = changed("jpeg_progressive.jpg", &[0xff, 0xc2], 5, &[0xff; 4]);
    let webp = changed("lossless.webp", b"VP8L", 9, &[0xfe, 0xbf, 0xff, 0x0f]);

    let directory = tempfile::tempdir().unwrap();
    let (resize, unreadable) = (Resize::Crop, Unreadable::Fail);
    let options = FolderOptions { height: 8, width: 8, channels: 3, resize, unreadable, classes: None };
    for (name, sides, bytes) in [
        ("a.png", "60000 x 60000", png),
        ("a.jpg", "65535 x 65535", jpeg),
        ("b.jpg", "65535 x 65535", progressive),
        ("a.webp", "16383 x 16383", webp),
    ] {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        let (decoded, largest) = largest(|| decode_files(&[path], &options));
        let message = decoded.unwrap_err().to_string();
        assert!(message.starts_with("Expected an image of 1 to 67108864 pixels"), "{message}");
        assert!(message.ends_with(&format!("but received {sides}.")), "{message}");
        assert!((1..1 << 20).contains(&largest), "{name}: {largest}");
    }
}
