//! What a configuration may contain.

use super::*;

#[track_caller]
fn check_refused(config: &str, parts: &[&str]) {
    let host = host();
    let error = error(&host, config);
    assert!(parts.iter().all(|part| error.contains(part)), "{config}: {error}");
}

/// The model with another key before it.
fn with(key: &str) -> String {
    MODEL.replacen('{', &std::format!("{{{key}, "), 1)
}

#[test]
fn units_and_limits_may_be_others() {
    let host = host();
    let mut rapl = load(
        &host,
        &with(r#""units": "0xa0e03", "tdp-watts": 205, "power-limit": "0x8042868000dd8668""#),
    );
    assert_eq!(rapl.rdmsr(UNIT), Ok(0xa_0e03));
    assert_eq!(rapl.rdmsr(PACKAGE_INFO), Ok(205 * 8));
    assert_eq!(rapl.rdmsr(PACKAGE_LIMIT), Ok(0x8042_8680_00dd_8668));
    assert_eq!(rapl.wrmsr(PACKAGE_LIMIT, 0), Ok(()), "locked by the firmware");
    assert_eq!(rapl.rdmsr(PACKAGE_LIMIT), Ok(0x8042_8680_00dd_8668));
}

#[test]
fn the_limits_of_a_large_package_do_not_spill() {
    let host = host();
    let mut rapl = load(&host, &with(r#""tdp-watts": 4095"#));
    assert_eq!(rapl.rdmsr(PACKAGE_LIMIT), Ok(0x0042_ffff_00dd_fff8));
}

#[test]
fn the_memory_may_count_in_its_own_unit() {
    let host = host();
    let mut rapl = load(&host, &with(r#""units": "0xa0e03", "dram-energy-unit": 16"#));
    host.set_monotonic_ns(SECOND);
    assert_eq!((rapl.rdmsr(PACKAGE), rapl.rdmsr(DRAM)), (Ok(10 << 14), Ok(2 << 16)));
}

#[test]
fn domains_may_be_left_out() {
    let host = host();
    let mut rapl = load(&host, &with(r#""domains": ["package"]"#));
    assert_eq!((rapl.rdmsr(PACKAGE), rapl.rdmsr(DRAM)), (Ok(0), Err(Otherwise::Fault)));
}

#[test]
fn wrong_numbers_are_refused_by_key() {
    for bit in (0..64).filter(|bit| !matches!(bit, 0..=3 | 8..=12 | 16..=19)) {
        let units = std::format!(r#""units": "{:#x}""#, 1_u64 << bit);
        check_refused(&with(&units), &["`units`", "reserved", "0xf1f0f"]);
    }
    for bit in (24..32).chain(56..63) {
        let limit = std::format!(r#""power-limit": "{:#x}""#, 1_u64 << bit);
        check_refused(&with(&limit), &["`power-limit`", "reserved", "31:24 and 62:56"]);
    }
    check_refused(&with(r#""tdp-watts": 0"#), &["`tdp-watts`", "1 to 4095"]);
    check_refused(&with(r#""tdp-watts": 4096"#), &["`tdp-watts`", "2^-3 W"]);
    check_refused(&with(r#""tdp-watts": 4294967295, "units": 15"#), &["`tdp-watts`", "1 to 0"]);
    check_refused(&with(r#""update-ms": 0"#), &["`update-ms`", "1 to 1000"]);
    check_refused(&with(r#""sample-ms": 99"#), &["`sample-ms`", "100 to 3600000"]);
    check_refused(&with(r#""dram-energy-unit": 32"#), &["`dram-energy-unit`", "31"]);
    check_refused(&with(r#""host-dram-energy-unit": 255"#), &["`host-dram-energy-unit`"]);
    check_refused(&with(r#""host-packages": []"#), &["`host-packages`", "0 CPUs"]);
    check_refused(&with(r#""sourse": "model""#), &["`sourse`"]);
    check_refused(&with(r#""source": "models""#), &["`source`", "`host-msr`"]);
}

#[test]
fn a_key_without_effect_is_refused() {
    for key in [r#""power-limit": 0"#, r#""dram-energy-unit": 16"#, r#""tdp-watts": 90"#] {
        let name = key.split('"').nth(1).unwrap();
        check_refused(&with(&std::format!(r#""vendor": "amd", {key}"#)), &[name, "Intel's"]);
    }
    let model = MODEL.replace(r#""source": "model","#, "");
    let model = model.replacen('{', r#"{"source": "model", "#, 1);
    for (key, part) in [
        (r#""sample-ms": 1000"#, "host's counters"),
        (r#""host-packages": [0]"#, "`source = \"host-msr\"`"),
        (r#""host-dram-energy-unit": 16"#, "`source = \"host-msr\"`"),
    ] {
        let name = key.split('"').nth(1).unwrap();
        check_refused(&model.replacen('{', &std::format!("{{{key}, "), 1), &[name, part]);
    }
    let both = r#"{"source": "powercap", "host-packages": [0], "vendor": "amd", "tdp-watts": 9}"#;
    check_refused(both, &["`host-packages`", "`tdp-watts`"]);
}

#[test]
fn a_model_that_cannot_be_is_refused() {
    check_refused(r#"{"source": "model"}"#, &["`source`", "`model` is missing"]);
    check_refused(r#"{"model": {}}"#, &["`model`", "`package`"]);
    check_refused(r#"{"model": {"package": {"idle-mw": -1, "vcpu-mw": 1}}}"#, &["idle-mw"]);
    let config = r#"{"model": {
        "package": {"idle-mw": 10, "vcpu-mw": 10},
        "core": {"idle-mw": 6, "vcpu-mw": 4},
        "uncore": {"idle-mw": 4, "vcpu-mw": 7}
    }}"#;
    check_refused(config, &["`model.package.vcpu-mw`", "10 is less than the 11"]);
}

#[test]
fn domains_that_are_not_there_are_refused() {
    check_refused(&with(r#""domains": ["package", "core"]"#), &["`domains`", "model", "`core`"]);
    check_refused(&with(r#""domains": ["dram"]"#), &["`domains`", "`package` is missing"]);
    check_refused(&with(r#""domains": ["psys"]"#), &["`domains[0]`", "`psys`"]);
}

#[test]
fn sources_that_are_not_there_are_refused() {
    check_refused("{}", &["no source", "host-file:package=", "host-msr:0x606-0x641", "`model`"]);
    check_refused(r#"{"source": "powercap"}"#, &["`source`", "host-file:package="]);
    check_refused(
        &with(r#""source": "host-msr", "host-packages": [0, 3]"#),
        &["`source`", "[0, 3]", "host-msr:0x606-0x641", "module `msr`"],
    );
}
