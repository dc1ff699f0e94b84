//! Shadows: plugins that are put the accesses of another plugin, which stays in
//! charge. Their answers are compared and discarded, and what they would change is
//! not changed.
//!
//! A shadow gets the replies that the plugin in charge got to the same host calls, so
//! that a clock read a moment later is not a difference.

mod agreement;
mod beside;
mod counts;
mod difference;
mod follower;
mod judge;
mod kernel;
mod plan;
mod read_only_host;
mod tally;

pub use agreement::MsrAgreement;
pub(crate) use beside::beside;
pub use counts::ShadowCounts;
pub(crate) use difference::Occasion;
pub(crate) use follower::{Asked, Follower, Shadows};
pub(crate) use judge::{Answered, Compared, Judge};
pub use judge::{ReturnCause, Terms};
pub(crate) use kernel::{KernelFollower, KernelShadows};
pub(crate) use plan::ShadowPlan;
pub(crate) use read_only_host::ReadOnlyHost;
pub use tally::ShadowTallies;
pub(crate) use tally::Tally;
