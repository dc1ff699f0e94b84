//! ABI 1: which exports and imports a plugin may have, of which types, and what
//! they cost.

mod fuel;
mod numbers;
#[cfg(test)]
mod reference;

use std::fmt::Display;

pub use fuel::Fuel;
pub(super) use numbers::{
    BOTH, DOES_NOT_FIT, DONE, ERROR, FAULT, INFO, KERNEL, NO_FILE, NO_VCPU, PASS, READS, REFUSED,
    WARNING, WRITES,
};
pub use numbers::{Number, OTHER_NUMBERS, OUTCOMES, REASONS};
use wasmsr_interface::Direction;

/// One import that ABI 1 offers.
#[derive(Debug, Clone, Copy)]
pub struct Import {
    /// Name within the import module `wasmsr`.
    pub name: &'static str,
    /// Its type, with names of the parameters.
    pub signature: &'static str,
    /// The capability that it needs; `None` where it is free.
    pub capability: Option<&'static str>,
    /// What it costs.
    pub fuel: Fuel,
    /// What it does, as the ABI reference says it.
    pub meaning: &'static str,
}

impl Import {
    /// Its type as Wasm knows it: [`Import::signature`] without the names.
    pub fn ty(&self) -> String {
        without_names(self.signature)
    }
}

/// All host calls.
pub const IMPORTS: &[Import] = &[
    free(
        "outcome",
        "(kind: i32) -> ()",
        fuel::NONE,
        "within `rdmsr` and `wrmsr`: ends the access otherwise, see below",
    ),
    free(
        "log",
        "(level: i32, ptr: i32, len: i32) -> ()",
        fuel::EACH_BYTE,
        "a line of UTF-8 for wasmsr's log: level 1 error, 2 warning, 3 info, 4 debug; cut \
         after 1024 bytes",
    ),
    free(
        "config",
        "(ptr: i32, cap: i32) -> i32",
        fuel::BYTES_COPIED,
        "the profile's `config` as JSON text, `{}` without one: copies at most `cap` bytes to \
         `ptr`, returns the length of the whole",
    ),
    free("tsc", "() -> i64", fuel::SYSTEM_CALL, "the guest's TSC on this vCPU, now"),
    free("tsc_khz", "() -> i32", fuel::NONE, "its frequency"),
    free(
        "monotonic_ns",
        "() -> i64",
        fuel::CHEAP,
        "nanoseconds of the host's monotonic clock since the VM was built",
    ),
    free(
        "realtime_ns",
        "() -> i64",
        fuel::CHEAP,
        "nanoseconds of the host's time of day since 1970, UTC",
    ),
    free(
        "tsc_is_stable",
        "() -> i32",
        fuel::SYSTEM_CALL,
        "1 if the TSCs of all vCPUs agree and will go on so (KVM api 4.29, \
         `KVM_CLOCK_TSC_STABLE`), else 0",
    ),
    free("vcpus", "() -> i32", fuel::NONE, "how many vCPUs the VM has"),
    free(
        "vcpu_times",
        "(vcpu: i32, ptr: i32) -> i32",
        fuel::SYSTEM_CALL,
        "two times 8 bytes, little endian, at `ptr`: the nanoseconds that the vCPU's thread \
         has run, and waited for a CPU; 0, or 1 if it has not started or the host does not count",
    ),
    free("host_cpus", "() -> i32", fuel::SYSTEM_CALL, "how many CPUs the host has online"),
    behind(
        "guest-memory",
        "guest_read",
        "(gpa: i64, ptr: i32, len: i32) -> i32",
        fuel::EACH_BYTE,
        "copies guest-physical memory to `ptr`; 0, or 1 if any of it is not RAM",
    ),
    behind(
        "guest-memory",
        "guest_write",
        "(gpa: i64, ptr: i32, len: i32) -> i32",
        fuel::EACH_BYTE,
        "copies to guest-physical memory; 0, or 1 if any of it is not RAM, and then nothing \
         is written",
    ),
    behind(
        "kvm-msr",
        "kvm_rdmsr",
        "(index: i32, ptr: i32) -> i32",
        fuel::SYSTEM_CALL,
        "KVM's own value of an MSR on this vCPU, as a VMM reads it, 8 bytes, little endian, at \
         `ptr`; 0, or 1 if KVM has none",
    ),
    behind(
        "kvm-msr",
        "kvm_wrmsr",
        "(index: i32, value: i64) -> i32",
        fuel::SYSTEM_CALL,
        "sets it as a VMM does, to restore a state: KVM takes more than from a guest; 0, or 1 \
         if KVM refuses",
    ),
    behind(
        "kvm-msr",
        "kvm_rdmsr_as_guest",
        "(index: i32, ptr: i32) -> i32",
        fuel::AS_GUEST_READ,
        "what KVM alone would give the guest for its `rdmsr`, 8 bytes, little endian, at `ptr`; \
         0, or 1 if that is a #GP",
    ),
    behind(
        "kvm-msr",
        "kvm_wrmsr_as_guest",
        "(index: i32, value: i64) -> i32",
        fuel::AS_GUEST_WRITE,
        "does what KVM alone would do for the guest's `wrmsr`: it may drop bits, or the whole \
         write; 0, or 1 if that is a #GP, and then nothing is changed",
    ),
    behind(
        "host-msr",
        "host_rdmsr",
        "(index: i32, ptr: i32) -> i32",
        fuel::SYSTEM_CALL,
        "the physical CPU's value of an MSR, 8 bytes, little endian, at `ptr`; 0, or 1 if \
         this MSR is not asked for and granted, or the host does not let it be read",
    ),
    behind(
        "host-msr",
        "host_rdmsr_on",
        "(cpu: i32, index: i32, ptr: i32) -> i32",
        fuel::SYSTEM_CALL,
        "the same on the host's CPU of this number",
    ),
    behind(
        "host-file",
        "host_file",
        "(name: i32, name_len: i32, ptr: i32, cap: i32) -> i32",
        fuel::FILE,
        "copies the beginning of the file that is granted under this name to `ptr`, at most \
         `cap` and at most 4096 bytes; returns how many, or -1 if there is none to be read",
    ),
    behind(
        "intercept",
        "intercept",
        "(first: i32, last: i32, directions: i32, on: i32) -> i32",
        fuel::REPACK,
        "lets accesses to `first` to `last` exit (`on` not 0), or leaves them to KVM; \
         directions: bit 0 reads, bit 1 writes; 0, or 1 if the manifest does not claim all of \
         them, or 2 if the result does not fit KVM's filter, and then nothing changes",
    ),
    behind(
        "timer",
        "timer",
        "(at_ns: i64) -> i32",
        fuel::SYSTEM_CALL,
        "has the export `timer` called when `monotonic_ns` has reached `at_ns`, no sooner \
         than in 1 ms; replaces an earlier one; 0",
    ),
    free(
        "save_state",
        "(ptr: i32, len: i32) -> i32",
        fuel::EACH_BYTE,
        "within `save`: the state; 0, or 1 if it has more than 64 KiB",
    ),
    free(
        "save_version",
        "(ptr: i32, cap: i32) -> i32",
        fuel::BYTES_COPIED,
        "within `save`: the older version of the plugin for which the state is to be written, \
         as `config` gives its text; 0 if it is for no older one",
    ),
    free(
        "saved_state",
        "(ptr: i32, cap: i32) -> i32",
        fuel::BYTES_COPIED,
        "within `restore`: the saved state, as `config` gives its text",
    ),
    free(
        "saved_version",
        "(ptr: i32, cap: i32) -> i32",
        fuel::BYTES_COPIED,
        "within `restore`: the version of the plugin that saved it, likewise",
    ),
    free(
        "report_text",
        "(ptr: i32, len: i32) -> ()",
        fuel::EACH_BYTE,
        "within `report`: lines of UTF-8 for people, cut after 64 KiB; the last call counts",
    ),
];

const fn free(
    name: &'static str,
    signature: &'static str,
    fuel: Fuel,
    meaning: &'static str,
) -> Import {
    Import { name, signature, capability: None, fuel, meaning }
}

const fn behind(
    capability: &'static str,
    name: &'static str,
    signature: &'static str,
    fuel: Fuel,
    meaning: &'static str,
) -> Import {
    Import { name, signature, capability: Some(capability), fuel, meaning }
}

/// What the host call of this name costs; found out when wasmsr is compiled,
/// which fails for a name that the table does not have.
#[expect(clippy::panic, reason = "only the compiler calls it")]
pub(super) const fn fuel_of(name: &str) -> Fuel {
    let mut calls = IMPORTS;
    while let [call, others @ ..] = calls {
        if same(call.name.as_bytes(), name.as_bytes()) {
            return call.fuel;
        }
        calls = others;
    }
    panic!("no host call has this name")
}

const fn same(mut a: &[u8], mut b: &[u8]) -> bool {
    while let ([x, a_rest @ ..], [y, b_rest @ ..]) = (a, b) {
        if *x != *y {
            return false;
        }
        (a, b) = (a_rest, b_rest);
    }
    a.is_empty() && b.is_empty()
}

/// One export that ABI 1 knows.
#[derive(Debug, Clone, Copy)]
pub struct Export {
    /// Its name.
    pub name: &'static str,
    /// Its type, with names of the parameters.
    pub signature: &'static str,
    /// Which plugins must have it.
    pub needed: Needed,
    /// What it is for, as the ABI reference says it.
    pub meaning: &'static str,
}

impl Export {
    /// Its type as Wasm knows it: [`Export::signature`] without the names.
    pub fn ty(&self) -> String {
        without_names(self.signature)
    }
}

/// Which plugins must have an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needed {
    /// All.
    Always,
    /// Those that answer in this direction.
    For(Direction),
    /// None.
    No,
}

/// All exports.
pub const EXPORTS: &[Export] = &[
    Export {
        name: "memory",
        signature: "memory",
        needed: Needed::Always,
        meaning: "where the host reads and writes what pointers name",
    },
    Export {
        name: "wasmsr_abi_v1",
        signature: "() -> ()",
        needed: Needed::Always,
        meaning: "marks the version; never called",
    },
    Export {
        name: "rdmsr",
        signature: "(index: i32, vcpu: i32, reason: i32) -> i64",
        needed: Needed::For(Direction::Read),
        meaning: "answers a read",
    },
    Export {
        name: "wrmsr",
        signature: "(index: i32, value: i64, vcpu: i32, reason: i32) -> ()",
        needed: Needed::For(Direction::Write),
        meaning: "takes a write",
    },
    Export {
        name: "init",
        signature: "(vcpu: i32) -> i32",
        needed: Needed::No,
        meaning: "called once, before everything else",
    },
    Export {
        name: "reset",
        signature: "() -> ()",
        needed: Needed::No,
        meaning: "the guest was reset and the instance stays",
    },
    Export {
        name: "save",
        signature: "() -> i32",
        needed: Needed::No,
        meaning: "hands its state over with `save_state`; 0 if it did",
    },
    Export {
        name: "restore",
        signature: "() -> i32",
        needed: Needed::No,
        meaning: "takes over a saved state, after `init`; 0 if it did",
    },
    Export {
        name: "timer",
        signature: "() -> ()",
        needed: Needed::No,
        meaning: "the time has come that was asked for with `timer`",
    },
    Export {
        name: "report",
        signature: "() -> ()",
        needed: Needed::No,
        meaning: "the run has ended and no vCPU runs: may tell people something with `report_text`",
    },
];

/// The names, for errors.
pub(super) fn names() -> impl Display {
    IMPORTS.iter().map(|call| call.name).collect::<Vec<_>>().join(", ")
}

/// A signature without the names of its parameters, as the check of a module writes it.
fn without_names(signature: &str) -> String {
    let Some((parameters, result)) = signature.split_once(" -> ") else {
        return signature.to_owned();
    };
    let bare = |list: &str| {
        let list = list.trim_start_matches('(').trim_end_matches(')').split(", ");
        list.map(|value| value.rsplit(": ").next().unwrap_or(value)).collect::<Vec<_>>().join(", ")
    };
    format!("({}) -> ({})", bare(parameters), bare(result))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_for_people() {
        assert_eq!(without_names("(a: i32, bc: i64) -> i32"), "(i32, i64) -> (i32)");
        assert_eq!(without_names("() -> ()"), "() -> ()");
        assert_eq!(without_names("memory"), "memory");
    }
}
