//! The panels of the shipped dashboards that ask Prometheus.
//!
//! Owns: reading dashboards, filling in expressions as Grafana does. Does not know: which panel should show what.

use super::eye::Eye;
use super::files;
use serde_json::Value;

/// Panels that a deployment on Kafka and PostgreSQL leaves empty: what they show belongs to the embedded log and the data directory.
const OF_ONE_PROCESS: [&str; 4] = ["Time of an fsync", "Size of the log", "Disk", "Disk free"];

pub(super) fn of_one_process(panel: &str) -> bool {
    OF_ONE_PROCESS.iter().any(|title| panel.ends_with(&format!(": {title}")))
}

/// The dashboards whose panels ask this kind of source.
pub(super) fn dashboards(kind: &str) -> Vec<Value> {
    let all = files("grafana/dashboards").into_iter().map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap());
    let of_kind: Vec<Value> = all.filter(|board: &Value| board["templating"]["list"][0]["query"] == kind).collect();
    assert!(!of_kind.is_empty(), "no dashboard asks {kind}");
    of_kind
}

/// Its panels with their queries, as (dashboard: panel, query).
pub(super) fn queries(board: &Value) -> Vec<(String, Value)> {
    let panels = board["panels"].as_array().unwrap().iter().filter(|panel| panel["targets"].is_array());
    let named = |panel: &Value| format!("{}: {}", board["title"].as_str().unwrap(), panel["title"].as_str().unwrap());
    panels.flat_map(|panel| panel["targets"].as_array().unwrap().iter().map(move |query| (named(panel), query.clone()))).collect()
}

/// Those whose expression has no number: a panel of several lines is filled when each has one.
pub(super) fn empty(eye: &Eye) -> Vec<String> {
    let mut empty = Vec::new();
    let mut asked = 0;
    for (panel, query) in dashboards("prometheus").iter().flat_map(queries) {
        let expression = filled_in(query["expr"].as_str().unwrap());
        let filled = if query["instant"] == true { eye.has_value(&expression) } else { eye.has_line(&expression) };
        asked += 1;
        if !filled {
            empty.push(panel);
        }
    }
    assert!(asked > 60, "only {asked} expressions");
    empty
}

/// With everything selected, over a range that is scraped each second: `$__rate_interval` is then four of these.
fn filled_in(expression: &str) -> String {
    let filled = expression.replace("$job", ".+").replace("$instance", ".+").replace("$__rate_interval", "4s");
    assert!(!filled.contains('$'), "{filled}");
    filled
}
