//! `hyperv-clock`: Hyper-V's clock and identity by the TLFS; its other pages are in
//! `hyperv_pages.rs`.

use crate::fixture::{Outcome, Skip, Vm, apply, cannot_run_here, guest_exit, is_interpreter, test};

/// With the plugin; `config` are further lines of its entry.
pub(super) fn vm(config: &str) -> Vm {
    let lines = format!("grant = [\"guest-memory\", \"kvm-msr\", \"timer\"]\n{config}");
    Vm::new().vcpus(2).shipped("hyperv_clock", &lines)
}

/// For tests that look at the page for longer than a moment.
const HARDLY_EVER: &str = "config.refresh-ms = 10000";

/// Runs a transcript with so many numbers that are not known.
#[track_caller]
fn looked_at<const N: usize>(vm: Vm, transcript: &str) -> Result<[u64; N], Skip> {
    let run = vm.run(transcript)?.printed(transcript).exited(guest_exit(0));
    let unknown = transcript.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let unknown = unknown.filter(|line| !line.is_empty()).map(|line| line.ends_with("-> ?"));
    let numbers: Vec<u64> = run
        .stdout
        .lines()
        .zip(unknown)
        .filter(|(_, unknown)| *unknown)
        .filter_map(|(line, _)| u64::from_str_radix(line.split_once("-> ")?.1.trim(), 16).ok())
        .collect();
    Ok(numbers.try_into().unwrap_or_else(|_| panic!("not {N} numbers:\n{run}")))
}

/// Skips a test where the page is invalid, by right.
fn require_a_valid_page() -> Result<(), Skip> {
    let transcript = "w 40000021 300001 -> ok \n peek 300000 -> ?";
    match looked_at(vm(HARDLY_EVER), transcript)? {
        [0] => cannot_run_here("KVM does not call this host's time-stamp counters stable"),
        [_] => Ok(()),
    }
}

#[apply(test)]
fn the_example() -> Outcome {
    Vm::example("hyperv-clock").prints(
        "
        w 40000000 8100000000000000 -> ok
        w 40000001 300001           -> ok
        peek 300000                 -> d23102749040c031
        r 40000020                  -> ?
        r 40000023                  -> 3b9aca00
        r 40000002                  -> 0
        cpu 1                       -> ok
        r 40000002                  -> 1
        r 40000000                  -> 8100000000000000
        ",
    )
}

// 4d is the M of EBX, 76 the v of EDX, 31 and 48 the 1 and H of Hv#1.
#[apply(test)]
fn cpuid_announces_it() -> Outcome {
    if is_interpreter() {
        return cannot_run_here("guests of kvm_pvm see the hardware's CPUID");
    }
    vm("").prints(
        "
        cpuid 40000000 0 a 2  -> 1
        cpuid 40000000 0 a 3  -> 0
        cpuid 40000000 0 b 0  -> 1
        cpuid 40000000 0 b 1  -> 0
        cpuid 40000000 0 d 1e -> 1
        cpuid 40000001 0 a 1c -> 1
        cpuid 40000001 0 a 3  -> 1
        cpuid 40000003 0 a 0  -> 1
        cpuid 40000003 0 a 1  -> 1
        cpuid 40000003 0 a 2  -> 0
        cpuid 40000003 0 a 5  -> 1
        cpuid 40000003 0 a 9  -> 1
        cpuid 40000003 0 a f  -> 0
        cpuid 40000003 0 d a  -> 1
        cpuid 40000004 0 b 1f -> 1
        cpuid 40000006 0 a 3  -> 0
        ",
    )
}

#[apply(test)]
fn reference_time_never_stands() -> Outcome {
    let times: [u64; 6] = looked_at(
        vm(""),
        "
        r 40000020        -> ?
        r 40000020        -> ?
        cpu 1             -> ok
        r 40000020        -> ?
        w 40000021 300001 -> ok
        r 40000020        -> ?
        cpu 0             -> ok
        r 40000020        -> ?
        w 40000021 0      -> ok
        r 40000020        -> ?
        ",
    )?;
    assert!(times.is_sorted_by(|earlier, later| earlier < later), "{times:?}");
    assert!(times.iter().all(|time| *time < 600_000_000), "a minute since the VM was built");
    Ok(())
}

/// What a guest computes (TLFS, "Partition Reference TSC Mechanism").
fn paged(tsc: u64, scale: u64, offset: u64) -> u64 {
    let high = (u128::from(tsc) * u128::from(scale)) >> 64;
    u64::try_from(high).unwrap_or(u64::MAX).wrapping_add(offset)
}

#[apply(test)]
fn the_page_agrees_with_the_msr() -> Outcome {
    require_a_valid_page()?;
    let [sequence, scale, offset, before, msr, after, b2, m2, a2, register] = looked_at(
        vm(HARDLY_EVER),
        "
        poke 300000 7777777777777777 -> ok
        poke 300ff8 7777777777777777 -> ok
        w 40000021 300fff            -> ok
        peek 300ff8                  -> 0
        peek 300000                  -> ?
        peek 300008                  -> ?
        peek 300010                  -> ?
        r 10                         -> ?
        r 40000020                   -> ?
        r 10                         -> ?
        cpu 1                        -> ok
        r 10                         -> ?
        r 40000020                   -> ?
        r 10                         -> ?
        r 40000021                   -> ?
        ",
    )?;
    assert_eq!((sequence, register), (1, 0x30_0001));
    for (before, msr, after) in [(before, msr, after), (b2, m2, a2)] {
        let page = paged(before, scale, offset)..=paged(after, scale, offset);
        assert!(page.contains(&msr), "{msr} is not in {page:?}");
    }
    Ok(())
}

// Where the guest clears it, `await` shows what the plugin writes next.
#[apply(test)]
fn the_page_is_renewed() -> Outcome {
    require_a_valid_page()?;
    let [first, second, scale, time] = looked_at(
        vm("config.refresh-ms = 10"),
        "
        w 40000021 300001 -> ok
        poke 300000 0     -> ok
        poke 300008 0     -> ok
        await 300000      -> ?
        cpu 1             -> ok
        poke 300000 0     -> ok
        await 300000      -> ?
        peek 300008       -> ?
        r 40000020        -> ?
        ",
    )?;
    assert!(first < second && second < 1000, "sequences {first} and {second}");
    assert!(scale > 1 << 50 && time > 100_000, "scale {scale:x}, time {time}");
    Ok(())
}

#[apply(test)]
fn a_vcpu_that_moves_its_counter_makes_the_page_invalid() -> Outcome {
    require_a_valid_page()?;
    let [before, adjusted, _, restored] = looked_at(
        vm("config.refresh-ms = 10"),
        "
        w 40000021 300001  -> ok
        r 40000020         -> ?
        cpu 1              -> ok
        r 3b               -> 0
        w 3b 1000000000000 -> ok
        r 40000020         -> ?
        peek 300000        -> 0
        w 3b 0             -> ok
        await 300000       -> ?
        r 40000020         -> ?
        ",
    )?;
    assert!(before < adjusted && adjusted < restored, "{before} {adjusted} {restored}");
    assert!(restored < 600_000_000, "{restored} is more than a minute");
    Ok(())
}

#[apply(test)]
fn what_is_read_only() -> Outcome {
    vm("").prints(
        "
        w 40000002 0                -> fault
        w 40000010 0                -> fault
        w 40000020 0                -> fault
        w 40000020 ffffffffffffffff -> fault
        w 40000022 1                -> fault
        w 40000023 3b9aca00         -> fault
        r 40000010                  -> ?
        r 40000022                  -> ?
        r 40000023                  -> 3b9aca00
        ",
    )
}

// Not on a KVM with Hyper-V support either, which "Hv#1" in CPUID turns on.
#[apply(test)]
fn what_is_not_offered() -> Outcome {
    vm("").prints(
        "
        r 40000003                  -> fault
        w 40000003 1                -> fault
        w 40000070 0                -> fault
        w 40000071 0                -> fault
        r 40000072                  -> fault
        w 40000080 1                -> fault
        r 40000090                  -> fault
        w 400000b0 1                -> fault
        r 400000f0                  -> fault
        w 40000106 1                -> fault
        r 40000107                  -> fault
        w 40000118 1                -> fault
        sweep 40000003 d            -> fault
        sweep 40000106 fa           -> fault
        ",
    )
}

#[apply(test)]
fn without_its_grants() -> Outcome {
    Vm::new()
        .shipped("hyperv_clock", r#"grant = ["guest-memory", "timer"]"#)
        .run("r 40000020")?
        .refused(&["hyperv_clock.wasm", "kvm-msr"]);
    Ok(())
}

#[apply(test)]
fn a_wrong_interval() -> Outcome {
    for (config, parts) in [
        ("config.refresh-ms = 0", ["`refresh-ms`", "10 to 10000"]),
        ("config.refresh = 5", ["`refresh`", "`refresh-ms`"]),
    ] {
        vm(config).run("r 40000020")?.refused(&parts);
    }
    Ok(())
}
