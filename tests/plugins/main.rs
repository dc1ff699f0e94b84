//! The plugins that we ship, in the real engine with a scripted host: each
//! trace beside a plugin gives the answers that it says, and each register has
//! the fields of the table beside it. Plugins in other languages give those of
//! the Rust plugin of their name. `BLESS=1` writes the answers that came into
//! the traces.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../built.rs"]
mod built;
mod header;
mod registers;
mod traces;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

/// Traces in which a new instance refuses to start, and the old one would stay.
const REFUSES_TO_START: [&str; 1] = ["rapl::unreadable"];

fn main() -> ExitCode {
    let mut trials = header::trials();
    let root = built::workspace();
    for folder in ["plugins", "examples"] {
        for plugin in entries(&root.join(folder)) {
            trials.extend(pinned(&plugin, ""));
        }
    }
    for language in ["c", "wat"] {
        let sources = entries(&root.join("examples").join(language));
        for source in sources.iter().filter(|path| path.extension() == Some(language.as_ref())) {
            let twin = base_name(source).replace('_', "-");
            let folders = ["plugins", "examples"].map(|folder| root.join(folder).join(&twin));
            let same: Vec<Trial> =
                folders.iter().flat_map(|plugin| pinned(plugin, language)).collect();
            assert!(!same.is_empty(), "{}: no traces of `{twin}`", source.display());
            trials.extend(same);
        }
    }
    assert!(!trials.is_empty(), "no plugin has a trace: not in the repository?");
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// What pins a plugin, run with the file built in a language: Rust's lie
/// in the folder of built plugins, the others in one below that.
fn pinned(plugin: &Path, language: &'static str) -> Vec<Trial> {
    let name = match language {
        "" => base_name(plugin),
        _ => format!("{language}::{}", base_name(plugin)),
    };
    let wasm = Path::new(language).join(base_name(plugin).replace('-', "_"));
    let wasm = wasm.to_string_lossy();
    let mut trials = Vec::new();
    for trace in entries(&plugin.join("traces")) {
        let name = format!("{name}::{}", base_name(&trace));
        let again = trace.clone();
        if saves(plugin, language) && !REFUSES_TO_START.contains(&&*name) {
            let name = format!("{name}::swapped_anywhere");
            trials.push(trial(name, &wasm, move |built| traces::check_swapped(&again, built)));
        }
        trials.push(trial(name, &wasm, move |built| traces::check(&trace, built)));
    }
    let table = plugin.join("registers.toml");
    if table.exists() {
        let name = format!("{name}::registers");
        trials.push(trial(name, &wasm, move |built| registers::check(&table, built)));
    }
    trials
}

/// Whether the plugin in a language brings its state over a swap. The examples in other
/// languages save nothing.
fn saves(plugin: &Path, language: &str) -> bool {
    language.is_empty() || base_name(plugin) == "arch-capabilities"
}

/// Runs `test` with the folder of the built plugin `wasm`.
fn trial(name: String, wasm: &str, test: impl FnOnce(&Path) + Send + 'static) -> Trial {
    let wasm = wasm.to_owned();
    Trial::ignorable_test(name, move || {
        let file = built::plugins().join(&wasm);
        let plugins = file.parent().unwrap_or(&file);
        if !plugins.is_dir() {
            let with = if wasm.starts_with("c/") { ", where clang and lld are" } else { "" };
            let reason = format!("no {}; `cargo xtask plugins` builds it{with}", plugins.display());
            return Ok(Completion::ignored_with(reason));
        }
        built::is_current(&wasm)?;
        test(plugins);
        Ok(Completion::Completed)
    })
}

/// What lies in a folder, sorted; nothing if it does not exist.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn base_name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
