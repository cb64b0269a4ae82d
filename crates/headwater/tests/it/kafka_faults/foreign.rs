//! Other programs that put their own records on the topic.

use super::admin::Admin;
use super::cluster::Cluster;
use super::ground::Ground;
use crate::main_job::counts;
use serde_json::{Value, json};

const JSON: &str = r#"[{"device":"f-json","metric":"flow","ts":"2026-01-05T00:00:00Z","value":1.5},{"metric":"flow","ts":"2026-01-05T00:00:00Z","value":2.5}]"#;
const LINES: &str = "flow,device=f-line value=3.5 1767571200000000000\nflow,device=f-line value=4.5 1767571201000000000\n";
const SENML: &str = r#"[{"bn":"urn:dev:f-senml:","bt":1767571200,"n":"flow","v":5.5},{"n":"level","u":"m","v":6.5}]"#;
const HALF_BAD: &str =
    r#"[{"device":"f-half","metric":"flow","ts":"2026-01-05T00:00:00Z","value":7.5},{"device":"f-half","metric":"flow","value":"wet"}]"#;
const BROKEN: &str = r#"{"device":"f-broken","metric":"#;

#[test]
fn readings_that_other_programs_put_on_the_topic_are_answers_and_what_is_none_is_kept_as_it_came() {
    let kafka = Cluster::shared();
    let mut ground = Ground::hasty(&kafka);
    ground.join(&[]);
    let admin = Admin::of(&ground.backends);
    admin.produce("f-key", Some("application/json"), JSON.as_bytes());
    admin.produce("", Some("text/plain; charset=utf-8"), LINES.as_bytes());
    admin.produce("", Some("application/senml+json"), SENML.as_bytes());
    admin.produce("", Some("application/json"), HALF_BAD.as_bytes());
    admin.produce("", Some("application/json"), BROKEN.as_bytes());
    admin.produce("", Some("application/x-protobuf"), b"\x08\x96\x01\xff");
    admin.produce("", None, b"\xfe");
    ground.settled();
    let api = &ground.apart.api;
    let rows = api.rows("/v1/readings", &[("from", "2026-01-05T00:00:00Z"), ("to", "2026-01-06T00:00:00Z")]);
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let found: Vec<(String, String, f64)> =
        rows.iter().map(|row| (text(row, "device"), text(row, "metric"), row["value"].as_f64().unwrap())).collect();
    let reading = |device: &str, metric: &str, value: f64| (device.to_owned(), metric.to_owned(), value);
    let expected = [
        reading("f-half", "flow", 7.5),
        reading("f-json", "flow", 1.5),
        reading("f-key", "flow", 2.5),
        reading("f-line", "flow", 3.5),
        reading("f-line", "flow", 4.5),
        reading("urn:dev:f-senml", "flow", 5.5),
        reading("urn:dev:f-senml", "level", 6.5),
    ];
    assert_eq!(found, expected);
    let letters = api.rows("/v1/dead-letters", &[]);
    let kept = |reason: &str| -> Vec<Value> {
        let of_reason = letters.iter().filter(|letter| letter["reason"] == reason);
        of_reason
            .map(|letter| if letter["bytes_base64"].is_string() { letter["bytes_base64"].clone() } else { letter["text"].clone() })
            .collect()
    };
    assert_eq!(kept("malformed"), [json!(BROKEN)]);
    let mut undecodable = kept("undecodable");
    undecodable.sort_by_key(ToString::to_string);
    assert_eq!(undecodable, [json!("/g=="), json!("CJYB/w==")]);
    assert_eq!(kept("not_numeric"), [json!(r#"{"device":"f-half","metric":"flow","value":"wet"}"#)]);
    assert_eq!(letters.len(), 4);
    let counts = counts(&api.status());
    assert_eq!((counts["received"], counts["dead"]), (11, 4));
    assert_eq!(ground.apart.rollups[0].post("/v1/seal", "application/json", "").ok().json()["unsealed"], 0);
    ground.is_clean();
}
