//! Accesses over time, in columns of equal width. The width grows with the recording, so
//! that one pass is enough and the number of columns is bounded.

use serde::Serialize;
use wasmsr_engine::record::AccessLine;
use wasmsr_interface::OutcomeKind;

use crate::terminal::words::FAILED;

/// Most columns.
const COLUMNS: u64 = 2048;

/// What a column counts apart: outcomes, and accesses at which the plugin failed,
/// whatever their outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Class {
    Value,
    Ok,
    Kernel,
    Fault,
    Failed,
    Stop,
}

const CLASSES: usize = 6;

impl Class {
    pub(super) fn of(access: &AccessLine) -> Class {
        match access.outcome {
            _ if access.failed => Class::Failed,
            OutcomeKind::Value => Class::Value,
            OutcomeKind::Done => Class::Ok,
            OutcomeKind::Kernel => Class::Kernel,
            OutcomeKind::Fault => Class::Fault,
            OutcomeKind::Stop => Class::Stop,
        }
    }

    /// Its word, as in all that the command prints.
    pub(super) fn name(self) -> &'static str {
        match self {
            Class::Value => OutcomeKind::Value.name(),
            Class::Ok => OutcomeKind::Done.name(),
            Class::Kernel => OutcomeKind::Kernel.name(),
            Class::Fault => OutcomeKind::Fault.name(),
            Class::Failed => FAILED,
            Class::Stop => OutcomeKind::Stop.name(),
        }
    }
}

/// The columns.
#[derive(Serialize)]
pub(super) struct Timeline {
    /// When the first column begins.
    start: u64,
    /// Nanoseconds per column.
    width: u64,
    /// The counts of each column, in the order of [`Class`].
    columns: Vec<[u64; CLASSES]>,
}

impl Timeline {
    /// A timeline that begins at a time.
    pub(super) fn new(start: u64) -> Self {
        Timeline { start, width: 1_000, columns: Vec::new() }
    }

    /// The number of accesses of a class.
    pub(super) fn sum(&self, class: Class) -> u64 {
        self.columns.iter().filter_map(|column| column.get(class as usize)).sum()
    }

    /// Counts an access.
    pub(super) fn add(&mut self, t: u64, class: Class) {
        let t = t.saturating_sub(self.start);
        while t / self.width >= COLUMNS {
            self.widen();
        }
        // Fewer than COLUMNS.
        let column = usize::try_from(t / self.width).unwrap_or_default();
        if self.columns.len() <= column {
            self.columns.resize(column + 1, [0; CLASSES]);
        }
        let count = self.columns.get_mut(column).and_then(|column| column.get_mut(class as usize));
        if let Some(count) = count {
            *count += 1;
        }
    }

    /// Joins every two columns into one.
    fn widen(&mut self) {
        self.width = self.width.saturating_mul(2);
        self.columns = self
            .columns
            .chunks(2)
            .map(|pair| {
                let mut sum = [0; CLASSES];
                for column in pair {
                    sum.iter_mut().zip(column).for_each(|(sum, count)| *sum += count);
                }
                sum
            })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(timeline: &Timeline) -> u64 {
        timeline.columns.iter().flatten().sum()
    }

    #[test]
    fn nothing_is_lost_as_columns_grow() {
        let mut timeline = Timeline::new(0);
        for t in (0..50_000_000).step_by(777) {
            timeline.add(t, Class::Fault);
        }
        assert_eq!(sum(&timeline), 50_000_000_u64.div_ceil(777));
        assert!(timeline.columns.len() <= 2048);
        assert_eq!(timeline.width, 32_000);
        assert!(timeline.columns.iter().all(|column| column[0] == 0));
    }

    #[test]
    fn time_begins_where_it_is_said_to() {
        let mut timeline = Timeline::new(7_000_000_000);
        for t in [0, 7_000_000_000, 7_000_001_500] {
            timeline.add(t, Class::Failed);
        }
        assert_eq!((timeline.width, timeline.columns.len()), (1_000, 2));
        assert_eq!((timeline.sum(Class::Failed), timeline.sum(Class::Fault)), (3, 0));
    }

    #[test]
    fn any_time_has_a_column() {
        let mut timeline = Timeline::new(0);
        timeline.add(0, Class::Value);
        timeline.add(u64::MAX, Class::Stop);
        timeline.add(u64::MAX / 2, Class::Kernel);
        assert_eq!(sum(&timeline), 3);
        assert!(timeline.columns.len() <= 2048);
    }
}
