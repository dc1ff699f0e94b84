//! Swaps that are refused: the set in charge goes on, and the reason is told.

use serde_json::json;

use super::{Vm, counter};
use crate::fixture::{Outcome, Plugin, apply, test};

const READS: &str = "repeat forever 0x1000 wait 5 end";

/// Swaps in a file with this content, which must be refused with these words.
fn refuses(vm: &Vm, content: &[u8], why: &str) {
    vm.workdir.put("bad.wasm", content);
    let before = vm.get("vm");
    for dry_run in [true, false] {
        let file = vm.workdir.path().join("bad.wasm");
        let body = json!({ "plugins": [{ "name": "counter", "file": file }], "dry_run": dry_run });
        let done = vm.operation("swap", &body);
        assert_eq!(done["state"], "failed", "{done}");
        let error = done["error"].as_str().unwrap_or_default();
        assert!(error.contains(why), "no `{why}` in: {error}");
    }
    let after = vm.get("vm");
    assert_eq!((&before["generation"], &before["set"]), (&after["generation"], &after["set"]));
}

#[apply(test)]
fn each_refusal_leaves_the_old_set_in_charge_with_the_reason() -> Outcome {
    let vm = Vm::start(2, READS, &[])?;
    refuses(&vm, b"not Wasm", "bad.wasm");
    let init = |body: &str| {
        counter(1, &format!("(func (export \"init\") (param i32) (result i32) {body})"))
    };
    refuses(&vm, &init("unreachable"), "unreachable");
    refuses(&vm, &init("(loop (br 0)) (i32.const 0)"), "fuel");
    refuses(&vm, &init("(i32.const 1)"), "init");
    let with = |save: &str, restore: &str| {
        let save = format!("(func (export \"save\") (result i32) {save})");
        counter(1, &format!("{save} (func (export \"restore\") (result i32) {restore})"))
    };
    refuses(&vm, &with("(i32.const 0)", "(i32.const 1)"), "does not take the state of version");
    refuses(&vm, &with("(i32.const 0)", "unreachable"), "unreachable");
    // One in charge that does not save.
    vm.workdir.put("mute.wasm", with("unreachable", "(i32.const 0)"));
    assert_eq!(vm.swap("mute.wasm")["state"], "done");
    let done = vm.swap("b.wasm");
    assert_eq!(done["state"], "failed", "{done}");
    let error = done["error"].as_str().unwrap_or_default();
    assert!(error.contains("does not save its state"), "{error}");
    vm.stop().exited(0);
    Ok(())
}

#[apply(test)]
fn what_a_running_vm_keeps_and_what_kvm_cannot_change_is_refused() -> Outcome {
    let vm = Vm::start(1, READS, &[])?;
    let profile = |vcpus: u32, more: &str| {
        format!(
            "[vm]\nvcpus = {vcpus}\nmemory = \"16MiB\"\n[boot]\nguest = \"hello\"\n\
             [[plugin]]\npath = \"a.wasm\"\n{more}"
        )
    };
    let check = |text: String, why: &str| {
        vm.workdir.put("other.toml", text);
        let profile = vm.workdir.path().join("other.toml");
        let done = vm.operation("swap", &json!({ "profile": profile }));
        let error = done["error"].as_str().unwrap_or_default();
        assert!(done["state"] == "failed" && error.contains(why), "no `{why}` in: {done}");
    };
    check(profile(2, ""), "memory or vCPUs");
    check(profile(1, "[[cpuid]]\nleaf = 0x1\necx = { set = 0x1, clear = 0x0 }\n"), "CPUID");
    // Each of these fits the filter by itself.
    let scattered = |first: u32| {
        let ranges: Vec<String> =
            (0..15).map(|n| format!("{{ range = \"{:#x}\" }}", first + n * 0x100_0000)).collect();
        format!("msr = [{}]", ranges.join(", "))
    };
    let wide = |first: u32| {
        let manifest: &'static str = Box::leak(scattered(first).into_boxed_str());
        Plugin { name: "wide", manifest, code: "(reads (i64.const 1)) (writes)" }.wasm()
    };
    vm.workdir.put("wide.wasm", wide(0x1000_0000));
    vm.workdir.put("other.toml", profile(1, "[[plugin]]\npath = \"wide.wasm\"\n"));
    let path = vm.workdir.path().join("other.toml");
    let done = vm.operation("swap", &json!({ "profile": path }));
    assert_eq!(done["state"], "done", "{done}");
    vm.workdir.put("wide2.wasm", wide(0x1080_0000));
    check(profile(1, "[[plugin]]\npath = \"wide2.wasm\"\n"), "does not fit KVM's filter");
    check(profile(1, "[[plugin]]\npath = \"gone.wasm\"\n"), "gone.wasm");
    check("[vm]\nvcpus = 1\n".to_owned(), "there is no [boot]");
    vm.stop().exited(0);
    Ok(())
}

#[apply(test)]
fn requests_that_make_no_sense_are_told_so() -> Outcome {
    let vm = Vm::start(1, READS, &[])?;
    for (path, body, status) in [
        ("swap", json!({ "profle": "x" }), 422),
        ("swap", json!([]), 422),
        ("disable", json!({ "plugin": "counter", "answer": "stop" }), 422),
        ("disable", json!({ "plugin": "nobody", "answer": "fault" }), 409),
        ("record", json!({}), 422),
        ("nothing", json!({}), 404),
    ] {
        let (is, answer) = vm.post(path, &body);
        assert_eq!(is, status, "{path} {body}: {answer}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    let done =
        vm.operation("swap", &json!({ "probation": { "may_differ": ["zzz"], "seconds": 1 } }));
    assert_eq!(done["state"], "failed", "{done}");
    let done = vm.operation("swap", &json!({ "probation": {} }));
    assert!(done["error"].as_str().is_some_and(|why| why.contains("no end")), "{done}");
    let done = vm.operation("rollback", &json!({}));
    assert!(
        done["error"].as_str().is_some_and(|why| why.contains("no set to roll back")),
        "{done}"
    );
    let run = vm.asks(&["swap", "nosuchvm"]).exited(2);
    assert!(run.stderr.contains("no VM that answers is `nosuchvm`"), "{run}");
    vm.stop().exited(0);
    Ok(())
}
