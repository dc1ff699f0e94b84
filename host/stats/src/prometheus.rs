//! `GET /metrics`: Prometheus' text format.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType, Summary,
};
use prometheus::{TEXT_FORMAT, TextEncoder};
use wasmsr_engine::{MsrCounts, ShadowCounts};

use crate::changes::Changes;
use crate::sources::Sources;
use crate::totals::{ShadowKey, Sums};

/// What the text is served as.
pub(crate) const CONTENT_TYPE: &str = TEXT_FORMAT;

/// What is known of the run beside its counts.
pub(crate) struct About<'a> {
    /// In seconds since 1970.
    pub(crate) started: f64,
    pub(crate) boots: u64,
    pub(crate) current: Option<&'a Sources>,
    pub(crate) changes: &'a Changes,
}

/// All of it.
pub(crate) fn text(about: &About<'_>, sums: &Sums) -> String {
    let families = [about.families(), sums.families(), sums.shadow_families()].concat();
    encoded(families)
}

/// A family without a metric is none.
fn encoded(mut families: Vec<MetricFamily>) -> String {
    families.retain(|family| !family.get_metric().is_empty());
    // Fails only for a family without a name.
    TextEncoder::new().encode_to_string(&families).unwrap_or_default()
}

impl About<'_> {
    fn families(&self) -> Vec<MetricFamily> {
        let vcpus = self.current.map_or(0, |sources| sources.metrics.vcpus()) as u64;
        let versions = self.current.map(|sources| &*sources.versions).unwrap_or_default();
        let is_there = |(plugin, version): &(String, String)| {
            gauge(labels([("plugin", plugin), ("version", version)]), 1.0)
        };
        let set = self.current.map(|sources| gauge(labels([("set", &sources.set)]), 1.0));
        let Changes { generation, swaps, returns } = self.changes;
        let returned =
            |(cause, count): (&String, &u64)| counter(labels([("cause", cause)]), *count);
        vec![
            gauges(
                "wasmsr_build_info",
                "The version of wasmsr; always 1.",
                vec![gauge(labels([("version", env!("CARGO_PKG_VERSION"))]), 1.0)],
            ),
            gauges(
                "wasmsr_start_time_seconds",
                "When the run began, in seconds since 1970.",
                vec![gauge(vec![], self.started)],
            ),
            gauges(
                "wasmsr_vcpus",
                "vCPUs of the VM; 0 between two boots.",
                vec![gauge(vec![], float(vcpus))],
            ),
            counters("wasmsr_boots_total", "Boots of the VM.", vec![counter(vec![], self.boots)]),
            gauges(
                "wasmsr_plugin_info",
                "The versions of the plugins of this boot; always 1.",
                versions.iter().map(is_there).collect(),
            ),
            gauges(
                "wasmsr_set_info",
                "SHA-256 of the set in charge; always 1.",
                set.into_iter().collect(),
            ),
            gauges(
                "wasmsr_generation",
                "The number of the set in charge, from 1 in each boot; 0 between two boots.",
                vec![gauge(vec![], float(*generation))],
            ),
            counters(
                "wasmsr_swaps_total",
                "Swaps of the set in charge, without returns and rollbacks.",
                vec![counter(vec![], *swaps)],
            ),
            counters(
                "wasmsr_returns_total",
                "Returns to the former set by themselves, by cause.",
                returns.iter().map(returned).collect(),
            ),
        ]
    }
}

impl Sums {
    fn families(&self) -> Vec<MetricFamily> {
        let by_op = |(msr, plugin): &(String, String), op, value| {
            counter(labels([("msr", msr), ("op", op), ("plugin", plugin)]), value)
        };
        let by_pair = |(msr, plugin): &(String, String), value| {
            counter(labels([("msr", msr), ("plugin", plugin)]), value)
        };
        let plugins =
            || self.plugins.iter().map(|(plugin, counts)| (labels([("plugin", plugin)]), counts));
        let pairs = self.pairs.iter();
        vec![
            counters(
                "wasmsr_msr_accesses_total",
                "MSR accesses that left the kernel, by MSR, direction and plugin; (policy) answers what no plugin handles.",
                pairs
                    .clone()
                    .flat_map(|(key, counts)| {
                        [by_op(key, "read", counts.reads), by_op(key, "write", counts.writes)]
                    })
                    .collect(),
            ),
            counters(
                "wasmsr_msr_faults_total",
                "MSR accesses with the outcome fault: #GP(0) in the guest.",
                pairs.map(|(key, counts)| by_pair(key, counts.faults)).collect(),
            ),
            counters(
                "wasmsr_plugin_failures_total",
                "Accesses, timers, resets and reports at which a plugin failed, or was in backoff after failures.",
                plugins().map(|(labels, counts)| counter(labels, counts.failures)).collect(),
            ),
            family(
                "wasmsr_plugin_access_fuel",
                "Fuel of an access, for a sample of all accesses.",
                MetricType::SUMMARY,
                plugins()
                    .map(|(labels, counts)| summary(labels, float(counts.fuel), counts.metered))
                    .collect(),
            ),
            family(
                "wasmsr_msr_access_duration_seconds",
                "Time of an access in engine and plugin, for a sample of all accesses.",
                MetricType::HISTOGRAM,
                plugins().map(|(labels, counts)| histogram(labels, counts)).collect(),
            ),
        ]
    }

    fn shadow_families(&self) -> Vec<MetricFamily> {
        let of = |key: &ShadowKey, kind: Option<&str>| {
            let ShadowKey { shadow, of, version } = key;
            let mut labels = labels([("shadow", shadow), ("of", of), ("version", version)]);
            labels.extend(kind.map(|kind| label("kind", kind)));
            labels
        };
        let differences = |(key, counts): (&ShadowKey, &ShadowCounts)| {
            let kinds = [
                ("answer", counts.answers),
                ("effect", counts.effects),
                ("unclaimed", counts.unclaimed),
            ];
            kinds.map(|(kind, count)| counter(of(key, Some(kind)), count))
        };
        let shadows = || self.shadows.iter().map(|(key, counts)| (of(key, None), counts));
        vec![
            counters(
                "wasmsr_shadow_accesses_total",
                "Accesses that a shadow was given as well.",
                shadows().map(|(labels, counts)| counter(labels, counts.accesses)).collect(),
            ),
            counters(
                "wasmsr_shadow_differences_total",
                "Times at which a shadow differed from the plugin in charge.",
                self.shadows.iter().flat_map(differences).collect(),
            ),
            counters(
                "wasmsr_shadow_not_compared_total",
                "Accesses that were not compared with KVM's own answer.",
                shadows().map(|(labels, counts)| counter(labels, counts.not_compared)).collect(),
            ),
            counters(
                "wasmsr_shadow_failures_total",
                "Calls of shadows that trapped or overran a limit.",
                shadows().map(|(labels, counts)| counter(labels, counts.failures)).collect(),
            ),
            family(
                "wasmsr_shadow_duration_seconds",
                "Time that a shadow added to accesses.",
                MetricType::SUMMARY,
                shadows()
                    .map(|(labels, it)| summary(labels, it.took.as_secs_f64(), it.timed))
                    .collect(),
            ),
            family(
                "wasmsr_shadow_access_fuel",
                "Fuel of an access in a shadow.",
                MetricType::SUMMARY,
                shadows().map(|(labels, it)| summary(labels, float(it.fuel), it.metered)).collect(),
            ),
            family(
                "wasmsr_shadow_in_charge_access_fuel",
                "Fuel of the same accesses in the plugin in charge.",
                MetricType::SUMMARY,
                shadows()
                    .map(|(labels, it)| summary(labels, float(it.fuel_in_charge), it.metered))
                    .collect(),
            ),
        ]
    }
}

fn histogram(labels: Vec<LabelPair>, counts: &MsrCounts) -> Metric {
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
    let mut metric = Metric::from_label(labels);
    metric.set_histogram(histogram);
    metric
}

/// A sum and a count; quantiles cannot be added up.
fn summary(labels: Vec<LabelPair>, sum: f64, count: u64) -> Metric {
    let mut summary = Summary::default();
    summary.set_sample_sum(sum);
    summary.set_sample_count(count);
    let mut metric = Metric::from_label(labels);
    metric.set_summary(summary);
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

fn gauges(name: &str, help: &str, metrics: Vec<Metric>) -> MetricFamily {
    family(name, help, MetricType::GAUGE, metrics)
}

fn gauge(labels: Vec<LabelPair>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_gauge(gauge);
    metric.set_label(labels);
    metric
}

fn labels<const N: usize>(labels: [(&str, &str); N]) -> Vec<LabelPair> {
    labels.into_iter().map(|(name, value)| label(name, value)).collect()
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
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
    use wasmsr_interface::MsrIndex;

    use super::*;
    use crate::totals::tests::sums_of;

    fn counts(msr: u32, plugin: Option<&str>, reads: u64) -> MsrCounts {
        MsrCounts {
            index: Some(MsrIndex(msr)),
            plugin: plugin.map(Into::into),
            reads,
            latency: latency(&[(64, 3), (512, 5), (u64::MAX, 1)]),
            fuel: 50,
            metered: 5,
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

    #[test]
    fn a_histogram_is_one() {
        let sums = sums_of(vec![counts(0x10, Some("p"), 9)], &[]);
        let text = encoded(sums.families());
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
    fn fuel_is_a_sum_and_a_count() {
        let text = encoded(sums_of(vec![counts(0x10, Some("p"), 9)], &[]).families());
        for line in [
            "# TYPE wasmsr_plugin_access_fuel summary",
            "wasmsr_plugin_access_fuel_sum{plugin=\"p\"} 50",
            "wasmsr_plugin_access_fuel_count{plugin=\"p\"} 5",
        ] {
            assert!(text.lines().any(|found| found == line), "no `{line}`:\n{text}");
        }
    }

    #[test]
    fn shadows_have_series_and_their_absence_has_none() {
        let shadow = ShadowCounts {
            plugin: "s".to_owned(),
            version: "2.0.0".to_owned(),
            of: "p".into(),
            accesses: 7,
            unclaimed: 3,
            timed: 4,
            took: Duration::from_millis(2),
            ..ShadowCounts::default()
        };
        let text = encoded(sums_of(Vec::new(), &[shadow]).shadow_families());
        let labels = r#"shadow="s",of="p",version="2.0.0""#;
        for line in [
            format!("wasmsr_shadow_accesses_total{{{labels}}} 7"),
            format!("wasmsr_shadow_differences_total{{{labels},kind=\"unclaimed\"}} 3"),
            format!("wasmsr_shadow_duration_seconds_sum{{{labels}}} 0.002"),
            format!("wasmsr_shadow_duration_seconds_count{{{labels}}} 4"),
        ] {
            assert!(text.lines().any(|found| found == line), "no `{line}`:\n{text}");
        }
        assert_eq!(encoded(Sums::default().shadow_families()), "");
    }
}
