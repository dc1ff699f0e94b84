//! `wasmsr trace`: recordings of a guest's accesses, looked at.

mod call;
mod diff;
mod filter;
mod report;
mod show;
mod stats;
mod tally;
mod units;

pub(crate) use diff::diff;
pub(crate) use report::report;
pub(crate) use show::show;
pub(crate) use stats::stats;

use std::io;

use crate::exit::Failure;

/// What is said where standard output takes no more, as on a full disk.
fn unwritten(error: io::Error) -> Failure {
    Failure::host(anyhow::Error::new(error).context("cannot write to standard output"))
}
