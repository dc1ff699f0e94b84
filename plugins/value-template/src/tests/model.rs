//! Templates against a model that computes four bits of one MSR separately.

extern crate std;

use std::format;
use std::string::String;
use std::vec::Vec;

use proptest::prelude::*;
use wasmsr_sdk::native::{Host, access};
use wasmsr_sdk::{MsrIndex, Otherwise, Persist, Plugin, Reset};

use crate::ValueTemplate;

/// The bits that the model uses; no other is ever set.
const BITS: [u32; 4] = [0, 5, 62, 63];

const MSR: u32 = 0x1a0;

#[derive(Debug, Clone, Copy)]
enum Step {
    Read,
    Write(u64),
    /// KVM changes the value, as it does if the guest's writes do not exit.
    Kvm(u64),
    Reset,
    Swap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnWrite {
    NoExit,
    Fault,
    Ignore,
    Kernel,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    reads_exit: bool,
    hidden: bool,
    value: u64,
    mask: u64,
    on_write: OnWrite,
    read_only: u64,
}

impl Entry {
    fn json(self) -> String {
        let Entry { value, mask, read_only, .. } = self;
        let access = match (self.reads_exit, self.on_write != OnWrite::NoExit) {
            (true, true) => "rw",
            (true, false) => "r",
            (false, true) => "w",
            (false, false) => "none",
        };
        let mut json = format!(r#"{{"msrs": [{{"range": {MSR}, "access": "{access}""#);
        if mask != 0 {
            json += &format!(r#", "value": "{value:#x}", "mask": "{mask:#x}""#);
            json += if self.sticky() { "" } else { r#", "apply": "initial""# };
        }
        if self.hidden {
            json += r#", "read": "fault""#;
        }
        json += match self.on_write {
            OnWrite::NoExit => "",
            OnWrite::Fault => r#", "write": "fault""#,
            OnWrite::Ignore => r#", "write": "ignore""#,
            OnWrite::Kernel => r#", "write": "kernel""#,
        };
        if read_only != 0 {
            json += &format!(r#", "read-only": "{read_only:#x}""#);
        }
        json + "}]}"
    }

    fn sticky(self) -> bool {
        self.reads_exit && !self.hidden
    }
}

fn bits() -> impl Strategy<Value = u64> {
    (0..16_u64).prop_map(|n| (0..4).map(|at| (n >> at & 1) << BITS[at]).sum())
}

/// Entries that the plugin accepts.
fn entry() -> impl Strategy<Value = Entry> {
    let on_write = prop_oneof![
        Just(OnWrite::NoExit),
        Just(OnWrite::Fault),
        Just(OnWrite::Ignore),
        Just(OnWrite::Kernel),
    ];
    (any::<bool>(), any::<bool>(), bits(), bits(), on_write, bits())
        .prop_map(|(reads_exit, hidden, value, mask, on_write, read_only)| Entry {
            reads_exit,
            hidden: hidden && reads_exit,
            value: value & mask,
            mask,
            on_write,
            read_only: if on_write == OnWrite::Kernel { read_only } else { 0 },
        })
        .prop_filter("it has an effect", |entry| {
            let has_value = entry.mask != 0;
            let exits = entry.reads_exit || entry.on_write != OnWrite::NoExit;
            let answers = if entry.sticky() { has_value } else { exits || has_value };
            let forwards_a_part = entry.read_only != 0 || entry.sticky();
            answers && (entry.on_write != OnWrite::Kernel || forwards_a_part)
        })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Read),
        6 => bits().prop_map(Step::Write),
        2 => bits().prop_map(Step::Kvm),
        1 => Just(Step::Reset),
        1 => Just(Step::Swap),
    ];
    prop::collection::vec(step, 0..32)
}

/// KVM's bits, and those that a guest sees and changes.
struct Model {
    entry: Entry,
    kvm: [bool; 4],
}

impl Model {
    fn bit(value: u64, at: usize) -> bool {
        value >> BITS[at] & 1 == 1
    }

    fn number(bits: [bool; 4]) -> u64 {
        (0..4).map(|at| u64::from(bits[at]) << BITS[at]).sum()
    }

    fn split(value: u64) -> [bool; 4] {
        [0, 1, 2, 3].map(|at| Self::bit(value, at))
    }

    fn boot(&mut self) {
        if self.entry.sticky() {
            return;
        }
        for at in 0..4 {
            if Self::bit(self.entry.mask, at) {
                self.kvm[at] = Self::bit(self.entry.value, at);
            }
        }
    }

    fn is_templates(&self, at: usize) -> bool {
        self.entry.sticky() && Self::bit(self.entry.mask, at)
    }

    fn shown(&self, at: usize) -> bool {
        match self.is_templates(at) {
            true => Self::bit(self.entry.value, at),
            false => self.kvm[at],
        }
    }

    fn read(&self) -> Result<u64, Otherwise> {
        match (self.entry.reads_exit, self.entry.hidden) {
            (false, _) => Err(Otherwise::Kernel),
            (true, true) => Err(Otherwise::Fault),
            (true, false) => Ok(Self::number([0, 1, 2, 3].map(|at| self.shown(at)))),
        }
    }

    fn write(&mut self, value: u64) -> Result<(), Otherwise> {
        match self.entry.on_write {
            OnWrite::NoExit => return Err(Otherwise::Kernel),
            OnWrite::Fault => return Err(Otherwise::Fault),
            OnWrite::Ignore => return Ok(()),
            OnWrite::Kernel => {}
        }
        for at in 0..4 {
            let locked = Self::bit(self.entry.read_only, at);
            if locked && Self::bit(value, at) != self.shown(at) {
                return Err(Otherwise::Fault);
            }
        }
        for at in (0..4).filter(|&at| !self.is_templates(at)).collect::<Vec<_>>() {
            self.kvm[at] = Self::bit(value, at);
        }
        Ok(())
    }

    /// Whether a guest can have changed the initial value to KVM's value.
    fn can_be_handed_over(&self) -> bool {
        let locked = match self.entry.on_write {
            OnWrite::NoExit => 0,
            OnWrite::Fault | OnWrite::Ignore => self.entry.mask,
            OnWrite::Kernel => self.entry.read_only & self.entry.mask,
        };
        self.entry.sticky()
            || (0..4)
                .all(|at| !Self::bit(locked, at) || self.kvm[at] == Self::bit(self.entry.value, at))
    }
}

proptest! {
    #[test]
    fn every_bit_follows_the_template(
        entry in entry(),
        kvm in bits(),
        steps in steps(),
    ) {
        let host = Host::fresh();
        let held = || host.kvm_msr(MsrIndex(MSR)).unwrap();
        host.set_kvm_msr(MsrIndex(MSR), kvm);
        let mut plugin: ValueTemplate = host.load(&entry.json()).unwrap();
        let mut model = Model { entry, kvm: Model::split(kvm) };
        model.boot();
        for step in steps {
            match step {
                Step::Read => prop_assert_eq!(plugin.rdmsr(access(MSR)), model.read()),
                Step::Write(value) => {
                    prop_assert_eq!(plugin.wrmsr(access(MSR), value), model.write(value));
                }
                Step::Kvm(value) => {
                    host.set_kvm_msr(MsrIndex(MSR), value);
                    model.kvm = Model::split(value);
                }
                Step::Reset => {
                    plugin.reset();
                    model.boot();
                }
                Step::Swap => {
                    let saved = host.save(&plugin, "0.1.0").unwrap();
                    plugin = host.load(&entry.json()).unwrap();
                    let restored = plugin.restore(&saved);
                    prop_assert_eq!(restored.is_ok(), model.can_be_handed_over());
                    if restored.is_err() {
                        model.boot();
                    }
                }
            }
            prop_assert_eq!(held(), Model::number(model.kvm));
        }
    }

    /// Firecracker's `RegisterValueFilter::apply`, on whole numbers.
    #[test]
    fn an_initial_value_is_firecrackers(kvm: u64, value: u64, mask in 1..=u64::MAX) {
        let host = Host::fresh();
        host.set_kvm_msr(MsrIndex(MSR), kvm);
        let value = value & mask;
        let config = format!(
            r#"{{"msrs": [{{"range": {MSR}, "value": "{value:#x}", "mask": "{mask:#x}",
                "access": "none", "apply": "initial"}}]}}"#
        );
        host.load::<ValueTemplate>(&config).unwrap();
        prop_assert_eq!(host.kvm_msr(MsrIndex(MSR)), Some((kvm & !mask) | value));
    }
}
