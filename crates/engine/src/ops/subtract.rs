//! Difference of two maps of the same shape.

use super::arithmetic::{Arithmetic, Forward};
use super::bounds::check_common;
use super::{Inferred, Operation};
use crate::error::Result;
use crate::lower::{Lower, two};
use crate::network::Building;
use crate::onnx::export::{Export, Exported, Value};
use crate::order::{Order, common_order};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Hyperparameters of a difference: none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subtract {}

impl Operation for Subtract {
    fn input_count(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn infer(&self, node: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        check_common(node, "equal shapes", inputs, |shape| shape)?;
        Ok(Inferred::plain(inputs[0]))
    }

    fn order(&self, node: &str, _: &[[usize; 3]], orders: Vec<Option<Order>>) -> Result<Option<Order>> {
        common_order(node, orders)
    }

    fn layer(&self, _: &mut Building) -> Result<Lower> {
        two(|a, b, y| Forward::instruction(Arithmetic::Subtract, a, b, y))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        Ok(export.elementwise(node, "Sub"))
    }
}
