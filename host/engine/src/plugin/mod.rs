//! Plugins: what one is on disk, and one alive. The only folder that names
//! wasmtime.

mod abi;
mod answer;
mod bodies;
mod cache;
mod check;
mod description;
mod error;
mod file;
mod hostcalls;
mod inspect;
mod instance;
mod log;
mod module;
mod pack;
mod store;

pub use abi::{
    EXPORTS, Export, Fuel, IMPORTS, Import, Needed, Number, OTHER_NUMBERS, OUTCOMES, REASONS,
};
pub(crate) use answer::{Answer, Cause, Failure, InstanceError};
pub use cache::{CacheError, CodeCache};
pub use error::ModuleError;
pub use inspect::{Inspection, inspect, manifest_text, read_manifest, read_module};
pub(crate) use instance::{Instance, Written};
pub(crate) use log::Log;
pub(crate) use module::{Compiler, Plugin};
pub use pack::{Packed, pack};
pub(crate) use store::Surroundings;
