//! IDX, the format of MNIST: a big-endian header and unsigned bytes, plain or compressed by gzip.
//!
//! Two zero bytes, the element type (8 is `u8`, the only one read here), the rank, each dimension as a `u32`,
//! then the elements in C order. Images are of rank 3, `[images, height, width]`, and labels of rank 1.
//!
//! Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".

use std::{
    io::{BufReader, Read, Seek},
    path::Path,
};

use flate2::read::MultiGzDecoder;

use crate::{
    FormatError,
    source::{self, Source},
};

/// How a gzip file begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

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
/// A compressed file is unpacked as far as its header says that there are elements, and memory grows with what
/// comes out: a small file that would unpack to more is refused there.
///
/// Errors: another type or rank, a length that is not the header's, damaged compression, and what the operating
/// system refuses.
pub fn read<const RANK: usize>(path: &Path) -> Result<Idx<RANK>, FormatError> {
    let (mut file, _) = source::open(path)?;
    let mut magic = Vec::new();
    let failed = || FormatError::io("read", path);
    file.by_ref().take(2).read_to_end(&mut magic).map_err(failed())?;
    if magic != GZIP {
        return decode(Source::open(path)?);
    }
    file.rewind().map_err(failed())?;
    unpack(&path.display().to_string(), BufReader::new(file))
}

/// Parses IDX bytes as [`read`] does; `file` names them in errors.
pub fn parse<const RANK: usize>(file: &str, bytes: &[u8]) -> Result<Idx<RANK>, FormatError> {
    if bytes.starts_with(&GZIP) { unpack(file, bytes) } else { decode(Source::memory(file, bytes)) }
}

fn decode<const RANK: usize>(mut source: Source<impl Read>) -> Result<Idx<RANK>, FormatError> {
    check::<RANK>(source.array()?).map_err(|[expected, received]| source.error(expected, received))?;
    let mut shape = [0; RANK];
    for side in &mut shape {
        *side = u32::from_be_bytes(source.array()?) as usize;
    }
    let values = source.values(&shape, false)?;
    Ok(Idx { shape, values })
}

/// As [`decode`], where only the end of the compressed bytes tells how many there are.
fn unpack<const RANK: usize>(file: &str, packed: impl Read) -> Result<Idx<RANK>, FormatError> {
    let mut reader = MultiGzDecoder::new(packed);
    let mut next = |most: u64| {
        let mut bytes = Vec::new();
        let damaged =
            |error| FormatError::content(file, "a whole gzip file", format!("a damaged one ({error})"));
        reader.by_ref().take(most).read_to_end(&mut bytes).map(|_| bytes).map_err(damaged)
    };
    let length = 4 + 4 * RANK;
    let header = next(length as u64)?;
    let truncated = |expected: u128, received: usize| {
        let expected = u64::try_from(expected).unwrap_or(u64::MAX);
        FormatError::Truncated { file: file.to_owned(), expected, received: received as u64 }
    };
    if header.len() < length {
        return Err(truncated(length as u128, header.len()));
    }
    let (magic, sides) = header.split_at(4);
    check::<RANK>([magic[0], magic[1], magic[2], magic[3]])
        .map_err(|[expected, received]| FormatError::content(file, expected, received))?;
    let mut shape = [0; RANK];
    for (side, bytes) in shape.iter_mut().zip(sides.as_chunks().0) {
        *side = u32::from_be_bytes(*bytes) as usize;
    }
    let count = shape.iter().fold(1u128, |count, &side| count.saturating_mul(side as u128));
    // One byte more than there should be: the end of the file is read, too, and with it its check sum.
    let values = next(u64::try_from(count).unwrap_or(u64::MAX).saturating_add(1))?;
    let (expected, received) = (count.saturating_add(length as u128), values.len() + length);
    match (values.len() as u128).cmp(&count) {
        // A side of zero hides how large the others are.
        std::cmp::Ordering::Equal => source::bytes_of(file, &shape, 1).map(|_| Idx { shape, values }),
        std::cmp::Ordering::Less => Err(truncated(expected, received)),
        std::cmp::Ordering::Greater => Err(FormatError::content(
            file,
            format!("{expected} unpacked bytes, as the shape {shape:?} says,"),
            "more",
        )),
    }
}

/// Checks the first four bytes; else what was expected and received.
fn check<const RANK: usize>(magic: [u8; 4]) -> Result<(), [String; 2]> {
    let received = match magic {
        [0, 0, 8, rank] if rank as usize == RANK => return Ok(()),
        [0, 0, 8, rank] => format!("rank {rank}"),
        [a, b, c, d] => format!("{a:02x} {b:02x} {c:02x} {d:02x}"),
    };
    Err([format!("an IDX file of bytes of rank {RANK} (00 00 08 {RANK:02x})"), received])
}

#[cfg(test)]
mod tests {
    use std::io::Write;

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
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_compressed_file_reads_as_the_plain_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("images.gz");
        let plain = parse::<3>("images", &images()).unwrap();
        std::fs::write(&path, packed(&images())).unwrap();
        assert_eq!(read::<3>(&path).unwrap(), plain);
        let (first, second) = (images()[..9].to_vec(), images()[9..].to_vec());
        assert_eq!(parse::<3>("images", &[packed(&first), packed(&second)].concat()).unwrap(), plain);
        let none = packed(&[0, 0, 8, 1, 0, 0, 0, 0]);
        assert!(parse::<1>("labels", &none).unwrap().values.is_empty());
    }

    #[test]
    fn a_compressed_file_that_is_cut_or_says_something_else_is_refused() {
        let whole = packed(&images());
        for length in 2..whole.len() {
            let message = parse::<3>("images", &whole[..length]).unwrap_err().to_string();
            assert!(message.starts_with("Expected a whole gzip file for \"images\""), "{message}");
        }
        let refusal = |bytes: &[u8]| parse::<3>("images", &packed(bytes)).unwrap_err().to_string();
        assert_eq!(refusal(&images()[..20]), "Expected at least 28 bytes for \"images\" but received 20.");
        assert_eq!(refusal(&images()[..7]), "Expected at least 16 bytes for \"images\" but received 7.");
        assert_eq!(
            refusal(&[images(), vec![0]].concat()),
            "Expected 28 unpacked bytes, as the shape [2, 2, 3] says, for \"images\" but received more."
        );
        assert!(refusal(&[0, 0, 8, 1]).starts_with("Expected at least 16 bytes"));
        assert!(refusal(&[1; 16]).ends_with("but received 01 01 01 01."));
    }

    #[test]
    fn no_flipped_bit_of_a_compressed_file_changes_what_is_read() {
        let whole = packed(&images());
        let plain = parse::<3>("images", &whole).unwrap();
        for bit in 16..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // Some bits, such as those of the time, say nothing about the content.
            if let Ok(read) = parse::<3>("images", &bytes) {
                assert_eq!(read, plain, "bit {bit}");
            }
        }
    }

    #[test]
    fn a_small_compressed_file_that_unpacks_to_much_is_refused_where_its_header_ends() {
        let mut bomb = images();
        bomb.resize(64 << 20, 0);
        let bomb = packed(&bomb);
        assert!(bomb.len() < 100_000);
        let message = parse::<3>("images", &bomb).unwrap_err().to_string();
        assert!(message.ends_with("but received more."), "{message}");
        let message = parse::<3>("images", &packed(&[[0, 0, 8, 3].as_slice(), &[0xff; 12]].concat()));
        assert!(message.unwrap_err().to_string().starts_with("Expected at least 18446744073709551615 bytes"));
    }

    #[test]
    fn billions_of_elements_in_a_small_file_take_no_memory() {
        let mut huge = vec![0, 0, 8, 3];
        huge.extend([0xff; 12]);
        let message = parse::<3>("images", &huge).unwrap_err().to_string();
        assert!(message.contains("a shape of less than 2^63 bytes"), "{message}");
        huge[12..].fill(0);
        for bytes in [&huge, &packed(&huge)] {
            let message = parse::<3>("images", bytes).unwrap_err().to_string();
            assert!(message.contains("a shape of less than 2^63 bytes"), "{message}");
        }
        huge[12..].fill(0xff);
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
