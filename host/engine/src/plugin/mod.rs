//! Plugins: what one is on disk, and one alive. The only folder that names
//! wasmtime.

mod abi;
mod cache;
mod capability;
mod hostcalls;
mod instance;
mod listed;
mod log;
mod manifest;
mod module;
mod overlap;
mod places;

pub use abi::{HOST_CALLS, HostCall};
pub use cache::{CacheError, CodeCache};
pub use capability::{Capability, Grant, ParseCapabilityError};
pub(crate) use instance::{Answer, Failure, Instance, InstanceError, Surroundings};
pub use listed::{ListedClaim, ListedError};
pub(crate) use log::Log;
pub use manifest::{
    ABI_VERSION, About, CpuidLeaf, Intercept, MANIFEST_SECTION, Manifest, ManifestError, MsrClaim,
    Needs, RegisterSpec, Scope, Unhandled, UnhandledReason,
};
pub(crate) use module::{Compiler, Plugin};
pub use module::{Inspection, MAX_FILE_SIZE, ModuleError, inspect, read_manifest};
