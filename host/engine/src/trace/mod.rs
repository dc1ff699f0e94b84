//! Traces: accesses of a guest with the answers that must come, and what the
//! host around it is told to be. They are run through the real engine with no
//! hypervisor, so a plugin's answers can be pinned and compared on any machine.
//!
//! A trace is text: the profile's `[vm]` and `[[plugin]]` tables, a line `---`,
//! then a step a line; docs/traces.md lists them. What is right of `->` is the
//! answer.
//!
//! ```text
//! [[plugin]]
//! path = "arch_capabilities.wasm"
//! config = { value = 0x2b }
//! ---
//! r 0x10a -> 0x2b
//! w 0x10a 0 -> fault
//! ```

mod difference;
mod host;
mod step;

use std::path::Path;
use std::sync::Arc;

use crate::engine::{Engine, LoadOptions, Started};
use crate::handler::MsrHandler;
use crate::host::Host;
use crate::msr::{Outcome, VcpuId};
use crate::profile::Profile;

pub use difference::{Difference, blessed, differences};
pub(crate) use host::ScriptedHost;
pub(crate) use step::Fact;
use step::Step;

/// Why a trace cannot be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// No line `---` between profile and steps.
    #[error("it has no line `---` between its profile and its steps; add one")]
    NoSteps,
    /// The profile, or a plugin of it.
    #[error("its profile does not start: {0}")]
    Profile(String),
    /// A step.
    #[error("line {line}, `{text}`: {problem}")]
    Step {
        /// Counted from 1.
        line: usize,
        /// The line.
        text: String,
        /// What is wrong with it, or went wrong.
        problem: String,
    },
}

/// Runs a trace whose plugins lie in `directory`. Returns it with the answers
/// that came: the same text, if they were the expected ones.
///
/// # Errors
/// [`TraceError`] for a profile that does not start and a step that cannot be
/// taken. An unexpected answer is no error.
pub fn replay(text: &str, directory: &Path, options: &LoadOptions) -> Result<String, TraceError> {
    let (profile, steps) = text.split_once("\n---\n").ok_or(TraceError::NoSteps)?;
    let mut rig = Rig::new(profile, directory, options)?;
    let mut out = format!("{profile}\n---\n");
    let first = out.lines().count() + 1;
    for (line, text) in (first..).zip(steps.lines()) {
        let taken = rig.step(text);
        let answered =
            taken.map_err(|problem| TraceError::Step { line, text: text.to_owned(), problem })?;
        out += &answered;
        out.push('\n');
    }
    Ok(out)
}

/// A set of plugins in a scripted host, driven step by step.
pub struct Rig {
    engine: Engine,
    vcpus: u32,
    host: Arc<ScriptedHost>,
    started: Option<Started>,
    cpu: VcpuId,
}

impl Rig {
    /// Loads the plugins of a profile's `[[plugin]]` tables from `directory`.
    /// They start with the first step that needs them, when the host has been
    /// told what to be.
    ///
    /// # Errors
    /// [`TraceError::Profile`]
    pub fn new(profile: &str, directory: &Path, options: &LoadOptions) -> Result<Self, TraceError> {
        // A profile needs something to boot; nothing boots here.
        let text = format!("boot.guest = \"none\"\n{profile}");
        let profile = Profile::parse(&directory.join("trace.toml"), &text)
            .map_err(|error| TraceError::Profile(with_sources(&error)))?;
        let engine = Engine::load(&profile, options)
            .map_err(|error| TraceError::Profile(with_sources(&error)))?;
        let vcpus = profile.vm.vcpus;
        let host = Arc::new(ScriptedHost::default());
        Ok(Rig { engine, vcpus, host, started: None, cpu: VcpuId(0) })
    }

    /// Back to before the first step.
    pub fn start_over(&mut self) {
        self.host = Arc::new(ScriptedHost::default());
        self.started = None;
        self.cpu = VcpuId(0);
    }

    /// Takes one step and returns its line with the answer that came.
    ///
    /// # Errors
    /// What is wrong with the step, or with the plugins' start.
    pub fn step(&mut self, line: &str) -> Result<String, String> {
        let Some((question, step)) = Step::parse(line)? else { return Ok(line.to_owned()) };
        let answer = self.take(step)?;
        Ok(match answer {
            Some(answer) => format!("{question} -> {answer}"),
            None => line.to_owned(),
        })
    }

    fn take(&mut self, step: Step) -> Result<Option<String>, String> {
        let cpu = self.cpu;
        Ok(match step {
            Step::Cpu(vcpu) if vcpu.0 < self.vcpus => {
                self.cpu = vcpu;
                None
            }
            Step::Cpu(vcpu) => return Err(format!("there is no {vcpu}; raise `vcpus`")),
            Step::Tell(fact) => {
                self.host.tell(cpu, fact);
                None
            }
            Step::KvmMsr(index) => Some(self.host.kvm_msr(cpu, index).map_or("none".into(), hex)),
            Step::Memory(gpa, len) => Some(self.show_memory(gpa, len)?),
            Step::Alarm => Some(self.host.alarm(cpu).map_or("none".into(), |at| at.to_string())),
            Step::Access(access, reads) => {
                let outcome = self.vcpu(cpu)?.answer(access);
                Some(shown(&outcome, reads))
            }
            Step::Wake => {
                self.host.forget_alarm(cpu);
                self.vcpu(cpu)?.wake();
                None
            }
            Step::Reset => {
                for vcpu in &mut self.started()?.vcpus {
                    vcpu.reset().map_err(|error| error.to_string())?;
                }
                None
            }
            Step::Swap => {
                self.swap()?;
                None
            }
            Step::Report => Some(self.report()?),
        })
    }

    fn started(&mut self) -> Result<&mut Started, String> {
        if self.started.is_none() {
            let host = Arc::clone(&self.host) as Arc<dyn Host>;
            let started = self.engine.start(&host, self.vcpus);
            self.started = Some(started.map_err(|error| with_sources(&error))?);
        }
        self.started.as_mut().ok_or_else(String::new)
    }

    fn vcpu(&mut self, cpu: VcpuId) -> Result<&mut dyn MsrHandler, String> {
        let vcpu = usize::try_from(cpu.0).unwrap_or(usize::MAX);
        let vcpu = self.started()?.vcpus.get_mut(vcpu);
        vcpu.map(|vcpu| vcpu as &mut dyn MsrHandler).ok_or_else(|| format!("there is no {cpu}"))
    }

    fn swap(&mut self) -> Result<(), String> {
        self.started()?;
        let Some(mut old) = self.started.take() else { return Ok(()) };
        let saved = self.engine.save(&mut old.vcpus).map_err(|error| with_sources(&error))?;
        drop(old);
        self.host.forget_alarms();
        let host = Arc::clone(&self.host) as Arc<dyn Host>;
        let restored = self.engine.restore(&host, self.vcpus, &saved);
        self.started = Some(restored.map_err(|error| with_sources(&error))?);
        Ok(())
    }

    fn report(&mut self) -> Result<String, String> {
        let started = self.started()?;
        started.vcpus.iter_mut().for_each(MsrHandler::end);
        let texts =
            started.reports.take().into_iter().map(|report| report.text.replace('\n', "\\n"));
        let texts: Vec<String> = texts.collect();
        Ok(if texts.is_empty() { "none".into() } else { texts.join("\\n") })
    }

    fn show_memory(&self, gpa: u64, len: usize) -> Result<String, String> {
        let mut bytes = vec![0; len];
        self.host.read_memory(gpa, &mut bytes).map_err(|error| error.to_string())?;
        let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(bytes.join(" "))
    }
}

fn shown(outcome: &Outcome, reads: bool) -> String {
    match outcome {
        Outcome::Handled(value) if reads => hex(*value),
        Outcome::Handled(_) => "ok".into(),
        Outcome::Fault => "fault".into(),
        Outcome::Kernel => "kernel".into(),
        Outcome::Stop(_) => "stop".into(),
    }
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
