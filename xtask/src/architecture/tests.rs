//! Each promise can be broken, and is then named.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::check_with;

/// Checks a workspace of these files on top of one that keeps every promise.
fn check(files: &[(&str, &str)]) -> Result<()> {
    let root = tempfile::tempdir().unwrap();
    let sound = [
        ("host/vmm/Cargo.toml", "kvm-ioctls.workspace = true"),
        ("host/vmm/src/vm.rs", "use kvm_ioctls::Kvm;"),
        ("host/engine/Cargo.toml", "wasmtime.workspace = true"),
        ("host/engine/src/plugin/mod.rs", "mod module;"),
        ("host/engine/src/plugin/module.rs", "use wasmtime::Module;\nuse crate::Place;"),
        (
            "host/engine/src/lib.rs",
            "//! Compiled by wasmtime::Engine.\nmod plugin;\nmod record;\nmod toml_file;\n\
             pub use toml_file::Place;",
        ),
        ("host/engine/src/toml_file.rs", "pub struct Place;"),
        ("host/engine/src/record/mod.rs", "mod line;\nmod hex;\npub use line::Line;"),
        ("host/engine/src/record/line.rs", "use super::hex::Hex;\npub struct Line(Hex);"),
        (
            "host/engine/src/record/hex.rs",
            "pub struct Hex;\n#[cfg(test)]\nmod tests { use super::*; }",
        ),
        ("host/interface/Cargo.toml", "[dependencies]\n# Texts.\nthiserror.workspace = true"),
        ("msr-table/Cargo.toml", "name = \"wasmsr-msrs\""),
        ("plugin-sdk/Cargo.toml", "name = \"wasmsr-sdk\""),
        ("plugins/one/Cargo.toml", "wasmsr-sdk.workspace = true"),
        (
            "examples/embed/Cargo.toml",
            "description = \"around wasmsr-engine\"\nkvm-ioctls.workspace = true\n\
             wasmsr-engine.workspace = true",
        ),
        ("examples/embed/src/main.rs", "use kvm_ioctls::Kvm;"),
    ];
    for (path, text) in sound.iter().chain(files) {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    check_with(root.path(), &["toml_file", "record", "plugin"])
}

#[track_caller]
fn breaks(path: &str, text: &str, breach: &str) {
    let error = check(&[(path, text)]).unwrap_err().to_string();
    assert_eq!(error, breach);
}

#[test]
fn a_sound_workspace_passes() {
    check(&[]).unwrap();
}

#[test]
fn each_promise_can_be_broken() {
    breaks(
        "host/cli/src/main.rs",
        "\nlet kvm = Kvm::new()?;",
        "only host/vmm, and the example of another VMM, open /dev/kvm: host/cli/src/main.rs:2 has Kvm::new",
    );
    breaks(
        "host/engine/Cargo.toml",
        "kvm-bindings.workspace = true",
        "only host/vmm, host/kvm, and the example of another VMM, use the crates around KVM: \
         host/engine/Cargo.toml:1 has kvm-bindings",
    );
    breaks(
        "host/cli/src/trace.rs",
        "use wasmtime as w;",
        "only host/engine/src/plugin names wasmtime: host/cli/src/trace.rs:1 has use wasmtime",
    );
    breaks(
        "host/cli/Cargo.toml",
        "wasmtime = \"1\"",
        "only host/engine/src/plugin names wasmtime: host/cli/Cargo.toml:1 has wasmtime",
    );
    breaks(
        "examples/counter/Cargo.toml",
        "kvm-bindings.workspace = true",
        "only host/vmm, host/kvm, and the example of another VMM, use the crates around KVM: \
         examples/counter/Cargo.toml:1 has kvm-bindings",
    );
    for (dependency, word) in [
        ("wasmsr-vmm.workspace = true", "wasmsr"),
        ("wasmsr-toolchain = { workspace = true }", "wasmsr"),
        ("wasmsr = { path = \"../../cli\" }", "wasmsr"),
        ("vmm = { path = \"../../host/vmm\" }", "../host"),
    ] {
        breaks(
            "examples/embed/Cargo.toml",
            dependency,
            &format!(
                "examples/embed uses the engine and what lies below it, and no more of wasmsr: \
                 examples/embed/Cargo.toml:1 has {word}"
            ),
        );
    }
    breaks(
        "plugin-sdk/Cargo.toml",
        "wasmsr-engine.workspace = true",
        "the SDK depends on nothing in host/: plugin-sdk/Cargo.toml:1 has wasmsr-engine",
    );
}

#[test]
fn the_vmm_does_not_depend_on_the_engine() {
    breaks(
        "host/vmm/Cargo.toml",
        "kvm-ioctls.workspace = true\nwasmsr-engine.workspace = true",
        "host/vmm knows neither the engine nor wasmtime: host/vmm/Cargo.toml:2 has wasmsr-engine",
    );
}

#[test]
fn the_interface_depends_on_little() {
    for manifest in [
        "[dependencies]\nthiserror.workspace = true\nlibc = \"0.2\"",
        "[dependencies.libc]\nversion = \"0.2\"",
    ] {
        breaks(
            "host/interface/Cargo.toml",
            manifest,
            "host/interface depends on libc, and may on thiserror and serde and wasmsr-msrs only",
        );
    }
    check(&[("host/interface/Cargo.toml", "[dependencies]\nserde = { }\n[features]\nx = []")])
        .unwrap();
}

#[test]
fn the_table_of_msrs_depends_on_nothing() {
    breaks(
        "msr-table/Cargo.toml",
        "[dependencies]\nserde.workspace = true",
        "msr-table depends on serde, and may on nothing",
    );
}

#[test]
fn no_room_names_one_above_it() {
    let above = "host/engine/src/record/hex.rs names plugin, which is above record";
    for text in [
        "use crate::plugin::module;",
        "use super::super::plugin::module;",
        "use crate::{plugin::module as m, toml_file};",
        "pub(crate) use crate::toml_file::Place;\nfn f() { m!(crate::plugin::module::f()) }",
        "#[cfg(test)]\nmod tests { use crate::plugin::*; }",
    ] {
        let text = format!("pub struct Hex;\n{text}");
        breaks("host/engine/src/record/hex.rs", &text, above);
    }
    breaks(
        "host/engine/src/toml_file.rs",
        "pub struct Place;\nfn f(line: crate::record::Line) {}",
        "host/engine/src/toml_file.rs names record, which is above toml_file",
    );
}

#[test]
fn text_and_downward_imports_are_not_upward() {
    let text = "//! [`crate::plugin`]\npub struct Hex;\nuse crate::toml_file::Place;\n\
                const A: &str = \"crate::plugin::module\";\n// use crate::plugin;";
    check(&[("host/engine/src/record/hex.rs", text)]).unwrap();
}

#[test]
fn every_room_has_its_place() {
    breaks(
        "host/engine/src/cellar.rs",
        "",
        "host/engine/src/cellar.rs: the table of rooms does not have cellar",
    );
}

#[test]
fn files_do_not_use_each_other_in_a_circle() {
    breaks(
        "host/engine/src/record/hex.rs",
        "use super::Line;\npub struct Hex;",
        "files use each other in a circle: host/engine/src/record/hex.rs -> \
         host/engine/src/record/line.rs -> host/engine/src/record/hex.rs",
    );
    let circle = check(&[
        ("host/cli/Cargo.toml", ""),
        ("host/cli/src/main.rs", "mod a; mod b; mod c;\nfn main() { a::f(); }"),
        ("host/cli/src/a.rs", "use crate::b;\npub fn f() { b::g(1) }"),
        ("host/cli/src/b.rs", "pub fn g(n: u8) { crate::c::h() }"),
        ("host/cli/src/c.rs", "pub fn h() { super::a::f() }"),
    ]);
    assert_eq!(
        circle.unwrap_err().to_string(),
        "files use each other in a circle: host/cli/src/a.rs -> host/cli/src/b.rs -> \
         host/cli/src/c.rs -> host/cli/src/a.rs"
    );
}

#[test]
fn a_re_export_and_a_module_of_tests_are_no_circle() {
    check(&[
        ("host/cli/Cargo.toml", ""),
        ("host/cli/src/main.rs", "mod a;\npub use a::f;\nfn main() {}"),
        ("host/cli/src/a/mod.rs", "mod b;\n#[cfg(test)]\nmod tests;\npub use b::{T, f};"),
        ("host/cli/src/a/b.rs", "pub struct T;\npub fn f() {}"),
        ("host/cli/src/a/tests.rs", "use super::*;\nfn t(t: T) { crate::f() }"),
    ])
    .unwrap();
}

/// A function of this name, or a trial that is called so.
fn has_test(file: &str, name: &str) -> bool {
    let is_trial =
        |line: &str| line.contains("trial(\"") || line.contains("Trial::") && line.contains('"');
    let ends = format!("{name}\"");
    file.contains(&format!("fn {name}("))
        || file.lines().any(|line| is_trial(line) && line.contains(&ends))
}

#[test]
fn tests_are_told_from_what_only_sounds_like_one() {
    assert!(has_test("fn stops() -> Outcome {", "stops"));
    assert!(has_test("    trial(\"header::stops\", f),", "stops"));
    assert!(has_test("    Trial::ignorable_test(\"stops\", f),", "stops"));
    assert!(!has_test("fn stops_late() {}", "stops"));
    assert!(!has_test("// See stops.\ntrials![stops_late]", "stops"));
}

/// A document that says which tests show a thing links each to its file.
#[test]
fn the_tests_that_documents_name_are_there() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for (document, at_least) in [("why.md", 30), ("embedding.md", 9)] {
        let text = fs::read_to_string(docs.join(document)).unwrap();
        let links = text.split("[`").skip(1).filter_map(|rest| {
            let (name, rest) = rest.split_once("`](")?;
            let (path, _) = rest.split_once(')')?;
            path.ends_with(".rs").then_some((name, path))
        });
        let mut found = 0;
        for (name, path) in links {
            let file = fs::read_to_string(docs.join(path));
            let file = file.unwrap_or_else(|error| panic!("{document}: {path}: {error}"));
            assert!(has_test(&file, name), "{document}: {path} has no test `{name}`");
            found += 1;
        }
        assert!(found >= at_least, "{document} names {found} tests");
    }
}
