//! A profile: one VM as its operator describes it, TOML.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use bytesize::ByteSize;
#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use crate::manifest::Grant;
use crate::msr::Policy;
#[cfg(test)]
use crate::reference::kind;
use crate::toml_file::{self, TomlError};

/// A VM's description, read and validated; what it names on disk is not yet
/// opened.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The file it was read from.
    pub path: PathBuf,
    /// `[vm]`
    pub vm: VmConfig,
    /// `[boot]`
    pub boot: Boot,
    /// `[msr]`
    pub policy: Policy,
    /// `[[plugin]]`, in the order of the file.
    pub plugins: Vec<PluginConfig>,
    /// The text of the file.
    pub text: Arc<str>,
}

/// `[vm]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmConfig {
    /// Guest memory in bytes; a multiple of 4096.
    pub memory: u64,
    /// Number of virtual CPUs, 1 to [`MAX_VCPUS`].
    pub vcpus: u32,
}

/// Most vCPUs of a VM: xAPIC ids are 8 bits wide, 0xff is the broadcast.
pub const MAX_VCPUS: u32 = 255;

/// `[boot]`: what the VM runs. Paths are absolute or relative to the current
/// directory (the profile's own directory has been put before them).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// `guest = "NAME"`: a guest built into the VMM.
    Guest {
        /// Its name.
        name: String,
        /// Its command line, without the name.
        cmdline: String,
    },
    /// `image = "FILE"`: a multiboot 1 ELF32 image.
    Image {
        /// The image.
        path: PathBuf,
        /// Its command line, without the image's own name.
        cmdline: String,
        /// Modules, in order.
        modules: Vec<BootModule>,
    },
    /// `kernel = "FILE"`: a Linux kernel, bzImage or ELF with a PVH entry.
    Kernel {
        /// The kernel.
        path: PathBuf,
        /// Its initial RAM disk.
        initrd: Option<PathBuf>,
        /// Its command line.
        cmdline: String,
    },
}

/// A multiboot module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootModule {
    /// The file.
    pub path: PathBuf,
    /// The module's string, as the guest reads it.
    pub cmdline: String,
}

/// `[[plugin]]`
#[derive(Debug, Clone)]
pub struct PluginConfig {
    /// The `.wasm` file.
    pub path: PathBuf,
    /// The SHA-256 that the file must have.
    pub sha256: Option<Sha256>,
    /// What the plugin reads through its host call, as JSON text.
    pub config: String,
    /// Capabilities granted.
    pub grant: Vec<Grant>,
    /// What becomes of an access when the plugin traps or overruns.
    pub on_failure: OnFailure,
    /// Fuel for one access, in Wasm instructions.
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

/// Major and minor version of a Linux kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl FromStr for KernelVersion {
    type Err = String;

    /// Reads `6.12`, or the longer form that `uname -r` prints.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(KernelVersion { major, minor }),
            _ => Err(format!("`{text}` is no kernel version; write it like \"6.12\"")),
        }
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A SHA-256 digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256(pub [u8; 32]);

impl FromStr for Sha256 {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut digest = [0; 32];
        let hex = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).unwrap_or("");
            *byte = u8::from_str_radix(pair, 16).unwrap_or(0);
        }
        hex.then_some(Sha256(digest))
            .ok_or_else(|| format!("`{text}` is no SHA-256; write its 64 hexadecimal digits"))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why there is no profile.
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
    /// A key has a value that makes no sense.
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
        let text = fs::read_to_string(path)
            .map_err(|error| ProfileError::Read { path: path.to_owned(), error })?;
        Self::parse(path, &text)
    }

    /// Reads `text` as the profile that lies in `path`.
    ///
    /// # Errors
    /// [`ProfileError`], naming file, place and remedy.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ProfileError> {
        let file: File = toml_file::parse(text)
            .map_err(|source| ProfileError::Toml { path: path.to_owned(), source })?;
        let directory = path.parent().unwrap_or(Path::new(""));
        file.validate(directory)
            .map(|(vm, boot, policy, plugins)| Profile {
                path: path.to_owned(),
                vm,
                boot,
                policy,
                plugins,
                text: text.into(),
            })
            .map_err(|message| ProfileError::Value { path: path.to_owned(), message })
    }
}

// The doc comments of these tables are the profile reference.

/// a profile of wasmsr: one VM, what it boots and the plugins that answer its
/// MSRs
#[derive(Deserialize)]
#[cfg_attr(test, derive(JsonSchema), schemars(extend("required" = ["boot"])))]
#[serde(deny_unknown_fields)]
struct File {
    /// the VM's size
    #[serde(default)]
    vm: VmTable,
    /// what the VM boots
    #[serde(default)]
    boot: BootTable,
    /// what becomes of an access that no plugin took
    #[serde(default)]
    msr: Policy,
    /// the plugins, in the order in which they are asked
    #[serde(default)]
    plugin: Vec<PluginTable>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields, default)]
struct VmTable {
    /// guest memory: at least 1 MiB, a multiple of 4 KiB, no more than the host
    /// has
    #[serde(deserialize_with = "size")]
    #[cfg_attr(test, schemars(with = "kind::Size"))]
    memory: ByteSize,
    /// virtual CPUs, 1 to 255; KVM may allow fewer
    vcpus: u32,
}

impl Default for VmTable {
    fn default() -> Self {
        VmTable { memory: ByteSize::mib(128), vcpus: 1 }
    }
}

#[derive(Default, Deserialize)]
#[cfg_attr(
    test,
    derive(JsonSchema),
    schemars(extend("oneOf" = [
        { "required": ["guest"] }, { "required": ["image"] }, { "required": ["kernel"] }
    ]))
)]
#[serde(deny_unknown_fields)]
struct BootTable {
    /// a guest that is built into wasmsr; there is one, `"hello"`
    guest: Option<String>,
    /// a multiboot 1 image, 32-bit ELF or with the header's address fields, as
    /// for `qemu-system-x86_64 -kernel`
    #[cfg_attr(test, schemars(with = "Option<kind::Path>"))]
    image: Option<PathBuf>,
    /// a Linux kernel: a bzImage with a 64-bit entry (boot protocol 2.12, Linux
    /// 3.8 or later), or an ELF `vmlinux`
    #[cfg_attr(test, schemars(with = "Option<kind::Path>"))]
    kernel: Option<PathBuf>,
    /// with `kernel`: the initial RAM disk
    #[cfg_attr(test, schemars(with = "Option<kind::Path>"))]
    initrd: Option<PathBuf>,
    /// the command line; without the file's own name
    cmdline: Option<String>,
    /// with `image`: multiboot modules, in order: a path, or
    /// `{ path = "FILE", cmdline = "TEXT" }`; a plain path is its own text
    modules: Option<Vec<ModuleTable>>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(untagged, expecting = "expected a path or a table with `path` and `cmdline`")]
enum ModuleTable {
    Path(PathBuf),
    Full(FullModuleTable),
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
struct FullModuleTable {
    path: PathBuf,
    cmdline: String,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct PluginTable {
    /// the `.wasm` file, at most 8 MiB
    #[cfg_attr(test, schemars(with = "kind::Path"))]
    path: PathBuf,
    /// the file must have this SHA-256, 64 hexadecimal digits
    #[serde(default, deserialize_with = "from_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    sha256: Option<Sha256>,
    /// the plugin's configuration; what it may hold is the plugin's matter
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "kind::Table"))]
    config: toml::Table,
    /// [capabilities](profile.md#capabilities) granted
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    grant: Vec<Grant>,
    /// what becomes of an access when the plugin traps or overruns a limit
    #[cfg_attr(test, schemars(extend("default" = "fault")))]
    on_failure: Option<OnFailure>,
    /// Wasm instructions for one access, 1 to 1000000000
    #[serde(default = "default_fuel")]
    fuel: u64,
    /// ceiling of an instance's memory, 64 KiB to 4 GiB
    #[serde(default = "default_plugin_memory", deserialize_with = "size")]
    #[cfg_attr(test, schemars(with = "kind::Size"))]
    memory: ByteSize,
    /// may claim what an earlier plugin claims, and answers what that one
    /// passes on
    #[serde(default)]
    fallback: bool,
    /// from this kernel version of the host on, such as `"6.12"`, the plugin is
    /// left out and its MSRs are KVM's
    #[serde(default, deserialize_with = "from_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    kernel_from: Option<KernelVersion>,
    /// runs beside the plugin of this name for comparison only, see
    /// [Shadows](recording.md#shadows); `fallback`, `on-failure` and
    /// `kernel-from` say nothing then and are refused
    shadow_of: Option<String>,
}

/// Fuel for an access, where a profile says nothing.
pub(crate) const DEFAULT_FUEL: u64 = 100_000;

/// Ceiling of an instance's memory, where a profile says nothing.
pub(crate) const DEFAULT_MEMORY: ByteSize = ByteSize::mib(1);

fn default_fuel() -> u64 {
    DEFAULT_FUEL
}

fn default_plugin_memory() -> ByteSize {
    DEFAULT_MEMORY
}

/// Fuel beyond this no longer bounds a call to what a guest would not notice.
const MAX_FUEL: u64 = 1_000_000_000;

/// Size of a Wasm page, the least that an instance can have.
const WASM_PAGE: u64 = 64 << 10;

/// What 32-bit Wasm can address.
const MAX_PLUGIN_MEMORY: u64 = 4 << 30;

/// A size with its unit; a bare number counts bytes.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    struct Size;
    impl de::Visitor<'_> for Size {
        type Value = ByteSize;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size such as \"256MiB\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
            text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
        }

        fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
            let bytes = u64::try_from(bytes);
            bytes.map(ByteSize).map_err(|_| E::custom("a size cannot be negative"))
        }
    }
    deserializer.deserialize_any(Size)
}

fn from_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = String>,
{
    String::deserialize(deserializer)?.parse().map(Some).map_err(de::Error::custom)
}

impl File {
    fn validate(
        self,
        directory: &Path,
    ) -> Result<(VmConfig, Boot, Policy, Vec<PluginConfig>), String> {
        let vm = self.vm.validate()?;
        let boot = self.boot.validate(directory)?;
        for exception in &self.msr.overrides {
            if exception.read.is_none() && exception.write.is_none() {
                return Err(format!(
                    "[[msr.override]] {}: says neither `read` nor `write`; add one",
                    exception.range
                ));
            }
        }
        let plugins = self
            .plugin
            .into_iter()
            .map(|plugin| plugin.validate(directory))
            .collect::<Result<_, _>>()?;
        Ok((vm, boot, self.msr, plugins))
    }
}

impl VmTable {
    fn validate(self) -> Result<VmConfig, String> {
        let memory = self.memory.as_u64();
        if memory < 1 << 20 || !memory.is_multiple_of(4096) {
            return Err(format!(
                "[vm] memory = \"{}\" must be at least 1MiB and a multiple of 4KiB",
                self.memory
            ));
        }
        if !(1..=MAX_VCPUS).contains(&self.vcpus) {
            return Err(format!("[vm] vcpus = {} must be 1 to {MAX_VCPUS}", self.vcpus));
        }
        Ok(VmConfig { memory, vcpus: self.vcpus })
    }
}

impl BootTable {
    fn validate(self, directory: &Path) -> Result<Boot, String> {
        let only_for = |key: &str, given: bool, kind: &str| match given {
            true => Err(format!("[boot] `{key}` goes with `{kind}` only; take it out")),
            false => Ok(()),
        };
        let cmdline = self.cmdline.unwrap_or_default();
        if cmdline.contains('\0') {
            return Err("[boot] `cmdline` holds a NUL character; take it out".into());
        }
        match (self.guest, self.image, self.kernel) {
            (Some(guest), None, None) => {
                only_for("initrd", self.initrd.is_some(), "kernel")?;
                only_for("modules", self.modules.is_some(), "image")?;
                Ok(Boot::Guest { name: guest, cmdline })
            }
            (None, Some(image), None) => {
                only_for("initrd", self.initrd.is_some(), "kernel")?;
                let modules = self.modules.unwrap_or_default();
                let modules = modules.into_iter().map(|module| module.validate(directory));
                let modules = modules.collect::<Result<_, _>>()?;
                Ok(Boot::Image { path: directory.join(image), cmdline, modules })
            }
            (None, None, Some(kernel)) => {
                only_for("modules", self.modules.is_some(), "image")?;
                let initrd = self.initrd.map(|initrd| directory.join(initrd));
                Ok(Boot::Kernel { path: directory.join(kernel), initrd, cmdline })
            }
            (None, None, None) => {
                Err("[boot] says nothing to boot; add `guest`, `image` or `kernel`".into())
            }
            _ => {
                Err("[boot] names more than one of `guest`, `image` and `kernel`; keep one".into())
            }
        }
    }
}

impl ModuleTable {
    fn validate(self, directory: &Path) -> Result<BootModule, String> {
        let (path, cmdline) = match self {
            ModuleTable::Path(path) => {
                let cmdline = path.to_string_lossy().into_owned();
                (path, cmdline)
            }
            ModuleTable::Full(module) => (module.path, module.cmdline),
        };
        if cmdline.contains('\0') {
            return Err("[boot] a module's `cmdline` holds a NUL character; take it out".into());
        }
        Ok(BootModule { path: directory.join(path), cmdline })
    }
}

impl PluginTable {
    fn validate(self, directory: &Path) -> Result<PluginConfig, String> {
        let path = directory.join(&self.path);
        let within =
            |key: &str, value: u64, shown: String, low: u64, high: u64, range: &str| match (low
                ..=high)
                .contains(&value)
            {
                true => Ok(value),
                false => {
                    Err(format!("[[plugin]] {}: {key} = {shown} must be {range}", path.display()))
                }
            };
        let fuel =
            within("fuel", self.fuel, self.fuel.to_string(), 1, MAX_FUEL, "1 to 1000000000")?;
        let memory = within(
            "memory",
            self.memory.as_u64(),
            format!("\"{}\"", self.memory),
            WASM_PAGE,
            MAX_PLUGIN_MEMORY,
            "64KiB to 4GiB",
        )?;
        let config = serde_json::to_string(&self.config)
            .map_err(|error| format!("[[plugin]] {}: config: {error}", path.display()))?;
        if let Some(of) = &self.shadow_of {
            let useless = [
                ("fallback", self.fallback),
                ("on-failure", self.on_failure.is_some()),
                ("kernel-from", self.kernel_from.is_some()),
            ];
            if let Some((key, _)) = useless.into_iter().find(|(_, given)| *given) {
                return Err(format!(
                    "[[plugin]] {}: `{key}` says nothing for a shadow, whose answers the guest \
                     never sees; take out `{key}`, or `shadow-of = \"{of}\"`",
                    path.display()
                ));
            }
        }
        Ok(PluginConfig {
            path,
            sha256: self.sha256,
            config,
            grant: self.grant.into_iter().map(|grant| grant.within(directory)).collect(),
            on_failure: self.on_failure.unwrap_or_default(),
            fuel,
            memory,
            fallback: self.fallback,
            kernel_from: self.kernel_from,
            shadow_of: self.shadow_of,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::CAPABILITIES;
    use crate::msr::{PolicyAction, PolicyOverride};
    use crate::reference::Reference;

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
            "[vm]\nmemory = \"256MiB\"\nvcpus = 2\n\
             [boot]\nimage = \"g\"\ncmdline = \"a b\"\n\
             modules = [\"env\", { path = \"/m\", cmdline = \"m x\" }]\n\
             [msr]\nunknown = \"ignore\"\ninvalid = \"stop\"\n\
             [[plugin]]\npath = \"p.wasm\"\nconfig = { value = 0x2b }\ngrant = [\"guest-memory\"]\n\
             on-failure = \"kernel\"\nfuel = 5\nmemory = \"2MiB\"\nfallback = true\n\
             kernel-from = \"6.12\"\n",
        )
        .unwrap();
        assert_eq!(profile.vm, VmConfig { memory: 256 << 20, vcpus: 2 });
        let Boot::Image { path, modules, .. } = &profile.boot else { panic!() };
        assert_eq!(path, Path::new("dir/g"));
        assert_eq!(modules[0].path, Path::new("dir/env"));
        assert_eq!(modules[0].cmdline, "env");
        assert_eq!(modules[1].path, Path::new("/m"));
        let plugin = &profile.plugins[0];
        assert_eq!(plugin.path, Path::new("dir/p.wasm"));
        assert_eq!(plugin.config, "{\"value\":43}");
        assert_eq!(plugin.kernel_from, Some(KernelVersion { major: 6, minor: 12 }));
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let profile = parse("[boot]\nguest = \"hello\"\n[[plugin]]\npath = \"p\"\n").unwrap();
        assert_eq!(profile.vm, VmConfig { memory: 128 << 20, vcpus: 1 });
        let plugin = &profile.plugins[0];
        assert_eq!((plugin.fuel, plugin.memory, plugin.config.as_str()), (100_000, 1 << 20, "{}"));
        assert_eq!(plugin.on_failure, OnFailure::Fault);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let boot = "[boot]\nguest = \"hello\"\n";
        refused("[vm]\n", &["[boot] says nothing to boot"]);
        refused("[vm]\nmemory = \"much\"\n", &["line 2", "a size such as \"256MiB\""]);
        refused("[boot]\n", &["nothing to boot"]);
        refused("[boot]\nguest = \"a\"\nimage = \"b\"\n", &["more than one"]);
        refused("[boot]\nguest = \"a\"\ninitrd = \"b\"\n", &["`initrd` goes with `kernel`"]);
        refused(&format!("{boot}[vm]\nmemroy = \"1MiB\"\n"), &["line 4", "did you mean `memory`?"]);
        refused(&format!("{boot}[vm]\nmemory = \"1KiB\"\n"), &["at least 1MiB"]);
        refused(&format!("{boot}[vm]\nvcpus = 0\n"), &["vcpus = 0"]);
        refused(&format!("{boot}[msr]\nunknown = \"drop\"\n"), &["unknown variant `drop`"]);
        refused(
            &format!("{boot}[[msr.override]]\nrange = \"1\"\n"),
            &["neither `read` nor `write`"],
        );
        let plugin = format!("{boot}[[plugin]]\npath = \"p\"\n");
        refused(&format!("{plugin}sha256 = \"12\"\n"), &["64 hexadecimal digits"]);
        refused(&format!("{plugin}grant = [\"root\"]\n"), &["unknown capability `root`"]);
        refused(&format!("{plugin}fuel = 0\n"), &["fuel = 0"]);
        refused(&format!("{plugin}memory = \"1KiB\"\n"), &["64KiB to 4GiB"]);
        refused(&format!("{plugin}kernel-from = \"six\"\n"), &["`six` is no kernel version"]);
    }

    #[test]
    fn the_reference_is_current() {
        let profile = Reference::<File>::of("docs/profile.md");
        profile.table::<VmTable>("vm");
        profile.table::<BootTable>("boot");
        profile.table::<Policy>("msr");
        profile.values::<PolicyAction>("policy actions");
        profile.table::<PolicyOverride>("msr.override");
        profile.table::<PluginTable>("plugin");
        profile.values::<OnFailure>("on-failure");
        profile.rows("capabilities", "| capability | gives |", CAPABILITIES);
        profile.schema("docs/schemas/profile.json");
    }

    #[test]
    fn kernel_versions_compare_as_numbers() {
        let version = |text: &str| text.parse::<KernelVersion>().unwrap();
        assert!(version("6.2.1-amd64") < version("6.12"));
        assert!(version("6.1.0-49-cloud-amd64") < version("6.2"));
    }
}
