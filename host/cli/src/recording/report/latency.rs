//! Histograms of access times, for each plugin and MSR.

use serde::Serialize;

use crate::recording::tally::{Counts, Tally};

/// The access times of a plugin or an MSR.
#[derive(Serialize)]
pub(super) struct Latency {
    group: &'static str,
    label: String,
    count: u64,
    mean: u64,
    p50: u64,
    p99: u64,
    max: u64,
    /// By quarter of an octave: (4 log2 of the time, count).
    buckets: Vec<(u32, u64)>,
}

impl Latency {
    /// The histograms of all accesses, of each plugin, and of each MSR.
    pub(super) fn of_all(tally: &Tally) -> Vec<Latency> {
        let all = Latency::new("", "All accesses".to_owned(), &tally.total);
        let has_times = |counts: &Counts| counts.all() > 0;
        let plugins =
            tally.by_plugin().filter(|(_, counts)| has_times(counts)).map(|(plugin, counts)| {
                let name = plugin.map_or("(policy)", |plugin| plugin).to_owned();
                Latency::new("Plugins", name, counts)
            });
        let rows = tally.rows().into_iter().filter(|row| has_times(&row.counts));
        let msrs = rows.map(|row| {
            let msr = row.shown_msr();
            let name = row.name.as_ref().map_or(String::new(), |name| format!(" {name}"));
            let plugin = row.plugin.as_deref().unwrap_or("(policy)");
            Latency::new("MSRs", format!("{msr}{name}, {plugin}"), &row.counts)
        });
        std::iter::once(all).chain(plugins).chain(msrs).collect()
    }

    fn new(group: &'static str, label: String, counts: &Counts) -> Self {
        let mut buckets: Vec<(u32, u64)> = Vec::new();
        for (ns, count) in counts.times() {
            let quarter = quarter_octave(ns);
            match buckets.last_mut() {
                Some((last, sum)) if *last == quarter => *sum += count,
                _ => buckets.push((quarter, count)),
            }
        }
        Latency {
            group,
            label,
            count: counts.all(),
            mean: counts.mean(),
            p50: counts.quantile(0.5),
            p99: counts.quantile(0.99),
            max: counts.max,
            buckets,
        }
    }
}

/// Four times the binary logarithm, rounded down.
fn quarter_octave(ns: u64) -> u32 {
    let ns = ns.max(1);
    let octave = ns.ilog2();
    // The fourth powers of the values between are exact in 128 bits if the number
    // has at most 31 bits.
    let shift = octave.saturating_sub(30);
    let (ns, low) = (u128::from(ns >> shift), octave - shift);
    let above = (1..4).take_while(|&quarter| ns.pow(4) >= 1_u128 << (4 * low + quarter));
    4 * octave + u32::try_from(above.count()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters_of_octaves() {
        let cases = [(0, 0), (1, 0), (2, 4), (3, 6), (4, 8), (1000, 39), (1024, 40), (1218, 41)];
        for (ns, expected) in cases {
            assert_eq!(quarter_octave(ns), expected, "{ns}");
        }
        assert_eq!(quarter_octave(u64::MAX), 4 * 63 + 3);
    }

    #[test]
    fn each_access_is_in_the_bucket_of_its_time() {
        let mut counts = Counts::default();
        for ns in [1, 100, 100, 1_024, 50_000_000] {
            counts.add_time(0, ns);
        }
        let latency = Latency::new("", String::new(), &counts);
        assert_eq!(latency.buckets, [(0, 1), (26, 2), (40, 1), (102, 1)]);
        assert_eq!(latency.max, 50_000_000);
    }
}
