//! A node of an ONNX graph as its importer asks for it: attributes with their types, errors with its name.

use crate::error::{OnnxError, Result};
use fovea_formats::{
    excerpt,
    onnx::{Attribute, Node, Tensor, attribute_type},
};
use std::cell::RefCell;

/// Longest name of a node that becomes a layer's name.
const LONGEST_NAME: usize = 128;

pub struct Call<'f> {
    pub node: &'f Node,
    /// What messages call it.
    pub name: String,
    pub opset: i64,
    /// Attributes that were asked for.
    read: RefCell<Vec<&'static str>>,
}

impl<'f> Call<'f> {
    pub fn new(node: &'f Node, index: usize, opset: i64) -> Self {
        let names = std::iter::once(&node.name).chain(&node.output);
        let name = names.into_iter().find(|name| usable(name)).cloned();
        let name = name.unwrap_or_else(|| format!("node{index}"));
        Self { node, name, opset, read: RefCell::default() }
    }

    pub fn error(&self, expected: impl Into<String>, received: impl Into<String>) -> OnnxError {
        OnnxError {
            operator: excerpt(&self.node.op_type).trim_matches('"').to_owned(),
            node: self.name.clone(),
            expected: expected.into(),
            received: received.into(),
        }
    }

    /// An error where `holds` is false.
    pub fn require(&self, holds: bool, expected: &str, received: impl std::fmt::Debug) -> Result<()> {
        if holds { Ok(()) } else { Err(self.error(expected, format!("{received:?}")).into()) }
    }

    pub fn int(&self, name: &'static str) -> Result<Option<i64>> {
        self.attribute(name, attribute_type::INT, |attribute| attribute.i)
    }

    pub fn float(&self, name: &'static str) -> Result<Option<f32>> {
        self.attribute(name, attribute_type::FLOAT, |attribute| attribute.f)
    }

    pub fn ints(&self, name: &'static str) -> Result<Option<&'f [i64]>> {
        self.attribute(name, attribute_type::INTS, |attribute| {
            (!attribute.ints.is_empty()).then_some(attribute.ints.as_slice())
        })
    }

    pub fn floats(&self, name: &'static str) -> Result<Option<&'f [f32]>> {
        self.attribute(name, attribute_type::FLOATS, |attribute| {
            (!attribute.floats.is_empty()).then_some(attribute.floats.as_slice())
        })
    }

    pub fn text(&self, name: &'static str) -> Result<Option<&'f str>> {
        let bytes = self.attribute(name, attribute_type::STRING, |attribute| attribute.s.as_deref())?;
        bytes
            .map(|bytes| {
                std::str::from_utf8(bytes)
                    .map_err(|_| self.error(format!("{name} in UTF-8"), "other bytes").into())
            })
            .transpose()
    }

    pub fn tensor(&self, name: &'static str) -> Result<Option<&'f Tensor>> {
        self.attribute(name, attribute_type::TENSOR, |attribute| attribute.t.as_ref())
    }

    /// A whole number that is 0 or 1.
    pub fn flag(&self, name: &'static str) -> Result<bool> {
        let value = self.int(name)?.unwrap_or(0);
        self.require(value == 0 || value == 1, &format!("{name} of 0 or 1"), value)?;
        Ok(value == 1)
    }

    /// An attribute that may only have the value which changes nothing.
    pub fn only(&self, name: &'static str, allowed: i64) -> Result<()> {
        let value = self.int(name)?.unwrap_or(allowed);
        self.require(value == allowed, &format!("{name} of {allowed}"), value)
    }

    /// Refuses attributes that nobody asked for: they would be ignored.
    pub fn finish(&self) -> Result<()> {
        let read = self.read.borrow();
        match self.node.attribute.iter().find(|attribute| !read.contains(&attribute.name.as_str())) {
            None => Ok(()),
            Some(other) => {
                let known = if read.is_empty() {
                    "no attributes".to_owned()
                } else {
                    format!("attributes among {}", read.join(", "))
                };
                Err(self.error(known, excerpt(&other.name)).into())
            }
        }
    }

    /// A dimension counted from the front, or from behind where it is negative.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let positive = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        match usize::try_from(positive) {
            Ok(positive) if positive < rank => Ok(positive),
            _ => Err(self.error(format!("an axis of the {rank} dimensions"), axis.to_string()).into()),
        }
    }

    /// The value of an attribute if it is there; files that leave out zeros say only its type.
    fn attribute<T: Zero>(
        &self,
        name: &'static str,
        kind: i32,
        value: impl Fn(&'f Attribute) -> Option<T>,
    ) -> Result<Option<T>> {
        self.read.borrow_mut().push(name);
        let Some(attribute) = self.node.attribute.iter().find(|attribute| attribute.name == name) else {
            return Ok(None);
        };
        let found = if attribute.r#type == 0 || attribute.r#type == kind { value(attribute) } else { None };
        match found.or_else(|| (attribute.r#type == kind).then(T::zero).flatten()) {
            Some(value) => Ok(Some(value)),
            None => {
                Err(self.error(format!("{name} of type {kind}"), format!("type {}", attribute.r#type)).into())
            }
        }
    }
}

/// Whether a layer can have such a name.
pub fn usable(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST_NAME && !name.contains(char::is_control)
}

/// What a value is where a file says only its type.
trait Zero: Sized {
    fn zero() -> Option<Self>;
}

impl Zero for i64 {
    fn zero() -> Option<Self> {
        Some(0)
    }
}

impl Zero for f32 {
    fn zero() -> Option<Self> {
        Some(0.0)
    }
}

impl Zero for &[f32] {
    fn zero() -> Option<Self> {
        Some(&[])
    }
}

impl Zero for &[i64] {
    fn zero() -> Option<Self> {
        Some(&[])
    }
}

impl Zero for &[u8] {
    fn zero() -> Option<Self> {
        Some(&[])
    }
}

impl Zero for &Tensor {
    fn zero() -> Option<Self> {
        None
    }
}
