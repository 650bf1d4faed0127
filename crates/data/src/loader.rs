//! One image after another as numbers: read, decoded, cut, resized and varied.

use std::{
    fs::File,
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use fast_image_resize::Resizer;

use crate::{
    Augment, DataError, Dataset, FolderOptions, Images, Resize,
    dataset::Source,
    decode::{Flaw, Frame},
    resize::{Part, Pixels, resize},
};

/// The largest file that is read, in bytes.
const FILE_BYTES: u64 = 1 << 28;

/// What one thread needs to make images: memory that goes from one image to the next.
#[derive(Default)]
pub(crate) struct Loader {
    file: Vec<u8>,
    frame: Frame,
    resizer: Resizer,
    bytes: Vec<u8>,
    scratch: Vec<f32>,
}

impl Loader {
    /// Makes an image, and gives its label; none where its file cannot be read and is to be left out.
    ///
    /// - `key`: the step, and the image's place in its batch: what random numbers are drawn for.
    /// - `image`: `[height, width, channels]`, which is written.
    ///
    /// Errors: a file that cannot be read, where that is not allowed.
    pub fn load(
        &mut self,
        dataset: &Dataset,
        index: u32,
        augment: &Augment,
        key: (u64, u32),
        image: &mut [f32],
    ) -> Result<Option<u32>, DataError> {
        let shape @ [height, width, _] = dataset.image_shape();
        let part = |sides| augment.part(key.0, key.1, sides);
        let mut at = index;
        match dataset.source() {
            Source::Memory(Images::U8(values)) => {
                let values = &values[dataset.values(index)];
                match part([height, width]) {
                    None => to_unit(values, image),
                    Some(part) => {
                        self.bytes.resize(image.len(), 0);
                        let source = Pixels::U8(values);
                        let sides = [height, width];
                        resize(&mut self.resizer, source, sides, part, &mut self.bytes, sides)?;
                        to_unit(&self.bytes, image);
                    }
                }
            }
            Source::Memory(Images::F32(values)) => {
                let values = &values[dataset.values(index)];
                match part([height, width]) {
                    None => image.copy_from_slice(values),
                    Some(part) => {
                        let target = bytemuck::cast_slice_mut(image);
                        let sides = [height, width];
                        resize(&mut self.resizer, Pixels::F32(values), sides, part, target, sides)?;
                    }
                }
            }
            Source::Files(folder) => loop {
                let row = dataset.row(at);
                let known = folder.is_unreadable(row);
                let read =
                    if known { None } else { folder.check(row, self.decode(&folder.path(row), shape[2]))? };
                if read.is_some() {
                    self.fit(folder.options(), part, image)?;
                    break;
                }
                at = (at + 1) % dataset.len() as u32;
                if !augment.replaces() {
                    return Ok(None);
                }
                if at == index {
                    return Err(DataError::NoReadableImage {
                        directory: folder.root().display().to_string(),
                    });
                }
            },
        }
        augment.apply(key.0, key.1, image, shape, &mut self.scratch);
        Ok(Some(dataset.labels()[at as usize]))
    }

    /// The bytes of an image of a dataset of bytes, at its final size; none where its file cannot be read.
    pub fn bytes<'a>(&'a mut self, dataset: &'a Dataset, index: u32) -> Result<Option<&'a [u8]>, DataError> {
        match dataset.source() {
            Source::Memory(Images::U8(values)) => Ok(Some(&values[dataset.values(index)])),
            Source::Memory(Images::F32(_)) => Ok(None),
            Source::Files(folder) => {
                let row = dataset.row(index);
                let known = folder.is_unreadable(row);
                let shape = dataset.image_shape();
                if known || folder.check(row, self.decode(&folder.path(row), shape[2]))?.is_none() {
                    return Ok(None);
                }
                self.resize_frame(folder.options(), None)?;
                Ok(Some(&self.bytes))
            }
        }
    }

    /// Reads a file and decodes it into the frame.
    fn decode(&mut self, path: &Path, channels: usize) -> Result<(), Flaw> {
        read(path, &mut self.file)?;
        decode(&mut self.frame, &self.file, channels)
    }

    /// Writes the decoded image as numbers in its final size.
    fn fit(
        &mut self,
        options: &FolderOptions,
        part: impl Fn([usize; 2]) -> Option<Part>,
        image: &mut [f32],
    ) -> Result<(), DataError> {
        self.resize_frame(options, part(self.frame.sides))?;
        to_unit(&self.bytes, image);
        Ok(())
    }

    fn resize_frame(&mut self, options: &FolderOptions, part: Option<Part>) -> Result<(), DataError> {
        let FolderOptions { height, width, channels, .. } = *options;
        if part.is_none() && self.frame.sides == [height, width] {
            self.bytes.clone_from(&self.frame.bytes);
            return Ok(());
        }
        let part = part.unwrap_or(match options.resize {
            Resize::Crop => Part::Middle,
            Resize::Stretch => Part::Whole,
        });
        self.bytes.resize(height * width * channels, 0);
        let source = Pixels::U8(&self.frame.bytes);
        resize(&mut self.resizer, source, self.frame.sides, part, &mut self.bytes, [height, width])
    }
}

/// Decodes an image file that is in memory: its pixels, `[height, width, channels]` in C order, and its height
/// and width.
///
/// - `file`: what names it in errors.
/// - `channels`: 1 (luminance) or 3.
///
/// Errors: bytes that are no whole JPEG, PNG or WebP image, and more than 64 million pixels.
pub fn decode_image(file: &str, bytes: &[u8], channels: usize) -> Result<(Vec<u8>, [usize; 2]), DataError> {
    let mut frame = Frame::default();
    decode(&mut frame, bytes, channels).map_err(|flaw| DataError::image(Path::new(file), flaw))?;
    Ok((frame.bytes, frame.sides))
}

/// Whatever a damaged file does to a decoder, it costs that image and not the run.
fn decode(frame: &mut Frame, file: &[u8], channels: usize) -> Result<(), Flaw> {
    catch_unwind(AssertUnwindSafe(|| frame.decode(file, channels))).unwrap_or_else(|_| {
        let received = "one that no decoder understands".to_owned();
        Err(Flaw { expected: "a whole image".to_owned(), received })
    })
}

/// Reads image files as a network takes them, `[files, height, width, channels]`, bytes divided by 255.
///
/// Errors: a file that cannot be read or is no image, whatever `options.unreadable` says.
pub fn decode_files(files: &[PathBuf], options: &FolderOptions) -> Result<Vec<f32>, DataError> {
    options.check()?;
    let length = options.height * options.width * options.channels;
    let mut images = Vec::new();
    let values = length.saturating_mul(files.len());
    images.try_reserve_exact(values).map_err(|_| DataError::Memory { values })?;
    images.resize(values, 0.0);
    let mut loader = Loader::default();
    for (image, file) in images.chunks_exact_mut(length).zip(files) {
        loader.decode(file, options.channels).map_err(|flaw| DataError::image(file, flaw))?;
        loader.fit(options, |_| None, image)?;
    }
    Ok(images)
}

/// Reads a whole file, if it is one and not too large.
fn read(path: &Path, bytes: &mut Vec<u8>) -> Result<(), Flaw> {
    let refusal = |expected: &str, received: String| Flaw { expected: expected.to_owned(), received };
    let readable = |error: std::io::Error| refusal("a file that can be read", error.to_string());
    let found = std::fs::metadata(path).map_err(readable)?;
    if !found.is_file() {
        return Err(refusal("an image file", "something else".to_owned()));
    }
    if found.len() > FILE_BYTES {
        let expected = format!("an image file of at most {FILE_BYTES} bytes");
        return Err(refusal(&expected, format!("{} bytes", found.len())));
    }
    bytes.clear();
    let file = File::open(path).map_err(readable)?;
    file.take(FILE_BYTES).read_to_end(bytes).map_err(readable)?;
    Ok(())
}

/// Bytes as fractions of 255. Divided, as PyTorch does: a product with 1/255 differs in the last bit for half
/// of them, and fetching the images from memory takes longer than the vectorised division.
pub(crate) fn to_unit(bytes: &[u8], values: &mut [f32]) {
    for (value, &byte) in values.iter_mut().zip(bytes) {
        *value = byte as f32 / 255.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_correctly_rounded_fractions_of_255() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut values = [f32::NAN; 256];
        to_unit(&bytes, &mut values);
        for (byte, value) in bytes.into_iter().zip(values) {
            assert_eq!(value, (byte as f64 / 255.0) as f32, "{byte}");
        }
        assert_eq!((values[0], values[255]), (0.0, 1.0));
    }
}
