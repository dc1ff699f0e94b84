//! All that is said of some MSRs.

use std::collections::BTreeSet;

use serde::Serialize;
use wasmsr_interface::MsrIndex;
use wasmsr_msrs::{Msr, shipped_for};

use super::answer::Answers;
use super::log::{Accesses, LARGEST, Seen};
use super::{log_line, proposal};
use crate::loaded::Checked;

/// Where the MSRs come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Arguments,
    Log,
    Recording,
}

/// The page, and its JSON.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    pub(super) msrs: Vec<Explained>,
    /// Why this host's KVM was not asked; `null` if it was.
    pub(super) no_kvm: Option<String>,
    /// Lines for a profile, from a log or a recording.
    pub(super) profile_lines: Option<String>,
    /// Accesses to more MSRs than are told apart.
    pub(super) left_out: u64,
    /// Bytes of the log after which the rest was not read; `null` if all was.
    pub(super) read_up_to: Option<u64>,
    #[serde(skip)]
    pub(super) from: From,
}

/// One MSR.
#[derive(Debug, Serialize)]
pub(super) struct Explained {
    pub(super) msr: String,
    pub(super) index: u32,
    /// `null`, as are the next ones, for an MSR that the table does not have.
    pub(super) name: Option<&'static str>,
    pub(super) aliases: &'static [&'static str],
    pub(super) vendor: Option<String>,
    pub(super) access: Option<String>,
    pub(super) reserved: Option<String>,
    pub(super) scope: Option<String>,
    pub(super) kvm: Option<String>,
    /// How KVM's door for the host differs from a guest's access.
    pub(super) host: Option<&'static str>,
    pub(super) note: Option<&'static str>,
    pub(super) wanted: Option<&'static str>,
    pub(super) source: Option<&'static str>,
    /// Whether this host's KVM lists it; `null` if KVM was not asked.
    pub(super) kvm_lists: Option<bool>,
    /// Who answers reads and writes in the profile.
    pub(super) profile: Option<Answers>,
    pub(super) plugins: Vec<Served>,
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) last_written: Option<String>,
    /// What the log's line says of it.
    pub(super) meaning: Option<&'static str>,
}

/// A shipped plugin that answers it.
#[derive(Debug, Serialize)]
pub(super) struct Served {
    pub(super) name: &'static str,
    pub(super) file: &'static str,
    pub(super) does: &'static str,
    /// Its entry in a profile.
    pub(super) lines: String,
}

impl Page {
    pub(super) fn new(accesses: &Accesses, from: From, loaded: Option<&Checked>) -> Self {
        let listed = wasmsr_vmm::known_msrs().map_err(|error| error.to_string());
        let msrs = accesses
            .msrs
            .iter()
            .map(|(&index, seen)| Explained::new(index, seen, listed.as_ref().ok(), loaded));
        Page {
            msrs: msrs.collect(),
            no_kvm: listed.as_ref().err().cloned(),
            profile_lines: (from != From::Arguments).then(|| proposal::profile_lines(accesses)),
            left_out: accesses.left_out,
            read_up_to: accesses.is_cut.then_some(LARGEST),
            from,
        }
    }
}

impl Explained {
    fn new(
        index: MsrIndex,
        seen: &Seen,
        listed: Option<&BTreeSet<MsrIndex>>,
        loaded: Option<&Checked>,
    ) -> Self {
        let row: Option<&Msr> = wasmsr_msrs::find(index.0);
        Explained {
            msr: index.to_string(),
            index: index.0,
            name: index.name(),
            aliases: row.map_or(&[], |row| row.aliases),
            vendor: row.map(|row| row.vendor.to_string()),
            access: row.map(|row| row.access.to_string()),
            reserved: row.and_then(|row| row.reserved).map(|bits| format!("{bits:#x}")),
            scope: row.and_then(|row| row.scope).map(|scope| scope.to_string()),
            kvm: row.map(|row| row.kvm.to_string()),
            host: row.and_then(|row| row.host),
            note: row.and_then(|row| row.note),
            wanted: row.and_then(|row| row.wanted),
            source: row.map(|row| row.source),
            kvm_lists: listed.map(|listed| listed.contains(&index)),
            profile: loaded.map(|loaded| Answers::of(index, loaded)),
            plugins: shipped_for(index.0)
                .map(|plugin| Served {
                    name: plugin.name,
                    file: plugin.file,
                    does: plugin.does,
                    lines: proposal::entry(plugin, &[index]),
                })
                .collect(),
            reads: seen.reads,
            writes: seen.writes,
            last_written: seen.last_written.map(|value| format!("{value:#x}")),
            meaning: seen.speaker.map(log_line::Speaker::means),
        }
    }
}
