//! Average pooling to a given size.

use super::average::Averages;
use super::bounds::{MAX_SIZE, check_sizes};
use super::window::{Windows, pooled};
use super::{Inferred, Operation};
use crate::error::{OnnxError, Result};
use crate::lower::Lower;
use crate::network::Building;
use crate::onnx::export::{Export, Exported, Value};
use crate::onnx::means::weights_of_means;
use fovea_kernels::pool2d::{AdaptiveAvgPool2d, AvgPool2d};
use serde::{Deserialize, Serialize};

/// Most elements of a matrix of means (64 MB).
const MOST_MEANS: usize = 1 << 24;

/// Hyperparameters of average pooling to a given size, in PyTorch's meaning: windows of several sizes that
/// overlap where the size does not divide the input's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AdaptiveAvgPool {
    /// Output height and width.
    pub size: [usize; 2],
}

impl AdaptiveAvgPool {
    /// Windows of one size, where the size divides the input's.
    fn windows(&self, [height, width, _]: [usize; 3]) -> Option<Windows> {
        let [rows, columns] = self.size;
        let divides = height.is_multiple_of(rows) && width.is_multiple_of(columns);
        divides.then(|| Windows::tiles([height / rows, width / columns]))
    }

    /// Windows of several sizes as two products with constant matrices: from the right over the columns, from
    /// the left over the rows.
    fn export_products(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let ([height, width, _], [rows, columns]) = (node.shape.inputs[0], self.size);
        if height.saturating_mul(rows).max(width.saturating_mul(columns)) > MOST_MEANS {
            return Err(OnnxError {
                operator: "MatMul".to_owned(),
                node: node.name.to_owned(),
                expected: format!("at most {MOST_MEANS} weights of means along an axis"),
                received: format!("{:?} pixels of {:?}", [rows, columns], [height, width]),
            }
            .into());
        }
        let mut map = export.map(node.first(), node.name);
        let mut product = node.name.to_owned();
        if columns != width {
            let means = weights_of_means(width, columns, true);
            let means = export.constant(node.name, "column_means", &[width, columns], &means);
            map = export.push(&product, "MatMul", vec![map.name, means], vec![], false);
            product.push_str(".rows");
        }
        if rows != height {
            let means = weights_of_means(height, rows, false);
            let means = export.constant(node.name, "row_means", &[rows, height], &means);
            map = export.push(&product, "MatMul", vec![means, map.name], vec![], false);
        }
        Ok(map)
    }
}

impl Operation for AdaptiveAvgPool {
    fn check(&self, node: &str) -> Result<()> {
        check_sizes(node, "a size", &self.size, MAX_SIZE)
    }

    fn infer(&self, node: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        let output = match self.windows(inputs[0]) {
            Some(windows) => pooled(node, &windows.over(node, inputs[0])?)?,
            None => [self.size[0], self.size[1], inputs[0][2]],
        };
        Ok(Inferred::plain(output))
    }

    fn layer(&self, building: &mut Building) -> Result<Lower> {
        let input = building.shape().inputs[0];
        let Some(windows) = self.windows(input) else {
            let kernel = AdaptiveAvgPool2d::new(input, self.size).map_err(|error| building.refused(error))?;
            return Averages::Adaptive(kernel).layer();
        };
        let shape = windows.over(building.name(), input)?;
        Averages::Windows(AvgPool2d::new(shape, true).map_err(|error| building.refused(error))?).layer()
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let input = node.shape.inputs[0];
        match self.windows(input) {
            Some(windows) => Ok(export.pool(node, &windows.over(node.name, input)?, Some(true))),
            None => self.export_products(export, node),
        }
    }
}
