//! `struct pvclock_wall_clock` in guest memory (Linux,
//! `arch/x86/include/asm/pvclock-abi.h`): the time of day at which the guest's
//! system time was 0.

use wasmsr_sdk::memory::{self, GuestAddress, OutsideMemory};

/// Bytes of the structure: version, sec, nsec.
const LEN: usize = 12;
const SECONDS: u64 = 4;
const NANOSECONDS: u64 = 8;

/// Writes the structure, as `kvm_write_wall_clock` does.
///
/// # Errors
/// The guest has no memory there; nothing is then written.
pub(crate) fn write(at: GuestAddress, boot_ns: u64) -> Result<(), OutsideMemory> {
    memory::read(at, &mut [0; LEN])?;
    // Before the first write this is arbitrary, perhaps odd.
    let version = memory::read_value::<u32>(at)?.wrapping_add(1) | 1;
    memory::write_value(at, version)?;
    memory::write_value(at_offset(at, SECONDS), low_half(boot_ns / 1_000_000_000))?;
    memory::write_value(at_offset(at, NANOSECONDS), low_half(boot_ns % 1_000_000_000))?;
    memory::write_value(at, version.wrapping_add(1))
}

fn at_offset(at: GuestAddress, offset: u64) -> GuestAddress {
    GuestAddress(at.0.wrapping_add(offset))
}

/// The field has 32 bits; its seconds end in 2106.
fn low_half(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
