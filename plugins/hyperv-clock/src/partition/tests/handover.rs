//! A reset, and a state that one instance saves and the next restores.

use std::string::ToString;
use std::vec::Vec;

use wasmsr_sdk::Persist;

use super::*;

#[test]
fn a_reset_forgets_the_guest_but_not_the_time() {
    let host = host(1);
    let mut plugin = loaded(&host);
    write(&mut plugin, HV_X64_MSR_GUEST_OS_ID, 1).unwrap();
    write(&mut plugin, HV_X64_MSR_HYPERCALL, 0x1003).unwrap();
    write(&mut plugin, HV_X64_MSR_REFERENCE_TSC, PAGE.0 | 1).unwrap();
    set_time(&host, 2_000_000);
    let before = read(&mut plugin, HV_X64_MSR_TIME_REF_COUNT).unwrap();
    // By now the memory is that of the next boot.
    host.set_memory(GuestAddress(0), &[0x99; 4 * PAGE_SIZE]);
    plugin.reset();
    plugin.timer();
    assert_eq!(host.memory(GuestAddress(0), 4 * PAGE_SIZE), Some(vec![0x99; 4 * PAGE_SIZE]));
    for index in [HV_X64_MSR_GUEST_OS_ID, HV_X64_MSR_HYPERCALL, HV_X64_MSR_REFERENCE_TSC] {
        assert_eq!(read(&mut plugin, index), Ok(0), "{index}");
    }
    assert!(read(&mut plugin, HV_X64_MSR_TIME_REF_COUNT).unwrap() >= before);
    write(&mut plugin, HV_X64_MSR_GUEST_OS_ID, 1).unwrap();
    assert_eq!(write(&mut plugin, HV_X64_MSR_HYPERCALL, 0x2001), Ok(()), "unlocked");
}

#[test]
fn a_newer_instance_goes_on_where_the_old_one_was() {
    let host = host(2);
    let mut old = loaded(&host);
    write(&mut old, HV_X64_MSR_GUEST_OS_ID, 0x8100).unwrap();
    write(&mut old, HV_X64_MSR_HYPERCALL, 0x1003).unwrap();
    write(&mut old, HV_X64_MSR_REFERENCE_TSC, PAGE.0 | 1).unwrap();
    write(&mut old, HV_X64_MSR_CRASH_P0, u64::MAX).unwrap();
    set_time(&host, 2_000_000);
    let saved = host.save(&old, "0.1.0").unwrap();
    set_time(&host, 3_000_000);
    let seen = paged(&host, 3_000_000).unwrap();

    let mut new = loaded(&host);
    new.restore(&saved).unwrap();
    assert_eq!(page(&host).0, 1, "the guest may be reading it");
    assert_eq!(paged(&host, 3_000_000), Some(seen));
    assert_eq!(host.timer(), Some(0), "as soon as possible");
    for (index, value) in [
        (HV_X64_MSR_GUEST_OS_ID, 0x8100),
        (HV_X64_MSR_HYPERCALL, 0x1003),
        (HV_X64_MSR_REFERENCE_TSC, PAGE.0 | 1),
        (HV_X64_MSR_CRASH_P0, u64::MAX),
        (HV_X64_MSR_TIME_REF_COUNT, seen),
    ] {
        assert_eq!(read(&mut new, index), Ok(value), "{index}");
    }
    assert_eq!(write(&mut new, HV_X64_MSR_HYPERCALL, 0), Err(Otherwise::Fault), "still locked");
    new.timer();
    assert_eq!(page(&host).0, 2);
    assert_eq!(paged(&host, 3_000_000), Some(seen));
    assert_eq!(host.timer(), Some(1_003_000_000));
}

#[test]
fn in_another_vm_time_goes_on_from_when_it_was_saved() {
    let origin = host(1);
    let mut old = loaded(&origin);
    set_time(&origin, 5_000_000_000);
    let saved = origin.save(&old, "0.1.0").unwrap();
    let seen = read(&mut old, HV_X64_MSR_TIME_REF_COUNT).unwrap();

    let other = host(1);
    let mut new = loaded(&other);
    new.restore(&saved).unwrap();
    assert_eq!(read(&mut new, HV_X64_MSR_TIME_REF_COUNT), Ok(seen));
    set_time(&other, 2_000_000);
    assert_eq!(read(&mut new, HV_X64_MSR_TIME_REF_COUNT), Ok(seen + 10_000));
}

#[test]
fn a_state_that_no_guest_can_have_reached_is_refused() {
    let host = host(2);
    let mut old = loaded(&host);
    write(&mut old, HV_X64_MSR_REFERENCE_TSC, PAGE.0 | 1).unwrap();
    let saved = serde_json::to_value(old.save()).unwrap();
    let changes: Vec<(&str, serde_json::Value)> = vec![
        ("/tsc_page/register", 2.into()),
        ("/hypercall/page", 0x1ff0.into()),
        ("/hypercall/page", 0x1001.into()), // with no identity
        ("/reference/floor", u64::MAX.into()),
        ("/reference/by_tsc/from", 0.into()),
        ("/reference/by_tsc/line/offset", i64::MAX.into()),
        ("/reference/by_tsc/clock/scale/mul", 0.into()),
        ("/adjusts", vec![0, 0, 0].into()),
        ("/adjusts", Vec::<u64>::new().into()),
        ("/crash", vec![0; 4].into()),
        ("/crash", "nonsense".into()),
    ];
    let restore = |state: serde_json::Value| {
        let mut plugin = loaded(&host);
        let before = read(&mut plugin, HV_X64_MSR_TIME_REF_COUNT);
        let HypervClock::Partition(partition) = &mut plugin else { panic!("not the VM's") };
        let restored = serde_json::from_value(state).map_err(|error| error.to_string());
        let restored =
            restored.and_then(|state| partition.restore(state).map_err(|error| error.to_string()));
        (restored, read(&mut plugin, HV_X64_MSR_TIME_REF_COUNT) == before)
    };
    assert_eq!(restore(saved.clone()), (Ok(()), true));
    for (pointer, value) in changes {
        let mut state = saved.clone();
        *state.pointer_mut(pointer).unwrap() = value.clone();
        let (restored, unchanged) = restore(state);
        assert!(restored.is_err() && unchanged, "{pointer} {value}");
    }
}
