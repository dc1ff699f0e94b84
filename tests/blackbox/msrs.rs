//! `wasmsr check --msrs` and `--diff`: what decides every MSR.

use serde_json::Value;

use crate::fixture::{Outcome, Plugin, Run, Workdir, apply, test};

const CLAIMS: Plugin = Plugin {
    name: "claims",
    manifest: r#"msr = [
        { range = "0x10a", access = "r" },
        { range = "0x40001000-0x40001003" },
        { range = "0xc0000101" },
    ]"#,
    code: "(reads (i64.const 1)) (writes)",
};

const PROFILE: &str = "[boot]\nguest = \"hello\"\n[[plugin]]\npath = \"claims.wasm\"\n";

fn workdir() -> Workdir {
    let workdir = Workdir::new();
    workdir.put("claims.wasm", CLAIMS.wasm());
    workdir.put("vm.toml", PROFILE);
    workdir
}

fn json(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).expect("it is JSON")
}

fn ranges(report: &Value) -> &[Value] {
    let ranges = report.pointer("/contract/ranges").and_then(Value::as_array);
    ranges.unwrap_or_else(|| panic!("no ranges in {report:#}"))
}

/// The decider of an access, and what happens otherwise.
#[track_caller]
fn decided(report: &Value, msr: u64, access: &str) -> (String, String) {
    let row = ranges(report).iter().find(|row| {
        (row["first"].as_u64()..=row["last"].as_u64()).contains(&Some(msr))
            && row["access"].as_str().is_some_and(|of| of.contains(access))
    });
    let row = row.unwrap_or_else(|| panic!("nothing on {access} of {msr:#x}"));
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    (text("decider"), text("otherwise"))
}

#[apply(test)]
fn every_index_is_listed_once_in_each_direction() -> Outcome {
    let report = json(&workdir().wasmsr(&["check", "vm.toml", "--msrs", "--json"]).exited(0));
    for access in ["r", "w"] {
        let mut next = 0;
        for row in ranges(&report) {
            if row["access"].as_str().is_some_and(|of| of.contains(access)) {
                assert_eq!(row["first"].as_u64(), Some(next), "{row:#}");
                next = row["last"].as_u64().expect("a number") + 1;
            }
        }
        assert_eq!(next, 1 << 32);
    }
    let digest = report.pointer("/contract/digest").and_then(Value::as_str);
    assert!(digest.is_some_and(|digest| digest.len() == 64), "{report:#}");
    Ok(())
}

#[apply(test)]
fn what_decides_is_named() -> Outcome {
    let report = json(&workdir().wasmsr(&["check", "vm.toml", "--msrs", "--json"]).exited(0));
    for (msr, access, decider) in [
        (0x10a, "r", "plugin"),
        (0x4000_1002, "w", "plugin"),
        (0xc000_0101, "r", "plugin"),
        (0xc000_0100, "r", "pass-through"),
        (0x800, "r", "unreachable"),
        (0x8ff, "w", "unreachable"),
        (0xffff_ffff, "r", "unreachable"),
        (0xdead_beef, "r", "kvm-or-policy"),
    ] {
        assert_eq!(decided(&report, msr, access).0, decider, "{access} of {msr:#x}");
    }
    assert_ne!(decided(&report, 0x10a, "w").0, "plugin");
    let plugin = ranges(&report).iter().find(|row| row["first"] == 0x10a).expect("it is there");
    assert_eq!(plugin["plugins"][0], "claims");
    assert_eq!(plugin["name"], "IA32_ARCH_CAPABILITIES");
    Ok(())
}

#[apply(test)]
fn what_is_denied_is_the_policys() -> Outcome {
    let workdir = workdir();
    workdir.put(
        "vm.toml",
        format!(
            "{PROFILE}[msr]\ndefault = \"deny\"\nunknown = \"ignore\"\n\
             allow = [{{ range = \"0xc0000100\", access = \"r\" }}, 0xdeadbeef]\n\
             [[msr.override]]\nrange = \"0x30\"\nread = \"stop\"\n"
        ),
    );
    let report = json(&workdir.wasmsr(&["check", "vm.toml", "--msrs", "--json"]).exited(0));
    for (msr, access, decider, otherwise) in [
        (0x10a, "r", "plugin", "ignore"),
        (0x10a, "w", "policy", "ignore"),
        (0x30, "r", "policy", "stop"),
        (0x30, "w", "policy", "ignore"),
        (0xc000_0100, "r", "pass-through", "fault"),
        (0xc000_0100, "w", "policy", "ignore"),
        (0xdead_beef, "r", "kvm-or-policy", "ignore"),
        (0x802, "r", "unreachable", "fault"),
        (0xffff_ffff, "r", "policy", "ignore"),
    ] {
        let got = decided(&report, msr, access);
        assert_eq!(got, (decider.to_owned(), otherwise.to_owned()), "{access} of {msr:#x}");
    }
    Ok(())
}

#[apply(test)]
fn a_list_for_people() -> Outcome {
    let run = workdir().wasmsr(&["check", "vm.toml", "--msrs"]).exited(0);
    for part in
        ["digest ", "0x10a", "IA32_ARCH_CAPABILITIES", "claims", "pass-through", "0x800-0x8ff"]
    {
        assert!(run.stdout.contains(part), "no `{part}`:\n{run}");
    }
    Ok(())
}

#[apply(test)]
fn contracts_that_are_alike_and_not() -> Outcome {
    let workdir = workdir();
    let saved = workdir.wasmsr(&["check", "vm.toml", "--msrs", "--json"]).exited(0);
    workdir.put("saved.json", &saved.stdout);
    let alike = workdir.wasmsr(&["check", "vm.toml", "--diff", "saved.json"]).exited(0);
    assert!(alike.stdout.contains("decided alike"), "{alike}");

    workdir.put("other.toml", "[boot]\nguest = \"hello\"\n[msr]\nunknown = \"ignore\"\n");
    for other in ["saved.json", "vm.toml"] {
        let run = workdir.wasmsr(&["check", "other.toml", "--diff", other]).exited(1);
        assert!(run.stdout.contains("0x10a") && run.stdout.contains("claims"), "{run}");
    }
    let run = workdir.wasmsr(&["check", "other.toml", "--diff", "saved.json", "--json"]).exited(1);
    let diff = json(&run);
    assert_eq!(diff["same"], false);
    let differences = diff["differences"].as_array().expect("a list");
    let row = differences.iter().find(|row| row["first"] == 0x4000_1000).expect("it differs");
    assert_eq!(row["other"]["decider"], "plugin");
    assert_eq!(row["here"]["decider"], "kvm-or-policy");
    Ok(())
}

#[apply(test)]
fn digests_are_equal_where_contracts_are() -> Outcome {
    let workdir = workdir();
    let digest = |profile: &str| {
        let report = json(&workdir.wasmsr(&["check", profile, "--msrs", "--json"]).exited(0));
        report.pointer("/contract/digest").cloned().expect("there is one")
    };
    workdir.put("same.toml", format!("[vm]\nvcpus = 2\n{PROFILE}fuel = 7\n"));
    workdir.put("other.toml", format!("{PROFILE}[[msr.override]]\nrange = 5\nread = \"stop\"\n"));
    assert_eq!(digest("vm.toml"), digest("same.toml"));
    assert_ne!(digest("vm.toml"), digest("other.toml"));
    Ok(())
}

#[apply(test)]
fn what_a_plugin_turns_off_is_warned_of() -> Outcome {
    let switches = Plugin {
        name: "switches",
        manifest: r#"
            needs.optional = ["intercept"]
            msr = [
                { range = "0x174", access = "r", intercept = "off" },
                { range = "0x175", access = "r", intercept = "off" },
            ]"#,
        ..CLAIMS
    };
    let workdir = Workdir::new();
    workdir.put("switches.wasm", switches.wasm());
    let profile = "[boot]\nguest = \"hello\"\n[[plugin]]\npath = \"switches.wasm\"\n";
    workdir.put("vm.toml", format!("{profile}[msr]\ndefault = \"deny\"\nallow = [0x175]\n"));
    let run = workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    let warning = "warning: plugin `switches` claims 0x174 with intercept = \"off\"";
    assert!(run.stdout.contains(warning), "{run}");
    let report = json(&workdir.wasmsr(&["check", "vm.toml", "--msrs", "--json"]).exited(0));
    assert_eq!(report["warnings"].as_array().map(Vec::len), Some(1), "{report:#}");
    let row = ranges(&report).iter().find(|row| row["first"] == 0x174 && row["access"] == "r");
    assert!(row.is_some_and(|row| row["note"] == "switches can turn it on"), "{report:#}");
    workdir.put("vm.toml", profile);
    let run = workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    assert!(!run.stdout.contains("warning"), "{run}");
    Ok(())
}

#[apply(test)]
fn what_is_no_contract_is_refused() -> Outcome {
    let workdir = workdir();
    for (text, part) in [
        ("{}", "neither a profile nor"),
        ("{", "neither a profile nor"),
        (r#"{"contract": {"format": 9, "ranges": []}}"#, "format 9"),
        (
            r#"{"contract": {"format": 1, "ranges": [
                {"first": 5, "last": 4, "access": "r", "decider": "kvm", "otherwise": "fault"}]}}"#,
            "runs backwards",
        ),
        (
            r#"{"contract": {"format": 1, "ranges": [
                {"first": 5, "last": 9, "access": "rw", "decider": "kvm", "otherwise": "fault"},
                {"first": 6, "last": 9, "access": "rw", "decider": "kvm", "otherwise": "fault"}]}}"#,
            "overlap",
        ),
    ] {
        workdir.put("other.json", text);
        workdir
            .wasmsr(&["check", "vm.toml", "--diff", "other.json"])
            .refused(&["other.json", part]);
    }
    workdir
        .wasmsr(&["check", "vm.toml", "--diff", "nowhere"])
        .refused(&["nowhere", "No such file"]);
    Ok(())
}
