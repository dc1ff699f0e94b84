//! Brings a profile's plugins to life, with whoever looks on.

use std::sync::{Arc, Mutex};

use wasmsr_interface::{Host, VcpuId};

use crate::difference::Occasion;
use crate::dispatch::VcpuDispatch;
use crate::engine::{Engine, Started, intercepts};
use crate::error::StartError;
use crate::metrics::{Counters, Metrics};
use crate::msr::SlotId;
use crate::observers::Observers;
use crate::order_lock::OrderLock;
use crate::plugin::{Scope, Surroundings};
use crate::read_only_host::ReadOnlyHost;
use crate::record::call_log::{self, CallLog, LoggingHost};
use crate::record::replay_host::ReplayHost;
use crate::record::{BootPlugin, ENGINE, Recorder, boot_line};
use crate::report::Reports;
use crate::shadow::{Follower, ShadowPlan, ShadowTallies, Shadows, Tally, beside};
use crate::slot::{Slot, SlotPlan, SupervisedInstance};
use crate::unhandled_log::UnhandledLog;

/// The host as each plugin, by its name, is to see it.
pub(crate) type HostOf<'a> = &'a dyn Fn(&Arc<str>) -> Arc<dyn Host>;

/// Starts plugins that a guest will use: recorded, and with their shadows. A
/// shadow that does not start is left out.
pub(crate) fn with_observers(
    engine: &Engine,
    host: &Arc<dyn Host>,
    vcpus: u32,
    recorder: Option<&Recorder>,
) -> Result<Started, StartError> {
    let (started, absent) = all(engine, host, vcpus, recorder)?;
    for error in absent {
        tracing::warn!("{error}; the VM runs without this shadow");
    }
    Ok(started)
}

/// Starts everything, to learn whether it does.
pub(crate) fn dry_run(engine: &Engine, host: &Arc<dyn Host>, vcpus: u32) -> Result<(), StartError> {
    let (_, absent) = all(engine, host, vcpus, None)?;
    absent.into_iter().next().map_or(Ok(()), Err)
}

/// Starts everything. Says why shadows did not start.
fn all(
    engine: &Engine,
    host: &Arc<dyn Host>,
    vcpus: u32,
    recorder: Option<&Recorder>,
) -> Result<(Started, Vec<StartError>), StartError> {
    if recorder.is_none() && engine.shadows.is_empty() {
        let started = plugins(engine, &|_| host.clone(), vcpus, &mut |_| ())?;
        return Ok((started, Vec::new()));
    }
    call_log::take();
    let logged = |name: &Arc<str>| -> Arc<dyn Host> {
        Arc::new(LoggingHost::new(host.clone(), name.clone()))
    };
    let mut ends = Vec::new();
    let mut started =
        plugins(engine, &logged, vcpus, &mut |scope| ends.push((scope, call_log::length())))?;
    let inits = Inits { all: call_log::take(), ends };
    let mut shadows = start_shadows(engine, host, vcpus, &inits);
    started.shadows = ShadowTallies(shadows.tallies);
    if let Some(recorder) = recorder {
        let kernel = engine.host_kernel.map(|kernel| kernel.to_string());
        recorder.boot(boot_line(vcpus, kernel, boot_plugins(engine), &engine.profile));
        recorder.start(inits.all);
    }
    let order_lock = OrderLock::new(engine, recorder);
    for vcpu in started.vcpus.iter_mut().rev() {
        vcpu.observers = Some(Box::new(Observers {
            recorder: recorder.cloned(),
            order_lock: order_lock.clone(),
            shadows: shadows.vcpus.pop().filter(|shadows| !shadows.0.is_empty()),
            host: host.clone(),
            names: engine.answers.names.clone(),
            asked: Vec::new(),
        }));
    }
    Ok((started, shadows.absent))
}

/// Starts the plugins alone. `initialised` is called after each, with the vCPU
/// whose instance it is.
pub(crate) fn plugins(
    engine: &Engine,
    host_of: HostOf<'_>,
    vcpus: u32,
    initialised: &mut dyn FnMut(Option<VcpuId>),
) -> Result<Started, StartError> {
    let intercepts = intercepts(&engine.plugins);
    let surroundings = |name: &Arc<str>| Surroundings {
        host: host_of(name),
        intercepts: intercepts.clone(),
        vcpus,
    };
    let mut instance = |plan: &SlotPlan, scope| {
        let instance =
            SupervisedInstance::new(&plan.plugin, &surroundings(&plan.plugin.name), scope)
                .map_err(|error| StartError::of(&plan.plugin, &error));
        initialised(scope);
        instance
    };
    let shared = shared_slots(&engine.slots, &mut instance)?;
    let own = surroundings(&ENGINE.into());
    let switches =
        engine.plugins.iter().any(|plugin| plugin.held.intercept).then(|| intercepts.clone());
    let unhandled_log = UnhandledLog::new();
    let metrics = Metrics { vcpus: Vec::new(), plugins: engine.answers.names.clone() };
    let mut started = Started {
        vcpus: Vec::new(),
        metrics,
        reports: Reports::default(),
        shadows: ShadowTallies::default(),
    };
    for vcpu in (0..vcpus).map(VcpuId) {
        let counters = Arc::new(Counters::new(engine.slots.len()));
        started.metrics.vcpus.push(counters.clone());
        started.vcpus.push(VcpuDispatch {
            vcpu,
            answers: engine.answers.clone(),
            slots: slots_of(vcpu, &engine.slots, &shared, &mut instance)?,
            policy: engine.policy.clone(),
            counters,
            unhandled_log: unhandled_log.clone(),
            vm: own.clone(),
            switches: switches.clone(),
            reports: started.reports.clone(),
            observers: None,
        });
    }
    Ok(started)
}

/// What a recording says of the plugins.
pub(crate) fn boot_plugins(engine: &Engine) -> Vec<BootPlugin> {
    let plugins = engine.plugins().map(|plugin| BootPlugin {
        name: plugin.manifest.plugin.name.clone(),
        version: plugin.manifest.plugin.version.to_string(),
        sha256: plugin.sha256.to_string(),
        path: plugin.config.path.clone(),
    });
    plugins.collect()
}

/// The host calls of plugins while they started, one instance after the other.
struct Inits {
    all: CallLog,
    /// Whose instance it was, and where its calls end.
    ends: Vec<(Option<VcpuId>, usize)>,
}

impl Inits {
    /// What the instance of `plugin` for this vCPU was told, or all its
    /// instances, if it has another scope.
    fn told(&self, plugin: &str, scope: Option<VcpuId>) -> CallLog {
        let mut own = CallLog { calls: Vec::new(), cut: self.all.cut };
        let mut start = 0;
        for &(whose, end) in &self.ends {
            if whose == scope {
                let calls = self.all.calls.get(start..end).unwrap_or_default();
                own.calls.extend(calls.iter().filter(|call| *call.plugin == *plugin).cloned());
            }
            start = end;
        }
        if own.calls.is_empty() { self.all.of(plugin) } else { own }
    }
}

struct StartedShadows {
    /// For each vCPU.
    vcpus: Vec<Shadows>,
    tallies: Vec<Arc<Tally>>,
    /// Why others did not start.
    absent: Vec<StartError>,
}

/// Starts the shadows, each told what the plugin in charge was told.
fn start_shadows(
    engine: &Engine,
    host: &Arc<dyn Host>,
    vcpus: u32,
    inits: &Inits,
) -> StartedShadows {
    let mut started = StartedShadows { vcpus: Vec::new(), tallies: Vec::new(), absent: Vec::new() };
    started.vcpus.resize_with(usize::try_from(vcpus).unwrap_or(usize::MAX), || Shadows(Vec::new()));
    for plan in &engine.shadows {
        let tally = Arc::new(Tally::new(plan));
        started.tallies.push(tally.clone());
        let vm = shadow_surroundings(plan, host, vcpus);
        match start_shadow(engine, plan, &tally, &vm, inits) {
            Ok(followers) => {
                for (shadows, follower) in started.vcpus.iter_mut().zip(followers) {
                    shadows.0.push(follower);
                }
            }
            Err(error) => {
                tally.absent(&error);
                started.absent.push(error);
            }
        }
    }
    started
}

/// Starts a shadow for each vCPU.
fn start_shadow(
    engine: &Engine,
    plan: &ShadowPlan,
    tally: &Arc<Tally>,
    vm: &Surroundings,
    inits: &Inits,
) -> Result<Vec<Follower>, StartError> {
    let mut instance = |slot: &SlotPlan, scope| {
        let start = || SupervisedInstance::new(&slot.plugin, vm, scope);
        let (instance, changes) = beside(inits.told(&plan.of, scope), start);
        let instance = instance.map_err(|error| StartError::of(&slot.plugin, &error))?;
        tally.changed(Occasion::Start(scope), changes);
        Ok(instance)
    };
    let shared = shared_slots(&plan.slots, &mut instance)?;
    let leaders = (0..).map(SlotId).zip(engine.answers.names.iter());
    let leaders: Vec<SlotId> =
        leaders.filter(|(_, name)| **name == plan.of).map(|(slot, _)| slot).collect();
    let follower = |vcpu| {
        Ok(Follower {
            of: plan.of.clone(),
            scope: plan.scope(),
            leaders: leaders.clone(),
            answers: plan.answers.clone(),
            slots: slots_of(vcpu, &plan.slots, &shared, &mut instance)?,
            tally: tally.clone(),
        })
    };
    (0..vm.vcpus).map(VcpuId).map(follower).collect()
}

/// A host that tells a shadow what it told the plugin in charge, and that it
/// cannot change.
fn shadow_surroundings(plan: &ShadowPlan, host: &Arc<dyn Host>, vcpus: u32) -> Surroundings {
    let read_only: Arc<dyn Host> = Arc::new(ReadOnlyHost(host.clone()));
    let replay_host: Arc<dyn Host> = Arc::new(ReplayHost::new(plan.of.clone(), read_only));
    let host = Arc::new(LoggingHost::new(replay_host, plan.plugin.name.clone()));
    Surroundings { host, intercepts: intercepts(std::slice::from_ref(&plan.plugin)), vcpus }
}

type NewInstance<'a> =
    &'a mut dyn FnMut(&SlotPlan, Option<VcpuId>) -> Result<SupervisedInstance, StartError>;

/// The VM's own instances, in the places of their slots.
fn shared_slots(
    plans: &[SlotPlan],
    instance: NewInstance<'_>,
) -> Result<Vec<Option<Arc<Mutex<SupervisedInstance>>>>, StartError> {
    let shared = plans.iter().map(|plan| match plan.scope {
        Scope::Vm => instance(plan, None).map(|instance| Some(Arc::new(Mutex::new(instance)))),
        Scope::Vcpu => Ok(None),
    });
    shared.collect()
}

/// A vCPU's row of slots.
fn slots_of(
    vcpu: VcpuId,
    plans: &[SlotPlan],
    shared: &[Option<Arc<Mutex<SupervisedInstance>>>],
    instance: NewInstance<'_>,
) -> Result<Box<[Slot]>, StartError> {
    let slots = plans.iter().zip(shared).map(|(plan, shared)| match shared {
        Some(shared) => Ok(Slot::Shared(shared.clone())),
        None => instance(plan, Some(vcpu)).map(Slot::Own),
    });
    slots.collect()
}
