//! The way back where roles run apart, and for what other programs have put on the topic.

use super::{JSON, edit, id, letter, retry};
use crate::apart::Apart;
use crate::backends::Backends;
use crate::client::Ask;
use crate::kafka_faults::admin::Admin;
use crate::main_job::counts;
use crate::stack::SOON;
use serde_json::{Value, json};

#[test]
fn roles_apart_take_letters_in_where_they_are_asked_for_and_records_of_others_too() {
    let backends = Backends::shared();
    let apart = Apart::one_of_each(&backends);
    apart.gateway().post("/v1/readings", JSON, r#"{"device":"a","metric":"m","value":"hot"}"#).expect(422);
    let admin = Admin::of(&backends);
    let senml = r#"[{"bn":"d/","bt":1767571200,"n":"m","v":"x"},{"n":"n","t":5,"v":"y"}]"#;
    admin.produce("", Some("application/senml+json"), senml.as_bytes());
    admin.produce("", Some("application/x-protobuf"), b"\x08\x96\x01\xff");
    apart.settled(SOON);
    let api = &apart.api;
    let letters = api.rows("/v1/dead-letters", &[]);
    let find = |format: &str, text: &str| -> String {
        let is_it = |letter: &&Value| letter["format"] == format && letter["text"].as_str().unwrap_or_default().contains(text);
        id(letters.iter().find(is_it).unwrap_or_else(|| panic!("no letter of {format} with {text} in {letters:?}")))
    };
    assert_eq!(letters.len(), 4);
    // A gateway shows and changes none: it knows no store.
    apart.gateway().ask(&Ask::new("GET", "/v1/dead-letters").token(&api.token)).expect(404);
    apart.gateway().ask(&Ask::post("/v1/dead-letters/retry", "", "").token(&api.token)).expect(404);

    edit(api, &find("json", "hot"), JSON, r#"{"device":"a","metric":"m","value":1.5}"#).ok();
    // A record of SenML keeps the base fields that held for it.
    let second = find("senml+base", "\"y\"");
    assert_eq!(letter(api, &second)["text"], r#"[{"bn":"d/","bt":1767571200},{"n":"n","t":5,"v":"y"}]"#);
    retry(api, &second).expect(422).problem();
    edit(api, &second, "application/senml+json", r#"[{"bn":"d/","bt":1767571200},{"n":"n","t":5,"v":2.5}]"#).ok();
    let unknown = find("unknown", "");
    let refused = retry(api, &unknown).expect(422).problem();
    assert!(refused["detail"].as_str().unwrap().contains("nobody can tell"), "{refused}");
    edit(api, &unknown, "", "x").expect(415).problem();
    edit(api, &unknown, "text/plain", "m,device=p value=3.5 1767571200000000000").ok();
    apart.settled(SOON);
    let rows = api.rows("/v1/readings", &[("from", "2026-01-05T00:00:00Z"), ("to", "2040-01-01T00:00:00Z")]);
    let told: Vec<_> =
        rows.iter().map(|row| (row["device"].as_str().unwrap(), row["metric"].as_str().unwrap(), row["value"].as_f64().unwrap())).collect();
    assert_eq!(told, [("a", "m", 1.5), ("d", "n", 2.5), ("p", "m", 3.5)]);
    assert_eq!(rows[1]["time"], "2026-01-05T00:00:05Z");
    let left = api.rows("/v1/dead-letters", &[]);
    assert_eq!((left.len(), &left[0]["reason"]), (1, &json!("not_numeric")));
    let counts = counts(&api.status());
    assert_eq!((counts["received"], counts["dead"]), (7, 4));
}
