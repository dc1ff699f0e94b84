//! The kill switch, and what else is done at once.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::Vm;
use crate::fixture::{Outcome, Plugin, apply, test};

const READS: &str = "repeat forever 0x1000 wait 5 end";

#[apply(test)]
fn a_plugin_is_answered_for_until_it_is_enabled_across_boots() -> Outcome {
    let vm = Vm::start(1, "repeat 60 0x1000 wait 5 end reset", &["--on-reboot", "at-once"])?;
    vm.asks(&["disable", "vm", "counter", "--answer", "ignore"]).exited(0);
    let now = vm.get("vm");
    assert_eq!(now["plugins"][0]["disabled"], "ignore", "{now}");
    assert_eq!(now["health"], "plugin counter disabled", "{now}");
    vm.wait_until("another boot", |vm| vm["boots"].as_u64() > Some(1) && vm["generation"] == 1);
    let now = vm.wait_until("it is still disabled", |vm| vm["plugins"][0]["disabled"] == "ignore");
    assert!(now["boots"].as_u64() > Some(1), "{now}");
    vm.asks(&["enable", "vm", "counter"]).exited(0);
    vm.wait_until("it answers again", |vm| vm["plugins"][0]["disabled"].is_null());
    let run = vm.stop().exited(0);
    assert!(run.stdout.contains("rdmsr 0x00001000 = 0x0000000000000000"), "{run}");
    Ok(())
}

/// It loops at every access, until its fuel is used up.
#[apply(test)]
fn a_plugin_that_loops_does_not_hold_up_its_end() -> Outcome {
    let vm = Vm::start(2, "quiet cpu all repeat forever 0x1000 end", &[])?;
    let slow = Plugin {
        name: "slow",
        manifest: r#"msr = [{ range = "0x1000", access = "rw" }]"#,
        code: "(reads (loop (br 0)) (i64.const 1)) (writes)",
    };
    vm.workdir.put("slow.wasm", slow.wasm());
    vm.workdir.put(
        "slow.toml",
        "[vm]\nvcpus = 2\nmemory = \"16MiB\"\n[boot]\nguest = \"hello\"\n\
         [[plugin]]\npath = \"slow.wasm\"\nfuel = 100000000\n",
    );
    let path = vm.workdir.path().join("slow.toml");
    let done = vm.operation("swap", &json!({ "profile": path }));
    assert_eq!(done["state"], "done", "{done}");
    let run = vm.asks(&["disable", "vm", "slow", "--answer", "fault"]).exited(0);
    assert!(run.stderr.is_empty(), "{run}");
    vm.wait_until("it is out", |vm| vm["plugins"][0]["disabled"] == "fault");
    vm.stop().exited(0);
    Ok(())
}

#[apply(test)]
fn a_file_and_a_signal_do_it_if_no_socket_answers() -> Outcome {
    let vm = Vm::start(1, READS, &[])?;
    let file = vm.socket().with_extension("disable");
    fs::write(&file, "counter fault\nnonsense\n").expect("the folder is the user's");
    vm.running.send(Signal::USR1);
    vm.wait_until("it is out", |vm| vm["plugins"][0]["disabled"] == "fault");
    assert!(!file.exists(), "the file is used up");
    // Without a file nothing happens.
    vm.running.send(Signal::USR1);
    std::thread::sleep(Duration::from_millis(100));
    let run = vm.stop().exited(0);
    assert!(run.stderr.contains("SIGUSR1: a line is not `PLUGIN ANSWER`"), "{run}");
    assert!(run.stdout.contains("rdmsr 0x00001000: #GP"), "{run}");
    Ok(())
}

#[apply(test)]
fn a_stopped_process_is_reached_by_file_and_signal() -> Outcome {
    let vm = Vm::start(1, READS, &[])?;
    let pid = vm.get("vm")["pid"].to_string();
    vm.running.stop();
    let run = vm.asks(&["disable", &pid, "counter", "--answer", "kernel"]).exited(0);
    assert!(run.stderr.contains("the socket does not answer"), "{run}");
    vm.running.send(Signal::CONT);
    vm.wait_until("it is out", |vm| vm["plugins"][0]["disabled"] == "kernel");
    vm.stop().exited(0);
    Ok(())
}

#[apply(test)]
fn a_vm_pauses_goes_on_resets_logs_and_stops() -> Outcome {
    let vm = Vm::start(2, READS, &["--on-reboot", "at-once"])?;
    vm.asks(&["pause", "vm"]).exited(0);
    vm.wait_until("it is paused", |vm| vm["paused"] == true && vm["health"] == "paused");
    // A swap does not need the guest to run.
    assert_eq!(vm.swap("b.wasm")["state"], "done");
    vm.asks(&["resume", "vm"]).exited(0);
    vm.wait_until("it goes on", |vm| vm["paused"] == false);
    vm.asks(&["log", "vm", "debug"]).exited(0);
    vm.asks(&["reset", "vm"]).exited(0);
    vm.wait_until("it boots again", |vm| vm["boots"] == 2 && vm["generation"] == 1);
    let ps = vm.asks(&["ps"]).exited(0);
    assert!(ps.stdout.lines().any(|line| line.starts_with("vm ")), "{ps}");
    vm.asks(&["stop", "vm"]).exited(0);
    let run = vm.running.finish().exited(0);
    assert!(run.stderr.contains("wasmsr: stopped by `wasmsr stop`"), "{run}");
    Ok(())
}
