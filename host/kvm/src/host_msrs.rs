//! MSRs of the physical host, through the kernel's `msr` module: one file per CPU, with
//! eight bytes at the offset of each MSR (msr(4)).
#![expect(unsafe_code, reason = "which CPU runs a thread, which std does not tell")]

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, Once, PoisonError};

use wasmsr_interface::MsrIndex;

/// Reads the host's MSRs.
#[derive(Debug)]
pub(crate) struct HostMsrs {
    directory: PathBuf,
    /// Opened at the first read on a CPU.
    files: Mutex<HashMap<usize, File>>,
    told: Once,
}

impl HostMsrs {
    pub(crate) fn new() -> Self {
        Self::in_directory("/dev/cpu".into())
    }

    fn in_directory(directory: PathBuf) -> Self {
        HostMsrs { directory, files: Mutex::default(), told: Once::new() }
    }

    /// The value on this CPU, or on the one that runs this thread; `None` if it cannot be
    /// read.
    pub(crate) fn read(&self, cpu: Option<u32>, index: MsrIndex) -> Option<u64> {
        let cpu = match cpu {
            Some(cpu) => usize::try_from(cpu).ok()?,
            // SAFETY: it only asks the kernel.
            None => usize::try_from(unsafe { libc::sched_getcpu() }).ok()?,
        };
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match files.entry(cpu) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let path = self.directory.join(cpu.to_string()).join("msr");
                match File::open(&path) {
                    Ok(file) => entry.insert(file),
                    Err(error) => {
                        self.told.call_once(|| tell(&path, &error));
                        return None;
                    }
                }
            }
        };
        let mut value = [0; 8];
        // EIO is how the module says that the host has no such MSR.
        file.read_exact_at(&mut value, index.0.into()).ok()?;
        Some(u64::from_le_bytes(value))
    }
}

fn tell(path: &std::path::Path, error: &io::Error) {
    tracing::warn!(
        "a plugin asks for an MSR of the host, but {} cannot be opened: {error}; load the kernel \
         module `msr`, and run with CAP_SYS_RAWIO as a user who may read the file",
        path.display()
    );
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_value_is_eight_bytes_at_its_index() {
        let directory = tempfile::tempdir().unwrap();
        for cpu in 0..std::thread::available_parallelism().unwrap().get().max(64) {
            let cpu = directory.path().join(cpu.to_string());
            fs::create_dir(&cpu).unwrap();
            let mut content = vec![0; 0x606];
            content.extend(0x1122_3344_5566_7788_u64.to_le_bytes());
            fs::write(cpu.join("msr"), content).unwrap();
        }
        let msrs = HostMsrs::in_directory(directory.path().into());
        assert_eq!(msrs.read(None, MsrIndex(0x606)), Some(0x1122_3344_5566_7788));
        assert_eq!(msrs.read(Some(1), MsrIndex(0x606)), Some(0x1122_3344_5566_7788));
        assert_eq!(msrs.read(Some(u32::MAX), MsrIndex(0x606)), None, "no such CPU");
        assert_eq!(msrs.read(None, MsrIndex(0x607)), None, "there are not eight bytes");
        assert_eq!(msrs.read(None, MsrIndex(u32::MAX)), None);
    }

    #[test]
    fn without_the_module_there_is_no_value() {
        let msrs = HostMsrs::in_directory("/nonexistent".into());
        assert_eq!(msrs.read(None, MsrIndex(0x10)), None);
        assert_eq!(msrs.read(None, MsrIndex(0x10)), None);
    }
}
