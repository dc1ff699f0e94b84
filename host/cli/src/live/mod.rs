//! The verbs that see and change running VMs.

mod act;
mod metrics;
mod operation;
mod ps;
mod record;
mod swap;

pub(crate) use act::{act, disable, enable, log};
pub(crate) use metrics::metrics;
pub(crate) use ps::ps;
pub(crate) use record::record;
pub(crate) use swap::{rollback, swap};
