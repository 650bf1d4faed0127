//! The instructions that no node writes: losses, the check of the gradients, the optimizer's step.

use crate::autodiff::Backward;
use crate::execute::{Memory, Step, is_finite};
use crate::explain::{About, PlanRow};
use crate::graph::OutputLoss;
use crate::instruction::Call;
use crate::operand::{Operands, Reach};
use crate::program::ValueId;

/// The loss of an output, its gradient times `weight` where one is wanted.
pub(crate) struct Loss {
    pub output: usize,
    pub loss: OutputLoss,
    pub logits: ValueId,
    pub dlogits: Option<ValueId>,
    pub weight: f32,
}

impl Call for Loss {
    fn name(&self) -> &'static str {
        match self.loss {
            OutputLoss::CrossEntropy {} => "softmaxCrossEntropy",
            loss => loss.name(),
        }
    }

    fn operands(&self) -> Operands {
        Operands::default().read(self.logits, Reach::Pixel).write(self.dlogits, Reach::Pixel)
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let (criterion, logits) = (step.criterion(self.loss), memory.view(self.logits));
        let dlogits = self.dlogits.map(|dlogits| memory.view_mut(dlogits));
        let (images, targets) = step.whole;
        let count = criterion.count(logits.pixels() / logits.n() * images, targets);
        let part = criterion.forward_part(step.context, logits, step.targets, self.weight, count, dlogits);
        step.losses[self.output] = part;
    }

    /// The loss knows its gradient: it writes both at once, in the forward pass.
    fn backward(&mut self, backward: &mut Backward) {
        self.dlogits = backward.contribute(self.logits, |_, _| {});
    }
}

/// Whether every gradient of a parameter is finite.
pub(crate) struct CheckGradients;

impl Call for CheckGradients {
    fn name(&self) -> &'static str {
        "checkGradients"
    }

    fn operands(&self) -> Operands {
        Operands::default()
    }

    fn run(&self, _: &Memory, step: &mut Step) {
        step.finite = is_finite(step.context, step.gradients);
    }

    fn explain(&self, _: &About, row: &mut PlanRow) {
        row.name = "parameters".to_owned();
    }
}

/// The optimizer's step over all parameters.
pub(crate) struct Update;

impl Call for Update {
    fn name(&self) -> &'static str {
        "update"
    }

    fn operands(&self) -> Operands {
        Operands::default()
    }

    fn run(&self, _: &Memory, step: &mut Step) {
        step.update.run(step.context, step.parameters, step.gradients);
    }

    fn explain(&self, _: &About, row: &mut PlanRow) {
        row.name = "parameters".to_owned();
    }
}
