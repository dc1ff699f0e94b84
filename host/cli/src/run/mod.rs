//! `wasmsr run`: boot after boot until the guest or the user ends it.

mod changes;
mod control;
mod disable_file;
mod open;
mod pace;
mod record_file;
mod record_ring;
mod recorded;
mod running;
mod source;
mod summary;

use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use anyhow::Context;
use wasmsr_engine::Report;
use wasmsr_engine::live::LiveStart;
use wasmsr_interface::MsrHandler;
use wasmsr_stats::{OfferError, Snapshot, Sources, Statistics};
use wasmsr_vmm::{BuildError, Events, RunEnd, Vm, VmSpec};

use crate::args::{self, OnReboot};
use crate::exit::{Code, Failure};
use crate::expect::Expected;
use crate::loaded::{Loaded, load_options};
use crate::terminal::console::{self, say};
use crate::terminal::log_record;
use crate::terminal::signals;
use crate::terminal::tables;
use control::RunControl;
use pace::Pace;
use recorded::Recorded;
use running::Running;
use source::Source;
use summary::{Summary, SummaryFile};

/// Runs the VM that a profile describes.
pub(crate) fn run(args: &args::Run) -> Result<Code, Failure> {
    log_record::set_vm(&args.profile.file_stem().unwrap_or_default().to_string_lossy());
    let options = load_options(&args.cache);
    let source = Source::of(&args.profile);
    let set = Arc::new(source.load(&options).map_err(Failure::input)?);
    log_record::set_vm(&set.profile.name);
    let (control, events) = wasmsr_vmm::control();
    let running_for_signals: Arc<OnceLock<Weak<Running>>> = Arc::default();
    let wishes = running_for_signals.clone();
    let disable = move || {
        if let Some(running) = wishes.get().and_then(Weak::upgrade) {
            disable_file::carry_out(&running);
        }
    };
    signals::forward(&control, disable)
        .context("cannot listen to signals")
        .map_err(Failure::host)?;
    let _terminal = console::attach_input(&set.profile.boot, &control)
        .context("cannot set up the terminal")
        .map_err(Failure::host)?;
    let statistics =
        Statistics::offer(&args.profile, args.metrics.as_ref()).map_err(|error| match error {
            OfferError::Taken { .. } => Failure::input(error),
            _ => Failure::host(error),
        })?;
    let statistics = Arc::new(statistics);
    if let (Some(summary), Some(record)) = (&args.summary, &args.record)
        && open::is_one_file(summary, record)
    {
        let why = "--summary and --record name one file; give each its own";
        return Err(Failure::input(anyhow::anyhow!(why)));
    }
    let summary = args.summary.as_deref().map(SummaryFile::at).transpose()?;
    let recording = Recorded::begin(args)?;
    let running = Running::new(source, set, options, statistics.clone(), recording);
    let running = Arc::new(running);
    // Nothing else sets it.
    let _ = running_for_signals.set(Arc::downgrade(&running));
    statistics.control(Arc::new(RunControl::new(running.clone(), control.clone())));
    let mut seen = Observers { counts: statistics.snapshot(), reports: Vec::new(), statistics };
    let end = boots(args, &running, &events, &mut seen);
    running.over();
    let Observers { counts, reports, .. } = seen;
    let recording = running.take_recording();
    let recording = recording.map(|recording| recording.finish(end.as_ref().ok()));
    let code = match &end {
        Ok(end) => Expected::code(&args.expect, end),
        Err(failure) => failure.code,
    };
    if code == Code::UNEXPECTED {
        say("wasmsr: this is not the end that --expect names");
    }
    if let Some(summary) = summary {
        summary.write(&Summary::of(code, &end, &counts, &reports, recording.as_ref()));
    }
    end.map(|_| code)
}

/// What observes the guests of a run, and what was seen of the last boot.
struct Observers {
    statistics: Arc<Statistics>,
    counts: Snapshot,
    reports: Vec<Report>,
}

/// Boot after boot, until one is the last.
fn boots(
    args: &args::Run,
    running: &Running,
    events: &Events,
    seen: &mut Observers,
) -> Result<RunEnd, Failure> {
    let mut pace = Pace::default();
    let mut began = Instant::now();
    let mut end = boot(&running.set(), running, events, seen)?;
    let mut boots = 1;
    while boots_again(&end, boots, args) {
        boots += 1;
        let delay = pace.after(&end, began.elapsed(), args.on_reboot);
        if delay.is_zero() {
            tracing::info!("boot {boots}");
        } else {
            tracing::warn!(
                "boot {boots} in {} ms, as the guest resets again and again",
                delay.as_millis()
            );
            if let Some(instead) = events.rest(delay) {
                say(&format!("wasmsr: {instead}"));
                return Ok(instead);
            }
        }
        began = Instant::now();
        end = match candidate(running) {
            Some(new) => boot(&Arc::new(new), running, events, seen).or_else(|failure| {
                tracing::warn!("{:#}; the last good set boots instead", failure.error);
                boot(&running.set(), running, events, seen)
            })?,
            None => boot(&running.set(), running, events, seen)?,
        };
    }
    Ok(end)
}

/// Whether another boot follows.
fn boots_again(end: &RunEnd, boots: u64, args: &args::Run) -> bool {
    matches!(end, RunEnd::Reset(_))
        && args.on_reboot != OnReboot::Exit
        && args.max_boots.is_none_or(|most| boots < most)
}

/// One boot: a fresh VM, fresh plugins, from power-on to the end of the run.
fn boot(
    set: &Arc<Loaded>,
    running: &Running,
    events: &Events,
    seen: &mut Observers,
) -> Result<RunEnd, Failure> {
    let in_profile = || format!("profile {}", set.profile.engine.path.display());
    let output = console::guest_output().context("no standard output").map_err(Failure::host)?;
    let vm = Vm::build(VmSpec {
        vm: &set.profile.vm,
        boot: &set.profile.boot,
        filter: &set.filter,
        cpuid: set.engine.cpuid(),
        output,
    })
    .map_err(|error| match error {
        BuildError::Kvm(_) | BuildError::Step { .. } => Failure::host(error),
        _ => Failure::input(anyhow::Error::new(error).context(in_profile())),
    })?;
    let (host, vcpus) = (vm.host(), set.profile.vm.vcpus);
    let recorder = running.recorder();
    let started = set.engine.start_live(&host, vcpus, recorder.as_ref());
    let LiveStart { live, vcpus, reports } =
        started.with_context(in_profile).map_err(Failure::input)?;
    let handlers: Vec<Box<dyn MsrHandler>> =
        vcpus.into_iter().map(|vcpu| Box::new(vcpu) as Box<dyn MsrHandler>).collect();
    let statistics = seen.statistics.clone();
    let boot = statistics.boot(Sources::of_live(&live.sources()));
    running.booted(set.clone(), live.clone());
    let end = vm.run(handlers, events);
    running.ended();
    // The set may have changed last when nothing could tell so any more.
    statistics.swapped(Sources::of_live(&live.sources()));
    seen.counts = seen.statistics.snapshot();
    drop(boot);
    say(&format!("wasmsr: {end}\n{}", tables::accesses(&seen.counts.msrs)));
    seen.reports = reports.take();
    if !seen.counts.shadows.is_empty() {
        say(&format!("\n{}", tables::shadows(&seen.counts.shadows)));
    }
    for report in &seen.reports {
        let whose = report.vcpu.map_or(String::new(), |vcpu| format!(", {vcpu}"));
        say(&format!("\nplugin {}{whose} reports:\n{}", report.plugin, report.text));
    }
    Ok(end)
}

/// The profile and plugins that are on disk now, if they can be loaded, and were not taken
/// back in this run. The log says what has changed.
fn candidate(running: &Running) -> Option<Loaded> {
    match running.load_and_check() {
        Ok(new) if running.is_rejected(&new) => {
            tracing::warn!(
                "the set on disk was taken back in this run; the last good set boots instead"
            );
            None
        }
        Ok(new) => {
            changes::tell(&running.set(), &new);
            Some(new)
        }
        Err(error) => {
            tracing::warn!("{error:#}; the last good set boots instead");
            None
        }
    }
}
