//! `wasmsr explain`, names in place of indices, and the ready sets for guests.

use std::fs;

use crate::built;
use crate::fixture::{Outcome, Workdir, apply, shipped, test, wasmsr};

/// Names are taken wherever indices are: in a profile, in a plugin's configuration, and on
/// the command line, and the same name is shown everywhere.
#[apply(test)]
fn names_are_indices() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("unknown_log.wasm", shipped("unknown_log")?);
    workdir.put("value_template.wasm", shipped("value_template")?);
    workdir.put(
        "vm.toml",
        r#"
        [boot]
        guest = "hello"
        [[msr.override]]
        range = "msr_smi_count"
        read = "ignore"
        [[plugin]]
        path = "value_template.wasm"
        grant = ["kvm-msr"]
        config.msrs = [{ range = "MSR_PP1_POWER_LIMIT", value = 0 }]
        [[plugin]]
        path = "unknown_log.wasm"
        config.rules = [{ range = "IA32_MC0_CTL2-IA32_MC31_CTL2", read = "zero" }]
        "#,
    );
    let run = workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    for part in ["0x640", "MSR_PP1_POWER_LIMIT", "0x34: read = ignore"] {
        assert!(run.stdout.contains(part), "no `{part}`:\n{run}");
    }
    let run = workdir.wasmsr(&["explain", "MSR_PP1_POWER_LIMIT", "--profile", "vm.toml"]).exited(0);
    assert!(run.stdout.contains("reads     plugin value-template"), "{run}");
    Ok(())
}

#[apply(test)]
fn a_mistyped_name_is_corrected() -> Outcome {
    let workdir = Workdir::new();
    workdir
        .wasmsr(&["explain", "IA32_PERF_CAPABILITY"])
        .exited(2)
        .said(&["IA32_PERF_CAPABILITIES"]);
    workdir.put("unknown_log.wasm", shipped("unknown_log")?);
    let config = "config.rules = [{ range = \"IA32_PERF_CAPABILITY\", read = \"zero\" }]";
    let profile =
        format!("[boot]\nguest = \"hello\"\n[[plugin]]\npath = \"unknown_log.wasm\"\n{config}");
    workdir.put("vm.toml", profile);
    workdir
        .wasmsr(&["check", "vm.toml"])
        .exited(2)
        .said(&["rules[0].range", "the nearest is IA32_PERF_CAPABILITIES"]);
    Ok(())
}

/// As many rules as the plugin takes, within its default fuel and memory.
#[apply(test)]
fn a_thousand_rules_are_taken() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("unknown_log.wasm", shipped("unknown_log")?);
    let rules: String = (0..1024)
        .map(|msr| {
            format!("{{ range = \"{:#x}\", read = \"zero\", write = \"ignore\" }},\n", msr * 3)
        })
        .collect();
    workdir.put(
        "vm.toml",
        format!(
            "[boot]\nguest = \"hello\"\n[[plugin]]\npath = \"unknown_log.wasm\"\nconfig.rules = [\n{rules}]"
        ),
    );
    workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    Ok(())
}

/// The sets of `examples/guests/` are profiles that load.
#[apply(test)]
fn ready_sets_are_right() -> Outcome {
    let workdir = Workdir::new();
    let folder = built::workspace().join("examples/guests");
    let sets =
        fs::read_dir(&folder).expect("the sets are there").flatten().map(|entry| entry.path());
    let sets: Vec<_> = sets.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    assert!(sets.len() >= 4, "{sets:?}");
    for plugin in ["unknown_log", "topology", "rapl", "amd_compat", "arch_capabilities"] {
        shipped(plugin)?;
    }
    for set in sets {
        workdir.wasmsr(&["check", &set.to_string_lossy()]).exited(0);
    }
    Ok(())
}

/// What is proposed for an MSR can be put into a profile: an MSR of each shipped plugin, of both
/// vendors, and one that nothing knows.
#[apply(test)]
fn proposed_lines_are_a_profile() -> Outcome {
    let workdir = Workdir::new();
    let folder = built::plugins();
    for name in [
        "arch_capabilities",
        "kvm_clock",
        "hyperv_clock",
        "topology",
        "rapl",
        "frequency",
        "amd_compat",
        "registers",
        "unknown_log",
    ] {
        shipped(name)?;
        let file = format!("{name}.wasm");
        fs::copy(folder.join(&file), workdir.path().join(&file)).expect("it is built");
    }
    for (msr, plugin) in [
        ("0x10a", "arch_capabilities"),
        ("0x4b564d01", "kvm_clock"),
        ("0x40000020", "hyperv_clock"),
        ("0xe2", "topology"),
        ("0x611", "rapl"),
        ("0xc001029b", "rapl"),
        ("0x1ad", "frequency"),
        ("0xc00102b0", "frequency"),
        ("0xc0011029", "amd_compat"),
        ("0x3a", "registers"),
        ("0x12345", "unknown_log"),
    ] {
        let log = format!("kvm: vcpu0, guest rIP: 0xffffffff81000000 unhandled rdmsr: {msr}\n");
        let lines = explained(&workdir, &log);
        assert!(lines.contains(&format!("path = \"{plugin}.wasm\"")), "{msr}: {lines}");
        workdir.put("vm.toml", format!("[boot]\nguest = \"hello\"\n\n{lines}"));
        workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    }
    // The registers of one vendor, and a word on those of the other.
    let both = "kvm: vcpu0 unhandled rdmsr: 0x1ad\nkvm: vcpu0 unhandled rdmsr: 0xc00102b0\n";
    let lines = explained(&workdir, both);
    assert!(lines.contains("Those of the other vendor"), "{lines}");
    workdir.put("vm.toml", format!("[boot]\nguest = \"hello\"\n\n{lines}"));
    workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    Ok(())
}

/// The profile lines for a log.
fn explained(workdir: &Workdir, log: &str) -> String {
    workdir.put("log", log);
    let file = fs::File::open(workdir.path().join("log")).expect("it is there");
    let mut explain = wasmsr(&["explain", "--json"]);
    let output = explain.current_dir(workdir.path()).stdin(file).output().expect("it runs");
    let page: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    page["profile_lines"].as_str().unwrap_or_else(|| panic!("{page}")).to_owned()
}

#[apply(test)]
fn an_error_quotes_the_word_that_was_typed() -> Outcome {
    let workdir = Workdir::new();
    for (word, part) in [
        ("", "`` is not an MSR index"),
        ("-", "`-` is not an MSR index"),
        ("0x280-", "`0x280-` is not an MSR index"),
        ("1ad", "did you mean 0x1ad?"),
    ] {
        workdir.wasmsr(&["explain", word]).exited(2).said(&[part]);
    }
    Ok(())
}
