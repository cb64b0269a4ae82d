//! What the operating system knows of this process, and what this process is: `process_*`, `headwater_build_info`, `headwater_role_info`.
//!
//! Owns: reading `/proc/self`. Does not know: what the process does.
//! Invariant: read for each scrape, beside the runtime; what the system does not tell (there is no `/proc`) is left out.

use crate::config::Role;
use headwater_core::metrics::{Gauge, Registry, Total};
use std::fs;
use std::time::Duration;

/// For how long what was read is good enough.
const FRESH: Duration = Duration::from_millis(500);
/// What `/proc` counts times in: `USER_HZ` is 100 on every architecture that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Makes the handles.
pub(crate) fn register(registry: &mut Registry, roles: &[Role]) {
    let version = ("version", env!("CARGO_PKG_VERSION"));
    registry.gauge_of("headwater_build_info", "1, with the version of the program", &[version]).set(1.0);
    for role in roles {
        registry.gauge_of("headwater_role_info", "1 for each role of the process", &[("role", role.as_str())]).set(1.0);
    }
    let shown = Shown::new(registry);
    registry.source(FRESH, move || {
        let shown = shown.clone();
        async move {
            let looked = tokio::task::spawn_blocking(Looked::now).await;
            shown.show(looked.unwrap_or_default());
        }
    });
}

/// The handles, under the names that every client library uses.
#[derive(Clone)]
struct Shown {
    cpu: Total,
    resident: Gauge,
    virtual_memory: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    started: Gauge,
}

impl Shown {
    fn new(registry: &mut Registry) -> Self {
        Self {
            cpu: registry.total("process_cpu_seconds_total", "Time that the processors have spent on this process, user and system"),
            resident: registry.gauge("process_resident_memory_bytes", "Memory that is in RAM"),
            virtual_memory: registry.gauge("process_virtual_memory_bytes", "Address space that is in use"),
            open_fds: registry.gauge("process_open_fds", "File descriptors that are open"),
            max_fds: registry.gauge("process_max_fds", "File descriptors that may be open"),
            started: registry.gauge("process_start_time_seconds", "When the process started, since the epoch"),
        }
    }

    fn show(&self, looked: Looked) {
        looked.cpu_seconds.map_or_else(|| self.cpu.forget(), |seconds| self.cpu.set(seconds));
        let gauges = [
            (&self.resident, looked.resident_bytes),
            (&self.virtual_memory, looked.virtual_bytes),
            (&self.open_fds, looked.open_fds),
            (&self.max_fds, looked.max_fds),
            (&self.started, looked.started),
        ];
        for (gauge, value) in gauges {
            value.map_or_else(|| gauge.forget(), |value| gauge.set(value));
        }
    }
}

/// What `/proc/self` says.
#[derive(Debug, Clone, Copy, Default)]
struct Looked {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<f64>,
    virtual_bytes: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
    started: Option<f64>,
}

impl Looked {
    fn now() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let (stat, status, limits) = (read("/proc/self/stat"), read("/proc/self/status"), read("/proc/self/limits"));
        let times = fields_after_name(&stat);
        let ticks = |place: usize| times.get(place).and_then(|field| field.parse::<f64>().ok());
        let booted = number_after(&read("/proc/stat"), "btime");
        // The directory is open itself while it is counted.
        let open_fds = fs::read_dir("/proc/self/fd").ok().map(|open| open.count().saturating_sub(1) as f64);
        Self {
            cpu_seconds: ticks(11).zip(ticks(12)).map(|(user, system)| (user + system) / TICKS_PER_SECOND),
            resident_bytes: number_after(&status, "VmRSS:").map(|kilobytes| kilobytes * 1024.0),
            virtual_bytes: number_after(&status, "VmSize:").map(|kilobytes| kilobytes * 1024.0),
            open_fds,
            max_fds: number_after(&limits, "Max open files"),
            started: booted.zip(ticks(19)).map(|(booted, ticks)| booted + ticks / TICKS_PER_SECOND),
        }
    }
}

/// The fields of `stat` behind the program's name, which may hold spaces and parentheses. The first is field 3 of the manual.
fn fields_after_name(stat: &str) -> Vec<&str> {
    stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default()
}

/// The number behind `name` at the start of a line.
fn number_after(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_core::clock::{Clock, SystemClock};

    #[test]
    fn a_process_knows_itself() {
        let looked = Looked::now();
        let now = SystemClock.now().micros() as f64 / 1e6;
        let started = looked.started.unwrap();
        assert!(started <= now + 1.0 && started > now - 3600.0, "started at {started}, it is {now}");
        assert!(looked.resident_bytes.unwrap() > 1e6 && looked.virtual_bytes.unwrap() >= looked.resident_bytes.unwrap());
        assert!(looked.open_fds.unwrap() >= 3.0 && looked.max_fds.unwrap() >= looked.open_fds.unwrap());
        assert!((0.0..3600.0).contains(&looked.cpu_seconds.unwrap()));
    }

    #[test]
    fn a_name_with_parentheses_hides_no_field() {
        assert_eq!(fields_after_name("7 (a) b (c)) S 1 2"), ["S", "1", "2"]);
        assert_eq!(number_after("cpu 1\nbtime 1763910000\n", "btime"), Some(1_763_910_000.0));
        assert_eq!(number_after("Max open files            unlimited   x\n", "Max open files"), None);
    }
}
