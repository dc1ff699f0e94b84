//! Answers a virtual machine's MSR accesses with WebAssembly plugins.
//!
//! The engine knows no hypervisor. A VMM reads a [`Profile`], and [`Engine::load`]
//! compiles and checks its plugins. The VMM makes its MSR filter from [`Engine::exits`]
//! and its CPUID from [`Engine::cpuid`], gives [`Engine::start`] a
//! [`Host`](wasmsr_interface::Host), and then calls
//! [`MsrHandler::answer`](wasmsr_interface::MsrHandler::answer) for every MSR exit of a
//! vCPU, on the thread that runs it.
//!
//! Data flows one way: profile, compiled plugins, MSR map, filter, exit,
//! [`MsrAccess`](wasmsr_interface::MsrAccess), [`Outcome`](wasmsr_interface::Outcome).
//! Neither a guest nor a plugin can make this crate panic or block for long.

mod dispatch;
mod engine;
mod intercepts;
pub mod limits;
pub mod live;
pub mod manifest;
mod metrics;
pub mod msr;
pub mod plugin;
pub mod profile;
mod rate_limit;
pub mod record;
pub mod replay;
mod save;
pub mod script;
mod shadow;
mod slots;
mod start;
mod state;
pub mod text_file;
pub mod toml_file;

pub use dispatch::{InstanceInfo, Report, Reports, VcpuDispatch};
pub use engine::{
    Engine, ListedPlace, LoadError, LoadOptions, MapEntry, PluginInfo, YieldedPlugin,
};
pub use intercepts::FilterChange;
pub use manifest::{CpuidConflict, CpuidRefused, CpuidSource};
pub use metrics::{Latency, Metrics, MsrCounts};
pub use profile::{Profile, ProfileError};
pub use save::{RestoreError, SaveError};
pub use shadow::{MsrAgreement, ReturnCause, ShadowCounts, ShadowTallies, Terms};
pub use start::{StartError, Started};
pub use state::{SavedState, StateError};
pub use toml_file::{Place, TomlError};
