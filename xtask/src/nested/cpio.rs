//! The archive format of an initramfs: cpio, "newc" variant, as in the
//! kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_755;
const REGULAR: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;

/// An archive in the making. The same entries give the same bytes: they are
/// sorted, and belong to root at time 0.
#[derive(Debug, Default)]
pub(super) struct Archive {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    mode: u32,
    content: Vec<u8>,
}

impl Archive {
    /// Adds a folder and those above it.
    pub(super) fn add_folder(&mut self, path: &str) {
        let path = path.trim_matches('/');
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for folder in ends.filter_map(|end| path.get(..end)).filter(|folder| !folder.is_empty()) {
            let entry = Entry { mode: DIRECTORY, content: Vec::new() };
            self.entries.entry(folder.to_owned()).or_insert(entry);
        }
    }

    /// Adds a file for reading.
    pub(super) fn add_file(&mut self, path: &str, content: Vec<u8>) {
        self.add(path, Entry { mode: REGULAR, content });
    }

    /// Adds a file that can be executed.
    pub(super) fn add_program(&mut self, path: &str, content: Vec<u8>) {
        self.add(path, Entry { mode: PROGRAM, content });
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.entries.contains_key(path.trim_matches('/'))
    }

    pub(super) fn into_bytes(self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for (inode, (path, entry)) in (1..).zip(&self.entries) {
            append(&mut bytes, inode, path, entry)?;
        }
        append(&mut bytes, 0, "TRAILER!!!", &Entry { mode: 0, content: Vec::new() })?;
        Ok(bytes)
    }

    fn add(&mut self, path: &str, entry: Entry) {
        let path = path.trim_matches('/');
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.add_folder(folder);
        }
        self.entries.insert(path.to_owned(), entry);
    }
}

/// Header, name and content, each padded to four bytes.
fn append(bytes: &mut Vec<u8>, inode: u32, path: &str, entry: &Entry) -> Result<()> {
    let too_large = || format!("{path} is too large for an initramfs");
    let size = u32::try_from(entry.content.len()).with_context(too_large)?;
    let name_size = u32::try_from(path.len() + 1).with_context(too_large)?;
    let (owner, links, time, device, checksum) = (0, 1, 0, 0, 0);
    let fields = [
        inode, entry.mode, owner, owner, links, time, size, device, device, device, device,
        name_size, checksum,
    ];
    bytes.extend_from_slice(b"070701");
    for field in fields {
        bytes.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    bytes.extend_from_slice(path.as_bytes());
    bytes.push(0);
    pad(bytes);
    bytes.extend_from_slice(&entry.content);
    pad(bytes);
    Ok(())
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an archive: mode, name and content of each entry.
    fn entries(mut bytes: &[u8]) -> Vec<(u32, String, Vec<u8>)> {
        const HEADER: usize = 110;
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            assert_eq!(&bytes[..6], b"070701");
            let field = |number: usize| {
                let start = 6 + 8 * number;
                let digits = std::str::from_utf8(&bytes[start..start + 8]).unwrap();
                u32::from_str_radix(digits, 16).unwrap()
            };
            let name_end = HEADER + field(11) as usize - 1;
            let name = String::from_utf8(bytes[HEADER..name_end].to_vec()).unwrap();
            let start = (name_end + 1).next_multiple_of(4);
            let end = start + field(6) as usize;
            entries.push((field(1), name, bytes[start..end].to_vec()));
            bytes = &bytes[end.next_multiple_of(4)..];
        }
        entries
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let mut archive = Archive::default();
        archive.add_program("/bin/deep/b", b"12345".to_vec());
        archive.add_file("/bin/a", b"x".to_vec());
        archive.add_folder("/bin");
        let expected = [
            (DIRECTORY, "bin", ""),
            (REGULAR, "bin/a", "x"),
            (DIRECTORY, "bin/deep", ""),
            (PROGRAM, "bin/deep/b", "12345"),
            (0, "TRAILER!!!", ""),
        ]
        .map(|(mode, name, content)| (mode, name.to_owned(), content.as_bytes().to_vec()));
        assert_eq!(entries(&archive.into_bytes().unwrap()), expected);
    }
}
