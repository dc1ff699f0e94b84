//! What `top` shows, as a pure function of two snapshots of a VM and the keys that were
//! pressed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use wasmsr_stats::{POLICY, Row, Shadow, Snapshot};

use super::columns::{By, Column};
use super::line::Line;

/// Updates that the sparkline remembers.
const HISTORY: usize = 240;

/// Longest filter that can be typed.
const LONGEST_FILTER: usize = 64;

/// Which accesses the times and the fuel belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    /// All since the boot began.
    Boot,
    /// Those since the update before.
    Look,
}

/// A key that `top` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Left,
    Right,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    Interrupt,
}

/// Whether `top` continues after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    On,
    Quit,
}

/// Everything that is shown.
pub(crate) struct Model {
    pub(crate) now: Snapshot,
    before: Option<Snapshot>,
    /// Accesses per second, the latest last.
    pub(crate) history: VecDeque<u64>,
    pub(crate) by: By,
    pub(crate) times: Times,
    pub(crate) sort: Column,
    pub(crate) reversed: bool,
    pub(crate) filter: String,
    pub(crate) is_typing: bool,
    pub(crate) is_paused: bool,
    pub(crate) shows_help: bool,
    /// The number of lines above the first one shown.
    pub(crate) scrolled: usize,
    /// Why there are no new statistics.
    pub(crate) trouble: Option<String>,
}

impl Model {
    /// Begins with a first snapshot.
    pub(crate) fn new(now: Snapshot) -> Self {
        Model {
            now,
            before: None,
            history: VecDeque::new(),
            by: By::Msr,
            times: Times::Boot,
            sort: Column::Rate,
            reversed: false,
            filter: String::new(),
            is_typing: false,
            is_paused: false,
            shows_help: false,
            scrolled: 0,
            trouble: None,
        }
    }

    /// Takes another snapshot.
    pub(crate) fn look(&mut self, now: Snapshot) {
        self.trouble = None;
        if self.is_paused {
            return;
        }
        self.before = Some(std::mem::replace(&mut self.now, now));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is not negative, and the cast ends at the largest number"
        )]
        let rate = self.rate() as u64;
        self.history.push_back(rate);
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        // There may be fewer lines than before.
        self.stay_in_sight();
    }

    /// Accesses per second to all MSRs.
    pub(crate) fn rate(&self) -> f64 {
        let total = |snapshot: &Snapshot| {
            snapshot.msrs.iter().fold(0, |sum: u64, row| sum.saturating_add(row.accesses()))
        };
        let before = self.comparable().map_or(0, total);
        total(&self.now).saturating_sub(before) as f64 / self.seconds()
    }

    /// The snapshot before, if it is of the same boot.
    fn comparable(&self) -> Option<&Snapshot> {
        self.before.as_ref().filter(|before| before.boots == self.now.boots)
    }

    /// Seconds between the two snapshots, or since the boot began.
    fn seconds(&self) -> f64 {
        let seconds = match self.comparable() {
            Some(before) => self.now.uptime - before.uptime,
            None => self.now.boot_uptime.unwrap_or_default(),
        };
        seconds.max(0.001)
    }

    /// The lines that pass the filter, sorted.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let rows = |snapshot: &Snapshot| match self.by {
            By::Msr => snapshot.msrs.clone(),
            By::Plugin => snapshot.by_plugin(),
            By::Shadow => Vec::new(),
        };
        let key = |row: &Row| (row.msr.clone(), row.plugin.clone());
        let before: BTreeMap<_, Row> = self
            .comparable()
            .map(|before| rows(before).into_iter().map(|row| (key(&row), row)).collect())
            .unwrap_or_default();
        let with_change = |row: Row| {
            let change = before.get(&key(&row)).map_or_else(|| row.clone(), |then| row.since(then));
            (row, change)
        };
        let rows: Vec<(Row, Row)> = rows(&self.now).into_iter().map(with_change).collect();
        let all =
            rows.iter().fold(0, |sum: u64, (_, change)| sum.saturating_add(change.accesses()));
        let mut lines: Vec<Line> =
            rows.into_iter().map(|(row, change)| self.line(row, &change, all)).collect();
        lines.retain(|line| self.passes(line));
        lines.sort_by(|a, b| {
            let order = compare(a, b, self.sort);
            let order = if self.sort.is_text() { order } else { order.reverse() };
            if self.reversed { order.reverse() } else { order }
        });
        lines
    }

    fn line(&self, row: Row, change: &Row, all: u64) -> Line {
        let accesses = change.accesses() as f64;
        let timed = match self.times {
            Times::Boot => &row,
            Times::Look => change,
        };
        Line {
            rate: accesses / self.seconds(),
            total: row.accesses(),
            share: if all == 0 { 0.0 } else { accesses * 100.0 / all as f64 },
            mean: timed.mean_ns,
            p99: timed.p99_ns,
            faults: row.faults,
            failures: row.failures,
            fuel: timed.mean_fuel,
            msr: row.msr,
            name: row.name,
            plugin: row.plugin,
        }
    }

    /// The shadows that pass the filter, in the order of the profile.
    pub(crate) fn shadows(&self) -> Vec<&Shadow> {
        let passes = |shadow: &&Shadow| self.has_filter([&shadow.plugin, &shadow.of]);
        self.now.shadows.iter().filter(passes).collect()
    }

    fn passes(&self, line: &Line) -> bool {
        let plugin = line.plugin.as_deref().unwrap_or(POLICY);
        self.has_filter([line.msr.as_deref(), line.name.as_deref(), Some(plugin)].iter().flatten())
    }

    /// Whether any of these contains the filter's text.
    fn has_filter(&self, texts: impl IntoIterator<Item = impl AsRef<str>>) -> bool {
        let wanted = self.filter.to_lowercase();
        texts.into_iter().any(|text| text.as_ref().to_lowercase().contains(&wanted))
    }

    /// Takes a key.
    pub(crate) fn press(&mut self, key: Key) -> After {
        if key == Key::Interrupt {
            return After::Quit;
        }
        if self.is_typing {
            self.type_filter(key);
            return After::On;
        }
        if self.shows_help {
            self.shows_help = false;
            return After::On;
        }
        match key {
            Key::Char('q') => return After::Quit,
            Key::Escape => self.filter.clear(),
            Key::Char('/') => self.is_typing = true,
            Key::Char('?' | 'h') => self.shows_help = true,
            Key::Char('p' | ' ') => self.is_paused = !self.is_paused,
            Key::Char('v') => {
                self.by = match self.by {
                    By::Msr => By::Plugin,
                    By::Plugin if !self.now.shadows.is_empty() => By::Shadow,
                    By::Plugin | By::Shadow => By::Msr,
                };
                if self.by == By::Plugin && !self.by.columns().contains(&self.sort) {
                    self.sort = Column::Rate;
                }
                self.scrolled = 0;
            }
            Key::Char('l') => {
                self.times = match self.times {
                    Times::Boot => Times::Look,
                    Times::Look => Times::Boot,
                };
            }
            Key::Char('r') => self.reversed = !self.reversed,
            Key::Right | Key::Char('>') => self.sort = self.neighbour(1),
            Key::Left | Key::Char('<') => {
                self.sort = self.neighbour(self.by.columns().len().saturating_sub(1));
            }
            Key::Up => self.scrolled = self.scrolled.saturating_sub(1),
            Key::Down => self.scrolled += 1,
            Key::PageUp => self.scrolled = self.scrolled.saturating_sub(10),
            Key::PageDown => self.scrolled += 10,
            Key::Home => self.scrolled = 0,
            Key::Enter | Key::Backspace | Key::Char(_) | Key::Interrupt => {}
        }
        self.stay_in_sight();
        After::On
    }

    /// Keeps the last line on the screen.
    fn stay_in_sight(&mut self) {
        if self.scrolled > 0 {
            let lines = match self.by {
                By::Msr | By::Plugin => self.lines().len(),
                By::Shadow => self.shadows().len(),
            };
            self.scrolled = self.scrolled.min(lines.saturating_sub(1));
        }
    }

    fn type_filter(&mut self, key: Key) {
        match key {
            Key::Enter => self.is_typing = false,
            Key::Escape => {
                self.is_typing = false;
                self.filter.clear();
            }
            Key::Backspace => _ = self.filter.pop(),
            Key::Char(c) if !c.is_control() && self.filter.chars().count() < LONGEST_FILTER => {
                self.filter.push(c);
            }
            _ => {}
        }
        self.scrolled = 0;
    }

    fn neighbour(&self, steps: usize) -> Column {
        let all = self.by.columns();
        let here = all.iter().position(|column| *column == self.sort).unwrap_or(0);
        let there = (here + steps).checked_rem(all.len());
        there.and_then(|there| all.get(there)).copied().unwrap_or(self.sort)
    }
}

fn compare(a: &Line, b: &Line, column: Column) -> Ordering {
    match column {
        Column::Msr => number(a).cmp(&number(b)),
        Column::Name => a.name.cmp(&b.name),
        Column::Plugin => a.plugin.cmp(&b.plugin),
        Column::Rate => a.rate.total_cmp(&b.rate).then(a.total.cmp(&b.total)),
        Column::Total => a.total.cmp(&b.total),
        Column::Share => a.share.total_cmp(&b.share),
        Column::Mean => a.mean.cmp(&b.mean),
        Column::P99 => a.p99.cmp(&b.p99),
        Column::Faults => a.faults.cmp(&b.faults),
        Column::Failures => a.failures.cmp(&b.failures),
        Column::Fuel => a.fuel.cmp(&b.fuel),
    }
}

/// An MSR as a number; lines without an MSR come last.
fn number(line: &Line) -> u64 {
    let digits = line.msr.as_deref().and_then(|msr| msr.strip_prefix("0x"));
    digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A snapshot after this many seconds, of MSRs with this many reads.
    pub(crate) fn look(seconds: u32, rows: &[(&str, &str, u64)]) -> Snapshot {
        let rows = rows
            .iter()
            .map(|(msr, plugin, reads)| Row {
                msr: Some((*msr).to_owned()),
                plugin: Some((*plugin).to_owned()).filter(|plugin| !plugin.is_empty()),
                reads: *reads,
                ..Row::default()
            })
            .collect();
        Snapshot {
            pid: 4711,
            profile: "/vms/vm.toml".to_owned(),
            boots: 1,
            uptime: seconds.into(),
            boot_uptime: Some(seconds.into()),
            msrs: rows,
            ..Snapshot::default()
        }
    }

    fn model() -> Model {
        let mut model = Model::new(look(10, &[("0x9", "a", 100), ("0x10", "b", 500)]));
        model.look(look(12, &[("0x9", "a", 300), ("0x10", "b", 600), ("0x11", "", 100)]));
        model
    }

    fn msrs(model: &Model) -> Vec<String> {
        model.lines().into_iter().map(|line| line.msr.unwrap_or_default()).collect()
    }

    #[test]
    fn two_looks_are_a_rate() {
        let model = model();
        let lines = model.lines();
        let told: Vec<_> = lines.iter().map(|line| (line.rate, line.total, line.share)).collect();
        assert_eq!(told, [(100.0, 300, 50.0), (50.0, 600, 25.0), (50.0, 100, 25.0)]);
        assert_eq!((model.rate(), model.history.back()), (200.0, Some(&200)));
    }

    #[test]
    fn the_first_look_is_at_all_since_the_boot() {
        let model = Model::new(look(10, &[("0x9", "a", 100)]));
        assert_eq!(model.lines()[0].rate, 10.0);
    }

    #[test]
    fn another_boot_starts_from_nothing() {
        let mut model = model();
        let mut next = look(13, &[("0x9", "a", 30)]);
        next.boots = 2;
        next.boot_uptime = Some(0.5);
        model.look(next);
        assert_eq!(model.lines()[0].rate, 60.0);
    }

    #[test]
    fn lines_are_sorted_by_any_column_and_the_other_way() {
        let mut model = model();
        model.press(Key::Right);
        assert_eq!(model.sort, Column::Total);
        assert_eq!(msrs(&model), ["0x10", "0x9", "0x11"]);
        model.press(Key::Char('r'));
        assert_eq!(msrs(&model), ["0x11", "0x9", "0x10"]);
        model.reversed = false;
        model.sort = Column::Msr;
        assert_eq!(msrs(&model), ["0x9", "0x10", "0x11"], "as numbers");
        model.press(Key::Left);
        assert_eq!(model.sort, Column::Fuel, "round the corner");
    }

    #[test]
    fn a_filter_is_typed_and_cleared() {
        let mut model = model();
        for key in ['/', 'P', 'O', 'L', 'q'] {
            assert_eq!(model.press(Key::Char(key)), After::On);
        }
        model.press(Key::Backspace);
        model.press(Key::Enter);
        assert_eq!((model.filter.as_str(), msrs(&model)), ("POL", vec!["0x11".to_owned()]));
        model.press(Key::Escape);
        assert_eq!(msrs(&model).len(), 3);
    }

    #[test]
    fn plugins_are_summed() {
        let mut model = model();
        model.press(Key::Char('v'));
        let lines = model.lines();
        let told: Vec<_> = lines.iter().map(|line| (line.plugin.as_deref(), line.rate)).collect();
        assert_eq!(told, [(Some("a"), 100.0), (Some("b"), 50.0), (None, 50.0)]);
    }

    #[test]
    fn a_pause_keeps_what_is_shown() {
        let mut model = model();
        model.press(Key::Char('p'));
        model.look(look(20, &[("0x9", "a", 9000)]));
        assert_eq!(model.lines()[0].total, 300);
        model.press(Key::Char('p'));
        model.look(look(21, &[("0x9", "a", 9000)]));
        assert_eq!(model.lines()[0].total, 9000);
    }

    #[test]
    fn scrolling_ends_at_the_last_line() {
        let mut model = model();
        model.press(Key::PageDown);
        assert_eq!(model.scrolled, 2);
        model.press(Key::Up);
        assert_eq!(model.scrolled, 1);
    }

    #[test]
    fn a_boot_with_fewer_lines_is_seen_however_far_one_has_scrolled() {
        let mut model = model();
        model.press(Key::PageDown);
        let mut next = look(13, &[("0x9", "a", 30)]);
        next.boots = 2;
        model.look(next);
        assert_eq!(model.scrolled, 0);
        model.look(Snapshot { boots: 2, ..look(14, &[]) });
        model.press(Key::Down);
        assert_eq!(model.scrolled, 0);
    }

    #[test]
    fn by_plugin_nothing_is_sorted_by_what_is_not_shown() {
        let mut model = model();
        model.sort = Column::Msr;
        model.press(Key::Char('v'));
        assert_eq!(model.sort, Column::Rate);
        model.press(Key::Left);
        assert_eq!(model.sort, Column::Plugin);
        model.press(Key::Left);
        assert_eq!(model.sort, Column::Fuel, "round the corner");
    }

    #[test]
    fn ways_out() {
        let mut model = model();
        assert_eq!(model.press(Key::Char('?')), After::On);
        assert_eq!(model.press(Key::Char('q')), After::On, "that closes the help");
        model.press(Key::Char('/'));
        assert_eq!(model.press(Key::Interrupt), After::Quit);
        model.press(Key::Escape);
        assert_eq!(model.press(Key::Char('q')), After::Quit);
    }
}
