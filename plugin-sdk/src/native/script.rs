//! The state of this thread's host.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use std::cell::RefCell;
use std::thread_local;

use super::Intercept;
use crate::log::Level;

#[derive(Debug)]
pub(super) struct Script {
    pub(super) config: String,
    pub(super) tsc: u64,
    pub(super) tsc_khz: u32,
    pub(super) monotonic_ns: u64,
    /// Guest RAM by its guest-physical address.
    pub(super) memory: BTreeMap<u64, Vec<u8>>,
    pub(super) kvm_msrs: BTreeMap<u32, u64>,
    /// MSRs that KVM lets a guest read, and bits that a guest may change.
    pub(super) guest_rules: BTreeMap<u32, (bool, u64)>,
    pub(super) realtime_ns: u64,
    pub(super) tsc_is_stable: bool,
    pub(super) vcpus: u32,
    /// Nanoseconds run and waited, by vCPU.
    pub(super) vcpu_times: BTreeMap<u32, [u64; 2]>,
    pub(super) host_cpus: u32,
    pub(super) host_msrs: BTreeMap<u32, u64>,
    /// CPUs whose values differ from `host_msrs`.
    pub(super) host_msrs_on: BTreeMap<(u32, u32), u64>,
    pub(super) host_files: BTreeMap<String, Vec<u8>>,
    pub(super) timer: Option<u64>,
    pub(super) intercepts: Vec<Intercept>,
    pub(super) logged: Vec<(Level, String)>,
    pub(super) report: String,
    pub(super) save_version: String,
    pub(super) saved_state: Vec<u8>,
    pub(super) saved_version: String,
    /// The outcome that the plugin asked for instead of its answer.
    pub(super) outcome: Option<u32>,
}

impl Default for Script {
    fn default() -> Self {
        Script {
            config: String::new(),
            tsc: 0,
            tsc_khz: 0,
            monotonic_ns: 0,
            memory: BTreeMap::new(),
            kvm_msrs: BTreeMap::new(),
            guest_rules: BTreeMap::new(),
            realtime_ns: 0,
            tsc_is_stable: false,
            vcpus: 1,
            vcpu_times: BTreeMap::new(),
            host_cpus: 1,
            host_msrs: BTreeMap::new(),
            host_msrs_on: BTreeMap::new(),
            host_files: BTreeMap::new(),
            timer: None,
            intercepts: Vec::new(),
            logged: Vec::new(),
            report: String::new(),
            save_version: String::new(),
            saved_state: Vec::new(),
            saved_version: String::new(),
            outcome: None,
        }
    }
}

impl Script {
    pub(super) fn memory_mut(&mut self, gpa: u64, len: usize) -> Option<&mut [u8]> {
        let (start, ram) = self.memory.range_mut(..=gpa).next_back()?;
        let offset = usize::try_from(gpa - start).ok()?;
        ram.get_mut(offset..offset.checked_add(len)?)
    }
}

thread_local! {
    static SCRIPT: RefCell<Script> = RefCell::default();
}

pub(super) fn with<R>(call: impl FnOnce(&mut Script) -> R) -> R {
    SCRIPT.with_borrow_mut(call)
}
