//! Why a file is not a plugin that can be loaded.

use super::abi;
use crate::limits;
use crate::manifest::{ABI_VERSION, Capability, MANIFEST_SECTION, ManifestError};
use crate::profile::Sha256;
use crate::toml_file::Place;

/// Why a file is not a plugin that can be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The file cannot be read.
    #[error(
        "cannot read it: {0}; check the path, or build it: `wasmsr plugin build` makes the plugin of a crate, `cargo xtask plugins` those of a wasmsr checkout"
    )]
    Read(std::io::Error),
    /// The path leads to a device, a pipe or a socket.
    #[error("it is not a regular file; give the path of the plugin's .wasm file")]
    NoFile,
    /// The file is too large.
    #[error("it is larger than {} MiB, the most a plugin may have; build it with optimisation and without debug information", limits::FILE >> 20)]
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
    #[error("it is not a WebAssembly module, or a damaged one: {0}; build or copy it again")]
    Malformed(String),
    /// A component where a core module is wanted.
    #[error("it is a WebAssembly component; build it as a core module")]
    Component,
    /// No manifest.
    #[error(
        "it has no custom section `{MANIFEST_SECTION}`, so it is not a wasmsr plugin; `export!` of the SDK puts it there, or `WASMSR_PLUGIN` of wasmsr.h; `wasm-strip` and `wasm-tools strip` take it out, and a C compiler leaves it in a static library; `wasmsr plugin pack MANIFEST FILE` puts it into a file"
    )]
    NoManifest,
    /// More than one manifest.
    #[error("it has more than one custom section `{MANIFEST_SECTION}`; {0}")]
    TwoManifests(&'static str),
    /// A bad manifest.
    #[error("its manifest is wrong")]
    Manifest(#[from] ManifestError),
    /// The profile lists what no claim can be made of.
    #[error("the MSRs that its configuration lists are wrong")]
    Listed(#[source] ManifestError),
    /// A function in which fuel would hardly be looked at.
    #[error(
        "its function {function} has {size} bytes of code, and {} are the most: fuel is looked at where a function or a loop begins; cut the function into several, or build with optimisation for size",
        limits::FUNCTION
    )]
    LongFunction {
        /// Its number, and its name if it has one.
        function: String,
        /// Bytes of its code.
        size: usize,
    },
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
