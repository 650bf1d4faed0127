//! What training keeps from step to step besides the parameters: the optimizer's states, and averages of the
//! weights. And which parameters it changes: groups with a rate and a decay of their own, and frozen ones.

use crate::buffer::Buffer;
use crate::error::{EngineError, Result};
use crate::graph::OPTIMIZER;
use crate::network::{Network, Parameter};
use crate::parameters::goes_by;
use crate::program::Mode;
use crate::session::Session;
use fovea_kernels::Context;
use fovea_kernels::optimizer::{Optimizer, STATES, Span, Spans, Update, average};
use std::collections::HashMap;

/// Names of the optimizers and of their states in files.
pub(crate) const KINDS: [(&str, [&str; STATES]); 6] = [
    ("sgd", ["velocity", "", ""]),
    ("adam", ["first_moment", "second_moment", ""]),
    ("adamw", ["first_moment", "second_moment", ""]),
    ("rmsprop", ["mean_square", "velocity", "mean_gradient"]),
    ("lamb", ["first_moment", "second_moment", ""]),
    ("lars", ["velocity", "", ""]),
];

/// Keeps the clipped norm from becoming infinite, as PyTorch's `clip_grad_norm_`.
const CLIP_EPSILON: f64 = 1e-6;

/// Parameters with settings of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterGroup {
    /// Exact names, `conv1.bias` for example.
    pub names: Vec<String>,
    /// Factor of the learning rate, at least 0.
    pub learning_rate_scale: f32,
    /// Weight decay instead of the step's, at least 0.
    pub weight_decay: Option<f32>,
}

/// An optimizer's states.
#[derive(Default)]
pub(crate) struct OptimizerState {
    /// Name of the optimizer; none before the first step.
    pub kind: Option<&'static str>,
    /// In the parameters' layout; empty where the optimizer has no such state.
    pub states: [Buffer; STATES],
    /// Steps that it has made.
    pub updates: u64,
    /// Whether a file brought it, and no step has been made since.
    pub loaded: bool,
}

/// Exponential moving averages of the weights, in their layout.
#[derive(Default)]
pub(crate) struct Averaged {
    pub parameters: Buffer,
    pub state: Buffer,
    /// Whether there are some.
    pub exist: bool,
}

/// How a step changes the parameters.
pub(crate) struct Updater<'a> {
    pub optimizer: Optimizer,
    pub learning_rate: f32,
    pub weight_decay: f32,
    /// Largest norm of all gradients.
    pub clip_norm: Option<f32>,
    /// Which step of the optimizer it is, from 1.
    pub number: u64,
    pub spans: &'a mut Spans,
    pub states: [&'a mut [f32]; STATES],
}

/// Its name in options and files.
pub(crate) fn kind(optimizer: &Optimizer) -> &'static str {
    match optimizer {
        Optimizer::Sgd { .. } => "sgd",
        Optimizer::Adam(_) => "adam",
        Optimizer::AdamW(_) => "adamw",
        Optimizer::RmsProp { .. } => "rmsprop",
        Optimizer::Lamb(_) => "lamb",
        Optimizer::Lars { .. } => "lars",
    }
}

impl OptimizerState {
    /// How the names of its states begin in files; empty where it has none.
    pub fn prefixes(&self) -> [String; STATES] {
        let names = KINDS.iter().find(|(kind, _)| Some(*kind) == self.kind).map(|(_, names)| *names);
        names.unwrap_or_default().map(|name| match name {
            "" => String::new(),
            name => format!("{OPTIMIZER}{name}."),
        })
    }

    /// The states that an optimizer keeps and that are not there yet.
    ///
    /// Errors: a state of another one from a checkpoint, more memory than the system gives.
    fn missing(&self, optimizer: &Optimizer, len: usize) -> Result<[Option<Buffer>; STATES]> {
        let name = kind(optimizer);
        if let Some(other) = self.kind.filter(|other| *other != name && self.loaded) {
            let expected = format!("\"{other}\", whose state the checkpoint holds,");
            return Err(EngineError::argument("optimizer", expected, format_args!("\"{name}\"")));
        }
        let mut missing = [const { None }; STATES];
        for ((missing, state), used) in missing.iter_mut().zip(&self.states).zip(optimizer.states()) {
            if used {
                *missing = state.missing(len, "the optimizer's state")?;
            }
        }
        Ok(missing)
    }

    /// Takes over those states; what another optimizer has kept is given up.
    fn begin(&mut self, optimizer: &Optimizer, missing: [Option<Buffer>; STATES]) {
        let name = kind(optimizer);
        if self.kind != Some(name) {
            let mut states = std::mem::take(&mut self.states);
            for (state, used) in states.iter_mut().zip(optimizer.states()) {
                match used {
                    true => state.as_mut_slice().fill(0.0),
                    false => *state = Buffer::default(),
                }
            }
            *self = Self { kind: Some(name), states, ..Self::default() };
        }
        for (state, missing) in self.states.iter_mut().zip(missing) {
            take_over(state, missing);
        }
    }
}

/// Puts a buffer, if there is one, in the place of another.
fn take_over(place: &mut Buffer, buffer: Option<Buffer>) {
    if let Some(buffer) = buffer {
        *place = buffer;
    }
}

impl Updater<'_> {
    pub fn run(&mut self, context: Context, parameters: &mut [f32], gradients: &mut [f32]) {
        let gradient_scale = match self.clip_norm {
            None => 1.0,
            Some(limit) => {
                let norm = self.spans.norm(context, gradients);
                (f64::from(limit) / (norm + CLIP_EPSILON)).min(1.0) as f32
            }
        };
        let update = Update {
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            gradient_scale,
            number: self.number,
            parameters,
            gradients,
            states: self.states.each_mut().map(|state| &mut **state),
        };
        self.optimizer.step(context, self.spans, update);
    }
}

impl Session {
    /// Says which parameters have a learning rate and a weight decay of their own, and which layers or
    /// parameters do not learn: no gradient is computed for these, nor for anything before the first layer that
    /// does learn. A batch normalization without a parameter that learns uses its running statistics and leaves
    /// them as they are.
    ///
    /// It holds until it is said anew. Errors: a name that is no parameter (or layer), or that is in two
    /// groups; numbers out of range. Nothing is changed then.
    pub fn configure(&mut self, groups: &[ParameterGroup], frozen: &[String]) -> Result<()> {
        if self.groups == groups && self.frozen == frozen {
            return Ok(());
        }
        let places = frozen_places(&self.network, frozen)?;
        self.spans = spans(&self.network, groups, &places)?;
        if self.network.frozen != places {
            self.network.frozen = places;
            self.plans.retain(|plan| plan.mode != Mode::Train);
            // Nobody writes the gradient of what is frozen from now on.
            self.gradients.as_mut_slice().fill(0.0);
            self.accumulated.as_mut_slice().fill(0.0);
        }
        (self.groups, self.frozen) = (groups.to_vec(), frozen.to_vec());
        Ok(())
    }

    /// Runs `work` with the exponential moving averages in place of parameters and running statistics.
    ///
    /// Errors: there are none.
    pub fn with_averages<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Result<T> {
        if !self.averaged.exist {
            let expected = "false, as no step has averaged the weights,";
            return Err(EngineError::argument("averaged", expected, true));
        }
        self.swap_averages();
        let result = work(self);
        self.swap_averages();
        Ok(result)
    }

    fn swap_averages(&mut self) {
        std::mem::swap(&mut self.parameters, &mut self.averaged.parameters);
        std::mem::swap(&mut self.state, &mut self.averaged.state);
        self.version += 1;
    }

    /// Makes room for everything that a step with these options keeps.
    ///
    /// Errors: a state of another optimizer from a checkpoint, more memory than the system gives; nothing is
    /// changed then.
    pub(crate) fn prepare_update(
        &mut self,
        optimizer: &Optimizer,
        averages: bool,
        accumulates: bool,
    ) -> Result<()> {
        let (len, state_len) = (self.network.parameters.len, self.network.state.len);
        let wanted = |is_wanted| if is_wanted { len } else { 0 };
        let states = self.optimizer.missing(optimizer, len)?;
        let gradients = self.gradients.missing(len, "the gradients")?;
        let accumulated = self.accumulated.missing(wanted(accumulates), "the accumulated gradients")?;
        let averaged = self.averaged.parameters.missing(wanted(averages), "the averaged weights")?;
        let averaged_state = match averaged {
            Some(_) => Some(Buffer::new(state_len, "the averaged weights")?),
            None => None,
        };
        self.optimizer.begin(optimizer, states);
        take_over(&mut self.gradients, gradients);
        take_over(&mut self.accumulated, accumulated);
        take_over(&mut self.averaged.parameters, averaged);
        take_over(&mut self.averaged.state, averaged_state);
        Ok(())
    }

    /// Lets the averages follow parameters and running statistics; the first time, they are those.
    pub(crate) fn follow(&mut self, decay: f32) {
        let context = Context { isa: self.isa, pool: &self.pool };
        let Averaged { parameters, state, exist } = &mut self.averaged;
        let kept = if std::mem::replace(exist, true) { decay } else { 0.0 };
        for (means, values) in [(parameters, &self.parameters), (state, &self.state)] {
            match kept {
                0.0 => means.as_mut_slice().copy_from_slice(values.as_slice()),
                kept => average(context, kept, means.as_mut_slice(), values.as_slice()),
            }
        }
    }
}

/// Where the parameters begin that these names, of layers or parameters, say not to change.
fn frozen_places(network: &Network, frozen: &[String]) -> Result<Vec<usize>> {
    let tensors = &network.parameters.tensors;
    let is_known = |name: &&String| tensors.iter().any(|parameter| goes_by(&parameter.name, name));
    if let Some(name) = frozen.iter().find(|name| !is_known(name)) {
        let expected = "names of layers with parameters, or of parameters,";
        return Err(EngineError::argument("frozen", expected, format_args!("\"{name}\"")));
    }
    let is_frozen = |parameter: &&Parameter| frozen.iter().any(|name| goes_by(&parameter.name, name));
    Ok(tensors.iter().filter(is_frozen).map(|parameter| parameter.place.start).collect())
}

/// What a step changes: every parameter that is not frozen, with its group's settings.
pub(crate) fn spans(network: &Network, groups: &[ParameterGroup], frozen: &[usize]) -> Result<Spans> {
    let mut group_of: HashMap<&str, &ParameterGroup> = HashMap::new();
    for group in groups {
        let numbers = [Some(group.learning_rate_scale), group.weight_decay];
        let names = ["groups.learningRateScale", "groups.weightDecay"];
        for (number, name) in numbers.into_iter().zip(names) {
            if let Some(number) = number.filter(|number| !(number.is_finite() && *number >= 0.0)) {
                return Err(EngineError::argument(name, "a finite number of at least 0", number));
            }
        }
        for name in &group.names {
            let known = network.parameters.tensors.iter().any(|parameter| parameter.name == *name);
            if !known || group_of.insert(name, group).is_some() {
                let expected = "names of parameters, each once,";
                return Err(EngineError::argument("groups.names", expected, format_args!("\"{name}\"")));
            }
        }
    }
    let learning = network.parameters.tensors.iter().filter(|each| !frozen.contains(&each.place.start));
    let span = |parameter: &Parameter| {
        let group = group_of.get(parameter.name.as_str());
        Span {
            place: parameter.place.clone(),
            learning_rate_scale: group.map_or(1.0, |group| group.learning_rate_scale),
            weight_decay: group.and_then(|group| group.weight_decay),
            // The norm of a bias, which begins at zero, or of a normalization's scales says nothing about a
            // good step.
            adapts: parameter.shape.len() > 1,
        }
    };
    Ok(Spans::new(learning.map(span).collect()))
}
