//! How near a vector is to each of some codes.

use super::bounds::{MAX_SIZE, check_flat, check_number, check_sizes, misfit};
use super::{Inferred, Operation};
use crate::autodiff::Backward;
use crate::error::Result;
use crate::execute::{Memory, Step};
use crate::instruction::{Call, Instruction};
use crate::lower::{Lower, one};
use crate::network::Building;
use crate::onnx::attributes::int;
use crate::onnx::export::{Export, Exported, Value};
use crate::operand::{Operands, Reach};
use crate::order::{Order, for_each_ordered};
use crate::program::ValueId;
use fovea_kernels::radial_basis;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Constants of units that measure distances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RadialBasis {
    /// For each unit the vector that it measures the distance from.
    pub codes: Vec<Vec<f32>>,
}

impl Operation for RadialBasis {
    fn check(&self, node: &str) -> Result<()> {
        check_sizes(node, "codes", &[self.codes.len()], MAX_SIZE)?;
        let mut values = self.codes.iter().flatten();
        values.try_for_each(|&value| check_number(node, "finite codes", value, true))
    }

    fn infer(&self, node: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        let input = inputs[0];
        check_flat(node, input)?;
        match self.codes.iter().find(|code| code.len() != input[2]) {
            Some(code) => Err(misfit(node, format!("codes of {} numbers", input[2]), code.len(), input)),
            None => Ok(Inferred::plain([1, 1, self.codes.len()])),
        }
    }

    fn order(&self, _: &str, _: &[[usize; 3]], _: Vec<Option<Order>>) -> Result<Option<Order>> {
        Ok(None)
    }

    fn layer(&self, building: &mut Building) -> Result<Lower> {
        let outside: Vec<f32> = self.codes.concat();
        let mut inside = outside.clone();
        if let Some(order) = &building.order {
            for_each_ordered(order, outside.len(), |from, to| inside[to] = outside[from]);
        }
        let codes: Arc<[f32]> = inside.into();
        one(move |x, y| Instruction::other(Forward { codes: Arc::clone(&codes), x, y }))
    }

    /// Distances as they are defined: as a matrix product, which would have to be corrected by the lengths of
    /// both vectors, small ones would be differences of large numbers.
    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let name = node.name;
        let row = export.row(node.first(), name);
        let (units, values) = (self.codes.len(), self.codes.concat());
        let codes = export.constant(name, "codes", &[units, values.len() / units], &values);
        let axes = export.integers(name, "axes", &[1]);
        let repeated =
            export.push(&format!("{name}.unsqueeze"), "Unsqueeze", vec![row.name, axes], vec![], false);
        let differences =
            export.push(&format!("{name}.difference"), "Sub", vec![repeated.name, codes], vec![], false);
        let two = export.constant(name, "exponent", &[], &[2.0]);
        let squares =
            export.push(&format!("{name}.square"), "Pow", vec![differences.name, two], vec![], false);
        let last = export.integers(name, "last", &[2]);
        let (distance, once) = (format!("{name}.distance"), vec![int("keepdims", 0)]);
        let distances = export.push(&distance, "ReduceSum", vec![squares.name, last], once, true);
        Ok(export.push(name, "Neg", vec![distances.name], vec![], true))
    }
}

/// y = the negative squared distances of x from each code, one code after the other, in the order of x.
struct Forward {
    codes: Arc<[f32]>,
    x: ValueId,
    y: ValueId,
}

impl Call for Forward {
    fn name(&self) -> &'static str {
        "radialBasis"
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.x, Reach::Whole).write(self.y, Reach::Whole)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let (x, y) = (memory.view(self.x), memory.view_mut(self.y));
        radial_basis::radial_basis(step.context, x, &self.codes, y);
    }

    fn backward(&mut self, backward: &mut Backward) {
        let Some(dy) = backward.gradient(self.y) else { return };
        let (codes, x) = (Arc::clone(&self.codes), self.x);
        backward.contribute(x, |backward, dx| {
            backward.emit(Instruction::other(Gradient { codes, x, dy, dx }));
        });
    }
}

struct Gradient {
    codes: Arc<[f32]>,
    x: ValueId,
    dy: ValueId,
    dx: ValueId,
}

impl Call for Gradient {
    fn name(&self) -> &'static str {
        "radialBasisBackward"
    }

    fn operands(&self) -> Operands {
        Operands::default()
            .read(self.dy, Reach::Whole)
            .read(self.x, Reach::Whole)
            .write(self.dx, Reach::Whole)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let (x, dy) = (memory.view(self.x), memory.view(self.dy));
        radial_basis::radial_basis_backward(step.context, x, &self.codes, dy, memory.view_mut(self.dx));
    }
}
