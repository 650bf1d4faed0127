//! A network with its parameters, plans and driver thread.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use fovea_data::Augment;
use fovea_engine::onnx::{self, ImportOptions};
use fovea_engine::{Facts, Graph, Mode, Precision, Session as Engine};
use fovea_kernels::Isa;
use napi::Env;
use napi::bindgen_prelude::{Either, Float32Array, Object, Uint8Array, Uint32Array};
use napi_derive::napi;

use crate::abort::{Abort, AbortHandle};
use crate::dataset::Dataset;
use crate::driver::{Driver, Failure};
use crate::error::{Code, Error, Result, from_data, from_engine, invalid_argument};
use crate::evaluate::{EvaluateOptions, evaluate};
use crate::onnx::OnnxModel;
use crate::options::{count, whole, zeros};
use crate::train::{BatchRequest, OwnBatch, TrainRequest, TrainRun};
use crate::update::{UpdateOptions, Updates, With};

/// What a session is made of.
#[napi(object)]
pub struct SessionOptions {
    /// The graph definition, as JSON.
    pub graph: String,
    /// Key of the first parameters.
    pub seed: f64,
    /// Threads that compute. Default: as many as this process may use at once.
    pub threads: Option<f64>,
    /// `"avx512"`, `"avx2"`, `"neon"` or `"scalar"`. Default: `FOVEA_ISA`, else the best that this machine has.
    pub isa: Option<String>,
    /// `"fast"` or `"strict"`, which computes every convolution by direct summation. Default `"fast"`.
    pub precision: Option<String>,
    /// `"direct"`, `"scatter"`, `"packed"` or `"winograd"` by layer, or by a layer's pass: `"conv1.forward"`,
    /// `"conv1.inputGradient"`, `"conv1.weightGradient"`. Default: what the cost model chooses.
    pub algorithms: Option<HashMap<String, String>>,
}

/// A tensor that training changes.
#[napi(object)]
pub struct ParameterInfo {
    /// Its name in files, `conv1.weight` for example.
    pub name: String,
    /// Its shape in files: PyTorch's.
    pub shape: Vec<f64>,
}

/// Which weights are meant.
#[napi(object)]
pub struct WeightsOptions {
    /// The averages that training with `ema` made, instead of the weights themselves. Default false.
    pub averaged: Option<bool>,
}

/// How weights are read.
#[napi(object)]
pub struct LoadOptions {
    /// Names of layers, of blocks of layers or of tensors that stay as they are, whatever the file has for them. Default:
    /// none.
    pub except: Option<Vec<String>>,
}

/// Times of whole steps on a synthetic batch.
#[napi(object)]
pub struct Benchmark {
    /// Median time of a step, in milliseconds.
    pub median_ms: f64,
    /// Fastest step, in milliseconds.
    pub min_ms: f64,
    /// Slowest step, in milliseconds.
    pub max_ms: f64,
    /// Steps timed.
    pub steps: f64,
    /// Images over the median time.
    pub images_per_second: f64,
    /// Floating-point operations of convolutions and dense layers, in 10^9 a second, over the median time.
    pub gflops: f64,
    /// Fused multiply-add peak of the same threads, measured beside the steps, in 10^9 operations a second.
    pub peak_gflops: f64,
}

/// A network with its parameters, and a thread that computes with them: what is asked of a session is done in order.
///
/// Every promise rejects with `CLOSED` after `close`.
#[napi]
pub struct Session {
    driver: Driver,
    facts: Facts,
}

#[napi]
impl Session {
    /// Checks definition and options and starts making the session; what only shows then fails the first call.
    ///
    /// @throws `INVALID_GRAPH`, `INVALID_SHAPE` and `INVALID_ARGUMENT`
    #[napi(constructor, catch_unwind)]
    pub fn new(options: SessionOptions) -> Result<Self> {
        let graph = Graph::from_json(&options.graph).map_err(from_engine)?;
        let options = fovea_engine::SessionOptions::try_from(options)?;
        let facts = Facts::new(&graph, &options).map_err(from_engine)?;
        Ok(Self { driver: Driver::start(move || Engine::new(graph, options).map_err(from_engine))?, facts })
    }

    /// Threads that compute.
    #[napi(getter, catch_unwind)]
    pub fn threads(&self) -> f64 {
        self.facts.threads as f64
    }

    /// The instruction set.
    #[napi(getter, catch_unwind)]
    pub fn isa(&self) -> &'static str {
        self.facts.isa.name()
    }

    /// Values of the first output for one image.
    #[napi(getter, catch_unwind)]
    pub fn output_size(&self) -> f64 {
        self.facts.output_len as f64
    }

    /// Names and shapes of all parameters, in the graph's order.
    #[napi(catch_unwind)]
    pub fn parameters(&self) -> Vec<ParameterInfo> {
        self.facts.parameters.iter().map(ParameterInfo::from).collect()
    }

    /// Trains a run of steps; its handle ends it after the step under way, and it resolves with what was done.
    /// So it does when the loss stops being a number: the parameters are then those of the step before.
    ///
    /// @throws `INVALID_ARGUMENT`, `INVALID_DATA` when images or labels do not fit
    #[napi(
        catch_unwind,
        ts_args_type = "dataset: Dataset, request: TrainRequest & UpdateOptions, handle?: AbortHandle | undefined | null",
        ts_return_type = "Promise<TrainResult>"
    )]
    pub fn train_steps<'env>(
        &self,
        env: &'env Env,
        dataset: &Dataset,
        request: With<TrainRequest, UpdateOptions>,
        handle: Option<&AbortHandle>,
    ) -> Result<Object<'env>> {
        let run = TrainRun::new(dataset.data.clone(), request)?;
        self.driver.send(env, handle, |worker, abort| run.run(worker, abort))
    }

    /// Trains one step on the caller's batch.
    ///
    /// @param images `N x height x width x channels` values in row order: bytes, scaled to 0..1, or floats as they are
    /// @param targets a class for each image, or as many floats as the outputs have
    /// @throws `INVALID_ARGUMENT`, `INVALID_DATA` when a label is no class, `NOT_FINITE` when the loss or a gradient stops
    /// being a number: the parameters are then those of the step before
    #[napi(
        catch_unwind,
        ts_args_type = "images: Uint8Array | Float32Array, targets: Uint32Array | Float32Array, request: BatchRequest & UpdateOptions",
        ts_return_type = "Promise<BatchResult>"
    )]
    pub fn train_batch<'env>(
        &self,
        env: &'env Env,
        images: Either<Uint8Array, Float32Array>,
        targets: Either<Uint32Array, Float32Array>,
        request: With<BatchRequest, UpdateOptions>,
    ) -> Result<Object<'env>> {
        let With(BatchRequest { learning_rate, optimizer }, update) = request;
        let updates = Updates::new(optimizer, update)?;
        let batch = OwnBatch::new(images, targets);
        self.driver
            .send(env, None, move |worker, _| batch.train(worker.session(), &updates, learning_rate as f32))
    }

    /// Evaluates the first output on a whole dataset; its handle makes it reject with `ABORTED`.
    #[napi(catch_unwind, ts_return_type = "Promise<Evaluation>")]
    pub fn evaluate<'env>(
        &self,
        env: &'env Env,
        dataset: &Dataset,
        batch_size: f64,
        options: Option<EvaluateOptions>,
        handle: Option<&AbortHandle>,
    ) -> Result<Object<'env>> {
        let batch_size = count("batchSize", batch_size)?;
        let EvaluateOptions { augment, averaged, mirrored } = options.unwrap_or_default();
        let augment = Augment::parse(augment.as_deref()).map_err(from_data)?;
        let (data, augment) = (dataset.data.clone(), Augment::for_evaluation(augment));
        self.driver.send(env, handle, move |worker, abort| {
            with_weights(worker.session(), Some(WeightsOptions { averaged }), |session| {
                evaluate(session, data, augment, batch_size, mirrored.unwrap_or(false), abort)
            })
        })
    }

    /// The first output for any number of images.
    ///
    /// @param images `count x height x width x channels` values
    /// @returns `count x outputSize` values
    #[napi(catch_unwind, ts_return_type = "Promise<Float32Array>")]
    pub fn predict<'env>(
        &self,
        env: &'env Env,
        images: Float32Array,
        count: f64,
        weights: Option<WeightsOptions>,
    ) -> Result<Object<'env>> {
        let count = whole("count", count, 0)? as usize;
        let images = images.to_vec(); // JavaScript may change its array meanwhile
        self.driver.send(env, None, move |worker, abort| {
            with_weights(worker.session(), weights, |session| predict(session, &images, count, abort))
                .map(Float32Array::from)
        })
    }

    /// Writes the parameters as safetensors, in PyTorch's names and layouts; resolves with the file's size in bytes.
    #[napi(catch_unwind, ts_return_type = "Promise<number>")]
    pub fn save_weights<'env>(
        &self,
        env: &'env Env,
        path: String,
        weights: Option<WeightsOptions>,
    ) -> Result<Object<'env>> {
        self.driver.send(env, None, move |worker, _| {
            with_weights(worker.session(), weights, |session| {
                session.save_weights(Path::new(&path)).map(|bytes| bytes as f64).map_err(from_engine)
            })
        })
    }

    /// Replaces all parameters by those of a safetensors file, or none.
    ///
    /// @throws `INVALID_WEIGHTS` naming every tensor that is missing, left over or of another shape, `INVALID_ARGUMENT`
    /// for an excepted name by which nothing goes
    #[napi(catch_unwind, ts_return_type = "Promise<void>")]
    pub fn load_weights<'env>(
        &self,
        env: &'env Env,
        path: String,
        options: Option<LoadOptions>,
    ) -> Result<Object<'env>> {
        let except = options.and_then(|options| options.except).unwrap_or_default();
        self.driver.send(env, None, move |worker, _| {
            worker.session().load_weights_file(Path::new(&path), &except).map_err(from_engine)
        })
    }

    /// Writes the network for inference as an ONNX file, without its auxiliary heads; resolves with the file's size in bytes.
    ///
    /// @throws `INVALID_GRAPH` for a layer that ONNX has no operator for
    #[napi(catch_unwind, ts_return_type = "Promise<number>")]
    pub fn save_onnx<'env>(&self, env: &'env Env, path: String) -> Result<Object<'env>> {
        self.driver.send(env, None, move |worker, _| {
            worker.session().save_onnx(Path::new(&path)).map(|bytes| bytes as f64).map_err(from_engine)
        })
    }

    /// Replaces all parameters by those of an ONNX file of the same network, or none.
    ///
    /// @param model the file's path, or what was read from it
    /// @throws `INVALID_WEIGHTS` naming every tensor that is missing, left over or of another shape; for a
    /// path, what `OnnxModel.read` throws
    #[napi(catch_unwind, ts_return_type = "Promise<void>")]
    pub fn load_onnx<'env>(&self, env: &'env Env, model: Either<String, &OnnxModel>) -> Result<Object<'env>> {
        let model = match model {
            Either::A(path) => Either::A(path),
            Either::B(read) => Either::B(read.model.clone()),
        };
        self.driver.send(env, None, move |worker, _| {
            let session = worker.session();
            let model = match model {
                Either::A(path) => {
                    let options = ImportOptions { input: Some(session.graph().input), output: None };
                    Arc::new(onnx::OnnxModel::open(Path::new(&path), &options).map_err(from_engine)?)
                }
                Either::B(read) => read,
            };
            session.load_onnx(&model).map_err(from_engine)
        })
    }

    /// Writes what training needs to go on; `metadata` is the caller's. Resolves with the file's size in bytes.
    #[napi(catch_unwind, ts_return_type = "Promise<number>")]
    pub fn save_checkpoint<'env>(
        &self,
        env: &'env Env,
        path: String,
        metadata: String,
    ) -> Result<Object<'env>> {
        self.driver.send(env, None, move |worker, _| {
            worker
                .session()
                .save_checkpoint(Path::new(&path), &metadata)
                .map(|bytes| bytes as f64)
                .map_err(from_engine)
        })
    }

    /// Goes on from a checkpoint; resolves with the caller's metadata.
    #[napi(catch_unwind, ts_return_type = "Promise<string>")]
    pub fn load_checkpoint<'env>(&self, env: &'env Env, path: String) -> Result<Object<'env>> {
        self.driver.send(env, None, move |worker, _| {
            worker.session().load_checkpoint(Path::new(&path)).map_err(from_engine)
        })
    }

    /// The plan of a mode (`"train"`, `"infer"` or `"evaluate"`) and batch size, as JSON; with `run`, also its times.
    #[napi(catch_unwind, ts_return_type = "Promise<string>")]
    pub fn explain<'env>(&self, env: &'env Env, mode: String, batch: f64, run: bool) -> Result<Object<'env>> {
        let (mode, batch) = (self::mode(&mode)?, count("batch", batch)?);
        self.driver.send(env, None, move |worker, _| {
            let plan = worker.session().explain(mode, batch, run).map_err(from_engine)?;
            serde_json::to_string(&plan).map_err(|error| Error::new(Code::Internal, error.to_string()))
        })
    }

    /// Times steps of a synthetic batch for about so many seconds and at least three steps, or until its handle
    /// ends it.
    #[napi(catch_unwind, ts_return_type = "Promise<Benchmark>")]
    pub fn benchmark<'env>(
        &self,
        env: &'env Env,
        mode: String,
        batch: f64,
        seconds: f64,
        handle: Option<&AbortHandle>,
    ) -> Result<Object<'env>> {
        let (mode, batch) = (self::mode(&mode)?, count("batch", batch)?);
        self.driver.send(env, handle, move |worker, abort| {
            let stop = || abort.is_asked();
            worker.session().benchmark(mode, batch, seconds, stop).map(Benchmark::from).map_err(from_engine)
        })
    }

    /// Stops all that takes long within a step, frees the session's memory and ends its threads.
    #[napi(catch_unwind, ts_return_type = "Promise<void>")]
    pub fn close<'env>(&mut self, env: &'env Env) -> Result<Object<'env>> {
        self.driver.close(env)
    }
}

impl TryFrom<SessionOptions> for fovea_engine::SessionOptions {
    type Error = Error;

    fn try_from(
        SessionOptions { seed, threads, isa, precision, algorithms, .. }: SessionOptions,
    ) -> Result<Self> {
        let precision = match precision.as_deref() {
            None | Some("fast") => Precision::Fast,
            Some("strict") => Precision::Strict,
            Some(other) => {
                return Err(invalid_argument(
                    "precision",
                    "\"fast\" or \"strict\"",
                    format_args!("\"{other}\""),
                ));
            }
        };
        let mut algorithms: Vec<_> = algorithms.unwrap_or_default().into_iter().collect();
        algorithms.sort_unstable(); // a layer before its passes, which have the last word
        let isa = isa.map_or_else(Isa::detect, |name| Isa::from_name(&name));
        Ok(Self {
            threads: threads.map(|threads| count("threads", threads)).transpose()?,
            seed: whole("seed", seed, 0)?,
            isa: Some(isa.map_err(|error| from_engine(error.into()))?),
            precision,
            algorithms,
        })
    }
}

impl From<&fovea_engine::ParameterInfo> for ParameterInfo {
    fn from(parameter: &fovea_engine::ParameterInfo) -> Self {
        let shape = parameter.shape.iter().map(|&length| length as f64).collect();
        Self { name: parameter.name.clone(), shape }
    }
}

impl From<fovea_engine::Benchmark> for Benchmark {
    fn from(benchmark: fovea_engine::Benchmark) -> Self {
        Self {
            median_ms: benchmark.median_ms,
            min_ms: benchmark.min_ms,
            max_ms: benchmark.max_ms,
            steps: benchmark.steps as f64,
            images_per_second: benchmark.images_per_second,
            gflops: benchmark.gflops,
            peak_gflops: benchmark.peak_gflops,
        }
    }
}

/// Images after which a closed session stops predicting; a multiple of what the engine runs at once.
const PREDICT_IMAGES: usize = 256;

fn predict(session: &mut Engine, images: &[f32], count: usize, abort: &Abort) -> Result<Vec<f32>> {
    let (image_len, output_len) = (session.image_len(), session.output_len());
    if count.checked_mul(image_len) != Some(images.len()) {
        // The engine says so; it needs no memory for an output that it refuses to compute.
        session.predict(images, count, &mut []).map_err(from_engine)?;
    }
    let mut output = zeros(count.saturating_mul(output_len), "the output")?;
    let parts = images.chunks(PREDICT_IMAGES * image_len).zip(output.chunks_mut(PREDICT_IMAGES * output_len));
    for (images, output) in parts {
        if abort.is_closing() {
            return Err(Failure::closed().into());
        }
        session.predict(images, images.len() / image_len, output).map_err(from_engine)?;
    }
    Ok(output)
}

/// Does `work` with the weights that are meant.
fn with_weights<T>(
    session: &mut Engine,
    options: Option<WeightsOptions>,
    work: impl FnOnce(&mut Engine) -> Result<T>,
) -> Result<T> {
    match options.and_then(|options| options.averaged) {
        Some(true) => session.with_averages(work).map_err(from_engine)?,
        Some(false) | None => work(session),
    }
}

fn mode(name: &str) -> Result<Mode> {
    let modes = [Mode::Train, Mode::Infer, Mode::Evaluate];
    modes.into_iter().find(|mode| mode.name() == name).ok_or_else(|| {
        invalid_argument("mode", "\"train\", \"infer\" or \"evaluate\"", format_args!("\"{name}\""))
    })
}
