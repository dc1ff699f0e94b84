//! Input that cannot be run: one error that names file, place and remedy,
//! exit code 2, and nothing started, from `check` and from `run` alike.

mod image;
mod manifest;
mod module;
mod profile;

use crate::fixture::{Outcome, Plugin, Workdir};

/// A plugin with nothing wrong.
const GOOD: Plugin =
    Plugin { name: "good", manifest: r#"msr = [{ range = "0x1000", access = "r" }]"#, code: READ };

/// An export that a claim of reads needs.
const READ: &str = "(reads i64.const 1)";

/// What every module exports.
const BASICS: &str = r#"(memory (export "memory") 1) (func (export "wasmsr_abi_v1"))"#;

/// Reads guest memory.
const NOSY: &str = r#"(import "wasmsr" "guest_read" (func (param i64 i32 i32) (result i32)))"#;

const HELLO: &str = "[boot]\nguest = \"hello\"\n";

/// The folder's `vm.toml` must be refused with an error that contains `parts`.
#[track_caller]
fn refuses(workdir: &Workdir, parts: &[&str]) -> Outcome {
    for verb in ["check", "run"] {
        let run = workdir.wasmsr(&[verb, "vm.toml"]).refused(parts);
        assert_eq!(run.stderr.lines().count(), 1, "lines of this error:\n{run}");
    }
    Ok(())
}

/// This profile must be refused, beside a `good.wasm`.
#[track_caller]
fn refuses_profile(profile: &str, parts: &[&str]) -> Outcome {
    let workdir = Workdir::new();
    workdir.put("good.wasm", GOOD.wasm());
    workdir.put("vm.toml", profile);
    refuses(&workdir, parts)
}

/// This file must be refused as a plugin of a good profile, with an error that
/// names it.
#[track_caller]
fn refuses_wasm(wasm: &[u8], parts: &[&str]) -> Outcome {
    refuses_entry(wasm, "", parts)
}

/// The same with lines for its `[[plugin]]`.
#[track_caller]
fn refuses_entry(wasm: &[u8], lines: &str, parts: &[&str]) -> Outcome {
    let workdir = Workdir::new();
    workdir.put("bad.wasm", wasm);
    workdir.put("vm.toml", format!("{HELLO}[[plugin]]\npath = \"bad.wasm\"\n{lines}"));
    refuses(&workdir, &[&["bad.wasm"], parts].concat())
}

/// A good profile with these plugins must be refused.
#[track_caller]
fn refuses_plugins(plugins: &[Plugin], parts: &[&str]) -> Outcome {
    let workdir = Workdir::new();
    let mut profile = HELLO.to_owned();
    for plugin in plugins {
        workdir.put(&format!("{}.wasm", plugin.name), plugin.wasm());
        profile.push_str(&format!("[[plugin]]\npath = \"{}.wasm\"\n", plugin.name));
    }
    workdir.put("vm.toml", profile);
    refuses(&workdir, parts)
}
