//! `arch-capabilities`, in Rust and in C.

use libtest_mimic::Trial;

use crate::fixture::{Outcome, Vm, apply, require_cpuid_leaf_7, trial, trials};

type Test = fn(&str) -> Outcome;

const TESTS: &[(&str, Test)] = &[
    ("the_value_is_the_profiles", the_value_is_the_profiles),
    ("it_has_all_64_bits", it_has_all_64_bits),
    ("cpuid_announces_it", cpuid_announces_it),
    ("a_wrong_configuration_is_refused", a_wrong_configuration_is_refused),
];

#[apply(trials)]
fn trials() -> Vec<Trial> {
    let in_each_language = |&(name, test): &(&str, Test)| {
        ["arch_capabilities", "c/arch_capabilities"].map(|plugin| {
            trial(format!("plugins::{}::{name}", plugin.replace('/', "::")), move || test(plugin))
        })
    };
    TESTS.iter().flat_map(in_each_language).collect()
}

fn the_value_is_the_profiles(plugin: &str) -> Outcome {
    Vm::new().vcpus(2).shipped(plugin, "config = { value = 0x2b }").prints(
        "
        r 10a   -> 2b
        w 10a 0 -> fault
        cpu 1   -> ok
        r 10a   -> 2b
        ",
    )
}

fn it_has_all_64_bits(plugin: &str) -> Outcome {
    Vm::new()
        .shipped(plugin, r#"config = { value = "0xF00000000000000f" }"#)
        .prints("r 10a -> f00000000000000f")
}

fn cpuid_announces_it(plugin: &str) -> Outcome {
    require_cpuid_leaf_7()?;
    Vm::new().shipped(plugin, "config = { value = 0x2b }").prints("cpuid 7 0 d 1d -> 1")
}

fn a_wrong_configuration_is_refused(plugin: &str) -> Outcome {
    for config in [
        "",
        "config = { value = -1 }",
        r#"config = { value = "0x10000000000000000" }"#,
        r#"config = { value = "0x" }"#,
        "config = { value = 1, more = 1 }",
    ] {
        let run = Vm::new().shipped(plugin, config).run("r 10a")?;
        run.refused(&["arch_capabilities.wasm", "`"]);
    }
    Ok(())
}
