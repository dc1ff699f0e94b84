//! `value-template`: values and rules over KVM's own MSRs.

use crate::fixture::{Outcome, Vm, apply, test};

#[apply(test)]
fn the_example() -> Outcome {
    Vm::example("value-template").prints(
        "
        r 10a      -> 2b
        w 10a 2b   -> fault
        r 1a0      -> 1801
        w 1a0 1808 -> ok
        r 1a0      -> 1808
        w 1a0 8    -> fault
        # Bit 18 is off, whatever is written.
        w 1a0 41801 -> ok
        r 1a0      -> 1801
        r 8b       -> 200006500000000
        r 606      -> fault
        w 606 0    -> fault
        ",
    )
}

/// Bits 11 and 12 of IA32_MISC_ENABLE differ from KVM to KVM.
const MISC_ENABLE: &str = r#"
    grant = ["kvm-msr"]
    config.msrs = [
        { range = 0x1a0, value = 0x800, mask = 0x1801, write = "kernel", read-only = 0x800 },
    ]"#;

#[apply(test)]
fn each_vcpu_lays_the_template_over_its_own_msr() -> Outcome {
    Vm::new().vcpus(2).shipped("value_template", MISC_ENABLE).prints(
        "
        r 1a0       -> 800
        w 1a0 10809 -> ok
        r 1a0       -> 10808
        cpu 1       -> ok
        r 1a0       -> 800
        w 1a0 808   -> ok
        cpu 0       -> ok
        r 1a0       -> 10808
        ",
    )
}

#[apply(test)]
fn initial_values_without_an_exit() -> Outcome {
    let transcript = "
        r 1a0   -> 10000
        r 277   -> 7040600070406
        w 1a0 1 -> ok
        r 1a0   -> 1
        cpu 1   -> ok
        r 1a0   -> 10000
        r 277   -> 7040600070406
        ";
    Vm::new()
        .vcpus(2)
        .shipped(
            "value_template",
            r#"
            grant = ["kvm-msr"]
            config.msrs = [
                { range = 0x1a0, value = 0x10000, mask = 0x11801, access = "none", apply = "initial" },
                { range = 0x277, value = "0x7040600070406", access = "none", apply = "initial" },
            ]"#,
        )
        .run(transcript)?
        .printed(transcript)
        .said(&["no MSR access left the kernel"]);
    Ok(())
}

#[apply(test)]
fn initial_values_with_rules_for_writes() -> Outcome {
    Vm::new()
        .shipped(
            "value_template",
            r#"
            grant = ["kvm-msr"]
            config.msrs = [
                { range = 0x277, value = 0x6, mask = 0x7, access = "w", apply = "initial" },
                { range = 0x1a0, value = 0x1, access = "w", apply = "initial", write = "ignore" },
                { range = 0x174, value = 0x10, access = "w", apply = "initial",
                  write = "kernel", read-only = 0xffff },
            ]"#,
        )
        .prints(
            "
            r 277       -> ?
            w 277 0     -> fault
            r 1a0       -> 1
            w 1a0 ffff  -> ok
            r 1a0       -> 1
            r 174       -> 10
            w 174 10010 -> ok
            w 174 10018 -> fault
            ",
        )
}

/// Every bit of a register that is forwarded in part, each by itself: what KVM
/// refuses is a #GP, and the template's bits stay.
#[apply(test)]
fn a_walk_of_writes() -> Outcome {
    let writes: String = (0..64).map(|bit| format!("w 1a0 {:x}\n", 0x800 ^ 1_u64 << bit)).collect();
    let run = Vm::new()
        .shipped("value_template", MISC_ENABLE)
        .run(&format!("{writes} w 1a0 ffffffffffffffff \n w 1a0 800 \n r 1a0"))?
        .exited(crate::fixture::guest_exit(0));
    let faulted = |line: &str| run.stdout.lines().any(|l| l.trim() == format!("{line} -> fault"));
    assert!(faulted("w 1a0 0"), "bit 11 is read-only:\n{run}");
    assert!(run.stdout.contains("r 1a0 -> 800"), "{run}");
    Ok(())
}

#[apply(test)]
fn all_ones_over_every_msr() -> Outcome {
    Vm::new()
        .shipped(
            "value_template",
            r#"
            grant = ["kvm-msr"]
            config.msrs = [
                { range = "0x0-0x7ff", value = "0xffffffffffffffff", write = "ignore" },
                { range = "0xc0010000-0xc0011fff", read = "fault" },
            ]"#,
        )
        .prints(
            "
            sweep 0 800               -> ffffffffffffffff
            w 0 0                     -> ok
            w 7ff ffffffffffffffff    -> ok
            r 10                      -> ffffffffffffffff
            r c0010000                -> fault
            w c0011fff 0              -> fault
            times 1000 r 10a          -> ffffffffffffffff
            ",
        )
}

#[apply(test)]
fn what_this_kvm_lacks() -> Outcome {
    for keys in [r#"access = "none", apply = "initial""#, "mask = 0x1"] {
        let lines = format!(
            r#"grant = ["kvm-msr"]
            config.msrs = [{{ range = 0xdeadbeef, value = 0x1, {keys} }}]"#
        );
        Vm::new().shipped("value_template", &lines).run("r 10")?.refused(&[
            "value-template",
            "0xdeadbeef",
            "remove it",
        ]);
    }
    Ok(())
}

#[apply(test)]
fn contradictions() -> Outcome {
    for (entries, parts) in [
        ("{ range = 0x10a, value = 2, mask = 1 }", ["`msrs[0].value`", "outside `mask`"]),
        ("{ range = 0x10a }", ["`msrs[0].access`", "no `value`"]),
        (
            "{ range = 0x10a, value = 0, mask = 1, write = \"kernel\" }",
            ["`msrs[0].write`", "KVM refuses a guest's write of 0x10a"],
        ),
        (
            "{ range = 0x10a, value = 0, access = \"r\" }, { range = 0x10a, access = \"w\" }",
            ["`msrs[1].range`", "0x10a is also in"],
        ),
        (
            "{ range = 0x10a, value = 0 }, { range = \"0x100-0x1ff\", value = 0 }",
            ["0x10a", "0x100-0x1ff"],
        ),
        ("{ range = 0x10a, value = 0, access = \"x\" }", ["`msrs[0].access`", "`x`"]),
    ] {
        let lines = format!("grant = [\"kvm-msr\"]\nconfig.msrs = [{entries}]");
        Vm::new().shipped("value_template", &lines).run("r 10")?.refused(&parts);
    }
    Vm::new()
        .shipped("value_template", "config.msrs = [{ range = 0x10a, value = 0 }]")
        .run("r 10")?
        .refused(&["value_template.wasm", "`kvm-msr`"]);
    Ok(())
}

/// The operator has the profile to edit, not the plugin's manifest.
#[apply(test)]
fn refusals_name_the_place_in_the_profile() -> Outcome {
    let scattered: Vec<String> =
        (1..=17).map(|n| format!("{{ range = {n}0000000, value = 0 }}")).collect();
    for (entries, parts) in [
        (
            "{ range = 0x10a, value = 0 },\n{ range = 0x832, read = \"fault\" }",
            &["x2APIC", "take 0x832 out of `config.msrs` (`msrs[1]`, line ", ", column 1)"][..],
        ),
        (
            "{ range = \"0x7f0-0x801\", value = 0 }",
            &["take 0x800-0x801 out of `config.msrs` (`msrs[0]`, line "],
        ),
        (
            "{ range = 0x10a, value = 0 }, { range = \"0x100-0x1ff\", value = 0 }",
            &["`msrs[1]`", "0x100-0x1ff overlap", "take 0x100-0x1ff out of `config.msrs`", "line "],
        ),
        ("{ range = \"ten\", value = 0 }", &["line ", "`msrs[0].range`", "`ten`"]),
        (
            scattered.join(",").as_str(),
            &["do not fit into KVM's filter", "list fewer MSRs in `config.msrs` (`msrs[16]`"],
        ),
    ] {
        let lines = format!("grant = [\"kvm-msr\"]\nconfig.msrs = [\n{entries}]");
        let refused = Vm::new().shipped("value_template", &lines).run("r 10")?.refused(parts);
        assert!(!refused.stderr.contains("plugin's manifest"), "{}", refused.stderr);
    }
    let twice = "grant = [\"kvm-msr\"]\nconfig.msrs = [{ range = 0x10a, value = 0 }]";
    Vm::new()
        .shipped("arch_capabilities", "config = { value = 0 }")
        .shipped("value_template", twice)
        .run("r 10")?
        .refused(&[
            "`arch-capabilities` and `value-template` both claim the read of 0x10a",
            "take 0x10a out of `config.msrs` (`msrs[0]`, line ",
            "of `value-template`, or write `fallback = true`",
        ]);
    Ok(())
}
