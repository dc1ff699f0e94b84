//! `registers`: registers as data, also those that KVM has itself.

use crate::fixture::{Outcome, Running, Shell, Vm, apply, examples_with, test, wasmsr};

const REGISTERS: &str = "config.registers = [
    { range = 0x56440000, value = 0x1234, write = \"fault\", scope = \"vm\" },
    { range = 0x56440001, mask = 0xffff, ignored = 0, scope = \"vm\" },
    { range = 0x56440002, write = \"once\", scope = \"vm\" },
    { range = 0x56440003, value = 0x7 },
]";

#[apply(test)]
fn each_register_has_its_rule() -> Outcome {
    Vm::new().vcpus(2).shipped("registers", REGISTERS).prints(
        "
        r 56440000       -> 1234
        w 56440000 1234  -> fault
        w 56440001 12    -> ok
        w 56440001 10000 -> fault
        w 56440002 7     -> ok
        w 56440003 8     -> ok
        # A package has these registers once, and each vCPU has its own.
        cpu 1            -> ok
        r 56440001       -> 12
        w 56440002 7     -> fault
        r 56440002       -> 7
        r 56440003       -> 7
        r 56440004       -> fault
        ",
    )
}

/// Not that its memory is at an end.
#[apply(test)]
fn too_many_or_too_long_entries_meet_a_limit_of_their_own() -> Outcome {
    let entries = |count: u32, more: &str| {
        let one = |n| format!("{{ range = {}{more} }},\n", 0x5644_0000 + 2 * n);
        format!("config.registers = [\n{}]", (0..count).map(one).collect::<String>())
    };
    let long = format!(", name = \"{}\"", "N".repeat(1000));
    for (config, part) in [
        (entries(1000, ""), "more than 512 entries"),
        (entries(3000, ", value = 1"), "more than 512 entries"),
        (entries(500, &long), "a name of 1000 characters; at most 64"),
    ] {
        Vm::new().shipped("registers", &config).run("r 10")?.refused(&[part]);
    }
    Ok(())
}

#[apply(test)]
fn banks_take_the_place_of_kvms() -> Outcome {
    Vm::example("registers/mce").prints(
        "
        r 179                  -> 100050a
        w 424 ffffffffffffffff -> ok
        r 424                  -> ffffffffffffffff
        w 424 1                -> fault
        w 425 1                -> fault
        w 425 0                -> ok
        r 425                  -> 0
        w 289 40000001         -> ok
        w 289 80000000         -> fault
        r 289                  -> 40000001
        cpu 1                  -> ok
        r 424                  -> 0
        ",
    )
}

#[apply(test)]
fn memory_types_take_the_place_of_kvms() -> Outcome {
    Vm::example("registers/mtrr").prints(
        "
        r fe                 -> 508
        w fe 0               -> fault
        r 2ff                -> c06
        r 250                -> 606060606060606
        r 259                -> 0
        r 26f                -> 505050505050505
        w 200 c0000000       -> ok
        w 201 fffc0000800    -> ok
        r 201                -> fffc0000800
        w 201 100            -> fault
        w 2ff 100            -> fault
        w 2ff 0              -> ok
        ",
    )
}

#[apply(test)]
fn a_lock_is_one_of_hardware() -> Outcome {
    Vm::example("registers/feature-control")
        .prints("r 3a -> 5 \n w 3a 5 -> fault \n w 3a 0 -> fault \n r 3a -> 5")?;
    Vm::example("registers/debug-interface")
        .prints("r c80 -> 40000000 \n w c80 1 -> ok \n r c80 -> 40000000")
}

#[apply(test)]
fn check_lists_each_register_once() -> Outcome {
    let file = "registers/mce.toml";
    let run = Running::start(wasmsr(&["check", file]).current_dir(examples_with(file)?)).finish();
    let run = run.exited(0);
    assert_eq!(run.stdout.matches("0x424 ").count(), 1, "{run}");
    assert!(run.stdout.contains("0x280-0x289 "), "{run}");
    assert!(run.stdout.contains("KVM filter: 1 of 16 ranges"), "{run}");
    Ok(())
}

#[apply(test)]
fn a_wrong_configuration() -> Outcome {
    let refused = |entries: &str, parts: &[&str]| -> Outcome {
        let config = format!("config.registers = [{entries}]");
        Vm::new().shipped("registers", &config).run("r 1000")?.refused(parts);
        Ok(())
    };
    refused("{ range = 0x1000, scope = \"core\" }", &["`registers[0].scope`", "`core`"])?;
    refused("{ range = 0x1000, count = 3 }", &["`registers[0].count`", "`stride`"])?;
    refused("{ range = 0x1000, mask = 1, reserved = 1 }", &["`registers[0].reserved`", "bit 0"])?;
    refused("{ range = 0x1000 }, { range = 0x1000 }", &["0x1000", "overlap"])?;
    refused("0x1000", &["`registers[0]`"])
}

/// Linux takes PAT only from a processor whose firmware has enabled MTRRs. Debian's cloud
/// kernel knows no machine check, so nothing is said of that here.
#[apply(test)]
fn linux_uses_memory_types() -> Outcome {
    let mtrr = include_str!("../../../examples/registers/mtrr.toml");
    let (_, list) = mtrr.split_once("config.registers").expect("an example has a list");
    let config = format!("config.registers{list}");
    let mut shell = Shell::of(Vm::new().memory("256MiB").shipped("registers", &config))?;
    shell.ask("refused", "dmesg | grep -c 'unchecked MSR access'");
    shell.ask("types", "rdmsr 0x2ff; rdmsr 0xfe");
    shell.ask("pat", "dmesg | grep -c 'PAT: Configuration'");
    let run = shell.power_off();
    assert_eq!(run.answer("refused"), "0", "{run}");
    assert_eq!(run.answer("types"), "c06 508", "{run}");
    assert_eq!(run.answer("pat"), "1", "{run}");
    Ok(())
}
