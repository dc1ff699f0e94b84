//! How far long work is: shown on terminals that can take it back, and nowhere
//! else.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::json;

use crate::fixture::{Outcome, Recording, Running, Terminal, Workdir, apply, test, wasmsr};

/// What it looks like for work of unknown length.
const SHOWN: &str = "so far";

/// Longer than work must take to be shown.
const LONG: Duration = Duration::from_secs(2);

/// A recording in a named pipe, to which lines come until it is dropped: work
/// that takes as long as a test wants.
struct Slow {
    /// A last line; nothing if it is dropped.
    last: Sender<&'static str>,
    writer: JoinHandle<()>,
}

impl Slow {
    fn in_pipe(path: &Path) -> Self {
        let made = Command::new("mkfifo").arg(path).status().expect("mkfifo is everywhere");
        assert!(made.success());
        // For reading too, so that opening it does not wait for the other side.
        let mut pipe = File::options().read(true).write(true).open(path).expect("it is ours");
        let (last, ending) = mpsc::channel();
        let writer = thread::spawn(move || {
            let text = Recording::with(&["p"]).access(json!({ "plugin": "p" })).text();
            let (boot, access) = text.split_once('\n').expect("there are two lines");
            writeln!(pipe, "{boot}").expect("a pipe takes a line");
            loop {
                pipe.write_all(access.as_bytes()).expect("a pipe takes a line");
                match ending.recv_timeout(Duration::from_millis(20)) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(line) => return writeln!(pipe, "{line}").expect("a pipe takes a line"),
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        });
        Slow { last, writer }
    }

    fn end(self) {
        drop(self.last);
        self.writer.join().expect("the writer does not panic");
    }

    fn end_with(self, line: &'static str) {
        self.last.send(line).expect("the writer waits");
        self.writer.join().expect("the writer does not panic");
    }
}

/// `recording stats` of a slow recording.
fn stats(workdir: &Workdir, term: &str) -> (Slow, Command) {
    let slow = Slow::in_pipe(&workdir.path().join("r.jsonl"));
    let mut command = wasmsr(&["recording", "stats", "r.jsonl"]);
    command.env("TERM", term).current_dir(workdir.path());
    (slow, command)
}

#[apply(test)]
fn it_comes_and_goes() -> Outcome {
    let workdir = Workdir::new();
    let (slow, command) = stats(&workdir, "xterm");
    let mut terminal = Terminal::start(&command)?;
    terminal.shows(|screen| screen.contains(SHOWN));
    slow.end();
    terminal.shows(|screen| screen.contains("0x10a") && !screen.contains(SHOWN));
    assert_eq!(terminal.finish(), Some(0));
    Ok(())
}

#[apply(test)]
fn it_goes_before_an_error() -> Outcome {
    let workdir = Workdir::new();
    let (slow, command) = stats(&workdir, "xterm");
    let mut terminal = Terminal::start(&command)?;
    terminal.shows(|screen| screen.contains(SHOWN));
    slow.end_with("no JSON");
    let screen = terminal.shows(|screen| screen.contains("error:"));
    assert!(screen.starts_with("error:") && !screen.contains(SHOWN), "{screen}");
    assert_eq!(terminal.finish(), Some(2));
    Ok(())
}

#[apply(test)]
fn it_goes_with_an_interrupted_command() -> Outcome {
    let workdir = Workdir::new();
    let (slow, command) = stats(&workdir, "xterm");
    // Below a shell: what a session's leader writes last may be lost with it.
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap : INT; \"$@\"; echo \"ended with $?\"", "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.env("TERM", "xterm").current_dir(workdir.path());
    let mut terminal = Terminal::start(&shell)?;
    terminal.shows(|screen| screen.contains(SHOWN));
    terminal.type_in("\x03");
    let screen = terminal.shows(|screen| screen.contains("ended with"));
    assert!(screen.starts_with("ended with 130") && !screen.contains(SHOWN), "{screen}");
    assert_eq!(terminal.finish(), Some(0));
    drop(slow);
    Ok(())
}

#[apply(test)]
fn it_is_not_for_pipes_and_dumb_terminals() -> Outcome {
    let workdir = Workdir::new();
    let (slow, mut command) = stats(&workdir, "xterm");
    let running = Running::start(&mut command);
    thread::sleep(LONG);
    slow.end();
    let run = running.finish().exited(0);
    assert_eq!(run.stderr, "", "{run}");

    let workdir = Workdir::new();
    let (slow, command) = stats(&workdir, "dumb");
    let terminal = Terminal::start(&command)?;
    thread::sleep(LONG);
    slow.end();
    let screen = terminal.last_words();
    assert!(screen.contains("0x10a") && !screen.contains(SHOWN), "{screen}");
    Ok(())
}
