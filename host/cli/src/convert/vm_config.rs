//! A VM's configuration as Firecracker takes it by `--config-file`: what of it a profile
//! can say.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::{Map, Value};
use toml::Value as Toml;

/// The keys of such a file (`VmmConfig` in Firecracker's `src/vmm/src/resources.rs`).
const KEYS: [&str; 14] = [
    "balloon",
    "boot-source",
    "cpu-config",
    "drives",
    "entropy",
    "logger",
    "machine-config",
    "memory-hotplug",
    "metrics",
    "mmds-config",
    "network-interfaces",
    "pmem",
    "serial",
    "vsock",
];

/// Everything in `json` that cannot be read as a VM's configuration, each with its key.
pub(super) fn mistakes(json: &Value) -> Vec<String> {
    let wrong =
        |key: &str, error: Option<serde_json::Error>| error.map(|error| format!("{key}: {error}"));
    let of = |key: &str| json.get(key).filter(|value| !value.is_null());
    let machine = of("machine-config").and_then(|json| MachineConfig::deserialize(json).err());
    let boot = of("boot-source").and_then(|json| BootSource::deserialize(json).err());
    let cpu = of("cpu-config").and_then(|json| CpuConfig::deserialize(json).err());
    let all =
        [wrong("machine-config", machine), wrong("boot-source", boot), wrong("cpu-config", cpu)];
    all.into_iter().flatten().collect()
}

/// Whether a JSON object is a VM's configuration, going by its keys.
pub(super) fn is_one(json: &Value) -> bool {
    KEYS.iter().any(|key| json.get(key).is_some())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct VmConfig {
    boot_source: Option<BootSource>,
    pub(super) cpu_config: Option<CpuConfig>,
    pub(super) machine_config: Option<MachineConfig>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
struct BootSource {
    kernel_image_path: String,
    initrd_path: Option<String>,
    boot_args: Option<String>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// A template, or where it lies.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a CPU template, or the name of its file")]
pub(super) enum CpuConfig {
    Path(String),
    Template(Map<String, Value>),
}

/// `machine-config`, which is also the body of a request of that name.
#[derive(Debug, Deserialize)]
pub(super) struct MachineConfig {
    vcpu_count: Option<u32>,
    mem_size_mib: Option<u64>,
    pub(super) cpu_template: Option<String>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

impl MachineConfig {
    /// Whether a JSON object is one, going by its keys.
    pub(super) fn is_one(json: &Value) -> bool {
        ["vcpu_count", "mem_size_mib", "cpu_template"].iter().any(|key| json.get(key).is_some())
    }

    /// The name of its static template, if it has one.
    pub(super) fn template(&self) -> Option<&str> {
        self.cpu_template.as_deref().filter(|name| *name != "None")
    }
}

impl From<MachineConfig> for VmConfig {
    fn from(machine: MachineConfig) -> Self {
        VmConfig {
            boot_source: None,
            cpu_config: None,
            machine_config: Some(machine),
            others: BTreeMap::new(),
        }
    }
}

impl VmConfig {
    /// `[vm]` and `[boot]`.
    pub(super) fn tables(&self) -> String {
        let mut text = String::new();
        let machine = self.machine_config.as_ref();
        let memory = machine.and_then(|machine| machine.mem_size_mib);
        let vcpus = machine.and_then(|machine| machine.vcpu_count);
        if memory.is_some() || vcpus.is_some() {
            text += "[vm]\n";
            text += &memory.map(|size| format!("memory = \"{size}MiB\"\n")).unwrap_or_default();
            text += &vcpus.map(|count| format!("vcpus = {count}\n")).unwrap_or_default();
            text.push('\n');
        }
        if let Some(boot) = &self.boot_source {
            let lines = [
                ("kernel", Some(&boot.kernel_image_path)),
                ("initrd", boot.initrd_path.as_ref()),
                ("cmdline", boot.boot_args.as_ref()),
            ];
            text += "[boot]\n";
            for (key, value) in lines {
                // A `String` takes whatever is written to it.
                let _ =
                    value.map(|value| writeln!(text, "{key} = {}", Toml::String(value.clone())));
            }
            text.push('\n');
        }
        text
    }

    /// What is in the configuration and not in the profile's lines.
    pub(super) fn losses(&self) -> Vec<String> {
        let mut losses = Vec::new();
        let mut add = |path: &str, others: &BTreeMap<String, Value>| {
            for (key, _) in others.iter().filter(|(_, value)| says_something(value)) {
                let why = match key.as_str() {
                    "drives" | "network-interfaces" | "pmem" | "vsock" | "balloon" | "entropy"
                    | "memory-hotplug" => "wasmsr has no such device",
                    "logger" | "metrics" | "serial" => {
                        "options of `wasmsr run` say where log, metrics and console go"
                    }
                    "mmds-config" => "wasmsr has no metadata service",
                    "smt" => {
                        "a guest of wasmsr has one thread per core; the plugin `topology` shows \
                         others in its MSRs"
                    }
                    "huge_pages" | "track_dirty_pages" => {
                        "wasmsr takes the memory of its guests from the host as it is"
                    }
                    _ => "wasmsr has nothing like it",
                };
                losses.push(format!("`{path}{key}` is not converted: {why}"));
            }
        };
        add("", &self.others);
        self.machine_config.iter().for_each(|machine| add("machine-config.", &machine.others));
        self.boot_source.iter().for_each(|boot| add("boot-source.", &boot.others));
        if self.boot_source.as_ref().is_some_and(|boot| boot.boot_args.is_none()) {
            losses.push(
                "Firecracker has a command line for kernels without `boot_args`, which is not \
                 converted: write `cmdline`, with console=ttyS0 for a console"
                    .to_owned(),
            );
        }
        losses
    }
}

/// Whether a value asks for anything.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => text != "None",
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_profile_can_say_is_kept_and_the_rest_is_named() {
        let json = r#"{
            "boot-source": {"kernel_image_path": "a \"b\"", "boot_args": "console=ttyS0"},
            "drives": [{"drive_id": "r"}], "network-interfaces": [], "vsock": null,
            "machine-config": {"vcpu_count": 2, "mem_size_mib": 1024, "smt": true,
                "track_dirty_pages": false, "huge_pages": "None", "cpu_template": "T2"}}"#;
        let config: VmConfig = serde_json::from_str(json).unwrap();
        let text = config.tables();
        let profile: toml::Table = text.parse().unwrap();
        assert_eq!(profile["vm"]["memory"].as_str(), Some("1024MiB"), "{text}");
        assert_eq!(profile["vm"]["vcpus"].as_integer(), Some(2));
        assert_eq!(profile["boot"]["kernel"].as_str(), Some("a \"b\""));
        assert!(profile["boot"].get("initrd").is_none());
        let losses = config.losses();
        assert_eq!(losses.len(), 2, "{losses:?}");
        assert!(losses[0].contains("`drives`") && losses[1].contains("`machine-config.smt`"));
        assert_eq!(config.machine_config.unwrap().template(), Some("T2"));
    }

    #[test]
    fn each_part_can_have_a_mistake() {
        let json = r#"{"machine-config": {"vcpu_count": "2"}, "cpu-config": 5,
            "boot-source": {"initrd_path": "i"}, "drives": []}"#;
        let mistakes = mistakes(&serde_json::from_str(json).unwrap());
        for (mistake, parts) in mistakes.iter().zip([
            ["machine-config: ", "\"2\""],
            ["boot-source: ", "`kernel_image_path`"],
            ["cpu-config: ", "the name of its file"],
        ]) {
            assert!(parts.iter().all(|part| mistake.contains(part)), "{mistake}");
        }
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
    }

    #[test]
    fn a_configuration_is_known_by_its_keys() {
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        assert!(is_one(&json(r#"{"drives": []}"#)) && !is_one(&json(r#"{"msr_modifiers": []}"#)));
        assert!(MachineConfig::is_one(&json(r#"{"cpu_template": "T2"}"#)));
    }
}
