//! What a kernel is told by either protocol.

use std::ops::Range;

/// Where in memory the kernel finds things.
pub(super) struct Told {
    pub(super) cmdline: u32,
    pub(super) initrd: Option<Range<u32>>,
}
