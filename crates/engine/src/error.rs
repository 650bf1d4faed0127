//! Everything that can go wrong, as values: the numbers stand in the fields, and `Display` is one sentence.

use fovea_formats::FormatError;
use fovea_kernels::IsaError;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};

/// The result of every fallible function of the engine.
pub type Result<T> = std::result::Result<T, EngineError>;

/// Why the engine could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The graph definition does not describe a network that can be run.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// An option is out of its range.
    #[error("Expected {expected} for \"{name}\" but received {received}.")]
    Argument {
        /// Name of the option, in camel case as users write it.
        name: &'static str,
        /// What it may be.
        expected: String,
        /// What it was.
        received: String,
    },
    /// An algorithm that cannot compute a layer, or one of its passes.
    #[error("Expected {expected} for \"{name}\" but received {received}.")]
    Algorithm {
        /// The layer, or its pass.
        name: String,
        /// What can compute it.
        expected: String,
        /// What was asked for.
        received: String,
    },
    /// Images, labels or an output buffer have the wrong number of elements.
    #[error("Expected {expected} values in \"{name}\" for {images} images but received {received}.")]
    Length {
        /// Which buffer.
        name: &'static str,
        /// Images of the batch.
        images: usize,
        /// Elements that so many images have.
        expected: usize,
        /// Elements received.
        received: usize,
    },
    /// A label is no class of the network.
    #[error("Expected labels below {classes} but received {label} (image {image} of the batch).")]
    Label {
        /// Classes of the network.
        classes: usize,
        /// The label.
        label: u32,
        /// Its position in the batch.
        image: usize,
    },
    /// Training diverged; the parameters are those from before the step.
    #[error(
        "Expected a finite {quantity} at step {step} but received {value}; the parameters are those of the step before."
    )]
    NotFinite {
        /// `loss` or `gradient`.
        quantity: &'static str,
        /// The step that failed, the first one being 1.
        step: u64,
        /// The loss, or NaN for a gradient.
        value: f64,
    },
    /// Weights do not fit the graph.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file is not a checkpoint, or one of another network.
    #[error("Expected a checkpoint of this network in {file} but {problem}.")]
    Checkpoint {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FormatError),
    /// A node of an ONNX file has no layer here.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The system has not enough memory.
    #[error("Expected {megabytes} MB of memory for {purpose} but the system refused it.")]
    Memory {
        /// What it was for.
        purpose: &'static str,
        /// Size of the request.
        megabytes: usize,
    },
    /// Memory of a plan that two of its values would have at once: a fault of the engine, found before it
    /// computes.
    #[error(
        "Expected a plan whose values keep apart but found a fault of fovea in {0}; please report the network."
    )]
    Plan(String),
    /// The instruction set asked for cannot be used.
    #[error(transparent)]
    Isa(#[from] IsaError),
}

impl EngineError {
    /// An option out of its range.
    pub(crate) fn argument(name: &'static str, expected: impl Into<String>, received: impl Display) -> Self {
        Self::Argument { name, expected: expected.into(), received: received.to_string() }
    }
}

/// Why a node of an ONNX file cannot become a layer, or a layer cannot become a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Expected {expected} for \"{node}\" ({operator}) but received {received}.")]
pub struct OnnxError {
    /// The operator, `Conv` for example.
    pub operator: String,
    /// The node's name, or that of the value it computes.
    pub node: String,
    /// What would be understood.
    pub expected: String,
    /// What is there.
    pub received: String,
}

/// Why a graph definition does not describe a network that can be run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// Not JSON, or not the JSON of a graph.
    #[error("Expected a graph definition but the JSON is not one: {0}.")]
    Definition(String),
    /// A node's keys are not those of its operation.
    #[error("Expected a definition of \"{node}\" that can be read but {problem}.")]
    Node {
        /// Name of the node, or its position where it has none.
        node: String,
        /// What the JSON reader says.
        problem: String,
    },
    /// A hyperparameter is missing, or what it is cannot be read.
    #[error("Expected {expected} for \"{node}.{key}\" but received {received}.")]
    Hyperparameter {
        /// Name of the node.
        node: String,
        /// Its key.
        key: String,
        /// What it may be.
        expected: String,
        /// What it is, as JSON; cut where it is long.
        received: String,
    },
    /// The operation is none that the engine knows.
    #[error("Expected an op among {} for \"{node}\" but received \"{op}\".", crate::ops::OPS.join(", "))]
    UnknownOp {
        /// Name of the node.
        node: String,
        /// The operation asked for.
        op: String,
    },
    /// Two nodes share a name, or one has a name that is kept for other things.
    #[error(
        "Expected a name for node {index} that is unique, not empty, not \"input\" and does not begin with \
         \"optimizer.\" but received \"{name}\"."
    )]
    Name {
        /// Position of the node.
        index: usize,
        /// Its name.
        name: String,
    },
    /// A node reads what is not defined before it.
    #[error("Expected the inputs of \"{node}\" to be earlier nodes but received \"{input}\".")]
    UnknownInput {
        /// Name of the node.
        node: String,
        /// The input asked for.
        input: String,
    },
    /// A node has the wrong number of inputs.
    #[error("Expected {} for \"{node}\" but received {received}.", inputs(expected))]
    InputCount {
        /// Name of the node.
        node: String,
        /// Inputs that its operation has.
        expected: std::ops::RangeInclusive<usize>,
        /// Inputs received.
        received: usize,
    },
    /// There is nothing to compute.
    #[error("Expected at least one output but received none.")]
    NoOutput,
    /// An output names no node, or names it twice.
    #[error("Expected each output to be a node, named once, but received \"{0}\".")]
    Output(String),
    /// A loss weight is negative or not finite.
    #[error("Expected a finite loss weight of at least 0 for output \"{node}\" but received {received}.")]
    LossWeight {
        /// The output.
        node: String,
        /// Its weight.
        received: f32,
    },
    /// A node feeds no output: its parameters could never learn.
    #[error("Expected every node to lead to an output but nothing reads \"{0}\".")]
    Unused(String),
    /// A size is zero or absurdly large.
    #[error("Expected {what} of {} to {} for \"{node}\" but received {received}.", range.start(), range.end())]
    Size {
        /// Name of the node, or `input`.
        node: String,
        /// Which size.
        what: &'static str,
        /// What it may be.
        range: std::ops::RangeInclusive<usize>,
        /// Its value.
        received: usize,
    },
    /// A hyperparameter that is no size is out of its range.
    #[error("Expected {expected} for \"{node}\" but received {received}.")]
    Number {
        /// Name of the node.
        node: String,
        /// Which one, and what it may be.
        expected: &'static str,
        /// Its value.
        received: f32,
    },
    /// A tensor has too many elements.
    #[error(
        "Expected at most {} elements in the {what} of \"{node}\" but received {shape:?}.",
        crate::ops::bounds::MAX_ELEMENTS
    )]
    TooLarge {
        /// Name of the node, or `input`.
        node: String,
        /// Which tensor.
        what: &'static str,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A layer does not fit its input.
    #[error("Expected {expected} for \"{node}\" but received {received} (input {input:?}).")]
    Shape {
        /// Name of the node.
        node: String,
        /// What would fit.
        expected: String,
        /// What was there.
        received: String,
        /// Shape of the node's input, `[height, width, channels]`.
        input: [usize; 3],
    },
    /// Inputs of one node do not fit each other.
    #[error("Expected inputs of {expected} for \"{node}\" but received {first:?} and {other:?}.")]
    Inputs {
        /// Name of the node.
        node: String,
        /// What they must have in common.
        expected: &'static str,
        /// Shape of the first input, `[height, width, channels]`.
        first: [usize; 3],
        /// Shape of the first one that does not fit it.
        other: [usize; 3],
    },
    /// The elements of a flattened map and those of another vector come in different orders, so no sum has a
    /// meaning in files.
    #[error(
        "Expected inputs whose elements come in the same order for \"{0}\" but received differently flattened maps; \
         put a dense layer behind the flatten."
    )]
    Order(String),
    /// What a short definition stands for would take much more memory than the definition.
    #[error(
        "Expected at most {most} {what}, counted over all nodes, for \"{node}\" but received {received}."
    )]
    Budget {
        /// The node where there were too many.
        node: String,
        /// What is counted.
        what: &'static str,
        /// How many of it a graph may have.
        most: usize,
        /// How many it has up to this node.
        received: usize,
    },
    /// The kernel has no version for a layer's geometry.
    #[error(
        "Expected a geometry that its kernel takes for \"{node}\" but received: {problem} (input {input:?})."
    )]
    Refused {
        /// Name of the node.
        node: String,
        /// What the kernel says.
        problem: String,
        /// Shape of the node's input, `[height, width, channels]`.
        input: [usize; 3],
    },
    /// A network that is to be trained contains a softmax, or one that is to be evaluated ends in it.
    #[error(
        "Expected logits but received probabilities: the loss applies its own softmax, so remove \"{0}\"."
    )]
    Softmax(String),
    /// The output of a network that is to be trained or evaluated is not one row of logits.
    #[error(
        "Expected an output [1, 1, classes] for \"{node}\" but received {received:?}; add flatten or dense."
    )]
    NotLogits {
        /// The output.
        node: String,
        /// Its shape.
        received: [usize; 3],
    },
    /// A network that is to be trained has nothing to learn.
    #[error("Expected at least one layer with parameters but \"{0}\" has none, so it cannot be trained.")]
    NoParameters(String),
}

/// `1 input`, `2 inputs or more`.
fn inputs(count: &std::ops::RangeInclusive<usize>) -> String {
    let plural = if *count.start() == 1 { "" } else { "s" };
    let more = if count.end() > count.start() { " or more" } else { "" };
    format!("{} input{plural}{more}", count.start())
}

/// How named tensors differ from those that a network has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WeightsError {
    /// Tensors that the network has and the file lacks.
    pub missing: Vec<String>,
    /// Tensors that the network does not have.
    pub extra: Vec<String>,
    /// Tensors of another shape.
    pub misshapen: Vec<Misshapen>,
}

/// A tensor of another shape than the network's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshapen {
    /// Name of the tensor.
    pub name: String,
    /// Shape in the network, PyTorch's order.
    pub expected: Vec<usize>,
    /// Shape received.
    pub received: Vec<usize>,
}

impl GraphError {
    /// A hyperparameter that cannot be what it is.
    pub(crate) fn hyperparameter(
        node: &str,
        key: &str,
        expected: impl Into<String>,
        received: impl Serialize,
    ) -> Self {
        let text = serde_json::to_string(&received).unwrap_or_default();
        let mut shown: String = text.chars().take(CHARACTERS_SHOWN).collect();
        if shown.len() < text.len() {
            shown.push_str(" ...");
        }
        let (node, key, expected) = (node.to_owned(), key.to_owned(), expected.into());
        Self::Hyperparameter { node, key, expected, received: shown }
    }
}

/// Characters of a value that a message shows: enough for what is written by hand.
const CHARACTERS_SHOWN: usize = 100;

impl WeightsError {
    /// Whether nothing differs.
    pub(crate) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.misshapen.is_empty()
    }
}

/// Names listed in a message before it says how many more there are: enough to see the pattern.
const NAMES_LISTED: usize = 8;

fn listed(items: impl ExactSizeIterator<Item = String>) -> String {
    let count = items.len();
    let mut names: Vec<_> = items.take(NAMES_LISTED).collect();
    if count > NAMES_LISTED {
        names.push(format!("and {} more", count - NAMES_LISTED));
    }
    names.join(", ")
}

impl Display for WeightsError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let quoted = |name: &String| format!("\"{name}\"");
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            parts.push(format!("missing {}", listed(self.missing.iter().map(quoted))));
        }
        if !self.extra.is_empty() {
            parts.push(format!("extra {}", listed(self.extra.iter().map(quoted))));
        }
        if !self.misshapen.is_empty() {
            let shapes = self.misshapen.iter().map(|tensor| {
                format!("\"{}\" {:?} instead of {:?}", tensor.name, tensor.received, tensor.expected)
            });
            parts.push(format!("misshapen {}", listed(shapes)));
        }
        write!(f, "Expected the tensors of this network but received others: {}.", parts.join("; "))
    }
}

impl std::error::Error for WeightsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weights_error_lists_every_kind_of_difference_in_one_sentence() {
        let error = WeightsError {
            missing: vec!["fc1.bias".into()],
            extra: (0..10).map(|index| format!("x{index}")).collect(),
            misshapen: vec![Misshapen {
                name: "fc1.weight".into(),
                expected: vec![2, 3],
                received: vec![3, 2],
            }],
        };
        assert_eq!(
            error.to_string(),
            "Expected the tensors of this network but received others: missing \"fc1.bias\"; extra \"x0\", \"x1\", \
             \"x2\", \"x3\", \"x4\", \"x5\", \"x6\", \"x7\", and 2 more; misshapen \"fc1.weight\" [3, 2] instead of \
             [2, 3]."
        );
    }
}
