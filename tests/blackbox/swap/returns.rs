//! Sets that are taken back during their probation.

use serde_json::{Value, json};

use super::{Vm, counting, values_read};
use crate::fixture::{Outcome, apply, test};

const READS: &str = "repeat forever 0x1000 wait 5 end";

/// Swaps in `file` on probation.
fn on_probation(vm: &Vm, file: &str, probation: &Value) -> u64 {
    let file = vm.workdir.path().join(file);
    let plugins = json!([{ "name": "counter", "file": file }]);
    let id = vm.begin("swap", &json!({ "plugins": plugins, "probation": probation }));
    let done = vm.ended(id);
    assert_eq!(done["state"], "done", "{done}");
    id
}

fn verdict(vm: &Vm, id: u64) -> String {
    vm.wait_until("a verdict", |_| vm.get(&format!("operations/{id}"))["verdict"].is_string());
    let operation = vm.get(&format!("operations/{id}"));
    operation["verdict"].as_str().unwrap_or_default().to_owned()
}

/// Answers as the counter does, but does something else from its 20th read on.
fn later(what: &str) -> Vec<u8> {
    let imports = r#"(import "wasmsr" "outcome" (func $outcome (param i32)))"#;
    let answer = format!(
        "(global.set $own (i64.add (global.get $own) (i64.const 1)))
        (if (i64.ge_u (global.get $own) (i64.const 20)) (then {what}))
        (i64.shl (global.get $count) (i64.const 1))"
    );
    counting(imports, &answer, "(global $own (mut i64) (i64.const 0))")
}

#[apply(test)]
fn a_trap_an_overrun_a_fault_or_a_difference_brings_the_old_set_back() -> Outcome {
    let vm = Vm::start(1, READS, &[])?;
    let mut generation = 1;
    for (what, word) in [
        ("unreachable", "failed"),
        ("(loop (br 0))", "failed"),
        ("(call $outcome (i32.const 1))", "differs"),
        ("(return (i64.const 5))", "differs"),
    ] {
        vm.workdir.put("later.wasm", later(what));
        let set = vm.get("vm")["set"].clone();
        let id = on_probation(&vm, "later.wasm", &json!({ "seconds": 60 }));
        let verdict = verdict(&vm, id);
        assert!(verdict.starts_with("returned: plugin counter "), "{what}: {verdict}");
        generation += 2;
        let now = vm.get("vm");
        assert_eq!((&now["generation"], &now["set"]), (&json!(generation), &set), "{now}");
        assert!(now["returns"][word].as_u64() > Some(0), "{now}");
        assert_eq!(now["last"]["what"], "return", "{now}");
    }
    let run = vm.stop().exited(0);
    assert!(run.stderr.contains("is taken back"), "{run}");
    // No number is missing or doubled among those that the guest saw, but for the accesses
    // that went wrong.
    let seen = values_read(&run).into_iter().filter(|value| *value != 5);
    let seen: Vec<u64> = seen.map(|value| value >> 1).collect();
    assert!(seen.len() > 60 && seen.windows(2).all(|two| two[1] > two[0]), "{seen:?}");
    let missing = seen.last().unwrap_or(&0) - seen.len() as u64;
    assert!(missing <= 4, "{missing} of {seen:?}");
    Ok(())
}

#[apply(test)]
fn a_difference_is_brought_back_within_the_next_access_after_the_limit() -> Outcome {
    let vm = Vm::start(1, "wait 2000 repeat 12 0x1000 end wait 500", &[])?;
    // However slow the machine is, the swap comes before the first read.
    assert_eq!(vm.post("pause", &json!({})).0, 200);
    vm.wait_until("it is paused", |vm| vm["paused"] == true);
    let file = vm.workdir.path().join("b.wasm");
    let plugins = json!([{ "name": "counter", "file": file }]);
    let probation = json!({ "seconds": 60, "differences": 3 });
    let done = vm.operation("swap", &json!({ "plugins": plugins, "probation": probation }));
    assert_eq!(done["state"], "done", "{done}");
    assert_eq!(vm.post("resume", &json!({})).0, 200);
    let run = vm.running.finish();
    let expected: Vec<u64> = (1..=12).map(|n| n << 1 | u64::from(n <= 4)).collect();
    assert_eq!(values_read(&run), expected, "{run}");
    Ok(())
}

#[apply(test)]
fn what_may_differ_passes_and_a_rollback_by_hand_ends_a_probation() -> Outcome {
    let vm = Vm::start(1, READS, &[])?;
    let terms = json!({ "accesses": 30, "may_differ": ["0x1000-0x1001"] });
    let id = on_probation(&vm, "b.wasm", &terms);
    assert_eq!(verdict(&vm, id), "kept");
    let set = vm.get("vm")["set"].clone();
    let id = on_probation(&vm, "a.wasm", &json!({ "seconds": 600, "differences": 1_000_000 }));
    let refused = vm.swap("b.wasm");
    assert!(refused["error"].as_str().is_some_and(|why| why.contains("on probation")), "{refused}");
    let done = vm.operation("rollback", &json!({}));
    assert_eq!((&done["state"], &done["result"]["set"]), (&json!("done"), &set), "{done}");
    assert_eq!(verdict(&vm, id), "rolled back");
    vm.stop().exited(0);
    Ok(())
}

#[apply(test)]
fn a_set_that_was_taken_back_is_not_booted() -> Outcome {
    let vm = Vm::start(1, "repeat 100 0x1000 wait 5 end reset", &["--on-reboot", "at-once"])?;
    let set = vm.get("vm")["set"].clone();
    let trap = later("unreachable");
    // As an operator rolls out: the file is replaced, and the profile read again.
    vm.workdir.put("new.wasm", trap);
    std::fs::rename(vm.workdir.path().join("new.wasm"), vm.workdir.path().join("a.wasm"))
        .expect("a file can be replaced");
    let id = vm.begin("swap", &json!({ "probation": { "seconds": 60 } }));
    assert_eq!(vm.ended(id)["state"], "done");
    let boots = vm.get("vm")["boots"].as_u64().unwrap_or_default();
    let next = vm.wait_until("the next boot", |vm| {
        vm["boots"].as_u64() > Some(boots) && vm["generation"] == 1
    });
    assert_eq!(next["set"], set, "{next}\n{}", vm.running.stderr());
    let run = vm.stop().exited(0);
    assert!(run.stderr.contains("was taken back in this run"), "{run}");
    Ok(())
}
