//! Reading a file, or bytes in memory, of known length.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Seek, SeekFrom},
    path::Path,
};

use bytemuck::Pod;

use crate::FormatError;

/// A reader that knows how long its file is, and so takes no memory that the file could not fill.
pub(crate) struct Source<R> {
    pub file: String,
    reader: R,
    length: u64,
    position: u64,
}

/// Opens a regular file and tells its length in bytes.
///
/// Anything else is refused before it is opened: opening a pipe would wait for a writer.
pub(crate) fn open(path: &Path) -> Result<(File, u64), FormatError> {
    let found = fs::metadata(path).map_err(FormatError::io("open", path))?;
    if !found.is_file() {
        let received = if found.is_dir() { "a directory" } else { "a device or pipe" };
        return Err(FormatError::content(&path.display().to_string(), "a regular file", received));
    }
    let file = File::open(path).map_err(FormatError::io("open", path))?;
    let length = file.metadata().map_err(FormatError::io("open", path))?.len();
    Ok((file, length))
}

/// Bytes of the values of a shape, each of `size` bytes.
///
/// Errors: a shape whose sides that are not zero make 2^63 bytes or more. So shapes stay harmless to whoever
/// multiplies some of their sides.
pub(crate) fn bytes_of(file: &str, shape: &[usize], size: usize) -> Result<u64, FormatError> {
    let bound = shape.iter().fold(size as u128, |n, &side| n.saturating_mul(side.max(1) as u128));
    if bound > isize::MAX as u128 {
        return Err(FormatError::content(
            file,
            "a shape of less than 2^63 bytes",
            format!("the shape {shape:?}"),
        ));
    }
    Ok(if shape.contains(&0) { 0 } else { bound as u64 })
}

/// An empty vector with room for so many values. Errors: more memory than the system gives.
pub(crate) fn room<T>(file: &str, count: usize) -> Result<Vec<T>, FormatError> {
    let mut values = Vec::new();
    values.try_reserve_exact(count).map_err(|_| {
        let expected = format!("{} bytes of free memory", count.saturating_mul(size_of::<T>()));
        FormatError::content(file, expected, "a refusal of the system")
    })?;
    Ok(values)
}

/// What stands from the byte `begin` on, as `count` values in this machine's byte order. A file is read, not
/// mapped: where another program shortens it meanwhile, reading is an error, while a mapping ends the process.
///
/// Errors: a file that ends too early, more memory than the system gives, and what the operating system
/// refuses.
pub(crate) fn read_at<T: Pod>(
    file: &str,
    source: &mut (impl Read + Seek),
    begin: u64,
    count: usize,
) -> Result<Vec<T>, FormatError> {
    let mut values = room(file, count)?;
    values.resize(count, T::zeroed());
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
    let expected = begin.saturating_add(bytes.len() as u64);
    let done = source.seek(SeekFrom::Start(begin)).and_then(|_| source.read_exact(bytes));
    let ended = |error: &std::io::Error| error.kind() == ErrorKind::UnexpectedEof;
    match (done, source.seek(SeekFrom::End(0))) {
        (Ok(()), _) => Ok(values),
        (Err(error), Ok(received)) if ended(&error) => {
            Err(FormatError::Truncated { file: file.to_owned(), expected, received })
        }
        (Err(error), _) => Err(FormatError::io("read", Path::new(file))(error)),
    }
}

impl Source<File> {
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let (reader, length) = open(path)?;
        Ok(Source { file: path.display().to_string(), reader, length, position: 0 })
    }
}

impl<'a> Source<&'a [u8]> {
    pub fn memory(file: &str, bytes: &'a [u8]) -> Self {
        Source { file: file.to_owned(), reader: bytes, length: bytes.len() as u64, position: 0 }
    }
}

impl<R: Read> Source<R> {
    pub fn error(&self, expected: impl Into<String>, received: impl Into<String>) -> FormatError {
        FormatError::content(&self.file, expected, received)
    }

    /// The next bytes, for headers of fixed size.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// The next `count` bytes, for headers whose size the caller has bounded.
    pub fn bytes(&mut self, count: usize) -> Result<Vec<u8>, FormatError> {
        self.require(count as u64)?;
        let mut bytes = vec![0; count];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// All that is left, as values of a shape in C order; the lengths must agree to the byte.
    pub fn values<T: Pod>(&mut self, shape: &[usize], big_endian: bool) -> Result<Vec<T>, FormatError> {
        let count = self.count(shape, size_of::<T>())?;
        let mut values = Vec::new();
        values.try_reserve_exact(count).map_err(|_| {
            let bytes = (count * size_of::<T>()).to_string();
            self.error(
                format!("as much free memory as its shape {shape:?} takes"),
                format!("none for {bytes} bytes"),
            )
        })?;
        values.resize(count, T::zeroed());
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut values);
        self.fill(bytes)?;
        if big_endian != cfg!(target_endian = "big") {
            bytes.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
        }
        Ok(values)
    }

    /// The elements of a shape, once the rest of the file has been found to hold exactly that many.
    fn count(&self, shape: &[usize], size: usize) -> Result<usize, FormatError> {
        let bytes = bytes_of(&self.file, shape, size)?;
        let expected = self.position.saturating_add(bytes);
        if expected != self.length {
            let (file, shape) = (self.file.clone(), shape.to_vec());
            return Err(FormatError::Length { file, shape, expected, received: self.length });
        }
        Ok(bytes as usize / size)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), FormatError> {
        self.require(bytes.len() as u64)?;
        self.reader.read_exact(bytes).map_err(FormatError::io("read", Path::new(&self.file)))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn require(&self, bytes: u64) -> Result<(), FormatError> {
        let expected = self.position.saturating_add(bytes);
        if expected > self.length {
            return Err(FormatError::Truncated { file: self.file.clone(), expected, received: self.length });
        }
        Ok(())
    }
}
