//! 1 / (1 + exp(-x)).

use super::function::Function;
use crate::onnx::export::{Export, Value};
use fovea_kernels::{Context, View4, ViewMut4, activation};
use serde::{Deserialize, Serialize};

/// Hyperparameters of a sigmoid: none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sigmoid {}

impl Function for Sigmoid {
    fn names(&self) -> [&'static str; 2] {
        ["sigmoid", "sigmoidBackward"]
    }

    fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        activation::sigmoid(context, x, y);
    }

    fn backward(&self, context: Context, dy: View4, of: View4, dx: ViewMut4) {
        activation::sigmoid_backward(context, dy, of, dx);
    }

    fn export(&self, export: &mut Export, name: &str, x: Value) -> Value {
        export.function(name, "Sigmoid", x, vec![])
    }
}
