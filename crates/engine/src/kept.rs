//! Weights that are made from the parameters and stay as long as those do: outside training, batch
//! normalizations are folded into convolutions, and Winograd's algorithm reads transformed weights.
//!
//! Folding: `(w * x) scale + shift = (w scale) * x + shift`, so each filter is scaled once instead of each of
//! its results.

use crate::buffer::Buffer;
use crate::error::Result;
use crate::instruction::Instruction;
use crate::network::Network;
use crate::ops::batch_norm::BatchNormLayer;
use crate::ops::convolution::{Algorithm, ConvolutionLayer, Forward};
use crate::plan::Plan;
use fovea_kernels::conv2d::winograd::Winograd;
use fovea_kernels::{Context, batch_norm};

/// The kept weights of all layers.
pub(crate) struct KeptWeights {
    /// One a node; empty where nothing is kept.
    layers: Vec<Kept>,
    /// The largest folded weight in PyTorch's layout, while it is made.
    oihw: Buffer,
}

/// The kept weights of a convolution. The versions are those of the parameters that they were made from, 0
/// before the first.
#[derive(Default)]
struct Kept {
    /// Weight, in the kernel's layout, and bias with a batch normalization in them.
    folded: Buffer,
    bias: Buffer,
    /// Scale and shift of that batch normalization.
    affine: Buffer,
    folded_version: u64,
    /// The weight, folded or not, as Winograd's algorithm reads it.
    transformed: Buffer,
    transformed_version: u64,
}

/// Room that a plan needs and that is not there yet.
pub(crate) struct Missing {
    /// The layer's index; weight, bias and affine of [`Kept`]; its transformed weight.
    layers: Vec<(usize, Option<[Buffer; 3]>, Option<Buffer>)>,
    oihw: Option<Buffer>,
}

/// What an instruction reads of the kept weights.
struct Need<'a> {
    layer: &'a ConvolutionLayer,
    folded: Option<&'a BatchNormLayer>,
    winograd: Option<&'a Winograd>,
}

impl KeptWeights {
    /// Nothing is kept yet.
    pub fn new(network: &Network) -> Self {
        Self { layers: network.layers.iter().map(|_| Kept::default()).collect(), oihw: Buffer::default() }
    }

    /// Room for what a plan reads, where there is none yet. Errors: more memory than the system gives.
    pub fn missing(&self, plan: &Plan) -> Result<Missing> {
        let (mut layers, mut largest) = (Vec::new(), 0);
        for Need { layer, folded, winograd } in needs(plan) {
            let kept = &self.layers[layer.index];
            let folded = match folded.filter(|_| kept.folded.len() == 0) {
                None => None,
                Some(norm) => {
                    largest = largest.max(layer.kernel.shape().parameters());
                    let weight = buffer(layer.kernel.weight_len())?;
                    Some([weight, buffer(norm.channels)?, buffer(2 * norm.channels)?])
                }
            };
            let transformed = match winograd.filter(|_| kept.transformed.len() == 0) {
                None => None,
                Some(winograd) => Some(buffer(winograd.weight_len())?),
            };
            layers.push((layer.index, folded, transformed));
        }
        Ok(Missing { layers, oihw: self.oihw.missing(largest, PURPOSE)? })
    }

    /// Takes over the room for a plan.
    pub fn add(&mut self, Missing { layers, oihw }: Missing) {
        for (index, folded, transformed) in layers {
            let kept = &mut self.layers[index];
            if let Some(folded) = folded {
                [kept.folded, kept.bias, kept.affine] = folded;
            }
            if let Some(transformed) = transformed {
                kept.transformed = transformed;
            }
        }
        if let Some(oihw) = oihw {
            self.oihw = oihw;
        }
    }

    /// Makes anew what a plan reads and what is older than `version` of parameters and state.
    pub fn refresh(
        &mut self,
        context: Context,
        plan: &Plan,
        parameters: &[f32],
        state: &[f32],
        version: u64,
    ) {
        let Self { layers, oihw } = self;
        for Need { layer, folded, winograd } in needs(plan) {
            let kept = &mut layers[layer.index];
            if let Some(norm) = folded.filter(|_| kept.folded_version != version) {
                kept.fold(layer, norm, parameters, state, oihw);
                kept.folded_version = version;
            }
            if let Some(winograd) = winograd.filter(|_| kept.transformed_version != version) {
                let weight = folded.map_or(&parameters[layer.weight.clone()], |_| kept.folded.as_slice());
                winograd.transform_weight(context, weight, kept.transformed.as_mut_slice());
                kept.transformed_version = version;
            }
        }
    }

    /// Weight and bias of a layer with a batch normalization in them.
    pub fn folded(&self, layer: &ConvolutionLayer) -> (&[f32], Option<&[f32]>) {
        let kept = &self.layers[layer.index];
        (kept.folded.as_slice(), Some(kept.bias.as_slice()))
    }

    /// The weight of a layer as Winograd's algorithm reads it.
    pub fn transformed(&self, layer: &ConvolutionLayer) -> &[f32] {
        self.layers[layer.index].transformed.as_slice()
    }
}

impl Kept {
    fn fold(
        &mut self,
        layer: &ConvolutionLayer,
        norm: &BatchNormLayer,
        parameters: &[f32],
        state: &[f32],
        oihw: &mut Buffer,
    ) {
        let [mean, variance] = [&norm.mean, &norm.variance].map(|place| &state[place.clone()]);
        let [weight, bias] = [&norm.weight, &norm.bias].map(|place| &parameters[place.clone()]);
        let affine = self.affine.as_mut_slice();
        batch_norm::running_affine(mean, variance, norm.epsilon, weight, bias, affine);
        let (scale, shift) = affine.split_at(norm.channels);
        let own = layer.bias.clone().map(|place| &parameters[place]);
        for (channel, bias) in self.bias.as_mut_slice().iter_mut().enumerate() {
            *bias = own.map_or(0.0, |own| own[channel]).mul_add(scale[channel], shift[channel]);
        }
        let oihw = &mut oihw.as_mut_slice()[..layer.kernel.shape().parameters()];
        layer.kernel.unpack_weight(&parameters[layer.weight.clone()], oihw);
        let filters = oihw.chunks_exact_mut(oihw.len() / norm.channels);
        filters.zip(scale).for_each(|(filter, scale)| filter.iter_mut().for_each(|weight| *weight *= scale));
        layer.kernel.pack_weight(oihw, self.folded.as_mut_slice());
    }
}

/// What the convolutions of a plan read of the kept weights.
fn needs(plan: &Plan) -> impl Iterator<Item = Need<'_>> {
    let needs = plan.program.instructions.iter().map(|instruction| match instruction {
        Instruction::Convolution(Forward { layer, folded, algorithm, .. }) => {
            let winograd = match algorithm {
                Algorithm::WinogradKept(winograd) => Some(winograd.as_ref()),
                Algorithm::Direct | Algorithm::Winograd(..) => None,
            };
            [Some(Need { layer, folded: folded.as_deref(), winograd }), None]
        }
        Instruction::SeparableConvolution(call) => call
            .stages
            .each_ref()
            .map(|stage| Some(Need { layer: &stage.layer, folded: stage.folded.as_deref(), winograd: None })),
        _ => [None, None],
    });
    needs.flatten().flatten()
}

/// What the memory is for.
const PURPOSE: &str = "the weights for inference";

fn buffer(len: usize) -> Result<Buffer> {
    Buffer::new(len, PURPOSE)
}
