//! A thread for each vCPU, and how one that fails stops the others.
#![expect(unsafe_code, reason = "signals to threads")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::Result;

/// Whether vCPUs shall stop. Each looks before it enters the guest.
#[derive(Default)]
pub(crate) struct Stop(AtomicBool);

impl Stop {
    fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What gets a vCPU out of `KVM_RUN`.
const KICK: libc::c_int = libc::SIGUSR1;

/// A kick that comes just before an entry is lost, so there is another.
const BETWEEN_KICKS: Duration = Duration::from_millis(1);

// ANCHOR: stop
/// Runs `turn` for each vCPU on a thread of its own, and returns what comes of
/// it. Once one has failed, the others are kicked until they have ended.
pub(crate) fn run<V: Send, T: Send>(
    vcpus: Vec<V>,
    turn: impl Fn(V, &Stop) -> Result<T> + Sync,
) -> Vec<Result<T>> {
    ignore_kicks();
    let stop = Stop::default();
    let threads: Vec<OnceLock<libc::pthread_t>> = vcpus.iter().map(|_| OnceLock::new()).collect();
    let (ended, ends) = mpsc::channel();
    thread::scope(|scope| {
        let mut turning = Vec::new();
        for (vcpu, own) in vcpus.into_iter().zip(&threads) {
            let (turn, stop, ended) = (&turn, &stop, Ending { stop: &stop, ended: ended.clone() });
            turning.push(scope.spawn(move || {
                // SAFETY: it only says which thread this is.
                let _ = own.set(unsafe { libc::pthread_self() });
                let result = turn(vcpu, stop);
                if result.is_err() {
                    stop.ask();
                }
                drop(ended);
                result
            }));
        }
        let mut running = turning.len();
        while running > 0 {
            let patience = if stop.is_asked() { BETWEEN_KICKS } else { Duration::MAX };
            match ends.recv_timeout(patience) {
                Ok(()) => running -= 1,
                Err(RecvTimeoutError::Timeout) => {
                    for thread in threads.iter().filter_map(OnceLock::get) {
                        // SAFETY: none has been joined yet, so the id is still its.
                        unsafe { libc::pthread_kill(*thread, KICK) };
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        turning.into_iter().map(join).collect()
    })
}
// ANCHOR_END: stop

/// Tells that a thread ends; one that panics has failed too.
struct Ending<'a> {
    stop: &'a Stop,
    ended: mpsc::Sender<()>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.stop.ask();
        }
        let _ = self.ended.send(());
    }
}

/// Makes kicks harmless to everything but `KVM_RUN`, which they interrupt.
fn ignore_kicks() {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: the handler touches nothing, and no flag asks for more than it is.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        libc::sigaction(KICK, &raw const action, std::ptr::null_mut());
    }
}
