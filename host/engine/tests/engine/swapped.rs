//! Replays of recordings in which sets of plugins are swapped, or that begin in a running
//! VM.

use std::sync::Arc;

use wasmsr_engine::record::{
    AccessLine, BootLine, Bytes, Hex, HostCall, Line, PluginCall, SwapCause, SwapLine, WakeLine,
};
use wasmsr_engine::replay::{Replay, ReplayError};
use wasmsr_engine::{Engine, LoadOptions};
use wasmsr_interface::{Host, MsrHandler};

use crate::fixture::{Setup, TestHost, plugin, read};
use crate::recorded::{Buffer, record};

/// Counts its reads from `first` on; saves the count only if it is to.
fn counter(scope: &str, first: u64, saves: bool) -> Setup {
    let manifest = format!("[[msr]]\nrange = \"0x10\"\naccess = \"r\"\nscope = \"{scope}\"");
    let state = "
        (func (export \"save\") (result i32)
          (i64.store (i32.const 0) (global.get $count))
          (call $save (i32.const 0) (i32.const 8)))
        (func (export \"restore\") (result i32)
          (if (i32.ne (call $saved (i32.const 0) (i32.const 8)) (i32.const 8))
            (then (return (i32.const 1))))
          (global.set $count (i64.load (i32.const 0)))
          (i32.const 0))";
    let body = format!(
        "(import \"wasmsr\" \"save_state\" (func $save (param i32 i32) (result i32)))
         (import \"wasmsr\" \"saved_state\" (func $saved (param i32 i32) (result i32)))
         (global $count (mut i64) (i64.const {first}))
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
           (global.set $count (i64.add (global.get $count) (i64.const 1)))
           (global.get $count))
         {}",
        if saves { state } else { "" }
    );
    Setup::new().with("c.wasm", plugin("counter", &manifest, &body), "")
}

/// Five reads on each of two vCPUs, without the end.
fn five_each(setup: &Setup) -> Vec<Line> {
    let (file, _) = record(setup, |started, _| {
        for _ in 0..5 {
            started.vcpus.iter_mut().for_each(|vcpu| drop(read(vcpu, 0x10)));
        }
    });
    let mut lines = file.lines();
    assert!(matches!(lines.pop(), Some(Line::End(_))));
    lines
}

fn boot(lines: &[Line]) -> &BootLine {
    let Line::Boot(boot) = &lines[0] else { panic!("{:?}", lines[0]) };
    boot
}

/// A swap to the set of a recording.
fn swap_to(lines: &[Line], generation: u64, kept: &[&str]) -> SwapLine {
    let BootLine { plugins, profile, text, .. } = boot(lines).clone();
    SwapLine {
        t: 0,
        generation,
        cause: SwapCause::Swap,
        set: "ab".into(),
        plugins,
        kept: kept.iter().map(|&name| name.to_owned()).collect(),
        profile,
        text,
        calls: Vec::new(),
        cut: false,
    }
}

/// The last access again, with another value.
fn next(lines: &[Line], vcpu: u32, value: u64) -> Line {
    let Some(Line::Access(access)) =
        lines.iter().rev().find(|line| matches!(line, Line::Access(_)))
    else {
        panic!("no access")
    };
    Line::Access(AccessLine { vcpu, value: Some(Hex(value)), ..access.clone() })
}

/// Replays lines; swaps get the set that `of` gives. What came.
fn replay(first: &Setup, lines: &[Line], of: &[&Setup]) -> Result<Vec<Line>, ReplayError> {
    let mut replay = Replay::new(Arc::new(first.load().unwrap()));
    let mut sets = of.iter();
    let came = lines.iter().map(|line| match line {
        Line::Swap(swap) => {
            let set = sets.next().unwrap().load().unwrap();
            replay.swap(Arc::new(set), swap).map(|swap| Line::Swap(Box::new(swap)))
        }
        line => replay.step(line),
    });
    let came = came.collect();
    assert_eq!(replay.unmatched(), 0);
    came
}

#[test]
fn a_new_set_takes_the_state_over_and_gives_it_back() {
    for (scope, a, b) in [("vcpu", [6, 6], [7, 7]), ("vm", [11, 12], [13, 14])] {
        let (old, new) = (counter(scope, 0, true), counter(scope, 1000, true));
        let mut lines = five_each(&old);
        let to_new = swap_to(&five_each(&new), 2, &[]);
        lines.push(Line::Swap(Box::new(to_new)));
        lines.extend([next(&lines, 0, a[0]), next(&lines, 1, a[1])]);
        let back = swap_to(&lines, 3, &[]);
        lines.push(Line::Swap(Box::new(SwapLine { cause: SwapCause::Return, ..back })));
        lines.extend([next(&lines, 0, b[0]), next(&lines, 1, b[1])]);
        assert_eq!(replay(&old, &lines, &[&new, &old]).unwrap(), lines, "{scope}");
    }
}

#[test]
fn a_plugin_that_is_kept_goes_on_as_it_is() {
    for (scope, a) in [("vcpu", [6, 6]), ("vm", [11, 12])] {
        // It does not save, so a new instance would begin again.
        let set = counter(scope, 0, false);
        let mut lines = five_each(&set);
        lines.push(Line::Swap(Box::new(swap_to(&lines, 2, &["counter"]))));
        lines.extend([next(&lines, 0, a[0]), next(&lines, 1, a[1])]);
        assert_eq!(replay(&set, &lines, &[&set]).unwrap(), lines, "{scope}");

        let mut lines = five_each(&set);
        lines.push(Line::Swap(Box::new(swap_to(&lines, 2, &[]))));
        lines.push(next(&lines, 0, 1));
        assert_eq!(replay(&set, &lines, &[&set]).unwrap(), lines, "{scope}, afresh");
    }
}

#[test]
fn a_swap_needs_a_boot_and_a_set() {
    let set = counter("vm", 0, true);
    let lines = five_each(&set);
    let swap = swap_to(&lines, 2, &[]);
    let mut replay = Replay::new(Arc::new(set.load().unwrap()));
    let error = replay.swap(Arc::new(set.load().unwrap()), &swap).unwrap_err().to_string();
    assert!(error.contains("\"swap\" stands where no boot has begun"), "{error}");
    replay.step(&lines[0]).unwrap();
    let error = replay.swap(Arc::new(set.load().unwrap()), &swap).unwrap_err().to_string();
    assert!(error.contains("where no boot has begun"), "{error}");
    let error = replay.step(&Line::Swap(Box::new(swap))).unwrap_err().to_string();
    assert!(error.contains("not loaded"), "{error}");
}

#[test]
fn a_state_that_is_not_taken_over_is_said() {
    let (old, new) = (counter("vm", 0, true), counter("vm", 0, false));
    let mut lines = five_each(&old);
    lines.push(Line::Swap(Box::new(swap_to(&lines, 2, &[]))));
    let mut replay = Replay::new(Arc::new(old.load().unwrap()));
    let swap = lines.pop();
    lines.iter().for_each(|line| drop(replay.step(line).unwrap()));
    let Some(Line::Swap(swap)) = swap else { panic!() };
    let error = replay.swap(Arc::new(new.load().unwrap()), &swap).unwrap_err().to_string();
    assert!(error.contains("`counter`") && error.contains("no export `restore`"), "{error}");
}

#[test]
fn a_recording_that_begins_in_a_running_vm_begins_with_its_state() {
    let set = counter("vcpu", 0, true);
    let engine = Engine::load(&set.profile(), &LoadOptions::default()).unwrap();
    let host: Arc<dyn Host> = Arc::new(TestHost::default());
    let mut started = engine.start(&host, 2).unwrap();
    (0..41).for_each(|_| drop(read(&mut started.vcpus[1], 0x10)));
    let state = engine.save(&mut started.vcpus).unwrap().to_bytes().unwrap();

    let mut lines = five_each(&set);
    lines.truncate(3);
    let in_running_vm = boot(&lines).clone().in_running_vm(3, Some(state.clone()), Vec::new());
    lines[0] = Line::Boot(Box::new(in_running_vm));
    lines.extend([next(&lines, 1, 42), next(&lines, 1, 43)]);
    assert_eq!(replay(&set, &lines, &[]).unwrap(), lines);

    // What a file has in its place may be anything.
    for cut in [0, 10, state.len() - 1] {
        let boot = boot(&lines).clone();
        let bad = BootLine { state: Some(Bytes(state[..cut].to_vec())), ..boot };
        let mut replay = Replay::new(Arc::new(set.load().unwrap()));
        let error = replay.step(&Line::Boot(Box::new(bad))).unwrap_err().to_string();
        assert!(error.contains("`state` of the boot: "), "{error}");
    }
}

#[test]
fn a_timer_is_due_when_it_was_though_the_recording_began_later() {
    let manifest = "[[msr]]\nrange = \"0x10\"\naccess = \"r\"\n[needs]\ncapabilities = [\"timer\"]";
    let body = "(import \"wasmsr\" \"timer\" (func $timer (param i64) (result i32)))
        (global $fired (mut i64) (i64.const 0))
        (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
          (drop (call $timer (i64.const 5000000)))
          (global.get $fired))
        (func (export \"timer\") (global.set $fired (i64.add (global.get $fired) (i64.const 1))))
        (func (export \"save\") (result i32) (i32.const 0))
        (func (export \"restore\") (result i32) (i32.const 0))";
    let bytes = plugin("late", manifest, body);
    let set = Setup::new().with("p.wasm", bytes, "grant = [\"timer\"]");
    let engine = set.load().unwrap();
    let host: Arc<dyn Host> = Arc::new(TestHost::default());
    let mut started = engine.start(&host, 1).unwrap();
    let _ = read(&mut started.vcpus[0], 0x10);
    let state = engine.save(&mut started.vcpus).unwrap();
    assert!(format!("{state:?}").contains("in_ns: 4999923"), "{state:?}");

    let file = Buffer::default();
    let recording = wasmsr_engine::record::RecordingWriter::begin(file.clone(), u64::MAX).unwrap();
    let mut started = engine.start_recorded(&host, 1, recording.recorder()).unwrap();
    let _ = read(&mut started.vcpus[0], 0x10);
    started.vcpus[0].end();
    recording.finish();
    let mut lines = file.lines();
    lines[0] = Line::Boot(Box::new(boot(&lines).clone().in_running_vm(
        1,
        Some(state.to_bytes().unwrap()),
        Vec::new(),
    )));
    let engine_asks = |value| PluginCall {
        plugin: "(engine)".into(),
        call: HostCall::MonotonicNs { value: Hex(value) },
    };
    let Line::Start(start) = &mut lines[1] else { panic!() };
    start.calls = vec![engine_asks(1000)];
    let Line::Access(after) = lines[2].clone() else { panic!() };
    let wake = |at| {
        let calls = vec![engine_asks(at)];
        Line::Wake(WakeLine {
            t: 0,
            vcpu: 0,
            generation: 1,
            ns: 0,
            failed: Vec::new(),
            calls,
            cut: false,
        })
    };
    for (at, fired) in [(5_000_922, 0), (5_000_923, 1)] {
        let access = AccessLine { value: Some(Hex(fired)), ..after.clone() };
        let lines = [lines[0].clone(), lines[1].clone(), wake(at), Line::Access(access)];
        let came = {
            let mut replay = Replay::new(Arc::new(set.load().unwrap()));
            lines.iter().map(|line| replay.step(line).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(came[3], lines[3], "at {at}");
    }
}
