//! A run of training steps: batches from the prefetcher, steps by the engine, numbers collected.

use std::sync::Arc;
use std::time::Instant;

use fovea_data::{Batch, DataError, Dataset, Prefetcher, Sampler, SamplerOptions};
use fovea_engine::{EngineError, Optimizer, StepOptions};
use napi::bindgen_prelude::{Float32Array, Float64Array, Uint32Array};
use napi_derive::napi;

use crate::driver::{Abort, Worker};
use crate::error::{Error, Result, from_data, from_engine, invalid_argument};
use crate::evaluate::check_images;
use crate::options::{count, whole};

/// How gradients become updates.
#[napi(object)]
pub struct OptimizerOptions {
    /// `"sgd"`.
    pub kind: String,
    /// Share of the previous update that is kept, from 0 to below 1.
    pub momentum: f64,
    /// Whether the gradient is looked up ahead, as Nesterov does.
    pub nesterov: bool,
    /// Share of each parameter that is added to its gradient, at least 0.
    pub weight_decay: f64,
    /// Share of each target that is spread evenly over all classes, from 0 to below 1.
    pub label_smoothing: f64,
}

/// A run of training steps.
#[napi(object)]
pub struct TrainRequest {
    /// Images a step.
    pub batch_size: f64,
    /// The first step of this run, counted from the beginning of training, the first one being 0.
    pub first_step: f64,
    /// One a step: their number is the number of steps.
    pub learning_rates: Float64Array,
    /// How gradients become updates.
    pub optimizer: OptimizerOptions,
    /// A new order of the images every epoch.
    pub shuffle: bool,
    /// Leaves out the last batch of an epoch when it is smaller.
    pub drop_last: bool,
    /// Key of the shuffled order.
    pub seed: f64,
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
    next_step: u64,
    batches: Prefetcher,
}

impl Feed {
    fn new(data: Arc<Dataset>, sampler: Sampler, first_step: u64) -> Result<Self> {
        let batches = Prefetcher::new(data.clone(), sampler, first_step..u64::MAX).map_err(from_data)?;
        Ok(Self { data, sampler, next_step: first_step, batches })
    }

    /// Whether its next batch is the first of a run.
    fn continues_with(&self, run: &TrainRun) -> bool {
        Arc::ptr_eq(&self.data, &run.data) && self.sampler == run.sampler && self.next_step == run.first_step
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
    first_step: u64,
    learning_rates: Vec<f32>,
    options: StepOptions<'static>,
}

impl TrainRun {
    /// Checks every number of a request.
    pub fn new(data: Arc<Dataset>, request: TrainRequest) -> Result<Self> {
        let sampler = SamplerOptions {
            batch_size: count("batchSize", request.batch_size)?,
            shuffle: request.shuffle,
            drop_last: request.drop_last,
            seed: whole("seed", request.seed, 0)?,
        };
        let sampler = Sampler::new(data.len(), sampler).map_err(from_data)?;
        let first_step = whole("firstStep", request.first_step, 0)?;
        let learning_rates: Vec<f32> = request.learning_rates.iter().map(|&rate| rate as f32).collect();
        if let Some(rate) = learning_rates.iter().find(|rate| !rate.is_finite() || **rate < 0.0) {
            return Err(invalid_argument("learningRate", "a number of at least 0", rate));
        }
        Ok(Self { data, sampler, first_step, learning_rates, options: request.optimizer.try_into()? })
    }

    /// Trains until the last step, an abort or an error.
    pub fn run(self, worker: &mut Worker, abort: &Abort) -> Result<TrainResult> {
        let (session, kept) = worker.training();
        check_images(session, &self.data)?;
        let began = Instant::now();
        let mut feed = match kept.take().filter(|feed| feed.continues_with(&self)) {
            Some(feed) => feed,
            None => Feed::new(self.data, self.sampler, self.first_step)?,
        };
        let count = self.learning_rates.len();
        let mut losses = Vec::with_capacity(count);
        let mut correct = Vec::with_capacity(count);
        let mut images = Vec::with_capacity(count);
        let mut options = self.options;
        let mut failure = None;
        for learning_rate in self.learning_rates {
            if abort.is_asked() {
                break;
            }
            let batch = feed.next_batch()?;
            options.learning_rate = learning_rate;
            let step = match session.train_step(&batch.images[..], &batch.labels, &options) {
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
            stopped: stopped.to_owned(),
            failure,
        })
    }
}

impl TryFrom<OptimizerOptions> for StepOptions<'_> {
    type Error = Error;

    /// The learning rate comes later, one a step; the engine checks the numbers.
    fn try_from(options: OptimizerOptions) -> Result<Self> {
        let OptimizerOptions { kind, momentum, nesterov, weight_decay, label_smoothing } = options;
        if kind != "sgd" {
            return Err(invalid_argument("optimizer", "\"sgd\"", format_args!("\"{kind}\"")));
        }
        Ok(Self {
            learning_rate: 0.0,
            optimizer: Optimizer::Sgd { momentum: momentum as f32, nesterov },
            weight_decay: weight_decay as f32,
            label_smoothing: label_smoothing as f32,
            class_weights: None,
        })
    }
}
