//! x min(max(0, x / 6 + 1 / 2), 1).

use super::function::{Derivative, Function};
use crate::onnx::export::{Export, Value};
use fovea_kernels::{Activation, Context, View4, ViewMut4, activation};
use serde::{Deserialize, Serialize};

/// Hyperparameters of a hard swish: none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HardSwish {}

impl Function for HardSwish {
    fn names(&self) -> [&'static str; 2] {
        ["hardSwish", "hardSwishBackward"]
    }

    fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        activation::hard_swish(context, x, y);
    }

    fn derivative(&self) -> Derivative {
        Derivative::Operand
    }

    fn backward(&self, context: Context, dy: View4, of: View4, dx: ViewMut4) {
        activation::hard_swish_backward(context, dy, of, dx);
    }

    fn activation(&self) -> Option<Activation> {
        Some(Activation::HardSwish)
    }

    fn export(&self, export: &mut Export, name: &str, x: Value) -> Value {
        export.function(name, "HardSwish", x, vec![])
    }
}
