//! A contract for every MSR: of each index and direction, what decides it. `check --msrs`
//! shows one, and `check --diff` compares two.

mod diff;
mod host;
mod saved;
mod who;

use std::collections::BTreeSet;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use wasmsr_engine::profile::Sha256 as Hash;
use wasmsr_interface::{Direction, Directions, MsrIndex, MsrRange};

use crate::loaded::Checked;
use crate::terminal::tables::{range_name, table};

pub(crate) use diff::Diff;
pub(crate) use host::Host;
pub(crate) use saved::other;
use who::{Deciders, Who};

/// The version of the JSON.
const FORMAT: u32 = 1;

/// Who decides every access, as ranges that cover all indices in both directions.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Contract {
    format: u32,
    /// SHA-256 over the ranges alone.
    digest: String,
    /// The version of the host's kernel, on which some of it depends.
    host_kernel: Option<String>,
    /// How many MSRs this KVM lists; `null` if they are not known.
    kvm_msrs: Option<usize>,
    /// Why they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    kvm_error: Option<String>,
    ranges: Vec<Row>,
}

/// Consecutive MSRs that are decided alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    range: String,
    first: u32,
    last: u32,
    name: Option<&'static str>,
    access: String,
    #[serde(flatten)]
    who: Who,
    #[serde(skip)]
    msrs: MsrRange,
    #[serde(skip)]
    directions: Directions,
}

impl Contract {
    /// What follows from a profile on this host.
    pub(crate) fn of(checked: &Checked, host: &Host) -> Self {
        let deciders = Deciders::of(checked, host);
        let edges = deciders.edges();
        let ranges = rows(&edges, |index, direction| deciders.who(index, direction));
        let compared =
            rows(&edges, |index, direction| deciders.who(index, direction).without_note());
        Contract {
            format: FORMAT,
            digest: digest(&compared),
            host_kernel: host.kernel.map(|kernel| kernel.to_string()),
            kvm_msrs: host.msrs.as_ref().ok().map(BTreeSet::len),
            kvm_error: host.msrs.as_ref().err().cloned(),
            ranges,
        }
    }

    pub(crate) fn for_people(&self, profile: &str) -> String {
        let kernel = self.host_kernel.as_deref().unwrap_or("unknown");
        let mut text = format!("profile {profile}, host kernel {kernel}\n");
        text += &match (self.kvm_msrs, &self.kvm_error) {
            (Some(count), _) => format!("KVM lists {count} MSRs\n"),
            (None, error) => format!(
                "KVM's MSRs are not known, and are among kvm-or-policy: {}\n",
                error.as_deref().unwrap_or("not asked")
            ),
        };
        text += &format!("digest {}\n\n", self.digest);
        let mut table = table(["MSR", "NAME", "ACCESS", "DECIDED BY", "OTHERWISE", "NOTE"], &[]);
        for row in &self.ranges {
            table.add_row([
                row.range.clone(),
                range_name(row.msrs),
                row.access.clone(),
                row.who.decider_for_people(),
                row.who.otherwise().to_owned(),
                row.who.note().to_owned(),
            ]);
        }
        text += &table.trim_fmt();
        text.push('\n');
        text
    }
}

/// All indices as ranges, cut at `edges`, the first MSRs of ranges. Neighbours that are
/// decided alike in both directions are one.
fn rows<W: AsRow + Clone + PartialEq>(
    edges: &BTreeSet<u32>,
    who: impl Fn(MsrIndex, Direction) -> W,
) -> Vec<W::Row> {
    let mut ranges: Vec<(u32, u32, [W; 2])> = Vec::new();
    let mut starts = edges.iter().copied().filter(|&edge| edge != 0).peekable();
    let mut first = 0;
    loop {
        let next = starts.next();
        let last = next.map_or(u32::MAX, |next| next - 1);
        let both = [Direction::Read, Direction::Write].map(|d| who(MsrIndex(first), d));
        match ranges.last_mut() {
            Some((_, end, same)) if *same == both => *end = last,
            _ => ranges.push((first, last, both)),
        }
        match next {
            Some(next) => first = next,
            None => break,
        }
    }
    let rows = ranges.into_iter().flat_map(|(first, last, [read, write])| {
        let msrs = MsrRange::new(MsrIndex(first), MsrIndex(last)).unwrap_or(MsrIndex(first).into());
        match read == write {
            true => vec![read.row(msrs, Directions::ReadWrite)],
            false => {
                vec![read.row(msrs, Directions::Read), write.row(msrs, Directions::Write)]
            }
        }
    });
    rows.collect()
}

/// What is said of a range, as a row with the range.
trait AsRow {
    type Row;
    fn row(self, msrs: MsrRange, directions: Directions) -> Self::Row;
}

impl AsRow for Who {
    type Row = Row;

    fn row(self, msrs: MsrRange, directions: Directions) -> Row {
        Row {
            range: msrs.to_string(),
            first: msrs.first().0,
            last: msrs.last().0,
            name: msrs.first().name(),
            access: directions.to_string(),
            who: self,
            msrs,
            directions,
        }
    }
}

/// One line per row, without what is only for people: `FIRST-LAST ACCESS DECIDER PLUGINS
/// OTHERWISE`, the indices with 8 hexadecimal digits, plugins separated by commas, `-`
/// for none.
fn digest(rows: &[Row]) -> String {
    let mut hash = Sha256::new();
    for row in rows {
        let line =
            format!("{:08x}-{:08x} {} {}\n", row.first, row.last, row.access, row.who.line());
        hash.update(line);
    }
    Hash(hash.finalize().into()).to_string()
}

#[cfg(test)]
mod tests {
    use wasmsr_vmm::DeadlineWrites;

    use super::*;

    #[test]
    fn what_depends_on_the_host_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vm.toml");
        let head = "[boot]\nguest = \"hello\"\n";
        let of = |policy: &str, deadline| {
            std::fs::write(&path, format!("{head}{policy}")).unwrap();
            let checked = Checked::load(&path, &wasmsr_engine::LoadOptions::default());
            let msrs = Ok(BTreeSet::from([MsrIndex(0x6e0), MsrIndex(0x10)]));
            let host = Host { kernel: None, msrs, deadline };
            let contract = Contract::of(&checked.unwrap_or_else(|_| panic!("it is right")), &host);
            let row = contract.ranges.into_iter().rfind(|row| row.first == 0x6e0);
            row.map(|row| row.who.line())
        };
        let deny = "[msr]\ndefault = \"deny\"\n";
        for (policy, deadline, line) in [
            ("", DeadlineWrites::Exit, "kvm - fault"),
            ("", DeadlineWrites::MayStay, "maybe-unreachable - fault"),
            ("", DeadlineWrites::Stay, "unreachable - fault"),
            (deny, DeadlineWrites::MayStay, "maybe-unreachable - fault"),
            (deny, DeadlineWrites::Stay, "unreachable - fault"),
        ] {
            assert_eq!(of(policy, deadline).as_deref(), Some(line), "{policy} {deadline:?}");
        }
        // All is denied alike.
        assert_eq!(of(deny, DeadlineWrites::Exit), None);
    }

    #[test]
    fn rows_cover_everything_once() {
        let who = |index: MsrIndex, direction| match (index.0, direction) {
            (0x10..=0x1f, Direction::Read) => Who::policy("fault".to_owned()),
            (u32::MAX, _) => Who::unreachable("-".to_owned(), "it is the last"),
            _ => Who::kvm("fault".to_owned()),
        };
        let edges = BTreeSet::from([0, 0x10, 0x15, 0x20, 0x30, u32::MAX]);
        let rows: Vec<Row> = rows(&edges, who);
        let ranges: Vec<(u32, u32, &str)> =
            rows.iter().map(|row| (row.first, row.last, row.access.as_str())).collect();
        assert_eq!(
            ranges,
            [
                (0, 0xf, "rw"),
                (0x10, 0x1f, "r"),
                (0x10, 0x1f, "w"),
                (0x20, u32::MAX - 1, "rw"),
                (u32::MAX, u32::MAX, "rw"),
            ]
        );
        let mut others = rows.clone();
        others[1].who = Who::policy("ignore".to_owned());
        assert_ne!(digest(&rows), digest(&others));
        assert_eq!(digest(&rows).len(), 64);
    }
}
