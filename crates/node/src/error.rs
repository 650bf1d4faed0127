//! Errors as JavaScript sees them: one sentence and a stable `code`.

use fovea_data::DataError;
use fovea_engine::{EngineError, GraphError};
use fovea_formats::FormatError;
use napi::{Env, JsError};

/// The stable codes. They are part of the public contract: add, never rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The graph definition does not describe a network that can be run.
    InvalidGraph,
    /// An option or argument is out of its range.
    InvalidArgument,
    /// A layer does not fit what it reads.
    InvalidShape,
    /// A dataset or array file is not what it should be.
    InvalidData,
    /// Weights or a checkpoint do not fit the graph.
    InvalidWeights,
    /// The loss became NaN or infinite.
    NotFinite,
    /// The operating system refused to read or write.
    Io,
    /// The work was aborted before it had a result.
    Aborted,
    /// The session was closed.
    Closed,
    /// A bug in this library.
    Internal,
}

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        match self {
            Self::InvalidGraph => "INVALID_GRAPH",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::InvalidShape => "INVALID_SHAPE",
            Self::InvalidData => "INVALID_DATA",
            Self::InvalidWeights => "INVALID_WEIGHTS",
            Self::NotFinite => "NOT_FINITE",
            Self::Io => "IO",
            Self::Aborted => "ABORTED",
            Self::Closed => "CLOSED",
            Self::Internal => "INTERNAL",
        }
    }
}

/// What every door returns on failure.
pub type Error = napi::Error<Code>;

/// The result of every door.
pub type Result<T> = std::result::Result<T, Error>;

/// An [`Code::InvalidArgument`] error: `Expected {expected} for "{name}" but received {received}.`
pub fn invalid_argument(name: &str, expected: &str, received: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidArgument, format!("Expected {expected} for \"{name}\" but received {received}."))
}

/// A file that could not be read or written, or is not what it should be.
pub fn from_format(error: FormatError) -> Error {
    let code = if matches!(error, FormatError::Io { .. }) { Code::Io } else { Code::InvalidData };
    Error::new(code, error.to_string())
}

/// A dataset that is not what it should be, or asked for in a way that makes no sense.
pub fn from_data(error: DataError) -> Error {
    let code = match error {
        DataError::Format(error) => return from_format(error),
        DataError::BatchSize { .. }
        | DataError::NoWholeBatch { .. }
        | DataError::Memory { .. }
        | DataError::Index { .. }
        | DataError::FileShape { .. }
        | DataError::ClassNames { .. }
        | DataError::Fraction { .. }
        | DataError::Augmentation { .. } => Code::InvalidArgument,
        DataError::NoCifar10 { .. } => Code::Io,
        DataError::Thread(_)
        | DataError::Stopped { .. }
        | DataError::Resize { .. }
        | DataError::SamplerCount { .. } => Code::Internal,
        _ => Code::InvalidData,
    };
    Error::new(code, error.to_string())
}

/// Whatever the engine refuses.
pub fn from_engine(error: EngineError) -> Error {
    let code = match error {
        EngineError::File(error) => return from_format(error),
        EngineError::Graph(ref error) => of_graph(error),
        EngineError::Onnx(_) => Code::InvalidGraph,
        EngineError::Argument { .. }
        | EngineError::Algorithm { .. }
        | EngineError::Length { .. }
        | EngineError::Memory { .. }
        | EngineError::Isa(_) => Code::InvalidArgument,
        EngineError::Label { .. } => Code::InvalidData,
        EngineError::Plan(_) => Code::Internal,
        EngineError::NotFinite { .. } => Code::NotFinite,
        EngineError::Weights(_) | EngineError::Checkpoint { .. } => Code::InvalidWeights,
    };
    Error::new(code, error.to_string())
}

/// Whether a definition is wrong by its options, by sizes that do not fit, or in what it is.
fn of_graph(error: &GraphError) -> Code {
    match error {
        GraphError::Hyperparameter { .. }
        | GraphError::Size { .. }
        | GraphError::Number { .. }
        | GraphError::LossWeight { .. } => Code::InvalidArgument,
        GraphError::Shape { .. }
        | GraphError::Inputs { .. }
        | GraphError::TooLarge { .. }
        | GraphError::Refused { .. } => Code::InvalidShape,
        _ => Code::InvalidGraph,
    }
}

/// The error of a promise. napi's promises reject with its own status names as codes, except
/// when the error retains a JavaScript value: so the value is built here, with our code.
/// Must be called on the JavaScript thread.
pub fn rejection(env: Env, error: Error) -> napi::Error {
    napi::Error::from(JsError::from(error).into_unknown(env))
}

/// An [`Code::Internal`] error that carries the message of a caught panic.
pub fn from_panic(payload: &(dyn std::any::Any + Send)) -> Error {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message");
    Error::new(Code::Internal, format!("Expected the native code to finish but it failed: {message}."))
}
