//! What plugins leave in the log: last words, and what there was no room for.

use std::cell::RefCell;
use std::fmt::{Debug, Write};
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use wasmsr_engine::VcpuDispatch;
use wasmsr_interface::{MsrHandler, MsrOp, Outcome, Reason};

use crate::fixture::{Setup, access, plugin, read, start, write};

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Keeps the text of each line of a thread that wants it. There is one for all tests,
/// since what a line's place in the code is told to be of interest is kept for all threads.
struct Lines;

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                if field.name() == "message" {
                    write!(self.0, "{value:?}").unwrap();
                }
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                lines.push(text.0);
            }
        });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The lines that `f` logs on this thread.
pub(crate) fn logged(f: impl FnOnce()) -> Vec<String> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Lines).unwrap());
    LINES.set(Some(Vec::new()));
    f();
    LINES.take().unwrap_or_default()
}

#[track_caller]
fn one_with(lines: &[String], parts: &[&str]) {
    let found = lines.iter().filter(|line| parts.iter().all(|part| line.contains(part)));
    assert_eq!(found.count(), 1, "{parts:?} in {lines:#?}");
}

/// A plugin with an export that logs `boom` as an error, and traps as a panic does.
fn panics(export: &str) -> Vec<u8> {
    let manifest = "[[msr]]\nrange = \"0x10\"\naccess = \"r\"\n[needs]\ncapabilities = [\"timer\"]";
    let read = match export {
        "(export \"timer\")" => {
            "(drop (call $timer (i64.const 1)))
             (i64.const 0)"
        }
        _ => "(i64.const 0)",
    };
    let result =
        match export.contains("init") || export.contains("save") || export.contains("store") {
            true => "(result i32)",
            false => "",
        };
    let parameter = if export.contains("init") { "(param i32)" } else { "" };
    plugin(
        "panics",
        manifest,
        &format!(
            "(import \"wasmsr\" \"log\" (func $log (param i32 i32 i32)))
             (import \"wasmsr\" \"timer\" (func $timer (param i64) (result i32)))
             (data (i32.const 0) \"early, boom\")
             (func {export} {parameter} {result}
               (call $log (i32.const 1) (i32.const 0) (i32.const 5))
               (call $log (i32.const 1) (i32.const 7) (i32.const 4))
               (unreachable))
             (func (export \"rdmsr\") (param i32 i32 i32) (result i64) {read})"
        ),
    )
}

fn setup(export: &str) -> Setup {
    Setup::new().with("p.wasm", panics(export), "grant = [\"timer\"]")
}

#[test]
fn a_panic_at_the_start_gives_its_text() {
    let error = setup("(export \"init\")").load().unwrap().dry_run(1).unwrap_err().to_string();
    assert!(error.contains("it trapped: wasm `unreachable`"), "{error}");
    assert!(error.contains("; it logged: boom"), "{error}");
}

#[test]
fn a_panic_in_a_reset_a_timer_or_a_report_gives_its_text() {
    let cases: [(&str, &str, fn(&mut VcpuDispatch)); 3] = [
        ("(export \"reset\")", "in its reset on vCPU 0", |vcpu| vcpu.reset().unwrap()),
        ("(export \"report\")", "in its report", MsrHandler::end),
        ("(export \"timer\")", "in its timer on vCPU 0", |vcpu| {
            assert_eq!(read(vcpu, 0x10), Outcome::Value(0));
            vcpu.wake();
        }),
    ];
    for (export, place, act) in cases {
        let lines = logged(|| {
            let (mut started, host) = setup(export).start(1);
            host.tick.store(2_000_000, std::sync::atomic::Ordering::Relaxed);
            act(&mut started.vcpus[0]);
        });
        one_with(&lines, &["plugin panics failed", place, "it trapped", "; it logged: boom"]);
        // Of two errors only one fits into the sentence.
        one_with(&lines, &["plugin panics: early"]);
    }
}

#[test]
fn a_panic_while_state_is_saved_or_restored_gives_its_text() {
    let setup = setup("(export \"save\")");
    let engine = setup.load().unwrap();
    let (mut started, _) = start(&engine, 1);
    let error = engine.save(&mut started.vcpus).unwrap_err();
    let text = format!(
        "{error}: {}",
        std::error::Error::source(&error).map_or_else(String::new, ToString::to_string)
    );
    assert!(text.contains("; it logged: boom"), "{text}");
    // The instance is in no defined state.
    assert!(started.vcpus[0].instances().is_empty());
}

/// Reads of 0x10 log a line of this level ten times; reads of 0x11 log once, and trap.
fn talks(level: u32) -> Vec<u8> {
    let said = "(call $log (i32.const 3) (i32.const 0) (i32.const 4))".repeat(10);
    plugin(
        "talks",
        "[[msr]]\nrange = \"0x10-0x11\"\naccess = \"r\"",
        &format!(
            "(import \"wasmsr\" \"log\" (func $log (param i32 i32 i32)))
             (data (i32.const 0) \"talkboom\")
             (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
               (if (i32.eq (local.get 0) (i32.const 0x11)) (then
                 (call $log (i32.const {level}) (i32.const 4) (i32.const 4)) (unreachable)))
               {said} (i64.const 0))"
        ),
    )
}

#[test]
fn the_last_words_of_a_plugin_that_talks_too_much_are_not_lost() {
    let lines = logged(|| {
        let mut vcpu = Setup::new().with("p.wasm", talks(1), "").one();
        for index in [0x10, 0x10, 0x10, 0x11] {
            let _ = read(&mut vcpu, index);
        }
        vcpu.end();
    });
    assert_eq!(lines.iter().filter(|line| *line == "plugin talks: talk").count(), 20);
    one_with(&lines, &["failed at the read of 0x11", "; it logged: boom"]);
    one_with(&lines, &["plugin talks: 11 log lines were dropped"]);
}

#[test]
fn an_error_of_an_earlier_access_is_not_the_last_word() {
    let lines = logged(|| {
        let mut vcpu = Setup::new().with("p.wasm", talks(3), "").one();
        for index in [0x10, 0x10, 0x11] {
            let _ = read(&mut vcpu, index);
        }
        drop(vcpu);
    });
    let failed = lines.iter().find(|line| line.contains("failed at the read of 0x11")).unwrap();
    assert!(!failed.contains("it logged"), "{failed}");
    // Also without a call of `end`.
    one_with(&lines, &["plugin talks: 1 log line was dropped"]);
}

#[test]
fn failures_without_a_line_are_counted_at_the_end() {
    let lines = logged(|| {
        let mut vcpu = Setup::new().with("p.wasm", talks(4), "").one();
        for _ in 0..1000 {
            let _ = read(&mut vcpu, 0x11);
        }
        vcpu.end();
    });
    let failed = lines.iter().filter(|line| line.contains("failed at the read")).count();
    assert!((10..14).contains(&failed), "{failed}");
    one_with(&lines, &["plugin talks: ", "failures were not reported"]);
}

/// KVM's own line about an unhandled access has both.
#[test]
fn an_unhandled_access_is_logged_with_value_and_place() {
    let setup = Setup::new().with("p.wasm", talks(3), "");
    let lines = logged(|| {
        let mut started = setup.start(2).0;
        let _ = access(&mut started.vcpus[1], 0x4000_fff1, MsrOp::Read, Reason::Unknown);
        let write = MsrOp::Write(0x2000_000f);
        let _ = access(&mut started.vcpus[0], 0x4000_fff1, write, Reason::Invalid);
    });
    one_with(
        &lines,
        &["the read of 0x4000fff1 is unhandled (reason unknown, vCPU 1 at RIP 0x100001)"],
    );
    one_with(
        &lines,
        &["the write of 0x4000fff1 with 0x2000000f is unhandled (reason invalid, vCPU 0 at RIP \
           0x100000): fault"],
    );
}

#[test]
fn a_failure_is_logged_with_value_and_place() {
    let body = "(func (export \"rdmsr\") (param i32 i32 i32) (result i64) (unreachable))
        (func (export \"wrmsr\") (param i32 i64 i32 i32) (loop (br 0)))";
    let bytes = plugin("bad", "[[msr]]\nrange = \"0x4000fff1\"", body);
    let lines = logged(|| {
        let mut vcpu = Setup::new().with("p.wasm", &bytes, "").one();
        let _ = (read(&mut vcpu, 0x4000_fff1), write(&mut vcpu, 0x4000_fff1, 0x2b));
    });
    one_with(&lines, &["bad failed at the read of 0x4000fff1 on vCPU 0 at RIP 0x100000: it trap"]);
    one_with(
        &lines,
        &["bad failed at the write of 0x4000fff1 with 0x2b on vCPU 0 at RIP 0x100000"],
    );
    let mut vcpu = Setup::new().with("p.wasm", bytes, "on-failure = \"stop\"").one();
    let Outcome::Stop(text) = write(&mut vcpu, 0x4000_fff1, 0x2b) else { panic!("no stop") };
    assert!(text.starts_with("plugin bad failed at the write of 0x4000fff1 with 0x2b: "), "{text}");
}
