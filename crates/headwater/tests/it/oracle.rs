//! What is true, worked out the slow and obvious way.
//!
//! Owns: generated readings, how each format writes them, first-wins, and statistics by sorting. Does not know: the server, and
//! shares no code with it but the printing of times.
//! Invariant: values are multiples of 1/8 of moderate size, so that a plain f64 sum is exact in any order.

use headwater_core::time::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write;

/// 2026-01-05T00:00:00Z in microseconds.
pub(crate) const MONDAY: i64 = 1_767_571_200 * SECOND;
/// Microseconds.
pub(crate) const SECOND: i64 = 1_000_000;
/// Microseconds.
pub(crate) const MINUTE: i64 = 60 * SECOND;
/// Microseconds.
pub(crate) const HOUR: i64 = 60 * MINUTE;
/// Microseconds.
pub(crate) const DAY: i64 = 24 * HOUR;

/// Times as answers print them.
pub(crate) fn rfc3339(micros: i64) -> String {
    Timestamp(micros).to_string()
}

/// Small, seeded, and good enough for test data (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A number of `0..n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A multiple of 1/8 from -10,000 to 10,000.
    pub(crate) fn value(&mut self) -> f64 {
        (self.below(160_001) as f64 - 80_000.0) / 8.0
    }
}

/// One reading.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    /// Who.
    pub(crate) device: String,
    /// What.
    pub(crate) metric: String,
    /// Further identity.
    pub(crate) tags: BTreeMap<String, String>,
    /// When, in microseconds.
    pub(crate) time: i64,
    /// How much.
    pub(crate) value: f64,
}

impl Reading {
    /// A reading without tags.
    pub(crate) fn new(device: &str, metric: &str, time: i64, value: f64) -> Self {
        Self { device: device.to_owned(), metric: metric.to_owned(), tags: BTreeMap::new(), time, value }
    }

    /// With a tag.
    pub(crate) fn tag(mut self, name: &str, value: &str) -> Self {
        self.tags.insert(name.to_owned(), value.to_owned());
        self
    }

    /// As an item of a JSON body.
    pub(crate) fn json(&self) -> Value {
        let mut item = json!({ "device": self.device, "metric": self.metric, "ts": rfc3339(self.time), "value": self.value });
        if !self.tags.is_empty() {
            item["tags"] = json!(self.tags);
        }
        item
    }
}

/// `n` readings of a series, at irregular whole milliseconds from `from` on, about a minute apart, in a shuffled order.
pub(crate) fn series(random: &mut Random, device: &str, metric: &str, from: i64, n: usize) -> Vec<Reading> {
    let mut time = from;
    let mut readings = Vec::new();
    for _ in 0..n {
        time += (1 + random.below(120_000) as i64) * 1000;
        readings.push(Reading::new(device, metric, time, random.value()));
    }
    for i in (1..readings.len()).rev() {
        readings.swap(i, random.below(i as u64 + 1) as usize);
    }
    readings
}

/// A JSON array of one item a reading.
pub(crate) fn as_json(readings: &[Reading]) -> Value {
    readings.iter().map(Reading::json).collect()
}

/// A JSON array of items with several metrics and times in milliseconds as numbers; times must be whole milliseconds.
pub(crate) fn as_wide_json(readings: &[Reading]) -> Value {
    let mut items: BTreeMap<(&str, i64), Map<String, Value>> = BTreeMap::new();
    for reading in readings {
        items.entry((&reading.device, reading.time)).or_default().insert(reading.metric.clone(), json!(reading.value));
    }
    items.into_iter().map(|((device, time), metrics)| json!({ "device": device, "ts": time / 1000, "metrics": metrics })).collect()
}

/// One JSON object a line.
pub(crate) fn as_ndjson(readings: &[Reading]) -> String {
    readings.iter().map(|reading| format!("{}\n", reading.json())).collect()
}

/// One reading a line.
pub(crate) fn as_long_csv(readings: &[Reading]) -> String {
    let line = |r: &Reading| format!("{},{},{},{}\n", r.device, r.metric, rfc3339(r.time), r.value);
    "device,metric,ts,value\n".to_owned() + &readings.iter().map(line).collect::<String>()
}

/// One device and time a line, a column a metric; what is missing is an empty cell.
pub(crate) fn as_wide_csv(readings: &[Reading]) -> String {
    let mut metrics: Vec<&str> = readings.iter().map(|reading| reading.metric.as_str()).collect();
    metrics.sort_unstable();
    metrics.dedup();
    let mut rows: BTreeMap<(&str, i64), BTreeMap<&str, f64>> = BTreeMap::new();
    for reading in readings {
        rows.entry((&reading.device, reading.time)).or_default().insert(&reading.metric, reading.value);
    }
    let mut text = format!("ts,device,{}\n", metrics.join(","));
    for ((device, time), cells) in rows {
        let cells: Vec<String> = metrics.iter().map(|metric| cells.get(metric).map(f64::to_string).unwrap_or_default()).collect();
        text += &format!("{time},{device},{}\n", cells.join(","));
    }
    text
}

/// Line protocol, times in microseconds.
pub(crate) fn as_lines(readings: &[Reading]) -> String {
    let tags = |r: &Reading| r.tags.iter().map(|(name, value)| format!(",{name}={value}")).collect::<String>();
    readings.iter().map(|r| format!("{},device={}{} value={} {}\n", r.metric, r.device, tags(r), r.value, r.time)).collect()
}

/// gzip.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// zstd.
pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// What a series is told by.
pub(crate) type Key = (String, String, BTreeMap<String, String>);
/// Readings of one bucket by time.
pub(crate) type Points = Vec<(i64, f64)>;

/// Every reading that counts: of a key, the first that was sent.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Truth(pub(crate) BTreeMap<Key, BTreeMap<i64, f64>>);

impl Truth {
    /// What counts of readings that were sent in this order.
    pub(crate) fn of(readings: &[Reading]) -> Self {
        let mut truth = Self::default();
        truth.learn(readings);
        truth
    }

    /// Adds readings that were sent later.
    pub(crate) fn learn(&mut self, readings: &[Reading]) {
        for Reading { device, metric, tags, time, value } in readings {
            self.0.entry((device.clone(), metric.clone(), tags.clone())).or_default().entry(*time).or_insert(*value);
        }
    }

    /// How many readings count.
    pub(crate) fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// The readings of `[from, to)` in buckets of `step`, pooled by what `label` makes of a series, ordered by label and time.
    pub(crate) fn buckets(&self, from: i64, to: i64, step: Option<i64>, label: impl Fn(&Key) -> Key) -> BTreeMap<(Key, i64), Points> {
        let mut buckets: BTreeMap<(Key, i64), Points> = BTreeMap::new();
        for (key, readings) in &self.0 {
            for (time, value) in readings.range(from..to) {
                let start = step.map_or(from, |step| time.div_euclid(step) * step);
                buckets.entry((label(key), start)).or_default().push((*time, *value));
            }
        }
        buckets
    }

    /// What `/v1/readings` has to list, as `[time, device, metric, tags, value]`.
    pub(crate) fn listed(&self) -> Vec<Value> {
        let row = |key: &Key, time: &i64, value: &f64| json!({ "time": rfc3339(*time), "device": key.0, "metric": key.1, "tags": key.2, "value": value });
        self.0.iter().flat_map(|(key, readings)| readings.iter().map(move |(time, value)| row(key, time, value))).collect()
    }
}

/// Compares every statistic of a row of `/v1/stats` with the readings of its bucket.
pub(crate) fn check_row(row: &Value, points: &Points) {
    let mut values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    values.sort_by(f64::total_cmp);
    let bound = row["percentile_error"].as_f64().unwrap_or(0.0);
    if row.get("percentile_error").is_some() {
        assert_eq!(bound == 0.0, values.len() <= 64, "exact for up to 64 readings: {row}");
    }
    for (name, told) in row.as_object().unwrap() {
        if ["time", "device", "metric", "tags", "unit", "percentile_error"].contains(&name.as_str()) {
            continue;
        }
        let told = told.as_f64();
        let wrong = format!("{name} of {} readings in {row}", values.len());
        match name.strip_prefix('p') {
            Some(p) => {
                let (told, exact) = (told.expect(&wrong), percentile_disc(&values, p));
                assert!((told - exact).abs() <= bound * exact.abs(), "{wrong} should be {exact} ± {bound}");
            }
            None => {
                let (expected, relative) = statistic(name, points, &values);
                let close = |told: f64, expected: f64| (told - expected).abs() <= relative * expected.abs();
                assert!(told == expected || told.zip(expected).is_some_and(|(a, b)| close(a, b)), "{wrong} should be {expected:?}");
            }
        }
    }
}

/// A statistic and the relative error that this file's own arithmetic may have.
fn statistic(name: &str, points: &Points, sorted: &[f64]) -> (Option<f64>, f64) {
    let n = sorted.len() as f64;
    let sum: f64 = sorted.iter().sum();
    let squares: f64 = sorted.iter().map(|value| (value - sum / n).powi(2)).sum();
    // Of series that tie, the least is the first and the greatest the last.
    let first = points.iter().min_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))).map(|point| point.1);
    let last = points.iter().max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))).map(|point| point.1);
    match name {
        "count" => (Some(n), 0.0),
        "sum" => (Some(sum), 0.0),
        "avg" => (Some(sum / n), 1e-15),
        "min" => (sorted.first().copied(), 0.0),
        "max" => (sorted.last().copied(), 0.0),
        "range" => (Some(sorted[sorted.len() - 1] - sorted[0]), 0.0),
        "stddev" if sorted.len() < 2 => (None, 0.0),
        "stddev" => (Some((squares / (n - 1.0)).sqrt()), 1e-9),
        "stddev_pop" => (Some((squares / n).sqrt()), 1e-9),
        "first" => (first, 0.0),
        "last" => (last, 0.0),
        unknown => panic!("there is no statistic {unknown}"),
    }
}

/// PostgreSQL's: the smallest reading whose rank is at least p·n, with p a decimal of percent.
fn percentile_disc(sorted: &[f64], percent: &str) -> f64 {
    let (whole, fraction) = percent.split_once('.').unwrap_or((percent, ""));
    let numerator: u64 = format!("{whole}{fraction}").parse().unwrap();
    let denominator = 100 * 10_u64.pow(fraction.len() as u32);
    let rank = (numerator * sorted.len() as u64).div_ceil(denominator).max(1);
    sorted[rank as usize - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oracle_can_tell_a_wrong_number() {
        let points: Points = (1..=100).map(|n| (n, n as f64)).collect();
        let right = json!({ "time": "", "count": 100, "avg": 50.5, "p50": 50.2, "first": 1, "percentile_error": 0.01 });
        check_row(&right, &points);
        for (name, wrong) in [("count", 99.0), ("avg", 50.51), ("p50", 50.6), ("first", 2.0), ("percentile_error", 0.0)] {
            let mut row = right.clone();
            row[name] = json!(wrong);
            assert!(std::panic::catch_unwind(|| check_row(&row, &points)).is_err(), "{name} may be {wrong}");
        }
    }

    #[test]
    fn percentiles_are_those_of_postgresql() {
        let sorted: Vec<f64> = (1..=1000).map(f64::from).collect();
        for (p, expected) in [("0", 1.0), ("50", 500.0), ("99.9", 999.0), ("99.95", 1000.0), ("100", 1000.0)] {
            assert_eq!(percentile_disc(&sorted, p), expected, "p{p}");
        }
    }
}
