//! Images of others: what the boot loader hands to a multiboot 1 guest.

use crate::fixture::{
    MULTIBOOT, Outcome, Run, Running, Skip, Workdir, apply, guest_exit, require_kvm, test, wasmsr,
};

/// Boots the guest that prints what it was told.
fn boot(boot: &str) -> Result<Run, Skip> {
    require_kvm()?;
    let image = MULTIBOOT.image()?;
    let workdir = Workdir::new();
    workdir.put("one.txt", "first");
    workdir.put("two.txt", "second\nand last");
    workdir.put("vm.toml", format!("[vm]\nmemory = \"64MiB\"\n[boot]\nimage = {image:?}\n{boot}"));
    let run = Running::start(wasmsr(&["run", "vm.toml"]).current_dir(workdir.path())).finish();
    Ok(run.exited(guest_exit(0)))
}

/// The guest must have printed each of `lines`.
#[track_caller]
fn told(run: &Run, lines: &[&str]) -> Outcome {
    for line in lines {
        assert!(run.stdout.lines().any(|printed| printed == *line), "no `{line}`:\n{run}");
    }
    Ok(())
}

#[apply(test)]
fn memory_and_zeros() -> Outcome {
    // KiB above 1 MiB, of 64 MiB.
    told(&boot("")?, &["magic 2badb002", "bss 0", "upper fc00"])
}

#[apply(test)]
fn the_command_line() -> Outcome {
    // The first word is the image, as every multiboot loader has it.
    let run = boot("cmdline = \"a=1  b\"")?;
    let found = run
        .stdout
        .lines()
        .any(|line| line.starts_with("command line: ") && line.ends_with(" a=1  b"));
    assert!(found, "{run}");
    Ok(())
}

#[apply(test)]
fn modules_and_their_strings() -> Outcome {
    let run = boot("modules = [\"one.txt\", { path = \"two.txt\", cmdline = \"b c\" }]")?;
    told(&run, &["module: one.txt", "first", "module: b c", "second", "and last"])
}
