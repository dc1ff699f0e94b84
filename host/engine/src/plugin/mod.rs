//! Plugins: what one is on disk, and one alive. The only folder that names
//! wasmtime.

mod abi;
mod cache;
mod hostcalls;
mod instance;
mod manifest;
mod module;

pub use abi::{HOST_CALLS, HostCall};
pub use cache::{CacheError, CodeCache};
pub(crate) use instance::{Answer, Failure, Instance, InstanceError, Surroundings};
pub use manifest::{
    ABI_VERSION, About, Capability, CpuidLeaf, Intercept, MANIFEST_SECTION, Manifest,
    ManifestError, MsrClaim, Needs, ParseCapabilityError, RegisterSpec, Scope, Unhandled,
    UnhandledReason,
};
pub(crate) use module::{Compiler, Plugin};
pub use module::{Inspection, MAX_FILE_SIZE, ModuleError, inspect};
