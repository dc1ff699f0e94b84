//! What is different in the set of profile and plugins that a guest's reset has loaded:
//! one line for each change.

use std::collections::BTreeMap;
use std::fmt::Display;

use bytesize::ByteSize;
use serde_json::Value;
use wasmsr_engine::PluginInfo;
use wasmsr_engine::msr::Policy;
use wasmsr_engine::profile::PluginConfig;
use wasmsr_interface::{Allowed, CpuidChange, Directions, Unclaimed};
use wasmsr_vmm::Boot;

use crate::loaded::Loaded;
use crate::terminal::plain::plain_up_to;

/// Most lines for one reset.
pub(super) const MOST: usize = 64;

/// Most characters of a value.
const LONGEST: usize = 80;

/// Says in the log what has changed.
pub(super) fn tell(old: &Loaded, new: &Loaded) {
    let lines = changes(old, new);
    for line in lines.iter().take(MOST) {
        tracing::info!("{line}");
    }
    let more = lines.len().saturating_sub(MOST);
    if more > 0 {
        tracing::info!("{more} more changes");
    }
}

/// A line for each change.
pub(super) fn changes(old: &Loaded, new: &Loaded) -> Vec<String> {
    let mut lines = Vec::new();
    let mut vm = Changes { of: "[vm]".to_owned(), lines: &mut lines };
    let memory = |set: &Loaded| ByteSize(set.profile.vm.memory).display().iec().to_string();
    vm.text("memory", &memory(old), &memory(new));
    vm.text("vcpus", &old.profile.vm.vcpus, &new.profile.vm.vcpus);
    let mut boot = Changes { of: "[boot]".to_owned(), lines: &mut lines };
    boot.keys(&boot_keys(&old.profile.boot), &boot_keys(&new.profile.boot));
    let mut msr = Changes { of: "[msr]".to_owned(), lines: &mut lines };
    let (before, now) = (&old.profile.engine.policy, &new.profile.engine.policy);
    let default = |policy: &Policy| match policy.unclaimed() {
        Unclaimed::Kernel => "allow",
        Unclaimed::Exit(_) => "deny",
    };
    msr.text("default", &default(before), &default(now));
    let allow = |policy: &Policy| {
        let entries = policy.allow.iter().map(|&entry| Allowed::from(entry));
        let shown = entries.map(|one| match one.directions {
            Directions::ReadWrite => one.range.to_string(),
            directions => format!("{} {directions}", one.range),
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    msr.text("allow", &allow(before), &allow(now));
    msr.text("unknown", &before.unknown, &now.unknown);
    msr.text("invalid", &before.invalid, &now.invalid);
    let overrides = |set: &Loaded| {
        let overrides = set.profile.engine.policy.overrides.iter();
        let shown = overrides.map(|exception| {
            let action = |action: Option<_>| action.map_or("-".to_owned(), |a| format!("{a}"));
            let (read, write) = (action(exception.read), action(exception.write));
            format!("{} read {read} write {write}", exception.range)
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    msr.text("override", &overrides(old), &overrides(new));
    let cpuid = |set: &Loaded| set.engine.cpuid().iter().map(cpuid_key).collect();
    Changes { of: "CPUID".to_owned(), lines: &mut lines }.keys(&cpuid(old), &cpuid(new));
    plugins(old, new, &mut lines);
    lines
}

fn plugins(old: &Loaded, new: &Loaded, lines: &mut Vec<String>) {
    let (before, now) = (all(old), all(new));
    for plugin in &now {
        let about = &plugin.manifest.plugin;
        let Some(was) = before.iter().find(|was| key(was) == key(plugin)) else {
            lines.push(format!(
                "plugin {}: new, version {} ({})",
                key(plugin),
                about.version,
                plugin.sha256
            ));
            continue;
        };
        if was.sha256 != plugin.sha256 {
            lines.push(format!(
                "plugin {}: from version {} ({}) to version {} ({})",
                key(plugin),
                was.manifest.plugin.version,
                was.sha256,
                about.version,
                plugin.sha256
            ));
        }
        let mut changes = Changes { of: format!("plugin {}", key(plugin)), lines };
        let place = |all: &[PluginInfo<'_>], of: &PluginInfo<'_>| {
            let both = |p: &&PluginInfo<'_>| {
                before.iter().any(|q| key(q) == key(p)) && now.iter().any(|q| key(q) == key(p))
            };
            all.iter().filter(both).position(|p| key(p) == key(of)).map_or(0, |place| place + 1)
        };
        changes.text("place among the plugins", &place(&before, was), &place(&now, plugin));
        changes.keys(&plugin_keys(was.config), &plugin_keys(plugin.config));
    }
    let shadowed = |set: &Loaded| set.engine.kernel_shadows().collect::<Vec<_>>().join(", ");
    let mut changes = Changes { of: "kernel = true".to_owned(), lines };
    changes.text("shadow-of", &shadowed(old), &shadowed(new));
    for was in before.iter().filter(|was| !now.iter().any(|plugin| key(plugin) == key(was))) {
        let version = &was.manifest.plugin.version;
        lines.push(format!("plugin {}: removed, was version {version}", key(was)));
    }
}

/// The plugins in charge and the shadows.
fn all(set: &Loaded) -> Vec<PluginInfo<'_>> {
    set.engine.plugins().chain(set.engine.shadows()).collect()
}

/// A plugin's name; that of a shadow says beside which plugin it runs.
fn key(plugin: &PluginInfo<'_>) -> String {
    let name = &plugin.manifest.plugin.name;
    match &plugin.config.shadow_of {
        Some(of) => format!("{name} (shadow of {of})"),
        None => name.clone(),
    }
}

fn boot_keys(boot: &Boot) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    let mut put = |key: &str, value: String| keys.insert(key.to_owned(), value);
    match boot {
        Boot::Guest { name, cmdline } => {
            put("guest", name.clone());
            put("cmdline", cmdline.clone());
        }
        Boot::Image { path, cmdline, modules } => {
            put("image", path.display().to_string());
            put("cmdline", cmdline.clone());
            for (number, module) in modules.iter().enumerate() {
                let text = format!("{} {}", module.path.display(), module.cmdline);
                put(&format!("modules[{number}]"), text);
            }
        }
        Boot::Kernel { path, initrd, cmdline } => {
            put("kernel", path.display().to_string());
            put("cmdline", cmdline.clone());
            if let Some(initrd) = initrd {
                put("initrd", initrd.display().to_string());
            }
        }
    }
    keys.retain(|_, value| !value.is_empty());
    keys
}

fn cpuid_key(change: &CpuidChange) -> (String, String) {
    let CpuidChange { leaf, subleaf, eax, ebx, ecx, edx, .. } = change;
    let registers = [("eax", eax), ("ebx", ebx), ("ecx", ecx), ("edx", edx)];
    let shown = registers.into_iter().filter(|(_, change)| change.set | change.clear != 0);
    let shown = shown.map(|(name, c)| format!("{name} set {:#x} clear {:#x}", c.set, c.clear));
    (format!("leaf {leaf:#x} subleaf {subleaf:#x}"), shown.collect::<Vec<_>>().join(", "))
}

fn plugin_keys(config: &PluginConfig) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    let mut put = |key: &str, value: String| keys.insert(key.to_owned(), value);
    put("path", config.path.display().to_string());
    if let Some(file) = &config.replaced_by {
        put("file in its place", file.display().to_string());
    }
    put("on-failure", config.on_failure.to_string());
    put("fuel", config.fuel.to_string());
    put("memory", ByteSize(config.memory).display().iec().to_string());
    put("fallback", config.fallback.to_string());
    if let Some(from) = config.kernel_from {
        put("kernel-from", from.to_string());
    }
    if let Some(pin) = config.sha256 {
        put("sha256", pin.to_string());
    }
    let grants: Vec<String> = config.grant.iter().map(ToString::to_string).collect();
    put("grant", grants.join(", "));
    if let Ok(Value::Object(table)) = serde_json::from_str(&config.config) {
        for (key, value) in table {
            put(&format!("config.{key}"), value.to_string());
        }
    }
    keys
}

/// Lines about a part of the set.
struct Changes<'a> {
    of: String,
    lines: &'a mut Vec<String>,
}

impl Changes<'_> {
    /// A value that is always there.
    fn text<T: Display + PartialEq>(&mut self, key: &str, before: &T, now: &T) {
        if before != now {
            let (before, now) = (shown(&before.to_string()), shown(&now.to_string()));
            self.lines.push(format!("{}: {key} from {before} to {now}", self.of));
        }
    }

    /// Keys that may be absent.
    fn keys(&mut self, before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) {
        let keys = before.keys().chain(now.keys().filter(|key| !before.contains_key(*key)));
        for key in keys {
            let shown_key = plain_up_to(key, LONGEST);
            let line = match (before.get(key), now.get(key)) {
                (Some(before), Some(now)) if before == now => continue,
                (Some(before), Some(now)) => {
                    format!("{shown_key} from {} to {}", shown(before), shown(now))
                }
                (None, Some(now)) => format!("{shown_key} is new: {}", shown(now)),
                (Some(before), None) => format!("{shown_key} is gone, was {}", shown(before)),
                (None, None) => continue,
            };
            self.lines.push(format!("{}: {line}", self.of));
        }
    }
}

/// A value of the profile, fit for a line.
fn shown(value: &str) -> String {
    match value {
        "" => "nothing".to_owned(),
        value => plain_up_to(value, LONGEST),
    }
}
