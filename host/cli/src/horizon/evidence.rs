//! What is known of how a plugin and KVM agree on one MSR in one direction.

use std::collections::BTreeMap;

use serde::Serialize;
use wasmsr_interface::{Direction, KvmAnswer, MsrIndex, MsrOp, Outcome};
use wasmsr_stats::{Agreement, Shadow, Snapshot};

/// Where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Source {
    /// The kernel shadow of a running VM.
    Vm,
    Recording,
    /// A VM that runs no guest.
    Probe,
}

impl Source {
    pub(super) fn name(self) -> &'static str {
        match self {
            Source::Vm => "VM",
            Source::Recording => "recording",
            Source::Probe => "probe",
        }
    }
}

/// What accesses have shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Evidence {
    pub(super) source: Source,
    /// Accesses that were compared.
    pub(super) compared: u64,
    /// Those with another answer.
    pub(super) different: u64,
    /// Accesses whose answers cannot be compared.
    pub(super) not_comparable: u64,
    /// The first difference.
    pub(super) example: Option<String>,
}

impl Evidence {
    pub(super) fn none(source: Source) -> Self {
        Evidence { source, compared: 0, different: 0, not_comparable: 0, example: None }
    }

    /// Adds an access that a plugin answered with `plugin` and KVM would answer with `kvm`.
    pub(super) fn add(&mut self, op: MsrOp, plugin: &Outcome, kvm: KvmAnswer) {
        match alike(plugin, kvm) {
            None => self.not_comparable += 1,
            Some(true) => self.compared += 1,
            Some(false) => {
                self.compared += 1;
                self.different += 1;
                self.example.get_or_insert_with(|| {
                    let op = match op {
                        MsrOp::Read => "read".to_owned(),
                        MsrOp::Write(value) => format!("write of {value:#x}"),
                    };
                    format!("{op}: {plugin}; KVM: {kvm}")
                });
            }
        }
    }
}

/// Whether both answers are the same; `None` if they cannot be compared. What the plugin
/// leaves to KVM is the same.
fn alike(plugin: &Outcome, kvm: KvmAnswer) -> Option<bool> {
    match (plugin, kvm) {
        (Outcome::Kernel, _) => Some(true),
        (_, KvmAnswer::NotComparable) => None,
        (Outcome::Value(one), KvmAnswer::Value(other)) => Some(*one == other),
        (Outcome::Done, KvmAnswer::Taken(_)) | (Outcome::Fault, KvmAnswer::Fault) => Some(true),
        _ => Some(false),
    }
}

/// All that is known, by plugin, MSR and direction.
#[derive(Debug, Default)]
pub(super) struct Evidences(BTreeMap<(String, u32, bool), Evidence>);

impl Evidences {
    pub(super) fn get(
        &self,
        plugin: &str,
        index: MsrIndex,
        direction: Direction,
    ) -> Option<&Evidence> {
        self.0.get(&key(plugin, index, direction))
    }

    pub(super) fn of(
        &mut self,
        plugin: &str,
        index: MsrIndex,
        direction: Direction,
        source: Source,
    ) -> &mut Evidence {
        self.0.entry(key(plugin, index, direction)).or_insert_with(|| Evidence::none(source))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What the kernel shadows of a running VM have seen.
    pub(super) fn of_vm(snapshot: &Snapshot) -> Self {
        let mut all = Evidences::default();
        for shadow in &snapshot.shadows {
            for row in &shadow.msrs {
                all.add_row(shadow, row);
            }
        }
        all
    }

    fn add_row(&mut self, shadow: &Shadow, row: &Agreement) {
        let counts = [
            (Direction::Read, row.reads, row.other_reads),
            (Direction::Write, row.writes, row.other_writes),
        ];
        for (direction, compared, different) in counts.into_iter().filter(|counts| counts.1 > 0) {
            let evidence = self.of(&shadow.of, MsrIndex(row.index), direction, Source::Vm);
            evidence.compared = compared;
            evidence.different = different;
            // The example is that of the first direction that differs.
            evidence.example = row.example.clone().filter(|_| different > 0);
        }
    }
}

fn key(plugin: &str, index: MsrIndex, direction: Direction) -> (String, u32, bool) {
    (plugin.to_owned(), index.0, direction == Direction::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_held_against_each_other() {
        let check = |plugin, kvm, expected| assert_eq!(alike(&plugin, kvm), expected);
        check(Outcome::Value(1), KvmAnswer::Value(1), Some(true));
        check(Outcome::Value(1), KvmAnswer::Value(2), Some(false));
        check(Outcome::Value(1), KvmAnswer::Fault, Some(false));
        check(Outcome::Fault, KvmAnswer::Fault, Some(true));
        check(Outcome::Fault, KvmAnswer::Taken(None), Some(false));
        check(Outcome::Done, KvmAnswer::Taken(Some(1)), Some(true));
        check(Outcome::Done, KvmAnswer::Fault, Some(false));
        check(Outcome::Kernel, KvmAnswer::NotComparable, Some(true));
        check(Outcome::Value(1), KvmAnswer::NotComparable, None);
    }

    #[test]
    fn a_shadows_rows_are_evidence_of_the_directions_that_were_seen() {
        let row = Agreement { index: 0x277, reads: 3, writes: 0, ..Agreement::default() };
        let shadow = Shadow { of: "p".to_owned(), msrs: vec![row], ..Shadow::default() };
        let snapshot = Snapshot { shadows: vec![shadow], ..Snapshot::default() };
        let all = Evidences::of_vm(&snapshot);
        assert_eq!(all.get("p", MsrIndex(0x277), Direction::Read).unwrap().compared, 3);
        assert!(all.get("p", MsrIndex(0x277), Direction::Write).is_none());
    }
}
