//! InfluxDB's clients: line protocol, partial writes, side routes, and errors in their form.

use crate::both::on_both;
use crate::client::{Answer, Ask};
use crate::main_job::counts;
use crate::oracle::gzip;
use crate::stack::Stack;
use serde_json::json;

on_both! {
    a_line_becomes_readings_as_the_mapping_says,
    every_precision_and_every_way_to_give_a_token_works,
    good_lines_are_stored_beside_bad_ones,
    unlike_in_influxdb_the_first_value_wins,
    what_a_body_is_called_does_not_matter_but_its_coding_does,
    the_side_routes_answer_as_influxdb_does,
    errors_come_in_influxdbs_form,
}

const EVER: [(&str, &str); 2] = [("from", "1990-01-01T00:00:00Z"), ("to", "2040-01-01T00:00:00Z")];

/// device, metric, tags, value of everything that is stored.
fn stored(stack: &Stack) -> Vec<String> {
    stack.settled();
    let rows = stack.rows("/v1/readings", &EVER);
    rows.iter()
        .map(|row| format!("{} {} {} {}", row["device"].as_str().unwrap(), row["metric"].as_str().unwrap(), row["tags"], row["value"]))
        .collect()
}

fn a_line_becomes_readings_as_the_mapping_says(stack: Stack) {
    let lines = concat!(
        "# a comment\n\n",
        "  temperature,host=h1,line=3 value=21.5 1767571200\r\n",
        "env,device=d1,host=h1 co2=400i,open=true,note=\"a, b=c\",u=7u 1767571200\n",
        "°C,entity_id=living\\ room,domain=sensor value=19 1767571200\n",
        "bare value=1 1767571200\n",
    );
    stack.post("/api/v2/write?bucket=hall&precision=s&org=x", "text/plain", lines).expect(204);
    let expected = [
        r#"d1 env_co2 {"host":"h1"} 400.0"#,
        r#"d1 env_open {"host":"h1"} 1.0"#,
        r#"d1 env_u {"host":"h1"} 7.0"#,
        r#"h1 temperature {"line":"3"} 21.5"#,
        r#"hall bare {} 1.0"#,
        r#"living room °C {"domain":"sensor"} 19.0"#,
    ];
    assert_eq!(stored(&stack), expected);
}

fn every_precision_and_every_way_to_give_a_token_works(stack: Stack) {
    let second = 1_767_571_200_i64;
    let times = [
        ("ns", second * 1_000_000_000),
        ("n", second * 1_000_000_000),
        ("us", second * 1_000_000),
        ("u", second * 1_000_000),
        ("ms", second * 1000),
        ("s", second),
        ("m", second / 60),
        ("h", second / 3600),
        ("", second * 1_000_000_000),
    ];
    for (precision, time) in times {
        let parameter = if precision.is_empty() { String::new() } else { format!("&precision={precision}") };
        for route in ["/api/v2/write?bucket=b", "/write?db=b"] {
            stack.post(&format!("{route}{parameter}"), "", format!("m,device=d value=1 {time}")).expect(204);
        }
    }
    assert_eq!(stored(&stack), [r"d m {} 1.0"], "all are one reading");

    let token = &stack.token;
    let basic = base64(format!("anyone:{token}").as_bytes());
    for authorization in [format!("Token {token}"), format!("Bearer {token}"), format!("Basic {basic}")] {
        for route in ["/api/v2/write?bucket=b", "/write?db=b"] {
            stack
                .ask(&Ask::post(route, "", "m,device=d value=1 1767571200000000000").anonymous().header("Authorization", &authorization))
                .expect(204);
        }
    }
    stack.ask(&Ask::post(&format!("/write?db=b&u=anyone&p={token}"), "", "m,device=d value=1").anonymous()).expect(204);
    stack.ask(&Ask::post("/write?db=b", "", "m,device=d value=1").anonymous()).expect(401);
    stack.post("/write?db=b&precision=fortnight", "", "m,device=d value=1").expect(400);
    stack.post("/api/v2/write", "", "m,device=d value=1").expect(400);
    stack.post("/write", "", "m,device=d value=1").expect(400);
}

fn good_lines_are_stored_beside_bad_ones(stack: Stack) {
    let malformed =
        "m,device=a value=1 1767571200\nm,device=a value= 1767571200\nm,device=a,x= value=2 1767571201\nm,device=b value=3 1767571200\n";
    let v2 = stack.post("/api/v2/write?bucket=b&precision=s", "", malformed).expect(400);
    let error = v2.json();
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("partial write: accepted 2, rejected 2: line 2: "), "{message}");
    assert_eq!((&error["code"], &error["line"]), (&json!("invalid"), &json!(2)));
    assert!(v2.header("x-influxdb-error").is_some_and(|header| header.starts_with("partial write")), "{v2:?}");
    assert_eq!(stored(&stack), [r"a m {} 1.0", r"b m {} 3.0"]);

    let refused = "m,device=c value=1 1767571200\nm,device=c value=2 1\n";
    let v1 = stack.post("/write?db=b&precision=s", "", refused).expect(422).json();
    assert!(v1["error"].as_str().unwrap().starts_with("partial write: accepted 1, rejected 1: line 2: "), "{v1}");
    let nothing = stack.post("/write?db=b&precision=s", "", "nonsense").expect(400).json();
    assert!(nothing["error"].as_str().unwrap().contains("accepted 0, rejected 1: line 1: "), "{nothing}");
    stack.settled();
    let counts = counts(&stack.status());
    assert_eq!((counts["received"], counts["dead"]), (7, 4));
    let letters = stack.rows("/v1/dead-letters", &[]);
    assert_eq!((&letters[0]["text"], &letters[0]["format"]), (&json!("nonsense"), &json!("line")));
}

fn unlike_in_influxdb_the_first_value_wins(stack: Stack) {
    for value in [1, 2] {
        stack.send_line(&format!("m,device=d value={value} 1767571200000000")).expect(204);
    }
    assert_eq!(stored(&stack), [r"d m {} 1.0"]);
}

fn what_a_body_is_called_does_not_matter_but_its_coding_does(stack: Stack) {
    let line = "m,device=d value=1 1767571200000000000";
    for kind in ["", "text/plain; charset=utf-8", "application/octet-stream", "application/json", "application/x-www-form-urlencoded"] {
        stack.post("/api/v2/write?bucket=b", kind, line).expect(204);
    }
    let coded = |coding: &str, body: Vec<u8>| stack.ask(&Ask::post("/api/v2/write?bucket=b", "", body).header("Content-Encoding", coding));
    coded("gzip", gzip(line.as_bytes())).expect(204);
    coded("identity", line.into()).expect(204);
    coded("br", line.into()).expect(415);
    assert_eq!(stored(&stack).len(), 1);
}

fn the_side_routes_answer_as_influxdb_does(stack: Stack) {
    let ask = |method: &str, target: &str| -> Answer { stack.ask(&Ask::new(method, target).anonymous()) };
    for method in ["GET", "HEAD"] {
        let ping = ask(method, "/ping").expect(204);
        assert!(ping.header("x-influxdb-version").is_some() && ping.header("x-influxdb-build").is_some());
    }
    ask("GET", "/ping?verbose=true").ok();
    for path in ["/health", "/api/v2/health"] {
        assert_eq!(ask("GET", path).ok().json()["status"], "pass");
    }
    for path in ["/ready", "/api/v2/ready"] {
        assert_eq!(ask("GET", path).ok().json()["status"], "ready");
    }
    let created = json!({ "results": [{ "statement_id": 0 }] });
    assert_eq!(ask("GET", "/query?q=CREATE%20DATABASE%20x").ok().json(), created);
    let form = Ask::post("/query", "application/x-www-form-urlencoded", "q=CREATE+DATABASE+%22x%22").anonymous();
    assert_eq!(stack.ask(&form).ok().json(), created);
    let asked = ask("GET", "/query?q=SELECT%20*%20FROM%20m").ok().json();
    assert!(asked["results"][0]["error"].is_string(), "what cannot be answered says so: {asked}");
}

fn errors_come_in_influxdbs_form(stack: Stack) {
    let refused = stack.ask(&Ask::post("/api/v2/write?bucket=b", "", "x").token("garbage")).expect(401);
    assert_eq!(refused.json()["code"], "unauthorized");
    assert!(stack.ask(&Ask::post("/write?db=b", "", "x").token("garbage")).expect(401).json()["error"].is_string());
    let reader = stack.issue(&["--scope", "read:stats"]);
    assert_eq!(stack.ask(&Ask::post("/api/v2/write?bucket=b", "", "x").token(&reader)).expect(403).json()["code"], "forbidden");
    let huge = Ask::post("/api/v2/write?bucket=b", "", vec![b'#'; 9 << 20]);
    assert_eq!(stack.ask(&huge).expect(413).json()["code"], "request too large");
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}
