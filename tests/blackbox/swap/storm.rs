//! Swaps in great number, and at awkward times.

use serde_json::json;

use super::{Vm, counter, times};
use crate::fixture::{Counter, Counts, Outcome, apply, prove, test};

const COUNTERS: [Counter; 2] = [
    Counter { msr: 0x1000, counts: Counts::EachVcpu, mark_bits: 1 },
    Counter { msr: 0x1001, counts: Counts::Vm, mark_bits: 1 },
];

const HAMMER: &str = "quiet cpu all repeat forever 0x1000 0x1001 0x1000 end";

/// The recording alone is the proof: nothing lost, doubled, or answered by a mixed set.
#[apply(test)]
fn no_access_is_lost_doubled_or_answered_by_a_mixed_set() -> Outcome {
    let vm = Vm::start(4, HAMMER, &["--record", "r.jsonl", "--record-limit", "16GiB"])?;
    let swaps = times("WASMSR_SWAPS", 200);
    // What the first swaps leave cached is no leak.
    let mut before = (0, 0, 0);
    for round in 0..swaps {
        if round == swaps / 10 {
            before = vm.footprint();
        }
        let done = vm.swap(if round % 2 == 0 { "b.wasm" } else { "a.wasm" });
        assert_eq!(done["state"], "done", "{done}");
        assert_eq!(done["result"]["generation"], round + 2, "{done}");
    }
    // The thread for operations may just be ending, now as well as then.
    let after = vm.footprint();
    assert!(after.1 <= before.1 + 1, "descriptors: {} to {}", before.1, after.1);
    assert!(after.2 <= before.2 + 1, "threads: {} to {}", before.2, after.2);
    assert!(after.0 < before.0 + 32 * 1024, "memory grew from {} to {} KiB", before.0, after.0);
    let recording = vm.workdir.path().join("r.jsonl");
    assert_eq!(vm.post("stop", &json!({})).0, 200);
    let Vm { workdir, running } = vm;
    running.finish().exited(0);
    let proved = prove(&recording, &COUNTERS).unwrap_or_else(|broken| panic!("{broken}"));
    assert_eq!(proved.swaps, swaps);
    assert_eq!(proved.counted.len(), 4, "all vCPUs took part: {proved:?}");
    assert!(proved.accesses > swaps, "{proved:?}");
    drop(workdir);
    Ok(())
}

#[apply(test)]
fn a_guest_that_resets_again_and_again_takes_a_swap_between_any_two_boots() -> Outcome {
    let vm = Vm::start(2, "quiet repeat 50 0x1000 end wait 20 reset", &["--on-reboot", "at-once"])?;
    let reboots = times("WASMSR_REBOOTS", 30);
    let boots = |vm: &Vm| vm.get("vm")["boots"].as_u64().unwrap_or_default();
    for round in 0..reboots {
        // One that meets a reset says so, and is done again.
        loop {
            let done = vm.swap(if round % 2 == 0 { "b.wasm" } else { "a.wasm" });
            if done["state"] == "done" {
                break;
            }
            let why = done["error"].as_str().unwrap_or_default().to_owned();
            assert!(why.contains("reset") || why.contains("does not run"), "{why}");
        }
        let before = boots(&vm);
        vm.wait_until("the next boot", |vm| vm["boots"].as_u64() > Some(before));
    }
    let now = vm.get("vm");
    assert!(now["swaps"].as_u64() >= Some(reboots), "{now}");
    assert!(now["boots"].as_u64() > Some(reboots), "{now}");
    vm.stop().exited(0);
    Ok(())
}

#[apply(test)]
fn of_two_swaps_at_once_that_expect_the_same_set_one_is_refused() -> Outcome {
    let vm = Vm::start(1, HAMMER, &[])?;
    let set = vm.get("vm")["set"].clone();
    let body = |file: &str| {
        let file = vm.workdir.path().join(file);
        json!({ "plugins": [{ "name": "counter", "file": file }], "expect": set })
    };
    let ids = [vm.begin("swap", &body("b.wasm")), vm.begin("swap", &body("b.wasm"))];
    let ended = ids.map(|id| vm.ended(id));
    assert_eq!(ended[0]["state"], "done", "{}", ended[0]);
    assert_eq!(ended[1]["state"], "failed", "{}", ended[1]);
    let why = ended[1]["error"].as_str().unwrap_or_default();
    assert!(why.contains("the set in charge is"), "{why}");
    vm.stop().exited(0);
    Ok(())
}

#[apply(test)]
fn too_many_operations_at_once_are_refused() -> Outcome {
    let vm = Vm::start(1, HAMMER, &[])?;
    let file = vm.workdir.path().join("b.wasm");
    let body = json!({ "plugins": [{ "name": "counter", "file": file }], "dry_run": true });
    let statuses: Vec<u16> = (0..40).map(|_| vm.post("swap", &body).0).collect();
    assert!(statuses.contains(&429) && statuses[0] == 202, "{statuses:?}");
    vm.wait_until("it answers", |vm| vm["generation"] == 1);
    vm.stop().exited(0);
    Ok(())
}

#[apply(test)]
fn shadows_go_on_beside_the_new_set() -> Outcome {
    let shadow = "[[plugin]]\npath = \"b.wasm\"\nshadow-of = \"counter\"\n";
    let vm = Vm::with(2, HAMMER, shadow, &[])?;
    // A third file, of which the shadow is another version as well.
    vm.workdir.put("c.wasm", counter(0, "(func (export \"unused\"))"));
    let done = vm.swap("c.wasm");
    assert_eq!(done["state"], "done", "{done}");
    let pid = vm.get("vm")["pid"].to_string();
    let stats = vm.asks(&["stats", "--json", &pid]).exited(0);
    let stats: serde_json::Value = serde_json::from_str(&stats.stdout).expect("it is JSON");
    assert_eq!(stats["shadows"][0]["of"], "counter", "{stats}");
    vm.stop().exited(0);
    Ok(())
}

#[apply(test)]
fn a_client_that_is_killed_at_any_step_changes_nothing_about_its_operation() -> Outcome {
    let vm = Vm::start(2, HAMMER, &[])?;
    let file = vm.workdir.path().join("b.wasm");
    let body = json!({ "plugins": [{ "name": "counter", "file": file }] }).to_string();
    let request = format!("POST /v1/swap HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for step in (0..request.len()).step_by(7) {
        use std::io::Write;
        let mut client = std::os::unix::net::UnixStream::connect(vm.socket()).expect("it listens");
        let part = request.get(..step).expect("ASCII");
        client.write_all(part.as_bytes()).expect("it takes that");
    }
    let vm_now = vm.get("vm");
    assert_eq!(vm_now["generation"], 1, "{vm_now}");
    // Whole, and gone before the answer.
    {
        use std::io::Write;
        let mut client = std::os::unix::net::UnixStream::connect(vm.socket()).expect("it listens");
        client.write_all(request.as_bytes()).expect("it takes that");
    }
    vm.wait_until("the operation goes on", |vm| vm["generation"] == 2);
    vm.stop().exited(0);
    Ok(())
}

#[apply(test)]
fn a_swap_outlives_a_reboot_and_a_rollback_too() -> Outcome {
    let vm = Vm::start(1, "repeat 3 0x1000 end wait 300 reset", &["--on-reboot", "at-once"])?;
    assert_eq!(vm.swap("b.wasm")["state"], "done");
    let swapped = vm.get("vm")["set"].clone();
    let boots = vm.get("vm")["boots"].as_u64().unwrap_or_default();
    let next = vm.wait_until("the next boot", |vm| {
        vm["boots"].as_u64() > Some(boots) && vm["generation"] == 1
    });
    assert_eq!(next["set"], swapped, "{next}");
    vm.stop().exited(0);
    Ok(())
}

#[apply(test)]
fn a_recording_begins_and_ends_in_a_running_vm_and_replays() -> Outcome {
    let vm = Vm::start(1, "repeat forever 0x1000 wait 20 end", &[])?;
    vm.wait_until("it boots", |vm| vm["generation"] == 1);
    let file = vm.workdir.path().join("r.jsonl");
    assert_eq!(vm.operation("record", &json!({ "file": file }))["state"], "done");
    assert_eq!(vm.get("vm")["recording"], true);
    assert_eq!(vm.swap("b.wasm")["state"], "done");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(vm.operation("record", &json!({ "off": true }))["state"], "done");
    let replayed = vm.asks(&["replay", "r.jsonl"]);
    assert_eq!(replayed.code, Some(0), "{replayed}");
    let full = vm.operation("record", &json!({ "file": "/dev/full" }));
    assert_eq!(full["state"], "done", "{full}");
    assert_eq!(vm.swap("a.wasm")["state"], "done", "a full disk holds up no swap");
    vm.stop().exited(0);
    Ok(())
}
