//! `wasmsr explain`, names in place of indices, and the ready sets for guests.

use std::fs;

use crate::built;
use crate::fixture::{Outcome, Workdir, apply, shipped, test};

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
