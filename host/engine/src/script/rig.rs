//! A set of plugins in a scripted host, driven step by step.

use std::path::Path;
use std::sync::Arc;

use wasmsr_interface::{Host, Initiator, MsrHandler, VcpuId};

use super::error::TraceError;
use super::host::ScriptedHost;
use super::line::ScriptLine;
use super::step::Step;
use super::tables::{parse_profile, vcpus};
use crate::engine::{Engine, LoadOptions};
use crate::profile::Profile;
use crate::start::Started;

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
    /// [`TraceError::Profile`] and [`TraceError::Load`]
    pub fn new(profile: &str, directory: &Path, options: &LoadOptions) -> Result<Self, TraceError> {
        Self::load(&parse_profile(profile, directory)?, options)
    }

    pub(super) fn load(profile: &Profile, options: &LoadOptions) -> Result<Self, TraceError> {
        let engine = Engine::load(profile, options)
            .map_err(|error| TraceError::Load(with_sources(&error)))?;
        let vcpus = vcpus(&profile.text)?;
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
        let parts = ScriptLine::of(line);
        let Some(step) = Step::parse(parts)? else { return Ok(line.to_owned()) };
        let answer = self.take(step)?;
        Ok(match answer {
            Some(answer) => format!("{} -> {answer}{}", parts.question, parts.comment),
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
            Step::SetMemory(gpa, bytes) => {
                let set = self.host.write_memory(gpa, &bytes);
                set.map_err(|error| format!("{error}; a step `ram GPA LENGTH` gives it some"))?;
                None
            }
            Step::KvmMsr(index) => {
                Some(self.host.kvm_msr(cpu, index, Initiator::Host).map_or("none".into(), hex))
            }
            Step::Memory(gpa, len) => Some(self.show_memory(gpa, len)?),
            Step::Alarm => Some(self.host.alarm(cpu).map_or("none".into(), |at| at.to_string())),
            Step::Access(access) => {
                let outcome = self.vcpu(cpu)?.answer(access);
                Some(outcome.to_string())
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
