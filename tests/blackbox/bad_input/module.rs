//! A plugin's WebAssembly module.

use std::fs::File;

use super::{BASICS, GOOD, HELLO, NOSY, READ, refuses, refuses_entry, refuses_wasm};
use crate::fixture::{Outcome, Workdir, apply, module_with_manifest, test};

#[apply(test)]
fn plugin_that_is_not_wasm() -> Outcome {
    refuses_wasm(b"#!/bin/sh\nexit 0\n", &["WebAssembly"])
}

#[apply(test)]
fn truncated_plugin() -> Outcome {
    let whole = GOOD.wasm();
    // At every length, but an empty file and the bare header that is a module.
    for length in [1, 7, 9, whole.len() / 2, whole.len() - 1] {
        refuses_wasm(whole.get(..length).expect("shorter than the whole"), &[])?;
    }
    Ok(())
}

#[apply(test)]
fn oversized_plugin() -> Outcome {
    let workdir = Workdir::new();
    let file = File::create(workdir.path().join("huge.wasm")).expect("a file can be made");
    // Sparse: the refusal must come from its length, not from reading it.
    file.set_len(1 << 40).expect("a file can be sparse");
    workdir.put("vm.toml", format!("{HELLO}[[plugin]]\npath = \"huge.wasm\"\n"));
    refuses(&workdir, &["huge.wasm", "MiB"])
}

#[apply(test)]
fn plugin_without_abi_marker() -> Outcome {
    refuses_module(&format!("(memory (export \"memory\") 1) {READ}"), &["wasmsr_abi_v1"])
}

#[apply(test)]
fn plugin_without_memory() -> Outcome {
    refuses_module(&format!("(func (export \"wasmsr_abi_v1\")) {READ}"), &["memory"])
}

#[apply(test)]
fn wrong_export_signature() -> Outcome {
    refuses_module(
        &format!("{BASICS} (func (export \"rdmsr\") (param i32) (result i32) i32.const 1)"),
        &["rdmsr", "(i32) -> (i32)", "(i32, i32, i32) -> (i64)"],
    )
}

#[apply(test)]
fn missing_export() -> Outcome {
    refuses_module(BASICS, &["rdmsr", "`r`"])
}

#[apply(test)]
fn unknown_import() -> Outcome {
    refuses_module(
        &format!("(import \"wasmsr\" \"frobnicate\" (func)) {BASICS} {READ}"),
        &["frobnicate"],
    )
}

#[apply(test)]
fn import_from_elsewhere() -> Outcome {
    refuses_module(
        &format!("(import \"env\" \"puts\" (func (param i32))) {BASICS} {READ}"),
        &["env", "puts"],
    )
}

#[apply(test)]
fn wrong_import_signature() -> Outcome {
    refuses_module(
        &format!("(import \"wasmsr\" \"outcome\" (func (param i64))) {BASICS} {READ}"),
        &["outcome", "(i64) -> ()", "(i32) -> ()"],
    )
}

#[apply(test)]
fn import_without_its_capability() -> Outcome {
    refuses_module(&format!("{NOSY} {BASICS} {READ}"), &["guest_read", "guest-memory", "needs"])
}

#[apply(test)]
fn plugin_memory_above_its_ceiling() -> Outcome {
    let module =
        format!("(memory (export \"memory\") 64) (func (export \"wasmsr_abi_v1\")) {READ}");
    refuses_entry(
        &module_with_manifest(&GOOD.manifest_text(), &module),
        "memory = \"1MiB\"",
        &["`memory`", "1.0 MiB", "64 pages"],
    )
}

/// A module of these fields must be refused under a good manifest.
#[track_caller]
fn refuses_module(fields: &str, parts: &[&str]) -> Outcome {
    refuses_wasm(&module_with_manifest(&GOOD.manifest_text(), fields), parts)
}
