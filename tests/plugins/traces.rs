//! Traces with the answers that must come.

use std::env;
use std::fs;
use std::path::Path;

use wasmsr_engine::LoadOptions;
use wasmsr_engine::script::{self, Difference, Rig, Trace};

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
    let (tables, steps) = text.split_once("\n---\n").expect("a trace has a line `---`");
    let is_access = |step: &str| step.starts_with("r ") || step.starts_with("w ");
    let mut rig = Rig::new(tables, built, &LoadOptions::default())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let accesses = steps.lines().zip(1..).filter(|(step, _)| is_access(step));
    for (access, number) in accesses {
        rig.start_over();
        let at = || format!("{}, with a swap after `{access}`", path.display());
        let mut take = |step: &str| {
            rig.step(step).unwrap_or_else(|problem| panic!("{}: `{step}`: {problem}", at()))
        };
        let mut answered = String::new();
        for (step, line) in steps.lines().zip(1..) {
            let came = take(step);
            if line == number {
                take("swap");
            }
            // When a timer is due, and what is reported, may well differ.
            answered += if is_access(step) { &came } else { step };
            answered.push('\n');
        }
        let wrong = script::differences(steps, &answered);
        assert!(wrong.is_empty(), "{}: {wrong:?}", at());
    }
}
