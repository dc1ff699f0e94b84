//! One recording, reduced to what is compared and shown.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::path::Path;

use anyhow::anyhow;
use wasmsr_engine::record::{AccessLine, Hex, Line, Op};
use wasmsr_interface::{MsrIndex, OutcomeKind, counted};

use super::align::Did;
use crate::args;
use crate::exit::Failure;
use crate::recording::reader::{Read, RecordingReader};
use crate::recording::tally::{Counts, PluginId, PluginNames};
use crate::terminal::plain::plain;

/// Most accesses of a recording. All are kept until the end; what was done and
/// answered is kept once for all accesses that have it in common.
const MOST_ACCESSES: u64 = 10_000_000;

/// Most MSRs that are told apart in the summary.
const MOST_MSRS: usize = 4096;

/// What the guest did: the MSR, the direction, and the value that it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Deed {
    pub(super) msr: MsrIndex,
    pub(super) op: Op,
    pub(super) written: Option<u64>,
}

/// How the access ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Answer {
    /// The value that was read.
    pub(super) value: Option<u64>,
    pub(super) outcome: OutcomeKind,
    pub(super) plugin: PluginId,
    pub(super) failed: bool,
    /// Whether the user chose such accesses.
    pub(super) chosen: bool,
}

/// The values of both recordings, each kept once.
#[derive(Default)]
pub(super) struct Known {
    deeds: Numbered<Deed>,
    answers: Numbered<Answer>,
    names: HashMap<MsrIndex, String>,
    plugins: PluginNames,
}

/// One recording.
pub(super) struct Side {
    pub(super) name: String,
    /// The number of chosen accesses.
    pub(super) accesses: u64,
    pub(super) dropped: u64,
    pub(super) cut_off: bool,
    /// By boot and vCPU, in order.
    streams: BTreeMap<(u64, u32), Vec<Did>>,
    /// Of the chosen accesses.
    pub(super) counts: BTreeMap<Option<MsrIndex>, Counts>,
    read: u64,
}

impl Known {
    pub(super) fn deed(&self, did: &Did) -> Option<&Deed> {
        self.deeds.get(did.deed)
    }

    pub(super) fn answer(&self, did: &Did) -> Option<&Answer> {
        self.answers.get(did.answer)
    }

    pub(super) fn name(&self, msr: MsrIndex) -> Option<&str> {
        self.names.get(&msr).map(String::as_str)
    }

    pub(super) fn plugin(&self, plugin: PluginId) -> Option<&str> {
        self.plugins.name(plugin).map(|name| &**name)
    }

    fn did(&mut self, access: &AccessLine, chosen: bool) -> Did {
        let AccessLine { t, msr, op, value, outcome, failed, .. } = *access;
        let value = value.map(|Hex(value)| value);
        let (written, read) = if op == Op::Write { (value, None) } else { (None, value) };
        if let Some(name) = &access.name
            && !self.names.contains_key(&msr)
            && self.names.len() < MOST_MSRS
        {
            self.names.insert(msr, plain(name));
        }
        let plugin = self.plugins.id(access.plugin.as_deref());
        Did {
            deed: self.deeds.number(Deed { msr, op, written }),
            answer: self.answers.number(Answer { value: read, outcome, plugin, failed, chosen }),
            t,
        }
    }
}

impl Side {
    /// Reads the accesses that the filter chooses for what the guest did. The filter's
    /// conditions on outcomes are applied later, to the differences.
    pub(super) fn read(
        path: &Path,
        filter: &args::AccessFilter,
        known: &mut Known,
    ) -> Result<Self, Failure> {
        let mut recording = RecordingReader::open(path)?;
        let mut side = Side {
            name: recording.name().to_owned(),
            accesses: 0,
            dropped: 0,
            cut_off: false,
            streams: BTreeMap::new(),
            counts: BTreeMap::new(),
            read: 0,
        };
        for line in &mut recording {
            let Read { boot, line, .. } = line?;
            if !filter.takes_boot(boot) {
                continue;
            }
            match line {
                Line::Access(access) if filter.takes_deed(&access) => {
                    side.add(boot, &access, filter.takes_answer(&access), known)?;
                }
                Line::Dropped(dropped) => side.dropped = side.dropped.saturating_add(dropped.lines),
                _ => {}
            }
        }
        side.cut_off = recording.is_cut_off();
        if side.dropped > 0 {
            tracing::warn!(
                "recording {} lacks {} that {} dropped; differences near them may not be real",
                side.name,
                counted(side.dropped, "line", "lines"),
                if side.dropped == 1 { "was" } else { "were" }
            );
        }
        Ok(side)
    }

    /// The accesses of a vCPU in a boot.
    pub(super) fn stream(&self, boot: u64, vcpu: u32) -> &[Did] {
        self.streams.get(&(boot, vcpu)).map_or(&[], Vec::as_slice)
    }

    /// The boots and vCPUs that have accesses.
    pub(super) fn streams(&self) -> impl Iterator<Item = (u64, u32)> {
        self.streams.keys().copied()
    }

    fn add(
        &mut self,
        boot: u64,
        access: &AccessLine,
        chosen: bool,
        known: &mut Known,
    ) -> Result<(), Failure> {
        self.read += 1;
        if self.read > MOST_ACCESSES {
            return Err(Failure::input(anyhow!(
                "recording {} has more than {MOST_ACCESSES} accesses to compare; choose some, as \
                 with --msr, --vcpu or --boot",
                self.name
            )));
        }
        self.streams.entry((boot, access.vcpu)).or_default().push(known.did(access, chosen));
        if chosen {
            self.accesses += 1;
            let full =
                self.counts.len() > MOST_MSRS && !self.counts.contains_key(&Some(access.msr));
            let msr = if full { None } else { Some(access.msr) };
            self.counts.entry(msr).or_default().add(access);
        }
        Ok(())
    }
}

/// Values, each with a number.
struct Numbered<T> {
    values: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Numbered { values: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Copy + Eq + Hash> Numbered<T> {
    fn number(&mut self, value: T) -> u32 {
        *self.numbers.entry(value).or_insert_with(|| {
            self.values.push(value);
            // At most one for each access of both recordings.
            u32::try_from(self.values.len() - 1).unwrap_or(u32::MAX)
        })
    }

    fn get(&self, number: u32) -> Option<&T> {
        self.values.get(usize::try_from(number).ok()?)
    }
}
