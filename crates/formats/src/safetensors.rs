//! safetensors: named tensors and string metadata in one file.
//!
//! A thin layer over the crate of the same name, which checks the header: here tensors are read from their
//! places in the file when they are asked for and given as `f32`, and files are written piece by piece, synced
//! and renamed. Reading converts `F16`, `BF16` and `F64`; tensors are written as `F32` and counts as `I64`, in
//! the order given, so equal contents make equal files.
//!
//! Source: <https://github.com/huggingface/safetensors>.

use std::{
    collections::HashSet,
    fs::File,
    io::{Cursor, Read, Seek},
    path::Path,
    sync::{Mutex, PoisonError},
};

use ::safetensors::{
    Dtype,
    tensor::{Metadata, TensorInfo},
};
use bytemuck::Pod;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::{FormatError, atomic, error::excerpt, npy::write_f32, source};

/// The longest header that readers of the format take, in bytes.
const HEADER_LIMIT: usize = 100_000_000;

/// A safetensors file whose header has been checked against its length.
pub struct SafeTensors<S = File> {
    file: String,
    source: Mutex<S>,
    /// Where the tensors begin, in bytes from the file's beginning.
    start: usize,
    names: Vec<String>,
    header: Metadata,
}

impl SafeTensors<File> {
    /// Opens a file and checks its header; tensors are read from the disk when they are asked for.
    ///
    /// A file that is replaced by a rename meanwhile, as [`write`] does, stays whole. Errors: a header that
    /// does not describe the file, and what the operating system refuses.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let (source, length) = source::open(path)?;
        Self::read(&path.display().to_string(), source, length)
    }
}

impl<B: AsRef<[u8]>> SafeTensors<Cursor<B>> {
    /// Checks the header of bytes in memory as [`SafeTensors::open`] does; `file` names them in errors.
    pub fn parse(file: &str, bytes: B) -> Result<Self, FormatError> {
        let length = bytes.as_ref().len() as u64;
        Self::read(file, Cursor::new(bytes), length)
    }
}

impl<S: Read + Seek> SafeTensors<S> {
    /// Reads the header of a source of so many bytes.
    fn read(file: &str, mut source: S, length: u64) -> Result<Self, FormatError> {
        let refused = |fault: &str| {
            FormatError::content(file, "a safetensors file", format!("{length} bytes with {fault}"))
        };
        const PREFIX: u64 = size_of::<u64>() as u64;
        if length < PREFIX {
            return Err(refused("no header"));
        }
        let prefix: Vec<[u8; PREFIX as usize]> = source::read_at(file, &mut source, 0, 1)?;
        let header: u64 = prefix.into_iter().map(u64::from_le_bytes).sum();
        if header > HEADER_LIMIT as u64 {
            return Err(refused(&format!("a header of more than {HEADER_LIMIT} bytes")));
        }
        if PREFIX + header > length {
            return Err(refused("a header longer than that"));
        }
        let start = (PREFIX + header) as usize;
        let text: Vec<u8> = source::read_at(file, &mut source, PREFIX, header as usize)?;
        // The crate checks each tensor's shape, type and place against each other, and that there is nothing
        // between them.
        let header: Metadata = serde_json::from_slice(&text)
            .map_err(|error| refused(&format!("the fault {}", excerpt(&error.to_string()))))?;
        if start.checked_add(header.data_len()).map(|end| end as u64) != Some(length) {
            return Err(refused("tensors that do not end where the file ends"));
        }
        let names = header.offset_keys();
        Ok(SafeTensors { file: file.to_owned(), source: Mutex::new(source), start, names, header })
    }

    /// The tensors' names in the order of the file.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The string that the file's metadata has under a key.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// The shape of a tensor. Errors: no tensor of that name.
    pub fn shape(&self, name: &str) -> Result<&[usize], FormatError> {
        Ok(&self.info(name)?.shape)
    }

    /// The values of a tensor in C order, converted where they are no `F32`.
    ///
    /// Errors: no tensor of that name, a type other than `F32`, `F16`, `BF16` and `F64`, an `F64` value too
    /// large for an
    /// `f32`, a file that has become shorter, and more memory than the system gives.
    pub fn values(&self, name: &str) -> Result<Vec<f32>, FormatError> {
        let info = self.info(name)?;
        match info.dtype {
            Dtype::F32 => {
                let mut values: Vec<f32> = self.elements(info)?;
                if cfg!(target_endian = "big") {
                    values.iter_mut().for_each(|value| *value = f32::from_bits(value.to_bits().swap_bytes()));
                }
                Ok(values)
            }
            Dtype::F16 => self.convert(info, |half| Ok(half_to_f32(u16::from_le_bytes(half)))),
            Dtype::BF16 => self.convert(info, |[low, high]| Ok(f32::from_le_bytes([0, 0, low, high]))),
            Dtype::F64 => self.convert(info, |value| self.narrow(name, f64::from_le_bytes(value))),
            other => {
                let expected = format!("F32, F16, BF16 or F64 values in {}", excerpt(name));
                Err(FormatError::content(&self.file, expected, other.to_string()))
            }
        }
    }

    /// The single value of an `I64` tensor, a count.
    ///
    /// Errors: no tensor of that name, another type, more or fewer values than one, a file that has become
    /// shorter.
    pub fn count(&self, name: &str) -> Result<i64, FormatError> {
        let info = self.info(name)?;
        if info.dtype == Dtype::I64 && info.shape.iter().product::<usize>() == 1 {
            let values: Vec<[u8; 8]> = self.elements(info)?;
            return Ok(values.into_iter().map(i64::from_le_bytes).sum());
        }
        let expected = format!("a single I64 value in {}", excerpt(name));
        Err(FormatError::content(&self.file, expected, format!("{} values of {:?}", info.dtype, info.shape)))
    }

    /// The elements of a tensor as they are in the file.
    fn elements<T: Pod>(&self, info: &TensorInfo) -> Result<Vec<T>, FormatError> {
        let (begin, end) = info.data_offsets;
        // A reader that panicked left nothing behind but its position.
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        source::read_at(&self.file, &mut *source, (self.start + begin) as u64, (end - begin) / size_of::<T>())
    }

    /// The elements of a tensor, of `N` bytes each, as `f32`.
    fn convert<const N: usize>(
        &self,
        info: &TensorInfo,
        each: impl Fn([u8; N]) -> Result<f32, FormatError>,
    ) -> Result<Vec<f32>, FormatError> {
        let bytes: Vec<u8> = self.elements(info)?;
        let mut values = source::room(&self.file, bytes.len() / N)?;
        elements(&bytes).try_for_each(|element| each(element).map(|value| values.push(value)))?;
        Ok(values)
    }

    fn info(&self, name: &str) -> Result<&TensorInfo, FormatError> {
        self.header.info(name).ok_or_else(|| {
            let received = format!("{} tensors of other names", self.names.len());
            FormatError::content(&self.file, format!("a tensor {}", excerpt(name)), received)
        })
    }

    fn narrow(&self, name: &str, value: f64) -> Result<f32, FormatError> {
        let narrow = value as f32;
        if value.is_finite() && !narrow.is_finite() {
            let expected = format!("values of at most {:e} in {}", f32::MAX, excerpt(name));
            return Err(FormatError::content(&self.file, expected, format!("{value:e}")));
        }
        Ok(narrow)
    }
}

/// The elements of N bytes each.
pub(crate) fn elements<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks().0.iter().copied()
}

/// IEEE 754 half precision: 1 bit of sign, 5 of exponent, 10 of fraction. Every value is exact in `f32`.
pub(crate) fn half_to_f32(half: u16) -> f32 {
    let (exponent, fraction) = ((half >> 10 & 31) as u32, (half & 1023) as u32);
    let magnitude = match exponent {
        0 => fraction as f32 * (1.0 / (1 << 24) as f32),
        31 => f32::from_bits(0xff << 23 | fraction << 13), // infinite or not a number
        _ => f32::from_bits((exponent + 127 - 15) << 23 | fraction << 13),
    };
    if half & 0x8000 == 0 { magnitude } else { -magnitude }
}

/// A tensor to write.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Unlike the other tensors' names, and not `__metadata__`.
    pub name: &'a str,
    /// The length of each dimension, the slowest first.
    pub shape: &'a [usize],
    /// The values in C order.
    pub values: &'a [f32],
}

/// A count to write: an `I64` tensor without dimensions, as PyTorch's `num_batches_tracked`.
#[derive(Clone, Copy, Debug)]
pub struct Count<'a> {
    /// As a tensor's.
    pub name: &'a str,
    /// What was counted.
    pub value: i64,
}

/// Writes tensors, counts and metadata (pairs of key and value) whole or not at all, and returns the file's
/// length in bytes.
///
/// Errors: a name or key given twice, values that do not fill their shape, a header of more than 100 MB, and
/// what the operating system refuses.
pub fn write(
    path: &Path,
    tensors: &[Tensor],
    counts: &[Count],
    metadata: &[(&str, &str)],
) -> Result<u64, FormatError> {
    let invalid = |expected: &str, received: String| {
        FormatError::content(&path.display().to_string(), expected, received)
    };
    let mut header = Header { metadata, tensors: Vec::with_capacity(tensors.len() + counts.len()) };
    let mut names = HashSet::from(["__metadata__"]);
    let of_tensors = tensors.iter().map(|tensor| tensor.name);
    if let Some(name) =
        of_tensors.chain(counts.iter().map(|count| count.name)).find(|name| !names.insert(name))
    {
        return Err(invalid("tensors of different names", format!("{} again", excerpt(name))));
    }
    let mut end = 0;
    for &Tensor { name, shape, values } in tensors {
        if shape.iter().try_fold(1usize, |count, &side| count.checked_mul(side)) != Some(values.len()) {
            let received = format!("{} values in {}", values.len(), excerpt(name));
            return Err(invalid(&format!("the values of the shape {shape:?}"), received));
        }
        let begin = end;
        end += size_of_val(values);
        let info = TensorInfo { dtype: Dtype::F32, shape: shape.to_vec(), data_offsets: (begin, end) };
        header.tensors.push((name, info));
    }
    for &Count { name, .. } in counts {
        let begin = end;
        end += size_of::<i64>();
        header
            .tensors
            .push((name, TensorInfo { dtype: Dtype::I64, shape: vec![], data_offsets: (begin, end) }));
    }
    let keys: HashSet<&str> = metadata.iter().map(|&(key, _)| key).collect();
    if keys.len() < metadata.len() {
        return Err(invalid(
            "metadata of different keys",
            format!("{} keys, {} different", metadata.len(), keys.len()),
        ));
    }

    let mut text =
        serde_json::to_vec(&header).map_err(|error| invalid("tensors to describe", error.to_string()))?;
    text.resize(text.len().next_multiple_of(size_of::<u64>()), b' '); // so the tensors are aligned
    if text.len() > HEADER_LIMIT {
        return Err(invalid("a header of at most 100000000 bytes", text.len().to_string()));
    }
    atomic::write(path, |writer| {
        writer.write_all(&(text.len() as u64).to_le_bytes())?;
        writer.write_all(&text)?;
        tensors.iter().try_for_each(|tensor| write_f32(writer, tensor.values))?;
        counts.iter().try_for_each(|count| writer.write_all(&count.value.to_le_bytes()))
    })
}

/// The header in the order given; the crate's own keeps its metadata in a hash map, whose order differs every
/// time.
struct Header<'a> {
    metadata: &'a [(&'a str, &'a str)],
    tensors: Vec<(&'a str, TensorInfo)>,
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry("__metadata__", &Pairs(self.metadata))?;
        }
        self.tensors.iter().try_for_each(|(name, info)| map.serialize_entry(name, info))?;
        map.end()
    }
}

struct Pairs<'a>(&'a [(&'a str, &'a str)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENSORS: [Tensor; 3] = [
        Tensor { name: "conv1.weight", shape: &[1, 1, 1, 2], values: &[1.5, -2.0] },
        Tensor { name: "conv1.bias", shape: &[1], values: &[f32::MIN_POSITIVE] },
        Tensor { name: "a \"name\"", shape: &[], values: &[3.0] },
    ];
    const COUNTS: [Count; 1] = [Count { name: "bn1.num_batches_tracked", value: -7 }];
    const METADATA: [(&str, &str); 3] = [("format", "pt"), ("b", "{\"json\":[1]}"), ("a", "é\n")];

    fn file() -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        write(&path, &TENSORS, &COUNTS, &METADATA).unwrap();
        (directory, path)
    }

    /// A file of one tensor "x" of any type.
    fn single(dtype: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
        raw(
            &format!(
                "{{\"x\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[0,{}]}}}}",
                elements.len()
            ),
            elements,
        )
    }

    fn raw(header: &str, elements: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), elements].concat()
    }

    fn values(dtype: &str, shape: &str, elements: &[u8]) -> Result<Vec<f32>, FormatError> {
        let bytes = single(dtype, shape, elements);
        SafeTensors::parse("x.safetensors", &bytes)?.values("x")
    }

    fn refusal(bytes: &[u8]) -> String {
        SafeTensors::parse("x.safetensors", bytes).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_back_in_order_with_shapes_values_and_metadata() {
        let (_directory, path) = file();
        let read = SafeTensors::open(&path).unwrap();
        assert_eq!(read.names()[..3], TENSORS.map(|tensor| tensor.name));
        assert_eq!(read.names()[3..], COUNTS.map(|count| count.name));
        assert_eq!(read.count(COUNTS[0].name).unwrap(), COUNTS[0].value);
        assert!(read.shape(COUNTS[0].name).unwrap().is_empty());
        for Tensor { name, shape, values } in TENSORS {
            assert_eq!(read.shape(name).unwrap(), shape);
            assert_eq!(*read.values(name).unwrap(), *values);
        }
        for (key, value) in METADATA {
            assert_eq!(read.metadata(key), Some(value));
        }
        assert_eq!(read.metadata("none"), None);
    }

    #[test]
    fn the_same_tensors_make_the_same_bytes() {
        let ((_one, first), (_two, second)) = (file(), file());
        assert_eq!(std::fs::read(first).unwrap(), std::fs::read(second).unwrap());
    }

    #[test]
    fn a_file_stays_readable_while_it_is_replaced() {
        let (_directory, path) = file();
        let earlier = SafeTensors::open(&path).unwrap();
        write(&path, &[], &[], &[]).unwrap();
        assert_eq!(*earlier.values("conv1.weight").unwrap(), [1.5, -2.0]);
        assert!(SafeTensors::open(&path).unwrap().names().is_empty());
    }

    #[test]
    fn a_file_that_is_shortened_while_it_is_open_is_an_error() {
        let (_directory, path) = file();
        let whole = std::fs::read(&path).unwrap();
        let read = SafeTensors::open(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 12]).unwrap();
        assert_eq!(*read.values("conv1.weight").unwrap(), [1.5, -2.0]);
        let file = path.display();
        let received = whole.len() - 12;
        for (message, missing) in [
            (read.values("a \"name\"").unwrap_err().to_string(), 8),
            (read.count(COUNTS[0].name).unwrap_err().to_string(), 0),
        ] {
            let expected = whole.len() - missing;
            assert_eq!(
                message,
                format!("Expected at least {expected} bytes for \"{file}\" but received {received}.")
            );
        }
    }

    #[test]
    fn unaligned_tensors_are_read_too() {
        for spaces in 0..8 {
            let header = "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
            let bytes = raw(&format!("{header}{}", " ".repeat(spaces)), &1.5f32.to_le_bytes());
            let read = SafeTensors::parse("x.safetensors", &bytes).unwrap();
            assert_eq!(*read.values("x").unwrap(), [1.5]);
        }
    }

    #[test]
    fn every_half_is_converted_exactly() {
        for half in 0..=u16::MAX {
            let sign = if half >> 15 == 0 { 1.0 } else { -1.0 };
            let (exponent, fraction) = ((half >> 10 & 31) as i32, (half & 1023) as f64);
            let expected = match exponent {
                31 if fraction == 0.0 => sign * f64::INFINITY,
                31 => f64::NAN,
                0 => sign * fraction * 2f64.powi(-24),
                _ => sign * (1024.0 + fraction) * 2f64.powi(exponent - 25),
            };
            let value = half_to_f32(half) as f64;
            assert!(
                value.to_bits() == expected.to_bits() || value.is_nan() && expected.is_nan(),
                "{half:04x}"
            );
        }
    }

    #[test]
    fn halves_brain_floats_and_doubles_become_f32() {
        assert_eq!(values("F16", "[2]", &[0x00, 0x3c, 0x00, 0xc0]).unwrap(), [1.0, -2.0]);
        assert_eq!(values("BF16", "[2]", &[0x80, 0x3f, 0x00, 0xc0]).unwrap(), [1.0, -2.0]);
        assert_eq!(values("F64", "[1]", &0.1f64.to_le_bytes()).unwrap(), [0.1]);
        assert!(values("F64", "[1]", &f64::NAN.to_le_bytes()).unwrap()[0].is_nan());
    }

    #[test]
    fn values_that_no_f32_can_hold_and_other_types_are_refused_by_name() {
        let message = |dtype, elements: &[u8]| values(dtype, "[1]", elements).unwrap_err().to_string();
        assert_eq!(
            message("F64", &1e300f64.to_le_bytes()),
            "Expected values of at most 3.4028235e38 in \"x\" for \"x.safetensors\" but received 1e300."
        );
        assert_eq!(
            message("I64", &[0; 8]),
            "Expected F32, F16, BF16 or F64 values in \"x\" for \"x.safetensors\" but received I64."
        );
    }

    #[test]
    fn a_count_is_a_single_whole_number() {
        let count = |dtype, shape, elements: &[u8]| {
            let bytes = single(dtype, shape, elements);
            SafeTensors::parse("x.safetensors", &bytes).unwrap().count("x").map_err(|error| error.to_string())
        };
        assert_eq!(count("I64", "[]", &(1i64 << 40).to_le_bytes()), Ok(1 << 40));
        assert_eq!(count("I64", "[1]", &3i64.to_le_bytes()), Ok(3));
        let refusal = |received| {
            Err(format!(
                "Expected a single I64 value in \"x\" for \"x.safetensors\" but received {received}."
            ))
        };
        assert_eq!(count("I64", "[2]", &[0; 16]), refusal("I64 values of [2]"));
        assert_eq!(count("F64", "[]", &[0; 8]), refusal("F64 values of []"));
        assert_eq!(count("I64", "[0]", &[]), refusal("I64 values of [0]"));
    }

    #[test]
    fn a_tensor_that_is_not_there_is_refused_by_name() {
        let bytes = single("F32", "[1]", &[0; 4]);
        let read = SafeTensors::parse("x.safetensors", &bytes).unwrap();
        let expected = "Expected a tensor \"y\" for \"x.safetensors\" but received 1 tensors of other names.";
        assert_eq!(read.values("y").unwrap_err().to_string(), expected);
        assert_eq!(read.shape("y").unwrap_err().to_string(), expected);
    }

    #[test]
    fn tensors_that_cannot_be_written_are_refused_and_leave_the_earlier_file() {
        let (_directory, path) = file();
        let earlier = std::fs::read(&path).unwrap();
        let x = Tensor { name: "x", shape: &[2], values: &[1.0, 2.0] };
        let refused = |tensors: &[Tensor], metadata: &[(&str, &str)], received: &str| {
            let message = write(&path, tensors, &[Count { name: "count", value: 1 }], metadata)
                .unwrap_err()
                .to_string();
            assert!(message.ends_with(&format!("but received {received}.")), "{message}");
        };
        refused(&[x, x], &[], "\"x\" again");
        refused(&[Tensor { name: "count", ..x }], &[], "\"count\" again");
        refused(&[Tensor { name: "__metadata__", ..x }], &[], "\"__metadata__\" again");
        refused(&[Tensor { shape: &[3], ..x }], &[], "2 values in \"x\"");
        refused(&[Tensor { shape: &[usize::MAX, 4], ..x }], &[], "2 values in \"x\"");
        refused(&[x], &[("a", "1"), ("a", "2")], "2 keys, 1 different");
        assert_eq!(std::fs::read(&path).unwrap(), earlier);
    }

    #[test]
    fn a_file_cut_or_lengthened_anywhere_is_refused() {
        let (_directory, path) = file();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            let message = refusal(&whole[..length]);
            let expected =
                format!("Expected a safetensors file for \"x.safetensors\" but received {length} bytes with");
            assert!(message.starts_with(&expected), "{message}");
        }
        assert!(refusal(&[whole, vec![0]].concat()).contains("do not end where the file ends"));
        let empty = path.with_file_name("empty");
        std::fs::write(&empty, "").unwrap();
        assert!(
            SafeTensors::open(&empty)
                .map(|_| ())
                .unwrap_err()
                .to_string()
                .ends_with("0 bytes with no header.")
        );
    }

    #[test]
    fn huge_lengths_are_refused_without_taking_memory() {
        let claims = |shape: &str, end: &str| {
            raw(
                &format!("{{\"x\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[0,{end}]}}}}"),
                &[0; 4],
            )
        };
        for bytes in [
            claims("[4000000000]", "16000000000"),
            claims("[4000000000]", "4"),
            claims("[18446744073709551615,2]", "4"),
            claims("[4611686018427387904]", "18446744073709551615"),
            claims("[1]", "18446744073709551616"),
            u64::MAX.to_le_bytes().to_vec(),
            99_999_999u64.to_le_bytes().to_vec(),
        ] {
            let message = refusal(&bytes);
            assert!(message.starts_with("Expected a safetensors file"), "{message}");
        }
        let deep = "[".repeat(1 << 20);
        assert!(refusal(&raw(&deep, &[])).starts_with("Expected a safetensors file"));
    }

    #[test]
    fn no_flipped_bit_makes_the_parser_panic() {
        let (_directory, path) = file();
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = SafeTensors::parse("x.safetensors", &bytes) {
                for name in read.names() {
                    let count = read.shape(name).unwrap().iter().product::<usize>();
                    assert!(read.values(name).map_or(true, |values| values.len() == count), "bit {bit}");
                }
            }
        }
    }
}
