//! What a recording has of a busy plugin, and a replay of it.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use wasmsr_engine::record::{AccessLine, Line, Lines, RecordingEnd, RecordingWriter};
use wasmsr_engine::replay::Replay;
use wasmsr_engine::{Engine, Started};
use wasmsr_interface::{Host, MsrHandler, MsrOp, Reason};

use crate::busy::{GRANT, busy};
use crate::fixture::{Setup, TestHost, access, read, write};

/// A file in memory.
#[derive(Clone, Default)]
pub(crate) struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    pub(crate) fn len(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<Line> {
        let bytes = self.bytes();
        Lines::new(&bytes[..], Path::new("r.jsonl")).map(|line| line.unwrap().1).collect()
    }
}

/// Records what `run` does with two vCPUs.
pub(crate) fn record(
    setup: &Setup,
    run: impl FnOnce(&mut Started, &TestHost),
) -> (Buffer, RecordingEnd) {
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

/// A plugin of this scope that makes every kind of host call.
pub(crate) fn one(scope: &str, more: u64) -> Setup {
    Setup::new().with("p.wasm", busy("busy", scope, more), GRANT)
}

/// Accesses of every kind on `vcpu`, chosen by a linear congruence.
pub(crate) fn accesses(vcpu: &mut wasmsr_engine::VcpuDispatch, count: u32, mut seed: u64) {
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
pub(crate) fn replay(engine: Engine, lines: &[Line]) -> (Vec<Line>, Vec<AccessLine>, u64) {
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
