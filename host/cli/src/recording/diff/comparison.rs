//! The differences, as tables and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use wasmsr_engine::record::{Hex, Op};
use wasmsr_interface::{MsrIndex, OutcomeKind, counted};

use super::align::{Did, Effort, align};
use super::side::{Answer, Deed, Known, Side};
use crate::recording::tally::Counts;
use crate::recording::units::{duration, moment};
use crate::terminal::tables::table;

/// Everything that `diff` prints; its JSON is for programs.
#[derive(Serialize)]
pub(super) struct Comparison<'a> {
    a: SideReport<'a>,
    b: SideReport<'a>,
    #[serde(flatten)]
    found: Found,
    /// Whether it is certain that no other alignment has fewer differences.
    fewest: bool,
    /// The first differences.
    differences: Vec<Difference<'a>>,
    msrs: Vec<MsrReport<'a>>,
}

#[derive(Serialize)]
struct SideReport<'a> {
    recording: &'a str,
    accesses: u64,
    dropped: u64,
    cut_off: bool,
}

#[derive(Serialize)]
struct Difference<'a> {
    boot: u64,
    vcpu: u32,
    msr: MsrIndex,
    name: Option<&'a str>,
    op: Op,
    /// What was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Hex>,
    /// `null` if only the other recording has the access.
    a: Option<AnswerReport<'a>>,
    b: Option<AnswerReport<'a>>,
}

#[derive(Serialize)]
struct AnswerReport<'a> {
    t: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Hex>,
    outcome: OutcomeKind,
    plugin: Option<&'a str>,
    failed: bool,
}

#[derive(Serialize)]
struct MsrReport<'a> {
    /// `null` for the MSRs that do not fit into the summary.
    msr: Option<MsrIndex>,
    name: Option<&'a str>,
    #[serde(flatten)]
    found: Found,
    a: Cost,
    b: Cost,
}

/// How many differences there are, of all accesses or those of an MSR.
#[derive(Serialize, Default, Clone, Copy)]
struct Found {
    only_a: u64,
    only_b: u64,
    answers_differ: u64,
}

#[derive(Serialize)]
struct Cost {
    accesses: u64,
    mean_ns: Option<u64>,
    p99_ns: Option<u64>,
}

impl<'a> Comparison<'a> {
    /// Compares two recordings, and lists at most `limit` differences.
    pub(super) fn new(a: &'a Side, b: &'a Side, known: &'a Known, limit: usize) -> Self {
        let mut comparison = Comparison {
            a: SideReport::new(a),
            b: SideReport::new(b),
            found: Found::default(),
            fewest: true,
            differences: Vec::new(),
            msrs: Vec::new(),
        };
        let mut msrs: BTreeMap<Option<MsrIndex>, Found> =
            a.counts.keys().chain(b.counts.keys()).map(|&msr| (msr, Found::default())).collect();
        let mut streams: Vec<_> = a.streams().chain(b.streams()).collect();
        streams.sort_unstable();
        streams.dedup();
        let mut effort = Effort::default();
        for (boot, vcpu) in streams {
            align(a.stream(boot, vcpu), b.stream(boot, vcpu), &mut effort, |a, b| {
                if a.map(|did| did.answer) == b.map(|did| did.answer) {
                    return;
                }
                // One of both outcomes must be one that the user chose.
                let is_chosen = |did| known.answer(did).is_some_and(|answer| answer.chosen);
                if !a.is_some_and(is_chosen) && !b.is_some_and(is_chosen) {
                    return;
                }
                let Some(deed) = a.or(b).and_then(|did| known.deed(did)) else { return };
                let key = Some(deed.msr).filter(|&msr| msrs.contains_key(&Some(msr)));
                msrs.entry(key).or_default().count(a, b);
                comparison.found.count(a, b);
                if comparison.differences.len() < limit {
                    let difference = Difference::new(boot, vcpu, deed, a, b, known);
                    comparison.differences.push(difference);
                }
            });
        }
        comparison.fewest = !effort.was_exceeded();
        comparison.msrs = msrs
            .into_iter()
            .map(|(msr, found)| MsrReport {
                msr,
                name: msr.and_then(|msr| known.name(msr)),
                found,
                a: Cost::new(a.counts.get(&msr)),
                b: Cost::new(b.counts.get(&msr)),
            })
            .collect();
        comparison
    }

    /// Whether nothing differs.
    pub(super) fn is_same(&self) -> bool {
        self.found.all() == 0
    }

    /// As tables.
    pub(super) fn for_people(&self) -> String {
        let mut text = String::new();
        if !self.differences.is_empty() {
            text += &format!("{}\n", self.table());
            match self.found.all().saturating_sub(self.differences.len() as u64) {
                0 => {}
                more => text += &format!("and {more} more; --limit lists them\n"),
            }
            text.push('\n');
        }
        if !self.msrs.is_empty() {
            text += &format!("{}\n\n", self.summary());
        }
        for (letter, side) in [("A", &self.a), ("B", &self.b)] {
            let accesses = counted(side.accesses, "access", "accesses");
            text += &format!("{letter}  {}: {accesses}", side.recording);
            if side.dropped > 0 {
                text += &format!(", {} missing", counted(side.dropped, "line", "lines"));
            }
            text += if side.cut_off { ", cut off\n" } else { "\n" };
        }
        if self.is_same() {
            return text + "the same accesses with the same answers";
        }
        let Found { only_a, only_b, answers_differ } = self.found;
        text +=
            &format!("{only_a} only in A, {only_b} only in B, {answers_differ} with other answers");
        if !self.fewest {
            text += "\nA and B have so little in common that not every alignment was tried: \
                     there may be one with fewer differences";
        }
        text
    }

    fn table(&self) -> String {
        let head = ["BOOT", "VCPU", "A TIME", "B TIME", "ACCESS", "A", "B"];
        let mut table = table(head, &[0, 1, 2, 3]);
        for difference in &self.differences {
            let moment = |answer: &Option<AnswerReport<'_>>| {
                answer.as_ref().map_or("-".to_owned(), |a| moment(a.t).trim_start().to_owned())
            };
            let answer = |answer: &Option<AnswerReport<'_>>| {
                answer.as_ref().map_or("(not done)".to_owned(), |a| a.described(difference.op))
            };
            table.add_row([
                difference.boot.to_string(),
                difference.vcpu.to_string(),
                moment(&difference.a),
                moment(&difference.b),
                difference.described(),
                answer(&difference.a),
                answer(&difference.b),
            ]);
        }
        table.trim_fmt()
    }

    fn summary(&self) -> String {
        let head = [
            "MSR", "NAME", "A", "B", "ONLY A", "ONLY B", "ANSWERS", "A MEAN", "B MEAN", "A P99",
            "B P99",
        ];
        let mut table = table(head, &[2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let time = |ns: Option<u64>| ns.map_or("-".to_owned(), duration);
        for msr in &self.msrs {
            table.add_row([
                msr.msr.map_or("others".to_owned(), |msr| msr.to_string()),
                msr.name.unwrap_or("-").to_owned(),
                msr.a.accesses.to_string(),
                msr.b.accesses.to_string(),
                msr.found.only_a.to_string(),
                msr.found.only_b.to_string(),
                msr.found.answers_differ.to_string(),
                time(msr.a.mean_ns),
                time(msr.b.mean_ns),
                time(msr.a.p99_ns),
                time(msr.b.p99_ns),
            ]);
        }
        table.trim_fmt()
    }
}

impl<'a> SideReport<'a> {
    fn new(side: &'a Side) -> Self {
        let Side { name, accesses, dropped, cut_off, .. } = side;
        SideReport { recording: name, accesses: *accesses, dropped: *dropped, cut_off: *cut_off }
    }
}

impl Found {
    fn all(&self) -> u64 {
        self.only_a + self.only_b + self.answers_differ
    }

    fn count(&mut self, a: Option<&Did>, b: Option<&Did>) {
        *match (a, b) {
            (Some(_), Some(_)) => &mut self.answers_differ,
            (Some(_), None) => &mut self.only_a,
            (None, _) => &mut self.only_b,
        } += 1;
    }
}

impl<'a> Difference<'a> {
    fn new(
        boot: u64,
        vcpu: u32,
        deed: &Deed,
        a: Option<&Did>,
        b: Option<&Did>,
        known: &'a Known,
    ) -> Self {
        let report = |did: &Did| Some(AnswerReport::new(did.t, known.answer(did)?, known));
        Difference {
            boot,
            vcpu,
            msr: deed.msr,
            name: known.name(deed.msr),
            op: deed.op,
            value: deed.written.map(Hex),
            a: a.and_then(report),
            b: b.and_then(report),
        }
    }

    fn described(&self) -> String {
        let name = self.name.map_or(String::new(), |name| format!(" ({name})"));
        match (self.op, self.value) {
            (Op::Read, _) => format!("read {}{name}", self.msr),
            (Op::Write, None) => format!("write {}{name}", self.msr),
            (Op::Write, Some(Hex(value))) => format!("write {}{name} = {value:#x}", self.msr),
        }
    }
}

impl<'a> AnswerReport<'a> {
    fn new(t: u64, answer: &Answer, known: &'a Known) -> Self {
        let Answer { value, outcome, plugin, failed, .. } = *answer;
        AnswerReport { t, value: value.map(Hex), outcome, plugin: known.plugin(plugin), failed }
    }

    fn described(&self, op: Op) -> String {
        let value = self.value.map_or("no value".to_owned(), |value| format!("{:#x}", value.0));
        let what = match (self.outcome, op) {
            (OutcomeKind::Value, _) => value,
            (OutcomeKind::Kernel, Op::Read) => format!("kernel ({value})"),
            (outcome, _) => outcome.to_string(),
        };
        let plugin = self.plugin.unwrap_or("(policy)");
        format!("{what}, {plugin}{}", if self.failed { ", which failed" } else { "" })
    }
}

impl Cost {
    fn new(counts: Option<&Counts>) -> Self {
        Cost {
            accesses: counts.map_or(0, Counts::all),
            mean_ns: counts.map(Counts::mean),
            p99_ns: counts.map(|counts| counts.quantile(0.99)),
        }
    }
}
