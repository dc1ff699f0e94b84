//! The table of MSRs: what each is called, who has it, and what KVM does with it.
//!
//! Rows come from the files in `data/`; the README there says how to edit them.
//! [`name`] and [`index_of`] read a compact half of the table, so that a plugin that only
//! prints or reads names does not carry the rest.

#![no_std]

mod msr;
mod nearest;
mod search;
mod shipped;
#[cfg(test)]
mod tests;

pub use msr::{Access, Kvm, Msr, Scope, Vendor};
pub use nearest::nearest;
pub use search::{all, find, index_of, name, names};
pub use shipped::{Shipped, shipped, shipped_for};
