//! Answers a virtual machine's MSR accesses with WebAssembly plugins.
//!
//! The engine knows no hypervisor. A VMM reads a [`Profile`], lets
//! [`Engine::load`] compile and check its plugins, makes its MSR filter from
//! [`Engine::exits`] and its CPUID from [`Engine::cpuid`], gives
//! [`Engine::start`] a [`Host`], and then calls [`MsrHandler::answer`] for
//! every MSR exit of a vCPU, on the thread that runs it.
//!
//! Data flows one way: profile, compiled plugins, MSR map, filter, exit,
//! [`MsrAccess`](msr::MsrAccess), [`Outcome`](msr::Outcome). Neither a guest nor
//! a plugin can make this crate panic, block, or grow without bound.

mod claims;
mod cpuid;
mod difference;
mod dispatch;
mod engine;
mod error;
mod intercepts;
mod latency;
mod metrics;
pub mod msr;
mod observers;
mod order_lock;
pub mod plugin;
pub mod profile;
mod rate_limit;
mod read_only_host;
pub mod record;
#[cfg(test)]
mod reference;
mod report;
pub mod script;
mod shadow;
mod slot;
mod start;
mod state;
mod toml_file;
mod unhandled_log;

pub use cpuid::CpuidConflict;
pub use dispatch::{InstanceInfo, VcpuDispatch};
pub use engine::{Engine, LoadOptions, MapEntry, PluginInfo, Started, YieldedPlugin};
pub use error::{LoadError, RestoreError, SaveError, StartError};
pub use latency::Latency;
pub use metrics::{Metrics, MsrCounts};
pub use profile::{Profile, ProfileError};
pub use report::{Report, Reports};
pub use shadow::{ShadowCounts, ShadowTallies};
pub use state::{SavedState, StateError};
pub use toml_file::{Place, TomlError};
