//! Logarithms of probabilities over the channels of each pixel.

use super::function::Function;
use crate::onnx::attributes::int;
use crate::onnx::export::{Export, Value};
use fovea_kernels::{Context, View4, ViewMut4, softmax};
use serde::{Deserialize, Serialize};

/// Hyperparameters of the logarithm of a softmax: none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSoftmax {}

impl Function for LogSoftmax {
    fn names(&self) -> [&'static str; 2] {
        ["logSoftmax", "logSoftmaxBackward"]
    }

    fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        softmax::log_softmax(context, x, y);
    }

    fn backward(&self, context: Context, dy: View4, of: View4, dx: ViewMut4) {
        softmax::log_softmax_backward(context, dy, of, dx);
    }

    fn export(&self, export: &mut Export, name: &str, x: Value) -> Value {
        export.function(name, "LogSoftmax", x, vec![int("axis", 1)])
    }
}
