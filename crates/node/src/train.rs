//! A run of training steps: batches from the prefetcher, steps by the engine, numbers collected.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fovea_data::{Augment, Batch, DataError, Dataset, Images, Prefetcher, Sampler, SamplerOptions};
use fovea_engine::{EngineError, Session, Targets};
use napi::bindgen_prelude::{Either, Float32Array, Float64Array, Uint8Array, Uint32Array};
use napi_derive::napi;

use crate::abort::Abort;
use crate::driver::Worker;
use crate::error::{Result, from_data, from_engine, invalid_argument};
use crate::evaluate::check_images;
use crate::options::{count, whole};
use crate::update::{OptimizerOptions, UpdateOptions, Updates, With};

/// A run of training steps.
#[napi(object)]
pub struct TrainRequest {
    /// Images a step.
    pub batch_size: f64,
    /// The first step of this run, counted from the beginning of training, the first one being 0.
    pub first_step: f64,
    /// One a step: their number is the number of steps.
    pub learning_rates: Float64Array,
    /// Instead of the optimizer's momentum (of adam, adamw and lamb beta1), one a step.
    pub momenta: Option<Float64Array>,
    /// What becomes of gradients.
    pub optimizer: OptimizerOptions,
    /// A new order of the images every epoch.
    pub shuffle: bool,
    /// Leaves out the last batch of an epoch when it is smaller.
    pub drop_last: bool,
    /// Key of the shuffled order and of what augmentation draws.
    pub seed: f64,
    /// How images are varied, one operation after another, as JSON. Default: not at all.
    pub augment: Option<String>,
}

/// A step of training on the caller's batch.
#[napi(object)]
pub struct BatchRequest {
    /// Step size, at least 0.
    pub learning_rate: f64,
    /// How gradients become updates.
    pub optimizer: OptimizerOptions,
}

/// What a step of training brought.
#[napi(object)]
pub struct BatchResult {
    /// Mean over the batch, before the update.
    pub loss: f64,
    /// Images whose largest output was the label's, or where the largest target was.
    pub correct: f64,
}

/// What a run of training steps brought; one entry a step that was done.
#[napi(object)]
pub struct TrainResult {
    /// Mean over the batch, before the update.
    pub losses: Float32Array,
    /// Images of the batch that were classified correctly.
    pub correct: Uint32Array,
    /// Images of the batch.
    pub images: Uint32Array,
    /// Wall-clock time of the whole run of steps.
    pub seconds: f64,
    /// The part of it in which a step waited for its batch.
    pub stall_seconds: f64,
    /// `"done"`, `"aborted"`, or `"failed"` when the loss or a gradient stopped being a number.
    #[napi(ts_type = "'done' | 'aborted' | 'failed'")]
    pub stopped: String,
    /// What failed, in a sentence.
    pub failure: Option<String>,
}

/// Batches of consecutive steps, prepared ahead without an end. It is kept from one run of steps to the next, so that a
/// run that goes on where the last one ended need not wait: finding the order of a shuffled epoch takes longer than a
/// small network's step.
pub struct Feed {
    data: Arc<Dataset>,
    sampler: Sampler,
    augment: Augment,
    next_step: u64,
    batches: Prefetcher,
}

impl Feed {
    fn new(data: Arc<Dataset>, sampler: Sampler, augment: Augment, first_step: u64) -> Result<Self> {
        let batches = Prefetcher::new(data.clone(), sampler, augment.clone(), first_step..u64::MAX);
        Ok(Self { data, sampler, augment, next_step: first_step, batches: batches.map_err(from_data)? })
    }

    /// Whether its next batch is the first of a run.
    fn continues_with(&self, run: &TrainRun) -> bool {
        Arc::ptr_eq(&self.data, &run.data)
            && self.sampler == run.sampler
            && self.augment == run.augment
            && self.next_step == run.first_step
    }

    fn next_batch(&mut self) -> Result<&Batch> {
        let step = self.next_step;
        self.next_step += 1;
        let batch = self.batches.next_batch().map_err(from_data)?;
        batch.ok_or_else(|| from_data(DataError::Stopped { step }))
    }
}

/// A [`TrainRequest`] that has been checked.
pub struct TrainRun {
    data: Arc<Dataset>,
    sampler: Sampler,
    augment: Augment,
    first_step: u64,
    /// Images of an epoch's last batch.
    last_batch: usize,
    /// Learning rate and, where it is not the optimizer's, momentum of every step.
    rates: Vec<(f32, Option<f32>)>,
    updates: Updates,
}

impl TrainRun {
    /// Checks every number of a request.
    pub fn new(data: Arc<Dataset>, request: With<TrainRequest, UpdateOptions>) -> Result<Self> {
        let With(request, update) = request;
        let sampler = SamplerOptions {
            batch_size: count("batchSize", request.batch_size)?,
            shuffle: request.shuffle,
            drop_last: request.drop_last,
            seed: whole("seed", request.seed, 0)?,
        };
        let augment = Augment::parse(request.augment.as_deref()).map_err(from_data)?;
        let augment = Augment::for_training(augment, sampler.seed);
        augment.check(data.image_shape()).map_err(from_data)?;
        let last_batch = match data.len() % sampler.batch_size {
            rest if rest > 0 && !sampler.drop_last => rest,
            _ => sampler.batch_size,
        };
        let sampler = Sampler::new(data.len(), sampler).map_err(from_data)?;
        let first_step = whole("firstStep", request.first_step, 0)?;
        let rates = rates(&request.learning_rates, request.momenta.as_deref())?;
        let updates = Updates::new(request.optimizer, update)?;
        Ok(Self { data, sampler, augment, first_step, last_batch, rates, updates })
    }

    /// Trains until the last step, an abort or an error.
    pub fn run(self, worker: &mut Worker, abort: &Abort) -> Result<TrainResult> {
        let (session, kept) = worker.training();
        check_images(session, &self.data)?;
        self.updates.configure(session)?;
        // Told before the first step, not at the end of the first epoch.
        self.updates.check(session, self.last_batch)?;
        let began = Instant::now();
        let mut feed = match kept.take().filter(|feed| feed.continues_with(&self)) {
            Some(feed) => feed,
            None => Feed::new(self.data, self.sampler, self.augment, self.first_step)?,
        };
        let count = self.rates.len();
        let mut losses = Vec::with_capacity(count);
        let mut correct = Vec::with_capacity(count);
        let mut images = Vec::with_capacity(count);
        let mut stall = Duration::ZERO;
        let mut mixed = Vec::new();
        let mut failure = None;
        for (learning_rate, momentum) in self.rates {
            if abort.is_asked() {
                break;
            }
            let asked = Instant::now();
            let batch = feed.next_batch()?;
            stall += asked.elapsed();
            let options = self.updates.step(learning_rate, momentum);
            let targets = match &batch.mix {
                None => Targets::Labels(&batch.labels),
                Some(mix) => {
                    mix.targets(&batch.labels, session.output_len(), &mut mixed).map_err(from_data)?;
                    Targets::Values(&mixed)
                }
            };
            let step = match session.train_step(&batch.images, targets, &options) {
                Ok(step) => step,
                // The steps before it have been made, and are told.
                Err(error @ EngineError::NotFinite { .. }) => {
                    failure = Some(error.to_string());
                    break;
                }
                Err(error) => return Err(from_engine(error)),
            };
            losses.push(step.loss);
            correct.push(step.correct);
            images.push(batch.len() as u32);
        }
        *kept = Some(feed);
        let stopped = match failure {
            Some(_) => "failed",
            None if losses.len() == count => "done",
            None => "aborted",
        };
        Ok(TrainResult {
            losses: losses.into(),
            correct: correct.into(),
            images: images.into(),
            seconds: began.elapsed().as_secs_f64(),
            stall_seconds: stall.as_secs_f64(),
            stopped: stopped.to_owned(),
            failure,
        })
    }
}

/// The learning rate and momentum of every step, checked as far as no optimizer is needed for that.
fn rates(learning_rates: &[f64], momenta: Option<&[f64]>) -> Result<Vec<(f32, Option<f32>)>> {
    if let Some(rate) = learning_rates.iter().find(|rate| !(**rate as f32).is_finite() || **rate < 0.0) {
        return Err(invalid_argument("learningRate", "a number of at least 0", rate));
    }
    if let Some(momenta) = momenta.filter(|momenta| momenta.len() != learning_rates.len()) {
        let expected = format!("{} numbers, one for each learning rate,", learning_rates.len());
        return Err(invalid_argument("momenta", &expected, momenta.len()));
    }
    let momentum = |step: usize| momenta.map(|momenta| momenta[step] as f32);
    Ok(learning_rates.iter().enumerate().map(|(step, &rate)| (rate as f32, momentum(step))).collect())
}

/// The images of a batch from JavaScript, and what its outputs should be.
pub struct OwnBatch {
    images: Images,
    targets: OwnTargets,
}

enum OwnTargets {
    Labels(Vec<u32>),
    Values(Vec<f32>),
}

impl OwnBatch {
    /// Copies arrays, which JavaScript may change meanwhile.
    pub fn new(images: Either<Uint8Array, Float32Array>, targets: Either<Uint32Array, Float32Array>) -> Self {
        let images = match images {
            Either::A(bytes) => Images::U8(bytes.to_vec()),
            Either::B(values) => Images::F32(values.to_vec()),
        };
        let targets = match targets {
            Either::A(labels) => OwnTargets::Labels(labels.to_vec()),
            Either::B(values) => OwnTargets::Values(values.to_vec()),
        };
        Self { images, targets }
    }

    /// One step of training; bytes are scaled to 0..1.
    pub fn train(self, session: &mut Session, updates: &Updates, learning_rate: f32) -> Result<BatchResult> {
        updates.configure(session)?;
        let targets = match &self.targets {
            OwnTargets::Labels(labels) => Targets::Labels(labels),
            OwnTargets::Values(values) => Targets::Values(values),
        };
        let step =
            session.train_step(&self.images.into_values(), targets, &updates.step(learning_rate, None));
        let step = step.map_err(from_engine)?;
        Ok(BatchResult { loss: step.loss.into(), correct: step.correct.into() })
    }
}
