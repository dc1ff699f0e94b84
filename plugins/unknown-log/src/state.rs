//! Saved state: stored values and lessons.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use wasmsr_sdk::{Bits64, Error, MsrIndex, VcpuId, log, vcpus};

use crate::UnknownLog;
use crate::lessons::{Lesson, Lessons};
use crate::stored::{Full, Slot, Stored};

/// The state as it is saved.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    stored: Vec<(MsrIndex, Option<VcpuId>, Bits64)>,
    learned: Option<Learned>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Learned {
    seen: Vec<KeptLesson>,
    beyond: u64,
    dropped: u64,
}

/// A [`Lesson`] without the names of its fields: all lessons must fit into a
/// saved state.
type KeptLesson = (MsrIndex, u32, u32, Bits64, Bits64, bool, bool);

fn keep((msr, lesson): (MsrIndex, Lesson)) -> KeptLesson {
    let Lesson { reads, writes, first, last, read_back, known } = lesson;
    (msr, reads, writes, Bits64(first), Bits64(last), read_back, known)
}

fn take_over(kept: KeptLesson) -> (MsrIndex, Lesson) {
    let (msr, reads, writes, Bits64(first), Bits64(last), read_back, known) = kept;
    (msr, Lesson { reads, writes, first, last, read_back, known })
}

impl Kept {
    pub(crate) fn of(plugin: &UnknownLog) -> Self {
        let stored = plugin.stored.iter();
        Kept {
            stored: stored.map(|(slot, value)| (slot.msr, slot.vcpu, Bits64(value))).collect(),
            learned: plugin.lessons.as_ref().map(|lessons| Learned {
                seen: lessons.iter().map(keep).collect(),
                beyond: lessons.beyond(),
                dropped: lessons.dropped(),
            }),
        }
    }

    /// Puts the state into a fresh instance, whose rules may differ from those
    /// of the instance that saved it.
    pub(crate) fn put_into(self, plugin: &mut UnknownLog) -> Result<(), Error> {
        let mut stored = Stored::default();
        let mut forgotten = 0_u32;
        let mut earlier = None;
        for (msr, vcpu, Bits64(value)) in self.stored {
            let slot = Slot { msr, vcpu };
            if earlier >= Some(slot) {
                return Err(refused(format_args!("the values of {msr} are out of order")));
            }
            earlier = Some(slot);
            if let Some(vcpu) = vcpu.filter(|vcpu| vcpu.0 >= vcpus::count()) {
                return Err(refused(format_args!(
                    "there is no {vcpu}, which has a value of {msr}"
                )));
            }
            let learns = plugin.lessons.is_some() && vcpu.is_some();
            let Some(initial) = plugin.rules.initial(slot).or(learns.then_some(0)) else {
                forgotten = forgotten.saturating_add(1);
                continue;
            };
            let room = stored.write(slot, value, initial);
            room.map_err(|Full| refused("there are too many values"))?;
        }
        if let (Some(learned), Some(lessons)) = (self.learned, &mut plugin.lessons) {
            let seen = learned.seen.into_iter().map(take_over);
            *lessons = Lessons::from_parts(seen, learned.beyond, learned.dropped)
                .ok_or_else(|| refused("no guest can have led to these lessons"))?;
        }
        if forgotten > 0 {
            log::warn!("{forgotten} stored values are dropped: no rule stores them any more");
        }
        plugin.stored = stored;
        Ok(())
    }
}

fn refused(problem: impl core::fmt::Display) -> Error {
    Error::new(format_args!("the saved state is damaged: {problem}"))
}
