//! What a journal says must and may be in a store.
//!
//! Owns: the rule of the first value, from the outside: a request that was acknowledged is in the log somewhere between its
//! intent and its acknowledgement, one without an answer somewhere after its intent or nowhere. Of the values of a key, one may
//! have won unless another was acknowledged before it was meant to be sent. Does not know: how a store decides.

use super::Run;
use anyhow::{Context, bail};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

/// The most differences that are told.
const MOST_TOLD: usize = 20;

/// What sending a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was acknowledged.
    Ack,
    /// It was refused as a whole: nothing of it is there.
    Nack,
    /// No answer, or one that says to try again: it may be there.
    Unknown,
}

impl Outcome {
    /// Its word in the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Nack => "nack",
            Self::Unknown => "unknown",
        }
    }
}

/// What a store keeps one value for: device, metric, time in microseconds.
pub type Key = (String, String, i64);

/// One reading, as the journal or a store tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Id of the device.
    pub device: String,
    /// Name of the metric.
    pub metric: String,
    /// In microseconds since the epoch.
    pub time: i64,
    /// The value.
    pub value: f64,
}

/// One request of a journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Which of [`Account::runs`] sent it.
    pub run: usize,
    /// Its number in its run.
    pub id: u64,
    /// The good readings with the numbers of their samples, in the order of the body.
    pub readings: Vec<(u64, Row)>,
    /// How many others there were, to be refused.
    pub refused: u64,
    /// What was told of each time it was sent, in order.
    pub outcomes: Vec<Outcome>,
    /// The line of its intent.
    intended: usize,
    /// The line of its acknowledgement.
    acked: Option<usize>,
}

impl Request {
    /// Whether it was acknowledged.
    pub const fn is_acked(&self) -> bool {
        self.acked.is_some()
    }

    /// Whether none of it can be there: it was refused, and not sent at any other time.
    pub fn is_refused(&self) -> bool {
        !self.outcomes.is_empty() && self.outcomes.iter().all(|outcome| *outcome == Outcome::Nack)
    }

    /// How often it is at least and at most in a log.
    fn times(&self) -> (u64, u64) {
        let n_unknown = self.outcomes.iter().filter(|outcome| **outcome == Outcome::Unknown).count() as u64;
        // After a last answer that was not final, it may have been sent once more when the journal ends.
        let last = u64::from(self.outcomes.last() != Some(&Outcome::Nack));
        (u64::from(self.is_acked()), n_unknown + last)
    }
}

/// Everything that a journal says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Account {
    /// The runs of the simulator, in order.
    pub runs: Vec<Run>,
    /// All requests, in the order of their intents.
    pub requests: Vec<Request>,
    /// Whether a last line was cut.
    pub cut: bool,
}

/// Which values a key may have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expectation {
    /// The value that was acknowledged first. It, or one of `maybe`, must be there.
    pub first_acked: Option<f64>,
    /// Values that may be there instead: of requests that had no answer, or that were under way at the same time.
    pub maybe: Vec<f64>,
}

/// By key what must and may be there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expected {
    /// Every key that was ever meant to be sent and not refused.
    pub keys: BTreeMap<Key, Expectation>,
    /// The fewest and the most readings that a server may have received: those that count and those that it refuses.
    pub received: (u64, u64),
    /// Of these, the refused.
    pub dead: (u64, u64),
}

impl Account {
    /// Reads the lines of a journal.
    ///
    /// # Errors
    /// The first line that cannot be read and was not cut.
    pub(super) fn of(bytes: &[u8]) -> anyhow::Result<Self> {
        let mut account = Self::default();
        let mut of_run: HashMap<u64, usize> = HashMap::new();
        let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        for (number, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
            // Each line ends with a line end: without one it was cut. The blank line before another run ends a cut one, too.
            let is_last = number + 1 == lines.len();
            let before_blank = number + 2 < lines.len() && lines[number + 1].is_empty();
            let parsed: Value = match serde_json::from_slice(line) {
                Ok(parsed) if !is_last => parsed,
                Err(why) if !is_last && !before_blank => bail!("line {}: {why}", number + 1),
                _ => {
                    account.cut = true;
                    continue;
                }
            };
            account.line(&parsed, number, &mut of_run).with_context(|| format!("line {}", number + 1))?;
        }
        Ok(account)
    }

    fn line(&mut self, line: &Value, number: usize, of_run: &mut HashMap<u64, usize>) -> anyhow::Result<()> {
        if line.get("journal").is_some() {
            of_run.clear();
            self.runs.push(Run::of(line)?);
            return Ok(());
        }
        let id = line["id"].as_u64().context("there is no id")?;
        if let Some(readings) = line["readings"].as_array() {
            let readings: Vec<_> = readings.iter().map(reading).collect::<anyhow::Result<_>>()?;
            let refused = line["refused"].as_u64().context("there is no count of refused readings")?;
            let run = self.runs.len().checked_sub(1).context("a request before any run")?;
            if of_run.insert(id, self.requests.len()).is_some() {
                bail!("request {id} is there twice");
            }
            self.requests.push(Request { run, id, readings, refused, outcomes: Vec::new(), intended: number, acked: None });
            return Ok(());
        }
        let place = *of_run.get(&id).with_context(|| format!("an answer to request {id}, which was not intended"))?;
        let request = &mut self.requests[place];
        request.outcomes.push(match line["outcome"].as_str() {
            Some("ack") => Outcome::Ack,
            Some("nack") => Outcome::Nack,
            Some("unknown") => Outcome::Unknown,
            other => bail!("there is no outcome {other:?}"),
        });
        if request.outcomes.last() == Some(&Outcome::Ack) {
            request.acked = request.acked.or(Some(number));
        }
        Ok(())
    }

    /// What must and may be in a store that was sent all this and nothing else.
    pub fn expected(&self) -> Expected {
        let mut sends: BTreeMap<Key, Vec<(&Request, f64)>> = BTreeMap::new();
        let mut expected = Expected::default();
        for request in &self.requests {
            let (least, most) = request.times();
            let all = request.readings.len() as u64 + request.refused;
            expected.received = (expected.received.0 + least * all, expected.received.1 + most * all);
            expected.dead = (expected.dead.0 + least * request.refused, expected.dead.1 + most * request.refused);
            if request.is_refused() {
                continue;
            }
            for (_, row) in &request.readings {
                sends.entry((row.device.clone(), row.metric.clone(), row.time)).or_default().push((request, row.value));
            }
        }
        expected.keys = sends.into_iter().map(|(key, sends)| (key, expectation(&sends))).collect();
        expected
    }
}

/// Which of the values that were sent for one key may have come first.
fn expectation(sends: &[(&Request, f64)]) -> Expectation {
    // Of several readings of a key in one request the first is the first; they come in the order of intents.
    let acked = sends.iter().filter(|(request, _)| request.is_acked()).min_by_key(|(request, _)| request.acked);
    let first_acked = acked.map(|(_, value)| *value);
    let before = acked.and_then(|(request, _)| request.acked).unwrap_or(usize::MAX);
    let mut maybe: Vec<f64> = Vec::new();
    let mut seen = Vec::new();
    for (request, value) in sends {
        let first_of_request = !seen.contains(&(request.run, request.id));
        seen.push((request.run, request.id));
        if first_of_request && request.intended < before && Some(*value) != first_acked && !maybe.contains(value) {
            maybe.push(*value);
        }
    }
    Expectation { first_acked, maybe }
}

fn reading(line: &Value) -> anyhow::Result<(u64, Row)> {
    let fields = (line[0].as_str(), line[1].as_str(), line[2].as_u64(), line[3].as_i64(), line[4].as_u64());
    let (Some(device), Some(metric), Some(sample), Some(time), Some(bits)) = fields else {
        bail!("a reading cannot be read: {line}");
    };
    Ok((sample, Row { device: device.to_owned(), metric: metric.to_owned(), time, value: f64::from_bits(bits) }))
}

impl Expected {
    /// Compares with everything that a store holds; the first differences, none if it is as it has to be.
    ///
    /// Every acknowledged key is there once with a value that may have come first; a key that was not acknowledged is there
    /// once or not at all; nothing else is.
    pub fn differences(&self, rows: impl IntoIterator<Item = Row>) -> Vec<String> {
        let mut differences = Vec::new();
        let mut found: BTreeMap<Key, f64> = BTreeMap::new();
        for Row { device, metric, time, value } in rows {
            let key = (device, metric, time);
            match self.keys.get(&key) {
                None => differences.push(format!("{key:?} = {value} was never sent")),
                Some(expectation) if !expectation.allows(value) => {
                    differences.push(format!("{key:?} = {value}, but {expectation:?} was sent"));
                }
                Some(_) => {}
            }
            if let Some(first) = found.insert(key.clone(), value) {
                differences.push(format!("{key:?} is there twice: {first} and {value}"));
            }
        }
        let lost = self.keys.iter().filter(|(key, expectation)| expectation.first_acked.is_some() && !found.contains_key(*key));
        differences.extend(lost.map(|(key, expectation)| format!("{key:?} is lost: {expectation:?} was acknowledged")));
        differences.truncate(MOST_TOLD);
        differences
    }
}

impl Expectation {
    /// Whether a store may hold this value.
    pub fn allows(&self, value: f64) -> bool {
        self.first_acked.iter().chain(&self.maybe).any(|sent| sent.to_bits() == value.to_bits())
    }
}
