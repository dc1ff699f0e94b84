use alloc::string::ToString;

use proptest::prelude::*;
use wasmsr_sdk::vcpus::Times;
use wasmsr_sdk::{Bits64, Persist, Reset, Timer};

use super::*;
use crate::State;
use crate::steal::Kept;

const VCPU: u32 = 1;
const AT: u64 = RAM + 0x40;

fn loaded(host: &Host) -> KvmClock {
    host.load_for(Some(VcpuId(VCPU)), "{}").unwrap()
}

/// With the structure zeroed, as guests must do.
fn zeroed() -> Host {
    let host = host(2);
    host.set_memory(GuestAddress(RAM), &[0; RAM_LEN]);
    host
}

fn waited(host: &Host, ns: u64) {
    host.set_vcpu_times(VcpuId(VCPU), Times { ran_ns: 5, waited_ns: ns });
}

fn steal(host: &Host) -> u64 {
    assert_eq!(u32_at(host, AT + 8) % 2, 0, "version");
    assert_eq!(u32_at(host, AT + 12), 0, "flags");
    assert_eq!(bytes(host, AT + 16), [0; 48], "preempted and padding");
    u64_at(host, AT)
}

#[test]
fn waiting_is_counted_from_the_enabling_on() {
    let host = zeroed();
    let mut plugin = loaded(&host);
    waited(&host, 1_000_000);
    assert_eq!(plugin.wrmsr(on(VCPU, STEAL_TIME), AT | 1), Ok(()));
    assert_eq!(steal(&host), 0);
    assert_eq!(host.timer(), Some(10_100_000_000));

    waited(&host, 1_000_700);
    host.set_monotonic_ns(10_100_000_000);
    plugin.timer();
    assert_eq!(steal(&host), 700);
    assert_eq!(host.timer(), Some(10_200_000_000));
    assert_eq!(plugin.rdmsr(on(VCPU, STEAL_TIME)), Ok(AT | 1));

    // Waiting while disabled is not counted.
    plugin.wrmsr(on(VCPU, STEAL_TIME), 0).unwrap();
    waited(&host, 9_000_000);
    plugin.timer();
    assert_eq!(steal(&host), 700);
    plugin.wrmsr(on(VCPU, STEAL_TIME), AT | 1).unwrap();
    waited(&host, 9_000_001);
    plugin.timer();
    assert_eq!(steal(&host), 701);
}

#[test]
fn reserved_bits_fault_and_change_nothing() {
    let host = zeroed();
    let mut plugin = loaded(&host);
    waited(&host, 0);
    plugin.wrmsr(on(VCPU, STEAL_TIME), AT | 1).unwrap();
    for bit in 1..6 {
        for enabled in [0, 1] {
            let value = AT | 1 << bit | enabled;
            assert_eq!(plugin.wrmsr(on(VCPU, STEAL_TIME), value), Err(Otherwise::Fault));
            assert_eq!(plugin.rdmsr(on(VCPU, STEAL_TIME)), Ok(AT | 1));
        }
    }
    assert_eq!(plugin.wrmsr(on(VCPU, STEAL_TIME), u64::MAX), Err(Otherwise::Fault));
    assert_eq!(u32_at(&host, AT + 8), 2, "written once");
}

#[test]
fn a_host_that_does_not_count_faults_every_write() {
    let host = zeroed();
    let mut plugin = loaded(&host);
    for value in [AT | 1, AT, 0] {
        assert_eq!(plugin.wrmsr(on(VCPU, STEAL_TIME), value), Err(Otherwise::Fault));
    }
    assert_eq!(plugin.rdmsr(on(VCPU, STEAL_TIME)), Ok(0));
    assert_eq!(host.timer(), None);
}

#[test]
fn other_registers_and_addresses_are_harmless() {
    let host = host(2);
    let mut plugin = loaded(&host);
    waited(&host, 0);
    for msr in [WALL_CLOCK, SYSTEM_TIME, 0x11, 0x12] {
        assert_eq!(plugin.wrmsr(on(VCPU, msr), 1), Err(Otherwise::Fault));
        assert_eq!(plugin.rdmsr(on(VCPU, msr)), Err(Otherwise::Fault));
    }
    for address in [0, RAM - 0x40, RAM + 0x1000, !0x3f, 1 << 63] {
        assert_eq!(plugin.wrmsr(on(VCPU, STEAL_TIME), address | 1), Ok(()), "{address:#x}");
        plugin.timer();
    }
    assert_eq!(bytes(&host, RAM), [0xff; RAM_LEN]);
}

#[test]
fn junk_is_the_guests_own() {
    let host = host(2);
    let mut plugin = loaded(&host);
    waited(&host, 0);
    plugin.wrmsr(on(VCPU, STEAL_TIME), AT | 1).unwrap();
    waited(&host, 2);
    plugin.timer();
    assert_eq!(u64_at(&host, AT), 1, "-1 and 2");
    assert_eq!(u32_at(&host, AT + 8), 4);
    assert_eq!(bytes(&host, AT + 16), [0], "preempted");
    assert_eq!(bytes(&host, AT + 17), [0xff; 47]);
}

#[test]
fn a_reset_disables() {
    let host = zeroed();
    let mut plugin = loaded(&host);
    waited(&host, 0);
    plugin.wrmsr(on(VCPU, STEAL_TIME), AT | 1).unwrap();
    plugin.reset();
    waited(&host, 5);
    plugin.timer();
    assert_eq!(plugin.rdmsr(on(VCPU, STEAL_TIME)), Ok(0));
    assert_eq!(steal(&host), 0);
}

#[test]
fn a_newer_instance_counts_on() {
    let host = zeroed();
    let mut old = loaded(&host);
    waited(&host, 100);
    old.wrmsr(on(VCPU, STEAL_TIME), AT | 1).unwrap();
    let saved = host.save(&old, "0.1.0").unwrap();
    let mut new = loaded(&host);
    new.restore(&saved).unwrap();
    assert_eq!(host.timer(), Some(10_000_000_000), "at once");
    waited(&host, 130);
    new.timer();
    assert_eq!(steal(&host), 30);
    // A host that has just started counts from 0.
    waited(&host, 7);
    new.timer();
    waited(&host, 9);
    new.timer();
    assert_eq!(steal(&host), 32);

    for bit in 1..6 {
        // No guest could have written it.
        let state = State::StealTime(Kept { value: Bits64(AT | 1 << bit), told_ns: 0 });
        let saved = host.forge(&state, "0.1.0").unwrap();
        assert!(new.restore(&saved).unwrap_err().to_string().contains("reserved"));
        assert_eq!(new.rdmsr(on(VCPU, STEAL_TIME)), Ok(AT | 1));
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Wait(u64),
    Timer,
    Enable,
    Disable,
    Swap,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..1_000_000_u64).prop_map(Step::Wait),
        4 => Just(Step::Timer),
        1 => Just(Step::Enable),
        1 => Just(Step::Disable),
        1 => Just(Step::Swap),
    ]
}

proptest! {
    /// The model adds up the waits separately, by whether they were while
    /// enabled, and knows at which sum the guest was last updated.
    #[test]
    fn steal_is_what_was_waited_while_enabled(
        steps in prop::collection::vec(any_step(), 0..40),
    ) {
        let host = zeroed();
        let mut plugin = loaded(&host);
        let (mut all, mut counted, mut told, mut enabled) = (12345, 0, 0, false);
        let mut version = 0;
        waited(&host, all);
        for step in steps {
            match step {
                Step::Wait(ns) => {
                    all += ns;
                    counted += if enabled { ns } else { 0 };
                    waited(&host, all);
                }
                Step::Timer => plugin.timer(),
                Step::Enable => {
                    enabled = true;
                    plugin.wrmsr(on(VCPU, STEAL_TIME), AT | 1).unwrap();
                }
                Step::Disable => {
                    // The waiting since the last time is lost.
                    (enabled, counted) = (false, told);
                    plugin.wrmsr(on(VCPU, STEAL_TIME), AT).unwrap();
                }
                Step::Swap => {
                    let saved = host.save(&plugin, "0.1.0").unwrap();
                    plugin = loaded(&host);
                    plugin.restore(&saved).unwrap();
                }
            }
            if enabled && matches!(step, Step::Timer | Step::Enable) {
                told = counted;
                version += 2;
            }
            prop_assert_eq!(steal(&host), told);
            prop_assert_eq!(u32_at(&host, AT + 8), version);
        }
    }
}
