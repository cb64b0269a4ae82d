//! Each rule lets a good dashboard pass and finds its breach.

use super::*;
use serde_json::json;

fn panel(kind: &str, target: Value) -> Value {
    let mut target = target;
    target["refId"] = json!("A");
    target["datasource"] = json!({"type": kind, "uid": "${datasource}"});
    json!({
        "id": 1, "type": "timeseries", "title": "T", "description": "D", "datasource": {"type": kind, "uid": "${datasource}"},
        "gridPos": {"x": 0, "y": 0, "w": 12, "h": 8}, "targets": [target],
        "fieldConfig": {"defaults": {"unit": "s", "thresholds": {"steps": [{"color": "green", "value": null}]}}},
    })
}

fn board(kind: &str, variables: Value, panel: &Value) -> Value {
    let source = json!({"type": "datasource", "name": "datasource", "label": "Data source", "query": kind});
    let list: Vec<Value> = [source].into_iter().chain(variables.as_array().unwrap().iter().cloned()).collect();
    json!({
        "id": null, "uid": "headwater-x", "title": "Headwater / X", "description": "D", "tags": ["headwater"], "schemaVersion": 42,
        "editable": false, "templating": {"list": list}, "panels": [panel],
    })
}

fn prometheus(expr: &str) -> Value {
    let variable = |name: &str, label: &str| {
        json!({"type": "query", "name": name, "label": label, "multi": true, "includeAll": true, "allValue": ".+", "refresh": 2,
               "datasource": {"type": "prometheus", "uid": "${datasource}"}})
    };
    let variables = json!([variable("job", "Job"), variable("instance", "Instance")]);
    board(PROMETHEUS, variables, &panel(PROMETHEUS, json!({"expr": expr, "legendFormat": "x"})))
}

fn found(board: &Value) -> Vec<String> {
    problems(&[("f.json".to_owned(), board.clone())])
}

#[track_caller]
fn is_found(board: &Value, expected: &str) {
    let problems = found(board);
    assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:?}");
}

const GOOD: &str = r#"sum(rate(x_total{job=~"$job", instance=~"$instance"}[$__rate_interval]))"#;

#[test]
fn good_dashboards_have_no_problems() {
    assert_eq!(found(&prometheus(GOOD)), Vec::<String>::new());
    let columns = json!([{"selector": "time", "text": "time", "type": "timestamp"}, {"selector": "avg", "text": "avg", "type": "number"}]);
    let target =
        json!({"url": "/v1/stats", "url_options": {"method": "GET"}, "parser": "backend", "format": "timeseries", "columns": columns});
    assert_eq!(found(&board(INFINITY, json!([]), &panel(INFINITY, target))), Vec::<String>::new());
    let target = json!({"rawSql": "SELECT 1 FROM readings(${device:sqlstring}, $__timeFrom(), $__timeTo())", "format": "table"});
    assert_eq!(found(&board(POSTGRES, json!([]), &panel(POSTGRES, target))), Vec::<String>::new());
}

#[test]
fn slips_in_expressions_are_found() {
    for (from, to, expected) in [
        ("job=~\"$job\", ", "", "$job and $instance"),
        (", instance=~\"$instance\"", "", "$job and $instance"),
        ("$__rate_interval", "5m", "another range"),
        ("rate(", "last_over_time(", "counts"),
        ("[$__rate_interval]", "", "counts"),
        (GOOD, "vector(1)", "selects nothing"),
    ] {
        is_found(&prometheus(&GOOD.replace(from, to)), expected);
    }
}

#[test]
fn slips_in_dashboards_are_found() {
    for (pointer, value, expected) in [
        ("/uid", json!("x"), "uid"),
        ("/title", json!("X"), "title"),
        ("/schemaVersion", json!(41), "schemaVersion"),
        ("/editable", json!(true), "edited"),
        ("/id", json!(1), "id is not null"),
        ("/panels", json!([]), "no panels"),
        ("/templating/list/0/label", json!("Source"), "Data source"),
        ("/templating/list/1/allValue", json!(".*"), "variable job"),
        ("/templating/list/2/multi", json!(false), "variable instance"),
        ("/templating/list/2/refresh", json!(1), "range of time"),
        ("/panels/0/title", json!(""), "no title"),
        ("/panels/0/description", json!(""), "no description"),
        ("/panels/0/fieldConfig/defaults/unit", json!(""), "unit"),
        ("/panels/0/fieldConfig/defaults/thresholds/steps/0/value", json!(0), "threshold"),
        ("/panels/0/targets", json!([]), "asks nothing"),
        ("/panels/0/targets/0/datasource/uid", json!("fixed"), "another source"),
        ("/panels/0/datasource/uid", json!("fixed"), "another source"),
        ("/panels/0/gridPos/w", json!(25), "grid"),
    ] {
        let mut board = prometheus(GOOD);
        *board.pointer_mut(pointer).unwrap() = value;
        is_found(&board, expected);
    }
    let mut unused = prometheus(GOOD);
    unused["templating"]["list"].as_array_mut().unwrap().push(json!({"type": "query", "name": "x", "refresh": 2}));
    is_found(&unused, "no panel uses it");
}

#[test]
fn panels_on_each_other_are_found() {
    let mut two = prometheus(GOOD);
    let mut other = two["panels"][0].clone();
    (other["id"], other["title"], other["gridPos"]["x"]) = (json!(2), json!("U"), json!(12));
    two["panels"].as_array_mut().unwrap().push(other);
    assert_eq!(found(&two), Vec::<String>::new());
    two["panels"][1]["gridPos"]["x"] = json!(11);
    is_found(&two, "lies on");
    let twice = [("a".to_owned(), prometheus(GOOD)), ("b".to_owned(), prometheus(GOOD))];
    assert_eq!(problems(&twice), ["b: its uid is another's too"]);
}

#[test]
fn slips_in_other_queries_are_found() {
    for raw in ["SELECT '$device'", "SELECT ${device}", "SELECT ${device:raw}"] {
        is_found(&board(POSTGRES, json!([]), &panel(POSTGRES, json!({"rawSql": raw, "format": "table"}))), "quoted");
    }
    let columns = json!([{"selector": "avg", "text": "avg", "type": "number"}]);
    let good =
        json!({"url": "/v1/stats", "url_options": {"method": "GET"}, "parser": "backend", "format": "timeseries", "columns": columns});
    is_found(&board(INFINITY, json!([]), &panel(INFINITY, good.clone())), "has no time");
    for (key, value) in [("parser", json!("simple")), ("url", json!("https://elsewhere")), ("columns", json!([]))] {
        let mut target = good.clone();
        target[key] = value;
        assert!(!found(&board(INFINITY, json!([]), &panel(INFINITY, target))).is_empty(), "{key}");
    }
}
