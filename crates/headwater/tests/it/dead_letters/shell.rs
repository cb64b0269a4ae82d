//! `headwater dead-letters` at a shell.

use super::{JSON, id, letter, open_letters, values};
use crate::client::Ask;
use crate::stack::{HEADWATER, Stack, clean};
use serde_json::Value;
use std::process::Output;

/// A stack with a letter of each of some kinds: not a number (CSV), a foreign device (JSON), broken gzip.
fn stack() -> Stack {
    let stack = super::hasty(crate::stack::Builder::default()).start();
    stack.post("/v1/readings", "text/csv", "device,ts,m\na,2026-01-05T00:00:00Z,hot\n").expect(422);
    let narrow = stack.issue(&["--scope", "write:readings", "--devices", "own"]);
    stack.ask(&Ask::post("/v1/readings", JSON, r#"{"device":"b","metric":"m","value":2}"#).token(&narrow)).expect(422);
    stack.ask(&Ask::post("/v1/readings", JSON, b"\x1f\x8bno".to_vec()).header("Content-Encoding", "gzip")).expect(400);
    stack
}

fn of_reason(stack: &Stack, reason: &str) -> String {
    id(open_letters(stack).iter().find(|letter| letter["reason"] == reason).expect("a letter of this reason"))
}

/// Runs a command with an editor.
fn with_editor(stack: &Stack, editor: &str, arguments: &[&str]) -> Output {
    let mut command = clean(HEADWATER);
    command.args(arguments).env("HEADWATER_URL", &stack.base).env("HEADWATER_TOKEN", &stack.token).env("VISUAL", editor);
    command.current_dir(stack.home.path()).env("TMPDIR", stack.home.path()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn letters_are_listed_and_shown_in_a_table_as_json_and_as_they_came() {
    let stack = stack();
    let csv = of_reason(&stack, "not_numeric");
    let table = stack.output(&["dead-letters", "list"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines[0].contains("REASON") && lines[0].ends_with("DETAIL"), "{table}");
    assert_eq!(lines.len(), 4);
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with(&csv) && line.contains("not_numeric") && line.contains("csv+header") && line.contains("hot")),
        "{table}"
    );
    let json: Value = serde_json::from_str(&stack.output(&[
        "dead-letters",
        "list",
        "--reason",
        "not_numeric",
        "--device",
        "a*",
        "--from",
        "now-1h",
        "-o",
        "json",
    ]))
    .unwrap();
    assert_eq!((json["rows"].as_array().unwrap().len(), json["rows"][0]["id"].as_str()), (1, Some(csv.as_str())));
    assert_eq!(stack.output(&["dead-letters", "list", "--state", "retried", "--json"]).trim(), "{\"rows\":[],\"next_cursor\":null}");
    let shown = stack.output(&["dead-letters", "show", &csv]);
    assert!(shown.contains("reason        not_numeric") && shown.ends_with("\n\ndevice,ts,m\na,2026-01-05T00:00:00Z,hot\n"), "{shown}");
    assert_eq!(stack.output(&["dead-letters", "show", &csv, "--raw"]), "device,ts,m\na,2026-01-05T00:00:00Z,hot");
    let broken = of_reason(&stack, "malformed");
    assert_eq!(stack.run(&["dead-letters", "show", &broken, "--raw"]).stdout, b"\x1f\x8bno");
    let one: Value = serde_json::from_str(&stack.output(&["dead-letters", "show", &broken, "--json"])).unwrap();
    assert_eq!(one["bytes_base64"], "H4tubw==");
    let refused = stack.run(&["dead-letters", "show", "../status"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
}

#[test]
fn a_letter_is_put_right_in_an_editor_and_what_was_written_is_not_lost() {
    let stack = stack();
    let csv = of_reason(&stack, "not_numeric");
    let edit = |editor: &str| with_editor(&stack, editor, &["dead-letters", "edit", &csv]);
    let unchanged = edit("true");
    assert_eq!((unchanged.status.code(), said(&unchanged).contains("nothing was changed")), (Some(1), true));
    let failed = edit("false");
    assert_eq!((failed.status.code(), said(&failed).contains("nothing was sent")), (Some(1), true));
    assert_eq!(letter(&stack, &csv)["attempts"], 0);
    let wrong = edit("sed -i s/hot/cold/");
    assert_eq!(wrong.status.code(), Some(1));
    let words = said(&wrong);
    let file = words.lines().find_map(|line| line.strip_prefix("what you have written is in ")).unwrap_or_else(|| panic!("{words}"));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "device,ts,m\na,2026-01-05T00:00:00Z,cold");
    assert!(file.ends_with(".csv"), "{file}");
    let right = edit("sed -i s/hot/21.5/");
    assert_eq!(right.status.code(), Some(0), "{}", said(&right));
    assert!(String::from_utf8_lossy(&right.stdout).contains("accepted"));
    stack.settled();
    assert_eq!(values(&stack, "a"), [21.5]);
    assert_eq!(letter(&stack, &csv)["attempts"], 2);
    let binary = with_editor(&stack, "true", &["dead-letters", "edit", &of_reason(&stack, "malformed")]);
    assert!(said(&binary).contains("no text"), "{}", said(&binary));
}

#[test]
fn letters_are_retried_and_discarded_by_id_or_by_filter_and_many_only_when_told_to() {
    let stack = stack();
    for verb in ["retry", "discard"] {
        let nothing = stack.run(&["dead-letters", verb]);
        assert_eq!((nothing.status.code(), said(&nothing).contains("--all")), (Some(2), true), "{}", said(&nothing));
        let unasked = stack.run(&["dead-letters", verb, "--all"]);
        assert_eq!((unasked.status.code(), said(&unasked).contains("--yes")), (Some(2), true), "{}", said(&unasked));
    }
    assert_eq!(open_letters(&stack).len(), 3);
    let all = stack.run(&["dead-letters", "retry", "--all", "--yes"]);
    assert_eq!(all.status.code(), Some(1), "two of them are refused again");
    assert!(said(&all).contains("retried 3 letters: 1 taken in, 2 refused again"), "{}", said(&all));
    let table = String::from_utf8_lossy(&all.stdout).into_owned();
    assert_eq!(table.lines().count(), 4, "{table}");
    stack.settled();
    assert_eq!(values(&stack, "b"), [2.0]);
    let csv = of_reason(&stack, "not_numeric");
    let again = stack.run(&["dead-letters", "retry", &csv, "--json"]);
    let json: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(
        (again.status.code(), json["rows"][0]["outcome"].as_str(), json["rows"][0]["attempts"].as_u64()),
        (Some(1), Some("rejected"), Some(2))
    );
    let none = stack.run(&["dead-letters", "retry", "00000000-0000-0000-0000-000000000000"]);
    assert_eq!((none.status.code(), said(&none).contains("there is no dead letter")), (Some(1), true), "{}", said(&none));
    let discarded = stack.run(&["dead-letters", "discard", &csv]);
    assert_eq!((discarded.status.code(), said(&discarded).contains("discarded 1 letter")), (Some(0), true), "{}", said(&discarded));
    let rest = stack.run(&["dead-letters", "discard", "--reason", "malformed", "-y"]);
    assert_eq!(rest.status.code(), Some(0), "{}", said(&rest));
    assert_eq!(open_letters(&stack).len(), 0);
    // Without a token the commands sign their own, with the key in the data directory.
    let mut own = clean(HEADWATER);
    own.args(["dead-letters", "retry", "--all", "--yes", "--data-dir"]).arg(&stack.data).env("HEADWATER_URL", &stack.base);
    assert_eq!(own.output().unwrap().status.code(), Some(0));
}
