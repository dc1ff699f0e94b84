//! Counts and times accesses by MSR and plugin. Memory does not depend on the number of
//! accesses, and is bounded whatever the recording holds.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use hdrhistogram::Histogram;
use wasmsr_engine::record::{AccessLine, Line, Op, PluginCall};
use wasmsr_interface::{MsrIndex, OutcomeKind};

use super::call;
use crate::args::AccessFilter;
use crate::terminal::plain::plain;

/// Most rows, one per pair of MSR and plugin. Further pairs are counted in one more
/// row.
const MOST_ROWS: usize = 4096;

/// Most plugins with a name of their own.
const MOST_PLUGINS: usize = 1024;

/// Longest time that the histogram tells apart; the maximum is exact.
const LONGEST_NS: u64 = 100_000_000_000;

/// Counts of a whole recording.
#[derive(Default)]
pub(crate) struct Tally {
    filter: AccessFilter,
    plugins: PluginNames,
    rows: Vec<Row>,
    /// Without an MSR: failures at no access.
    by_key: HashMap<(Option<MsrIndex>, PluginId), usize>,
    others: Option<usize>,
    calls: BTreeMap<(PluginId, &'static str), u64>,
    /// Wakes of plugins' timers.
    pub(crate) wakes: u64,
    /// Lines that are missing.
    pub(crate) dropped: u64,
    /// Boots.
    pub(crate) boots: u64,
    /// Times that another set took charge.
    pub(crate) swaps: u64,
    /// The times of the first and the last line.
    begin: Option<u64>,
    pub(crate) end: u64,
    /// Everything.
    pub(crate) total: Counts,
    /// All accesses that a plugin decided, or the policy.
    by_plugin: BTreeMap<PluginId, Counts>,
}

/// Counts for one MSR and plugin.
pub(crate) struct Row {
    /// The MSR; none in the row of the further pairs, and in those of failures at no
    /// access.
    pub(crate) msr: Option<MsrIndex>,
    /// The MSR's name.
    pub(crate) name: Option<String>,
    /// The plugin; none for the policy.
    pub(crate) plugin: Option<Rc<str>>,
    /// Their counts and times.
    pub(crate) counts: Counts,
}

impl Row {
    /// The MSR as tables show it; `-` for failures at no access.
    pub(crate) fn shown_msr(&self) -> String {
        match self.msr {
            Some(msr) => msr.to_string(),
            None if self.counts.all() == 0 => "-".to_owned(),
            None => "others".to_owned(),
        }
    }
}

/// How many accesses, and how long they took.
pub(crate) struct Counts {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) faults: u64,
    pub(crate) failures: u64,
    pub(crate) kernel: u64,
    pub(crate) stops: u64,
    /// When the first access began; below, the last.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// The longest time.
    pub(crate) max: u64,
    sum: u128,
    times: Option<Histogram<u32>>,
}

/// A plugin in a recording; 0 is the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct PluginId(u16);

/// The names of plugins, each kept once.
#[derive(Default)]
pub(crate) struct PluginNames {
    names: Vec<Rc<str>>,
    ids: HashMap<Rc<str>, PluginId>,
}

impl PluginNames {
    /// The plugin's number; a name of none is the policy. Names that look the same when
    /// printed have the same number.
    pub(crate) fn id(&mut self, name: Option<&str>) -> PluginId {
        let Some(name) = name else { return PluginId::default() };
        // Almost all names are printed as they are.
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let name: Rc<str> = plain(name).into();
        if let Some(id) = self.ids.get(&name) {
            return *id;
        }
        match self.names.len() {
            0..MOST_PLUGINS => {
                self.names.push(Rc::clone(&name));
                self.ids.insert(name, self.last());
            }
            MOST_PLUGINS => self.names.push("(others)".into()),
            _ => {}
        }
        self.last()
    }

    /// The name of a number, harmless on a terminal; none for the policy.
    pub(crate) fn name(&self, id: PluginId) -> Option<&Rc<str>> {
        self.names.get(usize::from(id.0).checked_sub(1)?)
    }

    fn last(&self) -> PluginId {
        // At most MOST_PLUGINS + 1.
        PluginId(u16::try_from(self.names.len()).unwrap_or(u16::MAX))
    }
}

impl Tally {
    /// Counts lines that this filter has chosen.
    pub(crate) fn of(filter: &AccessFilter) -> Self {
        Tally { filter: filter.clone(), ..Tally::default() }
    }

    /// Counts a line.
    pub(crate) fn add(&mut self, line: &Line) {
        let (t, calls): (u64, &[PluginCall]) = match line {
            Line::Boot(boot) => {
                self.boots += 1;
                (boot.t, &[])
            }
            Line::Start(start) => (start.t, &start.calls),
            Line::Access(access) => {
                self.add_access(access);
                (access.t, &access.calls)
            }
            Line::Wake(wake) => {
                self.wakes += 1;
                self.add_failures(line, &wake.failed);
                (wake.t, &wake.calls)
            }
            Line::Swap(swap) => {
                self.swaps += 1;
                (swap.t, &swap.calls)
            }
            Line::Dropped(dropped) => {
                self.dropped = self.dropped.saturating_add(dropped.lines);
                (dropped.t, &[])
            }
            Line::End(end) => {
                self.add_failures(line, &end.failed);
                (end.t, &[])
            }
        };
        self.begin.get_or_insert(t);
        self.end = self.end.max(t);
        let calls = calls.iter().filter(|call| self.filter.takes_call(line, call));
        for PluginCall { plugin, call } in calls {
            let plugin = self.plugins.id(Some(plugin));
            *self.calls.entry((plugin, call::name(call))).or_default() += 1;
        }
    }

    /// The time of the first line.
    pub(crate) fn begin(&self) -> u64 {
        self.begin.unwrap_or_default()
    }

    /// The time from the first line to the last.
    pub(crate) fn duration(&self) -> u64 {
        self.end.saturating_sub(self.begin())
    }

    /// The rows, by MSR.
    pub(crate) fn rows(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.iter().collect();
        rows.sort_by_key(|row| (row.msr.is_none(), row.msr, row.plugin.clone()));
        rows
    }

    /// The plugins that decided accesses; first the policy, as none.
    pub(crate) fn by_plugin(&self) -> impl Iterator<Item = (Option<&Rc<str>>, &Counts)> {
        self.by_plugin.iter().map(|(id, counts)| (self.plugins.name(*id), counts))
    }

    /// The number of each plugin's host calls, by call.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (&str, &'static str, u64)> {
        self.calls.iter().map(|(&(plugin, call), count)| {
            (self.plugins.name(plugin).map_or("", |name| name), call, *count)
        })
    }

    fn add_access(&mut self, access: &AccessLine) {
        let plugin = self.plugins.id(access.plugin.as_deref());
        self.total.add(access);
        self.by_plugin.entry(plugin).or_default().add(access);
        let row = match self.by_key.get(&(Some(access.msr), plugin)) {
            Some(row) => *row,
            None => self.new_row(Some(access.msr), access.name.as_deref(), plugin),
        };
        if let Some(row) = self.rows.get_mut(row) {
            row.counts.add(access);
        }
    }

    /// Counts failures of plugins at no access, if the filter chooses these plugins.
    fn add_failures(&mut self, line: &Line, failed: &[String]) {
        for name in failed {
            if !self.filter.takes_failure(line, name) {
                continue;
            }
            let plugin = self.plugins.id(Some(name));
            self.total.failures += 1;
            self.by_plugin.entry(plugin).or_default().failures += 1;
            let row = match self.by_key.get(&(None, plugin)) {
                Some(row) => *row,
                None => self.new_row(None, None, plugin),
            };
            if let Some(row) = self.rows.get_mut(row) {
                row.counts.failures += 1;
            }
        }
    }

    fn new_row(&mut self, msr: Option<MsrIndex>, name: Option<&str>, plugin: PluginId) -> usize {
        if let Some(others) = self.others {
            return others;
        }
        let row = self.rows.len();
        let full = row >= MOST_ROWS;
        if full {
            self.others = Some(row);
        } else {
            self.by_key.insert((msr, plugin), row);
        }
        self.rows.push(Row {
            msr: msr.filter(|_| !full),
            name: name.map(plain).filter(|_| !full),
            plugin: match full {
                true => Some("(others)".into()),
                false => self.plugins.name(plugin).cloned(),
            },
            counts: Counts::default(),
        });
        row
    }
}

impl Default for Counts {
    fn default() -> Self {
        Counts {
            reads: 0,
            writes: 0,
            faults: 0,
            failures: 0,
            kernel: 0,
            stops: 0,
            first: u64::MAX,
            last: 0,
            max: 0,
            sum: 0,
            // Two digits: within 1 %. It fails for invalid bounds only.
            times: Histogram::new(2).ok(),
        }
    }
}

impl Counts {
    /// Counts an access.
    pub(crate) fn add(&mut self, access: &AccessLine) {
        match access.op {
            Op::Read => self.reads += 1,
            Op::Write => self.writes += 1,
        }
        self.failures += u64::from(access.failed);
        match access.outcome {
            OutcomeKind::Value | OutcomeKind::Done => {}
            OutcomeKind::Fault => self.faults += 1,
            OutcomeKind::Kernel => self.kernel += 1,
            OutcomeKind::Stop => self.stops += 1,
        }
        self.add_time(access.t, access.ns);
    }

    /// How many.
    pub(crate) fn all(&self) -> u64 {
        self.reads + self.writes
    }

    /// The mean time, in nanoseconds.
    pub(crate) fn mean(&self) -> u64 {
        let count = u128::from(self.all().max(1));
        u64::try_from(self.sum / count).unwrap_or(u64::MAX)
    }

    /// The time that this part of them did not exceed.
    pub(crate) fn quantile(&self, part: f64) -> u64 {
        // A bucket's upper end may lie above all that are in it.
        self.times.as_ref().map_or(0, |times| times.value_at_quantile(part).min(self.max))
    }

    /// Times and how many took so long, shortest first.
    pub(crate) fn times(&self) -> impl Iterator<Item = (u64, u64)> {
        let recorded = self.times.iter().flat_map(Histogram::iter_recorded);
        recorded.map(|at| (at.value_iterated_to(), at.count_since_last_iteration()))
    }

    /// Counts when it came and how long it took.
    pub(crate) fn add_time(&mut self, t: u64, ns: u64) {
        self.first = self.first.min(t);
        self.last = self.last.max(t);
        self.max = self.max.max(ns);
        self.sum += u128::from(ns);
        if let Some(times) = &mut self.times {
            // Grows up to the longest, so it has room for each.
            let _ = times.record(ns.min(LONGEST_NS));
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmsr_engine::record::{EndLine, WakeLine};
    use wasmsr_interface::Reason;

    use super::*;

    fn access(msr: u32, plugin: &str, ns: u64) -> Line {
        Line::Access(AccessLine {
            t: 5,
            vcpu: 0,
            generation: 1,
            msr: MsrIndex(msr),
            name: None,
            op: Op::Read,
            reason: Reason::Filter,
            rip: None,
            value: None,
            outcome: OutcomeKind::Fault,
            refused: false,
            plugin: Some(plugin.to_owned()),
            failed: false,
            ns,
            calls: Vec::new(),
            cut: false,
        })
    }

    #[test]
    fn times_are_told_to_a_hundredth() {
        let mut tally = Tally::default();
        for ns in 1..=1000 {
            tally.add(&access(1, "p", ns * 10));
        }
        let counts = &tally.rows()[0].counts;
        assert_eq!((counts.all(), counts.faults, counts.max), (1000, 1000, 10_000));
        assert_eq!(counts.mean(), 5_005);
        let near = |got: u64, exact: u64| got.abs_diff(exact) * 100 <= exact;
        assert!(near(counts.quantile(0.5), 5_000), "{}", counts.quantile(0.5));
        assert!(near(counts.quantile(0.99), 9_900), "{}", counts.quantile(0.99));
        assert_eq!(counts.times().map(|(_, count)| count).sum::<u64>(), 1000);
    }

    #[test]
    fn failures_at_no_access_count_for_their_plugin() {
        let failed = vec!["p".to_owned()];
        let (calls, cut) = (Vec::new(), false);
        let wake =
            WakeLine { t: 1, vcpu: 0, generation: 1, ns: 5, failed: failed.clone(), calls, cut };
        let mut tally = Tally::default();
        tally.add(&access(1, "p", 1));
        tally.add(&Line::Wake(wake));
        tally.add(&Line::End(EndLine { t: 2, lines: 2, dropped: 0, failed }));
        assert_eq!((tally.total.failures, tally.total.all(), tally.wakes), (2, 1, 1));
        let rows: Vec<_> = tally.rows().iter().map(|r| (r.msr, r.counts.failures)).collect();
        assert_eq!(rows, [(Some(MsrIndex(1)), 0), (None, 2)]);
        let by_plugin: Vec<_> = tally.by_plugin().map(|(_, counts)| counts.failures).collect();
        assert_eq!(by_plugin, [2]);
    }

    #[test]
    fn absurd_times_do_no_harm() {
        let mut tally = Tally::default();
        for _ in 0..3 {
            tally.add(&access(1, "p", u64::MAX));
        }
        assert_eq!((tally.total.max, tally.total.mean()), (u64::MAX, u64::MAX));
    }

    #[test]
    fn a_flood_of_msrs_and_plugins_has_a_bound() {
        let mut tally = Tally::default();
        for number in 0..20_000 {
            tally.add(&access(number, &format!("plugin-{number}"), 1));
        }
        let rows = tally.rows();
        assert_eq!(rows.len(), MOST_ROWS + 1);
        assert_eq!(rows.last().unwrap().msr, None);
        assert_eq!(rows.iter().map(|row| row.counts.all()).sum::<u64>(), 20_000);
        assert_eq!(tally.by_plugin().count(), MOST_PLUGINS + 1);
    }

    #[test]
    fn long_names_are_kept_as_they_are_printed() {
        let mut names = PluginNames::default();
        let long = |end: &str| "x".repeat(1 << 20) + end;
        let id = names.id(Some(&long("a")));
        assert_eq!(names.id(Some(&long("b"))), id, "they look the same");
        assert_ne!(names.id(Some("x")), id);
        let kept = names.names.iter().chain(names.ids.keys()).map(|name| name.len()).sum::<usize>();
        assert!(kept < 1000, "{kept} bytes");
    }

    #[test]
    fn time_begins_with_the_first_line() {
        let mut tally = Tally::default();
        assert_eq!((tally.begin(), tally.duration()), (0, 0));
        for t in [7_000, 9_000, 8_000] {
            let Line::Access(mut access) = access(1, "p", 1) else { panic!("it is an access") };
            access.t = t;
            tally.add(&Line::Access(access));
        }
        assert_eq!((tally.begin(), tally.duration()), (7_000, 2_000));
    }
}
