//! A guest that resets: each boot is a fresh VM, with the plugins that lie on
//! disk then.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::fixture::{
    Outcome, PATIENCE, Plugin, Vm, apply, guest_exit, module_with_manifest, test,
};

/// Counts reads.
const COUNTER: Plugin = Plugin {
    name: "counter",
    manifest: r#"msr = [{ range = "0x1000", access = "r" }]"#,
    code: "
        (global $reads (mut i64) (i64.const 0))
        (reads
            (global.set $reads (i64.add (global.get $reads) (i64.const 1)))
            (global.get $reads))",
};

/// The reset line, by way of the keyboard controller.
const RESET: &str = "outb 64 fe ->";

/// Reads, waits for a key, and resets.
const READ_AND_WAIT: &str = "r 1000 \n key \n outb 64 fe ->";

#[apply(test)]
fn a_reset_boots_again() -> Outcome {
    Vm::new()
        .arguments(&["--max-boots", "3"])
        .run(RESET)?
        .printed(&format!("{RESET} {RESET} {RESET}"))
        .exited(14)
        .said(&["wasmsr: ", "reset", "vCPU 0"]);
    Ok(())
}

#[apply(test)]
fn a_reset_may_end_the_run() -> Outcome {
    Vm::new().arguments(&["--on-reboot", "exit"]).run(RESET)?.printed(RESET).exited(14);
    Ok(())
}

#[apply(test)]
fn ways_to_reset() -> Outcome {
    for way in [RESET, "outb cf9 6 ->", "outb cf9 e ->"] {
        Vm::new().arguments(&["--on-reboot", "exit"]).run(way)?.printed(way).exited(14);
    }
    Ok(())
}

#[apply(test)]
fn plugins_start_afresh() -> Outcome {
    let run = Vm::new()
        .vcpus(2)
        .plugin(&COUNTER)
        .arguments(&["--max-boots", "2"])
        .run("r 1000 \n cpu 1 \n r 1000 \n outb 64 fe ->")?
        .exited(14);
    assert_eq!(run.stdout.matches("r 1000 -> 1\n").count(), 4, "{run}");
    Ok(())
}

/// The counter's version 2, which answers 0xb.
fn version_2() -> Vec<u8> {
    let manifest = COUNTER.manifest_text().replace("1.0.0", "2.0.0");
    module_with_manifest(
        &manifest,
        r#"
        (memory (export "memory") 1)
        (func (export "wasmsr_abi_v1"))
        (reads (i64.const 0xb))"#,
    )
}

/// Puts a whole file in the place of another, as deployments do.
pub(crate) fn replace(path: &Path, contents: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    fs::write(&new, contents).expect("a temporary file can be written");
    fs::rename(&new, path).expect("a temporary file can be renamed");
}

#[apply(test)]
fn a_replaced_plugin_serves_the_next_boot() -> Outcome {
    let vm = Vm::new().plugin(&COUNTER).arguments(&["--max-boots", "2"]);
    let (workdir, mut running) = vm.start(READ_AND_WAIT)?;
    running.wait_for("r 1000 -> 1\nkey");
    replace(&workdir.path().join("counter.wasm"), version_2());
    running.type_in("a");
    running.wait_for("r 1000 -> b\nkey");
    running.type_in("b");
    running.finish().exited(14).said(&["counter", "1.0.0", "2.0.0"]);
    Ok(())
}

#[apply(test)]
fn a_broken_plugin_does_not_get_in() -> Outcome {
    let vm = Vm::new().plugin(&COUNTER).arguments(&["--max-boots", "2"]);
    let (workdir, mut running) = vm.start(READ_AND_WAIT)?;
    running.wait_for("key");
    replace(&workdir.path().join("counter.wasm"), "broken");
    running.type_in("a");
    running.wait_for_many("r 1000 -> 1\nkey", 2);
    running.type_in("b");
    running.finish().exited(14).said(&["counter.wasm", "last good set"]);
    Ok(())
}

#[apply(test)]
fn a_changed_profile_serves_the_next_boot() -> Outcome {
    let vm = Vm::new().policy(r#"unknown = "fault""#);
    let (workdir, mut running) = vm.start("r 1000 \n key \n outb 64 fe ->")?;
    running.wait_for("r 1000 -> fault\nkey");
    let profile = workdir.path().join("vm.toml");
    let text = fs::read_to_string(&profile).expect("the profile can be read");
    replace(&profile, text.replace(r#"unknown = "fault""#, r#"unknown = "ignore""#));
    workdir.put("script.txt", "r 1000\nexit 5\n");
    running.type_in("a");
    running.wait_for("r 1000 -> 0\n");
    running.finish().exited(guest_exit(5));
    Ok(())
}

#[apply(test)]
fn the_log_says_what_a_reboot_has_changed() -> Outcome {
    let keys = "config = { value = 0x2b }\nfuel = 5000\nname = \"caps\"";
    let vm = Vm::new().shipped("arch_capabilities", keys).policy(r#"unknown = "fault""#);
    let (workdir, mut running) = vm.start("r 10a \n key \n outb 64 fe ->")?;
    running.wait_for("r 10a -> 2b\nkey");
    let profile = workdir.path().join("vm.toml");
    let mut text = fs::read_to_string(&profile).expect("the profile can be read");
    for (old, new) in [
        (
            r#"unknown = "fault""#,
            "unknown = \"ignore\"\noverride = [{ range = 5, read = \"stop\" }]\ndefault = \"deny\"\n\
             allow = [\"0xc0000080\", { range = \"0x10\", access = \"r\" }]",
        ),
        ("{ value = 0x2b }", "{ value = 0x2f }\non-failure = \"ignore\""),
        ("fuel = 5000", "fuel = 6000\nmemory = \"2MiB\"\ngrant = [\"kvm-msr\"]"),
    ] {
        assert!(text.contains(old), "{text}");
        text = text.replace(old, new);
    }
    replace(&profile, text);
    workdir.put("script.txt", "r 10a\nexit 5\n");
    running.type_in("a");
    running.wait_for("r 10a -> 2f\n");
    running.finish().exited(guest_exit(5)).said(&[
        "[msr]: default from allow to deny",
        "[msr]: allow from nothing to 0xc0000080, 0x10 r",
        "[msr]: unknown from fault to ignore",
        "[msr]: override from nothing to 0x5 read stop write -",
        "plugin caps: config.value from 43 to 47",
        "plugin caps: fuel from 5000 to 6000",
        "plugin caps: grant from nothing to kvm-msr",
        "plugin caps: memory from 1.0 MiB to 2.0 MiB",
        "plugin caps: on-failure from fault to ignore",
    ]);
    Ok(())
}

#[apply(test)]
fn a_guest_that_resets_again_and_again_is_slowed_down() -> Outcome {
    let (_workdir, running) = Vm::new().arguments(&["--max-boots", "6"]).start(RESET)?;
    let run = running.finish().exited(14);
    let slowed = "as the guest resets again and again";
    assert_eq!(run.stderr.matches(slowed).count(), 2, "{run}");
    run.said(&["boot 5 in 100 ms", "boot 6 in 200 ms"]);
    let quick = Vm::new().arguments(&["--max-boots", "6", "--on-reboot", "at-once"]).run(RESET)?;
    assert!(!quick.stderr.contains(slowed), "{quick}");
    Ok(())
}

#[apply(test)]
fn a_signal_ends_the_wait_for_a_boot() -> Outcome {
    let (_workdir, running) = Vm::new().start(RESET)?;
    let start = Instant::now();
    while !running.stderr().contains("boot 8 in 800 ms") {
        assert!(start.elapsed() < PATIENCE, "no boot 8: {}", running.stderr());
        thread::sleep(Duration::from_millis(5));
    }
    running.send(Signal::TERM);
    running.finish().exited(143).said(&["terminated by SIGTERM"]);
    Ok(())
}

#[apply(test)]
fn fifty_boots_leave_nothing_behind() -> Outcome {
    let boots = ["--max-boots", "50", "--on-reboot", "at-once"];
    let vm = Vm::new().vcpus(2).plugin(&COUNTER).arguments(&boots);
    let (_workdir, mut running) = vm.start(READ_AND_WAIT)?;
    let mut early = None;
    for boot in 1..=50 {
        running.wait_for_many("key ->", boot);
        let now = Footprint::of(&running.proc());
        match (boot, &early) {
            // The first boots fill caches.
            (5, _) => early = Some(now),
            (50, Some(early)) => now.assert_no_larger_than(early),
            _ => {}
        }
        running.type_in("a");
    }
    running.finish().exited(14);
    Ok(())
}

/// What a process holds on to.
#[derive(Debug)]
struct Footprint {
    files: usize,
    threads: usize,
    /// Number of memory mappings.
    mappings: usize,
    /// Resident memory, in KiB.
    memory: usize,
}

impl Footprint {
    fn of(proc: &Path) -> Self {
        let entries = |name| fs::read_dir(proc.join(name)).expect("the command runs").count();
        let text = |name| fs::read_to_string(proc.join(name)).expect("the command runs");
        Footprint {
            files: entries("fd"),
            threads: entries("task"),
            mappings: text("maps").lines().count(),
            memory: text("status")
                .lines()
                .find_map(|line| {
                    line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok()
                })
                .expect("the kernel counts resident memory"),
        }
    }

    #[track_caller]
    fn assert_no_larger_than(&self, early: &Footprint) {
        // Allocators and caches may breathe; 45 boots of leaks would not fit.
        let fits = self.files <= early.files
            && self.threads <= early.threads
            && self.mappings <= early.mappings + 8
            && self.memory <= early.memory + 2048;
        assert!(fits, "{early:?} has become {self:?}");
    }
}
