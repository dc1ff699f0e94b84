//! `wasmsr record`: begins and ends a recording in a running VM.

use wasmsr_stats::control::Record;

use super::operation::perform;
use super::swap::absolute;
use crate::args;
use crate::exit::{Code, Failure};

/// Begins or ends a recording, or writes out what a ring holds.
pub(crate) fn record(args: &args::Record) -> Result<Code, Failure> {
    let (vm, _) = wasmsr_stats::find(Some(&args.vm))?;
    let asked = Record {
        file: args.file.as_deref().map(absolute).transpose()?,
        limit: args.limit.map(|limit| limit.as_u64()),
        off: args.off,
        dump: args.dump,
    };
    perform(&vm, "record", &asked, |_| true)?;
    Ok(Code::SUCCESS)
}
