//! `wasmsr ps`: the running VMs of this user.

use wasmsr_stats::Round;
use wasmsr_stats::control::VmInfo;

use super::operation::PATIENCE;
use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console::print;
use crate::terminal::plain::plain;
use crate::terminal::tables::{self, table};

/// Digits of a digest that a table shows.
const SHORT: usize = 12;

/// Lists the running VMs.
pub(crate) fn ps(args: &args::Ps) -> Result<Code, Failure> {
    let round = Round::ask();
    for (process, error) in &round.silent {
        tracing::warn!("process {process} does not answer: {error}");
    }
    let mut vms: Vec<VmInfo> = Vec::new();
    for (vm, snapshot) in &round.running {
        match vm.control("GET", "vm", None, PATIENCE) {
            Ok(info) => vms.push(info),
            Err(error) => tracing::warn!("process {} cannot be controlled: {error}", snapshot.pid),
        }
    }
    vms.sort_by(|a, b| (&a.name, a.pid).cmp(&(&b.name, b.pid)));
    let text = match args.json {
        true => serde_json::to_string_pretty(&vms).map_err(Failure::host)?,
        false => {
            let head = ["NAME", "PID", "BOOTS", "UPTIME", "GENERATION", "SET", "HEALTH", "PROFILE"];
            let mut table = table(head, &[1, 2, 3, 4]);
            for vm in &vms {
                table.add_row([
                    plain(&vm.name),
                    vm.pid.to_string(),
                    vm.boots.to_string(),
                    tables::span(vm.uptime),
                    vm.generation.to_string(),
                    plain(vm.set.get(..SHORT).unwrap_or(&vm.set)),
                    plain(&vm.health),
                    plain(&vm.profile),
                ]);
            }
            table.trim_fmt()
        }
    };
    print(&text).map_err(Failure::host)?;
    Ok(Code::SUCCESS)
}
