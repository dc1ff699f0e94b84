use proptest::prelude::*;
use serde::Deserialize;

use super::lines::profile_lines;
use super::*;

fn template(json: &str) -> Template {
    serde_json::from_str(json).unwrap()
}

fn converted(json: &str) -> String {
    profile_lines(&merged(&template(json).msr_modifiers))
}

/// IA32_ARCH_CAPABILITIES as Firecracker's static template T2S has it.
#[test]
fn t2s_fixes_every_bit() {
    let json = r#"{"msr_modifiers": [{"addr": "0x10a", "bitmap":
        "0b0000_0000_0000_0000_0000_0000_0000_0000_0000_1100_0000_1010_0000_1100_0100_1100"}]}"#;
    assert_eq!(
        converted(json),
        "[[plugin]]\n\
         path = \"value_template.wasm\"\n\
         grant = [\"kvm-msr\"]\n\
         config.msrs = [\n    \
             # IA32_ARCH_CAPABILITIES\n    \
             { range = 0x10a, access = \"none\", apply = \"initial\", value = 0xc0a0c4c, \
             mask = \"0xffffffffffffffff\" },\n\
         ]\n"
    );
}

/// The same as T2CL has it, which passes bits of the host on.
#[test]
fn t2cl_leaves_bits_to_kvm() {
    let json = r#"{"msr_modifiers": [{"addr": "0x10a", "bitmap":
        "0b00000000000000000000000000000000000xxx0x0000x0x0xxx0000xxxxxxxxx"}]}"#;
    let lines = converted(json);
    assert!(lines.contains("value = 0x0, mask = \"0xffffffffe2f51e00\""), "{lines}");
}

/// T2, C3 and T2A are about CPUID alone.
#[test]
fn a_template_without_msrs_is_cpuid_alone() {
    let json = r#"{"cpuid_modifiers": [
        {"leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": [
            {"register": "eax", "bitmap": "0bxxxx000000000011xx00011011110010"}]},
        {"leaf": "0xd", "subleaf": "0b1", "flags": 1, "modifiers": []},
        {"leaf": "0x7", "subleaf": "0x0", "flags": 1, "modifiers": [
            {"register": "edx", "bitmap": "0b00000000000000000000000000000101"},
            {"register": "ecx", "bitmap": "0b1x"}]}],
        "msr_modifiers": []}"#;
    let template = template(json);
    let text = changes_text(&changed(&template.cpuid_modifiers), &BTreeMap::new());
    assert_eq!(
        text,
        "[[cpuid]]\nleaf = 0x1\nsubleaf = 0x0\n\
         eax = { set = 0x000306f2, clear = 0x0ffc390d }\n\n\
         [[cpuid]]\nleaf = 0x7\nsubleaf = 0x0\n\
         ecx = { set = 0x00000002 }\nedx = 0x00000005\n"
    );
    assert_eq!(losses(&template), [""; 0]);
}

#[test]
fn flags_that_a_profile_cannot_say_are_named() {
    let json = r#"{"cpuid_modifiers": [
        {"leaf": "0x2", "subleaf": "0x0", "flags": 6, "modifiers": []}]}"#;
    let losses = losses(&template(json));
    assert!(losses.len() == 1 && losses[0].contains("0x2.0x0 0x6"), "{losses:?}");
}

#[test]
fn nothing_is_lost_in_silence() {
    let json = r#"{"kvm_capabilities": ["171", "!56"],
        "vcpu_features": [{"index": 0, "bitmap": "0b11xxxxx"}],
        "reg_modifiers": [{"addr": "0x603000000013c020", "bitmap": "0bx"}, {}]}"#;
    let losses = losses(&template(json));
    for (loss, parts) in losses.iter().zip([
        ["`kvm_capabilities`", "171, !56"],
        ["`vcpu_features`", "1 in number"],
        ["`reg_modifiers`", "2 in number"],
    ]) {
        assert!(parts.iter().all(|part| loss.contains(part)), "{loss}");
    }
    assert_eq!(losses.len(), 3, "{losses:?}");
    assert_eq!(super::losses(&template("{}")), [""; 0]);
}

#[test]
fn what_may_surprise_is_said() {
    let json = r#"{"msr_modifiers": [
        {"addr": "0x10a", "bitmap": "0b1"}, {"addr": "0x8b", "bitmap": "0bxx"},
        {"addr": "0x1a0", "bitmap": "0b1"}, {"addr": "0x10a", "bitmap": "0b0x"}]}"#;
    let surprises = surprises(&template(json).msr_modifiers);
    assert_eq!(surprises.len(), 3, "{surprises:?}");
    assert!(surprises[0].contains("0x8b") && surprises[0].contains("left out"));
    assert!(surprises[1].contains("0x10a") && surprises[1].contains("2 times"));
    assert!(surprises[2].contains("0x1a0") && surprises[2].contains("for the boot"));
}

/// The plugin's entry, as far as it makes a value.
#[derive(Deserialize)]
struct Entry {
    range: u32,
    value: Number,
    mask: Number,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Integer(u64),
    Text(String),
}

impl Number {
    fn get(&self) -> u64 {
        match self {
            Number::Integer(number) => *number,
            Number::Text(text) => u64::from_str_radix(&text[2..], 16).unwrap(),
        }
    }
}

#[derive(Deserialize)]
struct Profile {
    #[serde(default)]
    plugin: Vec<Plugin>,
}

#[derive(Deserialize)]
struct Plugin {
    config: Config,
}

#[derive(Deserialize)]
struct Config {
    msrs: Vec<Entry>,
}

fn bitmap_text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(b"01xx_".as_slice()), 0..64)
        .prop_map(|characters| format!("0b{}", String::from_utf8(characters).unwrap()))
}

/// Firecracker's own: each character stands for what becomes of its bit.
fn applied(text: &str, value: u64) -> u64 {
    let digits = text[2..].replace('_', "");
    digits.chars().rev().enumerate().fold(value, |value, (bit, digit)| match digit {
        '0' => value & !(1 << bit),
        '1' => value | 1 << bit,
        _ => value,
    })
}

/// The same for a register of CPUID, which is half as wide.
fn register_text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(b"01xx".as_slice()), 0..=32)
        .prop_map(|characters| format!("0b{}", String::from_utf8(characters).unwrap()))
}

proptest! {
    /// Firecracker's rule for CPUID, from the text of a template to the changes that the
    /// engine reads of the profile.
    #[test]
    fn the_converted_template_makes_firecrackers_cpuid(
        modifiers in prop::collection::vec((2..4_u32, 0..2_u32, 0..4_usize, register_text()), 0..8),
        kvm: u32,
    ) {
        let names = ["eax", "ebx", "ecx", "edx"];
        let listed: Vec<String> = modifiers
            .iter()
            .map(|(leaf, subleaf, register, bitmap)| format!(
                r#"{{"leaf": "{leaf:#x}", "subleaf": "{subleaf:#x}", "flags": 1, "modifiers": [
                    {{"register": "{}", "bitmap": "{bitmap}"}}]}}"#, names[*register]))
            .collect();
        let json = format!(r#"{{"cpuid_modifiers": [{}]}}"#, listed.join(","));
        let text = changes_text(&changed(&template(&json).cpuid_modifiers), &BTreeMap::new());
        let profile = wasmsr_engine::Profile::parse(std::path::Path::new("vm.toml"), &text).unwrap();
        for (leaf, subleaf, register) in
            (2..4).flat_map(|l| (0..2).flat_map(move |s| (0..4).map(move |r| (l, s, r))))
        {
            let own = modifiers.iter().filter(|(l, s, r, _)| (*l, *s, *r) == (leaf, subleaf, register));
            let expected = own.fold(u64::from(kvm), |value, (.., bitmap)| applied(bitmap, value));
            let tables = profile.cpuid.iter().filter(|t| (t.leaf, t.subleaf) == (leaf, subleaf));
            let made = tables.fold(kvm, |value, table| table.registers[register].apply(value));
            prop_assert_eq!(u64::from(made), expected);
        }
    }

    #[test]
    fn the_converted_template_makes_firecrackers_values(
        modifiers in prop::collection::vec((0..4_u32, bitmap_text()), 0..6),
        kvm: u64,
    ) {
        let listed: Vec<String> = modifiers
            .iter()
            .map(|(addr, bitmap)| format!(r#"{{"addr": "{addr:#x}", "bitmap": "{bitmap}"}}"#))
            .collect();
        let lines = converted(&format!(r#"{{"msr_modifiers": [{}]}}"#, listed.join(",")));
        let profile: Profile = toml::from_str(&lines).unwrap();
        let entries: Vec<Entry> = profile.plugin.into_iter().flat_map(|p| p.config.msrs).collect();
        for addr in 0..4 {
            let own = modifiers.iter().filter(|(modified, _)| *modified == addr);
            let expected = own.fold(kvm, |value, (_, bitmap)| applied(bitmap, value));
            let mut entries = entries.iter().filter(|entry| entry.range == addr);
            let made = entries.next().map_or(kvm, |entry| {
                let (value, mask) = (entry.value.get(), entry.mask.get());
                assert!(mask != 0 && value & !mask == 0, "the plugin would refuse it");
                kvm & !mask | value
            });
            prop_assert_eq!(made, expected);
            prop_assert!(entries.next().is_none(), "the plugin would refuse it");
        }
    }
}
