//! A plugin's module: checked, compiled and linked.

use std::num::NonZero;
use std::ops::Deref;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};

use wasmtime::{Config, Engine, InstancePre, Linker, Module, WasmBacktraceDetails};

use super::bodies::refuse_long_functions;
use super::cache::CodeCache;
use super::check::check;
use super::description::Description;
use super::error::ModuleError;
use super::file::{manifest_section, read_file, sha256};
use super::hostcalls;
use super::store::StoreData;
use crate::limits;
use crate::manifest::{Capability, Held, Manifest};
use crate::profile::{PluginConfig, Sha256};

/// A plugin ready to be instantiated: compiled and linked once.
#[derive(Clone)]
pub(crate) struct Plugin {
    pub(super) description: Arc<Description>,
    pub(super) linked: InstancePre<StoreData>,
}

impl Deref for Plugin {
    type Target = Description;

    fn deref(&self) -> &Description {
        &self.description
    }
}

impl Plugin {
    /// The plugin under another name in texts.
    pub(crate) fn named(mut self, name: Arc<str>) -> Self {
        Arc::make_mut(&mut self.description).name = name;
        self
    }
}

/// Compiles plugins, all with the same settings.
pub(crate) struct Compiler {
    engine: Engine,
    linker: Linker<StoreData>,
    cache: Option<CodeCache>,
}

impl Compiler {
    pub(crate) fn new(cache: Option<&CodeCache>) -> Result<Self, String> {
        let engine = Engine::new(&settings()).map_err(|error| format!("{error:#}"))?;
        let mut linker = Linker::new(&engine);
        hostcalls::link(&mut linker).map_err(|error| format!("{error:#}"))?;
        Ok(Compiler { engine, linker, cache: cache.cloned() })
    }

    /// Reads, checks, compiles and links the plugin that `config` names, or says all
    /// that is wrong with it.
    fn load(&self, config: &PluginConfig) -> Result<Plugin, Vec<ModuleError>> {
        let one = |error: ModuleError| vec![error];
        let bytes = read_file(config.file()).map_err(one)?;
        let sha256 = sha256(&bytes);
        if let Some(pinned) = config.sha256
            && pinned != sha256
        {
            return Err(vec![ModuleError::Hash { pinned, found: sha256 }]);
        }
        let text = manifest_section(&bytes).map_err(one)?;
        let manifest = Manifest::parse_all(text)
            .map_err(|wrong| wrong.into_iter().map(ModuleError::from).collect::<Vec<_>>())?;
        refuse_long_functions(&bytes).map_err(one)?;
        let (module, from_cache) = self.module(&bytes, sha256).map_err(one)?;
        check(&module, &manifest, text).map_err(one)?;
        let is_granted = |asked: &Capability| config.grant.iter().any(|one| one.gives(asked));
        let asked = manifest.needs.capabilities.iter().filter(|asked| !is_granted(asked));
        let mut wrong: Vec<_> = asked.cloned().map(ModuleError::NotGranted).collect();
        let mut manifest = match manifest.with_listed_claims(&config.config) {
            Ok(manifest) if wrong.is_empty() => manifest,
            listed => {
                wrong.extend(listed.err().map(ModuleError::Listed));
                return Err(wrong);
            }
        };
        if let Some(name) = &config.name {
            manifest.plugin.name.clone_from(name);
        }
        let linked = self
            .linker
            .instantiate_pre(&module)
            .map_err(|error| vec![ModuleError::Compile(format!("{error:#}"))])?;
        let description = Description {
            path: config.file().to_owned(),
            size: bytes.len() as u64,
            sha256,
            name: Arc::from(manifest.plugin.name.as_str()),
            held: Held::new(manifest.needs.all(), &config.grant),
            manifest,
            config: config.clone(),
            from_cache,
        };
        Ok(Plugin { description: Arc::new(description), linked })
    }

    /// Loads plugins, on as many threads as there are CPUs: compiling takes
    /// long.
    pub(crate) fn load_all(
        &self,
        configs: &[PluginConfig],
    ) -> Vec<Result<Plugin, Vec<ModuleError>>> {
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

    pub(super) fn compile(&self, bytes: &[u8]) -> Result<Module, ModuleError> {
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
