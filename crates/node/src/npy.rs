//! NumPy's array files, for raw tensors in and out.

use std::path::Path;

use fovea_formats::npy::{self, Values};
use napi::bindgen_prelude::{
    AsyncTask, BigInt64Array, BigUint64Array, Either10, Float32Array, Float64Array, Int8Array, Int16Array,
    Int32Array, Uint8Array, Uint16Array, Uint32Array,
};
use napi_derive::napi;

use crate::background::{Background, background};
use crate::error::{Result, from_format};
use crate::options;

/// The elements of an array, in the typed array of its NumPy type.
type Elements = Either10<
    Float32Array,
    Uint8Array,
    Float64Array,
    Uint16Array,
    Uint32Array,
    BigUint64Array,
    Int8Array,
    Int16Array,
    Int32Array,
    BigInt64Array,
>;

/// An array as it stands in an NPY file, in C order.
#[napi(object)]
pub struct NpyArray {
    /// The length of each dimension, the slowest first; empty for a single number.
    pub shape: Vec<f64>,
    /// NumPy's name of the element type, `float32` for example.
    pub dtype: String,
    /// The elements.
    #[napi(
        ts_type = "Float32Array | Uint8Array | Float64Array | Uint16Array | Uint32Array | BigUint64Array | Int8Array | Int16Array | Int32Array | BigInt64Array"
    )]
    pub data: Elements,
}

/// Reads an NPY file.
///
/// @param path the file: C order, integers of 8 to 64 bits, f32 or f64
/// @throws `IO` when it cannot be read, `INVALID_DATA` when it is not such a file
#[napi(catch_unwind, ts_return_type = "Promise<NpyArray>")]
pub fn read_npy(path: String) -> AsyncTask<Background<NpyArray>> {
    background(move || npy::read(Path::new(&path)).map(NpyArray::from).map_err(from_format))
}

/// Writes an NPY file of f32: to a temporary file, synced, renamed.
///
/// @param data the elements in C order
/// @param shape the length of each dimension
/// @throws `IO` when it cannot be written, `INVALID_DATA` when the shape does not fit the data
#[napi(catch_unwind, ts_return_type = "Promise<void>")]
pub fn write_npy(path: String, data: Float32Array, shape: Vec<f64>) -> Result<AsyncTask<Background<()>>> {
    let shape = options::shape(&shape, 0)?;
    let values = data.to_vec(); // JavaScript may change its array while the file is written
    Ok(background(move || npy::write(Path::new(&path), &shape, &values).map(drop).map_err(from_format)))
}

impl From<npy::Array> for NpyArray {
    fn from(array: npy::Array) -> Self {
        let dtype = array.values.name().to_owned();
        let data = match array.values {
            Values::F32(values) => Either10::A(values.into()),
            Values::U8(values) => Either10::B(values.into()),
            Values::F64(values) => Either10::C(values.into()),
            Values::U16(values) => Either10::D(values.into()),
            Values::U32(values) => Either10::E(values.into()),
            Values::U64(values) => Either10::F(values.into()),
            Values::I8(values) => Either10::G(values.into()),
            Values::I16(values) => Either10::H(values.into()),
            Values::I32(values) => Either10::I(values.into()),
            Values::I64(values) => Either10::J(values.into()),
        };
        Self { shape: array.shape.into_iter().map(|length| length as f64).collect(), dtype, data }
    }
}
