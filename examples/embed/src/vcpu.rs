//! The loop of a vCPU.
#![expect(unsafe_code, reason = "wasmsr-kvm does not know kvm-bindings' types")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use kvm_ioctls::{VcpuExit, VcpuFd};
use wasmsr_engine::VcpuDispatch;
use wasmsr_interface::{Host, MsrHandler, VcpuId};
use wasmsr_kvm::{KvmHost, KvmMsrs, KvmRun, Served};

use crate::guest;
use crate::memory::Ram;

/// One vCPU with all that its loop needs.
pub(crate) struct Vcpu {
    pub(crate) id: VcpuId,
    pub(crate) fd: VcpuFd,
    pub(crate) msrs: KvmMsrs,
    pub(crate) dispatch: VcpuDispatch,
    pub(crate) host: Arc<KvmHost<Ram>>,
    /// Set once for all vCPUs, when they must stop.
    pub(crate) stop: Arc<AtomicBool>,
    /// What the guest has printed.
    pub(crate) printed: Vec<String>,
}

impl Vcpu {
    // ANCHOR: loop
    /// Runs the vCPU until its guest halts, or until all must stop.
    pub(crate) fn run(&mut self) -> Result<()> {
        self.host.enter_thread(self.id);
        loop {
            ensure!(self.printed.len() <= 1000, "it prints without end");
            let stop = self.stop.load(Ordering::Relaxed);
            // KVM_RUN then completes the last access, and returns before the guest runs on.
            self.fd.set_kvm_immediate_exit((stop || self.host.alarms().is_due(self.id)).into());
            match self.fd.run() {
                Ok(VcpuExit::X86Rdmsr(_) | VcpuExit::X86Wrmsr(_)) => {
                    // SAFETY: kvm-bindings' `kvm_run` is the kernel's, and the vCPU is out.
                    let run = unsafe { KvmRun::of(self.fd.get_kvm_run()) };
                    if let Served::Stop(why) = run.answer(&mut self.dispatch, &self.msrs) {
                        let rip = self.host.guest_rip(self.id).unwrap_or_default();
                        bail!("{why} (at RIP {rip:#x})");
                    }
                }
                // `immediate_exit`, or a kick: no access is pending, so now the vCPU can be
                // woken, saved or left.
                Err(error) if error.errno() == libc::EINTR => {
                    if self.host.alarms().take(self.id) {
                        self.dispatch.wake();
                    }
                    if stop {
                        return Ok(());
                    }
                }
                Ok(VcpuExit::IoOut(guest::VALUE, bytes)) => self.printed.push(guest::shown(bytes)),
                Ok(VcpuExit::IoOut(guest::FAULT, _)) => self.printed.push("#GP".to_owned()),
                Ok(VcpuExit::Hlt) => return Ok(()),
                Ok(exit) => bail!("an exit that this guest does not have: {exit:?}"),
                Err(error) => return Err(error).context("KVM_RUN"),
            }
        }
    }
    // ANCHOR_END: loop
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        self.stop.fetch_or(thread::panicking(), Ordering::Relaxed);
    }
}
