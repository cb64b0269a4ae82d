//! A Prometheus that watches stacks with the shipped rules, quickened.
//!
//! Owns: the copy of the rules and what differs in it, asking Prometheus. Does not know: which alert belongs to which fault.
//!
//! What differs, and nothing else: everything is scraped and evaluated each second, not each 15 s; targets come from a file;
//! every `for` is two seconds; every range is a thirtieth, at least 5 s; and the thresholds of [`QUICKER`].

use super::files;
use crate::client::{Ask, Client, target};
use crate::stack::{SOON, wait_for};
use headwater_servers::{Folder, Prometheus};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// Thresholds in seconds that a test cannot wait for.
const QUICKER: [(&str, &str); 2] = [
    ("job:headwater_ingest_lag_seconds:max > 60", "job:headwater_ingest_lag_seconds:max > 3"),
    ("stage=\"queryable\"}) > 60", "stage=\"queryable\"}) > 5"),
];

/// Metrics that are nobody's on this machine: of TLS, of OpenID providers.
const ELSEWHERE: [&str; 2] = ["headwater_tls_certificate_expiry_timestamp_seconds", "headwater_jwks_refresh_failures_total"];

pub(super) struct Eye {
    client: Client,
    folder: Folder,
    _prometheus: Prometheus,
}

impl Eye {
    /// Watches servers at these addresses.
    pub(super) fn over(addresses: &[String]) -> Self {
        let folder = Folder::new("watch").unwrap();
        let rules = folder.path().join("rules");
        std::fs::create_dir(&rules).unwrap();
        let mut quickened = BTreeSet::new();
        for file in files("prometheus/rules") {
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(rules.join(file.file_name().unwrap()), quicker(&text, &mut quickened)).unwrap();
        }
        assert_eq!(quickened.len(), QUICKER.len(), "thresholds that are no more: {QUICKER:?} but {quickened:?}");
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, configuration(&std::fs::read_to_string(super::shipped("prometheus/prometheus.yml")).unwrap())).unwrap();
        watch(folder.path(), addresses);
        let prometheus = Prometheus::start(folder.path(), &config).unwrap();
        let mut client = Client::nowhere();
        client.base = prometheus.url();
        Self { client, folder, _prometheus: prometheus }
    }

    /// Watches these from now on.
    pub(super) fn watch(&self, addresses: &[String]) {
        watch(self.folder.path(), addresses);
    }

    fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let answer = self.client.ask(&Ask::new("GET", &target(&format!("/api/v1/{path}"), parameters)).anonymous());
        let body = answer.json();
        assert!(answer.status == 200 && body["status"] == "success", "{path} {parameters:?}: {body}");
        body["data"].clone()
    }

    /// Whether an expression has a number now.
    pub(super) fn has_value(&self, expression: &str) -> bool {
        self.ask("query", &[("query", expression)])["result"].as_array().unwrap().iter().any(|one| is_number(&one["value"][1]))
    }

    /// Whether an expression has a number within the last half minute, asked as a panel over time asks.
    pub(super) fn has_line(&self, expression: &str) -> bool {
        let (to, from) = (super::now() / 1_000_000, super::now() / 1_000_000 - 30);
        let parameters = [("query", expression), ("start", &from.to_string()), ("end", &to.to_string()), ("step", "1")];
        let lines = self.ask("query_range", &parameters);
        let points = lines["result"].as_array().unwrap().iter().flat_map(|line| line["values"].as_array().unwrap());
        points.into_iter().any(|point| is_number(&point[1]))
    }

    /// The one number of an expression.
    pub(super) fn value(&self, expression: &str) -> f64 {
        let result = self.ask("query", &[("query", expression)])["result"].clone();
        assert_eq!(result.as_array().unwrap().len(), 1, "{expression}: {result}");
        result[0]["value"][1].as_str().unwrap().parse().unwrap()
    }

    fn alerts(&self) -> Vec<Value> {
        self.ask("alerts", &[])["alerts"].as_array().unwrap().clone()
    }

    fn firing(&self) -> BTreeSet<String> {
        let alerts = self.alerts();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until all of these fire, with words that could be filled in.
    pub(super) fn fires(&self, names: &[&str]) {
        wait_for(&format!("{names:?} to fire"), SOON * 2, || {
            let firing = self.firing();
            names.iter().all(|name| firing.contains(*name)).then_some(())
        });
        for alert in self.alerts() {
            let words = alert["annotations"].to_string();
            assert!(!words.contains("error expanding") && !words.contains("<no value>"), "{alert}");
        }
    }

    /// None of these fires while the others do (for longer than a scrape that a busy machine answers too late).
    pub(super) fn rests(&self, names: &[&str]) {
        none_left("alerts that should rest", SOON, || self.firing().into_iter().filter(|name| names.contains(&name.as_str())).collect());
    }

    /// Waits until nothing fires any more.
    pub(super) fn is_calm(&self) {
        none_left("alerts that fire", SOON * 2, || self.firing().into_iter().collect());
    }

    /// Every rule is evaluated, without a word against it, and every recorded one is there where there is what it is made of.
    pub(super) fn every_rule_is_sound(&self) {
        wait_for("every rule to be evaluated", SOON, || {
            let rules = self.rules();
            let (good, bad): (Vec<&Value>, Vec<&Value>) = rules.iter().partition(|rule| rule["health"] == "ok");
            assert!(bad.iter().all(|rule| rule["health"] == "unknown"), "{bad:?}");
            (bad.is_empty() && good.len() > 30).then_some(())
        });
        let rules = self.rules();
        let recorded: Vec<&str> =
            rules.iter().filter(|rule| rule["type"] == "recording").filter_map(|rule| rule["name"].as_str()).collect();
        assert!(recorded.len() > 10, "{recorded:?}");
        none_left("recorded values", SOON, || recorded.iter().filter(|name| !self.is_there(name)).map(|name| (*name).to_owned()).collect());
    }

    fn rules(&self) -> Vec<Value> {
        let groups = self.ask("rules", &[]);
        groups["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    fn is_there(&self, name: &str) -> bool {
        self.ask("query", &[("query", name)])["result"].as_array().is_some_and(|result| !result.is_empty())
    }

    /// No rule is about a metric that does not exist: such an alert would rest for ever.
    pub(super) fn every_metric_of_the_rules_is_known(&self, but: &[&str]) {
        let known = self.ask("label/__name__/values", &[]);
        let known: BTreeSet<&str> =
            known.as_array().unwrap().iter().filter_map(Value::as_str).chain(ELSEWHERE).chain(but.iter().copied()).collect();
        for rule in self.rules() {
            let text = rule["query"].as_str().unwrap();
            let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
            let names = words.filter(|word| word.starts_with("headwater_") || word.starts_with("process_") || word.starts_with("job:"));
            names.for_each(|name| assert!(known.contains(name), "{}: there is no {name}", rule["name"]));
        }
    }
}

/// Looks until nothing is left, and names what is when that takes too long.
pub(super) fn none_left(what: &str, deadline: Duration, mut look: impl FnMut() -> Vec<String>) {
    let started = Instant::now();
    loop {
        let left = look();
        if left.is_empty() {
            return;
        }
        assert!(started.elapsed() < deadline, "{what}, after {deadline:?}: {left:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn is_number(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.parse::<f64>().is_ok_and(f64::is_finite))
}

/// The list of targets, which Prometheus reads again when it changes.
fn watch(folder: &Path, addresses: &[String]) {
    let targets: Vec<&str> = addresses.iter().map(|address| address.trim_start_matches("http://")).collect();
    let beside = folder.join("targets.tmp");
    std::fs::write(&beside, json!([{ "targets": targets }]).to_string()).unwrap();
    std::fs::rename(&beside, folder.join("targets.json")).unwrap();
}

/// The shipped configuration, with this second's pace and a list of targets that can change.
fn configuration(text: &str) -> String {
    let place = "    static_configs:\n      - targets: [\"127.0.0.1:8080\"]\n";
    assert!(text.contains(place) && text.matches(": 15s").count() == 2, "{text}");
    text.replace(place, "    file_sd_configs:\n      - files: [targets.json]\n").replace(": 15s", ": 1s")
}

/// The rules, quickened; `seen` takes the thresholds that were met.
fn quicker(text: &str, seen: &mut BTreeSet<&'static str>) -> String {
    let mut quick = String::new();
    for line in text.lines() {
        match line.trim_start().strip_prefix("for: ") {
            Some(_) => quick.push_str("        for: 2s"),
            None => quick.push_str(&ranges(line)),
        }
        quick.push('\n');
    }
    for (long, short) in QUICKER {
        if quick.contains(long) {
            seen.insert(long);
            quick = quick.replace(long, short);
        }
    }
    quick
}

/// Every `[5m]` becomes `[10s]`.
fn ranges(line: &str) -> String {
    let mut parts = line.split('[');
    let mut quick = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let range = part.split_once(']').and_then(|(range, rest)| Some((seconds(range)?, rest)));
        match range {
            Some((seconds, rest)) => quick.push_str(&format!("[{}s]{rest}", (seconds / 30).max(5))),
            None => quick.push_str(&format!("[{part}")),
        }
    }
    quick
}

fn seconds(range: &str) -> Option<u64> {
    let (number, unit) = range.split_at(range.len().checked_sub(1)?);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    Some(number.parse::<u64>().ok()? * unit)
}

#[test]
fn only_ranges_and_waits_are_quickened() {
    let text = "  expr: rate(a[5m]) > 60 and b[2m] > 1 # [x]\n        for: 10m\n";
    assert_eq!(quicker(text, &mut BTreeSet::new()), "  expr: rate(a[10s]) > 60 and b[5s] > 1 # [x]\n        for: 2s\n");
}
