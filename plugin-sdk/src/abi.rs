//! The numbers of ABI version 1 that cross the boundary as plain integers.

/// Success of every host call that returns a status.
pub(crate) const OK: u32 = 0;

/// `intercept`: the MSRs are not all the plugin's own.
pub(crate) const INTERCEPT_OUTSIDE: u32 = 1;

/// Bits of `directions` in `intercept`.
pub(crate) const DIRECTION_READ: u32 = 1 << 0;
pub(crate) const DIRECTION_WRITE: u32 = 1 << 1;

/// The vCPU that `init` gets in an instance for the whole VM: -1.
pub(crate) const NO_VCPU: u32 = u32::MAX;

/// `host_file`: there is no such file to be read.
pub(crate) const NO_FILE: u32 = u32::MAX;

/// Longest line that `log` takes, in bytes.
pub(crate) const LOG_LINE: usize = 1024;

/// What `init`, `save` and `restore` return.
pub(crate) const DONE: u32 = 0;
pub(crate) const REFUSED: u32 = 1;
