//! Text files that a user names, read within a limit.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Most bytes of a profile.
pub const PROFILE: u64 = 4 << 20;

/// The text in `path`, a regular file or a pipe, of at most `most` bytes. `kind` says in an
/// error what such a file is, such as `profile`.
///
/// # Errors
/// What the system says, or that it is too large, a device, a socket or no UTF-8.
pub fn read(path: &Path, most: u64, kind: &str) -> io::Result<String> {
    let about = fs::metadata(path)?;
    let there = about.file_type();
    // What a device gives may have no end.
    if there.is_char_device() || there.is_block_device() || there.is_socket() {
        let what = if there.is_socket() { "a socket" } else { "a device" };
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            format!("it is {what}, which no {kind} is"),
        ));
    }
    let large = || {
        let why = format!("it is larger than {} MiB, which no {kind} is", most >> 20);
        io::Error::new(ErrorKind::FileTooLarge, why)
    };
    if about.is_file() && about.len() > most {
        return Err(large());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(large());
    }
    let no_text = |_| io::Error::new(ErrorKind::InvalidData, "it is not text in UTF-8");
    String::from_utf8(bytes).map_err(no_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(read(&path, 1 << 20, "profile").unwrap().len(), 1 << 20);
        let mut file = File::options().append(true).open(&path).unwrap();
        io::Write::write_all(&mut file, b"x").unwrap();
        for (path, part) in [
            (path.as_path(), "larger than 1 MiB, which no profile is"),
            (Path::new("/dev/zero"), "it is a device"),
            (folder.path(), "directory"),
        ] {
            let error = read(path, 1 << 20, "profile").unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        // A sparse file takes no space, and is not read at all.
        file.set_len(1 << 40).unwrap();
        assert_eq!(read(&path, 1 << 20, "profile").unwrap_err().kind(), ErrorKind::FileTooLarge);
    }
}
