//! Functions that keep the shape and have nothing to learn: of single values, or of the channels of a pixel.
//!
//! Each is an operation of its own; what they have in common stands here. Those that a kernel can compute while
//! it writes its result are fused into others ([`fuse`](crate::fuse)).

use super::{Inferred, Operation};
use crate::autodiff::Backward;
use crate::error::Result;
use crate::execute::{Memory, Step};
use crate::instruction::{Call, Instruction};
use crate::lower::{Lower, one};
use crate::network::Building;
use crate::onnx::export::{Export, Exported, Value};
use crate::operand::{Operands, Reach};
use crate::program::ValueId;
use fovea_kernels::{Activation, Context, View4, ViewMut4};
use std::fmt::Debug;
use std::sync::Arc;

/// A function, y = f(x).
pub(crate) trait Function: Debug + Send + Sync {
    /// Its name in `explain`, and that of its backward pass.
    fn names(&self) -> [&'static str; 2];

    /// Checks the hyperparameters that have bounds.
    fn check(&self, _node: &str) -> Result<()> {
        Ok(())
    }

    /// y may be the memory of x.
    fn forward(&self, context: Context, x: View4, y: ViewMut4);

    /// What [`Self::backward`] reads besides the gradient.
    fn derivative(&self) -> Derivative {
        Derivative::Result
    }

    /// dx = dy times the derivative, which follows from `of`; dx may be the memory of either.
    fn backward(&self, context: Context, dy: View4, of: View4, dx: ViewMut4);

    /// How a kernel that writes its operand can compute it on the way, if one can.
    fn activation(&self) -> Option<Activation> {
        None
    }

    /// Adds its operator to an ONNX graph.
    fn export(&self, export: &mut Export, name: &str, x: Value) -> Value;
}

/// What the derivative of a function follows from, besides the gradient of its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Derivative {
    Operand,
    Result,
    /// The derivative is the same everywhere.
    Nothing,
}

impl<F: Function + Clone + 'static> Operation for F {
    fn check(&self, node: &str) -> Result<()> {
        Function::check(self, node)
    }

    fn infer(&self, _: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        Ok(Inferred::plain(inputs[0]))
    }

    fn layer(&self, _: &mut Building) -> Result<Lower> {
        let function: Arc<dyn Function> = Arc::new(self.clone());
        one(move |x, y| Instruction::Function(Forward { function: Arc::clone(&function), x, y }))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        Ok(Function::export(self, export, node.name, node.first()))
    }
}

/// The function that is fused into an instruction, if there is one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fused(Option<Arc<dyn Function>>);

impl Fused {
    /// A function that has an activation.
    pub fn new(function: &Arc<dyn Function>) -> Self {
        Self(Some(Arc::clone(function)))
    }

    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    pub fn function(&self) -> Option<&Arc<dyn Function>> {
        self.0.as_ref()
    }

    /// What the kernel computes.
    pub fn activation(&self) -> Activation {
        self.0.as_ref().and_then(|function| function.activation()).unwrap_or(Activation::None)
    }

    /// What `explain` says of it.
    pub fn remark(&self) -> Option<String> {
        self.0.as_ref().map(|function| format!("with {}", function.names()[0]))
    }
}

/// y = function(x).
pub(crate) struct Forward {
    pub function: Arc<dyn Function>,
    pub x: ValueId,
    pub y: ValueId,
}

impl Call for Forward {
    fn name(&self) -> &'static str {
        self.function.names()[0]
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.x, Reach::Pixel).write(self.y, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        self.function.forward(step.context, memory.view(self.x), memory.view_mut(self.y));
    }

    fn backward(&mut self, backward: &mut Backward) {
        let Some(dy) = backward.gradient(self.y) else { return };
        let of = match self.function.derivative() {
            Derivative::Operand => Some(self.x),
            Derivative::Result => Some(self.y),
            Derivative::Nothing => None,
        };
        let function = Arc::clone(&self.function);
        backward.contribute(self.x, |backward, dx| {
            backward.emit(Instruction::other(Gradient { function, dy, of, dx }));
        });
    }
}

/// dx = dy times the derivative, which follows from the result or the operand, or is the same everywhere.
pub(crate) struct Gradient {
    pub function: Arc<dyn Function>,
    pub dy: ValueId,
    pub of: Option<ValueId>,
    pub dx: ValueId,
}

impl Call for Gradient {
    fn name(&self) -> &'static str {
        self.function.names()[1]
    }

    fn operands(&self) -> Operands {
        Operands::default()
            .read(self.dy, Reach::Pixel)
            .read(self.of, Reach::Pixel)
            .write(self.dx, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let dy = memory.view(self.dy);
        let of = self.of.map_or(dy, |of| memory.view(of));
        self.function.backward(step.context, dy, of, memory.view_mut(self.dx));
    }
}
