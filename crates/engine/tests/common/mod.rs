//! What the integration tests share.
#![allow(dead_code, unused_imports)] // each test file uses a part of it

pub mod graphs;
pub mod oracle;

use fovea_engine::{Graph, NamedTensor, Session, SessionOptions, Tensor};
use fovea_kernels::Isa;
use fovea_reference::check::uniform;

pub fn session(graph: &str, threads: usize, isa: Isa) -> Session {
    let options =
        SessionOptions { threads: Some(threads), seed: 7, isa: Some(isa), ..SessionOptions::default() };
    Session::new(Graph::from_json(graph).unwrap(), options).unwrap()
}

/// A session on the fastest instruction set and two threads.
pub fn fastest(graph: &str) -> Session {
    session(graph, 2, Isa::detect().unwrap())
}

/// Reproducible images in -1..1 and labels below `classes`.
pub fn batch(session: &Session, images: usize, classes: u32, seed: u64) -> (Vec<f32>, Vec<u32>) {
    let values = uniform(seed, images * session.image_len());
    let labels = uniform(seed + 1000, images).iter().map(|u| ((u + 1.0) * 1e6) as u32 % classes).collect();
    (values, labels)
}

/// Gives vectors values of their own, biases above all: at zero, whole regions of padding would sit on the kink
/// of a ReLU.
pub fn randomize_vectors(session: &mut Session) {
    let mut weights = session.weights();
    for (index, tensor) in weights.iter_mut().enumerate().filter(|(_, tensor)| tensor.shape.len() == 1) {
        // Scales and variances stay well above zero.
        let middle = if tensor.name.ends_with("weight") || tensor.name.ends_with("var") { 1.0 } else { 0.0 };
        let values = uniform(index as u64, tensor.values.len());
        tensor.values = values.iter().map(|value| middle + 0.3 * value).collect();
    }
    load(session, &weights);
}

pub fn load(session: &mut Session, weights: &[NamedTensor]) {
    let tensors: Vec<Tensor> = weights.iter().map(|tensor| tensor.as_tensor()).collect();
    session.load_weights(&tensors).unwrap();
}

/// All weights as bits, so that equality means the same bytes.
pub fn bits(session: &Session) -> Vec<Vec<u32>> {
    session
        .weights()
        .iter()
        .map(|tensor| tensor.values.iter().map(|value| value.to_bits()).collect())
        .collect()
}
