//! A stock Linux: Debian's kernel, unmodified, and people's tools in it. It
//! needs a KVM that runs one, such as that of the nested host.

use std::fs;
use std::thread;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::boots::replace;
use crate::fixture::{
    Outcome, Plugin, Running, Skip, Vm, apply, module_with_manifest, require_memory, test, wasmsr,
};

/// Waits for the shell of this boot.
fn reaches_shell(running: &mut Running, boot: usize) {
    running.wait_for_many("built-in shell", boot);
}

/// Types a line. What it must print differs from what is typed, since the
/// terminal shows that too.
fn types(running: &mut Running, line: &str, printed: &str) {
    running.type_in(&format!("{line}\n"));
    running.wait_for(printed);
}

/// 0x1000 is the number of the vCPU and 0x40; no writes.
const EACH: Plugin = Plugin {
    name: "each",
    manifest: r#"msr = [{ range = "0x1000" }]"#,
    code: r#"
        (import "wasmsr" "outcome" (func $outcome (param i32)))
        (reads (i64.extend_i32_u (i32.or (local.get $vcpu) (i32.const 0x40))))
        (writes (call $outcome (i32.const 1)))"#,
};

/// 0x1001 counts the reads of all vCPUs.
const ALL: Plugin = Plugin {
    name: "all",
    manifest: r#"msr = [{ range = "0x1001", access = "r", scope = "vm" }]"#,
    code: "
        (global $reads (mut i64) (i64.const 0))
        (reads
            (global.set $reads (i64.add (global.get $reads) (i64.const 1)))
            (global.get $reads))",
};

#[apply(test)]
fn four_cpus_and_the_tools_of_people() -> Outcome {
    let vm = Vm::new().vcpus(4).memory("256MiB").plugin(&EACH).plugin(&ALL);
    let (_workdir, mut running) = vm.start_linux()?;
    reaches_shell(&mut running, 1);
    types(&mut running, "echo cpus: $(nproc)", "cpus: 4");
    types(&mut running, "echo each: $(rdmsr -a 0x1000)", "each: 40 41 42 43");
    types(&mut running, "echo all: $(rdmsr -a 0x1001)", "all: 1 2 3 4");
    types(&mut running, "rdmsr -p 3 0x1000; echo code: $?", "code: 0");
    types(&mut running, "wrmsr 0x1000 1; echo code: $?", "code: 4");
    types(&mut running, "rdmsr 0x1002; echo code: $?", "cannot read MSR 0x00001002");
    types(&mut running, "sleep 1; echo slept: $((6 * 7))", "slept: 42");
    running.type_in("poweroff -f\n");
    running.finish().exited(0).said(&["powered off", "each", "all"]);
    Ok(())
}

#[apply(test)]
fn memory_above_the_hole() -> Outcome {
    require_memory(4600)?;
    let (_workdir, mut running) = Vm::new().memory("4GiB").start_linux()?;
    reaches_shell(&mut running, 1);
    types(&mut running, "grep -c '^1[0-9a-f]*-.*System RAM' /proc/iomem", "\n1");
    let large = "[ $(grep -o '[0-9]*' /proc/meminfo | head -n 1) -gt 3900000 ]";
    types(&mut running, &format!("{large} && echo memory: $((4 * 10))"), "memory: 40");
    running.type_in("poweroff -f\n");
    running.finish().exited(0);
    Ok(())
}

#[apply(test)]
fn a_panic_is_reported_and_a_reset() -> Outcome {
    let vm = Vm::new().memory("256MiB").arguments(&["--on-reboot", "exit"]);
    let (_workdir, mut running) = vm.start_linux()?;
    reaches_shell(&mut running, 1);
    types(&mut running, "echo cpus: $(nproc)", "cpus: 1");
    types(&mut running, "echo c >/proc/sysrq-trigger", "Kernel panic - not syncing");
    let panicked = "the guest's kernel has panicked";
    running.finish().exited(14).said(&["wasmsr: ", "reset", "vCPU 0", panicked]);
    Ok(())
}

/// Another version of [`EACH`].
fn version(version: &str, answer: u32) -> Vec<u8> {
    module_with_manifest(
        &EACH.manifest_text().replace("1.0.0", version),
        &format!(
            r#"(memory (export "memory") 1)
            (func (export "wasmsr_abi_v1"))
            (reads (i64.const {answer}))
            (writes)"#
        ),
    )
}

#[apply(test)]
fn a_reboot_takes_the_new_plugin_unless_it_is_broken() -> Outcome {
    let (workdir, mut running) = Vm::new().memory("256MiB").plugin(&EACH).start_linux()?;
    let file = workdir.path().join("each.wasm");
    reaches_shell(&mut running, 1);
    types(&mut running, "echo one: $(rdmsr 0x1000)", "one: 40");

    replace(&file, version("2.0.0", 0xb2));
    running.type_in("reboot -f\n");
    reaches_shell(&mut running, 2);
    types(&mut running, "echo two: $(rdmsr 0x1000)", "two: b2");

    replace(&file, "version 3, cut off");
    running.type_in("reboot -f\n");
    reaches_shell(&mut running, 3);
    types(&mut running, "echo three: $(rdmsr 0x1000)", "three: b2");
    running.type_in("poweroff -f\n");
    let run = running.finish().exited(0).said(&["each", "1.0.0", "2.0.0", "each.wasm"]);
    for wasm in [EACH.wasm(), version("2.0.0", 0xb2)] {
        assert!(run.stderr.contains(&hash(&wasm)), "a hash is not in the log:\n{run}");
    }
    Ok(())
}

/// Skips a test of a verb that this command does not have.
fn require_verb(verb: &str) -> Result<(), Skip> {
    match Running::start(&mut wasmsr(&[verb, "--help"])).finish().code {
        Some(0) => Ok(()),
        _ => Err(Skip(format!("this wasmsr has no verb `{verb}`"))),
    }
}

/// Asks this of a running VM.
fn operate(running: &Running, verb: &str) {
    let process = running.proc();
    let process = process.file_name().unwrap_or_default().to_string_lossy();
    Running::start(&mut wasmsr(&[verb, &process])).finish().exited(0);
}

#[apply(test)]
fn a_pause_is_no_soft_lockup() -> Outcome {
    require_verb("pause")?;
    let (_workdir, mut running) = Vm::new().vcpus(2).memory("256MiB").start_linux()?;
    reaches_shell(&mut running, 1);
    let lockups = "echo lockups: $(dmesg | grep -c 'soft lockup')";
    // The watchdog complains after twice as many seconds.
    types(&mut running, "echo 1 >/proc/sys/kernel/watchdog_thresh", "#");
    types(&mut running, lockups, "lockups: 0");
    operate(&running, "pause");
    thread::sleep(Duration::from_secs(8));
    operate(&running, "resume");
    types(&mut running, "sleep 3; echo slept: $((6 * 7))", "slept: 42");
    types(&mut running, &format!("{lockups} again"), "lockups: 0 again");
    running.type_in("poweroff -f\n");
    running.finish().exited(0);
    Ok(())
}

#[apply(test)]
fn the_power_button_powers_a_guest_off() -> Outcome {
    require_verb("powerdown")?;
    let (_workdir, mut running) = Vm::new().memory("256MiB").start_linux()?;
    reaches_shell(&mut running, 1);
    types(&mut running, "ls /sys/bus/acpi/devices | grep -c LNXPWRBN", "\n1");
    // As a daemon for ACPI's events would.
    let count = "set -- $(cat /sys/firmware/acpi/interrupts/ff_pwr_btn); echo presses: $1";
    types(&mut running, count, "presses: 0");
    running.type_in(&format!("while true; do {count}; [ $1 = 0 ] || poweroff -f; sleep 1; done\n"));
    operate(&running, "powerdown");
    running.wait_for("presses: 1");
    running.finish().exited(0).said(&["the power button is pressed", "powered off"]);
    Ok(())
}

#[apply(test)]
fn arch_capabilities_change_vulnerabilities() -> Outcome {
    // SSB_NO (Intel SDM volume 4, table 2-2): not affected by speculative store
    // bypass. Linux asks for it on processors of both vendors.
    let shipped = r"config = { value = 0x10 }";
    let vm = Vm::new().memory("256MiB").plugin(&SUSPECT).shipped("arch_capabilities", shipped);
    let (workdir, mut running) = vm.start_linux()?;
    let profile = workdir.path().join("vm.toml");
    let bypass = "cat /sys/devices/system/cpu/vulnerabilities/spec_store_bypass";
    reaches_shell(&mut running, 1);
    types(&mut running, &format!("echo with: $({bypass})"), "with: Not affected");
    types(&mut running, "echo value: $(rdmsr 0x10a)", "value: 10");

    let text = fs::read_to_string(&profile).expect("a temporary file can be read");
    replace(&profile, text.replace("value = 0x10", "value = 0"));
    running.type_in("reboot -f\n");
    reaches_shell(&mut running, 2);
    types(&mut running, &format!("echo without: $({bypass})"), "without: Vulnerable");
    types(&mut running, "echo value: $(rdmsr 0x10a)", "value: 0");
    running.type_in("poweroff -f\n");
    running.finish().exited(0);
    Ok(())
}

/// Makes any processor one of a family that Linux holds to be affected, and
/// that has no other way to say it is not.
const SUSPECT: Plugin = Plugin {
    name: "suspect",
    manifest: r#"
        msr = [{ range = "0x1000", access = "r" }]
        cpuid = [
            { leaf = 1, eax.value = 0x00a20f10 },
            { leaf = 0x80000008, ebx.clear = [24, 25, 26] },
        ]"#,
    code: "(reads (i64.const 0))",
};

fn hash(file: &[u8]) -> String {
    Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[apply(test)]
fn nothing_waits_for_the_keyboard_controller() -> Outcome {
    // Firecracker's arguments; without ACPI, Linux looks for the controller by itself.
    // `reboot=k` resets through it.
    let firecracker = "reboot=k i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd";
    let without_acpi = "reboot=k acpi=off";
    for arguments in [firecracker, without_acpi] {
        let vm = Vm::new().memory("256MiB").arguments(&["--on-reboot", "exit"]);
        let (_workdir, mut running) = vm.start_linux_with(arguments)?;
        reaches_shell(&mut running, 1);
        types(&mut running, "echo failed: $(dmesg | grep -c \"Can't read CTR\")", "failed: 0");
        types(&mut running, "dmesg | grep -c 'serio: i8042 KBD port'", "\n1");
        running.type_in("reboot -f\n");
        running.finish().exited(14);
    }
    Ok(())
}
