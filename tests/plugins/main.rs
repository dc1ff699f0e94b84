//! The plugins that we ship, in the real engine with a scripted host: each
//! trace beside a plugin gives the answers that it says, and each register has
//! the fields of the table beside it. `BLESS=1` writes the answers that came
//! into the traces.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod registers;
mod traces;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for plugin in entries(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins")) {
        for trace in entries(&plugin.join("traces")) {
            let name = format!("{}::{}", base_name(&plugin), base_name(&trace));
            trials.push(trial(name, move || traces::check(&trace)));
        }
        let table = plugin.join("registers.toml");
        if table.exists() {
            let name = format!("{}::registers", base_name(&plugin));
            trials.push(trial(name, move || registers::check(&table)));
        }
    }
    assert!(!trials.is_empty(), "no plugin has a trace: not in the repository?");
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: String, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::ignorable_test(name, || {
        let plugins = built();
        if !plugins.is_dir() {
            let reason = format!("no {}; `cargo xtask plugins` builds it", plugins.display());
            return Ok(Completion::ignored_with(reason));
        }
        test();
        Ok(Completion::Completed)
    })
}

/// The folder of built plugins.
fn built() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins");
    env::var_os("WASMSR_PLUGINS").map_or_else(default, PathBuf::from)
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
