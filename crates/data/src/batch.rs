//! Images of a dataset as the numbers that a network takes.

use crate::{Augment, DataError, Dataset, loader::Loader};

/// Some images and their labels, `[images, height, width, channels]` in C order.
///
/// A batch is filled again and again; its memory grows to the largest and stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The pixels: bytes divided by 255, other numbers as they are, and what augmentation has made of them.
    pub images: Vec<f32>,
    /// The classes, one for each image.
    pub labels: Vec<u32>,
    /// The step that this batch is for, counted from the beginning of training.
    pub step: u64,
    /// The epoch that the step belongs to.
    pub epoch: u64,
    /// The other images that the images are mixed with, where they are.
    pub mix: Option<Mix>,
}

/// What the images of a batch have of others: the loss is `share` of the loss of `labels` and the rest of
/// `other`'s.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mix {
    /// The classes of the other images, one for each image.
    pub other: Vec<u32>,
    /// The share that an image has of itself, from 0 to 1.
    pub share: f32,
}

impl Mix {
    /// What the mixed images should be: for each a row of classes, with its own share and that of the other's.
    ///
    /// - `labels`: the classes of the images themselves.
    /// - `targets`: gets `[images, classes]` numbers in the place of those it had.
    ///
    /// Errors: a label that is no class.
    pub fn targets(&self, labels: &[u32], classes: usize, targets: &mut Vec<f32>) -> Result<(), DataError> {
        if let Some(&label) = labels.iter().chain(&self.other).find(|&&label| label as usize >= classes) {
            return Err(DataError::NotAClass { classes, label });
        }
        targets.clear();
        targets.resize(labels.len() * classes, 0.0);
        for ((row, &own), &other) in targets.chunks_exact_mut(classes).zip(labels).zip(&self.other) {
            row[own as usize] += self.share;
            row[other as usize] += 1.0 - self.share;
        }
        Ok(())
    }
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

    /// Removes images.
    ///
    /// - `places`: where they stand, rising.
    pub(crate) fn remove(&mut self, places: &[usize]) {
        if places.is_empty() {
            return;
        }
        let length = self.images.len() / self.len().max(1);
        let mut kept = 0;
        for place in 0..self.len() {
            if places.binary_search(&place).is_err() {
                self.images.copy_within(place * length..(place + 1) * length, kept * length);
                self.labels[kept] = self.labels[place];
                kept += 1;
            }
        }
        self.images.truncate(kept * length);
        self.labels.truncate(kept);
    }
}

impl Dataset {
    /// Fills a batch with the images of these indices, in this order; `epoch` is left to the caller.
    ///
    /// - `step`: what augmentation draws its numbers for.
    ///
    /// Errors: an index that no image has, an augmentation that makes no sense, and files that cannot be read.
    pub fn gather(
        &self,
        indices: &[u32],
        augment: &Augment,
        step: u64,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        augment.check(self.image_shape())?;
        let (count, length) = (self.len(), self.image_len());
        if let Some(&index) = indices.iter().find(|&&index| index as usize >= count) {
            return Err(DataError::Index { index, count });
        }
        batch.step = step;
        batch.labels.clear();
        batch.images.resize(indices.len() * length, 0.0);
        let mut loader = Loader::default();
        let mut missing = Vec::new();
        let images = batch.images.chunks_exact_mut(length);
        for (place, (image, &index)) in images.zip(indices).enumerate() {
            let label = loader.load(self, index, augment, (step, place as u32), image)?;
            missing.extend(label.is_none().then_some(place));
            batch.labels.push(label.unwrap_or_default());
        }
        batch.remove(&missing);
        augment.finish(step, batch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Images;

    fn dataset(images: Images, shape: [usize; 4]) -> Dataset {
        let labels = (0..shape[0] as u32).map(|index| index % 3).collect();
        Dataset::from_arrays(images, &shape, labels, Some(3)).unwrap()
    }

    fn gather(dataset: &Dataset, indices: &[u32], batch: &mut Batch) -> Result<(), DataError> {
        dataset.gather(indices, &Augment::default(), 0, batch)
    }

    #[test]
    fn images_and_labels_come_in_the_order_of_the_indices() {
        let dataset = dataset(Images::U8((0..24).map(|value| value * 10).collect()), [4, 1, 2, 3]);
        let mut batch = Batch::default();
        gather(&dataset, &[3, 0, 3], &mut batch).unwrap();
        let image = |index: u32| (0..6).map(move |value| ((index * 6 + value) * 10) as f32 / 255.0);
        assert!(batch.images.iter().copied().eq(image(3).chain(image(0)).chain(image(3))));
        assert_eq!((batch.labels.as_slice(), batch.len()), (&[0, 0, 0][..], 3));
        gather(&dataset, &[2], &mut batch).unwrap();
        assert!(batch.images.iter().copied().eq(image(2)));
        assert_eq!((batch.labels.as_slice(), batch.len()), (&[2][..], 1));
    }

    #[test]
    fn images_by_themselves_become_the_numbers_of_a_batch() {
        let bytes: Vec<u8> = (0..=255).collect();
        let mut batch = Batch::default();
        gather(&dataset(Images::U8(bytes.clone()), [1, 16, 16, 1]), &[0], &mut batch).unwrap();
        assert_eq!(Images::U8(bytes).into_values(), batch.images);
        assert_eq!(Images::F32(vec![-1.0, 300.0]).into_values(), [-1.0, 300.0]);
    }

    #[test]
    fn a_mixed_image_should_be_its_share_of_both_classes() {
        let mix = Mix { other: vec![2, 1], share: 0.75 };
        let mut targets = vec![f32::NAN; 9];
        mix.targets(&[0, 1], 3, &mut targets).unwrap();
        assert_eq!(targets, [0.75, 0.0, 0.25, 0.0, 1.0, 0.0]);
        let refused = mix.targets(&[0, 3], 3, &mut targets).unwrap_err().to_string();
        assert_eq!(refused, "Expected labels below 3, the network's classes, but received 3.");
        assert!(mix.targets(&[0, 1], 2, &mut targets).is_err());
    }

    #[test]
    fn numbers_are_taken_as_they_are() {
        let dataset = dataset(Images::F32(vec![-1.0, 300.0]), [2, 1, 1, 1]);
        let mut batch = Batch::default();
        gather(&dataset, &[1, 0], &mut batch).unwrap();
        assert_eq!(batch.images, [300.0, -1.0]);
    }

    #[test]
    fn an_index_that_no_image_has_is_refused_and_leaves_the_batch() {
        let dataset = dataset(Images::U8(vec![0; 2]), [2, 1, 1, 1]);
        let mut batch = Batch::default();
        let message = gather(&dataset, &[1, 2], &mut batch).unwrap_err().to_string();
        assert_eq!(message, "Expected image indices below 2 for \"indices\" but received 2.");
        assert!(batch.is_empty());
        gather(&dataset, &[], &mut batch).unwrap();
        assert!(batch.is_empty());
    }

    #[test]
    fn images_are_removed_with_their_labels() {
        let mut batch = Batch {
            images: (0..8).map(|v| v as f32).collect(),
            labels: vec![5, 6, 7, 8],
            ..Batch::default()
        };
        batch.remove(&[]);
        assert_eq!(batch.len(), 4);
        batch.remove(&[0, 2]);
        assert_eq!(
            (batch.images.as_slice(), batch.labels.as_slice()),
            (&[2.0, 3.0, 6.0, 7.0][..], &[6, 8][..])
        );
    }
}
