use alloc::string::ToString;

use wasmsr_sdk::{Persist, Reset, Timer};

use super::*;

const STABLE: u8 = 1;
const STOPPED: u8 = 2;

fn loaded(host: &Host) -> KvmClock {
    host.load_for(None, "{}").unwrap()
}

#[test]
fn an_enabled_structure_has_the_line_of_time() {
    let host = host(1);
    let mut plugin = loaded(&host);
    assert_eq!(plugin.wrmsr(on(0, SYSTEM_TIME), RAM | 1), Ok(()));
    let info = TimeInfo::at(&host, RAM);
    assert_eq!(info.version % 2, 0);
    assert_eq!(info.tsc_timestamp, 10_000_000_000);
    assert_eq!(info.system_time, 10_000_000_000);
    assert_eq!((info.mul, info.shift), (0x8000_0000, 0), "2 GHz");
    assert_eq!(info.flags, STOPPED, "the guest's own flag, and the host is not stable");
    assert_eq!(host.timer(), Some(11_000_000_000));
}

#[test]
fn reads_give_what_was_written_by_either_number() {
    let mut plugin = loaded(&host(2));
    for (vcpu, msr, value) in [
        (0, SYSTEM_TIME, RAM | 1),
        (0, 0x12, u64::MAX),
        (1, 0x12, RAM),
        (1, SYSTEM_TIME, 2),
        (0, WALL_CLOCK, RAM + 7),
        (1, 0x11, u64::MAX),
        (1, WALL_CLOCK, 0),
    ] {
        assert_eq!(plugin.wrmsr(on(vcpu, msr), value), Ok(()), "{msr:#x} {value:#x}");
        let other = match msr {
            0x11 => WALL_CLOCK,
            0x12 => SYSTEM_TIME,
            WALL_CLOCK => 0x11,
            _ => 0x12,
        };
        assert_eq!(plugin.rdmsr(on(vcpu, msr)), Ok(value));
        assert_eq!(plugin.rdmsr(on(vcpu, other)), Ok(value));
    }
    assert_eq!(plugin.rdmsr(on(0, SYSTEM_TIME)), Ok(u64::MAX), "each vCPU has its own");
    assert_eq!(plugin.rdmsr(on(0, WALL_CLOCK)), Ok(0), "the VM has one");
}

#[test]
fn what_does_not_exist_faults() {
    let mut plugin = loaded(&host(1));
    for (vcpu, msr) in [(1, SYSTEM_TIME), (u32::MAX, 0x12), (0, STEAL_TIME), (0, 0x4b56_4d02)] {
        assert_eq!(plugin.rdmsr(on(vcpu, msr)), Err(Otherwise::Fault), "{msr:#x}");
        assert_eq!(plugin.wrmsr(on(vcpu, msr), 1), Err(Otherwise::Fault), "{msr:#x}");
    }
}

#[test]
fn versions_are_even_and_new_whatever_was_there() {
    for (junk, version) in [(0, 2), (1, 4), (2, 4), (41, 44), (u32::MAX - 1, 0), (u32::MAX, 2)] {
        let host = host(1);
        host.set_memory(GuestAddress(RAM), &[0; RAM_LEN]);
        host.set_memory(GuestAddress(0x8000), &[0; 32]);
        let mut ram = [0; 32];
        ram[..4].copy_from_slice(&junk.to_le_bytes());
        host.set_memory(GuestAddress(0x8000), &ram);
        let mut plugin = loaded(&host);
        plugin.wrmsr(on(0, SYSTEM_TIME), 0x8001).unwrap();
        assert_eq!(TimeInfo::at(&host, 0x8000).version, version, "after {junk:#x}");
        plugin.timer();
        assert_eq!(TimeInfo::at(&host, 0x8000).version, version + 2, "after {junk:#x}");
    }
}

#[test]
fn an_address_outside_memory_is_taken_and_nothing_written() {
    let host = host(2);
    let mut plugin = loaded(&host);
    let end = RAM + 0x1000;
    for address in [end, end - 30, RAM - 2, 0, u64::MAX - 1, u64::MAX - 15, 1 << 63] {
        assert_eq!(plugin.wrmsr(on(0, SYSTEM_TIME), address | 1), Ok(()), "{address:#x}");
        assert_eq!(plugin.wrmsr(on(1, SYSTEM_TIME), address | 1), Ok(()), "{address:#x}");
        plugin.timer();
        assert_eq!(plugin.rdmsr(on(0, SYSTEM_TIME)), Ok(address | 1));
    }
    for address in [end, end - 8, RAM - 1, u64::MAX, u64::MAX - 5] {
        assert_eq!(plugin.wrmsr(on(0, WALL_CLOCK), address), Ok(()), "{address:#x}");
    }
    assert_eq!(bytes(&host, RAM), [0xff; RAM_LEN]);
    let logged = host.logged();
    for part in ["vCPU 1 wants its system time at 0x1fe2,", "wants the wall clock at 0x1ff8,"] {
        assert!(logged.iter().any(|(_, line)| line.contains(part)), "{part}: {logged:?}");
    }
}

#[test]
fn an_odd_address_is_one() {
    let host = host(1);
    let mut plugin = loaded(&host);
    plugin.wrmsr(on(0, SYSTEM_TIME), (RAM + 6) | 1).unwrap();
    assert_eq!(TimeInfo::at(&host, RAM + 6).system_time, 10_000_000_000);
}

#[test]
fn a_disabled_structure_stays_as_it_is() {
    let host = host(2);
    let mut plugin = loaded(&host);
    let (old, new) = (RAM, RAM + 0x40);
    plugin.wrmsr(on(0, SYSTEM_TIME), old | 1).unwrap();
    let before = TimeInfo::at(&host, old);
    plugin.wrmsr(on(0, SYSTEM_TIME), new | 1).unwrap();
    assert_eq!(TimeInfo::at(&host, new).system_time, before.system_time);
    plugin.timer();
    assert_eq!(TimeInfo::at(&host, old), before, "left for another address");

    plugin.wrmsr(on(0, SYSTEM_TIME), new).unwrap();
    let before = TimeInfo::at(&host, new);
    host.set_monotonic_ns(20_000_000_000);
    let asked = host.timer();
    plugin.timer();
    assert_eq!(TimeInfo::at(&host, new), before, "bit 0 is clear");
    assert_eq!(host.timer(), asked, "no structure to update");
}

#[test]
fn the_stable_bit_needs_equal_counters() {
    let host = host(3);
    let mut plugin = loaded(&host);
    let flags = |vcpu: u64| TimeInfo::at(&host, RAM + 0x40 * vcpu).flags & STABLE;
    host.set_tsc_is_stable(true);
    host.set_kvm_msr(TSC_ADJUST, 0);
    plugin.wrmsr(on(0, SYSTEM_TIME), RAM | 1).unwrap();
    assert_eq!(flags(0), STABLE);

    // A guest changes the counter of vCPU 1.
    host.set_kvm_msr(TSC_ADJUST, 5000);
    host.set_tsc(10_000_005_000);
    plugin.wrmsr(on(1, SYSTEM_TIME), (RAM + 0x40) | 1).unwrap();
    assert_eq!((flags(0), flags(1)), (0, 0));
    let (first, second) = (TimeInfo::at(&host, RAM), TimeInfo::at(&host, RAM + 0x40));
    assert_eq!(second.tsc_timestamp, first.tsc_timestamp + 5000);
    assert_eq!(second.system_time, first.system_time);

    // The change is undone; then the host's own counters differ.
    plugin.wrmsr(on(1, SYSTEM_TIME), 0).unwrap();
    host.set_kvm_msr(TSC_ADJUST, 0);
    host.set_tsc(10_000_000_000);
    plugin.wrmsr(on(0, SYSTEM_TIME), RAM | 1).unwrap();
    assert_eq!(flags(0), STABLE);
    host.set_tsc_is_stable(false);
    plugin.timer();
    assert_eq!(flags(0), 0);
}

#[test]
fn a_guest_that_counts_backwards_is_served() {
    let host = host(1);
    let mut plugin = loaded(&host);
    // The guest wrote 5 to its counter, which stood at 10^10.
    host.set_kvm_msr(TSC_ADJUST, 5_u64.wrapping_sub(10_000_000_000));
    host.set_tsc(5);
    plugin.wrmsr(on(0, SYSTEM_TIME), RAM | 1).unwrap();
    assert_eq!(TimeInfo::at(&host, RAM).tsc_timestamp, 5);
    assert_eq!(TimeInfo::at(&host, RAM).ns(5), 10_000_000_000);
}

#[test]
fn the_wall_clock_is_the_time_of_day_at_system_time_0() {
    let host = host(1);
    let mut plugin = loaded(&host);
    host.set_realtime_ns(1_700_000_010_250_000_000);
    assert_eq!(plugin.wrmsr(on(0, WALL_CLOCK), RAM + 2), Ok(()));
    assert_eq!(u32_at(&host, RAM + 2), 2, "after the junk 0xffffffff");
    assert_eq!(u32_at(&host, RAM + 6), 1_700_000_000);
    assert_eq!(u32_at(&host, RAM + 10), 250_000_000);
    assert_eq!(bytes(&host, RAM + 14), [0xff; 4], "nothing more");

    assert_eq!(plugin.wrmsr(on(0, 0x11), RAM + 2), Ok(()));
    assert_eq!(u32_at(&host, RAM + 2), 4);
    assert_eq!(plugin.wrmsr(on(0, WALL_CLOCK), 0), Ok(()));
    assert_eq!(u32_at(&host, RAM + 2), 4, "0 is no address");
}

#[test]
fn seconds_end_in_2106_and_none_are_before_1970() {
    let host = host(1);
    let mut plugin = loaded(&host);
    host.set_realtime_ns((1 << 32) * 1_000_000_000 + 11_000_000_000);
    plugin.wrmsr(on(0, WALL_CLOCK), RAM).unwrap();
    assert_eq!(u32_at(&host, RAM + 4), 1);
    host.set_realtime_ns(3);
    plugin.wrmsr(on(0, WALL_CLOCK), RAM).unwrap();
    assert_eq!((u32_at(&host, RAM + 4), u32_at(&host, RAM + 8)), (0, 0));
}

#[test]
fn a_configured_interval_is_the_timers() {
    let host = host(1);
    let mut plugin: KvmClock = host.load_for(None, r#"{"refresh-ms": 250}"#).unwrap();
    plugin.wrmsr(on(0, SYSTEM_TIME), RAM | 1).unwrap();
    assert_eq!(host.timer(), Some(10_250_000_000));
    host.set_monotonic_ns(10_260_000_000);
    plugin.timer();
    assert_eq!(host.timer(), Some(10_510_000_000));
}

#[test]
fn a_reset_disables_all() {
    let host = host(2);
    let mut plugin = loaded(&host);
    steps(&mut plugin, &[(0, WALL_CLOCK, RAM), (1, SYSTEM_TIME, RAM | 1)]);
    let before = bytes::<RAM_LEN>(&host, RAM);
    plugin.reset();
    plugin.timer();
    assert_eq!(plugin.rdmsr(on(1, SYSTEM_TIME)), Ok(0));
    assert_eq!(plugin.rdmsr(on(0, WALL_CLOCK)), Ok(0));
    assert_eq!(bytes::<RAM_LEN>(&host, RAM), before);
}

#[test]
fn a_newer_instance_goes_on_from_its_timer() {
    let host = host(2);
    let mut old = loaded(&host);
    steps(&mut old, &[(0, WALL_CLOCK, RAM + 0x80), (1, SYSTEM_TIME, RAM | 1)]);
    let before = TimeInfo::at(&host, RAM);
    host.set_tsc(12_000_000_000);
    host.set_monotonic_ns(11_000_000_000);
    let saved = host.save(&old, "0.1.0").unwrap();
    let mut new = loaded(&host);
    new.restore(&saved).unwrap();
    assert_eq!(new.rdmsr(on(0, WALL_CLOCK)), Ok(RAM + 0x80));
    assert_eq!(new.rdmsr(on(1, SYSTEM_TIME)), Ok(RAM | 1));
    assert_eq!(host.timer(), Some(0), "at once");
    assert_eq!(TimeInfo::at(&host, RAM), before, "the old line holds until then");
    new.timer();
    let after = TimeInfo::at(&host, RAM);
    assert_eq!((after.tsc_timestamp, after.system_time), (12_000_000_000, 11_000_000_000));
    assert_eq!(after.version, before.version + 2);
}

#[test]
fn time_goes_on_in_another_machine() {
    let old_host = host(1);
    let mut old = loaded(&old_host);
    old.wrmsr(on(0, SYSTEM_TIME), RAM | 1).unwrap();
    old_host.set_tsc(11_800_000_000);
    old_host.set_monotonic_ns(10_900_000_000);
    let saved = old_host.save(&old, "0.1.0").unwrap();

    // The VM was built a moment ago, and its counter has run for an hour.
    let host = host(1);
    host.set_tsc(7_200_000_000_000);
    host.set_monotonic_ns(1_000_000);
    let mut new = loaded(&host);
    new.restore(&saved).unwrap();
    // Saved once more before the VM ran.
    let saved = host.save(&new, "0.1.0").unwrap();
    new.restore(&saved).unwrap();
    new.timer();
    let info = TimeInfo::at(&host, RAM);
    assert_eq!((info.tsc_timestamp, info.system_time), (7_200_000_000_000, 10_900_000_000));
}

#[test]
fn a_state_that_does_not_fit_is_refused() {
    let host = host(2);
    let mut steal: KvmClock = host.load_for(Some(VcpuId(0)), "{}").unwrap();
    let saved = host.save(&loaded(&host), "0.1.0").unwrap();
    assert!(steal.restore(&saved).unwrap_err().to_string().contains("scope"));
    assert!(loaded(&host).restore(&host.save(&steal, "0.1.0").unwrap()).is_err());

    host.set_vcpus(3);
    let error = loaded(&host).restore(&saved).unwrap_err().to_string();
    assert!(error.contains("2 vCPUs") && error.contains("has 3"), "{error}");
}

#[test]
fn the_state_of_255_vcpus_fits() {
    let host = host(255);
    host.set_kvm_msr(TSC_ADJUST, u64::MAX);
    let mut plugin = loaded(&host);
    for vcpu in 0..255 {
        plugin.wrmsr(on(vcpu, SYSTEM_TIME), u64::MAX).unwrap();
    }
    plugin.wrmsr(on(0, WALL_CLOCK), u64::MAX).unwrap();
    let saved = host.save(&plugin, "0.1.0").unwrap();
    // Its bytes, as `Debug` lists them.
    let size = std::format!("{saved:?}").matches(',').count();
    assert!(size < 64 << 10, "{size} bytes");
}
