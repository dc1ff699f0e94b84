//! The VMM of this example with its guest, on real KVM.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tempfile::TempDir;

fn main() -> ExitCode {
    let trials = vec![
        Trial::ignorable_test("the_guest_gets_the_plugins_answers", answers),
        Trial::ignorable_test("a_timer_comes_after_the_access_before_it", timer),
        Trial::ignorable_test("one_that_stops_stops_all", stop),
        Trial::ignorable_test("a_pipe_without_a_writer_holds_no_vcpu", pipe),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn answers() -> Result<Completion, Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    if let Some(skip) = no_kvm() {
        return Ok(skip);
    }
    if !folder.join("../../target/plugins/arch_capabilities.wasm").exists() {
        return Ok(Completion::ignored_with("no plugins; `cargo xtask plugins` builds them"));
    }
    assert_eq!(
        printed(&folder.join("vm.toml")),
        "vCPU 0: 0x1 0x2 0x2a 0x2b #GP 0x0\n\
         vCPU 1: 0x1 0x2 0x2a 0x2b #GP 0x0\n\
         0x10a arch-capabilities: 2 reads, 2 writes, 2 faults\n\
         0x434e5400 counter: 6 reads, 2 writes, 0 faults\n\
         0xdeadbeef (policy): 2 reads, 0 writes, 0 faults\n"
    );
    Ok(Completion::Completed)
}

/// Its first read asks for a time and outlasts it. So the time has come when
/// the vCPU enters again, with this read still to be completed.
const TIMED: &str = r#"
    (module
        (@custom "wasmsr.manifest" "[plugin]\nname = \"timed\"\nversion = \"1.0.0\"\nabi = 1\n" "[needs]\ncapabilities = [\"timer\"]\n"
            "[[msr]]\nrange = \"0x434e5400\"\naccess = \"rw\"\nscope = \"vcpu\"\n")
        (import "wasmsr" "monotonic_ns" (func $now (result i64)))
        (import "wasmsr" "timer" (func $timer (param i64) (result i32)))
        (memory (export "memory") 1)
        (global $asked (mut i32) (i32.const 0))
        (global $came (mut i64) (i64.const 0))
        (func (export "wasmsr_abi_v1"))
        (func (export "timer")
            (global.set $came (i64.add (global.get $came) (i64.const 1))))
        (func (export "rdmsr") (param i32 i32 i32) (result i64)
            (local $at i64)
            (if (i32.eqz (global.get $asked)) (then
                (global.set $asked (i32.const 1))
                (local.set $at (i64.add (call $now) (i64.const 2000000)))
                (drop (call $timer (local.get $at)))
                (loop $wait
                    (br_if $wait (i64.le_u (call $now) (local.get $at))))))
            (global.get $came))
        (func (export "wrmsr") (param i32 i64 i32 i32)))"#;

fn timer() -> Result<Completion, Failed> {
    if let Some(skip) = no_kvm() {
        return Ok(skip);
    }
    let (_folder, profile) = with_plugin(TIMED, "", "grant = [\"timer\"]\nfuel = 1000000000")?;
    let output = printed(&profile);
    assert!(output.starts_with("vCPU 0: 0x0 0x1 0x1 "), "{output}");
    Ok(Completion::Completed)
}

/// Reads of vCPU 1 put an endless loop in the place of the guest's handler of
/// #GP, and are one; the loop begins with a mark in memory. Those of vCPU 0 wait
/// for the mark, and are then passed on, so the policy ends the run.
const LOOPS: &str = r#"
    (module
        (@custom "wasmsr.manifest" "[plugin]\nname = \"loops\"\nversion = \"1.0.0\"\nabi = 1\n" "[needs]\ncapabilities = [\"guest-memory\"]\n"
            "[[msr]]\nrange = \"0x434e5400\"\naccess = \"rw\"\nscope = \"vcpu\"\n")
        (import "wasmsr" "outcome" (func $outcome (param i32)))
        (import "wasmsr" "guest_read" (func $read (param i64 i32 i32) (result i32)))
        (import "wasmsr" "guest_write" (func $write (param i64 i32 i32) (result i32)))
        (memory (export "memory") 1)
        ;; mov byte [0x3000], 1; jmp to itself
        (data (i32.const 0) "\c6\06\00\30\01\eb\fe")
        (func (export "wasmsr_abi_v1"))
        (func (export "rdmsr") (param i32 i32 i32) (result i64)
            (if (local.get 1)
                (then
                    (drop (call $write (i64.const 0x2000) (i32.const 0) (i32.const 7)))
                    (call $outcome (i32.const 1)))
                (else
                    (loop $wait
                        (drop (call $read (i64.const 0x3000) (i32.const 64) (i32.const 1)))
                        (br_if $wait (i32.eqz (i32.load8_u (i32.const 64)))))
                    (call $outcome (i32.const 2))))
            (i64.const 0))
        (func (export "wrmsr") (param i32 i64 i32 i32)))"#;

fn stop() -> Result<Completion, Failed> {
    if let Some(skip) = no_kvm() {
        return Ok(skip);
    }
    let (_folder, profile) = with_plugin(
        LOOPS,
        "msr.unknown = \"stop\"",
        "grant = [\"guest-memory\"]\nfuel = 1000000000",
    )?;
    let output = run(&profile);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("vCPU 0") && said.contains("is unhandled"), "{said}");
    Ok(Completion::Completed)
}

/// Reads give how much of the file came.
const READS: &str = r#"
    (module
        (@custom "wasmsr.manifest" "[plugin]\nname = \"reads\"\nversion = \"1.0.0\"\nabi = 1\n" "[needs]\ncapabilities = [\"host-file:f\"]\n"
            "[[msr]]\nrange = \"0x434e5400\"\naccess = \"rw\"\nscope = \"vcpu\"\n")
        (import "wasmsr" "host_file" (func $file (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "f")
        (func (export "wasmsr_abi_v1"))
        (func (export "rdmsr") (param i32 i32 i32) (result i64)
            (i64.extend_i32_u (call $file (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 8))))
        (func (export "wrmsr") (param i32 i64 i32 i32)))"#;

fn pipe() -> Result<Completion, Failed> {
    if let Some(skip) = no_kvm() {
        return Ok(skip);
    }
    let (folder, profile) = with_plugin(READS, "", "grant = [\"host-file:f=pipe\"]")?;
    let made = Command::new("mkfifo").arg(folder.path().join("pipe")).status()?;
    assert!(made.success());
    let output = printed(&profile);
    assert!(output.starts_with("vCPU 0: 0x0 0x0 "), "{output}");
    Ok(Completion::Completed)
}

/// A folder with a profile that has one plugin.
fn with_plugin(text: &str, head: &str, keys: &str) -> Result<(TempDir, PathBuf), Failed> {
    let folder = tempfile::tempdir()?;
    let profile = folder.path().join("vm.toml");
    fs::write(folder.path().join("p.wasm"), wat::parse_str(text)?)?;
    fs::write(
        &profile,
        format!(
            "{head}\n\
             [[plugin]]\npath = \"p.wasm\"\n{keys}\n"
        ),
    )?;
    Ok((folder, profile))
}

fn no_kvm() -> Option<Completion> {
    let kvm = File::options().read(true).write(true).open("/dev/kvm");
    kvm.err().map(|error| Completion::ignored_with(format!("/dev/kvm: {error}")))
}

/// The output of a run that succeeds.
fn printed(profile: &Path) -> String {
    let output = run(profile);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A run, or what is left of one that has not ended within a minute.
fn run(profile: &Path) -> Output {
    let embed =
        Command::new("timeout").arg("60").arg(env!("CARGO_BIN_EXE_embed")).arg(profile).output();
    embed.expect("embed runs")
}
