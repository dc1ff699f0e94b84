//! `vendor-range`.

use crate::fixture::{Outcome, Vm, apply, test};

const REGISTERS: &str = "config.registers = [
    { msr = 0x56440000, value = 0x1234 },
    { msr = 0x56440001, access = \"read-write\", mask = 0xffff },
    { msr = 0x56440002, access = \"write-once\" },
]";

#[apply(test)]
fn each_register_has_its_rule() -> Outcome {
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

#[apply(test)]
fn a_read_only_register() -> Outcome {
    Vm::new()
        .shipped("vendor_range", REGISTERS)
        .prints("r 56440000 -> 1234 \n w 56440000 1 -> fault \n r 56440000 -> 1234")
}
