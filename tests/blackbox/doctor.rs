//! `wasmsr doctor`: whether a host is fit.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::fixture::{Outcome, Run, Running, Workdir, apply, require_kvm, test, wasmsr};
use crate::no_kvm;

/// The verdict on a point, from the table.
fn verdict<'a>(run: &'a Run, point: &str) -> &'a str {
    let line = run.stdout.lines().find(|line| line.starts_with(point));
    let line = line.unwrap_or_else(|| panic!("nothing is said of {point}:\n{run}"));
    line[point.len()..].split_whitespace().next().unwrap_or_default()
}

#[apply(test)]
fn a_host_that_is_fit() -> Outcome {
    require_kvm()?;
    let run = Workdir::new().wasmsr(&["doctor"]).exited(0);
    for point in ["kernel", "/dev/kvm", "capabilities", "MSR filter", "vCPUs"] {
        assert_eq!(verdict(&run, point), "good", "{point}:\n{run}");
    }
    assert!(run.stdout.contains("16 ranges of 12288 MSRs"), "{run}");
    Ok(())
}

#[apply(test)]
fn for_programs() -> Outcome {
    require_kvm()?;
    let run = Workdir::new().wasmsr(&["doctor", "--json"]).exited(0);
    let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(report.get("fit"), Some(&Value::Bool(true)), "{run}");
    let findings = report.get("findings").and_then(Value::as_array).expect("a list");
    assert!(!findings.is_empty(), "{run}");
    for finding in findings {
        assert!(finding["found"].is_string(), "{finding}");
        assert_eq!(finding["remedy"].is_null(), finding["verdict"] == "good", "{finding}");
    }
    Ok(())
}

#[apply(test)]
fn without_kvm() -> Outcome {
    let run = no_kvm::without_devices("doctor")?.exited(12);
    assert_eq!(verdict(&run, "/dev/kvm"), "unfit", "{run}");
    assert!(run.stdout.contains("cargo xtask nested"), "no remedy:\n{run}");
    Ok(())
}

#[apply(test)]
fn without_sysfs() -> Outcome {
    require_kvm()?;
    let run = no_kvm::without_sysfs("doctor")?.exited(0);
    for point in ["backend", "kvm.ignore_msrs"] {
        assert_eq!(verdict(&run, point), "limited", "{point}:\n{run}");
    }
    assert!(run.stdout.contains("-> mount sysfs"), "no remedy:\n{run}");
    Ok(())
}

#[apply(test)]
fn rustc_without_cargo() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("rustc", "#!/bin/sh\necho .\n");
    workdir.put("libcore-1.rlib", "");
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(workdir.path().join("rustc"), executable).expect("it is ours");
    let mut doctor = wasmsr(&["doctor"]);
    doctor.current_dir(workdir.path()).env("PATH", workdir.path()).env_remove("CARGO");
    let run = Running::start(&mut doctor).finish();
    assert_eq!(verdict(&run, "Wasm toolchain"), "limited", "{run}");
    assert!(run.stdout.contains("no cargo"), "{run}");
    Ok(())
}

#[apply(test)]
fn a_cache_that_cannot_be_used() -> Outcome {
    require_kvm()?;
    let run = Workdir::new().wasmsr(&["doctor", "--cache-dir", "/dev/null/x"]).exited(0);
    assert_eq!(verdict(&run, "cache"), "limited", "{run}");
    Ok(())
}
