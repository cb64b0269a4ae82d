//! Statistics by definition, from all readings at once, against the real ones.

use crate::Config;
use crate::testing::{Reading, Stack, at, reading};
use headwater_core::time::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const STATS: &str = "count,sum,avg,min,max,range,stddev_pop,first,last,p0,p50,p99.9,p100";
/// Times of readings, in seconds around the start.
const SPAN: std::ops::Range<i64> = -40..40;

/// The labels of a group and its readings.
type Group<'a> = (Map<String, Value>, Vec<&'a Reading>);

#[derive(Debug, Clone)]
struct Case {
    readings: Vec<Reading>,
    /// Where batches end, and another way to cut the same readings.
    cuts: [Vec<prop::sample::Index>; 2],
    from: i64,
    to: i64,
    step: Option<i64>,
    group_by: Option<&'static str>,
    fill: bool,
}

fn a_reading() -> impl Strategy<Value = Reading> {
    let device = prop::sample::select(vec!["a", "a b", "b"]);
    let metric = prop::sample::select(vec!["m", "n"]);
    let tag = |name: &'static str| prop::option::of(prop::sample::select(vec!["1", "2"]).prop_map(move |value| (name, value)));
    // Halves: sums of few are exact, so that the definition can be followed with plain f64.
    (device, metric, tag("x"), tag("y"), SPAN, -9i32..9).prop_map(|(device, metric, x, y, second, halves)| {
        let base = reading(device, metric).unit(if metric == "m" { "Cel" } else { device }).at(at(second)).value(f64::from(halves) / 2.0);
        x.into_iter().chain(y).fold(base, |reading, (name, value)| reading.tag(name, value))
    })
}

fn a_case() -> impl Strategy<Value = Case> {
    let cuts = || prop::collection::vec(any::<prop::sample::Index>(), 0..6);
    let step = prop::option::of(1i64..30);
    let group_by = prop::sample::select(vec![None, Some("none"), Some("device"), Some("tag.x"), Some("device,tag.y"), Some("tag.y,tag.x")]);
    (prop::collection::vec(a_reading(), 0..60), [cuts(), cuts()], -45i64..45, 1i64..60, step, group_by, any::<bool>())
        .prop_map(|(readings, cuts, from, len, step, group_by, fill)| Case { readings, cuts, from, to: from + len, step, group_by, fill })
}

impl Case {
    fn uri(&self) -> String {
        let mut uri = format!("/v1/stats?from={}&to={}&stats={STATS}", at(self.from), at(self.to));
        self.step.iter().for_each(|step| uri.push_str(&format!("&step={step}s")));
        self.group_by.iter().for_each(|by| uri.push_str(&format!("&group_by={by}")));
        if self.fill {
            uri.push_str("&fill=null");
        }
        uri
    }

    async fn stack(&self, cuts: &[prop::sample::Index], config: Config) -> Stack {
        let stack = Stack::with(config);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(self.readings.len() + 1)).chain([0, self.readings.len()]).collect();
        ends.sort_unstable();
        for pair in ends.windows(2) {
            stack.commit(&self.readings[pair[0]..pair[1]]).await;
        }
        stack
    }

    /// Every reading that counts: the first of each key within the range, with its series.
    fn settled(&self) -> BTreeMap<(String, Timestamp), &Reading> {
        let mut settled = BTreeMap::new();
        for reading in self.readings.iter().filter(|reading| at(self.from) <= reading.time && reading.time < at(self.to)) {
            settled.entry((reading.key().as_str().to_owned(), reading.time)).or_insert(reading);
        }
        settled
    }

    fn start_of(&self, time: Timestamp) -> Timestamp {
        self.step.map_or(at(self.from), |step| Timestamp(time.0 - time.0.rem_euclid(step * 1_000_000)))
    }

    fn starts(&self) -> Vec<Timestamp> {
        let step = self.step.unwrap_or(self.to - self.from);
        let first = self.start_of(at(self.from));
        (0..).map(|i| first.plus(i * step * 1_000_000)).take_while(|start| *start < at(self.to)).collect()
    }

    /// The labels of a reading's group as a row has them, and its place in the order of rows.
    fn group(&self, reading: &Reading) -> (Vec<String>, Map<String, Value>) {
        let key = reading.key();
        let parts = key.parts();
        let by: Option<Vec<&str>> = self.group_by.map(|by| by.split(',').collect());
        let mut row = Map::new();
        let has_device = by.as_ref().is_none_or(|by| by.contains(&"device"));
        if has_device {
            row.insert("device".into(), json!(parts.device));
        }
        row.insert("metric".into(), json!(parts.metric));
        let names: Option<Vec<&str>> = by.map(|by| by.iter().filter_map(|label| label.strip_prefix("tag.")).collect());
        let shown: Vec<(&str, &str)> = parts.tags().filter(|(name, _)| names.as_ref().is_none_or(|names| names.contains(name))).collect();
        let mut tags: Map<String, Value> = shown.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        for name in names.iter().flatten() {
            tags.entry(*name).or_insert(Value::Null);
        }
        if names.as_ref().is_none_or(|names| !names.is_empty()) {
            row.insert("tags".into(), tags.into());
        }
        let device = if has_device { parts.device } else { "" };
        let order =
            [device, parts.metric].into_iter().map(str::to_owned).chain(shown.iter().flat_map(|(n, v)| [(*n).to_owned(), (*v).to_owned()]));
        (order.collect(), row)
    }

    fn rows(&self) -> Vec<Value> {
        let settled = self.settled();
        let mut groups: BTreeMap<Vec<String>, Group<'_>> = BTreeMap::new();
        for reading in settled.values() {
            let (order, labels) = self.group(reading);
            groups.entry(order).or_insert((labels, Vec::new())).1.push(reading);
        }
        let mut rows = Vec::new();
        for (labels, readings) in groups.values() {
            let units: Vec<_> = readings.iter().map(|reading| self.last_unit(reading)).collect();
            let unit = units.iter().all(|unit| unit == &units[0]).then(|| units[0].clone()).flatten();
            for start in self.starts() {
                let of_bucket: Vec<&Reading> = readings.iter().copied().filter(|reading| self.start_of(reading.time) == start).collect();
                if self.fill || !of_bucket.is_empty() {
                    let mut row = labels.clone();
                    row.insert("time".into(), json!(start.to_string()));
                    row.insert("unit".into(), json!(unit));
                    row.extend(figures(&of_bucket));
                    rows.push(row.into());
                }
            }
        }
        rows
    }

    fn last_unit(&self, of: &Reading) -> Option<String> {
        self.readings.iter().rfind(|reading| reading.key() == of.key()).and_then(|reading| reading.unit.clone())
    }
}

fn figures(readings: &[&Reading]) -> Map<String, Value> {
    let mut values: Vec<f64> = readings.iter().map(|reading| reading.value).collect();
    values.sort_by(f64::total_cmp);
    let n = values.len();
    if n == 0 {
        let nulls = STATS.split(',').chain(["percentile_error"]).map(|name| (name.to_owned(), Value::Null));
        return nulls.chain([("count".to_owned(), json!(0))]).collect();
    }
    let sum: f64 = values.iter().sum();
    let variance = (n as f64 * values.iter().map(|v| v * v).sum::<f64>() - sum * sum) / (n as f64 * n as f64);
    let first = readings.iter().map(|r| (r.time, r.value)).min_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))).unwrap().1;
    let last = readings.iter().map(|r| (r.time, r.value)).max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))).unwrap().1;
    let percentile = |p: f64| values[((p * n as f64).ceil() as usize).max(1) - 1];
    let figures = json!({
        "count": n, "sum": sum, "avg": sum / n as f64, "min": values[0], "max": values[n - 1], "range": values[n - 1] - values[0],
        "stddev_pop": variance.sqrt(), "first": first, "last": last, "p0": values[0], "p50": percentile(0.5), "p99.9": percentile(0.999),
        "p100": values[n - 1], "percentile_error": 0.0,
    });
    figures.as_object().unwrap().clone()
}

fn config(gather_readings: usize, block_bytes: usize) -> Config {
    Config { gather_readings, block_bytes, ..Config::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn statistics_follow_their_definition(case in a_case(), gather in 1usize..40, block_bytes in 1usize..400, limit in 1usize..8) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let uri = case.uri();
            let stack = case.stack(&case.cuts[0], Config::default()).await;
            let whole = stack.get(&uri).await.ok();
            prop_assert_eq!(whole.rows(), case.rows(), "{}", uri);

            let recut = case.stack(&case.cuts[1], config(gather, block_bytes)).await;
            prop_assert_eq!(recut.get(&uri).await.ok().bytes, whole.bytes, "other batches and parts");
            prop_assert_eq!(recut.all_pages(&uri, limit).await, case.rows(), "pages of {}", limit);

            let range = uri.split("&stats").next().unwrap().replace("stats", "readings");
            let raw: Vec<Value> = case.settled().values().map(|reading| json!([reading.time.to_string(), reading.value])).collect();
            let pages = recut.all_pages(&range, limit).await;
            let shown: Vec<Value> = pages.iter().map(|row| json!([row["time"], row["value"]])).collect();
            prop_assert_eq!(shown, raw, "readings in pages of {}", limit);
            Ok(())
        })?;
    }
}
