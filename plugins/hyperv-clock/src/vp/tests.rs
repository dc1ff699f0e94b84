extern crate std;

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use wasmsr_sdk::memory::GuestAddress;
use wasmsr_sdk::native::Host;

use super::*;
use crate::page::PAGE_SIZE;

const THIS: VcpuId = VcpuId(3);

fn vp() -> Vp {
    Vp::new(THIS)
}

fn set_ran(host: &Host, ran_ns: u64) {
    host.set_vcpu_times(THIS, Times { ran_ns, waited_ns: 7 });
}

#[test]
fn the_index_is_the_vcpus_number_for_ever() {
    let _host = Host::fresh();
    let mut vp = vp();
    assert_eq!(vp.rdmsr(HV_X64_MSR_VP_INDEX), Ok(3));
    for value in [0, 3, u64::MAX] {
        assert_eq!(vp.wrmsr(HV_X64_MSR_VP_INDEX, value), Err(Otherwise::Fault));
    }
    vp.reset();
    assert_eq!(vp.rdmsr(HV_X64_MSR_VP_INDEX), Ok(3));
}

#[test]
fn the_run_time_is_what_the_host_counts() {
    let host = Host::fresh();
    let mut vp = vp();
    set_ran(&host, 123_456);
    assert_eq!(vp.rdmsr(HV_X64_MSR_VP_RUNTIME), Ok(1234));
    assert_eq!(vp.wrmsr(HV_X64_MSR_VP_RUNTIME, 0), Err(Otherwise::Fault));
    vp.reset();
    assert_eq!(vp.rdmsr(HV_X64_MSR_VP_RUNTIME), Ok(1234));
}

#[test]
fn a_vcpu_that_no_kernel_counts_runs_all_the_time() {
    let host = Host::fresh();
    host.set_monotonic_ns(1_000_000);
    assert_eq!(vp().rdmsr(HV_X64_MSR_VP_RUNTIME), Ok(10_000));
}

#[test]
fn everything_else_is_missing() {
    let _host = Host::fresh();
    let mut vp = vp();
    let offered = [HV_X64_MSR_VP_INDEX, HV_X64_MSR_VP_RUNTIME, HV_X64_MSR_VP_ASSIST_PAGE];
    for msr in (0x4000_0000..0x4000_0200).map(MsrIndex) {
        if !offered.contains(&msr) {
            assert_eq!(vp.rdmsr(msr), Err(Otherwise::Fault), "{msr}");
            assert_eq!(vp.wrmsr(msr, 0), Err(Otherwise::Fault), "{msr}");
        }
    }
}

#[test]
fn the_assist_page_begins_with_zeros() {
    let host = Host::fresh();
    host.set_memory(GuestAddress(0x1000), &[0x55; 2 * PAGE_SIZE]);
    let mut vp = vp();
    assert_eq!(vp.wrmsr(HV_X64_MSR_VP_ASSIST_PAGE, 0x1000), Ok(()));
    assert_eq!(host.memory(GuestAddress(0x1000), 1), Some(vec![0x55]), "not enabled");
    // All reserved bits too, which stay 0.
    assert_eq!(vp.wrmsr(HV_X64_MSR_VP_ASSIST_PAGE, 0x1fff), Ok(()));
    assert_eq!(vp.rdmsr(HV_X64_MSR_VP_ASSIST_PAGE), Ok(0x1001));
    assert_eq!(host.memory(GuestAddress(0x1000), PAGE_SIZE), Some(vec![0; PAGE_SIZE]));
    assert_eq!(host.memory(GuestAddress(0x2000), 1), Some(vec![0x55]));

    // Writing it again unchanged keeps the guest's own data in it.
    host.set_memory(GuestAddress(0x1000), &[0x66; PAGE_SIZE]);
    assert_eq!(vp.wrmsr(HV_X64_MSR_VP_ASSIST_PAGE, 0x1001), Ok(()));
    assert_eq!(host.memory(GuestAddress(0x1000), 1), Some(vec![0x66]));
}

#[test]
fn an_assist_page_outside_of_memory_changes_nothing() {
    let host = Host::fresh();
    host.set_memory(GuestAddress(0x1000), &[0x55; PAGE_SIZE]);
    let mut vp = vp();
    vp.wrmsr(HV_X64_MSR_VP_ASSIST_PAGE, 0x1001).unwrap();
    for value in [1, 0x2001, 0xffff_ffff_ffff_f001, u64::MAX] {
        assert_eq!(vp.wrmsr(HV_X64_MSR_VP_ASSIST_PAGE, value), Err(Otherwise::Fault));
        assert_eq!(vp.rdmsr(HV_X64_MSR_VP_ASSIST_PAGE), Ok(0x1001));
    }
    // The address of a disabled page does not matter.
    assert_eq!(vp.wrmsr(HV_X64_MSR_VP_ASSIST_PAGE, u64::MAX - 1), Ok(()));
    vp.reset();
    assert_eq!(vp.rdmsr(HV_X64_MSR_VP_ASSIST_PAGE), Ok(0));
}

#[test]
fn a_register_that_no_guest_can_have_written_is_not_restored() {
    let _host = Host::fresh();
    let state = State { assist: PageRegister::written(0x1001), ..State::default() };
    assert_eq!(vp().restore(state), Ok(()));
    for reserved in 1..12 {
        let json = std::format!(r#"{{"ran_ns":0,"counted_ns":0,"assist":{}}}"#, 1_u64 << reserved);
        assert!(vp().restore(serde_json_of(&json)).is_err(), "bit {reserved}");
    }
}

fn serde_json_of(json: &str) -> State {
    serde_json::from_str(json).unwrap()
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Runs(u64),
    Reads,
    /// Saved and restored, here or in another VM.
    Moves {
        elsewhere: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..1_000_000_u64).prop_map(Step::Runs),
        Just(Step::Reads),
        any::<bool>().prop_map(|elsewhere| Step::Moves { elsewhere }),
    ];
    prop::collection::vec(step, 0..32)
}

proptest! {
    /// The model adds up the run time by itself.
    #[test]
    fn the_run_time_survives_every_move(steps in steps()) {
        let host = Host::fresh();
        let (mut vp, mut ran, mut counted) = (vp(), 0, 0);
        set_ran(&host, 0);
        for step in steps {
            match step {
                Step::Runs(ns) => {
                    ran += ns;
                    counted += ns;
                    set_ran(&host, counted);
                }
                Step::Reads => prop_assert_eq!(vp.rdmsr(HV_X64_MSR_VP_RUNTIME), Ok(ran / 100)),
                Step::Moves { elsewhere } => {
                    let state = vp.save();
                    if elsewhere {
                        counted = 0;
                        set_ran(&host, 0);
                    }
                    vp = Vp::new(THIS);
                    vp.restore(state).unwrap();
                    // Before it can have run as long as on the other host.
                    prop_assert_eq!(vp.rdmsr(HV_X64_MSR_VP_RUNTIME), Ok(ran / 100));
                }
            }
        }
    }
}
