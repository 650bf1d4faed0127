//! Image files become the pixels that Pillow reads from them, whatever their format, turned and resized as
//! Pillow does.
//!
//! The files and what Pillow makes of them are written by tests/golden/images.py.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

use std::{
    fs,
    path::{Path, PathBuf},
};

use fovea_data::{FolderOptions, Resize, Unreadable, decode_files, decode_image};
use fovea_formats::npy::{self, Values};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images")
}

/// The small images, in the order of their names.
fn files() -> Vec<PathBuf> {
    let all = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        all.filter(|path| path.extension().unwrap() != "npy" && !path.ends_with("large.png")).collect();
    files.sort();
    files
}

fn options(height: usize, width: usize, channels: usize) -> FolderOptions {
    let (resize, unreadable) = (Resize::Crop, Unreadable::Fail);
    FolderOptions { height, width, channels, resize, unreadable, classes: None }
}

fn decode(file: &Path, options: &FolderOptions) -> Result<Vec<i32>, String> {
    let values = decode_files(&[file.to_owned()], options).map_err(|error| error.to_string())?;
    Ok(values.into_iter().map(|value| (value * 255.0).round() as i32).collect())
}

fn expected(name: &str) -> Vec<i32> {
    let Values::U8(values) = npy::read(&directory().join(name)).unwrap().values else { panic!("{name}") };
    values.into_iter().map(i32::from).collect()
}

fn largest_difference(a: &[i32], b: &[i32]) -> i32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).max().unwrap()
}

#[test]
fn files_of_every_kind_and_orientation_are_the_pixels_that_pillow_reads() {
    for (channels, name) in [(3, "rgb.npy"), (1, "grey.npy")] {
        let expected = expected(name);
        let files = files();
        assert_eq!(files.len(), 26);
        let images = expected.chunks_exact(expected.len() / files.len());
        for (file, expected) in files.iter().zip(images) {
            let pixels = decode(file, &options(24, 16, channels)).unwrap();
            let name = file.file_name().unwrap().to_str().unwrap();
            let most = match name.split_once('.').unwrap() {
                (_, "png" | "webp") => 0,
                // Halved colours are enlarged in two steps that round, where libjpeg rounds once.
                ("jpeg_420" | "jpeg_progressive" | "jpeg_restarts", _) if channels == 3 => 4,
                _ => 2,
            };
            let difference = largest_difference(&pixels, expected);
            assert!(difference <= most, "{}: {difference}", file.display());
            let (bytes, sides) = decode_image(name, &fs::read(file).unwrap(), channels).unwrap();
            assert_eq!((sides, bytes), ([24, 16], pixels.iter().map(|&pixel| pixel as u8).collect()));
        }
    }
}

#[test]
fn images_are_resized_as_pillow_does() {
    let file = directory().join("large.png");
    for (height, width) in [(32, 32), (20, 45), (40, 12), (70, 64)] {
        for (resize, name) in [(Resize::Crop, "crop"), (Resize::Stretch, "stretch")] {
            let pixels = decode(&file, &FolderOptions { resize, ..options(height, width, 3) }).unwrap();
            let expected = expected(&format!("resized_{name}_{height}x{width}.npy"));
            let difference = largest_difference(&pixels, &expected);
            assert!(difference <= 2, "{name} {height}x{width}: {difference}");
        }
    }
}

#[test]
fn what_is_no_image_is_refused_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let message = decode(&path, &options(8, 8, 3)).unwrap_err();
        message.replace(&path.display().to_string(), name)
    };
    assert_eq!(
        refused("empty.png", &[]),
        "Expected a JPEG, PNG or WebP image for \"empty.png\" but received an empty file."
    );
    assert_eq!(
        refused("x.jpg", b"GIF89a"),
        "Expected a JPEG, PNG or WebP image for \"x.jpg\" but received the first bytes [47, 49, 46, 38, 39, 61]."
    );
    let message = decode(folder.path(), &options(8, 8, 3)).unwrap_err();
    assert!(message.contains("Expected an image file for"), "{message}");
    let message = decode(&folder.path().join("none.png"), &options(8, 8, 3)).unwrap_err();
    assert!(message.contains("Expected a file that can be read for"), "{message}");
}

#[test]
fn sizes_that_no_network_reads_are_refused() {
    for shape in [[0, 8, 3], [8, 0, 3], [8, 8, 2], [8, 8, 4], [1 << 15, 8, 3]] {
        let message = decode_files(&[], &options(shape[0], shape[1], shape[2])).unwrap_err().to_string();
        assert!(message.ends_with(&format!("but received {shape:?}.")), "{message}");
    }
}
