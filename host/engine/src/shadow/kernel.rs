//! Kernel shadows: beside each access that a plugin answers, KVM is asked what it would have
//! answered. KVM does not get the guest's writes, so what it would hold after them is kept here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmsr_interface::{Host, KvmAnswer, MsrAccess, MsrIndex, MsrOp, Outcome, OutcomeKind, VcpuId};

use super::difference::{Occasion, Shown};
use super::follower::Asked;
use super::tally::Tally;
use crate::msr::SlotId;
use crate::plugin::Answer;

/// Most MSRs of a vCPU whose values in KVM are kept: a guest chooses which it writes.
const MOST_HELD: usize = 1024;

/// The kernel shadows that follow one vCPU.
#[derive(Default)]
pub(crate) struct KernelShadows {
    followers: Vec<KernelFollower>,
    held: HashMap<MsrIndex, Held>,
    /// Set when a value had no room: an MSR without one may have been written.
    is_full: bool,
}

/// The kernel shadow of one plugin.
pub(crate) struct KernelFollower {
    /// The slots of the plugin in charge.
    pub(crate) leaders: Vec<SlotId>,
    pub(crate) tally: Arc<Tally>,
}

/// What KVM would hold, were it in charge; without one, it is what KVM does hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Value(u64),
    /// A write was answered in a way that says nothing about it.
    Unknown,
}

/// What a comparison has shown.
#[derive(Clone, Copy)]
enum Verdict {
    Alike,
    Different(KvmAnswer),
    NotCompared,
}

impl KernelShadows {
    pub(crate) fn new(followers: Vec<KernelFollower>) -> Self {
        KernelShadows { followers, ..KernelShadows::default() }
    }

    /// Those of the `next` set of plugins, which takes over in a running VM.
    pub(crate) fn for_next_set(self, next: KernelShadows) -> Self {
        KernelShadows { followers: next.followers, ..self }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.followers.is_empty()
    }

    /// Compares what the plugins that were `asked` answered with what KVM would answer. The
    /// access took `took` and was decided with `decided`.
    pub(crate) fn follow(
        &mut self,
        asked: &[Asked],
        access: MsrAccess,
        decided: OutcomeKind,
        took: Duration,
        host: &dyn Host,
        vcpu: VcpuId,
    ) {
        for asked in asked {
            let leads = |follower: &KernelFollower| follower.leaders.contains(&asked.slot);
            let Some(follower) = self.followers.iter().position(leads) else { continue };
            let began = Instant::now();
            let verdict = self.compare(&asked.answer, access, decided, host, vcpu);
            let added = began.elapsed();
            if let Some(follower) = self.followers.get(follower) {
                follower.count(asked, access, verdict, (added, took), vcpu);
            }
        }
    }

    /// The guest was reset: KVM holds what it holds.
    pub(crate) fn reset(&mut self) {
        self.held.clear();
        self.is_full = false;
    }

    fn compare(
        &mut self,
        answer: &Result<Answer, Outcome>,
        MsrAccess { index, op, .. }: MsrAccess,
        decided: OutcomeKind,
        host: &dyn Host,
        vcpu: VcpuId,
    ) -> Verdict {
        let answer = match answer {
            Ok(answer @ (Answer::Value(_) | Answer::Done | Answer::Fault)) => *answer,
            Ok(Answer::Kernel | Answer::Pass) | Err(_) => {
                match (op, decided) {
                    (MsrOp::Read, _) => {}
                    // KVM gets it.
                    (MsrOp::Write(_), OutcomeKind::Kernel) => {
                        self.held.remove(&index);
                    }
                    (MsrOp::Write(_), _) => self.hold(index, Held::Unknown),
                }
                return Verdict::NotCompared;
            }
        };
        let held = match (self.held.get(&index), op) {
            (None, _) if self.is_full => return Verdict::NotCompared,
            (Some(Held::Unknown), MsrOp::Read) => return Verdict::NotCompared,
            (Some(Held::Value(value)), _) => Some(*value),
            (None | Some(Held::Unknown), _) => None,
        };
        let kvm = host.ask_kvm(vcpu, index, op, held);
        match kvm {
            KvmAnswer::Taken(left) => {
                self.hold(index, left.map_or(Held::Unknown, Held::Value));
                if !self.held.contains_key(&index) {
                    return Verdict::NotCompared;
                }
            }
            KvmAnswer::NotComparable => return Verdict::NotCompared,
            KvmAnswer::Value(_) | KvmAnswer::Fault => {}
        }
        match alike(answer, kvm) {
            true => Verdict::Alike,
            false => Verdict::Different(kvm),
        }
    }

    fn hold(&mut self, index: MsrIndex, held: Held) {
        if self.held.len() < MOST_HELD || self.held.contains_key(&index) {
            self.held.insert(index, held);
        } else {
            self.is_full = true;
        }
    }
}

fn alike(plugin: Answer, kvm: KvmAnswer) -> bool {
    match (plugin, kvm) {
        (Answer::Value(one), KvmAnswer::Value(other)) => one == other,
        (Answer::Done, KvmAnswer::Taken(_)) | (Answer::Fault, KvmAnswer::Fault) => true,
        _ => false,
    }
}

impl KernelFollower {
    fn count(
        &self,
        asked: &Asked,
        access: MsrAccess,
        verdict: Verdict,
        (added, took): (Duration, Duration),
        vcpu: VcpuId,
    ) {
        let mut sums = self.tally.sums();
        let counts = &mut sums.counts;
        counts.failures += u64::from(asked.answer.is_err());
        if matches!(verdict, Verdict::NotCompared) {
            counts.not_compared += 1;
        } else {
            counts.accesses += 1;
            counts.timed += 1;
            counts.took += added;
            counts.took_in_charge += took;
        }
        let row = counts.agreement(access.index);
        match verdict {
            Verdict::NotCompared => {
                if let Some(row) = row {
                    row.not_compared += 1;
                }
            }
            Verdict::Alike => {
                if let Some(row) = row {
                    *row.compared(access.op) += 1;
                }
            }
            Verdict::Different(kvm) => {
                let shown = Shown(&asked.answer);
                if let Some(row) = row {
                    *row.compared(access.op) += 1;
                    *row.differing(access.op) += 1;
                    if row.example.is_none() {
                        let op = match access.op {
                            MsrOp::Read => "read".to_owned(),
                            MsrOp::Write(value) => format!("write of {value:#x}"),
                        };
                        row.example = Some(format!("{op} on {vcpu}: {shown}; KVM: {kvm}"));
                    }
                }
                counts.answers += 1;
                self.tally.tell(sums, Occasion::Access(access, vcpu), &shown, &kvm);
            }
        }
    }
}
