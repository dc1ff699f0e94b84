//! Energy from the host's counters.

use proptest::prelude::*;
use wasmsr_sdk::Timer as _;

use super::*;

const POWERCAP: &str = r#"{"source": "powercap"}"#;
const HOST_MSR: &str = r#"{"source": "host-msr"}"#;

fn file(host: &Host, name: &str, microjoules: u64) {
    host.set_host_file(name, std::format!("{microjoules}\n").as_bytes());
}

#[test]
fn the_guest_gets_its_share_of_the_files() {
    let host = host();
    file(&host, "package", 5_000_000);
    file(&host, "dram", 0);
    let mut rapl = load(&host, POWERCAP);
    assert_eq!(
        (rapl.rdmsr(CORE), rapl.rdmsr(UNCORE)),
        (Err(Otherwise::Fault), Err(Otherwise::Fault))
    );
    // Two of four CPUs' time for a second.
    host.set_monotonic_ns(SECOND);
    ran(&host, 0, SECOND);
    ran(&host, 1, SECOND);
    file(&host, "package", 105_000_000);
    file(&host, "dram", 20_000_000);
    assert_eq!((rapl.rdmsr(PACKAGE), rapl.rdmsr(DRAM)), (Ok(joules(50)), Ok(joules(10))));
    // An idle VM gets no part of what others use.
    host.set_monotonic_ns(2 * SECOND);
    file(&host, "package", 205_000_000);
    assert_eq!(rapl.rdmsr(PACKAGE), Ok(joules(50)));
}

#[test]
fn a_second_package_adds_to_the_first() {
    let host = host();
    for name in ["package", "package-1", "core", "core-1"] {
        file(&host, name, 0);
    }
    let mut rapl = load(&host, POWERCAP);
    host.set_monotonic_ns(SECOND);
    ran(&host, 0, SECOND);
    file(&host, "package", 30_000_000);
    file(&host, "package-1", 10_000_000);
    file(&host, "core-1", 4_000_000);
    assert_eq!((rapl.rdmsr(PACKAGE), rapl.rdmsr(CORE)), (Ok(joules(10)), Ok(joules(1))));
}

#[test]
fn the_guest_gets_its_share_of_the_msrs_in_its_own_unit() {
    let host = host();
    for cpu in [0, 2] {
        host.set_host_msr_on(cpu, MsrIndex(0x606), 0xa_0e03);
        host.set_host_msr_on(cpu, MsrIndex(0x611), 0xffff_ffff);
        host.set_host_msr_on(cpu, MsrIndex(0x619), 0);
    }
    let config = r#"{"source": "host-msr", "host-packages": [0, 2], "host-dram-energy-unit": 16}"#;
    let mut rapl = load(&host, config);
    host.set_monotonic_ns(SECOND);
    ran(&host, 1, SECOND);
    host.set_host_msr_on(0, MsrIndex(0x611), (40 << 14) - 1);
    host.set_host_msr_on(2, MsrIndex(0x611), (8 << 14) - 1);
    host.set_host_msr_on(0, MsrIndex(0x619), 4 << 16);
    assert_eq!((rapl.rdmsr(PACKAGE), rapl.rdmsr(DRAM)), (Ok(joules(12)), Ok(joules(1))));
}

#[test]
fn files_come_before_msrs_and_msrs_before_the_model() {
    let host = host();
    let chosen = |host: &Host| {
        load(host, MODEL);
        host.logged().pop().unwrap().1
    };
    assert!(chosen(&host).contains("model"));
    host.set_host_msr(MsrIndex(0x606), 0xa_0e03);
    host.set_host_msr(MsrIndex(0x611), 0);
    assert!(chosen(&host).contains("MSRs"));
    file(&host, "package", 0);
    assert!(chosen(&host).contains("powercap"));
}

#[test]
fn a_host_that_is_itself_a_vm_comes_last() {
    let host = host();
    host.set_host_msr(MsrIndex(0x606), 0);
    host.set_host_msr(MsrIndex(0x611), 0);
    load(&host, MODEL);
    assert!(host.logged()[0].1.contains("model"));
    // `wasmsr check` has such a host too, so it is not an error.
    let mut rapl = load(&host, HOST_MSR);
    host.set_monotonic_ns(SECOND);
    assert_eq!(rapl.rdmsr(PACKAGE), Ok(0));
    assert!(host.logged().pop().unwrap().1.contains("0x611 on CPU 0 of the host counts nothing"));
}

#[test]
fn the_timer_rings_before_a_counter_can_wrap() {
    let host = host();
    host.set_host_msr(MsrIndex(0x606), 0xa_1003);
    host.set_host_msr(MsrIndex(0x611), 0);
    host.set_monotonic_ns(SECOND);
    let mut rapl = load(&host, HOST_MSR);
    assert_eq!(host.timer(), Some(SECOND + 16_384_000_000));
    // 2^16 J each time, seen in halves.
    for half in 1..=6 {
        host.set_monotonic_ns(SECOND * (1 + half));
        ran(&host, 0, SECOND * half);
        ran(&host, 1, SECOND * half);
        host.set_host_msr(MsrIndex(0x611), (half << 31) & 0xffff_ffff);
        rapl.timer();
        assert_eq!(host.timer(), Some(SECOND * (1 + half) + 16_384_000_000));
    }
    // Half of 3 * 2^16 J is 2^16 + 2^15 J: wrapped once.
    assert_eq!(rapl.rdmsr(PACKAGE), Ok(1 << 31));
}

#[test]
fn the_timer_may_ring_at_other_times() {
    let host = host();
    file(&host, "package", 0);
    load(&host, r#"{"source": "powercap", "sample-ms": 500}"#);
    assert_eq!(host.timer(), Some(SECOND / 2));
}

#[test]
fn a_host_that_stops_counting_stops_the_guests_counter() {
    let host = host();
    file(&host, "package", 0);
    let mut rapl = load(&host, POWERCAP);
    ran(&host, 0, SECOND);
    for second in 1..4 {
        host.set_monotonic_ns(second * SECOND);
        host.set_host_file("package", b"");
        assert_eq!(rapl.rdmsr(PACKAGE), Ok(0));
    }
    assert_eq!(host.logged().iter().filter(|(_, line)| line.contains("`package`")).count(), 1);
}

proptest! {
    /// However the host counts and schedules, the guest's counter never goes back,
    /// and the guest never gets more than the host used.
    #[test]
    fn a_share_is_part_of_the_whole(
        steps in prop::collection::vec(
            (0..SECOND, 0..3 * SECOND, 0..100_000_000_u64, any::<bool>()),
            1..40,
        ),
    ) {
        let host = host();
        file(&host, "package", 1 << 40);
        let mut rapl = load(&host, POWERCAP);
        let (mut now, mut ran_ns, mut used, mut last) = (0, 0, 0, 0);
        for (elapsed, more, microjoules, rings) in steps {
            now += elapsed;
            ran_ns += more;
            used += microjoules;
            host.set_monotonic_ns(now);
            ran(&host, 0, ran_ns);
            file(&host, "package", (1 << 40) + used);
            if rings {
                rapl.timer();
            }
            let shown = rapl.rdmsr(PACKAGE).unwrap();
            prop_assert!(shown >= last, "{shown} after {last}");
            prop_assert!(u128::from(shown) * 1_000_000 <= u128::from(used) << 16);
            last = shown;
        }
    }
}
