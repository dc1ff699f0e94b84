//! Traces with the answers that must come.

use std::env;
use std::fs;
use std::path::Path;

use wasmsr_engine::LoadOptions;
use wasmsr_engine::trace;

/// Runs a trace with the plugins in a folder and compares the answers.
pub(crate) fn check(path: &Path, built: &Path) {
    let text = fs::read_to_string(path).expect("a trace can be read");
    let answered = trace::replay(&text, built, &LoadOptions::default())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if env::var_os("BLESS").is_some() {
        fs::write(path, answered).expect("a trace can be written");
        return;
    }
    let lines = text.lines().zip(answered.lines()).enumerate();
    let wrong: Vec<String> = lines
        .filter(|(_, (expected, came))| !same(expected, came))
        .map(|(line, (expected, came))| format!("line {}: {expected}\n  came: {came}", line + 1))
        .collect();
    assert!(wrong.is_empty(), "{}:\n{}", path.display(), wrong.join("\n"));
}

/// Spaces may align.
fn same(expected: &str, came: &str) -> bool {
    let parts = |line: &str| {
        let (question, answer) = line.split_once("->").unwrap_or((line, ""));
        (question.trim().to_owned(), answer.trim().to_owned())
    };
    parts(expected) == parts(came)
}
