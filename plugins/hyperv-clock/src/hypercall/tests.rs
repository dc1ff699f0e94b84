extern crate std;

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use wasmsr_sdk::memory::GuestAddress;
use wasmsr_sdk::native::Host;

use super::*;
use crate::page::PAGE_SIZE;

/// Guest RAM of four pages from 0 on.
fn host() -> Host {
    let host = Host::fresh();
    host.set_memory(GuestAddress(0), &[0x55; 4 * PAGE_SIZE]);
    host
}

fn identified() -> HypercallInterface {
    HypercallInterface { guest_os_id: 0x8100_0000_0000_0000, ..HypercallInterface::default() }
}

#[test]
fn the_page_holds_code_and_traps() {
    let host = host();
    let mut interface = identified();
    interface.write(0x1001).unwrap();
    assert_eq!(interface.register(), 0x1001);
    let page = host.memory(GuestAddress(0x1000), PAGE_SIZE).unwrap();
    let (code, rest) = page.split_at(INVALID_HYPERCALL_CODE.len());
    assert_eq!(code, INVALID_HYPERCALL_CODE);
    assert!(rest.iter().all(|byte| *byte == INT3));
    // Nothing around it.
    assert_eq!(host.memory(GuestAddress(0xfff), 1), Some(vec![0x55]));
    assert_eq!(host.memory(GuestAddress(0x2000), 1), Some(vec![0x55]));
}

#[test]
fn without_an_identity_the_enable_bit_stays_0() {
    let host = host();
    let mut interface = HypercallInterface::default();
    interface.write(0x1001).unwrap();
    assert_eq!(interface.register(), 0x1000);
    assert_eq!(host.memory(GuestAddress(0x1000), 1), Some(vec![0x55]));
    // So the address does not matter.
    interface.write(!LOCKED).unwrap();
    assert_eq!(interface.register(), u64::MAX << 12);
}

#[test]
fn an_identity_of_0_disables_even_a_locked_page() {
    let _host = host();
    for value in [0x1001, 0x1003] {
        let mut interface = identified();
        interface.write(value).unwrap();
        interface.set_guest_os_id(0);
        assert_eq!(interface.register(), value & !1);
        interface.set_guest_os_id(1);
        assert_eq!(interface.register(), value & !1, "only a write enables it again");
    }
}

#[test]
fn a_locked_register_takes_no_write_at_all() {
    let host = host();
    let mut interface = identified();
    interface.write(0x1003).unwrap();
    for value in [0, 0x1001, 0x1003, 0x2003, u64::MAX] {
        assert_eq!(interface.write(value), Err(Otherwise::Fault), "{value:#x}");
        assert_eq!(interface.register(), 0x1003);
    }
    assert_eq!(host.memory(GuestAddress(0x2000), 1), Some(vec![0x55]));
}

#[test]
fn a_page_outside_of_memory_changes_nothing() {
    let host = host();
    let mut interface = identified();
    interface.write(0x1001).unwrap();
    // The page after the last one, the last of the address space, and locked.
    for value in [0x4001, 0xffff_ffff_ffff_f001, 0x4003, u64::MAX] {
        assert_eq!(interface.write(value), Err(Otherwise::Fault), "{value:#x}");
        assert_eq!(interface.register(), 0x1001);
    }
    // The last page is valid.
    interface.write(0x3001).unwrap();
    assert_eq!(host.memory(GuestAddress(0x3000), 1), Some(vec![0x31]));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Identify(u64),
    Write(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = (0..8_u64, 0..32_u64).prop_map(|(page, low)| page << 12 | low);
    let step = prop_oneof![
        3 => (0..2_u64).prop_map(Step::Identify),
        6 => value.prop_map(Step::Write),
        1 => any::<u64>().prop_map(Step::Write),
    ];
    prop::collection::vec(step, 0..24)
}

proptest! {
    /// The model keeps the accepted writes, and derives the state from them.
    #[test]
    fn the_register_is_the_last_write_that_was_taken(steps in steps()) {
        let host = host();
        let mut interface = HypercallInterface::default();
        let (mut taken, mut id, mut cleared) = (0_u64, 0_u64, true);
        for step in steps {
            match step {
                Step::Identify(value) => {
                    interface.set_guest_os_id(value);
                    id = value;
                    cleared |= id == 0;
                }
                Step::Write(value) => {
                    let enables = value & 1 != 0 && id != 0;
                    let locked = taken & 2 != 0;
                    let fits = !enables || value >> 12 < 4;
                    let expected = if locked || !fits { Err(Otherwise::Fault) } else { Ok(()) };
                    prop_assert_eq!(interface.write(value), expected);
                    if expected.is_ok() {
                        taken = value;
                        cleared = id == 0;
                        if enables {
                            let code = host.memory(GuestAddress(value >> 12 << 12), 14).unwrap();
                            prop_assert_eq!(code, INVALID_HYPERCALL_CODE);
                        }
                    }
                }
            }
            prop_assert!(interface.is_reachable());
            let enable = u64::from(!cleared);
            prop_assert_eq!(interface.register(), taken & (u64::MAX << 12 | 2 | enable));
            prop_assert_eq!(interface.guest_os_id(), id);
        }
    }
}
