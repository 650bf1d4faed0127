//! What the means of windows have in common: average pooling to steps or to a size, sums of whole maps, and
//! upsampling, which is a sum the other way round.

use crate::autodiff::Backward;
use crate::error::Result;
use crate::execute::{Memory, Step};
use crate::instruction::{Call, Instruction};
use crate::lower::{Lower, one};
use crate::operand::{Operands, Reach};
use crate::program::ValueId;
use fovea_kernels::pool2d::{AdaptiveAvgPool2d, AvgPool2d};
use fovea_kernels::{Context, View4, ViewMut4};
use std::sync::Arc;

/// Windows whose values are averaged or summed, or that get the same value.
pub(crate) enum Averages {
    Windows(AvgPool2d),
    /// Of several sizes.
    Adaptive(AdaptiveAvgPool2d),
    /// Sums.
    Sums(AvgPool2d),
    /// Gives each pixel of a window the same value: what is the gradient of these sums.
    Upsample(AvgPool2d),
}

impl Averages {
    /// Its name in `explain`, and that of its backward pass.
    fn names(&self) -> [&'static str; 2] {
        match self {
            Self::Windows(_) => ["avgPool", "avgPoolBackward"],
            Self::Adaptive(_) => ["adaptiveAvgPool", "adaptiveAvgPoolBackward"],
            Self::Sums(_) => ["sum", "sumBackward"],
            Self::Upsample(_) => ["upsample", "upsampleBackward"],
        }
    }

    fn forward(&self, context: Context, x: View4, y: ViewMut4) {
        match self {
            Self::Windows(kernel) | Self::Sums(kernel) => kernel.forward(context, x, y),
            Self::Adaptive(kernel) => kernel.forward(context, x, y),
            Self::Upsample(kernel) => kernel.backward(context, x, y),
        }
    }

    fn backward(&self, context: Context, dy: View4, dx: ViewMut4) {
        match self {
            Self::Windows(kernel) | Self::Sums(kernel) => kernel.backward(context, dy, dx),
            Self::Adaptive(kernel) => kernel.backward(context, dy, dx),
            Self::Upsample(kernel) => kernel.forward(context, dy, dx),
        }
    }

    /// The layer that computes them.
    pub fn layer(self) -> Result<Lower> {
        let layer = Arc::new(self);
        one(move |x, y| Forward::instruction(&layer, x, y))
    }
}

/// y = mean of each window of x, or as the layer says.
pub(crate) struct Forward {
    layer: Arc<Averages>,
    x: ValueId,
    y: ValueId,
}

impl Forward {
    pub fn instruction(layer: &Arc<Averages>, x: ValueId, y: ValueId) -> Instruction {
        Instruction::other(Self { layer: Arc::clone(layer), x, y })
    }
}

impl Call for Forward {
    fn name(&self) -> &'static str {
        self.layer.names()[0]
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.x, Reach::Neighbourhood).write(self.y, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        self.layer.forward(step.context, memory.view(self.x), memory.view_mut(self.y));
    }

    fn backward(&mut self, backward: &mut Backward) {
        let Some(dy) = backward.gradient(self.y) else { return };
        let layer = Arc::clone(&self.layer);
        backward.contribute(self.x, |backward, dx| {
            backward.emit(Instruction::other(Gradient { layer, dy, dx }));
        });
    }
}

struct Gradient {
    layer: Arc<Averages>,
    dy: ValueId,
    dx: ValueId,
}

impl Call for Gradient {
    fn name(&self) -> &'static str {
        self.layer.names()[1]
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.dy, Reach::Neighbourhood).write(self.dx, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        self.layer.backward(step.context, memory.view(self.dy), memory.view_mut(self.dx));
    }
}
