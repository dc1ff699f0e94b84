//! `wasmsr check`: all that can be known of a profile before a guest starts.

use serde_json::Value;

use crate::fixture::{Outcome, Plugin, Workdir, apply, test};

/// Claims a named MSR and an unnamed range.
const CLAIMS: Plugin = Plugin {
    name: "claims",
    manifest: r#"
        msr = [
            { range = "0x10a", access = "r" },
            { range = "0x40001000-0x40001003", access = "rw", scope = "vm" },
        ]
        needs.capabilities = ["guest-memory"]"#,
    code: "(reads (i64.const 1)) (writes)",
};

const PROFILE: &str = r#"
    [boot]
    guest = "hello"
    [[plugin]]
    path = "claims.wasm"
    grant = ["guest-memory"]
"#;

fn workdir() -> Workdir {
    let workdir = Workdir::new();
    workdir.put("claims.wasm", CLAIMS.wasm());
    workdir.put("vm.toml", PROFILE);
    workdir
}

#[apply(test)]
fn a_table_for_people() -> Outcome {
    let run = workdir().wasmsr(&["check", "vm.toml"]).exited(0);
    for part in ["claims", "1.0.0", "0x10a", "IA32_ARCH_CAPABILITIES", "0x40001000-0x40001003"] {
        assert!(run.stdout.contains(part), "no `{part}`:\n{run}");
    }
    let narrow = run.stdout.lines().all(|line| line.chars().count() <= 120);
    assert!(narrow, "a line is wider than a screen:\n{run}");
    Ok(())
}

#[apply(test)]
fn json_for_programs() -> Outcome {
    let run = workdir().wasmsr(&["check", "vm.toml", "--json"]).exited(0);
    let report: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    for (pointer, expected) in [
        ("/plugins/0/name", Value::from("claims")),
        ("/msrs/0/first", Value::from(0x10a)),
        ("/msrs/1/last", Value::from(0x4000_1003)),
        ("/msrs/1/plugin", Value::from("claims")),
        ("/filter/0/first", Value::from(0x10a)),
    ] {
        assert_eq!(report.pointer(pointer), Some(&expected), "{pointer} of {report:#}");
    }
    Ok(())
}

#[apply(test)]
fn no_plugins_at_all() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("vm.toml", "[boot]\nguest = \"hello\"\n");
    workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    Ok(())
}

#[apply(test)]
fn paths_are_relative_to_the_profile() -> Outcome {
    let workdir = workdir();
    let profile = workdir.path().join("vm.toml");
    Workdir::new().wasmsr(&["check", profile.to_str().expect("the path is text")]).exited(0);
    Ok(())
}

#[apply(test)]
fn a_hash_that_is_right() -> Outcome {
    use sha2::{Digest as _, Sha256};
    let workdir = workdir();
    let hash: String =
        Sha256::digest(CLAIMS.wasm()).iter().map(|byte| format!("{byte:02x}")).collect();
    workdir.put("vm.toml", format!("{PROFILE}sha256 = \"{hash}\"\n"));
    workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    Ok(())
}

#[apply(test)]
fn a_grant_that_is_asked_for() -> Outcome {
    let run = workdir().wasmsr(&["check", "vm.toml"]).exited(0);
    assert!(run.stdout.contains("guest-memory"), "{run}");
    Ok(())
}
