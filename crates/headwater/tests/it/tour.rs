//! The tour of README.md, run as it stands there: every command has to succeed and to show what the text says.
//!
//! The README marks its blocks: `<!-- tour: server -->` starts the server, `<!-- tour -->` is typed in the second terminal. Only
//! the port is changed, because another server may have 8080.

use crate::stack::{HEADWATER, SOON, clean, free_port, wait_for};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The marked blocks of shell, in order.
fn blocks(readme: &str, mark: &str) -> Vec<String> {
    let mark = format!("<!-- {mark} -->\n```sh\n");
    readme.split(mark.as_str()).skip(1).map(|rest| rest.split_once("```").expect("the end of a block").0.to_owned()).collect()
}

/// A shell in which `headwater` and `curl` are found.
fn bash(directory: &Path, script: &str) -> Command {
    let mut bash = clean("bash");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", Path::new(HEADWATER).parent().unwrap().display());
    bash.args(["-euo", "pipefail", "-c", script]).env("PATH", path).current_dir(directory);
    bash
}

/// Ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn the_tour_of_the_readme_works_as_written() {
    let there = clean("curl").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    assert!(there, "the tour needs curl: apt-get install --yes curl");
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md")).unwrap();
    let (server, tour) = (blocks(&readme, "tour: server"), blocks(&readme, "tour"));
    assert_eq!(server.len(), 1);
    assert!(tour.len() >= 8, "{} blocks", tour.len());

    let (home, logs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = free_port();
    let up = format!("exec {} --listen 127.0.0.1:{port}", server[0].trim());
    let log = logs.path().join("stderr");
    let mut server = bash(home.path(), &up);
    // Its status is shown while nothing is in flight, and a heartbeat could be.
    server.env("HEADWATER_GATEWAY__HEARTBEAT", "off");
    let _server = Server(server.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap());
    let ready = format!("curl -fsS http://127.0.0.1:{port}/readyz");
    wait_for("the server of the tour", SOON, || bash(home.path(), &ready).output().unwrap().status.success().then_some(()));

    // A person takes longer from block to block than a reading to its answer.
    let pause = r#"
until curl -fsS http://127.0.0.1:8080/v1/status -H "Authorization: Bearer $HEADWATER_TOKEN" | grep -q '"in_flight": *0[,}]'; do :; done >/dev/null
"#;
    let script = tour.join(&format!("{pause}\necho '=== next'\n")).replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"));
    let output = bash(home.path(), &script).env("HEADWATER_URL", format!("http://127.0.0.1:{port}")).output().unwrap();
    let (shown, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{shown}\n{said}\nthe server said:\n{}", std::fs::read_to_string(&log).unwrap());
    check(&shown.split("=== next\n").collect::<Vec<_>>(), &said);
}

/// What the text of the tour promises, block by block.
fn check(shown: &[&str], said: &str) {
    let has = |block: usize, facts: &[&str]| {
        for fact in facts {
            assert!(shown[block].contains(fact), "block {block} does not show {fact}:\n{}", shown[block]);
        }
    };
    has(1, &[r#""received":5"#, r#""accepted":5"#, r#""rejected":0"#]);
    has(2, &[]);
    assert_eq!(shown[2].trim(), "", "line protocol is answered with nothing");
    has(3, &["received 3 = accepted 2 + skipped 0 + rejected 1"]);
    assert!(said.contains("oven.csv:3:") && said.contains("not_numeric"), "the line that was refused: {said}");
    // Three readings of press-7, one of which came twice; the average of the whole plant by hour.
    has(4, &["plant-a/press-7", "plant-a/press-8", "plant-b/oven", "180.5", "182", "24"]);
    let of_press: Vec<&str> = shown[4].lines().find(|line| line.contains("plant-a/press-7")).unwrap().split_whitespace().collect();
    assert!(of_press.contains(&"3"), "count 3 in {of_press:?}");
    assert!(shown[4].lines().any(|line| line.starts_with("2026-01-05T08:00:00Z,temperature,") && line.contains(",4,")), "{}", shown[4]);
    has(5, &[r#""count":3"#, r#""min":21.5"#, r#""max":22.4"#, r#""percentile_error":0"#]);
    has(6, &["not_numeric", "hot", "oven", r#""received":10"#, r#""dead":1"#, r#""in_flight":0"#]);
    has(7, &["accepted", "retried"]);
    has(8, &[r#"headwater_store_readings{outcome="stored"}"#, r#"headwater_store_readings{outcome="unsealed"}"#]);
    has(9, &[r#""accepted":1"#]);
    has(10, &["copy is a whole copy", "every checksum right", "no difference"]);
    has(11, &[r#""for_s":"#]);
}
