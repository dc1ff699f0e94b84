//! Files and profiles that are refused, each with the sentence that says why.

use std::fs;

use wasmsr_engine::{Engine, LoadOptions};
use wasmsr_interface::{MsrOp, Outcome, Reason};

use crate::fixture::{Setup, access, plugin, read, write};

const READS: &str = "[[msr]]\nrange = \"0x10\"\naccess = \"r\"";
const RDMSR: &str = "(func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 0))";

#[track_caller]
fn refused(setup: &Setup, parts: &[&str]) {
    let error = match setup.load() {
        Ok(_) => panic!("loaded"),
        Err(error) => error,
    };
    for part in parts {
        assert!(error.contains(part), "no `{part}` in: {error}");
    }
}

fn good() -> Vec<u8> {
    plugin("p", READS, RDMSR)
}

#[test]
fn a_missing_file() {
    let setup = Setup::new().with("p.wasm", good(), "");
    fs::remove_file(setup.directory.path().join("p.wasm")).unwrap();
    refused(&setup, &["p.wasm", "cannot read it", "check the path"]);
}

#[test]
fn a_wrong_hash() {
    let pin = "0".repeat(64);
    let setup = Setup::new().with("p.wasm", good(), &format!("sha256 = \"{pin}\""));
    refused(&setup, &["p.wasm", "SHA-256", &pin]);
}

#[test]
fn a_right_hash() {
    let found = wasmsr_engine::plugin::inspect(
        &Setup::new().with("p.wasm", good(), "").directory.keep().join("p.wasm"),
    );
    let pin = found.unwrap().sha256;
    Setup::new().with("p.wasm", good(), &format!("sha256 = \"{pin}\"")).load().unwrap();
}

/// Cut anywhere, a plugin is refused and nothing else happens.
#[test]
fn a_truncated_file() {
    let good = good();
    for length in 0..good.len() {
        refused(&Setup::new().with("p.wasm", &good[..length], ""), &["p.wasm"]);
    }
    refused(&Setup::new().with("p.wasm", &good[..good.len() / 2], ""), &["damaged"]);
}

#[test]
fn an_oversized_file() {
    let mut big = good();
    big.resize((8 << 20) + 1, 0);
    refused(&Setup::new().with("p.wasm", big, ""), &["p.wasm", "larger than 8 MiB"]);
}

#[test]
fn not_wasm_at_all() {
    refused(&Setup::new().with("p.wasm", "#!/bin/sh\n", ""), &["not a WebAssembly module"]);
}

#[test]
fn a_component() {
    let component = b"\0asm\x0d\0\x01\0";
    refused(&Setup::new().with("p.wasm", component, ""), &["component", "core module"]);
}

#[test]
fn no_manifest_or_two() {
    let none = wat::parse_str("(module)").unwrap();
    refused(&Setup::new().with("p.wasm", none, ""), &["no custom section `wasmsr.manifest`"]);
    let two = plugin("p", READS, &format!("{RDMSR} (@custom \"wasmsr.manifest\" \"\")"));
    refused(&Setup::new().with("p.wasm", two, ""), &["more than one custom section"]);
}

#[test]
fn no_abi_marker() {
    let manifest = "[plugin]\nname = \"p\"\nversion = \"1.0.0\"\nabi = 1\n[[msr]]\nrange = \"1\"\n";
    let text = format!(
        "(module (memory (export \"memory\") 1) (@custom \"wasmsr.manifest\" {manifest:?}))"
    );
    let bytes = wat::parse_str(text).unwrap();
    refused(&Setup::new().with("p.wasm", bytes, ""), &["no export `wasmsr_abi_v1`"]);
}

#[test]
fn exports_of_another_type_or_missing() {
    let wrong = "(func (export \"rdmsr\") (param i32) (result i64) (i64.const 0))";
    refused(
        &Setup::new().with("p.wasm", plugin("p", READS, wrong), ""),
        &["`rdmsr` is (i32) -> (i64)", "(i32, i32, i32) -> (i64)"],
    );
    refused(
        &Setup::new().with("p.wasm", plugin("p", READS, ""), ""),
        &["its manifest, line 5, column 1: it has no export `rdmsr`", "`r` access"],
    );
    let wrong = format!("{RDMSR} (func (export \"init\"))");
    refused(&Setup::new().with("p.wasm", plugin("p", READS, &wrong), ""), &["`init` is () -> ()"]);
}

#[test]
fn imports_that_the_abi_does_not_have() {
    for (import, parts) in [
        ("(import \"wasmsr\" \"reboot\" (func))", &["`wasmsr.reboot`", "outcome, log"][..]),
        ("(import \"env\" \"log\" (func (param i32 i32 i32)))", &["`env.log`"]),
        ("(import \"wasmsr\" \"log\" (func (param i64)))", &["`wasmsr.log` is (i64) -> ()"]),
        ("(import \"wasmsr\" \"log\" (global i32))", &["`wasmsr.log` is global"]),
    ] {
        let bytes = plugin("p", READS, &format!("{import} {RDMSR}"));
        refused(&Setup::new().with("p.wasm", bytes, ""), parts);
    }
}

#[test]
fn capabilities_that_were_not_asked_or_not_granted() {
    let import = "(import \"wasmsr\" \"guest_read\" (func (param i64 i32 i32) (result i32)))";
    let bytes = plugin("p", READS, &format!("{import} {RDMSR}"));
    refused(
        &Setup::new().with("p.wasm", bytes, "grant = [\"guest-memory\"]"),
        &[
            "its manifest, line 1, column 1: ",
            "`wasmsr.guest_read`",
            "capability `guest-memory`",
            "[needs]",
        ],
    );
    let other = format!("{READS}\n[needs]\ncapabilities = [\"timer\"]");
    let bytes = plugin("p", &other, &format!("{import} {RDMSR}"));
    refused(
        &Setup::new().with("p.wasm", bytes, "grant = [\"timer\"]"),
        &["its manifest, line 9, column 16: it imports `wasmsr.guest_read`"],
    );
    let asks = format!("{READS}\n[needs]\ncapabilities = [\"guest-memory\"]");
    refused(
        &Setup::new().with("p.wasm", plugin("p", &asks, RDMSR), ""),
        &["`guest-memory`", "`grant`"],
    );
}

#[test]
fn overlapping_claims_name_both_plugins() {
    let setup = |keys| {
        Setup::new().with("a.wasm", plugin("a", READS, RDMSR), "").with(
            "b.wasm",
            plugin("b", "[[msr]]\nrange = \"0xe-0x1b\"\naccess = \"r\"", RDMSR),
            keys,
        )
    };
    refused(
        &setup(""),
        &["`a` and `b`", "read of 0x10 (IA32_TIME_STAMP_COUNTER)", "fallback = true"],
    );
    setup("fallback = true").load().unwrap();
}

#[test]
fn claims_of_different_directions_do_not_overlap() {
    let writes = "[[msr]]\nrange = \"0x10\"\naccess = \"w\"";
    let wrmsr = "(func (export \"wrmsr\") (param i32 i64 i32 i32))";
    Setup::new()
        .with("a.wasm", plugin("a", READS, RDMSR), "")
        .with("b.wasm", plugin("b", writes, wrmsr), "")
        .load()
        .unwrap();
}

#[test]
fn two_plugins_of_one_name() {
    let setup = Setup::new().with("a.wasm", good(), "").with("b.wasm", good(), "");
    refused(&setup, &["a.wasm", "b.wasm", "plugin `p`"]);
}

#[test]
fn a_refused_configuration_has_the_plugins_own_words() {
    let body = format!(
        "(import \"wasmsr\" \"log\" (func $log (param i32 i32 i32)))
         (data (i32.const 0) \"`value` is missing\")
         (func (export \"init\") (param i32) (result i32)
           (call $log (i32.const 1) (i32.const 0) (i32.const 18)) (i32.const 1)) {RDMSR}"
    );
    let engine = Setup::new().with("p.wasm", plugin("p", READS, &body), "").load().unwrap();
    let error = engine.dry_run(1).unwrap_err().to_string();
    assert!(error.contains("p.wasm") && error.contains("`value` is missing"), "{error}");
}

#[test]
fn more_initial_memory_than_the_ceiling() {
    let body = format!("{RDMSR} (table 20000 funcref)");
    let engine = Setup::new().with("p.wasm", plugin("p", READS, &body), "").load().unwrap();
    assert!(engine.dry_run(1).is_err(), "a table is memory, too");
}

#[test]
fn plugins_yield_to_a_kernel_that_knows_their_msrs() {
    let setup = Setup::new().with("p.wasm", good(), "kernel-from = \"6.12\"");
    let load = |kernel: &str| {
        let options = LoadOptions { host_kernel: kernel.parse().ok(), cache: None };
        Engine::load(&setup.profile(), &options).unwrap()
    };
    assert_eq!(load("6.11").exits().claims.len(), 1);
    assert_eq!(load("6.12").exits().claims.len(), 0);
    assert_eq!(&*load("7.0.1-amd64").yielded()[0].name, "p");
}

#[test]
fn the_profile_lists_the_msrs_of_a_plugin_that_leaves_it_to_it() {
    let bytes = plugin(
        "listed",
        "[[msr]]\nconfig = \"msrs\"",
        "(func (export \"rdmsr\") (param $i i32) (param i32 i32) (result i64)
            (i64.extend_i32_u (local.get $i)))
         (func (export \"wrmsr\") (param i32 i64 i32 i32))",
    );
    let config = "config.msrs = [\"0x10-0x11\", { range = 0x20, access = \"w\" }]";
    let setup = Setup::new().with("p.wasm", bytes.clone(), config);
    let map: Vec<_> = setup.load().unwrap().map().iter().map(|e| e.range.to_string()).collect();
    assert_eq!(map, ["0x10-0x11", "0x20"]);
    let (mut started, _) = setup.start(1);
    assert_eq!(read(&mut started.vcpus[0], 0x11), Outcome::Value(0x11));
    assert_eq!(write(&mut started.vcpus[0], 0x20, 1), Outcome::Done);
    assert_eq!(read(&mut started.vcpus[0], 0x20), Outcome::Fault, "only writes are claimed");

    let refuses = plugin(
        "refuses",
        "[[msr]]\nconfig = \"msrs\"",
        "(func (export \"rdmsr\") (param i32 i32 i32) (result i64) (i64.const 0))
         (func (export \"wrmsr\") (param i32 i64 i32 i32))
         (func (export \"init\") (param i32) (result i32) (i32.const 1))",
    );
    let engine = Setup::new().with("p.wasm", refuses, "").load().unwrap();
    assert!(engine.dry_run(1).is_err(), "a plugin with an empty list lives, and may refuse");

    for (config, part) in [
        ("config.msrs = [{ msr = 1 }]", "`msrs[0]`"),
        ("config.msrs = [0x10, \"0x0-0x20\"]", "configuration lists are wrong: the ranges"),
    ] {
        refused(&Setup::new().with("p.wasm", bytes.clone(), config), &[part]);
    }
}

#[test]
fn unhandled_accesses_may_be_the_whole_vms() {
    let bytes = plugin(
        "shared",
        "[unhandled]\nreasons = [\"unknown\"]\nscope = \"vm\"",
        "(global $n (mut i64) (i64.const 0))
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
            (global.set $n (i64.add (global.get $n) (i64.const 1))) (global.get $n))
         (func (export \"wrmsr\") (param i32 i64 i32 i32))",
    );
    let (mut started, _) = Setup::new().with("p.wasm", bytes, "").start(2);
    let answers = started.vcpus.iter_mut();
    let answers = answers.map(|vcpu| access(vcpu, 0xdead, MsrOp::Read, Reason::Unknown));
    assert_eq!(answers.collect::<Vec<_>>(), [Outcome::Value(1), Outcome::Value(2)]);
}

/// The profile's `[[cpuid]]` beside a plugin's: what both decide, they decide alike.
#[test]
fn cpuid_of_profile_and_plugins() {
    let manifest = format!("{READS}\n[[cpuid]]\nleaf = 7\nedx.set = [29]\nedx.clear = [3]");
    let with = |lines: &str| {
        let cpuid = format!("[[cpuid]]\nleaf = \"0x7\"\n{lines}");
        Setup::new().with("p.wasm", plugin("p", &manifest, RDMSR), &cpuid)
    };
    let engine = with("edx = { set = \"0x20000000\", clear = [4] }").load().unwrap();
    let [of_plugin, of_profile] = engine.cpuid() else { panic!("{:?}", engine.cpuid()) };
    assert_eq!((of_plugin.edx.set, of_plugin.edx.clear), (1 << 29, 1 << 3));
    assert_eq!((of_profile.edx.set, of_profile.edx.clear), (1 << 29, 1 << 4));
    assert!(of_profile.plugins.is_empty() && of_plugin.plugins.len() == 1);
    refused(
        &with("edx = 0x8"),
        &["plugin `p`", "[[cpuid]] at line", "leaf 0x7, subleaf 0x0, edx bits 3, 29", "out of the"],
    );
}

#[test]
fn one_plugin_serves_twice_under_two_names() {
    let bytes = plugin(
        "answers",
        "[[msr]]\nconfig = \"msrs\"\naccess = \"r\"",
        "(global $n (mut i64) (i64.const 0))
         (func (export \"rdmsr\") (param i32 i32 i32) (result i64)
            (global.set $n (i64.add (global.get $n) (i64.const 1))) (global.get $n))",
    );
    let own = "name = \"own\"\nconfig.msrs = [0x11]";
    let setup = Setup::new()
        .with("p.wasm", &bytes, "config.msrs = [0x10]")
        .with("q.wasm", &bytes, own)
        .with("s.wasm", &bytes, "shadow-of = \"own\"\nconfig.msrs = [0x11]");
    let (mut started, _) = setup.start(1);
    for (index, value) in [(0x10, 1), (0x10, 2), (0x11, 1)] {
        assert_eq!(read(&mut started.vcpus[0], index), Outcome::Value(value));
    }
    let rows =
        started.metrics.msrs().into_iter().map(|row| (row.plugin.unwrap().to_string(), row.reads));
    let mut rows: Vec<_> = rows.collect();
    rows.sort();
    assert_eq!(rows, [("answers".to_owned(), 2), ("own".to_owned(), 1)]);

    let twice = Setup::new().with("p.wasm", &bytes, "").with("q.wasm", &bytes, "");
    refused(&twice, &["are both plugin `answers`", "`name = \"answers-2\"`"]);
    let named = Setup::new().with("p.wasm", &bytes, own).with("q.wasm", &bytes, own);
    refused(&named, &["are both plugin `own`"]);
    let clash =
        Setup::new().with("p.wasm", &bytes, "config.msrs = [0x11]").with("q.wasm", bytes, own);
    refused(&clash, &["`answers` and `own` both claim the read of 0x11", "of `own`"]);
}
