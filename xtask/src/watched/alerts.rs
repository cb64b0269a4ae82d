//! Rules of recording and alert rules: names, labels, links, and that each alert has a unit test and a section of the runbook.
//!
//! Owns: those rules. Does not know: PromQL beyond selectors, what promtool says of the tests.

use super::promql::{Selector, selectors};
use std::collections::{BTreeMap, BTreeSet};
use yaml_rust2::Yaml;

/// Where links lead; docs/operating.md says how to change it.
const RUNBOOK: &str = "https://headwater.example/docs/runbook.md#";
const GRAFANA: &str = "http://127.0.0.1:3000/d/";
const SEVERITIES: [&str; 2] = ["critical", "warning"];
const ANNOTATIONS: [&str; 4] = ["summary", "description", "runbook_url", "dashboard"];
/// What a section of the runbook answers.
const PARTS: [&str; 4] = ["**Means**: ", "**See**: ", "**Do**: ", "**Don't**: "];

/// What is looked at.
pub(crate) struct Shipped {
    pub(crate) rules: Vec<Yaml>,
    pub(crate) tests: Vec<Yaml>,
    pub(crate) runbook: String,
    /// The uids of the dashboards.
    pub(crate) dashboards: BTreeSet<String>,
}

/// All breaches.
pub(crate) fn problems(shipped: &Shipped) -> Vec<String> {
    let rules: Vec<&Yaml> = shipped.rules.iter().flat_map(|file| list(&file["groups"])).flat_map(|group| list(&group["rules"])).collect();
    let recorded: BTreeSet<&str> = rules.iter().filter_map(|rule| rule["record"].as_str()).collect();
    let alerts: Vec<&Yaml> = rules.iter().copied().filter(|rule| !rule["alert"].is_badvalue()).collect();
    let mut problems = Vec::new();
    for rule in rules.iter().filter(|rule| rule["alert"].is_badvalue()) {
        problems.extend(recording(rule, &alerts));
    }
    for rule in &rules {
        problems.extend(expression(rule, &recorded));
    }
    for rule in &alerts {
        problems.extend(alert(rule, shipped));
    }
    let names: BTreeSet<&str> = alerts.iter().map(|rule| name(rule)).collect();
    problems.extend(untested(&alerts, &shipped.tests));
    problems.extend(runbook(&names, &shipped.runbook));
    problems.into_iter().map(|what| format!("deploy/prometheus: {what}")).collect()
}

/// The expressions of all rules.
pub(crate) fn expressions(files: &[Yaml]) -> impl Iterator<Item = &str> {
    let rules = files.iter().flat_map(|file| list(&file["groups"])).flat_map(|group| list(&group["rules"]));
    rules.filter_map(|rule| rule["expr"].as_str())
}

fn list(yaml: &Yaml) -> impl Iterator<Item = &Yaml> {
    yaml.as_vec().into_iter().flatten()
}

fn name(rule: &Yaml) -> &str {
    rule["alert"].as_str().or_else(|| rule["record"].as_str()).unwrap_or("a rule without a name")
}

/// `level:metric:operations`, and somebody uses it.
fn recording(rule: &Yaml, alerts: &[&Yaml]) -> Vec<String> {
    let (name, mut problems) = (name(rule), Vec::new());
    let parts: Vec<&str> = name.split(':').collect();
    if parts.len() != 3 || parts[0] != "job" || !parts[1].starts_with("headwater_") || parts[1].ends_with("_total") || parts[2].is_empty() {
        problems.push(format!("{name} is not job:headwater_…:operations (without _total)"));
    }
    if !alerts.iter().any(|alert| alert["expr"].as_str().is_some_and(|expr| selectors(expr).iter().any(|used| used.name == name))) {
        problems.push(format!("{name} is used by no alert"));
    }
    problems
}

/// Selectors say which job, or are recorded; labels are taken away by name (`without`).
fn expression(rule: &Yaml, recorded: &BTreeSet<&str>) -> Vec<String> {
    let name = name(rule);
    let Some(expr) = rule["expr"].as_str() else { return vec![format!("{name} has no expression")] };
    let mut problems: Vec<String> =
        selectors(expr).iter().filter_map(|used| selector(used, recorded)).map(|what| format!("{name}: {what}")).collect();
    if expr.contains(" by (") || expr.contains(" by(") {
        problems.push(format!("{name}: says `by`, not `without`"));
    }
    problems
}

fn selector(used: &Selector<'_>, recorded: &BTreeSet<&str>) -> Option<String> {
    if used.name.contains(':') {
        return (!recorded.contains(used.name)).then(|| format!("{} is not recorded", used.name));
    }
    let ours = used.name == "up" || used.name.starts_with("headwater_") || used.name.starts_with("process_");
    if !ours {
        return Some(format!("{} is no metric of ours", used.name));
    }
    if !used.matchers.split(", ").any(|matcher| matcher == "job=\"headwater\"") {
        return Some(format!("{} is of any job", used.name));
    }
    let counts = used.name.ends_with("_total") || used.name.ends_with("_bucket");
    let rated = used.range.is_some() && matches!(used.function, Some("rate" | "increase"));
    (counts && !rated).then(|| format!("{} is a counter, and not the argument of rate or increase", used.name))
}

fn alert(rule: &Yaml, shipped: &Shipped) -> Vec<String> {
    let (name, mut problems) = (name(rule), Vec::new());
    if !name.starts_with(|first: char| first.is_ascii_uppercase()) || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
        problems.push(format!("{name} is not CamelCase"));
    }
    if rule["for"].as_str().is_none_or(str::is_empty) {
        problems.push(format!("{name} has no `for`"));
    }
    let labels: Vec<&Yaml> = rule["labels"].as_hash().into_iter().flat_map(|labels| labels.keys()).collect();
    if labels != [&Yaml::from_str("severity")] || !rule["labels"]["severity"].as_str().is_some_and(|is| SEVERITIES.contains(&is)) {
        problems.push(format!("{name} has not just the label severity, critical or warning"));
    }
    let annotations: Vec<&str> = rule["annotations"]
        .as_hash()
        .into_iter()
        .flat_map(|all| all.iter())
        .filter_map(|(key, value)| value.as_str().and(key.as_str()))
        .collect();
    if annotations != ANNOTATIONS {
        problems.push(format!("{name} has not the annotations {ANNOTATIONS:?} but {annotations:?}"));
    }
    let link = format!("{RUNBOOK}{}", name.to_ascii_lowercase());
    if rule["annotations"]["runbook_url"].as_str() != Some(&link) {
        problems.push(format!("{name}: runbook_url is not {link}"));
    }
    let board = rule["annotations"]["dashboard"].as_str().and_then(|link| link.strip_prefix(GRAFANA));
    if !board.is_some_and(|uid| shipped.dashboards.contains(uid)) {
        problems.push(format!("{name}: its dashboard is none of ours"));
    }
    problems
}

/// Alerts, by severity, that no test sees firing, or that no test sees quiet.
fn untested(alerts: &[&Yaml], tests: &[Yaml]) -> Vec<String> {
    let mut fires: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut quiet: BTreeSet<&str> = BTreeSet::new();
    let checks = tests.iter().flat_map(|file| list(&file["tests"])).flat_map(|test| list(&test["alert_rule_test"]));
    for check in checks {
        let name = check["alertname"].as_str().unwrap_or_default();
        let expected: Vec<&Yaml> = list(&check["exp_alerts"]).collect();
        if expected.is_empty() {
            quiet.insert(name);
        }
        fires.extend(expected.iter().filter_map(|alert| Some((name, alert["exp_labels"]["severity"].as_str()?))));
    }
    let mut problems = Vec::new();
    for rule in alerts {
        let (name, severity) = (name(rule), rule["labels"]["severity"].as_str().unwrap_or_default());
        if !fires.contains(&(name, severity)) {
            problems.push(format!("{name} ({severity}): no unit test sees it firing"));
        }
        if !quiet.contains(name) {
            problems.push(format!("{name}: no unit test sees it quiet"));
        }
    }
    problems
}

/// Alerts without a section, sections without an alert, and what a section leaves out.
fn runbook(alerts: &BTreeSet<&str>, text: &str) -> Vec<String> {
    let sections: BTreeMap<&str, &str> = text.split("\n## ").skip(1).filter_map(|section| section.split_once('\n')).collect();
    let mut problems: Vec<String> = Vec::new();
    for alert in alerts {
        match sections.get(alert) {
            None => problems.push(format!("{alert}: docs/runbook.md has no section")),
            Some(section) => problems.extend(
                PARTS
                    .iter()
                    .filter(|part| !section.contains(*part))
                    .map(|part| format!("{alert}: its section of the runbook has no {part}")),
            ),
        }
    }
    problems
        .extend(sections.keys().filter(|section| !alerts.contains(*section)).map(|section| format!("the runbook's {section} is no alert")));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use yaml_rust2::YamlLoader;

    const RULES: &str = r#"
groups:
  - name: g
    rules:
      - record: job:headwater_reads:rate5m
        expr: sum without (instance) (rate(headwater_reads_total{job="headwater"}[5m]))
      - alert: TooMany
        expr: job:headwater_reads:rate5m > 1
        for: 1m
        labels: {severity: warning}
        annotations:
          summary: s
          description: d
          runbook_url: https://headwater.example/docs/runbook.md#toomany
          dashboard: http://127.0.0.1:3000/d/headwater-x
"#;
    const TESTS: &str = r"
tests:
  - alert_rule_test:
      - {eval_time: 1m, alertname: TooMany, exp_alerts: []}
      - {eval_time: 2m, alertname: TooMany, exp_alerts: [{exp_labels: {severity: warning}}]}
";
    const RUNBOOK: &str = "# Runbook\n\n## TooMany\n**Means**: a\n**See**: b\n**Do**: c\n**Don't**: d\n";

    fn found(rules: &str, tests: &str, runbook: &str) -> Vec<String> {
        let yaml = |text: &str| YamlLoader::load_from_str(text).unwrap();
        let dashboards = BTreeSet::from(["headwater-x".to_owned()]);
        problems(&Shipped { rules: yaml(rules), tests: yaml(tests), runbook: runbook.to_owned(), dashboards })
    }

    #[test]
    fn good_rules_have_no_problems() {
        assert_eq!(found(RULES, TESTS, RUNBOOK), Vec::<String>::new());
    }

    #[test]
    fn every_slip_is_found() {
        for (from, to, expected) in [
            ("TooMany", "too_many", "CamelCase"),
            ("        for: 1m\n", "", "`for`"),
            ("severity: warning", "severity: page", "severity"),
            ("          summary: s\n", "", "annotations"),
            ("#toomany", "#other", "runbook_url"),
            ("d/headwater-x", "d/other", "dashboard"),
            ("job:headwater_reads:rate5m > 1", "job:headwater_reads:rate1h > 1", "is not recorded"),
            ("job:headwater_reads:rate5m > 1", "headwater_lag{job=\"headwater\"} > 1", "used by no alert"),
            ("{job=\"headwater\"}", "", "any job"),
            ("headwater_reads_total{", "reads_total{", "no metric of ours"),
            ("rate(", "max_over_time(", "counter"),
            ("sum without (instance)", "sum by (job)", "`by`"),
            ("record: job:headwater_reads:rate5m", "record: headwater_reads_rate", "job:headwater_"),
        ] {
            let problems = found(&RULES.replace(from, to), TESTS, RUNBOOK);
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{from} -> {to}: {problems:?}");
        }
    }

    #[test]
    fn an_alert_without_a_test_or_a_section_is_found() {
        let fired_only = TESTS.replace("exp_alerts: []", "exp_alerts: [{exp_labels: {severity: warning}}]");
        assert!(found(RULES, &fired_only, RUNBOOK)[0].contains("quiet"));
        let quiet_only = TESTS.replace("exp_alerts: [{exp_labels: {severity: warning}}]", "exp_alerts: []");
        assert!(found(RULES, &quiet_only, RUNBOOK)[0].contains("firing"));
        let other_severity = TESTS.replace("severity: warning", "severity: critical");
        assert!(found(RULES, &other_severity, RUNBOOK)[0].contains("firing"));
        assert!(found(RULES, TESTS, "# Runbook\n")[0].contains("no section"));
        assert!(found(RULES, TESTS, &RUNBOOK.replace("**Don't**: d\n", ""))[0].contains("Don't"));
        assert!(found(RULES, TESTS, &format!("{RUNBOOK}\n## Another\nx\n"))[0].contains("is no alert"));
    }
}
