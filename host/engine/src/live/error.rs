//! Why a set does not take over.

use std::sync::Arc;

use wasmsr_interface::ExitsRefused;

use crate::start::StartError;

/// Why another set did not take over. The set in charge goes on untouched.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// The VM has ended.
    #[error("the VM has ended, or its guest has just been reset; swap again when it runs")]
    Ended,
    /// Another set is on probation.
    #[error(
        "generation {0} is on probation; wait for its end, or roll back to the set before it first"
    )]
    OnProbation(u64),
    /// The set would change CPUID.
    #[error(
        "the new set changes CPUID otherwise than the one in charge, and KVM lets nothing of it \
         change in a guest that runs; reset the guest to boot with the new set"
    )]
    Cpuid,
    /// A plugin does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A plugin writes more before it is in charge than can be held back.
    #[error(
        "plugin `{0}` writes more guest memory or MSRs of KVM in its `init` and `restore` than \
         can be held back until it is in charge (512 writes and 1 MiB of memory, 65536 MSRs); let \
         it write later"
    )]
    TooManyWrites(Arc<str>),
    /// A plugin does not save its state.
    #[error("plugin `{plugin}` {version}, which is in charge, does not save its state: {why}")]
    Save {
        /// The plugin.
        plugin: Arc<str>,
        /// Its version.
        version: String,
        /// Its words, or its failure.
        why: String,
    },
    /// A plugin does not take the state.
    #[error("plugin `{plugin}` {version} does not take the state of version {from}: {why}")]
    Restore {
        /// The plugin.
        plugin: Arc<str>,
        /// Its version.
        version: String,
        /// The version in charge, which saved.
        from: String,
        /// Its words, or its failure.
        why: String,
    },
    /// The filter does not hold both sets.
    #[error(
        "what exits for the old set and for the new one does not fit KVM's filter together: {0}; \
         reset the guest to boot with the new set"
    )]
    Filter(ExitsRefused),
    /// There is no set to go back to.
    #[error("there is no set to roll back to: none was swapped in this boot")]
    NoFormer,
}

/// No plugin in charge has this name.
#[derive(Debug, thiserror::Error)]
#[error("no plugin in charge is called `{wanted}`; there are: {names}")]
pub struct NoSuchPlugin {
    pub(super) wanted: String,
    pub(super) names: String,
}
