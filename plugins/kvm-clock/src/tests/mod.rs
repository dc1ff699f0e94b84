//! The plugin on a scripted host.

extern crate std;

mod clock;
mod model;
mod steal;

use std::vec::Vec;

use wasmsr_sdk::memory::GuestAddress;
use wasmsr_sdk::native::Host;
use wasmsr_sdk::{Access, MsrIndex, Otherwise, Plugin, Reason, VcpuId};

use crate::KvmClock;

const WALL_CLOCK: u32 = 0x4b56_4d00;
const SYSTEM_TIME: u32 = 0x4b56_4d01;
const STEAL_TIME: u32 = 0x4b56_4d03;
const TSC_ADJUST: MsrIndex = MsrIndex(0x3b);

/// Where the guest's RAM is.
const RAM: u64 = 0x1000;
const RAM_LEN: usize = 0x1000;

/// A host with this many vCPUs and a counter of 2 GHz, 10 s after its start and
/// 5 s after the counter's, with arbitrary bytes in the guest's RAM.
fn host(vcpus: u32) -> Host {
    let host = Host::fresh();
    host.set_vcpus(vcpus);
    host.set_tsc_khz(2_000_000);
    host.set_tsc(10_000_000_000);
    host.set_monotonic_ns(10_000_000_000);
    host.set_memory(GuestAddress(RAM), &[0xff; RAM_LEN]);
    host
}

fn on(vcpu: u32, msr: u32) -> Access {
    Access::new(MsrIndex(msr), VcpuId(vcpu), Reason::Filter)
}

fn bytes<const LEN: usize>(host: &Host, at: u64) -> [u8; LEN] {
    host.memory(GuestAddress(at), LEN).unwrap().try_into().unwrap()
}

fn u32_at(host: &Host, at: u64) -> u32 {
    u32::from_le_bytes(bytes(host, at))
}

fn u64_at(host: &Host, at: u64) -> u64 {
    u64::from_le_bytes(bytes(host, at))
}

/// `struct pvclock_vcpu_time_info`, as a guest reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TimeInfo {
    version: u32,
    tsc_timestamp: u64,
    system_time: u64,
    mul: u32,
    shift: i8,
    flags: u8,
}

impl TimeInfo {
    fn at(host: &Host, at: u64) -> TimeInfo {
        assert_eq!(u32_at(host, at + 4), 0, "padding");
        assert_eq!(bytes(host, at + 30), [0, 0], "padding");
        let [shift, flags] = bytes(host, at + 28);
        TimeInfo {
            version: u32_at(host, at),
            tsc_timestamp: u64_at(host, at + 8),
            system_time: u64_at(host, at + 16),
            mul: u32_at(host, at + 24),
            shift: i8::from_le_bytes([shift]),
            flags,
        }
    }

    /// As in `__pvclock_read_cycles` of Linux.
    fn ns(self, tsc: u64) -> u64 {
        let delta = tsc.wrapping_sub(self.tsc_timestamp);
        let shift = self.shift.unsigned_abs();
        let delta = if self.shift < 0 { delta >> shift } else { delta << shift };
        let ns = (u128::from(delta) * u128::from(self.mul)) >> 32;
        self.system_time.wrapping_add(u64::try_from(ns).unwrap())
    }
}

fn steps(plugin: &mut KvmClock, steps: &[(u32, u32, u64)]) -> Vec<Result<(), Otherwise>> {
    steps.iter().map(|&(vcpu, msr, value)| plugin.wrmsr(on(vcpu, msr), value)).collect()
}
