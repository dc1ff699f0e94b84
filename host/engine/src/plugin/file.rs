//! A plugin's file: read, and its manifest found. Everything in it is hostile.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use sha2::Digest;
use wasmparser::Payload;

use super::error::ModuleError;
use crate::limits;
use crate::manifest::MANIFEST_SECTION;
use crate::profile::Sha256;

/// The content of the file in `path`.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, ModuleError> {
    // The path may come from a recording of unknown origin. Some devices act when they
    // are opened, and opening a pipe may block.
    let about = fs::metadata(path).map_err(ModuleError::Read)?;
    if !about.is_file() && !about.is_dir() {
        return Err(ModuleError::NoFile);
    }
    let at_once = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(at_once).open(path);
    let read = file.and_then(|file| read_at_most(limits::FILE, &file));
    read.map_err(ModuleError::Read)?.ok_or(ModuleError::Oversized)
}

/// The content of a file; `None` if that is more than `limit` bytes.
pub(super) fn read_at_most(limit: u64, file: &File) -> io::Result<Option<Vec<u8>>> {
    // Its size is a hint only: it may change, and a pipe has none.
    let size = file.metadata()?.len().min(limit);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

pub(super) fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

/// The manifest's bytes; also the first look at whether this is Wasm.
pub(super) fn manifest_section(bytes: &[u8]) -> Result<&[u8], ModuleError> {
    if !bytes.starts_with(b"\0asm") {
        return Err(ModuleError::Malformed("it does not begin with `\\0asm`".to_owned()));
    }
    let mut found = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| malformed(&error))? {
            Payload::Version { encoding: wasmparser::Encoding::Component, .. } => {
                return Err(ModuleError::Component);
            }
            Payload::CustomSection(section) if section.name() == MANIFEST_SECTION => {
                found.push(section.data());
            }
            _ => {}
        }
    }
    match found.as_slice() {
        [] => Err(ModuleError::NoManifest),
        [manifest] => Ok(manifest),
        [first, others @ ..] => {
            let why = match others.iter().all(|other| other == first) {
                true => {
                    "they are the same, as where two crates of one plugin call `export!`, or a tool \
                     added the section again; `wasmsr plugin pack MANIFEST FILE` leaves one"
                }
                false => {
                    "they differ, as where `llvm-objcopy --add-section` added a second one, or two \
                     crates of one plugin call `export!`; `wasmsr plugin pack MANIFEST FILE` \
                     leaves one"
                }
            };
            Err(ModuleError::TwoManifests(why))
        }
    }
}

/// wasmparser's errors can have several lines.
pub(super) fn malformed(error: &wasmparser::BinaryReaderError) -> ModuleError {
    let what: Vec<&str> = error.message().split_whitespace().collect();
    ModuleError::Malformed(format!("{} at offset {:#x}", what.join(" "), error.offset()))
}
