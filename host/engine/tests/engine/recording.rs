//! Recordings, and the plugins run again on them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use wasmsr_engine::record::{AccessLine, Line, Lines, Op, RecordingWriter};
use wasmsr_engine::replay::Replay;
use wasmsr_interface::{Host, MsrHandler, MsrIndex, Outcome, OutcomeKind, VcpuId};

use crate::busy::{GRANT, busy};
use crate::fixture::{Setup, TestHost, plugin, read, write};
use crate::recorded::{Buffer, accesses, one, record, replay};

#[test]
fn a_replay_is_exact_with_nothing_of_the_first_host() {
    for scope in ["vcpu", "vm"] {
        let setup = one(scope, 0);
        let (file, end) = record(&setup, |started, host| {
            host.memory.lock().unwrap()[0x1000] = 9;
            accesses(&mut started.vcpus[0], 400, 1);
            host.memory.lock().unwrap()[0x1001] = 8;
            accesses(&mut started.vcpus[1], 400, 2);
            accesses(&mut started.vcpus[0], 400, 3);
        });
        assert!(end.stopped.is_none());
        let lines = file.lines();
        let counted = end.accesses + end.wakes;
        assert_eq!(counted, lines.len() as u64 - 3, "all but boot, start and end");
        assert_eq!(end.bytes, file.len());
        let kinds = |kind: fn(&AccessLine) -> bool| {
            lines.iter().filter(|line| matches!(line, Line::Access(a) if kind(a))).count()
        };
        assert!(kinds(|a| a.failed) > 10 && kinds(|a| a.outcome == OutcomeKind::Kernel) > 10);
        assert!(lines.iter().any(|line| matches!(line, Line::Wake(w) if w.calls.len() > 3)));

        let (again, different, unmatched) = replay(setup.load().unwrap(), &lines);
        assert_eq!((different, unmatched), (Vec::new(), 0), "{scope}");
        assert_eq!(again, lines, "{scope}: not even a host call differs");
    }
}

#[test]
fn vcpus_that_share_a_plugin_are_recorded_in_its_order() {
    let setup = one("vm", 0);
    let (file, _) = record(&setup, |started, _| {
        thread::scope(|scope| {
            for (seed, vcpu) in (5..).zip(&mut started.vcpus) {
                scope.spawn(move || accesses(vcpu, 3_000, seed));
            }
        });
    });
    let lines = file.lines();
    let vcpus: Vec<u32> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Access(access) => Some(access.vcpu),
            _ => None,
        })
        .collect();
    assert!(vcpus.windows(2).filter(|pair| pair[0] != pair[1]).count() > 1, "they took turns");
    let (again, different, unmatched) = replay(setup.load().unwrap(), &lines);
    assert_eq!((different, unmatched), (Vec::new(), 0));
    assert_eq!(again, lines);
}

#[test]
fn another_plugin_answers_otherwise_and_a_replay_says_where() {
    let (file, _) = record(&one("vcpu", 0), |started, _| accesses(&mut started.vcpus[0], 300, 4));
    let lines = file.lines();
    let (_, different, _) = replay(one("vcpu", 1).load().unwrap(), &lines);
    let sums = |access: &AccessLine| access.msr.0 == 0x10 && !access.failed;
    let expected = lines.iter().filter(|line| matches!(line, Line::Access(a) if sums(a))).count();
    assert!(expected > 50 && different.len() == expected, "{} of {expected}", different.len());
    assert!(different.iter().all(sums));
}

#[test]
fn a_plugin_that_asks_otherwise_changes_no_other() {
    // Asks for the time so often when it starts.
    let asks = |times: u32| {
        let body = format!(
            "(import \"wasmsr\" \"monotonic_ns\" (func $ns (result i64)))
             (func (export \"init\") (param i32) (result i32) (local $left i32)
                (local.set $left (i32.const {times}))
                (block (loop
                    (br_if 1 (i32.eqz (local.get $left)))
                    (drop (call $ns))
                    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                    (br 0)))
                (i32.const 0))
             (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 5))"
        );
        plugin("asks", "[[msr]]\nrange = \"0x500\"\naccess = \"r\"", &body)
    };
    let both = |times| {
        let setup = Setup::new().with("asks.wasm", asks(times), "");
        setup.with("p.wasm", busy("busy", "vcpu", 0), GRANT)
    };
    let (file, _) = record(&both(100), |started, _| accesses(&mut started.vcpus[0], 50, 4));
    let (_, different, unmatched) = replay(both(0).load().unwrap(), &file.lines());
    assert_eq!((different, unmatched), (Vec::new(), 0));
}

#[test]
fn what_a_kernel_answers_is_recorded() {
    let (file, _) = record(&one("vcpu", 0), |started, host| {
        assert_eq!(read(&mut started.vcpus[0], 0x11), Outcome::Fault, "KVM has none");
        host.msrs.lock().unwrap().insert((VcpuId(0), MsrIndex(0x11)), 7);
        assert_eq!(read(&mut started.vcpus[0], 0x11), Outcome::Value(7));
    });
    let lines = file.lines();
    let accesses: Vec<_> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Access(a) => Some((a.outcome, a.value.map(|value| value.0), a.plugin.clone())),
            _ => None,
        })
        .collect();
    let busy = Some("busy".to_owned());
    assert_eq!(
        accesses,
        [(OutcomeKind::Kernel, None, busy.clone()), (OutcomeKind::Kernel, Some(7), busy)]
    );
}

#[test]
fn a_kernel_gets_a_write_once_and_what_it_says_is_recorded() {
    let left = plugin(
        "left",
        "[[msr]]\nrange = \"0x11\"\naccess = \"w\"\n[[msr]]\nrange = \"0xbad\"\naccess = \"w\"",
        "(import \"wasmsr\" \"outcome\" (func $outcome (param i32)))
         (func (export \"wrmsr\") (param i32 i64 i32 i32) (call $outcome (i32.const 3)))",
    );
    let setup = Setup::new().with("p.wasm", left, "");
    let (file, _) = record(&setup, |started, host| {
        let vcpu = &mut started.vcpus[0];
        assert_eq!(write(vcpu, 0x11, 7), Outcome::Done, "the VMM has nothing left to do");
        assert_eq!(host.msrs.lock().unwrap()[&(VcpuId(0), MsrIndex(0x11))], 7);
        assert_eq!(write(vcpu, 0xbad, 8), Outcome::Fault);
    });
    let lines = file.lines();
    let accesses: Vec<_> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Access(a) => Some((a.outcome, a.value.map(|value| value.0), a.refused)),
            _ => None,
        })
        .collect();
    assert_eq!(
        accesses,
        [(OutcomeKind::Kernel, Some(7), false), (OutcomeKind::Kernel, Some(8), true)]
    );
    assert_eq!(replay(setup.load().unwrap(), &lines).0, lines);
}

#[test]
fn intercepts_and_timers_are_recorded_and_compared() {
    const LATE: u64 = 1 << 40;
    let manifest = "[[msr]]\nrange = \"0x10\"\n[[msr]]\nrange = \"0x20-0x2f\"\naccess = \"r\"\n\
                    intercept = \"off\"\n[needs]\ncapabilities = [\"intercept\", \"timer\"]";
    let setup = |last: u32, at: u64| {
        let body = format!(
            "(import \"wasmsr\" \"intercept\" (func $intercept (param i32 i32 i32 i32) (result i32)))
             (import \"wasmsr\" \"timer\" (func $timer (param i64) (result i32)))
             (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
                (i64.extend_i32_u (call $timer (i64.const {at}))))
             (func (export \"wrmsr\") (param i32 i64 i32 i32)
                (drop (call $intercept (i32.const 0x20) (i32.const {last}) (i32.const 1) (i32.const 1))))"
        );
        let bytes = plugin("p", manifest, &body);
        Setup::new().with("p.wasm", bytes, "grant = [\"intercept\", \"timer\"]")
    };
    let (file, _) = record(&setup(0x21, LATE), |started, _| {
        let _ = write(&mut started.vcpus[0], 0x10, 0);
        let _ = read(&mut started.vcpus[0], 0x10);
    });
    let text = String::from_utf8(file.bytes()).unwrap();
    assert!(text.contains(r#""call":"set_exits","msrs":"0x20-0x21","directions":"r","on":true"#));
    let lines = file.lines();
    let different = |setup: Setup| -> Vec<Op> {
        let (_, different, _) = replay(setup.load().unwrap(), &lines);
        different.iter().map(|access| access.op).collect()
    };
    assert!(different(setup(0x21, LATE)).is_empty());
    assert_eq!(different(setup(0x22, LATE)), [Op::Write]);
    assert_eq!(different(setup(0x21, LATE + 1)), [Op::Read]);
}

#[test]
fn a_start_line_is_cut_however_many_vcpus_there_are() {
    let body = "(import \"wasmsr\" \"guest_read\" (func $read (param i64 i32 i32) (result i32)))
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 0))
         (func (export \"init\") (param i32) (result i32) (local $left i32)
            (local.set $left (i32.const 15))
            (loop $next
                (drop (call $read (i64.const 0) (i32.const 0) (i32.const 65536)))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br_if $next (local.get $left)))
            (i32.const 0))";
    let manifest =
        "[[msr]]\nrange = \"0x10\"\naccess = \"r\"\n[needs]\ncapabilities = [\"guest-memory\"]";
    let keys = "grant = [\"guest-memory\"]";
    let setup = Setup::new().with("p.wasm", plugin("greedy", manifest, body), keys);
    let file = Buffer::default();
    let recording = RecordingWriter::begin(file.clone(), u64::MAX).unwrap();
    let host: Arc<dyn Host> = Arc::new(TestHost::default());
    let engine = setup.load().unwrap();
    drop(engine.start_recorded(&host, 16, recording.recorder()).unwrap());
    recording.finish();
    let lines = file.lines();
    assert!(matches!(&lines[1], Line::Start(start) if start.cut && start.calls.len() > 10));
    assert!(file.len() < 4 << 20);
    assert_eq!(replay(engine, &lines).0, lines);
}

#[test]
fn a_boot_that_does_not_start_takes_no_number() {
    let bad = plugin(
        "bad",
        "[[msr]]\nrange = \"0x10\"\naccess = \"r\"",
        "(func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 0))
         (func (export \"init\") (param i32) (result i32) (i32.const 1))",
    );
    let file = Buffer::default();
    let recording = RecordingWriter::begin(file.clone(), u64::MAX).unwrap();
    let host: Arc<dyn Host> = Arc::new(TestHost::default());
    let good = one("vcpu", 0);
    for setup in [&good, &Setup::new().with("p.wasm", bad, ""), &good] {
        let _ = setup.load().unwrap().start_recorded(&host, 1, recording.recorder());
    }
    recording.finish();
    let boots = file.lines().into_iter().filter_map(|line| match line {
        Line::Boot(boot) => Some(boot.boot),
        _ => None,
    });
    assert_eq!(boots.collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn plugins_that_do_not_start_leave_no_boot() {
    let trap = "(func (export \"init\") (param i32) (result i32) unreachable)
        (func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 5))";
    let manifest = "[[msr]]\nrange = \"0x10\"\naccess = \"r\"";
    let broken = Setup::new().with("p.wasm", plugin("broken", manifest, trap), "");
    let file = Buffer::default();
    let recording = RecordingWriter::begin(file.clone(), u64::MAX).unwrap();
    let host: Arc<dyn Host> = Arc::new(TestHost::default());
    assert!(broken.load().unwrap().start_recorded(&host, 1, recording.recorder()).is_err());
    one("vcpu", 0).load().unwrap().start_recorded(&host, 1, recording.recorder()).unwrap();
    recording.finish();
    let [Line::Boot(boot), Line::Start(_)] = &file.lines()[..] else { panic!() };
    assert_eq!((boot.boot, boot.plugins[0].name.as_str()), (1, "busy"));
}

#[test]
fn an_edited_recording_is_refused_with_the_reason() {
    let (file, _) = record(&one("vcpu", 0), |started, _| accesses(&mut started.vcpus[0], 9, 1));
    let lines = file.lines();
    let engine = Arc::new(one("vcpu", 0).load().unwrap());
    let Line::Boot(boot) = &lines[0] else { panic!() };
    let access = lines.iter().find_map(|line| match line {
        Line::Access(access) => Some(access.clone()),
        _ => None,
    });
    let access = access.unwrap();
    let refused = |lines: &[Line], part: &str| {
        let mut replay = Replay::new(engine.clone());
        let error = lines.iter().find_map(|line| replay.step(line).err()).unwrap().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(&lines[1..], "where no boot has begun");
    refused(&[lines[0].clone(), Line::Access(access.clone())], "where no boot has begun");
    let far = Line::Access(AccessLine { vcpu: 2, ..access.clone() });
    refused(&[lines[0].clone(), lines[1].clone(), far], "on vCPU 2, but the boot has 2");
    let op = Op::Write;
    let nothing = Line::Access(AccessLine { op, value: None, ..access });
    refused(&[lines[0].clone(), lines[1].clone(), nothing], "without a `value`");
    let mut many = boot.clone();
    many.vcpus = u32::MAX;
    refused(&[Line::Boot(many)], "more than the 255");
}

#[test]
fn a_plugin_that_reads_without_end_is_cut_in_the_recording() {
    let body = "(import \"wasmsr\" \"guest_read\" (func $read (param i64 i32 i32) (result i32)))
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
            (loop (drop (call $read (i64.const 0) (i32.const 0) (i32.const 65536))) (br 0))
            (i64.const 0))";
    let manifest =
        "[[msr]]\nrange = \"0x10\"\naccess = \"r\"\n[needs]\ncapabilities = [\"guest-memory\"]";
    let bytes = plugin("greedy", manifest, body);
    let keys = "grant = [\"guest-memory\"]\nfuel = 10000000";
    let setup = Setup::new().with("p.wasm", bytes, keys);
    let (file, _) = record(&setup, |started, _| {
        assert_eq!(read(&mut started.vcpus[0], 0x10), Outcome::Fault);
    });
    let lines = file.lines();
    assert!(lines.iter().any(|line| matches!(line, Line::Access(a) if a.cut && a.failed)));
    assert!(file.len() < 4 << 20);
}

#[test]
fn an_access_has_its_place_and_a_recording_without_it_can_be_replayed() {
    let (file, _) = record(&one("vcpu", 0), |started, _| accesses(&mut started.vcpus[1], 9, 1));
    let lines = file.lines();
    let rips = lines.iter().filter_map(|line| match line {
        Line::Access(access) => Some(access.rip.map(|rip| rip.0)),
        _ => None,
    });
    assert!(rips.clone().count() > 0 && rips.clone().all(|rip| rip == Some(0x10_0001)));
    let text = String::from_utf8(file.bytes()).unwrap();
    assert!(text.contains(r#""rip":"0x100001""#), "{text}");

    let old = text.replace(r#""rip":"0x100001","#, "");
    assert!(!old.contains("rip"), "{old}");
    let old: Vec<_> =
        Lines::new(old.as_bytes(), Path::new("old.jsonl")).map(|line| line.unwrap().1).collect();
    let mut replay = Replay::new(Arc::new(one("vcpu", 0).load().unwrap()));
    for (old, new) in old.iter().zip(&lines) {
        let came = replay.step(old).unwrap();
        if let (Line::Access(came), Line::Access(new)) = (&came, new) {
            assert_eq!(came.rip, None);
            assert!(came.answered_as(new));
        }
    }
}

/// A plugin whose timer, reset and report fail.
fn failing() -> Setup {
    let manifest = "[[msr]]\nrange = \"0x10\"\naccess = \"r\"\n[needs]\ncapabilities = [\"timer\"]";
    let body = "(import \"wasmsr\" \"timer\" (func $timer (param i64) (result i32)))
        (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
            (i64.extend_i32_u (call $timer (i64.const 1))))
        (func (export \"timer\") (unreachable))
        (func (export \"reset\") (unreachable))
        (func (export \"report\") (unreachable))";
    Setup::new().with("p.wasm", plugin("failing", manifest, body), "grant = [\"timer\"]")
}

#[test]
fn failures_at_no_access_are_in_the_recording() {
    let (file, _) = record(&failing(), |started, host| {
        host.tick.store(2_000_000, Ordering::Relaxed);
        let vcpu = &mut started.vcpus[1];
        assert_eq!(read(vcpu, 0x10), Outcome::Value(0));
        vcpu.wake();
        // Nothing is due now.
        vcpu.wake();
        started.vcpus[0].reset().unwrap();
        assert_eq!(read(&mut started.vcpus[1], 0x10), Outcome::Value(0));
    });
    let lines = file.lines();
    let wakes = lines.iter().filter_map(|line| match line {
        Line::Wake(wake) => Some(wake.failed.clone()),
        _ => None,
    });
    assert_eq!(wakes.collect::<Vec<_>>(), [vec!["failing".to_owned()], Vec::new()]);
    // The reset of vCPU 0, and the reports of both; the report of the second comes after
    // the end of the first vCPU.
    let Some(Line::End(end)) = lines.last() else { panic!("{lines:#?}") };
    assert_eq!(end.failed, ["failing"; 3]);

    // A replay has the same failure, and a plugin that has mended it differs.
    let mut replay = Replay::new(Arc::new(failing().load().unwrap()));
    for line in &lines {
        let came = replay.step(line).unwrap();
        if let (Line::Wake(came), Line::Wake(was)) = (&came, line) {
            assert!(came.changed_as(was), "{came:?}");
        }
    }
}
