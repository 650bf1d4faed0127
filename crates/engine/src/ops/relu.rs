//! max(0, x).

use super::function::Function;
use crate::onnx::export::{Export, Value};
use fovea_kernels::{Activation, Context, View4, ViewMut4, activation};
use serde::{Deserialize, Serialize};

/// Hyperparameters of a ReLU: none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relu {}

impl Function for Relu {
    fn names(&self) -> [&'static str; 2] {
        ["relu", "reluBackward"]
    }

    fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        activation::relu(context, x, y);
    }

    fn backward(&self, context: Context, dy: View4, of: View4, dx: ViewMut4) {
        activation::relu_backward(context, dy, of, dx);
    }

    fn activation(&self) -> Option<Activation> {
        Some(Activation::Relu)
    }

    fn export(&self, export: &mut Export, name: &str, x: Value) -> Value {
        export.function(name, "Relu", x, vec![])
    }
}
