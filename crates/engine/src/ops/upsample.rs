//! Each pixel many times: nearest neighbours.

use super::average::Averages;
use super::bounds::{MAX_WINDOW, check_elements, check_sizes};
use super::{Inferred, Operation};
use crate::error::Result;
use crate::lower::Lower;
use crate::network::Building;
use crate::onnx::attributes::text;
use crate::onnx::export::{Export, Exported, Value};
use fovea_kernels::pool2d::{AvgPool2d, Pool2dShape};
use serde::{Deserialize, Serialize};

/// Hyperparameters of enlarging by repeating pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Upsample {
    /// How many times as high and as wide.
    pub factor: [usize; 2],
}

impl Operation for Upsample {
    fn check(&self, node: &str) -> Result<()> {
        check_sizes(node, "a factor", &self.factor, MAX_WINDOW)
    }

    fn infer(&self, node: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        let ([height, width, channels], [down, right]) = (inputs[0], self.factor);
        let output = [height * down, width * right, channels];
        check_elements(node, "output", &output)?;
        Ok(Inferred::plain(output))
    }

    /// The gradient of the sums of windows that tile what it writes.
    fn layer(&self, building: &mut Building) -> Result<Lower> {
        let (size, padding, ceil_mode) = (self.factor, [0; 4], false);
        let shape = Pool2dShape { input: building.shape().output, size, stride: size, padding, ceil_mode };
        Averages::Upsample(AvgPool2d::sums(shape).map_err(|error| building.refused(error))?).layer()
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let map = export.map(node.first(), node.name);
        let [down, right] = self.factor.map(|factor| factor as f32);
        let scales = export.constant(node.name, "scales", &[4], &[1.0, 1.0, down, right]);
        let attributes = vec![
            text("mode", "nearest"),
            text("coordinate_transformation_mode", "asymmetric"),
            text("nearest_mode", "floor"),
        ];
        Ok(export.push(node.name, "Resize", vec![map.name, String::new(), scales], attributes, false))
    }
}
