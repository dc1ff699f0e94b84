//! What a plugin's file says about itself.

use std::path::Path;

use super::bodies::refuse_long_functions;
use super::check::{check, describe};
use super::error::ModuleError;
use super::file::{manifest_section, read_file, sha256};
use super::module::Compiler;
use crate::manifest::Manifest;
use crate::profile::Sha256;

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
    refuse_long_functions(&bytes)?;
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
            .map(|export| (export.name().to_owned(), describe(&export.ty())))
            .collect(),
        imports: module
            .imports()
            .map(|import| {
                (format!("{}.{}", import.module(), import.name()), describe(&import.ty()))
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
