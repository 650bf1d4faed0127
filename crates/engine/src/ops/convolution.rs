//! What convolutions, transposed convolutions and dense layers have in common: a kernel, the places of its
//! parameters, and the instructions that compute with them.
//!
//! A dense layer is a 1 x 1 convolution of a map of one pixel. A transposed convolution is the input gradient
//! of a convolution: forward it computes what that one computes backward, and the other way round.

use super::batch_norm::BatchNormLayer;
use super::function::Fused;
use crate::autodiff::Backward;
use crate::execute::{Memory, Step, parameters_mut};
use crate::explain::{About, PlanCandidate, PlanRow};
use crate::instruction::{Call, Instruction};
use crate::network::{Building, Parameter, Role};
use crate::operand::{Operands, Reach};
use crate::order::Order;
use crate::program::{Program, ValueId};
use crate::select::weights;
use fovea_kernels::arithmetic;
use fovea_kernels::conv2d::winograd::{WeightGradient, Winograd};
use fovea_kernels::conv2d::{self, Conv2d, Conv2dShape, Pass};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Distribution of a layer's first weight; biases begin at zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Init {
    /// He et al. 2015 (arXiv:1502.01852): uniform within `sqrt(6 / fan_in)`; keeps the variance through ReLUs.
    Kaiming,
    /// Glorot and Bengio 2010: uniform within `sqrt(6 / (fan_in + fan_out))`.
    Xavier,
    /// LeCun et al. 1998, appendix A: uniform within `2.4 / fan_in`, for a tanh scaled to gain 1 between -1 and
    /// 1.
    Lecun,
}

/// A layer that convolves: kernel and places of its parameters.
pub(crate) struct ConvolutionLayer {
    pub name: String,
    /// Its node's position in the graph.
    pub index: usize,
    pub kernel: Conv2d,
    pub mult_adds: u64,
    /// Place of the weight, in the kernel's layout.
    pub weight: Range<usize>,
    /// Place of the bias, after the weight.
    pub bias: Option<Range<usize>>,
    pub role: ConvolutionRole,
    /// The weights that it has, if it leaves some out.
    pub connections: Option<Connections>,
}

/// Which weights a convolution has.
pub(crate) struct Connections {
    /// In the kernel's layout, 1 for a weight that it has, otherwise 0.
    pub mask: Vec<f32>,
    /// Input channels of each filter.
    pub channels: Vec<usize>,
}

/// What a convolution's kernel is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConvolutionRole {
    Convolution,
    /// A fully connected layer.
    Dense,
    /// Its input gradient is the forward pass of a transposed convolution, and its forward pass that one's
    /// gradient.
    Transposed,
}

impl ConvolutionRole {
    /// Of the kernel of a node of this operation, if it has one.
    pub fn of(op: &str) -> Option<Self> {
        match op {
            "conv" => Some(Self::Convolution),
            "dense" => Some(Self::Dense),
            "convTranspose" => Some(Self::Transposed),
            _ => None,
        }
    }

    /// Names of the instructions: forward, gradient of the weight, gradient of the input.
    fn names(self) -> [&'static str; 3] {
        match self {
            Self::Convolution => ["conv", "convBackwardWeight", "convBackwardInput"],
            Self::Dense => ["dense", "denseBackwardWeight", "denseBackwardInput"],
            Self::Transposed => {
                ["convTransposeBackwardInput", "convTransposeBackwardWeight", "convTranspose"]
            }
        }
    }
}

impl ConvolutionLayer {
    /// Places of weight and bias.
    pub fn parameters(&self) -> [Option<&Range<usize>>; 2] {
        [Some(&self.weight), self.bias.as_ref()]
    }

    /// Weight and bias in a buffer of the parameters' layout.
    pub fn weights<'a>(&self, buffer: &'a [f32]) -> (&'a [f32], Option<&'a [f32]>) {
        (&buffer[self.weight.clone()], self.bias.clone().map(|bias| &buffer[bias]))
    }
}

/// `[out, in / groups, kernel height, kernel width]`.
pub(crate) fn weight_shape(shape: &Conv2dShape) -> [usize; 4] {
    [shape.filters, shape.input[2] / shape.groups, shape.kernel[0], shape.kernel[1]]
}

/// A weight, and perhaps a bias of so many elements.
pub(crate) fn tensors(weight: Vec<usize>, bias: Option<usize>) -> Vec<(&'static str, Vec<usize>)> {
    let bias = bias.map(|biases| ("bias", vec![biases]));
    [("weight", weight)].into_iter().chain(bias).collect()
}

/// The places of a convolution's parameters.
pub(crate) struct Placing<'a> {
    pub role: ConvolutionRole,
    pub bias: bool,
    pub init: Init,
    /// The input channels of each filter, where it does not see all.
    pub connections: Option<&'a [Vec<usize>]>,
    /// The order of the vector that a dense layer reads.
    pub order: Option<Order>,
}

impl Building<'_> {
    /// Gives the parameters of a convolution of this shape their places.
    ///
    /// Errors: a shape that the kernels refuse, and an algorithm that it is held to and cannot be computed by.
    pub fn convolution(
        &mut self,
        shape: Conv2dShape,
        placing: Placing,
    ) -> crate::error::Result<Arc<ConvolutionLayer>> {
        let Placing { role, bias, init, connections, order } = placing;
        if connections.is_some() {
            self.mask(weight_shape(&shape).iter().product())?;
        }
        let kernel = self.kernel(shape, role)?;
        let (name, mult_adds, index) = (self.name().to_owned(), self.shape().mult_adds, self.index());
        let [out, inputs, height, width] = weight_shape(kernel.shape());
        let shape =
            if role == ConvolutionRole::Dense { vec![out, inputs] } else { vec![out, inputs, height, width] };
        let weight = self.parameters().place(kernel.weight_len());
        let bias = bias.then(|| self.parameters().place(out));
        let connections = connections.map(|lists| Connections::new(lists, &kernel));
        let layer =
            Arc::new(ConvolutionLayer { name, index, kernel, mult_adds, weight, bias, role, connections });
        self.parameters().tensors.push(Parameter {
            name: format!("{}.weight", layer.name),
            shape,
            place: layer.weight.clone(),
            role: Role::Weight { layer: Arc::clone(&layer), init },
            order,
        });
        if let Some(place) = layer.bias.clone() {
            let name = format!("{}.bias", layer.name);
            self.parameters().tensors.push(Parameter::vector(name, place, 0.0, None));
        }
        Ok(layer)
    }
}

impl Connections {
    fn new(lists: &[Vec<usize>], kernel: &Conv2d) -> Self {
        let [_, channels, height, width] = weight_shape(kernel.shape());
        let of_filter = |list: &Vec<usize>| {
            let has = |channel| if list.contains(&channel) { 1.0 } else { 0.0 };
            (0..channels)
                .flat_map(|channel| std::iter::repeat_n(has(channel), height * width))
                .collect::<Vec<_>>()
        };
        let oihw: Vec<f32> = lists.iter().flat_map(of_filter).collect();
        let mut mask = vec![0.0; kernel.weight_len()];
        kernel.pack_weight(&oihw, &mut mask);
        Self { mask, channels: lists.iter().map(Vec::len).collect() }
    }
}

/// How a convolution is computed.
#[derive(Clone, Default)]
pub(crate) enum Algorithm {
    /// Direct summation.
    #[default]
    Direct,
    /// Winograd's, with the transformed weight that the step wrote.
    Winograd(Arc<Winograd>, ValueId),
    /// Winograd's, with the transformed weight that the session keeps while its parameters stay the same.
    WinogradKept(Arc<Winograd>),
}

impl Algorithm {
    /// The transformed weight among the program's values.
    pub fn weight(&self) -> Option<ValueId> {
        match *self {
            Self::Winograd(_, weight) => Some(weight),
            Self::Direct | Self::WinogradKept(_) => None,
        }
    }

    /// Winograd's algorithm, wherever its weight is.
    pub fn winograd(&self) -> Option<&Arc<Winograd>> {
        match self {
            Self::Winograd(winograd, _) | Self::WinogradKept(winograd) => Some(winograd),
            Self::Direct => None,
        }
    }

    /// Its name in `explain`, if it is Winograd's.
    fn name(&self) -> Option<String> {
        self.winograd().map(|winograd| winograd.algorithm())
    }
}

/// y = function(convolution(x, weight) + bias + residual); with a batch normalization that is part of weight
/// and bias where one is folded into it. The moments of y are taken for a batch normalization that reads it.
pub(crate) struct Forward {
    pub layer: Arc<ConvolutionLayer>,
    pub folded: Option<Arc<BatchNormLayer>>,
    pub x: ValueId,
    pub residual: Option<ValueId>,
    pub y: ValueId,
    pub moments: Option<ValueId>,
    pub function: Fused,
    pub algorithm: Algorithm,
}

impl Forward {
    /// The convolution and nothing else.
    pub fn instruction(layer: &Arc<ConvolutionLayer>, x: ValueId, y: ValueId) -> Instruction {
        Instruction::Convolution(Self {
            layer: Arc::clone(layer),
            folded: None,
            x,
            residual: None,
            y,
            moments: None,
            function: Fused::default(),
            algorithm: Algorithm::Direct,
        })
    }
}

impl Call for Forward {
    fn name(&self) -> &'static str {
        self.layer.role.names()[0]
    }

    fn operands(&self) -> Operands {
        // A tile reads its pixels again for other filters, after the results of some have been written.
        Operands::default()
            .read(self.x, Reach::Neighbourhood)
            .read(self.residual, Reach::Pixel)
            .read(self.algorithm.weight(), Reach::Whole)
            .write(self.y, Reach::Pixel)
            .write(self.moments, Reach::Whole)
    }

    fn parameters(&self) -> [Option<&Range<usize>>; 2] {
        self.layer.parameters()
    }

    fn scratch_len(&self, _: &Program, batch: usize, threads: usize) -> usize {
        match self.algorithm.winograd() {
            Some(winograd) => winograd.scratch_len(threads),
            None => self.layer.kernel.scratch_len(Pass::Forward, batch, threads),
        }
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let Self { layer, x, residual, y, moments, algorithm, .. } = self;
        let (context, activation) = (step.context, self.function.activation());
        let residual = residual.map(|residual| memory.view(residual));
        let (weight, bias) = step.weights(layer, self.folded.is_some());
        let (y, scratch) = (memory.view_mut(*y), memory.scratch());
        let forward = conv2d::Forward { x: memory.view(*x), weight, bias, residual, activation };
        let with = |weight| conv2d::Forward { weight, ..forward };
        // Training keeps no weights, and nothing else takes moments.
        match (moments.map(|moments| memory.floats_mut(moments)), algorithm) {
            (Some(moments), Algorithm::Winograd(winograd, weight)) => {
                winograd.run_with_moments(context, with(memory.floats(*weight)), y, moments, scratch);
            }
            (Some(moments), Algorithm::Direct | Algorithm::WinogradKept(_)) => {
                layer.kernel.forward_with_moments(context, forward, y, moments, scratch);
            }
            (None, Algorithm::Direct) => {
                layer.kernel.forward(context, forward, y, scratch);
            }
            (None, Algorithm::Winograd(winograd, weight)) => {
                winograd.run(context, with(memory.floats(*weight)), y, scratch);
            }
            (None, Algorithm::WinogradKept(winograd)) => {
                winograd.run(context, with(step.kept.transformed(layer)), y, scratch);
            }
        }
    }

    fn backward(&mut self, backward: &mut Backward) {
        let Some(dy) = backward.masked_gradient(self.y, &self.function) else { return };
        let (layer, x) = (Arc::clone(&self.layer), self.x);
        if backward.network.trains(layer.parameters()) {
            let layer = Arc::clone(&layer);
            backward.emit(Instruction::ConvolutionBackwardWeight(BackwardWeight {
                layer,
                x,
                dy,
                winograd: None,
            }));
        }
        backward.contribute(x, |backward, dx| {
            let packed = PackGradientWeight::emit(&mut backward.program, &layer);
            backward.emit(BackwardInput::instruction(layer, dy, packed, dx));
        });
    }

    fn explain(&self, about: &About, row: &mut PlanRow) {
        explain(&self.layer, Pass::Forward, self.algorithm.name(), about, row);
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        remarks.extend(self.folded.as_ref().map(|_| "with batchNorm".to_owned()));
        remarks.extend(self.residual.map(|_| "with add".to_owned()));
        remarks.extend(self.function.remark());
        remarks.extend(self.moments.map(|_| "with moments".to_owned()));
        remarks
    }
}

/// The gradients of weight and bias, directly or by Winograd's algorithm.
pub(crate) struct BackwardWeight {
    pub layer: Arc<ConvolutionLayer>,
    pub x: ValueId,
    pub dy: ValueId,
    pub winograd: Option<Arc<WeightGradient>>,
}

impl Call for BackwardWeight {
    fn name(&self) -> &'static str {
        self.layer.role.names()[1]
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.x, Reach::Whole).read(self.dy, Reach::Whole)
    }

    fn scratch_len(&self, _: &Program, batch: usize, threads: usize) -> usize {
        match &self.winograd {
            Some(winograd) => winograd.scratch_len(batch, threads),
            None => self.layer.kernel.scratch_len(Pass::BackwardWeight, batch, threads),
        }
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let Self { layer, x, dy, winograd } = self;
        let context = step.context;
        let (dweight, dbias) = parameters_mut(layer, step.gradients);
        let (x, dy, scratch) = (memory.view(*x), memory.view(*dy), memory.scratch());
        match winograd {
            Some(winograd) => winograd.run(context, x, dy, dweight, dbias, scratch),
            None => layer.kernel.backward_weight(context, x, dy, dweight, dbias, scratch),
        }
        if let Some(Connections { mask, .. }) = &layer.connections {
            arithmetic::mask(context, mask, &mut step.gradients[layer.weight.clone()]);
        }
    }

    fn explain(&self, about: &About, row: &mut PlanRow) {
        let winograd = self.winograd.as_ref().map(|winograd| winograd.algorithm());
        explain(&self.layer, Pass::BackwardWeight, winograd, about, row);
        row.output = weight_shape(self.layer.kernel.shape()).to_vec();
    }
}

/// The gradient of x, by the packed weight if there is one, else by the weight itself; and the residual: the
/// share of those who read x, too. What a transposed convolution computes forward.
pub(crate) struct BackwardInput {
    pub layer: Arc<ConvolutionLayer>,
    pub dy: ValueId,
    pub packed: Option<ValueId>,
    pub residual: Option<ValueId>,
    pub dx: ValueId,
    pub algorithm: Algorithm,
}

impl BackwardInput {
    /// The input gradient and nothing else.
    pub fn instruction(
        layer: Arc<ConvolutionLayer>,
        dy: ValueId,
        packed: Option<ValueId>,
        dx: ValueId,
    ) -> Instruction {
        let algorithm = Algorithm::Direct;
        Instruction::ConvolutionBackwardInput(Self { layer, dy, packed, residual: None, dx, algorithm })
    }
}

impl Call for BackwardInput {
    fn name(&self) -> &'static str {
        self.layer.role.names()[2]
    }

    fn operands(&self) -> Operands {
        Operands::default()
            .read(self.dy, Reach::Neighbourhood)
            .read(self.algorithm.weight().or(self.packed), Reach::Whole)
            .read(self.residual, Reach::Pixel)
            .write(self.dx, Reach::Pixel)
    }

    fn parameters(&self) -> [Option<&Range<usize>>; 2] {
        self.layer.parameters()
    }

    fn scratch_len(&self, _: &Program, batch: usize, threads: usize) -> usize {
        match self.algorithm.winograd() {
            Some(winograd) => winograd.scratch_len(threads),
            None => self.layer.kernel.scratch_len(Pass::BackwardInput, batch, threads),
        }
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let Self { layer, dy, packed, residual, dx, algorithm } = self;
        let context = step.context;
        let (dy, dx, scratch) = (memory.view(*dy), memory.view_mut(*dx), memory.scratch());
        let residual = residual.map(|residual| memory.view(residual));
        match algorithm {
            Algorithm::Winograd(winograd, weight) => {
                let product =
                    conv2d::Forward { residual, ..conv2d::Forward::new(dy, memory.floats(*weight)) };
                winograd.run(context, product, dx, scratch);
            }
            // A session keeps no weights for gradients: they change with every step.
            Algorithm::Direct | Algorithm::WinogradKept(_) => {
                let weight = match packed {
                    Some(packed) => memory.floats(*packed),
                    None => layer.weights(step.parameters).0,
                };
                layer.kernel.backward_input(context, dy, weight, residual, dx, scratch);
            }
        }
    }

    /// A transposed convolution: its gradients are those of the convolution whose input gradient it is, with
    /// the roles of what is read and written exchanged.
    fn backward(&mut self, backward: &mut Backward) {
        let Self { layer, dy: x, dx: y, .. } = self;
        let Some(dy) = backward.gradient(*y) else { return };
        if backward.network.trains(layer.parameters()) {
            let layer = Arc::clone(layer);
            backward.emit(Instruction::ConvolutionBackwardWeight(BackwardWeight {
                layer,
                x: dy,
                dy: *x,
                winograd: None,
            }));
        }
        backward.contribute(*x, |backward, dx| backward.emit(Forward::instruction(layer, dy, dx)));
    }

    fn explain(&self, about: &About, row: &mut PlanRow) {
        explain(&self.layer, Pass::BackwardInput, self.algorithm.name(), about, row);
    }

    fn remarks(&self) -> Vec<String> {
        self.residual.map(|_| "with add".to_owned()).into_iter().collect()
    }
}

/// The weight in the order that the next instruction reads.
pub(crate) struct PackGradientWeight {
    layer: Arc<ConvolutionLayer>,
    packed: ValueId,
}

impl PackGradientWeight {
    /// Appends it for a layer whose input gradient reads its weight so; returns the packed weight.
    pub fn emit(program: &mut Program, layer: &Arc<ConvolutionLayer>) -> Option<ValueId> {
        layer.kernel.packs_gradient_weight().then(|| {
            let packed = program.weight(&layer.name, layer.kernel.gradient_weight_len());
            let call = Self { layer: Arc::clone(layer), packed };
            program.instructions.push(Instruction::other(call));
            packed
        })
    }
}

impl Call for PackGradientWeight {
    fn name(&self) -> &'static str {
        "packGradientWeight"
    }

    fn operands(&self) -> Operands {
        Operands::default().write(self.packed, Reach::Whole)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let (weight, _) = self.layer.weights(step.parameters);
        self.layer.kernel.pack_gradient_weight(step.context, weight, memory.floats_mut(self.packed));
    }

    fn explain(&self, _: &About, row: &mut PlanRow) {
        explain_weight(&self.layer, row);
    }
}

/// The weight, or its packed form, in the frequencies that the next convolution multiplies.
pub(crate) struct TransformWeight {
    pub layer: Arc<ConvolutionLayer>,
    pub winograd: Arc<Winograd>,
    pub packed: Option<ValueId>,
    pub transformed: ValueId,
}

impl Call for TransformWeight {
    fn name(&self) -> &'static str {
        "transformWeight"
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.packed, Reach::Whole).write(self.transformed, Reach::Whole)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let weight = match self.packed {
            Some(packed) => memory.floats(packed),
            None => self.layer.weights(step.parameters).0,
        };
        self.winograd.transform_weight(step.context, weight, memory.floats_mut(self.transformed));
    }

    fn explain(&self, _: &About, row: &mut PlanRow) {
        explain_weight(&self.layer, row);
    }
}

/// The row of an instruction that makes a weight from a weight.
fn explain_weight(layer: &ConvolutionLayer, row: &mut PlanRow) {
    row.name = layer.name.clone();
    row.input = weight_shape(layer.kernel.shape()).to_vec();
}

/// The row of a pass, which Winograd's algorithm computes if it is named; and the ways among which the plan
/// chose.
fn explain(layer: &ConvolutionLayer, pass: Pass, winograd: Option<String>, about: &About, row: &mut PlanRow) {
    let kernel = &layer.kernel;
    let way = if winograd.is_some() { conv2d::Algorithm::Winograd } else { kernel.own_way(pass) };
    let allowed = |algorithm| !(about.strict && algorithm == conv2d::Algorithm::Winograd);
    let candidates = kernel.candidates(pass, about.plan.batch, weights(about.plan.mode)).into_iter();
    let candidates = candidates.filter(|candidate| allowed(candidate.algorithm));
    let candidate = |conv2d::Candidate { algorithm, cost }| PlanCandidate {
        algorithm: algorithm.name(),
        cost,
        chosen: algorithm == way,
    };
    row.candidates = candidates.map(candidate).collect();
    row.algorithm = winograd.unwrap_or_else(|| kernel.algorithm(pass));
    row.flops = 2 * layer.mult_adds * about.plan.batch as u64;
    row.held = kernel.held(pass).is_some();
    row.name = layer.name.clone();
}
