//! Asks the plugins of a profile in a dry run, and KVM in a VM that runs no guest.

use std::collections::BTreeSet;

use anyhow::Context as _;
use wasmsr_engine::msr::{Policy, PolicyAction};
use wasmsr_engine::{Engine, LoadOptions, MapEntry, Profile, VcpuDispatch};
use wasmsr_interface::{
    Direction, KvmAnswer, MsrAccess, MsrHandler as _, MsrIndex, MsrOp, Outcome, Reason,
};
use wasmsr_vmm::Probe;

use super::evidence::{Evidence, Source};
use crate::exit::Failure;

/// Most MSRs of a plugin that are asked about one by one.
pub(super) const MOST: u64 = 1 << 16;

/// What this host's KVM is asked through.
pub(super) struct Kernel {
    probe: Probe,
    listed: BTreeSet<MsrIndex>,
}

impl Kernel {
    /// With the CPUID that a guest of these plugins has.
    pub(super) fn of(engine: &Engine) -> Result<Self, Failure> {
        let probe = Probe::new(engine.cpuid()).map_err(Failure::host)?;
        let listed = wasmsr_vmm::known_msrs().map_err(Failure::host)?;
        Ok(Kernel { probe, listed })
    }

    /// Whether KVM knows the MSR: it lists it, has a value of it, or takes 0 from a guest.
    pub(super) fn knows(&self, index: MsrIndex) -> bool {
        self.listed.contains(&index)
            || self.probe.has(index)
            || matches!(self.ask(index, MsrOp::Write(0), None), KvmAnswer::Taken(_))
    }

    pub(super) fn ask(&self, index: MsrIndex, op: MsrOp, held: Option<u64>) -> KvmAnswer {
        self.probe.ask(index, op, held)
    }
}

/// One plugin, started afresh with nothing beside it.
pub(super) struct Fresh(VcpuDispatch);

impl Fresh {
    /// The plugin of this place in `profile`. What it passes on is KVM's.
    pub(super) fn start(
        profile: &Profile,
        name: &str,
        kernel: &Kernel,
        options: &LoadOptions,
    ) -> Result<Option<Self>, Failure> {
        let mut alone = profile.clone();
        let engine = |profile: &Profile| {
            Engine::load(profile, options)
                .with_context(|| format!("profile {}", profile.path.display()))
                .map_err(Failure::input)
        };
        let Some(place) =
            engine(profile)?.plugins().position(|plugin| plugin.manifest.plugin.name == name)
        else {
            return Ok(None);
        };
        alone.plugins = profile.plugins.get(place).cloned().into_iter().collect();
        alone.policy = Policy { unknown: PolicyAction::Kernel, ..Policy::default() };
        let started = engine(&alone)?
            .start(&kernel.probe.host(), 1)
            .with_context(|| format!("profile {}", profile.path.display()))
            .map_err(Failure::input)?;
        Ok(started.vcpus.into_iter().next().map(Fresh))
    }

    fn answer(&mut self, index: MsrIndex, op: MsrOp) -> Outcome {
        self.0.answer(MsrAccess { index, op, reason: Reason::Filter })
    }

    /// Compares the first answers, to a read or to a write of the value that KVM has.
    pub(super) fn compare(
        &mut self,
        kernel: &Kernel,
        claim: &MapEntry,
        index: MsrIndex,
        direction: Direction,
    ) -> Option<Evidence> {
        if !claim.directions.contains(direction) {
            return None;
        }
        let op = match direction {
            Direction::Read => MsrOp::Read,
            Direction::Write => match kernel.ask(index, MsrOp::Read, None) {
                KvmAnswer::Value(value) => MsrOp::Write(value),
                _ => MsrOp::Write(0),
            },
        };
        let mut evidence = Evidence::none(Source::Probe);
        evidence.add(op, &self.answer(index, op), kernel.ask(index, op, None));
        Some(evidence)
    }
}
