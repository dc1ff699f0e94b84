//! A VM's plugins that can be swapped while its guest runs.
//!
//! Another set is made ready aside. Then the locks of all vCPUs are taken, so that no access
//! is half answered; state is carried over, the sets change places, and the locks are let go.
//! A vCPU that is in the guest meanwhile notices nothing, and one that comes with an access
//! waits for that long. While two sets matter, what either wants exits.

mod aside;
mod carry;
mod cell;
mod disable;
mod error;
mod exchange;
mod fate;
mod host;
mod probation;
mod record;
mod set;
mod start;
mod swap;
mod trial;
mod vcpu;
mod vm;

pub use error::{NoSuchPlugin, SwapError};
pub use fate::Fate;
pub use set::Sources;
pub use start::LiveStart;
pub use trial::Verdict;
pub use vcpu::LiveVcpu;
pub use vm::{Live, Swapped};
