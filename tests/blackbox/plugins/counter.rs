//! `counter`, in Rust, in C and as WebAssembly text.

use libtest_mimic::Trial;

use crate::fixture::{Outcome, Vm, apply, trial, trials};

#[apply(trials)]
fn trials() -> Vec<Trial> {
    let in_each_language = ["counter", "c/counter", "wat/counter"].map(|plugin| {
        let name = format!("plugins::{}::each_vcpu_has_a_count", plugin.replace('/', "::"));
        trial(name, move || each_vcpu_has_a_count(plugin))
    });
    in_each_language.into()
}

fn each_vcpu_has_a_count(plugin: &str) -> Outcome {
    Vm::new().vcpus(2).shipped(plugin, "").prints(
        "
        r 434e5400                  -> 1
        r 434e5400                  -> 2
        cpu 1                       -> ok
        r 434e5400                  -> 1
        w 434e5400 ffffffffffffffff -> ok
        r 434e5400                  -> 0
        cpu 0                       -> ok
        r 434e5400                  -> 3
        ",
    )
}
