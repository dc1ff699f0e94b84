//! Brings a profile's plugins to life, with whoever looks on.

use std::sync::{Arc, Mutex};

use wasmsr_interface::{Host, VcpuId};

use crate::contrast::Occasion;
use crate::dispatch::VcpuDispatch;
use crate::engine::{Engine, Started, intercepts};
use crate::error::StartError;
use crate::metrics::{Counters, Metrics};
use crate::msr::SeatId;
use crate::plugin::{Scope, Surroundings};
use crate::record::prompt::PromptedHost;
use crate::record::tape::{self, Piece, TapedHost};
use crate::record::{BootPlugin, ENGINE, Recorder, boot_line};
use crate::report::Reports;
use crate::seat::{Seat, SeatPlan, Sitter};
use crate::shadow::{Follower, ShadowPlan, ShadowTallies, Shadows, Tally, beside};
use crate::turns::Turns;
use crate::unanswered::Unanswered;
use crate::watch::Watch;
use crate::withheld::WithheldHost;

/// The host as each plugin, by its name, is to see it.
pub(crate) type HostOf<'a> = &'a dyn Fn(&Arc<str>) -> Arc<dyn Host>;

/// Starts plugins that a guest will use: recorded, and with their shadows. A
/// shadow that does not start is left out.
pub(crate) fn with_onlookers(
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
pub(crate) fn rehearse(
    engine: &Engine,
    host: &Arc<dyn Host>,
    vcpus: u32,
) -> Result<(), StartError> {
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
    tape::take();
    let taped =
        |name: &Arc<str>| -> Arc<dyn Host> { Arc::new(TapedHost::new(host.clone(), name.clone())) };
    let mut ends = Vec::new();
    let mut started =
        plugins(engine, &taped, vcpus, &mut |scope| ends.push((scope, tape::length())))?;
    let inits = Inits { all: tape::take(), ends };
    let mut shadows = start_shadows(engine, host, vcpus, &inits);
    started.shadows = ShadowTallies(shadows.tallies);
    if let Some(recorder) = recorder {
        let kernel = engine.host_kernel.map(|kernel| kernel.to_string());
        recorder.boot(boot_line(vcpus, kernel, boot_plugins(engine), &engine.profile));
        recorder.start(inits.all);
    }
    let turns = Turns::new(engine, recorder);
    for vcpu in started.vcpus.iter_mut().rev() {
        vcpu.watch = Some(Box::new(Watch {
            recorder: recorder.cloned(),
            turns: turns.clone(),
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
    let mut sitter = |plan: &SeatPlan, scope| {
        let sitter = Sitter::new(&plan.plugin, &surroundings(&plan.plugin.name), scope)
            .map_err(|error| StartError::of(&plan.plugin, &error));
        initialised(scope);
        sitter
    };
    let shared = shared_seats(&engine.seats, &mut sitter)?;
    let own = surroundings(&ENGINE.into());
    let switches =
        engine.plugins.iter().any(|plugin| plugin.held.intercept).then(|| intercepts.clone());
    let unanswered = Unanswered::new();
    let metrics = Metrics { vcpus: Vec::new(), plugins: engine.answers.names.clone() };
    let mut started = Started {
        vcpus: Vec::new(),
        metrics,
        reports: Reports::default(),
        shadows: ShadowTallies::default(),
    };
    for vcpu in (0..vcpus).map(VcpuId) {
        let counters = Arc::new(Counters::new(engine.seats.len()));
        started.metrics.vcpus.push(counters.clone());
        started.vcpus.push(VcpuDispatch {
            vcpu,
            answers: engine.answers.clone(),
            seats: seats_of(vcpu, &engine.seats, &shared, &mut sitter)?,
            policy: engine.policy.clone(),
            counters,
            unanswered: unanswered.clone(),
            vm: own.clone(),
            switches: switches.clone(),
            reports: started.reports.clone(),
            watch: None,
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
    all: Piece,
    /// Whose instance it was, and where its calls end.
    ends: Vec<(Option<VcpuId>, usize)>,
}

impl Inits {
    /// What the instance of `plugin` for this vCPU was told, or all its
    /// instances, if it has another scope.
    fn told(&self, plugin: &str, scope: Option<VcpuId>) -> Piece {
        let mut own = Piece { calls: Vec::new(), cut: self.all.cut };
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
    let mut sitter = |seat: &SeatPlan, scope| {
        let start = || Sitter::new(&seat.plugin, vm, scope);
        let (sitter, changes) = beside(inits.told(&plan.of, scope), start);
        let sitter = sitter.map_err(|error| StartError::of(&seat.plugin, &error))?;
        tally.changed(Occasion::Start(scope), changes);
        Ok(sitter)
    };
    let shared = shared_seats(&plan.seats, &mut sitter)?;
    let leaders = (0..).map(SeatId).zip(engine.answers.names.iter());
    let leaders: Vec<SeatId> =
        leaders.filter(|(_, name)| **name == plan.of).map(|(seat, _)| seat).collect();
    let follower = |vcpu| {
        Ok(Follower {
            of: plan.of.clone(),
            scope: plan.scope(),
            leaders: leaders.clone(),
            answers: plan.answers.clone(),
            seats: seats_of(vcpu, &plan.seats, &shared, &mut sitter)?,
            tally: tally.clone(),
        })
    };
    (0..vm.vcpus).map(VcpuId).map(follower).collect()
}

/// A host that tells a shadow what it told the plugin in charge, and that it
/// cannot change.
fn shadow_surroundings(plan: &ShadowPlan, host: &Arc<dyn Host>, vcpus: u32) -> Surroundings {
    let withheld: Arc<dyn Host> = Arc::new(WithheldHost(host.clone()));
    let prompted: Arc<dyn Host> = Arc::new(PromptedHost::new(plan.of.clone(), withheld));
    let host = Arc::new(TapedHost::new(prompted, plan.plugin.name.clone()));
    Surroundings { host, intercepts: intercepts(std::slice::from_ref(&plan.plugin)), vcpus }
}

type NewSitter<'a> = &'a mut dyn FnMut(&SeatPlan, Option<VcpuId>) -> Result<Sitter, StartError>;

/// The VM's own instances, in the places of their seats.
fn shared_seats(
    plans: &[SeatPlan],
    sitter: NewSitter<'_>,
) -> Result<Vec<Option<Arc<Mutex<Sitter>>>>, StartError> {
    let shared = plans.iter().map(|plan| match plan.scope {
        Scope::Vm => sitter(plan, None).map(|sitter| Some(Arc::new(Mutex::new(sitter)))),
        Scope::Vcpu => Ok(None),
    });
    shared.collect()
}

/// A vCPU's row of seats.
fn seats_of(
    vcpu: VcpuId,
    plans: &[SeatPlan],
    shared: &[Option<Arc<Mutex<Sitter>>>],
    sitter: NewSitter<'_>,
) -> Result<Box<[Seat]>, StartError> {
    let seats = plans.iter().zip(shared).map(|(plan, shared)| match shared {
        Some(shared) => Ok(Seat::Shared(shared.clone())),
        None => sitter(plan, Some(vcpu)).map(Seat::Own),
    });
    seats.collect()
}
