//! The SDK for wasmsr plugins in Rust.
//!
//! A plugin is a type that answers a guest's `rdmsr` and `wrmsr`:
//!
//! ```
//! use wasmsr_sdk::{Access, Error, Otherwise, Plugin, Setup};
//!
//! struct Counter(u64);
//!
//! impl Plugin for Counter {
//!     fn new(_: &Setup) -> Result<Self, Error> {
//!         Ok(Counter(0))
//!     }
//!
//!     fn rdmsr(&mut self, _: Access) -> Result<u64, Otherwise> {
//!         self.0 = self.0.wrapping_add(1);
//!         Ok(self.0)
//!     }
//! }
//! ```
//!
//! [`export!`] turns it into a module of ABI version 1, with the `plugin.toml`
//! beside the crate's `Cargo.toml` as its manifest. On a target other than
//! Wasm the same crate is an ordinary library, in which [`native`] stands in
//! for the host, so `cargo test` tests it.
//!
//! - Lifecycle: [`Plugin`], and the hooks [`Reset`], [`Persist`], [`Timer`] and
//!   [`Report`].
//! - State across versions: [`Versioned`], with a [`Format`] for what each version saves.
//! - Configuration: [`Setup::config`], with [`Bits64`], [`MsrIndex`] and
//!   [`MsrRange`] for numbers that TOML cannot write, or that people read in hex.
//! - Host calls without a capability: [`log`], [`time`], [`vcpus`].
//! - Host calls with a capability: [`memory`], [`kvm`], [`host`], [`intercept`],
//!   [`timer`].
//! - Clocks that the guest computes from its time-stamp counter: [`clock`].

#![no_std]

extern crate alloc;
#[cfg(not(target_arch = "wasm32"))]
extern crate std;

mod abi;
mod access;
pub mod clock;
mod error;
#[doc(hidden)]
pub mod export;
mod format;
mod hostcalls;
#[cfg(target_arch = "wasm32")]
mod imports;
#[doc(hidden)]
pub mod manifest;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;
mod number;
mod plugin;
#[cfg(target_arch = "wasm32")]
mod runtime;
mod saved;
mod setup;
mod version;
mod versioned;

pub use access::{Access, MsrIndex, MsrRange, Otherwise, Reason, VcpuId};
pub use error::Error;
pub use format::{Follows, Format, Oldest};
pub use hostcalls::{Refused, host, intercept, kvm, log, memory, time, timer, vcpus};
pub use number::Bits64;
pub use plugin::{Persist, Plugin, Report, Reset, Timer};
pub use saved::Saved;
pub use setup::{ListedAccess, Setup};
pub use version::{Older, Version};
pub use versioned::{Exported, Versioned};

#[cfg(target_arch = "wasm32")]
use imports as raw;
#[cfg(not(target_arch = "wasm32"))]
use native::imports as raw;
