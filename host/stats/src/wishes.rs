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
    if !about.is_file() || about.uid() != geteuid().as_raw() || about.len() > MOST {
        return Err(io::Error::other(format!("{} is not a file of wishes", path.display())));
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
        fs::write(&file, vec![b'x'; 70_000]).unwrap();
        assert!(read(&file).is_err());
    }
}
