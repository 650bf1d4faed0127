//! Local response normalization.

use super::bounds::{MAX_WINDOW, check_number, check_sizes};
use super::{Inferred, Operation};
use crate::autodiff::Backward;
use crate::error::{OnnxError, Result};
use crate::execute::{Memory, Step};
use crate::instruction::{Call, Instruction};
use crate::lower::{Lower, one};
use crate::network::Building;
use crate::onnx::attributes::{float, int};
use crate::onnx::export::{Export, Exported, Value};
use crate::operand::{Operands, Reach};
use crate::order::{Order, unordered};
use crate::program::ValueId;
use fovea_kernels::local_response_norm::LocalResponseNorm as Kernel;
use serde::{Deserialize, Serialize};

/// Hyperparameters of local response normalization, in PyTorch's meaning: `x / (k + alpha / size * sum)^beta`,
/// the sum being that of x^2 over `size` neighbouring channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LocalResponseNorm {
    /// Channels of a window.
    pub size: usize,
    /// Factor of the mean square; at least 0.
    pub alpha: f32,
    /// Exponent; at least 0.
    pub beta: f32,
    /// What is added to the mean square; above 0.
    pub k: f32,
}

impl Operation for LocalResponseNorm {
    fn check(&self, node: &str) -> Result<()> {
        check_sizes(node, "a window", &[self.size], MAX_WINDOW)?;
        check_number(node, "an alpha of at least 0", self.alpha, self.alpha >= 0.0)?;
        check_number(node, "a beta of at least 0", self.beta, self.beta >= 0.0)?;
        check_number(node, "a k above 0", self.k, self.k > 0.0)
    }

    fn infer(&self, _: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        Ok(Inferred::plain(inputs[0]))
    }

    fn order(&self, node: &str, inputs: &[[usize; 3]], orders: Vec<Option<Order>>) -> Result<Option<Order>> {
        unordered(node, inputs, &orders)
    }

    fn layer(&self, _: &mut Building) -> Result<Lower> {
        let Self { size, alpha, beta, k } = *self;
        let norm = Kernel { size, alpha, beta, k };
        one(move |x, y| Instruction::other(Forward { norm, x, y }))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let Self { size, alpha, beta, k } = *self;
        if size.is_multiple_of(2) {
            // PyTorch and ONNX put the longer side of an even window at different ends.
            return Err(OnnxError {
                operator: "LRN".to_owned(),
                node: node.name.to_owned(),
                expected: "an odd size".to_owned(),
                received: size.to_string(),
            }
            .into());
        }
        let map = export.map(node.first(), node.name);
        let attributes =
            vec![int("size", size as i64), float("alpha", alpha), float("beta", beta), float("bias", k)];
        Ok(export.push(node.name, "LRN", vec![map.name], attributes, false))
    }
}

/// y = x over a power of its neighbours in the channels.
struct Forward {
    norm: Kernel,
    x: ValueId,
    y: ValueId,
}

impl Call for Forward {
    fn name(&self) -> &'static str {
        "localResponseNorm"
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.x, Reach::Pixel).write(self.y, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        self.norm.forward(step.context, memory.view(self.x), memory.view_mut(self.y));
    }

    fn backward(&mut self, backward: &mut Backward) {
        let &mut Self { norm, x, y } = self;
        let Some(dy) = backward.gradient(y) else { return };
        backward.contribute(x, |backward, dx| {
            backward.emit(Instruction::other(Gradient { norm, x, dy, dx }));
        });
    }
}

struct Gradient {
    norm: Kernel,
    x: ValueId,
    dy: ValueId,
    dx: ValueId,
}

impl Call for Gradient {
    fn name(&self) -> &'static str {
        "localResponseNormBackward"
    }

    fn operands(&self) -> Operands {
        // The second term of a channel is computed from x after the first has been written.
        Operands::default()
            .read(self.dy, Reach::Pixel)
            .read(self.x, Reach::Neighbourhood)
            .write(self.dx, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let (x, dy) = (memory.view(self.x), memory.view(self.dy));
        self.norm.backward(step.context, x, dy, memory.view_mut(self.dx));
    }
}
