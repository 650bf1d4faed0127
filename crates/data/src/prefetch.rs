//! Batches made ahead of the steps that need them.
//!
//! Several threads make a batch together, a few images at a time, and go on to the next batch when nothing is
//! left of it. Images are made outside of any lock and then copied into their places, which costs little beside
//! decoding them; a thread that is alone makes them where they belong. Batches leave in the order of their
//! steps. What a batch holds does not depend on who made which image.
//!
//! To wake a thread takes as long as to make a small batch, and on a machine whose cores all compute it puts
//! one of them aside. So small batches are made several in one go, and nobody is woken who does not sleep.

use std::{
    collections::VecDeque,
    mem,
    ops::{Range, RangeInclusive},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use crate::{Augment, Batch, DataError, Dataset, Sampler, loader::Loader};

/// Batches in circulation: one in use, and the others made ahead; more than the least only where all are small.
const BATCHES: RangeInclusive<usize> = 3..=8;

/// Values of all batches together, beyond which there are no more than the least.
const AHEAD: usize = 1 << 20;

/// Values that a thread makes between two visits to the batch, unless one image has more: they stay in its
/// cache.
const VALUES: usize = 1 << 14;

/// Makes the batches of a range of steps on threads of its own, some steps ahead.
///
/// The same few batches go round, so a step allocates nothing. Dropping the prefetcher ends the threads within
/// the image that each is making.
pub struct Prefetcher {
    steps: Range<u64>,
    current: Option<Buffer>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// A batch and what is needed to make it, which go round.
struct Buffer {
    batch: Batch,
    indices: Vec<u32>,
    /// The pixels, which threads fill while the rest of the batch waits in its job.
    images: Arc<Mutex<Vec<f32>>>,
}

struct Shared {
    dataset: Arc<Dataset>,
    sampler: Sampler,
    augment: Augment,
    /// How many batches are to be made in one go.
    go: usize,
    /// Whether there is one thread only.
    alone: bool,
    state: Mutex<State>,
    /// There may be something to make, or reason to stop.
    work: Condvar,
    /// The first batch may be ready, or never will be.
    ready: Condvar,
}

struct State {
    /// Steps whose batches nobody has begun.
    steps: Range<u64>,
    spare: Vec<Buffer>,
    /// Batches begun or ready, in the order of their steps.
    jobs: VecDeque<Job>,
    /// The order of the images in `epoch`.
    order: Vec<u32>,
    epoch: Option<u64>,
    /// Threads that wait for something to make.
    idle: usize,
    /// Whether somebody waits for the first batch.
    awaited: bool,
    stopped: bool,
}

impl State {
    fn job(&mut self, step: u64) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.step == step)
    }
}

/// A batch that is being made.
struct Job {
    step: u64,
    buffer: Buffer,
    /// How many images have been taken by threads, and how many are done.
    taken: usize,
    done: usize,
    /// Places of images that are left out.
    missing: Vec<usize>,
    /// What went wrong first, counted by place: the same whoever came across it.
    error: Option<(usize, DataError)>,
    ready: bool,
}

impl Prefetcher {
    /// Begins with the batch of the first of these steps, counted from the beginning of training.
    ///
    /// Errors: a sampler over another number of images, an augmentation that makes no sense, too little memory,
    /// and no thread to be had.
    pub fn new(
        dataset: Arc<Dataset>,
        sampler: Sampler,
        augment: Augment,
        steps: Range<u64>,
    ) -> Result<Prefetcher, DataError> {
        let threads = dataset.loader_threads();
        Self::with_threads(dataset, sampler, augment, steps, threads)
    }

    fn with_threads(
        dataset: Arc<Dataset>,
        sampler: Sampler,
        augment: Augment,
        steps: Range<u64>,
        threads: usize,
    ) -> Result<Prefetcher, DataError> {
        if sampler.count() != dataset.len() {
            return Err(DataError::SamplerCount { images: dataset.len(), count: sampler.count() });
        }
        augment.check(dataset.image_shape())?;
        let count = sampler.batch_size().min(dataset.len());
        let buffer = |_| {
            let batch = Batch::with_capacity(count, dataset.image_len())?;
            Ok(Buffer { batch, indices: Vec::with_capacity(count), images: Arc::default() })
        };
        let batches =
            (AHEAD / count.saturating_mul(dataset.image_len())).clamp(*BATCHES.start(), *BATCHES.end());
        let spare = (0..batches).map(buffer).collect::<Result<_, DataError>>()?;
        let state = State {
            steps: steps.clone(),
            spare,
            jobs: VecDeque::with_capacity(batches),
            order: Vec::new(),
            epoch: None,
            idle: 0,
            awaited: false,
            stopped: false,
        };
        let (go, alone) = (batches / 2, threads <= 1);
        let (state, work, ready) = (Mutex::new(state), Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { dataset, sampler, augment, go, alone, state, work, ready });
        let mut prefetcher = Prefetcher { steps, current: None, shared, threads: Vec::new() };
        for _ in 0..threads.max(1) {
            let shared = prefetcher.shared.clone();
            let thread = thread::Builder::new().name("fovea-prefetch".to_owned());
            match thread.spawn(move || shared.work()) {
                Ok(thread) => prefetcher.threads.push(thread),
                Err(error) if prefetcher.threads.is_empty() => return Err(DataError::Thread(error)),
                Err(_) => break, // fewer do the work, too
            }
        }
        Ok(prefetcher)
    }

    /// The next step's batch, or none after the last; waits where it is not made yet.
    ///
    /// Errors: a file that could not be read, where that is not allowed; a thread that has stopped before its
    /// time, which would be a fault in this crate.
    pub fn next_batch(&mut self) -> Result<Option<&Batch>, DataError> {
        let Some(step) = self.steps.next() else { return Ok(None) };
        let mut state = self.shared.lock();
        if let Some(used) = self.current.take() {
            self.shared.give_back(&mut state, used);
        }
        let job = loop {
            let is_ready = state.jobs.front().is_some_and(|job| job.ready);
            match is_ready.then(|| state.jobs.pop_front()).flatten() {
                Some(job) => break job,
                None if state.stopped => return Err(DataError::Stopped { step }),
                None => {
                    state.awaited = true;
                    state = wait(&self.shared.ready, state);
                    state.awaited = false;
                }
            }
        };
        match job.error {
            Some((_, error)) => {
                self.shared.give_back(&mut state, job.buffer);
                Err(error)
            }
            None => Ok(Some(&self.current.insert(job.buffer).batch)),
        }
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // a panic over there has been reported by `next_batch`
        }
    }
}

/// Some images of a batch for one thread to make.
struct Piece {
    step: u64,
    places: Range<usize>,
    images: Arc<Mutex<Vec<f32>>>,
}

/// What a thread has of its own.
#[derive(Default)]
struct Bench {
    loader: Loader,
    indices: Vec<u32>,
    images: Vec<f32>,
    /// One for each image; none for one that is left out.
    labels: Vec<Option<u32>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.work.notify_all();
        self.ready.notify_all();
    }

    /// Lets a batch be filled again, and wakes who fills it when there are enough of them.
    fn give_back(&self, state: &mut State, buffer: Buffer) {
        state.spare.push(buffer);
        if state.idle > 0 && state.spare.len() >= self.go {
            self.work.notify_all();
        }
    }

    /// Makes images until nobody wants any more.
    fn work(&self) {
        let mut bench = Bench::default();
        while let Some(piece) = self.take(&mut bench.indices) {
            let made = catch_unwind(AssertUnwindSafe(|| self.make(&piece, &mut bench)));
            let Ok(made) = made else { return self.stop() };
            self.deliver(piece, made, &bench);
        }
    }

    /// The next images to make, and which they are; waits while there are none, and gives none at the end.
    fn take(&self, indices: &mut Vec<u32>) -> Option<Piece> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            let size = (VALUES / self.dataset.image_len()).max(1);
            if let Some(job) = state.jobs.iter_mut().find(|job| job.taken < job.buffer.indices.len()) {
                let places = job.taken..job.buffer.indices.len().min(job.taken + size);
                job.taken = places.end;
                indices.clear();
                indices.extend_from_slice(&job.buffer.indices[places.clone()]);
                return Some(Piece { step: job.step, places, images: job.buffer.images.clone() });
            }
            if state.steps.is_empty() {
                return None;
            }
            match state.spare.pop() {
                Some(buffer) => self.begin(&mut state, buffer),
                None => {
                    state.idle += 1;
                    state = wait(&self.work, state);
                    state.idle -= 1;
                }
            }
        }
    }

    /// Begins the next step's batch, which must exist.
    fn begin(&self, state: &mut State, mut buffer: Buffer) {
        let Some(step) = state.steps.next() else { return };
        let (epoch, range) = self.sampler.indices(step);
        if state.epoch != Some(epoch) {
            self.sampler.order(epoch, &mut state.order);
            state.epoch = Some(epoch);
        }
        buffer.indices.clear();
        buffer.indices.extend_from_slice(&state.order[range]);
        let Buffer { batch, indices, images } = &mut buffer;
        (batch.step, batch.epoch) = (step, epoch);
        batch.labels.resize(indices.len(), 0);
        batch.images.resize(indices.len() * self.dataset.image_len(), 0.0);
        *lock(images) = mem::take(&mut batch.images);
        let (missing, error) = (Vec::new(), None);
        state.jobs.push_back(Job { step, buffer, taken: 0, done: 0, missing, error, ready: false });
        if state.idle > 0 {
            self.work.notify_all();
        }
    }

    /// Makes the images of a piece; what went wrong comes with its place in the batch.
    fn make(&self, piece: &Piece, bench: &mut Bench) -> Result<(), (usize, DataError)> {
        let Bench { loader, indices, images, labels } = bench;
        let length = self.dataset.image_len();
        let values = piece.places.start * length..piece.places.end * length;
        let mut places;
        let made = if self.alone {
            places = lock(&piece.images);
            &mut places[values.clone()]
        } else {
            images.resize(values.len(), 0.0);
            &mut images[..]
        };
        labels.clear();
        for ((place, &index), image) in piece.places.clone().zip(&*indices).zip(made.chunks_exact_mut(length))
        {
            let key = (piece.step, place as u32);
            let label = loader.load(&self.dataset, index, &self.augment, key, image);
            labels.push(label.map_err(|error| (place, error))?);
        }
        if !self.alone {
            lock(&piece.images)[values].copy_from_slice(images);
        }
        Ok(())
    }

    /// Hands in a piece; whoever hands in the last of a batch finishes it.
    fn deliver(&self, piece: Piece, made: Result<(), (usize, DataError)>, bench: &Bench) {
        let mut state = self.lock();
        // It is there until it is ready, and that it becomes below.
        let Some(job) = state.job(piece.step) else { return };
        job.done += piece.places.len();
        match made {
            Ok(()) => {
                for (place, label) in piece.places.zip(&bench.labels) {
                    match label {
                        Some(label) => job.buffer.batch.labels[place] = *label,
                        None => job.missing.push(place),
                    }
                }
            }
            Err(error) => {
                let earliest = job.error.take().into_iter().chain([error]).min_by_key(|&(place, _)| place);
                job.error = earliest;
            }
        }
        if job.done < job.buffer.indices.len() {
            return;
        }
        let (mut batch, mut missing) = (mem::take(&mut job.buffer.batch), mem::take(&mut job.missing));
        drop(state);
        batch.images = mem::take(&mut *lock(&piece.images));
        missing.sort_unstable();
        batch.remove(&missing);
        self.augment.finish(piece.step, &mut batch);
        let mut state = self.lock();
        if let Some(job) = state.job(piece.step) {
            job.buffer.batch = batch;
            job.ready = true;
        }
        if state.awaited {
            self.ready.notify_one();
        }
    }
}

/// Nothing that is locked here is left half-way by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    condition.wait(state).unwrap_or_else(PoisonError::into_inner)
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
        augmented(dataset, sampler, &Augment::default(), steps, 1)
    }

    /// All batches of these steps, made by so many threads.
    fn augmented(
        dataset: &Arc<Dataset>,
        sampler: Sampler,
        augment: &Augment,
        steps: Range<u64>,
        threads: usize,
    ) -> Vec<Batch> {
        let prefetcher = Prefetcher::with_threads(dataset.clone(), sampler, augment.clone(), steps, threads);
        let mut prefetcher = prefetcher.unwrap();
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
            dataset.gather(&order[range], &Augment::default(), step, &mut expected).unwrap();
            expected.epoch = epoch;
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
    fn augmented_batches_are_the_same_from_any_number_of_threads_and_after_a_resume_within_an_epoch() {
        let list = r#"[{"kind":"resizedCrop","scale":[0.3,1],"ratio":[0.7,1.4]},{"kind":"crop","padding":3},
            {"kind":"flip","probability":0.5},{"kind":"jitter","brightness":0.4,"contrast":0.4,"saturation":0},
            {"kind":"cutout","size":9},{"kind":"mixup","alpha":0.3}]"#;
        let augment = Augment::for_training(Augment::parse(Some(list)).unwrap(), 5);
        // More than one piece a batch, and a smaller batch at the end of an epoch.
        let (dataset, sampler) = (dataset(150, 28), sampler(150, 64));
        let alone = augmented(&dataset, sampler, &augment, 0..7, 1);
        assert!(alone[2].len() == 22 && alone[3].mix.is_some() && alone[0].images != alone[3].images);
        for threads in [2, 3, 8] {
            assert_eq!(augmented(&dataset, sampler, &augment, 0..7, threads), alone);
        }
        for first in 1..7 {
            assert_eq!(augmented(&dataset, sampler, &augment, first..7, 2), alone[first as usize..]);
        }
    }

    #[test]
    fn no_steps_are_no_batches_and_after_the_last_there_are_none() {
        assert!(batches(&dataset(3, 1), sampler(3, 2), 4..4).is_empty());
        let mut prefetcher = Prefetcher::new(dataset(3, 1), sampler(3, 2), Augment::default(), 0..1).unwrap();
        assert!(prefetcher.next_batch().unwrap().is_some());
        assert!(prefetcher.next_batch().unwrap().is_none());
        assert!(prefetcher.next_batch().unwrap().is_none());
    }

    #[test]
    fn dropping_a_prefetcher_ends_its_thread_wherever_it_is() {
        let (dataset, sampler) = (dataset(64, 28), sampler(64, 16));
        for taken in 0..8 {
            let begin = Instant::now();
            let mut prefetcher = Prefetcher::with_threads(
                dataset.clone(),
                sampler,
                Augment::default(),
                0..u64::MAX,
                1 + taken % 3,
            )
            .unwrap();
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
        let message = Prefetcher::new(dataset(3, 2), sampler(4, 2), Augment::default(), 0..1)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert_eq!(message, "Expected a sampler over 3 images for \"sampler\" but received one over 4.");
    }
}
