//! An access that is left to KVM gives the guest what KVM alone would have given it: not what
//! KVM gives a VMM, which may do more (`host_initiated` in Linux, `arch/x86/kvm`).

use std::fmt::Write;

use crate::fixture::{Outcome, Plugin, Skip, Vm, apply, test};

/// MSRs whose answers differ between a guest and a VMM on one kernel or another, some that
/// do not, and one that KVM does not know: read, and written with each of these values.
const MSRS: &[u32] = &[
    0x8b,
    0x9e,
    0xce,
    0x10a,
    0x140,
    0x17b,
    0x186,
    0x1a0,
    0x277,
    0x345,
    0x3a,
    0x34,
    0x400,
    0x401,
    0x48,
    0x49,
    0x10b,
    0xc1,
    0x480,
    0xda0,
    0x4000_0000,
    0x4000_0001,
    0x4000_0020,
    0x4b56_4d00,
    0x4b56_4d03,
    0xc000_0082,
    0xc000_0102,
    0xc000_0103,
    0xc000_0104,
    0xc001_0015,
    0xc001_0117,
    0xc001_1029,
    0xdead_beef,
];

/// All are canonical addresses: KVM hands some MSRs over to the processor, and a software host's
/// takes others too.
const VALUES: &[u64] = &[0, 1, 0x1881, 0xffff_ffff, 0x7fff_1234_5678];

/// Every access of these, in order.
fn script() -> String {
    let mut script = String::new();
    for msr in MSRS {
        let _ = writeln!(script, "r {msr:x} -> ?");
        for value in VALUES {
            let _ = writeln!(script, "w {msr:x} {value:x} -> ?\nr {msr:x} -> ?");
        }
    }
    script
}

/// The manifest's claims of all of them.
fn manifest(needs: &str) -> &'static str {
    let entries: Vec<String> =
        MSRS.iter().map(|msr| format!("{{ range = \"{msr:#x}\" }}")).collect();
    format!("msr = [{}]\n{needs}", entries.join(", ")).leak()
}

fn lines(vm: Vm) -> Result<Vec<String>, Skip> {
    let run = vm.run(&script())?;
    let lines: Vec<String> = run.stdout.lines().map(str::to_owned).collect();
    assert!(lines.len() >= MSRS.len() * (1 + 2 * VALUES.len()), "{}", run.stdout);
    Ok(lines)
}

/// That the guest with `plugin` sees what it sees without a plugin.
fn as_kvm_alone(code: &'static str, needs: &str, lines_of_profile: &str) -> Outcome {
    let plugin = Plugin { name: "leaves", manifest: manifest(needs), code };
    let alone = lines(Vm::new())?;
    let left = lines(Vm::new().plugin_with(&plugin, lines_of_profile))?;
    let differences: Vec<_> =
        alone.iter().zip(&left).filter(|(alone, left)| alone != left).collect();
    assert!(differences.is_empty(), "KVM alone, and left to it: {differences:#?}");
    assert_eq!(alone.len(), left.len());
    Ok(())
}

#[apply(test)]
fn the_answer_kernel_is_kvms_to_the_guest() -> Outcome {
    as_kvm_alone(
        r#"
        (import "wasmsr" "outcome" (func $outcome (param i32)))
        (reads (call $outcome (i32.const 3)) (i64.const 0))
        (writes (call $outcome (i32.const 3)))"#,
        "",
        "",
    )
}

/// A failure must not give a guest the right to set what it may not.
#[apply(test)]
fn a_failure_left_to_the_kernel_is_kvms_to_the_guest() -> Outcome {
    as_kvm_alone("(reads (unreachable)) (writes (unreachable))", "", "on-failure = \"kernel\"")
}

#[apply(test)]
fn a_recorded_answer_is_the_same() -> Outcome {
    let code = r#"
        (import "wasmsr" "outcome" (func $outcome (param i32)))
        (reads (call $outcome (i32.const 3)) (i64.const 0))
        (writes (call $outcome (i32.const 3)))"#;
    let plugin = Plugin { name: "leaves", manifest: manifest(""), code };
    let alone = lines(Vm::new())?;
    let recorded = lines(Vm::new().plugin(&plugin).arguments(&["--record", "r.jsonl"]))?;
    assert_eq!(recorded, alone);
    Ok(())
}

#[apply(test)]
fn a_plugin_asks_kvm_as_the_guest() -> Outcome {
    as_kvm_alone(
        r#"
        (import "wasmsr" "outcome" (func $outcome (param i32)))
        (import "wasmsr" "kvm_rdmsr_as_guest" (func $read (param i32 i32) (result i32)))
        (import "wasmsr" "kvm_wrmsr_as_guest" (func $write (param i32 i64) (result i32)))
        (reads
            (if (call $read (local.get $msr) (i32.const 16))
                (then (call $outcome (i32.const 1))))
            (i64.load (i32.const 16)))
        (writes
            (if (call $write (local.get $msr) (local.get $value))
                (then (call $outcome (i32.const 1)))))"#,
        r#"needs.capabilities = ["kvm-msr"]"#,
        r#"grant = ["kvm-msr"]"#,
    )
}
