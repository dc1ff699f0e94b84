//! The numbers of the ABI, and their names in wasmsr.h.

use wasmsr_interface::Reason;

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    /// Its name in wasmsr.h, without `WASMSR_`.
    pub name: &'static str,
    /// Its value.
    pub value: u32,
    /// What it means, as the ABI reference says it.
    pub meaning: &'static str,
}

/// What `outcome` takes.
pub(in crate::plugin) const FAULT: u32 = 1;
pub(in crate::plugin) const PASS: u32 = 2;
pub(in crate::plugin) const KERNEL: u32 = 3;

/// Levels of `log`.
pub(in crate::plugin) const ERROR: u32 = 1;
pub(in crate::plugin) const WARNING: u32 = 2;
pub(in crate::plugin) const INFO: u32 = 3;
const DEBUG: u32 = 4;

/// Directions of `intercept`, and both.
pub(in crate::plugin) const READS: u32 = 1;
pub(in crate::plugin) const WRITES: u32 = 2;
pub(in crate::plugin) const BOTH: u32 = READS | WRITES;

/// What exports and host calls return.
pub(in crate::plugin) const DONE: u32 = 0;
pub(in crate::plugin) const REFUSED: u32 = 1;
pub(in crate::plugin) const DOES_NOT_FIT: u32 = 2;
pub(in crate::plugin) const NO_FILE: u32 = u32::MAX;

/// What `init` gets in an instance of the VM.
pub(in crate::plugin) const NO_VCPU: u32 = u32::MAX;

/// Why an access left the kernel: KVM's numbers.
pub const REASONS: &[Number] = &[
    number(
        "REASON_INVALID",
        Reason::Invalid as u32,
        "KVM knows the MSR and refuses this access (invalid)",
    ),
    number("REASON_UNKNOWN", Reason::Unknown as u32, "KVM does not know the MSR (unknown)"),
    number("REASON_FILTER", Reason::Filter as u32, "a plugin claims it (filter)"),
];

/// How an access ends that is not answered.
pub const OUTCOMES: &[Number] = &[
    number("FAULT", FAULT, "a #GP in the guest"),
    number(
        "PASS",
        PASS,
        "passed on to the next plugin that claims the MSR, and after the last to the profile's \
         policy",
    ),
    number(
        "KERNEL",
        KERNEL,
        "what KVM alone would have given the guest on this vCPU; what KVM refuses to a guest is a #GP",
    ),
];

/// All other numbers.
pub const OTHER_NUMBERS: &[Number] = &[
    number("ERROR", ERROR, "level of `log`"),
    number("WARNING", WARNING, "level of `log`"),
    number("INFO", INFO, "level of `log`"),
    number("DEBUG", DEBUG, "level of `log`"),
    number("READS", READS, "direction of `intercept`"),
    number("WRITES", WRITES, "direction of `intercept`"),
    number("NOT_CLAIMED", REFUSED, "of `intercept`: the manifest does not claim all of them"),
    number("DOES_NOT_FIT", DOES_NOT_FIT, "of `intercept`: the result does not fit KVM's filter"),
    number("DONE", DONE, "of `init`, `save` and `restore`"),
    number("REFUSED", REFUSED, "of `init`, `save` and `restore`"),
    number("NO_VCPU", NO_VCPU, "what `init` gets in an instance of scope `vm`"),
    number("NO_FILE", NO_FILE, "of `host_file`: there is none to be read"),
];

const fn number(name: &'static str, value: u32, meaning: &'static str) -> Number {
    Number { name, value, meaning }
}
