//! What Firecracker's users have: a CPU template, a fingerprint of `cpu-template-helper`,
//! a VM's configuration, or the name of a static template.

use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::Value;

use super::firecracker::Template;
use super::vm_config::{self, CpuConfig, MachineConfig, VmConfig};
use super::{input, static_templates};
use crate::args::Vendor;
use crate::terminal::plain::plain;

/// A template, and what was beside it.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) template: Template,
    /// The vendor of the hosts that the template is for.
    pub(super) vendor: Option<Vendor>,
    /// Lines of a profile that do not come from the template.
    pub(super) head: String,
    /// What is not in these.
    pub(super) losses: Vec<String>,
}

/// The file `cpu-template-helper fingerprint dump` writes.
#[derive(Debug, Deserialize)]
struct Fingerprint {
    #[serde(default)]
    firecracker_version: String,
    #[serde(default)]
    kernel_version: String,
    #[serde(default)]
    microcode_version: String,
    #[serde(default)]
    bios_version: String,
    #[serde(default)]
    bios_revision: String,
    guest_cpu_config: Template,
}

/// Reads a file, or takes the name of a static template.
pub(super) fn read(path: &Path) -> anyhow::Result<Source> {
    let name = path.to_str().unwrap_or_default();
    if !path.exists() && static_templates::find(name).is_some() {
        let mut source = Source::default();
        static_template(name, &mut source)?;
        return Ok(source);
    }
    if !path.exists() && static_templates::is_arms(name) {
        let names = static_templates::NAMES;
        bail!("V1N1 is a static template for Arm; those for x86 are {names}");
    }
    let (text, json) = match input::read(path) {
        Err(error) if !path.exists() => {
            let names = static_templates::NAMES;
            return Err(error.context(format!(
                "there is no such file, and the names of static templates are {names}"
            )));
        }
        read => read?,
    };
    if let Some(config) = json.get("guest_cpu_config") {
        return fingerprint(&text, config);
    }
    if vm_config::is_one(&json) {
        return vm(&input::typed(&text, || vm_config::mistakes(&json))?, path);
    }
    if MachineConfig::is_one(&json) {
        let machine: MachineConfig = input::typed(&text, Vec::new)?;
        return vm(&machine.into(), path);
    }
    if json.get("adjustments").is_some() {
        bail!(
            "its `adjustments` are those of a CPU profile of cloud-hypervisor; use `wasmsr convert \
             cloud-hypervisor`"
        );
    }
    let template = input::typed(&text, || Template::mistakes(&json, "")).context(
        "it is read as a CPU template, as it is neither a fingerprint nor a VM's configuration",
    )?;
    Ok(Source { template, ..Source::default() })
}

/// Whether a JSON object is one of these files, going by its keys.
pub(super) fn is_firecrackers(json: &Value) -> bool {
    let keys = ["msr_modifiers", "cpuid_modifiers", "guest_cpu_config"];
    let has_key = keys.iter().any(|key| json.get(key).is_some());
    has_key || vm_config::is_one(json) || MachineConfig::is_one(json)
}

fn fingerprint(text: &str, config: &Value) -> anyhow::Result<Source> {
    let mistakes = || Template::mistakes(config, "guest_cpu_config.");
    let print: Fingerprint = input::typed(text, mistakes)?;
    let head = format!(
        "# What guests of Firecracker {} see, on kernel {}, microcode {}, BIOS {} {}.\n\n",
        plain(&print.firecracker_version),
        plain(&print.kernel_version),
        plain(&print.microcode_version),
        plain(&print.bios_version),
        plain(&print.bios_revision),
    );
    Ok(Source { template: print.guest_cpu_config, head, ..Source::default() })
}

fn vm(config: &VmConfig, path: &Path) -> anyhow::Result<Source> {
    let mut source = Source { head: config.tables(), losses: config.losses(), ..Source::default() };
    let named = config.machine_config.as_ref().and_then(MachineConfig::template);
    match (&config.cpu_config, named) {
        (None, None) => {}
        (None, Some(name)) => static_template(name, &mut source)?,
        (Some(given), named) => {
            if let Some(name) = named {
                let name = plain(name);
                source.losses.push(format!(
                    "`machine-config.cpu_template`, {name}, is not converted: `cpu-config` takes \
                     its place, in Firecracker too"
                ));
            }
            source.template = custom(given, path)?;
        }
    }
    Ok(source)
}

fn custom(given: &CpuConfig, config: &Path) -> anyhow::Result<Template> {
    match given {
        CpuConfig::Template(template) if template.contains_key("cpu_template") => bail!(
            "cpu-config: `cpu_template`, the name of a static template, is a key of \
             `machine-config`; move it there"
        ),
        CpuConfig::Template(template) => {
            let json = Value::Object(template.clone());
            Template::deserialize(&json).map_err(|error| {
                let mistakes = Template::mistakes(&json, "cpu-config.");
                input::in_one(&mistakes).unwrap_or_else(|| error.into())
            })
        }
        CpuConfig::Path(path) => {
            let path = config.parent().unwrap_or(Path::new("")).join(path);
            let read = || {
                let (text, json) = input::read(&path)?;
                input::typed(&text, || Template::mistakes(&json, ""))
            };
            let about = || format!("`cpu-config`, the CPU template {}", path.display());
            read().with_context(about)
        }
    }
}

fn static_template(name: &str, source: &mut Source) -> anyhow::Result<()> {
    if let Some(known) = static_templates::find(name) {
        source.template = known.template();
        source.vendor = Some(known.vendor);
        source.head += &format!(
            "# Firecracker's static CPU template {}, which it gives to {} only.\n\n",
            known.name, known.hosts
        );
        return Ok(());
    }
    let names = static_templates::NAMES;
    if static_templates::is_arms(name) {
        source.losses.push(format!(
            "`machine-config.cpu_template`, V1N1, is not converted: it is for Arm; those for x86 \
             are {names}"
        ));
        return Ok(());
    }
    bail!(
        "`machine-config.cpu_template` is {}, which Firecracker does not have; its static templates \
         are {names}, and for Arm V1N1",
        plain(name)
    )
}
