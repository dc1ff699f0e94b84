//! Answers, logs and learns unhandled accesses: MSRs that KVM does not know, and
//! accesses that it refuses (`KVM_MSR_EXIT_REASON_UNKNOWN` and
//! `KVM_MSR_EXIT_REASON_INVAL`, KVM api, section 5, `KVM_EXIT_X86_RDMSR`).
#![no_std]

extern crate alloc;

mod config;
mod diary;
mod lessons;
mod lookup;
mod profile_lines;
mod rules;
mod state;
mod stored;
#[cfg(test)]
mod tests;

use alloc::string::String;

use serde::Serialize;
use wasmsr_sdk::{Access, Error, Otherwise, Persist, Plugin, Report, Reset, Saved, Setup, export};

use config::Config;
use diary::{By, Diary};
use lessons::Lessons;
use profile_lines::profile_lines;
use rules::{Rules, Taken};
use state::Kept;
use stored::{Slot, Stored};

struct UnknownLog {
    rules: Rules,
    stored: Stored,
    /// In learning mode.
    lessons: Option<Lessons>,
    diary: Diary,
}

impl UnknownLog {
    fn read(&mut self, access: Access) -> (Result<u64, Otherwise>, By) {
        if let Some((place, rule)) = self.rules.find(access) {
            return (rule.read(access, &self.stored), By::Rule(place));
        }
        let Some(lessons) = &mut self.lessons else { return (Err(Otherwise::Pass), By::NoRule) };
        let value = self.stored.read(Slot::own(access), 0);
        lessons.read(access, value);
        (Ok(value), By::Learning)
    }

    fn write(&mut self, access: Access, value: u64) -> (Result<Taken, Otherwise>, By) {
        if let Some((place, rule)) = self.rules.find(access) {
            return (rule.write(access, value, &mut self.stored), By::Rule(place));
        }
        let Some(lessons) = &mut self.lessons else { return (Err(Otherwise::Pass), By::NoRule) };
        lessons.write(access, value);
        let taken = self.stored.write(Slot::own(access), value, 0).into();
        if taken == Taken::NoRoom {
            lessons.note_dropped();
        }
        (Ok(taken), By::Learning)
    }
}

impl Plugin for UnknownLog {
    fn new(setup: &Setup) -> Result<Self, Error> {
        let Config { rules, learn } = config::read(setup)?;
        Ok(UnknownLog {
            rules,
            stored: Stored::default(),
            lessons: learn.then(Lessons::default),
            diary: Diary::default(),
        })
    }

    fn rdmsr(&mut self, access: Access) -> Result<u64, Otherwise> {
        let (answer, by) = self.read(access);
        self.diary.read(access, answer, by);
        answer
    }

    fn wrmsr(&mut self, access: Access, value: u64) -> Result<(), Otherwise> {
        let (answer, by) = self.write(access, value);
        self.diary.write(access, value, answer, by);
        match (answer, by) {
            // The guest must notice that the value was not kept, except in
            // learning mode, where it is to go on in any case.
            (Ok(Taken::NoRoom), By::Rule(_)) => Err(Otherwise::Fault),
            _ => answer.map(drop),
        }
    }
}

impl Reset for UnknownLog {
    /// A reset changes what the guest has written, but not what it needs.
    fn reset(&mut self) {
        self.stored.clear();
    }
}

impl Persist for UnknownLog {
    fn save(&self) -> impl Serialize {
        Kept::of(self)
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), Error> {
        saved.state::<Kept>()?.put_into(self)
    }
}

impl Report for UnknownLog {
    fn report(&self) -> String {
        self.lessons
            .as_ref()
            .map_or_else(String::new, |lessons| profile_lines(&self.rules, lessons))
    }
}

export!(UnknownLog: Reset, Persist, Report);
