//! Starts the first set of a VM.

use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Condvar, Mutex};

use wasmsr_interface::Host;

use super::cell::VcpuCell;
use super::fate::Fates;
use super::host::{Role, VmHost};
use super::set::{Prepared, Set, Site, Sources};
use super::vcpu::LiveVcpu;
use super::vm::{Live, Shared, State};
use crate::dispatch::{Reports, Strays, UnhandledLog};
use crate::engine::{Engine, intercepts};
use crate::record::Recorder;
use crate::start::{StartError, Watchers, boot_line_of};

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
        let Prepared { set, started, followers, starts, .. } = set.start(&site, &Fates::new())?;
        if let Some(recorder) = recorder {
            recorder.boot(boot_line_of(self, vcpus));
            recorder.start(starts.all);
        }
        let watchers = Watchers { recorder, ..Watchers::default() };
        let watch = set.watch(&site, FIRST, &watchers);
        let cells = started.vcpus.into_iter().zip(followers).map(|(mut dispatch, followers)| {
            dispatch.chain.observers = watch.observers(followers);
            Arc::new(VcpuCell::new(dispatch))
        });
        let cells: Box<[_]> = cells.collect();
        site.vm.connect(&cells);
        let sources =
            Sources { engine: self.clone(), metrics: started.metrics, shadows: started.shadows };
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
        Ok(LiveStart { live, vcpus, reports: started.reports })
    }
}
