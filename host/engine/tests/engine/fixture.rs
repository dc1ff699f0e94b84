//! Plugins as Wasm text, a profile around them, and a host that remembers.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use wasmsr_engine::{Engine, LoadOptions, Profile, Started, VcpuDispatch};
use wasmsr_interface::{
    ExitList, ExitsCause, ExitsRefused, Host, Initiator, KvmAnswer, MsrAccess, MsrHandler,
    MsrIndex, MsrOp, Outcome, OutsideMemory, Reason, VcpuId, VcpuTimes,
};

/// The bytes of a plugin with this manifest (behind `[plugin]`) and this body
/// (beside memory and version marker).
pub(crate) fn plugin(name: &str, manifest: &str, body: &str) -> Vec<u8> {
    let manifest =
        format!("[plugin]\nname = \"{name}\"\nversion = \"1.0.0\"\nabi = 1\n{manifest}\n");
    let text = format!(
        "(module {body} (memory (export \"memory\") 1) (func (export \"wasmsr_abi_v1\"))
           (@custom \"wasmsr.manifest\" {manifest:?}))"
    );
    wat::parse_str(text).unwrap()
}

/// A profile in a directory of its own.
pub(crate) struct Setup {
    pub(crate) directory: TempDir,
    tables: String,
    head: String,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Setup {
            directory: tempfile::tempdir().unwrap(),
            tables: String::new(),
            head: "[boot]\nguest = \"hello\"\n".to_owned(),
        }
    }

    /// Adds lines before the plugins, such as an `[msr]` table.
    pub(crate) fn head(mut self, lines: &str) -> Self {
        self.head += lines;
        self
    }

    /// Adds a table without a file.
    pub(crate) fn with_keys(mut self, keys: &str) -> Self {
        self.tables += &format!("[[plugin]]\n{keys}\n");
        self
    }

    /// Adds a plugin with further keys of its table.
    pub(crate) fn with(mut self, file: &str, bytes: impl AsRef<[u8]>, keys: &str) -> Self {
        fs::write(self.directory.path().join(file), bytes).unwrap();
        self.tables += &format!("[[plugin]]\npath = \"{file}\"\n{keys}\n");
        self
    }

    pub(crate) fn profile(&self) -> Profile {
        let path = self.directory.path().join("vm.toml");
        Profile::parse(&path, &format!("{}\n{}", self.head, self.tables)).unwrap()
    }

    pub(crate) fn load(&self) -> Result<Engine, String> {
        Engine::load(&self.profile(), &LoadOptions::default()).map_err(|error| {
            let source = error.source().map_or(String::new(), |source| {
                let deeper = source.source().map_or(String::new(), ToString::to_string);
                format!(": {source}: {deeper}")
            });
            format!("{error}{source}")
        })
    }

    pub(crate) fn start(&self, vcpus: u32) -> (Started, Arc<TestHost>) {
        start(&self.load().unwrap(), vcpus)
    }

    /// The one vCPU's handler.
    pub(crate) fn one(&self) -> VcpuDispatch {
        self.start(1).0.vcpus.remove(0)
    }
}

pub(crate) fn start(engine: &Engine, vcpus: u32) -> (Started, Arc<TestHost>) {
    let host = Arc::new(TestHost::default());
    let host_for_engine: Arc<dyn Host> = host.clone();
    (engine.start(&host_for_engine, vcpus).unwrap(), host)
}

pub(crate) fn read(vcpu: &mut VcpuDispatch, index: u32) -> Outcome {
    access(vcpu, index, MsrOp::Read, Reason::Filter)
}

pub(crate) fn write(vcpu: &mut VcpuDispatch, index: u32, value: u64) -> Outcome {
    access(vcpu, index, MsrOp::Write(value), Reason::Filter)
}

pub(crate) fn access(vcpu: &mut VcpuDispatch, index: u32, op: MsrOp, reason: Reason) -> Outcome {
    vcpu.answer(MsrAccess { index: MsrIndex(index), op, reason })
}

/// Failures of plugins at no access, with their names.
pub(crate) fn failures_at_no_access(started: &Started) -> Vec<(String, u64)> {
    let rows = started.metrics.msrs().into_iter().filter(|row| row.index.is_none());
    rows.map(|row| (row.plugin.unwrap().to_string(), row.failures)).collect()
}

/// 64 KiB of guest memory and whatever MSRs a plugin writes.
pub(crate) struct TestHost {
    pub(crate) memory: Mutex<Vec<u8>>,
    pub(crate) msrs: Mutex<BTreeMap<(VcpuId, MsrIndex), u64>>,
    pub(crate) exits: Mutex<Option<ExitList>>,
    pub(crate) wakes: Mutex<Vec<(VcpuId, u64)>>,
    /// The vCPUs whose TSC was asked for.
    pub(crate) asked: Mutex<Vec<VcpuId>>,
    pub(crate) now: AtomicU64,
    /// How far the clock goes on each time it is read.
    pub(crate) tick: AtomicU64,
}

impl Default for TestHost {
    fn default() -> Self {
        TestHost {
            memory: Mutex::new(vec![0; 1 << 16]),
            msrs: Mutex::default(),
            exits: Mutex::default(),
            wakes: Mutex::default(),
            asked: Mutex::default(),
            now: AtomicU64::new(77),
            tick: AtomicU64::new(0),
        }
    }
}

impl TestHost {
    fn range(&self, gpa: u64, len: usize) -> Result<std::ops::Range<usize>, OutsideMemory> {
        let start = usize::try_from(gpa).map_err(|_| OutsideMemory { gpa, len })?;
        let end = start.checked_add(len).filter(|&end| end <= 1 << 16);
        end.map(|end| start..end).ok_or(OutsideMemory { gpa, len })
    }
}

impl Host for TestHost {
    fn guest_tsc(&self, vcpu: VcpuId) -> u64 {
        self.asked.lock().unwrap().push(vcpu);
        1_000 + u64::from(vcpu.0)
    }

    fn tsc_khz(&self) -> u32 {
        2_000_000
    }

    fn monotonic_ns(&self) -> u64 {
        self.now.fetch_add(self.tick.load(Ordering::Relaxed), Ordering::Relaxed)
    }

    fn read_memory(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory> {
        let range = self.range(gpa, out.len())?;
        out.copy_from_slice(&self.memory.lock().unwrap()[range]);
        Ok(())
    }

    fn write_memory(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory> {
        let range = self.range(gpa, data.len())?;
        self.memory.lock().unwrap()[range].copy_from_slice(data);
        Ok(())
    }

    fn kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, _: Initiator) -> Option<u64> {
        self.msrs.lock().unwrap().get(&(vcpu, index)).copied()
    }

    fn set_kvm_msr(&self, vcpu: VcpuId, index: MsrIndex, value: u64, _: Initiator) -> bool {
        index != MsrIndex(0xbad) && {
            self.msrs.lock().unwrap().insert((vcpu, index), value);
            true
        }
    }

    /// A KVM that knows the MSRs in `msrs`, keeps 32 bits of what is written, and refuses 0xbad.
    fn ask_kvm(&self, vcpu: VcpuId, index: MsrIndex, op: MsrOp, held: Option<u64>) -> KvmAnswer {
        let held = held.or_else(|| self.kvm_msr(vcpu, index, Initiator::Guest));
        match (op, held) {
            _ if index == MsrIndex(0x10) => KvmAnswer::NotComparable,
            (_, None) | (MsrOp::Write(0xbad), _) => KvmAnswer::Fault,
            (MsrOp::Read, Some(held)) => KvmAnswer::Value(held),
            (MsrOp::Write(value), Some(_)) => KvmAnswer::Taken(Some(value & 0xffff_ffff)),
        }
    }

    fn realtime_ns(&self) -> u64 {
        1_700_000_000_000_000_000
    }

    fn tsc_is_stable(&self) -> bool {
        true
    }

    fn guest_rip(&self, vcpu: VcpuId) -> Option<u64> {
        Some(0x10_0000 + u64::from(vcpu.0))
    }

    fn vcpu_times(&self, vcpu: VcpuId) -> Option<VcpuTimes> {
        (vcpu != VcpuId(9)).then_some(VcpuTimes { ran_ns: 5, waited_ns: u64::from(vcpu.0) })
    }

    fn host_msr(&self, cpu: Option<u32>, index: MsrIndex) -> Option<u64> {
        (index != MsrIndex(0x607)).then(|| u64::from(index.0) << 8 | u64::from(cpu.unwrap_or(0)))
    }

    fn host_cpus(&self) -> u32 {
        4
    }

    fn read_host_file(&self, path: &Path, out: &mut [u8]) -> Option<usize> {
        let content = (path == Path::new("/sys/energy")).then_some(b"12345")?;
        let len = content.len().min(out.len());
        out[..len].copy_from_slice(&content[..len]);
        Some(len)
    }

    /// As many MSRs as this VMM's filter holds: ten.
    fn set_exits(&self, exits: &ExitList, _: &ExitsCause) -> Result<(), ExitsRefused> {
        let count: u64 = exits.claims.iter().map(|claim| claim.range.count()).sum();
        if count > 10 {
            return Err(ExitsRefused(format!("{count} MSRs are too many")));
        }
        *self.exits.lock().unwrap() = Some(exits.clone());
        Ok(())
    }

    fn wake_at(&self, vcpu: VcpuId, at: u64) {
        self.wakes.lock().unwrap().push((vcpu, at));
    }
}
