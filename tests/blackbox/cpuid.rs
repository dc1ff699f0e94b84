//! `[[cpuid]]` of a profile: what guests see, and what is refused.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::fixture::{
    Outcome, Plugin, Shell, Vm, Workdir, apply, is_interpreter, require_cpuid_leaf_7, test,
};

/// The registers of Firecracker's template T2, bit 31 first, as
/// `tests/data/custom_cpu_templates/T2.json` of its repository has them.
const T2: [(u32, u32, char, &str); 11] = [
    (0x1, 0x0, 'a', "0bxxxx000000000011xx00011011110010"),
    (0x1, 0x0, 'c', "0bxxxxxxxxxxxxx0xx00xx00x0000000xx"),
    (0x1, 0x0, 'd', "0b000x0xxxx00xx0xxxxx1xxxx1xxxxxxx"),
    (0x7, 0x0, 'b', "0b00000000000x000000x00x1xxxx0x0xx"),
    (0x7, 0x0, 'c', "0bx0xxxxxxx0xxxxx0x0x00000x0x0000x"),
    (0x7, 0x0, 'd', "0bxxxxxxxxxxxxxxxxxxxxxxx0xxx000xx"),
    (0xd, 0x0, 'a', "0bxxxxxxxxxxxxxxxxxxxxxx0x00000xxx"),
    (0xd, 0x1, 'a', "0bxxxxxxxxxxxxxxxxxxxxxxxxxxxx000x"),
    (0x8000_0001, 0x0, 'c', "0bxx0xxxxxxxxxxxxxxxxxxxx0xxxxxxxx"),
    (0x8000_0001, 0x0, 'd', "0bxxxxx0xxxxxxxxxxxxxxxxxxxxxxxxxx"),
    (0x8000_0008, 0x0, 'b', "0bxxxxxxxxxxxxxxxxxxxxxx0xxxxxxxxx"),
];

/// The registers that the guest of this machine's KVM sees as they were set. Those of
/// kvm_pvm see the hardware's leaves 0x7 and 0xd.
fn visible() -> impl Iterator<Item = (u32, u32, char, &'static str)> {
    T2.into_iter().filter(|(leaf, ..)| !matches!(leaf, 7 | 0xd) || !is_interpreter())
}

/// What the guest prints of each bit of these registers, and its lines.
fn bits(vm: Vm) -> Result<BTreeMap<String, u32>, crate::fixture::Skip> {
    let mut script = String::new();
    for (leaf, subleaf, register, _) in visible() {
        for bit in 0..32 {
            script += &format!("cpuid {leaf:x} {subleaf:x} {register} {bit:x} -> ?\n");
        }
    }
    let run = vm.run(&script)?.printed(&script);
    let line = |line: &str| {
        let (directive, value) = line.trim().split_once(" -> ")?;
        Some((directive.to_owned(), value.parse().ok()?))
    };
    Ok(run.stdout.lines().filter_map(line).collect())
}

/// Firecracker's rule: `0` and `1` as the template has them, and `x` as KVM has it.
#[apply(test)]
fn a_guest_sees_a_cpu_template_bit_by_bit() -> Outcome {
    let workdir = Workdir::new();
    let registers = |leaf: u32, subleaf: u32| {
        let own = T2.iter().filter(move |(l, s, ..)| (*l, *s) == (leaf, subleaf));
        let own = own.map(|(.., register, bitmap)| {
            format!(r#"{{"register": "e{register}x", "bitmap": "{bitmap}"}}"#)
        });
        own.collect::<Vec<_>>().join(",")
    };
    let leaves = [(1, 0), (7, 0), (0xd, 0), (0xd, 1), (0x8000_0001, 0), (0x8000_0008, 0)];
    let leaves = leaves.map(|(leaf, subleaf)| {
        format!(
            r#"{{"leaf": "{leaf:#x}", "subleaf": "{subleaf:#x}", "flags": 0, "modifiers": [{}]}}"#,
            registers(leaf, subleaf)
        )
    });
    workdir.put("t2.json", format!(r#"{{"cpuid_modifiers": [{}]}}"#, leaves.join(",")));
    let lines = workdir.wasmsr(&["convert", "firecracker", "t2.json"]).exited(0).stdout;

    let (plain, template) = (bits(Vm::new())?, bits(Vm::new().tables(&lines))?);
    for (leaf, subleaf, register, bitmap) in visible() {
        for (bit, wanted) in bitmap.chars().rev().take(32).enumerate() {
            let directive = format!("cpuid {leaf:x} {subleaf:x} {register} {bit:x}");
            let wanted = wanted.to_digit(2).unwrap_or(plain[&directive]);
            assert_eq!(template[&directive], wanted, "{directive}");
        }
    }
    Ok(())
}

/// Every vCPU; the vendor's name, the hypervisor's, a leaf that KVM does not have, and a
/// whole register beside single bits.
#[apply(test)]
fn any_leaf_changes_on_every_vcpu() -> Outcome {
    let transcript = "
        cpuid 40000010 0 a 3 -> 1
        cpuid 40000010 0 a 2 -> 0
        cpuid 40000000 0 b 0 -> 1
        cpuid 40000000 0 b 1 -> 0
        cpuid 1 0 c 1f       -> 0
        cpuid 0 0 b 0        -> 1
        cpuid 0 0 b 1        -> 1
        cpuid 0 0 b 3        -> 0
        ";
    Vm::new()
        .vcpus(2)
        .tables(
            "[[cpuid]]
             leaf = 0x40000010
             eax = { set = \"0b1000\" }
             [[cpuid]]
             leaf = \"0x40000000\"
             ebx = 0x1
             [[cpuid]]
             leaf = 1
             ecx.clear = [31]
             [[cpuid]]
             leaf = 0
             ebx = \"0x756e6547\"
             [[cpuid]]
             leaf = 0
             ecx = 0x6c65746e
             edx = 0x49656e69",
        )
        .prints(&format!("{transcript}\ncpu 1 -> ok\n{transcript}"))
}

/// What neither KVM nor a plugin provides is what the guest sees, and the log says so.
#[apply(test)]
fn a_feature_that_nothing_provides_is_warned_of() -> Outcome {
    // AVX512_4FMAPS, which only Xeon Phi processors have.
    require_cpuid_leaf_7()?;
    let vm = Vm::new().tables("[[cpuid]]\nleaf = 7\nedx.set = [3]");
    let run = vm.run("cpuid 7 0 d 3 -> 1")?.printed("cpuid 7 0 d 3 -> 1");
    run.said(&["the profile sets CPUID leaf 0x7, subleaf 0x0, edx bit 3", "does not support"]);
    Ok(())
}

/// A plugin that sets bit 29 and clears bit 0.
const PLUGIN: Plugin = Plugin {
    name: "changes",
    manifest: r#"
        msr = [{ range = "0x1000" }]
        cpuid = [{ leaf = 7, edx.set = [29], ebx.clear = [0] }]"#,
    code: "(reads (i64.const 0)) (writes)",
};

#[apply(test)]
fn check_shows_whose_changes_they_are() -> Outcome {
    let vm = Vm::new().plugin(&PLUGIN).tables(
        "[[cpuid]]\nleaf = 7\nedx = { set = 0x20000000, clear = 8 }\n[[cpuid]]\nleaf = 2\neax = 0",
    );
    let workdir = vm.on_disk("r 10")?;
    let run = workdir.wasmsr(&["check", "vm.toml"]).exited(0);
    for line in [
        "edx       0x20000000  0x00000008  (the profile)",
        "ebx       0x00000000  0x00000001  changes",
    ] {
        assert!(run.stdout.contains(line), "no `{line}`:\n{run}");
    }
    let run = workdir.wasmsr(&["check", "--json", "vm.toml"]).exited(0);
    let report: Value = serde_json::from_str(&run.stdout).expect("it is JSON");
    let rows = report["cpuid"].as_array().expect("it is a list");
    let of_profile: Vec<_> = rows.iter().filter(|row| row["profile"] == true).collect();
    assert_eq!(of_profile.len(), 2, "{report}");
    assert_eq!(of_profile[1]["clear"], 0xffff_ffff_u32);
    Ok(())
}

#[apply(test)]
fn contradictions_name_both_and_every_bit() -> Outcome {
    let plugin = "[[cpuid]]\nleaf = 7\nedx = 0\nebx.set = [0, 1]";
    Vm::new()
        .plugin(&PLUGIN)
        .tables(plugin)
        .on_disk("r 10")?
        .wasmsr(&["check", "vm.toml"])
        .refused(&[
            "plugin `changes` and the profile's [[cpuid]] at line",
            "leaf 0x7, subleaf 0x0, edx bit 29",
            "leaf 0x7, subleaf 0x0, ebx bit 0",
        ]);
    let twice = "[[cpuid]]\nleaf = 0xd\nsubleaf = 1\neax.set = 6\n[[cpuid]]\nleaf = 13\nsubleaf = 1\neax.clear = 4";
    Vm::new().tables(twice).on_disk("r 10")?.wasmsr(&["check", "vm.toml"]).refused(&[
        "the profile's [[cpuid]] at line",
        "leaf 0xd, subleaf 0x1, eax bit 2",
        "keep one of them",
    ]);
    Ok(())
}

/// Linux starts all processors and sees T2A's model, 0x306f2, without SSE4A, which
/// T2A takes from AMD's processors.
#[apply(test)]
fn linux_sees_a_cpu_template() -> Outcome {
    let lines = Workdir::new().wasmsr(&["convert", "firecracker", "T2A"]).exited(0).stdout;
    let mut shell = Shell::of(Vm::new().vcpus(2).memory("256MiB").tables(&lines))?;
    shell.ask("models", "grep -c '^model[^n]*: 63$' /proc/cpuinfo");
    shell.ask("steppings", "grep -c '^stepping[^n]*: 2$' /proc/cpuinfo");
    shell.ask("sse4a", "grep -c sse4a /proc/cpuinfo");
    let run = shell.power_off();
    for (mark, wanted) in [("models", "2"), ("steppings", "2"), ("sse4a", "0")] {
        assert_eq!(run.answer(mark), wanted, "{mark}:\n{run}");
    }
    Ok(())
}
