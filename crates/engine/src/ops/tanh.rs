//! Hyperbolic tangent.

use super::function::Function;
use crate::onnx::export::{Export, Value};
use fovea_kernels::{Context, View4, ViewMut4, activation};
use serde::{Deserialize, Serialize};

/// Hyperparameters of a hyperbolic tangent: none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tanh {}

impl Function for Tanh {
    fn names(&self) -> [&'static str; 2] {
        ["tanh", "tanhBackward"]
    }

    fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        activation::tanh(context, x, y);
    }

    fn backward(&self, context: Context, dy: View4, of: View4, dx: ViewMut4) {
        activation::tanh_backward(context, dy, of, dx);
    }

    fn export(&self, export: &mut Export, name: &str, x: Value) -> Value {
        export.function(name, "Tanh", x, vec![])
    }
}
