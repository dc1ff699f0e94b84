extern crate std;

mod handover;
mod model;

use std::vec;

use wasmsr_sdk::memory::GuestAddress;
use wasmsr_sdk::native::Host;
use wasmsr_sdk::{MsrIndex, Plugin, Reason, Reset, Timer};

use super::*;
use crate::HypervClock;
use crate::msr::{HV_X64_MSR_VP_INDEX, IA32_TSC_ADJUST};
use crate::page::PAGE_SIZE;

const PAGE: GuestAddress = GuestAddress(0x2000);

/// A guest with this many vCPUs, RAM of four pages and a trusted counter of 1
/// GHz.
fn host(vcpus: u32) -> Host {
    let host = Host::fresh();
    host.set_vcpus(vcpus);
    host.set_memory(GuestAddress(0), &[0x55; 4 * PAGE_SIZE]);
    host.set_tsc_khz(1_000_000);
    host.set_tsc_is_stable(true);
    host.set_kvm_msr(IA32_TSC_ADJUST, 0);
    set_time(&host, 1_000_000);
    host
}

fn set_time(host: &Host, ns: u64) {
    host.set_tsc(ns);
    host.set_monotonic_ns(ns);
}

fn on(vcpu: u32, index: MsrIndex) -> Access {
    Access::new(index, VcpuId(vcpu), Reason::Filter)
}

fn loaded(host: &Host) -> HypervClock {
    host.load_for(None, "{}").unwrap()
}

fn read(plugin: &mut HypervClock, index: MsrIndex) -> Result<u64, Otherwise> {
    plugin.rdmsr(on(0, index))
}

fn write(plugin: &mut HypervClock, index: MsrIndex, value: u64) -> Result<(), Otherwise> {
    plugin.wrmsr(on(0, index), value)
}

/// Sequence, scale and offset as stored in the page.
fn page(host: &Host) -> (u32, u64, i64) {
    let bytes = host.memory(PAGE, 24).unwrap();
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    (u32::try_from(word(0)).expect("the reserved word is 0"), word(8), word(16).cast_signed())
}

/// The time that a guest reads from the page, if that is valid.
fn paged(host: &Host, tsc: u64) -> Option<u64> {
    let (sequence, scale, offset) = page(host);
    let high = u64::try_from((u128::from(tsc) * u128::from(scale)) >> 64).unwrap();
    (sequence != 0).then(|| high.wrapping_add_signed(offset))
}

#[test]
fn the_registers_begin_as_the_partition_does() {
    let host = host(1);
    let mut plugin = loaded(&host);
    for (index, value) in [
        (HV_X64_MSR_GUEST_OS_ID, 0),
        (HV_X64_MSR_HYPERCALL, 0),
        (HV_X64_MSR_TIME_REF_COUNT, 10_000),
        (HV_X64_MSR_REFERENCE_TSC, 0),
        (HV_X64_MSR_TSC_FREQUENCY, 1_000_000_000),
        (HV_X64_MSR_APIC_FREQUENCY, 1_000_000_000),
        (HV_X64_MSR_CRASH_P0, 0),
        (HV_X64_MSR_CRASH_CTL, 0xc000_0000_0000_0000),
    ] {
        assert_eq!(read(&mut plugin, index), Ok(value), "{index}");
    }
    assert_eq!(host.timer(), None);
}

#[test]
fn what_cannot_be_written_faults_and_stays() {
    let host = host(1);
    let mut plugin = loaded(&host);
    for index in [HV_X64_MSR_TIME_REF_COUNT, HV_X64_MSR_TSC_FREQUENCY, HV_X64_MSR_APIC_FREQUENCY] {
        let before = read(&mut plugin, index);
        for value in [0, 1, u64::MAX] {
            assert_eq!(write(&mut plugin, index, value), Err(Otherwise::Fault), "{index}");
        }
        assert_eq!(read(&mut plugin, index), before, "{index}");
    }
    for index in [HV_X64_MSR_VP_INDEX, MsrIndex(0x4000_0106), MsrIndex(0x4000_00ff), MsrIndex(0)] {
        assert_eq!(read(&mut plugin, index), Err(Otherwise::Fault), "{index}");
        assert_eq!(write(&mut plugin, index, 0), Err(Otherwise::Fault), "{index}");
    }
}

#[test]
fn crash_parameters_are_kept_and_the_control_is_not() {
    let host = host(1);
    let mut plugin = loaded(&host);
    for number in 0..5 {
        let index = MsrIndex(HV_X64_MSR_CRASH_P0.0 + number);
        write(&mut plugin, index, u64::MAX - u64::from(number)).unwrap();
        assert_eq!(read(&mut plugin, index), Ok(u64::MAX - u64::from(number)));
    }
    write(&mut plugin, HV_X64_MSR_CRASH_CTL, 0).unwrap();
    assert_eq!(read(&mut plugin, HV_X64_MSR_CRASH_CTL), Ok(crash::CAPABILITIES));
    assert!(host.logged().is_empty());
    write(&mut plugin, HV_X64_MSR_CRASH_CTL, 1 << 63).unwrap();
    assert_eq!(host.logged().len(), 1);
    plugin.reset();
    assert_eq!(read(&mut plugin, HV_X64_MSR_CRASH_P0), Ok(0));
}

#[test]
fn the_page_gives_what_the_msr_gives() {
    let host = host(1);
    let mut plugin = loaded(&host);
    write(&mut plugin, HV_X64_MSR_REFERENCE_TSC, PAGE.0 | 0xfff).unwrap();
    assert_eq!(read(&mut plugin, HV_X64_MSR_REFERENCE_TSC), Ok(PAGE.0 | 1));
    assert_eq!(page(&host).0, 1);
    let rest = host.memory(GuestAddress(PAGE.0 + 24), PAGE_SIZE - 24).unwrap();
    assert!(rest.iter().all(|byte| *byte == 0));
    assert_eq!(host.memory(GuestAddress(PAGE.0 - 1), 1), Some(vec![0x55]));
    assert_eq!(host.memory(GuestAddress(PAGE.0 + 0x1000), 1), Some(vec![0x55]));
    for ns in [1_000_000, 1_000_001, 2_345_678, 900_000_000] {
        set_time(&host, ns);
        let msr = read(&mut plugin, HV_X64_MSR_TIME_REF_COUNT).unwrap();
        assert_eq!(paged(&host, ns), Some(msr));
        assert!(msr.abs_diff(ns / 100) <= 1, "{msr} at {ns}");
    }
}

#[test]
fn the_page_is_renewed_under_a_new_sequence() {
    let host = host(1);
    let mut plugin: HypervClock = host.load_for(None, r#"{"refresh-ms": 500}"#).unwrap();
    write(&mut plugin, HV_X64_MSR_REFERENCE_TSC, PAGE.0 | 1).unwrap();
    for sequence in 2..6 {
        let due = host.timer().unwrap();
        assert_eq!(due, 1_000_000 + 500_000_000 * u64::from(sequence - 1));
        set_time(&host, due);
        plugin.timer();
        assert_eq!(page(&host).0, sequence);
    }
}

#[test]
fn a_disabled_page_is_left_invalid() {
    let host = host(1);
    let mut plugin = loaded(&host);
    write(&mut plugin, HV_X64_MSR_REFERENCE_TSC, PAGE.0 | 1).unwrap();
    write(&mut plugin, HV_X64_MSR_REFERENCE_TSC, PAGE.0).unwrap();
    assert_eq!(page(&host).0, 0);
    let due = host.timer();
    host.set_memory(PAGE, &[0x77; 24]);
    plugin.timer();
    assert_eq!(host.timer(), due, "the timer is not set again");
    assert_eq!(host.memory(PAGE, 24), Some(vec![0x77; 24]));
}

#[test]
fn a_page_outside_of_memory_is_taken_but_is_none() {
    let host = host(1);
    let mut plugin = loaded(&host);
    for value in [0x4001, 0xffff_ffff_ffff_f001] {
        write(&mut plugin, HV_X64_MSR_REFERENCE_TSC, value).unwrap();
        assert_eq!(read(&mut plugin, HV_X64_MSR_REFERENCE_TSC), Ok(value));
        assert_eq!(read(&mut plugin, HV_X64_MSR_TIME_REF_COUNT), Ok(10_000));
        assert_eq!(host.timer(), None);
    }
    assert_eq!(host.logged().len(), 2);
}

#[test]
fn a_counter_that_cannot_be_trusted_gives_an_invalid_page() {
    let host = host(1);
    host.set_tsc_is_stable(false);
    let mut plugin = loaded(&host);
    write(&mut plugin, HV_X64_MSR_REFERENCE_TSC, PAGE.0 | 1).unwrap();
    assert_eq!(page(&host).0, 0);
    host.set_tsc(u64::MAX / 3);
    assert_eq!(read(&mut plugin, HV_X64_MSR_TIME_REF_COUNT), Ok(10_000), "by the host's clock");
    // Until it can.
    host.set_tsc_is_stable(true);
    plugin.timer();
    assert_eq!(page(&host).0, 1);
    host.set_tsc_is_stable(false);
    plugin.timer();
    assert_eq!(page(&host).0, 0);
}

#[test]
fn vcpus_that_differ_make_the_page_invalid() {
    let host = host(2);
    let mut plugin = loaded(&host);
    write(&mut plugin, HV_X64_MSR_REFERENCE_TSC, PAGE.0 | 1).unwrap();
    assert_eq!(page(&host).0, 1);

    // vCPU 1 has moved its own counter.
    host.set_kvm_msr(IA32_TSC_ADJUST, 5_000_000_000);
    host.set_tsc(5_001_000_000);
    let time = plugin.rdmsr(on(1, HV_X64_MSR_TIME_REF_COUNT)).unwrap();
    assert!(time.abs_diff(10_000) <= 1, "{time}");
    assert_eq!(page(&host).0, 0);

    // Then vCPU 0 does the same, and from then on there is a page.
    plugin.rdmsr(on(0, HV_X64_MSR_TIME_REF_COUNT)).unwrap();
    assert_eq!(page(&host).0, 0);
    plugin.timer();
    assert_eq!(page(&host).0, 2);
    assert_eq!(paged(&host, 5_001_000_000), Some(time));
}

#[test]
fn a_timer_that_rings_late_is_of_the_vcpu_that_asked() {
    let host = host(2);
    let mut plugin = loaded(&host);
    // vCPU 0 asks, vCPU 1 disables the page: the timer is still set.
    write(&mut plugin, HV_X64_MSR_REFERENCE_TSC, PAGE.0 | 1).unwrap();
    plugin.wrmsr(on(1, HV_X64_MSR_REFERENCE_TSC), PAGE.0).unwrap();
    host.set_kvm_msr(IA32_TSC_ADJUST, 1 << 40);
    host.set_tsc(1 << 40 | 1_000_000);
    plugin.timer();
    // On vCPU 1 nothing has changed, so two values exist.
    host.set_kvm_msr(IA32_TSC_ADJUST, 0);
    host.set_tsc(1_000_000);
    plugin.wrmsr(on(1, HV_X64_MSR_REFERENCE_TSC), PAGE.0 | 1).unwrap();
    assert_eq!(page(&host).0, 0);
}

#[test]
fn one_page_for_code_and_clock_is_the_guests_own_mistake() {
    let host = host(1);
    let mut plugin = loaded(&host);
    write(&mut plugin, HV_X64_MSR_GUEST_OS_ID, 1).unwrap();
    write(&mut plugin, HV_X64_MSR_REFERENCE_TSC, PAGE.0 | 1).unwrap();
    write(&mut plugin, HV_X64_MSR_HYPERCALL, PAGE.0 | 1).unwrap();
    assert_eq!(host.memory(PAGE, 2), Some(vec![0x31, 0xc0]));
    plugin.timer();
    assert_eq!(host.memory(PAGE, 4), Some(vec![2, 0, 0, 0]));
    assert_eq!(read(&mut plugin, HV_X64_MSR_HYPERCALL), Ok(PAGE.0 | 1));
}
