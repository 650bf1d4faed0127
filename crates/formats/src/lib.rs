//! safetensors, ONNX, NPY and IDX: parse and write, no engine knowledge.
//!
//! A file is never believed: every length it states is compared with what is there before memory is taken for
//! it, and what does not fit is a [`FormatError`] that names the file, what was expected and what was found.
//! Files are written through [`atomic::write`], so a reader sees the earlier file or the new one and nothing
//! between.

pub mod atomic;
mod error;
pub mod idx;
pub mod npy;
pub mod onnx;
pub mod safetensors;
mod source;

pub use error::{FormatError, excerpt};
