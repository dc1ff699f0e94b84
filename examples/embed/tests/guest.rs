//! The VMM of this example with its guest, on real KVM.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

fn main() -> ExitCode {
    let trials = vec![Trial::ignorable_test("the_guest_gets_the_plugins_answers", answers)];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn answers() -> Result<Completion, Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        return Ok(Completion::ignored_with(format!("/dev/kvm: {error}")));
    }
    if !folder.join("../../target/plugins/arch_capabilities.wasm").exists() {
        return Ok(Completion::ignored_with("no plugins; `cargo xtask plugins` builds them"));
    }
    let embed = Command::new(env!("CARGO_BIN_EXE_embed")).arg(folder.join("vm.toml")).output();
    let output = embed.expect("embed runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "vCPU 0: 0x1 0x2 0x2a 0x2b #GP 0x0\n\
         vCPU 1: 0x1 0x2 0x2a 0x2b #GP 0x0\n\
         0x10a arch-capabilities: 2 reads, 2 writes, 2 faults\n\
         0x434e5400 counter: 6 reads, 2 writes, 0 faults\n\
         0xdeadbeef (policy): 2 reads, 0 writes, 0 faults\n",
        "{errors}"
    );
    Ok(Completion::Completed)
}
