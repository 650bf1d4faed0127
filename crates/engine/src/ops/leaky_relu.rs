//! x where it is positive, else a fraction of it.

use super::bounds::check_number;
use super::function::Function;
use crate::error::Result;
use crate::onnx::attributes::float;
use crate::onnx::export::{Export, Value};
use fovea_kernels::{Activation, Context, View4, ViewMut4, activation};
use serde::{Deserialize, Serialize};

/// Hyperparameters of a leaky ReLU.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LeakyRelu {
    /// Slope for negative values; at least 0.
    pub slope: f32,
}

impl Function for LeakyRelu {
    fn names(&self) -> [&'static str; 2] {
        ["leakyRelu", "leakyReluBackward"]
    }

    fn check(&self, node: &str) -> Result<()> {
        check_number(node, "a slope of at least 0", self.slope, self.slope >= 0.0)
    }

    fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        activation::leaky_relu(context, x, self.slope, y);
    }

    fn backward(&self, context: Context, dy: View4, of: View4, dx: ViewMut4) {
        activation::leaky_relu_backward(context, dy, of, self.slope, dx);
    }

    fn activation(&self) -> Option<Activation> {
        Some(Activation::LeakyRelu(self.slope))
    }

    fn export(&self, export: &mut Export, name: &str, x: Value) -> Value {
        export.function(name, "LeakyRelu", x, vec![float("alpha", self.slope)])
    }
}
