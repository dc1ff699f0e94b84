//! The plugin as guests and operators see it.

extern crate std;

use alloc::string::ToString;

use wasmsr_sdk::native::{Host, access};

use super::*;

/// Four vCPUs at 2.4 GHz.
fn host() -> Host {
    let host = Host::fresh();
    host.set_vcpus(4);
    host.set_tsc_khz(2_399_996);
    host
}

#[track_caller]
fn load(host: &Host, config: &str) -> Frequency {
    host.load(config).unwrap()
}

const INTEL: &str = r#"{"vendor": "intel", "turbo-mhz": [3600, 3500, 3400, 3300]}"#;
const HWP: &str = r#"{"vendor": "intel", "hwp": true, "turbo-mhz": [3600]}"#;
const AMD: &str = r#"{"vendor": "amd", "cppc": true, "base-mhz": 2450, "turbo-mhz": [3675],
    "pstates-mhz": [2450, 2000, 1500]}"#;

#[track_caller]
fn reads(plugin: &mut Frequency, values: &[(u32, u64)]) {
    for (index, value) in values {
        assert_eq!(plugin.rdmsr(access(*index)), Ok(*value), "{index:#x}");
    }
}

#[test]
fn an_intel_processor_says_what_it_is() {
    let host = host();
    let mut plugin = load(&host, INTEL);
    reads(
        &mut plugin,
        &[
            (0x198, 0x1800),
            (0x199, 0x1800),
            // 55 degrees below 100.
            (0x19c, 0x8837_0000),
            (0x1a2, 0x64_0000),
            (0x1ad, 0x2121_2121_2122_2324),
            (0x1ae, 0),
            (0x1b0, 6),
            (0x1b1, 0x37_0000),
            (0x648, 24),
            (0x649, 0),
            (0x64b, 1 << 31),
        ],
    );
    for index in [0x770, 0x771, 0xc001_0061] {
        assert_eq!(plugin.rdmsr(access(index)), Err(Otherwise::Fault), "{index:#x}");
    }
}

#[test]
fn a_request_is_kept_and_echoed_within_the_limits() {
    let host = host();
    let mut plugin = load(&host, INTEL);
    for (request, status) in [
        (0x1000, 0x1000),
        // Turbo of four busy cores.
        (0x2400, 0x2100),
        (0x1_0000_2400, 0x1800),
        (0xff00, 0x2100),
        (0, 0x800),
    ] {
        assert_eq!(plugin.wrmsr(access(0x199), request), Ok(()));
        reads(&mut plugin, &[(0x199, request), (0x198, status)]);
    }
    assert_eq!(plugin.wrmsr(access(0x199), u64::MAX), Ok(()));
    reads(&mut plugin, &[(0x199, 0x1_0000_ffff)]);
    assert_eq!(plugin.wrmsr(access(0x198), 0), Err(Otherwise::Fault));
}

#[test]
fn counters_advance_at_base_and_at_the_granted_speed() {
    let host = host();
    host.set_tsc(1000);
    let mut plugin = load(&host, INTEL);
    host.set_tsc(25_000);
    reads(&mut plugin, &[(0xe7, 24_000), (0xe8, 24_000)]);
    plugin.wrmsr(access(0x199), 0x2100).unwrap();
    host.set_tsc(49_000);
    reads(&mut plugin, &[(0xe7, 48_000), (0xe8, 24_000 + 33_000)]);
    // The time before a request counts at the old speed, even if nothing was read.
    host.set_tsc(73_000);
    plugin.wrmsr(access(0x199), 0x800).unwrap();
    host.set_tsc(97_000);
    reads(&mut plugin, &[(0xe7, 96_000), (0xe8, 57_000 + 33_000 + 8_000)]);
    plugin.wrmsr(access(0xe7), 5).unwrap();
    plugin.wrmsr(access(0xe8), 0).unwrap();
    host.set_tsc(99_400);
    reads(&mut plugin, &[(0xe7, 2405), (0xe8, 800)]);
}

#[test]
fn hardware_managed_states_take_over_once_enabled() {
    let host = host();
    let mut plugin = load(&host, HWP);
    reads(&mut plugin, &[(0x770, 0), (0x771, 0x0808_1824), (0x774, 0x8000_ff01), (0x777, 0)]);
    assert_eq!(plugin.wrmsr(access(0x770), 2), Err(Otherwise::Fault));
    plugin.wrmsr(access(0x770), 1).unwrap();
    // Only a reset takes it back.
    plugin.wrmsr(access(0x770), 0).unwrap();
    reads(&mut plugin, &[(0x770, 1), (0x198, 0x2400)]);
    plugin.wrmsr(access(0x774), 0x8000_1408).unwrap();
    plugin.wrmsr(access(0x199), 0x1800).unwrap();
    reads(&mut plugin, &[(0x198, 0x1400)]);
    plugin.wrmsr(access(0x774), 0x800a_1408).unwrap();
    reads(&mut plugin, &[(0x198, 0xa00)]);
    assert_eq!(plugin.wrmsr(access(0x774), 1 << 50), Err(Otherwise::Fault));
    assert_eq!(plugin.wrmsr(access(0x771), 0), Err(Otherwise::Fault));
    assert_eq!(plugin.wrmsr(access(0x777), 0), Ok(()));
    plugin.reset();
    reads(&mut plugin, &[(0x770, 0), (0x774, 0x8000_ff01), (0x198, 0x1800)]);
}

#[test]
fn what_a_kernel_clears_at_its_start_is_taken() {
    let host = host();
    let mut plugin = load(&host, INTEL);
    for index in [0x19c, 0x1b1] {
        let before = plugin.rdmsr(access(index));
        for value in [0, 0xaaa, u64::MAX] {
            assert_eq!(plugin.wrmsr(access(index), value), Ok(()), "{index:#x}");
        }
        assert_eq!(plugin.rdmsr(access(index)), before, "{index:#x}");
    }
    plugin.wrmsr(access(0x19b), 0x3).unwrap();
    reads(&mut plugin, &[(0x19b, 0x3)]);
    assert_eq!(plugin.wrmsr(access(0x1b0), 0x10), Err(Otherwise::Fault));
    assert_eq!(plugin.wrmsr(access(0x1ad), 0), Err(Otherwise::Fault));
    assert_eq!(plugin.wrmsr(access(0x1a2), 0), Err(Otherwise::Fault));
}

#[test]
fn turbo_is_for_cores_or_for_groups_of_them() {
    let host = host();
    let many: Vec<_> = (0..18).map(|place| ((36 - place) * 100).to_string()).collect();
    let config = r#"{"vendor": "intel", "base-mhz": 1900, "turbo-mhz": [LIST]}"#;
    let mut plugin = load(&host, &config.replace("LIST", &many.join(", ")));
    reads(
        &mut plugin,
        &[(0x1ad, 0x1d1e_1f20_2122_2324), (0x1ae, 0x1516_1718_191a_1b1c), (0x1af, 0x1314)],
    );
    let groups = r#"{"vendor": "intel", "turbo-mhz": [3600, 3400], "turbo-cores": [2, 20]}"#;
    let mut plugin = load(&host, groups);
    reads(&mut plugin, &[(0x1ad, 0x2222_2222_2222_2224), (0x1ae, 0xffff_ffff_ffff_1402)]);
    plugin.wrmsr(access(0x199), 0xff00).unwrap();
    reads(&mut plugin, &[(0x198, 0x2200)]);
}

#[test]
fn an_amd_processor_has_states_and_performance() {
    let host = host();
    let mut plugin = load(&host, AMD);
    reads(
        &mut plugin,
        &[
            (0xc001_0061, 0x20),
            (0xc001_0063, 0),
            // 2450 MHz = 200 MHz * 98 / 8.
            (0xc001_0064, 0x8000_0000_0000_0862),
            (0xc001_0065, 0x8000_0000_0000_0850),
            (0xc001_0066, 0x8000_0000_0000_083c),
            (0xc001_0067, 0),
            (0xc001_006b, 0),
            // 3675 MHz, boosted.
            (0xc001_0293, 0x893),
            (0xc001_0071, 36 - 16),
            (0xc001_02b0, 0xffaa_3737),
            (0xc001_02b4, 0),
        ],
    );
    plugin.wrmsr(access(0xc001_0062), 2).unwrap();
    reads(&mut plugin, &[(0xc001_0063, 2), (0xc001_0293, 2 << 22 | 0x83c)]);
    plugin.wrmsr(access(0xc001_0062), 7).unwrap();
    reads(&mut plugin, &[(0xc001_0062, 7), (0xc001_0063, 2)]);
    assert_eq!(plugin.wrmsr(access(0xc001_0062), 8), Err(Otherwise::Fault));
    // As 1500 MHz.
    host.set_tsc(2450);
    reads(&mut plugin, &[(0xc000_00e7, 2450), (0xc000_00e8, 1500)]);
    assert_eq!(plugin.wrmsr(access(0xc000_00e7), 0), Err(Otherwise::Fault));
    // And as what a driver asks for, half of the highest.
    plugin.wrmsr(access(0xc001_02b1), 1).unwrap();
    plugin.wrmsr(access(0xc001_02b3), 0x80).unwrap();
    reads(&mut plugin, &[(0xc001_02b1, 1), (0xc001_02b3, 0x80)]);
    host.set_tsc(4900);
    reads(&mut plugin, &[(0xe8, 1500 + 1844)]);
    assert_eq!(plugin.rdmsr(access(0x198)), Err(Otherwise::Fault));
}

#[test]
fn a_newer_instance_goes_on() {
    let host = host();
    let mut old = load(&host, HWP);
    old.wrmsr(access(0x770), 1).unwrap();
    old.wrmsr(access(0x774), 0x0000_0c0c).unwrap();
    host.set_tsc(2400);
    let saved = host.save(&old, "0.1.0").unwrap();
    let mut new = load(&host, HWP);
    new.restore(&saved).unwrap();
    reads(&mut new, &[(0xe7, 2400), (0xe8, 1200), (0x774, 0xc0c)]);
    host.set_tsc(4800);
    reads(&mut new, &[(0xe7, 4800), (0xe8, 2400)]);
    let error = load(&host, INTEL).restore(&saved).unwrap_err().to_string();
    assert!(error.contains("register 0x770"), "{error}");
    let forged = host.forge(&(1, 2), "0.1.0").unwrap();
    assert!(load(&host, HWP).restore(&forged).is_err());
}

#[test]
fn only_what_was_written_is_wrong() {
    for config in [
        r#"{"vendor": "intel", "base-mhz": 2450}"#,
        r#"{"vendor": "intel", "base-mhz": 0}"#,
        r#"{"vendor": "intel", "base-mhz": 0, "min-mhz": 800, "turbo-mhz": [900]}"#,
        r#"{"vendor": "amd", "base-mhz": 6400, "pstates-mhz": [2450, 1500]}"#,
    ] {
        let error = Host::fresh().load::<Frequency>(config).err().unwrap().to_string();
        let keys = error.matches("config key").count();
        assert!(keys == 1 && error.contains("`base-mhz`"), "{config}: {error}");
    }
}

#[test]
fn a_wrong_configuration_is_refused_by_key() {
    for (config, parts) in [
        (r"{}", &["missing field `vendor`"][..]),
        (r#"{"vendor": "via"}"#, &["`vendor`", "`intel`"]),
        (r#"{"vendor": "intel", "base-mhz": 0}"#, &["`base-mhz`", "0 is not from 100 to 25500"]),
        (r#"{"vendor": "intel", "base-mhz": 2450}"#, &["`base-mhz`", "multiple of 100"]),
        (r#"{"vendor": "intel", "min-mhz": 0}"#, &["`min-mhz`", "0 is not from 100"]),
        (r#"{"vendor": "intel", "min-mhz": 2500}"#, &["`min-mhz`", "2400"]),
        (r#"{"vendor": "intel", "turbo-mhz": []}"#, &["`turbo-mhz`", "1 to 24"]),
        (r#"{"vendor": "intel", "turbo-mhz": [2300]}"#, &["`turbo-mhz[0]`", "base speed"]),
        (r#"{"vendor": "intel", "turbo-mhz": [3000, 3100]}"#, &["`turbo-mhz[1]`", "fewer cores"]),
        (r#"{"vendor": "intel", "turbo-mhz": [30000]}"#, &["`turbo-mhz[0]`", "25500"]),
        (r#"{"vendor": "intel", "turbo-cores": [2, 4]}"#, &["`turbo-cores`", "2 numbers for 1"]),
        (r#"{"vendor": "intel", "turbo-cores": [0]}"#, &["`turbo-cores`", "before it"]),
        (
            r#"{"vendor": "intel", "highest-temperature": 0}"#,
            &["`highest-temperature`", "1 to 255"],
        ),
        (r#"{"vendor": "intel", "temperature": 101}"#, &["`temperature`", "0 to 100"]),
        (
            r#"{"vendor": "intel", "highest-temperature": 200, "temperature": 72}"#,
            &["`temperature`", "73 to 200"],
        ),
        (r#"{"vendor": "intel", "cppc": true}"#, &["`cppc`", "amd"]),
        (r#"{"vendor": "amd", "hwp": true, "temperature": 5}"#, &["`hwp`", "`temperature`"]),
        (r#"{"vendor": "amd", "pstates-mhz": [2400, 2400]}"#, &["`pstates-mhz`", "slower"]),
        (r#"{"vendor": "amd", "pstates-mhz": [2000]}"#, &["`pstates-mhz[0]`", "2400"]),
        (r#"{"vendor": "amd", "pstates-mhz": []}"#, &["`pstates-mhz`", "1 to 8"]),
        (r#"{"vendor": "amd", "base-mhz": 6400}"#, &["`base-mhz`", "6375"]),
        (r#"{"vendor": "amd", "turbo": 1}"#, &["`turbo`"]),
    ] {
        let error = host().load::<Frequency>(config).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{config}: {error}");
    }
    let host = host();
    host.set_tsc_khz(10_000);
    let error = host.load::<Frequency>(r#"{"vendor": "intel"}"#).unwrap_err().to_string();
    assert!(error.contains("`base-mhz`") && error.contains("10000 kHz"), "{error}");
}
