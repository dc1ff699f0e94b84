//! One thread per vCPU, and how it is got out of the guest.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};
use wasmsr_kvm::Alarms;

use crate::vcpu::Vcpu;

// ANCHOR: threads
/// Runs each vCPU on a thread of its own, and returns them with what came of it. A vCPU
/// is kicked out of the guest when a plugin's time has come, or once one has failed.
pub(crate) fn run(
    vcpus: Vec<Vcpu>,
    alarms: &Alarms,
    stop: &AtomicBool,
) -> Result<Vec<(Vcpu, Result<()>)>> {
    register_signal_handler(SIGRTMIN(), nothing).context("set a handler for SIGRTMIN")?;
    let threads = vcpus.into_iter().map(|mut vcpu| {
        let id = vcpu.id;
        let thread = thread::spawn(move || {
            let result = vcpu.run();
            vcpu.stop.fetch_or(result.is_err(), Ordering::Relaxed);
            (vcpu, result)
        });
        (id, thread)
    });
    let threads: Vec<_> = threads.collect();
    while !threads.iter().all(|(_, thread)| thread.is_finished()) {
        // A kick just before an entry is lost, so it is repeated. A main loop that waits
        // for events has `Alarms::connect` and `Alarms::next_look`.
        thread::sleep(Duration::from_millis(1));
        for (id, thread) in &threads {
            if stop.load(Ordering::Relaxed) || alarms.is_due(*id) {
                // It fails for a thread that has ended.
                let _ = thread.kill(SIGRTMIN());
            }
        }
    }
    let joined = threads
        .into_iter()
        .map(|(id, thread)| thread.join().map_err(|_| anyhow!("the thread of {id} panicked")));
    joined.collect()
}
// ANCHOR_END: threads

/// Kicks interrupt `KVM_RUN`, and harm nothing else.
extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
