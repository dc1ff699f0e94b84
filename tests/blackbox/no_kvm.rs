//! Machines where `/dev/kvm` cannot be used.

use std::process::Command;

use libtest_mimic::Trial;

use crate::fixture::{
    Outcome, Run, Running, Workdir, require_kvm, require_mount_namespaces, trials, wasmsr,
};

pub(crate) fn trials() -> Vec<Trial> {
    trials![no_device, a_device_that_is_no_kvm, check_needs_no_kvm]
}

/// Runs `wasmsr VERB` in a mount namespace of its own, after `mount`.
fn after(mount: &str, verb: &str) -> Run {
    let workdir = Workdir::new();
    workdir.put("vm.toml", "[boot]\nguest = \"hello\"\n");
    let command = wasmsr(&[verb, "vm.toml"]);
    let mut isolated = Command::new("unshare");
    isolated
        .args(["-m", "sh", "-c", &format!("{mount} && exec \"$@\""), "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(workdir.path());
    Running::start(&mut isolated).finish()
}

/// Hides every device.
const NO_DEVICES: &str = "mount -t tmpfs none /dev";

fn no_device() -> Outcome {
    require_mount_namespaces()?;
    after(NO_DEVICES, "run").exited(12).said(&[
        "error: ",
        "/dev/kvm",
        "does not exist",
        "cargo xtask",
    ]);
    Ok(())
}

fn a_device_that_is_no_kvm() -> Outcome {
    require_mount_namespaces()?;
    require_kvm()?;
    after("mount --bind /dev/null /dev/kvm", "run").exited(12).said(&["error: ", "/dev/kvm"]);
    Ok(())
}

fn check_needs_no_kvm() -> Outcome {
    require_mount_namespaces()?;
    after(NO_DEVICES, "check").exited(0);
    Ok(())
}
