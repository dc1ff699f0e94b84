//! Memory that the kernel maps into this process, and that is unmapped in the end.
#![expect(unsafe_code, reason = "mmap")]

use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};

/// A mapping of this process's own. Nothing in it is reached by reference.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to the value alone, whatever thread has it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Zeroed memory, which takes no memory before it is touched.
    pub(crate) fn zeroed(length: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        Self::map(length, flags, -1)
    }

    /// The beginning of what a descriptor offers.
    pub(crate) fn shared(descriptor: &impl AsRawFd, length: usize) -> io::Result<Self> {
        Self::map(length, libc::MAP_SHARED, descriptor.as_raw_fd())
    }

    fn map(length: usize, flags: libc::c_int, descriptor: libc::c_int) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses where, so nothing that exists is replaced.
        let start = unsafe { libc::mmap(ptr::null_mut(), length, access, flags, descriptor, 0) };
        let refused = start == libc::MAP_FAILED;
        NonNull::new(start.cast::<u8>())
            .filter(|_| !refused)
            .map(|start| Mapping { start, length })
            .ok_or_else(io::Error::last_os_error)
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Copies as much of `bytes` as there is room for, from `offset` on.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let room = self.length.saturating_sub(offset);
        let length = bytes.len().min(room);
        if length > 0 {
            // SAFETY: `length` bytes from `offset` on lie in the mapping, which no
            // reference points into, and `bytes` is not part of it.
            unsafe {
                let target = self.start.as_ptr().add(offset);
                ptr::copy_nonoverlapping(bytes.as_ptr(), target, length);
            }
        }
    }

    /// Gives back what has been touched: it is zeros again.
    pub(crate) fn forget(&mut self) {
        // SAFETY: it is a whole mapping of zeroed memory, which no reference points into.
        // If it fails, the memory stays taken until the end of the mapping.
        let _ =
            unsafe { libc::madvise(self.start.as_ptr().cast(), self.length, libc::MADV_DONTNEED) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it is a whole mapping, which nothing points into any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
