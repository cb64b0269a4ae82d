//! Metrics: the words in which every crate counts what it does, and their text for Prometheus.
//!
//! Owns: [`Registry`] (one of a process, made by the binary and given to the roles and back ends, each of which keeps plain
//! handles), the kinds of values, the buckets, and both text formats. Does not know: what is counted, HTTP, who scrapes.
//!
//! Invariants: sets of labels are closed and every series is there from the start, at 0; a family is described once, whoever
//! adds series to it; a handle is an atomic or a short lock and is never looked up while readings pass; what is a state and not
//! an event is looked up before a scrape ([`Source`]); a value that nobody knows is left out, never a guess.

mod appends;
mod text;
mod values;

pub use appends::Appends;
pub use prometheus_client::metrics::histogram::Histogram;
pub use text::Format;
pub use values::{Gauge, Total};

use crate::BoxFuture;
use prometheus_client::metrics::counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Something that happens; only rises.
pub type Counter = counter::Counter<u64, AtomicU64>;

/// Bounds for how long something takes, in seconds.
pub const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Bounds for how many of something there are at once, such as the rows of an answer.
pub const NUMBERS: &[f64] = &[1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0];

/// One label: its name and its value.
pub type Label = (&'static str, &'static str);
type Labels = Vec<Label>;

/// Makes the histograms of a family.
#[derive(Debug, Clone, Copy)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// A family with labels, so that whoever comes later adds to it.
enum Labelled {
    Counters(Family<Labels, Counter>),
    Gauges(Family<Labels, Gauge>),
    Histograms(Family<Labels, Histogram, Buckets>),
}

/// What has to be looked up for a scrape.
#[derive(Clone)]
pub struct Source {
    /// For how long what was looked up is good enough.
    pub fresh_for: Duration,
    /// Looks it up and sets the values; ends by itself, within about a second.
    pub refresh: Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

/// All metrics of a process. A name is the one that is scraped (`…_total` for counters); a help text has no full stop.
#[derive(Default)]
pub struct Registry {
    families: registry::Registry,
    labelled: BTreeMap<&'static str, Labelled>,
    sources: Vec<Source>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("sources", &self.sources.len()).finish_non_exhaustive()
    }
}

/// A counter's name without the suffix that both formats put behind it.
fn base(name: &'static str) -> &'static str {
    name.strip_suffix("_total").unwrap_or(name)
}

impl Registry {
    /// A counter; `name` ends with `_total`.
    pub fn counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        let counter = Counter::default();
        self.families.register(base(name), help, counter.clone());
        counter
    }

    /// One counter of a family; `labels` are those of all its series, in their order.
    pub fn counter_of(&mut self, name: &'static str, help: &'static str, labels: &[Label]) -> Counter {
        let known = self.labelled.entry(name).or_insert_with(|| {
            let family = Family::default();
            self.families.register(base(name), help, family.clone());
            Labelled::Counters(family)
        });
        match known {
            Labelled::Counters(family) => family.get_or_create(&labels.to_vec()).clone(),
            // A mistake of ours, which the test of all names finds: what is counted there is not seen.
            _ => Counter::default(),
        }
    }

    /// A number that is counted elsewhere and only rises; `name` ends with `_total`.
    pub fn total(&mut self, name: &'static str, help: &'static str) -> Total {
        let total = Total::default();
        self.families.register(base(name), help, total.clone());
        total
    }

    /// A value that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> Gauge {
        let gauge = Gauge::default();
        self.families.register(name, help, gauge.clone());
        gauge
    }

    /// One gauge of a family.
    pub fn gauge_of(&mut self, name: &'static str, help: &'static str, labels: &[Label]) -> Gauge {
        let known = self.labelled.entry(name).or_insert_with(|| {
            let family = Family::default();
            self.families.register(name, help, family.clone());
            Labelled::Gauges(family)
        });
        match known {
            Labelled::Gauges(family) => family.get_or_create(&labels.to_vec()).clone(),
            _ => Gauge::default(),
        }
    }

    /// How values are spread over `buckets` (their upper bounds, rising; one without a bound is added).
    pub fn histogram(&mut self, name: &'static str, help: &'static str, buckets: &'static [f64]) -> Histogram {
        let histogram = Buckets(buckets).new_metric();
        self.families.register(name, help, histogram.clone());
        histogram
    }

    /// One histogram of a family.
    pub fn histogram_of(&mut self, name: &'static str, help: &'static str, buckets: &'static [f64], labels: &[Label]) -> Histogram {
        let known = self.labelled.entry(name).or_insert_with(|| {
            let family = Family::new_with_constructor(Buckets(buckets));
            self.families.register(name, help, family.clone());
            Labelled::Histograms(family)
        });
        match known {
            Labelled::Histograms(family) => family.get_or_create(&labels.to_vec()).clone(),
            _ => Buckets(buckets).new_metric(),
        }
    }

    /// The send time of the newest record that has reached a stage on the way `sent` (gateway) → `applied` (ingest) →
    /// `queryable` (api), in seconds; 0 = none since the start. Each role sets its own.
    pub fn heartbeat(&mut self, stage: &'static str) -> Gauge {
        let help = "Send time of the newest heartbeat or other record that has reached the stage; 0: none since the start";
        self.gauge_of("headwater_heartbeat_timestamp_seconds", help, &[("stage", stage)])
    }

    /// Has `refresh` called before a scrape, unless it was called within `fresh_for`.
    pub fn source<F>(&mut self, fresh_for: Duration, refresh: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.sources.push(Source { fresh_for, refresh: Arc::new(move || Box::pin(refresh())) });
    }

    /// What has to be looked up before [`Self::write`].
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Every metric as it is now.
    pub fn write(&self, format: Format) -> String {
        text::write(&self.families, format)
    }
}

#[cfg(test)]
mod tests;
