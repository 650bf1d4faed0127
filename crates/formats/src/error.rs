//! What can be wrong with a file.

use std::{io, path::Path};

/// Why a file could not be read or written; one sentence when displayed.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The operating system refused.
    #[error("Could not {action} \"{file}\": {source}.")]
    Io {
        /// The file's path.
        file: String,
        /// What was tried, a verb: `open`, `read`, `write`.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file ends too early.
    #[error("Expected at least {expected} bytes for \"{file}\" but received {received}.")]
    Truncated {
        /// The file's path.
        file: String,
        /// The fewest bytes that the part being read needs, counted from the file's beginning.
        expected: u64,
        /// The file's length in bytes.
        received: u64,
    },
    /// The file's length is not the one that its shape asks for.
    #[error("Expected {expected} bytes for the shape {shape:?} of \"{file}\" but received {received}.")]
    Length {
        /// The file's path.
        file: String,
        /// The shape that the file's header states.
        shape: Vec<usize>,
        /// The bytes that a file of this shape has, header included.
        expected: u64,
        /// The file's length in bytes.
        received: u64,
    },
    /// The file says something else than the format allows or the reader takes.
    #[error("Expected {expected} for \"{file}\" but received {received}.")]
    Content {
        /// The file's path.
        file: String,
        /// What is allowed.
        expected: String,
        /// What the file says.
        received: String,
    },
}

impl FormatError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FormatError {
        move |source| FormatError::Io { file: path.display().to_string(), action, source }
    }

    /// Content that the format or its reader does not allow: `Expected {expected} for "{file}" but received
    /// {received}.`
    pub fn content(file: &str, expected: impl Into<String>, received: impl Into<String>) -> FormatError {
        FormatError::Content { file: file.to_owned(), expected: expected.into(), received: received.into() }
    }
}

/// Text out of a file as an error message can bear it: quoted, without control characters, at most 80
/// characters.
pub fn excerpt(text: &str) -> String {
    let mut short = String::from('"');
    for (index, character) in text.trim_end().chars().enumerate() {
        match character {
            _ if index == 80 => {
                short.push_str("...");
                break;
            }
            '\'' | '"' => short.push(character),
            _ => short.extend(character.escape_debug()),
        }
    }
    short + "\""
}
