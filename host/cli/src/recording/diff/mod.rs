//! `wasmsr recording diff`: two recordings side by side. The accesses of each vCPU in
//! each boot are aligned, as `diff` aligns lines of text. Outcomes are compared where
//! both recordings have the same access.

mod align;
mod comparison;
mod side;

use std::path::Path;

use anyhow::anyhow;

use self::comparison::Comparison;
use self::side::{Known, Side};
use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console::print;
use crate::terminal::plain::json;

/// Prints the differences.
pub(crate) fn diff(args: &args::RecordingDiff) -> Result<Code, Failure> {
    if args.a == Path::new("-") && args.b == Path::new("-") {
        return Err(Failure::input(anyhow!("standard input can be one recording, not both")));
    }
    let mut known = Known::default();
    let a = Side::read(&args.a, &args.filter, &mut known)?;
    let b = Side::read(&args.b, &args.filter, &mut known)?;
    let comparison = Comparison::new(&a, &b, &known, args.limit);
    let text = match args.json {
        true => json(&comparison).map_err(Failure::host)?,
        false => comparison.for_people(),
    };
    print(&text).map_err(Failure::output)?;
    Ok(if comparison.is_same() { Code::SUCCESS } else { Code::DIFFERENT })
}
