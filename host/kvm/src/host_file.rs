//! Files of the physical host, read without waiting for anything.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The beginning of a file, as much as `out` holds; how much that is, or `None` if it
/// cannot be read. A pipe without a writer, or a terminal, reads as empty or not at all:
/// a vCPU waits for the answer.
pub(crate) fn read(path: &Path, out: &mut [u8]) -> Option<usize> {
    let mut file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    let mut filled = 0;
    while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).ok()? {
            0 => break,
            more => filled += more,
        }
    }
    Some(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_from_its_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("energy_uj");
        std::fs::write(&path, "12345\n").unwrap();
        let mut out = [0; 8];
        assert_eq!(read(&path, &mut out), Some(6));
        assert_eq!(&out, b"12345\n\0\0");
        assert_eq!(read(&path, &mut out[..3]), Some(3));
        assert_eq!(read(directory.path(), &mut out), None, "a folder");
        assert_eq!(read(&directory.path().join("none"), &mut out), None);
    }

    #[test]
    fn a_pipe_without_a_writer_does_not_hold_the_reader() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert_eq!(read(&path, &mut [0; 8]), Some(0));
    }
}
