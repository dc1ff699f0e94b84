//! Traces: accesses of a guest with the answers that must come, and what the
//! host around it is told to be. They are run through the real engine with no
//! hypervisor, so a plugin's answers can be pinned and compared on any machine.
//!
//! A trace is text: the profile's `[vm]` and `[[plugin]]` tables, a line `---`,
//! then a step a line; docs/traces.md lists them. What is right of `->` is the
//! answer.
//!
//! ```text
//! [[plugin]]
//! path = "arch_capabilities.wasm"
//! config = { value = 0x2b }
//! ---
//! r 0x10a -> 0x2b
//! w 0x10a 0 -> fault
//! ```

mod difference;
mod error;
mod host;
mod line;
mod rig;
mod step;
mod tables;
mod trace;

pub use difference::{Difference, blessed, differences};
pub use error::TraceError;
pub(crate) use host::ScriptedHost;
pub use rig::Rig;
pub(crate) use step::Fact;
pub use trace::{Swapped, Trace};
