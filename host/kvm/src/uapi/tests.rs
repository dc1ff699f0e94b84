//! The structures and numbers, held against those of kvm-bindings.
#![expect(unsafe_code, reason = "looks at a vCPU's `struct kvm_run` through another type")]

use std::mem::offset_of;

use kvm_bindings as theirs;
use vmm_sys_util::ioctl::{_IOC_NONE, _IOC_READ, _IOC_WRITE, ioctl_expr};

use super::*;

/// Size, and offsets of these members, of our type and of theirs.
macro_rules! same {
    ($ours:ty, $theirs:ty, $($member:ident),+) => {
        assert_eq!(size_of::<$ours>(), size_of::<$theirs>(), stringify!($ours));
        $(assert_eq!(
            offset_of!($ours, $member),
            offset_of!($theirs, $member),
            concat!(stringify!($ours), "::", stringify!($member))
        );)+
    };
}

#[test]
fn structures_are_laid_out_as_in_the_kernels_headers() {
    same!(EnableCap, theirs::kvm_enable_cap, cap, flags, args, pad);
    same!(MsrFilter, theirs::kvm_msr_filter, flags, ranges);
    same!(MsrFilterRange, theirs::kvm_msr_filter_range, flags, nmsrs, base, bitmap);
    same!(MsrsHeader, theirs::kvm_msrs, nmsrs, pad);
    same!(MsrEntry, theirs::kvm_msr_entry, index, reserved, data);
    assert_eq!(offset_of!(OneMsr, entry), offset_of!(theirs::kvm_msrs, entries));
    same!(CpuidHeader, theirs::kvm_cpuid2, nent, padding);
    assert_eq!(offset_of!(CpuidTable<1>, entries), offset_of!(theirs::kvm_cpuid2, entries));
    same!(
        CpuidEntry,
        theirs::kvm_cpuid_entry2,
        function,
        index,
        flags,
        eax,
        ebx,
        ecx,
        edx,
        padding
    );
    same!(ClockData, theirs::kvm_clock_data, clock, flags, pad0, realtime, host_tsc, pad);
}

#[test]
fn an_msr_exit_lies_where_the_kernel_puts_it() {
    type Run = theirs::kvm_run;
    let mut run = Run::default();
    let start = (&raw const run).addr();
    let msr = (&raw const run.__bindgen_anon_1.msr).addr();
    assert_eq!(offset_of!(KvmRun, msr), msr - start);
    assert_eq!(offset_of!(KvmRun, immediate_exit), offset_of!(Run, immediate_exit));
    assert_eq!(offset_of!(KvmRun, exit_reason), offset_of!(Run, exit_reason));

    run.exit_reason = KVM_EXIT_X86_WRMSR;
    run.__bindgen_anon_1.msr.error = 1;
    run.__bindgen_anon_1.msr.reason = 2;
    run.__bindgen_anon_1.msr.index = 3;
    run.__bindgen_anon_1.msr.data = 4;
    // SAFETY: kvm-bindings' `kvm_run` is the kernel's, and there is no vCPU.
    let MsrExit { error, reason, index, data, .. } = unsafe { KvmRun::of(&mut run) }.msr;
    assert_eq!((error, reason, index, data), (1, 2, 3, 4));
}

#[test]
fn rip_lies_where_the_kernel_has_it() {
    assert_eq!(std::mem::offset_of!(Regs, rip), std::mem::offset_of!(theirs::kvm_regs, rip));
}

#[test]
fn numbers_are_the_kernels() {
    let both = _IOC_READ | _IOC_WRITE;
    let numbers = [
        (KVM_GET_SUPPORTED_CPUID, both, 0x05, size_of::<theirs::kvm_cpuid2>()),
        (KVM_GET_CLOCK, _IOC_READ, 0x7c, size_of::<theirs::kvm_clock_data>()),
        (KVM_RUN, _IOC_NONE, 0x80, 0),
        (KVM_GET_REGS, _IOC_READ, 0x81, size_of::<theirs::kvm_regs>()),
        (KVM_GET_MSRS, both, 0x88, size_of::<theirs::kvm_msrs>()),
        (KVM_SET_MSRS, _IOC_WRITE, 0x89, size_of::<theirs::kvm_msrs>()),
        (KVM_SET_CPUID2, _IOC_WRITE, 0x90, size_of::<theirs::kvm_cpuid2>()),
        (KVM_ENABLE_CAP, _IOC_WRITE, 0xa3, size_of::<theirs::kvm_enable_cap>()),
        (KVM_GET_TSC_KHZ, _IOC_NONE, 0xa3, 0),
        (KVM_X86_SET_MSR_FILTER, _IOC_WRITE, 0xc6, size_of::<theirs::kvm_msr_filter>()),
    ];
    for (ours, direction, number, size) in numbers {
        let size = u32::try_from(size).unwrap();
        assert_eq!(ours, ioctl_expr(direction, theirs::KVMIO, number, size), "{number:#x}");
    }
    let constants = [
        (KVM_CAP_X86_USER_SPACE_MSR, theirs::KVM_CAP_X86_USER_SPACE_MSR),
        (KVM_EXIT_X86_RDMSR, theirs::KVM_EXIT_X86_RDMSR),
        (KVM_EXIT_X86_WRMSR, theirs::KVM_EXIT_X86_WRMSR),
        (KVM_MSR_EXIT_REASON_INVAL, theirs::KVM_MSR_EXIT_REASON_INVAL),
        (KVM_MSR_EXIT_REASON_UNKNOWN, theirs::KVM_MSR_EXIT_REASON_UNKNOWN),
        (KVM_MSR_EXIT_REASON_FILTER, theirs::KVM_MSR_EXIT_REASON_FILTER),
        (KVM_MSR_FILTER_READ, theirs::KVM_MSR_FILTER_READ),
        (KVM_MSR_FILTER_WRITE, theirs::KVM_MSR_FILTER_WRITE),
        (KVM_CPUID_FLAG_SIGNIFCANT_INDEX, theirs::KVM_CPUID_FLAG_SIGNIFCANT_INDEX),
        (KVM_CLOCK_TSC_STABLE, theirs::KVM_CLOCK_TSC_STABLE),
    ];
    for (ours, theirs) in constants {
        assert_eq!(ours, theirs);
    }
}
