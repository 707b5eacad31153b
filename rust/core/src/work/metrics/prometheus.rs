//! The page that Prometheus scrapes, in the OpenMetrics format. Names are OpenTelemetry's as its rules write them for
//! Prometheus: dots as underscores, the unit behind the name, `_total` behind what only grows.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};

use super::Metrics;
use super::calls::{BOUNDS_S, HOWS};
use super::families::{DURATION, FAMILIES, Kind, Sample, call_labels};

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page of these workers as it is now.
pub fn page(workers: Vec<Arc<Metrics>>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page(workers)));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

#[derive(Debug)]
struct Page(Vec<Arc<Metrics>>);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in &FAMILIES {
            let unit = (family.unit == "s").then_some(Unit::Seconds);
            let (name, kind) = match family.kind {
                Kind::Counter => (name(family.name), MetricType::Counter),
                Kind::Gauge => (name(family.name), MetricType::Gauge),
            };
            let mut family_encoder =
                encoder.encode_descriptor(&name, family.help, unit.as_ref(), kind)?;
            for metrics in &self.0 {
                for Sample { labels, value } in (family.read)(metrics) {
                    let labels = metrics.labelled(&labels);
                    let mut encoder = family_encoder.encode_family(&labels)?;
                    match family.kind {
                        Kind::Counter => encoder.encode_counter(&value, NO_EXEMPLAR)?,
                        Kind::Gauge => encoder.encode_gauge(&value)?,
                    }
                }
            }
        }
        let (otel, help) = DURATION;
        let name = name(otel);
        let mut encoder =
            encoder.encode_descriptor(&name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        let mut workers = self.0.iter();
        workers.try_for_each(|metrics| metrics.durations_page(&mut encoder))
    }
}

const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;

impl Metrics {
    fn durations_page(&self, encoder: &mut MetricEncoder<'_>) -> Result<(), fmt::Error> {
        for (how, found) in self.calls.distributions() {
            // Of ways to end, those that were met.
            if HOWS[how] != "answered" && found.buckets.iter().all(|n| *n == 0) {
                continue;
            }
            let bounds = BOUNDS_S.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(found.buckets).collect();
            let count = found.buckets.iter().sum();
            let labels = self.labelled(&call_labels(how));
            encoder
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(found.sum_s, count, &buckets, None)?;
        }
        Ok(())
    }

    /// A sample's labels among the worker's own.
    fn labelled(&self, own: &[(&'static str, String)]) -> Vec<(String, String)> {
        let given = |label: &str| own.iter().any(|(o, _)| *o == label);
        self.labels()
            .into_iter()
            .filter(|(label, _)| !given(label))
            .map(|(label, text)| (label, text.to_owned()))
            .chain(own.iter().cloned())
            .map(|(label, text)| (name(label), text))
            .collect()
    }
}

fn name(otel: &str) -> String {
    otel.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{PartitionFigures, Pause, example};
    use super::*;

    #[test]
    fn the_page_names_every_figure_with_its_unit_and_whose_it_is() {
        let metrics = Arc::new(example());
        metrics.consumed(3, 7);
        metrics.sent("flights-egress", 6);
        metrics.dead_lettered.add("Bad \"value\"\n", 2);
        metrics.pause(Pause::Gate, true);
        metrics.set_desired_replicas(4);
        metrics.set_partitions(vec![PartitionFigures {
            partition: 3,
            lag_records: Some(11),
            lag_s: None,
        }]);
        metrics.record_calls(Duration::from_millis(30), "answered", 4);
        metrics.record_call(Duration::from_secs(60), "deadline");
        let page = page(vec![metrics]).unwrap();
        let own = "messaging_consumer_group_name=\"kappaflow-flights\",kappaflow_service=\"service:cost\",kappaflow_region=\"west\"";
        let ingress = "messaging_destination_name=\"flights-ingress\"";
        for line in [
            "# TYPE messaging_client_consumed_messages counter",
            &format!(
                "messaging_client_consumed_messages_total{{messaging_system=\"kafka\",{ingress},{own},messaging_operation_name=\"poll\",messaging_destination_partition_id=\"3\"}} 7.0"
            ),
            &format!(
                "messaging_client_sent_messages_total{{messaging_system=\"kafka\",{own},messaging_operation_name=\"send\",messaging_destination_name=\"flights-egress\"}} 6.0"
            ),
            &format!(
                "kappaflow_worker_dead_lettered_total{{messaging_system=\"kafka\",{ingress},{own},reason=\"Bad \\\"value\\\"\\n\"}} 2.0"
            ),
            &format!(
                "kappaflow_worker_lag_records{{messaging_system=\"kafka\",{ingress},{own},messaging_destination_partition_id=\"3\"}} 11.0"
            ),
            &format!(
                "kappaflow_worker_desired_replicas{{messaging_system=\"kafka\",{ingress},{own}}} 4.0"
            ),
            "# TYPE messaging_process_duration_seconds histogram",
            &format!(
                "messaging_process_duration_seconds_bucket{{le=\"0.05\",messaging_system=\"kafka\",{ingress},{own},messaging_operation_name=\"process\",kappaflow_outcome=\"answered\"}} 4"
            ),
            &format!(
                "messaging_process_duration_seconds_bucket{{le=\"+Inf\",messaging_system=\"kafka\",{ingress},{own},messaging_operation_name=\"process\",kappaflow_outcome=\"deadline\",error_type=\"deadline\"}} 1"
            ),
            "# EOF",
        ] {
            assert!(
                page.lines().any(|l| l == line),
                "no line {line}\nin\n{page}"
            );
        }
        // No value, no sample; the family is there all the same.
        assert!(page.contains("# TYPE kappaflow_worker_lag_seconds gauge"));
        assert!(!page.contains("kappaflow_worker_lag_seconds{"));
    }
}
