//! One vCPU: enter the guest, see why it left, answer, enter again. The loop
//! holds no knowledge of any MSR, device or plugin.

use std::ops::ControlFlow;
use std::sync::Arc;

use kvm_ioctls::VcpuFd;
use wasmsr_interface::{Host, MsrHandler, VcpuId};
use wasmsr_kvm::{AsGuest, Drained, KvmHost};

use crate::devices::{Devices, Request};
use crate::end::{At, InternalErrorReport, ResetBy, RunEnd};
use crate::exits::{self, Exit, InternalError, IoDirection};
use crate::gate::{Gate, Order};
use crate::memory::Ram;
use crate::progress::Progress;
use crate::{halt, kvm};

/// One vCPU with all that its exits can reach.
pub(crate) struct Vcpu {
    pub(crate) id: VcpuId,
    pub(crate) fd: VcpuFd,
    /// What KVM gives the guest itself.
    pub(crate) kernel: AsGuest,
    pub(crate) devices: Arc<Devices>,
    pub(crate) host: Arc<KvmHost<Ram>>,
    pub(crate) gate: Arc<Gate>,
}

impl Vcpu {
    /// Runs the vCPU on the calling thread until the run ends, or until it is told to
    /// stop (`None`). Tells where that was.
    pub(crate) fn run(
        mut self,
        handler: &mut dyn MsrHandler,
        progress: &Progress,
    ) -> (At, Option<RunEnd>) {
        let end = self.serve_exits(handler, progress);
        (self.at(), end)
    }

    fn serve_exits(&mut self, handler: &mut dyn MsrHandler, progress: &Progress) -> Option<RunEnd> {
        loop {
            match self.gate.order() {
                Order::Run => {}
                Order::Pause => match self.pause(handler, progress) {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(end) => return Some(end),
                },
                Order::Stop => break,
            }
            match exits::run(&mut self.fd) {
                Ok(exit) => {
                    progress.count_exit();
                    if let ControlFlow::Break(end) = self.serve(exit, handler) {
                        return Some(end);
                    }
                }
                // A kick; or (EAGAIN) a vCPU that waited for its start and
                // has been started.
                Err(error) if matches!(error.errno(), libc::EINTR | libc::EAGAIN) => {
                    // Here KVM has completed what the last exit asked for.
                    if self.host.alarms().take(self.id) {
                        handler.wake();
                    }
                    match halt::asleep(&self.fd) {
                        Ok(asleep) => progress.note_asleep(asleep),
                        Err(error) => return Some(self.host_error("look at", error)),
                    }
                }
                Err(error) => return Some(self.host_error("run", error)),
            }
        }
        // A further exit or an error would not change the end of this run.
        let _ = exits::drain(&mut self.fd);
        None
    }

    /// Stays out of the guest, with the last access completed, until another order comes.
    fn pause(&mut self, handler: &mut dyn MsrHandler, progress: &Progress) -> ControlFlow<RunEnd> {
        loop {
            match exits::drain(&mut self.fd) {
                Ok(Drained::Complete) => break,
                Ok(Drained::Exit) => {
                    progress.count_exit();
                    let exit = exits::last(&mut self.fd);
                    self.serve(exit, handler)?;
                }
                Err(error) => {
                    let what = format!("cannot complete the last access of {}: {error}", self.id);
                    return ControlFlow::Break(RunEnd::HostError(what));
                }
            }
        }
        self.gate.park();
        // Tells the guest that it has been out, so that its watchdog for soft lockups does
        // not take the time for a hang. A guest without kvm-clock has no place for it.
        let _ = self.fd.kvmclock_ctrl();
        ControlFlow::Continue(())
    }

    /// Dispatches one exit and applies the answer to it.
    fn serve(&mut self, exit: Exit, handler: &mut dyn MsrHandler) -> ControlFlow<RunEnd> {
        match exit {
            Exit::Msr(access) => {
                let outcome = handler.answer(access);
                exits::msr(&mut self.fd)
                    .complete(access, outcome, &self.kernel)
                    .map_break(|text| RunEnd::Stopped { at: self.at(), text })
            }
            Exit::Port(io) => self
                .devices
                .access(io, exits::port_data(&mut self.fd))
                .map_break(|request| self.requested(request)),
            Exit::Mmio(direction) => {
                self.devices.count_stray_mmio();
                if direction == IoDirection::In {
                    exits::read_all_ones(&mut self.fd);
                }
                ControlFlow::Continue(())
            }
            Exit::Shutdown => {
                let mut at = self.at();
                at.rip = at.rip.filter(|&rip| rip != RESET_VECTOR);
                ControlFlow::Break(RunEnd::TripleFault(at))
            }
            Exit::PowerOff => ControlFlow::Break(RunEnd::PowerOff(self.at())),
            Exit::Reset => ControlFlow::Break(RunEnd::Reset(ResetBy::Guest(self.at()))),
            Exit::InternalError(error) => ControlFlow::Break(self.internal_error(*error)),
            Exit::FailEntry { reason, cpu } => {
                ControlFlow::Break(RunEnd::FailEntry { at: self.at(), reason, cpu })
            }
            Exit::Other(reason) => ControlFlow::Break(RunEnd::HostError(format!(
                "KVM exit {reason}, which is not expected of this VM ({})",
                self.at()
            ))),
        }
    }

    fn requested(&self, request: Request) -> RunEnd {
        let at = self.at();
        match request {
            Request::DebugExit(value) => RunEnd::DebugExit { at, value },
            Request::PowerOff => RunEnd::PowerOff(at),
            Request::Reset => RunEnd::Reset(ResetBy::Guest(at)),
        }
    }

    fn at(&self) -> At {
        At { vcpu: self.id, rip: self.fd.get_regs().ok().map(|regs| regs.rip) }
    }

    fn host_error(&self, verb: &str, error: kvm_ioctls::Error) -> RunEnd {
        RunEnd::HostError(format!("cannot {verb} {}: {error}", self.id))
    }

    fn internal_error(&self, error: InternalError) -> RunEnd {
        let InternalError { suberror, data, mut instruction } = error;
        let mut registers = Vec::new();
        if let Ok(regs) = self.fd.get_regs() {
            registers.extend([("RSP", regs.rsp), ("RFLAGS", regs.rflags)]);
            if instruction.is_empty() {
                instruction = self.bytes_at(regs.rip);
            }
        }
        if let Ok(sregs) = self.fd.get_sregs() {
            registers.extend([
                ("CS", sregs.cs.selector.into()),
                ("CR0", sregs.cr0),
                ("CR2", sregs.cr2),
                ("CR3", sregs.cr3),
                ("CR4", sregs.cr4),
                ("EFER", sregs.efer),
            ]);
        }
        RunEnd::InternalError(Box::new(InternalErrorReport {
            at: self.at(),
            suberror,
            data,
            instruction,
            registers,
            interprets_ring0: kvm::interprets_ring0(),
        }))
    }

    /// The guest's bytes at a linear address: as many as an instruction has at most, or
    /// none if they cannot be read.
    fn bytes_at(&self, linear: u64) -> Vec<u8> {
        let mut bytes = [0; 15];
        let read = self.fd.translate_gva(linear).is_ok_and(|page| {
            page.valid != 0 && self.host.read_memory(page.physical_address, &mut bytes).is_ok()
        });
        if read { bytes.to_vec() } else { Vec::new() }
    }
}

/// RIP after a reset. KVM's SVM code resets a vCPU that shuts down, since the
/// processor leaves its state undefined (APM volume 2, 15.14.3).
const RESET_VECTOR: u64 = 0xfff0;
