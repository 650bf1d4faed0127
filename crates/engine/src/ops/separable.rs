//! A depthwise convolution and the 1 x 1 convolution behind it, computed band by band: fusion makes it of two
//! convolutions, outside training.

use super::batch_norm::BatchNormLayer;
use super::convolution::ConvolutionLayer;
use super::function::Fused;
use crate::execute::{Memory, Step};
use crate::explain::{About, PlanRow};
use crate::instruction::Call;
use crate::operand::{Operands, Reach};
use crate::program::{Program, ValueId};
use fovea_kernels::conv2d::{self, Separable};
use std::sync::Arc;

/// y = a 1 x 1 convolution of a depthwise convolution of x, each as [`super::convolution::Forward`], the
/// residual added by the second; the map between is never written to memory.
pub(crate) struct Forward {
    pub stages: [Stage; 2],
    pub x: ValueId,
    pub residual: Option<ValueId>,
    pub y: ValueId,
}

/// A convolution that another instruction has inside, with the batch normalization that is folded into it.
#[derive(Clone)]
pub(crate) struct Stage {
    pub layer: Arc<ConvolutionLayer>,
    pub folded: Option<Arc<BatchNormLayer>>,
    pub function: Fused,
}

/// The kernel of two stages; none only where [`fuse`](crate::fuse) would not have joined them.
pub(crate) fn separable([depthwise, pointwise]: &[Stage; 2]) -> Option<Separable<'_>> {
    Separable::new(&depthwise.layer.kernel, &pointwise.layer.kernel)
}

impl Call for Forward {
    fn name(&self) -> &'static str {
        "separableConv"
    }

    fn operands(&self) -> Operands {
        Operands::default()
            .read(self.x, Reach::Neighbourhood)
            .read(self.residual, Reach::Pixel)
            .write(self.y, Reach::Pixel)
    }

    fn scratch_len(&self, _: &Program, _: usize, threads: usize) -> usize {
        separable(&self.stages).map_or(0, |separable| separable.scratch_len(threads))
    }

    fn run(&self, memory: &Memory, step: &mut Step) {
        let kernels = self.stages.each_ref().map(|Stage { layer, folded, function }| {
            let (weight, bias) = step.weights(layer, folded.is_some());
            conv2d::Stage { weight, bias, activation: function.activation() }
        });
        let residual = self.residual.map(|residual| memory.view(residual));
        let (x, y, scratch) = (memory.view(self.x), memory.view_mut(self.y), memory.scratch());
        if let Some(separable) = separable(&self.stages) {
            separable.forward(step.context, x, kernels, residual, y, scratch);
        }
    }

    fn explain(&self, about: &About, row: &mut PlanRow) {
        let mult_adds = self.stages.iter().map(|stage| stage.layer.mult_adds).sum::<u64>();
        row.algorithm = separable(&self.stages).map_or_else(String::new, |separable| separable.algorithm());
        row.flops = 2 * mult_adds * about.plan.batch as u64;
        row.name = self.stages.each_ref().map(|stage| stage.layer.name.as_str()).join(" + ");
    }

    fn remarks(&self) -> Vec<String> {
        let folded = self.stages.iter().any(|stage| stage.folded.is_some());
        let mut remarks = Vec::new();
        remarks.extend(folded.then(|| "with batchNorm".to_owned()));
        remarks.extend(self.residual.map(|_| "with add".to_owned()));
        let mut functions: Vec<_> = self.stages.iter().filter_map(|stage| stage.function.remark()).collect();
        functions.dedup();
        remarks.extend(functions);
        remarks
    }
}
