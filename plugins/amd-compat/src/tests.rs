//! The whole plugin, against a model that does not use the table.

extern crate std;

use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;
use wasmsr_sdk::VcpuId;
use wasmsr_sdk::log::Level;
use wasmsr_sdk::native::Host;

use super::*;

const HWCR: u32 = 0xc001_0015;
const IGNNE: u32 = 0xc001_0115;
const PERF_CTL0: u32 = 0xc001_0200;
const DE_CFG: u32 = 0xc001_1029;

fn unknown(msr: u32) -> Access {
    Access::new(MsrIndex(msr), VcpuId(0), Reason::Unknown)
}

fn invalid(msr: u32) -> Access {
    Access::new(MsrIndex(msr), VcpuId(0), Reason::Invalid)
}

fn loaded() -> AmdCompat {
    Host::fresh().load("{}").unwrap()
}

#[test]
fn kvm_gets_the_bits_that_it_keeps() {
    let host = Host::fresh();
    host.set_kvm_msr(MsrIndex(HWCR), 0);
    host.set_kvm_msr(MsrIndex(DE_CFG), 0);
    host.set_kvm_msr(MsrIndex(PERF_CTL0), 0);
    let mut plugin: AmdCompat = host.load("{}").unwrap();
    for (msr, written, held) in [
        // As Linux, Windows and `perf` write them; see README.md.
        (HWCR, 0x0100_0011, 0x0100_0000),
        (DE_CFG, 0x2, 0x2),
        (PERF_CTL0, 0x200_0051_0076, 0x51_0076),
        (HWCR, u64::MAX, 0x0104_0000),
        (DE_CFG, u64::MAX, 0x2),
        (PERF_CTL0, u64::MAX, 0xf_ffd7_ffff),
    ] {
        assert_eq!(plugin.wrmsr(invalid(msr), written), Ok(()), "{msr:#x}");
        assert_eq!(host.kvm_msr(MsrIndex(msr)), Some(held), "{msr:#x}");
    }
}

#[test]
fn what_kvm_takes_in_no_form_is_dropped_or_passed_on() {
    let mut plugin = loaded();
    for value in [0, 1, u64::MAX] {
        assert_eq!(plugin.wrmsr(invalid(HWCR), value), Ok(()));
        assert_eq!(plugin.wrmsr(invalid(DE_CFG), value), Ok(()));
        // A guest without counters must notice it.
        assert_eq!(plugin.wrmsr(invalid(PERF_CTL0), value), Err(Otherwise::Pass));
    }
}

#[test]
fn an_unknown_msr_is_not_written_in_kvm() {
    let host = Host::fresh();
    for msr in [HWCR, DE_CFG, PERF_CTL0] {
        host.set_kvm_msr(MsrIndex(msr), 7);
    }
    let mut plugin: AmdCompat = host.load("{}").unwrap();
    assert_eq!(plugin.wrmsr(unknown(HWCR), 0), Ok(()));
    assert_eq!(plugin.wrmsr(unknown(DE_CFG), 0), Ok(()));
    assert_eq!(plugin.wrmsr(unknown(PERF_CTL0), 0), Err(Otherwise::Pass));
    for msr in [HWCR, DE_CFG, PERF_CTL0] {
        assert_eq!(host.kvm_msr(MsrIndex(msr)), Some(7));
    }
}

#[test]
fn exceptions_are_passed_on() {
    let config = r#"{"except": ["0xc0010115", "0xc0010060-0xc0010065", 3221295145]}"#;
    let mut plugin: AmdCompat = Host::fresh().load(config).unwrap();
    for msr in [IGNNE, 0xc001_0064, 0xc001_0065, DE_CFG] {
        assert_eq!(plugin.rdmsr(unknown(msr)), Err(Otherwise::Pass), "{msr:#x}");
        assert_eq!(plugin.wrmsr(unknown(msr), 0), Err(Otherwise::Pass), "{msr:#x}");
    }
    assert_eq!(plugin.rdmsr(unknown(0xc001_0066)), Ok(0));
}

fn warnings(host: &Host) -> Vec<String> {
    let lines = host.logged().into_iter();
    lines.filter(|(level, _)| *level == Level::Warn).map(|(_, line)| line).collect()
}

const AT_START: &str = r#"{"patch-level": "0xa0011d1", "tsc-freq-sel": true}"#;

#[test]
fn kvm_is_given_values_at_the_start_and_after_a_reset() {
    let host = Host::fresh();
    host.set_kvm_msr(MsrIndex(0x8b), 0x0100_0065);
    host.set_kvm_msr(MsrIndex(HWCR), 0x4_0000);
    let mut plugin: AmdCompat = host.load(AT_START).unwrap();
    for _ in 0..2 {
        assert_eq!(host.kvm_msr(MsrIndex(0x8b)), Some(0xa00_11d1));
        assert_eq!(host.kvm_msr(MsrIndex(HWCR)), Some(0x0104_0000));
        host.set_kvm_msr(MsrIndex(0x8b), 0x0100_0065);
        host.set_kvm_msr(MsrIndex(HWCR), 0x4_0000);
        plugin.reset();
    }
    assert_eq!(warnings(&host), [""; 0]);
}

#[test]
fn nothing_is_given_unasked() {
    let host = Host::fresh();
    host.set_kvm_msr(MsrIndex(0x8b), 0x0100_0065);
    host.set_kvm_msr(MsrIndex(HWCR), 0);
    let mut plugin: AmdCompat = host.load("{}").unwrap();
    plugin.reset();
    assert_eq!(host.kvm_msr(MsrIndex(0x8b)), Some(0x0100_0065));
    assert_eq!(host.kvm_msr(MsrIndex(HWCR)), Some(0));
}

#[test]
fn what_kvm_does_not_take_at_the_start_is_said_once() {
    let host = Host::fresh();
    host.load_for::<AmdCompat>(Some(VcpuId(1)), AT_START).unwrap();
    assert_eq!(warnings(&host), [""; 0]);
    host.load_for::<AmdCompat>(Some(VcpuId(0)), AT_START).unwrap();
    let warnings = warnings(&host);
    let [level, hwcr] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(level.contains("`patch-level`") && level.contains("0x8b"), "{level}");
    assert!(hwcr.contains("`tsc-freq-sel`") && hwcr.contains("0xc0010015"), "{hwcr}");
}

/// The answer of a model of the plugin without grants.
fn expected(kvm: &mut BTreeMap<u32, u64>, step: &Step) -> Result<u64, Otherwise> {
    let Step { msr, reason, write } = *step;
    let mut offer = |bits: u64, otherwise| match (kvm.get_mut(&msr), reason, write) {
        (Some(held), Reason::Invalid, Some(value)) => {
            *held = value & bits;
            Ok(0)
        }
        _ => otherwise,
    };
    match (msr, write) {
        (0xc001_0115 | 0xc001_1023, _) => Ok(0),
        (0xc000_0104, None) => Ok(0x1_0000_0000),
        (0xc000_0104, Some(0x1_0000_0000)) => Ok(0),
        (0xc001_1030..=0xc001_103d, None | Some(0)) => Ok(0),
        (0xc001_0015 | 0xc001_1029, None) => Ok(0),
        (0xc001_0064..=0xc001_006b, None) => Ok(0),
        (0xc001_0015, Some(_)) => offer(1 << 18 | 1 << 24, Ok(0)),
        (0xc001_1029, Some(_)) => offer(2, Ok(0)),
        (0xc001_0200..=0xc001_020a, Some(_)) if msr % 2 == 0 => {
            offer(0xf_ffd7_ffff, Err(Otherwise::Pass))
        }
        _ => Err(Otherwise::Pass),
    }
}

#[derive(Debug, Clone)]
struct Step {
    msr: u32,
    reason: Reason,
    write: Option<u64>,
}

/// The registers, their neighbours, and some random MSRs.
fn msrs() -> impl Strategy<Value = u32> {
    prop_oneof![
        0xc000_0103..=0xc000_0105_u32,
        0xc001_0014..=0xc001_0016_u32,
        0xc001_0063..=0xc001_006c_u32,
        0xc001_0114..=0xc001_0116_u32,
        0xc001_01ff..=0xc001_020c_u32,
        0xc001_1020..=0xc001_103e_u32,
        any::<u32>(),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let reason = prop_oneof![Just(Reason::Unknown), Just(Reason::Invalid), Just(Reason::Filter)];
    let value = prop_oneof![0..4_u64, any::<u64>(), (0..64_u32).prop_map(|bit| 1 << bit)];
    let write = prop::option::of(value);
    let step = (msrs(), reason, write).prop_map(|(msr, reason, write)| Step { msr, reason, write });
    prop::collection::vec(step, 0..64)
}

proptest! {
    #[test]
    fn it_is_as_the_model_says(
        known in prop::collection::vec(msrs(), 0..8),
        steps in steps(),
        reset_at in 0..64_usize,
    ) {
        let host = Host::fresh();
        let mut kvm: BTreeMap<u32, u64> = known.into_iter().map(|msr| (msr, 5)).collect();
        for msr in kvm.keys() {
            host.set_kvm_msr(MsrIndex(*msr), 5);
        }
        let mut plugin: AmdCompat = host.load("{}").unwrap();
        for (at, step) in steps.iter().enumerate() {
            if at == reset_at {
                plugin.reset();
            }
            let access = Access::new(MsrIndex(step.msr), VcpuId(0), step.reason);
            let answer = match step.write {
                None => plugin.rdmsr(access),
                Some(value) => plugin.wrmsr(access, value).map(|()| 0),
            };
            prop_assert_eq!(answer, expected(&mut kvm, step), "{:x?}", step);
            for (msr, value) in &kvm {
                prop_assert_eq!(host.kvm_msr(MsrIndex(*msr)), Some(*value));
            }
        }
    }
}

#[test]
fn a_newer_instance_leaves_what_the_guest_made_of_hwcr() {
    const SET: &str = r#"{"tsc-freq-sel": true}"#;
    const FREQ_SEL: u64 = 1 << 24;
    // Whether each instance sets the bit; the guest has cleared it, and set bit 18.
    for (old, new, expected) in [
        (SET, SET, 1 << 18),
        ("{}", SET, FREQ_SEL | 1 << 18),
        (SET, "{}", 1 << 18),
        ("{}", "{}", 1 << 18),
    ] {
        let host = Host::fresh();
        host.set_kvm_msr(MsrIndex(HWCR), 0);
        let old: AmdCompat = host.load(old).unwrap();
        host.set_kvm_msr(MsrIndex(HWCR), 1 << 18);
        let saved = host.save(&old, "0.1.0").unwrap();
        let mut new: AmdCompat = host.load(new).unwrap();
        new.restore(&saved).unwrap();
        assert_eq!(host.kvm_msr(MsrIndex(HWCR)), Some(expected));
    }
}
