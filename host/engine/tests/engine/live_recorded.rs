//! Recordings of VMs whose sets of plugins change places.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use wasmsr_engine::live::{LiveStart, Verdict};
use wasmsr_engine::record::{Line, RecordingWriter, SwapCause};
use wasmsr_engine::replay::Replay;
use wasmsr_engine::{Engine, Terms};
use wasmsr_interface::{Host, MsrHandler, Outcome};

use crate::fixture::TestHost;
use crate::live::{Vm, one, read};
use crate::recorded::Buffer;
use crate::state::counter;

fn versions(scope: &str) -> [Arc<Engine>; 2] {
    ["1.0.0", "2.0.0"].map(|version| one("c.wasm", counter(version, scope), ""))
}

fn start(engine: &Arc<Engine>, recording: Option<&RecordingWriter>) -> Vm {
    let host = Arc::new(TestHost::default());
    let shared: Arc<dyn Host> = host.clone();
    let recorder = recording.map(RecordingWriter::recorder);
    let LiveStart { live, vcpus, .. } = engine.start_live(&shared, 2, recorder).unwrap();
    Vm { live, vcpus, host }
}

/// Runs the recording again, each swap with the set of its plugins' version.
fn replay_all(lines: &[Line], sets: &[Arc<Engine>; 2]) -> usize {
    let set = |version: &str| if version == "1.0.0" { &sets[0] } else { &sets[1] };
    let first = lines.iter().find_map(|line| match line {
        Line::Boot(boot) => Some(set(&boot.plugins[0].version).clone()),
        _ => None,
    });
    let mut replay = Replay::new(first.unwrap());
    let mut compared = 0;
    for line in lines {
        let came = match line {
            Line::Swap(swap) => {
                let next = set(&swap.plugins[0].version).clone();
                replay.swap(next, swap).unwrap();
                continue;
            }
            line => replay.step(line).unwrap(),
        };
        if let (Line::Access(was), Line::Access(is)) = (line, &came) {
            assert!(was.answered_as(is), "{was:?} {is:?}");
            compared += 1;
        }
    }
    compared
}

#[test]
fn a_recording_says_which_set_answered_each_access_and_replays_across_swaps() {
    for scope in ["vcpu", "vm"] {
        let sets = versions(scope);
        let file = Buffer::default();
        let recording = RecordingWriter::begin(file.clone(), u64::MAX).unwrap();
        let Vm { live, vcpus, .. } = start(&sets[0], Some(&recording));
        let stop = AtomicBool::new(false);
        let reads = AtomicU64::new(0);
        let mut vcpus = vcpus;
        thread::scope(|threads| {
            for vcpu in &mut vcpus {
                let (stop, reads) = (&stop, &reads);
                threads.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        assert!(matches!(read(vcpu, 0x10), Outcome::Value(_)));
                        reads.fetch_add(1, Ordering::Relaxed);
                        // The queue of the recorder must have room.
                        thread::sleep(Duration::from_micros(20));
                    }
                });
            }
            for round in 1..=40 {
                let before = reads.load(Ordering::Relaxed);
                while reads.load(Ordering::Relaxed) < before + 2 {
                    thread::yield_now();
                }
                let terms = (round % 4 == 0).then(Terms::default);
                let swapped = live.swap(&sets[round % 2], terms.as_ref()).unwrap();
                if round % 8 == 4 {
                    live.roll_back().unwrap();
                    live.swap(&sets[round % 2], None).unwrap();
                }
                if terms.is_some() {
                    let verdict = live.supervise(swapped.generation, Some(Duration::ZERO));
                    assert!(matches!(verdict, Verdict::Kept | Verdict::RolledBack), "{verdict:?}");
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        vcpus.iter_mut().for_each(MsrHandler::end);
        assert_eq!(recording.finish().dropped, 0);
        let lines = file.lines();
        let mut generation = 1;
        let mut causes = Vec::new();
        for line in &lines {
            match line {
                Line::Swap(swap) => {
                    assert_eq!(swap.generation, generation + 1);
                    generation = swap.generation;
                    causes.push(swap.cause);
                }
                Line::Access(access) => assert_eq!(access.generation, generation),
                _ => {}
            }
        }
        assert_eq!(causes.iter().filter(|cause| **cause == SwapCause::Rollback).count(), 5);
        assert_eq!(generation, 51);
        assert!(replay_all(&lines, &sets) > 50, "{scope}");
    }
}

#[test]
fn a_recording_may_begin_and_end_while_the_vm_runs() {
    let sets = versions("vcpu");
    let mut vm = start(&sets[0], None);
    for _ in 0..5 {
        let _ = read(&mut vm.vcpus[1], 0x10);
    }
    vm.live.swap(&sets[1], None).unwrap();
    let file = Buffer::default();
    let recording = RecordingWriter::begin(file.clone(), u64::MAX).unwrap();
    vm.live.record(Some(recording.recorder())).unwrap();
    assert_eq!(read(&mut vm.vcpus[1], 0x10), Outcome::Value(6));
    vm.live.swap(&sets[0], None).unwrap();
    assert_eq!(read(&mut vm.vcpus[1], 0x10), Outcome::Value(7));
    vm.live.record(None).unwrap();
    assert_eq!(read(&mut vm.vcpus[1], 0x10), Outcome::Value(8));
    assert_eq!(recording.finish().accesses, 2);
    let lines = file.lines();
    assert!(matches!(&lines[0], Line::Boot(boot) if boot.generation == 2 && boot.state.is_some()));
    assert!(matches!(lines.last(), Some(Line::End(_))));
    assert_eq!(replay_all(&lines, &sets), 2);
}
