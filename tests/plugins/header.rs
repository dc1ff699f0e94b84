//! The C header of the ABI, by the plugin that clang makes with it: it has all
//! host calls, exports and numbers of the engine's tables with their types, costs,
//! limits and values, and they do what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::{Completion, Trial};
use tempfile::TempDir;
use wasmsr_engine::plugin::{
    EXPORTS, IMPORTS, Inspection, Number, OTHER_NUMBERS, OUTCOMES, REASONS, inspect,
};
use wasmsr_engine::script::Trace;
use wasmsr_engine::{LoadOptions, limits};

use crate::built;
use crate::traces;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("header::has_every_host_call_with_its_type", every_host_call),
        trial("header::has_every_export_with_its_type", every_export),
        trial("header::has_every_number_with_its_value", every_number),
        Trial::test("header::says_what_calls_cost_and_their_limits", || {
            costs_and_limits();
            Ok(())
        }),
        trial("header::a_refusal_starts_nothing", refusal),
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
    let header = header();
    let declared = header.split("WASMSR_IMPORT(").skip(1).filter_map(|rest| rest.split_once(')'));
    let declared: BTreeSet<&str> =
        declared.map(|(name, _)| name).filter(|name| *name != "name").collect();
    let table: BTreeSet<&str> = IMPORTS.iter().map(|call| call.name).collect();
    assert_eq!(declared, table, "the header and IMPORTS");

    let mut source = String::from(
        "#include \"wasmsr.h\"\n\
         WASMSR_PLUGIN(\"header.toml\");\n\
         typedef void (*call)(void);\n\
         static const call calls[] = {\n",
    );
    for call in IMPORTS {
        let _ = writeln!(source, "    (call)wasmsr_{},", call.name);
    }
    // Reached in a way that no optimiser sees through.
    source += "};\n\
         uint64_t rdmsr(uint32_t i, uint32_t v, uint32_t r) { return v + r + (uint32_t)calls[i]; }\n\
         void wrmsr(uint32_t i, uint64_t a, uint32_t v, uint32_t r) { (void)(i + a + v + r); }\n";
    let file = folder.join("calls.c");
    fs::write(&file, source).expect("a temporary file can be written");

    let imports: BTreeMap<_, _> = compile(folder, &file).imports.into_iter().collect();
    let table = IMPORTS.iter().map(|call| (format!("wasmsr.{}", call.name), call.ty()));
    assert_eq!(imports, table.collect());
}

fn every_export(folder: &Path) {
    let exports = compile(folder, &here("header.c")).exports;
    let names: BTreeSet<&str> = exports.iter().map(|(name, _)| name.as_str()).collect();
    // `inspect` has held each against the ABI's type.
    assert_eq!(names, EXPORTS.iter().map(|export| export.name).collect());
}

/// The header's numbers are those of the tables, and no others.
fn every_number(folder: &Path) {
    let numbers = || [REASONS, OUTCOMES, OTHER_NUMBERS].into_iter().flatten();
    let header = header();
    let mut named = BTreeSet::new();
    for line in header.lines().map(str::trim) {
        let in_enum = line.starts_with("WASMSR_").then(|| line.split_once(" = ")).flatten();
        let defined = line.strip_prefix("#define ").and_then(|rest| rest.split_once(' '));
        let defined = defined.filter(|(name, _)| *name != "WASMSR_H" && !name.contains('('));
        named.extend(in_enum.or(defined).map(|(name, _)| name.to_owned()));
    }
    let table = numbers().map(|Number { name, .. }| format!("WASMSR_{name}"));
    assert_eq!(named, table.collect());

    let mut source = String::from("#include \"wasmsr.h\"\n");
    for Number { name, value, .. } in numbers() {
        let _ = writeln!(source, "_Static_assert(WASMSR_{name} == {value}u, \"{name}\");");
    }
    let file = folder.join("numbers.c");
    fs::write(&file, source).expect("a temporary file can be written");
    run(Command::new("clang").args(["-fsyntax-only", "-I"]).arg(include()).arg(file));
}

/// At each call, its fuel and its limit.
fn costs_and_limits() {
    let header = header();
    for call in IMPORTS {
        let import = format!("WASMSR_IMPORT({})", call.name);
        let (before, _) = header.split_once(&import).expect("the header declares it");
        let comment = before.rsplit("/*").next().unwrap_or_default();
        let comment = comment.replace("\n *", " ").split_whitespace().collect::<Vec<_>>().join(" ");
        let cost = match (call.fuel.call, call.fuel.bytes) {
            (0, _) => "No fuel.".to_owned(),
            (fuel, None) => format!("Fuel: {fuel}."),
            // What C calls `capacity` is `cap` in the table.
            (_, Some(_)) => format!("Fuel: {}.", call.fuel).replace("`cap`", "`capacity`"),
        };
        assert!(comment.contains(&cost), "{}: no `{cost}` in: {comment}", call.name);
        let limit = limits::of_calls().into_iter().find(|(name, _)| *name == call.name);
        if let Some((_, limit)) = limit {
            assert!(comment.contains(&limit), "{}: no `{limit}` in: {comment}", call.name);
        }
    }
}

fn refusal(folder: &Path) {
    compile(folder, &here("header.c"));
    let trace = fs::read_to_string(here("header.trace")).expect("a trace can be read");
    let (head, _) = trace.split_once("---").expect("a trace has a head");
    let text = format!("{head}config = {{ a = 1 }}\n---\nr 0x1000 -> 0x0\n");
    let refused =
        Trace::parse(&text, folder).and_then(|trace| trace.replay(&LoadOptions::default()));
    let error = refused.err().map(|error| described(&error)).unwrap_or_default();
    assert!(error.contains("header wants no configuration"), "{error}");
}

/// An error with its causes.
fn described(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {}", described(source)));
    format!("{error}{}", source.unwrap_or_default())
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

fn header() -> String {
    fs::read_to_string(include().join("wasmsr.h")).expect("the header")
}

/// The folder of the header.
fn include() -> PathBuf {
    built::workspace().join("plugin-sdk/c")
}

fn here(file: &str) -> PathBuf {
    built::workspace().join("tests/plugins").join(file)
}
