//! The algorithms that a session is held to, layer by layer.

use crate::error::{EngineError, Result};
use crate::ops::convolution::ConvolutionRole;
use crate::session::Precision;
use crate::shapes::Shapes;
use fovea_kernels::conv2d::winograd::Weights;
use fovea_kernels::conv2d::{Algorithm, Conv2d, Pass};

/// A pass of a layer as users name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayerPass {
    Forward,
    InputGradient,
    WeightGradient,
}

impl LayerPass {
    const ALL: [Self; 3] = [Self::Forward, Self::InputGradient, Self::WeightGradient];

    fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::InputGradient => "inputGradient",
            Self::WeightGradient => "weightGradient",
        }
    }

    /// The pass of the layer's kernel: a transposed convolution computes forward what its kernel computes
    /// backward.
    fn of_kernel(self, role: ConvolutionRole) -> Pass {
        match (self, role == ConvolutionRole::Transposed) {
            (Self::Forward, false) | (Self::InputGradient, true) => Pass::Forward,
            (Self::Forward, true) | (Self::InputGradient, false) => Pass::BackwardInput,
            (Self::WeightGradient, _) => Pass::BackwardWeight,
        }
    }
}

/// What one layer is held to.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// Position of the layer's node.
    node: usize,
    /// Every pass that can be computed so, where none is named.
    pass: Option<LayerPass>,
    algorithm: Algorithm,
    /// What the user wrote: `conv1.forward`.
    name: String,
}

/// Understands pairs of a layer, or a layer's pass as in `conv1.weightGradient`, and the name of an algorithm.
///
/// Errors: no such layer or algorithm, Winograd's in strict precision.
pub(crate) fn understand(
    algorithms: &[(String, String)],
    shapes: &Shapes,
    precision: Precision,
) -> Result<Vec<Held>> {
    algorithms.iter().map(|(name, algorithm)| understand_one(name, algorithm, shapes, precision)).collect()
}

fn understand_one(name: &str, algorithm: &str, shapes: &Shapes, precision: Precision) -> Result<Held> {
    let refused = |expected: &str| EngineError::Algorithm {
        name: name.to_owned(),
        expected: expected.to_owned(),
        received: algorithm.to_owned(),
    };
    let known = Algorithm::from_name(algorithm).ok_or_else(|| refused(&list(Algorithm::ALL)))?;
    if known == Algorithm::Winograd && precision == Precision::Strict {
        return Err(refused("direct summation, which strict precision demands,"));
    }
    let node = |name: &str| {
        shapes.nodes.iter().position(|node| node.name == name && ConvolutionRole::of(node.op).is_some())
    };
    let with_pass = || {
        let (layer, pass) = name.rsplit_once('.')?;
        let pass = LayerPass::ALL.into_iter().find(|known| known.name() == pass)?;
        Some((node(layer)?, Some(pass)))
    };
    let (node, pass) = node(name).map(|node| (node, None)).or_else(with_pass).ok_or_else(|| {
        let expected =
            "a convolution or dense layer, or one with .forward, .inputGradient or .weightGradient,";
        EngineError::argument("algorithms", expected, format_args!("\"{name}\""))
    })?;
    Ok(Held { node, pass, algorithm: known, name: name.to_owned() })
}

/// Holds the kernel of a node to what is said of it. Errors: an algorithm that cannot compute the pass, or any
/// of them.
pub(crate) fn hold(held: &[Held], node: usize, role: ConvolutionRole, kernel: &mut Conv2d) -> Result<()> {
    for Held { pass, algorithm, name, .. } in held.iter().filter(|held| held.node == node) {
        let passes = pass.map_or_else(|| LayerPass::ALL.to_vec(), |pass| vec![pass]);
        let hold = |pass: &LayerPass| kernel.hold(pass.of_kernel(role), *algorithm);
        if passes.iter().map(hold).filter(|&held| held).count() == 0 {
            let possible = Algorithm::ALL.into_iter().filter(|&algorithm| {
                let computes = |pass: &LayerPass| {
                    let candidates = kernel.candidates(pass.of_kernel(role), 1, Weights::Change);
                    candidates.iter().any(|candidate| candidate.algorithm == algorithm)
                };
                passes.iter().any(computes)
            });
            return Err(EngineError::Algorithm {
                name: name.clone(),
                expected: list(possible),
                received: algorithm.name().to_owned(),
            });
        }
    }
    Ok(())
}

/// `direct, packed or winograd`.
fn list(algorithms: impl IntoIterator<Item = Algorithm>) -> String {
    let names: Vec<_> = algorithms.into_iter().map(Algorithm::name).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    }
}
