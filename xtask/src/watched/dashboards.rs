//! Rules of dashboards: those of Grafana's linter (`dashboard-linter lint --strict`), the same for sources that it does not know, and
//! that no panel lies on another.
//!
//! Owns: those rules. Does not know: whether a panel has data.

use super::promql::selectors;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The newest form of dashboards that are plain JSON.
const SCHEMA: u64 = 42;
const PROMETHEUS: &str = "prometheus";
const INFINITY: &str = "yesoreyeram-infinity-datasource";
const POSTGRES: &str = "grafana-postgresql-datasource";
/// Of Grafana's units those that we use.
const UNITS: [&str; 9] = ["none", "short", "s", "bytes", "Bps", "percentunit", "reqps", "cps", "ops"];
/// Panels that ask nobody.
const SILENT: [&str; 3] = ["row", "text", "alertlist"];
const COLUMNS: u64 = 24;

/// All breaches, of files by their path.
pub(crate) fn problems(boards: &[(String, Value)]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut uids = BTreeSet::new();
    for (file, board) in boards {
        let mut found = of_board(board);
        if !uids.insert(board["uid"].as_str()) {
            found.push("its uid is another's too".to_owned());
        }
        problems.extend(found.into_iter().map(|what| format!("{file}: {what}")));
    }
    problems
}

/// The kind of source that its panels ask.
pub(crate) fn source_of(board: &Value) -> Option<&str> {
    list(&board["templating"]["list"]).find(|variable| variable["type"] == "datasource")?["query"].as_str()
}

/// The expressions of all panels that ask Prometheus, with their file.
pub(crate) fn expressions(boards: &[(String, Value)]) -> impl Iterator<Item = (&str, &str)> {
    boards.iter().flat_map(|(file, board)| {
        let targets = list(&board["panels"]).flat_map(|panel| list(&panel["targets"]));
        targets.filter_map(move |target| Some((file.as_str(), target["expr"].as_str()?)))
    })
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn of_board(board: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let mut rule = |holds: bool, what: &str| {
        if !holds {
            problems.push(what.to_owned());
        }
    };
    rule(text(board, "uid").starts_with("headwater-"), "its uid does not begin with headwater-");
    rule(text(board, "title").starts_with("Headwater / "), "its title does not begin with `Headwater / `");
    rule(!text(board, "description").is_empty(), "it has no description");
    rule(board["tags"] == serde_json::json!(["headwater"]), "it has other tags than headwater");
    rule(board["schemaVersion"] == SCHEMA, "its schemaVersion is not 42");
    rule(board["editable"] == false, "it can be edited");
    rule(board.get("id") == Some(&Value::Null), "its id is not null");
    rule(list(&board["panels"]).any(|panel| !SILENT.contains(&text(panel, "type"))), "it has no panels");
    problems.extend(variables(board));
    problems.extend(places(board));
    let source = source_of(board).unwrap_or_default();
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for panel in list(&board["panels"]) {
        if !ids.insert(panel["id"].as_u64()) || !titles.insert(text(panel, "title")) {
            problems.push(format!("panel {}: its id or title is another's too", panel["title"]));
        }
        problems.extend(of_panel(panel, source).into_iter().map(|what| format!("panel {}: {what}", panel["title"])));
    }
    problems
}

/// One variable for the source; with Prometheus `job` and `instance`; all are used, and follow the range of time.
fn variables(board: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let variables: Vec<&Value> = list(&board["templating"]["list"]).collect();
    let sources: Vec<&&Value> = variables.iter().filter(|variable| variable["type"] == "datasource").collect();
    match sources.as_slice() {
        [one] if one["name"] == "datasource" && one["label"] == "Data source" => {}
        _ => problems.push("it has not one variable `datasource`, labelled `Data source`".to_owned()),
    }
    if source_of(board) == Some(PROMETHEUS) {
        for (name, label) in [("job", "Job"), ("instance", "Instance")] {
            let good = |variable: &&&Value| {
                variable["name"] == name
                    && variable["label"] == label
                    && variable["type"] == "query"
                    && variable["multi"] == true
                    && variable["includeAll"] == true
                    && variable["allValue"] == ".+"
            };
            if !variables.iter().any(|variable| good(&variable)) {
                problems.push(format!("it has no variable {name} of many, all of which is `.+`"));
            }
        }
    }
    let panels = board["panels"].to_string();
    for variable in variables.iter().filter(|variable| variable["type"] == "query") {
        let name = text(variable, "name");
        if variable["refresh"] != 2 || variable["datasource"]["uid"] != "${datasource}" {
            problems.push(format!("variable {name}: does not follow the range of time, or asks a source by name"));
        }
        if !panels.contains(&format!("${name}")) && !panels.contains(&format!("${{{name}")) {
            problems.push(format!("variable {name}: no panel uses it"));
        }
    }
    problems
}

/// Panels within the grid, none on another.
fn places(board: &Value) -> Vec<String> {
    let (mut problems, mut taken) = (Vec::new(), BTreeMap::new());
    for panel in list(&board["panels"]) {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap_or(u64::MAX));
        if w == 0 || h == 0 || h > 100 || x.saturating_add(w) > COLUMNS || y > 1_000 {
            problems.push(format!("panel {}: does not lie in the grid", panel["title"]));
            continue;
        }
        let cells = (x..x + w).flat_map(|column| (y..y + h).map(move |line| (column, line)));
        if let Some(other) = cells.filter_map(|cell| taken.insert(cell, &panel["title"])).next() {
            problems.push(format!("panel {}: lies on {other}", panel["title"]));
        }
    }
    problems
}

fn of_panel(panel: &Value, source: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text(panel, "title").is_empty() {
        problems.push("it has no title".to_owned());
    }
    if text(panel, "type") == "row" {
        return problems;
    }
    if text(panel, "description").is_empty() {
        problems.push("it has no description".to_owned());
    }
    if SILENT.contains(&text(panel, "type")) {
        return problems;
    }
    if !UNITS.contains(&text(&panel["fieldConfig"]["defaults"], "unit")) {
        problems.push("it has no unit, or an unknown one".to_owned());
    }
    if panel["fieldConfig"]["defaults"]["thresholds"]["steps"][0].get("value") != Some(&Value::Null) {
        problems.push("its first threshold has a value".to_owned());
    }
    let mut references = BTreeSet::new();
    for target in list(&panel["targets"]) {
        if text(target, "refId").is_empty() || !references.insert(text(target, "refId")) {
            problems.push("two of its queries have one refId".to_owned());
        }
        problems.extend(of_target(target, source));
    }
    if references.is_empty() {
        problems.push("it asks nothing".to_owned());
    }
    for asks in list(&panel["targets"]).chain([panel]) {
        if asks["datasource"]["uid"] != "${datasource}" || asks["datasource"]["type"] != source {
            problems.push("it asks another source than ${datasource}".to_owned());
        }
    }
    problems
}

fn of_target(target: &Value, source: &str) -> Vec<String> {
    match source {
        PROMETHEUS => promql(text(target, "expr"), text(target, "legendFormat")),
        INFINITY => infinity(target),
        POSTGRES => sql(target),
        _ => vec![format!("it asks {source}, which has no rules here")],
    }
}

fn promql(expr: &str, legend: &str) -> Vec<String> {
    let (mut problems, found) = (Vec::new(), selectors(expr));
    if found.is_empty() || legend.is_empty() {
        problems.push(format!("`{expr}` selects nothing, or its series have no name"));
    }
    for used in found {
        let name = used.name;
        let has = |matcher: &str| used.matchers.split(", ").any(|part| part == matcher);
        if !has("job=~\"$job\"") || !has("instance=~\"$instance\"") {
            problems.push(format!("{name} is not matched with $job and $instance"));
        }
        if used.range.is_some_and(|range| range != "$__rate_interval") {
            problems.push(format!("{name} is taken over another range than $__rate_interval"));
        }
        let counts = ["_total", "_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end));
        if counts && !(used.range.is_some() && matches!(used.function, Some("rate" | "irate" | "increase"))) {
            problems.push(format!("{name} counts, and is not the argument of rate, irate or increase"));
        }
    }
    problems
}

/// The JSON API, asked by Grafana's server (so that alerts could be made of it), whose rows are flat.
fn infinity(target: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    if !text(target, "url").starts_with("/v1/") || target["url_options"]["method"] != "GET" || target["parser"] != "backend" {
        problems.push("it is not a GET of /v1/… by the backend parser".to_owned());
    }
    let columns: Vec<&Value> = list(&target["columns"]).collect();
    let good = |column: &&Value| !text(column, "selector").is_empty() && ["string", "number", "timestamp"].contains(&text(column, "type"));
    if columns.is_empty() || !columns.iter().all(good) {
        problems.push("its columns have not all a selector and a type".to_owned());
    }
    let timed = columns.iter().any(|column| column["type"] == "timestamp");
    if target["format"] == "timeseries" && !timed {
        problems.push("a series over time has no time".to_owned());
    }
    problems
}

/// Only macros, and variables that Grafana quotes: nothing that is typed into a field becomes SQL.
fn sql(target: &Value) -> Vec<String> {
    let raw = text(target, "rawSql");
    let mut problems = Vec::new();
    if raw.is_empty() || !["table", "time_series"].contains(&text(target, "format")) {
        problems.push("it has no SQL, or no form of rows".to_owned());
    }
    for rest in raw.split('$').skip(1) {
        let quoted = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).is_some_and(|(name, _)| name.ends_with(":sqlstring"));
        let macro_ = ["__timeFrom()", "__timeTo()", "__interval"].iter().any(|known| rest.starts_with(known));
        if !quoted && !macro_ {
            problems.push(format!("`${}` is neither a macro nor quoted (:sqlstring)", rest.chars().take(12).collect::<String>()));
        }
    }
    problems
}

#[cfg(test)]
mod tests;
