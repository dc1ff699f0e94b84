//! Compiled plugins, kept on disk so that a later start compiles nothing.
//!
//! An entry is named for the plugin's file and the compiler's settings, and
//! laid out as follows; `code` is what [`Module::serialize`] gives.
//!
//! ```text
//! magic and version   8 bytes
//! SHA-256 of the file 32
//! hash of settings    8, little-endian
//! length of code      8, little-endian
//! SHA-256 of code     32
//! code
//! ```
//!
//! Entries appear whole or not at all, so any number of processes may share a
//! directory. One that is not exactly as it was written is compiled anew.

use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::Digest;
use wasmtime::{Engine, Module};

use super::file::read_at_most;
use crate::profile::Sha256;

/// A directory of compiled plugins that belongs to this user alone.
#[derive(Debug, Clone)]
pub struct CodeCache {
    directory: PathBuf,
}

/// Why a directory cannot be a cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It cannot be made or opened.
    #[error("cache directory {}: {source}; check its permissions, or choose another", .path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another user could put code there.
    #[error(
        "cache directory {}: {why}, but what lies there is run as code; `chown {user}` and \
         `chmod 700` it, or choose another", .path.display()
    )]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Which other users can.
        why: String,
        /// The user that runs this.
        user: u32,
    },
}

impl CodeCache {
    /// Takes `directory` as the cache, making it where it is missing.
    ///
    /// # Errors
    /// [`CacheError`] if it cannot be made or opened, or if another user than the
    /// effective one may write there.
    pub fn open(directory: &Path) -> Result<Self, CacheError> {
        let path = || directory.to_owned();
        let opened = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .and_then(|()| File::open(directory));
        let exposure = opened
            .and_then(|opened| exposure(&opened))
            .map_err(|source| CacheError::Open { path: path(), source })?;
        match exposure {
            None => Ok(CodeCache { directory: path() }),
            Some(why) => Err(CacheError::Exposed { path: path(), why, user: effective_user() }),
        }
    }

    /// The code of the plugin file with this hash; `None` where it must be
    /// compiled.
    pub(super) fn load(&self, engine: &Engine, file: Sha256) -> Option<Module> {
        let key = EntryKey::new(engine, file);
        let path = self.directory.join(key.file_name());
        match read(&path).and_then(|entry| deserialize(engine, key.code_in(&entry)?)) {
            Ok(module) => Some(module),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::debug!("cache entry {}: {error}; compiling anew", path.display());
                None
            }
        }
    }

    /// Keeps the code of the plugin file with this hash; where that fails, the
    /// next start compiles again.
    pub(super) fn store(&self, module: &Module, file: Sha256) {
        let key = EntryKey::new(module.engine(), file);
        if let Err(error) = self.write(&key, module).and_then(|()| prune(&self.directory, MAX_SIZE))
        {
            tracing::debug!("cache directory {}: {error}", self.directory.display());
        }
    }

    fn write(&self, key: &EntryKey, module: &Module) -> io::Result<()> {
        let code = module.serialize().map_err(|error| io::Error::other(format!("{error:#}")))?;
        // Readable and writable by its owner alone.
        let mut entry =
            tempfile::Builder::new().prefix("new-").suffix(SUFFIX).tempfile_in(&self.directory)?;
        entry.write_all(&key.header(&code))?;
        entry.write_all(&code)?;
        entry.persist(self.directory.join(key.file_name()))?;
        Ok(())
    }
}

const SUFFIX: &str = ".wasmsr-code";

/// Changes with the layout.
const MAGIC: &[u8; 8] = b"wasmsr\0\x01";

const HEADER: usize = MAGIC.len() + 32 + 8 + 8 + 32;

/// Most bytes of all entries together. The code of a plugin has tens of KiB.
const MAX_SIZE: u64 = 256 << 20;

/// What code was made from, and how.
struct EntryKey {
    file: Sha256,
    settings: u64,
}

impl EntryKey {
    fn new(engine: &Engine, file: Sha256) -> Self {
        // Covers wasmtime's version, its settings and the CPU's features. A
        // Rust release with another hasher finds no entry, and no wrong one.
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        EntryKey { file, settings: hasher.finish() }
    }

    fn file_name(&self) -> String {
        format!("{}-{:016x}{SUFFIX}", self.file, self.settings)
    }

    /// The code in an entry that is exactly as it was written.
    fn code_in<'e>(&self, entry: &'e [u8]) -> io::Result<&'e [u8]> {
        match entry.split_at_checked(HEADER) {
            Some((header, code)) if header == self.header(code) => Ok(code),
            _ => Err(io::Error::other("it is damaged")),
        }
    }

    fn header(&self, code: &[u8]) -> Vec<u8> {
        let mut header = MAGIC.to_vec();
        header.extend(self.file.0);
        header.extend(self.settings.to_le_bytes());
        header.extend((code.len() as u64).to_le_bytes());
        header.extend(sha2::Sha256::digest(code));
        header
    }
}

/// An entry that only this user can have written.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let entry = File::open(path)?;
    match exposure(&entry)? {
        Some(why) => Err(io::Error::other(why)),
        None => read_at_most(MAX_SIZE, &entry)?.ok_or_else(|| io::Error::other("it is too long")),
    }
}

#[expect(unsafe_code, reason = "compiled code is trusted as this program itself is")]
fn deserialize(engine: &Engine, code: &[u8]) -> io::Result<Module> {
    // SAFETY: wasmtime asks for nothing but unmodified output of
    // `Module::serialize`, of any version. `code` was read from an open file
    // that belongs to the effective user and that no other user may write, in a
    // directory of which the same is true; a writer of it could as well have replaced
    // this program. Its checksum rules out accidents.
    unsafe { Module::deserialize(engine, code) }
        .map_err(|error| io::Error::other(format!("{error:#}")))
}

/// Why another user than the effective one may write an open file or directory.
fn exposure(opened: &File) -> io::Result<Option<String>> {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let metadata = opened.metadata()?;
    let mode = metadata.mode() & 0o7777;
    Ok(if metadata.uid() != effective_user() {
        Some(format!("it belongs to user {}", metadata.uid()))
    } else if mode & WRITABLE_BY_OTHERS != 0 {
        Some(format!("others may write it (mode {mode:o})"))
    } else {
        None
    })
}

fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Removes the oldest entries until all are within `limit` bytes.
fn prune(directory: &Path, limit: u64) -> io::Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().ends_with(SUFFIX.as_bytes()) {
            // Another process may have removed it meanwhile.
            let Ok(metadata) = entry.metadata() else { continue };
            entries.push((metadata.modified()?, metadata.len(), entry.path()));
        }
    }
    entries.sort_unstable();
    let mut size: u64 = entries.iter().map(|(_, len, _)| len).sum();
    for (_, len, path) in entries {
        if size <= limit {
            break;
        }
        fs::remove_file(path)?;
        size -= len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn the_oldest_entries_go_first_and_other_files_stay() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, age: u64| {
            let file = File::create_new(directory.path().join(name)).unwrap();
            file.set_len(100).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        put("old.wasmsr-code", 30);
        put("new.wasmsr-code", 10);
        put("middle.wasmsr-code", 20);
        put("letter.txt", 40);
        prune(directory.path(), 250).unwrap();
        let mut left: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["letter.txt", "middle.wasmsr-code", "new.wasmsr-code"]);
    }
}
