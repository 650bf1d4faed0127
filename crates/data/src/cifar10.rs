//! CIFAR-10 (Krizhevsky 2009): 60,000 images of 32 x 32 x 3, in the two forms in which it is published.
//!
//! Binary: `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, each image a byte of label and its
//! red, green and blue planes. PNG: `data_batch_1.png` to `data_batch_5.png` and `test_batch.png`, each row an
//! image of 1024 pixels, and the labels of all training and of all test images in `train_lables.json` and
//! `test_lables.json`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use fovea_formats::FormatError;

use crate::{DataError, Dataset, Images, decode::Frame};

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;
const RECORD: usize = 1 + 3 * PIXELS;

/// The largest file that is read, in bytes: more than four times what the originals have.
const FILE_BYTES: u64 = 1 << 27;

/// The classes in the order of their labels.
const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

const TRAIN: [&str; 5] = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"];
const TEST: [&str; 1] = ["test_batch"];

impl Dataset {
    /// Reads the training and the test images of CIFAR-10 from a directory that has them in either form.
    ///
    /// Errors: a directory that has neither, files that are missing, and what is not as it should be in them.
    pub fn from_cifar10(directory: &Path) -> Result<[Dataset; 2], DataError> {
        let has = |extension: &str| directory.join(TRAIN[0]).with_extension(extension).exists();
        let read = if has("bin") {
            binary
        } else if has("png") {
            drawn
        } else {
            return Err(DataError::NoCifar10 { directory: directory.display().to_string() });
        };
        let part = |names: &[&str], labels: &str| {
            let (images, labels) = read(directory, names, labels)?;
            let shape = [labels.len(), SIDE, SIDE, 3];
            let dataset = Dataset::from_arrays(Images::U8(images), &shape, labels, Some(CLASSES.len()))?;
            dataset.with_class_names(CLASSES.map(str::to_owned).to_vec())
        };
        Ok([part(&TRAIN, "train_lables.json")?, part(&TEST, "test_lables.json")?])
    }

    /// The images of one of CIFAR-10's binary files, which is in memory; `file` names it in errors.
    ///
    /// Errors: no images or part of one, and labels above 9.
    pub fn parse_cifar10(file: &str, bytes: &[u8]) -> Result<Dataset, DataError> {
        let mut part = Part::default();
        records(Path::new(file), bytes, &mut part)?;
        let (images, labels) = part;
        let shape = [labels.len(), SIDE, SIDE, 3];
        Dataset::from_arrays(Images::U8(images), &shape, labels, Some(CLASSES.len()))
    }
}

/// Images and labels.
type Part = (Vec<u8>, Vec<u32>);

fn binary(directory: &Path, names: &[&str], _: &str) -> Result<Part, DataError> {
    let mut part = Part::default();
    for name in names {
        let path = directory.join(name).with_extension("bin");
        records(&path, &read(&path)?, &mut part)?;
    }
    Ok(part)
}

/// Adds the images and labels of a binary file.
fn records(path: &Path, bytes: &[u8], (images, labels): &mut Part) -> Result<(), DataError> {
    if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
        let expected = format!("whole images of {RECORD} bytes");
        return Err(refusal(path, expected, format!("{} bytes", bytes.len())));
    }
    for record in bytes.chunks_exact(RECORD) {
        labels.push(u32::from(record[0]));
        let planes = &record[1..];
        images.extend((0..3 * PIXELS).map(|value| planes[value % 3 * PIXELS + value / 3]));
    }
    Ok(())
}

fn drawn(directory: &Path, names: &[&str], labels: &str) -> Result<Part, DataError> {
    let mut images = Vec::new();
    let mut frame = Frame::default();
    for name in names {
        let path = directory.join(name).with_extension("png");
        frame.decode(&read(&path)?, 3).map_err(|flaw| DataError::image(&path, flaw))?;
        if frame.sides[1] != PIXELS {
            let expected = format!("rows of {PIXELS} pixels, an image each,");
            return Err(refusal(&path, expected, frame.sides[1].to_string()));
        }
        images.extend_from_slice(&frame.bytes);
    }
    let path = directory.join(labels);
    let labels: Vec<u32> = serde_json::from_slice(&read(&path)?)
        .map_err(|error| refusal(&path, "a JSON list of labels", error.to_string()))?;
    let count = images.len() / (3 * PIXELS);
    if labels.len() != count {
        let name = path.display().to_string();
        return Err(DataError::LabelCount { name, images: count, labels: labels.len() });
    }
    Ok((images, labels))
}

fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let failed = |source| FormatError::Io { file: path.display().to_string(), action: "read", source };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > FILE_BYTES {
        return Err(refusal(path, format!("at most {FILE_BYTES} bytes"), length.to_string()));
    }
    Ok(fs::read(path).map_err(failed)?)
}

fn refusal(path: &Path, expected: impl Into<String>, received: impl Into<String>) -> DataError {
    DataError::Image { file: PathBuf::from(path), expected: expected.into(), received: received.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value of an image that no other place has.
    fn value(image: usize, pixel: usize, channel: usize) -> u8 {
        (image * 31 + pixel * 7 + channel * 101) as u8
    }

    fn write(directory: &Path, extension: &str) {
        for (file, name) in TRAIN.iter().chain(&TEST).enumerate() {
            let path = directory.join(name).with_extension(extension);
            let images = [2 * file, 2 * file + 1];
            let pixels = || images.into_iter().flat_map(|image| (0..PIXELS).map(move |pixel| (image, pixel)));
            if extension == "bin" {
                let record = |image: usize| {
                    let planes = (0..3)
                        .flat_map(move |channel| (0..PIXELS).map(move |pixel| value(image, pixel, channel)));
                    [image as u8 % 10].into_iter().chain(planes)
                };
                fs::write(path, images.into_iter().flat_map(record).collect::<Vec<u8>>()).unwrap();
            } else {
                let bytes: Vec<u8> = pixels()
                    .flat_map(|(image, pixel)| [0, 1, 2].map(|channel| value(image, pixel, channel)))
                    .collect();
                let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), PIXELS as u32, 2);
                encoder.set_color(png::ColorType::Rgb);
                encoder.write_header().unwrap().write_image_data(&bytes).unwrap();
            }
        }
        if extension == "png" {
            fs::write(directory.join("train_lables.json"), "[0,1,2,3,4,5,6,7,8,9]").unwrap();
            fs::write(directory.join("test_lables.json"), "[0, 1]").unwrap();
        }
    }

    #[test]
    fn both_forms_are_the_same_images() {
        let directory = tempfile::tempdir().unwrap();
        let mut read = ["bin", "png"].map(|extension| {
            let directory = directory.path().join(extension);
            fs::create_dir(&directory).unwrap();
            write(&directory, extension);
            Dataset::from_cifar10(&directory).unwrap()
        });
        let [train, test] = &mut read[0];
        assert_eq!((train.shape(), test.shape()), ([10, 32, 32, 3], [2, 32, 32, 3]));
        assert_eq!((train.labels(), test.labels()), (&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9][..], &[0, 1][..]));
        assert_eq!(train.class_name(3), "cat");
        let Some(Images::U8(images)) = test.images() else { panic!("no bytes") };
        assert_eq!(images[PIXELS * 3 + 5 * 3 + 2], value(11, 5, 2));
        let bytes = fs::read(directory.path().join("bin/test_batch.bin")).unwrap();
        let parsed = Dataset::parse_cifar10("test_batch.bin", &bytes).unwrap();
        assert_eq!((parsed.images(), parsed.labels()), (read[0][1].images(), read[0][1].labels()));
        for part in 0..2 {
            assert_eq!(read[0][part].images(), read[1][part].images());
            assert_eq!(read[0][part].labels(), read[1][part].labels());
        }
    }

    #[test]
    fn what_is_missing_or_damaged_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let refused = || Dataset::from_cifar10(path).map(|_| ()).unwrap_err().to_string();
        assert!(refused().contains("data_batch_1.bin nor data_batch_1.png"), "{}", refused());
        write(path, "png");
        fs::write(path.join("test_lables.json"), "[0]").unwrap();
        assert!(refused().contains("test_lables.json\" but received 1."), "{}", refused());
        fs::write(path.join("test_lables.json"), "{").unwrap();
        assert!(refused().contains("a JSON list of labels"), "{}", refused());
        fs::remove_file(path.join("data_batch_4.png")).unwrap();
        assert!(refused().contains("data_batch_4.png"), "{}", refused());
        write(path, "bin");
        fs::write(path.join("data_batch_2.bin"), vec![0; RECORD + 1]).unwrap();
        assert!(refused().contains("data_batch_2.bin\" but received 3074 bytes."), "{}", refused());
        fs::write(path.join("data_batch_2.bin"), vec![10; RECORD]).unwrap();
        assert!(refused().contains("labels from 0 to 9"), "{}", refused());
    }
}
