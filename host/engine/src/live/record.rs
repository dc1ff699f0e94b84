//! Turns a recording on and off in a running VM, and has it note swaps.

use std::sync::Arc;

use wasmsr_interface::Host;

use super::fate::{Fate, Fates};
use super::host::holding;
use super::vm::{Live, State};
use crate::engine::Engine;
use crate::profile::Sha256;
use crate::record::{Recorder, SwapCause, SwapLine, swap_line};
use crate::save::{Running, SaveError, Saving};
use crate::start::{Followers, Watchers, boot_plugins};

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
            let saving = Saving { chosen: &|_| true, next: None, now };
            let saved = holding(|| engine.save_at(vcpus, &saving))?;
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
        let watchers = Watchers {
            recorder,
            judge: trial.map(|trial| &trial.judge),
            former: trial.map(|trial| trial.former.plans.as_slice()).unwrap_or_default(),
        };
        let watch = state.set.watch(&self.0.site, state.generation, &watchers);
        for own in &mut cells {
            let observers = &mut own.dispatch.chain.observers;
            *observers = watch.observers(Followers::take(observers));
        }
        Ok(())
    }
}

impl State {
    /// What a recording will say of the swap to `next`, and the recorder, if there is one.
    pub(super) fn swap_to_note(
        &self,
        next: &Engine,
        digest: Sha256,
        cause: SwapCause,
        fates: &Fates,
    ) -> Option<(Recorder, SwapLine)> {
        let recorder = self.recorder.clone()?;
        let kept = fates.iter().filter(|(_, fate)| **fate == Fate::Kept);
        let kept = kept.map(|(name, _): (&Arc<str>, _)| name.to_string()).collect();
        let (digest, plugins) = (digest.to_string(), boot_plugins(next));
        let generation = self.generation + 1;
        Some((recorder, swap_line(generation, cause, digest, plugins, kept, &next.profile)))
    }
}
