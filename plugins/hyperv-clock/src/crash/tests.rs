extern crate std;

use std::string::{String, ToString};
use std::vec::Vec;

use wasmsr_sdk::log::Level;
use wasmsr_sdk::native::Host;

use super::*;

fn crash(p3: u64, p4: u64) -> Crash {
    Crash([0xa, 0xb, 0xc, p3, p4])
}

#[track_caller]
fn check_logged(host: &Host, lines: &[&str]) {
    let logged = host.logged();
    assert!(logged.iter().all(|(level, _)| *level == Level::Warn));
    let logged: Vec<&str> = logged.iter().map(|(_, line)| line.as_str()).collect();
    assert_eq!(logged, lines);
}

#[test]
fn only_a_notification_is_logged() {
    let host = Host::fresh();
    for value in [0, CRASH_MESSAGE, CRASH_NOTIFY - 1] {
        crash(1, 2).control(value);
    }
    check_logged(&host, &[]);
    crash(1, 2).control(CRASH_NOTIFY);
    check_logged(&host, &["the guest reports a crash: P0 0xa P1 0xb P2 0xc P3 0x1 P4 0x2"]);
}

#[test]
fn a_message_is_printable() {
    let host = Host::fresh();
    host.set_memory(GuestAddress(0x1000), b"one\ntwo\xff\x1b\t\xc3\xa9~\0three");
    crash(0x1000, 13).control(u64::MAX);
    let report = "the guest reports a crash: P0 0xa P1 0xb P2 0xc P3 0x1000 P4 0xd";
    check_logged(&host, &[report, "crash: one|two|||||~"]);
}

#[test]
fn of_every_byte_it_is_known_whether_it_is_printable() {
    let mut page = [0; PAGE_SIZE];
    // Each character next to several others.
    for (at, byte) in page.iter_mut().enumerate() {
        let (step, number) = (at / 256, at % 256);
        *byte = u8::try_from(number * (2 * step + 1) % 256).unwrap();
    }
    let before = page;
    make_printable(&mut page);
    for (before, after) in before.into_iter().zip(page) {
        let printable = before == b' ' || before.is_ascii_graphic();
        assert_eq!(after, if printable { before } else { b'|' }, "{before:#x}");
    }
}

#[test]
fn a_message_is_logged_up_to_its_first_page() {
    let host = Host::fresh();
    let text: String = (0..2000).map(|number| number.to_string() + "\n").collect();
    host.set_memory(GuestAddress(0), text.as_bytes());
    crash(0, u64::MAX).control(u64::MAX);
    let logged = host.logged();
    let pieces = logged.iter().filter_map(|(_, line)| line.strip_prefix("crash: "));
    let page = text.get(..PAGE_SIZE).unwrap().replace('\n', "|");
    assert_eq!(pieces.collect::<String>(), page);
    assert_eq!(logged.len(), 6);
}

#[test]
fn an_empty_message_is_none() {
    let host = Host::fresh();
    host.set_memory(GuestAddress(0), &[0; PAGE_SIZE]);
    crash(0, 0).control(u64::MAX);
    assert_eq!(host.logged().len(), 1);
}

#[test]
fn a_message_that_is_nowhere_is_said_to_be() {
    for (at, len) in [(0x2000, 1), (0xfff, 2), (u64::MAX, 4096), (u64::MAX, u64::MAX)] {
        let host = Host::fresh();
        host.set_memory(GuestAddress(0), &[b'x'; PAGE_SIZE]);
        crash(at, len).control(u64::MAX);
        let logged = host.logged();
        assert_eq!(logged.len(), 2, "{at:#x} {len}");
        assert!(logged[1].1.contains("not in RAM"), "{}", logged[1].1);
    }
}

#[test]
fn there_are_five_parameters() {
    let mut crash = Crash::default();
    for number in 0..5 {
        *crash.parameter(number).unwrap() = u64::MAX;
    }
    assert_eq!(crash, Crash([u64::MAX; 5]));
    assert_eq!(crash.parameter(5), None);
    assert_eq!(crash.parameter(u32::MAX), None);
}
