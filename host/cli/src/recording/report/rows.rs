//! The single accesses in the page: a sample of all, and another sample of each kind of
//! trouble (fault, failed, stop), since the few would get lost among the many.

use serde::{Serialize, Serializer};
use wasmsr_engine::record::{AccessLine, Hex, Op};
use wasmsr_interface::MsrIndex;

use super::sample::Sample;
use super::timeline::Class;
use crate::terminal::plain::plain;

/// Most troubles of each kind that are kept.
pub(super) const MOST_TROUBLES: usize = 500;

/// An access with harmless texts.
#[derive(Clone)]
pub(super) struct Row {
    /// Its number among all accesses.
    number: u64,
    pub(super) t: u64,
    pub(super) boot: u64,
    pub(super) vcpu: u32,
    pub(super) msr: MsrIndex,
    pub(super) name: Option<String>,
    pub(super) op: Op,
    pub(super) value: Option<Hex>,
    pub(super) class: Class,
    pub(super) plugin: Option<String>,
    ns: u64,
}

impl Row {
    fn new(number: u64, boot: u64, access: &AccessLine) -> Self {
        let AccessLine { t, vcpu, msr, op, value, ns, .. } = *access;
        Row {
            number,
            t,
            boot,
            vcpu,
            msr,
            name: access.name.as_deref().map(plain),
            op,
            value,
            class: Class::of(access),
            plugin: access.plugin.as_deref().map(plain),
            ns,
        }
    }
}

/// A list: an object with names of keys would be three times as long.
impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Row { t, boot, vcpu, msr, name, op, value, class, plugin, ns, .. } = self;
        (t, boot, vcpu, msr, name, op, value, class, plugin, ns).serialize(serializer)
    }
}

/// The accesses that are kept.
pub(super) struct Rows {
    all: Sample<Row>,
    troubles: [(Class, Sample<Row>); 3],
}

impl Rows {
    /// At most `limit` of all accesses, and some more troubles.
    pub(super) fn new(limit: usize) -> Self {
        let troubles = [Class::Fault, Class::Failed, Class::Stop];
        Rows {
            all: Sample::new(limit),
            troubles: troubles.map(|class| (class, Sample::new(MOST_TROUBLES))),
        }
    }

    /// Adds an access.
    pub(super) fn add(&mut self, boot: u64, access: &AccessLine) {
        let number = self.all.seen();
        let row = || Row::new(number, boot, access);
        let class = Class::of(access);
        for (_, sample) in self.troubles.iter_mut().filter(|(of, _)| *of == class) {
            sample.add(row);
        }
        self.all.add(row);
    }

    /// One access of how many is kept, not counting troubles.
    pub(super) fn stride(&self) -> u64 {
        self.all.stride()
    }

    /// Each kind of trouble, its number, and how many of them are kept.
    pub(super) fn troubles_kept(&self) -> impl Iterator<Item = (Class, u64, usize)> {
        self.troubles.iter().map(|(class, sample)| (*class, sample.seen(), sample.kept().len()))
    }

    /// The troubles, in order.
    pub(super) fn troubles(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> =
            self.troubles.iter().flat_map(|(_, sample)| sample.kept()).collect();
        rows.sort_unstable_by_key(|row| row.number);
        rows
    }

    /// The sample of all accesses and the troubles, in order, each once.
    pub(super) fn kept(&self) -> Vec<&Row> {
        let mut rows = self.troubles();
        rows.extend(self.all.kept());
        rows.sort_unstable_by_key(|row| row.number);
        rows.dedup_by_key(|row| row.number);
        rows
    }
}
