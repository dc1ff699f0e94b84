//! The physical host: its CPUs' MSRs and files.
//!
//! The manifest must ask for the capability `host-msr` with the ranges it needs,
//! such as `host-msr:0x606-0x611`, or without a range for whichever the profile
//! grants; and for `host-file:NAME` for each file.

use crate::{MsrIndex, Refused, abi, raw};

/// How many CPUs the host has online. No capability is needed.
pub fn cpus() -> u32 {
    raw::host_cpus()
}

/// The value on the physical CPU that the vCPU runs on.
///
/// # Errors
/// [`Refused`] if the CPU has no such MSR or it is not within the granted
/// ranges.
pub fn rdmsr(index: MsrIndex) -> Result<u64, Refused> {
    let mut value = 0;
    Refused::unless_ok(raw::host_rdmsr(index.0, &mut value))?;
    Ok(value)
}

/// The value on one physical CPU, by the host's number for it.
///
/// # Errors
/// As [`rdmsr`]; also if there is no such CPU.
pub fn rdmsr_on(cpu: u32, index: MsrIndex) -> Result<u64, Refused> {
    let mut value = 0;
    Refused::unless_ok(raw::host_rdmsr_on(cpu, index.0, &mut value))?;
    Ok(value)
}

/// Reads the beginning of the file that the profile grants under `name`: as much
/// as `out` holds, at most 4096 bytes. Returns the number of bytes.
///
/// # Errors
/// [`Refused`] if no file is granted under the name, or it cannot be read.
pub fn read_file(name: &str, out: &mut [u8]) -> Result<usize, Refused> {
    match raw::host_file(name, out) {
        abi::NO_FILE => Err(Refused),
        len => Ok(out.len().min(len as usize)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::Host;

    #[test]
    fn each_cpu_may_have_its_own_value() {
        let host = Host::fresh();
        host.set_host_cpus(2);
        host.set_host_msr(MsrIndex(0x10), 7);
        host.set_host_msr_on(1, MsrIndex(0x10), 8);
        assert_eq!(rdmsr(MsrIndex(0x10)), Ok(7));
        assert_eq!(rdmsr_on(0, MsrIndex(0x10)), Ok(7));
        assert_eq!(rdmsr_on(1, MsrIndex(0x10)), Ok(8));
        assert_eq!(rdmsr_on(2, MsrIndex(0x10)), Err(Refused));
    }

    #[test]
    fn a_file_is_read_as_far_as_there_is_room() {
        let host = Host::fresh();
        host.set_host_file("energy", b"12345");
        let mut out = [0; 4];
        assert_eq!(read_file("energy", &mut out), Ok(4));
        assert_eq!(&out, b"1234");
        assert_eq!(read_file("other", &mut out), Err(Refused));
    }
}
