//! `bench dashboard`: a week of a fleet, and people who look at it while it goes on sending.
//!
//! Owns: the course of the run and what is printed: CPU a query, how long people wait, how many answers had not changed, for each way to run the
//! server. Does not know: the panels (`panels`), how they are asked for (`viewers`).
//!
//! Every way has a server of its own on a copy of the same data, and they take turns in short slices, there and back again (ABBA), so that a machine
//! that becomes slower meanwhile does so for all. CPU is user and system time of the server's process, less what it needs for the live load alone.

mod panels;
mod viewers;

use super::numbers;
use super::server::{Connection, Server};
use anyhow::ensure;
use panels::{DEVICES, Fleet, PANELS};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use viewers::{Shown, closed_loop, now_ms, open_loop, send_live};

/// Where lines go.
const WRITE: &str = "/api/v2/write?bucket=bench&precision=ms";
/// Lines of a body that fills the store.
const LINES: usize = 5_000;
/// How long nobody looks, to see what the live load costs.
const IDLE: Duration = Duration::from_secs(10);
/// The ways to run the server: a name, a variable and its value.
const WAYS: [(&str, &str, &str); 2] = [("without", "HEADWATER_API__CACHE_BYTES", "0"), ("with", "HEADWATER_API__CACHE_BYTES", "67108864")];

/// What the task is told.
struct Setting {
    days: u64,
    /// From one reading of a series to the next.
    interval_s: u64,
    /// Minutes of readings that are open at the beginning.
    open_minutes: u64,
    /// Lines a second that come in meanwhile.
    live: u64,
    viewers: u64,
    /// How long people look, each time.
    seconds: u64,
    /// How often the servers take turns.
    rounds: u64,
    /// Queries of each panel in a slice of the closed loop.
    times: u64,
}

/// A way to run the server.
struct Way<'a> {
    name: &'static str,
    server: &'a Server,
    /// CPU seconds a second without queries.
    idle: f64,
    /// CPU a query of each slice, in milliseconds.
    closed_cpu: Vec<f64>,
    open_cpu: Vec<f64>,
    panels: Vec<Shown>,
    shown: Shown,
}

/// The task.
pub(super) fn run(args: &[String]) -> anyhow::Result<()> {
    let names = ["--days", "--interval", "--open", "--live", "--viewers", "--seconds", "--rounds", "--times"];
    let [days, interval_s, open_minutes, live, viewers, seconds, rounds, times] = numbers(args, names, [7, 30, 240, 100, 10, 30, 4, 5])?;
    let setting = Setting { days, interval_s, open_minutes, live, viewers, seconds, rounds, times };
    let mut filled = Server::start()?;
    fill(&filled, &setting)?;
    filled.stop()?;
    let servers = WAYS
        .iter()
        .map(|(_, variable, value)| Server::copy_of(&filled, &[((*variable).to_owned(), (*value).to_owned())]))
        .collect::<anyhow::Result<Vec<_>>>()?;
    drop(filled);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| send_live(&servers, setting.live, &stop));
        let measured = measure(&servers, &setting);
        stop.store(true, Ordering::Relaxed);
        sending.join().map_err(|_panic| anyhow::anyhow!("the live load panicked"))??;
        measured
    })
}

/// Sends the fleet's history in the order of time; all but its last minutes is sealed.
fn fill(server: &Server, setting: &Setting) -> anyhow::Result<()> {
    let mut fleet = Fleet::new();
    let end = now_ms();
    let open_from = end - setting.open_minutes * 60_000;
    let started = Instant::now();
    send_history(server, &mut fleet, setting.interval_s * 1_000, end - setting.days * 86_400_000..open_from)?;
    server.wait_until_applied()?;
    server.ask("POST", "/v1/seal")?;
    let sealed = server.count("stored")?;
    send_history(server, &mut fleet, setting.interval_s * 1_000, open_from..end)?;
    server.wait_until_applied()?;
    println!(
        "{DEVICES} devices, 2 metrics, {} days at {} s: {sealed} readings sealed, {} open; filled in {:.0} s; store {:.2} bytes a reading",
        setting.days,
        setting.interval_s,
        server.count("unsealed")?,
        started.elapsed().as_secs_f64(),
        server.bytes_in_use("store.db")? as f64 / sealed.max(1) as f64
    );
    Ok(())
}

/// Every device once in each interval, at its own place within it.
fn send_history(server: &Server, fleet: &mut Fleet, interval_ms: u64, range_ms: Range<u64>) -> anyhow::Result<()> {
    let (bodies, queue) = mpsc::sync_channel::<String>(4);
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        let sender = || -> anyhow::Result<()> {
            let mut connection = Connection::open(server)?;
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(body) = next else { return Ok(()) };
                let (status, answer) = connection.request("POST", WRITE, body.as_bytes())?;
                ensure!(status == 204, "a write was answered {status}: {answer}");
            }
        };
        let senders = [scope.spawn(sender), scope.spawn(sender)];
        let (mut body, mut n) = (String::new(), 0);
        'history: for start in range_ms.clone().step_by(interval_ms as usize) {
            for device in 0..DEVICES {
                fleet.line(device, start + device * interval_ms / DEVICES, &mut body);
                n += 1;
                if n % LINES == 0 && bodies.send(std::mem::take(&mut body)).is_err() {
                    break 'history;
                }
            }
        }
        // Where nobody takes it, the senders say why.
        drop(bodies.send(body));
        drop(bodies);
        senders.into_iter().try_for_each(|sender| sender.join().map_err(|_panic| anyhow::anyhow!("a sender panicked"))?)
    })
}

fn measure(servers: &[Server], setting: &Setting) -> anyhow::Result<()> {
    let mut ways = Vec::new();
    for ((name, ..), server) in WAYS.iter().zip(servers) {
        let panels = PANELS.iter().map(|_| Shown::default()).collect();
        ways.push(Way { name, server, idle: 0.0, closed_cpu: vec![], open_cpu: vec![], panels, shown: Shown::default() });
    }
    // What the live load alone costs, and a first look at everything.
    for way in &mut ways {
        (0..PANELS.len()).try_for_each(|panel| closed_loop(way.server, panel, 1).map(drop))?;
    }
    let (cpus, started) = (ways.iter().map(|way| way.server.cpu()).collect::<anyhow::Result<Vec<_>>>()?, Instant::now());
    std::thread::sleep(IDLE);
    for (way, cpu) in ways.iter_mut().zip(cpus) {
        way.idle = (way.server.cpu()? - cpu).as_secs_f64() / started.elapsed().as_secs_f64();
    }
    for round in 0..setting.rounds {
        in_turn(&mut ways, round, |way| {
            let started = (way.server.cpu()?, Instant::now());
            let panels = (0..PANELS.len())
                .map(|panel| closed_loop(way.server, panel, setting.times as usize))
                .collect::<anyhow::Result<Vec<_>>>()?;
            let n_queries = PANELS.len() * setting.times as usize;
            way.closed_cpu.push(way.cpu_of_each(started, n_queries)?);
            way.panels.iter_mut().zip(panels).for_each(|(all, some)| all.add(some));
            Ok(())
        })?;
    }
    for round in 0..setting.rounds {
        in_turn(&mut ways, round, |way| {
            let started = (way.server.cpu()?, Instant::now());
            let shown = open_loop(way.server, setting.viewers as usize, Duration::from_secs(setting.seconds))?;
            way.open_cpu.push(way.cpu_of_each(started, shown.took.len())?);
            way.shown.add(shown);
            Ok(())
        })?;
    }
    report(&mut ways, setting)
}

/// Each way once: there in even rounds, back in odd ones.
fn in_turn<'a>(ways: &mut [Way<'a>], round: u64, slice: impl FnMut(&mut Way<'a>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    if round.is_multiple_of(2) { ways.iter_mut().try_for_each(slice) } else { ways.iter_mut().rev().try_for_each(slice) }
}

impl Way<'_> {
    /// CPU of each query since a moment, in milliseconds, without what goes on anyway.
    fn cpu_of_each(&self, (cpu, since): (Duration, Instant), n_queries: usize) -> anyhow::Result<f64> {
        let took = (self.server.cpu()? - cpu).as_secs_f64() - self.idle * since.elapsed().as_secs_f64();
        Ok(took * 1e3 / n_queries.max(1) as f64)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn report(ways: &mut [Way<'_>], setting: &Setting) -> anyhow::Result<()> {
    let list = |values: &[f64]| values.iter().map(|value| format!("{value:.2}")).collect::<Vec<_>>().join(" ");
    println!("closed loop, {} slices of {} queries, in turn; p50 of each panel, ms", setting.rounds, PANELS.len() as u64 * setting.times);
    for (panel, (name, _)) in PANELS.iter().enumerate() {
        let figures: Vec<String> = ways.iter_mut().map(|way| format!("{} {:>8.2}", way.name, way.panels[panel].ms(0.5))).collect();
        println!("  {name:<34} {}", figures.join("   "));
    }
    for way in ways.iter() {
        println!("  {:<10} CPU a query {:>6.2} ms  (median of {})", way.name, median(&way.closed_cpu), list(&way.closed_cpu));
    }
    println!(
        "open loop, {} viewers, {} panels every 5 s, {} slices of {} s, {} readings a second coming in",
        setting.viewers,
        PANELS.len(),
        setting.rounds,
        setting.seconds,
        setting.live * 2
    );
    for way in ways.iter_mut() {
        println!("  {:<10} CPU a query {:>6.2} ms  (median of {})", way.name, median(&way.open_cpu), list(&way.open_cpu));
        let n = way.shown.took.len().max(1) as f64;
        println!(
            "  {:<10} p50 {:.1} ms, p99 {:.1} ms from the refresh on; {:.0} % not changed; {:.1} kB an answer; resident {:.0} MB; live load alone {:.1} % of a core",
            "",
            way.shown.ms(0.5),
            way.shown.ms(0.99),
            way.shown.unchanged as f64 * 100.0 / n,
            way.shown.bytes as f64 / n / 1e3,
            way.server.resident()? as f64 / 1e6,
            way.idle * 100.0
        );
    }
    Ok(())
}
