//! The same evil texts in every place of every route that takes a text, and in everything that prints one: they are data or they
//! are refused, nothing answers 500, and no terminal, spreadsheet or log is steered by them.

use crate::both::on_both;
use crate::client::{Ask, encoded, target};
use crate::oracle::{MONDAY, Reading, SECOND, as_json};
use crate::stack::{Builder, Stack, wait_for};
use headwater_web::{ROUTES, Route};
use serde_json::{Value, json};
use std::time::Duration;

on_both! {
    no_text_in_any_parameter_of_any_route_breaks_it,
    what_devices_say_reaches_no_log_as_it_is,
}

/// What queries of `/v1` can hold.
const PARAMETERS: [&str; 14] =
    ["device", "metric", "tag.line", "from", "to", "step", "stats", "group_by", "fill", "limit", "cursor", "format", "reason", "state"];
/// What those of InfluxDB's clients and of the probes can.
const OTHERS: [&str; 10] = ["verbose", "db", "bucket", "org", "precision", "u", "p", "q", "epoch", "id"];

/// SQL, paths, NUL, line ends, terminals, templates, globs, encodings.
fn evil() -> Vec<Vec<u8>> {
    let texts = [
        "' OR '1'='1",
        "'; DROP TABLE series; --",
        "\" UNION SELECT * FROM sqlite_master --",
        "$1; SELECT pg_sleep(10)",
        "../../../../etc/passwd",
        "..%2f..%2f",
        "a\0b",
        "a\r\nSet-Cookie: x=1\r\n\r\n<html>",
        "\u{1b}[2J\u{1b}]0;x\u{7}",
        "\u{9b}31m\u{202e}",
        "=cmd|' /C calc'!A0",
        "${jndi:ldap://x}{{7*7}}%s%n",
        "%_\\",
        "****************************************************************a",
        "-1",
        "9223372036854775808",
        "1e999",
        "NaN",
        "\u{feff}\u{ffff}\u{10ffff}",
    ];
    let long = vec![b'x'; 3_000];
    texts.iter().map(|text| text.as_bytes().to_vec()).chain([long, b"\xff\xfe\xc0\x80".to_vec()]).collect()
}

fn percent(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

/// Asks a route with a query.
fn asking(route: &Route, id: &str, query: &str) -> Ask {
    let path = route.path.replace("{id}", id).replace("{key-id}", id);
    let target = if query.is_empty() { path } else { format!("{path}?{query}") };
    match route.method {
        "POST" | "PUT" => {
            let body = Ask::post(&target, "application/json", "[]");
            if route.method == "PUT" { body.method("PUT") } else { body }
        }
        method => Ask::new(method, &target),
    }
}

/// Routes that change what the rest of the test looks at.
fn is_harmless(route: &Route) -> bool {
    route.path != "/v1/logging"
}

fn no_text_in_any_parameter_of_any_route_breaks_it(stack: Stack) {
    let readings = [Reading::new("a", "m", MONDAY, 1.0), Reading::new("b", "m", MONDAY, 2.0)];
    stack.send(&as_json(&readings));
    stack.settled();
    let routes: Vec<_> = ROUTES.iter().filter(|route| is_harmless(route)).collect();
    for text in evil() {
        let shown = String::from_utf8_lossy(&text[..text.len().min(60)]).into_owned();
        for route in &routes {
            // Each alone where one that cannot be read would hide what another does.
            let pairs = |names: &[&str]| names.iter().map(|name| format!("{name}={}", percent(&text))).collect::<Vec<_>>();
            let together = pairs(&OTHERS).join("&");
            let alone = if route.role == "api" { pairs(&PARAMETERS) } else { vec![pairs(&PARAMETERS[..2]).join("&")] };
            let name = format!("{}=1", percent(&text));
            for query in alone.into_iter().chain([name]).chain(Some(together).filter(|query| query.len() < 30_000)) {
                looks_fine(&stack, &asking(route, "0193", &query), &shown);
            }
            if route.path.contains('{') {
                looks_fine(&stack, &asking(route, &percent(&text), ""), &shown);
            }
        }
        let path = percent(&text[..text.len().min(2_000)]);
        stack.ask(&Ask::new("GET", &format!("/v1/{path}"))).expect(404).problem();
    }
    assert!(stack.is_ready());
    let latest = stack.rows("/v1/latest", &[]);
    assert_eq!(latest.iter().map(|row| row["device"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b"], "nothing else changed");
}

fn looks_fine(stack: &Stack, ask: &Ask, shown: &str) {
    let answer = stack.ask(ask);
    assert!(matches!(answer.status, 200 | 204 | 400..=499), "{shown:?} in {ask:?}: {} {}", answer.status, answer.text());
    assert!(answer.header("set-cookie").is_none(), "{shown:?} in {ask:?} has become a header");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{ask:?}");
    let kind = answer.header("content-type").unwrap_or_default();
    // The page of the documentation is the same whatever is asked.
    assert!(!kind.contains("html") || ask.is_of("/docs"), "{ask:?} answers {kind}");
}

#[test]
fn no_text_in_any_header_breaks_a_route() {
    let stack = Stack::embedded();
    // What the client's own library refuses to send is sent by hand: bytes beyond ASCII, and very long ones.
    let headers =
        ["Accept", "If-None-Match", "Content-Type", "Content-Encoding", "X-Request-Id", "traceparent", "Range", "Expect", "Cookie"];
    let values: Vec<Vec<u8>> = evil().into_iter().filter(|text| !text.iter().any(|byte| matches!(byte, b'\0' | b'\r' | b'\n'))).collect();
    // One route of each kind: what is in front of the handlers is the same for all.
    for (method, path) in
        [("POST", "/v1/readings"), ("POST", "/write?db=x"), ("GET", "/v1/stats"), ("POST", "/v1/token"), ("GET", "/readyz")]
    {
        for name in headers {
            for value in &values {
                let head = format!(
                    "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\nAuthorization: Bearer {}\r\n{name}: ",
                    stack.token
                );
                let answer = stack.raw(&[&[head.as_bytes(), value, b"\r\n\r\n"].concat()]);
                let fine = matches!(answer.status, 200 | 204 | 304 | 400..=499);
                assert!(fine, "{name}: {} on {method} {path}: {}", String::from_utf8_lossy(value), answer.text());
            }
        }
    }
    assert!(stack.is_ready());
}

/// Formulas as spreadsheets know them; all of these are ids that a device may have.
const FORMULAS: [&str; 4] = ["=1-1", "-1-1", "@SUM(A1)", "=HYPERLINK(\"http://x\",\"y\")"];

#[test]
fn tables_for_spreadsheets_hold_no_formulas_and_readings_come_back_as_they_were() {
    let stack = Stack::embedded();
    let readings: Vec<_> = FORMULAS
        .iter()
        .zip(0..)
        .map(|(name, n)| Reading::new(name, name, MONDAY + n * SECOND, -1.5).tag("t", &format!("+{name}")))
        .collect();
    stack.send(&as_json(&readings));
    stack.settled();
    let ever = [("from", "1990-01-01T00:00:00Z"), ("to", "2040-01-01T00:00:00Z")];
    let is_formula = |cell: &str| {
        let text = cell.trim_matches('"');
        text.starts_with(['=', '+', '@', '\t']) || (text.starts_with('-') && text.parse::<f64>().is_err())
    };
    let guarded = |what: &str, csv: &str| {
        assert_eq!(csv.lines().count(), 1 + FORMULAS.len(), "{what}: {csv}");
        assert!(!csv.lines().flat_map(|line| line.split(',')).any(is_formula), "{what}: {csv}");
        assert!(csv.contains("'=1-1") && csv.contains("-1.5"), "{what}: text is guarded and numbers are not: {csv}");
    };
    let stats = [&ever[..], &[("format", "csv"), ("stats", "min,max")]].concat();
    guarded("/v1/stats", &stack.get(&target("/v1/stats", &stats)).ok().text());
    let grouped = [&stats[..], &[("group_by", "device,tag.t")]].concat();
    guarded("/v1/stats by group", &stack.get(&target("/v1/stats", &grouped)).ok().text());
    let of_cli = ["stats", "--from", "1990-01-01T00:00:00Z", "--to", "2040-01-01T00:00:00Z", "--stats", "min,max", "-o", "csv"];
    guarded("headwater stats", &stack.output(&of_cli));
    guarded("headwater latest", &stack.output(&["latest", "-o", "csv"]));
    // Raw readings are what the door takes: not a character is added, so that they can be sent back.
    let raw = stack.get(&target("/v1/readings", &[&ever[..], &[("format", "csv")]].concat())).ok().text();
    assert!(raw.contains(",=1-1,") && !raw.contains("'="), "{raw}");
    let of_cli = stack.output(&["readings", "--from", "1990-01-01T00:00:00Z", "--to", "2040-01-01T00:00:00Z", "-o", "csv"]);
    let other = Stack::embedded();
    for csv in [raw, of_cli] {
        let answer = other.post("/v1/readings", "text/csv", csv).ok().json();
        assert_eq!(answer["accepted"], FORMULAS.len(), "{answer}");
    }
    other.settled();
    assert_eq!(other.rows("/v1/latest", &[]), stack.rows("/v1/latest", &[]));
}

fn what_devices_say_reaches_no_log_as_it_is(builder: Builder) {
    let stack = builder.env("HEADWATER_LOGGING__FILTER", "info,headwater=debug,headwater_web=debug,headwater_gateway=debug").start();
    let evil = "a\u{1b}[2J\r\n{\"level\":\"ERROR\",\"message\":\"forged\"}\u{9b}\0";
    let began = stack.said().lines().count();
    let items = json!([{ "device": evil, "metric": evil, "value": evil, "tags": { evil: evil } }, { evil: 1 }, evil]);
    stack.post("/v1/readings", "application/json", items.to_string()).expect(422);
    let lines = format!("{},device={} value=1\n", evil.replace("\r\n", ""), evil.replace("\r\n", " "));
    assert!(stack.send_line(&lines).status >= 400);
    stack.get(&target("/v1/stats", &[(evil, evil), ("device", evil)])).expect(400);
    stack.ask(&Ask::new("GET", &format!("/v1/dead-letters/{}", encoded(evil))));
    let stranger = stack.issue(&["--scope", "read:stats", "--subject", "a\u{1b}[2J\u{202e}\u{9b}b"]);
    stack.ask(&Ask::new("GET", "/v1/readings").token(&stranger)).expect(403);
    stack.settled();
    wait_for("the refusal in the log", Duration::from_secs(10), || stack.said().contains("refused a token").then_some(()));
    let said = stack.said();
    for line in said.lines().skip(began).filter(|line| !line.is_empty()) {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line:?}"));
        assert_ne!(line["message"], "forged");
    }
    assert!(!said.contains(['\u{1b}', '\u{9b}', '\0', '\u{7}']), "{said:?}");
    assert!(!said.contains(&stranger) && !said.contains(&stack.token), "tokens are not logged");
}

#[test]
fn no_terminal_is_steered_by_what_a_server_or_a_file_holds() {
    let stack = Stack::embedded();
    // An id may hold marks of direction; control characters it may not, but files and answers can.
    stack.send(&as_json(&[Reading::new("a\u{202e}b", "m\u{2066}", MONDAY, 1.0).tag("t", "\u{200f}x")]));
    stack.settled();
    let clean = |what: &str, text: &str| {
        let steers = |c: char| {
            (c.is_control() && c != '\n') || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert!(!text.chars().any(steers), "{what}: {text:?}");
    };
    for command in ["latest", "series"] {
        clean(command, &stack.output(&[command]));
    }
    let since = ["--from", "1990-01-01T00:00:00Z"];
    clean("stats", &stack.output(&[&["stats"], &since[..]].concat()));
    clean("readings", &stack.output(&[&["readings"], &since[..]].concat()));
    stack.file("evil.csv", "device,metric,ts,value\na\u{1b}[2J,m,1767571200,1\na,\u{9b}31m,1767571200,x\u{7}\n");
    let imported = stack.run(&["import", "evil.csv"]);
    clean("import", &String::from_utf8_lossy(&imported.stderr));
    clean("import's summary", &String::from_utf8_lossy(&imported.stdout));
    for arguments in
        [&["stats", "--step", "\u{1b}[2J"][..], &["import", "\u{1b}[2J.csv"], &["latest", "--url", "http://127.0.0.1:1/\u{1b}[2J"]]
    {
        let refused = stack.run(arguments);
        assert!(!refused.status.success());
        clean("a refusal", &String::from_utf8_lossy(&refused.stderr));
    }
}
