//! `wasmsr recording stats`: counts and times of a recording's accesses.

use serde::Serialize;
use wasmsr_interface::MsrIndex;

use super::tally::{Counts, Tally};
use super::units::{duration, moment, rate};
use crate::args;
use crate::exit::{Code, Failure};
use crate::recording::reader::{Read, RecordingReader};
use crate::terminal::console::print;
use crate::terminal::plain::json;
use crate::terminal::tables::table;

/// Prints a table of MSRs and plugins, and the sums.
pub(crate) fn stats(args: &args::RecordingStats) -> Result<Code, Failure> {
    let mut tally = Tally::of(&args.filter);
    let mut recording = RecordingReader::open(&args.file)?;
    for line in &mut recording {
        let Read { boot, line, .. } = line?;
        if args.filter.takes(boot, &line) {
            tally.add(&line);
        }
    }
    let text = match args.json {
        true => json(&Report::new(&tally, recording.is_cut_off())).map_err(Failure::host)?,
        false => for_people(&tally),
    };
    print(&text).map_err(Failure::output)?;
    Ok(Code::SUCCESS)
}

/// What `--json` prints. Times are nanoseconds, as in the recording.
#[derive(Serialize)]
struct Report<'a> {
    boots: u64,
    swaps: u64,
    /// From the first line to the last.
    duration_ns: u64,
    dropped: u64,
    cut_off: bool,
    wakes: u64,
    total: CountsReport,
    msrs: Vec<RowReport<'a>>,
    calls: Vec<CallReport<'a>>,
}

#[derive(Serialize)]
struct RowReport<'a> {
    msr: Option<MsrIndex>,
    name: Option<&'a str>,
    plugin: Option<&'a str>,
    #[serde(flatten)]
    counts: CountsReport,
}

#[derive(Serialize)]
struct CallReport<'a> {
    plugin: &'a str,
    call: &'a str,
    count: u64,
}

/// Counts, and times, which are null if there is no access.
#[derive(Serialize)]
struct CountsReport {
    reads: u64,
    writes: u64,
    faults: u64,
    failures: u64,
    kernel: u64,
    stops: u64,
    mean_ns: Option<u64>,
    p50_ns: Option<u64>,
    p99_ns: Option<u64>,
    max_ns: Option<u64>,
    first_t: Option<u64>,
    last_t: Option<u64>,
}

impl<'a> Report<'a> {
    fn new(tally: &'a Tally, cut_off: bool) -> Self {
        Report {
            boots: tally.boots,
            swaps: tally.swaps,
            duration_ns: tally.duration(),
            dropped: tally.dropped,
            cut_off,
            wakes: tally.wakes,
            total: CountsReport::new(&tally.total),
            msrs: tally
                .rows()
                .into_iter()
                .map(|row| RowReport {
                    msr: row.msr,
                    name: row.name.as_deref(),
                    plugin: row.plugin.as_deref(),
                    counts: CountsReport::new(&row.counts),
                })
                .collect(),
            calls: tally
                .calls()
                .map(|(plugin, call, count)| CallReport { plugin, call, count })
                .collect(),
        }
    }
}

impl CountsReport {
    fn new(counts: &Counts) -> Self {
        let time = |ns: u64| (counts.all() > 0).then_some(ns);
        CountsReport {
            reads: counts.reads,
            writes: counts.writes,
            faults: counts.faults,
            failures: counts.failures,
            kernel: counts.kernel,
            stops: counts.stops,
            mean_ns: time(counts.mean()),
            p50_ns: time(counts.quantile(0.5)),
            p99_ns: time(counts.quantile(0.99)),
            max_ns: time(counts.max),
            first_t: time(counts.first),
            last_t: time(counts.last),
        }
    }
}

fn for_people(tally: &Tally) -> String {
    let total = &tally.total;
    let mut text = String::new();
    if total.all() > 0 || total.failures > 0 {
        let head = [
            "MSR", "NAME", "PLUGIN", "READS", "WRITES", "FAULTS", "FAILURES", "KERNEL", "MEAN",
            "P50", "P99", "MAX", "FIRST", "LAST",
        ];
        let mut table = table(head, &[3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
        for row in tally.rows() {
            let Counts { reads, writes, faults, failures, kernel, .. } = row.counts;
            let numbers = [reads, writes, faults, failures, kernel].map(|count| count.to_string());
            let counts = &row.counts;
            let times = [counts.mean(), counts.quantile(0.5), counts.quantile(0.99), counts.max];
            let cells = [
                row.shown_msr(),
                row.name.clone().unwrap_or("-".to_owned()),
                row.plugin.as_deref().unwrap_or("(policy)").to_owned(),
            ];
            let moments = [counts.first, counts.last].map(|t| moment(t).trim_start().to_owned());
            let times = times.map(duration).into_iter().chain(moments);
            // Failures at no access have no times.
            let times = times.map(|time| if counts.all() == 0 { "-".to_owned() } else { time });
            table.add_row(cells.into_iter().chain(numbers).chain(times));
        }
        text += &format!("{}\n\n", table.trim_fmt());
    }
    let failed = "failed: the plugin trapped or overran a limit";
    let lines = [
        (total.all(), "access", "accesses"),
        (total.faults, "fault: #GP(0) in the guest", "fault: #GP(0) in the guest"),
        (total.failures, failed, failed),
        (total.kernel, "kernel: KVM's own answer", "kernel: KVM's own answer"),
        (total.stops, "stop: the run ended", "stop: the run ended"),
        (tally.wakes, "wake for timers of plugins", "wakes for timers of plugins"),
        (tally.dropped, "line missing", "lines missing: the recorder had no room for them"),
        (tally.boots, "boot", "boots"),
    ];
    let swaps = (tally.swaps, "swap to another set of plugins", "swaps to other sets of plugins");
    // Most recordings have none.
    for (count, one, many) in lines.into_iter().chain((tally.swaps > 0).then_some(swaps)) {
        text += &format!("{count:>9}  {}\n", if count == 1 { one } else { many });
    }
    let time = moment(tally.duration());
    let rate = rate(total.all(), tally.duration());
    text += &format!("{rate:>9}  over {}\n", time.trim_start());
    let mut calls = table(["CALLS", "CALL", "PLUGIN"], &[0]);
    for (plugin, call, count) in tally.calls() {
        calls.add_row([count.to_string(), call.to_owned(), plugin.to_owned()]);
    }
    if calls.row_count() > 0 {
        text += &format!("\n{}\n", calls.trim_fmt());
    }
    text
}
