//! The C header of the ABI, by the plugin that clang makes with it: it has all
//! host calls of the engine's table with their types, and they do what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::{Completion, Trial};
use tempfile::TempDir;
use wasmsr_engine::plugin::{HOST_CALLS, Inspection, inspect};

use crate::traces;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("header::has_every_host_call_with_its_type", every_host_call),
        trial("header::has_every_export_with_its_type", every_export),
        trial("header::calls_and_constants_do_what_it_says", |folder| {
            compile(folder, &here("header.c"));
            traces::check(&here("header.trace"), folder);
        }),
        trial("header::is_also_plain_c_and_cpp", other_compilers),
    ]
}

fn trial(name: &str, test: fn(&Path)) -> Trial {
    Trial::ignorable_test(name, move || {
        let clang = Command::new("clang").arg("--print-targets").stderr(Stdio::null()).output();
        let targets = clang.map(|output| output.stdout).unwrap_or_default();
        let linker = Command::new("wasm-ld").arg("--version").stdout(Stdio::null()).status();
        if !String::from_utf8_lossy(&targets).contains("wasm32") || linker.is_err() {
            return Ok(Completion::ignored_with("no clang for wasm32 with wasm-ld"));
        }
        let folder = TempDir::new().expect("a temporary folder");
        test(folder.path());
        Ok(Completion::Completed)
    })
}

/// The header has all host calls of the table and no others, and what is
/// compiled from its declarations has the table's types.
fn every_host_call(folder: &Path) {
    let header = fs::read_to_string(include().join("wasmsr.h")).expect("the header");
    let declared = header.split("WASMSR_IMPORT(").skip(1).filter_map(|rest| rest.split_once(')'));
    let declared: BTreeSet<&str> =
        declared.map(|(name, _)| name).filter(|name| *name != "name").collect();
    let table: BTreeSet<&str> = HOST_CALLS.iter().map(|call| call.name).collect();
    assert_eq!(declared, table, "the header and HOST_CALLS");

    let mut source = String::from(
        "#include \"wasmsr.h\"\n\
         WASMSR_PLUGIN(\"header.toml\");\n\
         typedef void (*call)(void);\n\
         static const call calls[] = {\n",
    );
    for call in HOST_CALLS {
        let _ = writeln!(source, "    (call)wasmsr_{},", call.name);
    }
    // Reached in a way that no optimiser sees through.
    source += "};\n\
         uint64_t rdmsr(uint32_t i, uint32_t v, uint32_t r) { return v + r + (uint32_t)calls[i]; }\n\
         void wrmsr(uint32_t i, uint64_t a, uint32_t v, uint32_t r) { (void)(i + a + v + r); }\n";
    let file = folder.join("calls.c");
    fs::write(&file, source).expect("a temporary file can be written");

    let imports: BTreeMap<_, _> = compile(folder, &file).imports.into_iter().collect();
    let table = HOST_CALLS.iter().map(|call| (format!("wasmsr.{}", call.name), call.ty()));
    assert_eq!(imports, table.collect());
}

fn every_export(folder: &Path) {
    let exports = compile(folder, &here("header.c")).exports;
    let names: BTreeSet<&str> = exports.iter().map(|(name, _)| name.as_str()).collect();
    // `inspect` has held each against the ABI's type.
    let abi = [
        "init",
        "memory",
        "rdmsr",
        "report",
        "reset",
        "restore",
        "save",
        "timer",
        "wasmsr_abi_v1",
        "wrmsr",
    ];
    assert_eq!(names, abi.into());
}

/// A unit test on the host's own target can include it, and so can C++.
fn other_compilers(folder: &Path) {
    let mut native = Command::new("clang");
    native.args(["-c", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-pedantic"]);
    run(native.arg("-I").arg(include()).arg(here("header.c")));
    let cpp = folder.join("empty.cpp");
    fs::write(&cpp, "#include \"wasmsr.h\"\n").expect("a temporary file can be written");
    let mut cpp_to_wasm = Command::new("clang");
    cpp_to_wasm.args(["--target=wasm32", "-c", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]);
    run(cpp_to_wasm.arg("-I").arg(include()).arg(cpp));
}

/// Compiles a source to a plugin in `folder`.
fn compile(folder: &Path, source: &Path) -> Inspection {
    let out = folder.join(source.file_name().unwrap_or_default()).with_extension("wasm");
    let mut clang = Command::new("clang");
    clang
        .args(["--target=wasm32", "-O2", "-Wall", "-Wextra", "-Werror", "-nostdlib"])
        .arg("-Wl,--no-entry,--stack-first")
        .args([Path::new("-I"), &include(), Path::new("-I"), &here("")])
        .args([Path::new("-o"), &out, source]);
    run(&mut clang);
    inspect(&out).unwrap_or_else(|error| panic!("{}: {error}", source.display()))
}

fn run(command: &mut Command) {
    let output = command.output().expect("clang runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{said}");
}

/// The folder of the header.
fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-sdk/c")
}

fn here(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins").join(file)
}
