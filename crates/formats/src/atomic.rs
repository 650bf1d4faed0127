//! Writing a file whole or not at all.
//!
//! The bytes go to a temporary file in the same directory, which is synced and then renamed over the path; a
//! crash at any moment leaves the earlier file or the new one. On any failure, a panic in the caller's function
//! included, the temporary file is removed and the earlier file is as it was.

use std::{
    fs::{self, File, Permissions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::FormatError;

/// Writes the file at `path` with what `fill` writes, and returns its length in bytes.
///
/// The new file has the permissions of the earlier one, or those that any new file gets. A symbolic link is
/// followed and stays. Errors: what `fill` returns, what the operating system refuses, and a path that is a
/// directory or a device, which a rename must not replace.
pub fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<u64, FormatError> {
    let failed = || FormatError::io("write", path);
    let (target, permissions) = target(path)?;
    let directory = match target.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };

    let directory_handle = open_directory(directory).map_err(failed())?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".").suffix(".tmp");
    if let Some(permissions) = new_file_permissions() {
        builder.permissions(permissions);
    }
    let mut temporary = builder.tempfile_in(directory).map_err(failed())?;

    let mut writer = BufWriter::with_capacity(1 << 16, temporary.as_file_mut());
    fill(&mut writer).and_then(|()| writer.flush()).map_err(failed())?;
    drop(writer);
    if let Some(permissions) = permissions {
        temporary.as_file().set_permissions(permissions).map_err(failed())?;
    }
    temporary.as_file().sync_all().map_err(failed())?;
    let bytes = temporary.as_file().metadata().map_err(failed())?.len();
    temporary.persist(&target).map_err(|error| failed()(error.error))?;
    sync_directory(directory_handle).map_err(failed())?;
    Ok(bytes)
}

/// The path to rename to, and the permissions of the file that is there.
fn target(path: &Path) -> Result<(PathBuf, Option<Permissions>), FormatError> {
    match fs::metadata(path) {
        Ok(earlier) if earlier.is_file() => {
            let target = fs::canonicalize(path).map_err(FormatError::io("write", path))?;
            Ok((target, Some(earlier.permissions())))
        }
        Ok(earlier) => {
            let received = if earlier.is_dir() { "a directory" } else { "a device or pipe" };
            Err(FormatError::content(&path.display().to_string(), "a regular file or none", received))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((path.to_owned(), None)),
        Err(error) => Err(FormatError::io("write", path)(error)),
    }
}

/// What the process's file-creation mask then narrows; temporary files would be their owner's alone.
#[cfg(unix)]
fn new_file_permissions() -> Option<Permissions> {
    use std::os::unix::fs::PermissionsExt;
    Some(Permissions::from_mode(0o666))
}

#[cfg(not(unix))]
fn new_file_permissions() -> Option<Permissions> {
    None
}

/// Opened before anything is written: what forbids syncing must be known before the rename, not after it.
#[cfg(unix)]
fn open_directory(directory: &Path) -> io::Result<Option<File>> {
    File::open(directory).map(Some)
}

/// Other systems do not open directories and journal a rename by themselves.
#[cfg(not(unix))]
fn open_directory(_: &Path) -> io::Result<Option<File>> {
    Ok(None)
}

/// Makes the rename itself survive a power failure, where the file system knows how.
fn sync_directory(directory: Option<File>) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, Unsupported};
    match directory.map_or(Ok(()), |directory| directory.sync_all()) {
        Err(error) if matches!(error.kind(), InvalidInput | Unsupported) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// A directory with the file "model" in it, whose content is "earlier".
    fn earlier() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model");
        fs::write(&path, "earlier").unwrap();
        (directory, path)
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_new_file_and_a_replaced_one_hold_what_was_written() {
        let (directory, path) = earlier();
        assert_eq!(write(&path, |writer| writer.write_all(b"later")).unwrap(), 5);
        assert_eq!(fs::read(&path).unwrap(), b"later");
        let new = directory.path().join("new");
        write(&new, |writer| writer.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&new).unwrap(), b"new");
        assert_eq!(names(directory.path()).len(), 2);
    }

    #[test]
    fn an_error_while_writing_leaves_the_earlier_file_and_nothing_else() {
        let (directory, path) = earlier();
        let half = vec![7; 3 << 20]; // larger than the buffer: part of it reaches the disk
        let error = write(&path, |writer| {
            writer.write_all(&half)?;
            Err(io::Error::other("the disk is full"))
        });
        assert_eq!(
            error.unwrap_err().to_string(),
            format!("Could not write \"{}\": the disk is full.", path.display())
        );
        assert_eq!(fs::read(&path).unwrap(), b"earlier");
        assert_eq!(names(directory.path()), ["model"]);
    }

    #[test]
    fn a_panic_while_writing_leaves_the_earlier_file_and_nothing_else() {
        let (directory, path) = earlier();
        let panicking = AssertUnwindSafe(|| {
            write(&path, |writer| {
                writer.write_all(b"half")?;
                panic!("in the middle of a write");
            })
        });
        assert!(catch_unwind(panicking).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"earlier");
        assert_eq!(names(directory.path()), ["model"]);
    }

    #[test]
    fn the_earlier_file_is_whole_until_the_last_byte_is_written() {
        let (_directory, path) = earlier();
        write(&path, |writer| {
            writer.write_all(&vec![7; 3 << 20])?;
            assert_eq!(fs::read(&path)?, b"earlier");
            Ok(())
        })
        .unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 3 << 20);
    }

    #[test]
    fn a_missing_directory_and_a_directory_as_target_are_refused() {
        let (directory, path) = earlier();
        let none = write(&path.with_file_name("none").join("model"), |_| Ok(())).unwrap_err();
        assert!(none.to_string().starts_with("Could not write"), "{none}");
        let error = write(directory.path(), |_| Ok(())).unwrap_err();
        assert!(error.to_string().ends_with("but received a directory."), "{error}");
        assert_eq!(names(directory.path()), ["model"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_never_replaced_by_a_file() {
        let error = write(Path::new("/dev/null"), |writer| writer.write_all(b"model")).unwrap_err();
        assert!(error.to_string().ends_with("but received a device or pipe."), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn permissions_and_symbolic_links_survive_a_replacement() {
        use std::os::unix::fs::PermissionsExt;
        let (directory, path) = earlier();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("model", &link).unwrap();
        write(&link, |writer| writer.write_all(b"later")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"later");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_has_the_permissions_that_any_new_file_gets() {
        use std::os::unix::fs::PermissionsExt;
        let (directory, path) = earlier();
        let new = directory.path().join("new");
        write(&new, |_| Ok(())).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&new), mode(&path));
    }
}
