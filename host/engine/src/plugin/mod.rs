//! Plugins: what one is on disk, and one alive. The only folder that names
//! wasmtime.

mod abi;
mod cache;
mod capability;
mod hostcalls;
mod instance;
pub mod limits;
mod listed;
mod log;
mod manifest;
mod module;
mod overlap;
mod places;

pub use abi::{
    EXPORTS, Export, Fuel, IMPORTS, Import, Needed, Number, OTHER_NUMBERS, OUTCOMES, REASONS,
};
pub use cache::{CacheError, CodeCache};
#[cfg(test)]
pub(crate) use capability::CAPABILITIES;
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
