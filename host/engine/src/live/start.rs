//! Starts the first set of a VM.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Condvar, Mutex};

use wasmsr_interface::Host;

use super::cell::VcpuCell;
use super::host::{Role, VmHost};
use super::set::{Followers, Set, Site, Sources, Watch};
use super::vcpu::LiveVcpu;
use super::vm::{Live, Shared, State};
use crate::dispatch::{Reports, Strays, UnhandledLog};
use crate::engine::{Engine, intercepts};
use crate::record::{Recorder, boot_line};
use crate::shadow::{KernelShadows, ShadowTallies};
use crate::slots::Slot;
use crate::start::{StartError, boot_plugins};

/// The number of a VM's first set.
const FIRST: u64 = 1;

/// The live plugins of one boot, which can be swapped.
pub struct LiveStart {
    /// Swaps them.
    pub live: Live,
    /// What answers each vCPU, in order; each goes to its vCPU's thread.
    pub vcpus: Vec<LiveVcpu>,
    /// What plugins tell after the run.
    pub reports: Reports,
}

impl Engine {
    /// As [`start`](Engine::start), or with a recorder as
    /// [`start_recorded`](Engine::start_recorded), for a VM whose plugins can be swapped.
    ///
    /// # Errors
    /// As [`start`](Engine::start).
    pub fn start_live(
        self: &Arc<Self>,
        host: &Arc<dyn Host>,
        vcpus: u32,
        recorder: Option<&Recorder>,
    ) -> Result<LiveStart, StartError> {
        let vm = Arc::new(VmHost::new(host.clone()));
        let two_sets = Arc::new(AtomicBool::new(false));
        let site = Site {
            vcpus,
            reports: Reports::default(),
            unhandled_log: UnhandledLog::new(vm.clone()),
            strays: Strays::new(vm.clone(), two_sets.clone()),
            vm,
        };
        let exits = intercepts(&self.plugins, &self.policy);
        let set = Set::new(&site, self, (FIRST, exits), Role::InCharge, |_| None);
        let mut prepared = set.start(&site, &BTreeMap::new())?;
        for error in &prepared.shadows.absent {
            tracing::warn!("{error}; the VM runs without this shadow");
        }
        if let Some(recorder) = recorder {
            let kernel = self.host_kernel.map(|kernel| kernel.to_string());
            recorder.boot(boot_line(vcpus, kernel, boot_plugins(self), &self.profile));
            recorder.start(std::mem::take(&mut prepared.starts.all));
        }
        let watch = Watch { recorder, judge: None, former: &[], generation: FIRST };
        let set = prepared.set;
        let order_lock = set.order_lock(&watch);
        let (dispatches, metrics) = set.dispatches(&site);
        let mut shadows = prepared.shadows.vcpus.into_iter().zip(prepared.kernel);
        let parts = dispatches.into_iter().zip(prepared.slots);
        let cells = parts.map(|(mut dispatch, slots)| {
            let slots: Vec<Slot> = slots.into_iter().flatten().collect();
            dispatch.chain.slots = slots.into_boxed_slice();
            let (shadows, kernel) = shadows.next().unwrap_or_default();
            let followers = Followers { shadows, kernel: KernelShadows::new(kernel) };
            dispatch.chain.observers = set.observers(&site, &watch, &order_lock, followers);
            Arc::new(VcpuCell::new(dispatch))
        });
        let cells: Box<[_]> = cells.collect();
        site.vm.connect(&cells);
        let sources = Sources {
            engine: self.clone(),
            metrics,
            shadows: ShadowTallies(prepared.shadows.tallies),
        };
        let state = State {
            set,
            sources,
            past: None,
            generation: FIRST,
            sets: FIRST,
            former: None,
            trial: None,
            verdict: None,
            recorder: recorder.cloned(),
            ended: false,
        };
        let reports = site.reports.clone();
        let live = Live(Arc::new(Shared {
            site,
            cells,
            attention: AtomicU32::new(0),
            operation: Mutex::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
            disabled: Mutex::default(),
            names: Mutex::new(self.plugins.iter().map(|plugin| plugin.name.clone()).collect()),
            two_sets,
        }));
        let vcpu =
            |cell: &Arc<VcpuCell>| LiveVcpu { cell: cell.clone(), live: live.clone(), heeded: 0 };
        let vcpus = live.0.cells.iter().map(vcpu).collect();
        Ok(LiveStart { live, vcpus, reports })
    }
}
