//! The instructions of a [`Program`]: calls of kernels. Each is a [`Call`] in the file of the operation that it
//! belongs to; those that [`fuse`](crate::fuse) joins with others have a variant by which it knows them.

use crate::autodiff::Backward;
use crate::execute::{Memory, Step};
use crate::explain::{About, PlanRow};
use crate::objective::Loss;
use crate::operand::Operands;
use crate::ops::{add, batch_norm, concat, convolution, function, max_pool, separable};
use crate::program::Program;
use std::ops::{Deref, DerefMut, Range};

/// One call of a kernel. In a name, `d` stands before the gradient of what follows.
pub(crate) trait Call: Send + Sync {
    /// Its name in `explain`.
    fn name(&self) -> &'static str;

    /// What it touches, and how.
    fn operands(&self) -> Operands;

    /// Places of weight and bias that a forward instruction computes with.
    fn parameters(&self) -> [Option<&Range<usize>>; 2] {
        [None, None]
    }

    /// Floats of memory that it may use as it likes while it runs, for a batch and a number of threads.
    fn scratch_len(&self, _program: &Program, _batch: usize, _threads: usize) -> usize {
        0
    }

    /// Runs it.
    fn run(&self, memory: &Memory, step: &mut Step);

    /// Appends its backward instructions, and keeps for them what they need. Nothing for those that stand in
    /// backward programs only.
    fn backward(&mut self, _backward: &mut Backward) {}

    /// Says more of it in `explain` than follows from its operands.
    fn explain(&self, _about: &About, _row: &mut PlanRow) {}

    /// What fusion did to it.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A call, by its kind where fusion asks for that.
pub(crate) enum Instruction {
    Convolution(convolution::Forward),
    SeparableConvolution(separable::Forward),
    ConvolutionBackwardWeight(convolution::BackwardWeight),
    ConvolutionBackwardInput(convolution::BackwardInput),
    BatchNorm(batch_norm::Forward),
    MaxPool(max_pool::Forward),
    Add(add::Forward),
    Function(function::Forward),
    Copy(concat::Copy),
    Loss(Loss),
    Other(Box<dyn Call>),
}

impl Instruction {
    /// A call that nothing is fused with.
    pub fn other(call: impl Call + 'static) -> Self {
        Self::Other(Box::new(call))
    }
}

/// The call of an instruction, whatever its kind; `$unboxed` borrows what a box has.
macro_rules! call {
    ($instruction:expr, $unboxed:ident) => {
        match $instruction {
            Self::Convolution(call) => call,
            Self::SeparableConvolution(call) => call,
            Self::ConvolutionBackwardWeight(call) => call,
            Self::ConvolutionBackwardInput(call) => call,
            Self::BatchNorm(call) => call,
            Self::MaxPool(call) => call,
            Self::Add(call) => call,
            Self::Function(call) => call,
            Self::Copy(call) => call,
            Self::Loss(call) => call,
            Self::Other(call) => call.$unboxed(),
        }
    };
}

impl Deref for Instruction {
    type Target = dyn Call;

    fn deref(&self) -> &Self::Target {
        call!(self, as_ref)
    }
}

impl DerefMut for Instruction {
    fn deref_mut(&mut self) -> &mut Self::Target {
        call!(self, as_mut)
    }
}
