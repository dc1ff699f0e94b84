//! `wasmsr plugin inspect`: one plugin file, read and explained.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::fixture::{Outcome, Plugin, Workdir, apply, test};

const PLUGIN: Plugin = Plugin {
    name: "inspected",
    manifest: r#"
        msr = [{ range = "0x10a", access = "r" }]
        needs.capabilities = ["guest-memory"]"#,
    code: r#"
        (import "wasmsr" "guest_read" (func (param i64 i32 i32) (result i32)))
        (reads (i64.const 1))"#,
};

fn workdir() -> Workdir {
    let workdir = Workdir::new();
    workdir.put("x.wasm", PLUGIN.wasm());
    workdir
}

fn hash() -> String {
    Sha256::digest(PLUGIN.wasm()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[apply(test)]
fn a_page_for_people() -> Outcome {
    let run = workdir().wasmsr(&["plugin", "inspect", "x.wasm"]).exited(0);
    let parts = [
        "inspected",
        "1.0.0",
        "0x10a",
        "guest-memory",
        "guest_read",
        "rdmsr",
        "wasmsr_abi_v1",
        &hash(),
    ];
    for part in parts {
        assert!(run.stdout.contains(part), "no `{part}`:\n{run}");
    }
    Ok(())
}

#[apply(test)]
fn json_for_programs() -> Outcome {
    let run = workdir().wasmsr(&["plugin", "inspect", "x.wasm", "--json"]).exited(0);
    let report: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    assert_eq!(report.get("sha256"), Some(&hash().into()), "{report:#}");
    assert_eq!(report.get("size"), Some(&PLUGIN.wasm().len().into()), "{report:#}");
    Ok(())
}

#[apply(test)]
fn a_missing_file() -> Outcome {
    let run = Workdir::new().wasmsr(&["plugin", "inspect", "x.wasm"]);
    run.refused(&["x.wasm", "No such file"]);
    Ok(())
}

#[apply(test)]
fn a_folder() -> Outcome {
    Workdir::new().wasmsr(&["plugin", "inspect", "."]).refused(&["Is a directory"]);
    Ok(())
}

#[apply(test)]
fn no_plugin_at_all() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("x.wasm", "plain text");
    workdir.wasmsr(&["plugin", "inspect", "x.wasm"]).refused(&["x.wasm", "WebAssembly"]);
    Ok(())
}

/// Text that would move the cursor, or fake a section.
#[apply(test)]
fn a_hostile_file() -> Outcome {
    const HOSTILE: Plugin = Plugin {
        name: "hostile",
        manifest: "msr = [{ range = \"0x10\", access = \"r\" }, { config = \"\\u001b[2J\\nimports\" }]\n\
                   # \u{9b}2J\u{202e}",
        code: r#"
            (reads (i64.const 1))
            (writes)
            (func (export "ev\1b[2Jil\nimports\n  none"))"#,
    };
    let workdir = Workdir::new();
    workdir.put("x.wasm", HOSTILE.wasm());
    let run = workdir.wasmsr(&["plugin", "inspect", "x.wasm"]).exited(0);
    assert!(!run.stdout.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{run}");
    assert_eq!(run.stdout.lines().filter(|line| *line == "imports").count(), 1, "{run}");
    let run = workdir.wasmsr(&["plugin", "inspect", "x.wasm", "--json"]).exited(0);
    assert!(!run.stdout.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{run}");
    let report: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    let name = report.pointer("/exports/2/name").and_then(Value::as_str);
    assert_eq!(name, Some("ev\u{1b}[2Jil\nimports\n  none"), "{report:#}");
    Ok(())
}

#[apply(test)]
fn msrs_that_no_vm_can_have() -> Outcome {
    let workdir = Workdir::new();
    let manifest = r#"msr = [{ range = "0x800-0x8ff", access = "r" }]"#;
    let code = "(reads (i64.const 1))";
    workdir.put("x.wasm", Plugin { name: "x2apic", manifest, code }.wasm());
    workdir.wasmsr(&["plugin", "inspect", "x.wasm"]).exited(0).said(&["no VM", "x2APIC"]);
    Ok(())
}
