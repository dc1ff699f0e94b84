//! `wasmsr recording`: shows, counts, compares and draws recordings of a guest's
//! accesses. `reader` and `rewrite` read and write recordings for every verb.

mod call;
mod diff;
mod filter;
pub(crate) mod reader;
mod report;
pub(crate) mod rewrite;
mod show;
mod stats;
mod tally;
mod units;

use crate::args::Recording;
use crate::exit::{Code, Failure};

/// Runs one of the verbs.
pub(crate) fn perform(verb: &Recording) -> Result<Code, Failure> {
    match verb {
        Recording::Show(args) => show::show(args),
        Recording::Stats(args) => stats::stats(args),
        Recording::Diff(args) => diff::diff(args),
        Recording::Report(args) => report::report(args),
    }
}
