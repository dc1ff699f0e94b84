//! Runs plugins again on what a recording has: the guest's accesses, and the host's
//! replies. No hypervisor, clock or guest memory is asked, so the same plugins give
//! the same answers on any machine.

mod files;
mod swap;

use std::sync::Arc;

use files::Moved;
use wasmsr_interface::{
    Host, MAX_VCPUS, MsrAccess, MsrOp, Outcome, OutcomeKind, VcpuId, VcpuTimes,
};

use crate::dispatch::VcpuDispatch;
use crate::engine::Engine;
use crate::msr::Decision;
use crate::record::{
    AccessLine, BootLine, CallLog, ENGINE, Hex, HostCall, Line, LoggedCall, LoggingHost, Op,
    PluginCall, ReplayHost, StartLine, WakeLine, boot_line, during, replaying,
};
use crate::save::{RestoreError, SaveError};
use crate::script::{Fact, ScriptedHost};
use crate::start::{StartError, Started, boot_plugins, start_plugins};
use crate::state::{SavedState, StateError};

/// Bytes of guest memory and files that are known, for calls that the recording
/// does not have; beyond, only those that come later.
const MOST_KNOWN: usize = 32 << 20;

/// A recording that is being run again with the plugins of an engine, which may
/// be others than those that were recorded.
pub struct Replay {
    engine: Arc<Engine>,
    boot: Option<RunningBoot>,
    unmatched: u64,
}

struct RunningBoot {
    vcpus: u32,
    host: Arc<ScriptedHost>,
    moved: Moved,
    /// Bytes that the host knows.
    known: usize,
    started: Option<Started>,
    /// What the plugins had saved when the recording began in a running VM.
    state: Option<SavedState>,
}

/// Why a replay does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The plugins do not start.
    #[error(transparent)]
    StartLine(#[from] StartError),
    /// The lines are in an order that no recorder writes.
    #[error("a line \"{0}\" stands where no boot has begun; the recording was cut or edited")]
    NoBoot(&'static str),
    /// An access on a vCPU that the boot does not have.
    #[error("it is on vCPU {vcpu}, but the boot has {vcpus}; the recording was edited")]
    NoVcpu {
        /// The access's.
        vcpu: u32,
        /// The boot's.
        vcpus: u32,
    },
    /// More vCPUs than any VM has.
    #[error("the boot has {0} vCPUs, more than the {MAX_VCPUS} that any VM has")]
    TooManyVcpus(u32),
    /// A write of nothing.
    #[error("it is a write without a `value`; the recording was edited")]
    NoValue,
    /// Another set takes charge, and its plugins are not there.
    #[error("another set of plugins takes charge here, which is not loaded")]
    NoSet,
    /// What the boot says was saved is not.
    #[error("`state` of the boot: {0}")]
    State(#[from] StateError),
    /// The old set does not give its state to the new one.
    #[error("the set before it does not save its state again: {0}")]
    Save(#[from] SaveError),
    /// Plugins do not take a recorded state.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

impl Replay {
    /// A replay with the plugins of `engine`.
    pub fn new(engine: Arc<Engine>) -> Self {
        Replay { engine, boot: None, unmatched: 0 }
    }

    /// Does what a line says, and returns the line as it is this time: with the present
    /// plugins, their answers and their host calls. Times are those of the recording. A
    /// swap needs plugins: [`swap`](Self::swap) takes its line.
    ///
    /// # Errors
    /// [`ReplayError`]
    pub fn step(&mut self, line: &Line) -> Result<Line, ReplayError> {
        Ok(match line {
            Line::Boot(boot) => Line::Boot(Box::new(self.begin(boot)?)),
            Line::Start(start) => Line::Start(self.start(start)?),
            Line::Access(access) => Line::Access(self.access(access)?),
            Line::Wake(wake) => Line::Wake(self.wake(wake)?),
            Line::Swap(_) => return Err(ReplayError::NoSet),
            Line::Dropped(_) => line.clone(),
            Line::End(_) => {
                self.boot = None;
                line.clone()
            }
        })
    }

    /// Host calls so far to which the recording has no reply: they were answered with
    /// what was last known. 0 if the plugins are the recorded ones.
    pub fn unmatched(&self) -> u64 {
        self.unmatched
    }

    fn begin(&mut self, boot: &BootLine) -> Result<BootLine, ReplayError> {
        if boot.vcpus > MAX_VCPUS {
            return Err(ReplayError::TooManyVcpus(boot.vcpus));
        }
        let state =
            boot.state.as_ref().map(|state| SavedState::from_bytes(&state.0)).transpose()?;
        let host = Arc::new(ScriptedHost::default());
        let moved = Moved::between(boot.set(), &self.engine);
        let (vcpus, started) = (boot.vcpus, None);
        self.boot = Some(RunningBoot { vcpus, host, moved, known: 0, started, state });
        let plugins = boot_plugins(&self.engine);
        let present = boot_line(boot.vcpus, boot.kernel.clone(), plugins, &self.engine.profile);
        Ok(BootLine {
            t: boot.t,
            unix_ms: boot.unix_ms,
            boot: boot.boot,
            generation: boot.generation,
            state: boot.state.clone(),
            unsaved: boot.unsaved.clone(),
            ..present
        })
    }

    fn start(&mut self, start: &StartLine) -> Result<StartLine, ReplayError> {
        let boot = self.boot.as_mut().ok_or(ReplayError::NoBoot("start"))?;
        let host = boot.host.clone();
        let host_of = |name: &Arc<str>| replaying_host(name, &host);
        let replies = boot.moved.logged(&start.calls);
        boot.learn(&replies);
        let now = saved_at(&replies).unwrap_or_else(|| host.monotonic_ns());
        let (engine, state) = (&self.engine, boot.state.take());
        let (started, unmatched) = replaying(replies, || {
            let (mut started, mut calls) = start_plugins(engine, &host_of, boot.vcpus)?;
            if let Some(state) = state {
                let restore = || engine.restore_at(&mut started, &*host, &state, now);
                let (restored, later) = during(restore);
                restored?;
                calls.all.append(later);
            }
            Ok::<_, ReplayError>((started, calls))
        });
        let (started, calls) = started?;
        boot.started = Some(started);
        self.unmatched += unmatched;
        let cut = calls.all.cut;
        Ok(StartLine { t: start.t, calls: calls.all.into_plugin_calls(), cut })
    }

    fn access(&mut self, access: &AccessLine) -> Result<AccessLine, ReplayError> {
        let op = match (access.op, access.value) {
            (Op::Read, _) => MsrOp::Read,
            (Op::Write, Some(value)) => MsrOp::Write(value.0),
            (Op::Write, None) => return Err(ReplayError::NoValue),
        };
        let guest = MsrAccess { index: access.msr, op, reason: access.reason };
        let (decision, log) =
            self.on_vcpu("access", access.vcpu, &access.calls, |vcpu| vcpu.decide(guest))?;
        let Decision { outcome, by, failed } = decision;
        let read = match outcome {
            Outcome::Value(value) => Some(Hex(value)),
            // KVM's own value is known if it was asked then.
            Outcome::Kernel => access.value.filter(|_| access.outcome == OutcomeKind::Kernel),
            Outcome::Done | Outcome::Fault | Outcome::Stop(_) => None,
        };
        let outcome = outcome.kind();
        let refused = access.refused && outcome == OutcomeKind::Kernel;
        let names = &self.engine.routes.names;
        let plugin = by.and_then(|slot| names.get(usize::from(slot.0)));
        Ok(AccessLine {
            value: if access.op == Op::Write { access.value } else { read },
            outcome,
            refused,
            plugin: plugin.map(ToString::to_string),
            failed,
            cut: log.cut,
            calls: log.into_plugin_calls(),
            ..access.clone()
        })
    }

    fn wake(&mut self, wake: &WakeLine) -> Result<WakeLine, ReplayError> {
        let serve = VcpuDispatch::serve_timers;
        let (timers, log) = self.on_vcpu("wake", wake.vcpu, &wake.calls, serve)?;
        let failed = timers.failed.iter().map(ToString::to_string).collect();
        let (cut, calls) = (log.cut, log.into_plugin_calls());
        Ok(WakeLine { failed, cut, calls, ..wake.clone() })
    }

    /// Has a vCPU do something with the recorded replies.
    fn on_vcpu<R>(
        &mut self,
        kind: &'static str,
        number: u32,
        recorded: &[PluginCall],
        f: impl FnOnce(&mut VcpuDispatch) -> R,
    ) -> Result<(R, CallLog), ReplayError> {
        let boot = self.boot.as_mut().ok_or(ReplayError::NoBoot(kind))?;
        let replies = boot.moved.logged(recorded);
        boot.learn(&replies);
        let started = boot.started.as_mut().ok_or(ReplayError::NoBoot(kind))?;
        let vcpus = boot.vcpus;
        let vcpu = started.vcpus.get_mut(usize::try_from(number).unwrap_or(usize::MAX));
        let vcpu = vcpu.ok_or(ReplayError::NoVcpu { vcpu: number, vcpus })?;
        let ((result, unmatched), log) = during(|| replaying(replies, || f(vcpu)));
        self.unmatched += unmatched;
        Ok((result, log))
    }
}

/// A host that gives a plugin its recorded replies, and logs what it asks.
fn replaying_host(name: &Arc<str>, host: &Arc<ScriptedHost>) -> Arc<dyn Host> {
    let replayed = ReplayHost::new(name.clone(), host.clone());
    Arc::new(LoggingHost::new(Arc::new(replayed), name.clone()))
}

/// When the state with which a recording begins was saved: the engine asked for the time
/// then.
fn saved_at(calls: &[LoggedCall]) -> Option<u64> {
    calls.iter().rev().find_map(|logged| match logged.call {
        HostCall::MonotonicNs { value } if *logged.plugin == *ENGINE => Some(value.0),
        _ => None,
    })
}

impl RunningBoot {
    fn learn(&mut self, calls: &[LoggedCall]) {
        self.known += calls.iter().map(|logged| logged.call.size()).sum::<usize>();
        if self.known > MOST_KNOWN {
            self.host.forget_bytes();
            self.known = 0;
        }
        learn(&self.host, calls);
    }
}

/// What the host is known to be, for calls that the recording does not have.
fn learn(host: &ScriptedHost, calls: &[LoggedCall]) {
    for LoggedCall { call, .. } in calls {
        let (vcpu, fact) = match call {
            HostCall::Tsc { vcpu, value } => (*vcpu, Fact::Tsc(value.0)),
            HostCall::TscKhz { value } => (0, Fact::Khz(*value)),
            HostCall::MonotonicNs { value } => (0, Fact::Ns(value.0)),
            HostCall::RealtimeNs { value } => (0, Fact::Realtime(value.0)),
            HostCall::TscIsStable { value } => (0, Fact::Stable(*value)),
            HostCall::VcpuTimes { vcpu, value: Some((ran, waited)) } => {
                let times = VcpuTimes { ran_ns: ran.0, waited_ns: waited.0 };
                (0, Fact::Times(VcpuId(*vcpu), times))
            }
            HostCall::GuestRead { gpa, data: Some(data), .. }
            | HostCall::GuestWrite { gpa, data, done: true } => {
                (0, Fact::Bytes(gpa.0, data.0.clone()))
            }
            HostCall::KvmRdmsr { vcpu, msr, value: Some(value), .. }
            | HostCall::KvmWrmsr { vcpu, msr, value, done: true, .. } => {
                (*vcpu, Fact::KvmMsr(*msr, value.0))
            }
            HostCall::HostRdmsr { cpu, msr, value: Some(value) } => {
                (0, Fact::HostMsr(*cpu, *msr, value.0))
            }
            HostCall::HostCpus { value } => (0, Fact::Cpus(*value)),
            HostCall::HostFile { path, data: Some(data), .. } => {
                let text = String::from_utf8_lossy(&data.0).into_owned();
                (0, Fact::File(path.clone(), text))
            }
            _ => continue,
        };
        host.tell(VcpuId(vcpu), fact);
    }
}
