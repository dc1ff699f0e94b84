//! A recording as evidence: what plugins answered, held against what this host's KVM would
//! have answered after the same writes.

use std::collections::HashMap;
use std::path::Path;

use wasmsr_engine::record::{AccessLine, BootLine, Line, Op};
use wasmsr_engine::{LoadOptions, Profile};
use wasmsr_interface::{Direction, KvmAnswer, MsrIndex, MsrOp, Outcome, OutcomeKind};

use super::evidence::{Evidences, Source};
use super::probe::Kernel;
use crate::exit::Failure;
use crate::loaded::load_kernel_agnostic;
use crate::recording::reader::RecordingReader;
use crate::replay::recorded;

/// Most values that KVM would hold, and most MSRs that are told apart.
const MOST: usize = 1 << 16;

/// The profile of the first boot, KVM, and what the recording shows.
pub(super) fn read(
    path: &Path,
    options: &LoadOptions,
) -> Result<(Profile, Kernel, Evidences), Failure> {
    let mut reader = RecordingReader::open(path)?;
    let boot = first_boot(&mut reader)?;
    let profile = recorded(boot.set()).map_err(Failure::input)?;
    let engine = load_kernel_agnostic(&profile, options)?;
    let kernel = Kernel::of(&engine)?;
    let mut seen = Seen { kernel: &kernel, held: HashMap::new(), all: Evidences::default() };
    for read in reader {
        match read?.line {
            Line::Boot(_) => seen.held.clear(),
            Line::Access(access) => seen.access(&access),
            _ => {}
        }
    }
    let all = seen.all;
    Ok((profile, kernel, all))
}

fn first_boot(reader: &mut RecordingReader) -> Result<BootLine, Failure> {
    match reader.next().transpose()?.map(|read| read.line) {
        Some(Line::Boot(boot)) => Ok(*boot),
        _ => Err(Failure::input(anyhow::anyhow!("{}: it has no boot", reader.name()))),
    }
}

struct Seen<'a> {
    kernel: &'a Kernel,
    /// What KVM would hold, by vCPU; `None` if that is not known.
    held: HashMap<(u32, MsrIndex), Option<u64>>,
    all: Evidences,
}

impl Seen<'_> {
    fn access(&mut self, access: &AccessLine) {
        let (place, index) = ((access.vcpu, access.msr), access.msr);
        let value = access.value.map(|value| value.0);
        let (op, direction) = match (access.op, value) {
            (Op::Read, _) => (MsrOp::Read, Direction::Read),
            (Op::Write, Some(value)) => (MsrOp::Write(value), Direction::Write),
            (Op::Write, None) => return,
        };
        let answer = match (access.outcome, value) {
            (OutcomeKind::Value, Some(value)) => Some(Outcome::Value(value)),
            (OutcomeKind::Done, _) => Some(Outcome::Done),
            (OutcomeKind::Fault, _) => Some(Outcome::Fault),
            _ => None,
        };
        let answered = answer.zip(access.plugin.as_ref()).filter(|_| !access.failed);
        let Some((answer, plugin)) = answered else {
            if direction == Direction::Write {
                self.hold(place, None);
            }
            return;
        };
        let held = match (self.held.get(&place), op) {
            (Some(None), MsrOp::Read) => return,
            (None, _) if self.held.len() >= MOST => return,
            (held, _) => held.copied().flatten(),
        };
        let kvm = self.kernel.ask(index, op, held);
        if let KvmAnswer::Taken(left) = kvm {
            self.hold(place, left);
        }
        if self.all.len() < MOST || self.all.get(plugin, index, direction).is_some() {
            self.all.of(plugin, index, direction, Source::Recording).add(op, &answer, kvm);
        }
    }

    fn hold(&mut self, place: (u32, MsrIndex), value: Option<u64>) {
        if self.held.len() < MOST || self.held.contains_key(&place) {
            self.held.insert(place, value);
        }
    }
}
