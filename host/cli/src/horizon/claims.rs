//! One claim of a plugin, summed up over its MSRs; and what keeps a plugin from being handed
//! over.

use std::collections::BTreeSet;

use serde::Serialize;
use wasmsr_engine::{Engine, MapEntry};
use wasmsr_interface::{Direction, Directions, MsrIndex, counted};

use super::evidence::{Evidence, Source};

/// Most differences of a claim that are told.
const MOST_TOLD: usize = 8;

/// A claim, and what is known of it.
#[derive(Debug, Serialize)]
pub(super) struct Claim {
    pub(super) plugin: String,
    pub(super) range: String,
    first: u32,
    last: u32,
    pub(super) name: Option<&'static str>,
    pub(super) access: String,
    /// Whether it exits at the start of a boot.
    pub(super) intercept: bool,
    msrs: u64,
    /// MSRs that this kernel's KVM knows.
    known: u64,
    /// Since which kernel KVM has it; `null` where that is not known.
    kvm_since: Option<String>,
    /// Accesses that were compared.
    compared: u64,
    /// Those with another answer.
    different: u64,
    /// MSRs and directions with another answer.
    msrs_different: u64,
    /// MSRs and directions whose answers cannot be compared.
    not_comparable: u64,
    /// MSRs and directions of which nothing is known.
    not_seen: u64,
    /// Where that is from.
    sources: BTreeSet<Source>,
    /// The first differences, and MSRs that KVM does not know.
    pub(super) told: Vec<String>,
    #[serde(skip)]
    pub(super) title: String,
}

impl Claim {
    pub(super) fn of(entry: &MapEntry, engine: &Engine, title: String) -> Self {
        let exits = |claim: &&wasmsr_interface::ExitClaim| {
            *claim.plugin == *entry.plugin && claim.range.intersection(entry.range).is_some()
        };
        Claim {
            plugin: entry.plugin.to_string(),
            range: entry.range.to_string(),
            first: entry.range.first().0,
            last: entry.range.last().0,
            name: entry.range.first().name(),
            access: entry.directions.to_string(),
            intercept: engine.exits().claims.iter().any(|claim| exits(&claim)),
            msrs: entry.range.count(),
            known: 0,
            kvm_since: None,
            compared: 0,
            different: 0,
            msrs_different: 0,
            not_comparable: 0,
            not_seen: 0,
            sources: BTreeSet::new(),
            told: Vec::new(),
            title,
        }
    }

    pub(super) fn known(&mut self, index: MsrIndex, known: bool) {
        self.known += u64::from(known);
        if !known {
            self.tell(format!("{}: KVM does not know it", index.described()));
        }
    }

    pub(super) fn seen(&mut self, index: MsrIndex, evidence: Option<&Evidence>) {
        let Some(evidence) = evidence else {
            self.not_seen += 1;
            return;
        };
        self.sources.insert(evidence.source);
        self.compared = self.compared.saturating_add(evidence.compared);
        self.different = self.different.saturating_add(evidence.different);
        if evidence.different > 0 {
            self.msrs_different += 1;
            let example = evidence.example.as_deref().unwrap_or("another answer");
            self.tell(format!("{}, {example}", index.described()));
        } else if evidence.compared == 0 {
            self.not_comparable += 1;
        }
    }

    fn tell(&mut self, text: String) {
        if self.told.len() < MOST_TOLD {
            self.told.push(text);
        }
    }

    pub(super) fn known_in_words(&self) -> String {
        match self.known {
            known if known == self.msrs => "yes".to_owned(),
            0 => "no".to_owned(),
            known => format!("{known} of {}", self.msrs),
        }
    }

    pub(super) fn agrees_in_words(&self) -> String {
        let sources: Vec<&str> = self.sources.iter().map(|source| source.name()).collect();
        let from = sources.join(", ");
        if self.different > 0 {
            return format!("no: {} of {} differ ({from})", self.different, self.compared);
        }
        if self.not_seen > 0 {
            return "not seen".to_owned();
        }
        match (self.compared, self.not_comparable) {
            (0, _) => "not comparable".to_owned(),
            (compared, 0) => format!("yes: {} ({from})", counted(compared, "access", "accesses")),
            (compared, _) => {
                format!("in part: {} ({from})", counted(compared, "access", "accesses"))
            }
        }
    }

    pub(super) fn since_in_words(&self) -> &str {
        self.kvm_since.as_deref().unwrap_or("unknown")
    }

    /// What keeps it from being handed over.
    pub(super) fn held_back(&self) -> Vec<String> {
        let claim = format!("{} {}", self.range, self.access);
        let mut reasons = Vec::new();
        if self.known < self.msrs {
            let unknown = counted(self.msrs - self.known, "MSR", "MSRs");
            reasons.push(format!("{claim}: KVM does not know {unknown} of it"));
        }
        if self.different > 0 {
            let differ = counted(self.msrs_different, "MSR", "MSRs");
            reasons.push(format!("{claim}: KVM answers otherwise for {differ}"));
        }
        if self.not_comparable > 0 {
            reasons.push(format!(
                "{claim}: {} cannot be compared; whether KVM's answer will do is for you to say",
                counted(self.not_comparable, "answer", "answers")
            ));
        }
        if self.not_seen > 0 {
            let answers = counted(self.not_seen, "answer is", "answers are");
            reasons.push(format!("{claim}: {answers} not known"));
        }
        reasons
    }
}

/// The directions of a claim, one by one.
pub(super) fn each(directions: Directions) -> impl Iterator<Item = Direction> {
    [Direction::Read, Direction::Write].into_iter().filter(move |&one| directions.contains(one))
}
