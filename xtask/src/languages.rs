//! Plugins in other languages than Rust: `examples/c/*.c` and
//! `examples/wat/*.wat`, by the commands of `docs/other-languages.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};

use crate::process;
use crate::workspace::Workspace;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Language {
    C,
    /// WebAssembly's own text.
    Wat,
}

impl Language {
    /// The language's folder in `examples/` and among built plugins, and how its
    /// files end.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Language::C => "c",
            Language::Wat => "wat",
        }
    }
}

/// A built plugin.
pub(crate) struct Built {
    /// For people.
    pub(crate) name: String,
    /// Its file's name, in the language's folder.
    pub(crate) file: String,
    pub(crate) wasm: Vec<u8>,
}

/// Builds all of a language's. Where nothing compiles C, a line says so, and
/// there are none.
pub(crate) fn build(language: Language, workspace: &Workspace) -> Result<Vec<Built>> {
    let folder = language.folder();
    if matches!(language, Language::C) && !c_compiles() {
        eprintln!("plugins in C are not built: no clang for wasm32 with wasm-ld; {INSTALL}");
        return Ok(Vec::new());
    }
    let compile = |source: PathBuf| {
        let stem = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let wasm = match language {
            Language::C => compile_c(workspace, &source),
            Language::Wat => wat::parse_file(&source).map_err(|error| anyhow!("{error}")),
        };
        let wasm = wasm.with_context(|| format!("building {}", source.display()))?;
        Ok(Built { name: format!("{stem} ({folder})"), file: format!("{stem}.wasm"), wasm })
    };
    sources(&workspace.root.join("examples").join(folder), folder)?
        .into_iter()
        .map(compile)
        .collect()
}

const INSTALL: &str = "on Debian, as root: `apt-get install clang lld`";

/// Whether there are a clang that knows Wasm, which not every vendor's does,
/// and the linker that it calls.
fn c_compiles() -> bool {
    let targets = Command::new("clang").arg("--print-targets").stderr(Stdio::null()).output();
    let knows_wasm = |targets: &[u8]| String::from_utf8_lossy(targets).contains("wasm32");
    targets.is_ok_and(|targets| knows_wasm(&targets.stdout)) && process::is_installed("wasm-ld")
}

fn compile_c(workspace: &Workspace, source: &Path) -> Result<Vec<u8>> {
    let out = tempfile::NamedTempFile::new()?;
    let folder = source.parent().unwrap_or(Path::new(""));
    process::run_quietly(
        Command::new("clang")
            .args([
                "--target=wasm32",
                "-O2",
                "-Wall",
                "-Wextra",
                "-nostdlib",
                "-Wl,--no-entry,--stack-first",
            ])
            .arg("-I")
            .arg(workspace.root.join("plugin-sdk/c"))
            .arg("-I")
            .arg(folder)
            .arg("-o")
            .arg(out.path())
            .arg(source),
    )?;
    Ok(fs::read(out.path())?)
}

/// The files with this ending, sorted.
fn sources(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    };
    let mut paths = read().with_context(|| format!("cannot read {}", folder.display()))?;
    paths.retain(|path| path.extension().is_some_and(|found| found == ending));
    paths.sort();
    Ok(paths)
}
