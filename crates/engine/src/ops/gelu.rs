//! x times the share of a normal distribution that is below x.

use super::function::{Derivative, Function};
use crate::onnx::export::{Export, Value};
use fovea_kernels::{Activation, Context, View4, ViewMut4, activation};
use serde::{Deserialize, Serialize};

/// Hyperparameters of a GELU: none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gelu {}

impl Function for Gelu {
    fn names(&self) -> [&'static str; 2] {
        ["gelu", "geluBackward"]
    }

    fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        activation::gelu(context, x, y);
    }

    fn derivative(&self) -> Derivative {
        Derivative::Operand
    }

    fn backward(&self, context: Context, dy: View4, of: View4, dx: ViewMut4) {
        activation::gelu_backward(context, dy, of, dx);
    }

    fn activation(&self) -> Option<Activation> {
        Some(Activation::Gelu)
    }

    fn export(&self, export: &mut Export, name: &str, x: Value) -> Value {
        export.require(20);
        export.function(name, "Gelu", x, vec![])
    }
}
