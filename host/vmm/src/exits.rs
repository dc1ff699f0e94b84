//! Why a vCPU left the guest: the kernel's raw union, once, as owned plain
//! enums. Everything after this module speaks those.
//!
//! kvm-ioctls has an enum of its own for this, `VcpuExit`. It hides how wide a
//! port access was (`outl` and four `outsb` look the same) and everything
//! about an internal error, and it borrows the vCPU while the exit is being
//! served.

use std::io;
use std::ptr;

use kvm_bindings::{
    KVM_EXIT_FAIL_ENTRY, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_IO, KVM_EXIT_IO_IN, KVM_EXIT_MMIO,
    KVM_EXIT_SHUTDOWN, KVM_EXIT_SYSTEM_EVENT, KVM_INTERNAL_ERROR_EMULATION,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES, KVM_SYSTEM_EVENT_RESET,
    KVM_SYSTEM_EVENT_SHUTDOWN, kvm_run,
};
use kvm_ioctls::VcpuFd;
use wasmsr_interface::MsrAccess;
use wasmsr_kvm::{Drained, KvmRun};

/// Why a vCPU left the guest (KVM api section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exit {
    /// `rdmsr` or `wrmsr`.
    Msr(MsrAccess),
    /// `in`, `out` and their string forms; the bytes are in [`port_data`].
    Port(PortIo),
    /// A load or store at an address without memory or a device of the kernel.
    Mmio(IoDirection),
    /// A triple fault.
    Shutdown,
    /// The guest asked the hypervisor to be powered off.
    PowerOff,
    /// The guest asked the hypervisor to be reset.
    Reset,
    /// KVM cannot go on.
    InternalError(Box<InternalError>),
    /// The processor refuses the guest's state.
    FailEntry {
        /// The hardware's own code.
        reason: u64,
        /// The host CPU that refused.
        cpu: u32,
    },
    /// `KVM_EXIT_*` that a VM built here does not meet.
    Other(u32),
}

/// One port access, of one or (string instructions) several units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortIo {
    pub(crate) port: u16,
    pub(crate) direction: IoDirection,
    /// Bytes of one unit: 1, 2 or 4.
    pub(crate) width: usize,
}

/// Which way the data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IoDirection {
    /// `in` or a load: the device answers.
    In,
    /// `out` or a store.
    Out,
}

/// `KVM_EXIT_INTERNAL_ERROR`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InternalError {
    pub(crate) suberror: u32,
    /// What KVM adds to it.
    pub(crate) data: Vec<u64>,
    /// The instruction that could not be emulated, where KVM tells.
    pub(crate) instruction: Vec<u8>,
}

/// Enters the guest and returns why it left.
pub(crate) fn run(vcpu: &mut VcpuFd) -> Result<Exit, kvm_ioctls::Error> {
    vcpu.run()?;
    Ok(last(vcpu))
}

/// Why the guest was left last.
pub(crate) fn last(vcpu: &mut VcpuFd) -> Exit {
    decode(vcpu.get_kvm_run())
}

/// The raw exit as an owned one.
#[expect(unsafe_code, reason = "an exit's details lie in a union")]
fn decode(run: &mut kvm_run) -> Exit {
    if let Some(access) = view(run).msr_access() {
        return Exit::Msr(access);
    }
    let details = &run.__bindgen_anon_1;
    // SAFETY: every member of the union is made of integers, for which any
    // bytes are valid; `exit_reason` says which member the kernel has filled.
    unsafe {
        match run.exit_reason {
            KVM_EXIT_IO => Exit::Port(PortIo {
                port: details.io.port,
                direction: match u32::from(details.io.direction) {
                    KVM_EXIT_IO_IN => IoDirection::In,
                    _ => IoDirection::Out,
                },
                width: usize::from(details.io.size),
            }),
            KVM_EXIT_MMIO => Exit::Mmio(match details.mmio.is_write {
                0 => IoDirection::In,
                _ => IoDirection::Out,
            }),
            KVM_EXIT_SHUTDOWN => Exit::Shutdown,
            KVM_EXIT_SYSTEM_EVENT => match details.system_event.type_ {
                KVM_SYSTEM_EVENT_SHUTDOWN => Exit::PowerOff,
                KVM_SYSTEM_EVENT_RESET => Exit::Reset,
                _ => Exit::Other(KVM_EXIT_SYSTEM_EVENT),
            },
            KVM_EXIT_FAIL_ENTRY => Exit::FailEntry {
                reason: details.fail_entry.hardware_entry_failure_reason,
                cpu: details.fail_entry.cpu,
            },
            KVM_EXIT_INTERNAL_ERROR => {
                let failure = details.emulation_failure;
                let has_instruction = failure.suberror == KVM_INTERNAL_ERROR_EMULATION
                    && failure.ndata >= 3
                    && failure.flags
                        & u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)
                        != 0;
                let bytes = failure.__bindgen_anon_1.__bindgen_anon_1;
                let length = if has_instruction { usize::from(bytes.insn_size) } else { 0 };
                Exit::InternalError(Box::new(InternalError {
                    suberror: details.internal.suberror,
                    data: first(&details.internal.data, details.internal.ndata as usize),
                    instruction: first(&bytes.insn_bytes, length),
                }))
            }
            other => Exit::Other(other),
        }
    }
}

/// The bytes of the port access for which `vcpu` has just exited: to be read
/// for `out`, to be filled for `in`. Empty after any other exit.
#[expect(unsafe_code, reason = "the bytes lie behind `kvm_run`, in the page that KVM maps there")]
pub(crate) fn port_data(vcpu: &mut VcpuFd) -> &mut [u8] {
    let run = vcpu.get_kvm_run();
    if run.exit_reason != KVM_EXIT_IO {
        return &mut [];
    }
    let start = std::ptr::from_mut(run).cast::<u8>();
    // SAFETY: after this exit the kernel has filled `io`, with an offset into
    // the mapping that starts with `run` and the size of what lies there. The
    // mapping lives as long as `vcpu`, which stays borrowed with the slice.
    unsafe {
        let io = run.__bindgen_anon_1.io;
        let Ok(offset) = usize::try_from(io.data_offset) else {
            return &mut [];
        };
        let length = usize::from(io.size) * io.count as usize;
        std::slice::from_raw_parts_mut(start.add(offset), length)
    }
}

/// The MSR access for which `vcpu` has just exited, to be answered.
pub(crate) fn msr(vcpu: &mut VcpuFd) -> &mut KvmRun {
    view(vcpu.get_kvm_run())
}

/// Answers the MMIO read for which `vcpu` has just exited, like a bus without a device.
pub(crate) fn read_all_ones(vcpu: &mut VcpuFd) {
    vcpu.get_kvm_run().__bindgen_anon_1.mmio.data = [0xff; 8];
}

/// Lets KVM complete an access that has its answer, without going on in the guest.
#[expect(unsafe_code, reason = "KVM_RUN works on the page behind the descriptor")]
pub(crate) fn drain(vcpu: &mut VcpuFd) -> io::Result<Drained> {
    let run = ptr::from_mut(vcpu.get_kvm_run());
    // SAFETY: it is that of this vCPU, which is borrowed here and so not entered elsewhere.
    unsafe { wasmsr_kvm::drain(vcpu, run) }
}

#[expect(unsafe_code, reason = "wasmsr-kvm does not know this type")]
fn view(run: &mut kvm_run) -> &mut KvmRun {
    // SAFETY: kvm-bindings takes its types from the kernel's headers; and a vCPU is out of
    // the guest while its `kvm_run` is borrowed.
    unsafe { KvmRun::of(run) }
}

fn first<T: Clone>(all: &[T], count: usize) -> Vec<T> {
    all.iter().take(count).cloned().collect()
}

#[cfg(test)]
mod tests {
    use kvm_bindings::{KVM_EXIT_X86_WRMSR, KVM_MSR_EXIT_REASON_INVAL};
    use wasmsr_interface::{MsrIndex, MsrOp, Reason};

    use super::*;

    #[track_caller]
    fn check(exit_reason: u32, fill: impl FnOnce(&mut kvm_run), expected: &Exit) {
        let mut run = kvm_run { exit_reason, ..kvm_run::default() };
        fill(&mut run);
        assert_eq!(&decode(&mut run), expected);
    }

    #[test]
    fn msr_accesses() {
        check(
            KVM_EXIT_X86_WRMSR,
            |run| {
                run.__bindgen_anon_1.msr.index = 0x10a;
                run.__bindgen_anon_1.msr.reason = KVM_MSR_EXIT_REASON_INVAL;
                run.__bindgen_anon_1.msr.data = u64::MAX;
            },
            &Exit::Msr(MsrAccess {
                index: MsrIndex(0x10a),
                op: MsrOp::Write(u64::MAX),
                reason: Reason::Invalid,
            }),
        );
    }

    #[test]
    fn port_accesses_keep_their_width() {
        check(
            KVM_EXIT_IO,
            |run| {
                run.__bindgen_anon_1.io.port = 0xf4;
                run.__bindgen_anon_1.io.direction = 1;
                run.__bindgen_anon_1.io.size = 4;
                run.__bindgen_anon_1.io.count = 1;
            },
            &Exit::Port(PortIo { port: 0xf4, direction: IoDirection::Out, width: 4 }),
        );
    }

    #[test]
    fn an_emulation_failure_has_its_instruction() {
        check(
            KVM_EXIT_INTERNAL_ERROR,
            |run| {
                // Flags, then the instruction's length and its bytes.
                let mut data = [0; 16];
                data[..2].copy_from_slice(&[1, 0x0b_0f_02]);
                run.__bindgen_anon_1.internal.suberror = KVM_INTERNAL_ERROR_EMULATION;
                run.__bindgen_anon_1.internal.ndata = 3;
                run.__bindgen_anon_1.internal.data = data;
            },
            &Exit::InternalError(Box::new(InternalError {
                suberror: 1,
                data: vec![1, 0x0b_0f_02, 0],
                instruction: vec![0x0f, 0x0b],
            })),
        );
    }

    #[test]
    fn an_internal_error_never_reads_beyond_its_data() {
        let mut run = kvm_run { exit_reason: KVM_EXIT_INTERNAL_ERROR, ..kvm_run::default() };
        run.__bindgen_anon_1.internal.suberror = 4;
        run.__bindgen_anon_1.internal.ndata = u32::MAX;
        let exit = decode(&mut run);
        let Exit::InternalError(error) = exit else { panic!("{exit:?}") };
        assert_eq!((error.data.len(), error.instruction.len()), (16, 0));
    }

    #[test]
    fn the_rest() {
        check(KVM_EXIT_SHUTDOWN, |_| (), &Exit::Shutdown);
        check(KVM_EXIT_MMIO, |_| (), &Exit::Mmio(IoDirection::In));
        check(
            KVM_EXIT_MMIO,
            |run| run.__bindgen_anon_1.mmio.is_write = 1,
            &Exit::Mmio(IoDirection::Out),
        );
        check(
            KVM_EXIT_SYSTEM_EVENT,
            |run| run.__bindgen_anon_1.system_event.type_ = 2,
            &Exit::Reset,
        );
        check(4711, |_| (), &Exit::Other(4711));
    }
}
