//! Batches made ahead of the steps that need them.

use std::{
    ops::Range,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use crate::{Batch, DataError, Dataset, Sampler};

/// Batches in circulation: one in use and two made ahead.
const BATCHES: usize = 3;

/// Makes the batches of a range of steps on a thread of its own, up to three at a time.
///
/// The same three batches go round, so a step allocates nothing. Dropping the prefetcher ends the thread within the
/// batch that it is making.
pub struct Prefetcher {
    steps: Range<u64>,
    current: Option<Batch>,
    // None once the prefetcher is being dropped: closing both ends is what tells the thread to stop.
    channels: Option<Channels>,
    thread: Option<JoinHandle<()>>,
}

struct Channels {
    filled: Receiver<Result<Batch, DataError>>,
    used: SyncSender<Batch>,
}

impl Prefetcher {
    /// Begins with the batch of the first of these steps, counted from the beginning of training.
    ///
    /// Errors: a sampler over another number of images, too little memory, and no thread to be had.
    pub fn new(dataset: Arc<Dataset>, sampler: Sampler, steps: Range<u64>) -> Result<Prefetcher, DataError> {
        if sampler.count() != dataset.len() {
            return Err(DataError::SamplerCount { images: dataset.len(), count: sampler.count() });
        }
        let (used, empty) = sync_channel(BATCHES);
        let (full, filled) = sync_channel(BATCHES);
        for _ in 0..BATCHES {
            let batch = Batch::with_capacity(sampler.batch_size().min(dataset.len()), dataset.image_len())?;
            used.send(batch).map_err(|_| DataError::Stopped { step: steps.start })?;
        }
        let mut worker = Worker { dataset, sampler, order: Vec::new(), epoch: None };
        let range = steps.clone();
        let run = move || {
            for step in range {
                // Either end is closed when nobody wants batches any more.
                let Ok(batch) = empty.recv() else { return };
                let Ok(()) = full.send(worker.fill(step, batch)) else { return };
            }
        };
        let thread = thread::Builder::new().name("fovea-prefetch".to_owned()).spawn(run);
        let thread = thread.map_err(DataError::Thread)?;
        Ok(Prefetcher {
            steps,
            current: None,
            channels: Some(Channels { filled, used }),
            thread: Some(thread),
        })
    }

    /// The next step's batch, or none after the last; waits where it is not made yet.
    ///
    /// Errors: the thread has stopped before its time, which would be a fault in this crate.
    pub fn next_batch(&mut self) -> Result<Option<&Batch>, DataError> {
        let Some(step) = self.steps.next() else { return Ok(None) };
        let Some(channels) = &self.channels else { return Err(DataError::Stopped { step }) };
        if let Some(used) = self.current.take() {
            // Refused only where the thread has made its last batch and needs no more memory.
            let _ = channels.used.send(used);
        }
        let batch = channels.filled.recv().map_err(|_| DataError::Stopped { step })??;
        Ok(Some(self.current.insert(batch)))
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.channels = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic over there has been reported by `next_batch`
        }
    }
}

/// What the thread keeps from one batch to the next.
struct Worker {
    dataset: Arc<Dataset>,
    sampler: Sampler,
    /// The order of the images in `epoch`.
    order: Vec<u32>,
    epoch: Option<u64>,
}

impl Worker {
    fn fill(&mut self, step: u64, mut batch: Batch) -> Result<Batch, DataError> {
        let (epoch, range) = self.sampler.indices(step);
        if self.epoch != Some(epoch) {
            self.sampler.order(epoch, &mut self.order);
            self.epoch = Some(epoch);
        }
        self.dataset.gather(&self.order[range], &mut batch)?;
        (batch.step, batch.epoch) = (step, epoch);
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{Images, SamplerOptions};

    fn dataset(count: usize, side: usize) -> Arc<Dataset> {
        let images = (0..count * side * side).map(|value| value as u8).collect();
        let labels = (0..count as u32).map(|index| index % 10).collect();
        Arc::new(Dataset::from_arrays(Images::U8(images), &[count, side, side], labels, Some(10)).unwrap())
    }

    fn sampler(count: usize, batch_size: usize) -> Sampler {
        Sampler::new(count, SamplerOptions { batch_size, shuffle: true, drop_last: false, seed: 5 }).unwrap()
    }

    /// All batches of these steps, from one prefetcher.
    fn batches(dataset: &Arc<Dataset>, sampler: Sampler, steps: Range<u64>) -> Vec<Batch> {
        let mut prefetcher = Prefetcher::new(dataset.clone(), sampler, steps).unwrap();
        let mut batches = Vec::new();
        while let Some(batch) = prefetcher.next_batch().unwrap() {
            batches.push(batch.clone());
        }
        batches
    }

    #[test]
    fn batches_are_those_that_sampler_and_dataset_give_without_a_thread() {
        let (dataset, sampler) = (dataset(23, 3), sampler(23, 5));
        let (mut order, mut expected) = (Vec::new(), Batch::default());
        let made = batches(&dataset, sampler, 0..17);
        assert_eq!(made.len(), 17);
        for (step, batch) in (0..).zip(made) {
            let (epoch, range) = sampler.indices(step);
            sampler.order(epoch, &mut order);
            dataset.gather(&order[range], &mut expected).unwrap();
            (expected.step, expected.epoch) = (step, epoch);
            assert_eq!(batch, expected, "step {step}");
        }
    }

    #[test]
    fn an_epoch_ends_with_what_is_left() {
        let sizes: Vec<usize> =
            batches(&dataset(12, 2), sampler(12, 5), 0..6).iter().map(Batch::len).collect();
        assert_eq!(sizes, [5, 5, 2, 5, 5, 2]);
    }

    #[test]
    fn a_run_resumed_at_any_step_gets_the_same_batches() {
        let (dataset, sampler) = (dataset(11, 2), sampler(11, 4));
        let whole = batches(&dataset, sampler, 0..9);
        for first in 0..9 {
            assert_eq!(batches(&dataset, sampler, first..9), whole[first as usize..]);
        }
    }

    #[test]
    fn no_steps_are_no_batches_and_after_the_last_there_are_none() {
        assert!(batches(&dataset(3, 1), sampler(3, 2), 4..4).is_empty());
        let mut prefetcher = Prefetcher::new(dataset(3, 1), sampler(3, 2), 0..1).unwrap();
        assert!(prefetcher.next_batch().unwrap().is_some());
        assert!(prefetcher.next_batch().unwrap().is_none());
        assert!(prefetcher.next_batch().unwrap().is_none());
    }

    #[test]
    fn dropping_a_prefetcher_ends_its_thread_wherever_it_is() {
        let (dataset, sampler) = (dataset(64, 28), sampler(64, 16));
        for taken in 0..8 {
            let begin = Instant::now();
            let mut prefetcher = Prefetcher::new(dataset.clone(), sampler, 0..u64::MAX).unwrap();
            for _ in 0..taken {
                prefetcher.next_batch().unwrap();
            }
            if taken % 2 == 0 {
                thread::sleep(Duration::from_millis(5)); // it has filled all batches and waits
            }
            drop(prefetcher);
            assert_eq!(Arc::strong_count(&dataset), 1);
            assert!(begin.elapsed() < Duration::from_secs(5));
        }
    }

    #[test]
    fn a_batch_larger_than_the_dataset_takes_no_more_memory_than_the_dataset_needs() {
        let (dataset, sampler) = (dataset(3, 2), sampler(3, usize::MAX));
        let made = batches(&dataset, sampler, 0..2);
        assert_eq!(made.iter().map(Batch::len).collect::<Vec<_>>(), [3, 3]);
    }

    #[test]
    fn a_sampler_over_another_number_of_images_is_refused() {
        let message =
            Prefetcher::new(dataset(3, 2), sampler(4, 2), 0..1).map(|_| ()).unwrap_err().to_string();
        assert_eq!(message, "Expected a sampler over 3 images for \"sampler\" but received one over 4.");
    }
}
