//! `wasmsr run`: boot after boot until the guest or the user ends it.

mod changes;
mod open;
mod record_file;
mod record_ring;
mod recorded;
mod summary;

use std::path::Path;

use anyhow::Context;
use wasmsr_engine::record::Recorder;
use wasmsr_engine::{LoadOptions, Report};
use wasmsr_interface::MsrHandler;
use wasmsr_stats::{OfferError, Snapshot, Sources, Statistics};
use wasmsr_vmm::{BuildError, Events, RunEnd, Vm, VmSpec, control};

use crate::args::{self, OnReboot};
use crate::exit::{Code, Failure};
use crate::expect::Expected;
use crate::loaded::{Loaded, load_options};
use crate::terminal::console::{self, say};
use crate::terminal::log_record;
use crate::terminal::signals;
use crate::terminal::tables;
use recorded::Recorded;
use summary::{Summary, SummaryFile};

/// Runs the VM that a profile describes.
pub(crate) fn run(args: &args::Run) -> Result<Code, Failure> {
    log_record::set_vm(&args.profile.file_stem().unwrap_or_default().to_string_lossy());
    let options = load_options(&args.cache);
    let mut set = Loaded::load(&args.profile, &options).map_err(Failure::input)?;
    let (control, events) = control();
    signals::forward(&control).context("cannot listen to signals").map_err(Failure::host)?;
    let _terminal = console::attach_input(&set.profile.boot, &control)
        .context("cannot set up the terminal")
        .map_err(Failure::host)?;
    let statistics =
        Statistics::offer(&args.profile, args.metrics.as_ref()).map_err(|error| match error {
            OfferError::Taken { .. } => Failure::input(error),
            _ => Failure::host(error),
        })?;
    if let (Some(summary), Some(record)) = (&args.summary, &args.record)
        && open::is_one_file(summary, record)
    {
        let why = "--summary and --record name one file; give each its own";
        return Err(Failure::input(anyhow::anyhow!(why)));
    }
    let summary = args.summary.as_deref().map(SummaryFile::at).transpose()?;
    let recording = Recorded::begin(args)?;
    let recorder = recording.as_ref().map(Recorded::recorder);
    let mut seen =
        Observers { counts: statistics.snapshot(), reports: Vec::new(), statistics, recorder };
    let end = boots(args, &options, &mut set, &events, &mut seen);
    let Observers { counts, reports, .. } = seen;
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
struct Observers<'a> {
    statistics: Statistics,
    recorder: Option<&'a Recorder>,
    counts: Snapshot,
    reports: Vec<Report>,
}

/// Boot after boot, until one is the last.
fn boots(
    args: &args::Run,
    options: &LoadOptions,
    set: &mut Loaded,
    events: &Events,
    seen: &mut Observers<'_>,
) -> Result<RunEnd, Failure> {
    let mut end = boot(set, events, seen)?;
    let mut boots = 1;
    while boots_again(&end, boots, args) {
        boots += 1;
        tracing::info!("boot {boots}");
        end = match candidate(&args.profile, options, set) {
            Some(new) => match boot(&new, events, seen) {
                Ok(end) => {
                    *set = new;
                    end
                }
                Err(failure) => {
                    tracing::warn!("{:#}; the last good set boots instead", failure.error);
                    boot(set, events, seen)?
                }
            },
            None => boot(set, events, seen)?,
        };
    }
    Ok(end)
}

/// Whether another boot follows.
fn boots_again(end: &RunEnd, boots: u64, args: &args::Run) -> bool {
    matches!(end, RunEnd::Reset(_))
        && args.on_reboot == OnReboot::Boot
        && args.max_boots.is_none_or(|most| boots < most)
}

/// One boot: a fresh VM, fresh plugins, from power-on to the end of the run.
fn boot(set: &Loaded, events: &Events, seen: &mut Observers<'_>) -> Result<RunEnd, Failure> {
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
    let started = match seen.recorder {
        Some(recorder) => set.engine.start_recorded(&host, vcpus, recorder),
        None => set.engine.start(&host, vcpus),
    };
    let started = started.with_context(in_profile).map_err(Failure::input)?;
    let sources = Sources::of(&set.engine, &started);
    let handlers: Vec<Box<dyn MsrHandler>> =
        started.vcpus.into_iter().map(|vcpu| Box::new(vcpu) as Box<dyn MsrHandler>).collect();
    let running = seen.statistics.boot(sources);
    let end = vm.run(handlers, events);
    seen.counts = seen.statistics.snapshot();
    drop(running);
    say(&format!("wasmsr: {end}\n{}", tables::accesses(&seen.counts.msrs)));
    seen.reports = started.reports.take();
    if !seen.counts.shadows.is_empty() {
        say(&format!("\n{}", tables::shadows(&seen.counts.shadows)));
    }
    for report in &seen.reports {
        let whose = report.vcpu.map_or(String::new(), |vcpu| format!(", {vcpu}"));
        say(&format!("\nplugin {}{whose} reports:\n{}", report.plugin, report.text));
    }
    Ok(end)
}

/// The profile and plugins that are on disk now, if they can be loaded. The log says
/// what has changed.
fn candidate(profile: &Path, options: &LoadOptions, old: &Loaded) -> Option<Loaded> {
    match Loaded::load_and_check(profile, options) {
        Ok(new) => {
            changes::tell(old, &new);
            Some(new)
        }
        Err(error) => {
            tracing::warn!("{error:#}; the last good set boots instead");
            None
        }
    }
}
