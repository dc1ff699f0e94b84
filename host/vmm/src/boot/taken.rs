//! Why guest memory has no place for something.

/// Why a range cannot be had. Reads as a sentence after its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Taken {
    /// Not all of it is RAM.
    #[error("is outside guest memory; raise `memory`")]
    OutsideRam,
    /// Some of it is in use.
    #[error("overlaps another part of the guest")]
    Overlap,
}
