//! Images and labels, checked once.

use std::{ops::Range, path::Path, sync::Arc};

use fovea_formats::{
    idx,
    npy::{self, Values},
};
use fovea_kernels::threads::Pool;

use crate::{DataError, folder::Folder, loader::to_unit};

/// More threads than this wait for the disk or for one another.
const MOST_THREADS: usize = 16;

/// The pixels of all images, `[images, height, width, channels]` in C order.
#[derive(Clone, Debug, PartialEq)]
pub enum Images {
    /// Bytes; a batch has them divided by 255.
    U8(Vec<u8>),
    /// Numbers that a batch has as they are.
    F32(Vec<f32>),
}

impl Images {
    /// The numbers as a batch has them.
    pub fn into_values(self) -> Vec<f32> {
        match self {
            Self::U8(bytes) => {
                let mut values = vec![0.0; bytes.len()];
                to_unit(&bytes, &mut values);
                values
            }
            Self::F32(values) => values,
        }
    }
}

/// Where the pixels are.
#[derive(Debug)]
pub(crate) enum Source {
    /// In memory.
    Memory(Images),
    /// In files, which are read when they are needed.
    Files(Folder),
}

/// Labelled images that have been checked: counts agree, labels are below the number of classes, numbers are
/// finite.
///
/// Parts of a dataset share its pixels; a copy costs the indices and labels of its images.
#[derive(Clone, Debug)]
pub struct Dataset {
    source: Arc<Source>,
    /// Which images of the source these are.
    rows: Vec<u32>,
    shape: [usize; 4],
    labels: Vec<u32>,
    classes: usize,
    /// One for each class, or none where they are numbers only.
    class_names: Arc<[String]>,
}

impl Dataset {
    /// Reads images and labels in the format of MNIST: IDX files of bytes, of rank 3 and 1.
    ///
    /// - `classes`: the number of classes; by default the largest label plus 1.
    ///
    /// Errors: what the files or the checks refuse.
    pub fn from_idx(images: &Path, labels: &Path, classes: Option<usize>) -> Result<Dataset, DataError> {
        let idx::Idx { shape, values } = idx::read::<3>(images)?;
        let read = Images::U8(values);
        let shape = check_images(&images.display().to_string(), &read, &shape)?;
        let name = labels.display().to_string();
        let (labels, classes) = check_labels(&name, idx::read::<1>(labels)?.values, shape[0], classes)?;
        Dataset::new(Source::Memory(read), shape, labels, classes, Vec::new())
    }

    /// Reads images and labels from NPY files.
    ///
    /// - `images`: `[images, height, width, channels]`, or `[images, height, width]` of one channel, of
    ///   `uint8`, `float32` or `float64` (which is rounded to `float32`).
    /// - `labels`: rank 1, of any integer type.
    /// - `classes`: the number of classes; by default the largest label plus 1.
    ///
    /// Errors: what the files or the checks refuse.
    pub fn from_npy(images: &Path, labels: &Path, classes: Option<usize>) -> Result<Dataset, DataError> {
        let name = images.display().to_string();
        let npy::Array { shape, values } = npy::read(images)?;
        let images = match values {
            Values::U8(values) => Images::U8(values),
            Values::F32(values) => Images::F32(values),
            Values::F64(values) => Images::F32(values.into_iter().map(|value| value as f32).collect()),
            other => {
                let expected = "images of uint8, float32 or float64";
                return Err(DataError::ElementType { name, expected, received: other.name() });
            }
        };
        let shape = check_images(&name, &images, &shape)?;

        let name = labels.display().to_string();
        let labels = npy::read(labels)?;
        if labels.shape.len() != 1 {
            return Err(DataError::LabelRank { name, shape: labels.shape });
        }
        let (labels, classes) = match labels.values {
            Values::U8(labels) => check_labels(&name, labels, shape[0], classes)?,
            Values::U16(labels) => check_labels(&name, labels, shape[0], classes)?,
            Values::U32(labels) => check_labels(&name, labels, shape[0], classes)?,
            Values::U64(labels) => check_labels(&name, labels, shape[0], classes)?,
            Values::I8(labels) => check_labels(&name, labels, shape[0], classes)?,
            Values::I16(labels) => check_labels(&name, labels, shape[0], classes)?,
            Values::I32(labels) => check_labels(&name, labels, shape[0], classes)?,
            Values::I64(labels) => check_labels(&name, labels, shape[0], classes)?,
            other @ (Values::F32(_) | Values::F64(_)) => {
                let expected = "labels of an integer type";
                return Err(DataError::ElementType { name, expected, received: other.name() });
            }
        };
        Dataset::new(Source::Memory(images), shape, labels, classes, Vec::new())
    }

    /// Takes images and labels that are in memory.
    ///
    /// - `shape`: `[images, height, width, channels]`, or `[images, height, width]` of one channel.
    /// - `labels`: one for each image.
    /// - `classes`: the number of classes; by default the largest label plus 1.
    ///
    /// Errors: what the checks refuse.
    pub fn from_arrays(
        images: Images,
        shape: &[usize],
        labels: Vec<u32>,
        classes: Option<usize>,
    ) -> Result<Dataset, DataError> {
        let shape = check_images("images", &images, shape)?;
        let (labels, classes) = check_labels("labels", labels, shape[0], classes)?;
        Dataset::new(Source::Memory(images), shape, labels, classes, Vec::new())
    }

    /// Puts together what has been checked.
    ///
    /// Errors: more images than indices can tell apart.
    pub(crate) fn new(
        source: Source,
        shape: [usize; 4],
        labels: Vec<u32>,
        classes: usize,
        class_names: Vec<String>,
    ) -> Result<Dataset, DataError> {
        let count = u32::try_from(shape[0]);
        let count =
            count.map_err(|_| DataError::TooManyImages { name: "images".to_owned(), received: shape[0] })?;
        let (source, class_names) = (Arc::new(source), class_names.into());
        Ok(Dataset { source, rows: (0..count).collect(), shape, labels, classes, class_names })
    }

    /// Names the classes, in the order of their labels.
    ///
    /// Errors: another number of names than of classes; where labels said how many classes there are, there may
    /// be more names.
    pub fn with_class_names(mut self, names: Vec<String>) -> Result<Dataset, DataError> {
        if names.len() < self.classes {
            return Err(DataError::ClassNames { classes: self.classes, received: names.len() });
        }
        self.classes = names.len();
        self.class_names = names.into();
        Ok(self)
    }

    /// These images of the dataset; each index is below its length.
    pub(crate) fn select(&self, indices: &[u32]) -> Dataset {
        let pick = |values: &[u32]| indices.iter().map(|&index| values[index as usize]).collect::<Vec<u32>>();
        let [_, height, width, channels] = self.shape;
        let shape = [indices.len(), height, width, channels];
        Dataset { rows: pick(&self.rows), labels: pick(&self.labels), shape, ..self.clone() }
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Where an image stands in the source.
    pub(crate) fn row(&self, index: u32) -> u32 {
        self.rows[index as usize]
    }

    /// Where the values of an image stand, when they are in memory.
    pub(crate) fn values(&self, index: u32) -> Range<usize> {
        let (row, length) = (self.row(index) as usize, self.image_len());
        row * length..(row + 1) * length
    }

    /// Threads that are worth while to make batches with: decoding takes all that there are, copying takes one.
    pub(crate) fn loader_threads(&self) -> usize {
        match *self.source {
            Source::Memory(_) => 1,
            Source::Files(_) => Pool::default_threads().min(MOST_THREADS),
        }
    }

    /// The pixels of all images of the source, which a part of a dataset shares; none where they are in files.
    pub fn images(&self) -> Option<&Images> {
        match &*self.source {
            Source::Memory(images) => Some(images),
            Source::Files(_) => None,
        }
    }

    /// `[images, height, width, channels]`, each at least 1.
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// One class for each image.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The number of classes; every label is below it.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The name of a class, by default its number.
    pub fn class_name(&self, label: usize) -> String {
        self.class_names.get(label).cloned().unwrap_or_else(|| label.to_string())
    }

    /// The number of images, at least 1.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.shape[0]
    }

    /// Height, width and channels of an image.
    pub fn image_shape(&self) -> [usize; 3] {
        let [_, height, width, channels] = self.shape;
        [height, width, channels]
    }

    /// The number of values of one image: height x width x channels.
    pub fn image_len(&self) -> usize {
        self.shape[1..].iter().product()
    }
}

/// Checks the pixels and returns the shape of rank 4.
fn check_images(name: &str, images: &Images, shape: &[usize]) -> Result<[usize; 4], DataError> {
    let name = || name.to_owned();
    let full = match *shape {
        [n, h, w] => [n, h, w, 1],
        [n, h, w, c] => [n, h, w, c],
        _ => [0; 4],
    };
    if full.contains(&0) {
        return Err(DataError::Shape { name: name(), shape: shape.to_vec() });
    }
    if u32::try_from(full[0]).is_err() {
        return Err(DataError::TooManyImages { name: name(), received: full[0] });
    }
    let received = match images {
        Images::U8(values) => values.len(),
        Images::F32(values) => values.len(),
    };
    if full.iter().try_fold(1usize, |count, &side| count.checked_mul(side)) != Some(received) {
        return Err(DataError::Length { name: name(), shape: shape.to_vec(), received });
    }
    if let Images::F32(values) = images
        && let Some(index) = values.iter().position(|value| !value.is_finite())
    {
        let image = index / (received / full[0]);
        return Err(DataError::NotFinite { name: name(), value: values[index], image });
    }
    Ok(full)
}

/// Checks the labels of that many images, and returns them with the number of classes.
fn check_labels<T: Copy + TryInto<u32> + Into<i128>>(
    name: &str,
    labels: Vec<T>,
    images: usize,
    classes: Option<usize>,
) -> Result<(Vec<u32>, usize), DataError> {
    let name = || name.to_owned();
    if labels.len() != images {
        return Err(DataError::LabelCount { name: name(), images, labels: labels.len() });
    }
    let largest = match classes {
        None => u32::MAX - 1, // so that the number of classes is a u32 too
        Some(classes) => match u32::try_from(classes) {
            Ok(classes @ 1..) => classes - 1,
            _ => return Err(DataError::Classes { name: name(), received: classes }),
        },
    };
    let check = |(index, label): (usize, T)| match label.try_into() {
        Ok(label) if label <= largest => Ok(label),
        _ => Err(DataError::Label { name: name(), largest, label: label.into(), index }),
    };
    let labels: Vec<u32> = labels.into_iter().enumerate().map(check).collect::<Result<_, _>>()?;
    let classes = classes.unwrap_or_else(|| labels.iter().max().map_or(0, |&label| label as usize + 1));
    Ok((labels, classes))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    /// A directory to put made files in.
    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Files {
            Files(tempfile::tempdir().unwrap())
        }

        fn add(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        }

        fn npy(&self, name: &str, descr: &str, shape: &str, elements: &[u8]) -> PathBuf {
            let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
            let length = (header.len() as u16).to_le_bytes();
            self.add(name, &[b"\x93NUMPY\x01\x00", length.as_slice(), header.as_bytes(), elements].concat())
        }
    }

    /// The sentence of an error, with the file's name in place of its path.
    fn sentence(result: Result<Dataset, DataError>) -> String {
        let message = result.unwrap_err().to_string();
        let (before, rest) = message.split_once("for \"").unwrap();
        let (path, after) = rest.split_once('"').unwrap();
        format!("{before}for \"{}\"{after}", path.rsplit('/').next().unwrap())
    }

    fn arrays(
        images: Images,
        shape: &[usize],
        labels: &[u32],
        classes: Option<usize>,
    ) -> Result<Dataset, DataError> {
        Dataset::from_arrays(images, shape, labels.to_vec(), classes)
    }

    #[test]
    fn idx_files_become_images_of_one_channel() {
        let files = Files::new();
        let images = files.add(
            "images",
            &[&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3][..], &[1, 2, 3, 4, 5, 6]].concat(),
        );
        let labels = files.add("labels", &[0, 0, 8, 1, 0, 0, 0, 2, 9, 0]);
        let dataset = Dataset::from_idx(&images, &labels, None).unwrap();
        assert_eq!(dataset.images().unwrap(), &Images::U8(vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(dataset.shape(), [2, 1, 3, 1]);
        assert_eq!((dataset.labels(), dataset.classes()), (&[9, 0][..], 10));
        assert_eq!((dataset.len(), dataset.image_len()), (2, 3));

        assert_eq!(
            sentence(Dataset::from_idx(&images, &labels, Some(9))),
            "Expected labels from 0 to 8 for \"labels\" but received 9 at index 0."
        );
        let fewer = files.add("fewer", &[0, 0, 8, 1, 0, 0, 0, 1, 9]);
        assert_eq!(
            sentence(Dataset::from_idx(&images, &fewer, None)),
            "Expected 2 labels, one for each image, for \"fewer\" but received 1."
        );
        let message = sentence(Dataset::from_idx(&labels, &images, None));
        assert!(message.ends_with("for \"labels\" but received rank 1."), "{message}");
    }

    #[test]
    fn npy_images_of_every_type_and_rank_are_taken() {
        let files = Files::new();
        let labels = files.npy("labels", "|u1", "(2,)", &[1, 0]);
        let bytes = files.npy("bytes", "|u1", "(2, 1, 1, 3)", &[1, 2, 3, 4, 5, 6]);
        let dataset = Dataset::from_npy(&bytes, &labels, None).unwrap();
        assert_eq!(
            (dataset.images().unwrap(), dataset.shape()),
            (&Images::U8(vec![1, 2, 3, 4, 5, 6]), [2, 1, 1, 3])
        );
        let elements = [0.5f32.to_le_bytes(), (-1.5f32).to_le_bytes()].concat();
        let singles = files.npy("singles", "<f4", "(2, 1, 1)", &elements);
        let dataset = Dataset::from_npy(&singles, &labels, Some(7)).unwrap();
        assert_eq!(
            (dataset.images().unwrap(), dataset.shape()),
            (&Images::F32(vec![0.5, -1.5]), [2, 1, 1, 1])
        );
        assert_eq!(dataset.classes(), 7);
        let elements = [0.1f64.to_be_bytes(), (-1.5f64).to_be_bytes()].concat();
        let doubles = files.npy("doubles", ">f8", "(2, 1, 1)", &elements);
        let dataset = Dataset::from_npy(&doubles, &labels, None).unwrap();
        assert_eq!(dataset.images().unwrap(), &Images::F32(vec![0.1, -1.5]));
    }

    #[test]
    fn npy_labels_of_every_integer_type_are_taken() {
        let files = Files::new();
        let images = files.npy("images", "|u1", "(2, 1, 1)", &[0, 0]);
        for descr in ["|u1", "|i1", "<u2", "<i2", ">u4", ">i4", "<u8", ">i8"] {
            let size = descr[2..].parse::<usize>().unwrap();
            let mut elements = vec![0; 2 * size];
            elements[if descr.starts_with('>') { size - 1 } else { 0 }] = 3;
            let labels = files.npy("labels", descr, "(2,)", &elements);
            let dataset = Dataset::from_npy(&images, &labels, None).unwrap();
            assert_eq!((dataset.labels(), dataset.classes()), (&[3, 0][..], 4), "{descr}");
        }
    }

    #[test]
    fn npy_labels_that_no_class_has_are_refused_with_their_index() {
        let files = Files::new();
        let images = files.npy("images", "|u1", "(2, 1, 1)", &[0, 0]);
        let refused = |descr, shape, elements: &[u8], classes| {
            let labels = files.npy("labels", descr, shape, elements);
            sentence(Dataset::from_npy(&images, &labels, classes))
        };
        assert_eq!(
            refused("|i1", "(2,)", &[0, 0xff], Some(10)),
            "Expected labels from 0 to 9 for \"labels\" but received -1 at index 1."
        );
        let large = [(1u64 << 32).to_le_bytes(), [0; 8]].concat();
        assert_eq!(
            refused("<u8", "(2,)", &large, None),
            "Expected labels from 0 to 4294967294 for \"labels\" but received 4294967296 at index 0."
        );
        assert_eq!(
            refused("<f4", "(2,)", &[0; 8], None),
            "Expected labels of an integer type for \"labels\" but received float32."
        );
        assert_eq!(
            refused("|u1", "(2, 1)", &[0; 2], None),
            "Expected labels of rank 1 for \"labels\" but received the shape [2, 1]."
        );
        assert_eq!(
            refused("|u1", "(3,)", &[0; 3], None),
            "Expected 2 labels, one for each image, for \"labels\" but received 3."
        );
    }

    #[test]
    fn npy_images_of_other_types_ranks_and_values_are_refused() {
        let files = Files::new();
        let labels = files.npy("labels", "|u1", "(2,)", &[1, 0]);
        let refused = |descr, shape, elements: &[u8]| {
            let images = files.npy("images", descr, shape, elements);
            sentence(Dataset::from_npy(&images, &labels, None))
        };
        assert_eq!(
            refused("<i2", "(2, 1, 1)", &[0; 4]),
            "Expected images of uint8, float32 or float64 for \"images\" but received int16."
        );
        assert_eq!(
            refused("|u1", "(2, 2)", &[0; 4]),
            "Expected a shape [images, height, width, channels] or [images, height, width] of at least 1 each for \
             \"images\" but received [2, 2]."
        );
        assert!(refused("|u1", "(2, 0, 9223372036854775807)", &[]).starts_with("Expected a shape"));
        assert!(refused("|u1", "(0, 2, 2)", &[]).ends_with("but received [0, 2, 2]."));
        let infinite = [0f32, 1.0, f32::INFINITY, 0.0].map(f32::to_le_bytes).concat();
        assert_eq!(
            refused("<f4", "(2, 1, 2)", &infinite),
            "Expected finite numbers for \"images\" but received inf in image 1."
        );
    }

    #[test]
    fn arrays_are_checked_like_files() {
        let dataset = arrays(Images::F32(vec![0.5; 8]), &[2, 2, 2], &[2, 0], None).unwrap();
        assert_eq!((dataset.shape(), dataset.classes()), ([2, 2, 2, 1], 3));
        assert_eq!(
            sentence(arrays(Images::U8(vec![0; 7]), &[2, 2, 2], &[0, 0], None)),
            "Expected the values of the shape [2, 2, 2] for \"images\" but received 7."
        );
        assert_eq!(
            sentence(arrays(Images::F32(vec![0.0, f32::NAN]), &[2, 1, 1], &[0, 0], None)),
            "Expected finite numbers for \"images\" but received NaN in image 1."
        );
        assert_eq!(
            sentence(arrays(Images::U8(vec![0; 2]), &[2, 1, 1], &[0, 3], Some(3))),
            "Expected labels from 0 to 2 for \"labels\" but received 3 at index 1."
        );
        assert_eq!(
            sentence(arrays(Images::U8(vec![0; 2]), &[2, 1, 1], &[0, 0], Some(0))),
            "Expected from 1 to 4294967295 classes for \"labels\" but received 0."
        );
        assert_eq!(
            sentence(arrays(Images::U8(vec![]), &[1 << 32, 1, 1], &[], None)),
            "Expected at most 4294967295 images for \"images\" but received 4294967296."
        );
        assert!(arrays(Images::U8(vec![]), &[4, usize::MAX, usize::MAX, 2], &[0; 4], None).is_err());
        assert!(arrays(Images::U8(vec![]), &[], &[], None).is_err());
        assert!(arrays(Images::U8(vec![0]), &[1, 1, 1], &[u32::MAX], None).is_err());
    }

    #[test]
    fn a_missing_file_is_refused_by_name() {
        let files = Files::new();
        let none = files.0.path().join("none.npy");
        let message = Dataset::from_npy(&none, &none, None).unwrap_err().to_string();
        assert!(message.starts_with("Could not open") && message.contains("none.npy"), "{message}");
    }

    #[test]
    fn no_flipped_bit_of_a_file_makes_a_dataset_panic() {
        let files = Files::new();
        let images = files.npy("images", "<f4", "(2, 1, 1)", &[0; 8]);
        let labels = files.npy("labels", "<i4", "(2,)", &[0; 8]);
        for path in [&images, &labels] {
            let whole = fs::read(path).unwrap();
            for bit in 0..whole.len() * 8 {
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                fs::write(path, bytes).unwrap();
                if let Ok(dataset) = Dataset::from_npy(&images, &labels, None) {
                    assert_eq!(dataset.len(), dataset.labels().len());
                    assert!(dataset.labels().iter().all(|&label| (label as usize) < dataset.classes()));
                }
            }
            fs::write(path, whole).unwrap();
        }
    }
}
