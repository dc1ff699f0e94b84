//! `wasmsr convert`: configurations of other VMMs as profile lines.

use crate::fixture::{Outcome, Run, Workdir, apply, require_kvm, shipped, test};

/// Converts a template in `workdir`.
fn convert(workdir: &Workdir, template: &str) -> Run {
    workdir.put("template.json", template);
    workdir.wasmsr(&["convert", "firecracker", "template.json"])
}

/// A profile with the lines, whose guest reads these MSRs.
fn put_profile(workdir: &Workdir, lines: &str, reads: &str) -> Outcome {
    workdir.put("value_template.wasm", shipped("value_template")?);
    workdir.put("vm.toml", format!("[boot]\nguest = \"hello\"\ncmdline = \"{reads}\"\n\n{lines}"));
    Ok(())
}

#[apply(test)]
fn what_is_printed_is_part_of_a_profile() -> Outcome {
    let workdir = Workdir::new();
    // IA32_ARCH_CAPABILITIES as in Firecracker's own T2CL, and every bit of others.
    let lines = convert(
        &workdir,
        r#"{"msr_modifiers": [
            {"addr": "0x10a", "bitmap":
                "0b00000000000000000000000000000000000xxx0x0000x0x0xxx0000xxxxxxxxx"},
            {"addr": "0b11011001100000", "bitmap": "0b1_xxxx"},
            {"addr": "0xffffffff", "bitmap":
                "1111111111111111111111111111111111111111111111111111111111111111"}]}"#,
    )
    .exited(0)
    .stdout;
    put_profile(&workdir, &lines, "0x10")?;
    let run = workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    assert!(run.stdout.contains("value-template") && run.stdout.contains("kvm-msr"), "{run}");
    Ok(())
}

#[apply(test)]
fn the_guest_meets_the_templates_values() -> Outcome {
    require_kvm()?;
    let workdir = Workdir::new();
    let lines = convert(
        &workdir,
        r#"{"msr_modifiers": [
            {"addr": "0x8b", "bitmap": "0b1000000000000000000000000000000000000000000000000000000000000001"},
            {"addr": "0x277", "bitmap":
                "0b0000_0000_0000_0111_0000_0100_0000_0110_0000_0000_0000_0111_0000_0100_0000_0110"},
            {"addr": "0x277", "bitmap": "0b000"}]}"#,
    )
    .exited(0)
    .said(&["0x277", "2 times"])
    .stdout;
    put_profile(&workdir, &lines, "0x8b 0x277")?;
    let run = workdir.wasmsr(&["run", "vm.toml"]).said(&["no MSR access left the kernel"]);
    for part in ["0x0000008b = 0x8000000000000001", "0x00000277 = 0x0007040600070400"] {
        assert!(run.stdout.contains(part), "no `{part}`:\n{run}");
    }
    Ok(())
}

#[apply(test)]
fn what_is_not_converted_is_said() -> Outcome {
    let run = convert(
        &Workdir::new(),
        r#"{"kvm_capabilities": ["!56"],
            "cpuid_modifiers": [{"leaf": "0x7", "subleaf": "0x1", "flags": 1, "modifiers": [
                {"register": "eax", "bitmap": "0bx0"}]}],
            "msr_modifiers": [{"addr": "0x10a", "bitmap": "0b0"},
                {"addr": "0x1a0", "bitmap": "0b1"}, {"addr": "0x140", "bitmap": "0bx"}]}"#,
    );
    let run = run.exited(0).said(&[
        "`cpuid_modifiers`",
        "0x7.0x1",
        "`kvm_capabilities`",
        "!56",
        "0x1a0 (IA32_MISC_ENABLE)",
        "0x140",
        "left out",
    ]);
    assert!(run.stdout.contains("range = 0x10a") && !run.stdout.contains("0x140"), "{run}");
    Ok(())
}

#[apply(test)]
fn a_template_without_msrs() -> Outcome {
    let workdir = Workdir::new();
    let lines = convert(&workdir, "{}").exited(0).stdout;
    put_profile(&workdir, &lines, "0x10")?;
    workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    Ok(())
}

#[apply(test)]
fn what_is_not_a_template() -> Outcome {
    let workdir = Workdir::new();
    for (template, parts) in [
        ("", ["template.json", "EOF"]),
        ("[msr]", ["template.json", "line 1"]),
        (r#"{"msr_modifier": []}"#, ["unknown field", "`msr_modifiers`"]),
        (r#"{"msr_modifiers": [{"addr": "266", "bitmap": "0b1"}]}"#, ["`266`", "\"0x10a\""]),
        (r#"{"msr_modifiers": [{"addr": "0x10a", "bitmap": "0b2"}]}"#, ["`0b2`", "`2`"]),
        (r#"{"msr_modifiers": [{"addr": "0x10a"}]}"#, ["line 1", "`bitmap`"]),
    ] {
        convert(&workdir, template).refused(&parts);
    }
    workdir.wasmsr(&["convert", "firecracker", "other.json"]).refused(&["other.json"]);
    Ok(())
}

/// Lines as AIDA64 and InstLatx64 print them, a plain table, and what is no register.
const DUMP: &str = "\
MSR 00000010   0000-0012-3456-789A [S200]
MSR 0000003A   0000-0000-0000-0005 [S200]
0x1ad 0x2121212121222324
0x56440000,VD_ID,0x20261123
0x56440001,VD_NEXT,0x8000000000000000
nonsense
";

#[apply(test)]
fn a_dump_becomes_the_guests_registers() -> Outcome {
    require_kvm()?;
    let workdir = Workdir::new();
    workdir.put("dump.txt", DUMP);
    let run = workdir.wasmsr(&["convert", "registers", "dump.txt", "--write", "ignore"]);
    let run = run.exited(0).said(&["0x10", "state of a running vCPU", "6: nonsense"]);
    workdir.put("registers.wasm", shipped("registers")?);
    let cmdline = "0x3a 0x1ad 0x56440000=0x0 0x56440000 0x56440001";
    let boot = format!("[boot]\nguest = \"hello\"\ncmdline = \"{cmdline}\"\n\n{}", run.stdout);
    workdir.put("vm.toml", boot);
    let run = workdir.wasmsr(&["run", "vm.toml"]);
    for part in [
        "0x0000003a = 0x0000000000000005",
        "0x000001ad = 0x2121212121222324",
        "rdmsr 0x56440000 = 0x0000000020261123",
        "0x56440001 = 0x8000000000000000",
    ] {
        assert!(run.stdout.contains(part), "no `{part}`:\n{run}");
    }
    Ok(())
}

#[apply(test)]
fn a_file_without_a_register_is_refused() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("dump.txt", "no table\n");
    workdir.wasmsr(&["convert", "registers", "dump.txt"]).refused(&["dump.txt", "0x10a 0x2b"]);
    workdir.wasmsr(&["convert", "registers", "gone.txt"]).refused(&["gone.txt"]);
    Ok(())
}
