//! A plugin's file: read, checked, compiled. Everything in it is hostile.

use std::fs::{self, File};
use std::io::{self, Read};
use std::num::NonZero;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};

use rustix::fs::OFlags;
use sha2::Digest;
use wasmparser::Payload;
use wasmsr_interface::Direction;
use wasmtime::{Config, Engine, InstancePre, Linker, Module, WasmBacktraceDetails};

use super::abi;
use super::cache::CodeCache;
use super::capability::{Capability, Held};
use super::hostcalls;
use super::instance::State;
use super::limits;
use super::manifest::{ABI_VERSION, MANIFEST_SECTION, Manifest, ManifestError};
use super::places::{self, Spot};
use crate::profile::{PluginConfig, Sha256};
use crate::toml_file::Place;

/// Most bytes of a `.wasm` file.
pub const MAX_FILE_SIZE: u64 = 8 << 20;

/// Why a file is not a plugin that can be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The file cannot be read.
    #[error(
        "cannot read it: {0}; check the path, or build it: `wasmsr plugin build` makes the plugin of a crate, `cargo xtask plugins` those of a wasmsr checkout"
    )]
    Read(std::io::Error),
    /// The path leads to a device, a pipe or a socket.
    #[error("it is no regular file; give the path of the plugin's .wasm file")]
    NoFile,
    /// The file is too large.
    #[error("it is larger than {} MiB, the most a plugin may have; build it with optimisation and without debug information", MAX_FILE_SIZE >> 20)]
    Oversized,
    /// The file is not the one that the profile pins.
    #[error(
        "its SHA-256 is {found}, but the profile pins {pinned}; restore the pinned file or change `sha256`"
    )]
    Hash {
        /// What the profile says.
        pinned: Sha256,
        /// What the file has.
        found: Sha256,
    },
    /// Not Wasm at all, or damaged.
    #[error("it is no WebAssembly module, or a damaged one: {0}; build or copy it again")]
    Malformed(String),
    /// A component where a core module is wanted.
    #[error("it is a WebAssembly component; build it as a core module")]
    Component,
    /// No manifest.
    #[error(
        "it has no custom section `{MANIFEST_SECTION}`, so it is no wasmsr plugin; `export!` of the SDK puts it there, or `WASMSR_PLUGIN` of wasmsr.h"
    )]
    NoManifest,
    /// More than one manifest.
    #[error("it has more than one custom section `{MANIFEST_SECTION}`; keep one")]
    TwoManifests,
    /// A bad manifest.
    #[error("its manifest is wrong")]
    Manifest(#[from] ManifestError),
    /// The profile lists what no claim can be made of.
    #[error("the MSRs that its configuration lists are wrong")]
    Listed(#[source] ManifestError),
    /// Compilation failed.
    #[error("it does not compile: {0}")]
    Compile(String),
    /// A missing export.
    #[error(
        "it has no export `{name}`, which {why}; `export!` of the SDK makes it, or its declaration in wasmsr.h"
    )]
    NoExport {
        /// The export.
        name: &'static str,
        /// What asks for it.
        why: String,
    },
    /// An export of another type than the ABI's.
    #[error("its export `{name}` is {found}, but ABI {ABI_VERSION} has it as {expected}")]
    ExportType {
        /// The export.
        name: &'static str,
        /// The ABI's type.
        expected: String,
        /// The module's type.
        found: String,
    },
    /// An import that the ABI does not have.
    #[error(
        "it imports `{module}.{name}`, which ABI {ABI_VERSION} does not have; its host calls are {}",
        abi::names()
    )]
    NoImport {
        /// Import module.
        module: String,
        /// Import name.
        name: String,
    },
    /// An import of another type than the ABI's.
    #[error("its import `wasmsr.{name}` is {found}, but ABI {ABI_VERSION} has it as {expected}")]
    ImportType {
        /// The import.
        name: &'static str,
        /// The ABI's type.
        expected: String,
        /// The module's type.
        found: String,
    },
    /// An import behind a capability that the manifest does not ask for.
    #[error(
        "it imports `wasmsr.{import}`, which needs the capability `{capability}`, but its manifest does not ask for it; add it to [needs] capabilities"
    )]
    NotAsked {
        /// The import.
        import: &'static str,
        /// The capability.
        capability: &'static str,
    },
    /// The module is not what its manifest says.
    #[error("its manifest, {place}: {mistake}")]
    Unlike {
        /// Where the manifest says it.
        place: Place,
        /// What the module does.
        mistake: Box<ModuleError>,
    },
    /// A capability asked and not granted.
    #[error(
        "it asks for the capability `{0}`, which the profile does not grant; add it to the plugin's `grant` if you trust the plugin with it"
    )]
    NotGranted(Capability),
}

/// What a file says about itself, without compiling it.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Size of the file in bytes.
    pub size: u64,
    /// SHA-256 of the file.
    pub sha256: Sha256,
    /// The manifest.
    pub manifest: Manifest,
    /// The manifest's text.
    pub manifest_text: String,
    /// Exports, in order: name and kind.
    pub exports: Vec<(String, String)>,
    /// Imports, in order: `module.name` and kind.
    pub imports: Vec<(String, String)>,
}

/// Reads the plugin in `path` and says what it is.
///
/// # Errors
/// [`ModuleError`] if it is not Wasm, has no valid manifest, or does not keep
/// to the ABI.
pub fn inspect(path: &Path) -> Result<Inspection, ModuleError> {
    let bytes = read_file(path)?;
    let text = manifest_section(&bytes)?.to_vec();
    let manifest = Manifest::parse(&text)?;
    let compiler = Compiler::new(None).map_err(ModuleError::Compile)?;
    let module = compiler.compile(&bytes)?;
    check(&module, &manifest, &text)?;
    Ok(Inspection {
        size: bytes.len() as u64,
        sha256: sha256(&bytes),
        manifest,
        manifest_text: String::from_utf8_lossy(&text).into_owned(),
        exports: module
            .exports()
            .map(|export| (export.name().to_owned(), abi::describe(&export.ty())))
            .collect(),
        imports: module
            .imports()
            .map(|import| {
                (format!("{}.{}", import.module(), import.name()), abi::describe(&import.ty()))
            })
            .collect(),
    })
}

/// Reads only the manifest of the plugin in `path`.
///
/// # Errors
/// [`ModuleError`] if it is not Wasm or has no valid manifest.
pub fn read_manifest(path: &Path) -> Result<Manifest, ModuleError> {
    Ok(Manifest::parse(manifest_section(&read_file(path)?)?)?)
}

/// A plugin ready to be instantiated: compiled and linked once.
pub(crate) struct Plugin {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) sha256: Sha256,
    pub(crate) manifest: Manifest,
    pub(crate) config: PluginConfig,
    pub(crate) name: Arc<str>,
    pub(crate) from_cache: bool,
    pub(crate) held: Held,
    pub(super) linked: InstancePre<State>,
}

/// Compiles plugins, all with the same settings.
pub(crate) struct Compiler {
    engine: Engine,
    linker: Linker<State>,
    cache: Option<CodeCache>,
}

impl Compiler {
    pub(crate) fn new(cache: Option<&CodeCache>) -> Result<Self, String> {
        let engine = Engine::new(&settings()).map_err(|error| format!("{error:#}"))?;
        let mut linker = Linker::new(&engine);
        hostcalls::link(&mut linker).map_err(|error| format!("{error:#}"))?;
        Ok(Compiler { engine, linker, cache: cache.cloned() })
    }

    /// Reads, checks, compiles and links the plugin that `config` names.
    fn load(&self, config: &PluginConfig) -> Result<Plugin, ModuleError> {
        let bytes = read_file(&config.path)?;
        let sha256 = sha256(&bytes);
        if let Some(pinned) = config.sha256
            && pinned != sha256
        {
            return Err(ModuleError::Hash { pinned, found: sha256 });
        }
        let text = manifest_section(&bytes)?;
        let manifest = Manifest::parse(text)?;
        let (module, from_cache) = self.module(&bytes, sha256)?;
        check(&module, &manifest, text)?;
        for asked in &manifest.needs.capabilities {
            if !config.grant.iter().any(|granted| granted.gives(asked)) {
                return Err(ModuleError::NotGranted(asked.clone()));
            }
        }
        let manifest = manifest.with_listed_claims(&config.config).map_err(ModuleError::Listed)?;
        let linked = self
            .linker
            .instantiate_pre(&module)
            .map_err(|error| ModuleError::Compile(format!("{error:#}")))?;
        Ok(Plugin {
            path: config.path.clone(),
            size: bytes.len() as u64,
            sha256,
            name: Arc::from(manifest.plugin.name.as_str()),
            held: Held::new(manifest.needs.all(), &config.grant),
            manifest,
            config: config.clone(),
            from_cache,
            linked,
        })
    }

    /// Loads plugins, on as many threads as there are CPUs: compiling takes
    /// long.
    pub(crate) fn load_all(&self, configs: &[PluginConfig]) -> Vec<Result<Plugin, ModuleError>> {
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        let share = configs.len().div_ceil(cpus).max(1);
        let load_share = |share: &[PluginConfig]| -> Vec<_> {
            share.iter().map(|config| self.load(config)).collect()
        };
        thread::scope(|scope| {
            let threads: Vec<_> =
                configs.chunks(share).map(|share| scope.spawn(move || load_share(share))).collect();
            let shares = threads.into_iter().map(ScopedJoinHandle::join);
            shares.flat_map(|share| share.unwrap_or_else(|panic| resume_unwind(panic))).collect()
        })
    }

    /// The module, and whether its code came from the cache.
    fn module(&self, bytes: &[u8], sha256: Sha256) -> Result<(Module, bool), ModuleError> {
        let Some(cache) = &self.cache else { return Ok((self.compile(bytes)?, false)) };
        if let Some(module) = cache.load(&self.engine, sha256) {
            return Ok((module, true));
        }
        let module = self.compile(bytes)?;
        cache.store(&module, sha256);
        Ok((module, false))
    }

    fn compile(&self, bytes: &[u8]) -> Result<Module, ModuleError> {
        Module::from_binary(&self.engine, bytes)
            .map_err(|error| ModuleError::Compile(format!("{error:#}")))
    }
}

/// One engine's settings: what is off here is off for every plugin.
fn settings() -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .max_wasm_stack(limits::STACK)
        // The same trace gives the same answers on every machine: NaN bits
        // are the one thing in core Wasm that hardware may choose.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        // A failing plugin costs a re-instantiation, not a walk of its stack.
        .wasm_backtrace_max_frames(None)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .generate_address_map(false);
    config
}

/// Holds a module against the ABI and its own manifest.
fn check(module: &Module, manifest: &Manifest, text: &[u8]) -> Result<(), ModuleError> {
    abi::check(module, manifest).map_err(|mistake| {
        let spot = match &mistake {
            ModuleError::NotAsked { .. } => Some(Spot::Needs),
            ModuleError::NoExport { name: "rdmsr", .. } => Some(Spot::Answers(Direction::Read)),
            ModuleError::NoExport { name: "wrmsr", .. } => Some(Spot::Answers(Direction::Write)),
            _ => None,
        };
        let text = str::from_utf8(text).unwrap_or_default();
        match spot.and_then(|spot| places::of(text, spot)) {
            Some(place) => ModuleError::Unlike { place, mistake: Box::new(mistake) },
            None => mistake,
        }
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>, ModuleError> {
    // The path may be a stranger's, in a recording. Some devices act when they
    // are opened, and a pipe holds whoever opens it.
    let about = fs::metadata(path).map_err(ModuleError::Read)?;
    if !about.is_file() && !about.is_dir() {
        return Err(ModuleError::NoFile);
    }
    let at_once = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(at_once).open(path);
    let read = file.and_then(|file| read_at_most(MAX_FILE_SIZE, &file));
    read.map_err(ModuleError::Read)?.ok_or(ModuleError::Oversized)
}

/// The content of a file; `None` if that is more than `limit` bytes.
pub(super) fn read_at_most(limit: u64, file: &File) -> io::Result<Option<Vec<u8>>> {
    // Its size is a hint only: it may change, and a pipe has none.
    let size = file.metadata()?.len().min(limit);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

/// The manifest's bytes; also the first look at whether this is Wasm.
fn manifest_section(bytes: &[u8]) -> Result<&[u8], ModuleError> {
    if !bytes.starts_with(b"\0asm") {
        return Err(ModuleError::Malformed("it does not begin with `\\0asm`".to_owned()));
    }
    let mut found = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| malformed(&error))? {
            Payload::Version { encoding: wasmparser::Encoding::Component, .. } => {
                return Err(ModuleError::Component);
            }
            Payload::CustomSection(section) if section.name() == MANIFEST_SECTION => {
                found.push(section.data());
            }
            _ => {}
        }
    }
    match found.as_slice() {
        [] => Err(ModuleError::NoManifest),
        [manifest] => Ok(manifest),
        _ => Err(ModuleError::TwoManifests),
    }
}

/// wasmparser's errors can have several lines.
fn malformed(error: &wasmparser::BinaryReaderError) -> ModuleError {
    let what: Vec<&str> = error.message().split_whitespace().collect();
    ModuleError::Malformed(format!("{} at offset {:#x}", what.join(" "), error.offset()))
}
