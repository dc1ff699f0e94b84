//! What KVM itself would answer to a guest's access, as far as it can be asked.

use std::fmt;

/// What KVM would do with a guest's own access; nothing of the guest changes by the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvmAnswer {
    /// A read's value.
    Value(u64),
    /// It takes the write, and a VMM would then read this; `None` if it cannot be read.
    Taken(Option<u64>),
    /// #GP in the guest: KVM does not know the MSR, or refuses this access or value.
    Fault,
    /// The question has no answer that could be held against another one: the MSR runs with
    /// time, acts through the guest's memory, depends on other MSRs, or there is no KVM.
    NotComparable,
}

/// As [`Outcome`](crate::Outcome) has it.
impl fmt::Display for KvmAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvmAnswer::Value(value) => write!(f, "{value:#x}"),
            KvmAnswer::Taken(_) => f.write_str("ok"),
            KvmAnswer::Fault => f.write_str("fault"),
            KvmAnswer::NotComparable => f.write_str("not comparable"),
        }
    }
}
