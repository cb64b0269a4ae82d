//! `headwater config print` and `check`, and `headwater completions`.

use crate::stack::{HEADWATER, clean, refused_start};
use serde_json::Value;
use std::process::Output;

fn config(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    clean(HEADWATER).arg("config").args(arguments).envs(environment.iter().copied()).output().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_counts_is_printed_with_its_origin_and_without_secrets() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("headwater.toml");
    let text = "[log]\nurl = 'kafka://k:9092/t'\n[[auth.clients]]\nid = 'grafana'\nscope = 'read:stats'\nsecret_hash = 'sha256:9f88eb4400000000000000000000000000000000000000000000000000000000'\n";
    std::fs::write(&file, text).unwrap();
    let environment = [("HEADWATER_STORE__URL", "postgres://me:hunter2@db/plant"), ("HEADWATER_CONFIG", file.to_str().unwrap())];
    let output = config(&["print", "--listen", "127.0.0.1:7"], &environment);
    let text = printed(&output);
    assert!(output.status.success() && !text.contains("hunter2") && !text.contains("9f88eb44"), "{text}");
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start} in {text}")).to_owned();
    assert!(line("listen = \"127.0.0.1:7\"").ends_with("# --listen"));
    assert!(line("url = \"kafka://").ends_with(&format!("# {}", file.display())));
    assert!(line("url = \"postgres://me:***@db/plant\"").ends_with("# HEADWATER_STORE__URL"));
    assert!(line("idle_timeout").ends_with("# default"));
    let json: Value = serde_json::from_slice(&config(&["print", "--json"], &environment).stdout).unwrap();
    assert_eq!(json["http"]["listen"], serde_json::json!({ "value": "127.0.0.1:8080", "from": "default" }));
}

#[test]
fn a_check_tells_every_problem_at_once_and_what_a_start_would_refuse() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("headwater.toml");
    std::fs::write(&file, "rolls = 1\n[http]\nlisten = '0.0.0.0:1'\nidle_timeout = 'soon'\n").unwrap();
    let path = file.to_str().unwrap();
    let output = config(&["check", "gateway", "--config", path], &[("HEADWATER_API__NONSENSE", "1")]);
    assert_eq!(output.status.code(), Some(1));
    for words in ["rolls", "http.idle_timeout", "can be reached from elsewhere", "only `gateway` runs here", "HEADWATER_API__NONSENSE"] {
        assert!(printed(&output).contains(words), "{words} in {}", printed(&output));
    }
    let json: Value = serde_json::from_slice(&config(&["check", "--json", "--config", path], &[]).stdout).unwrap();
    assert_eq!((&json["ok"], json["problems"].as_array().unwrap().len()), (&Value::from(false), 3), "{json}");
    assert_eq!(refused_start(&home.path().join("data"), &["--config", path]).0.code(), Some(2));

    let fine = config(&["check"], &[]);
    assert!(fine.status.success() && printed(&fine).starts_with("nothing is wrong"), "{}", printed(&fine));
    let missing = config(&["check", "--config", "/nowhere.toml"], &[]);
    assert!(missing.status.code() == Some(1) && printed(&missing).contains("/nowhere.toml"), "{}", printed(&missing));
    assert!(std::fs::read_dir(home.path()).unwrap().count() == 1, "nothing was made");
}

#[test]
fn bash_loads_the_completions_and_completes() {
    let home = tempfile::tempdir().unwrap();
    let script = clean(HEADWATER).args(["completions", "bash"]).output().unwrap();
    assert!(script.status.success());
    let path = home.path().join("headwater.bash");
    std::fs::write(&path, script.stdout).unwrap();
    let try_it = r#"
        set -eu
        source "$1"
        complete -p headwater
        complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=(); _headwater headwater "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"; echo "${COMPREPLY[@]}"; }
        complete_words headwater com
        complete_words headwater config pr
        complete_words headwater backup --no
    "#;
    let output = clean("bash").args(["-c", try_it, "bash"]).arg(&path).output().unwrap();
    let (shown, said) = (printed(&output), String::from_utf8_lossy(&output.stderr).into_owned());
    let lines: Vec<&str> = shown.lines().map(str::trim).collect();
    assert!(output.status.success(), "{shown}{said}");
    assert!(lines[0].contains("headwater"), "{shown}");
    assert_eq!(lines[1..], ["completions", "print", "--no-keys"], "{said}");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(clean(HEADWATER).args(["completions", shell]).output().unwrap().status.success(), "{shell}");
    }
}
