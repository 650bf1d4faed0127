//! What differences, products and quotients have in common.

use super::affine::Affine;
use super::function;
use crate::autodiff::Backward;
use crate::execute::{Memory, Step};
use crate::instruction::{Call, Instruction};
use crate::operand::{Operands, Reach};
use crate::program::ValueId;
use fovea_kernels::{Context, View4, ViewMut4, arithmetic};
use std::sync::Arc;

/// What two maps of the same shape are joined by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Subtract,
    Multiply,
    Divide,
    /// -a b, which only gradients need.
    NegativeProduct,
}

/// y = a and b joined, value by value.
pub(crate) struct Forward {
    pub operation: Arithmetic,
    pub a: ValueId,
    pub b: ValueId,
    pub y: ValueId,
}

impl Forward {
    pub fn instruction(operation: Arithmetic, a: ValueId, b: ValueId, y: ValueId) -> Instruction {
        Instruction::other(Self { operation, a, b, y })
    }
}

impl Call for Forward {
    fn name(&self) -> &'static str {
        match self.operation {
            Arithmetic::Subtract => "subtract",
            Arithmetic::Multiply => "multiply",
            Arithmetic::Divide => "divide",
            Arithmetic::NegativeProduct => "negativeProduct",
        }
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.a, Reach::Pixel).read(self.b, Reach::Pixel).write(self.y, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let run: fn(Context, View4, View4, ViewMut4) = match self.operation {
            Arithmetic::Subtract => arithmetic::subtract,
            Arithmetic::Multiply => arithmetic::multiply,
            Arithmetic::Divide => arithmetic::divide,
            Arithmetic::NegativeProduct => arithmetic::negative_product,
        };
        run(step.context, memory.view(self.a), memory.view(self.b), memory.view_mut(self.y));
    }

    fn backward(&mut self, backward: &mut Backward) {
        use Arithmetic::{Divide, Multiply, NegativeProduct, Subtract};
        let &mut Self { operation, a, b, y } = self;
        let Some(dy) = backward.gradient(y) else { return };
        match operation {
            Subtract => {
                backward.hand_on(a, dy);
                backward.contribute(b, |backward, db| {
                    let function = Arc::new(Affine { scale: -1.0, shift: 0.0 });
                    backward.emit(Instruction::Function(function::Forward { function, x: dy, y: db }));
                });
            }
            Multiply => {
                backward.contribute(a, |backward, da| backward.emit(Self::instruction(Multiply, dy, b, da)));
                backward.contribute(b, |backward, db| backward.emit(Self::instruction(Multiply, dy, a, db)));
            }
            Divide => {
                // The gradient of the divisor is that of the dividend times the negative quotient.
                let da = backward.new_gradient(a);
                backward.emit(Self::instruction(Divide, dy, b, da));
                backward.contribute(b, |backward, db| {
                    backward.emit(Self::instruction(NegativeProduct, da, y, db))
                });
                backward.hand_on(a, da);
            }
            NegativeProduct => {} // only stands in backward programs
        }
    }
}
