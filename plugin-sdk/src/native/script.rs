//! What this thread's host knows.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use std::cell::RefCell;
use std::thread_local;

use super::Intercept;
use crate::log::Level;

#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) config: String,
    pub(super) tsc: u64,
    pub(super) tsc_khz: u32,
    pub(super) monotonic_ns: u64,
    /// Guest RAM by its guest-physical address.
    pub(super) memory: BTreeMap<u64, Vec<u8>>,
    pub(super) kvm_msrs: BTreeMap<u32, u64>,
    pub(super) host_msrs: BTreeMap<u32, u64>,
    pub(super) timer: Option<u64>,
    pub(super) intercepts: Vec<Intercept>,
    pub(super) logged: Vec<(Level, String)>,
    pub(super) saved_state: Vec<u8>,
    pub(super) saved_version: String,
    /// What the plugin wants instead of its own answer.
    pub(super) outcome: Option<u32>,
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
