//! The panels that show sensor data: the JSON API through Infinity, and SQL.
//!
//! Owns: filling in variables and macros as Grafana and its plug-ins do, and what a filled panel is. Does not know: the data.

use super::panels::{dashboards, queries};
use crate::client::{Client, target};
use crate::oracle::rfc3339;
use crate::pg_faults::World;
use crate::stack::{Stack, clean};
use serde_json::Value;
use std::collections::BTreeMap;

/// What docs/operating.md gives to Grafana.
const SCOPES: &str = "read:stats read:readings read:devices read:dead-letters";
const HOUR: i64 = 3_600_000_000;

type Variables = BTreeMap<String, String>;

/// What Grafana is: somebody with a token that can only read.
pub(super) fn viewer(stack: &Stack) -> Client {
    let mut viewer = stack.client();
    viewer.token = stack.issue(&["--scope", SCOPES, "--subject", "grafana"]);
    viewer
}

/// Every panel that asks the JSON API gets rows, in which each of its columns is.
pub(super) fn every_question_has_rows(viewer: &Client) {
    for board in dashboards("yesoreyeram-infinity-datasource") {
        let mut variables = Variables::new();
        for variable in board["templating"]["list"].as_array().unwrap().iter().filter(|variable| variable["type"] == "query") {
            let rows = rows(viewer, "a variable", &variable["query"]["infinityQuery"], &variables);
            let selector = variable["query"]["infinityQuery"]["columns"][0]["selector"].as_str().unwrap();
            let first = variable["allValue"].as_str().or_else(|| rows[0][selector].as_str()).unwrap();
            variables.insert(variable["name"].as_str().unwrap().to_owned(), first.to_owned());
        }
        let queries = queries(&board);
        assert!(queries.len() > 5);
        for (panel, query) in queries {
            let rows = rows(viewer, &panel, &query, &variables);
            for column in query["columns"].as_array().unwrap() {
                let (selector, kind) = (column["selector"].as_str().unwrap(), column["type"].as_str().unwrap());
                assert!(rows.iter().all(|row| row.get(selector).is_some()), "{panel}: no {selector} in {}", rows[0]);
                let fits = |value: &Value| value.is_null() || if kind == "number" { value.is_number() } else { value.is_string() };
                assert!(rows.iter().all(|row| fits(&row[selector])), "{panel}: {selector} is no {kind}");
            }
        }
    }
}

/// Sends a question as the plug-in does; gives the rows that it finds in the answer.
fn rows(viewer: &Client, panel: &str, query: &Value, variables: &Variables) -> Vec<Value> {
    let parameters = query["url_options"]["params"].as_array().unwrap().iter();
    let parameters: Vec<(&str, String)> =
        parameters.map(|pair| (pair["key"].as_str().unwrap(), of_infinity(pair["value"].as_str().unwrap(), variables))).collect();
    let parameters: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = viewer.get(&target(query["url"].as_str().unwrap(), &parameters));
    assert_eq!(answer.status, 200, "{panel}: {}", answer.text());
    let rows = answer.json()[query["root_selector"].as_str().unwrap()].as_array().unwrap().clone();
    assert!(!rows.is_empty(), "{panel}: no rows for {parameters:?}");
    rows
}

fn of_infinity(text: &str, variables: &Variables) -> String {
    let (from, to) = (rfc3339(super::now() - HOUR), rfc3339(super::now()));
    let mut text = text.replace("${__timeFrom:date:iso}", &from).replace("${__timeTo:date:iso}", &to).replace("${__interval_ms}", "15000");
    for (name, value) in variables {
        text = text.replace(&format!("${name}"), value);
    }
    assert!(!text.contains('$'), "{text}");
    text
}

/// Every panel that asks PostgreSQL gets rows, as a role that can only read.
pub(super) fn every_statement_has_rows(world: &World) {
    let url = world.backends().store_url();
    csv(&url, "CREATE ROLE grafana LOGIN IN ROLE headwater_reader; ALTER ROLE grafana SET statement_timeout = '30s'");
    let url = url.replace("//postgres@", "//grafana@");
    for board in dashboards("grafana-postgresql-datasource") {
        let mut variables = Variables::new();
        for variable in board["templating"]["list"].as_array().unwrap().iter().filter(|variable| variable["type"] == "query") {
            let choices = csv(&url, &of_postgres(variable["query"].as_str().unwrap(), &variables));
            variables.insert(variable["name"].as_str().unwrap().to_owned(), choices[1].clone());
        }
        for (panel, query) in queries(&board) {
            let sql = of_postgres(query["rawSql"].as_str().unwrap(), &variables);
            let lines = csv(&url, &sql);
            assert!(lines.len() > 1, "{panel}: no rows for {sql}");
            let timed = query["format"] != "time_series" || lines[0].split(',').next() == Some("time");
            assert!(timed, "{panel}: {} begins with no time", lines[0]);
        }
    }
}

/// `sqlstring` doubles quotes and puts the value into them.
fn of_postgres(text: &str, variables: &Variables) -> String {
    let time = |micros: i64| format!("'{}'", rfc3339(micros));
    let mut text = text.replace("$__timeFrom()", &time(super::now() - 6 * HOUR)).replace("$__timeTo()", &time(super::now()));
    text = text.replace("$__interval", "15s");
    for (name, value) in variables {
        text = text.replace(&format!("${{{name}:sqlstring}}"), &format!("'{}'", value.replace('\'', "''")));
    }
    assert!(!text.contains('$'), "{text}");
    text
}

/// The lines that a statement answers, the first with the columns' names.
fn csv(url: &str, sql: &str) -> Vec<String> {
    let mut psql = clean("psql");
    let output = psql.args(["--no-psqlrc", "--quiet", "--csv", "-v", "ON_ERROR_STOP=1", url, "-c", sql]).output().unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}
