//! What the control socket of a run can do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use bytesize::ByteSize;
use tracing::level_filters::LevelFilter;
use wasmsr_engine::live::{Live, Verdict};
use wasmsr_engine::profile::OnFailure;
use wasmsr_engine::{FilterChange, Terms};
use wasmsr_interface::MsrRange;
use wasmsr_stats::control::{
    Action, Answer, Controls, Job, Last, LogLevel, PluginState, Probation, ProbationTerms,
    Progress, Record, Refusal, Swap, Swapped, SwappedPlugin, VmInfo,
};
use wasmsr_vmm::Control;

use super::recorded::Recorded;
use super::running::{Done, Order, Running};
use crate::terminal::log;

/// The size of a recording that is begun without a limit.
const RECORDING: ByteSize = ByteSize::gib(1);

/// The longest probation.
const LONGEST: f64 = 86_400.0;

/// What the control socket of a run can do.
pub(super) struct RunControl {
    running: Arc<Running>,
    vm: Control,
    since: Instant,
}

impl RunControl {
    pub(super) fn new(running: Arc<Running>, vm: Control) -> Self {
        RunControl { running, vm, since: Instant::now() }
    }

    fn swap(&self, asked: &Swap, progress: Progress) -> anyhow::Result<Swapped> {
        let (terms, time) = match &asked.probation {
            Some(probation) => {
                let (terms, time) = terms(probation)?;
                (Some(terms), time)
            }
            None => (None, None),
        };
        let expect = asked.expect.as_deref().map(str::parse).transpose();
        let plugins = asked.plugins.iter().map(|plugin| (plugin.name.clone(), plugin.file.clone()));
        let order = Order {
            profile: asked.profile.clone(),
            plugins: plugins.collect(),
            rehearse: asked.dry_run,
            expect: expect.map_err(|error: String| anyhow!(error))?,
            terms,
            time,
        };
        let told = move |verdict: &Verdict| {
            progress.verdict(match verdict {
                Verdict::Kept => "kept".to_owned(),
                Verdict::Returned(cause) => format!("returned: {cause}"),
                Verdict::RolledBack => "rolled back".to_owned(),
                Verdict::Ended => "ended".to_owned(),
            });
        };
        self.running.swap(&order, told).map(|done| swapped(&done))
    }

    fn record(&self, asked: &Record) -> anyhow::Result<()> {
        if asked.dump {
            let ring = self.running.ring();
            let ring = ring.context("the run keeps no ring; start it with --record-ring")?;
            ring.write()?;
            return Ok(());
        }
        let new = match &asked.file {
            Some(path) => {
                let limit = asked.limit.map_or(RECORDING, ByteSize);
                Some(Recorded::to_file(path, limit).map_err(|failure| failure.error)?)
            }
            None => None,
        };
        self.running.record(new)
    }
}

impl Controls for RunControl {
    fn vm(&self) -> VmInfo {
        let running = &self.running;
        let (set, live, history) = (running.set(), running.live(), running.history());
        let disabled = live.as_ref().map(Live::disabled).unwrap_or_default();
        let probation = live.as_ref().and_then(Live::probation);
        let paused = self.vm.is_paused();
        let plugins: Vec<PluginState> = set
            .engine
            .plugins()
            .map(|plugin| PluginState {
                name: plugin.name.to_string(),
                version: plugin.manifest.plugin.version.to_string(),
                sha256: plugin.sha256.to_string(),
                disabled: disabled.get(plugin.name).copied().and_then(answer),
            })
            .collect();
        let failing = live.as_ref().and_then(Live::failing);
        let out = plugins.iter().find(|plugin| plugin.disabled.is_some());
        let health = match (&out, failing, &probation) {
            _ if paused => "paused".to_owned(),
            (Some(plugin), ..) => format!("plugin {} disabled", plugin.name),
            (_, Some(plugin), _) => format!("plugin {plugin} fails"),
            (_, _, Some(_)) => "on probation".to_owned(),
            _ => "good".to_owned(),
        };
        VmInfo {
            name: running.name().to_owned(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            profile: running.profile().display().to_string(),
            boots: running.boots(),
            uptime: self.since.elapsed().as_secs_f64(),
            boot_uptime: running.boot_uptime().map(|time| time.as_secs_f64()),
            vcpus: set.profile.vm.vcpus,
            paused,
            generation: live.as_ref().map_or(0, Live::generation),
            set: set.engine.digest().to_string(),
            health,
            plugins,
            swaps: history.swaps,
            returns: history.returns.iter().map(|(word, n)| ((*word).to_owned(), *n)).collect(),
            probation: probation.map(|(generation, accesses)| Probation {
                generation,
                accesses,
                seconds_left: running.probation_left().map(|left| left.as_secs_f64()),
            }),
            last: history.last.map(|last| Last {
                what: last.what.to_owned(),
                generation: last.generation,
                cause: last.cause,
                when_unix_ms: last.when_unix_ms,
            }),
            recording: running.recorder().is_some(),
        }
    }

    fn act(&self, action: Action) -> Result<(), Refusal> {
        let refused = |error: anyhow::Error| Refusal(format!("{error:#}"));
        match action {
            Action::Disable(asked) => {
                let answer = match asked.answer {
                    Answer::Kernel => OnFailure::Kernel,
                    Answer::Fault => OnFailure::Fault,
                    Answer::Ignore => OnFailure::Ignore,
                };
                self.running.disable(&asked.plugin, Some(answer)).map_err(refused)?;
                tracing::warn!("plugin {} is disabled: {answer}", asked.plugin);
            }
            Action::Enable(asked) => {
                self.running.disable(&asked.plugin, None).map_err(refused)?;
                tracing::info!("plugin {} answers again", asked.plugin);
            }
            Action::Pause => self.vm.pause(),
            Action::Resume => self.vm.resume(),
            Action::Reset => self.vm.reset(),
            Action::Stop => self.vm.stop(),
            Action::PowerDown => self.vm.power_button(),
            Action::Log(level) => {
                let level = match level {
                    LogLevel::Error => LevelFilter::ERROR,
                    LogLevel::Warn => LevelFilter::WARN,
                    LogLevel::Info => LevelFilter::INFO,
                    LogLevel::Debug => LevelFilter::DEBUG,
                    LogLevel::Trace => LevelFilter::TRACE,
                };
                if !log::set_level(level) {
                    return Err(Refusal("the log's level cannot be changed".to_owned()));
                }
            }
        }
        Ok(())
    }

    fn perform(&self, job: Job, progress: Progress) -> Result<Option<Swapped>, Refusal> {
        let done = match job {
            Job::Swap(asked) => self.swap(&asked, progress).map(Some),
            Job::Rollback => self.running.roll_back().map(|done| Some(swapped(&done))),
            Job::Record(asked) => self.record(&asked).map(|()| None),
        };
        done.map_err(|error| Refusal(format!("{error:#}")))
    }
}

fn answer(answer: OnFailure) -> Option<Answer> {
    match answer {
        OnFailure::Kernel => Some(Answer::Kernel),
        OnFailure::Fault => Some(Answer::Fault),
        OnFailure::Ignore => Some(Answer::Ignore),
        OnFailure::Stop => None,
    }
}

fn terms(asked: &ProbationTerms) -> anyhow::Result<(Terms, Option<Duration>)> {
    let may_differ: Result<Vec<MsrRange>, _> =
        asked.may_differ.iter().map(|text| text.parse()).collect();
    let may_differ = may_differ.map_err(|error| anyhow!("may_differ: {error}"))?;
    let time = match asked.seconds {
        Some(seconds) if (0.0..=LONGEST).contains(&seconds) => {
            Some(Duration::from_secs_f64(seconds))
        }
        Some(seconds) => {
            return Err(anyhow!("a probation of {seconds} s; it may have 0 to {LONGEST}"));
        }
        None if asked.accesses.is_none() => {
            return Err(anyhow!("the probation has no end; give `seconds` or `accesses`"));
        }
        None => None,
    };
    let terms = Terms { differences: asked.differences, may_differ, accesses: asked.accesses };
    Ok((terms, time))
}

fn swapped(done: &Done) -> Swapped {
    let Done { swapped, changes, prepared } = done;
    let plugins = swapped.plugins.iter().map(|(name, fate)| {
        let mut lost = Vec::new();
        if swapped.lost_timers.contains(name) {
            lost.push("its timer: the new version has none".to_owned());
        }
        if swapped.lost_intercepts.contains(name) {
            lost.push("MSRs that it had turned on, and no longer claims".to_owned());
        }
        SwappedPlugin { name: name.to_string(), state: fate.word().to_owned(), lost }
    });
    Swapped {
        generation: swapped.generation,
        set: swapped.digest.to_string(),
        changes: changes.iter().take(super::changes::MOST).cloned().collect(),
        plugins: plugins.collect(),
        filter_changed: swapped.filter == FilterChange::Changed,
        prepared_ms: prepared.as_secs_f64() * 1e3,
        cut_us: swapped.cut.as_secs_f64() * 1e6,
    }
}
