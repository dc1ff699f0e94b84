//! The plugins that the project ships.

use libtest_mimic::Trial;

use crate::fixture::{Outcome, Vm, require_cpuid_leaf_7, trials};

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        arch_capabilities,
        arch_capabilities_in_cpuid,
        arch_capabilities_without_a_value,
        vendor_range,
        vendor_range_reads_only,
    ]
}

fn arch_capabilities() -> Outcome {
    Vm::new().vcpus(2).shipped("arch_capabilities", "config = { value = 0x2b }").prints(
        "
        r 10a   -> 2b
        w 10a 0 -> fault
        cpu 1   -> ok
        r 10a   -> 2b
        ",
    )
}

fn arch_capabilities_in_cpuid() -> Outcome {
    require_cpuid_leaf_7()?;
    Vm::new()
        .shipped("arch_capabilities", "config = { value = 0x2b }")
        .prints("cpuid 7 0 d 1d -> 1")
}

fn arch_capabilities_without_a_value() -> Outcome {
    Vm::new()
        .shipped("arch_capabilities", "")
        .run("r 10a")?
        .refused(&["arch_capabilities.wasm", "`value`"]);
    Ok(())
}

const REGISTERS: &str = "config.registers = [
    { msr = 0x56440000, value = 0x1234 },
    { msr = 0x56440001, access = \"read-write\", mask = 0xffff },
    { msr = 0x56440002, access = \"write-once\" },
]";

fn vendor_range() -> Outcome {
    Vm::new().vcpus(2).shipped("vendor_range", REGISTERS).prints(
        "
        w 56440001 12    -> ok
        w 56440001 10000 -> fault
        w 56440002 7     -> ok
        # A package has these registers once.
        cpu 1            -> ok
        r 56440001       -> 12
        w 56440002 7     -> fault
        r 56440002       -> 7
        r 56440003       -> fault
        ",
    )
}

fn vendor_range_reads_only() -> Outcome {
    Vm::new()
        .shipped("vendor_range", REGISTERS)
        .prints("r 56440000 -> 1234 \n w 56440000 1 -> fault \n r 56440000 -> 1234")
}
