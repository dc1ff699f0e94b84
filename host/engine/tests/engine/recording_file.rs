//! The file of a recording: one that is stuck, full, or has its limit.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use wasmsr_engine::record::{Line, RecordingWriter, Stopped};
use wasmsr_interface::{Host, MsrHandler, Outcome};

use crate::fixture::{Setup, TestHost, plugin, read};
use crate::recorded::{Buffer, accesses, one};

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
    let bytes = file.bytes();
    let whole = bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
    assert_eq!(end.accesses, whole - 2, "beside boot and start");
    assert_eq!(end.accesses + end.dropped, 10_000);
    assert_eq!(end.bytes, 100_000);
}
