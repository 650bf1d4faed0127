//! min(max(0, x), 6).

use super::function::Function;
use crate::onnx::export::{Export, Value};
use fovea_kernels::{Activation, Context, View4, ViewMut4, activation};
use serde::{Deserialize, Serialize};

/// Hyperparameters of a ReLU that ends at 6: none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relu6 {}

impl Function for Relu6 {
    fn names(&self) -> [&'static str; 2] {
        ["relu6", "relu6Backward"]
    }

    fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        activation::relu6(context, x, y);
    }

    fn backward(&self, context: Context, dy: View4, of: View4, dx: ViewMut4) {
        activation::relu6_backward(context, dy, of, dx);
    }

    fn activation(&self) -> Option<Activation> {
        Some(Activation::Clip { least: 0.0, most: 6.0 })
    }

    fn export(&self, export: &mut Export, name: &str, x: Value) -> Value {
        export.clip(name, x, 0.0, 6.0)
    }
}
