//! `wasmsr stats`: what a running VM has counted, once.

use serde::Serialize;

use crate::args;
use crate::console::print;
use crate::exit::{Code, Failure};
use crate::live::client::{self, Round};
use crate::live::snapshot::{Row, Snapshot};
use crate::tables::{self, table};

/// Prints the statistics of a VM, or the VMs that there are.
pub(crate) fn stats(args: &args::Stats) -> Result<Code, Failure> {
    let text = match args.list {
        true => list(args)?,
        false => {
            let (_, snapshot) = client::find(args.vm.as_deref())?;
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
        tracing::warn!("process {process} does not answer: {error:#}");
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
    let plural = |count: u64, what: &str| match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    };
    let head = format!(
        "{} (process {}), {}, up {}, {}",
        snapshot.profile,
        snapshot.pid,
        plural(snapshot.vcpus as u64, "vCPU"),
        tables::span(snapshot.uptime),
        plural(snapshot.boots, "boot"),
    );
    if snapshot.msrs.is_empty() {
        return format!("{head}\nno MSR access has left the kernel");
    }
    let titles = [
        "MSR",
        "NAME",
        "PLUGIN",
        "READS",
        "WRITES",
        "FAULTS",
        "FAILURES",
        "MEAN TIME",
        "P99",
        "FUEL",
    ];
    let mut table = table(titles, &[3, 4, 5, 6, 7, 8, 9]);
    for row in &snapshot.msrs {
        table.add_row(cells(row));
    }
    format!("{head}\n{}", table.trim_fmt())
}

fn cells(row: &Row) -> [String; 10] {
    let time = |nanos: Option<u64>| nanos.map_or("-".to_owned(), tables::nanos);
    [
        row.msr.clone().unwrap_or("others".to_owned()),
        row.name.clone().unwrap_or("-".to_owned()),
        row.plugin.clone().unwrap_or("(policy)".to_owned()),
        row.reads.to_string(),
        row.writes.to_string(),
        row.faults.to_string(),
        row.failures.to_string(),
        time(row.mean_ns),
        time(row.p99_ns),
        row.mean_fuel.map_or("-".to_owned(), |fuel| fuel.to_string()),
    ]
}
