//! Images of a dataset as the numbers that a network takes.

use crate::{DataError, Dataset, Images};

/// Some images and their labels, `[images, height, width, channels]` in C order.
///
/// A batch is filled again and again by [`Dataset::gather`]; its memory grows to the largest and stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The pixels: bytes divided by 255, other numbers as they are.
    pub images: Vec<f32>,
    /// The classes, one for each image.
    pub labels: Vec<u32>,
    /// The step that this batch is for, counted from the beginning of training.
    pub step: u64,
    /// The epoch that the step belongs to.
    pub epoch: u64,
}

impl Batch {
    /// An empty batch with memory for that many images of that many values.
    pub(crate) fn with_capacity(count: usize, image_len: usize) -> Result<Batch, DataError> {
        let values = count.saturating_mul(image_len);
        let mut batch = Batch::default();
        let images = batch.images.try_reserve_exact(values);
        images.and(batch.labels.try_reserve_exact(count)).map_err(|_| DataError::Memory { values })?;
        Ok(batch)
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

impl Dataset {
    /// Fills a batch with the images of these indices, in this order; `step` and `epoch` are left to the caller.
    ///
    /// Errors: an index that no image has.
    pub fn gather(&self, indices: &[u32], batch: &mut Batch) -> Result<(), DataError> {
        let (count, length) = (self.len(), self.image_len());
        if let Some(&index) = indices.iter().find(|&&index| index as usize >= count) {
            return Err(DataError::Index { index, count });
        }
        batch.labels.clear();
        batch.labels.extend(indices.iter().map(|&index| self.labels()[index as usize]));
        batch.images.resize(indices.len() * length, 0.0);
        for (image, &index) in batch.images.chunks_exact_mut(length).zip(indices) {
            let range = index as usize * length..(index as usize + 1) * length;
            match self.images() {
                Images::U8(values) => to_unit(&values[range], image),
                Images::F32(values) => image.copy_from_slice(&values[range]),
            }
        }
        Ok(())
    }
}

/// Bytes as fractions of 255. Divided, as PyTorch does: a product with 1/255 differs in the last bit for half of them,
/// and fetching the images from memory takes longer than the vectorised division.
fn to_unit(bytes: &[u8], values: &mut [f32]) {
    for (value, &byte) in values.iter_mut().zip(bytes) {
        *value = byte as f32 / 255.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(images: Images, shape: [usize; 4]) -> Dataset {
        let labels = (0..shape[0] as u32).map(|index| index % 3).collect();
        Dataset::from_arrays(images, &shape, labels, Some(3)).unwrap()
    }

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

    #[test]
    fn images_and_labels_come_in_the_order_of_the_indices() {
        let dataset = dataset(Images::U8((0..24).map(|value| value * 10).collect()), [4, 1, 2, 3]);
        let mut batch = Batch::default();
        dataset.gather(&[3, 0, 3], &mut batch).unwrap();
        let image = |index: u32| (0..6).map(move |value| ((index * 6 + value) * 10) as f32 / 255.0);
        assert!(batch.images.iter().copied().eq(image(3).chain(image(0)).chain(image(3))));
        assert_eq!((batch.labels.as_slice(), batch.len()), (&[0, 0, 0][..], 3));
        dataset.gather(&[2], &mut batch).unwrap();
        assert!(batch.images.iter().copied().eq(image(2)));
        assert_eq!((batch.labels.as_slice(), batch.len()), (&[2][..], 1));
    }

    #[test]
    fn numbers_are_taken_as_they_are() {
        let dataset = dataset(Images::F32(vec![-1.0, 300.0]), [2, 1, 1, 1]);
        let mut batch = Batch::default();
        dataset.gather(&[1, 0], &mut batch).unwrap();
        assert_eq!(batch.images, [300.0, -1.0]);
    }

    #[test]
    fn an_index_that_no_image_has_is_refused_and_leaves_the_batch() {
        let dataset = dataset(Images::U8(vec![0; 2]), [2, 1, 1, 1]);
        let mut batch = Batch::default();
        let message = dataset.gather(&[1, 2], &mut batch).unwrap_err().to_string();
        assert_eq!(message, "Expected image indices below 2 for \"indices\" but received 2.");
        assert!(batch.is_empty());
        dataset.gather(&[], &mut batch).unwrap();
        assert!(batch.is_empty());
    }
}
