//! The file of `run --record`: whose it is, what was there before, and what it
//! holds when something ends early.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::Value;

use crate::fixture::{
    Outcome, PATIENCE, Plugin, Running, Skip, Vm, Workdir, apply, cannot_run_here, guest_exit,
    require_kvm, test, wasmsr,
};

const FIVE: Plugin = Plugin {
    name: "five",
    manifest: r#"msr = [{ range = "0x1000", access = "rw" }]"#,
    code: "(reads (i64.const 5)) (writes)",
};

/// A folder with a profile whose guest does `script`.
fn five(script: &str) -> Result<Workdir, Skip> {
    require_kvm()?;
    Vm::new().plugin(&FIVE).on_disk(script)
}

const RECORD: [&str; 4] = ["run", "vm.toml", "--record", "r.jsonl"];

/// A folder with `r.jsonl`, the recording of a short run.
fn recorded() -> Result<Workdir, Skip> {
    let workdir = five("r 1000 -> 5")?;
    workdir.wasmsr(&RECORD).exited(guest_exit(0));
    Ok(workdir)
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("the recording is there");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

#[apply(test)]
fn a_file_that_is_there_becomes_the_users_alone() -> Outcome {
    let workdir = recorded()?;
    let file = workdir.path().join("r.jsonl");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("it is this user's");
    workdir.wasmsr(&RECORD).exited(guest_exit(0));
    let mode = fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "guest memory may be in it");
    Ok(())
}

#[apply(test)]
fn a_socket_is_called_one() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("vm.toml", "boot.guest = \"hello\"");
    let _socket = UnixListener::bind(workdir.path().join("s")).expect("a socket can be made");
    let run = workdir.wasmsr(&["run", "vm.toml", "--record", "s"]);
    run.refused(&["cannot record to s", "it is a socket; name a file"]);
    Ok(())
}

#[apply(test)]
fn a_file_of_another_user_is_refused() -> Outcome {
    let workdir = recorded()?;
    let file = workdir.path().join("r.jsonl");
    if chown(&file, Some(12345), None).is_err() {
        return cannot_run_here("only root gives files away");
    }
    let before = fs::read(&file).expect("root reads everything");
    workdir.wasmsr(&RECORD).refused(&["r.jsonl", "belongs to another user (uid 12345)"]);
    assert_eq!(fs::read(&file).expect("it is there"), before);
    Ok(())
}

#[apply(test)]
fn what_does_not_start_keeps_the_older_recording() -> Outcome {
    let workdir = recorded()?;
    let before = fs::read(workdir.path().join("r.jsonl")).expect("it is there");
    let broken = Plugin {
        code: r#"
            (func (export "init") (param i32) (result i32) unreachable)
            (reads (i64.const 5))
            (writes)
        "#,
        ..FIVE
    };
    workdir.put("five.wasm", broken.wasm());
    workdir.wasmsr(&RECORD).refused(&["five"]);
    workdir.put("vm.toml", "[boot]\nimage = \"none\"\n");
    workdir.wasmsr(&RECORD).refused(&["none"]);
    assert_eq!(fs::read(workdir.path().join("r.jsonl")).expect("it is there"), before);
    Ok(())
}

#[apply(test)]
fn a_file_takes_one_run_at_a_time() -> Outcome {
    let workdir = five("r 1000 -> 5\nspin ->")?;
    let mut first = Running::start(wasmsr(&RECORD).current_dir(workdir.path()));
    first.wait_for("r 1000 -> 5");
    workdir.wasmsr(&RECORD).refused(&["r.jsonl", "another run records to it"]);
    first.send(Signal::INT);
    first.finish().exited(130);
    workdir.wasmsr(&["replay", "r.jsonl"]).exited(0);
    Ok(())
}

/// Makes the pipe `pipe` in a folder.
fn pipe(workdir: &Workdir) {
    let path = workdir.path().join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("pipes can be made");
}

const RECORD_TO_PIPE: [&str; 4] = ["run", "vm.toml", "--record", "pipe"];

#[apply(test)]
fn a_pipe_takes_a_recording() -> Outcome {
    let workdir = five("times 1000 r 1000 -> 5")?;
    pipe(&workdir);
    let path = workdir.path().join("pipe");
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        File::open(path)?.read_to_end(&mut text).map(|_| text)
    });
    // The reader may come a moment later.
    let deadline = Instant::now() + PATIENCE;
    let run = loop {
        let run = workdir.wasmsr(&RECORD_TO_PIPE);
        if run.code != Some(2) || Instant::now() > deadline {
            break run;
        }
    };
    run.exited(guest_exit(0)).said(&["recorded 4096 accesses to pipe"]);
    let text = reader.join().expect("it does not panic").expect("a pipe can be read");
    workdir.put("r.jsonl", text);
    workdir.wasmsr(&["replay", "r.jsonl"]).exited(0);
    Ok(())
}

#[apply(test)]
fn a_pipe_without_a_reader_is_refused() -> Outcome {
    let workdir = five("r 1000 -> 5")?;
    pipe(&workdir);
    workdir.wasmsr(&RECORD_TO_PIPE).refused(&["cannot record to pipe", "the pipe has no reader"]);
    Ok(())
}

#[apply(test)]
fn a_pipe_that_is_not_emptied_ends_no_run() -> Outcome {
    // Far more than a pipe holds.
    let workdir = five("times 4000 r 1000 -> 5")?;
    pipe(&workdir);
    let reader = File::options().read(true).write(true).open(workdir.path().join("pipe"));
    let run = workdir.wasmsr(&RECORD_TO_PIPE).exited(guest_exit(0));
    run.said(&["recording pipe: its file takes nothing, or too slowly; ", " are missing"]);
    drop(reader.expect("a pipe can be opened"));
    Ok(())
}

#[apply(test)]
fn a_killed_run_leaves_what_it_has_recorded() -> Outcome {
    let workdir = five("times ffffffff r 1000 ->")?;
    let running = Running::start(wasmsr(&RECORD).current_dir(workdir.path()));
    let file = workdir.path().join("r.jsonl");
    let deadline = Instant::now() + PATIENCE;
    let has_accesses = || fs::read_to_string(&file).is_ok_and(|text| text.contains("\"access\""));
    while !has_accesses() {
        assert!(Instant::now() < deadline, "nothing reaches the file while the guest is busy");
        thread::sleep(Duration::from_millis(5));
    }
    running.send(Signal::KILL);
    running.finish();
    let run = workdir.wasmsr(&["replay", "r.jsonl"]).exited(0);
    assert!(run.stdout.starts_with("r.jsonl: 0 of "), "{run}");
    assert!(!run.stdout.starts_with("r.jsonl: 0 of 0 "), "{run}");
    Ok(())
}

#[apply(test)]
fn a_run_that_is_told_to_end_ends_its_recording() -> Outcome {
    let workdir = five("r 1000 -> 5\nspin ->")?;
    let mut running = Running::start(wasmsr(&RECORD).current_dir(workdir.path()));
    running.wait_for("r 1000 -> 5");
    running.send(Signal::TERM);
    running.finish().exited(143).said(&["recorded 1 access to r.jsonl"]);
    let kinds = lines(&workdir.path().join("r.jsonl"));
    let kinds: Vec<&Value> = kinds.iter().filter_map(|line| line.pointer("/kind")).collect();
    assert_eq!(kinds, ["boot", "start", "access", "end"]);
    Ok(())
}

#[apply(test)]
fn a_limit_below_the_first_line_leaves_a_recording() -> Outcome {
    let workdir = five("r 1000 -> 5")?;
    let mut arguments = RECORD.to_vec();
    arguments.extend(["--record-limit", "1"]);
    for _ in 0..2 {
        workdir.wasmsr(&arguments).exited(guest_exit(0)).said(&["it has reached its limit, 1 B"]);
        let lines = lines(&workdir.path().join("r.jsonl"));
        let kinds: Vec<&Value> = lines.iter().filter_map(|line| line.pointer("/kind")).collect();
        assert_eq!(kinds, ["boot", "dropped"]);
    }
    workdir.wasmsr(&["recording", "stats", "r.jsonl"]).exited(0);
    // A full disk may cut off even the first line.
    let file = fs::read(workdir.path().join("r.jsonl")).expect("it is there");
    workdir.put("r.jsonl", &file[..100]);
    workdir.wasmsr(&RECORD).exited(guest_exit(0));
    Ok(())
}

#[apply(test)]
fn a_pipe_is_not_rewritten() -> Outcome {
    let workdir = recorded()?;
    pipe(&workdir);
    workdir.wasmsr(&["replay", "--bless", "pipe"]).refused(&["pipe is not a regular file"]);
    Ok(())
}

#[apply(test)]
fn a_recording_has_a_limit_and_the_run_goes_on() -> Outcome {
    const ALL: u64 = 0x1000;
    let workdir = five("times 1000 r 1000 -> 5")?;
    let mut arguments = RECORD.to_vec();
    arguments.extend(["--record-limit", "20KB"]);
    let run = workdir.wasmsr(&arguments).exited(guest_exit(0));
    let file = workdir.path().join("r.jsonl");
    let length = fs::metadata(&file).expect("it is there").len();
    // What it lacks is said in a line more.
    assert!((19_000..20_100).contains(&length), "{length}");
    let lines = lines(&file);
    let last = lines.last().expect("there are lines");
    let kept = lines.len() as u64 - 3;
    assert_eq!(last.pointer("/lines"), Some(&(ALL - kept).into()), "{last}");
    let missing = format!("; {} accesses and timers are missing", ALL - kept);
    let recorded = format!("recorded {kept} accesses to r.jsonl");
    run.said(&["it has reached its limit, ", &missing, "--record-limit", &recorded]);
    workdir.wasmsr(&["replay", "r.jsonl"]).exited(0);
    arguments.pop();
    arguments.push("much");
    workdir.wasmsr(&arguments).exited(2).said(&["--record-limit <SIZE>", "much"]);
    Ok(())
}

#[apply(test)]
fn a_full_device_is_counted_honestly() -> Outcome {
    let workdir = five("times 20 r 1000 -> 5")?;
    workdir.wasmsr(&["run", "vm.toml", "--record", "/dev/full"]).exited(guest_exit(0)).said(&[
        "recording /dev/full: No space left on device",
        "; 32 accesses and timers are missing",
        "recorded 0 accesses to /dev/full",
    ]);
    Ok(())
}

#[apply(test)]
fn a_folder_whose_name_is_not_text_is_recorded() -> Outcome {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let workdir = five("r 1000 -> 5")?;
    let folder = workdir.path().join(OsStr::from_bytes(b"o\xff"));
    fs::create_dir(&folder).expect("a folder can be made");
    for file in ["vm.toml", "five.wasm", "script.txt"] {
        fs::copy(workdir.path().join(file), folder.join(file)).expect("a file can be copied");
    }
    let mut command = wasmsr(&["run", "--record", "r.jsonl"]);
    let run = Running::start(command.arg(folder.join("vm.toml")).current_dir(workdir.path()));
    run.finish().exited(guest_exit(0)).said(&["recorded 1 access to r.jsonl"]);
    workdir.wasmsr(&["recording", "show", "r.jsonl"]).exited(0);
    workdir.wasmsr(&["replay", "r.jsonl", "--profile", "vm.toml"]).exited(0);
    Ok(())
}
