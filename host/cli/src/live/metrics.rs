//! `wasmsr metrics`: the metrics of all VMs of this user, from one exporter.

use std::sync::mpsc;

use anyhow::Context;
use wasmsr_stats::{Exporter, OfferError};

use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::{console, signals};

/// Prints the metrics, or serves them until a signal comes.
pub(crate) fn metrics(args: &args::Metrics) -> Result<Code, Failure> {
    let Some(address) = &args.listen else {
        console::print(&wasmsr_stats::metrics_of_all()).map_err(Failure::output)?;
        return Ok(Code::SUCCESS);
    };
    let (sender, ends) = mpsc::channel();
    let first = move |signal: i32| {
        // Without a receiver, the exporter has ended.
        let _ = sender.send(signal);
    };
    signals::watch(first, || ()).context("cannot listen to signals").map_err(Failure::host)?;
    let exporter = Exporter::offer(address).map_err(|error| match error {
        OfferError::Taken { .. } => Failure::input(error),
        _ => Failure::host(error),
    })?;
    tracing::info!("metrics of all VMs are offered at {}", exporter.address());
    let signal = ends.recv().context("no signal can come any more").map_err(Failure::host)?;
    Ok(Code::signal(usize::try_from(signal).unwrap_or_default()))
}
