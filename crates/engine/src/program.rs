//! The intermediate representation: values, and the instructions that read and write them.
//!
//! [`lower`](crate::lower) writes a forward program, [`fuse`](crate::fuse) shortens it, [`autodiff`](crate::autodiff)
//! appends the backward instructions, [`select`](crate::select) chooses algorithms, [`plan`](crate::plan) gives every value its place in memory and
//! [`execute`](crate::execute) runs the instructions in order. A program does not know the batch size.
//!
//! What a new instruction needs stands in this file: the variant, its name and its operands; then an arm in
//! [`execute`](crate::execute).

use crate::network::ConvolutionLayer;
use fovea_kernels::Activation;
use fovea_kernels::conv2d::winograd::Winograd;
use fovea_kernels::pool2d::{AvgPool2d, MaxPool2d};
use std::ops::Range;
use std::sync::Arc;

/// What a session runs a network for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Forward, to the first output.
    Infer,
    /// Forward to the first output, and its loss.
    Evaluate,
    /// Forward, all losses, backward, update.
    Train,
}

impl Mode {
    /// `infer`, `evaluate` or `train`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Infer => "infer",
            Self::Evaluate => "evaluate",
            Self::Train => "train",
        }
    }
}

/// Index of a value in its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ValueId(u32);

impl ValueId {
    pub fn new(index: usize) -> Self {
        Self(index as u32) // a graph of four billion values would not fit into memory
    }

    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a value is for; says its element type and where it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The batch of images, in the caller's memory.
    Input,
    /// A feature map.
    Activation,
    /// The gradient of the loss by a feature map.
    Gradient,
    /// Which tap of each window was the largest: one byte an element.
    Argmax,
    /// A layer's weight as its input gradient wants it.
    GradientWeight,
    /// A layer's weight, or its gradient weight, as Winograd's algorithm wants it.
    TransformedWeight,
}

/// Size of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// `[height, width, channels]` for each image of the batch.
    PerImage([usize; 3]),
    /// Elements, whatever the batch.
    Fixed(usize),
}

/// Something an instruction reads or writes.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub name: String,
    pub kind: Kind,
    pub extent: Extent,
    /// The value whose memory this one reinterprets; that one is no view itself.
    pub view_of: Option<ValueId>,
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

/// One call of a kernel. In a name, `d` stands before the gradient of what follows.
#[derive(Clone)]
pub(crate) enum Instruction {
    /// y = activation(convolution(x, weight) + bias).
    Convolution {
        layer: Arc<ConvolutionLayer>,
        x: ValueId,
        y: ValueId,
        activation: Activation,
        algorithm: Algorithm,
    },
    /// The gradients of weight and bias.
    ConvolutionBackwardWeight {
        layer: Arc<ConvolutionLayer>,
        x: ValueId,
        dy: ValueId,
    },
    /// The weight in the order that the next instruction reads.
    PackGradientWeight {
        layer: Arc<ConvolutionLayer>,
        packed: ValueId,
    },
    /// The gradient of x.
    ConvolutionBackwardInput {
        layer: Arc<ConvolutionLayer>,
        dy: ValueId,
        packed: ValueId,
        dx: ValueId,
        algorithm: Algorithm,
    },
    /// The weight, or its packed form, in the frequencies that the next convolution multiplies.
    TransformWeight {
        layer: Arc<ConvolutionLayer>,
        winograd: Arc<Winograd>,
        packed: Option<ValueId>,
        transformed: ValueId,
    },
    /// y = activation(largest of each window of x); argmax only where a backward pass follows.
    MaxPool {
        layer: Arc<MaxPool2d>,
        x: ValueId,
        y: ValueId,
        argmax: Option<ValueId>,
        activation: Activation,
    },
    /// With y, the gradient passes only where y > 0: the backward of a fused ReLU.
    MaxPoolBackward {
        layer: Arc<MaxPool2d>,
        dy: ValueId,
        argmax: ValueId,
        y: Option<ValueId>,
        dx: ValueId,
    },
    /// y = mean of each window of x.
    AvgPool {
        layer: Arc<AvgPool2d>,
        x: ValueId,
        y: ValueId,
    },
    AvgPoolBackward {
        layer: Arc<AvgPool2d>,
        dy: ValueId,
        dx: ValueId,
    },
    /// y = max(0, x).
    Relu {
        x: ValueId,
        y: ValueId,
    },
    /// dx = dy where y > 0, else 0.
    ReluBackward {
        dy: ValueId,
        y: ValueId,
        dx: ValueId,
    },
    /// y = tanh(x).
    Tanh {
        x: ValueId,
        y: ValueId,
    },
    /// dx = dy (1 - y^2).
    TanhBackward {
        dy: ValueId,
        y: ValueId,
        dx: ValueId,
    },
    /// y = softmax of each pixel's channels.
    Softmax {
        x: ValueId,
        y: ValueId,
    },
    /// sum += term: a value that several nodes read has the sum of their gradients.
    AddAssign {
        sum: ValueId,
        term: ValueId,
    },
    /// Softmax cross-entropy of an output, its gradient times `weight` where one is wanted.
    Loss {
        output: usize,
        logits: ValueId,
        dlogits: Option<ValueId>,
        weight: f32,
    },
    /// Whether every gradient of a parameter is finite.
    CheckGradients,
    /// The optimizer's step over all parameters.
    Update,
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
}

/// How an instruction touches an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// Every element is overwritten.
    Write,
    ReadWrite,
}

impl Instruction {
    /// Its name in `explain`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Convolution { layer, .. } if layer.is_dense() => "dense",
            Self::ConvolutionBackwardWeight { layer, .. } if layer.is_dense() => "denseBackwardWeight",
            Self::ConvolutionBackwardInput { layer, .. } if layer.is_dense() => "denseBackwardInput",
            Self::Convolution { .. } => "conv",
            Self::ConvolutionBackwardWeight { .. } => "convBackwardWeight",
            Self::PackGradientWeight { .. } => "packGradientWeight",
            Self::ConvolutionBackwardInput { .. } => "convBackwardInput",
            Self::TransformWeight { .. } => "transformWeight",
            Self::MaxPool { .. } => "maxPool",
            Self::MaxPoolBackward { .. } => "maxPoolBackward",
            Self::AvgPool { .. } => "avgPool",
            Self::AvgPoolBackward { .. } => "avgPoolBackward",
            Self::Relu { .. } => "relu",
            Self::ReluBackward { .. } => "reluBackward",
            Self::Tanh { .. } => "tanh",
            Self::TanhBackward { .. } => "tanhBackward",
            Self::Softmax { .. } => "softmax",
            Self::AddAssign { .. } => "addAssign",
            Self::Loss { .. } => "softmaxCrossEntropy",
            Self::CheckGradients => "checkGradients",
            Self::Update => "update",
        }
    }

    /// How it computes, if it is a convolution that has a choice.
    pub fn algorithm(&self) -> Option<&Algorithm> {
        match self {
            Self::Convolution { algorithm, .. } | Self::ConvolutionBackwardInput { algorithm, .. } => {
                Some(algorithm)
            }
            _ => None,
        }
    }

    /// Calls `visit` for every value it touches: those read first, the principal one of each kind before the others.
    pub fn operands(&self, mut visit: impl FnMut(Access, ValueId)) {
        use Access::{Read, ReadWrite, Write};
        match *self {
            Self::Convolution { x, y, ref algorithm, .. } => {
                visit(Read, x);
                algorithm.weight().into_iter().for_each(|weight| visit(Read, weight));
                visit(Write, y);
            }
            Self::AvgPool { x, y, .. }
            | Self::Relu { x, y }
            | Self::Tanh { x, y }
            | Self::Softmax { x, y } => {
                visit(Read, x);
                visit(Write, y);
            }
            Self::ConvolutionBackwardWeight { x, dy, .. } => {
                visit(Read, x);
                visit(Read, dy);
            }
            Self::PackGradientWeight { packed, .. } => visit(Write, packed),
            Self::ConvolutionBackwardInput { dy, packed, dx, ref algorithm, .. } => {
                visit(Read, dy);
                visit(Read, algorithm.weight().unwrap_or(packed));
                visit(Write, dx);
            }
            Self::TransformWeight { packed, transformed, .. } => {
                packed.into_iter().for_each(|packed| visit(Read, packed));
                visit(Write, transformed);
            }
            Self::MaxPool { x, y, argmax, .. } => {
                visit(Read, x);
                visit(Write, y);
                argmax.into_iter().for_each(|argmax| visit(Write, argmax));
            }
            Self::MaxPoolBackward { dy, argmax, y, dx, .. } => {
                visit(Read, dy);
                visit(Read, argmax);
                y.into_iter().for_each(|y| visit(Read, y));
                visit(Write, dx);
            }
            Self::AvgPoolBackward { dy, dx, .. } => {
                visit(Read, dy);
                visit(Write, dx);
            }
            Self::ReluBackward { dy, y, dx } | Self::TanhBackward { dy, y, dx } => {
                visit(Read, dy);
                visit(Read, y);
                visit(Write, dx);
            }
            Self::AddAssign { sum, term } => {
                visit(Read, term);
                visit(ReadWrite, sum);
            }
            Self::Loss { logits, dlogits, .. } => {
                visit(Read, logits);
                dlogits.into_iter().for_each(|dlogits| visit(Write, dlogits));
            }
            Self::CheckGradients | Self::Update => {}
        }
    }

    /// The operand read and the one written that may share memory, when the one read is not needed afterwards.
    pub fn in_place(&self) -> Option<(ValueId, ValueId)> {
        match *self {
            Self::Relu { x, y } | Self::Tanh { x, y } | Self::Softmax { x, y } => Some((x, y)),
            Self::Loss { logits, dlogits: Some(dlogits), .. } => Some((logits, dlogits)),
            Self::ReluBackward { dy, dx, .. } | Self::TanhBackward { dy, dx, .. } => Some((dy, dx)),
            _ => None,
        }
    }
}

/// Values, and instructions in the order they run.
#[derive(Clone, Default)]
pub(crate) struct Program {
    pub values: Vec<Value>,
    pub instructions: Vec<Instruction>,
    /// Values that must outlive the last instruction: what the caller reads.
    pub results: Vec<ValueId>,
    /// Where the losses are known and the backward pass begins; the end where there is none.
    pub backward: usize,
    /// Where the gradients are known and the update begins.
    pub update: usize,
}

impl Program {
    /// The batch of images: the first value of every program.
    pub const INPUT: ValueId = ValueId(0);

    /// A program that computes nothing yet from images of a shape.
    pub fn new(input: [usize; 3]) -> Self {
        let mut program = Self::default();
        program.value("input", Kind::Input, Extent::PerImage(input));
        program
    }

    /// A new value with memory of its own.
    pub fn value(&mut self, name: impl Into<String>, kind: Kind, extent: Extent) -> ValueId {
        self.push(Value { name: name.into(), kind, extent, view_of: None })
    }

    /// The memory of `value` as another shape with as many elements an image; `value` itself if it has that shape.
    pub fn view(&mut self, value: ValueId, shape: [usize; 3], name: &str) -> ValueId {
        let root = self.root(value);
        let extent = Extent::PerImage(shape);
        match [value, root].into_iter().find(|&same| self[same].extent == extent) {
            Some(same) => same,
            None => {
                let kind = self[root].kind;
                self.push(Value { name: name.to_owned(), kind, extent, view_of: Some(root) })
            }
        }
    }

    fn push(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        ValueId::new(self.values.len() - 1)
    }

    /// The value that owns the memory of `value`.
    pub fn root(&self, value: ValueId) -> ValueId {
        self[value].view_of.unwrap_or(value)
    }

    /// Shape of one image of a value that has one.
    pub fn shape(&self, value: ValueId) -> [usize; 3] {
        match self[value].extent {
            Extent::PerImage(shape) => shape,
            Extent::Fixed(elements) => [1, 1, elements],
        }
    }

    /// Forward instructions, losses included.
    pub fn forward_range(&self) -> Range<usize> {
        0..self.backward
    }

    /// Backward instructions.
    pub fn backward_range(&self) -> Range<usize> {
        self.backward..self.update
    }

    /// The update.
    pub fn update_range(&self) -> Range<usize> {
        self.update..self.instructions.len()
    }
}

impl std::ops::Index<ValueId> for Program {
    type Output = Value;

    fn index(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }
}
