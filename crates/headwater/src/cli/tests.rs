//! What people type.

use super::*;
use clap::CommandFactory;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn what_is_not_built_is_a_usage_error() {
    for line in [
        &["headwater", "run", "dashboard"][..],
        &["headwater", "run"],
        &["headwater", "run", "gateway", "--demo"],
        &["headwater", "simulate", "--faults", "gremlins=1%"],
        &["headwater", "simulate", "--rate", "5/s", "--interval", "1s"],
        &["headwater", "seal", "everything"],
        &["headwater", "move", "--from", "sqlite:d"],
        &["headwater", "config"],
        &["headwater", "config", "check", "dashboard"],
        &["headwater", "backup"],
        &["headwater", "restore"],
        &["headwater", "completions", "cmd"],
        &["headwater", "stats", "-o", "ndjson"],
        &["headwater", "import"],
        &["headwater", "dead-letters"],
        &["headwater", "dead-letters", "show"],
        &["headwater", "dead-letters", "show", "x", "--raw", "--json"],
        &["headwater", "dead-letters", "retry", "x", "--reason", "conflict"],
        &["headwater", "dead-letters", "discard", "x", "--all"],
        &["headwater", "dead-letters", "list", "-o", "csv"],
    ] {
        let refused = Cli::try_parse_from(line).unwrap_err();
        assert_eq!(refused.exit_code(), 2, "{line:?}");
    }
}

#[test]
fn flags_are_taken_as_the_contract_writes_them() {
    for line in [
        &["headwater", "up", "--data-dir", "d", "--listen", "127.0.0.1:0", "--config", "f"][..],
        &["headwater", "run", "gateway", "ingest", "rollup", "api"],
        &["headwater", "seal", "-o", "csv"],
        &["headwater", "seal", "--json"],
        &["headwater", "move", "--from", "sqlite:d", "--to", "postgres://h/d", "--password-file", "f", "--tls-ca", "f", "--json"],
        &["headwater", "verify", "--data-dir", "d", "--from", "2026-01-05T00:00:00Z", "--to", "1767657600", "--json"],
        &["headwater", "up", "--demo"],
        &["headwater", "backup", "copies/today", "--data-dir", "d", "--no-keys", "--json"],
        &["headwater", "restore", "copies/today", "--data-dir", "d", "--config", "f", "--json"],
        &["headwater", "config", "print", "--config", "f", "--json"],
        &["headwater", "config", "check", "gateway", "api", "--listen", "0.0.0.0:1", "--insecure"],
        &["headwater", "doctor", "ingest", "--data-dir", "d", "--json"],
        &["headwater", "completions", "bash"],
        &["headwater", "token", "rotate-key", "--data-dir", "d", "--revoke"],
        &["headwater", "simulate"],
        &["headwater", "simulate", "--devices", "5", "--interval", "1s", "--faults", "duplicates=1%,late=2%", "--seed", "3"],
        &["headwater", "simulate", "--rate", "5000/s", "--duration", "60s", "--format", "line", "--batch", "500", "--journal", "j"],
        &[
            "headwater",
            "token",
            "issue",
            "--scope",
            "read:stats read:readings",
            "--devices",
            "plant-a/*",
            "--devices",
            "b",
            "--ttl",
            "1h",
            "--subject",
            "me",
        ],
        &["headwater", "import", "a.csv.gz", "-", "--format", "line"],
        &[
            "headwater",
            "stats",
            "--device",
            "a",
            "--metric",
            "m",
            "--metric",
            "n",
            "--tag",
            "line=3",
            "--from",
            "now-1h",
            "--step",
            "1h",
            "--fill",
            "null",
            "-o",
            "csv",
        ],
        &[
            "headwater",
            "dead-letters",
            "list",
            "--reason",
            "conflict",
            "--device",
            "a*",
            "--state",
            "all",
            "--from",
            "now-1d",
            "--limit",
            "5",
            "-o",
            "json",
        ],
        &["headwater", "dead-letters", "show", "x", "--raw"],
        &["headwater", "dead-letters", "retry", "x", "y", "--json"],
        &["headwater", "dead-letters", "retry", "--device", "a", "--to", "now-1d", "--yes"],
        &["headwater", "dead-letters", "edit", "x", "--content-type", "text/csv"],
        &["headwater", "dead-letters", "discard", "--all", "-y"],
        &["headwater", "series", "--json", "--url", "https://host", "--ca-cert", "ca.pem"],
    ] {
        Cli::try_parse_from(line).unwrap();
    }
}
