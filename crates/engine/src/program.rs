//! The intermediate representation: values, and a list of the instructions that read and write them.
//!
//! [`lower`](crate::lower) writes a forward program, [`fuse`](crate::fuse) shortens it,
//! [`concatenate`](crate::concatenate) lets layers write their channels of a concatenation themselves,
//! [`autodiff`](crate::autodiff) appends the backward instructions, [`select`](crate::select) chooses
//! algorithms, [`plan`](crate::plan) gives every value its place in memory and [`execute`](crate::execute) runs
//! the instructions in order. A program does not know the batch size.
//!
//! Every value is written once, or every channel of it once; what may share memory is decided by the plan.

use crate::instruction::Instruction;
use std::ops::Range;

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
    /// Two numbers for each channel of a batch normalization.
    Statistics,
    /// A layer's weight as its input gradient, or Winograd's algorithm, wants it.
    Weight,
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
    /// The value whose memory this one shares; that one is no view itself.
    pub view_of: Option<ValueId>,
    /// The channels of that value, if the view does not have all of them.
    pub slice: Option<Slice>,
}

/// Some channels of each pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    /// The first channel.
    pub first: usize,
    /// Channels of the whole.
    pub of: usize,
}

/// Values, and instructions in the order they run.
#[derive(Default)]
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
        self.push(Value { name: name.into(), kind, extent, view_of: None, slice: None })
    }

    /// The memory of `value`, which is no slice, as another shape with as many elements an image; `value`
    /// itself if it has that shape.
    pub fn view(&mut self, value: ValueId, shape: [usize; 3], name: &str) -> ValueId {
        let root = self.root(value);
        let extent = Extent::PerImage(shape);
        match [value, root].into_iter().find(|&same| self[same].extent == extent) {
            Some(same) => same,
            None => {
                let (name, kind) = (name.to_owned(), self[root].kind);
                self.push(Value { name, kind, extent, view_of: Some(root), slice: None })
            }
        }
    }

    /// Some channels of `value`; `value` itself if these are all.
    pub fn slice(&mut self, value: ValueId, channels: Range<usize>, name: &str) -> ValueId {
        let [height, width, all] = self.shape(value);
        if channels == (0..all) {
            return value;
        }
        let Slice { first, of } = self[value].slice.unwrap_or(Slice { first: 0, of: all });
        self.push(Value {
            name: name.to_owned(),
            kind: self[value].kind,
            extent: Extent::PerImage([height, width, channels.len()]),
            view_of: Some(self.root(value)),
            slice: Some(Slice { first: first + channels.start, of }),
        })
    }

    /// A layer's weight in another layout.
    pub fn weight(&mut self, name: &str, len: usize) -> ValueId {
        self.value(name, Kind::Weight, Extent::Fixed(len))
    }

    fn push(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        ValueId::new(self.values.len() - 1)
    }

    /// The value that owns the memory of `value`.
    pub fn root(&self, value: ValueId) -> ValueId {
        self[value].view_of.unwrap_or(value)
    }

    /// The channels that `value` has of those of the owner of its memory; all, when it is another shape of
    /// that.
    pub fn channels(&self, value: ValueId) -> Range<usize> {
        match self[value].slice {
            Some(slice) => slice.first..slice.first + self.shape(value)[2],
            None => 0..self.shape(self.root(value))[2],
        }
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
