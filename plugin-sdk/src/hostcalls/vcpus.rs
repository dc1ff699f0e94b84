//! The VM's virtual CPUs. No capability is needed.

use crate::{Refused, VcpuId, raw};

/// How many there are, numbered from 0.
pub fn count() -> u32 {
    raw::vcpus()
}

/// What the host's scheduler has counted for a vCPU's thread since its start.
/// Both are as recent as the scheduler's last tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Times {
    /// Nanoseconds on a CPU.
    pub ran_ns: u64,
    /// Nanoseconds ready to run, but waiting for a CPU.
    pub waited_ns: u64,
}

/// How long a vCPU has run and waited.
///
/// # Errors
/// [`Refused`] if the vCPU does not exist or has not started, and if the host's
/// kernel does not count.
pub fn times(vcpu: VcpuId) -> Result<Times, Refused> {
    let mut times = [0; 2];
    Refused::unless_ok(raw::vcpu_times(vcpu.0, &mut times))?;
    let [ran_ns, waited_ns] = times;
    Ok(Times { ran_ns, waited_ns })
}
