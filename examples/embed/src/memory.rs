//! Guest memory, for KVM and for plugins.
#![expect(unsafe_code, reason = "guest memory is given to KVM by its address")]

use anyhow::Context;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, VolatileSlice,
};
use wasmsr_interface::OutsideMemory;
use wasmsr_kvm::GuestRam;

/// Memory of this size, from address 0.
pub(crate) fn make(vm: &VmFd, size: usize) -> anyhow::Result<GuestMemoryMmap> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), size)])?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: size.try_into()?,
        userspace_addr: memory.get_host_address(GuestAddress(0))? as u64,
    };
    // SAFETY: the mapping has this size, and each vCPU's `KvmHost` keeps it mapped.
    unsafe { vm.set_user_memory_region(region) }.context("give memory to the VM")?;
    // Three pages that KVM needs for real mode on Intel, beyond the memory.
    vm.set_tss_address(0xfffb_d000).context("place the task state")?;
    Ok(memory)
}

// ANCHOR: ram
/// What plugins with the capability `guest-memory` reach.
pub(crate) struct Ram(pub(crate) GuestMemoryMmap);

impl Ram {
    fn slice(&self, gpa: u64, len: usize) -> Result<VolatileSlice<'_>, OutsideMemory> {
        self.0.get_slice(GuestAddress(gpa), len).map_err(|_| OutsideMemory { gpa, len })
    }
}

impl GuestRam for Ram {
    fn ranges(&self) -> Vec<(u64, u64)> {
        self.0.iter().map(|region| (region.start_addr().0, region.len())).collect()
    }

    fn read(&self, gpa: u64, out: &mut [u8]) -> Result<(), OutsideMemory> {
        self.slice(gpa, out.len()).map(|ram| _ = ram.copy_to(out))
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), OutsideMemory> {
        self.slice(gpa, data.len()).map(|ram| ram.copy_from(data))
    }
}
// ANCHOR_END: ram
