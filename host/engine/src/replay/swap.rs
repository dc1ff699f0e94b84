//! A swap in a replay: another set of plugins takes over the state of the one before.

use std::sync::Arc;

use wasmsr_interface::Host;

use super::files::Moved;
use super::{Replay, ReplayError, replaying_host};
use crate::engine::Engine;
use crate::record::{CallLog, SwapLine, during, replaying, swap_line};
use crate::save::Saving;
use crate::slots::Slot;
use crate::start::{Started, boot_plugins, start_plugins};

impl Replay {
    /// Puts the plugins of `engine` in charge where the recording has a swap, and returns
    /// the line as it is this time. The plugins take over the state of those before them
    /// that have their names; the instances of those that the line calls kept go on.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub fn swap(&mut self, engine: Arc<Engine>, line: &SwapLine) -> Result<SwapLine, ReplayError> {
        let boot = self.boot.as_mut().ok_or(ReplayError::NoBoot("swap"))?;
        boot.moved = Moved::between(line.set(None), &engine);
        let replies = boot.moved.logged(&line.calls);
        boot.learn(&replies);
        let old = boot.started.as_mut().ok_or(ReplayError::NoBoot("swap"))?;
        let host = boot.host.clone();
        let is_kept = |name: &str| line.kept.iter().any(|kept| kept == name);
        let host_of = |name: &Arc<str>| -> Arc<dyn Host> {
            match is_kept(name) {
                // A new instance of it is not part of the recording; it makes way below.
                true => host.clone(),
                false => replaying_host(name, &host),
            }
        };
        let before = self.engine.clone();
        let (started, unmatched) = replaying(replies, || -> Result<_, ReplayError> {
            let (mut new, starts) = start_plugins(&engine, &host_of, boot.vcpus)?;
            // Nothing of the clock is lost on the way: timers stay due when they were.
            let now = host.monotonic_ns();
            let stays = |name: &str| engine.plugins.iter().any(|new| *new.name == *name);
            let chosen = |name: &str| stays(name) && !is_kept(name);
            let saving = Saving { chosen: &chosen, next: Some(&engine), now };
            let (saved, saves) = during(|| before.save_at(old.vcpus.iter_mut(), &saving));
            let saved = saved?;
            let (restored, restores) = during(|| engine.restore_at(&mut new, &*host, &saved, now));
            restored?;
            keep(old, &mut new, is_kept);
            let mut calls = starts.all;
            calls.append(saves);
            calls.append(restores);
            Ok((new, calls))
        });
        let (started, calls) = started?;
        boot.started = Some(started);
        self.unmatched += unmatched;
        let came = self.came(&engine, line, calls);
        self.engine = engine;
        Ok(came)
    }

    fn came(&self, engine: &Engine, line: &SwapLine, calls: CallLog) -> SwapLine {
        let SwapLine { t, generation, cause, set, kept, .. } = line.clone();
        let plugins = boot_plugins(engine);
        let present = swap_line(generation, cause, set, plugins, kept, &engine.profile);
        let cut = calls.cut;
        SwapLine { t, calls: calls.into_plugin_calls(), cut, ..present }
    }
}

/// Moves the instances of kept plugins into the new set.
fn keep(old: &mut Started, new: &mut Started, is_kept: impl Fn(&str) -> bool) {
    let name = |slot: &mut Slot| slot.with(|instance| instance.name().clone());
    for (old, new) in old.vcpus.iter_mut().zip(&mut new.vcpus) {
        let mut left: Vec<&mut Slot> = old.chain.slots.iter_mut().collect();
        for slot in &mut new.chain.slots {
            let own = name(slot);
            if !is_kept(&own) {
                continue;
            }
            // A plugin with claims of both scopes has two slots, in the same order.
            if let Some(at) = left.iter_mut().position(|old| name(old) == own) {
                std::mem::swap(slot, left.remove(at));
            }
        }
    }
}
