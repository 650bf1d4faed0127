//! A process that dies in the middle of a write leaves the earlier file whole.
#![cfg(unix)]

use std::{env, fs, os::unix::process::ExitStatusExt, process::Command};

use fovea_formats::atomic;

const VICTIM: &str = "FOVEA_TEST_INTERRUPTED_WRITE";

#[test]
fn a_process_that_dies_while_writing_leaves_the_earlier_file() {
    if let Some(path) = env::var_os(VICTIM) {
        // This is the second process, started below: it dies with three of its megabytes written.
        let written = atomic::write(path.as_ref(), |writer| {
            writer.write_all(&vec![7; 3 << 20])?;
            writer.flush()?;
            std::process::abort()
        });
        unreachable!("{written:?}");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model");
    fs::write(&path, "earlier").unwrap();

    let victim = Command::new(env::current_exe().unwrap()).env(VICTIM, &path).output().unwrap();

    assert!(victim.status.signal().is_some(), "{victim:?}");
    assert_eq!(fs::read(&path).unwrap(), b"earlier");
    let largest =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).max();
    assert_eq!(largest, Some(3 << 20), "the process died before it had written anything");
    atomic::write(&path, |writer| writer.write_all(b"later")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"later");
}
