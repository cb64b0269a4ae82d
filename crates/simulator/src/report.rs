//! What a run came to: totals by fault and outcome, latency, rates.
//!
//! Owns: the live counters ([`Progress`]) and the account at the end ([`Report`]), for people and for machines.

use crate::faults::Fault;
use crate::histogram::Histogram;
use crate::stream::Batch;
use serde_json::{Value, json};
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Problems that are kept in words; all are counted.
const MOST_PROBLEMS: usize = 10;

/// Counters that move while a run goes on.
#[derive(Debug, Default)]
pub struct Progress {
    requests: AtomicU64,
    readings: AtomicU64,
    acked_requests: AtomicU64,
    acked: AtomicU64,
    refused: AtomicU64,
    nacked: AtomicU64,
    unknown: AtomicU64,
    lost: AtomicU64,
    in_flight: AtomicU64,
    n_problems: AtomicU64,
    by_fault: [AtomicU64; Fault::ALL.len()],
    latency: Mutex<Histogram>,
    problems: Mutex<Vec<String>>,
}

/// A look at the counters, of readings but where another thing is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Requests that were sent, without repeats.
    pub requests: u64,
    /// Sent, without repeats of requests.
    pub readings: u64,
    /// Requests that were acknowledged.
    pub acked_requests: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Refused in requests that were acknowledged, as they had to be.
    pub refused: u64,
    /// Of requests that were refused as a whole.
    pub nacked: u64,
    /// Answers that did not come or said to try again; each request was then sent again.
    pub unknown: u64,
    /// Of these, answers that were lost on purpose.
    pub lost: u64,
    /// Requests that wait for their answer.
    pub in_flight: u64,
    /// Answers that were not what they had to be.
    pub problems: u64,
}

impl Progress {
    /// What has been counted so far.
    pub fn counts(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            requests: get(&self.requests),
            readings: get(&self.readings),
            acked_requests: get(&self.acked_requests),
            acked: get(&self.acked),
            refused: get(&self.refused),
            nacked: get(&self.nacked),
            unknown: get(&self.unknown),
            lost: get(&self.lost),
            in_flight: get(&self.in_flight),
            problems: get(&self.n_problems),
        }
    }

    pub(crate) fn begun(&self, batch: &Batch) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.readings.fetch_add(batch.readings.len() as u64, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        for fault in batch.readings.iter().filter_map(|reading| reading.fault) {
            self.by_fault[fault as usize].fetch_add(1, Ordering::Relaxed);
        }
        if batch.loss.is_some() {
            self.by_fault[Fault::Retries as usize].fetch_add(batch.readings.len() as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn acked(&self, accepted: u64, refused: u64, took: Duration) {
        self.acked_requests.fetch_add(1, Ordering::Relaxed);
        self.acked.fetch_add(accepted, Ordering::Relaxed);
        self.refused.fetch_add(refused, Ordering::Relaxed);
        lock(&self.latency).add(took);
    }

    pub(crate) fn nacked(&self, readings: u64) {
        self.nacked.fetch_add(readings, Ordering::Relaxed);
    }

    pub(crate) fn unknown(&self, on_purpose: bool) {
        self.unknown.fetch_add(1, Ordering::Relaxed);
        self.lost.fetch_add(u64::from(on_purpose), Ordering::Relaxed);
    }

    pub(crate) fn ended(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn problem(&self, what: String) {
        self.n_problems.fetch_add(1, Ordering::Relaxed);
        let mut problems = lock(&self.problems);
        if problems.len() < MOST_PROBLEMS {
            problems.push(what);
        }
    }

    /// The account of a run that took so long and was offered at this rate.
    pub(crate) fn report(&self, took: Duration, offered: f64) -> Report {
        let by_fault = Fault::ALL.iter().map(|fault| (*fault, self.by_fault[*fault as usize].load(Ordering::Relaxed))).collect();
        let (latency, problems) = (lock(&self.latency).clone(), lock(&self.problems).clone());
        Report { counts: self.counts(), by_fault, latency, took, offered, problems }
    }
}

/// Counters are whole after a panic, too.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What a run came to.
#[derive(Debug, Clone)]
pub struct Report {
    /// The totals.
    pub counts: Counts,
    /// Readings that each fault befell; of `retries`, the readings of requests whose answer was lost.
    pub by_fault: Vec<(Fault, u64)>,
    /// From the instant at which a request was due to its acknowledgement.
    pub latency: Histogram,
    /// From the start to the last answer.
    pub took: Duration,
    /// Readings a second that were due.
    pub offered: f64,
    /// Answers that were not what they had to be: the first few in words.
    pub problems: Vec<String>,
}

impl Report {
    /// Readings that were acknowledged each second.
    pub fn achieved(&self) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { self.counts.acked as f64 / seconds } else { 0.0 }
    }

    /// Requests whose last answer did not come.
    pub const fn unresolved(&self) -> u64 {
        self.counts.in_flight
    }

    /// Whether every answer that came was what it had to be.
    pub const fn is_clean(&self) -> bool {
        self.counts.problems == 0 && self.counts.nacked == 0
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let counts = &self.counts;
        let faults: serde_json::Map<String, Value> =
            self.by_fault.iter().map(|(fault, n)| (fault.as_str().to_owned(), (*n).into())).collect();
        let latency: serde_json::Map<String, Value> =
            self.latencies().into_iter().map(|(name, took)| (name.to_owned(), json!(took.as_micros() as f64 / 1e3))).collect();
        json!({
            "seconds": self.took.as_secs_f64(), "offered_per_second": self.offered, "achieved_per_second": self.achieved(),
            "requests": {
                "sent": counts.requests, "acknowledged": counts.acked_requests, "unresolved": self.unresolved(),
                "repeated": counts.unknown, "answers_lost_on_purpose": counts.lost,
            },
            "readings": {
                "sent": counts.readings, "accepted": counts.acked, "rejected": counts.refused, "refused_as_a_whole": counts.nacked,
            },
            "faults": faults, "latency_ms": latency, "problems": counts.problems, "first_problems": self.problems,
        })
    }

    fn latencies(&self) -> [(&'static str, Duration); 5] {
        let latency = |permille| self.latency.percentile(permille);
        [("p50", latency(500)), ("p90", latency(900)), ("p99", latency(990)), ("p99.9", latency(999)), ("max", self.latency.most())]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let (rate, offered) = (self.achieved(), self.offered);
        writeln!(f, "sent      {} readings in {} requests, {:.1} s", counts.readings, counts.requests, self.took.as_secs_f64())?;
        writeln!(f, "outcome   {} accepted, {} rejected, {} refused as a whole", counts.acked, counts.refused, counts.nacked)?;
        let (unresolved, lost) = (self.unresolved(), counts.lost);
        writeln!(f, "requests  {} sent again ({lost} on purpose), {unresolved} without a last answer", counts.unknown)?;
        writeln!(f, "rate      {rate:.0} readings/s accepted, {offered:.0} due")?;
        write!(f, "latency  ")?;
        for (name, took) in self.latencies() {
            write!(f, " {name} {:.1} ms", took.as_secs_f64() * 1000.0)?;
        }
        let befell: Vec<String> =
            self.by_fault.iter().filter(|(_, n)| *n > 0).map(|(fault, n)| format!("{} {n}", fault.as_str())).collect();
        if !befell.is_empty() {
            write!(f, "\nfaults    {} (readings)", befell.join(", "))?;
        }
        if counts.problems > 0 {
            write!(f, "\nproblems  {}", counts.problems)?;
            self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))?;
        }
        Ok(())
    }
}
