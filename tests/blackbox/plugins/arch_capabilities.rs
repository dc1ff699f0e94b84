//! `arch-capabilities`.

use libtest_mimic::Trial;

use crate::fixture::{Outcome, Vm, require_cpuid_leaf_7, trials};

pub(crate) fn trials() -> Vec<Trial> {
    trials![the_value_is_the_profiles, cpuid_announces_it, without_a_value_it_is_refused,]
}

fn the_value_is_the_profiles() -> Outcome {
    Vm::new().vcpus(2).shipped("arch_capabilities", "config = { value = 0x2b }").prints(
        "
        r 10a   -> 2b
        w 10a 0 -> fault
        cpu 1   -> ok
        r 10a   -> 2b
        ",
    )
}

fn cpuid_announces_it() -> Outcome {
    require_cpuid_leaf_7()?;
    Vm::new()
        .shipped("arch_capabilities", "config = { value = 0x2b }")
        .prints("cpuid 7 0 d 1d -> 1")
}

fn without_a_value_it_is_refused() -> Outcome {
    Vm::new()
        .shipped("arch_capabilities", "")
        .run("r 10a")?
        .refused(&["arch_capabilities.wasm", "`value`"]);
    Ok(())
}
