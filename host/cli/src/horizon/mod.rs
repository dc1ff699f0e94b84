//! `wasmsr horizon`: which plugins this host's kernel could take over.

mod claims;
mod evidence;
mod probe;
mod recording;
mod report;

use std::path::Path;

use wasmsr_engine::{Engine, LoadOptions, MapEntry, PluginInfo, Profile};
use wasmsr_interface::{Direction, KernelVersion, MsrIndex};

use self::claims::{Claim, each};
use self::evidence::{Evidence, Evidences};
use self::probe::{Fresh, Kernel, MOST};
use self::report::{Handover, Report};
use crate::args;
use crate::exit::{Code, Failure};
use crate::loaded::{host_kernel, load_kernel_agnostic, load_options};
use crate::terminal::console::print;
use crate::terminal::plain::pretty_json;
use crate::terminal::tables::range_name;

/// What is asked about: plugins, KVM, and what is known of both.
struct Subject {
    profile: Profile,
    kernel: Kernel,
    seen: Evidences,
    evidence: String,
    limits: Vec<String>,
}

/// Prints what KVM would do in the place of each plugin. Code 1 if it cannot take over all.
pub(crate) fn horizon(args: &args::Horizon) -> Result<Code, Failure> {
    let options = LoadOptions { host_kernel: None, ..load_options(&args.cache) };
    let subject = Subject::of(args, &options)?;
    let report = subject.report(&options)?;
    let text = match args.json {
        true => pretty_json(&report).map_err(Failure::host)?,
        false => report.for_people(),
    };
    print(&text).map_err(Failure::host)?;
    Ok(if report.is_ready() { Code::SUCCESS } else { Code::DIFFERENT })
}

const OF_PROBE: &str = "a probe compares the first answer of a plugin with the first answer of \
                        KVM, and one write of KVM's own value; a kernel shadow compares what a \
                        guest does";

impl Subject {
    fn of(args: &args::Horizon, options: &LoadOptions) -> Result<Self, Failure> {
        if let Some(path) = &args.recording {
            let (profile, kernel, seen) = recording::read(path, options)?;
            let limits = vec![
                "a recording says what plugins answered, not what KVM held: this kernel's KVM \
                 began with fresh values at each boot of the recording, and what it has not seen \
                 is from a probe"
                    .to_owned(),
                OF_PROBE.to_owned(),
            ];
            let evidence = format!("recording {}", path.display());
            return Ok(Subject { profile, kernel, seen, evidence, limits });
        }
        match &args.subject {
            Some(path) if Path::new(path).is_file() => {
                Self::of_profile(Path::new(path), Evidences::default(), options)
            }
            vm => Self::of_vm(vm.as_deref(), options),
        }
    }

    fn of_vm(vm: Option<&str>, options: &LoadOptions) -> Result<Self, Failure> {
        let (_, snapshot) = wasmsr_stats::find(vm)?;
        let seen = Evidences::of_vm(&snapshot);
        let mut subject = Self::of_profile(Path::new(&snapshot.profile), seen, options)?;
        subject.evidence = match subject.seen.len() {
            0 => format!(
                "a probe; process {} has no kernel shadow that has seen accesses",
                snapshot.pid
            ),
            _ => format!("kernel shadows of process {}, else a probe", snapshot.pid),
        };
        let on_disk = "the VM's profile and plugins are read as they are on disk now".to_owned();
        subject.limits.insert(0, on_disk);
        Ok(subject)
    }

    fn of_profile(path: &Path, seen: Evidences, options: &LoadOptions) -> Result<Self, Failure> {
        let profile = Profile::read(path).map_err(Failure::input)?;
        let kernel = Kernel::of(&load_kernel_agnostic(&profile, options)?)?;
        let evidence = "a probe: first answers in a VM that runs no guest".to_owned();
        Ok(Subject { profile, kernel, seen, evidence, limits: vec![OF_PROBE.to_owned()] })
    }

    fn report(mut self, options: &LoadOptions) -> Result<Report, Failure> {
        self.profile.plugins.retain(|plugin| plugin.shadow_of.is_none());
        self.profile.kernel_shadows.clear();
        let engine = load_kernel_agnostic(&self.profile, options)?;
        let map = engine.map();
        let version = host_kernel();
        let (mut claims, mut plugins) = (Vec::new(), Vec::new());
        for plugin in engine.plugins() {
            let name = &plugin.manifest.plugin.name;
            let entries = map.iter().filter(|entry| *entry.plugin == **name);
            let own = self.claims(name, entries, &engine, options)?;
            plugins.push(handover(&plugin, &own, version));
            claims.extend(own);
        }
        if wasmsr_kvm::ignores_unknown_msrs().unwrap_or_default() {
            self.limits.push(
                "kvm.ignore_msrs is set: this kernel answers MSRs that it does not know".to_owned(),
            );
        }
        Ok(Report {
            profile: self.profile.path.display().to_string(),
            host_kernel: version.map_or("unknown".to_owned(), |version| version.to_string()),
            evidence: self.evidence,
            limits: self.limits,
            claims,
            plugins,
        })
    }

    fn claims<'a>(
        &self,
        name: &str,
        entries: impl Iterator<Item = &'a MapEntry>,
        engine: &Engine,
        options: &LoadOptions,
    ) -> Result<Vec<Claim>, Failure> {
        let mut fresh = Fresh::start(&self.profile, name, &self.kernel, options)?;
        let mut left = MOST;
        let mut claims = Vec::new();
        for entry in entries {
            let mut claim = Claim::of(entry, engine, range_name(entry.range));
            for index in entry.range.first().0..=entry.range.last().0 {
                let index = MsrIndex(index);
                if left == 0 {
                    // What is beyond the limit is neither known nor seen.
                    claim.seen(index, None);
                    break;
                }
                left -= 1;
                claim.known(index, self.kernel.knows(index));
                for direction in each(entry.directions) {
                    let probed = self.evidence(name, index, direction).is_none().then(|| {
                        let fresh = fresh.as_mut()?;
                        fresh.compare(&self.kernel, entry, index, direction)
                    });
                    let probed = probed.flatten();
                    claim.seen(index, self.evidence(name, index, direction).or(probed.as_ref()));
                }
            }
            claims.push(claim);
        }
        Ok(claims)
    }

    /// What a guest has shown.
    fn evidence(&self, plugin: &str, index: MsrIndex, direction: Direction) -> Option<&Evidence> {
        self.seen.get(plugin, index, direction).filter(|evidence| evidence.compared > 0)
    }
}

/// Whether a plugin with these claims can be handed over to this kernel.
fn handover(plugin: &PluginInfo<'_>, claims: &[Claim], version: Option<KernelVersion>) -> Handover {
    let manifest = plugin.manifest;
    let mut held_back: Vec<String> = claims.iter().flat_map(Claim::held_back).collect();
    if claims.is_empty() {
        held_back.push("it claims no MSR, so there is nothing to hand over".to_owned());
    }
    if !manifest.unhandled.reasons.is_empty() {
        held_back.push(
            "it also answers accesses that KVM does not know or refuses (`unhandled`), which \
             would be the policy's"
                .to_owned(),
        );
    }
    if version.is_none() {
        held_back.push("the version of this host's kernel is not known".to_owned());
    }
    let mut notes = Vec::new();
    if !manifest.cpuid.is_empty() {
        notes.push(
            "its changes of CPUID go with it; put those that the guest needs into [[cpuid]]"
                .to_owned(),
        );
    }
    if let Some(from) = plugin.config.kernel_from {
        notes.push(format!("the profile has `kernel-from = \"{from}\"`"));
    }
    let kernel_from = version.filter(|_| held_back.is_empty()).map(|version| version.to_string());
    Handover { plugin: manifest.plugin.name.clone(), kernel_from, held_back, notes }
}
