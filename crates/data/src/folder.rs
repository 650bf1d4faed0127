//! Folders of image files, one folder for each class, larger than memory: paths and labels are kept, pixels are
//! not.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use fovea_formats::FormatError;

use crate::{DataError, Dataset, dataset::Source, decode::Flaw};

/// The endings of names that are taken for images, in lower case.
const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// How image files become images of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct FolderOptions {
    /// Rows of an image.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// 1 (luminance) or 3 (red, green, blue).
    pub channels: usize,
    /// How other sizes are made to fit.
    pub resize: Resize,
    /// What is done about a file that cannot be read.
    pub unreadable: Unreadable,
    /// The names of the classes in the order of their labels; by default those of the folders, sorted.
    pub classes: Option<Vec<String>>,
}

/// How an image of another size is made to fit; always bilinearly, averaging over what a pixel covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// The shorter side fits, and the middle is cut out.
    Crop,
    /// Both sides fit, whatever that does to the proportions.
    Stretch,
}

/// What is done about a file that cannot be read or decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It ends the work with an error that names it.
    Fail,
    /// It is remembered with its reason; training takes the next image in its stead, evaluation leaves it out.
    Skip,
}

/// A file that could not be read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its path.
    pub file: PathBuf,
    /// What was expected, and what was found.
    pub reason: String,
}

/// The files of a dataset.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Below the root, in the order of the rows.
    files: Vec<PathBuf>,
    options: FolderOptions,
    /// What was found unreadable until now, by row.
    unreadable: Mutex<BTreeMap<u32, String>>,
}

impl Dataset {
    /// Lists a directory that has one folder for each class, with JPEG, PNG and WebP files in it or in folders
    /// below.
    ///
    /// Nothing is decoded here: files are read when a batch needs them. Names that begin with a dot and other
    /// kinds of files are passed over.
    ///
    /// Errors: sizes that make no sense, a directory that cannot be read or has no images, a folder that is
    /// none of `options.classes`.
    pub fn from_folder(root: &Path, options: FolderOptions) -> Result<Dataset, DataError> {
        options.check()?;
        let name = || root.display().to_string();
        let mut folders: Vec<OsString> = Vec::new();
        for entry in entries(root)? {
            folders.extend(root.join(&entry).is_dir().then_some(entry));
        }
        folders.sort();
        if folders.is_empty() {
            return Err(DataError::NoClassFolder { directory: name() });
        }
        let classes = match &options.classes {
            Some(classes) => classes.clone(),
            None => folders.iter().map(|folder| folder.to_string_lossy().into_owned()).collect(),
        };
        let (mut files, mut labels) = (Vec::new(), Vec::new());
        for folder in folders {
            let class = folder.to_string_lossy();
            let label = classes.iter().position(|known| *known == class);
            let label = label
                .ok_or_else(|| DataError::UnknownClass { directory: name(), class: class.to_string() })?;
            list(root, PathBuf::from(&folder), &mut files)?;
            labels.resize(files.len(), label as u32);
        }
        if files.is_empty() {
            return Err(DataError::NoImageFile { directory: name() });
        }
        let shape = [files.len(), options.height, options.width, options.channels];
        let folder = Folder { root: root.to_owned(), files, options, unreadable: Mutex::default() };
        Dataset::new(Source::Files(folder), shape, labels, classes.len(), classes)
    }

    /// The files that could not be read until now, in the order of the images; none where images are in memory.
    pub fn skipped(&self) -> Vec<Skipped> {
        let Source::Files(folder) = self.source() else { return Vec::new() };
        let skipped =
            |(&row, reason): (&u32, &String)| Skipped { file: folder.path(row), reason: reason.clone() };
        folder.lock().iter().map(skipped).collect()
    }
}

impl FolderOptions {
    /// Checks the sizes.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        let FolderOptions { height, width, channels, .. } = *self;
        let sides = [height, width].iter().all(|side| (1..=1 << 14).contains(side));
        if !sides || !matches!(channels, 1 | 3) {
            return Err(DataError::FileShape { shape: [height, width, channels] });
        }
        Ok(())
    }
}

impl Folder {
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn options(&self) -> &FolderOptions {
        &self.options
    }

    pub fn path(&self, row: u32) -> PathBuf {
        self.root.join(&self.files[row as usize])
    }

    /// Whether a file has been found unreadable before.
    pub fn is_unreadable(&self, row: u32) -> bool {
        self.lock().contains_key(&row)
    }

    /// What a file's flaw means: an error, or nothing in its place.
    pub fn check(&self, row: u32, read: Result<(), Flaw>) -> Result<Option<()>, DataError> {
        let Err(flaw) = read else { return Ok(Some(())) };
        if self.options.unreadable == Unreadable::Fail {
            return Err(DataError::image(&self.path(row), flaw));
        }
        let Flaw { expected, received } = flaw;
        self.lock().insert(row, format!("expected {expected} but received {received}"));
        Ok(None)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, String>> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner) // an insertion leaves no half
    }
}

/// Adds the image files of a folder and of those below it, each folder sorted by name.
fn list(root: &Path, folder: PathBuf, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    let mut names = entries(&root.join(&folder))?;
    names.sort();
    for name in names {
        let path = folder.join(name);
        if root.join(&path).is_dir() {
            list(root, path, files)?;
        } else if path.extension().is_some_and(is_image) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_image(extension: &std::ffi::OsStr) -> bool {
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// The names in a directory that do not begin with a dot.
fn entries(directory: &Path) -> Result<Vec<OsString>, DataError> {
    let refused = |source| FormatError::Io { file: directory.display().to_string(), action: "list", source };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(refused)? {
        let name = entry.map_err(refused)?.file_name();
        names.extend((!name.as_encoded_bytes().starts_with(b".")).then_some(name));
    }
    Ok(names)
}
