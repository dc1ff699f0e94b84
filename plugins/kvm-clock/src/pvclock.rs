//! `struct pvclock_vcpu_time_info` in guest memory (Linux,
//! `arch/x86/include/asm/pvclock-abi.h`): the line of time as a vCPU reads it.

use wasmsr_sdk::clock::TscClock;
use wasmsr_sdk::memory::{self, GuestAddress};

/// The structure in words of 64 bits: version and padding, tsc_timestamp,
/// system_time, and the last with tsc_to_system_mul (32 bits), tsc_shift (8),
/// flags (8) and padding.
const WORDS: usize = 4;
const FLAGS_SHIFT: u32 = 40;

/// `PVCLOCK_TSC_STABLE_BIT`
const TSC_STABLE: u64 = 1 << FLAGS_SHIFT;
/// `PVCLOCK_GUEST_STOPPED`, which the guest clears once it has read it.
const GUEST_STOPPED: u64 = 1 << 1 << FLAGS_SHIFT;

/// The part of the line that is the same for all vCPUs, whatever their counters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    tsc: u64,
    ns: u64,
    scale: u64,
}

impl Published {
    pub(crate) fn new(line: &TscClock, stable: bool) -> Self {
        let [shift] = line.shift().to_le_bytes();
        let scale = u64::from(line.mul()) | u64::from(shift) << 32;
        let flags = if stable { TSC_STABLE } else { 0 };
        Published { tsc: line.base_tsc(), ns: line.base_ns(), scale: scale | flags }
    }
}

/// Whether there is memory for a structure.
pub(crate) fn is_memory(at: GuestAddress) -> bool {
    memory::read(at, [[0; 8]; WORDS].as_flattened_mut()).is_ok()
}

/// A structure that is being changed. Guests that read it wait until it is
/// closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    at: GuestAddress,
    /// Odd.
    version: u32,
    stopped: u64,
}

impl Open {
    /// Makes the version odd, and one that the guest has not read. `None` if the
    /// guest has no memory there: KVM accepts any address too, and then writes
    /// nothing.
    pub(crate) fn at(at: GuestAddress) -> Option<Open> {
        let mut held = [[0; 8]; WORDS];
        memory::read(at, held.as_flattened_mut()).ok()?;
        let [[a, b, c, d, ..], _, _, last] = held;
        let version = u32::from_le_bytes([a, b, c, d]).wrapping_add(1) | 1;
        let open = Open { at, version, stopped: u64::from_le_bytes(last) & GUEST_STOPPED };
        open.put_version(version);
        Some(open)
    }

    /// Writes the rest, for a vCPU whose counter is `tsc_adjust` ahead of the
    /// line's, and then makes the version even again.
    pub(crate) fn close(self, published: Published, tsc_adjust: u64) {
        let Published { tsc, ns, scale } = published;
        let (tsc, scale) = (tsc.wrapping_add(tsc_adjust), scale | self.stopped);
        let body = [tsc.to_le_bytes(), ns.to_le_bytes(), scale.to_le_bytes()];
        self.put(8, body.as_flattened());
        self.put_version(self.version.wrapping_add(1));
    }

    /// And its padding.
    fn put_version(self, version: u32) {
        self.put(0, &u64::from(version).to_le_bytes());
    }

    fn put(self, offset: u64, bytes: &[u8]) {
        // All of it was there when it was opened, and guest memory does not go
        // away.
        let _ = memory::write(GuestAddress(self.at.0.wrapping_add(offset)), bytes);
    }
}
