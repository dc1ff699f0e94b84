//! A call at a later time. The manifest must ask for the capability `timer`,
//! and the plugin needs the hook [`Timer`](crate::Timer).

use crate::{Refused, raw};

/// Asks for [`Timer::timer`](crate::Timer::timer) at this time of
/// [`time::monotonic_ns`](crate::time::monotonic_ns); replaces an earlier
/// request.
///
/// # Errors
/// [`Refused`] if the host cannot keep the time.
pub fn call_at(monotonic_ns: u64) -> Result<(), Refused> {
    Refused::unless_ok(raw::timer(monotonic_ns))
}
