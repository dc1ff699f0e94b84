//! The boot that runs: the set in charge, and what it and those before it have counted.

use std::time::Instant;

use crate::boot_counts::BootCounts;
use crate::snapshot::{Row, Shadow, Snapshot};
use crate::sources::Sources;
use crate::totals::Totals;

pub(crate) struct Boot {
    /// Counted by the changes of the set in charge.
    pub(crate) generation: u64,
    pub(crate) sources: Sources,
    counts: BootCounts,
    since: Instant,
}

impl Boot {
    pub(crate) fn new(sources: Sources) -> Self {
        Boot { generation: 1, sources, counts: BootCounts::new(), since: Instant::now() }
    }

    /// Another set is in charge, or other shadows follow the same one. What does not
    /// count any more is kept, here and in the run's `totals`, so that no count falls.
    pub(crate) fn change(&mut self, new: Sources, totals: &mut Totals) {
        totals.expect(&new);
        let old = std::mem::replace(&mut self.sources, new);
        let msrs = match old.metrics.are(&self.sources.metrics) {
            true => Vec::new(),
            false => {
                self.generation = self.generation.saturating_add(1);
                let msrs = old.metrics.msrs();
                self.counts.keep(msrs.clone());
                msrs
            }
        };
        totals.keep_counts(msrs, &old.shadows.without(&self.sources.shadows).counts());
    }

    pub(crate) fn fill(&mut self, snapshot: &mut Snapshot) {
        let metrics = &self.sources.metrics;
        snapshot.vcpus = metrics.vcpus();
        snapshot.set = Some(self.sources.set.clone());
        snapshot.boot_uptime = Some(self.since.elapsed().as_secs_f64());
        for plugin in metrics.plugins() {
            if !snapshot.plugins.iter().any(|known| **known == **plugin) {
                snapshot.plugins.push(plugin.to_string());
            }
        }
        snapshot.msrs = self.counts.with(metrics.msrs()).into_iter().map(Row::of).collect();
        snapshot.shadows = self.sources.shadows.counts().into_iter().map(Shadow::of).collect();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use wasmsr_engine::{Engine, LoadOptions, Profile, Started};
    use wasmsr_interface::{Host, MsrAccess, MsrHandler, MsrIndex, MsrOp, NoGuest, Reason};

    use super::*;

    fn engine() -> Engine {
        let profile = Profile::parse(Path::new("vm.toml"), "").unwrap();
        Engine::load(&profile, &LoadOptions::default()).unwrap()
    }

    fn started(engine: &Engine) -> Started {
        let host: Arc<dyn Host> = Arc::new(NoGuest::default());
        engine.start(&host, 1).unwrap()
    }

    fn read(started: &mut Started) {
        let (index, op) = (MsrIndex(0x1234), MsrOp::Read);
        let _ = started.vcpus[0].answer(MsrAccess { index, op, reason: Reason::Filter });
    }

    fn reads(boot: &mut Boot) -> Vec<u64> {
        let mut snapshot = Snapshot::default();
        boot.fill(&mut snapshot);
        snapshot.msrs.iter().map(|row| row.reads).collect()
    }

    fn total(boot: &Boot, totals: &mut Totals) -> u64 {
        totals.with(Some(&boot.sources)).pairs.values().map(|counts| counts.reads).sum()
    }

    #[test]
    fn a_swap_loses_no_count_and_counts_none_twice() {
        let engine = engine();
        let (mut first, mut second) = (started(&engine), started(&engine));
        let (mut boot, mut totals) = (Boot::new(Sources::of(&engine, &first)), Totals::default());
        read(&mut first);
        boot.change(Sources::of(&engine, &second), &mut totals);
        assert_eq!((reads(&mut boot), total(&boot, &mut totals)), (vec![1], 1));
        read(&mut second);
        // As at the end of a probation: the same set, with other shadows.
        boot.change(Sources::of(&engine, &second), &mut totals);
        assert_eq!((reads(&mut boot), total(&boot, &mut totals)), (vec![2], 2));
        assert_eq!(boot.generation, 2);
        read(&mut second);
        assert_eq!((reads(&mut boot), total(&boot, &mut totals)), (vec![3], 3));
    }

    #[test]
    fn ten_thousand_swaps_of_a_boot_grow_nothing() {
        let engine = engine();
        let mut started = [started(&engine), started(&engine)];
        let mut totals = Totals::default();
        let mut boot = Boot::new(Sources::of(&engine, &started[0]));
        started.iter_mut().for_each(read);
        for swap in 1..=10_000_usize {
            boot.change(Sources::of(&engine, &started[swap % 2]), &mut totals);
        }
        assert_eq!(reads(&mut boot).len(), 1);
        assert_eq!(totals.with(Some(&boot.sources)).pairs.len(), 1);
    }
}
