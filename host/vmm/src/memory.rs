//! Guest memory: where RAM lies, and the host memory behind it.

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::mmap::FromRangesError;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use wasmsr_interface::OutsideMemory;
use wasmsr_kvm::GuestRam;

/// RAM ends here and continues at 4 GiB: the hole holds the IOAPIC, the local
/// APICs and KVM's own pages.
pub(crate) const HOLE_START: u64 = 3 << 30;
const HOLE_END: u64 = 4 << 30;

/// Why a guest's memory cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// No RAM at all, or a part of a page.
    #[error("memory of {0} bytes is not a positive multiple of 4096")]
    Unaligned(u64),
    /// More than the host has.
    #[error(
        "memory of {} MiB does not fit this host, which has {} MiB; lower `memory`",
        wanted >> 20, host >> 20
    )]
    TooLarge {
        /// What was asked for.
        wanted: u64,
        /// The host's.
        host: u64,
    },
    /// More than the guest's physical addresses reach.
    #[error(
        "memory of {} MiB needs more than the {bits} bits that a physical address of this KVM \
         has; lower `memory`", wanted >> 20
    )]
    TooWide {
        /// What was asked for.
        wanted: u64,
        /// Width of a guest-physical address.
        bits: u8,
    },
    /// The host refuses the mapping.
    #[error("cannot map {} MiB of guest memory: {error}", wanted >> 20)]
    Map {
        /// What was asked for.
        wanted: u64,
        /// What the system says.
        error: FromRangesError,
    },
    /// KVM refuses a region.
    #[error("KVM refuses {bytes} bytes of guest memory at {at:#x}: {error}")]
    Region {
        /// Guest-physical address.
        at: u64,
        /// Length.
        bytes: u64,
        /// What KVM says.
        error: kvm_ioctls::Error,
    },
}

/// Where `bytes` of RAM lie: below the hole at 3 GiB, the rest from 4 GiB on.
pub(crate) fn ram_ranges(bytes: u64) -> Vec<(GuestAddress, usize)> {
    let low = bytes.min(HOLE_START);
    [(0, low), (HOLE_END, bytes - low)]
        .into_iter()
        .filter(|&(_, length)| length > 0)
        .map(|(start, length)| (GuestAddress(start), usize::try_from(length).unwrap_or(usize::MAX)))
        .collect()
}

/// Maps `bytes` of zeroed guest memory, which the host provides page by page
/// as the guest touches it.
pub(crate) fn allocate(bytes: u64, address_bits: u8) -> Result<GuestMemoryMmap, MemoryError> {
    if bytes == 0 || !bytes.is_multiple_of(4096) {
        return Err(MemoryError::Unaligned(bytes));
    }
    if let Some(host) = host_memory()
        && bytes > host
    {
        return Err(MemoryError::TooLarge { wanted: bytes, host });
    }
    let ranges = ram_ranges(bytes);
    if let Some(&(start, length)) = ranges.last()
        && (start.0 + length as u64 - 1).checked_shr(address_bits.into()).unwrap_or(0) != 0
    {
        return Err(MemoryError::TooWide { wanted: bytes, bits: address_bits });
    }
    GuestMemoryMmap::from_ranges(&ranges).map_err(|error| MemoryError::Map { wanted: bytes, error })
}

/// Makes `memory` the RAM of `vm`.
///
/// The caller keeps `memory` for as long as a vCPU of `vm` runs.
#[expect(unsafe_code, reason = "KVM takes the host address of guest memory")]
pub(crate) fn give_to(vm: &VmFd, memory: &GuestMemoryMmap) -> Result<(), MemoryError> {
    for (slot, region) in (0..).zip(memory.iter()) {
        let kvm_region = kvm_userspace_memory_region {
            slot,
            flags: 0,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: region.as_ptr() as u64,
        };
        // SAFETY: the region is mapped for its whole length, overlaps no
        // other, and `Vm` keeps it mapped until its vCPUs are gone.
        unsafe { vm.set_user_memory_region(kvm_region) }.map_err(|error| MemoryError::Region {
            at: region.start_addr().0,
            bytes: region.len(),
            error,
        })?;
    }
    Ok(())
}

/// Guest memory as plugins' host calls reach it.
pub(crate) struct Ram(pub(crate) GuestMemoryMmap);

impl Ram {
    fn check(&self, gpa: u64, len: usize) -> Result<GuestAddress, OutsideMemory> {
        let address = GuestAddress(gpa);
        match self.0.check_range(address, len) {
            true => Ok(address),
            false => Err(OutsideMemory { gpa, len }),
        }
    }
}

impl GuestRam for Ram {
    fn ranges(&self) -> Vec<(u64, u64)> {
        self.0.iter().map(|region| (region.start_addr().0, region.len())).collect()
    }

    fn read(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory> {
        let len = out.len();
        let address = self.check(gpa, len)?;
        self.0.read_slice(out, address).map_err(|_| OutsideMemory { gpa, len })
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory> {
        let len = data.len();
        let address = self.check(gpa, len)?;
        self.0.write_slice(data, address).map_err(|_| OutsideMemory { gpa, len })
    }
}

/// The host's memory in bytes, if `/proc` tells.
fn host_memory() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[track_caller]
    fn check(bytes: u64, expected: &[(u64, u64)]) {
        let got: Vec<_> = ram_ranges(bytes).iter().map(|r| (r.0.0, r.1 as u64)).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn ram_lies_around_the_hole() {
        check(128 << 20, &[(0, 128 << 20)]);
        check(3 * GIB, &[(0, 3 * GIB)]);
        check(3 * GIB + 4096, &[(0, 3 * GIB), (4 * GIB, 4096)]);
        check(64 * GIB, &[(0, 3 * GIB), (4 * GIB, 61 * GIB)]);
    }

    #[track_caller]
    fn check_refused(bytes: u64, part: &str) {
        let error = allocate(bytes, 36).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn impossible_memory_is_refused() {
        check_refused(0, "multiple of 4096");
        check_refused(4097, "4097 bytes");
        check_refused(1 << 60, "does not fit this host");
    }

    #[test]
    fn memory_beyond_the_address_width_is_refused() {
        let error = allocate(4 << 20, 21).unwrap_err().to_string();
        assert!(error.contains("21 bits"), "{error}");
    }

    const RAM: u64 = 0x2000;

    fn ram() -> Ram {
        Ram(GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x2000)]).unwrap())
    }

    #[test]
    fn memory_is_read_as_written() {
        let ram = ram();
        assert_eq!(ram.write(RAM - 4, b"abcd"), Ok(()));
        let mut out = [0; 4];
        assert_eq!(ram.read(RAM - 4, &mut out), Ok(()));
        assert_eq!(&out, b"abcd");
    }

    #[test]
    fn a_range_that_leaves_ram_writes_nothing() {
        let ram = ram();
        let outside = OutsideMemory { gpa: RAM - 2, len: 4 };
        assert_eq!(ram.write(RAM - 2, b"abcd"), Err(outside));
        let mut out = [0xff; 2];
        assert_eq!(ram.read(RAM - 2, &mut out), Ok(()));
        assert_eq!(out, [0, 0]);
    }

    #[test]
    fn addresses_do_not_wrap() {
        let mut out = [0; 8];
        assert!(ram().read(u64::MAX - 3, &mut out).is_err());
    }
}
