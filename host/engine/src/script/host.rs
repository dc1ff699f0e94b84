//! A host that is what a trace says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wasmsr_interface::{
    ExitList, ExitsCause, ExitsRefused, Host, Initiator, MsrIndex, OutsideMemory, VcpuId, VcpuTimes,
};

use super::step::Fact;

/// Everything is 0, absent or empty until told.
#[derive(Default)]
pub(crate) struct ScriptedHost(Mutex<Facts>);

#[derive(Default)]
struct Facts {
    ns: u64,
    tsc: u64,
    khz: u32,
    realtime: u64,
    stable: bool,
    cpus: u32,
    kvm_msrs: BTreeMap<(VcpuId, MsrIndex), u64>,
    host_msrs: BTreeMap<(Option<u32>, MsrIndex), u64>,
    times: BTreeMap<VcpuId, VcpuTimes>,
    files: BTreeMap<PathBuf, String>,
    /// By guest-physical address.
    memory: BTreeMap<u64, Vec<u8>>,
    alarms: BTreeMap<VcpuId, u64>,
}

impl Facts {
    fn memory(&mut self, gpa: u64, len: usize) -> Result<&mut [u8], OutsideMemory> {
        let piece = self.memory.range_mut(..=gpa).next_back();
        let bytes = piece.and_then(|(start, ram)| {
            let offset = usize::try_from(gpa - start).ok()?;
            ram.get_mut(offset..offset.checked_add(len)?)
        });
        bytes.ok_or(OutsideMemory { gpa, len })
    }
}

impl ScriptedHost {
    /// Makes a fact true, as seen by `vcpu` where that matters.
    pub(crate) fn tell(&self, vcpu: VcpuId, fact: Fact) {
        let facts = &mut *self.facts();
        match fact {
            Fact::Ns(ns) => facts.ns = ns,
            Fact::Tsc(tsc) => facts.tsc = tsc,
            Fact::Khz(khz) => facts.khz = khz,
            Fact::Realtime(ns) => facts.realtime = ns,
            Fact::Stable(stable) => facts.stable = stable,
            Fact::Cpus(cpus) => facts.cpus = cpus,
            Fact::KvmMsr(index, value) => {
                facts.kvm_msrs.insert((vcpu, index), value);
            }
            Fact::HostMsr(cpu, index, value) => {
                facts.host_msrs.insert((cpu, index), value);
            }
            Fact::Times(vcpu, times) => {
                facts.times.insert(vcpu, times);
            }
            Fact::File(path, text) => {
                facts.files.insert(path, text);
            }
            Fact::Ram(gpa, len) => {
                facts.memory.insert(gpa, vec![0; len]);
            }
            Fact::Bytes(gpa, bytes) => {
                if facts.memory(gpa, bytes.len()).is_err() {
                    facts.memory.insert(gpa, vec![0; bytes.len()]);
                }
                if let Ok(memory) = facts.memory(gpa, bytes.len()) {
                    memory.copy_from_slice(&bytes);
                }
            }
        }
    }

    /// Makes guest memory and files unknown.
    pub(crate) fn forget_bytes(&self) {
        let mut facts = self.facts();
        facts.memory.clear();
        facts.files.clear();
    }

    /// When `vcpu` is to be woken.
    pub(super) fn alarm(&self, vcpu: VcpuId) -> Option<u64> {
        self.facts().alarms.get(&vcpu).copied()
    }

    pub(super) fn forget_alarm(&self, vcpu: VcpuId) {
        self.facts().alarms.remove(&vcpu);
    }

    pub(super) fn forget_alarms(&self) {
        self.facts().alarms.clear();
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for ScriptedHost {
    fn guest_tsc(&self, _: VcpuId) -> u64 {
        self.facts().tsc
    }

    fn tsc_khz(&self) -> u32 {
        self.facts().khz
    }

    fn monotonic_ns(&self) -> u64 {
        self.facts().ns
    }

    fn realtime_ns(&self) -> u64 {
        self.facts().realtime
    }

    fn tsc_is_stable(&self) -> bool {
        self.facts().stable
    }

    fn vcpu_times(&self, vcpu: VcpuId) -> Option<VcpuTimes> {
        self.facts().times.get(&vcpu).copied()
    }

    fn read_memory(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory> {
        let mut facts = self.facts();
        out.copy_from_slice(facts.memory(gpa, out.len())?);
        Ok(())
    }

    fn write_memory(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory> {
        let mut facts = self.facts();
        facts.memory(gpa, data.len())?.copy_from_slice(data);
        Ok(())
    }

    fn kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, _: Initiator) -> Option<u64> {
        self.facts().kvm_msrs.get(&(vcpu, index)).copied()
    }

    fn set_kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, value: u64, _: Initiator) -> bool {
        let mut facts = self.facts();
        let held = facts.kvm_msrs.get_mut(&(vcpu, index));
        held.map(|held| *held = value).is_some()
    }

    fn host_msr(&self, cpu: Option<u32>, index: MsrIndex) -> Option<u64> {
        let facts = self.facts();
        let there = cpu.is_none_or(|cpu| cpu < facts.cpus.max(1));
        let own = facts.host_msrs.get(&(cpu, index));
        own.or_else(|| facts.host_msrs.get(&(None, index)).filter(|_| there)).copied()
    }

    fn host_cpus(&self) -> u32 {
        self.facts().cpus.max(1)
    }

    fn read_host_file(&self, path: &Path, out: &mut [u8]) -> Option<usize> {
        let facts = self.facts();
        let text = facts.files.get(path)?;
        let copied = text.len().min(out.len());
        out.get_mut(..copied)?.copy_from_slice(text.as_bytes().get(..copied)?);
        Some(copied)
    }

    fn set_exits(&self, _: &ExitList, _: &ExitsCause) -> Result<(), ExitsRefused> {
        Ok(())
    }

    fn wake_at(&self, vcpu: VcpuId, at: u64) {
        let mut facts = self.facts();
        let alarm = facts.alarms.entry(vcpu).or_insert(at);
        *alarm = at.min(*alarm);
    }
}
