//! `GET /metrics`: Prometheus' text format. Counters go on over boots, and the
//! number of series is bounded whatever the guest does.

use std::collections::{BTreeMap, BTreeSet};

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{TEXT_FORMAT, TextEncoder};
use wasmsr_engine::{Metrics, MsrCounts};

/// What the text is served as.
pub(super) const CONTENT_TYPE: &str = TEXT_FORMAT;

/// MSRs and plugins that have series of their own: the first that are seen. All
/// others share one for ever, so that no counter changes whom it counts.
const OWN_SERIES: usize = 256;

/// The label of accesses that were left to the policy; no plugin's name has
/// parentheses.
const POLICY: &str = "(policy)";

/// The label of those without a series of their own.
const OTHER: &str = "other";

type Key = (String, String);

/// The counts of all boots that have ended, and who has a series.
#[derive(Default)]
pub(super) struct Totals {
    own: BTreeSet<Key>,
    past: Sums,
}

/// Counts by MSR and plugin, and by plugin.
#[derive(Default, Clone)]
struct Sums {
    pairs: BTreeMap<Key, MsrCounts>,
    plugins: BTreeMap<String, MsrCounts>,
}

impl Totals {
    /// A boot begins: its plugins' series are there from the start.
    pub(super) fn expect(&mut self, metrics: &Metrics) {
        for plugin in metrics.plugins() {
            self.past.plugins.entry(plugin.to_string()).or_default();
        }
    }

    /// A boot has ended.
    pub(super) fn keep(&mut self, metrics: &Metrics) {
        let mut past = std::mem::take(&mut self.past);
        self.add(&mut past, metrics.msrs());
        self.past = past;
    }

    fn add(&mut self, sums: &mut Sums, counts: Vec<MsrCounts>) {
        for counts in counts {
            let plugin = counts.plugin.as_deref().unwrap_or(POLICY).to_owned();
            sums.plugins.entry(plugin.clone()).or_default().add(&counts);
            let own = counts.index.map(|index| (index.to_string(), plugin));
            let own = own.filter(|key| {
                self.own.contains(key)
                    || (self.own.len() < OWN_SERIES && self.own.insert(key.clone()))
            });
            let key = own.unwrap_or_else(|| (OTHER.to_owned(), OTHER.to_owned()));
            sums.pairs.entry(key).or_default().add(&counts);
        }
    }

    /// All of it, with the counts of the boot that runs.
    pub(super) fn text(&mut self, started: f64, boots: u64, current: Option<&Metrics>) -> String {
        let mut sums = self.past.clone();
        self.add(&mut sums, current.map(Metrics::msrs).unwrap_or_default());
        let vcpus = current.map_or(0, Metrics::vcpus) as u64;
        let families = [
            vec![
                gauge(
                    "wasmsr_build_info",
                    "The version of wasmsr; always 1.",
                    labels([("version", env!("CARGO_PKG_VERSION"))]),
                    1.0,
                ),
                gauge(
                    "wasmsr_start_time_seconds",
                    "When the run began, in seconds since 1970.",
                    vec![],
                    started,
                ),
                gauge(
                    "wasmsr_vcpus",
                    "vCPUs of the VM; 0 between two boots.",
                    vec![],
                    float(vcpus),
                ),
                counters("wasmsr_boots_total", "Boots of the VM.", vec![counter(vec![], boots)]),
            ],
            sums.families(),
        ]
        .concat();
        // Fails only for a family without a name.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }
}

impl Sums {
    /// A family without a metric is none.
    fn families(&self) -> Vec<MetricFamily> {
        let by_op = |(msr, plugin): &Key, op, value| {
            counter(labels([("msr", msr), ("op", op), ("plugin", plugin)]), value)
        };
        let by_pair =
            |(msr, plugin): &Key, value| counter(labels([("msr", msr), ("plugin", plugin)]), value);
        let by_plugin = |name, help, value: fn(&MsrCounts) -> u64| {
            let metric = |(plugin, counts): (&String, &MsrCounts)| {
                counter(labels([("plugin", plugin)]), value(counts))
            };
            counters(name, help, self.plugins.iter().map(metric).collect())
        };
        let pairs = self.pairs.iter();
        let families = [
            counters(
                "wasmsr_msr_accesses_total",
                "MSR accesses that left the kernel, by who answered.",
                pairs
                    .clone()
                    .flat_map(|(key, counts)| {
                        [by_op(key, "read", counts.reads), by_op(key, "write", counts.writes)]
                    })
                    .collect(),
            ),
            counters(
                "wasmsr_msr_faults_total",
                "MSR accesses that ended with #GP in the guest.",
                pairs.map(|(key, counts)| by_pair(key, counts.faults)).collect(),
            ),
            by_plugin(
                "wasmsr_plugin_failures_total",
                "Accesses, timers, resets and reports at which a plugin failed, or rested after failures.",
                |counts| counts.failures,
            ),
            by_plugin(
                "wasmsr_plugin_fuel_sampled_total",
                "Fuel used by the accesses that were metered, a sample of all.",
                |counts| counts.fuel,
            ),
            by_plugin(
                "wasmsr_plugin_fuel_samples_total",
                "Accesses that were metered.",
                |counts| counts.metered,
            ),
            family(
                "wasmsr_msr_access_duration_seconds",
                "Time of an access in engine and plugin, of a sample of all.",
                MetricType::HISTOGRAM,
                self.plugins.iter().map(|(plugin, counts)| histogram(plugin, counts)).collect(),
            ),
        ];
        families.into_iter().filter(|family| !family.get_metric().is_empty()).collect()
    }
}

fn histogram(plugin: &str, counts: &MsrCounts) -> Metric {
    let mut cumulative = 0;
    let mut buckets = Vec::new();
    for (number, (bound, count)) in counts.latency.buckets().enumerate() {
        cumulative += count;
        // Every other one will do; the one without a bound is the encoder's.
        if let (Some(nanos), true) = (bound, number % 2 == 0) {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(float(nanos) / 1e9);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
    }
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(cumulative);
    histogram.set_sample_sum(counts.latency.total().as_secs_f64());
    let mut metric = Metric::from_label(labels([("plugin", plugin)]));
    metric.set_histogram(histogram);
    metric
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn counters(name: &str, help: &str, metrics: Vec<Metric>) -> MetricFamily {
    family(name, help, MetricType::COUNTER, metrics)
}

fn counter(labels: Vec<LabelPair>, value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(float(value));
    let mut metric = Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

fn gauge(name: &str, help: &str, labels: Vec<LabelPair>, value: f64) -> MetricFamily {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_gauge(gauge);
    metric.set_label(labels);
    family(name, help, MetricType::GAUGE, vec![metric])
}

fn labels<const N: usize>(labels: [(&str, &str); N]) -> Vec<LabelPair> {
    let pair = |(name, value): (&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    labels.into_iter().map(pair).collect()
}

/// Prometheus has no other numbers; beyond 2^53 the last digits are lost.
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_parse::{Scrape, Value};
    use wasmsr_engine::Latency;
    use wasmsr_engine::msr::MsrIndex;

    use super::*;

    fn counts(msr: u32, plugin: Option<&str>, reads: u64) -> MsrCounts {
        MsrCounts {
            index: Some(MsrIndex(msr)),
            plugin: plugin.map(Into::into),
            reads,
            latency: latency(&[(64, 3), (512, 5), (u64::MAX, 1)]),
            ..MsrCounts::default()
        }
    }

    fn latency(buckets: &[(u64, u64)]) -> Latency {
        let buckets: Vec<_> = buckets
            .iter()
            .map(|(up_to_ns, count)| serde_json::json!({"up_to_ns": up_to_ns, "count": count}))
            .collect();
        let plain = serde_json::json!({"total_ns": 3000, "max_ns": 2000, "buckets": buckets});
        serde_json::from_value(plain).unwrap()
    }

    fn scrape(text: &str) -> Scrape {
        Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap()
    }

    fn text_of(totals: &mut Totals, counts: Vec<MsrCounts>) -> String {
        let mut sums = totals.past.clone();
        totals.add(&mut sums, counts);
        TextEncoder::new().encode_to_string(&sums.families()).unwrap()
    }

    #[test]
    fn a_histogram_is_one() {
        let text = text_of(&mut Totals::default(), vec![counts(0x10, Some("p"), 9)]);
        let scrape = scrape(&text);
        let histogram = scrape.samples.iter().find_map(|sample| match &sample.value {
            Value::Histogram(buckets) => Some(buckets),
            _ => None,
        });
        let buckets = histogram.unwrap_or_else(|| panic!("no histogram:\n{text}"));
        assert!(buckets.is_sorted_by(|a, b| a.less_than < b.less_than && a.count <= b.count));
        assert_eq!(
            buckets.first().map(|bucket| (bucket.less_than, bucket.count)),
            Some((64e-9, 3.0))
        );
        let last = buckets.last().unwrap();
        assert_eq!((last.less_than, last.count), (f64::INFINITY, 9.0));
        assert!(
            text.contains("wasmsr_msr_access_duration_seconds_count{plugin=\"p\"} 9\n"),
            "{text}"
        );
        assert_eq!(counts(0, None, 0).latency.total(), Duration::from_micros(3));
    }

    #[test]
    fn the_number_of_series_is_bounded_and_they_keep_whom_they_count() {
        let mut totals = Totals::default();
        let lines = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        let walk = |from: u32| (from..from + 5000).map(|msr| counts(msr, None, 1)).collect();
        let first = text_of(&mut totals, walk(0));
        let second = text_of(&mut totals, walk(100));
        assert!(lines(&first) < 4 * OWN_SERIES, "{}", lines(&first));
        assert!(lines(&second) <= lines(&first));
        assert!(first.contains(r#"total{msr="0x10",op="read",plugin="(policy)"} 1"#), "{first}");
        assert!(second.contains(r#"{msr="other",op="read",plugin="other"} 4844"#), "{second}");
    }

    #[test]
    fn counters_go_on_over_boots() {
        let mut totals = Totals::default();
        let mut past = Sums::default();
        totals.add(&mut past, vec![counts(0x10, Some("p"), 9)]);
        totals.past = past;
        let text = text_of(&mut totals, vec![counts(0x10, Some("p"), 1)]);
        assert!(text.contains(r#"{msr="0x10",op="read",plugin="p"} 10"#), "{text}");
    }
}
