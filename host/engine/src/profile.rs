//! The part of a profile that the engine reads: the policy and the plugins. `[vm]`
//! and `[boot]` are the VMM's.

mod config;
mod cpuid;
mod kernel;
mod sha256;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytesize::ByteSize;
#[cfg(test)]
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use toml::Spanned;
#[cfg(test)]
use wasmsr_book::reference::kind;
use wasmsr_interface::KernelVersion;

use crate::manifest::{Grant, NAME_RULE, is_name};
use crate::msr::Policy;
use crate::text_file;
use crate::toml_file::{self, Size, TomlError};
use config::Config;
pub use cpuid::ProfileCpuid;
pub use sha256::Sha256;

/// Plugins and policy of a VM, read and validated; what they name on disk is not
/// yet opened.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The file it was read from.
    pub path: PathBuf,
    /// `[msr]`
    pub policy: Policy,
    /// `[[plugin]]`, in the order of the file.
    pub plugins: Vec<PluginConfig>,
    /// The plugins beside which KVM's own answer is asked: each `[[plugin]]` with
    /// `kernel = true`.
    pub kernel_shadows: Vec<String>,
    /// `[[cpuid]]`, in the order of the file.
    pub cpuid: Vec<ProfileCpuid>,
    /// The text of the file.
    pub text: Arc<str>,
}

/// `[[plugin]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginConfig {
    /// The `.wasm` file.
    pub path: PathBuf,
    /// The plugin's name in this VM, in place of that of its manifest.
    pub name: Option<String>,
    /// The SHA-256 that the file must have.
    pub sha256: Option<Sha256>,
    /// What the plugin reads through its host call, as JSON text.
    pub config: String,
    /// Capabilities granted.
    pub grant: Vec<Grant>,
    /// What becomes of an access when the plugin traps or overruns.
    pub on_failure: OnFailure,
    /// Fuel for one access.
    pub fuel: u64,
    /// Ceiling of an instance's linear memory, in bytes.
    pub memory: u64,
    /// Whether it may claim what an earlier plugin claims, to answer what that
    /// one passes on.
    pub fallback: bool,
    /// From this host kernel on, its MSRs are KVM's.
    pub kernel_from: Option<KernelVersion>,
    /// The plugin beside which this one only runs for comparison.
    pub shadow_of: Option<String>,
    /// The file that is read in place of `path`: a swap has put it there. No profile says so.
    pub replaced_by: Option<PathBuf>,
}

impl PluginConfig {
    /// The file that is read.
    pub fn file(&self) -> &Path {
        self.replaced_by.as_deref().unwrap_or(&self.path)
    }
}

/// What becomes of an access when its plugin traps or overruns a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(JsonSchema, serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// a #GP in the guest
    #[default]
    Fault,
    /// KVM's own answer for this vCPU
    Kernel,
    /// a read gives 0, a write is dropped
    Ignore,
    /// the run ends with exit code 10
    Stop,
}

impl fmt::Display for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OnFailure::Fault => "fault",
            OnFailure::Kernel => "kernel",
            OnFailure::Ignore => "ignore",
            OnFailure::Stop => "stop",
        })
    }
}

/// Why a profile cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("cannot read profile {}: {error}; check the path and its permissions", .path.display())]
    Read {
        /// The profile.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is not a profile.
    #[error("profile {}", .path.display())]
    Toml {
        /// The profile.
        path: PathBuf,
        /// What is wrong, and where.
        source: TomlError,
    },
    /// A key has a value that is not allowed.
    #[error("profile {}: {message}", .path.display())]
    Value {
        /// The profile.
        path: PathBuf,
        /// Which key, why, and what to write.
        message: String,
    },
}

impl Profile {
    /// Reads the profile in `path`.
    ///
    /// # Errors
    /// [`ProfileError`], naming file, place and remedy.
    pub fn read(path: &Path) -> Result<Self, ProfileError> {
        let text = text_file::read(path, text_file::PROFILE, "profile")
            .map_err(|error| ProfileError::Read { path: path.to_owned(), error })?;
        Self::parse(path, &text)
    }

    /// Reads `text` as the profile that lies in `path`.
    ///
    /// # Errors
    /// [`ProfileError`], naming file, place and remedy.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ProfileError> {
        match Self::parse_all(path, text) {
            (Some(profile), mistakes) if mistakes.is_empty() => Ok(profile),
            (_, mistakes) => Err(mistakes.into_iter().next().unwrap_or_else(|| {
                let message = "it is not a profile".to_owned();
                ProfileError::Value { path: path.to_owned(), message }
            })),
        }
    }

    /// As [`parse`](Self::parse), with every mistake: the profile is what remains without
    /// them, for further checks.
    pub fn parse_all(path: &Path, text: &str) -> (Option<Self>, Vec<ProfileError>) {
        let toml_file::Reading { value, mistakes, touched, elements } =
            toml_file::parse_all::<File>(text);
        let toml = |source| ProfileError::Toml { path: path.to_owned(), source };
        let mut errors: Vec<ProfileError> = mistakes.into_iter().map(toml).collect();
        let Some(file) = value else { return (None, errors) };
        let directory = path.parent().unwrap_or(Path::new(""));
        let value = |message| ProfileError::Value { path: path.to_owned(), message };
        let mut values = Vec::new();
        if !touched.contains("msr") {
            values.extend(file.msr.mistakes());
        }
        let cpuid = cpuid::read(&file.cpuid, text).unwrap_or_else(|mistake| {
            values.push(mistake);
            Vec::new()
        });
        let is_in_config =
            |path: &[String]| path.iter().map(String::as_str).take(2).eq(["plugin", "config"]);
        let mut plugins = Vec::new();
        let mut kernel_shadows: Vec<String> = Vec::new();
        let mut is_asked_all = true;
        for plugin in file.plugin {
            // What is left of its configuration is not what it would be asked about.
            let is_asked = !elements
                .iter()
                .any(|(path, element)| is_in_config(path) && *element == plugin.span());
            is_asked_all &= is_asked;
            let line = toml_file::place(text, plugin.span().start).line;
            let table = plugin.into_inner();
            if table.kernel {
                match table.kernel_shadow(line, &kernel_shadows) {
                    Ok(of) => kernel_shadows.push(of),
                    Err(wrong) => values.extend(wrong),
                }
                continue;
            }
            match table.validate(directory, line) {
                Ok(plugin) => plugins.extend(is_asked.then_some(plugin)),
                Err(wrong) => values.extend(wrong),
            }
        }
        if !is_asked_all {
            // Its plugin may be the one that is not there.
            plugins.retain(|plugin: &PluginConfig| plugin.shadow_of.is_none());
            kernel_shadows.clear();
        }
        let (policy, text) = (file.msr, text.into());
        errors.extend(values.into_iter().map(value));
        let path = path.to_owned();
        (Some(Profile { path, policy, plugins, kernel_shadows, cpuid, text }), errors)
    }
}

// The doc comments of these tables are the profile reference.

/// a profile as the engine reads it: the plugins that answer a VM's MSRs
#[derive(Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
struct File {
    /// the VM's size, for the VMM
    #[serde(default, rename = "vm")]
    #[cfg_attr(test, schemars(with = "kind::Elsewhere"))]
    _vm: IgnoredAny,
    /// what the VM boots, for the VMM
    #[serde(default, rename = "boot")]
    #[cfg_attr(test, schemars(with = "kind::Elsewhere"))]
    _boot: IgnoredAny,
    /// what becomes of an access that no plugin took
    #[serde(default)]
    msr: Policy,
    /// the plugins, in the order in which they are asked
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<PluginTable>"))]
    plugin: Vec<Spanned<PluginTable>>,
    /// what the guest must see in CPUID
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<cpuid::CpuidTable>"))]
    cpuid: Vec<Spanned<cpuid::CpuidTable>>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PluginTable {
    /// the `.wasm` file, at most 8 MiB; required, but with `kernel = true`
    #[cfg_attr(test, schemars(with = "Option<kind::Path>"))]
    path: Option<PathBuf>,
    /// the plugin's name in this VM: in the log, tables, metrics, recordings and saved
    /// state, and for `shadow-of`; without it, the manifest's
    name: Option<String>,
    /// the file must have this SHA-256, 64 hexadecimal digits
    #[serde(default, deserialize_with = "toml_file::from_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    sha256: Option<Sha256>,
    /// the plugin's configuration; the plugin defines its keys
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "kind::Table", extend("default" = {})))]
    config: Config,
    /// [capabilities](profile.md#capabilities) granted
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    grant: Vec<Grant>,
    /// what becomes of an access when the plugin traps or overruns a limit
    #[cfg_attr(test, schemars(extend("default" = "fault")))]
    on_failure: Option<OnFailure>,
    /// the budget of one access, see [Fuel](abi.md#fuel), 2 to 1000000000
    #[serde(default = "default_fuel", deserialize_with = "fuel")]
    fuel: u64,
    /// ceiling of an instance's memory, 64 KiB to 4 GiB
    #[serde(default = "default_plugin_memory")]
    #[cfg_attr(test, schemars(with = "kind::Size"))]
    memory: Size,
    /// may claim what an earlier plugin claims, and answers what that one
    /// passes on
    #[serde(default)]
    fallback: bool,
    /// from this kernel version of the host on, such as `"6.12"`, the plugin is
    /// left out and its MSRs are KVM's
    #[serde(default, deserialize_with = "toml_file::from_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    kernel_from: Option<KernelVersion>,
    /// runs beside the plugin of this name for comparison only, see
    /// [Shadows](recording.md#shadows); `fallback`, `on-failure` and
    /// `kernel-from` say nothing then and are refused
    shadow_of: Option<String>,
    /// with `shadow-of` and in the place of `path`: beside each access that the plugin of this
    /// name answers, KVM's own answer is asked and compared, see
    /// [The horizon](horizon.md)
    #[serde(default)]
    kernel: bool,
}

/// Fuel for an access, where a profile says nothing.
pub(crate) const DEFAULT_FUEL: u64 = 100_000;

/// Ceiling of an instance's memory, where a profile says nothing.
pub(crate) const DEFAULT_MEMORY: ByteSize = ByteSize::mib(1);

fn default_fuel() -> u64 {
    DEFAULT_FUEL
}

fn fuel<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    toml_file::number_of(deserializer, MIN_FUEL..=MAX_FUEL)
}

fn default_plugin_memory() -> Size {
    Size::of(DEFAULT_MEMORY, "1MiB")
}

/// A call ends when its fuel is used up, and to enter a function costs 1.
const MIN_FUEL: u64 = 2;

/// Fuel beyond this no longer bounds a call to what a guest would not notice.
const MAX_FUEL: u64 = 1_000_000_000;

/// Size of a Wasm page, the least that an instance can have.
const WASM_PAGE: u64 = 64 << 10;

/// What 32-bit Wasm can address.
const MAX_PLUGIN_MEMORY: u64 = 4 << 30;

impl PluginTable {
    /// The table as it is used, or all that is wrong with it.
    fn validate(self, directory: &Path, line: usize) -> Result<PluginConfig, Vec<String>> {
        let Some(path) = &self.path else {
            return Err(vec![format!(
                "[[plugin]] in line {line}: missing field `path`; name its .wasm file"
            )]);
        };
        let path = directory.join(path);
        let mut wrong = Vec::new();
        let mut refuse =
            |mistake: String| wrong.push(format!("[[plugin]] {}: {mistake}", path.display()));
        if let Some(name) = self.name.as_ref().filter(|name| !is_name(name)) {
            refuse(format!("name = {name:?} must be {NAME_RULE}"));
        }
        if !(MIN_FUEL..=MAX_FUEL).contains(&self.fuel) {
            refuse(format!("fuel = {} must be {MIN_FUEL} to {MAX_FUEL}", self.fuel));
        }
        let fits = |bytes: u64| (WASM_PAGE..=MAX_PLUGIN_MEMORY).contains(&bytes);
        if !fits(self.memory.bytes()) {
            refuse(format!("memory = {}", self.memory.refused("64KiB to 4GiB", fits)));
        }
        if let Some(of) = &self.shadow_of {
            let useless = [
                ("fallback", self.fallback),
                ("on-failure", self.on_failure.is_some()),
                ("kernel-from", self.kernel_from.is_some()),
            ];
            for (key, _) in useless.into_iter().filter(|(_, given)| *given) {
                refuse(format!(
                    "`{key}` says nothing for a shadow, whose answers the guest never sees; take \
                     out `{key}`, or `shadow-of = \"{of}\"`"
                ));
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(PluginConfig {
            path,
            name: self.name,
            sha256: self.sha256,
            config: self.config.text(),
            grant: self.grant.into_iter().map(|grant| grant.within(directory)).collect(),
            on_failure: self.on_failure.unwrap_or_default(),
            fuel: self.fuel,
            memory: self.memory.bytes(),
            fallback: self.fallback,
            kernel_from: self.kernel_from,
            shadow_of: self.shadow_of,
            replaced_by: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use wasmsr_book::reference::Reference;

    use super::*;
    use crate::manifest::CAPABILITIES;
    use crate::msr::{PolicyAction, PolicyOverride};

    fn parse(text: &str) -> Result<Profile, String> {
        Profile::parse(Path::new("dir/vm.toml"), text).map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error}: {}", source.unwrap_or_default())
        })
    }

    #[track_caller]
    fn refused(text: &str, parts: &[&str]) {
        let error = parse(text).unwrap_err();
        for part in parts.iter().chain(&["dir/vm.toml"]) {
            assert!(error.contains(part), "no `{part}` in: {error}");
        }
    }

    #[test]
    fn reads_every_key() {
        let profile = parse(
            "[vm]\nvcpus = 2\n[boot]\nanything = \"goes\"\n\
             [msr]\nunknown = \"ignore\"\ninvalid = \"stop\"\n\
             [[plugin]]\npath = \"p.wasm\"\nconfig = { value = 0x2b }\ngrant = [\"guest-memory\"]\n\
             on-failure = \"kernel\"\nfuel = 5\nmemory = \"2MiB\"\nfallback = true\n\
             kernel-from = \"6.12\"\n",
        )
        .unwrap();
        let plugin = &profile.plugins[0];
        assert_eq!(plugin.path, Path::new("dir/p.wasm"));
        assert_eq!(plugin.config, "{\"value\":43}");
        assert_eq!(plugin.kernel_from, Some(KernelVersion { major: 6, minor: 12 }));
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let profile = parse("[[plugin]]\npath = \"p\"\n").unwrap();
        let plugin = &profile.plugins[0];
        assert_eq!((plugin.fuel, plugin.memory, plugin.config.as_str()), (100_000, 1 << 20, "{}"));
        assert_eq!(plugin.on_failure, OnFailure::Fault);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        refused("[vmm]\n", &["line 1", "unknown key `vmm`", "did you mean `vm`?"]);
        refused("[msr]\nunknown = \"drop\"\n", &["unknown variant `drop`"]);
        refused("[[msr.override]]\nrange = \"1\"\n", &["neither `read` nor `write`"]);
        let plugin = "[[plugin]]\npath = \"p\"\n";
        refused(&format!("{plugin}sha256 = \"12\"\n"), &["64 hexadecimal digits"]);
        refused(&format!("{plugin}grant = [\"root\"]\n"), &["unknown capability `root`"]);
        refused(&format!("{plugin}fuel = 0\n"), &["fuel = 0", "2 to 1000000000"]);
        refused(&format!("{plugin}fuel = 1\n"), &["fuel = 1", "2 to 1000000000"]);
        refused(&format!("{plugin}name = \"My plugin\"\n"), &["\"My plugin\" must be 1 to 64"]);
        refused(
            &format!("{plugin}memory = \"1KiB\"\n"),
            &["= \"1KiB\" is 1024 bytes and must be 64KiB to 4GiB"],
        );
        refused(&format!("{plugin}memory = 2\n"), &["memory = 2 ", "did you mean \"2MiB\""]);
        refused(&format!("{plugin}kernel-from = 6.10\n"), &["put it in quotes"]);
        refused(&format!("{plugin}kernel-from = \"six\"\n"), &["`six` is not a kernel version"]);
    }

    #[test]
    fn every_mistake_is_told() {
        let text = "[msr]\nunknown = \"drop\"\ninvalid = \"stop\"\n\
                    [[plugin]]\npath = \"p\"\nfuel = 0\nmemory = 1\n\
                    [[plugin]]\npath = \"q\"\ngrant = [\"root\"]\nfuel = \"much\"\n\
                    [[plugin]]\npath = \"good\"\n[vmm]\n";
        let (profile, mistakes) = Profile::parse_all(Path::new("vm.toml"), text);
        let told: Vec<String> = mistakes
            .iter()
            .map(|error| {
                let source = std::error::Error::source(error).map(ToString::to_string);
                format!("{error}: {}", source.unwrap_or_default())
            })
            .collect();
        let parts =
            ["`drop`", "`root`", "\"much\"", "`vmm`", "fuel = 0", "memory = 1 counts bytes"];
        assert_eq!(told.len(), parts.len(), "{told:#?}");
        for (told, part) in told.iter().zip(parts) {
            assert!(told.contains(part), "no `{part}` in: {told}");
        }
        let plugins = profile.unwrap().plugins;
        let paths: Vec<_> = plugins.iter().map(|plugin| plugin.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["q", "good"]);
    }

    #[test]
    fn the_reference_is_current() {
        let profile = Reference::<File>::of("docs/profile.md");
        profile.table::<Policy>("msr");
        profile.values::<PolicyAction>("policy actions");
        profile.table::<PolicyOverride>("msr.override");
        profile.table::<PluginTable>("plugin");
        profile.table::<cpuid::CpuidTable>("cpuid");
        profile.values::<OnFailure>("on-failure");
        profile.rows("capabilities", "| capability | gives |", CAPABILITIES);
        profile.schema("docs/schemas/engine-profile.json");
    }
}
