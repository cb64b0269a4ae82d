//! `headwater doctor`: beside a server, before one, and what it finds.

use crate::backends::Backends;
use crate::oracle::{MONDAY, Reading, as_json};
use crate::stack::{HEADWATER, SOON, Stack, clean, wait_for};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Exit code and what it says, by name.
fn looked(command: &mut Command) -> (i32, Value) {
    let output = command.arg("--json").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {said}")))
}

/// What was seen of one thing.
fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name} in {report}"))
}

fn doctor(data: &Path, listen: &str) -> Command {
    let mut command = clean(HEADWATER);
    command.args(["doctor", "--listen", listen, "--data-dir"]).arg(data);
    command
}

#[test]
fn everything_is_well_beside_a_server_and_nothing_is_changed() {
    let stack = Stack::embedded();
    stack.send(&as_json(&[Reading::new("a", "m", MONDAY, 1.0)]));
    stack.settled();
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(&stack.data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let (code, report) = looked(&mut doctor(&stack.data, stack.base.trim_start_matches("http://")));
    assert_eq!((code, names()), (0, before), "{report}");
    for name in ["configuration", "clock", "port", "data directory", "lock", "token key", "store", "log"] {
        assert_eq!(check(&report, name)["state"], "ok", "{report}");
    }
    let seen = |name: &str| check(&report, name)["seen"].as_str().unwrap().to_owned();
    assert!(seen("lock").contains(&format!("process {}", stack.pid())), "{}", seen("lock"));
    assert!(seen("port").contains("as the data directory is"), "{}", seen("port"));
    assert!(seen("store").starts_with("1 readings received"), "{}", seen("store"));
    assert!(seen("fsync").contains(" ms "), "{}", seen("fsync"));
}

#[test]
fn what_is_wrong_is_named_with_what_to_do() {
    let mut stack = Stack::embedded();
    assert_eq!(stack.stop(), 0);
    std::fs::set_permissions(&stack.data, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::set_permissions(stack.data.join("token-key.pem"), PermissionsExt::from_mode(0o644)).unwrap();
    let conn = rusqlite::Connection::open(stack.data.join("store.db")).unwrap();
    conn.execute_batch("INSERT INTO gaps VALUES (1, 0, 'log', 0, 5, 9)").unwrap();
    drop(conn);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, report) = looked(&mut doctor(&stack.data, &taken.local_addr().unwrap().to_string()));
    assert_eq!((code, &report["state"]), (1, &Value::from("fail")), "{report}");
    for (name, state, words) in [
        ("data directory", "warn", "chmod 700"),
        ("token key", "fail", "chmod 600"),
        ("port", "fail", "--listen"),
        ("gaps", "warn", "table gaps"),
    ] {
        let check = check(&report, name);
        assert!(check["state"] == state && check["advice"].as_str().unwrap().contains(words), "{check}");
    }
    let verified = stack.beside("verify").output().unwrap();
    assert!(String::from_utf8_lossy(&verified.stdout).contains("gaps: 1 stretches"), "verify tells gaps too");

    std::fs::write(stack.data.join("format"), "headwater data, format 99\n").unwrap();
    let (_, report) = looked(&mut doctor(&stack.data, "127.0.0.1:0"));
    assert!(check(&report, "store")["seen"].as_str().unwrap().contains("format 99"), "{report}");
    let output = doctor(&stack.data, "nowhere").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(1) && text.contains("fail  configuration") && text.contains("→"), "{text}");
}

#[test]
fn before_the_first_start_nothing_is_missing_and_nothing_is_made() {
    let home = tempfile::tempdir().unwrap();
    let (code, report) = looked(&mut doctor(&home.path().join("data"), "127.0.0.1:0"));
    assert_eq!(code, 0, "{report}");
    assert!(check(&report, "data directory")["seen"].as_str().unwrap().contains("the first start makes it"), "{report}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_cluster_and_a_database_are_looked_at_and_nothing_is_made_there() {
    let backends = Backends::shared();
    let looking = || {
        let mut command = clean(HEADWATER);
        command.args(["doctor", "--listen", "127.0.0.1:0", "--data-dir", "/nowhere"]).envs(backends.environment());
        looked(&mut command)
    };
    let (_, report) = looking();
    for name in ["topic", "schema"] {
        assert!(check(&report, name)["seen"].as_str().unwrap().contains("there is none yet"), "{report}");
    }
    assert_eq!(backends.sql("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"), "0");
    let stack = crate::stack::Builder::default().on(&backends).start();
    stack.send(&as_json(&[Reading::new("a", "m", MONDAY, 1.0)]));
    stack.settled();
    let (_, report) = looking();
    for (name, words) in
        [("kafka", "cluster"), ("topic", "4 partitions"), ("postgresql", "1"), ("schema", "version"), ("store", "1 readings")]
    {
        assert!(
            check(&report, name)["state"] == "ok" && check(&report, name)["seen"].as_str().unwrap().contains(words),
            "{name} in {report}"
        );
    }
    backends
        .sql("ALTER DATABASE CURRENT_DATABASE_NAME SET synchronous_commit = off".replace("CURRENT_DATABASE_NAME", &backends.name).as_str());
    let told = wait_for("the setting", SOON, || {
        let (_, report) = looking();
        (check(&report, "durability")["state"] == "warn").then(|| check(&report, "durability").clone())
    });
    assert!(told["seen"].as_str().unwrap().contains("synchronous_commit = off"), "{told}");
}

#[test]
fn servers_that_do_not_answer_are_failures_that_say_where_to_look() {
    let port = crate::stack::free_port();
    let (log, store) = (format!("kafka://127.0.0.1:{port}/t"), format!("postgres://me@127.0.0.1:{port}/d"));
    let environment = [("HEADWATER_LOG__URL", log.as_str()), ("HEADWATER_STORE__URL", &store), ("HEADWATER_LOG__CONNECT_WAIT_MS", "300")];
    let (code, report) = looked(clean(HEADWATER).args(["doctor", "--listen", "127.0.0.1:0"]).envs(environment));
    assert_eq!(code, 1);
    assert!(check(&report, "kafka")["advice"].as_str().unwrap().contains("log.url"), "{report}");
    assert!(check(&report, "store")["advice"].as_str().unwrap().contains("store.url"), "{report}");
}
