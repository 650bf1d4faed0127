//! ONNX: a network as operators on named tensors, in protocol buffers.
//!
//! `messages` has the parts of a file, `scan` counts them before they are read, `tensor` reads their values.
//! What the operators mean is not known here.
//!
//! Source: <https://onnx.ai/onnx/repo-docs/IR.html>.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use prost::Message;

use crate::{FormatError, atomic, source};

mod messages;
mod scan;
mod tensor;
#[cfg(test)]
mod tests;

pub use messages::{
    Attribute, Dimension, Graph, Model, Node, OperatorSet, Shape, StringStringEntry, Tensor, TensorType,
    Type, ValueInfo, attribute_type, data_type,
};
pub use tensor::{MOST_DIMENSIONS, Values};

/// The longest file that readers of protocol buffers take, in bytes.
const LONGEST: usize = i32::MAX as usize;

/// A model and where it came from, which its external tensors are looked for beside.
#[derive(Debug)]
pub struct File {
    file: String,
    /// Where external tensors are; without one there are none.
    directory: Option<PathBuf>,
    /// What the file says.
    pub model: Model,
}

impl File {
    /// Reads a file and its structure; external tensors stay where they are until they are asked for.
    ///
    /// Errors: what is no ONNX model, more memory than the system gives, and what the operating system refuses.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let (file, length) = source::open(path)?;
        let bytes = read(&file, path, 0..length)?;
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        Self::read(&path.display().to_string(), bytes, Some(directory.to_owned()))
    }

    /// Reads bytes in memory as [`File::open`] does; `file` names them in errors. They have no external
    /// tensors.
    pub fn parse(file: &str, bytes: impl Into<Bytes>) -> Result<Self, FormatError> {
        Self::read(file, bytes.into(), None)
    }

    fn read(file: &str, bytes: Bytes, directory: Option<PathBuf>) -> Result<Self, FormatError> {
        let length = bytes.len();
        let refused = |received: String| FormatError::content(file, "an ONNX model", received);
        match scan::parts(&bytes) {
            None => return Err(refused(format!("{length} bytes that are no protocol buffer"))),
            Some(parts) if parts > scan::MOST_PARTS => {
                return Err(refused(format!("one of more than {} parts", scan::MOST_PARTS)));
            }
            Some(_) => {}
        }
        let model = Model::decode(bytes).map_err(|error| {
            refused(format!("{length} bytes with the fault {}", crate::excerpt(&error.to_string())))
        })?;
        if model.graph.is_none() {
            return Err(refused(format!("{length} bytes without a graph")));
        }
        Ok(Self { file: file.to_owned(), directory, model })
    }

    /// An error about this file's content.
    pub fn error(&self, expected: impl Into<String>, received: impl Into<String>) -> FormatError {
        FormatError::content(&self.file, expected, received)
    }
}

/// Some bytes of a file.
fn read(mut file: &fs::File, path: &Path, bytes: Range<u64>) -> Result<Bytes, FormatError> {
    let count = usize::try_from(bytes.end - bytes.start).unwrap_or(usize::MAX);
    Ok(source::read_at::<u8>(&path.display().to_string(), &mut file, bytes.start, count)?.into())
}

impl Tensor {
    /// A constant of f32.
    pub fn floats(name: &str, dims: &[usize], values: &[f32]) -> Self {
        let raw = if cfg!(target_endian = "little") {
            Bytes::copy_from_slice(bytemuck::cast_slice(values))
        } else {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        };
        Self::raw(name, dims, data_type::FLOAT, raw)
    }

    /// A constant vector of i64.
    pub fn integers(name: &str, values: &[i64]) -> Self {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::raw(name, &[values.len()], data_type::INT64, raw)
    }

    fn raw(name: &str, dims: &[usize], data_type: i32, raw: Bytes) -> Self {
        let dims = dims.iter().map(|&length| length as i64).collect();
        Self { name: name.to_owned(), dims, data_type, raw_data: Some(raw), ..Self::default() }
    }
}

/// Writes a model whole or not at all, and returns the file's length in bytes.
///
/// Errors: a model of 2 GiB or more, which no reader takes, and what the operating system refuses.
pub fn write(path: &Path, model: &Model) -> Result<u64, FormatError> {
    let length = model.encoded_len();
    if length > LONGEST {
        let file = path.display().to_string();
        return Err(FormatError::content(&file, "a model of less than 2 GiB", format!("{length} bytes")));
    }
    let mut bytes: Vec<u8> = source::room(&path.display().to_string(), length)?;
    model.encode(&mut bytes).map_err(|error| FormatError::io("write", path)(error.into()))?;
    atomic::write(path, |writer| writer.write_all(&bytes))
}
