//! `unknown-log`: rules for unhandled accesses, and learning them.

use std::fs;

use crate::fixture::{Outcome, Run, Skip, Vm, apply, guest_exit, require_kvm, test};

#[apply(test)]
fn the_example() -> Outcome {
    Vm::example("unknown-log").prints(
        "
        r 610        -> 0
        w 610 1      -> ok
        r 610        -> 0
        r 4e         -> 1
        w 4e 2       -> fault
        r 17f        -> fault
        w deadbeef 5 -> ok
        r deadbeef   -> 5
        ",
    )
}

const RULES: &str = r#"config.rules = [
    { range = "0xdead0000", read = "zero", write = "fault" },
    { range = "0xdead0001-0xdead000f", read = "stored", write = "store", value = 0x77 },
    { range = "0xdead0010", read = "stored", write = "store", shared = true },
    { range = "0xdead0020", read = "fault", write = "ignore" },
    { range = "0x2ff", reason = "invalid", write = "ignore" },
]"#;

#[apply(test)]
fn rules_decide() -> Outcome {
    let run = Vm::new().shipped("unknown_log", RULES).run(
        "
        r dead0000
        w dead0000 0
        r dead0001
        w dead0001 ffffffffffffffff
        r dead0001
        r dead0002
        r dead0020
        w dead0020 1
        r dead0021
        w dead0021 1
        ",
    )?;
    run.printed(
        "
        r dead0000                  -> 0
        w dead0000 0                -> fault
        r dead0001                  -> 77
        w dead0001 ffffffffffffffff -> ok
        r dead0001                  -> ffffffffffffffff
        r dead0002                  -> 77
        r dead0020                  -> fault
        w dead0020 1                -> ok
        r dead0021                  -> fault
        w dead0021 1                -> fault
        ",
    )
    .exited(guest_exit(0))
    .said(&[
        "read of 0xdead0000 (reason unknown, vCPU 0): 0x0, by rules[0]",
        "write of 0x0 to 0xdead0000 (reason unknown, vCPU 0): fault, by rules[0]",
        "write of 0xffffffffffffffff to 0xdead0001 (reason unknown, vCPU 0): stored, by rules[1]",
        "read of 0xdead0021 (reason unknown, vCPU 0): pass, no rule is for it",
    ]);
    Ok(())
}

#[apply(test)]
fn values_are_each_vcpus_own() -> Outcome {
    Vm::new().vcpus(2).shipped("unknown_log", RULES).prints(
        "
        w dead0001 1 -> ok
        w dead0010 2 -> ok
        cpu 1        -> ok
        r dead0001   -> 77
        r dead0010   -> 2
        w dead0001 3 -> ok
        cpu 0        -> ok
        r dead0001   -> 1
        ",
    )
}

// Memory type 2 is reserved (Intel SDM volume 3, table 12-2), so no KVM takes
// it for IA32_MTRR_DEF_TYPE.
#[apply(test)]
fn refused_values_are_not_unknown_msrs() -> Outcome {
    Vm::new().shipped("unknown_log", RULES).prints(
        "
        w 2ff c06 -> ok
        w 2ff 2   -> ok
        r 2ff     -> c06
        ",
    )
}

#[apply(test)]
fn without_rules_it_logs_and_the_policy_decides() -> Outcome {
    let transcript = "r deadbeef -> 0 \n w deadbeef 5 -> ok";
    Vm::new()
        .policy(r#"unknown = "ignore""#)
        .shipped("unknown_log", "")
        .run(transcript)?
        .printed(transcript)
        .said(&["write of 0x5 to 0xdeadbeef (reason unknown, vCPU 0): pass"]);
    Ok(())
}

#[apply(test)]
fn a_wrong_rule() -> Outcome {
    Vm::new()
        .shipped("unknown_log", r#"config.rules = [{ range = 1, write = "store" }]"#)
        .run("r 1")?
        .refused(&["unknown_log.wasm", "`rules[0].write`", "read = \"stored\""]);
    Ok(())
}

const LEARN: &str = "config.learn = true";

/// What the report says to put in place of the plugin's entry.
fn learned(run: &Run) -> String {
    const END: &str = "# unknown-log: end\n";
    let lines = run.stderr.find("# unknown-log: ").and_then(|start| run.stderr.get(start..));
    let lines = lines.and_then(|lines| lines.split_inclusive(END).next());
    lines.unwrap_or_else(|| panic!("no lines for a profile:\n{run}")).to_owned()
}

/// Runs a guest with learning, then with the lines that were learned in place of
/// the plugin's entry. Both times it must print the same.
#[track_caller]
fn learns(vm: Vm, transcript: &str) -> Result<(String, Run), Skip> {
    require_kvm()?;
    let workdir = vm.on_disk(transcript)?;
    let first = workdir.wasmsr(&["run", "vm.toml"]).printed(transcript).exited(guest_exit(0));
    let lines = learned(&first);

    let profile = fs::read_to_string(workdir.path().join("vm.toml")).expect("it was just written");
    let (before, _) = profile.split_once("[[plugin]]").expect("it has one plugin");
    workdir.put("vm.toml", format!("{before}{lines}"));
    let second = workdir.wasmsr(&["run", "vm.toml"]).printed(transcript).exited(guest_exit(0));
    Ok((lines, second))
}

#[apply(test)]
fn what_was_learned_does_without_learning() -> Outcome {
    let (lines, second) = learns(
        Vm::new().vcpus(2).shipped("unknown_log", LEARN),
        "
        r dead0000   -> 0
        r dead0001   -> 0
        w dead0002 5 -> ok
        w dead0010 6 -> ok
        r dead0010   -> 6
        w dead0010 ffffffffffffffff -> ok
        r dead0010   -> ffffffffffffffff
        w dead0011 7 -> ok
        cpu 1        -> ok
        r dead0010   -> 0
        w dead0010 8 -> ok
        r dead0010   -> 8
        w 2ff c06    -> ok
        w 2ff 2      -> ok
        r 2ff        -> c06
        cpu 0        -> ok
        r dead0010   -> ffffffffffffffff
        r dead0011   -> 7
        ",
    )?;
    assert!(lines.contains(r#"range = "0xdead0000-0xdead0001""#), "{lines}");
    assert!(lines.contains(r#"{ range = "0xdead0010-0xdead0011", read = "stored""#), "{lines}");
    assert!(
        lines.contains("0x2ff (IA32_MTRR_DEF_TYPE): 1 write of 0x2; KVM knows it and refuses"),
        "{lines}"
    );
    assert!(!second.stderr.contains("by learning"), "it learned again:\n{second}");
    Ok(())
}

#[apply(test)]
fn nothing_stored_means_no_plugin() -> Outcome {
    let (lines, _) = learns(
        Vm::new().shipped("unknown_log", LEARN),
        "
        r 610           -> 0
        w dead0000 5    -> ok
        w dead0001 0    -> ok
        r dead0001      -> 0
        ",
    )?;
    assert!(lines.contains("# 0x610 (MSR_PKG_POWER_LIMIT): 1 read\n"), "{lines}");
    let (better, ignored) = (lines.find("#     path = \"rapl.wasm\""), lines.find("ignore"));
    assert!(better.is_some() && better < ignored, "{lines}");
    assert!(!lines.contains("[[plugin]]"), "{lines}");
    Ok(())
}

#[apply(test)]
fn a_guest_that_asks_for_nothing() -> Outcome {
    let (lines, _) = learns(Vm::new().shipped("unknown_log", LEARN), "r 10 -> ?")?;
    assert!(lines.contains("asked for nothing"), "{lines}");
    Ok(())
}

#[apply(test)]
fn probes_are_kept_from_learning() -> Outcome {
    let config = r#"config = { learn = true, rules = [
        { range = "0xdead0001", read = "fault", write = "fault" }] }"#;
    let (lines, _) = learns(
        Vm::new().shipped("unknown_log", config),
        "
        r dead0000   -> 0
        r dead0001   -> fault
        w dead0002 1 -> ok
        r dead0002   -> 1
        w dead0001 1 -> fault
        ",
    )?;
    assert!(lines.contains(r#"{ range = "0xdead0001", read = "fault", write = "fault" }"#));
    Ok(())
}

/// The most that a run may say, whatever happens in it.
const LONGEST_LOG: usize = 64 << 10;

#[track_caller]
fn bounded(run: Run) -> Run {
    let length = run.stderr.len();
    assert!(length < LONGEST_LOG, "{length} bytes on standard error:\n{run}");
    run
}

#[apply(test)]
fn a_walk_over_msrs_while_learning() -> Outcome {
    let transcript = "
        sweep dead0000 4000 -> 0
        w deadf000 1        -> ok
        r deadf000          -> 1
        times 400 w 2ff 2   -> ok
        ";
    let run = Vm::new().shipped("unknown_log", LEARN).run(transcript)?;
    bounded(run.printed(transcript).exited(guest_exit(0)))
        .said(&["range = \"0xdead0000-0xdead00ff\"", "no room to remember"]);
    Ok(())
}

#[apply(test)]
fn a_walk_of_writes() -> Outcome {
    // The script guest sweeps reads alone; each line here is a write.
    let mut transcript = String::new();
    for step in 0..1100 {
        let outcome = if step < 1024 { "ok" } else { "fault" };
        transcript += &format!("w {:x} 1 -> {outcome}\n", 0xdead_0000_u32 + step * 3);
    }
    transcript += "r dead0000 -> 1\n w dead0000 2 -> ok\n r dead0000 -> 2\n";
    let config =
        r#"config.rules = [{ range = "0xdead0000-0xdeadffff", read = "stored", write = "store" }]"#;
    let run = Vm::new().shipped("unknown_log", config).run(&transcript)?;
    bounded(run.printed(&transcript).exited(guest_exit(0))).said(&["1024 places for values"]);
    Ok(())
}
