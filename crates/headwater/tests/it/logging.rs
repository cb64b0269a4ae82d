//! What a server writes about itself: JSON lines, one for each failure and for each request where those are wanted, and other ones
//! while it runs.

use crate::client::{Ask, Client, target};
use crate::oracle::{MONDAY, Reading, as_json};
use crate::stack::{Builder, HEADWATER, SOON, Stack, address_in, clean, signal, wait_for};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// The lines of the log, without the block that a person reads at the start.
fn lines(stack: &Stack) -> Vec<Value> {
    stack.said().lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn requests(stack: &Stack) -> Vec<Value> {
    lines(stack).into_iter().filter(|line| line["target"] == "headwater_web::requests").collect()
}

fn change(stack: &Stack, body: &Value) -> Value {
    stack.ask(&Ask::post("/v1/logging", "application/json", body.to_string()).method("PUT")).ok().json()
}

#[test]
fn every_request_has_a_line_where_that_is_wanted_and_it_holds_no_secret() {
    let stack = Builder::default().env("HEADWATER_LOGGING__FILTER", "info,headwater_web::requests=debug").start();
    let reader = stack.issue(&["--scope", "read:readings", "--subject", "the dashboard"]);
    let ask = Ask::new("GET", &target("/v1/readings", &[("device", "secret-device")])).token(&reader).header("X-Request-Id", "mine-7");
    stack.ask(&ask).ok();
    stack.ask(&Ask::post(&format!("/write?db=d&p={}", stack.token), "", "m,device=secret-device v=1").anonymous()).expect(204);
    stack.ask(&Ask::new("GET", "/no/such/path").anonymous()).expect(404);
    stack.ask(&Ask::new("GET", "/v1/dead-letters/secret-id").header("X-Request-Id", "mine-8"));
    wait_for("the last line", SOON, || requests(&stack).iter().any(|line| line["request.id"] == "mine-8").then_some(()));
    let told = requests(&stack);
    let of = |id: &str| told.iter().find(|line| line["request.id"] == id).unwrap_or_else(|| panic!("{id} in {told:?}"));
    let line = of("mine-7");
    assert_eq!(
        (&line["method"], &line["path"], &line["status"], &line["subject"]),
        (&json!("GET"), &json!("/v1/readings"), &json!(200), &json!("the dashboard"))
    );
    assert!(line["took_ms"].as_f64().is_some_and(|took| took >= 0.0), "{line}");
    assert_eq!(of("mine-8")["path"], "/v1/dead-letters/{id}", "the template and not what was asked for");
    assert!(told.iter().any(|line| line["status"] == 404 && line["path"].is_null()), "{told:?}");
    let said = stack.said();
    for secret in ["secret-device", "secret-id", &stack.token, &reader, "no/such"] {
        assert!(!said.contains(secret), "{secret} in the log");
    }
}

#[test]
fn messages_can_be_changed_while_it_runs_and_for_a_while() {
    let stack = Stack::embedded();
    stack.get("/v1/status").ok();
    assert_eq!(stack.get("/v1/logging").ok().json(), json!({ "filter": "info", "configured": "info", "for_s": null }));
    assert!(requests(&stack).is_empty(), "by default requests are not told");
    let told = change(&stack, &json!({ "filter": "info,headwater_web::requests=debug", "for": "5m" }));
    assert_eq!((&told["filter"], &told["configured"]), (&json!("info,headwater_web::requests=debug"), &json!("info")));
    assert!(told["for_s"].as_u64().is_some_and(|seconds| (290..=300).contains(&seconds)), "{told}");
    stack.get("/v1/status").ok();
    wait_for("requests in the log", SOON, || requests(&stack).iter().any(|line| line["path"] == "/v1/status").then_some(()));
    change(&stack, &json!({ "filter": "info" }));
    let before = requests(&stack).len();
    stack.get("/v1/status").ok();
    // For a while: then what is configured is in force by itself.
    change(&stack, &json!({ "filter": "off", "for": "1s" }));
    wait_for("the configured filter", SOON, || (stack.get("/v1/logging").ok().json()["filter"] == "info").then_some(()));
    assert!(requests(&stack).len() <= before + 1, "no request after the change is told");
    let who = lines(&stack).into_iter().filter(|line| line["message"] == "changed which messages are written").collect::<Vec<_>>();
    assert!(who.iter().any(|line| line["subject"] == "operator"), "who has changed it is told: {who:?}");
    for (body, status) in [("{\"filter\": \"headwater==x=y\"}", 400), ("{\"filter\": 7}", 400), ("info", 400), ("", 400)] {
        stack.ask(&Ask::post("/v1/logging", "application/json", body).method("PUT")).expect(status).problem();
    }
    let writer = stack.issue(&["--scope", "write:readings"]);
    stack.ask(&Ask::new("GET", "/v1/logging").token(&writer)).expect(403).problem();
    assert_eq!(stack.get("/v1/logging").ok().json()["filter"], "info", "what could not be read has changed nothing");
}

#[test]
fn what_a_client_does_wrong_is_the_clients_to_know() {
    let stack = Stack::embedded();
    stack.send(&as_json(&[Reading::new("a", "m", MONDAY, 1.0)]));
    stack.settled();
    let began = lines(&stack).len();
    stack.get("/v1/stats?step=x").expect(400);
    stack.ask(&Ask::new("GET", "/v1/stats").anonymous()).expect(401);
    stack.post("/v1/readings", "application/json", "{").expect(400);
    stack.get("/v1/nothing").expect(404);
    let new: Vec<_> = lines(&stack).into_iter().skip(began).collect();
    assert!(new.is_empty(), "{new:?}");
}

#[test]
fn a_server_whose_messages_nobody_reads_any_more_works_and_stops_when_it_is_told() {
    let home = tempfile::tempdir().unwrap();
    let mut command = clean(HEADWATER);
    command.args(["up", "--listen", "127.0.0.1:0", "--data-dir"]).arg(home.path().join("data"));
    command.env("HEADWATER_LOGGING__FILTER", "info,headwater_web::requests=debug");
    let mut server = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut client = Client::nowhere();
    client.base = lines.find_map(|line| address_in(&line)).expect("an address");
    let issue = clean(HEADWATER).args(["token", "issue", "--scope", "admin", "--data-dir"]).arg(home.path().join("data")).output().unwrap();
    client.token = String::from_utf8(issue.stdout).unwrap().trim().to_owned();
    // As `headwater up 2>&1 | head`: every message from here on goes nowhere.
    drop(lines);
    for n in 0..20 {
        client.send(&as_json(&[Reading::new("a", "m", MONDAY + n, 1.0)]));
        client.get("/v1/status").ok();
    }
    signal(server.id(), "TERM");
    let ended = wait_for("the server to stop", SOON, || server.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
}
