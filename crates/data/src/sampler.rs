//! Which images a step takes.

use std::ops::Range;

use fovea_kernels::random::{Philox, Purpose};

use crate::DataError;

/// How a dataset is cut into batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplerOptions {
    /// Images in a batch, at least 1.
    pub batch_size: usize,
    /// Whether every epoch takes the images in another order.
    pub shuffle: bool,
    /// Whether the images that do not fill a batch at an epoch's end are left out; else they make a smaller
    /// batch.
    pub drop_last: bool,
    /// What the orders are drawn from.
    pub seed: u64,
}

/// Says which images a step takes: a pure function of the step, so a run resumes anywhere as if it had never
/// stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    count: usize,
    options: SamplerOptions,
}

impl Sampler {
    /// A sampler over `count` images.
    ///
    /// Errors: batches of no image, no batch at all, and more than 2^32 - 1 images.
    pub fn new(count: usize, options: SamplerOptions) -> Result<Sampler, DataError> {
        let SamplerOptions { batch_size, drop_last, .. } = options;
        if batch_size == 0 {
            return Err(DataError::BatchSize { received: batch_size });
        }
        if u32::try_from(count).is_err() {
            return Err(DataError::TooManyImages { name: "images".to_owned(), received: count });
        }
        if count == 0 {
            return Err(DataError::NoImages);
        }
        if drop_last && count < batch_size {
            return Err(DataError::NoWholeBatch { batch_size, count });
        }
        Ok(Sampler { count, options })
    }

    /// The number of images.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Images in a batch, where as many are left.
    pub fn batch_size(&self) -> usize {
        self.options.batch_size
    }

    /// Batches in an epoch, at least 1.
    pub fn steps_per_epoch(&self) -> u64 {
        let SamplerOptions { batch_size, drop_last, .. } = self.options;
        let steps = if drop_last { self.count / batch_size } else { self.count.div_ceil(batch_size) };
        steps as u64
    }

    /// The epoch of a step, counted from 0, and what it takes of that epoch's [`Sampler::order`].
    pub fn indices(&self, step: u64) -> (u64, Range<usize>) {
        let steps = self.steps_per_epoch();
        let begin = (step % steps) as usize * self.options.batch_size;
        (step / steps, begin..self.count.min(begin.saturating_add(self.options.batch_size)))
    }

    /// Writes the order in which an epoch takes the images: each index once, as it is or shuffled.
    ///
    /// The shuffle (Fisher and Yates) depends on the seed and the epoch alone.
    pub fn order(&self, epoch: u64, order: &mut Vec<u32>) {
        order.clear();
        order.extend(0..self.count as u32);
        if self.options.shuffle {
            let philox = Philox::new(self.options.seed, Purpose::Shuffle, epoch);
            for last in (1..self.count).rev() {
                order.swap(last, philox.below(last as u64, last as u32 + 1) as usize);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(count: usize, batch_size: usize, drop_last: bool) -> Sampler {
        Sampler::new(count, SamplerOptions { batch_size, shuffle: true, drop_last, seed: 1 }).unwrap()
    }

    fn order(sampler: &Sampler, epoch: u64) -> Vec<u32> {
        let mut order = Vec::new();
        sampler.order(epoch, &mut order);
        order
    }

    #[test]
    fn an_epoch_takes_every_image_once_whatever_the_sizes() {
        for count in 1..40 {
            for batch_size in 1..=count + 2 {
                let sampler = sampler(count, batch_size, false);
                let steps = sampler.steps_per_epoch();
                for epoch in [0, 1, 1 << 40] {
                    let order = order(&sampler, epoch);
                    let mut taken = Vec::new();
                    for step in 0..steps {
                        let (found, range) = sampler.indices(epoch * steps + step);
                        assert_eq!(found, epoch);
                        assert!(range.len() == batch_size || step == steps - 1 && !range.is_empty());
                        taken.extend_from_slice(&order[range]);
                    }
                    taken.sort_unstable();
                    assert!(
                        taken.into_iter().eq(0..count as u32),
                        "{count} images in batches of {batch_size}"
                    );
                }
            }
        }
    }

    #[test]
    fn dropping_the_last_leaves_only_whole_batches() {
        let sampler = sampler(10, 4, true);
        assert_eq!(sampler.steps_per_epoch(), 2);
        assert_eq!(
            [0, 1, 2, 5].map(|step| sampler.indices(step)),
            [(0, 0..4), (0, 4..8), (1, 0..4), (2, 4..8)]
        );
    }

    #[test]
    fn the_last_step_of_all_is_no_exception() {
        assert_eq!(sampler(10, 4, false).indices(u64::MAX), (u64::MAX / 3, 0..4));
        assert_eq!(sampler(3, usize::MAX, false).indices(u64::MAX), (u64::MAX, 0..3));
    }

    #[test]
    fn orders_depend_on_seed_and_epoch_and_on_nothing_else() {
        let first = order(&sampler(50, 7, false), 3);
        assert_eq!(order(&sampler(50, 9, true), 3), first);
        assert_ne!(order(&sampler(50, 7, false), 4), first);
        let other =
            Sampler::new(50, SamplerOptions { batch_size: 7, shuffle: true, drop_last: false, seed: 2 });
        assert_ne!(order(&other.unwrap(), 3), first);
    }

    #[test]
    fn without_shuffling_images_come_in_their_own_order() {
        let options = SamplerOptions { batch_size: 2, shuffle: false, drop_last: false, seed: 1 };
        assert_eq!(order(&Sampler::new(5, options).unwrap(), 9), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn shuffled_images_come_first_equally_often() {
        let sampler = sampler(8, 8, false);
        let mut first = [0u32; 8];
        for epoch in 0..8000 {
            first[order(&sampler, epoch)[0] as usize] += 1;
        }
        assert!(first.iter().all(|&times| times.abs_diff(1000) < 150), "{first:?}"); // five standard deviations
    }

    #[test]
    fn an_order_equals_that_of_an_independent_implementation() {
        assert_eq!(order(&sampler(10, 1, false), 0), [4, 7, 9, 8, 5, 3, 6, 2, 0, 1]);
    }

    #[test]
    fn samplers_without_a_batch_are_refused() {
        let options = SamplerOptions { batch_size: 8, shuffle: false, drop_last: true, seed: 0 };
        let refusal = |count, options| Sampler::new(count, options).unwrap_err().to_string();
        assert_eq!(
            refusal(5, options),
            "Expected at least 8 images, one whole batch, for \"dropLast\" to leave any but received 5."
        );
        assert_eq!(
            refusal(5, SamplerOptions { batch_size: 0, ..options }),
            "Expected at least 1 image in a batch for \"batchSize\" but received 0."
        );
        assert_eq!(refusal(0, options), "Expected at least 1 image for \"images\" but received 0.");
        assert_eq!(
            refusal(1 << 32, options),
            "Expected at most 4294967295 images for \"images\" but received 4294967296."
        );
    }
}
