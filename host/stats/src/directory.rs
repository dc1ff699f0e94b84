//! Where running VMs are found: a directory of the user's own with one socket per
//! VM, named after its process.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// Why there is no directory for sockets.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
    #[error("cannot make {}: {error}", path.display())]
    Make { path: PathBuf, error: io::Error },
    #[error("cannot look at {}: {error}", path.display())]
    Look { path: PathBuf, error: io::Error },
    #[error("{} is not a directory", .0.display())]
    NoDirectory(PathBuf),
    #[error("{} belongs to user {user}", path.display())]
    Foreign { path: PathBuf, user: u32 },
    #[error("{} is open to others (mode {mode:o}); `chmod 700` it", path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("there is no directory for sockets")]
    None,
}

/// The directories in the order in which they are tried.
fn candidates() -> Vec<PathBuf> {
    // The XDG base directory specification says that relative paths are ignored and
    // that the directory is the user's. After `sudo` it may be another user's.
    let own = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    match own.filter(|path| path.is_absolute() && is_own(path)) {
        Some(own) => vec![own.join("wasmsr")],
        None => {
            let name = format!("wasmsr-{}", geteuid().as_raw());
            vec![Path::new("/run").join(&name), Path::new("/tmp").join(&name)]
        }
    }
}

/// Whether a directory is there and belongs to the user.
fn is_own(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw())
}

/// The directory to put a socket into. It is made if need be, and sockets that
/// killed runs have left there are removed.
pub(crate) fn make() -> Result<PathBuf, DirectoryError> {
    let mut refused = DirectoryError::None;
    for path in candidates() {
        match make_at(&path) {
            Ok(()) => {
                sweep(&path);
                return Ok(path);
            }
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn make_at(path: &Path) -> Result<(), DirectoryError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(DirectoryError::Make { path: path.to_owned(), error })
        }
        _ => check(path),
    }
}

/// Refuses a directory into which other users could put their sockets.
fn check(path: &Path) -> Result<(), DirectoryError> {
    let path = path.to_owned();
    let found = match fs::symlink_metadata(&path) {
        Ok(found) => found,
        Err(error) => return Err(DirectoryError::Look { path, error }),
    };
    if !found.is_dir() {
        return Err(DirectoryError::NoDirectory(path));
    }
    if found.uid() != geteuid().as_raw() {
        return Err(DirectoryError::Foreign { path, user: found.uid() });
    }
    match found.mode() & 0o777 {
        mode if mode & 0o077 != 0 => Err(DirectoryError::Open { path, mode }),
        _ => Ok(()),
    }
}

/// The socket of a process.
pub(crate) fn socket(directory: &Path, process: u32) -> PathBuf {
    directory.join(format!("{process}.sock"))
}

/// The sockets of a process.
pub(crate) fn sockets_of(process: u32) -> Vec<PathBuf> {
    let sockets = sockets().into_iter();
    sockets.filter(|(of, _)| *of == process).map(|(_, socket)| socket).collect()
}

/// The sockets that are there, by process, whether or not a VM listens at them.
pub(crate) fn sockets() -> Vec<(u32, PathBuf)> {
    let mut sockets = Vec::new();
    for path in candidates() {
        if check(&path).is_ok() {
            sockets.extend(sockets_in(&path));
        }
    }
    sockets.sort();
    sockets
}

fn sockets_in(directory: &Path) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let process = |path: &Path| path.file_name()?.to_str()?.strip_suffix(".sock")?.parse().ok();
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((process(&path)?, path))
        })
        .collect()
}

/// Removes the sockets of processes that are gone. A refused connection alone is not
/// enough: a socket that is just being made refuses them too.
fn sweep(directory: &Path) {
    for (process, path) in sockets_in(directory) {
        let gone = !Path::new("/proc").join(process.to_string()).exists();
        let refused = UnixStream::connect(&path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if gone && refused {
            // Another run may have been faster, and most leave no wishes.
            let _ = fs::remove_file(&path);
            let _ = fs::remove_file(path.with_extension("disable"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_directory_is_made_for_its_owner_only() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("wasmsr");
        make_at(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        make_at(&path).unwrap();
    }

    #[test]
    fn one_that_others_can_change_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("wasmsr");
        fs::create_dir(&path).unwrap();
        for mode in [0o770, 0o707, 0o755] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = make_at(&path).unwrap_err().to_string();
            assert!(refused.contains("open to others"), "{refused}");
        }
        let link = parent.path().join("link");
        symlink(parent.path(), &link).unwrap();
        assert!(make_at(&link).unwrap_err().to_string().contains("not a directory"));
        assert!(make_at(&parent.path().join("no/such")).is_err());
    }

    #[test]
    fn what_killed_runs_have_left_is_swept_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let (gone, alive) = (socket(parent.path(), u32::MAX), socket(parent.path(), 1));
        let listening = socket(parent.path(), u32::MAX - 1);
        drop(UnixListener::bind(&gone).unwrap());
        drop(UnixListener::bind(&alive).unwrap());
        let _listener = UnixListener::bind(&listening).unwrap();
        sweep(parent.path());
        assert_eq!([&gone, &alive, &listening].map(|path| path.exists()), [false, true, true]);
    }
}
