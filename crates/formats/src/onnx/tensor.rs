//! The values of a tensor: typed, raw or in another file, checked against the shape before memory is taken for
//! them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{File, Tensor, data_type, read};
use crate::{
    FormatError,
    error::excerpt,
    safetensors::{elements, half_to_f32},
    source,
};

/// Most dimensions of a tensor, as NumPy has it.
pub const MOST_DIMENSIONS: usize = 64;

/// The values of a tensor in C order.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Of any floating-point type.
    Floats(Vec<f32>),
    /// Of any integer type, or booleans as 0 and 1.
    Integers(Vec<i64>),
}

impl File {
    /// The shape of a tensor.
    ///
    /// Errors: a negative length, more dimensions than NumPy has, and more elements than could be addressed.
    pub fn shape(&self, tensor: &Tensor) -> Result<Vec<usize>, FormatError> {
        let refused = || {
            let expected = format!("a shape of less than 2^40 elements in {}", excerpt(&tensor.name));
            self.error(expected, format!("{:?}", &tensor.dims[..tensor.dims.len().min(8)]))
        };
        if tensor.dims.len() > MOST_DIMENSIONS {
            let expected = format!("at most {MOST_DIMENSIONS} dimensions in {}", excerpt(&tensor.name));
            return Err(self.error(expected, tensor.dims.len().to_string()));
        }
        let shape: Result<Vec<_>, _> = tensor.dims.iter().map(|&length| usize::try_from(length)).collect();
        let shape = shape.map_err(|_| refused())?;
        // Sides of zero are left out of the bound: shapes stay harmless to whoever multiplies some of their
        // sides.
        let elements = shape.iter().try_fold(1usize, |count, &length| count.checked_mul(length.max(1)));
        match elements {
            Some(elements) if elements < 1 << 40 => Ok(shape),
            _ => Err(refused()),
        }
    }

    /// The values of a tensor, wherever they are.
    ///
    /// Errors: a type that is no number, values that do not fill the shape, an f64 too large for an f32 or a
    /// u64 too large for an i64, and an external file that is not below the model's directory, cannot be read
    /// or is too short.
    pub fn values(&self, tensor: &Tensor) -> Result<Values, FormatError> {
        let shape = self.shape(tensor)?;
        let count = if shape.contains(&0) { 0 } else { shape.iter().product() };
        let size = size(tensor.data_type).ok_or_else(|| {
            let expected = format!("a tensor of floats or integers in {}", excerpt(&tensor.name));
            self.error(expected, format!("data type {}", tensor.data_type))
        })?;
        match (tensor.data_location, &tensor.raw_data) {
            (0, Some(raw)) if !raw.is_empty() || count == 0 => self.convert(tensor, raw, count * size),
            (0, _) => self.typed(tensor, count),
            (1, _) => self.convert(tensor, &self.external(tensor, count * size)?, count * size),
            (other, _) => {
                let expected = format!("the data location 0 or 1 in {}", excerpt(&tensor.name));
                Err(self.error(expected, other.to_string()))
            }
        }
    }

    /// Values of a known type out of little-endian bytes.
    fn convert(&self, tensor: &Tensor, bytes: &[u8], expected: usize) -> Result<Values, FormatError> {
        self.check_length(tensor, "bytes", expected, bytes.len())?;
        let integers = |values: &mut dyn Iterator<Item = i64>| Values::Integers(values.collect());
        let floats = |values: &mut dyn Iterator<Item = f32>| {
            let mut room = source::room(&self.file, expected / size(tensor.data_type).unwrap_or(1))?;
            room.extend(values);
            Ok(Values::Floats(room))
        };
        Ok(match tensor.data_type {
            data_type::FLOAT => return floats(&mut elements(bytes).map(f32::from_le_bytes)),
            data_type::FLOAT16 => {
                return floats(&mut elements(bytes).map(|half| half_to_f32(u16::from_le_bytes(half))));
            }
            data_type::BFLOAT16 => {
                return floats(&mut elements(bytes).map(|[low, high]| f32::from_le_bytes([0, 0, low, high])));
            }
            data_type::DOUBLE => {
                let values = elements(bytes).map(|value| self.narrow(tensor, f64::from_le_bytes(value)));
                Values::Floats(values.collect::<Result<_, _>>()?)
            }
            data_type::INT64 => integers(&mut elements(bytes).map(i64::from_le_bytes)),
            data_type::INT32 => integers(&mut elements(bytes).map(|value| i32::from_le_bytes(value).into())),
            data_type::INT16 => integers(&mut elements(bytes).map(|value| i16::from_le_bytes(value).into())),
            data_type::INT8 => integers(&mut elements(bytes).map(|value| i8::from_le_bytes(value).into())),
            data_type::UINT32 => integers(&mut elements(bytes).map(|value| u32::from_le_bytes(value).into())),
            data_type::UINT16 => integers(&mut elements(bytes).map(|value| u16::from_le_bytes(value).into())),
            data_type::UINT64 => {
                let values = elements(bytes).map(|value| self.signed(tensor, u64::from_le_bytes(value)));
                Values::Integers(values.collect::<Result<_, _>>()?)
            }
            _ => integers(&mut bytes.iter().map(|&value| value.into())), // UINT8, BOOL
        })
    }

    /// Values out of the field that their type has.
    fn typed(&self, tensor: &Tensor, count: usize) -> Result<Values, FormatError> {
        let check = |received| self.check_length(tensor, "values", count, received);
        let words = &tensor.int32_data;
        Ok(match tensor.data_type {
            data_type::FLOAT => {
                check(tensor.float_data.len())?;
                Values::Floats(tensor.float_data.clone())
            }
            data_type::DOUBLE => {
                check(tensor.double_data.len())?;
                let values = tensor.double_data.iter().map(|&value| self.narrow(tensor, value));
                Values::Floats(values.collect::<Result<_, _>>()?)
            }
            data_type::FLOAT16 => {
                check(words.len())?;
                Values::Floats(words.iter().map(|&bits| half_to_f32(bits as u16)).collect())
            }
            data_type::BFLOAT16 => {
                check(words.len())?;
                Values::Floats(words.iter().map(|&bits| f32::from_bits((bits as u32) << 16)).collect())
            }
            data_type::INT64 => {
                check(tensor.int64_data.len())?;
                Values::Integers(tensor.int64_data.clone())
            }
            data_type::UINT32 | data_type::UINT64 => {
                check(tensor.uint64_data.len())?;
                let values = tensor.uint64_data.iter().map(|&value| self.signed(tensor, value));
                Values::Integers(values.collect::<Result<_, _>>()?)
            }
            _ => {
                check(words.len())?;
                Values::Integers(words.iter().map(|&value| value.into()).collect())
            }
        })
    }

    /// The bytes of a tensor in another file, which must lie below the model's directory.
    fn external(&self, tensor: &Tensor, expected: usize) -> Result<Bytes, FormatError> {
        let entry = |key: &str| {
            tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
        };
        let number = |key: &str| match entry(key).map(str::parse::<u64>) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(_)) => {
                let expected = format!("a whole number as {key} of {}", excerpt(&tensor.name));
                Err(self.error(expected, excerpt(entry(key).unwrap_or_default())))
            }
        };
        let location = entry("location").ok_or_else(|| {
            self.error(format!("the location of the external {}", excerpt(&tensor.name)), "none")
        })?;
        let path = self.resolve(location)?;
        let (file, file_length) = source::open(&path)?;
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?.unwrap_or(file_length.saturating_sub(offset));
        self.check_length(tensor, "bytes", expected, usize::try_from(length).unwrap_or(usize::MAX))?;
        match offset.checked_add(length) {
            Some(end) if end <= file_length => read(&file, &path, offset..end),
            end => Err(FormatError::Truncated {
                file: path.display().to_string(),
                expected: end.unwrap_or(u64::MAX),
                received: file_length,
            }),
        }
    }

    /// The path of an external file: relative, and below the model's directory once links are followed.
    fn resolve(&self, location: &str) -> Result<PathBuf, FormatError> {
        let expected = "external data below the model's directory";
        let refused = || self.error(expected, excerpt(location));
        let Some(directory) = &self.directory else {
            return Err(
                self.error("all values in the model itself", format!("the file {}", excerpt(location)))
            );
        };
        if Path::new(location).is_absolute() {
            return Err(refused());
        }
        let path = directory.join(location);
        let canonical = |path: &Path| fs::canonicalize(path).map_err(FormatError::io("open", path));
        let resolved = canonical(&path)?;
        if resolved.starts_with(canonical(directory)?) { Ok(resolved) } else { Err(refused()) }
    }

    fn check_length(
        &self,
        tensor: &Tensor,
        unit: &str,
        expected: usize,
        received: usize,
    ) -> Result<(), FormatError> {
        if expected == received {
            return Ok(());
        }
        let expected = format!("{expected} {unit} in {} {:?}", excerpt(&tensor.name), tensor.dims);
        Err(self.error(expected, received.to_string()))
    }

    fn narrow(&self, tensor: &Tensor, value: f64) -> Result<f32, FormatError> {
        let narrow = value as f32;
        if value.is_finite() && !narrow.is_finite() {
            let expected = format!("values of at most {:e} in {}", f32::MAX, excerpt(&tensor.name));
            return Err(self.error(expected, format!("{value:e}")));
        }
        Ok(narrow)
    }

    fn signed(&self, tensor: &Tensor, value: u64) -> Result<i64, FormatError> {
        i64::try_from(value).map_err(|_| {
            self.error(format!("values below 2^63 in {}", excerpt(&tensor.name)), value.to_string())
        })
    }
}

/// Bytes of an element of a type that is read.
fn size(data_type: i32) -> Option<usize> {
    Some(match data_type {
        data_type::UINT8 | data_type::INT8 | data_type::BOOL => 1,
        data_type::UINT16 | data_type::INT16 | data_type::FLOAT16 | data_type::BFLOAT16 => 2,
        data_type::FLOAT | data_type::INT32 | data_type::UINT32 => 4,
        data_type::DOUBLE | data_type::INT64 | data_type::UINT64 => 8,
        _ => return None,
    })
}
