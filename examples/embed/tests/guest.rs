//! The VMM of this example with its guest, on real KVM.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

fn main() -> ExitCode {
    let trials = vec![
        Trial::ignorable_test("the_guest_gets_the_plugins_answers", answers),
        Trial::ignorable_test("a_timer_comes_after_the_access_before_it", timer),
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
    let folder = tempfile::tempdir()?;
    let profile = folder.path().join("vm.toml");
    fs::write(folder.path().join("timed.wasm"), wat::parse_str(TIMED)?)?;
    fs::write(
        &profile,
        "vm.memory = \"1MiB\"\nboot.guest = \"embed\"\n\
         [[plugin]]\npath = \"timed.wasm\"\ngrant = [\"timer\"]\nfuel = 1000000000\n",
    )?;
    let output = printed(&profile);
    assert!(output.starts_with("vCPU 0: 0x0 0x1 0x1 "), "{output}");
    Ok(Completion::Completed)
}

fn no_kvm() -> Option<Completion> {
    let kvm = File::options().read(true).write(true).open("/dev/kvm");
    kvm.err().map(|error| Completion::ignored_with(format!("/dev/kvm: {error}")))
}

/// The output of a run that succeeds.
fn printed(profile: &Path) -> String {
    let embed = Command::new(env!("CARGO_BIN_EXE_embed")).arg(profile).output();
    let output = embed.expect("embed runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
