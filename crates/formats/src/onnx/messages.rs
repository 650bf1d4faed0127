//! The messages of `onnx.proto` that networks of one graph are made of, under the same names without `Proto`.
//!
//! Fields that are not listed are skipped when a file is read. What a writer must state even where it is zero
//! is an `Option`.
//!
//! Source: <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>.

use bytes::Bytes;
use prost::Message;

/// A file: one graph, and the versions of the operators that it is made of.
#[derive(Clone, PartialEq, Message)]
pub struct Model {
    /// Version of the file format itself.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// The program that wrote the file.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// Its version.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// The network.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    /// A version for each domain of operators; the default domain is empty.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
}

/// Version of the operators of a domain.
#[derive(Clone, PartialEq, Message)]
pub struct OperatorSet {
    /// Empty or `ai.onnx` for ONNX's own operators. An option, because readers ask for the default to be
    /// written.
    #[prost(string, optional, tag = "1")]
    pub domain: Option<String>,
    /// The version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// Nodes in topological order, and the constants that they read.
#[derive(Clone, PartialEq, Message)]
pub struct Graph {
    /// The operations.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    /// Name of the network.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Named constants: weights, shapes.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Tensor>,
    /// What the network reads; in old files, its constants too.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfo>,
    /// What it computes.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfo>,
}

/// An operation on named values.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Names of the values read; an empty name leaves an optional one out.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of the values written.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// May be empty.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The operator, `Conv` for example.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Hyperparameters.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    /// The operator's domain, empty for ONNX's own.
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// A named hyperparameter; `r#type` says which of the other fields holds it.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// A number.
    #[prost(float, optional, tag = "2")]
    pub f: Option<f32>,
    /// A whole number.
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    /// Text in UTF-8.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub s: Option<Bytes>,
    /// A tensor.
    #[prost(message, optional, tag = "5")]
    pub t: Option<Tensor>,
    /// Numbers.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// Whole numbers.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// One of [`attribute_type`], or 0 in files that are old.
    #[prost(int32, tag = "20")]
    pub r#type: i32,
}

/// The kinds of [`Attribute::type`] that are written.
#[allow(missing_docs)] // each is named after what it is the kind of
pub mod attribute_type {
    pub const FLOAT: i32 = 1;
    pub const INT: i32 = 2;
    pub const STRING: i32 = 3;
    pub const TENSOR: i32 = 4;
    pub const FLOATS: i32 = 6;
    pub const INTS: i32 = 7;
}

/// A constant: its values are in `raw_data`, in the field of its type, or in another file.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    /// Length of each dimension, the slowest first; none for a single number.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// One of [`data_type`].
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// `FLOAT`.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// `INT32` and all that is smaller; halves by their bits.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// `INT64`.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// Its name, for initializers.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Any type, little-endian.
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub raw_data: Option<Bytes>,
    /// `DOUBLE`.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// `UINT32` and `UINT64`.
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    /// `location`, `offset` and `length` of values in another file.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntry>,
    /// 1 where the values are in another file.
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

/// The element types of [`Tensor::data_type`] and [`TensorType::elem_type`] that are read.
#[allow(missing_docs)] // each is named after the type it stands for
pub mod data_type {
    pub const FLOAT: i32 = 1;
    pub const UINT8: i32 = 2;
    pub const INT8: i32 = 3;
    pub const UINT16: i32 = 4;
    pub const INT16: i32 = 5;
    pub const INT32: i32 = 6;
    pub const INT64: i32 = 7;
    pub const BOOL: i32 = 9;
    pub const FLOAT16: i32 = 10;
    pub const DOUBLE: i32 = 11;
    pub const UINT32: i32 = 12;
    pub const UINT64: i32 = 13;
    pub const BFLOAT16: i32 = 16;
}

/// A key and its value.
#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntry {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Name and type of an input or output.
#[derive(Clone, PartialEq, Message)]
pub struct ValueInfo {
    /// The value's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<Type>,
}

/// What a value is; absent for anything but a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct Type {
    /// A tensor.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorType>,
}

/// Element type and shape of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct TensorType {
    /// One of [`data_type`].
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// Absent where even the number of dimensions is not known.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

/// The dimensions of a tensor.
#[derive(Clone, PartialEq, Message)]
pub struct Shape {
    /// The slowest first.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<Dimension>,
}

/// The length of a dimension: a number, a name, or nothing where it is not known.
#[derive(Clone, PartialEq, Message)]
pub struct Dimension {
    /// The length.
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
    /// What stands for it: `batch` for example.
    #[prost(string, optional, tag = "2")]
    pub dim_param: Option<String>,
}
