//! A file that goes into guest memory.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::error::BootError;

/// An open regular file that is not empty.
#[derive(Debug)]
pub(super) struct GuestFile {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) bytes: u64,
}

impl GuestFile {
    pub(super) fn open(path: &Path) -> Result<Self, BootError> {
        let path = path.to_owned();
        let read_error = |error| BootError::Read { path: path.clone(), error };
        // Looked at before it is opened: opening a pipe would wait for its
        // other end.
        let metadata = std::fs::metadata(&path).map_err(read_error)?;
        if !metadata.is_file() {
            return Err(BootError::NoFile { path });
        }
        if metadata.len() == 0 {
            return Err(BootError::Empty { path });
        }
        let file = File::open(&path).map_err(read_error)?;
        Ok(Self { path, file, bytes: metadata.len() })
    }

    /// All of the file, if it has no more than `limit` bytes.
    pub(super) fn read(self, limit: u64) -> Result<Vec<u8>, BootError> {
        let Self { path, file, bytes } = self;
        if bytes > limit {
            return Err(BootError::TooLarge { path, bytes });
        }
        let mut content = Vec::new();
        match file.take(limit).read_to_end(&mut content) {
            Ok(_) => Ok(content),
            Err(error) => Err(BootError::Read { path, error }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(path: &Path, part: &str) {
        let error = GuestFile::open(path).unwrap_err().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn what_is_no_file_is_refused_before_it_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        check_refused(&folder.path().join("missing"), "No such file");
        check_refused(folder.path(), "is not a regular file");
        check_refused(Path::new("/dev/zero"), "is not a regular file");
        let empty = folder.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        check_refused(&empty, "is empty");
    }

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(GuestFile::open(&path).unwrap().read(5).unwrap(), b"12345");
        let error = GuestFile::open(&path).unwrap().read(4).unwrap_err().to_string();
        assert!(error.contains("has 5 bytes, which find no room"), "{error}");
    }
}
