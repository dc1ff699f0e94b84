//! `kvm-clock`: the time in the guest's memory, and which grants that takes.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::fixture::{
    Outcome, Run, Skip, Vm, apply, cannot_run_here, guest_exit, is_interpreter, test,
};

/// With the plugin; `config` are further lines of its entry.
fn vm(config: &str) -> Vm {
    let lines = format!("grant = [\"guest-memory\", \"kvm-msr\", \"timer\"]\n{config}");
    Vm::new().vcpus(2).shipped("kvm_clock", &lines)
}

/// For tests that look at memory for longer than a moment.
const HARDLY_EVER: &str = "config.refresh-ms = 60000";

/// The numbers that the guest printed.
fn numbers(run: &Run) -> Vec<u64> {
    let right_sides = run.stdout.lines().filter_map(|line| line.split_once("-> "));
    right_sides.filter_map(|(_, number)| u64::from_str_radix(number.trim(), 16).ok()).collect()
}

/// Runs a transcript of nothing but numbers that are not known.
#[track_caller]
fn looked_at<const N: usize>(vm: Vm, transcript: &str) -> Result<[u64; N], Skip> {
    let run = vm.run(transcript)?.printed(transcript).exited(guest_exit(0));
    let numbers = numbers(&run);
    Ok(numbers.try_into().unwrap_or_else(|_| panic!("not {N} numbers:\n{run}")))
}

#[apply(test)]
fn the_example() -> Outcome {
    Vm::example("kvm-clock").prints(
        "
        w 4b564d01 300001 -> ok
        r 4b564d01        -> 300001
        peek 300000       -> 2
        cpu 1             -> ok
        r 4b564d01        -> 0
        w 12 300041       -> ok
        r 4b564d01        -> 300041
        peek 300040       -> 2
        ",
    )
}

#[apply(test)]
fn system_time_is_a_line_in_memory() -> Outcome {
    let [before, enabled, version, timestamp, ns, scale, after] = looked_at(
        vm(HARDLY_EVER),
        "
        r 10              -> ?
        poke 300000 7     -> ok
        w 4b564d01 300001 -> ok
        r 12              -> ?
        peek 300000       -> ?
        peek 300008       -> ?
        peek 300010       -> ?
        peek 300018       -> ?
        r 10              -> ?
        ",
    )?;
    assert_eq!(enabled, 0x30_0001);
    assert_eq!(version, 10, "even, after 7");
    assert!((before..=after).contains(&timestamp), "{before:x} {timestamp:x} {after:x}");
    assert!((1..60_000_000_000).contains(&ns), "{ns} ns since the VM was built");
    let [m0, m1, m2, m3, shift, flags, 0, 0] = scale.to_le_bytes() else {
        panic!("padding of {scale:x}")
    };
    // 100 MHz to 10 GHz.
    let mul = f64::from(u32::from_le_bytes([m0, m1, m2, m3])) / 2_f64.powi(32);
    let ns_per_tick = mul * 2_f64.powi(i32::from(i8::from_le_bytes([shift])));
    assert!((0.1..10.0).contains(&ns_per_tick), "{ns_per_tick} ns a tick");
    assert!(flags <= 1, "{flags:x}");
    Ok(())
}

#[apply(test)]
fn all_vcpus_have_one_line() -> Outcome {
    let first = "peek 300008 -> ? \n peek 300010 -> ? \n peek 300018 -> ?";
    let second = first.replace("3000", "3001");
    let register = "w 4b564d01 300001 -> ok \n cpu 1 -> ok \n w 4b564d01 300101 -> ok";
    let transcript = format!("{register}\n{first}\n{second}");
    let [a, b, c, d, e, f] = looked_at(vm(HARDLY_EVER), &transcript)?;
    assert_eq!([a, b, c], [d, e, f], "the counters of a new VM are alike");
    Ok(())
}

// Where the guest clears it, `await` shows what the plugin writes next.
#[apply(test)]
fn the_timer_brings_it_up_to_date() -> Outcome {
    let transcript = "
        w 4b564d01 300001 -> ok
        cpu 1             -> ok
        w 4b564d01 300101 -> ok
        peek 300010       -> ?
        poke 300010 0     -> ok
        await 300010      -> ?
        poke 300110 0     -> ok
        await 300110      -> ?
        peek 300008       -> ?
        cpu 0             -> ok
        poke 300110 0     -> ok
        await 300110      -> ?
        poke 300008 0     -> ok
        await 300008      -> ?
        ";
    let [first, second, third, tsc, fourth, later_tsc] =
        looked_at(vm("config.refresh-ms = 10"), transcript)?;
    assert!([first, second, third, fourth].is_sorted(), "{first} {second} {third} {fourth}");
    assert!(second > first && later_tsc > tsc, "{first} {second}, {tsc} {later_tsc}");
    Ok(())
}

#[apply(test)]
fn a_disabled_clock_is_left_alone() -> Outcome {
    vm("config.refresh-ms = 10").prints(
        "
        w 4b564d01 300001 -> ok
        w 4b564d01 300100 -> ok
        cpu 1             -> ok
        w 4b564d01 300201 -> ok
        poke 300008 0     -> ok
        poke 300208 0     -> ok
        # A few refreshes.
        await 300208      -> ?
        poke 300208 0     -> ok
        await 300208      -> ?
        peek 300008       -> 0
        peek 300108       -> 0
        cpu 0             -> ok
        r 4b564d01        -> 300100
        ",
    )
}

#[apply(test)]
fn the_old_numbers_are_the_same_registers() -> Outcome {
    vm(HARDLY_EVER).prints(
        "
        w 12 300001       -> ok
        r 4b564d01        -> 300001
        peek 300000       -> 2
        w 4b564d01 0      -> ok
        r 12              -> 0
        w 11 300100       -> ok
        cpu 1             -> ok
        r 4b564d00        -> 300100
        r 12              -> 0
        ",
    )
}

#[apply(test)]
fn the_wall_clock_is_the_hosts() -> Outcome {
    let since_1970 = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let before = since_1970();
    let [version_and_seconds, nanoseconds, again] = looked_at(
        vm(HARDLY_EVER),
        "
        w 4b564d01 300001 -> ok
        w 4b564d00 300100 -> ok
        peek 300100       -> ?
        peek 300108       -> ?
        w 4b564d00 300100 -> ok
        peek 300100       -> ?
        ",
    )?;
    let after = since_1970();
    assert_eq!(version_and_seconds & 0xffff_ffff, 2);
    assert_eq!(again & 0xffff_ffff, 4);
    let boot = version_and_seconds >> 32;
    // The VM was built after `before`, and a second begins at any time.
    assert!((before.saturating_sub(1)..=after).contains(&boot), "{before} {boot} {after}");
    assert!(nanoseconds < 1_000_000_000, "{nanoseconds}");
    Ok(())
}

#[apply(test)]
fn addresses_outside_memory_are_taken() -> Outcome {
    // 128 MiB end at 8000000.
    vm("config.refresh-ms = 10").prints(
        "
        poke 7fffff8 5              -> ok
        w 4b564d01 7fffff1          -> ok
        w 4b564d01 8000001          -> ok
        w 4b564d01 fffffffffffffff1 -> ok
        w 4b564d01 ffffffffffffffff -> ok
        r 4b564d01                  -> ffffffffffffffff
        w 4b564d00 7fffff8          -> ok
        w 4b564d00 ffffffffffffffff -> ok
        peek 7fffff8                -> 5
        w 4b564d01 7ffffe1          -> ok
        peek 7ffffe0                -> 2
        ",
    )
}

/// What a hostile guest can do: each time all versions change, and all is
/// well.
#[apply(test)]
fn a_flood_of_registrations() -> Outcome {
    let run = vm("config.refresh-ms = 10")
        .run(
            "
            aside 1 times 400 w 4b564d01 300101 -> ok
            times 400 w 4b564d01 300001         -> ok
            join                                -> ok
            times 100 w 4b564d01 fffffffff1     -> ok
            times 100 w 4b564d00 fffffffff1     -> ok
            times 100 w 4b564d00 300200         -> ok
            w 4b564d01 300001                   -> ok
            peek 300100                         -> ?
            peek 300000                         -> ?
            ",
        )?
        .exited(guest_exit(0));
    assert!(numbers(&run).iter().all(|version| version % 2 == 0), "{run}");
    assert!(run.stderr.len() < 16 << 10, "{} bytes on standard error", run.stderr.len());
    Ok(())
}

#[apply(test)]
fn steal_time() -> Outcome {
    // As KVM refuses it where the host's kernel does not count.
    let counts = fs::read_to_string("/proc/thread-self/schedstat");
    if counts.is_ok_and(|counts| counts.trim() == "0 0 0") {
        return vm("").prints("w 4b564d03 300041 -> fault \n w 4b564d03 0 -> fault");
    }
    vm("config.steal-interval-ms = 10").prints(
        "
        w 4b564d03 300041 -> ok
        r 4b564d03        -> 300041
        # Version 2, no flags; not preempted.
        peek 300050       -> 0
        poke 300048 0     -> ok
        await 300048      -> ?
        w 4b564d03 300040 -> ok
        poke 300048 0     -> ok
        cpu 1             -> ok
        r 4b564d03        -> 0
        w 4b564d03 300081 -> ok
        poke 300088 0     -> ok
        await 300088      -> ?
        poke 300088 0     -> ok
        await 300088      -> ?
        peek 300048       -> 0
        ",
    )
}

#[apply(test)]
fn steal_time_has_reserved_bits() -> Outcome {
    vm("").prints(
        "
        w 4b564d03 300043           -> fault
        w 4b564d03 300045           -> fault
        w 4b564d03 300049           -> fault
        w 4b564d03 300051           -> fault
        w 4b564d03 300061           -> fault
        w 4b564d03 20               -> fault
        w 4b564d03 ffffffffffffffff -> fault
        r 4b564d03                  -> 0
        ",
    )
}

#[apply(test)]
fn cpuid_announces_it() -> Outcome {
    if is_interpreter() {
        return cannot_run_here("guests of kvm_pvm see the hardware's CPUID");
    }
    // 4b is the K of EBX, 4d the M that ends the signature in EDX; then clock
    // source by old and new numbers, steal time and stable bit.
    vm("").prints(
        "
        cpuid 40000000 0 b 0  -> 1
        cpuid 40000000 0 b 2  -> 0
        cpuid 40000000 0 b 6  -> 1
        cpuid 40000000 0 d 0  -> 1
        cpuid 40000000 0 d 8  -> 0
        cpuid 40000001 0 a 0  -> 1
        cpuid 40000001 0 a 3  -> 1
        cpuid 40000001 0 a 5  -> 1
        cpuid 40000001 0 a 18 -> 1
        ",
    )
}

#[apply(test)]
fn without_its_grants() -> Outcome {
    Vm::new()
        .shipped("kvm_clock", r#"grant = ["guest-memory", "timer"]"#)
        .run("r 12")?
        .refused(&["kvm_clock.wasm", "kvm-msr"]);
    Ok(())
}

#[apply(test)]
fn a_wrong_interval() -> Outcome {
    for (config, parts) in [
        ("config.refresh-ms = 0", ["`refresh-ms`", "10 to 60000"]),
        ("config.steal-interval-ms = 1", ["`steal-interval-ms`", "10 to 60000"]),
        ("config.refresh = 5", ["`refresh`", "`refresh-ms`"]),
    ] {
        vm(config).run("r 12")?.refused(&parts);
    }
    Ok(())
}
