//! A file that appears whole or not at all: it is written beside its place and then
//! put there in one step. After an interruption the old file is still there.

use std::fs::{self, Permissions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, PersistError};

/// A file that is not yet at its place. Only its owner may read it until it is.
pub(crate) struct WholeFile {
    file: BufWriter<NamedTempFile>,
    place: PathBuf,
}

impl WholeFile {
    /// Begins to write beside `place`.
    pub(crate) fn beside(place: &Path) -> io::Result<Self> {
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty());
        let file = NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        Ok(WholeFile { file: BufWriter::new(file), place: place.to_owned() })
    }

    /// Its place.
    pub(crate) fn place(&self) -> &Path {
        &self.place
    }

    /// Sets its permissions.
    pub(crate) fn permit(&self, permissions: Permissions) -> io::Result<()> {
        self.file.get_ref().as_file().set_permissions(permissions)
    }

    /// Puts it at its place, and replaces the file that may be there. Anything else
    /// that is there stays: a pipe, a device, a link.
    pub(crate) fn replace(self) -> io::Result<()> {
        if fs::symlink_metadata(&self.place).is_ok_and(|there| !there.is_file()) {
            return Err(io::Error::other("what is there is not a regular file; name a file"));
        }
        self.put(|file, place| file.persist(place).map(drop))
    }

    /// Puts it at its place; an error if something is there.
    pub(crate) fn add(self) -> io::Result<()> {
        self.put(|file, place| file.persist_noclobber(place).map(drop))
    }

    fn put(
        self,
        how: impl FnOnce(NamedTempFile, &Path) -> Result<(), PersistError>,
    ) -> io::Result<()> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        how(file, &self.place).map_err(|error| error.error)
    }
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Where `path` leads: a link stays a link, even if nothing is at its end yet.
pub(crate) fn behind_links(path: &Path) -> PathBuf {
    /// As the kernel has it.
    const MOST_LINKS: usize = 40;
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    path
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn nothing_is_there_before_all_is() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("file");
        fs::write(&place, "old").unwrap();
        let mut file = WholeFile::beside(&place).unwrap();
        file.write_all(b"new").unwrap();
        drop(file);
        assert_eq!(fs::read(&place).unwrap(), b"old");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");

        let mut file = WholeFile::beside(&place).unwrap();
        file.write_all(b"new").unwrap();
        file.permit(Permissions::from_mode(0o640)).unwrap();
        file.replace().unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"new");
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn only_a_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        symlink("file", &link).unwrap();
        for place in [&link, folder.path()] {
            let error = WholeFile::beside(place).unwrap().replace().unwrap_err();
            assert!(error.to_string().contains("not a regular file"), "{error}");
        }
        assert_eq!(behind_links(&link), file);
        WholeFile::beside(&behind_links(&link)).unwrap().replace().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && file.is_file());
    }

    #[test]
    fn what_is_added_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("file");
        WholeFile::beside(&place).unwrap().add().unwrap();
        let error = WholeFile::beside(&place).unwrap().add().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
}
