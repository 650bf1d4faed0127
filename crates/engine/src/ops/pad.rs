//! Zeros around a map: pixels on its sides, channels before and after.

use super::bounds::{MAX_SIZE, check_size};
use super::window::check_sides;
use super::{Inferred, Operation};
use crate::autodiff::Backward;
use crate::error::Result;
use crate::execute::{Memory, Step};
use crate::instruction::{Call, Instruction};
use crate::lower::{Lower, one};
use crate::network::Building;
use crate::onnx::export::{Export, Exported, Value};
use crate::operand::{Operands, Reach};
use crate::order::{Order, joined};
use crate::program::ValueId;
use fovea_kernels::elementwise;
use serde::{Deserialize, Serialize};

/// How many zeros a padding puts where.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Pad {
    /// Pixels at the top, right, bottom and left.
    pub padding: [usize; 4],
    /// Channels before and after.
    pub channels: [usize; 2],
}

impl Operation for Pad {
    fn check(&self, node: &str) -> Result<()> {
        check_sides(node, &self.padding)?;
        self.channels.iter().try_for_each(|&side| check_size(node, "channels", side, 0..=MAX_SIZE))
    }

    fn infer(&self, _: &str, inputs: &[[usize; 3]]) -> Result<Inferred> {
        let ([height, width, channels], [top, right, bottom, left]) = (inputs[0], self.padding);
        let [before, after] = self.channels;
        Ok(Inferred::plain([height + top + bottom, width + left + right, channels + before + after]))
    }

    fn order(&self, node: &str, inputs: &[[usize; 3]], orders: Vec<Option<Order>>) -> Result<Option<Order>> {
        let [before, after] = self.channels.map(|zeros| [1, 1, zeros]);
        let order = orders.into_iter().next().flatten();
        joined(node, &[before, inputs[0], after], vec![None, order, None])
    }

    fn layer(&self, _: &mut Building) -> Result<Lower> {
        let pad = *self;
        one(move |x, y| Instruction::other(Forward { pad, x, y }))
    }

    fn export(&self, export: &mut Export, node: &Exported) -> Result<Value> {
        let map = export.map(node.first(), node.name);
        let ([top, right, bottom, left], [before, after]) = (self.padding, self.channels);
        let pads = [0, before, top, left, 0, after, bottom, right].map(|zeros| zeros as i64);
        let pads = export.integers(node.name, "pads", &pads);
        Ok(export.push(node.name, "Pad", vec![map.name, pads], vec![], false))
    }
}

/// y = x with zeros around.
struct Forward {
    pad: Pad,
    x: ValueId,
    y: ValueId,
}

impl Call for Forward {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.x, Reach::Neighbourhood).write(self.y, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let Pad { padding, channels } = self.pad;
        elementwise::pad(step.context, memory.view(self.x), padding, channels, memory.view_mut(self.y));
    }

    fn backward(&mut self, backward: &mut Backward) {
        let &mut Self { pad, x, y } = self;
        let Some(dy) = backward.gradient(y) else { return };
        if pad.padding == [0; 4] {
            let inner = pad.channels[0]..pad.channels[0] + backward.program.shape(x)[2];
            let name = backward.program[x].name.clone();
            let dx = backward.program.slice(dy, inner, &name);
            return backward.hand_on(x, dx);
        }
        backward.contribute(x, |backward, dx| backward.emit(Instruction::other(Gradient { pad, dy, dx })));
    }
}

struct Gradient {
    pad: Pad,
    dy: ValueId,
    dx: ValueId,
}

impl Call for Gradient {
    fn name(&self) -> &'static str {
        "padBackward"
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.dy, Reach::Neighbourhood).write(self.dx, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let Pad { padding, channels } = self.pad;
        let (dy, dx) = (memory.view(self.dy), memory.view_mut(self.dx));
        elementwise::pad_backward(step.context, dy, padding, channels, dx);
    }
}
