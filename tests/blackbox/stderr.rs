//! Standard error: lost if it is not read, and harmless on a terminal if it is.

use std::fs;
use std::io;
use std::process::Stdio;

use crate::fixture::{Outcome, Run, Vm, Workdir, apply, guest_exit, require_kvm, test, wasmsr};

/// Runs `wasmsr ARGUMENTS` with a standard error whose reader has gone away.
fn with_no_reader(workdir: &Workdir, arguments: &[&str]) -> Run {
    let (reader, writer) = io::pipe().expect("a pipe can be made");
    drop(reader);
    let mut command = wasmsr(arguments);
    command.current_dir(workdir.path()).stdin(Stdio::null()).stderr(writer);
    let output = command.output().expect("the command starts");
    Run {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::new(),
        code: output.status.code(),
    }
}

#[apply(test)]
fn a_run_goes_on_if_the_log_is_not_read() -> Outcome {
    require_kvm()?;
    let script = "r 77777 -> fault\nr 77778 -> fault";
    let workdir = Vm::new().on_disk(script)?;
    let run = with_no_reader(&workdir, &["run", "vm.toml", "--record", "r.jsonl"]);
    run.printed(script).exited(guest_exit(0));
    let recording = fs::read_to_string(workdir.path().join("r.jsonl")).expect("it is there");
    let last = recording.lines().last().unwrap_or_default();
    assert!(last.contains(r#""kind":"end""#), "the recording ends early:\n{recording}");
    Ok(())
}

#[apply(test)]
fn an_error_that_is_not_read() -> Outcome {
    with_no_reader(&Workdir::new(), &["check", "missing.toml"]).exited(2);
    Ok(())
}

/// Moves the cursor and begins a line that looks like another message.
const HOSTILE: &str = r"\u001b[2J\u009b1A\u202e\r\nerror: forged";

#[track_caller]
fn is_harmless(run: &Run) {
    let active = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(!run.stderr.contains(active), "{run}");
    assert!(run.stderr.contains(r"\u{1b}[2J\u{9b}1A\u{202e}\u{d}"), "it is not shown:\n{run}");
    assert!(run.stderr.lines().skip(1).all(|line| !line.starts_with("error")), "{run}");
}

#[apply(test)]
fn an_error_does_nothing_to_the_terminal() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("vm.toml", format!("boot.guest = \"{HOSTILE}\""));
    is_harmless(&workdir.wasmsr(&["check", "vm.toml"]).exited(2));
    Ok(())
}

#[apply(test)]
fn a_log_line_does_nothing_to_the_terminal() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("t.json", format!("{{\"kvm_capabilities\": [\"{HOSTILE}\"]}}"));
    is_harmless(&workdir.wasmsr(&["convert", "firecracker", "t.json"]).exited(0));
    Ok(())
}
