//! How gradients become updates: what JavaScript asks for, checked.

use fovea_engine::{Moments, Optimizer, ParameterGroup, Session, StepOptions};
use napi::ValueType;
use napi::bindgen_prelude::{Float32Array, FromNapiValue, TypeName, ValidateNapiValue, sys};
use napi_derive::napi;

use crate::error::{Result, from_engine, invalid_argument};
use crate::options::count;

/// The names of the optimizers.
const KINDS: &str = "\"sgd\", \"adam\", \"adamw\", \"rmsprop\", \"lamb\" or \"lars\"";

/// An optimizer; what it does not know is left out, and what it knows has PyTorch's defaults.
#[napi(object)]
pub struct OptimizerOptions {
    /// `"sgd"`, `"adam"`, `"adamw"`, `"rmsprop"`, `"lamb"` or `"lars"`.
    pub kind: String,
    /// Share of the previous update that is kept, from 0 to below 1; of sgd, rmsprop and lars. Default 0.
    pub momentum: Option<f64>,
    /// Whether the gradient is looked up ahead, as Nesterov does; of sgd and lars. Default false.
    pub nesterov: Option<bool>,
    /// Share of the mean gradient that is kept, from 0 to below 1; of adam, adamw and lamb. Default 0.9.
    pub beta1: Option<f64>,
    /// Share of the mean squared gradient that is kept, from 0 to below 1; of adam, adamw and lamb. Default 0.999.
    pub beta2: Option<f64>,
    /// Added to the root of the mean squared gradient; of adam, adamw, rmsprop (default 1e-8) and lamb (default 1e-6).
    pub epsilon: Option<f64>,
    /// Share of the mean squared gradient that is kept, from 0 to below 1; of rmsprop. Default 0.99.
    pub alpha: Option<f64>,
    /// Whether the mean gradient is taken from the mean squared one; of rmsprop. Default false.
    pub centered: Option<bool>,
    /// How far a step moves a tensor, over the tensor's norm; of lars. Default 0.001.
    pub trust: Option<f64>,
    /// Share of each parameter that is taken away, at least 0.
    pub weight_decay: f64,
    /// Share of each target that is spread evenly over all classes, from 0 to below 1.
    pub label_smoothing: f64,
}

/// Parameters with settings of their own.
#[napi(object)]
pub struct ParameterGroupOptions {
    /// Exact names.
    pub names: Vec<String>,
    /// Factor of the learning rate, at least 0. Default 1.
    pub learning_rate_scale: Option<f64>,
    /// Instead of the optimizer's weight decay, at least 0.
    pub weight_decay: Option<f64>,
}

/// What an update is made of besides an optimizer.
#[napi(object)]
pub struct UpdateOptions {
    /// Parameters with settings of their own. Default: none.
    pub groups: Option<Vec<ParameterGroupOptions>>,
    /// Names of layers, of blocks of layers or of parameters that do not learn. Default: none.
    pub frozen: Option<Vec<String>>,
    /// The gradients of all parameters together are scaled down to this norm, above 0. Default: they are not.
    pub clip_norm: Option<f64>,
    /// Parts into which the images of a step are cut, computed one after the other to save memory: their gradients add
    /// up to that of the batch. Default 1.
    pub accumulate: Option<f64>,
    /// Share that averages of the weights keep of themselves in every step, from 0 to below 1. Default: no averages.
    pub ema: Option<f64>,
    /// A factor of each class's cross-entropy, at least 0. Default: all 1.
    pub class_weights: Option<Float32Array>,
}

/// The options of an update, checked as far as that is possible without a session.
pub struct Updates {
    options: StepOptions<'static>,
    class_weights: Option<Vec<f32>>,
    groups: Vec<ParameterGroup>,
    frozen: Vec<String>,
}

impl Updates {
    /// The learning rate comes with each step; the engine checks the numbers.
    pub fn new(optimizer: OptimizerOptions, update: UpdateOptions) -> Result<Self> {
        let UpdateOptions { groups, frozen, clip_norm, accumulate, ema, class_weights } = update;
        let group = |group: ParameterGroupOptions| ParameterGroup {
            names: group.names,
            learning_rate_scale: group.learning_rate_scale.unwrap_or(1.0) as f32,
            weight_decay: group.weight_decay.map(|decay| decay as f32),
        };
        let options = StepOptions {
            learning_rate: 0.0,
            weight_decay: optimizer.weight_decay as f32,
            label_smoothing: optimizer.label_smoothing as f32,
            optimizer: self::optimizer(&optimizer)?,
            class_weights: None,
            clip_norm: clip_norm.map(|norm| norm as f32),
            accumulate: accumulate.map_or(Ok(1), |parts| count("accumulate", parts))?,
            ema: ema.map(|decay| decay as f32),
        };
        Ok(Self {
            options,
            class_weights: class_weights.map(|weights| weights.to_vec()),
            groups: groups.unwrap_or_default().into_iter().map(group).collect(),
            frozen: frozen.unwrap_or_default(),
        })
    }

    /// Tells the session which parameters to change and how.
    pub fn configure(&self, session: &mut Session) -> Result<()> {
        session.configure(&self.groups, &self.frozen).map_err(from_engine)
    }

    /// Whether batches of so many images can be trained on.
    pub fn check(&self, session: &Session, images: usize) -> Result<()> {
        session.check_training(images, self.options.accumulate).map_err(from_engine)
    }

    /// The options of a step.
    ///
    /// - `momentum`: instead of the optimizer's; beta1 of one that has that.
    pub fn step(&self, learning_rate: f32, momentum: Option<f32>) -> StepOptions<'_> {
        let mut options =
            StepOptions { learning_rate, class_weights: self.class_weights.as_deref(), ..self.options };
        if let Some(momentum) = momentum {
            *momentum_of(&mut options.optimizer) = momentum;
        }
        options
    }
}

/// The momentum of an optimizer, or the share of the mean gradient that it keeps.
fn momentum_of(optimizer: &mut Optimizer) -> &mut f32 {
    match optimizer {
        Optimizer::Sgd { momentum, .. }
        | Optimizer::RmsProp { momentum, .. }
        | Optimizer::Lars { momentum, .. } => momentum,
        Optimizer::Adam(moments) | Optimizer::AdamW(moments) | Optimizer::Lamb(moments) => &mut moments.beta1,
    }
}

fn optimizer(options: &OptimizerOptions) -> Result<Optimizer> {
    let number = |value: Option<f64>, default: f64| value.unwrap_or(default) as f32;
    let momentum = number(options.momentum, 0.0);
    let nesterov = options.nesterov.unwrap_or(false);
    let moments = |epsilon| Moments {
        beta1: number(options.beta1, 0.9),
        beta2: number(options.beta2, 0.999),
        epsilon: number(options.epsilon, epsilon),
    };
    let (optimizer, knows): (_, &[&str]) = match options.kind.as_str() {
        "sgd" => (Optimizer::Sgd { momentum, nesterov }, &["momentum", "nesterov"]),
        "adam" => (Optimizer::Adam(moments(1e-8)), &["beta1", "beta2", "epsilon"]),
        "adamw" => (Optimizer::AdamW(moments(1e-8)), &["beta1", "beta2", "epsilon"]),
        "rmsprop" => {
            let (alpha, epsilon) = (number(options.alpha, 0.99), number(options.epsilon, 1e-8));
            let centered = options.centered.unwrap_or(false);
            let optimizer = Optimizer::RmsProp { alpha, epsilon, momentum, centered };
            (optimizer, &["alpha", "epsilon", "momentum", "centered"])
        }
        "lamb" => (Optimizer::Lamb(moments(1e-6)), &["beta1", "beta2", "epsilon"]),
        "lars" => {
            let trust = number(options.trust, 0.001);
            (Optimizer::Lars { momentum, nesterov, trust }, &["momentum", "nesterov", "trust"])
        }
        other => return Err(invalid_argument("optimizer", KINDS, format_args!("\"{other}\""))),
    };
    let given = [
        ("momentum", options.momentum.is_some()),
        ("nesterov", options.nesterov.is_some()),
        ("beta1", options.beta1.is_some()),
        ("beta2", options.beta2.is_some()),
        ("epsilon", options.epsilon.is_some()),
        ("alpha", options.alpha.is_some()),
        ("centered", options.centered.is_some()),
        ("trust", options.trust.is_some()),
    ];
    match given.iter().find(|(name, given)| *given && !knows.contains(name)) {
        Some((name, _)) => {
            let expected = format!("{} for {}", knows.join(", "), options.kind);
            Err(invalid_argument("optimizer", &expected, name))
        }
        None => Ok(optimizer),
    }
}

/// One JavaScript object read as two: the options of a call, and those of its updates.
pub struct With<A, B>(pub A, pub B);

impl<A, B> TypeName for With<A, B> {
    fn type_name() -> &'static str {
        "Object"
    }

    fn value_type() -> ValueType {
        ValueType::Object
    }
}

impl<A, B> ValidateNapiValue for With<A, B> {}

impl<A: FromNapiValue, B: FromNapiValue> FromNapiValue for With<A, B> {
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> napi::Result<Self> {
        // SAFETY: the caller vouches for environment and value.
        unsafe { Ok(Self(A::from_napi_value(env, value)?, B::from_napi_value(env, value)?)) }
    }
}
