//! `wasmsr stats`: the statistics of a running VM, printed once.

use serde::Serialize;
use wasmsr_interface::counted;
use wasmsr_stats::{Round, Snapshot};

use crate::args;
use crate::exit::{Code, Failure};
use crate::terminal::console::print;
use crate::terminal::tables::{self, table};

/// Prints the statistics of a VM, or lists the running VMs.
pub(crate) fn stats(args: &args::Stats) -> Result<Code, Failure> {
    let text = match args.list {
        true => list(args)?,
        false => {
            let (_, snapshot) = wasmsr_stats::find(args.vm.as_deref())?;
            match args.json {
                true => json(&snapshot)?,
                false => for_people(&snapshot),
            }
        }
    };
    print(&text).map_err(Failure::host)?;
    Ok(Code::SUCCESS)
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(Failure::host)
}

/// A VM in the list.
#[derive(Serialize)]
struct Line<'a> {
    pid: u32,
    profile: &'a str,
    vcpus: usize,
    boots: u64,
    uptime: f64,
}

fn list(args: &args::Stats) -> Result<String, Failure> {
    let round = Round::ask();
    for (process, error) in &round.silent {
        tracing::warn!("process {process} does not answer: {error}");
    }
    let lines = round.running.iter().map(|(_, snapshot)| Line {
        pid: snapshot.pid,
        profile: &snapshot.profile,
        vcpus: snapshot.vcpus,
        boots: snapshot.boots,
        uptime: snapshot.uptime,
    });
    if args.json {
        return json(&lines.collect::<Vec<_>>());
    }
    let mut table = table(["PID", "VCPUS", "BOOTS", "UPTIME", "PROFILE"], &[0, 1, 2, 3]);
    for line in lines {
        table.add_row([
            line.pid.to_string(),
            line.vcpus.to_string(),
            line.boots.to_string(),
            tables::span(line.uptime),
            line.profile.to_owned(),
        ]);
    }
    Ok(table.trim_fmt())
}

fn for_people(snapshot: &Snapshot) -> String {
    let Snapshot { profile, pid, .. } = snapshot;
    let (up, boots) = (tables::span(snapshot.uptime), counted(snapshot.boots, "boot", "boots"));
    if snapshot.boot_uptime.is_none() {
        return format!("{profile} (process {pid}), up {up}, {boots}\nit is between two boots");
    }
    let vcpus = counted(snapshot.vcpus, "vCPU", "vCPUs");
    let head = format!("{profile} (process {pid}), {vcpus}, up {up}, {boots}");
    let table = tables::statistics(&snapshot.msrs);
    match snapshot.shadows.is_empty() {
        true => format!("{head}\n{table}"),
        false => format!("{head}\n{table}\n\n{}", tables::shadows(&snapshot.shadows)),
    }
}
