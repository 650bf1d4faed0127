//! A disk that takes no more bytes is an error, and leaves the earlier file whole and nothing beside it.
#![cfg(unix)]

use std::{env, fs, process::Command};

use fovea_formats::{FormatError, atomic};

const VICTIM: &str = "FOVEA_TEST_FULL_DISK";

#[test]
fn a_full_disk_is_an_error_and_the_earlier_file_stays() {
    if let Some(path) = env::var_os(VICTIM) {
        // This is the second process, started below: it may write no file beyond its limit.
        let written = atomic::write(path.as_ref(), |writer| writer.write_all(&vec![7; 3 << 20]));
        let error = written.expect_err("the system took more than its limit");
        assert!(matches!(error, FormatError::Io { .. }), "{error}");
        assert!(error.to_string().contains("model"), "{error}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("model");
    fs::write(&path, "earlier").unwrap();

    // The limit's signal is ignored, so that writing fails as it does on a full disk.
    let limited = "trap '' XFSZ; ulimit -f 512; exec \"$0\"";
    let mut shell = Command::new("bash");
    let victim =
        shell.args(["-c", limited]).arg(env::current_exe().unwrap()).env(VICTIM, &path).output().unwrap();

    assert!(victim.status.success(), "{victim:?}");
    assert!(String::from_utf8_lossy(&victim.stdout).contains("1 passed"), "{victim:?}");
    assert_eq!(fs::read(&path).unwrap(), b"earlier");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "a temporary file was left behind");
}
