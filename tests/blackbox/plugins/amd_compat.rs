//! `amd-compat`: what AMD guests ask for and KVM refuses.
//!
//! KVMs differ in what they know of these MSRs. None knows the P-states; of the
//! others, the transcripts say what holds either way.

use crate::fixture::{Outcome, Vm, apply, guest_exit, test};

const GRANT: &str = "grant = [\"kvm-msr\"]";

#[apply(test)]
fn the_example() -> Outcome {
    Vm::example("amd-compat").prints(
        "
        r 8b         -> a0011d1
        r c0010064   -> 0
        w c0010115 0 -> ok
        w c0011023 100 -> ok
        r c0011023   -> 0
        r c0011020   -> fault
        ",
    )
}

#[apply(test)]
fn ignne_is_there_on_each_vcpu() -> Outcome {
    Vm::new().vcpus(2).shipped("amd_compat", "").prints(
        "
        r c0010115   -> 0
        w c0010115 0 -> ok
        cpu 1        -> ok
        w c0010115 1 -> ok
        r c0010115   -> 0
        w c0010115 ffffffffffffffff -> ok
        r c0010115   -> 0
        ",
    )
}

#[apply(test)]
fn the_tsc_is_not_scaled() -> Outcome {
    Vm::new().shipped("amd_compat", "").prints(
        "
        r c0000104           -> 100000000
        w c0000104 100000000 -> ok
        r c0000104           -> 100000000
        w c0000104 ffffffffffffffff -> fault
        ",
    )
}

#[apply(test)]
fn ibs_is_off() -> Outcome {
    Vm::new().shipped("amd_compat", "").prints(
        "
        sweep c0011030 e -> 0
        r c001103a       -> 0
        w c0011030 0     -> ok
        w c0011033 0     -> ok
        w c0011033 20000 -> fault
        r c0011033       -> 0
        r c001103e       -> fault
        ",
    )
}

#[apply(test)]
fn p_states_are_not_enabled() -> Outcome {
    Vm::new().shipped("amd_compat", "").prints(
        "
        sweep c0010064 8 -> 0
        w c0010064 8000000000000000 -> fault
        r c0010064   -> 0
        r c0010063   -> fault
        r c001006c   -> fault
        ",
    )
}

#[apply(test)]
fn what_windows_writes_is_taken() -> Outcome {
    // LFENCE is made serializing by KVMs that know that it is.
    let transcript = "
        w c0011023 100 -> ok
        r c0011023     -> 0
        w c0011029 2   -> ok
        r c0011029     -> ?
        w c0011029 200 -> ok
        w c0011029 ffffffffffffffff -> ok
        r c0011029     -> ?
        ";
    Vm::new().shipped("amd_compat", "").prints(transcript)?;
    Vm::new().shipped("amd_compat", GRANT).prints(transcript)
}

#[apply(test)]
fn kvm_keeps_what_it_can_of_hwcr() -> Outcome {
    // Bit 18 is McStatusWrEn, which every KVM keeps; bit 24 the newer ones do.
    Vm::new().vcpus(2).shipped("amd_compat", GRANT).prints(
        "
        w c0010015 40010   -> ok
        r c0010015         -> 40000
        w c0010015 1000011 -> ok
        r c0010015         -> ?
        cpu 1              -> ok
        r c0010015         -> 0
        w c0010015 10      -> ok
        r c0010015         -> 0
        ",
    )
}

#[apply(test)]
fn without_the_grant_kvm_keeps_nothing() -> Outcome {
    Vm::new().shipped("amd_compat", "").prints(
        "
        w c0010015 40010   -> ok
        r c0010015         -> 0
        w c0010015 ffffffffffffffff -> ok
        r c0010015         -> 0
        # What KVM takes does not come to the plugin.
        w c0010015 40000   -> ok
        r c0010015         -> 40000
        ",
    )
}

#[apply(test)]
fn the_rest_is_the_policys() -> Outcome {
    let vm = Vm::new().policy(r#"unknown = "ignore""#).policy(r#"invalid = "ignore""#);
    vm.shipped("amd_compat", GRANT).prints(
        "
        r deadbeef   -> 0
        w deadbeef 1 -> ok
        w 2ff 2      -> ok
        w c0010064 1 -> ok
        ",
    )
}

#[apply(test)]
fn kvms_own_answers_stay() -> Outcome {
    // Neither is in the table: SYSCFG, which KVM reads as 0, and an MTRR.
    Vm::new().shipped("amd_compat", GRANT).prints(
        "
        r c0010010 -> 0
        w 250 6    -> ok
        r 250      -> 6
        w 2ff 2    -> fault
        ",
    )
}

#[apply(test)]
fn exceptions() -> Outcome {
    Vm::new()
        .shipped("amd_compat", r#"config.except = ["0xc0010065-0xc001006b", 0xc0010115]"#)
        .prints(
            "
            r c0010115   -> fault
            r c0010064   -> 0
            r c0010065   -> fault
            r c001006b   -> fault
            ",
        )
}

#[apply(test)]
fn the_patch_level_is_kvms() -> Outcome {
    let lines = format!("{GRANT}\nconfig = {{ patch-level = \"0xa0011d1\", tsc-freq-sel = true }}");
    Vm::new().vcpus(2).shipped("amd_compat", &lines).prints(
        "
        r 8b       -> a0011d1
        r c0010015 -> ?
        r c0010064 -> 0
        cpu 1      -> ok
        r 8b       -> a0011d1
        # Only the microcode loader writes it.
        w 8b 0     -> ok
        r 8b       -> a0011d1
        ",
    )
}

#[apply(test)]
fn values_without_the_grant() -> Outcome {
    let transcript = "r 8b -> ?";
    Vm::new()
        .vcpus(2)
        .shipped("amd_compat", "config = { patch-level = 1, tsc-freq-sel = true }")
        .run(transcript)?
        .printed(transcript)
        .exited(guest_exit(0))
        .said(&["config key `patch-level` has no effect", "config key `tsc-freq-sel`", "kvm-msr"]);
    Ok(())
}

#[apply(test)]
fn a_wrong_configuration() -> Outcome {
    for (config, key) in [
        ("except = [0xc0011020]", "`except[0]`"),
        ("except = [\"0xc0010115-\"]", "`except[0]`"),
        ("patch-level = \"0x100000000\"", "`patch-level`"),
        ("patchlevel = 1", "`patchlevel`"),
    ] {
        Vm::new()
            .shipped("amd_compat", &format!("config.{config}"))
            .run("r 10")?
            .refused(&["amd_compat.wasm", key]);
    }
    Ok(())
}

/// The most that a run may say, whatever happens in it.
const LONGEST_LOG: usize = 64 << 10;

#[track_caller]
fn takes_quietly(vm: Vm, transcript: &str) -> Outcome {
    let run = vm.run(transcript)?.printed(transcript).exited(guest_exit(0));
    let length = run.stderr.len();
    assert!(length < LONGEST_LOG, "{length} bytes on standard error:\n{run}");
    Ok(())
}

#[apply(test)]
fn a_flood_of_refused_values() -> Outcome {
    takes_quietly(
        Vm::new().vcpus(2).shipped("amd_compat", GRANT),
        "
        times 400 w c0010064 1 -> fault
        aside 1 times 400 w c0010015 ffffffffffffffff -> ok
        times 400 w c0010115 ffffffffffffffff -> ok
        times 400 w c0010015 ffffffffffffffff -> ok
        times 400 w c0011029 ffffffffffffffff -> ok
        times 400 w c0011023 ffffffffffffffff -> ok
        join       -> ok
        r c0010115 -> 0
        ",
    )
}

#[apply(test)]
fn a_walk_over_the_range() -> Outcome {
    // 0xc0010000 to 0xc0012000; the last of them belongs to no plugin.
    takes_quietly(
        Vm::new().shipped("amd_compat", GRANT),
        "sweep c0010000 2001 -> fault \n r c0010115 -> 0",
    )
}
