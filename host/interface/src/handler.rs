//! What a vCPU loop calls to have MSR accesses answered.

use crate::access::MsrAccess;
use crate::outcome::Outcome;

/// Answers the MSR exits of one vCPU, on the thread that runs it.
///
/// The engine's `VcpuDispatch` is the implementation with plugins; a VMM's tests and
/// benchmarks may put a plain `match` in its place.
pub trait MsrHandler: Send {
    /// Answers one access. It must not block for long: the vCPU waits.
    fn answer(&mut self, access: MsrAccess) -> Outcome;

    /// Is called when the time has come that [`Host::wake_at`](crate::Host::wake_at)
    /// was given, with no access pending.
    fn wake(&mut self) {}

    /// Is called once, when no vCPU runs any more.
    fn end(&mut self) {}
}
