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
        "`kvm_capabilities`",
        "!56",
        "0x1a0 (IA32_MISC_ENABLE)",
        "0x140",
        "left out",
    ]);
    assert!(run.stdout.contains("range = 0x10a") && !run.stdout.contains("0x140"), "{run}");
    assert!(run.stdout.contains("eax = { clear = 0x00000001 }"), "{run}");
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

/// In rows, so that KVM's filter reaches them.
#[apply(test)]
fn a_large_dump_becomes_lines_that_load() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("registers.wasm", shipped("registers")?);
    let rows: String = (0..3000).map(|n| format!("{:#x} {n:x}\n", 0x5644_0000 + n)).collect();
    let single: String = (0..600).map(|n| format!("{:#x} 1\n", 0x5644_0000 + 2 * n)).collect();
    for (dump, write) in [(&rows, "keep"), (&rows, "fault"), (&single, "keep"), (&single, "ignore")]
    {
        workdir.put("dump.txt", dump);
        let run = workdir.wasmsr(&["convert", "registers", "dump.txt", "--write", write]);
        let lines = run.exited(0).stdout;
        workdir.put("vm.toml", format!("[boot]\nguest = \"hello\"\n\n{lines}"));
        workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    }
    Ok(())
}

#[apply(test)]
fn names_of_static_templates_are_known_in_any_case() -> Outcome {
    let workdir = Workdir::new();
    let run = workdir.wasmsr(&["convert", "firecracker", "t2"]).exited(0);
    assert!(run.stdout.contains("static CPU template T2"), "{run}");
    workdir.wasmsr(&["convert", "firecracker", "V1N1"]).refused(&["V1N1", "for Arm", "T2CL"]);
    workdir.put("vm.json", r#"{"cpu-config": {"cpu_template": "T2"}}"#);
    let refused = ["cpu-config: `cpu_template`", "`machine-config`"];
    workdir.wasmsr(&["convert", "firecracker", "vm.json"]).refused(&refused);
    workdir.put("vm.json", r#"{"cpu-config": {"templates": []}}"#);
    let refused = ["cpu-config: unknown field `templates`"];
    workdir.wasmsr(&["convert", "firecracker", "vm.json"]).refused(&refused);
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

/// `cpu-template-helper fingerprint dump` has the guest's state as a template.
#[apply(test)]
fn a_fingerprint_becomes_what_its_guest_saw_but_for_the_vcpus_ids() -> Outcome {
    let workdir = Workdir::new();
    let whole = |value: u32| format!("0b{value:032b}");
    let register =
        |name: &str, value| format!(r#"{{"register": "{name}", "bitmap": "{}"}}"#, whole(value));
    let print = format!(
        r#"{{"firecracker_version": "1.12.0", "kernel_version": "6.1.1", "microcode_version": "0x1",
            "bios_version": "1.0", "bios_revision": "1.4", "guest_cpu_config": {{
                "kvm_capabilities": [], "msr_modifiers": [], "cpuid_modifiers": [
                    {{"leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": [{}, {}]}},
                    {{"leaf": "0xb", "subleaf": "0x1", "flags": 1, "modifiers": [{}]}}]}}}}"#,
        register("eax", 0xa0f11),
        register("ebx", 0x0100_0800),
        register("edx", 1),
    );
    let run = convert(&workdir, &print).exited(0);
    let run = run.said(&["left out of CPUID", "0x1.0x0 ebx 0xffff0000", "0xb.0x1 edx"]);
    for line in ["Firecracker 1.12.0", "eax = 0x000a0f11", "ebx = { set = 0x00000800,"] {
        assert!(run.stdout.contains(line), "no `{line}`:\n{run}");
    }
    assert!(!run.stdout.contains("leaf = 0xb"), "{run}");
    Ok(())
}

/// What `firecracker --config-file` takes, with a static template by its name, and with
/// the file of a custom one.
#[apply(test)]
fn a_vms_configuration_becomes_a_profile() -> Outcome {
    let workdir = Workdir::new();
    let config = |machine: &str, more: &str| {
        format!(
            r#"{{"boot-source": {{"kernel_image_path": "vmlinux", "boot_args": "console=ttyS0"}},
                "drives": [{{"drive_id": "root"}}], {more}
                "machine-config": {{"vcpu_count": 2, "mem_size_mib": 256{machine}}}}}"#
        )
    };
    let run = convert(&workdir, &config(r#", "cpu_template": "T2A""#, "")).exited(0);
    let run = run.said(&["`drives` is not converted"]);
    for line in [
        "memory = \"256MiB\"",
        "vcpus = 2",
        "kernel = \"vmlinux\"",
        "cmdline = \"console=ttyS0\"",
        "AMD Milan",
        "ebx = { set = 0x001c0004, clear = 0x00000201 }",
    ] {
        assert!(run.stdout.contains(line), "no `{line}`:\n{run}");
    }
    workdir.put(
        "vm.toml",
        run.stdout.replace("kernel =", "guest = \"hello\" #").replace("cmdline =", "#"),
    );
    let check = workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    assert!(check.stdout.contains("2 vCPUs") && check.stdout.contains("(the profile)"), "{check}");

    workdir.put("t.json", r#"{"msr_modifiers": [{"addr": "0x8b", "bitmap": "0b1"}]}"#);
    let run = convert(&workdir, &config("", r#""cpu-config": "t.json","#)).exited(0);
    assert!(run.stdout.contains("range = 0x8b") && !run.stdout.contains("[[cpuid]]"), "{run}");

    let run = convert(&workdir, &config(r#", "cpu_template": "V1N1""#, "")).exited(0);
    run.said(&["V1N1", "Arm", "C3, T2"]);
    convert(&workdir, &config(r#", "cpu_template": "T3""#, "")).refused(&["T3", "C3, T2"]);
    convert(&workdir, &config("", r#""cpu-config": "none.json","#)).refused(&["none.json"]);
    Ok(())
}

#[apply(test)]
fn a_static_template_has_a_name() -> Outcome {
    let workdir = Workdir::new();
    let run = workdir.wasmsr(&["convert", "firecracker", "T2S"]).exited(0);
    assert!(
        run.stdout.contains("leaf = 0x80000008") && run.stdout.contains("range = 0x10a"),
        "{run}"
    );
    workdir.wasmsr(&["convert", "firecracker", "T9"]).refused(&["T9", "T2CL and T2S"]);
    Ok(())
}

/// PDCM is cleared and leaf 0xa is zero on every guest of Firecracker on Intel.
#[apply(test)]
fn firecrackers_own_changes_come_with_normalise() -> Outcome {
    let workdir = Workdir::new();
    workdir.put("t.json", "{}");
    let convert = |vendor| {
        workdir
            .wasmsr(&["convert", "firecracker", "--normalise", vendor, "t.json"])
            .exited(0)
            .stdout
    };
    let intel = convert("intel");
    assert!(intel.contains("ecx = { set = 0x81000000, clear = 0x00008000 }"), "{intel}");
    assert!(intel.contains("leaf = 0xa\n") && !intel.contains("leaf = 0x80000002"), "{intel}");
    let amd = convert("amd");
    assert!(amd.contains("ebx = 0x43595045") && !amd.contains("leaf = 0xa\n"), "{amd}");
    Ok(())
}

#[apply(test)]
fn all_mistakes_of_a_template_are_reported_at_once() -> Outcome {
    let template = r#"{"msr_modifiers": [{"addr": "266", "bitmap": "0b1"}],
        "cpuid_modifiers": [{"leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": [
            {"register": "eex", "bitmap": "0b1"}, {"register": "eax", "bitmap": "0b2"}]}]}"#;
    convert(&Workdir::new(), template).refused(&[
        "3 mistakes",
        "msr_modifiers[0]: `266`",
        "cpuid_modifiers[0].modifiers[0]: unknown variant `eex`",
        "cpuid_modifiers[0].modifiers[1]: bitmap `0b2`",
        "the first is at line 1",
    ]);
    Ok(())
}

#[apply(test)]
fn a_file_that_is_too_large_or_no_object() -> Outcome {
    let workdir = Workdir::new();
    convert(&workdir, &" ".repeat((4 << 20) + 1)).refused(&["larger than 4 MiB"]);
    convert(&workdir, "[1]").refused(&["a list", "a JSON object"]);
    Ok(())
}

/// `(value & mask) | replacements`, as cloud-hypervisor's `FeatureMsrAdjustment` says.
#[apply(test)]
fn a_cpu_profile_of_cloud_hypervisor() -> Outcome {
    let workdir = Workdir::new();
    workdir.put(
        "a.msr.json",
        r#"{"adjustments": [["0x10a", {"replacements": "0xc08e06b", "mask": "0x4000000000000000"}],
            ["0x8b", {"replacements": "0x0", "mask": "0xffffffff00000000"}]],
            "required_msrs": ["0x10"]}"#,
    );
    let run = workdir.wasmsr(&["convert", "cloud-hypervisor", "a.msr.json"]).exited(0);
    let run = run.said(&["`required_msrs`"]);
    for part in [
        "range = 0x10a, access = \"none\", apply = \"initial\", value = 0xc08e06b, \
         mask = \"0xbfffffffffffffff\"",
        "range = 0x8b, access = \"none\", apply = \"initial\", value = 0x0, mask = 0xffffffff",
    ] {
        assert!(run.stdout.contains(part), "no `{part}`:\n{run}");
    }
    workdir.put("a.json", r#"{"msrs": []}"#);
    workdir.wasmsr(&["convert", "cloud-hypervisor", "a.json"]).refused(&["no `adjustments`"]);
    workdir.put("a.json", r#"{"msr_modifiers": []}"#);
    workdir.wasmsr(&["convert", "cloud-hypervisor", "a.json"]).refused(&["convert firecracker"]);
    workdir.wasmsr(&["convert", "firecracker", "a.msr.json"]).refused(&["convert cloud-hyp"]);
    Ok(())
}
