//! A set of plugins in a scripted host, driven step by step.

use std::collections::BTreeMap;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmsr_interface::{Host, Initiator, MsrAccess, MsrHandler, Outcome, Reason, VcpuId};

use super::error::TraceError;
use super::host::ScriptedHost;
use super::line::ScriptLine;
use super::step::Step;
use super::tables::{parse_profile, vcpus};
use crate::dispatch::VcpuDispatch;
use crate::engine::{Engine, LoadOptions};
use crate::plugin::read_manifest;
use crate::profile::Profile;
use crate::start::Started;

/// A set of plugins in a scripted host, driven step by step.
pub struct Rig {
    engine: Engine,
    /// With the files before the first swap for others.
    first: Option<Engine>,
    options: LoadOptions,
    /// Files in the place of those that `swap` names, by the name in the trace.
    swaps: BTreeMap<String, PathBuf>,
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
        Self::load(&parse_profile(profile, directory)?, BTreeMap::new(), options)
    }

    pub(super) fn load(
        profile: &Profile,
        swaps: BTreeMap<String, PathBuf>,
        options: &LoadOptions,
    ) -> Result<Self, TraceError> {
        let engine = Engine::load(profile, options)
            .map_err(|error| TraceError::Load(with_sources(&error)))?;
        let vcpus = vcpus(&profile.text)?;
        let host = Arc::new(ScriptedHost::default());
        let (options, cpu) = (options.clone(), VcpuId(0));
        Ok(Rig { engine, first: None, options, swaps, vcpus, host, started: None, cpu })
    }

    /// Back to before the first step.
    pub fn start_over(&mut self) {
        if let Some(first) = self.first.take() {
            self.engine = first;
        }
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
            Step::Access { access, as_kvm_says: false } => {
                Some(self.vcpu(cpu)?.answer(access).to_string())
            }
            Step::Access { access, as_kvm_says: true } => {
                let is_known = self.host.kvm_msr(cpu, access.index, Initiator::Host).is_some();
                let vcpu = self.vcpu(cpu)?;
                // What the filter lets pass is KVM's, and leaves the kernel only if KVM
                // does not know the MSR.
                let is_off = vcpu.is_turned_off(access.index, access.op.direction());
                let outcome = match (is_off, is_known) {
                    (false, _) => vcpu.answer(access),
                    (true, true) => Outcome::Kernel,
                    (true, false) => vcpu.answer(MsrAccess { reason: Reason::Unknown, ..access }),
                };
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
            Step::Swap(file) => {
                self.swap(file.as_deref())?;
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

    fn vcpu(&mut self, cpu: VcpuId) -> Result<&mut VcpuDispatch, String> {
        let vcpu = usize::try_from(cpu.0).unwrap_or(usize::MAX);
        let vcpu = self.started()?.vcpus.get_mut(vcpu);
        vcpu.ok_or_else(|| format!("there is no {cpu}"))
    }

    fn swap(&mut self, file: Option<&str>) -> Result<(), String> {
        self.started()?;
        let next = file.map(|file| self.engine_with(file)).transpose()?;
        let Some(mut old) = self.started.take() else { return Ok(()) };
        let saved = match &next {
            Some(next) => self.engine.save_for(&mut old.vcpus, next),
            None => self.engine.save(&mut old.vcpus),
        };
        let saved = saved.map_err(|error| with_sources(&error))?;
        drop(old);
        self.host.forget_alarms();
        if let Some(next) = next {
            let last = mem::replace(&mut self.engine, next);
            self.first.get_or_insert(last);
        }
        let host = Arc::clone(&self.host) as Arc<dyn Host>;
        let restored = self.engine.restore(&host, self.vcpus, &saved);
        self.started = Some(restored.map_err(|error| with_sources(&error))?);
        Ok(())
    }

    /// The engine with another file in the place of the plugin of the same name.
    fn engine_with(&self, file: &str) -> Result<Engine, String> {
        let path = match self.swaps.get(file) {
            Some(path) => path.clone(),
            None => self.engine.profile.path.parent().unwrap_or(Path::new("")).join(file),
        };
        let name_of = |path: &Path| {
            let manifest = read_manifest(path)
                .map_err(|error| format!("plugin {}: {}", path.display(), with_sources(&error)))?;
            Ok::<_, String>(manifest.plugin.name)
        };
        let name = name_of(&path)?;
        let mut profile = self.engine.profile.clone();
        let mut found = false;
        for plugin in profile.plugins.iter_mut().filter(|plugin| plugin.shadow_of.is_none()) {
            if name_of(&plugin.path)? == name {
                plugin.path.clone_from(&path);
                plugin.sha256 = None;
                found = true;
            }
        }
        if !found {
            return Err(format!("`{file}` is plugin `{name}`, which the trace does not have"));
        }
        Engine::load(&profile, &self.options).map_err(|error| with_sources(&error))
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
