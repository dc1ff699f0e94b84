//! Where running VMs are found: a directory of the user's own, with a socket for
//! each, named by the process.

use std::env;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

/// The directories in the order in which they are tried.
fn candidates() -> Vec<PathBuf> {
    // The XDG base directory specification has relative paths ignored, and the
    // directory be the user's. After `sudo` it may still be another's.
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

/// The directory to put a socket into, made if need be, and rid of what killed
/// runs have left there.
pub(crate) fn make() -> Result<PathBuf> {
    let mut refused = None;
    for path in candidates() {
        match make_at(&path) {
            Ok(()) => {
                sweep(&path);
                return Ok(path);
            }
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.context("there is no directory for sockets")?)
}

fn make_at(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make {}", path.display()))
        }
        _ => check(path),
    }
}

/// Refuses a directory into which others could put their sockets.
fn check(path: &Path) -> Result<()> {
    let found =
        fs::symlink_metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    if !found.is_dir() {
        bail!("{} is no directory", path.display());
    }
    if found.uid() != geteuid().as_raw() {
        bail!("{} belongs to user {}", path.display(), found.uid());
    }
    if found.mode() & 0o077 != 0 {
        bail!(
            "{} is open to others (mode {:o}); `chmod 700` it",
            path.display(),
            found.mode() & 0o777
        );
    }
    Ok(())
}

/// The socket of a process.
pub(crate) fn socket(directory: &Path, process: u32) -> PathBuf {
    directory.join(format!("{process}.sock"))
}

/// The sockets that are there, by process, whether anybody listens or not.
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

/// Removes the sockets of processes that are gone. One that is just being made
/// refuses connections too, so that alone does not count.
fn sweep(directory: &Path) {
    for (process, path) in sockets_in(directory) {
        let gone = !Path::new("/proc").join(process.to_string()).exists();
        let refused = UnixStream::connect(&path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if gone && refused {
            // Another run may have been faster.
            let _ = fs::remove_file(&path);
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
        assert!(make_at(&link).unwrap_err().to_string().contains("no directory"));
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
