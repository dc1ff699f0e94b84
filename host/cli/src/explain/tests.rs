//! What is said of MSRs, without a profile and without KVM.

use wasmsr_interface::MsrIndex;

use super::*;

#[test]
fn the_words_of_reports_are_understood() {
    for line in [
        "Nov 21 10:44:24 ryzen kernel: kvm [15736]: ignored rdmsr: 0x35 data 0x0",
        "kvm: 23090: cpu0 unhandled wrmsr 0x391 data 2000000f",
        "0m 2.981s | INFO | linux | [ 2.280865] unchecked MSR access error: RDMSR from 0x1ad at rIP",
    ] {
        assert_eq!(page(line).msrs.len(), 1, "{line}");
    }
}

fn page(log: &str) -> Page {
    let accesses = Accesses::of_log(log.as_bytes()).unwrap();
    Page { no_kvm: Some("not in tests".to_owned()), ..Page::new(&accesses, From::Log, None) }
}

#[test]
fn a_log_becomes_profile_lines_that_are_toml() {
    let page = page(
        "kvm: vcpu0 unhandled rdmsr: 0x606\nkvm: vcpu0 unhandled rdmsr: 0x611\n\
         kvm: vcpu0 unhandled rdmsr: 0x1c9\nkvm: vcpu0 unhandled wrmsr: 0x1c9 data 5\n\
         kvm: vcpu0 unhandled rdmsr: 0xdeadbeef\nkvm: vcpu0 unhandled wrmsr: 0x3a data 1\n",
    );
    let lines = page.profile_lines.as_deref().unwrap();
    let profile: toml::Table = lines.parse().unwrap_or_else(|error| panic!("{error}\n{lines}"));
    let plugins = profile["plugin"].as_array().unwrap();
    let paths: Vec<&str> = plugins.iter().map(|p| p["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["rapl.wasm", "registers.wasm", "unknown_log.wasm"]);
    assert!(
        lines.contains("0x606 (MSR_RAPL_POWER_UNIT), 0x611 (MSR_PKG_ENERGY_STATUS)"),
        "{lines}"
    );
    let stored = "{ range = \"0x1c9\", read = \"stored\", write = \"store\" },   # MSR_LBR_TOS";
    assert!(lines.contains(stored), "{lines}");
    assert!(lines.contains("{ range = \"0xdeadbeef\", read = \"zero\" },\n"), "{lines}");
    assert!(lines.contains("{ range = \"0x3a\", value = 0 },   # IA32_FEATURE_CONTROL"), "{lines}");
}

#[test]
fn every_msr_is_shown_with_its_name() {
    let text = view::for_people(&page("vcpu0 ignored wrmsr: 0x17f data 0x2\n"));
    assert!(text.starts_with(
        "0x17f (MSR_ERROR_CONTROL): Intel, read and write, one per package; 1 write, last of 0x2\n"
    ), "{text}");
    assert!(text.contains("kvm.ignore_msrs"), "{text}");
    let text = view::for_people(&page("vcpu0 unhandled rdmsr: 0xdeadbeef\n"));
    assert!(text.starts_with("0xdeadbeef: not in the table of MSRs; 1 read\n"), "{text}");
}

#[test]
fn what_no_guest_asked_for_gets_no_line() {
    let page = page(
        "qemu-system-x86_64: error: failed to set MSR 0x48d to 0x7f00000016\n\
         kvm: vcpu0 unhandled rdmsr: 0x80d\n",
    );
    let lines = page.profile_lines.unwrap();
    assert!(lines.lines().all(|line| line.starts_with("# 0x")), "{lines}");
    assert!(lines.contains("0x48d (IA32_VMX_TRUE_PINBASED_CTLS)") && lines.contains("x2APIC"));
}

#[test]
fn a_log_that_is_cut_says_so() {
    let accesses = Accesses { is_cut: true, ..Accesses::of_log(&b"nothing"[..]).unwrap() };
    let page = Page::new(&accesses, From::Log, None);
    assert!(view::for_people(&page).contains("larger than 256 MiB, and the rest"));
    assert_eq!(serde_json::to_value(&page).unwrap()["read_up_to"], 256 << 20);
}

#[test]
fn a_log_without_an_msr_says_so() {
    let text = view::for_people(&page("nothing here\n"));
    assert!(text.contains("nothing names an MSR"), "{text}");
}

/// The proposals hold against the plugins' own manifests: a plugin that is proposed
/// for an MSR claims it, lists it by configuration, or takes unhandled accesses.
#[test]
fn proposed_plugins_answer_what_they_are_proposed_for() {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    for plugin in wasmsr_msrs::shipped() {
        let path = plugins.join(plugin.name).join("plugin.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        assert_eq!(plugin.file, format!("{}.wasm", plugin.name.replace('-', "_")));
        let list = |table: &'_ toml::Table, key: &str| -> Vec<toml::Value> {
            table.get(key).and_then(toml::Value::as_array).cloned().unwrap_or_default()
        };
        let conditional = list(&manifest, "when");
        let conditional = conditional.iter().filter_map(toml::Value::as_table);
        let mut claims = list(&manifest, "msr");
        claims.extend(conditional.flat_map(|when| list(when, "msr")));
        let open = manifest.contains_key("unhandled")
            || claims.iter().any(|claim| claim.get("config").is_some());
        let ranges: Vec<wasmsr_interface::MsrRange> =
            claims.iter().filter_map(|claim| claim.get("range")?.as_str()?.parse().ok()).collect();
        for index in plugin.msrs.iter().flat_map(|&(first, last)| [first, last]).map(MsrIndex) {
            let claimed = ranges.iter().any(|range| range.contains(index));
            assert!(open || claimed, "{} does not claim {}", plugin.name, index.described());
        }
    }
}
