//! Machines where `/dev/kvm` cannot be used.

use std::process::Command;

use crate::fixture::{
    Outcome, Run, Running, Skip, Workdir, apply, require_kvm, require_mount_namespaces, test,
    wasmsr,
};

/// Runs `wasmsr ARGUMENT` where there is no device at all.
pub(crate) fn without_devices(argument: &'static str) -> Result<Run, Skip> {
    require_mount_namespaces()?;
    Ok(after(NO_DEVICES, &[argument]))
}

/// Runs `wasmsr ARGUMENT` where the kernel's modules cannot be seen.
pub(crate) fn without_sysfs(argument: &'static str) -> Result<Run, Skip> {
    require_mount_namespaces()?;
    Ok(after("mount -t tmpfs none /sys", &[argument]))
}

/// Runs `wasmsr ARGUMENTS` in a mount namespace of its own, after `mount`.
fn after(mount: &str, arguments: &[&'static str]) -> Run {
    let workdir = Workdir::new();
    workdir.put("vm.toml", "[boot]\nguest = \"hello\"\n");
    let command = wasmsr(arguments);
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

#[apply(test)]
fn the_horizon_is_not_known_without_kvm() -> Outcome {
    require_mount_namespaces()?;
    after(NO_DEVICES, &["horizon", "vm.toml"]).exited(12).said(&["/dev/kvm does not exist"]);
    Ok(())
}

#[apply(test)]
fn no_device() -> Outcome {
    require_mount_namespaces()?;
    after(NO_DEVICES, &["run", "vm.toml"]).exited(12).said(&[
        "error: ",
        "/dev/kvm",
        "does not exist",
        "cargo xtask",
    ]);
    Ok(())
}

#[apply(test)]
fn a_device_that_is_not_kvm() -> Outcome {
    require_mount_namespaces()?;
    require_kvm()?;
    after("mount --bind /dev/null /dev/kvm", &["run", "vm.toml"])
        .exited(12)
        .said(&["error: ", "/dev/kvm"]);
    Ok(())
}

#[apply(test)]
fn check_needs_no_kvm() -> Outcome {
    require_mount_namespaces()?;
    after(NO_DEVICES, &["check", "vm.toml"]).exited(0);
    Ok(())
}

#[apply(test)]
fn check_lists_msrs_without_kvm_and_says_so() -> Outcome {
    require_mount_namespaces()?;
    let run = after(NO_DEVICES, &["check", "vm.toml", "--msrs"]).exited(0);
    for part in ["KVM's MSRs are not known", "/dev/kvm does not exist", "kvm-or-policy"] {
        assert!(run.stdout.contains(part), "no `{part}`:\n{run}");
    }
    Ok(())
}
