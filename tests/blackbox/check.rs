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

/// Refuses its configuration.
const REFUSES: Plugin = Plugin {
    name: "refuses",
    manifest: r#"msr = [{ range = "0x20" }]"#,
    code: r#"(func (export "init") (unreachable)) (reads (i64.const 1)) (writes)"#,
};

/// A profile with a mistake of each kind that is found in a step of its own.
fn with_mistakes() -> Workdir {
    let workdir = workdir();
    for name in ["one", "two"] {
        workdir.put(&format!("{name}.wasm"), Plugin { name, ..REFUSES }.wasm());
    }
    let broken = CLAIMS.manifest_text().replace("\"r\"", "\"x\"").replace("\"vm\"", "\"host\"");
    workdir.put("broken.wasm", crate::fixture::module_with_manifest(&broken, "(memory 1)"));
    workdir.put(
        "vm.toml",
        "[boot]\nkernel = \"nowhere\"\n\
         [msr]\nunknwon = \"fault\"\n\
         [[plugin]]\npath = \"missing.wasm\"\n\
         [[plugin]]\npath = \"broken.wasm\"\n\
         [[plugin]]\npath = \"claims.wasm\"\n\
         [[plugin]]\npath = \"claims.wasm\"\nfuel = 0\n\
         [[plugin]]\npath = \"one.wasm\"\n\
         [[plugin]]\npath = \"two.wasm\"\nfallback = true\n",
    );
    workdir
}

#[apply(test)]
fn every_mistake_is_told() -> Outcome {
    let run = with_mistakes().wasmsr(&["check", "vm.toml"]).exited(2);
    let parts = [
        "line 4, column 1: unknown key `unknwon`",
        "fuel = 0 must be",
        "missing.wasm",
        "broken.wasm: its manifest is wrong: line",
        "`x`",
        "`host`",
        "asks for the capability `guest-memory`",
        "plugin one.wasm",
        "plugin two.wasm",
        "nowhere",
    ];
    for part in parts {
        assert!(run.stderr.contains(part), "no `{part}`:\n{run}");
    }
    assert!(run.stderr.matches("error: ").count() >= parts.len() - 1, "{run}");
    assert!(run.stdout.is_empty(), "{run}");
    Ok(())
}

#[apply(test)]
fn every_mistake_is_told_to_programs() -> Outcome {
    let run = with_mistakes().wasmsr(&["check", "vm.toml", "--json"]).exited(2);
    let report: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    let errors = report["errors"].as_array().expect("a list");
    assert_eq!(errors.len(), run.stderr.matches("error: ").count(), "{run}");
    let key = errors.iter().find(|error| error["line"] == 4).expect("a place in the profile");
    assert_eq!((&key["file"], &key["column"]), (&"vm.toml".into(), &1.into()));
    let manifest = errors.iter().find(|error| error["file"] == "broken.wasm");
    assert!(manifest.is_some_and(|error| error["line"].is_number()), "{report:#}");
    Ok(())
}

#[apply(test)]
fn digests_are_whole() -> Outcome {
    let workdir = workdir();
    let json = workdir.wasmsr(&["check", "vm.toml", "--json"]).exited(0);
    let report: Value = serde_json::from_str(&json.stdout).expect("it is JSON");
    let digest = report["plugins"][0]["sha256"].as_str().expect("a text");
    assert_eq!(digest.len(), 64);
    let run = workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    assert!(run.stdout.contains(digest), "{run}");
    Ok(())
}

#[apply(test)]
fn a_profile_for_embedding() -> Outcome {
    let workdir = workdir();
    workdir.put("vm.toml", "[[plugin]]\npath = \"claims.wasm\"\ngrant = [\"guest-memory\"]\n");
    let run = workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    assert!(run.stdout.contains("embeds the engine"), "{run}");
    workdir.wasmsr(&["run", "vm.toml"]).refused(&["vm.toml", "[boot]", "embed"]);
    Ok(())
}

#[apply(test)]
fn filters_that_cannot_be() -> Outcome {
    let workdir = workdir();
    let head = "[boot]\nguest = \"hello\"\n";
    for (range, part) in [
        ("0xfffffff0-0xffffffff", "take 0xffffffff out of the plugin's manifest"),
        ("0x7f0-0x80f", "take 0x800-0x80f out of the plugin's manifest"),
    ] {
        let manifest = format!("msr = [{{ range = \"{range}\" }}]");
        let plugin =
            Plugin { name: "edge", manifest: Box::leak(manifest.into_boxed_str()), ..CLAIMS };
        workdir.put("edge.wasm", plugin.wasm());
        workdir.put("vm.toml", format!("{head}[[plugin]]\npath = \"edge.wasm\"\n"));
        workdir.wasmsr(&["check", "vm.toml"]).refused(&["vm.toml", "`edge`", part]);
    }
    for (allow, part) in [
        ("[\"0-0xffffffff\"]", "end the range at 0xfffffffe"),
        ("[\"0-0xfffffffe\"]", "list fewer MSRs"),
    ] {
        workdir.put("vm.toml", format!("{head}[msr]\ndefault = \"deny\"\nallow = {allow}\n"));
        workdir.wasmsr(&["check", "vm.toml"]).refused(&["vm.toml", "[msr] `allow`", part]);
    }
    workdir.put("vm.toml", format!("{head}[msr]\nallow = [1]\n"));
    workdir.wasmsr(&["check", "vm.toml"]).refused(&["vm.toml", "default = \"deny\""]);
    Ok(())
}

#[apply(test)]
fn what_is_wrong_with_the_other_side_is_json_too() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("vm.toml", "boot.guest = \"hello\"");
    workdir.put("bad.toml", "boot.guest = \"hello\"\nvm.memroy = 1\nvm.vpcus = 1\n");
    for (other, mistakes) in [("nope", 1), ("bad.toml", 2)] {
        let run = workdir.wasmsr(&["check", "--json", "vm.toml", "--diff", other]).exited(2);
        let report: serde_json::Value = serde_json::from_str(&run.stdout).expect("it is JSON");
        let errors = report["errors"].as_array().expect("it is a list");
        assert_eq!(errors.len(), mistakes, "{run}");
        assert!(errors.iter().all(|error| error["file"] == other), "{run}");
    }
    Ok(())
}
