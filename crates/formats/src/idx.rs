//! IDX, the format of MNIST: a big-endian header and unsigned bytes.
//!
//! Two zero bytes, the element type (8 is `u8`, the only one read here), the rank, each dimension as a `u32`, then
//! the elements in C order. Images are of rank 3, `[images, height, width]`, and labels of rank 1.
//!
//! Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".

use std::{io::Read, path::Path};

use crate::{FormatError, source::Source};

/// An array of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idx<const RANK: usize> {
    /// The length of each dimension, the slowest first.
    pub shape: [usize; RANK],
    /// The elements in C order.
    pub values: Vec<u8>,
}

/// Reads an IDX file of `u8` elements and a known rank.
///
/// Errors: another type or rank, a length that is not the header's, a file compressed with gzip, and what the
/// operating system refuses.
pub fn read<const RANK: usize>(path: &Path) -> Result<Idx<RANK>, FormatError> {
    decode(Source::open(path)?)
}

/// Parses IDX bytes as [`read`] does; `file` names them in errors.
pub fn parse<const RANK: usize>(file: &str, bytes: &[u8]) -> Result<Idx<RANK>, FormatError> {
    decode(Source::memory(file, bytes))
}

fn decode<const RANK: usize>(mut source: Source<impl Read>) -> Result<Idx<RANK>, FormatError> {
    let expected = || format!("an IDX file of bytes of rank {RANK} (00 00 08 {RANK:02x})");
    match source.array()? {
        [0, 0, 8, rank] if rank as usize == RANK => {}
        [0, 0, 8, rank] => return Err(source.error(expected(), format!("rank {rank}"))),
        [0x1f, 0x8b, ..] => return Err(source.error(expected(), "a gzip file, which gunzip unpacks")),
        [a, b, c, d] => return Err(source.error(expected(), format!("{a:02x} {b:02x} {c:02x} {d:02x}"))),
    }
    let mut shape = [0; RANK];
    for side in &mut shape {
        *side = u32::from_be_bytes(source.array()?) as usize;
    }
    let values = source.values(&shape, false)?;
    Ok(Idx { shape, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Vec<u8> {
        let header = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3];
        header.into_iter().chain(1..=12).collect()
    }

    #[test]
    fn images_have_the_shape_and_bytes_of_the_file() {
        let idx = parse::<3>("images", &images()).unwrap();
        assert_eq!(idx, Idx { shape: [2, 2, 3], values: (1..=12).collect() });
    }

    #[test]
    fn a_file_reads_as_its_bytes_parse() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("images");
        std::fs::write(&path, images()).unwrap();
        assert_eq!(read::<3>(&path).unwrap(), parse::<3>("images", &images()).unwrap());
    }

    #[test]
    fn labels_may_be_none_at_all() {
        let idx = parse::<1>("labels", &[0, 0, 8, 1, 0, 0, 0, 0]).unwrap();
        assert_eq!(idx, Idx { shape: [0], values: vec![] });
    }

    #[test]
    fn a_file_cut_or_lengthened_anywhere_is_refused_with_both_lengths() {
        let whole = images();
        for length in 0..whole.len() {
            let message = parse::<3>("images", &whole[..length]).unwrap_err().to_string();
            assert!(message.ends_with(&format!("but received {length}.")), "{message}");
        }
        let longer = [whole, vec![0]].concat();
        assert_eq!(
            parse::<3>("images", &longer).unwrap_err().to_string(),
            "Expected 28 bytes for the shape [2, 2, 3] of \"images\" but received 29."
        );
    }

    #[test]
    fn another_rank_type_or_format_is_refused_by_name() {
        let refusal = |bytes: &[u8]| parse::<3>("images", bytes).unwrap_err().to_string();
        let expected = "Expected an IDX file of bytes of rank 3 (00 00 08 03) for \"images\" but received";
        assert_eq!(refusal(&[0, 0, 8, 1, 0, 0, 0, 0]), format!("{expected} rank 1."));
        assert_eq!(refusal(&[0, 0, 0x0d, 3]), format!("{expected} 00 00 0d 03."));
        assert_eq!(refusal(&[0x1f, 0x8b, 8, 8]), format!("{expected} a gzip file, which gunzip unpacks."));
    }

    #[test]
    fn billions_of_elements_in_a_small_file_take_no_memory() {
        let mut huge = vec![0, 0, 8, 3];
        huge.extend([0xff; 12]);
        let message = parse::<3>("images", &huge).unwrap_err().to_string();
        assert!(message.contains("a shape of less than 2^63 bytes"), "{message}");
        huge[4..12].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
        let message = parse::<3>("images", &huge).unwrap_err().to_string();
        assert!(message.starts_with("Expected 4294967311 bytes"), "{message}");
    }

    #[test]
    fn no_flipped_bit_makes_the_parser_panic() {
        for bit in 0..images().len() * 8 {
            let mut bytes = images();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // Only the header's bits are checked by the format; elements may be any byte.
            assert_eq!(parse::<3>("images", &bytes).is_ok(), bit / 8 >= 16, "bit {bit}");
        }
    }

    #[test]
    fn a_directory_and_a_missing_file_are_refused_in_one_sentence() {
        let directory = tempfile::tempdir().unwrap();
        let message = read::<3>(directory.path()).unwrap_err().to_string();
        assert!(
            message.starts_with("Expected a regular file for") && message.contains("a directory"),
            "{message}"
        );
        let message = read::<3>(&directory.path().join("none")).unwrap_err().to_string();
        assert!(message.starts_with("Could not open") && message.ends_with(")."), "{message}");
    }
}
