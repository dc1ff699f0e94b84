//! A file beside a VM's socket that says what is to be disabled, for when the socket does
//! not answer.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::OFlags;
use rustix::process::geteuid;

use crate::directory;

/// Most bytes of the file.
const MOST: u64 = 64 << 10;

fn path(socket: &Path) -> PathBuf {
    socket.with_extension("disable")
}

/// Whether a process catches SIGUSR1: one that does not would be killed by it.
pub fn takes_wishes(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // The mask begins with signal 1; SIGUSR1 is 10.
    caught.is_some_and(|mask| mask & 1 << 9 != 0)
}

/// Leaves a wish, a line, beside the socket of a process. Earlier ones that were not taken
/// stay.
pub(crate) fn leave(socket: &Path, line: &str) -> io::Result<PathBuf> {
    let path = path(socket);
    let mut text = read(&path).unwrap_or_default();
    text.push_str(line);
    text.push('\n');
    let new = path.with_extension("disable.new");
    // Left by one that was killed.
    let _ = fs::remove_file(&new);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, &path)?;
    Ok(path)
}

/// The wishes for this process, one in each line. They are gone afterwards.
///
/// # Errors
/// There are none, or the file is not the user's own.
pub fn take_wishes() -> io::Result<String> {
    let own = directory::sockets_of(process::id());
    let path = own.first().map(|socket| path(socket));
    let path = path.ok_or_else(|| io::Error::other("the VM has no socket"))?;
    let text = read(&path)?;
    fs::remove_file(&path)?;
    Ok(text)
}

/// A regular file of the user's, without following a link, up to its limit.
fn read(path: &Path) -> io::Result<String> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let about = file.metadata()?;
    // A file with a second name, or one that others can write, may say what others wish.
    let is_own = about.uid() == geteuid().as_raw() && about.mode() & 0o022 == 0;
    if !about.is_file() || !is_own || about.nlink() != 1 || about.len() > MOST {
        return Err(io::Error::other(format!(
            "{} is not a plain file of at most 64 KiB that only this user can write",
            path.display()
        )));
    }
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn wishes_add_up_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("7.sock");
        leave(&socket, "p kernel").unwrap();
        let file = leave(&socket, "q fault").unwrap();
        assert_eq!(read(&file).unwrap(), "p kernel\nq fault\n");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let link = directory.path().join("8.disable");
        symlink(&file, &link).unwrap();
        assert!(read(&link).is_err());
        fs::hard_link(&file, directory.path().join("9.disable")).unwrap();
        assert!(read(&file).is_err());
        fs::remove_file(directory.path().join("9.disable")).unwrap();
        assert!(read(&file).is_ok());
        fs::write(&file, vec![b'x'; 70_000]).unwrap();
        assert!(read(&file).is_err());
    }
}
