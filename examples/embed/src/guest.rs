//! A guest of a few bytes in real mode, which prints what it reads.

use anyhow::{Context, Result};
use kvm_bindings::kvm_regs;
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// The port to which it writes the lower half of what it reads.
pub(crate) const VALUE: u16 = 0x10;

/// The port to which it writes after a #GP.
pub(crate) const FAULT: u16 = 0x11;

const CODE: u64 = 0x1000;
const HANDLER: u64 = 0x2000;
const STACK: u64 = 0x8000;

/// What each vCPU does.
fn code() -> Vec<u8> {
    // A counter, of which each vCPU has its own.
    const COUNTER: u32 = 0x434e_5400;
    let counter = [read(COUNTER), read(COUNTER), write(COUNTER, 41), read(COUNTER)];
    // IA32_ARCH_CAPABILITIES, which is read-only.
    let read_only = [read(0x10a), write(0x10a, 1)];
    // An MSR that neither a plugin nor KVM knows: the policy's `unknown`.
    let unknown = read(0xdead_beef);
    let halt = vec![0xf4]; // hlt
    [counter.concat(), read_only.concat(), unknown, halt].concat()
}

fn read(msr: u32) -> Vec<u8> {
    let mut code = vec![0x66, 0xb9]; // mov ecx, msr
    code.extend(msr.to_le_bytes());
    code.extend([0x0f, 0x32]); // rdmsr
    code.extend([0x66, 0xe7, 0x10]); // out VALUE, eax
    code
}

fn write(msr: u32, value: u32) -> Vec<u8> {
    let mut code = vec![0x66, 0x31, 0xd2]; // xor edx, edx
    code.extend([0x66, 0xb8]); // mov eax, value
    code.extend(value.to_le_bytes());
    code.extend([0x66, 0xb9]); // mov ecx, msr
    code.extend(msr.to_le_bytes());
    code.extend([0x0f, 0x30]); // wrmsr
    code
}

/// Tells of the #GP, and goes on behind the instruction, which has two bytes.
const GENERAL_PROTECTION: &[u8] = &[
    0xe6, 0x11, // out FAULT, al
    0x58, // pop ax
    0x83, 0xc0, 0x02, // add ax, 2
    0x50, // push ax
    0xcf, // iret
];

/// A value that the guest has written to [`VALUE`], as text.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let value = bytes.try_into().map_or(0, u32::from_le_bytes);
    format!("{value:#x}")
}

/// Puts the guest into memory.
pub(crate) fn load(memory: &GuestMemoryMmap) -> Result<()> {
    memory.write_slice(&code(), GuestAddress(CODE))?;
    memory.write_slice(GENERAL_PROTECTION, GuestAddress(HANDLER))?;
    // Its vector, 13: offset and segment.
    Ok(memory.write_slice(&HANDLER.to_le_bytes()[..4], GuestAddress(13 * 4))?)
}

/// Sets the first instruction and a stack of its own for each vCPU.
pub(crate) fn set_registers(vcpu: &VcpuFd, id: u32) -> Result<()> {
    let mut segments = vcpu.get_sregs().context("read segments")?;
    segments.cs.base = 0;
    segments.cs.selector = 0;
    vcpu.set_sregs(&segments).context("set segments")?;
    let registers =
        kvm_regs { rip: CODE, rsp: STACK - 0x40 * u64::from(id), rflags: 2, ..kvm_regs::default() };
    vcpu.set_regs(&registers).context("set registers")
}
