//! A profile: one VM as its operator describes it, TOML. The tables `[vm]` and
//! `[boot]` are read here, `[msr]`, `[[plugin]]` and `[[cpuid]]` by the engine.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
#[cfg(test)]
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
#[cfg(test)]
use wasmsr_book::reference::kind;
use wasmsr_engine::toml_file::{self, Reading, Size, TomlError};
use wasmsr_engine::{Profile, ProfileError, text_file};
use wasmsr_interface::MAX_VCPUS;
use wasmsr_stats::{check_name, name_of_profile};
use wasmsr_vmm::{Boot, BootModule, VmConfig};

/// A VM's description, read and validated; what it names on disk is not yet
/// opened.
#[derive(Debug, Clone)]
pub(crate) struct VmProfile {
    /// `[vm] name`, or made from the file's
    pub(crate) name: String,
    /// `[vm]`
    pub(crate) vm: VmConfig,
    /// `[boot]`, with paths relative to the current directory.
    pub(crate) boot: Boot,
    /// `[msr]`, `[[plugin]]` and `[[cpuid]]`
    pub(crate) engine: Profile,
}

impl VmProfile {
    /// Reads the profile in `path`.
    pub(crate) fn read(path: &Path) -> Result<Self, ProfileError> {
        Self::of(Profile::read(path)?)
    }

    fn of(engine: Profile) -> Result<Self, ProfileError> {
        let path = &engine.path;
        let file: File = toml_file::parse(&engine.text)
            .map_err(|source| ProfileError::Toml { path: path.clone(), source })?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let read = || {
            let boot = file.boot.ok_or(FOR_EMBEDDING)?;
            let name = file.vm.name.clone().unwrap_or_else(|| name_of_profile(path));
            Ok((name, file.vm.validate()?, boot.validate(directory)?))
        };
        match read() {
            Ok((name, vm, boot)) => Ok(VmProfile { name, vm, boot, engine }),
            Err(message) => Err(ProfileError::Value { path: path.clone(), message }),
        }
    }
}

/// Of a profile that the engine reads and the command cannot boot.
const FOR_EMBEDDING: &str = "there is no [boot], so this profile is for a VMM that embeds the \
                             engine (docs/embedding.md), which says itself what boots; to run it \
                             with wasmsr, add [boot] with `guest`, `image` or `kernel`";

/// What can be read of a profile, whatever is wrong with the rest.
pub(crate) struct Parts {
    /// `[vm]`; `None` if it is wrong.
    pub(crate) vm: Option<VmConfig>,
    /// `[boot]`; `None` if it is wrong, or not there.
    pub(crate) boot: Option<Boot>,
    /// What the engine reads; `None` if it can read nothing.
    pub(crate) engine: Option<Profile>,
    /// Every mistake, in the order of the text as far as it has a place.
    pub(crate) mistakes: Vec<ProfileError>,
}

impl Parts {
    /// Reads the profile in `path`. One without `[vm]` and `[boot]` is for a VMM that
    /// embeds the engine.
    pub(crate) fn read(path: &Path) -> Self {
        match text_file::read(path, text_file::PROFILE, "profile") {
            Ok(text) => Self::parse(path, &text),
            Err(error) => {
                let mistakes = vec![ProfileError::Read { path: path.to_owned(), error }];
                Parts { vm: None, boot: None, engine: None, mistakes }
            }
        }
    }

    fn parse(path: &Path, text: &str) -> Self {
        let (engine, mut mistakes) = Profile::parse_all(path, text);
        let Reading { value, mistakes: own, touched, .. } = toml_file::parse_all::<File>(text);
        // What is wrong at the top is found by both readers.
        for source in own {
            let is_known = mistakes.iter().any(
                |known| matches!(known, ProfileError::Toml { source: one, .. } if *one == source),
            );
            if !is_known {
                mistakes.push(ProfileError::Toml { path: path.to_owned(), source });
            }
        }
        mistakes.sort_by_key(|mistake| match mistake {
            ProfileError::Toml { source: TomlError { place: Some(place), .. }, .. } => {
                (place.line, place.column)
            }
            _ => (usize::MAX, 0),
        });
        let Some(File { vm, boot, .. }) = value else {
            return Parts { vm: None, boot: None, engine, mistakes };
        };
        let written: toml::Table = text.parse().unwrap_or_default();
        let is_for_embedding = !["vm", "boot"].iter().any(|table| written.contains_key(*table));
        let directory = path.parent().unwrap_or(Path::new(""));
        let vm = (!touched.contains("vm")).then(|| vm.validate());
        let boot = (!touched.contains("boot") && !is_for_embedding)
            .then(|| boot.unwrap_or_default().validate(directory));
        let mut value =
            |message| mistakes.push(ProfileError::Value { path: path.to_owned(), message });
        let vm = vm.and_then(|vm| vm.map_err(&mut value).ok());
        let boot = boot.and_then(|boot| boot.map_err(&mut value).ok());
        Parts { vm, boot, engine, mistakes }
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
    boot: Option<BootTable>,
    /// what becomes of an access that no plugin took
    #[serde(default, rename = "msr")]
    #[cfg_attr(test, schemars(with = "kind::Elsewhere"))]
    _msr: IgnoredAny,
    /// the plugins, in the order in which they are asked
    #[serde(default, rename = "plugin")]
    #[cfg_attr(test, schemars(with = "kind::Elsewhere"))]
    _plugin: IgnoredAny,
    /// what the guest must see in CPUID
    #[serde(default, rename = "cpuid")]
    #[cfg_attr(test, schemars(with = "kind::Elsewhere"))]
    _cpuid: IgnoredAny,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields, default)]
struct VmTable {
    /// what operators call the VM: 1 to 63 letters, digits, `-`, `_` and `.`; by default the
    /// name of the profile's file, without its ending
    name: Option<String>,
    /// guest memory: at least 1 MiB, a multiple of 4 KiB, no more than the host
    /// has
    #[cfg_attr(test, schemars(with = "kind::Size"))]
    memory: Size,
    /// virtual CPUs, 1 to 255; KVM may allow fewer
    #[serde(deserialize_with = "vcpus")]
    vcpus: u32,
}

fn vcpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    toml_file::number_of(deserializer, 1..=MAX_VCPUS.into())
}

impl Default for VmTable {
    fn default() -> Self {
        VmTable { name: None, memory: Size::of(ByteSize::mib(128), "128MiB"), vcpus: 1 }
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
    /// a Linux kernel, or what boots like one: a bzImage of boot protocol 2.06
    /// (Linux 2.6.22) or later, of 64 or 32 bits, or a 64-bit ELF `vmlinux`
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

impl VmTable {
    fn validate(self) -> Result<VmConfig, String> {
        if let Some(name) = &self.name {
            check_name(name).map_err(|why| format!("[vm] name = {name:?}: {why}"))?;
        }
        let fits = |bytes: u64| bytes >= 1 << 20 && bytes.is_multiple_of(4096);
        let memory = self.memory.bytes();
        if !fits(memory) {
            let refused = self.memory.refused("at least 1MiB and a multiple of 4KiB", fits);
            return Err(format!("[vm] memory = {refused}"));
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
                Err("[boot] says nothing to boot; add `guest`, `image` or `kernel`, or embed the \
                     engine: a profile for that has neither [vm] nor [boot]"
                    .into())
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

#[cfg(test)]
mod tests {
    use wasmsr_book::reference::Reference;

    use super::*;

    fn parse(text: &str) -> Result<VmProfile, String> {
        let profile = Profile::parse(Path::new("dir/vm.toml"), text).and_then(VmProfile::of);
        profile.map_err(|error| {
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
             [msr]\nunknown = \"ignore\"\n[[plugin]]\npath = \"p.wasm\"\n",
        )
        .unwrap();
        assert_eq!(profile.vm, VmConfig { memory: 256 << 20, vcpus: 2 });
        let Boot::Image { path, modules, .. } = &profile.boot else { panic!() };
        assert_eq!(path, Path::new("dir/g"));
        assert_eq!(modules[0].path, Path::new("dir/env"));
        assert_eq!(modules[0].cmdline, "env");
        assert_eq!(modules[1].path, Path::new("/m"));
        assert_eq!(modules[1].cmdline, "m x");
        assert_eq!(profile.engine.plugins[0].path, Path::new("dir/p.wasm"));
    }

    #[test]
    fn a_vm_has_a_name() {
        let boot = "[boot]\nguest = \"hello\"\n";
        assert_eq!(parse(boot).unwrap().name, "vm");
        assert_eq!(parse(&format!("[vm]\nname = \"web-1\"\n{boot}")).unwrap().name, "web-1");
        for (name, why) in [("", "1 to 63"), ("a b", "' '"), ("x\u{e9}", "ASCII")] {
            refused(&format!("[vm]\nname = \"{name}\"\n{boot}"), &["[vm] name", why]);
        }
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let profile = parse("[boot]\nguest = \"hello\"\n").unwrap();
        assert_eq!(profile.vm, VmConfig { memory: 128 << 20, vcpus: 1 });
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let boot = "[boot]\nguest = \"hello\"\n";
        refused("[vm]\n", &["there is no [boot]", "for a VMM that embeds the engine"]);
        refused("[[plugin]]\npath = \"p.wasm\"\n", &["there is no [boot]", "add [boot] with"]);
        refused("[vm]\nmemory = \"much\"\n", &["line 2", "a size such as \"256MiB\""]);
        refused("[boot]\n", &["nothing to boot"]);
        refused("[boot]\nguest = \"a\"\nimage = \"b\"\n", &["more than one"]);
        refused("[boot]\nguest = \"a\"\ninitrd = \"b\"\n", &["`initrd` goes with `kernel`"]);
        refused(&format!("{boot}[vm]\nmemroy = \"1MiB\"\n"), &["line 4", "did you mean `memory`?"]);
        refused(&format!("{boot}[vm]\nmemory = \"1KiB\"\n"), &["at least 1MiB"]);
        let meant = ["memory = \"100M\" is 100000000 bytes", "did you mean \"100MiB\"?"];
        refused(&format!("{boot}[vm]\nmemory = \"100M\"\n"), &meant);
        refused(&format!("{boot}[vm]\nvcpus = 0\n"), &["vcpus = 0"]);
        let quoted = ["line 4", "without quotes", "a number from 1 to 255"];
        refused(&format!("{boot}[vm]\nvcpus = \"2\"\n"), &quoted);
        refused(&format!("{boot}[vm]\nvcpus = -1\n"), &["`-1`", "a number from 1 to 255"]);
        refused(&format!("{boot}[[plugin]]\npath = \"p\"\nfuel = \"2\"\n"), &["without quotes"]);
        let huge = ["\"99999999999999999999GiB\"", "64 bits"];
        refused(&format!("{boot}[vm]\nmemory = \"99999999999999999999GiB\"\n"), &huge);
        refused(&format!("{boot}[msr]\nunknown = \"drop\"\n"), &["unknown variant `drop`"]);
    }

    #[test]
    fn all_mistakes_are_told_once() {
        let text = "[vm]\nmemory = \"much\"\nvcpus = 0\n[bot]\n[boot]\nguest = \"a\"\nimage = \"b\"\n\
                    [msr]\nunknown = \"drop\"\n[[plugin]]\npath = \"p\"\nfuel = 0\n";
        let told: Vec<String> = Parts::parse(Path::new("vm.toml"), text)
            .mistakes
            .iter()
            .map(|error| {
                let source = std::error::Error::source(error).map(ToString::to_string);
                format!("{error}: {}", source.unwrap_or_default())
            })
            .collect();
        let parts =
            ["line 2", "unknown key `bot`", "unknown variant `drop`", "fuel = 0", "more than one"];
        assert_eq!(told.len(), parts.len(), "{told:#?}");
        for (told, part) in told.iter().zip(parts) {
            assert!(told.contains(part), "no `{part}` in: {told}");
        }
    }

    #[test]
    fn a_profile_without_vm_and_boot_is_for_embedding() {
        let parts = |text: &str| Parts::parse(Path::new("vm.toml"), text);
        let embedding = parts("[msr]\nunknown = \"ignore\"\n");
        assert!(embedding.mistakes.is_empty() && embedding.boot.is_none());
        for text in ["[vm]\nvcpus = 1\n", "[boot]\n"] {
            let mistakes = parts(text).mistakes;
            assert!(mistakes[0].to_string().contains("nothing to boot"), "{text}");
        }
        let whole = parts("[boot]\nguest = \"hello\"\n");
        assert!(whole.mistakes.is_empty() && whole.vm.is_some() && whole.boot.is_some());
    }

    #[test]
    fn the_reference_is_current() {
        let profile = Reference::<File>::of("docs/profile.md");
        profile.table::<VmTable>("vm");
        profile.table::<BootTable>("boot");
        profile.schema_with("docs/schemas/profile.json", "docs/schemas/engine-profile.json");
    }
}
