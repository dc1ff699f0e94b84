//! Begins a recording in a running VM: with the state of its plugins, and with what
//! plugins ask of the host while they start and take that state over. A replay starts them
//! in the same way.

use std::sync::Arc;

use wasmsr_interface::Host;

use crate::engine::Engine;
use crate::record::{CallLog, ENGINE, Hex, HostCall, LoggedCall, LoggingHost, Recorder, during};
use crate::shadow::ReadOnlyHost;
use crate::start::{boot_line_of, start_plugins};
use crate::state::SavedState;

/// What is known of a running VM when its recording begins.
pub(crate) struct Running<'a> {
    pub(crate) vcpus: u32,
    /// Of the set in charge.
    pub(crate) generation: u64,
    /// What its plugins saved at `now`, on the host's monotonic clock.
    pub(crate) saved: &'a SavedState,
    pub(crate) now: u64,
    /// The plugins that saved nothing.
    pub(crate) unsaved: Vec<String>,
}

impl Engine {
    /// Writes the first lines of a recording of a VM that runs with these plugins. To be
    /// called while none of its vCPUs is recorded yet, and after they were saved while
    /// none was with its plugins. Others like them start beside them, and change nothing
    /// through `host`; the recording lacks their calls if one of them does not start.
    pub(crate) fn begin_recording(
        &self,
        recorder: &Recorder,
        host: &Arc<dyn Host>,
        running: Running<'_>,
    ) {
        let Running { vcpus, generation, saved, now, unsaved } = running;
        let boot = boot_line_of(self, vcpus);
        // More than fits a file of saved state does not fit a line either.
        let boot = boot.in_running_vm(generation, saved.to_bytes().ok(), unsaved);
        let is_known = boot.state.is_some();
        recorder.boot(boot);
        let none = SavedState::default();
        let saved = if is_known { saved } else { &none };
        let calls = self.calls_of_restored(host, vcpus, saved, now);
        recorder.start(calls.unwrap_or_else(CallLog::all_cut));
    }

    /// What plugins ask while they start and take over a state.
    fn calls_of_restored(
        &self,
        host: &Arc<dyn Host>,
        vcpus: u32,
        saved: &SavedState,
        now: u64,
    ) -> Option<CallLog> {
        let read_only: Arc<dyn Host> = Arc::new(ReadOnlyHost(host.clone()));
        let host_of = |name: &Arc<str>| -> Arc<dyn Host> {
            Arc::new(LoggingHost::new(read_only.clone(), name.clone()))
        };
        let (mut started, starts) = start_plugins(self, &host_of, vcpus)
            .inspect_err(|error| tracing::warn!("{error}; the recording lacks how plugins start"))
            .ok()?;
        let (restored, restores) =
            during(|| self.restore_at(&mut started, &*read_only, saved, now));
        restored
            .inspect_err(|error| tracing::warn!("{error}; a replay will not take it either"))
            .ok()?;
        let mut calls = starts.all;
        calls.append(restores);
        // Timers are due after the time at which they were saved.
        let asked =
            LoggedCall { plugin: ENGINE.into(), call: HostCall::MonotonicNs { value: Hex(now) } };
        Some(calls.part(calls.calls.iter().cloned().chain([asked])))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::path::Path;
    use std::sync::Mutex;

    use wasmsr_interface::{MsrAccess, MsrHandler, MsrIndex, MsrOp, NoGuest, Outcome, Reason};

    use super::*;
    use crate::record::{Line, Lines, RecordingWriter};
    use crate::{LoadOptions, Profile, Started};

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

    /// Asks for the frequency of the TSC when it starts and when it is restored, and counts.
    const COUNTS: &str = r#"(module
        (import "wasmsr" "tsc_khz" (func $khz (result i32)))
        (import "wasmsr" "save_state" (func $save (param i32 i32) (result i32)))
        (import "wasmsr" "saved_state" (func $saved (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (global $count (mut i64) (i64.const 0))
        (func (export "wasmsr_abi_v1"))
        (func (export "init") (param i32) (result i32) (drop (call $khz)) (i32.const 0))
        (func (export "rdmsr") (param i32 i32 i32) (result i64)
          (global.set $count (i64.add (global.get $count) (i64.const 1)))
          (global.get $count))
        (func (export "save") (result i32)
          (i64.store (i32.const 0) (global.get $count))
          (call $save (i32.const 0) (i32.const 8)))
        (func (export "restore") (result i32)
          (drop (call $khz))
          (drop (call $saved (i32.const 0) (i32.const 8)))
          (global.set $count (i64.load (i32.const 0)))
          (i32.const 0))
        (@custom "wasmsr.manifest" "[plugin]\nname = \"counts\"\nversion = \"1.0.0\"\nabi = 1\n[[msr]]\nrange = \"0x10\"\naccess = \"r\"\n"))"#;

    fn read(started: &mut Started, vcpu: usize) -> Outcome {
        let access = MsrAccess { index: MsrIndex(0x10), op: MsrOp::Read, reason: Reason::Filter };
        started.vcpus[vcpu].answer(access)
    }

    #[test]
    fn a_recording_that_begins_in_a_running_vm_has_what_a_replay_needs() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("c.wasm"), wat::parse_str(COUNTS).unwrap()).unwrap();
        let text = "boot.guest = \"hello\"\n[[plugin]]\npath = \"c.wasm\"\n";
        let profile = Profile::parse(&folder.path().join("vm.toml"), text).unwrap();
        let engine = Engine::load(&profile, &LoadOptions::default()).unwrap();
        let host: Arc<dyn Host> = Arc::new(NoGuest::default());
        let mut started = engine.start(&host, 2).unwrap();
        (0..7).for_each(|_| drop(read(&mut started, 1)));

        let file = Buffer::default();
        let recording = RecordingWriter::begin(file.clone(), u64::MAX).unwrap();
        let saved = engine.save(&mut started.vcpus).unwrap();
        let (now, unsaved) = (host.monotonic_ns(), Vec::new());
        let running = Running { vcpus: 2, generation: 5, saved: &saved, now, unsaved };
        engine.begin_recording(recording.recorder(), &host, running);
        recording.recorder().end();
        assert!(recording.finish().stopped.is_none());
        // The plugins that ran noticed nothing.
        assert_eq!(read(&mut started, 1), Outcome::Value(8));

        let bytes = file.0.lock().unwrap().clone();
        let lines = Lines::new(&bytes[..], Path::new("r.jsonl")).map(|line| line.unwrap().1);
        let lines: Vec<Line> = lines.collect();
        let Line::Boot(boot) = &lines[0] else { panic!("{:?}", lines[0]) };
        assert_eq!((boot.generation, boot.unsaved.len()), (5, 0));
        let Line::Start(start) = &lines[1] else { panic!("{:?}", lines[1]) };
        // Two instances ask when they start and when they are restored; then the engine.
        assert_eq!((start.calls.len(), start.cut), (5, false));
        let asked = start.calls.iter().map(|call| call.plugin.as_str());
        assert_eq!(asked.collect::<Vec<_>>(), ["counts", "counts", "counts", "counts", ENGINE]);
        assert!(matches!(lines[2..], [Line::End(_)]));
    }
}
