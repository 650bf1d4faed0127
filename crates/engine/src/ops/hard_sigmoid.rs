//! min(max(0, alpha x + beta), 1).

use super::bounds::check_number;
use super::function::Function;
use crate::error::Result;
use crate::onnx::attributes::float;
use crate::onnx::export::{Export, Value};
use fovea_kernels::{Context, View4, ViewMut4, activation};
use serde::{Deserialize, Serialize};

/// Hyperparameters of a sigmoid of straight lines.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HardSigmoid {
    /// Slope.
    pub alpha: f32,
    /// Value at zero.
    pub beta: f32,
}

impl Function for HardSigmoid {
    fn names(&self) -> [&'static str; 2] {
        ["hardSigmoid", "hardSigmoidBackward"]
    }

    fn check(&self, node: &str) -> Result<()> {
        check_number(node, "a finite alpha", self.alpha, true)?;
        check_number(node, "a finite beta", self.beta, true)
    }

    fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        activation::hard_sigmoid(context, x, self.alpha, self.beta, y);
    }

    fn backward(&self, context: Context, dy: View4, of: View4, dx: ViewMut4) {
        activation::hard_sigmoid_backward(context, dy, of, self.alpha, dx);
    }

    fn export(&self, export: &mut Export, name: &str, x: Value) -> Value {
        let attributes = vec![float("alpha", self.alpha), float("beta", self.beta)];
        export.function(name, "HardSigmoid", x, attributes)
    }
}
