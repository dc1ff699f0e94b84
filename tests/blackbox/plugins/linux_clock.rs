//! What a stock Linux says of a clock that a plugin gives it.

use std::thread;
use std::time::{Duration, Instant};

use crate::fixture::{Outcome, Shell, Vm};

/// The guest's time passes as the host's does. The guest reads its clock at some
/// time between the typing and the answer, so the host's clock before and after is
/// all the tolerance there is, beside the hundredth of a second to which Linux
/// rounds each uptime.
pub(super) fn runs_with_the_hosts(vm: Vm) -> Outcome {
    const ROUNDED: f64 = 0.02;
    const UPTIME: &str = "cut -d ' ' -f 1 /proc/uptime";

    let mut shell = Shell::of(vm)?;
    let before_first = Instant::now();
    shell.ask("first", UPTIME);
    let after_first = Instant::now();
    thread::sleep(Duration::from_secs(10));
    let before_second = Instant::now();
    shell.ask("second", UPTIME);
    let after_second = Instant::now();
    let run = shell.power_off();

    let number = |mark| run.answer(mark).parse::<f64>().expect("an uptime is a number");
    let passed = number("second") - number("first");
    let shortest = before_second.duration_since(after_first).as_secs_f64() - ROUNDED;
    let longest = after_second.duration_since(before_first).as_secs_f64() + ROUNDED;
    assert!((shortest..=longest).contains(&passed), "{shortest} <= {passed} <= {longest}\n{run}");
    Ok(())
}

/// Two CPUs in turn see the time go on. `/proc/timer_list` begins with the time in
/// nanoseconds, by the clock of the CPU that reads it.
pub(super) fn no_cpu_sees_it_go_back(vm: Vm) -> Outcome {
    let mut shell = Shell::of(vm)?;
    let reading = "taskset -c $((i % 2)) grep -m 1 -o 'now at [0-9]*' /proc/timer_list";
    let readings = format!("for i in $(seq 200); do {reading}; done >/tmp/read");
    shell.ask("cpus", "nproc");
    shell.ask("read", &format!("{readings}; cut -d ' ' -f 3 /tmp/read >/tmp/ns; wc -l </tmp/ns"));
    shell.ask("forward", "sort -n /tmp/ns | cmp - /tmp/ns && echo yes");
    let run = shell.power_off();
    assert_eq!((run.answer("cpus"), run.answer("read")), ("2", "200"), "{run}");
    assert_eq!(run.answer("forward"), "yes", "{run}");
    Ok(())
}
