//! A feature map as one row. Nothing is moved: rows of flattened maps count pixel by pixel, and their
//! [order](crate::order) is followed to where files and callers count channel by channel.

use super::{Inferred, Operation};
use crate::error::Result;
use crate::lower::Lower;
use crate::network::Building;
use crate::onnx::attributes::int;
use crate::onnx::export::{Export, Exported, Value};
use crate::order::Order;
use serde::{Deserialize, Serialize};

/// Hyperparameters of a flatten: none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flatten {}

impl Operation for Flatten {
    fn infer(&self, _: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        Ok(Inferred::plain([1, 1, inputs[0].iter().product()]))
    }

    fn order(&self, _: &str, inputs: &[[usize; 3]], orders: Vec<Option<Order>>) -> Result<Option<Order>> {
        let [height, width, channels] = inputs[0];
        Ok(match height * width > 1 && channels > 1 {
            true => Some([inputs[0]].into()),
            false => orders.into_iter().next().flatten(),
        })
    }

    fn layer(&self, building: &mut Building) -> Result<Lower> {
        let output = building.shape().output;
        Ok(Box::new(move |lowering, inputs| {
            let name = lowering.name().to_owned();
            Ok(lowering.program.view(inputs[0], output, &name))
        }))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let x = node.first();
        Ok(match x.row {
            true => export.function(node.name, "Identity", x, vec![]),
            false => export.push(node.name, "Flatten", vec![x.name], vec![int("axis", 1)], true),
        })
    }
}
