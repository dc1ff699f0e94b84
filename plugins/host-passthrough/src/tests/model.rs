//! Entries against a model that derives each answer from the whole history.

extern crate std;

use std::format;
use std::vec::Vec;

use proptest::prelude::*;
use wasmsr_sdk::native::{Host, access};
use wasmsr_sdk::{MsrIndex, Otherwise, Persist, Plugin, Reset};

use crate::HostPassthrough;

const MSR: u32 = 0x1a0;

#[derive(Debug, Clone, Copy)]
enum Step {
    Read,
    Write(u64),
    /// The value on a CPU of the host changes.
    Host(u32, u64),
    Reset,
    Swap,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// CPU 0 or 1; `None` for the current one, which in this host is always 0.
    from: Option<u32>,
    boot: bool,
    mask: u64,
    write: &'static str,
}

/// Few bits, so that values meet masks and each other often.
fn bits() -> impl Strategy<Value = u64> {
    (0..4_u64, 0..4_u64).prop_map(|(high, low)| high << 62 | low)
}

fn entry() -> impl Strategy<Value = Entry> {
    let write = prop_oneof![Just("fault"), Just("ignore"), Just("keep")];
    let mask = bits().prop_filter("it shows something", |mask| *mask != 0);
    (prop::option::of(0..2_u32), any::<bool>(), mask, write)
        .prop_map(|(from, boot, mask, write)| Entry { from, boot, mask, write })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Read),
        4 => bits().prop_map(Step::Write),
        4 => (0..2_u32, bits()).prop_map(|(cpu, value)| Step::Host(cpu, value)),
        1 => Just(Step::Reset),
        1 => Just(Step::Swap),
    ];
    prop::collection::vec(step, 0..32)
}

/// What a guest reads after these steps.
fn expected(entry: Entry, host: [u64; 2], history: &[Step]) -> u64 {
    let boot = history.iter().rposition(|step| matches!(step, Step::Reset)).unwrap_or(0);
    let written = history[boot..].iter().rev().find_map(|step| match step {
        Step::Write(value) => Some(*value),
        _ => None,
    });
    if let (Some(value), "keep") = (written, entry.write) {
        return value;
    }
    let asked = if entry.boot { &history[..boot] } else { history };
    let source = entry.from.unwrap_or(0);
    let value = asked.iter().rev().find_map(|step| match step {
        Step::Host(cpu, value) if *cpu == source => Some(*value),
        _ => None,
    });
    value.unwrap_or(host[source as usize]) & entry.mask
}

proptest! {
    #[test]
    fn a_value_is_the_hosts_until_the_guest_has_its_own(
        entry in entry(),
        first in (bits(), bits()),
        steps in steps(),
    ) {
        let Entry { from, boot, mask, write } = entry;
        let from = from.map_or("\"current\"".into(), |cpu| format!("{cpu}"));
        let when = if boot { "boot" } else { "read" };
        let config = format!(
            r#"{{"msrs": [{{"range": {MSR}, "from": {from}, "when": "{when}",
                "mask": "{mask:#x}", "write": "{write}"}}]}}"#
        );
        let host = Host::fresh();
        let tell = |cpu, value| {
            host.set_host_msr_on(cpu, MsrIndex(MSR), value);
            if cpu == 0 {
                host.set_host_msr(MsrIndex(MSR), value);
            }
        };
        host.set_host_cpus(2);
        tell(0, first.0);
        tell(1, first.1);
        let mut plugin: HostPassthrough = host.load(&config).unwrap();
        for (place, step) in steps.iter().enumerate() {
            let so_far = &steps[..=place];
            match *step {
                Step::Read => {}
                Step::Write(value) => {
                    let taken = if write == "fault" { Err(Otherwise::Fault) } else { Ok(()) };
                    prop_assert_eq!(plugin.wrmsr(access(MSR), value), taken);
                }
                Step::Host(cpu, value) => tell(cpu, value),
                Step::Reset => plugin.reset(),
                Step::Swap => {
                    let saved = host.save(&plugin, "0.1.0").unwrap();
                    plugin = host.load(&config).unwrap();
                    plugin.restore(&saved).unwrap();
                }
            }
            let read = plugin.rdmsr(access(MSR));
            prop_assert_eq!(read, Ok(expected(entry, [first.0, first.1], so_far)));
        }
    }
}
