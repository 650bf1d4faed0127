//! scale x + shift.

use super::bounds::check_number;
use super::function::{Derivative, Function};
use crate::error::Result;
use crate::onnx::export::{Export, Value};
use fovea_kernels::{Context, View4, ViewMut4, activation};
use serde::{Deserialize, Serialize};

/// Hyperparameters of a constant affine function.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Affine {
    /// Factor.
    pub scale: f32,
    /// What is added to the product.
    pub shift: f32,
}

impl Function for Affine {
    fn names(&self) -> [&'static str; 2] {
        ["affine", "affineBackward"]
    }

    fn check(&self, node: &str) -> Result<()> {
        check_number(node, "a finite scale", self.scale, true)?;
        check_number(node, "a finite shift", self.shift, true)
    }

    fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        activation::affine(context, x, self.scale, self.shift, y);
    }

    fn derivative(&self) -> Derivative {
        Derivative::Nothing
    }

    fn backward(&self, context: Context, dy: View4, _: View4, dx: ViewMut4) {
        activation::affine_backward(context, dy, self.scale, dx);
    }

    fn export(&self, export: &mut Export, name: &str, x: Value) -> Value {
        let row = x.row;
        let scale = export.constant(name, "scale", &[], &[self.scale]);
        let product = export.push(name, "Mul", vec![x.name, scale], vec![], row);
        if self.shift == 0.0 {
            return product;
        }
        let shift = export.constant(name, "offset", &[], &[self.shift]);
        export.push(&format!("{name}.shift"), "Add", vec![product.name, shift], vec![], row)
    }
}
