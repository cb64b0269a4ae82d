//! `bench query`: 10,000 series over one day at one reading a minute, sealed; then the questions of dashboards.

use super::load::{Random, SERIES, START_MS};
use super::numbers;
use super::server::{Connection, Server};
use anyhow::ensure;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// The task.
pub(super) fn run(args: &[String]) -> anyhow::Result<()> {
    let [minutes] = numbers(args, ["--minutes"], [1_440])?;
    let server = Server::start()?;
    let mut random = Random(11);
    let mut connection = Connection::open(&server)?;
    for minute in 0..minutes {
        for half in 0..2 {
            let mut text = String::new();
            for n in half * SERIES / 2..(half + 1) * SERIES / 2 {
                let ms = START_MS + minute * 60_000 + random.below(101);
                let _written = writeln!(text, "temperature,device=dev-{n:05} value={} {ms}", (2_000 + random.below(500)) as f64 / 100.0);
            }
            let (status, answer) = connection.request("POST", "/api/v2/write?bucket=bench&precision=ms", text.as_bytes())?;
            ensure!(status == 204, "a write was answered {status}: {answer}");
        }
    }
    server.wait_until_applied()?;
    server.ask("POST", "/v1/seal")?;
    println!(
        "{SERIES} series, {minutes} readings each, sealed; store {:.2} bytes a reading",
        server.bytes("store.db")? as f64 / (minutes * SERIES as u64) as f64
    );
    let day = "from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z";
    let hour = "from=2026-01-01T12:00:00Z&to=2026-01-01T13:00:00Z";
    let questions = [
        ("one series, one day, hourly", 500, format!("/v1/stats?device=dev-0{{n:04}}&{day}&step=1h&stats=avg,min,max,p95")),
        ("all series, one day, p95", 9, format!("/v1/stats?{day}&stats=p95&limit=100000")),
        ("all series, one hour, p95", 9, format!("/v1/stats?{hour}&stats=p95&limit=100000")),
        ("latest of all series", 9, "/v1/latest?limit=100000".to_owned()),
    ];
    for (name, times, path) in questions {
        let mut took = Vec::new();
        for n in 0..times {
            let path = path.replace("{n:04}", &format!("{:04}", n * 7 % SERIES));
            let started = Instant::now();
            let (status, answer) = connection.request("GET", &path, b"")?;
            took.push(started.elapsed());
            ensure!(status == 200, "{path} was answered {status}: {answer}");
        }
        took.sort_unstable();
        let ms = |at: usize| took.get(at).map_or(0.0, Duration::as_secs_f64) * 1e3;
        println!("  {name:<28} {:>8.2} ms p50, {:>8.2} ms p99, {times} times", ms(took.len() / 2), ms(took.len() * 99 / 100));
    }
    println!("  resident at the end          {:>8.0} MB", server.resident()? as f64 / 1e6);
    Ok(())
}
