//! The thread of a vCPU: how it starts and leaves, and how others get its vCPU out of the
//! guest.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};
use wasmsr_interface::{MsrHandler, VcpuId};

use crate::control::Event;
use crate::end::{At, RunEnd};
use crate::halt::Sign;
use crate::progress::Progress;
use crate::vcpu::Vcpu;

/// The thread of a vCPU, as the VM's main loop sees it.
pub(crate) struct VcpuThread {
    vcpu: VcpuId,
    thread: JoinHandle<Box<dyn MsrHandler>>,
    progress: Arc<Progress>,
}

impl VcpuThread {
    /// Starts `vcpu`. The last thing that the thread does is to send [`Event::Left`],
    /// whatever happens in it.
    pub(crate) fn start(
        vcpu: Vcpu,
        mut handler: Box<dyn MsrHandler>,
        events: Sender<Event>,
    ) -> io::Result<Self> {
        let progress = Arc::new(Progress::default());
        let own = Arc::clone(&progress);
        let id = vcpu.id;
        let thread =
            thread::Builder::new().name(format!("vcpu{}", vcpu.id.0)).spawn(move || {
                let mut leaving = Leaving::new(vcpu.id, events);
                vcpu.host.enter_thread(vcpu.id);
                (leaving.at, leaving.end) = vcpu.run(&mut *handler, &own);
                handler
            })?;
        Ok(VcpuThread { vcpu: id, thread, progress })
    }

    /// The vCPU that it runs.
    pub(crate) fn vcpu(&self) -> VcpuId {
        self.vcpu
    }

    /// Gets the vCPU out of the guest, once: a kick that comes just before an
    /// entry is lost.
    pub(crate) fn kick(&self) {
        // It fails for a thread that has already gone.
        let _ = self.thread.kill(SIGRTMIN());
    }

    /// What the vCPU has said about itself since [`Self::forget_sleep`].
    pub(crate) fn sign(&self) -> Sign {
        self.progress.sign()
    }

    pub(crate) fn forget_sleep(&self) {
        self.progress.note_asleep(None);
    }

    /// Waits for the thread's end, after its [`Event::Left`], and gives the handler
    /// back; `None` if the thread has panicked, which [`Event::Left`] has told.
    pub(crate) fn join(self) -> Option<Box<dyn MsrHandler>> {
        self.thread.join().ok()
    }
}

/// Makes kicks harmless to everything but `KVM_RUN`, which they interrupt.
pub(crate) fn prepare_kicks() -> Result<(), kvm_ioctls::Error> {
    extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    register_signal_handler(SIGRTMIN(), nothing)
}

/// Sends [`Event::Left`] when dropped, so also when the thread panics.
struct Leaving {
    at: At,
    events: Sender<Event>,
    end: Option<RunEnd>,
}

impl Leaving {
    fn new(id: VcpuId, events: Sender<Event>) -> Self {
        let panicked = RunEnd::HostError(format!("the thread of {id} panicked"));
        Leaving { at: At { vcpu: id, rip: None }, events, end: Some(panicked) }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        // Without a receiver, nothing waits for this thread.
        let _ = self.events.send(Event::Left(self.at, self.end.take()));
    }
}
