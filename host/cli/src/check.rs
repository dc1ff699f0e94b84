//! `wasmsr check`: what a profile means, found without a guest and without KVM.

mod mistakes;
mod warnings;

use bytesize::ByteSize;
use serde::Serialize;
use wasmsr_interface::{Unclaimed, counted};
use wasmsr_kvm::filter::{MAX_MSRS_PER_RANGE, MAX_RANGES};
use wasmsr_vmm::Boot;

use crate::args;
use crate::contract::{self, Contract, Diff};
use crate::exit::{Code, Failure};
use crate::loaded::{Checked, load_options};
use crate::terminal::console::print;
use crate::terminal::plain::{plain, pretty_json};
use crate::terminal::tables::{range_name, table};

/// Checks a profile, and prints its plugins, MSR map, CPUID changes and filter, or what
/// decides each MSR, or how that differs from another contract.
pub(crate) fn check(args: &args::Check) -> Result<Code, Failure> {
    let options = load_options(&args.cache);
    let checked = match Checked::load(&args.profile, &options) {
        Ok(checked) => checked,
        Err(mistakes) => return mistakes::tell(&args.profile, &args.profile, &mistakes, args.json),
    };
    let mut report = Report::new(&checked);
    if let Some(other) = &args.diff {
        let host = contract::Host::this();
        let here = Contract::of(&checked, &host);
        let there = match contract::other(other, &options, &host) {
            Ok(there) => there,
            Err(mistakes) => return mistakes::tell(&args.profile, other, &mistakes, args.json),
        };
        let diff = Diff::between(&here, &there);
        let text = match args.json {
            true => pretty_json(&diff).map_err(Failure::host)?,
            false => diff.for_people(),
        };
        print(&text).map_err(Failure::host)?;
        return Ok(if diff.is_empty() { Code::SUCCESS } else { Code::DIFFERENT });
    }
    if args.msrs {
        report.contract = Some(Contract::of(&checked, &contract::Host::this()));
    }
    let text = match (args.json, &report.contract) {
        (true, _) => pretty_json(&report).map_err(Failure::host)?,
        (false, Some(contract)) => contract.for_people(&report.profile) + &report.warned(),
        (false, None) => report.for_people(),
    };
    print(&text).map_err(Failure::host)?;
    Ok(Code::SUCCESS)
}

/// Everything `check` says; its JSON is for programs.
#[derive(Serialize)]
struct Report {
    profile: String,
    memory: u64,
    vcpus: u32,
    boot: String,
    /// What works otherwise than the profile may mean it.
    warnings: Vec<String>,
    policy: PolicyReport,
    plugins: Vec<PluginReport>,
    shadows: Vec<PluginReport>,
    /// The plugins that have a kernel shadow.
    kernel_shadows: Vec<String>,
    yielded: Vec<YieldedReport>,
    msrs: Vec<MsrReport>,
    cpuid: Vec<CpuidReport>,
    filter: Vec<FilterReport>,
    /// With `--msrs`: what decides each MSR.
    #[serde(skip_serializing_if = "Option::is_none")]
    contract: Option<Contract>,
}

#[derive(Serialize)]
struct PolicyReport {
    default: &'static str,
    allow: Vec<AllowedReport>,
    unknown: String,
    invalid: String,
    overrides: Vec<OverrideReport>,
}

#[derive(Serialize)]
struct AllowedReport {
    range: String,
    access: String,
}

#[derive(Serialize)]
struct OverrideReport {
    range: String,
    read: Option<String>,
    write: Option<String>,
}

#[derive(Serialize)]
struct PluginReport {
    name: String,
    version: String,
    path: String,
    sha256: String,
    size: u64,
    fuel: u64,
    memory: u64,
    on_failure: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow_of: Option<String>,
    asks: Vec<String>,
    asks_optionally: Vec<String>,
    granted: Vec<String>,
    unhandled: Vec<String>,
}

#[derive(Serialize)]
struct YieldedReport {
    name: String,
    kernel_from: String,
    host_kernel: String,
}

#[derive(Serialize)]
struct MsrReport {
    range: String,
    first: u32,
    last: u32,
    name: Option<&'static str>,
    access: String,
    scope: String,
    plugin: String,
    fallback: bool,
    #[serde(skip)]
    title: String,
}

#[derive(Serialize)]
struct CpuidReport {
    leaf: u32,
    subleaf: u32,
    register: &'static str,
    set: u32,
    clear: u32,
    plugins: Vec<String>,
    /// The profile itself asks, in `[[cpuid]]`.
    profile: bool,
}

#[derive(Serialize)]
struct FilterReport {
    first: u32,
    last: u32,
    access: String,
    msrs: u32,
    exiting: usize,
}

impl Report {
    fn new(checked: &Checked) -> Self {
        let Checked { vm, boot, profile, engine, filter } = checked;
        let policy = &profile.policy;
        let (default, allowed) = match &engine.exits().unclaimed {
            Unclaimed::Kernel => ("allow", &[][..]),
            Unclaimed::Exit(allowed) => ("deny", allowed.as_slice()),
        };
        Report {
            profile: profile.path.display().to_string(),
            memory: vm.memory,
            vcpus: vm.vcpus,
            boot: boot.as_ref().map_or(EMBEDDING.to_owned(), boot_sentence),
            warnings: warnings::of(checked),
            policy: PolicyReport {
                default,
                allow: allowed
                    .iter()
                    .map(|one| AllowedReport {
                        range: one.range.to_string(),
                        access: one.directions.to_string(),
                    })
                    .collect(),
                unknown: policy.unknown.to_string(),
                invalid: policy.invalid.to_string(),
                overrides: policy
                    .overrides
                    .iter()
                    .map(|exception| OverrideReport {
                        range: exception.range.to_string(),
                        read: exception.read.map(|action| action.to_string()),
                        write: exception.write.map(|action| action.to_string()),
                    })
                    .collect(),
            },
            plugins: engine.plugins().map(|info| plugin_report(&info)).collect(),
            shadows: engine.shadows().map(|info| plugin_report(&info)).collect(),
            kernel_shadows: engine.kernel_shadows().map(str::to_owned).collect(),
            yielded: engine
                .yielded()
                .iter()
                .map(|yielded| YieldedReport {
                    name: yielded.name.to_string(),
                    kernel_from: yielded.from.to_string(),
                    host_kernel: yielded.host.to_string(),
                })
                .collect(),
            msrs: engine
                .map()
                .iter()
                .map(|entry| MsrReport {
                    range: entry.range.to_string(),
                    first: entry.range.first().0,
                    last: entry.range.last().0,
                    name: entry.range.first().name(),
                    access: entry.directions.to_string(),
                    scope: entry.scope.to_string(),
                    plugin: entry.plugin.to_string(),
                    fallback: entry.fallback,
                    title: range_name(entry.range),
                })
                .collect(),
            cpuid: engine.cpuid().iter().flat_map(cpuid_reports).collect(),
            filter: filter
                .ranges()
                .iter()
                .map(|range| FilterReport {
                    first: range.base.0,
                    last: range.last().0,
                    access: range.directions.to_string(),
                    msrs: range.count,
                    exiting: range.denied(),
                })
                .collect(),
            contract: None,
        }
    }

    fn for_people(&self) -> String {
        let vm = match self.boot == EMBEDDING {
            true => self.boot.clone(),
            false => format!(
                "{}, {}, {}",
                ByteSize(self.memory).display().iec(),
                counted(self.vcpus, "vCPU", "vCPUs"),
                self.boot,
            ),
        };
        let mut text = format!(
            "profile {}: {vm}\npolicy: {}unknown = {}, invalid = {}\n",
            self.profile,
            if self.policy.default == "deny" { "default = deny, " } else { "" },
            self.policy.unknown,
            self.policy.invalid,
        );
        for allowed in &self.policy.allow {
            text += &format!("  {}: KVM's ({})\n", allowed.range, allowed.access);
        }
        for exception in &self.policy.overrides {
            let action = |action: &Option<String>| action.clone().unwrap_or("as above".to_owned());
            text += &format!(
                "  {}: read = {}, write = {}\n",
                exception.range,
                action(&exception.read),
                action(&exception.write)
            );
        }
        for yielded in &self.yielded {
            text += &format!(
                "plugin {} yields its MSRs to this host's kernel {} (kernel-from = {})\n",
                yielded.name, yielded.host_kernel, yielded.kernel_from
            );
        }
        for of in &self.kernel_shadows {
            text += &format!("plugin {of} has a kernel shadow: KVM's own answers are compared\n");
        }
        for section in [self.plugin_table(), self.msr_table(), self.cpuid_table()] {
            text += &section;
        }
        text + &self.filter_table() + &self.warned()
    }

    /// The warnings as lines, each after an empty one.
    fn warned(&self) -> String {
        self.warnings.iter().map(|warning| format!("\nwarning: {}\n", plain(warning))).collect()
    }

    fn plugin_table(&self) -> String {
        if self.plugins.is_empty() {
            return "\nno plugins\n".to_owned();
        }
        let mut table = table(
            ["PLUGIN", "VERSION", "SIZE", "FUEL", "MEMORY", "ON FAILURE", "GRANTED"],
            &[2, 3, 4],
        );
        for plugin in self.plugins.iter().chain(&self.shadows) {
            let (name, on_failure) = match &plugin.shadow_of {
                None => (plugin.name.clone(), plugin.on_failure.clone()),
                Some(of) => (format!("{} (shadow of {of})", plugin.name), "-".to_owned()),
            };
            table.add_row([
                name,
                plain(&plugin.version),
                ByteSize(plugin.size).display().iec().to_string(),
                plugin.fuel.to_string(),
                ByteSize(plugin.memory).display().iec().to_string(),
                on_failure,
                // What was granted beyond what is asked is worth seeing.
                match plugin.granted.is_empty() {
                    true => "-".to_owned(),
                    false => plugin.granted.join(", "),
                },
            ]);
        }
        let mut digests = crate::terminal::tables::table(["PLUGIN", "SHA-256"], &[]);
        for plugin in self.plugins.iter().chain(&self.shadows) {
            digests.add_row([&plugin.name, &plugin.sha256]);
        }
        format!("\n{}\n\n{}\n", table.trim_fmt(), digests.trim_fmt())
    }

    fn msr_table(&self) -> String {
        let mut table = table(["MSR", "NAME", "ACCESS", "SCOPE", "PLUGIN"], &[]);
        for msr in &self.msrs {
            let fallback = if msr.fallback { " (fallback)" } else { "" };
            table.add_row([
                msr.range.clone(),
                msr.title.clone(),
                msr.access.clone(),
                msr.scope.clone(),
                format!("{}{fallback}", msr.plugin),
            ]);
        }
        let asks = self.plugins.iter().filter(|plugin| !plugin.unhandled.is_empty());
        for plugin in asks {
            table.add_row([
                "any other".to_owned(),
                format!("reason {}", plugin.unhandled.join(", ")),
                "rw".to_owned(),
                "-".to_owned(),
                plugin.name.clone(),
            ]);
        }
        match table.row_count() {
            0 => String::new(),
            _ => format!("\n{}\n", table.trim_fmt()),
        }
    }

    fn cpuid_table(&self) -> String {
        if self.cpuid.is_empty() {
            return String::new();
        }
        let mut table = table(["CPUID", "REGISTER", "SET", "CLEAR", "PLUGIN"], &[]);
        for change in &self.cpuid {
            table.add_row([
                format!("{:#x}.{:#x}", change.leaf, change.subleaf),
                change.register.to_owned(),
                format!("{:#010x}", change.set),
                format!("{:#010x}", change.clear),
                match change.profile {
                    true => "(the profile)".to_owned(),
                    false => change.plugins.join(", "),
                },
            ]);
        }
        format!("\n{}\n", table.trim_fmt())
    }

    fn filter_table(&self) -> String {
        let mut text = format!(
            "\nKVM filter: {} of {MAX_RANGES} ranges, each of at most {MAX_MSRS_PER_RANGE} MSRs{}\n",
            self.filter.len(),
            if self.policy.default == "deny" { "; what is in none exits" } else { "" }
        );
        if !self.filter.is_empty() {
            let mut table = table(["RANGE", "ACCESS", "MSRS", "EXITING"], &[2, 3]);
            for range in &self.filter {
                table.add_row([
                    format!("{:#x}-{:#x}", range.first, range.last),
                    range.access.clone(),
                    range.msrs.to_string(),
                    range.exiting.to_string(),
                ]);
            }
            text += &table.trim_fmt();
            text.push('\n');
        }
        text
    }
}

/// What is said in the place of what a guest boots.
const EMBEDDING: &str =
    "no [vm] and no [boot], so it is for a VMM that embeds the engine; `wasmsr run` needs [boot]";

fn plugin_report(info: &wasmsr_engine::PluginInfo<'_>) -> PluginReport {
    PluginReport {
        name: info.manifest.plugin.name.clone(),
        version: info.manifest.plugin.version.to_string(),
        path: info.config.path.display().to_string(),
        sha256: info.sha256.to_string(),
        size: info.size,
        fuel: info.config.fuel,
        memory: info.config.memory,
        on_failure: info.config.on_failure.to_string(),
        shadow_of: info.config.shadow_of.clone(),
        asks: info.manifest.needs.capabilities.iter().map(ToString::to_string).collect(),
        asks_optionally: info.manifest.needs.optional.iter().map(ToString::to_string).collect(),
        granted: info.config.grant.iter().map(ToString::to_string).collect(),
        unhandled: info
            .manifest
            .unhandled
            .reasons
            .iter()
            .map(|&reason| wasmsr_interface::Reason::from(reason).to_string())
            .collect(),
    }
}

fn cpuid_reports(change: &wasmsr_interface::CpuidChange) -> Vec<CpuidReport> {
    [("eax", change.eax), ("ebx", change.ebx), ("ecx", change.ecx), ("edx", change.edx)]
        .into_iter()
        .filter(|(_, register)| register.bits() != 0)
        .map(|(name, register)| CpuidReport {
            leaf: change.leaf,
            subleaf: change.subleaf,
            register: name,
            set: register.set,
            clear: register.clear,
            plugins: change.plugins.iter().map(ToString::to_string).collect(),
            profile: change.plugins.is_empty(),
        })
        .collect()
}

fn boot_sentence(boot: &Boot) -> String {
    match boot {
        Boot::Guest { name, .. } => format!("boots the built-in guest `{name}`"),
        Boot::Image { path, modules, .. } => {
            let modules = counted(modules.len(), "module", "modules");
            format!("boots the multiboot image {} with {modules}", path.display())
        }
        Boot::Kernel { path, .. } => format!("boots the kernel {}", path.display()),
    }
}
