//! What an operator asks of a running VM: a pause and its end, a reset, a stop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use wasmsr_interface::{Host, MsrAccess, MsrHandler, Outcome, VcpuId};
use wasmsr_vmm::{Control, Events, ResetBy, RunEnd, control};

use crate::guests::{BUTTON, COUNT, ECHO, Guest, MSRS, PORTS, SPIN, WAIT};
use crate::{Channel, build, handlers};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("a_pause_loses_no_access_and_doubles_none", a_pause_loses_no_access_and_doubles_none),
    ("a_paused_vm_does_nothing", a_paused_vm_does_nothing),
    ("a_paused_vm_can_be_ended", a_paused_vm_can_be_ended),
    ("alarms_wait_for_the_end_of_a_pause", alarms_wait_for_the_end_of_a_pause),
    ("input_waits_for_the_end_of_a_pause", input_waits_for_the_end_of_a_pause),
    ("an_operator_ends_a_run", an_operator_ends_a_run),
    ("a_reset_leaves_a_paused_vm_paused", a_reset_leaves_a_paused_vm_paused),
    ("a_storm_of_presses_is_one_press", a_storm_of_presses_is_one_press),
    (
        "guests_without_a_driver_ignore_the_power_button",
        guests_without_a_driver_ignore_the_power_button,
    ),
];

/// Long enough for anything but a fault of wasmsr.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a vCPU's handler counts.
#[derive(Debug, Default)]
struct Counts {
    answers: AtomicU64,
    wakes: AtomicU64,
}

impl Counts {
    fn answers(&self) -> u64 {
        self.answers.load(Ordering::SeqCst)
    }

    fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::SeqCst)
    }
}

/// Answers the n-th read with n.
struct Counting(Arc<Counts>);

impl MsrHandler for Counting {
    fn answer(&mut self, _: MsrAccess) -> Outcome {
        Outcome::Value(self.0.answers.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn wake(&mut self) {
        self.0.wakes.fetch_add(1, Ordering::SeqCst);
    }
}

/// Runs `guest` on one vCPU while `operate` is at work beside it.
fn run(
    guest: Guest,
    (control, events): (Control, &Events),
    operate: impl FnOnce(&Control, &Counts, &dyn Host) + Send,
) -> RunEnd {
    let counts = Arc::new(Counts::default());
    let vm = build(guest, 1, Box::new(io::sink())).unwrap();
    let host = vm.host();
    let handler = Box::new(Counting(Arc::clone(&counts)));
    thread::scope(|scope| {
        scope.spawn(move || operate(&control, &counts, &*host));
        vm.run(vec![handler], events)
    })
}

#[track_caller]
fn pause(control: &Control) {
    control.pause();
    assert!(control.wait_until_paused(PATIENCE), "no pause");
}

/// Waits until `done`.
#[track_caller]
fn wait_for(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "no {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Enough for a vCPU to do thousands of accesses.
fn a_while() {
    thread::sleep(Duration::from_millis(50));
}

fn a_pause_loses_no_access_and_doubles_none() {
    let (control, events) = control();
    let end = run(COUNT, (control, &events), |control, counts, _| {
        for _ in 0..200 {
            pause(control);
            let before = counts.answers();
            thread::yield_now();
            assert_eq!(counts.answers(), before);
            control.resume();
            wait_for("access", || counts.answers() > before);
        }
        control.stop();
    });
    assert!(matches!(end, RunEnd::StopRequested { at: Some(_) }), "{end}");
}

fn a_paused_vm_does_nothing() {
    for (name, guest) in [("spin", SPIN), ("wait", WAIT), ("msrs", MSRS), ("ports", PORTS)] {
        let (control, events) = control();
        let (sender, printed) = mpsc::channel();
        let vm = build(guest, 3, Box::new(Channel(sender))).unwrap();
        let operator = thread::spawn(move || {
            a_while();
            control.pause();
            pause(&control);
            let _ = printed.try_iter().count();
            a_while();
            assert_eq!(printed.try_iter().count(), 0, "{name}");
            assert!(control.is_paused());
            control.resume();
            control.resume();
            wait_for("end of the pause", || !control.is_paused());
            a_while();
            assert_eq!(printed.try_iter().count() > 0, name == "ports", "{name}");
            control.stop();
        });
        let end = vm.run(handlers(3), &events);
        assert!(matches!(end, RunEnd::StopRequested { at: Some(_) }), "{name}: {end}");
        operator.join().unwrap();
    }
}

fn a_paused_vm_can_be_ended() {
    type Ask = fn(&Control);
    type Expected = fn(&RunEnd) -> bool;
    let ends: [(Ask, Expected); 4] = [
        (|control| control.signal(15), |end| matches!(end, RunEnd::Signal { number: 15, .. })),
        (Control::quit, |end| matches!(end, RunEnd::Quit { at: Some(_) })),
        (Control::stop, |end| matches!(end, RunEnd::StopRequested { at: Some(_) })),
        (Control::reset, |end| matches!(end, RunEnd::Reset(ResetBy::Operator(Some(_))))),
    ];
    for (ask, is_right) in ends {
        let (control, events) = control();
        let end = run(MSRS, (control.clone(), &events), |control, _, _| {
            pause(control);
            ask(control);
        });
        assert!(is_right(&end), "{end}");
        assert!(!control.is_paused(), "there is no VM");
    }
}

fn alarms_wait_for_the_end_of_a_pause() {
    let (control, events) = control();
    let end = run(SPIN, (control, &events), |control, counts, host| {
        host.wake_at(VcpuId(0), host.monotonic_ns());
        wait_for("wake", || counts.wakes() == 1);
        pause(control);
        host.wake_at(VcpuId(0), host.monotonic_ns());
        a_while();
        assert_eq!(counts.wakes(), 1);
        control.resume();
        wait_for("wake", || counts.wakes() == 2);
        control.stop();
    });
    assert!(matches!(end, RunEnd::StopRequested { .. }), "{end}");
}

fn input_waits_for_the_end_of_a_pause() {
    let (control, events) = control();
    let (sender, printed) = mpsc::channel();
    let vm = build(ECHO, 1, Box::new(Channel(sender))).unwrap();
    let operator = thread::spawn(move || {
        pause(&control);
        assert!(control.input(b"hello"));
        a_while();
        assert_eq!(printed.try_iter().count(), 0);
        control.resume();
        let echoed: Vec<u8> = printed.iter().take(5).collect();
        assert_eq!(echoed, b"hello");
        assert!(control.input(b"!"));
    });
    let end = vm.run(handlers(1), &events);
    assert!(matches!(end, RunEnd::PowerOff(_)), "{end}");
    operator.join().unwrap();
}

fn an_operator_ends_a_run() {
    let (control, events) = control();
    let end = run(SPIN, (control.clone(), &events), |control, _, _| control.reset());
    assert!(matches!(end, RunEnd::Reset(ResetBy::Operator(Some(_)))), "{end}");
    let end = run(SPIN, (control, &events), |control, _, _| control.stop());
    assert!(matches!(end, RunEnd::StopRequested { at: Some(_) }), "{end}");
}

fn a_reset_leaves_a_paused_vm_paused() {
    let (control, events) = control();
    let end = run(MSRS, (control.clone(), &events), |control, _, _| {
        pause(control);
        control.reset();
    });
    assert!(matches!(end, RunEnd::Reset(_)), "{end}");
    let end = run(MSRS, (control, &events), |control, counts, _| {
        assert!(control.wait_until_paused(PATIENCE), "no pause");
        assert_eq!(counts.answers(), 0, "not one instruction is executed");
        control.resume();
        wait_for("access", || counts.answers() > 0);
        control.stop();
    });
    assert!(matches!(end, RunEnd::StopRequested { .. }), "{end}");
}

fn a_storm_of_presses_is_one_press() {
    let (control, events) = control();
    let (sender, printed) = mpsc::channel();
    let vm = build(BUTTON, 1, Box::new(Channel(sender))).unwrap();
    let operator = thread::spawn(move || {
        let next = || char::from(printed.recv_timeout(PATIENCE).expect("it prints"));
        assert_eq!(next(), 'r');
        for _ in 0..3 {
            control.power_button();
            assert_eq!(next(), 'p');
        }
        pause(&control);
        (0..1000).for_each(|_| control.power_button());
        a_while();
        assert_eq!(printed.try_iter().count(), 0);
        control.resume();
        assert_eq!(next(), 'p');
        a_while();
        assert_eq!(printed.try_iter().count(), 0);
        control.stop();
    });
    let end = vm.run(handlers(1), &events);
    operator.join().unwrap();
    assert!(matches!(end, RunEnd::StopRequested { .. }), "{end}");
}

fn guests_without_a_driver_ignore_the_power_button() {
    for guest in [SPIN, WAIT, MSRS] {
        let (control, events) = control();
        let end = run(guest, (control, &events), |control, _, _| {
            (0..1000).for_each(|_| control.power_button());
            a_while();
            control.stop();
        });
        assert!(matches!(end, RunEnd::StopRequested { .. }), "{end}");
    }
}
