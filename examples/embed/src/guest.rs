//! A guest of a few bytes in real mode, which prints what it reads.
#![expect(unsafe_code, reason = "guest memory is given to KVM by its address")]

use anyhow::{Context, Result};
use kvm_bindings::{kvm_regs, kvm_userspace_memory_region};
use kvm_ioctls::{VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// The port to which it writes the lower half of what it has read.
pub(crate) const VALUE: u16 = 0x10;

/// The port to which it writes when an access was #GP.
pub(crate) const FAULT: u16 = 0x11;

const CODE: u64 = 0x1000;
const HANDLER: u64 = 0x2000;
const STACK: u64 = 0x8000;

/// What each vCPU does.
fn code() -> Vec<u8> {
    let mut code = Vec::new();
    // The counter, of which each vCPU has its own.
    code.extend(read(0x434e_5400));
    code.extend(read(0x434e_5400));
    code.extend(write(0x434e_5400, 41));
    code.extend(read(0x434e_5400));
    // IA32_ARCH_CAPABILITIES, which is read-only.
    code.extend(read(0x10a));
    code.extend(write(0x10a, 1));
    // One that nobody knows: the policy's `unknown`.
    code.extend(read(0xdead_beef));
    code.push(0xf4); // hlt
    code
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

/// Says so, and goes on behind the instruction, which has two bytes.
const GENERAL_PROTECTION: &[u8] = &[
    0xe6, 0x11, // out FAULT, al
    0x58, // pop ax
    0x83, 0xc0, 0x02, // add ax, 2
    0x50, // push ax
    0xcf, // iret
];

/// What it has written to [`VALUE`].
pub(crate) fn shown(bytes: &[u8]) -> String {
    let value = bytes.try_into().map_or(0, u32::from_le_bytes);
    format!("{value:#x}")
}

/// Guest memory with the guest in it.
pub(crate) fn memory(vm: &VmFd, size: u64) -> Result<GuestMemoryMmap> {
    let length = usize::try_from(size)?;
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), length)])?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: size,
        userspace_addr: memory.get_host_address(GuestAddress(0))? as u64,
    };
    // SAFETY: the mapping has this size, and whoever runs a vCPU of this VM
    // keeps it: nothing is unmapped before the last thread of one has ended.
    unsafe { vm.set_user_memory_region(region) }.context("give memory to the VM")?;
    // Three pages that KVM needs for real mode on Intel, beyond the memory.
    vm.set_tss_address(0xfffb_d000).context("place the task state")?;

    memory.write_slice(&code(), GuestAddress(CODE))?;
    memory.write_slice(GENERAL_PROTECTION, GuestAddress(HANDLER))?;
    // Its vector, 13: offset and segment.
    memory.write_slice(&HANDLER.to_le_bytes()[..4], GuestAddress(13 * 4))?;
    Ok(memory)
}

/// Where the vCPU begins, with a stack of its own.
pub(crate) fn set_registers(vcpu: &VcpuFd, id: u32) -> Result<()> {
    let mut segments = vcpu.get_sregs().context("read segments")?;
    segments.cs.base = 0;
    segments.cs.selector = 0;
    vcpu.set_sregs(&segments).context("set segments")?;
    let registers =
        kvm_regs { rip: CODE, rsp: STACK - 0x40 * u64::from(id), rflags: 2, ..kvm_regs::default() };
    vcpu.set_regs(&registers).context("set registers")
}
