//! The host of a plugin that is not in charge yet: it sees the guest as it is, and what it
//! would change is held back until it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmsr_interface::{
    ExitList, ExitsCause, ExitsRefused, Host, Initiator, MsrIndex, OutsideMemory, VcpuId, VcpuTimes,
};

use super::cell::DueWrite;

/// Most writes to guest memory that are held back, and their bytes: each read looks through
/// them.
const MOST_WRITES: usize = 512;
const MOST_BYTES: usize = 1 << 20;

/// Most writes of KVM's MSRs that are held back, of all vCPUs.
const MOST_MSRS: usize = 1 << 16;

/// A host whose changes wait.
pub(super) struct AsideHost {
    inner: Arc<dyn Host>,
    held: Mutex<Held>,
}

/// Changes, in the order in which they were made.
#[derive(Default)]
pub(super) struct Held {
    pub(super) memory: Vec<(u64, Vec<u8>)>,
    pub(super) msrs: Vec<DueWrite>,
    /// The last value of each, and the one that it had before.
    values: BTreeMap<(u32, MsrIndex), (u64, Option<u64>)>,
    bytes: usize,
    /// Whether there were more than fit.
    pub(super) overflowed: bool,
}

impl AsideHost {
    pub(super) fn new(inner: Arc<dyn Host>) -> Self {
        AsideHost { inner, held: Mutex::default() }
    }

    /// Takes what was held back. Of an MSR that was written several times the last value
    /// counts; one that is the same as before is none, since the guest may have changed the
    /// MSR meanwhile.
    pub(super) fn take(&self) -> Held {
        let mut held = std::mem::take(&mut *self.lock());
        let values = std::mem::take(&mut held.values);
        let mut last: BTreeMap<(u32, MsrIndex), DueWrite> = BTreeMap::new();
        for write in held.msrs.drain(..) {
            last.insert((write.vcpu.0, write.index), write);
        }
        let changes = |(key, write): &(&(u32, MsrIndex), &DueWrite)| {
            values.get(*key).is_none_or(|(_, before)| *before != Some(write.value))
        };
        held.msrs = last.iter().filter(changes).map(|(_, write)| *write).collect();
        held
    }

    /// Whether more was written than is held back.
    pub(super) fn overflowed(&self) -> bool {
        self.lock().overflowed
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts what lies at `start` over what was read at `gpa`, where they meet.
fn overlay(gpa: u64, out: &mut [u8], start: u64, data: &[u8]) {
    let (skipped, offset) = match start.checked_sub(gpa) {
        Some(offset) => (0, offset),
        None => (gpa - start, 0),
    };
    let (Ok(skipped), Ok(offset)) = (usize::try_from(skipped), usize::try_from(offset)) else {
        return;
    };
    let data = data.get(skipped..).unwrap_or_default();
    let places = out.get_mut(offset..).unwrap_or_default();
    places.iter_mut().zip(data).for_each(|(place, byte)| *place = *byte);
}

impl Host for AsideHost {
    fn guest_tsc(&self, vcpu: VcpuId) -> u64 {
        self.inner.guest_tsc(vcpu)
    }

    fn tsc_khz(&self) -> u32 {
        self.inner.tsc_khz()
    }

    fn monotonic_ns(&self) -> u64 {
        self.inner.monotonic_ns()
    }

    fn realtime_ns(&self) -> u64 {
        self.inner.realtime_ns()
    }

    fn tsc_is_stable(&self) -> bool {
        self.inner.tsc_is_stable()
    }

    fn guest_rip(&self, vcpu: VcpuId) -> Option<u64> {
        self.inner.guest_rip(vcpu)
    }

    fn vcpu_times(&self, vcpu: VcpuId) -> Option<VcpuTimes> {
        self.inner.vcpu_times(vcpu)
    }

    /// With what the plugin itself has written.
    fn read_memory(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory> {
        self.inner.read_memory(gpa, out)?;
        for (start, data) in &self.lock().memory {
            overlay(gpa, out, *start, data);
        }
        Ok(())
    }

    fn write_memory(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory> {
        // Whether it is memory shows when it is read.
        self.inner.read_memory(gpa, &mut vec![0; data.len()])?;
        let mut held = self.lock();
        let bytes = held.bytes.saturating_add(data.len());
        if held.memory.len() >= MOST_WRITES || bytes > MOST_BYTES {
            held.overflowed = true;
            return Err(OutsideMemory { gpa, len: data.len() });
        }
        held.bytes = bytes;
        held.memory.push((gpa, data.to_vec()));
        Ok(())
    }

    /// With what the plugin itself has written.
    fn kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, initiator: Initiator) -> Option<u64> {
        let written = self.lock().values.get(&(vcpu.0, index)).map(|(value, _)| *value);
        written.or_else(|| self.inner.kvm_msr(vcpu, index, initiator))
    }

    /// As if KVM took the value: whether it does shows only when the value is set.
    fn set_kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, value: u64, initiator: Initiator) -> bool {
        let is_first = !self.lock().values.contains_key(&(vcpu.0, index));
        let before = is_first.then(|| self.inner.kvm_msr(vcpu, index, Initiator::Host)).flatten();
        let mut held = self.lock();
        if held.msrs.len() >= MOST_MSRS {
            held.overflowed = true;
            return false;
        }
        let known = held.values.entry((vcpu.0, index)).or_insert((value, before));
        known.0 = value;
        held.msrs.push(DueWrite { vcpu, index, value, initiator });
        true
    }

    fn host_msr(&self, cpu: Option<u32>, index: MsrIndex) -> Option<u64> {
        self.inner.host_msr(cpu, index)
    }

    fn host_cpus(&self) -> u32 {
        self.inner.host_cpus()
    }

    fn read_host_file(&self, path: &Path, out: &mut [u8]) -> Option<usize> {
        self.inner.read_host_file(path, out)
    }

    fn check_exits(&self, exits: &ExitList) -> Result<(), ExitsRefused> {
        self.inner.check_exits(exits)
    }

    /// What the whole set wants to exit is set when it takes charge.
    fn set_exits(&self, exits: &ExitList, _: &ExitsCause) -> Result<(), ExitsRefused> {
        self.inner.check_exits(exits)
    }

    /// Timers are set when the plugin takes charge.
    fn wake_at(&self, _: VcpuId, _: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_lies_over_what_is_read() {
        let check = |gpa, start, data: &[u8], expected: &[u8]| {
            let mut out = [0; 4];
            overlay(gpa, &mut out, start, data);
            assert_eq!(out, expected, "{gpa} {start}");
        };
        check(10, 10, &[1, 2, 3, 4], &[1, 2, 3, 4]);
        check(10, 8, &[1, 2, 3, 4], &[3, 4, 0, 0]);
        check(10, 12, &[1, 2, 3, 4], &[0, 0, 1, 2]);
        check(10, 14, &[1], &[0; 4]);
        check(10, 6, &[1, 2, 3, 4], &[0; 4]);
        check(10, 9, &[1, 2, 3, 4, 5, 6, 7], &[2, 3, 4, 5]);
        check(0, u64::MAX, &[1], &[0; 4]);
    }
}
