//! Turns a recording on and off in a running VM, and has it note swaps.

use std::sync::Arc;

use wasmsr_interface::Host;

use super::fate::Fate;
use super::host::holding;
use super::set::{Followers, Set, Watch};
use super::swap::{Fates, Occasion};
use super::vm::{Live, State};
use crate::record::{CallLog, Recorder, SwapCause, swap_line};
use crate::save::{Running, SaveError};
use crate::start::boot_plugins;

impl Live {
    /// Records all accesses from now on with `recorder`, in place of one that recorded
    /// before; `None`: records no more. The recording begins with the state that the
    /// plugins save, and vCPUs that come with an access wait for that long.
    ///
    /// # Errors
    /// [`SaveError`] if a plugin does not save its state; everything is then as it was.
    pub fn record(&self, recorder: Option<&Recorder>) -> Result<(), SaveError> {
        let _operation = self.operation();
        let mut state = self.state();
        let mut cells = self.hold_all();
        let engine = state.set.engine.clone();
        if let Some(recorder) = recorder {
            let now = self.0.site.vm.monotonic_ns();
            let vcpus = cells.iter_mut().map(|own| &mut own.dispatch);
            let saved = holding(|| engine.save_at(vcpus, now, &|_| true, None))?;
            let is_saved = |name: &str| saved.instances.iter().any(|one| one.plugin == name);
            let names = engine.plugins.iter().map(|plugin| plugin.name.to_string());
            let unsaved = names.filter(|name| !is_saved(name)).collect();
            let vm: Arc<dyn Host> = self.0.site.vm.clone();
            let running = Running {
                vcpus: self.0.site.vcpus,
                generation: state.generation,
                saved: &saved,
                now,
                unsaved,
            };
            holding(|| engine.begin_recording(recorder, &vm, running));
        }
        if let Some(before) = std::mem::replace(&mut state.recorder, recorder.cloned()) {
            before.end();
        }
        let trial = state.trial.as_ref();
        let watch = Watch {
            recorder,
            judge: trial.map(|trial| &trial.judge),
            former: trial.map(|trial| trial.former.plans.as_slice()).unwrap_or_default(),
            generation: state.generation,
        };
        let order_lock = state.set.order_lock(&watch);
        for own in &mut cells {
            let followers = Followers::take(&mut own.dispatch.chain.observers);
            own.dispatch.chain.observers =
                state.set.observers(&self.0.site, &watch, &order_lock, followers);
        }
        Ok(())
    }

    /// Tells the recorder that `next` takes charge, with the locks of all vCPUs held.
    pub(super) fn note_swap(
        &self,
        state: &State,
        next: &Set,
        occasion: Occasion,
        fates: &Fates,
        calls: CallLog,
    ) {
        let Some(recorder) = &state.recorder else { return };
        let cause = match occasion {
            Occasion::Swap => SwapCause::Swap,
            Occasion::Return => SwapCause::Return,
            Occasion::Rollback => SwapCause::Rollback,
        };
        let engine = &next.engine;
        let kept = fates.iter().filter(|(_, fate)| **fate == Fate::Kept);
        let kept = kept.map(|(name, _): (&Arc<str>, _)| name.to_string()).collect();
        let (digest, plugins) = (engine.digest().to_string(), boot_plugins(engine));
        let generation = state.generation + 1;
        let line = swap_line(generation, cause, digest, plugins, kept, &engine.profile);
        recorder.swap(line, calls);
    }
}
