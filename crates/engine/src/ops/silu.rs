//! x / (1 + exp(-x)).

use super::function::{Derivative, Function};
use crate::onnx::export::{Export, Value};
use fovea_kernels::{Activation, Context, View4, ViewMut4, activation};
use serde::{Deserialize, Serialize};

/// Hyperparameters of a SiLU: none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Silu {}

impl Function for Silu {
    fn names(&self) -> [&'static str; 2] {
        ["silu", "siluBackward"]
    }

    fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        activation::silu(context, x, y);
    }

    fn derivative(&self) -> Derivative {
        Derivative::Operand
    }

    fn backward(&self, context: Context, dy: View4, of: View4, dx: ViewMut4) {
        activation::silu_backward(context, dy, of, dx);
    }

    fn activation(&self) -> Option<Activation> {
        Some(Activation::Silu)
    }

    fn export(&self, export: &mut Export, name: &str, x: Value) -> Value {
        let row = x.row;
        let sigmoid = export.push(&format!("{name}.sigmoid"), "Sigmoid", vec![x.name.clone()], vec![], row);
        export.push(name, "Mul", vec![x.name, sigmoid.name], vec![], row)
    }
}
