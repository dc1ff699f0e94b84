//! `hyperv-clock`: the pages that guests place beside that of the clock, and crashes,
//! whose message lies in one.

use super::hyperv_clock::vm;
use crate::fixture::{Outcome, apply, guest_exit, test};

#[apply(test)]
fn the_hypercall_page() -> Outcome {
    vm("").prints(
        "
        r 40000001                  -> 0
        w 40000000 8100000000000000 -> ok
        w 40000001 301ffd           -> ok
        r 40000001                  -> 301001
        peek 300ff8                 -> 0
        peek 301000                 -> d23102749040c031
        peek 301008                 -> ccccc300000002b8
        peek 301ff8                 -> cccccccccccccccc
        peek 302000                 -> 0
        # To another place.
        cpu 1                       -> ok
        w 40000001 303001           -> ok
        peek 303008                 -> ccccc300000002b8
        w 40000001 303000           -> ok
        w 40000001 ffffffffffffff00 -> ok
        r 40000001                  -> fffffffffffff000
        ",
    )
}

#[apply(test)]
fn a_hypercall_page_needs_an_identity() -> Outcome {
    vm("").prints(
        "
        w 40000001 300001           -> ok
        r 40000001                  -> 300000
        peek 300000                 -> 0
        w 40000000 1                -> ok
        r 40000001                  -> 300000
        w 40000001 300001           -> ok
        w 40000000 0                -> ok
        r 40000001                  -> 300000
        ",
    )
}

#[apply(test)]
fn a_locked_hypercall_page_stays() -> Outcome {
    vm("").prints(
        "
        w 40000000 1                -> ok
        w 40000001 300003           -> ok
        r 40000001                  -> 300003
        w 40000001 300003           -> fault
        w 40000001 400001           -> fault
        cpu 1                       -> ok
        w 40000001 0                -> fault
        w 40000001 ffffffffffffffff -> fault
        r 40000001                  -> 300003
        w 40000000 0                -> ok
        r 40000001                  -> 300002
        w 40000000 1                -> ok
        w 40000001 300001           -> fault
        ",
    )
}

#[apply(test)]
fn a_hypercall_page_that_is_nowhere() -> Outcome {
    // 128 MiB end at 8000000.
    vm("").prints(
        "
        w 40000000 ffffffffffffffff -> ok
        w 40000001 7fff001          -> ok
        peek 7fffff8                -> cccccccccccccccc
        w 40000001 8000001          -> fault
        w 40000001 8000003          -> fault
        w 40000001 fffffffffffff001 -> fault
        w 40000001 ffffffffffffffff -> fault
        w 40000001 8000000000000001 -> fault
        r 40000001                  -> 7fff001
        # For the other pages it is no better place.
        w 40000021 8000001          -> ok
        r 40000021                  -> 8000001
        w 40000021 ffffffffffffffff -> ok
        r 40000021                  -> fffffffffffff001
        r 40000020                  -> ?
        w 40000073 8000001          -> fault
        w 40000073 ffffffffffffffff -> fault
        r 40000073                  -> 0
        ",
    )
}

#[apply(test)]
fn pages_over_each_other() -> Outcome {
    let transcript = "
        w 40000000 1      -> ok
        w 40000021 300001 -> ok
        w 40000001 300001 -> ok
        w 40000073 300001 -> ok
        peek 300018       -> 0
        w 40000001 300001 -> ok
        peek 300018       -> cccccccccccccccc
        # A few times of the timer, perhaps.
        times 1000 r 40000020 -> ?
        peek 300018       -> cccccccccccccccc
        w 40000021 300000 -> ok
        r 40000020        -> ?
        r 40000001        -> 300001
        w 40000001 0      -> ok
        ";
    vm("config.refresh-ms = 10").prints(transcript)
}

#[apply(test)]
fn the_assist_page() -> Outcome {
    vm("").prints(
        "
        poke 300000 1     -> ok
        poke 300ff8 1     -> ok
        w 40000073 300fff -> ok
        r 40000073        -> 300001
        peek 300000       -> 0
        peek 300ff8       -> 0
        poke 300008 5     -> ok
        w 40000073 300001 -> ok
        peek 300008       -> 5
        cpu 1             -> ok
        r 40000073        -> 0
        w 40000073 301001 -> ok
        cpu 0             -> ok
        r 40000073        -> 300001
        ",
    )
}

#[apply(test)]
fn a_crash_with_a_message() -> Outcome {
    let run = vm("").run(
        "
        w 40000100 11               -> ok
        w 40000101 22               -> ok
        w 40000102 33               -> ok
        # Two lines, on and fire!
        poke 300000 21657269660a6e6f -> ok
        w 40000103 300000           -> ok
        w 40000104 8                -> ok
        r 40000105                  -> c000000000000000
        w 40000105 4000000000000000 -> ok
        w 40000105 c000000000000000 -> ok
        r 40000104                  -> 8
        cpu 1                       -> ok
        r 40000100                  -> 11
        w 40000103 8000000          -> ok
        w 40000105 ffffffffffffffff -> ok
        ",
    )?;
    let report = "the guest reports a crash: P0 0x11 P1 0x22 P2 0x33 P3 0x300000 P4 0x8";
    let run = run.exited(guest_exit(0)).said(&[report, "crash: on|fire!", "not in RAM"]);
    assert_eq!(run.stderr.matches("reports a crash").count(), 2, "{run}");
    Ok(())
}

/// What a hostile guest can do: each time all of two pages is written.
#[apply(test)]
fn a_flood_of_pages() -> Outcome {
    let run = vm("config.refresh-ms = 10")
        .run(
            "
            w 40000000 1                              -> ok
            aside 1 times 400 w 40000021 300001       -> ok
            times 400 w 40000001 301001               -> ok
            join                                      -> ok
            aside 1 times 400 w 40000021 fffffffff001 -> ok
            times 400 w 40000001 fffffffff001         -> fault
            join                                      -> ok
            aside 1 times 400 r 40000020              -> ok
            times 400 w 40000021 300001               -> ok
            join                                      -> ?
            peek 301008                               -> ccccc300000002b8
            ",
        )?
        .exited(guest_exit(0));
    assert!(run.stdout.contains("peek 301008 -> ccccc300000002b8"), "{run}");
    assert!(run.stderr.len() < 16 << 10, "{} bytes on standard error", run.stderr.len());
    Ok(())
}

/// The longest message, of nothing printable: `int3` from a hypercall page.
#[apply(test)]
fn a_flood_of_crashes() -> Outcome {
    let run = vm("")
        .run(
            "
            w 40000000 1                          -> ok
            w 40000001 300001                     -> ok
            w 40000001 301001                     -> ok
            w 40000103 300010                     -> ok
            w 40000104 ffffffffffffffff           -> ok
            times 400 w 40000105 ffffffffffffffff -> ok
            r 40000104                            -> ffffffffffffffff
            ",
        )?
        .exited(guest_exit(0));
    assert!(run.stdout.contains("r 40000104 -> ffffffffffffffff"), "it has failed:\n{run}");
    assert!(run.stderr.len() < 64 << 10, "{} bytes on standard error", run.stderr.len());
    Ok(())
}
