//! Parts of a dataset, and how its images are spread over the classes.

use fovea_kernels::random::{Philox, Purpose};

use crate::{DataError, Dataset};

impl Dataset {
    /// The images of these indices, in this order; pixels are shared, not copied.
    ///
    /// Errors: an index that no image has, and no index at all.
    pub fn subset(&self, indices: &[u32]) -> Result<Dataset, DataError> {
        let count = self.len();
        if indices.is_empty() {
            return Err(DataError::NoImages);
        }
        if let Some(&index) = indices.iter().find(|&&index| index as usize >= count) {
            return Err(DataError::Index { index, count });
        }
        Ok(self.select(indices))
    }

    /// Cuts a dataset in two: what is left to train with, and a share to validate with.
    ///
    /// Every class gives the same share of its images, rounded to the nearest; which of them depends on the
    /// seed alone. Images keep their order.
    ///
    /// - `fraction`: the share of the second part, between 0 and 1.
    ///
    /// Errors: a fraction that leaves nothing in one of the two.
    pub fn split(&self, fraction: f64, seed: u64) -> Result<[Dataset; 2], DataError> {
        let mut members = vec![Vec::new(); self.classes()];
        for (index, &label) in (0..).zip(self.labels()) {
            members[label as usize].push(index);
        }
        let mut validation = Vec::new();
        for (class, mut members) in (0..).zip(members) {
            let philox = Philox::new(seed, Purpose::Split, class);
            for last in (1..members.len()).rev() {
                members.swap(last, philox.below(last as u64, last as u32 + 1) as usize);
            }
            // Refused below when the fraction is no share at all: the cast saturates.
            let share = (members.len() as f64 * fraction).round() as usize;
            validation.extend(members.into_iter().take(share));
        }
        validation.sort_unstable();
        let is_kept = |index: &u32| validation.binary_search(index).is_err();
        let train: Vec<u32> = (0..self.len() as u32).filter(is_kept).collect();
        if train.is_empty() || validation.is_empty() {
            return Err(DataError::Fraction { fraction, count: self.len() });
        }
        Ok([self.select(&train), self.select(&validation)])
    }

    /// How many images each class has.
    pub fn class_counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.classes()];
        for &label in self.labels() {
            counts[label as usize] += 1;
        }
        counts
    }

    /// Weights under which every class counts the same: images / (classes x images of the class), 0 for a class
    /// that has none. Their mean over the images is 1 where every class has some.
    ///
    /// Source: scikit-learn's `class_weight="balanced"`.
    pub fn class_weights(&self) -> Vec<f32> {
        let (images, classes) = (self.len() as f64, self.classes() as f64);
        let weight = |count| if count == 0 { 0.0 } else { (images / (classes * f64::from(count))) as f32 };
        self.class_counts().into_iter().map(weight).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Augment, Batch, Images};

    fn dataset(labels: &[u32], classes: usize) -> Dataset {
        let images = Images::F32((0..labels.len()).map(|index| index as f32).collect());
        Dataset::from_arrays(images, &[labels.len(), 1, 1], labels.to_vec(), Some(classes)).unwrap()
    }

    /// The numbers of the images that a dataset has.
    fn images(dataset: &Dataset) -> Vec<f32> {
        let indices: Vec<u32> = (0..dataset.len() as u32).collect();
        let mut batch = Batch::default();
        dataset.gather(&indices, &Augment::default(), 0, &mut batch).unwrap();
        assert_eq!(batch.labels, dataset.labels());
        batch.images
    }

    #[test]
    fn a_subset_of_a_subset_has_the_images_and_labels_asked_for() {
        let whole = dataset(&[0, 1, 2, 3, 4], 5);
        let subset = whole.subset(&[4, 2, 2, 0]).unwrap();
        assert_eq!((images(&subset), subset.labels()), (vec![4.0, 2.0, 2.0, 0.0], &[4, 2, 2, 0][..]));
        let subset = subset.subset(&[3, 0]).unwrap();
        assert_eq!((images(&subset), subset.classes()), (vec![0.0, 4.0], 5));
        assert!(whole.subset(&[5]).is_err() && whole.subset(&[]).is_err());
    }

    #[test]
    fn a_split_takes_the_same_share_of_every_class_and_no_image_twice() {
        let labels: Vec<u32> = (0..1000).map(|index| if index % 10 == 0 { 1 } else { 0 }).collect();
        let whole = dataset(&labels, 2);
        let [train, validation] = whole.split(0.2, 3).unwrap();
        assert_eq!((train.class_counts(), validation.class_counts()), (vec![720, 80], vec![180, 20]));
        let mut all = [images(&train), images(&validation)].concat();
        assert!(images(&train).is_sorted() && images(&validation).is_sorted());
        all.sort_by(f32::total_cmp);
        assert!(all.into_iter().eq((0..1000).map(|index| index as f32)));
        assert_eq!(images(&whole.split(0.2, 3).unwrap()[1]), images(&validation));
        assert_ne!(images(&whole.split(0.2, 4).unwrap()[1]), images(&validation));
    }

    #[test]
    fn fractions_that_leave_nothing_are_refused() {
        let whole = dataset(&[0, 0, 0, 1], 2);
        for fraction in [0.0, 0.01, 1.0, -1.0, 7.0, f64::NAN, f64::INFINITY] {
            let message = whole.split(fraction, 0).map(|_| ()).unwrap_err().to_string();
            assert!(message.ends_with(&format!("but received {fraction}.")), "{message}");
        }
    }

    #[test]
    fn rare_classes_weigh_more_so_that_all_weigh_the_same() {
        assert_eq!(dataset(&[0, 0, 0, 1, 3], 4).class_weights(), [5.0 / 12.0, 1.25, 0.0, 1.25]);
    }
}
