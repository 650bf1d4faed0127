//! Parameters: how they begin, and the border between the kernels' layout and that of files.
//!
//! Inside, a weight lies as its kernel wants it. Outside (files, callers) everything is PyTorch's: convolutions
//! `[out, in / groups, kernel height, kernel width]`, dense layers `[out, in]`, and the first dense layer after
//! a flatten counts its inputs channel by channel. Running statistics lie in a buffer of their own. Gradients
//! and an optimizer's states have the layout of their parameters on both sides.

use crate::buffer::{Buffer, vector};
use crate::error::{Misshapen, Result, WeightsError};
use crate::network::{Network, Parameter, Role, Tensors};
use crate::ops::batch_norm::BatchNormLayer;
use crate::ops::convolution::{Connections, Init};
use crate::order::for_each_ordered;
use fovea_formats::safetensors::Tensor;
use fovea_kernels::random::{Philox, Purpose};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// Ends the names of the counts that PyTorch keeps beside running statistics: the batches that they have seen.
const BATCHES: &str = ".num_batches_tracked";

/// Name of the count of a batch normalization's batches in files.
pub(crate) fn batches_name(norm: &BatchNormLayer) -> String {
    format!("{}{BATCHES}", norm.name)
}

/// Name and shape of a parameter, as in files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParameterInfo {
    /// `NODE.weight` or `NODE.bias`.
    pub name: String,
    /// Its shape, PyTorch's order.
    pub shape: Vec<usize>,
}

/// A parameter's values in PyTorch's layout.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// `NODE.weight`, `NODE.bias`, `NODE.running_mean` or `NODE.running_var`.
    pub name: String,
    /// Its shape, PyTorch's order.
    pub shape: Vec<usize>,
    /// The values, the last dimension innermost.
    pub values: Vec<f32>,
}

impl NamedTensor {
    /// The tensor, borrowed.
    pub fn as_tensor(&self) -> Tensor<'_> {
        Tensor { name: &self.name, shape: &self.shape, values: &self.values }
    }
}

/// A fresh buffer of tensors: weights drawn from `seed`, every vector with the value that it begins with.
///
/// Every weight draws from a stream of its own in PyTorch's order, so the values depend neither on the
/// instruction set nor on other layers' sizes.
pub(crate) fn initialize(tensors: &Tensors, seed: u64) -> Result<Buffer> {
    let mut buffer = Buffer::new(tensors.len, PURPOSE)?;
    for (index, parameter) in tensors.tensors.iter().enumerate() {
        let (layer, init) = match &parameter.role {
            Role::Weight { layer, init } => (layer, *init),
            Role::Vector { initial } => {
                buffer.as_mut_slice()[parameter.place.clone()].fill(*initial);
                continue;
            }
        };
        let receptive: usize = parameter.shape[2..].iter().product();
        // Weights of a filter that is not connected to all channels have fewer inputs.
        let channels = |filter: usize| match &layer.connections {
            Some(connections) => connections.channels[filter],
            None => parameter.shape[1],
        };
        let bound = |filter: usize| {
            let [outputs, inputs] =
                [parameter.shape[0], channels(filter)].map(|fan| (fan * receptive) as f64);
            match init {
                Init::Kaiming => (6.0 / inputs).sqrt() as f32,
                Init::Xavier => (6.0 / (outputs + inputs)).sqrt() as f32,
                Init::Lecun => (2.4 / inputs) as f32,
            }
        };
        let filter_len = parameter.elements() / parameter.shape[0];
        let random = Philox::new(seed, Purpose::Initialization, index as u64);
        let uniform =
            (0..parameter.elements().div_ceil(4) as u64).flat_map(|counter| random.uniforms(counter));
        let uniform = uniform.enumerate();
        let values = uniform.map(|(at, u)| (2.0 * u - 1.0) * bound(at / filter_len));
        parameter.store(&vector(parameter.elements(), PURPOSE, values)?, buffer.as_mut_slice())?;
    }
    Ok(buffer)
}

/// All tensors of a buffer of their layout; `prefix` goes before their names. Errors: more memory than the
/// system gives.
pub(crate) fn export(tensors: &Tensors, buffer: &[f32], prefix: &str) -> Result<Vec<NamedTensor>> {
    let named = |parameter: &Parameter| {
        let name = format!("{prefix}{}", parameter.name);
        Ok(NamedTensor { name, shape: parameter.shape.clone(), values: parameter.load(buffer)? })
    };
    tensors.tensors.iter().map(named).collect()
}

/// Tensors that a file has besides the weights: those of a layout once more, under names that begin with
/// `prefix`.
pub(crate) struct Copied<'a> {
    pub prefix: &'a str,
    pub tensors: &'a Tensors,
}

/// Whether a tensor goes by a name: its own, that of its layer or of a block of layers (`fc` or `layer4`).
pub(crate) fn goes_by(tensor: &str, name: &str) -> bool {
    tensor.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Compares tensors, given as name and shape, with those of the network: its parameters and state, without
/// those that go by a name of `except`, and what else there should be. A batch normalization's count of batches
/// may be there or not.
///
/// Errors: every tensor that is missing, extra or misshapen, all in one.
pub(crate) fn check<'a>(
    network: &Network,
    copied: &[Copied],
    except: &[String],
    found: impl Iterator<Item = (&'a str, &'a [usize])>,
) -> std::result::Result<(), WeightsError> {
    let mut error = WeightsError::default();
    let mut shapes = HashMap::new();
    let mut order = Vec::new();
    let left = |name: &str| except.iter().any(|other| goes_by(name, other));
    for (name, shape) in found.filter(|(name, _)| !is_count(network, name) && !left(name)) {
        match shapes.insert(name, shape) {
            None => order.push(name),
            Some(_) => error.extra.push(name.to_owned()),
        }
    }
    let Network { parameters, state, .. } = network;
    let own = parameters.tensors.iter().chain(&state.tensors).map(|parameter| ("", parameter));
    let own = own.filter(|(_, parameter)| !left(&parameter.name));
    let copied = copied.iter().flat_map(|copy| copy.tensors.tensors.iter().map(|each| (copy.prefix, each)));
    let mut expected_names = HashSet::new();
    for (prefix, parameter) in own.chain(copied) {
        let name = format!("{prefix}{}", parameter.name);
        match shapes.get(name.as_str()) {
            None => error.missing.push(name.clone()),
            Some(shape) if **shape != parameter.shape => error.misshapen.push(Misshapen {
                name: name.clone(),
                expected: parameter.shape.clone(),
                received: shape.to_vec(),
            }),
            Some(_) => {}
        }
        expected_names.insert(name);
    }
    let extra = order.into_iter().filter(|&name| !expected_names.contains(name));
    error.extra.extend(extra.map(str::to_owned));
    if error.is_empty() { Ok(()) } else { Err(error) }
}

/// Whether a tensor is PyTorch's count of the batches that a batch normalization has seen.
fn is_count(network: &Network, name: &str) -> bool {
    name.strip_suffix(BATCHES).is_some_and(|node| network.norms.iter().any(|norm| norm.name == node))
}

/// A fresh buffer with the values that `read` gives for each tensor's name, which [`check`] has approved.
pub(crate) fn import<'a, Values: AsRef<[f32]> + 'a>(
    tensors: &Tensors,
    prefix: &str,
    mut read: impl FnMut(&str) -> Result<Values>,
) -> Result<Buffer> {
    let mut buffer = Buffer::new(tensors.len, PURPOSE)?;
    for parameter in &tensors.tensors {
        let values = read(&format!("{prefix}{}", parameter.name))?;
        parameter.store(values.as_ref(), buffer.as_mut_slice())?;
    }
    Ok(buffer)
}

impl Parameter {
    /// Number of values, without the kernel's padding.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Writes values in PyTorch's layout to their place in a buffer. Errors: more memory than the system gives.
    fn store(&self, values: &[f32], buffer: &mut [f32]) -> Result<()> {
        let place = &mut buffer[self.place.clone()];
        let mut permuted;
        let mut values = values;
        if let Some(order) = &self.order {
            permuted = zeros(values.len())?;
            for_each_ordered(order, values.len(), |outside, inside| permuted[inside] = values[outside]);
            values = &permuted;
        }
        match &self.role {
            Role::Vector { .. } => place.copy_from_slice(values),
            Role::Weight { layer, .. } => {
                layer.kernel.pack_weight(values, place);
                if let Some(Connections { mask, .. }) = &layer.connections {
                    place.iter_mut().zip(mask).for_each(|(weight, mask)| *weight *= mask);
                }
            }
        }
        Ok(())
    }

    /// Reads the values at their place in a buffer, in PyTorch's layout. Errors: more memory than the system
    /// gives.
    fn load(&self, buffer: &[f32]) -> Result<Vec<f32>> {
        let place = &buffer[self.place.clone()];
        let mut values = zeros(self.elements())?;
        match &self.role {
            Role::Vector { .. } => values.copy_from_slice(place),
            Role::Weight { layer, .. } => layer.kernel.unpack_weight(place, &mut values),
        }
        if let Some(order) = &self.order {
            let mut ordered = zeros(values.len())?;
            for_each_ordered(order, values.len(), |outside, inside| ordered[outside] = values[inside]);
            values = ordered;
        }
        Ok(values)
    }
}

/// What memory for parameters in any layout is for.
const PURPOSE: &str = "the parameters";

fn zeros(len: usize) -> Result<Vec<f32>> {
    vector(len, PURPOSE, std::iter::repeat(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::testing::{chain, conv, dense, lenet5};
    use fovea_kernels::Isa;
    use serde_json::json;

    fn network(graph: String) -> Network {
        Network::new(Graph::from_json(&graph).unwrap(), Isa::available()[0]).unwrap()
    }

    #[test]
    fn weights_begin_uniform_within_the_bound_and_biases_at_zero_on_every_instruction_set() {
        let mut of_each_isa = Isa::available().into_iter().map(|isa| {
            let network = Network::new(Graph::from_json(&lenet5()).unwrap(), isa).unwrap();
            export(&network.parameters, initialize(&network.parameters, 7).unwrap().as_slice(), "").unwrap()
        });
        let tensors = of_each_isa.next().unwrap();
        assert!(of_each_isa.all(|others| others == tensors));
        for tensor in &tensors {
            let largest = tensor.values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            if tensor.name.ends_with("bias") {
                assert_eq!(largest, 0.0);
                continue;
            }
            let bound = (6.0 / tensor.shape[1..].iter().product::<usize>() as f32).sqrt();
            let mean = tensor.values.iter().sum::<f32>() / tensor.values.len() as f32;
            assert!(largest <= bound && largest > 0.95 * bound, "{} {largest} {bound}", tensor.name);
            assert!(mean.abs() < 4.0 * bound / (3.0 * tensor.values.len() as f32).sqrt(), "{}", tensor.name);
        }
        let other = network(lenet5());
        assert_ne!(
            export(&other.parameters, initialize(&other.parameters, 8).unwrap().as_slice(), "").unwrap()[0],
            tensors[0]
        );
    }

    #[test]
    fn xavier_counts_both_fans() {
        let mut layer = dense(30);
        layer["init"] = json!("xavier");
        let network = network(chain([1, 1, 20], &[layer]));
        let weight = &export(&network.parameters, initialize(&network.parameters, 1).unwrap().as_slice(), "")
            .unwrap()[0];
        let largest = weight.values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let bound = (6.0f32 / 50.0).sqrt();
        assert!(largest <= bound && largest > 0.98 * bound);
    }

    #[test]
    fn lecuns_bound_counts_the_channels_that_a_filter_sees() {
        let network = network(crate::testing::connected());
        let tensors =
            export(&network.parameters, initialize(&network.parameters, 3).unwrap().as_slice(), "").unwrap();
        let weight = tensors.iter().find(|tensor| tensor.name == "node4.weight").unwrap();
        for (filter, seen) in weight.values.chunks_exact(18).zip([2.0, 1.0, 3.0, 2.0, 1.0f32]) {
            let (largest, bound) = (filter.iter().fold(0.0f32, |a, b| a.max(b.abs())), 2.4 / (seen * 6.0));
            assert!(largest <= bound && largest > 0.6 * bound, "{largest} {bound}");
        }
    }

    #[test]
    fn a_dense_layer_after_a_flatten_is_stored_channel_by_channel_outside_and_pixel_by_pixel_inside() {
        let nodes = [conv(3, [1, 1]), json!({"op": "flatten"}), json!({"op": "relu"}), dense(2), dense(2)];
        let network = network(chain([2, 1, 1], &nodes));
        let parameter = &network.parameters.tensors[2];
        assert_eq!((parameter.name.as_str(), &parameter.shape), ("node3.weight", &vec![2, 6]));
        let outside: Vec<f32> = (0..12).map(|index| index as f32).collect();
        let mut buffer = vec![0.0; network.parameters.len];
        parameter.store(&outside, &mut buffer).unwrap();
        assert_eq!(parameter.load(&buffer).unwrap(), outside);
        let Role::Weight { layer, .. } = &parameter.role else { panic!("node3.weight is a weight") };
        assert_eq!(parameter.order, Some([[2, 1, 3]].into()));
        let mut inside = vec![0.0; 12];
        layer.kernel.unpack_weight(&buffer[parameter.place.clone()], &mut inside);
        assert_eq!(inside, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0, 6.0, 8.0, 10.0, 7.0, 9.0, 11.0]);
        // The second dense layer reads units, which have no pixels.
        assert_eq!(network.parameters.tensors[4].order, None);
    }

    #[test]
    fn every_difference_is_told_at_once() {
        let network = network(chain([4, 4, 1], &[conv(2, [3, 3])]));
        let found: [(&str, &[usize]); 4] =
            [("node0.weight", &[2, 1, 3, 4]), ("other", &[1]), ("other", &[1]), ("node1.bias", &[2])];
        let copied = [Copied { prefix: "v.", tensors: &network.parameters }];
        let error = check(&network, &copied, &[], found.into_iter()).unwrap_err();
        assert_eq!(error.missing, ["node0.bias", "v.node0.weight", "v.node0.bias"]);
        assert_eq!(error.extra, ["other", "other", "node1.bias"]);
        assert_eq!(error.misshapen[0].expected, [2, 1, 3, 3]);
        let found: [(&str, &[usize]); 2] = [("node0.bias", &[2]), ("node0.weight", &[2, 1, 3, 3])];
        assert_eq!(check(&network, &[], &[], found.into_iter()), Ok(()));
        // What goes by an excepted name may be missing, misshapen and extra.
        let found: [(&str, &[usize]); 2] = [("node0.weight", &[1]), ("node0.offset", &[1])];
        assert_eq!(check(&network, &[], &["node0".to_owned()], found.into_iter()), Ok(()));
        assert!(check(&network, &[], &["node".to_owned()], found.into_iter()).is_err());
    }
}
