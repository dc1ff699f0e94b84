//! `run --summary`: a run that has ended, for programs.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::thread;
use std::time::Instant;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::Value;

use crate::fixture::{
    Outcome, PATIENCE, Plugin, Run, Skip, Vm, Workdir, apply, cannot_run_here, guest_exit,
    require_kvm, test,
};

/// Remembers what was written, and refuses 0xf.
const MEMORY: Plugin = Plugin {
    name: "memory",
    manifest: r#"msr = [{ range = "0x1000", access = "rw" }]"#,
    code: r#"
        (import "wasmsr" "outcome" (func $outcome (param i32)))
        (global $value (mut i64) (i64.const 0))
        (reads (global.get $value))
        (writes
            (if (i64.eq (local.get $value) (i64.const 0xf)) (then (call $outcome (i32.const 1))))
            (global.set $value (local.get $value)))
    "#,
};

/// The same, but its reads are always 7.
const SEVEN: Plugin =
    Plugin { name: "seven", manifest: MEMORY.manifest, code: "(reads (i64.const 7)) (writes)" };

fn summary(workdir: &Workdir) -> Value {
    let text = fs::read(workdir.path().join("s.json")).expect("there is a summary");
    serde_json::from_slice(&text).expect("it is JSON")
}

#[apply(test)]
fn it_says_what_the_tables_say() -> Outcome {
    let arguments = ["--summary", "s.json", "--record", "r.jsonl"];
    let vm = Vm::new().arguments(&arguments).plugin(&MEMORY);
    let vm = vm.plugin_with(&SEVEN, "shadow-of = \"memory\"");
    let script = "w 1000 3 -> ok\nr 1000 -> 3\nw 1000 f -> fault\nr 77777 -> fault";
    let (workdir, running) = vm.start(script)?;
    let run = running.finish().exited(guest_exit(0));
    let summary = summary(&workdir);
    assert_eq!(summary["exit_code"], guest_exit(0));
    let end = summary["end"].as_str().expect("it is text");
    assert!(run.stderr.contains(&format!("wasmsr: {end}\n")), "{end}\n{run}");
    assert_eq!(summary["boots"], 1);
    let rows = summary["msrs"].as_array().expect("it is a list");
    let row = |msr: &str| rows.iter().find(|row| row["msr"] == msr).expect("it has a row");
    let counts = |msr: &str| ["reads", "writes", "faults"].map(|key| row(msr)[key].as_u64());
    assert_eq!(counts("0x1000"), [Some(1), Some(2), Some(1)]);
    assert_eq!((&row("0x1000")["plugin"], counts("0x77777")[0]), (&"memory".into(), Some(1)));
    let shadow = &summary["shadows"][0];
    assert_eq!((&shadow["plugin"], &shadow["of"]), (&"seven".into(), &"memory".into()));
    assert_eq!((shadow["accesses"].as_u64(), shadow["answers"].as_u64()), (Some(3), Some(2)));
    let recording = &summary["recording"];
    assert_eq!((&recording["path"], &recording["dropped"]), (&"r.jsonl".into(), &0.into()));
    let recorded = format!("recorded {} accesses", recording["lines"]);
    assert!(run.stderr.contains(&recorded), "{recorded}\n{run}");
    Ok(())
}

#[apply(test)]
fn it_is_of_the_last_boot() -> Outcome {
    let vm = Vm::new().arguments(&["--summary", "s.json", "--max-boots", "3"]).plugin(&MEMORY);
    let (workdir, running) = vm.start("r 1000 -> 0\noutb 64 fe ->")?;
    workdir.put("s.json", r#"{"exit_code":0,"end":"an older one"}"#);
    running.finish().exited(14);
    let summary = summary(&workdir);
    assert_eq!((&summary["boots"], &summary["exit_code"]), (&3.into(), &14.into()));
    assert_eq!(summary["msrs"][0]["reads"], 1);
    assert!(summary["recording"].is_null());
    Ok(())
}

#[apply(test)]
fn a_run_that_cannot_boot_has_one() -> Outcome {
    require_kvm()?;
    let workdir = Workdir::new();
    workdir.put("vm.toml", "boot.image = \"missing\"");
    workdir.wasmsr(&["run", "vm.toml", "--summary", "s.json"]).refused(&["missing"]);
    let summary = summary(&workdir);
    assert_eq!((&summary["boots"], &summary["exit_code"]), (&0.into(), &2.into()));
    assert!(summary["end"].as_str().is_some_and(|end| end.contains("missing")), "{summary}");
    Ok(())
}

#[apply(test)]
fn one_that_cannot_be_written_starts_nothing() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("vm.toml", "boot.guest = \"hello\"");
    for path in ["no/such/s.json", "."] {
        let run = workdir.wasmsr(&["run", "vm.toml", "--summary", path]);
        run.refused(&["summary", path]);
    }
    Ok(())
}

#[apply(test)]
fn a_path_that_no_file_can_have_starts_nothing() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("vm.toml", "boot.guest = \"hello\"");
    workdir.put("file", "");
    symlink("loop", workdir.path().join("loop")).expect("a link can be made");
    symlink("none/", workdir.path().join("slash")).expect("a link can be made");
    for path in ["loop", "none/", "none/.", "file/", "slash"] {
        let run = workdir.wasmsr(&["run", "vm.toml", "--summary", path]);
        run.refused(&["cannot write the summary", path]);
    }
    Ok(())
}

#[apply(test)]
fn the_recording_is_another_file() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("vm.toml", "boot.guest = \"hello\"");
    let at = |name: &str| workdir.path().join(name);
    workdir.put("there", "");
    fs::hard_link(at("there"), at("hard")).expect("a link can be made");
    symlink("there", at("soft")).expect("a link can be made");
    symlink("new", at("dangling")).expect("a link can be made");
    for (summary, record) in [
        ("new", "./new"),
        ("there", "hard"),
        ("soft", "there"),
        ("dangling", "new"),
        ("/dev/stdout", "/dev/stdout"),
    ] {
        let run = workdir.wasmsr(&["run", "vm.toml", "--summary", summary, "--record", record]);
        run.refused(&["--summary and --record name one file"]);
    }
    assert!(!at("new").exists());
    Ok(())
}

/// A folder with a profile whose guest ends at once.
fn short() -> Result<Workdir, Skip> {
    require_kvm()?;
    Vm::new().plugin(&MEMORY).on_disk("r 1000 -> 0")
}

fn run_with(workdir: &Workdir, summary: &str) -> Run {
    workdir.wasmsr(&["run", "vm.toml", "--summary", summary])
}

#[apply(test)]
fn only_a_summary_is_replaced() -> Outcome {
    let workdir = short()?;
    for other in ["a letter", "{}", "{\"exit_code\":\"1\"}", "{\"kind\":\"boot\"}"] {
        workdir.put("s.json", other);
        let refusal = ["cannot write the summary s.json", "is not a summary; name another"];
        run_with(&workdir, "s.json").refused(&refusal);
        let there = fs::read(workdir.path().join("s.json")).expect("it is there");
        assert_eq!(there, other.as_bytes());
    }
    run_with(&workdir, "vm.toml").refused(&["is not a summary"]);
    workdir.put("s.json", "");
    let file = workdir.path().join("s.json");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("it is this user's");
    for _ in 0..2 {
        run_with(&workdir, "s.json").exited(guest_exit(0));
        assert_eq!(summary(&workdir)["boots"], 1);
    }
    let mode = fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "as a person has set it");
    let both = ["run", "vm.toml", "--record", "x", "--summary", "x"];
    workdir.wasmsr(&both).refused(&["--summary and --record name one file"]);
    Ok(())
}

#[apply(test)]
fn a_link_stays_a_link() -> Outcome {
    let workdir = short()?;
    fs::create_dir(workdir.path().join("below")).expect("folders can be made");
    let link = workdir.path().join("link");
    symlink("below/s.json", &link).expect("links can be made");
    // Nothing is at its end; then an older summary.
    for _ in 0..2 {
        run_with(&workdir, "link").exited(guest_exit(0));
        assert!(fs::symlink_metadata(&link).expect("it is there").is_symlink());
        let text = fs::read(workdir.path().join("below/s.json")).expect("there is a summary");
        assert!(text.starts_with(b"{\"exit_code\":1,"));
    }
    workdir.put("below/s.json", "a letter");
    run_with(&workdir, "link").refused(&["is not a summary"]);
    Ok(())
}

#[apply(test)]
fn a_pipe_takes_one_and_stays_a_pipe() -> Outcome {
    let workdir = short()?;
    let path = workdir.path().join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("pipes can be made");
    run_with(&workdir, "pipe").refused(&["pipe", "the pipe has no reader"]);
    let from = path.clone();
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        File::open(from)?.read_to_end(&mut text).map(|_| text)
    });
    // The reader may come a moment later.
    let deadline = Instant::now() + PATIENCE;
    let run = loop {
        let run = run_with(&workdir, "pipe");
        if run.code != Some(2) || Instant::now() > deadline {
            break run;
        }
    };
    run.exited(guest_exit(0));
    let text = reader.join().expect("it does not panic").expect("a pipe can be read");
    assert!(serde_json::from_slice::<Value>(&text).is_ok_and(|summary| summary["boots"] == 1));
    let there = fs::symlink_metadata(&path).expect("it is there");
    assert!(there.file_type().is_fifo());
    Ok(())
}

#[apply(test)]
fn a_device_stays_a_device() -> Outcome {
    let workdir = short()?;
    let device = workdir.path().join("null");
    let null = makedev(1, 3);
    if mknodat(CWD, &device, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, null).is_err() {
        return cannot_run_here("only root makes devices");
    }
    if File::options().write(true).open(&device).is_err() {
        return cannot_run_here("this file system has no devices");
    }
    run_with(&workdir, "null").exited(guest_exit(0));
    let there = fs::symlink_metadata(&device).expect("it is there");
    assert!(there.file_type().is_char_device());
    Ok(())
}

#[apply(test)]
fn standard_output_takes_one_behind_the_guests() -> Outcome {
    let workdir = short()?;
    // What /dev/stdout is a link to, where a distribution makes it.
    let run = run_with(&workdir, "/proc/self/fd/1").exited(guest_exit(0));
    let (guest, summary) = run.stdout.split_once('\n').expect("there are two lines");
    assert_eq!(guest, "r 1000 -> 0");
    assert!(summary.starts_with("{\"exit_code\":1,"), "{run}");
    Ok(())
}

#[apply(test)]
fn an_expected_end_has_code_0() -> Outcome {
    let workdir = short()?;
    let run = |expect: &str| {
        workdir.wasmsr(&["run", "vm.toml", "--summary", "s.json", "--expect", expect])
    };
    for expect in ["0", "0x0", "success", "3,success"] {
        run(expect).exited(0);
        assert_eq!(summary(&workdir)["exit_code"], 0, "{expect}");
    }
    for expect in ["1", "256", "power-off", "reset"] {
        run(expect).exited(18).said(&["this is not the end that --expect names"]);
        assert_eq!(summary(&workdir)["exit_code"], 18, "{expect}");
    }
    run("well").exited(2).said(&["--expect <END>", "well", "`success`"]);
    let reset = Vm::new().arguments(&["--expect", "reset", "--on-reboot", "exit"]);
    reset.run("outb 64 fe ->")?.exited(0);
    let halts = Vm::new().arguments(&["--expect", "success"]);
    halts.run("halt ->")?.exited(6);
    Ok(())
}
