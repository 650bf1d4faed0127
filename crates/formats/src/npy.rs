//! NPY, NumPy's format for one array.
//!
//! The magic bytes, a version, and a header that is a Python dictionary of `descr` (byte order, kind and size
//! of an element), `fortran_order` and `shape`; then the elements. Versions 1 to 3 are read, in either byte
//! order; version 1 is written, little-endian.
//!
//! Source: `numpy.lib.format`.

use std::{
    io::{self, Read, Write},
    path::Path,
};

use crate::{FormatError, atomic, error::excerpt, source::Source};

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// The longest header read, in bytes; NumPy's own limit is 10000.
const HEADER_LIMIT: usize = 1 << 16;

/// An array of any element type that is read here.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// The length of each dimension, the slowest first; empty for a single number.
    pub shape: Vec<usize>,
    /// The elements in C order.
    pub values: Values,
}

/// The elements of an [`Array`], of the type that the file has.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // each variant is the element type it is named after
pub enum Values {
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Values {
    /// NumPy's name of the element type, `float32` for example.
    pub fn name(&self) -> &'static str {
        match self {
            Values::U8(_) => "uint8",
            Values::U16(_) => "uint16",
            Values::U32(_) => "uint32",
            Values::U64(_) => "uint64",
            Values::I8(_) => "int8",
            Values::I16(_) => "int16",
            Values::I32(_) => "int32",
            Values::I64(_) => "int64",
            Values::F32(_) => "float32",
            Values::F64(_) => "float64",
        }
    }
}

/// Reads an NPY file of integers or floating-point numbers.
///
/// Errors: another element type, Fortran order, a length that is not the header's, and what the operating
/// system refuses.
pub fn read(path: &Path) -> Result<Array, FormatError> {
    decode(Source::open(path)?)
}

/// Parses NPY bytes as [`read`] does; `file` names them in errors.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Array, FormatError> {
    decode(Source::memory(file, bytes))
}

/// Writes an array of `f32` in C order as an NPY file, whole or not at all, and returns its length in bytes.
///
/// Errors: a number of values that is not the shape's, and what the operating system refuses.
pub fn write(path: &Path, shape: &[usize], values: &[f32]) -> Result<u64, FormatError> {
    let count = shape.iter().try_fold(1usize, |count, &side| count.checked_mul(side));
    let header = header(shape);
    if count != Some(values.len()) || header.len() > HEADER_LIMIT {
        let (file, received) = (path.display().to_string(), values.len().to_string());
        return Err(FormatError::content(&file, format!("the values of the shape {shape:?}"), received));
    }
    atomic::write(path, |writer| {
        writer.write_all(&header)?;
        write_f32(writer, values)
    })
}

/// Writes values as little-endian bytes.
pub(crate) fn write_f32(writer: &mut dyn Write, values: &[f32]) -> io::Result<()> {
    if cfg!(target_endian = "little") {
        return writer.write_all(bytemuck::cast_slice(values));
    }
    values.iter().try_for_each(|value| writer.write_all(&value.to_le_bytes()))
}

/// Everything before the elements: 64-byte aligned, as NumPy writes it.
fn header(shape: &[usize]) -> Vec<u8> {
    let mut sides: String = shape.iter().map(|side| format!("{side}, ")).collect();
    if shape.len() > 1 {
        sides.truncate(sides.len() - 2);
    } else {
        sides = sides.trim_end().to_owned(); // a tuple of one keeps its comma
    }
    let dictionary = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sides}), }}");
    let length = (MAGIC.len() + 4 + dictionary.len() + 1).next_multiple_of(64);
    let mut header = [MAGIC.as_slice(), &[1, 0]].concat();
    header.extend(((length - MAGIC.len() - 4) as u16).to_le_bytes());
    header.extend(dictionary.bytes());
    header.resize(length - 1, b' ');
    header.push(b'\n');
    header
}

fn decode(mut source: Source<impl Read>) -> Result<Array, FormatError> {
    let prefix: [u8; 8] = source.array()?;
    let length = match prefix {
        [magic @ .., 1, 0] if magic == *MAGIC => u16::from_le_bytes(source.array()?) as usize,
        [magic @ .., 2 | 3, 0] if magic == *MAGIC => u32::from_le_bytes(source.array()?) as usize,
        [magic @ .., major, minor] if magic == *MAGIC => {
            return Err(source.error("NPY version 1, 2 or 3", format!("version {major}.{minor}")));
        }
        _ => return Err(source.error("an NPY file", format!("the first bytes {prefix:02x?}"))),
    };
    if length > HEADER_LIMIT {
        let expected = format!("an NPY header of at most {HEADER_LIMIT} bytes");
        return Err(source.error(expected, format!("{length}")));
    }
    let text = String::from_utf8_lossy(&source.bytes(length)?).into_owned();
    let Some(Header { descr, fortran_order, shape }) = Header::parse(&text) else {
        return Err(source.error("an NPY header with descr, fortran_order and shape", excerpt(&text)));
    };
    if fortran_order && shape.len() > 1 {
        return Err(source.error("C order, as numpy.ascontiguousarray makes it,", "Fortran order"));
    }
    let values = values(&mut source, &descr, &shape)?;
    Ok(Array { shape, values })
}

fn values(source: &mut Source<impl Read>, descr: &str, shape: &[usize]) -> Result<Values, FormatError> {
    let (order, element) = descr.split_at_checked(1).unwrap_or_default();
    let big_endian = order == ">";
    let known_order = matches!(order, "<" | ">") || order == "|" && element.ends_with('1');
    Ok(match element {
        _ if !known_order => return Err(unreadable(source, descr)),
        "u1" => Values::U8(source.values(shape, big_endian)?),
        "u2" => Values::U16(source.values(shape, big_endian)?),
        "u4" => Values::U32(source.values(shape, big_endian)?),
        "u8" => Values::U64(source.values(shape, big_endian)?),
        "i1" => Values::I8(source.values(shape, big_endian)?),
        "i2" => Values::I16(source.values(shape, big_endian)?),
        "i4" => Values::I32(source.values(shape, big_endian)?),
        "i8" => Values::I64(source.values(shape, big_endian)?),
        "f4" => Values::F32(source.values(shape, big_endian)?),
        "f8" => Values::F64(source.values(shape, big_endian)?),
        _ => return Err(unreadable(source, descr)),
    })
}

fn unreadable(source: &Source<impl Read>, descr: &str) -> FormatError {
    source.error("elements of 1 to 8 byte integers, float32 or float64", format!("dtype {}", excerpt(descr)))
}

/// The dictionary in front of the elements.
struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Reads the dictionary; `None` where it is not Python, or has other keys than the three, or not each once.
    fn parse(text: &str) -> Option<Header> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        let mut python = Python { rest: text };
        python.symbol('{')?;
        while python.symbol('}').is_none() {
            let key = python.string()?;
            python.symbol(':')?;
            let earlier = match key {
                "descr" => descr.replace(python.string()?).is_some(),
                "fortran_order" => fortran_order.replace(python.boolean()?).is_some(),
                "shape" => shape.replace(python.shape()?).is_some(),
                _ => return None,
            };
            if earlier {
                return None;
            }
            if python.symbol(',').is_none() {
                python.symbol('}')?;
                break;
            }
        }
        let whole = python.rest.trim_ascii_start().is_empty();
        let header = Header { descr: descr?.to_owned(), fortran_order: fortran_order?, shape: shape? };
        whole.then_some(header)
    }
}

/// What is left of a text of Python literals; each method takes one off the front, or nothing and returns
/// `None`.
struct Python<'a> {
    rest: &'a str,
}

impl<'a> Python<'a> {
    fn symbol(&mut self, symbol: char) -> Option<()> {
        self.rest = self.rest.trim_ascii_start().strip_prefix(symbol)?;
        Some(())
    }

    /// A string without escapes, in either kind of quotes.
    fn string(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_ascii_start();
        let quote = text.chars().next().filter(|first| matches!(first, '\'' | '"'))?;
        let (string, rest) = text[1..].split_once(quote)?;
        self.rest = rest;
        Some(string)
    }

    fn boolean(&mut self) -> Option<bool> {
        let text = self.rest.trim_ascii_start();
        let (value, rest) = match text.strip_prefix("True") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("False")?),
        };
        self.rest = rest;
        Some(value)
    }

    /// A tuple of integers; Python 2 wrote an `L` behind each on some systems.
    fn shape(&mut self) -> Option<Vec<usize>> {
        let mut shape = Vec::new();
        self.symbol('(')?;
        while self.symbol(')').is_none() {
            let text = self.rest.trim_ascii_start();
            let digits = text.find(|c: char| !c.is_ascii_digit())?;
            shape.push(text[..digits].parse().ok()?);
            self.rest = text[digits..].strip_prefix('L').unwrap_or(&text[digits..]);
            if self.symbol(',').is_none() {
                self.symbol(')')?;
                break;
            }
        }
        Some(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What NumPy 2.4 writes: the header padded with spaces to 128 bytes in all.
    fn numpy(dictionary: &str, elements: &[u8]) -> Vec<u8> {
        let text = format!("{dictionary:<117}\n");
        [b"\x93NUMPY\x01\x00\x76\x00", text.as_bytes(), elements].concat()
    }

    fn array(descr: &str, shape: &str, elements: &[u8]) -> Result<Array, FormatError> {
        let dictionary = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        parse("x.npy", &numpy(&dictionary, elements))
    }

    fn refusal(bytes: &[u8]) -> String {
        parse("x.npy", bytes).unwrap_err().to_string()
    }

    #[test]
    fn every_element_type_is_read_in_both_byte_orders() {
        let one = |descr: &str, elements: &[u8]| array(descr, "(1,)", elements).unwrap().values;
        assert_eq!(one("|u1", &[200]), Values::U8(vec![200]));
        assert_eq!(one("|i1", &[200]), Values::I8(vec![-56]));
        let (value, low, high) = (-2i64, (-2i64).to_le_bytes(), (-2i64).to_be_bytes());
        for (order, bytes, first) in [("<", low, 0), (">", high, 8)] {
            let integer = |kind: &str, size: usize| {
                let start = if first == 0 { 0 } else { first - size };
                one(&format!("{order}{kind}{size}"), &bytes[start..start + size])
            };
            assert_eq!(integer("i", 2), Values::I16(vec![value as i16]));
            assert_eq!(integer("i", 4), Values::I32(vec![value as i32]));
            assert_eq!(integer("i", 8), Values::I64(vec![value]));
            assert_eq!(integer("u", 2), Values::U16(vec![value as u16]));
            assert_eq!(integer("u", 4), Values::U32(vec![value as u32]));
            assert_eq!(integer("u", 8), Values::U64(vec![value as u64]));
        }
        assert_eq!(one("<f4", &1.5f32.to_le_bytes()), Values::F32(vec![1.5]));
        assert_eq!(one(">f4", &1.5f32.to_be_bytes()), Values::F32(vec![1.5]));
        assert_eq!(one("<f8", &1.1f64.to_le_bytes()), Values::F64(vec![1.1]));
        assert_eq!(one(">f8", &1.1f64.to_be_bytes()), Values::F64(vec![1.1]));
    }

    #[test]
    fn several_big_endian_elements_are_each_swapped() {
        let read = array(">i2", "(3,)", &[0, 0, 0, 1, 0, 2]).unwrap();
        assert_eq!(read, Array { shape: vec![3], values: Values::I16(vec![0, 1, 2]) });
    }

    #[test]
    fn single_numbers_and_empty_arrays_are_arrays() {
        let single = array("<f8", "()", &2.5f64.to_le_bytes()).unwrap();
        assert_eq!(single, Array { shape: vec![], values: Values::F64(vec![2.5]) });
        let empty = array("|u1", "(0, 3)", &[]).unwrap();
        assert_eq!(empty, Array { shape: vec![0, 3], values: Values::U8(vec![]) });
    }

    #[test]
    fn headers_of_versions_two_and_three_and_of_python_two_are_read() {
        let dictionary = b"{\"shape\": (2L,), 'fortran_order': False , 'descr': \"|u1\"}\n";
        for version in [2, 3] {
            let length = (dictionary.len() as u32).to_le_bytes();
            let bytes = [MAGIC.as_slice(), &[version, 0], &length, dictionary, &[7, 8]].concat();
            let expected = Array { shape: vec![2], values: Values::U8(vec![7, 8]) };
            assert_eq!(parse("x.npy", &bytes).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_written_is_byte_for_byte_what_numpy_writes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.npy");
        let values = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        let elements: &[u8] = bytemuck::cast_slice(&values);
        for (shape, text) in [(&[2, 3][..], "(2, 3)"), (&[6], "(6,)"), (&[1, 2, 3], "(1, 2, 3)")] {
            let bytes = write(&path, shape, &values).unwrap();
            let dictionary = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {text}, }}");
            assert_eq!(std::fs::read(&path).unwrap(), numpy(&dictionary, elements));
            assert_eq!(bytes, 128 + 24);
            let read = read(&path).unwrap();
            assert_eq!(read, Array { shape: shape.to_vec(), values: Values::F32(values.to_vec()) });
        }
        write(&path, &[], &values[..1]).unwrap();
        assert!(read(&path).unwrap().shape.is_empty());
    }

    #[test]
    fn writing_values_that_do_not_fill_the_shape_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.npy");
        let message = write(&path, &[2, 2], &[0.0; 3]).unwrap_err().to_string();
        assert!(message.starts_with("Expected the values of the shape [2, 2] for"), "{message}");
        assert!(message.ends_with("but received 3."), "{message}");
        assert!(write(&path, &[usize::MAX, 2], &[0.0; 3]).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn a_file_cut_or_lengthened_anywhere_is_refused_with_both_lengths() {
        let whole = numpy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", &[0; 24]);
        for length in 0..whole.len() {
            let message = refusal(&whole[..length]);
            assert!(message.ends_with(&format!("but received {length}.")), "{message}");
        }
        let message = refusal(&[whole, vec![0]].concat());
        assert_eq!(message, "Expected 152 bytes for the shape [2, 3] of \"x.npy\" but received 153.");
    }

    #[test]
    fn billions_of_elements_in_a_small_file_take_no_memory() {
        let message = |shape: &str| array("<f8", shape, &[0; 16]).unwrap_err().to_string();
        assert!(message("(4000000000,)").starts_with("Expected 32000000128 bytes"));
        for shape in ["(4294967296, 4294967296)", "(1152921504606846976,)", "(0, 9223372036854775807, 3)"] {
            assert!(message(shape).starts_with("Expected a shape of less than 2^63 bytes"), "{shape}");
        }
        assert!(message("(18446744073709551616,)").starts_with("Expected an NPY header with"));
        let header = [MAGIC.as_slice(), &[2, 0], &[0xff; 4]].concat();
        assert_eq!(
            refusal(&header),
            "Expected an NPY header of at most 65536 bytes for \"x.npy\" but received 4294967295."
        );
    }

    #[test]
    fn fortran_order_is_refused_where_order_matters() {
        let fortran = |shape: &str| {
            let dictionary = format!("{{'descr': '|u1', 'fortran_order': True, 'shape': {shape}, }}");
            parse("x.npy", &numpy(&dictionary, &[0; 4]))
        };
        assert_eq!(
            fortran("(2, 2)").unwrap_err().to_string(),
            "Expected C order, as numpy.ascontiguousarray makes it, for \"x.npy\" but received Fortran order."
        );
        assert_eq!(fortran("(4,)").unwrap().shape, [4]);
    }

    #[test]
    fn other_element_types_are_refused_by_name() {
        for descr in ["<f2", "|b1", "<c8", "|O", "<U3", "<M8[s]", "=f4", "|f4", "f4", "", "é4", "<"] {
            let message = array(descr, "(1,)", &[0; 4]).unwrap_err().to_string();
            let expected = format!("but received dtype \"{descr}\".");
            assert!(message.ends_with(&expected), "{message}");
        }
        assert!(
            refusal(&numpy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", &[0; 4]))
                .contains("[(")
        );
    }

    #[test]
    fn headers_that_are_not_the_dictionary_are_refused() {
        for header in [
            "",
            "{}",
            "{'descr': '<f4'}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} 7",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'shape': (1,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': (1,)}",
            "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (,)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': 1}",
            "((((((((((((((((((((((((((((((((((((((((",
            "\u{1b}[31mred",
        ] {
            let message = refusal(&numpy(header, &[0; 4]));
            assert!(message.starts_with("Expected an NPY header with"), "{header}: {message}");
            assert!(!message.contains('\u{1b}'));
        }
        assert!(
            refusal(b"PK\x03\x04 a zip archive")
                .starts_with("Expected an NPY file for \"x.npy\" but received")
        );
        assert!(refusal(b"\x93NUMPY\x09\x00\x00\x00").ends_with("received version 9.0."));
    }

    #[test]
    fn no_flipped_bit_makes_the_parser_panic() {
        let whole = numpy("{'descr': '<i2', 'fortran_order': False, 'shape': (2, 3), }", &[0; 12]);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match parse("x.npy", &bytes) {
                Ok(array) => assert_eq!(array.shape.iter().product::<usize>(), 6, "bit {bit}"),
                Err(error) => assert!(error.to_string().contains("\"x.npy\""), "bit {bit}"),
            }
        }
    }

    #[test]
    fn no_random_header_makes_the_parser_panic() {
        // Pieces of the grammar in random order: far more of them get past the first byte than of random bytes.
        let pieces = [
            "{",
            "}",
            "'",
            "\"",
            "descr",
            "fortran_order",
            "shape",
            ":",
            ",",
            "(",
            ")",
            "True",
            "False",
            " ",
            "1",
            "0",
            "99999999999999999999",
            "L",
            "-",
            "<f4",
            "|u1",
            ">",
            "é",
            "'descr': '<f4'",
            "'shape': (1,)",
            "'fortran_order': False",
        ];
        let mut state = 1u64;
        let mut random = |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        for _ in 0..20_000 {
            let text: String = (0..random(12)).map(|_| pieces[random(pieces.len())]).collect();
            let length = (text.len() as u16).to_le_bytes();
            let bytes = [MAGIC.as_slice(), &[1, 0], &length, text.as_bytes(), &[0; 4]].concat();
            if let Ok(array) = parse("x.npy", &bytes) {
                assert!(array.shape.iter().product::<usize>() <= 4, "{text}");
            }
        }
    }
}
