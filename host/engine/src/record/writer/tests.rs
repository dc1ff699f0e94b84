//! Recordings of a VM in which sets of plugins are swapped, and that begin and end while
//! it runs.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use wasmsr_interface::{MsrAccess, MsrIndex, MsrOp, Outcome, Reason, VcpuId};

use super::super::boot::{boot_line, swap_line};
use super::super::call::HostCall;
use super::super::call_log::{CallLog, during, note};
use super::super::event::AccessEvent;
use super::super::line::SwapCause;
use super::super::reader::Lines;
use super::*;
use crate::profile::Profile;

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
    fn lines(&self) -> Vec<Line> {
        let bytes = self.0.lock().unwrap().clone();
        Lines::new(&bytes[..], Path::new("r.jsonl")).map(|line| line.unwrap().1).collect()
    }
}

fn profile() -> Profile {
    Profile::parse(Path::new("/p/vm.toml"), "boot.guest = \"hello\"").unwrap()
}

fn event(vcpu: u32, generation: u64) -> Box<AccessEvent> {
    Box::new(AccessEvent {
        began: Instant::now(),
        took: Duration::from_nanos(5),
        vcpu: VcpuId(vcpu),
        generation,
        access: MsrAccess { index: MsrIndex(0x10), op: MsrOp::Read, reason: Reason::Filter },
        rip: None,
        outcome: Outcome::Value(generation),
        kernel: None,
        plugin: None,
        failed: false,
        calls: CallLog::default(),
    })
}

fn calls() -> CallLog {
    during(|| note(&"p".into(), HostCall::HostCpus { value: 3 })).1
}

#[test]
fn a_swap_has_its_place_among_the_accesses_of_all_vcpus() {
    const VCPUS: u32 = 4;
    const SWAPS: u64 = 500;
    let file = Buffer::default();
    let recording = RecordingWriter::begin(file.clone(), u64::MAX).unwrap();
    let recorder = recording.recorder().clone();
    recorder.boot(boot_line(VCPUS, None, Vec::new(), &profile()));
    recorder.start(CallLog::default());
    // Each vCPU has a lock of its own, and the swap takes all of them.
    let generations: Vec<Mutex<u64>> = (0..VCPUS).map(|_| Mutex::new(1)).collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for (vcpu, generation) in (0..).zip(&generations) {
            let (recorder, over) = (&recorder, &over);
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    let generation = generation.lock().unwrap();
                    recorder.access(event(vcpu, *generation));
                    drop(generation);
                    thread::sleep(Duration::from_micros(5));
                }
            });
        }
        for new in 2..SWAPS + 2 {
            let seen = || recorder.0.seen.load(Relaxed);
            let before = seen();
            while seen() < before + 3 {
                thread::yield_now();
            }
            let mut held: Vec<_> = generations.iter().map(|it| it.lock().unwrap()).collect();
            let cause = SwapCause::Swap;
            let line = swap_line(new, cause, "ab".into(), Vec::new(), Vec::new(), &profile());
            recorder.swap(line, calls());
            held.iter_mut().for_each(|generation| **generation = new);
        }
        over.store(true, Relaxed);
    });
    recorder.end();
    assert!(recording.finish().stopped.is_none());
    let mut generation = 1;
    let mut accesses = 0;
    for line in file.lines() {
        match line {
            Line::Swap(swap) => {
                generation += 1;
                assert_eq!((swap.generation, swap.calls.len(), swap.cut), (generation, 1, false));
                assert!(swap.profile.is_absolute());
            }
            Line::Access(access) => {
                accesses += 1;
                assert_eq!(access.generation, generation);
            }
            Line::Dropped(_) => panic!("there was room"),
            _ => {}
        }
    }
    assert!(generation == SWAPS + 1 && accesses > SWAPS, "{generation}, {accesses}");
}

#[test]
fn a_recording_begins_and_ends_while_the_vm_runs() {
    let file = Buffer::default();
    let recording = RecordingWriter::begin(file.clone(), u64::MAX).unwrap();
    let recorder = recording.recorder().clone();
    let boot = boot_line(2, Some("6.12.9".into()), Vec::new(), &profile());
    recorder.boot(boot.in_running_vm(7, Some(vec![1, 0xff]), vec!["p".into()]));
    recorder.start(calls());
    recorder.access(event(0, 7));
    recorder.end();
    let began = Instant::now();
    let end = recording.finish();
    assert!(began.elapsed() < PATIENCE && end.stopped.is_none(), "{end:?}");
    assert_eq!((end.accesses, end.dropped), (1, 0));
    // The VM goes on. What its vCPUs still say is lost, and takes no room.
    for _ in 0..200_000 {
        recorder.access(event(0, 7));
    }
    let lines = file.lines();
    let [Line::Boot(boot), Line::Start(start), Line::Access(access), Line::End(end)] = &lines[..]
    else {
        panic!("{lines:#?}")
    };
    assert_eq!((boot.boot, boot.generation, access.generation), (1, 7, 7));
    assert_eq!(boot.state.as_ref().unwrap().0, [1, 0xff]);
    assert_eq!((&boot.unsaved[..], start.calls.len(), end.lines), (&["p".to_owned()][..], 1, 1));
}

#[test]
fn of_a_state_that_no_line_has_room_for_nothing_is_there() {
    let plugins = vec![crate::record::BootPlugin {
        name: "large".into(),
        version: "1".into(),
        sha256: String::new(),
        path: "p.wasm".into(),
        replaced_by: None,
    }];
    let boot = boot_line(1, None, plugins, &profile());
    for state in [Some(vec![0; 5 << 20]), None] {
        let boot = boot.clone().in_running_vm(2, state, Vec::new());
        assert_eq!((boot.state, boot.unsaved), (None, vec!["large".to_owned()]));
    }
}

#[test]
fn a_ring_takes_the_place_of_a_file() {
    let (recording, ring) = RecordingWriter::ring(1 << 20, |_| ()).unwrap();
    let recorder = recording.recorder().clone();
    assert!(ring.is_empty());
    recorder.boot(boot_line(1, None, Vec::new(), &profile()));
    recorder.start(CallLog::default());
    (0..10_000).for_each(|_| recorder.access(event(0, 1)));
    recorder.end();
    let end = recording.finish();
    assert_eq!(end.accesses + end.dropped, 10_000);
    let file = Buffer::default();
    let counts = ring.write_to(&mut file.clone()).unwrap();
    assert_eq!(counts.accesses + counts.fallen, end.accesses);
    assert!(counts.fallen > 0 && file.0.lock().unwrap().len() < 1 << 20);
    assert!(matches!(file.lines().last(), Some(Line::End(_))));
}
