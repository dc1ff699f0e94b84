//! Traces with the answers that must come.

use std::env;
use std::fs;
use std::path::Path;

use wasmsr_engine::LoadOptions;
use wasmsr_engine::script::{self, Difference, Trace};

/// Runs a trace with the plugins in a folder and compares the answers.
pub(crate) fn check(path: &Path, built: &Path) {
    let text = fs::read_to_string(path).expect("a trace can be read");
    let answered = Trace::parse(&text, built)
        .and_then(|trace| trace.replay(&LoadOptions::default()))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if env::var_os("BLESS").is_some() {
        fs::write(path, script::blessed(&text, &answered)).expect("a trace can be written");
        return;
    }
    let wrong: Vec<String> = script::differences(&text, &answered)
        .into_iter()
        .map(|Difference { line, expected, came }| {
            format!("line {line}: {expected}\n  came: {came}")
        })
        .collect();
    assert!(wrong.is_empty(), "{}:\n{}", path.display(), wrong.join("\n"));
}

/// Runs a trace again for each of its accesses, with a swap after it: other instances
/// with the state of the first ones give the same answers.
pub(crate) fn check_swapped(path: &Path, built: &Path) {
    let text = fs::read_to_string(path).expect("a trace can be read");
    let differing = Trace::parse(&text, built)
        .and_then(|trace| trace.replay_swapped(&LoadOptions::default()))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(differing.is_none(), "{}: {differing:?}", path.display());
}
