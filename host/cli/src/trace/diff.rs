//! `wasmsr trace diff`: two recordings side by side. What each vCPU did in each
//! boot is aligned, as lines of text are; answers are compared where both did
//! the same.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::anyhow;
use imara_diff::{Algorithm, Diff, Token};
use serde::Serialize;
use wasmsr_engine::msr::MsrIndex;
use wasmsr_engine::record::{Access, Ended, Hex, Line, Op};

use super::tally::{Counts, PluginId, PluginNames};
use super::units::{duration, moment};
use crate::args;
use crate::console::print;
use crate::exit::{Code, Failure};
use crate::plain::{json, plain};
use crate::recording::{Read, Recording};
use crate::tables::table;

/// Most accesses of a recording: each takes 40 bytes until the end.
const MOST_ACCESSES: u64 = 10_000_000;

/// Most accesses of a vCPU that are aligned at once.
const WINDOW: usize = 1 << 14;

/// Most MSRs that are told apart in the summary.
const MOST_MSRS: usize = 4096;

/// Prints what differs.
pub(crate) fn diff(args: &args::TraceDiff) -> Result<Code, Failure> {
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
    print(&text).map_err(Failure::host)?;
    Ok(if comparison.is_same() { Code::SUCCESS } else { Code::DIFFERENT })
}

/// What a guest did, apart from the answer: the MSR, and what it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Deed {
    msr: MsrIndex,
    op: Op,
    written: Option<u64>,
}

/// Deeds and plugins of both recordings, numbered.
#[derive(Default)]
struct Known {
    deeds: Vec<Deed>,
    tokens: HashMap<Deed, u32>,
    names: HashMap<MsrIndex, String>,
    plugins: PluginNames,
}

/// An access, as little of it as is compared and shown.
struct Did {
    token: Token,
    t: u64,
    answer: Answer,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Answer {
    /// What was read.
    value: Option<Hex>,
    outcome: Ended,
    plugin: PluginId,
    failed: bool,
}

/// One recording.
struct Side {
    name: String,
    accesses: u64,
    dropped: u64,
    /// By boot and vCPU, in order.
    streams: BTreeMap<(u64, u32), Vec<Did>>,
    counts: BTreeMap<Option<MsrIndex>, Counts>,
}

impl Known {
    fn token(&mut self, access: &Access) -> Token {
        let written = if access.op == Op::Write { access.value.map(|value| value.0) } else { None };
        let deed = Deed { msr: access.msr, op: access.op, written };
        let token = *self.tokens.entry(deed).or_insert_with(|| {
            self.deeds.push(deed);
            // Fewer than the accesses of both recordings.
            u32::try_from(self.deeds.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(name) = &access.name
            && !self.names.contains_key(&access.msr)
            && self.names.len() < MOST_MSRS
        {
            self.names.insert(access.msr, plain(name));
        }
        Token(token)
    }

    fn deed(&self, token: Token) -> Option<&Deed> {
        self.deeds.get(usize::try_from(token.0).ok()?)
    }
}

impl Side {
    fn read(path: &Path, filter: &args::AccessFilter, known: &mut Known) -> Result<Self, Failure> {
        let mut recording = Recording::open(path)?;
        let mut side = Side {
            name: recording.name().to_owned(),
            accesses: 0,
            dropped: 0,
            streams: BTreeMap::new(),
            counts: BTreeMap::new(),
        };
        for line in &mut recording {
            let Read { boot, line, .. } = line?;
            if !filter.takes(boot, &line) {
                continue;
            }
            match line {
                Line::Access(access) => side.add(boot, &access, known)?,
                Line::Dropped(dropped) => side.dropped = side.dropped.saturating_add(dropped.lines),
                Line::Boot(_) | Line::Start(_) | Line::Wake(_) | Line::End(_) => {}
            }
        }
        if side.dropped > 0 {
            tracing::warn!(
                "recording {} lacks {} lines that were dropped; what differs near them may be the same",
                side.name,
                side.dropped
            );
        }
        Ok(side)
    }

    fn add(&mut self, boot: u64, access: &Access, known: &mut Known) -> Result<(), Failure> {
        self.accesses += 1;
        if self.accesses > MOST_ACCESSES {
            return Err(Failure::input(anyhow!(
                "recording {} has more than {MOST_ACCESSES} accesses to compare; choose some, as \
                 with --msr, --vcpu or --boot",
                self.name
            )));
        }
        let answer = Answer {
            value: if access.op == Op::Read { access.value } else { None },
            outcome: access.outcome,
            plugin: known.plugins.id(access.plugin.as_deref()),
            failed: access.failed,
        };
        let did = Did { token: known.token(access), t: access.t, answer };
        self.streams.entry((boot, access.vcpu)).or_default().push(did);
        let full = self.counts.len() > MOST_MSRS && !self.counts.contains_key(&Some(access.msr));
        let msr = if full { None } else { Some(access.msr) };
        self.counts.entry(msr).or_default().add(access);
        Ok(())
    }
}

/// Everything `diff` says; its JSON is for programs.
#[derive(Serialize)]
struct Comparison<'a> {
    a: SideReport<'a>,
    b: SideReport<'a>,
    only_a: u64,
    only_b: u64,
    answers_differ: u64,
    /// The first of them.
    differences: Vec<Difference>,
    msrs: Vec<MsrReport>,
}

#[derive(Serialize)]
struct SideReport<'a> {
    recording: &'a str,
    accesses: u64,
    dropped: u64,
}

#[derive(Serialize)]
struct Difference {
    boot: u64,
    vcpu: u32,
    msr: MsrIndex,
    name: Option<String>,
    op: Op,
    /// What was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Hex>,
    /// Absent where only the other recording has the access.
    a: Option<AnswerReport>,
    b: Option<AnswerReport>,
}

#[derive(Serialize)]
struct AnswerReport {
    t: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Hex>,
    outcome: Ended,
    plugin: Option<String>,
    failed: bool,
}

#[derive(Serialize)]
struct MsrReport {
    /// Absent for those beyond the summary's size.
    msr: Option<MsrIndex>,
    name: Option<String>,
    #[serde(flatten)]
    found: Found,
    a: Cost,
    b: Cost,
}

/// What was found, of an MSR.
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
    fn new(a: &'a Side, b: &'a Side, known: &Known, limit: usize) -> Self {
        let mut comparison = Comparison {
            a: SideReport { recording: &a.name, accesses: a.accesses, dropped: a.dropped },
            b: SideReport { recording: &b.name, accesses: b.accesses, dropped: b.dropped },
            only_a: 0,
            only_b: 0,
            answers_differ: 0,
            differences: Vec::new(),
            msrs: Vec::new(),
        };
        let mut msrs: BTreeMap<Option<MsrIndex>, Found> =
            a.counts.keys().chain(b.counts.keys()).map(|&msr| (msr, Found::default())).collect();
        let mut streams: Vec<_> = a.streams.keys().chain(b.streams.keys()).copied().collect();
        streams.sort_unstable();
        streams.dedup();
        for (boot, vcpu) in streams {
            let stream =
                |side: &'a Side| side.streams.get(&(boot, vcpu)).map_or(&[] as &[_], Vec::as_slice);
            compare(stream(a), stream(b), WINDOW, |a, b| {
                let Some(deed) = a.or(b).and_then(|did| known.deed(did.token)) else { return };
                let key = Some(deed.msr).filter(|&msr| msrs.contains_key(&Some(msr)));
                let msr = msrs.entry(key).or_default();
                let (total, of_msr) = match (a, b) {
                    (Some(_), Some(_)) => (&mut comparison.answers_differ, &mut msr.answers_differ),
                    (Some(_), None) => (&mut comparison.only_a, &mut msr.only_a),
                    (None, _) => (&mut comparison.only_b, &mut msr.only_b),
                };
                *total += 1;
                *of_msr += 1;
                if comparison.differences.len() < limit {
                    comparison.differences.push(Difference {
                        boot,
                        vcpu,
                        msr: deed.msr,
                        name: known.names.get(&deed.msr).cloned(),
                        op: deed.op,
                        value: deed.written.map(Hex),
                        a: a.map(|did| AnswerReport::new(did, known)),
                        b: b.map(|did| AnswerReport::new(did, known)),
                    });
                }
            });
        }
        comparison.msrs = msrs
            .into_iter()
            .map(|(msr, found)| MsrReport {
                msr,
                name: msr.and_then(|msr| known.names.get(&msr).cloned()),
                found,
                a: Cost::new(a.counts.get(&msr)),
                b: Cost::new(b.counts.get(&msr)),
            })
            .collect();
        comparison
    }

    fn is_same(&self) -> bool {
        self.only_a == 0 && self.only_b == 0 && self.answers_differ == 0
    }

    fn for_people(&self) -> String {
        let mut text = String::new();
        if !self.differences.is_empty() {
            let head = ["BOOT", "VCPU", "A TIME", "B TIME", "ACCESS", "A", "B"];
            let mut table = table(head, &[0, 1, 2, 3]);
            for difference in &self.differences {
                let moment = |answer: &Option<AnswerReport>| {
                    answer.as_ref().map_or("-".to_owned(), |a| moment(a.t).trim_start().to_owned())
                };
                let answer = |answer: &Option<AnswerReport>| {
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
            text += &format!("{}\n", table.trim_fmt());
            let all = self.only_a + self.only_b + self.answers_differ;
            match all.saturating_sub(self.differences.len() as u64) {
                0 => {}
                more => text += &format!("and {more} more; --limit lists them\n"),
            }
            text.push('\n');
        }
        if !self.msrs.is_empty() {
            text += &format!("{}\n\n", self.summary());
        }
        let dropped = |side: &SideReport<'_>| match side.dropped {
            0 => String::new(),
            lines => format!(", {lines} lines missing"),
        };
        for (letter, side) in [("A", &self.a), ("B", &self.b)] {
            text += &format!(
                "{letter}  {}: {} accesses{}\n",
                side.recording,
                side.accesses,
                dropped(side)
            );
        }
        text + &match self.is_same() {
            true => "the same accesses with the same answers".to_owned(),
            false => format!(
                "{} only in A, {} only in B, {} with other answers",
                self.only_a, self.only_b, self.answers_differ
            ),
        }
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
                msr.name.clone().unwrap_or("-".to_owned()),
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

impl Difference {
    fn described(&self) -> String {
        let name = self.name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
        match (self.op, self.value) {
            (Op::Read, _) => format!("read {}{name}", self.msr),
            (Op::Write, None) => format!("write {}{name}", self.msr),
            (Op::Write, Some(Hex(value))) => format!("write {}{name} = {value:#x}", self.msr),
        }
    }
}

impl AnswerReport {
    fn new(did: &Did, known: &Known) -> Self {
        let Answer { value, outcome, plugin, failed } = did.answer;
        let plugin = known.plugins.name(plugin).map(ToString::to_string);
        AnswerReport { t: did.t, value, outcome, plugin, failed }
    }

    fn described(&self, op: Op) -> String {
        let value = self.value.map_or("no value".to_owned(), |value| format!("{:#x}", value.0));
        let what = match (self.outcome, op) {
            (Ended::Handled, Op::Read) => value,
            (Ended::Handled, Op::Write) => "done".to_owned(),
            (Ended::Fault, _) => "#GP".to_owned(),
            (Ended::Kernel, Op::Read) => format!("KVM's {value}"),
            (Ended::Kernel, Op::Write) => "left to KVM".to_owned(),
            (Ended::Stop, _) => "the run was stopped".to_owned(),
        };
        let who = self.plugin.as_deref().unwrap_or("(policy)");
        format!("{what}, {who}{}", if self.failed { ", which failed" } else { "" })
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

/// Calls `differs` with what only one of them did, and with what both did with
/// another answer, in order.
///
/// The alignment is that of a window after the other: to align all at once
/// can take hours where two long recordings have little in common.
fn compare<'a>(
    mut a: &'a [Did],
    mut b: &'a [Did],
    window: usize,
    mut differs: impl FnMut(Option<&'a Did>, Option<&'a Did>),
) {
    while !a.is_empty() || !b.is_empty() {
        let (here_a, here_b) = (a.get(..window).unwrap_or(a), b.get(..window).unwrap_or(b));
        let all = here_a.len() == a.len() && here_b.len() == b.len();
        // What is aligned near the end may be so for want of what follows.
        let limit = if all { usize::MAX } else { window / 4 * 3 };
        let (done_a, done_b) = compare_window(here_a, here_b, limit, &mut differs);
        a = a.get(done_a..).unwrap_or_default();
        b = b.get(done_b..).unwrap_or_default();
    }
}

/// Compares until so many of one are done, and returns how many of each are.
fn compare_window<'a>(
    a: &'a [Did],
    b: &'a [Did],
    limit: usize,
    differs: &mut impl FnMut(Option<&'a Did>, Option<&'a Did>),
) -> (usize, usize) {
    let tokens = |stream: &[Did]| stream.iter().map(|did| did.token).collect::<Vec<_>>();
    let (a_tokens, b_tokens) = (tokens(a), tokens(b));
    let all = a_tokens.iter().chain(&b_tokens).map(|token| token.0 + 1).max().unwrap_or(0);
    let mut diff = Diff::default();
    diff.compute_with(Algorithm::Myers, &a_tokens, &b_tokens, all);
    let (mut at_a, mut at_b) = (0, 0);
    while at_a < limit && at_b < limit {
        let is = |at: usize, test: &dyn Fn(u32) -> bool| u32::try_from(at).is_ok_and(test);
        match (a.get(at_a), b.get(at_b)) {
            (None, None) => break,
            (Some(one), other) if other.is_none() || is(at_a, &|at| diff.is_removed(at)) => {
                at_a += 1;
                differs(Some(one), None);
            }
            (one, Some(other)) if one.is_none() || is(at_b, &|at| diff.is_added(at)) => {
                at_b += 1;
                differs(None, Some(other));
            }
            (one, other) => {
                at_a += 1;
                at_b += 1;
                if one.map(|did| did.answer) != other.map(|did| did.answer) {
                    differs(one, other);
                }
            }
        }
    }
    (at_a, at_b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn did(token: u32, value: u64) -> Did {
        let answer = Answer {
            value: Some(Hex(value)),
            outcome: Ended::Handled,
            plugin: PluginId::default(),
            failed: false,
        };
        Did { token: Token(token), t: 0, answer }
    }

    fn stream(deeds: &[(u32, u64)]) -> Vec<Did> {
        deeds.iter().map(|&(token, value)| did(token, value)).collect()
    }

    type Pair = (Option<(u32, u64)>, Option<(u32, u64)>);

    fn differences(a: &[(u32, u64)], b: &[(u32, u64)]) -> Vec<Pair> {
        differences_in(WINDOW, a, b)
    }

    fn differences_in(window: usize, a: &[(u32, u64)], b: &[(u32, u64)]) -> Vec<Pair> {
        let mut found = Vec::new();
        let plain = |did: &Did| (did.token.0, did.answer.value.unwrap_or_default().0);
        compare(&stream(a), &stream(b), window, |a, b| found.push((a.map(plain), b.map(plain))));
        found
    }

    #[test]
    fn what_one_did_more_does_not_shift_the_rest() {
        let found = differences(&[(1, 1), (2, 1), (3, 1)], &[(1, 1), (9, 1), (2, 1), (3, 1)]);
        assert_eq!(found, [(None, Some((9, 1)))]);
    }

    #[test]
    fn other_answers_are_paired() {
        let found = differences(&[(1, 1), (2, 1)], &[(1, 1), (2, 5)]);
        assert_eq!(found, [(Some((2, 1)), Some((2, 5)))]);
    }

    #[test]
    fn one_may_be_empty() {
        assert_eq!(differences(&[], &[]), []);
        assert_eq!(differences(&[(1, 1)], &[]), [(Some((1, 1)), None)]);
        assert_eq!(differences(&[], &[(1, 1)]), [(None, Some((1, 1)))]);
    }

    proptest! {
        #[test]
        fn what_is_found_leads_from_one_to_the_other(
            a in prop::collection::vec((0..4_u32, 0..2_u64), 0..60),
            b in prop::collection::vec((0..4_u32, 0..2_u64), 0..60),
            window in prop::sample::select(vec![4, 8, 20, WINDOW]),
        ) {
            let found = differences_in(window, &a, &b);
            let count = |wanted: fn(&Pair) -> bool| found.iter().filter(|pair| wanted(pair)).count();
            let only_a = count(|pair| pair.1.is_none());
            let only_b = count(|pair| pair.0.is_none());
            prop_assert_eq!(a.len() - only_a, b.len() - only_b);
            for (one, other) in &found {
                if let (Some(one), Some(other)) = (one, other) {
                    prop_assert_eq!(one.0, other.0);
                    prop_assert_ne!(one.1, other.1);
                }
            }
            prop_assert_eq!(differences_in(window, &a, &a), []);
        }
    }
}
