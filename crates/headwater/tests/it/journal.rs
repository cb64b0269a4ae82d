//! The oracle of the crash tests: a device that writes down what it is about to send, and then what it was told.
//!
//! Owns: what was sent with which outcome, and the comparison of all of it with what a server holds. Does not know: when the
//! server dies.
//!
//! Every request carries a marker reading of its own. It is in the store exactly if the request is, and so, request by request,
//! the store must hold what folding the present requests gives, first value first: an acknowledged request is present, an
//! unanswered one is present whole or not at all, nothing else is there. (On Kafka a request is no transaction: of an unanswered one the readings may
//! be there without the items that cannot be readings, which are another record, or these without them.)

use crate::client::{Ask, Client};
use crate::main_job::counts;
use crate::oracle::{MONDAY, Random, Reading, SECOND, Truth};
use crate::stack::Stack;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The metric of markers.
const MARKER: &str = "request";
const EVER: [(&str, &str); 3] = [("from", "1990-01-01T00:00:00Z"), ("to", "2040-01-01T00:00:00Z"), ("limit", "100000")];

/// What a device knows of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// 200.
    Acknowledged,
    /// Nothing, or 503: it may be there.
    Unknown,
}

struct Sent {
    readings: Vec<Reading>,
    /// Items that cannot be readings.
    n_bad: u64,
    outcome: Outcome,
}

/// One device and its diary.
pub(crate) struct Journal {
    device: String,
    random: Random,
    per_request: u64,
    /// What makes every request longer: an item that cannot be a reading, of so many bytes.
    padding: usize,
    sent: Vec<Sent>,
    /// Why requests had no answer, in words.
    failures: Vec<String>,
}

impl Journal {
    /// A device that sends `per_request` new readings with every request.
    pub(crate) fn new(device: &str, seed: u64, per_request: u64) -> Self {
        Self { device: device.to_owned(), random: Random(seed), per_request, padding: 0, sent: Vec::new(), failures: Vec::new() }
    }

    /// Sends `bytes` more with every request.
    pub(crate) fn padded(mut self, bytes: usize) -> Self {
        self.padding = bytes;
        self
    }

    /// Sends one request; whether it was acknowledged. One whose answer was lost is sent again first, as devices do.
    pub(crate) fn send(&mut self, client: &Client) -> bool {
        let number = self.sent.len();
        let mut readings = match self.sent.last() {
            Some(last) if last.outcome == Outcome::Unknown => {
                last.readings.iter().filter(|reading| reading.metric != MARKER).cloned().collect()
            }
            _ => self.fresh(number),
        };
        let marker = Reading::new(&self.device, MARKER, MONDAY + number as i64 * SECOND, number as f64);
        readings.insert(self.random.below(readings.len() as u64 + 1) as usize, marker);
        let n_bad = u64::from(number % 5 == 3 || self.padding > 0);
        let bad = format!("request {number}{}", " ".repeat(self.padding));
        let mut items: Vec<Value> = readings.iter().map(Reading::json).collect();
        items.extend((0..n_bad).map(|_| json!({ "device": self.device, "metric": MARKER, "value": bad })));

        self.sent.push(Sent { readings, n_bad, outcome: Outcome::Unknown });
        match client.try_ask(&Ask::post("/v1/readings", "application/json", json!(items).to_string())) {
            Ok(answer) if answer.status == 200 => {
                let expected = json!(items.len() as u64 - n_bad);
                assert_eq!(answer.json()["accepted"], expected, "{}", answer.text());
                self.sent[number].outcome = Outcome::Acknowledged;
                true
            }
            Ok(answer) => {
                assert_eq!(answer.status, 503, "{}", answer.text());
                false
            }
            Err(why) => {
                self.failures.push(why.to_string());
                false
            }
        }
    }

    /// New readings, some keys of which come again: with the same value, or with another that must not win.
    fn fresh(&mut self, number: usize) -> Vec<Reading> {
        let first = number as u64 * self.per_request;
        let mut readings = Vec::new();
        for n in first..first + self.per_request {
            let value = self.random.value();
            readings.push(self.nth(n, value));
            let (earlier, other) = (self.random.below(n + 1), self.random.value());
            match self.random.below(8) {
                0 => readings.push(self.nth(earlier, other)),
                1 => readings.push(self.nth(n, value)),
                _ => {}
            }
        }
        readings
    }

    /// A reading by its number, which decides its key; every few requests there is a new series.
    fn nth(&self, n: u64, value: f64) -> Reading {
        Reading::new(&self.device, &format!("m{}", n / (7 * self.per_request)), MONDAY + n as i64 * 1000, value)
    }

    /// The readings of every request, in the order in which they were sent.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &[Reading]> {
        self.sent.iter().map(|sent| &sent.readings[..])
    }

    /// Why requests had no answer.
    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }

    /// How many requests were acknowledged.
    pub(crate) fn n_acknowledged(&self) -> usize {
        self.sent.iter().filter(|sent| sent.outcome == Outcome::Acknowledged).count()
    }
}

/// Compares a server that has settled with everything that was sent to it.
pub(crate) fn check(journals: &[&Journal], stack: &Stack) {
    let found = stack.rows("/v1/readings", &EVER);
    let markers: BTreeSet<(&str, u64)> = found
        .iter()
        .filter(|row| row["metric"] == MARKER)
        .map(|row| (row["device"].as_str().unwrap(), row["value"].as_f64().unwrap() as u64))
        .collect();
    let is_transaction = stack.backends().is_none();
    let (mut truth, mut received, mut least_dead, mut most_dead) = (Truth::default(), 0, 0, 0);
    for journal in journals {
        for (number, sent) in journal.sent.iter().enumerate() {
            let (is_there, is_unknown) = (markers.contains(&(journal.device.as_str(), number as u64)), sent.outcome == Outcome::Unknown);
            assert!(is_there || is_unknown, "request {number} of {} was acknowledged and is not there", journal.device);
            if is_there {
                truth.learn(&sent.readings);
                received += sent.readings.len() as u64;
            }
            let may_be_torn = is_unknown && !is_transaction;
            least_dead += if is_there && !may_be_torn { sent.n_bad } else { 0 };
            most_dead += if is_there || may_be_torn { sent.n_bad } else { 0 };
        }
    }
    same(&found, &truth.listed());
    let rows = stack.rows("/v1/stats", &[&EVER[..2], &[("group_by", "none"), ("stats", "count")]].concat());
    assert_eq!(rows.iter().map(|row| row["count"].as_u64().unwrap()).sum::<u64>(), truth.len() as u64, "readings that count");
    let counts = counts(&stack.status());
    let dead = counts["dead"];
    assert!((least_dead..=most_dead).contains(&dead), "{dead} are dead, not {least_dead} to {most_dead}");
    assert_eq!(counts["received"] - dead, received, "readings received that are not dead");
    let letters = stack.rows("/v1/dead-letters", &[("reason", "not_numeric")]);
    let ids: BTreeSet<&str> = letters.iter().map(|letter| letter["id"].as_str().unwrap()).collect();
    assert_eq!((letters.len() as u64, ids.len() as u64), (dead, dead), "dead letters");
}

/// Fails with the first difference, not with ten thousand rows.
fn same(found: &[Value], expected: &[Value]) {
    if let Some((found, expected)) = found.iter().zip(expected).find(|(found, expected)| found != expected) {
        panic!("found {found} where {expected} should be");
    }
    assert_eq!(found.len(), expected.len(), "readings that are there");
}

/// What a server answers to everything that can be asked of it, for comparing bytes.
pub(crate) fn all_bytes(stack: &Stack) -> Vec<Vec<u8>> {
    let range = "from=1990-01-01T00:00:00Z&to=2040-01-01T00:00:00Z";
    let questions = [
        format!("/v1/stats?{range}&step=1h&stats=count,sum,min,max,avg,stddev,first,last,p50,p99"),
        format!("/v1/readings?{range}&limit=100000"),
        "/v1/latest".to_owned(),
        "/v1/series".to_owned(),
        "/v1/dead-letters".to_owned(),
    ];
    questions.iter().map(|question| stack.get(question).ok().body).collect()
}
