//! A pass over a dataset: batches from the prefetcher, losses and predictions by the engine, numbers collected.

use std::sync::Arc;

use fovea_data::{Augment, Dataset, Prefetcher, Sampler, SamplerOptions};
use fovea_engine::Session;
use napi::bindgen_prelude::Uint32Array;
use napi_derive::napi;

use crate::abort::Abort;
use crate::error::{Code, Error, Result, from_data, from_engine};
use crate::options::zeros;

/// How a network is evaluated.
#[napi(object)]
#[derive(Default)]
pub struct EvaluateOptions {
    /// What training does to its images, as JSON: normalisation is done here, too, the rest is not.
    pub augment: Option<String>,
    /// Whether the averages that training with `ema` made are meant, instead of the weights themselves. Default false.
    pub averaged: Option<bool>,
    /// Whether the scores of an image are the mean of its own and its mirror image's. Default false.
    pub mirrored: Option<bool>,
}

/// How well a network does on a dataset.
#[napi(object)]
pub struct Evaluation {
    /// Number of images, without those that cannot be read and may be skipped.
    pub images: f64,
    /// Mean over the images.
    pub loss: f64,
    /// Share of images whose class has the highest score, from 0 to 1.
    pub accuracy: f64,
    /// Share of images whose class is among the five highest scores, from 0 to 1.
    pub top5: f64,
    /// `classes x classes` counts in row order: a row for each label, a column for each prediction.
    pub confusion: Uint32Array,
}

/// Evaluates a session on a whole dataset, `batch_size` images at once, each also in the mirror where `mirrored`.
pub fn evaluate(
    session: &mut Session,
    data: Arc<Dataset>,
    augment: Augment,
    batch_size: usize,
    mirrored: bool,
    abort: &Abort,
) -> Result<Evaluation> {
    let judge = if mirrored { Session::evaluate_mirrored_batch } else { Session::evaluate_batch };
    check_images(session, &data)?;
    let images = data.len();
    let classes = session.output_len();
    let mut confusion = zeros(classes.saturating_mul(classes), "the confusion matrix")?;
    let mut predictions = zeros(batch_size.min(images), "the predictions")?;
    let options = SamplerOptions { batch_size, shuffle: false, drop_last: false, seed: 0 };
    let sampler = Sampler::new(images, options).map_err(from_data)?;
    let steps = 0..sampler.steps_per_epoch();
    let mut batches = Prefetcher::new(data, sampler, augment, steps).map_err(from_data)?;
    let (mut images, mut loss, mut correct, mut top5) = (0, 0.0, 0, 0);
    while let Some(batch) = batches.next_batch().map_err(from_data)? {
        if abort.is_asked() {
            return Err(abort.error("evaluation"));
        }
        if batch.is_empty() {
            continue; // none of its files can be read
        }
        images += batch.len();
        let predictions = &mut predictions[..batch.len()];
        let part = judge(session, &batch.images, &batch.labels, predictions).map_err(from_engine)?;
        loss += part.loss_sum;
        correct += u64::from(part.correct);
        top5 += u64::from(part.top5);
        for (&label, &prediction) in batch.labels.iter().zip(&*predictions) {
            confusion[label as usize * classes + prediction as usize] += 1u32;
        }
    }
    if images == 0 {
        return Err(Error::new(Code::InvalidData, "Expected an image that can be read but found none."));
    }
    let images = images as f64;
    Ok(Evaluation {
        images,
        loss: loss / images,
        accuracy: correct as f64 / images,
        top5: top5 as f64 / images,
        confusion: confusion.into(),
    })
}

/// Refuses images of another shape than the network's input.
pub fn check_images(session: &Session, data: &Dataset) -> Result<()> {
    let graph = session.graph();
    let [_, shape @ ..] = data.shape();
    if shape == graph.input {
        return Ok(());
    }
    let message =
        format!("Expected images of {:?} for \"{}\" but received {shape:?}.", graph.input, graph.name);
    Err(Error::new(Code::InvalidData, message))
}
