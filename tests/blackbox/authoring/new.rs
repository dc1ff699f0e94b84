//! `wasmsr plugin new`: what it writes, and what it refuses.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{new_crate, require_toolchain};
use crate::built;
use crate::fixture::{Outcome, Running, Workdir, apply, cannot_run_here, test, wasmsr};

#[apply(test)]
fn every_access_and_scope_builds() -> Outcome {
    for (access, scope, tests) in [("r", "vm", 1), ("w", "vcpu", 1), ("rw", "vm", 2)] {
        let arguments = ["--msr", "0x10", "--access", access, "--scope", scope];
        let krate = new_crate("variant", &arguments)?;
        krate.wasmsr(&["plugin", "test"]).exited(0);
        krate.passes_its_unit_tests(tests);
    }
    Ok(())
}

#[apply(test)]
fn code_that_a_new_crate_has_is_formatted() -> Outcome {
    require_toolchain()?;
    let rustfmt = Command::new("rustfmt").arg("--version").stdout(Stdio::null()).status();
    if !rustfmt.is_ok_and(|status| status.success()) {
        return cannot_run_here("there is no rustfmt");
    }
    let one = "0x10";
    let two = "0x10,0x40000000-0x400000ff";
    let three = "0x10,0x40000000-0x400000ff,0xc0010000";
    let six = "1,2,3,4,5,6";
    for msrs in [one, "0x123456-0x123457", two, "0x10,0x20,0x30", three, six] {
        for access in ["r", "w", "rw"] {
            for scope in ["vcpu", "vm"] {
                let arguments = ["--msr", msrs, "--access", access, "--scope", scope];
                let krate = new_crate("formatted", &arguments)?;
                let mut rustfmt = Command::new("rustfmt");
                rustfmt.args(["--check", "--edition", "2024", "src/lib.rs"]);
                Running::start(rustfmt.current_dir(krate.path(""))).finish().exited(0);
            }
        }
    }
    Ok(())
}

/// They fit into the memory that an instance has by default.
#[apply(test)]
fn as_many_msrs_as_a_new_plugin_may_keep() -> Outcome {
    let msrs = "0x10000-0x13fff,0x20000-0x23fff,0x30000-0x33fff,0x40000-0x43fff";
    let krate = new_crate("many", &["--msr", msrs])?;
    krate.wasmsr(&["plugin", "test"]).exited(0);
    Ok(())
}

/// `plugin new` must refuse these arguments, and leave the folder as it was.
fn refuses(arguments: &[&str], parts: &[&str]) {
    let workdir = Workdir::new();
    let mut all = vec!["plugin", "new"];
    all.extend(arguments);
    workdir.wasmsr(&all).refused(parts);
    let left = fs::read_dir(workdir.path()).expect("the folder is there").count();
    assert_eq!(left, 0, "`plugin new` left something: {arguments:?}");
}

#[apply(test)]
fn names_that_are_not_valid() -> Outcome {
    for name in ["Upper", "1st", "a/b", "..", "end-"] {
        refuses(&[name, "--msr", "0x10"], &[name, "lower-case letters"]);
    }
    refuses(&["fn", "--msr", "0x10"], &["`fn`", "choose another"]);
    Ok(())
}

#[apply(test)]
fn msrs_that_are_not_valid() -> Outcome {
    let sdk = built::workspace().join("plugin-sdk");
    if !sdk.join("Cargo.toml").is_file() {
        return cannot_run_here("the sources of wasmsr-sdk are not here");
    }
    let sdk = sdk.to_str().expect("the checkout has a plain path");
    for (msrs, why) in [
        ("0x20-0x10", "runs backwards"),
        ("0x10,tsk", "`tsk` is not the name of an MSR"),
        ("0x10,", "not an MSR index"),
        ("0x100000000", "at most 32 bits"),
        ("0x10-0x20,0x18", "overlap"),
        ("0-0xffffffff", "at most 65536"),
        ("0x800-0x8ff", "x2APIC"),
        (
            "0x1000000,0x2000000,0x3000000,0x4000000,0x5000000,0x6000000,0x7000000,0x8000000,\
             0x9000000,0xa000000,0xb000000,0xc000000,0xd000000,0xe000000,0xf000000,0x10000000,\
             0x11000000",
            "16 ranges",
        ),
    ] {
        refuses(&["a", "--sdk", sdk, "--msr", msrs], &[why]);
    }
    Ok(())
}

#[apply(test)]
fn what_exists_is_not_overwritten() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("taken", "mine");
    workdir.wasmsr(&["plugin", "new", "taken", "--msr", "0x10"]).refused(&["taken exists already"]);
    let kept = fs::read_to_string(workdir.path().join("taken")).expect("it is there");
    assert_eq!(kept, "mine");
    Ok(())
}

#[apply(test)]
fn a_folder_that_is_not_the_sdk() -> Outcome {
    refuses(&["a", "--msr", "0x10", "--sdk", "/nowhere"], &["--sdk /nowhere", "plugin-sdk"]);
    Ok(())
}

#[apply(test)]
fn a_crate_inside_a_workspace() -> Outcome {
    require_toolchain()?;
    let workdir = Workdir::new();
    workdir.put("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"plugins/*\"]\n");
    let plugins = workdir.path().join("plugins");
    fs::create_dir(&plugins).expect("a folder can be made");
    let sdk = built::workspace().join("plugin-sdk");
    let sdk = sdk.to_str().expect("the checkout has a plain path");
    for (folder, name) in [(plugins.as_path(), "member"), (workdir.path(), "guest")] {
        let mut new = wasmsr(&["plugin", "new", name, "--msr", "0x10", "--sdk", sdk]);
        Running::start(new.current_dir(folder)).finish().exited(0);
        let mut cargo = Command::new("cargo");
        cargo.args(["metadata", "--no-deps", "--format-version=1"]);
        let run = Running::start(cargo.current_dir(folder.join(name))).finish().exited(0);
        let metadata: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
        let root = metadata.get("workspace_root").and_then(Value::as_str).expect("a root");
        let own = folder.join(name);
        let expected = if name == "member" { workdir.path() } else { own.as_path() };
        assert_eq!(Path::new(root), expected.canonicalize().expect("it is there"), "{run}");
    }
    let profile = plugins.join("member/vm.toml");
    let profile = fs::read_to_string(profile).expect("it is there");
    assert!(profile.contains("path = '../../target/plugins/member.wasm'"), "{profile}");
    Ok(())
}
