//! Recordings, and the plugins run again on them.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use wasmsr_engine::record::{AccessLine, Line, Lines, Op, RecordingEnd, RecordingWriter, Stopped};
use wasmsr_engine::replay::Replay;
use wasmsr_engine::{Engine, Started};
use wasmsr_interface::{Host, MsrHandler, MsrIndex, MsrOp, Outcome, OutcomeKind, Reason, VcpuId};

use crate::busy::{GRANT, busy};
use crate::fixture::{Setup, TestHost, access, plugin, read, write};

/// A file in memory.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn len(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    fn lines(&self) -> Vec<Line> {
        let bytes = self.0.lock().unwrap().clone();
        Lines::new(&bytes[..], Path::new("r.jsonl")).map(|line| line.unwrap().1).collect()
    }
}

/// Records what `run` does with two vCPUs.
fn record(setup: &Setup, run: impl FnOnce(&mut Started, &TestHost)) -> (Buffer, RecordingEnd) {
    let file = Buffer::default();
    let recording = RecordingWriter::begin(file.clone(), u64::MAX).unwrap();
    let host = Arc::new(TestHost::default());
    host.tick.store(400_000, Ordering::Relaxed);
    let shared: Arc<dyn Host> = host.clone();
    let engine = setup.load().unwrap();
    let mut started = engine.start_recorded(&shared, 2, recording.recorder()).unwrap();
    run(&mut started, &host);
    started.vcpus.iter_mut().for_each(MsrHandler::end);
    drop(started);
    (file, recording.finish())
}

fn one(scope: &str, more: u64) -> Setup {
    Setup::new().with("p.wasm", busy("busy", scope, more), GRANT)
}

/// Accesses of every kind on `vcpu`, chosen by a linear congruence.
fn accesses(vcpu: &mut wasmsr_engine::VcpuDispatch, count: u32, mut seed: u64) {
    for _ in 0..count {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pick = (seed >> 33) as u32;
        match pick % 8 {
            0..3 => drop(read(vcpu, 0x10)),
            3 => drop(read(vcpu, 0x11)),
            4 => drop(read(vcpu, 0x12)),
            5 if pick.is_multiple_of(5) => drop(write(vcpu, 0x10, 0xdead)),
            5 if pick.is_multiple_of(7) => drop(write(vcpu, 0x10, 0xf0e1)),
            5 | 6 => drop(write(vcpu, 0x10, seed)),
            _ if pick.is_multiple_of(3) => vcpu.wake(),
            _ => drop(access(vcpu, 0x500, MsrOp::Write(seed), Reason::Unknown)),
        }
    }
}

/// Every line again, and those accesses whose answers differ.
fn replay(engine: Engine, lines: &[Line]) -> (Vec<Line>, Vec<AccessLine>, u64) {
    let mut replay = Replay::new(Arc::new(engine));
    let mut different = Vec::new();
    let again = lines.iter().map(|line| {
        let came = replay.step(line).unwrap();
        if let (Line::Access(was), Line::Access(is)) = (line, &came)
            && !is.answered_as(was)
        {
            different.push(is.clone());
        }
        came
    });
    (again.collect(), different, replay.unmatched())
}

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
    let text = String::from_utf8(file.0.lock().unwrap().clone()).unwrap();
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
    assert!(file.0.lock().unwrap().len() < 4 << 20);
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

/// A file that takes nothing until it is told.
struct Stuck(Receiver<()>, Buffer);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Fails once the test has let go.
        let _ = self.0.recv();
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_is_stuck_holds_no_vcpu_up_and_what_is_dropped_is_counted() {
    const ACCESSES: u64 = 200_000;
    let constant = plugin(
        "constant",
        "[[msr]]\nrange = \"0x10\"\naccess = \"r\"",
        "(func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 5))",
    );
    let setup = Setup::new().with("p.wasm", constant, "");
    let (go, stuck): (Sender<()>, _) = channel();
    let file = Buffer::default();
    let recording = RecordingWriter::begin(Stuck(stuck, file.clone()), u64::MAX).unwrap();
    let host: Arc<dyn Host> = Arc::new(TestHost::default());
    let engine = setup.load().unwrap();
    let mut started = engine.start_recorded(&host, 1, recording.recorder()).unwrap();
    for _ in 0..ACCESSES {
        assert_eq!(read(&mut started.vcpus[0], 0x10), Outcome::Value(5));
    }
    drop(go);
    started.vcpus[0].end();
    let end = recording.finish();
    assert!(end.stopped.is_none() && end.dropped > 0, "{end:?}");
    assert_eq!(end.accesses + end.dropped, ACCESSES);
    let lines = file.lines();
    let dropped = lines.iter().map(|line| match line {
        Line::Dropped(dropped) => dropped.lines,
        _ => 0,
    });
    assert_eq!(dropped.sum::<u64>(), end.dropped);
    let Some(Line::End(last)) = lines.last() else { panic!("{:?}", lines.last()) };
    assert_eq!((last.lines, last.dropped), (end.accesses, end.dropped));
}

#[test]
fn the_end_of_a_run_does_not_wait_for_a_file_that_is_stuck() {
    let (_go, stuck): (Sender<()>, _) = channel();
    let file = Buffer::default();
    let recording = RecordingWriter::begin(Stuck(stuck, file.clone()), u64::MAX).unwrap();
    let host: Arc<dyn Host> = Arc::new(TestHost::default());
    let engine = one("vcpu", 0).load().unwrap();
    // Beyond what has room, boots included.
    for _ in 0..600 {
        let mut started = engine.start_recorded(&host, 1, recording.recorder()).unwrap();
        accesses(&mut started.vcpus[0], 200, 1);
        started.vcpus[0].end();
    }
    let end = recording.finish();
    assert!(matches!(end.stopped, Some(Stopped::Stuck)), "{end:?}");
    assert_eq!((end.accesses, end.bytes), (0, 0));
    assert!(end.dropped > 600 * 150, "all that there were: {end:?}");
}

/// Sends what it is written.
struct Sent(Sender<Vec<u8>>);

impl Write for Sent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Fails once the test has seen enough.
        let _ = self.0.send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_reach_the_file_while_more_come_without_a_pause() {
    let (file, written) = channel();
    let recording = RecordingWriter::begin(Sent(file), u64::MAX).unwrap();
    let host: Arc<dyn Host> = Arc::new(TestHost::default());
    let engine = one("vcpu", 0).load().unwrap();
    let mut started = engine.start_recorded(&host, 1, recording.recorder()).unwrap();
    // Too few to fill a buffer, and no pause in which it would be written.
    let early = (0..10_000).find_map(|_| {
        accesses(&mut started.vcpus[0], 1, 0);
        thread::sleep(Duration::from_millis(5));
        written.try_recv().ok()
    });
    assert!(early.is_some_and(|bytes| bytes.len() < 100_000));
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
fn a_recording_ends_at_its_limit_with_a_whole_line_and_says_what_it_lacks() {
    const LIMIT: u64 = 50_000;
    let file = Buffer::default();
    let recording = RecordingWriter::begin(file.clone(), LIMIT).unwrap();
    let host: Arc<dyn Host> = Arc::new(TestHost::default());
    let engine = one("vcpu", 0).load().unwrap();
    let mut started = engine.start_recorded(&host, 1, recording.recorder()).unwrap();
    accesses(&mut started.vcpus[0], 2_000, 1);
    started.vcpus[0].end();
    let end = recording.finish();
    assert!(matches!(end.stopped, Some(Stopped::Limit(LIMIT))), "{end:?}");
    let lines = file.lines();
    let Some((Line::Dropped(last), before)) = lines.split_last() else { panic!() };
    assert_eq!(last.lines, end.dropped);
    assert_eq!(before.len() as u64, end.accesses + end.wakes + 2, "beside boot and start");
    let size = before.iter().map(|line| serde_json::to_string(line).unwrap().len() as u64 + 1);
    assert!((LIMIT - 4_000..=LIMIT).contains(&size.sum()));
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_run() {
    /// Takes so many bytes, the last of them in the middle of a line.
    struct Full(usize, Buffer);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.0);
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0 -= fits;
            self.1.write(&bytes[..fits])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let file = Buffer::default();
    let recording = RecordingWriter::begin(Full(100_000, file.clone()), u64::MAX).unwrap();
    let host: Arc<dyn Host> = Arc::new(TestHost::default());
    let engine = one("vcpu", 0).load().unwrap();
    let mut started = engine.start_recorded(&host, 1, recording.recorder()).unwrap();
    for _ in 0..10_000 {
        drop(read(&mut started.vcpus[0], 0x10));
    }
    let end = recording.finish();
    let Some(Stopped::File(error)) = &end.stopped else { panic!("{end:?}") };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let bytes = file.0.lock().unwrap().clone();
    let whole = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
    assert_eq!(end.accesses, whole - 2, "beside boot and start");
    assert_eq!(end.accesses + end.dropped, 10_000);
    assert_eq!(end.bytes, 100_000);
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
    assert!(file.0.lock().unwrap().len() < 4 << 20);
}
