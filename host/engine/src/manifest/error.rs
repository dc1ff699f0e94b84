//! What can be wrong with a manifest.

use wasmsr_interface::MsrRange;

use super::listed::ListedError;
use super::name::NAME_RULE;
use super::tables::ABI_VERSION;
use crate::toml_file::{Place, TomlError};

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not the TOML of a manifest.
    #[error(transparent)]
    Toml(#[from] TomlError),
    /// A mistake with its place in the text.
    #[error("{place}: {mistake}")]
    At {
        /// Where it is.
        place: Place,
        /// What it is.
        mistake: Box<ManifestError>,
    },
    /// Not UTF-8.
    #[error("it is not UTF-8 text")]
    Utf8,
    /// A name that is not allowed.
    #[error("plugin name `{0}` must be {NAME_RULE}")]
    Name(String),
    /// Built for another ABI.
    #[error(
        "it is built for ABI {0}, and this wasmsr speaks ABI {ABI_VERSION}; build the plugin with a matching SDK"
    )]
    Abi(u32),
    /// Nothing to answer.
    #[error("it names no MSR; add an [[msr]] table or [unhandled] reasons")]
    Idle,
    /// A claim with neither, or both.
    #[error("[[msr]] takes either `range` or `config`, the key where the profile lists the MSRs")]
    RangeOrConfig,
    /// A claim with a condition that the profile would list.
    #[error("msr in [[when]] takes `range`, the MSRs, and not `config`")]
    RangeOnly,
    /// An entry of the configuration that is not a claim.
    #[error(transparent)]
    Listed(#[from] ListedError),
    /// A claim that nothing could turn on.
    #[error(
        "[[msr]] {0} says intercept = \"off\", but nothing could turn it on; add `intercept` to \
         [needs] capabilities"
    )]
    Reserved(String),
    /// A plugin overlaps itself.
    #[error("the ranges {0} and {1} overlap; write each MSR and direction once")]
    Overlap(MsrRange, MsrRange),
    /// A CPUID register that contradicts itself.
    #[error("[[cpuid]] leaf {leaf:#x}, subleaf {subleaf:#x}, {register}: {message}")]
    Cpuid {
        /// The leaf.
        leaf: u32,
        /// The subleaf.
        subleaf: u32,
        /// The register's name.
        register: &'static str,
        /// What is wrong with it.
        message: String,
    },
}

impl ManifestError {
    /// With its place, where the text has one.
    pub(super) fn at(self, place: Option<Place>) -> Self {
        match place {
            Some(place) => ManifestError::At { place, mistake: Box::new(self) },
            None => self,
        }
    }
}
