//! `wasmsr trace`: recordings of a guest's accesses, looked at. A recording may
//! be anybody's file, and so may say anything.

mod call;
mod diff;
mod filter;
mod plain;
mod recording;
mod report;
mod show;
mod stats;
mod tally;
mod units;

pub(crate) use diff::diff;
pub(crate) use report::report;
pub(crate) use show::show;
pub(crate) use stats::stats;
