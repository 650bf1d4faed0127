//! min(max(min, x), max).

use super::bounds::check_number;
use super::function::Function;
use crate::error::Result;
use crate::onnx::export::{Export, Value};
use fovea_kernels::{Activation, Context, View4, ViewMut4, activation};
use serde::{Deserialize, Serialize};

/// Hyperparameters of a clipping.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Clip {
    /// The smallest result.
    pub min: f32,
    /// The largest result, at least the smallest.
    pub max: f32,
}

impl Function for Clip {
    fn names(&self) -> [&'static str; 2] {
        ["clip", "clipBackward"]
    }

    fn check(&self, node: &str) -> Result<()> {
        check_number(node, "a finite min", self.min, true)?;
        check_number(node, "a finite max of at least min", self.max, self.max >= self.min)
    }

    fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        activation::clip(context, x, self.min, self.max, y);
    }

    fn backward(&self, context: Context, dy: View4, of: View4, dx: ViewMut4) {
        activation::clip_backward(context, dy, of, self.min, self.max, dx);
    }

    fn activation(&self) -> Option<Activation> {
        Some(Activation::Clip { least: self.min, most: self.max })
    }

    fn export(&self, export: &mut Export, name: &str, x: Value) -> Value {
        export.clip(name, x, self.min, self.max)
    }
}
