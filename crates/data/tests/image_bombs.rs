//! Small files that state huge images do not make a decoder ask for memory.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use fovea_data::{FolderOptions, Resize, Unreadable, decode_files};

/// The system's allocator, noting the largest request.
struct Largest;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every request goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Largest {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Largest = Largest;

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
        LARGEST.store(0, Ordering::Relaxed);
        let message = decode_files(&[path], &options).unwrap_err().to_string();
        let largest = LARGEST.load(Ordering::Relaxed);
        assert!(message.starts_with("Expected an image of 1 to 67108864 pixels"), "{message}");
        assert!(message.ends_with(&format!("but received {sides}.")), "{message}");
        assert!((1..1 << 20).contains(&largest), "{name}: {largest}");
    }
}
